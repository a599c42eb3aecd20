"""Small scenarios for the three failure patterns, by name. Rules SIM-5 ... SIM-7
(spec/simulation.md).

A scenario is a list of parts. A part is sent when the cluster has not changed for some seconds,
and its requests are made from the state at that moment.

Source: ours; the names of the objects follow `scenario.py`.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from attrs import frozen

from refk8s.checking.simulator.admission_user import quota
from refk8s.checking.simulator.api_servers import registration
from refk8s.checking.simulator.gang import GROUP, SIZE
from refk8s.checking.simulator.scenario import (
    cron_job,
    daemon_set,
    deployment,
    job,
    node_names,
    read_manifests,
    service,
    stateful_set,
)
from refk8s.core.api.meta_v1 import DeleteOptions, ObjectMeta
from refk8s.core.api.policy_v1 import Eviction
from refk8s.core.api.request import Patch, Request
from refk8s.core.api.resources import (
    CRON_JOBS,
    DAEMON_SETS,
    DEPLOYMENTS,
    HORIZONTAL_POD_AUTOSCALERS,
    JOBS,
    NODES,
    PODS,
    RESOURCE_QUOTAS,
    STATEFUL_SETS,
    Resource,
)
from refk8s.core.api.user import ADMIN
from refk8s.core.cluster.state import Cluster

Wish: TypeAlias = Callable[[Cluster], Request]
Story: TypeAlias = tuple[tuple[Wish, ...], ...]
PAUSE_SECONDS = 12
"""How long the user waits after the last change before the next requests."""


@frozen
class Scenario:
    """The parts, and the cluster for them. The user waits `pause_seconds` after the last change."""

    summary: str
    story: Story
    nodes: int = 1
    pause_seconds: int = PAUSE_SECONDS
    # another API server with a metric is there, which is reliable from this second on; 0: none
    other_server_seconds: int = 0
    has_gangs: bool = False  # the scheduler binds the pods of a group together


def scenario_of(requests: Sequence[Request]) -> Story:
    """The scenario that consists of these requests."""
    return (tuple([lambda cluster, request=request: request for request in requests]),)


def _create(*trees: dict[str, Any]) -> tuple[Wish, ...]:
    return scenario_of(read_manifests(trees))[0]


def _patch(resource: Resource, name: str, tree: dict[str, Any]) -> Wish:
    namespace = "default" if resource.namespaced else ""
    body = Patch("application/merge-patch+json", tree)
    request = Request("patch", resource, namespace, name, body=body, user=ADMIN)
    return lambda cluster: request


def _delete(resource: Resource, name: str, **options: Any) -> Wish:
    body = DeleteOptions(**options)
    request = Request("delete", resource, "default", name, body=body, user=ADMIN)
    return lambda cluster: request


def _image(resource: Resource, name: str, image: str) -> Wish:
    containers = [{"name": "main", "image": image}]
    return _patch(resource, name, {"spec": {"template": {"spec": {"containers": containers}}}})


def _pod(cluster: Cluster, index: int) -> str:
    """The name of one of the user's pods, in the order of names."""
    found = cluster.history.list(f"{PODS.prefix}default/").records
    return found[index].value.metadata.name if index < len(found) else "none"


def _delete_pod(index: int = 0) -> Wish:
    def wish(cluster: Cluster) -> Request:
        return _delete(PODS, _pod(cluster, index))(cluster)

    return wish


def _evict(index: int) -> Wish:
    def wish(cluster: Cluster) -> Request:
        name = _pod(cluster, index)
        body = Eviction(metadata=ObjectMeta(name=name, namespace="default"))
        return Request("create", PODS, "default", name, "eviction", body=body, user=ADMIN)

    return wish


def _budget(name: str, least: int) -> dict[str, Any]:
    return {
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"minAvailable": least, "selector": {"matchLabels": {"app": name}}},
    }  # fmt: skip


def _web() -> Scenario:
    update = Patch(
        "application/strategic-merge-patch+json",
        {"spec": {"template": {"spec": {"containers": [{"name": "main", "image": "app:2"}]}}}},
    )
    request = Request("patch", DEPLOYMENTS, "default", "web", body=update, user=ADMIN)
    return Scenario(
        "two Deployments and a Service: a new image, a deleted pod, fewer replicas",
        (
            _create(deployment("web", 2), service("web", "web")),
            (lambda cluster: request,),
            (_delete_pod(), *_create(deployment("db", 1))),
            (
                _delete(DEPLOYMENTS, "db", propagation_policy="Foreground"),
                _patch(DEPLOYMENTS, "web", {"spec": {"replicas": 1}}),
            ),
        ),
    )


def _statefulset() -> Scenario:
    return Scenario(
        "a StatefulSet of 2: a new image, a deleted pod, fewer replicas and more again",
        (
            _create(stateful_set("store", 2)),
            (_image(STATEFUL_SETS, "store", "app:2"),),
            (_delete(PODS, "store-0"), _patch(STATEFUL_SETS, "store", {"spec": {"replicas": 1}})),
            (_patch(STATEFUL_SETS, "store", {"spec": {"replicas": 2}}), _delete(PODS, "store-0")),
        ),
    )


def _daemonset() -> Scenario:
    surge = {"updateStrategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}}
    taint = {"key": "example.com/late", "effect": "NoExecute"}
    second = node_names(2)[1]
    return Scenario(
        "a DaemonSet on two nodes: a new image, one more with a surge, a deleted pod, a taint",
        (
            _create(daemon_set("agent")),
            (_image(DAEMON_SETS, "agent", "app:2"), _delete_pod()),
            (
                _patch(DAEMON_SETS, "agent", {"spec": surge}),
                _image(DAEMON_SETS, "agent", "app:3"),
            ),
            (_patch(NODES, second, {"spec": {"taints": [taint]}}),),
            (_patch(NODES, second, {"spec": {"taints": None}}),),
        ),
        nodes=2,
    )


def _job() -> Scenario:
    bad = job("bad", 2, 1, 'if [ "$JOB_COMPLETION_INDEX" = 1 ]; then exit 1; fi; sleep 1')
    bad["spec"] |= {"completionMode": "Indexed", "backoffLimitPerIndex": 0, "backoffLimit": 9}
    brief = job("brief", 1, 1, "sleep 1")
    brief["spec"]["ttlSecondsAfterFinished"] = 2
    return Scenario(
        "three Jobs: one whose pod is deleted, an Indexed one with an index that fails, "
        "one that is deleted after its end",
        (
            _create(job("work", 3, 2, "sleep 14")),
            (_delete_pod(),),
            _create(bad, brief),
            (_patch(JOBS, "bad", {"metadata": {"labels": {"seen": "yes"}}}),),
        ),
    )


def _cronjob() -> Scenario:
    """Runs take longer than a minute, so that Forbid and Replace have something to decide. The
    last runs end after the CronJob is suspended."""
    return Scenario(
        "a CronJob of every minute whose Jobs take 70 seconds, with Forbid and then Replace",
        (
            _create(cron_job("tick", "Forbid")),
            (_patch(CRON_JOBS, "tick", {"spec": {"successfulJobsHistoryLimit": 1}}),),
            (_patch(CRON_JOBS, "tick", {"spec": {"failedJobsHistoryLimit": 0}}),),
            (_patch(CRON_JOBS, "tick", {"spec": {"concurrencyPolicy": "Replace"}}),),
            (_patch(CRON_JOBS, "tick", {"spec": {"suspend": True}}),),
        ),
        pause_seconds=45,
    )


def _quota() -> Scenario:
    return Scenario(
        "a quota of two pods for a Deployment of 3, which is then scaled to 1; the quota grows",
        (
            _create(quota("all", {"pods": "2", "services": "1"})),
            _create(deployment("web", 3), service("web", "web")),
            (_patch(DEPLOYMENTS, "web", {"spec": {"replicas": 1}}), *_create(job("one", 1, 1))),
            (
                _patch(RESOURCE_QUOTAS, "all", {"spec": {"hard": {"pods": "3"}}}),
                _patch(DEPLOYMENTS, "web", {"spec": {"replicas": 2}}),
            ),
        ),
    )


def _autoscaler() -> Scenario:
    return Scenario(
        "an autoscaler with a constant metric, whose target and bounds are changed",
        (
            _create(*registration()),
            (_patch(DEPLOYMENTS, "followed", {"spec": {"replicas": 1}}),),
            (_patch(HORIZONTAL_POD_AUTOSCALERS, "followed", {"spec": {"maxReplicas": 2}}),),
        ),
        pause_seconds=32,
        other_server_seconds=1,
    )


def _stabilization() -> Scenario:
    return Scenario(
        "an autoscaler with a window of a minute, whose metric changes in every round at first",
        (_create(*registration(window_seconds=60)),),
        pause_seconds=430,
        other_server_seconds=830,  # 400 s after the story begins
    )


def _gang() -> Scenario:
    group = deployment("group", 2, surge=0, unavailable=1)
    group["spec"]["template"]["metadata"]["labels"] |= {GROUP: "group", SIZE: "3"}
    return Scenario(
        "two pods of a group of three, then all three; one of them is deleted",
        (
            _create(group),
            (_patch(DEPLOYMENTS, "group", {"spec": {"replicas": 3}}),),
            (_delete_pod(1),),
        ),
        nodes=2,
        has_gangs=True,
    )


def _disruption() -> Scenario:
    return Scenario(
        "a budget for a Deployment of 2, whose pods are evicted at once, and again",
        (
            _create(deployment("web", 2), _budget("web", 1)),
            (_evict(0), _evict(1)),
            (_evict(1), _evict(0), _delete_pod(1)),
        ),
    )


SCENARIOS: dict[str, Callable[[], Scenario]] = {
    "web": _web,
    "statefulset": _statefulset,
    "daemonset": _daemonset,
    "job": _job,
    "cronjob": _cronjob,
    "quota": _quota,
    "autoscaler": _autoscaler,
    "stabilization": _stabilization,
    "gang": _gang,
    "disruption": _disruption,
}
"""Every scenario by name."""
