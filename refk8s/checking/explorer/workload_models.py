"""Small clusters for the explorer: a StatefulSet, a DaemonSet, Jobs, a CronJob and a quota.

Spec: spec/explorer.md; `model.py` says what a model is. Kubelets, the scheduler and (for CronJobs)
the Job controller are environments.
"""

from collections.abc import Callable, Iterable
from typing import Any

from msgspec.structs import replace

from refk8s.checking.explorer.model import (
    KUBELET,
    NAMESPACE,
    Model,
    create,
    delete,
    node,
    one_loop,
    only,
    patch,
    pod_template,
    pods_become_ready,
)
from refk8s.core.api.meta_v1 import DeleteOptions
from refk8s.core.api.request import Patch, Request
from refk8s.core.api.resources import (
    CONTROLLER_REVISIONS,
    CRON_JOBS,
    DAEMON_SETS,
    JOBS,
    NODES,
    PODS,
    RESOURCE_QUOTAS,
    STATEFUL_SETS,
)
from refk8s.core.api.user import ADMIN
from refk8s.core.apiserver.outcome import Reader
from refk8s.core.context import SECOND, Instant, parse_timestamp, timestamp
from refk8s.core.controllers.cron_job import CronJobReconciler
from refk8s.core.controllers.daemon_set import DaemonSetReconciler
from refk8s.core.controllers.job import JobReconciler
from refk8s.core.controllers.resource_quota import ResourceQuotaController
from refk8s.core.controllers.stateful_set import StatefulSetReconciler
from refk8s.core.properties.law import Law, earlier_instances, objects
from refk8s.core.properties.predicates.daemon_set import pinned_to
from refk8s.core.scheduler.plugin_writes import default_binding
from refk8s.core.store import Change

RUN_SECONDS = 70
"""How long a Job of the CronJob runs: longer than the minute between two of its times."""


def _set(kind: str, name: str, **spec: Any) -> dict[str, Any]:
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name},
        "spec": {"selector": {"matchLabels": labels}, "template": pod_template(labels), **spec},
    }  # fmt: skip


def _pods_run(reader: Reader, now: Instant) -> Iterable[Request]:
    """The writes of the scheduler and of kubelets: each pod is bound to a node and becomes
    ready, and each terminating pod is deleted."""
    unbound = set()
    for record in reader.list(PODS.prefix).records:
        pod = record.value
        if not pod.spec.node_name and pod.metadata.deletion_timestamp is None:
            unbound.add(pod.metadata.name)
            yield replace(default_binding(pod, pinned_to(pod) or "n1"), user=ADMIN)
    for request in pods_become_ready(reader, now):
        if request.name not in unbound:
            yield request


def _statefulset() -> Model:
    return Model(
        "statefulset",
        "a StatefulSet of 2, scaled to 1; pods become ready in any order",
        one_loop(
            "statefulset-controller",
            only(StatefulSetReconciler(), (STATEFUL_SETS, PODS, CONTROLLER_REVISIONS)),
        ),
        (
            NAMESPACE,
            *node("n1", "1"),
            create(STATEFUL_SETS, _set("StatefulSet", "db", replicas=2, serviceName="db")),
        ),
        (patch(STATEFUL_SETS, "db", {"spec": {"replicas": 1}}),),
        _pods_run,
    )


def one_daemon_pod_on_a_node(change: Change[Any], before: Any, after: Any) -> Iterable[str] | None:
    """DS-5 for stored objects, without a surge: no create makes a second pod of a node that is
    not being deleted.

    Requests in transit at a crash of the controller may (one for each earlier instance).
    """
    if change.previous is not None or change.record is None:
        return None
    where = pinned_to(change.record.value)
    pods = [
        pod
        for pod in objects(after, PODS.prefix)
        if pod.metadata.deletion_timestamp is None and pinned_to(pod) == where
    ]
    return [f"{len(pods)} pods for {where}"] if len(pods) > 1 + earlier_instances(after) else []


def _daemonset() -> Model:
    def taints(taints: list[dict[str, str]] | None) -> Request:
        return patch(NODES, "n1", {"spec": {"taints": taints}})

    return Model(
        "daemonset",
        "a DaemonSet, whose node gets a taint and loses it again",
        one_loop(
            "daemonset-controller",
            only(DaemonSetReconciler(), (DAEMON_SETS, PODS, CONTROLLER_REVISIONS, NODES)),
        ),
        # a new node has the taint not-ready (ADM-9)
        (
            NAMESPACE,
            *node("n1", "1"),
            taints(None),
            create(DAEMON_SETS, _set("DaemonSet", "agent")),
        ),
        (taints([{"key": "late", "effect": "NoExecute"}]), taints(None)),
        _pods_run,
        laws=(Law("DS-5", one_daemon_pod_on_a_node, PODS.prefix),),
    )


def _job_spec(completions: int) -> dict[str, Any]:
    template = pod_template({"app": "work"})
    template["spec"]["restartPolicy"] = "Never"
    return {"completions": completions, "parallelism": completions, "template": template}


def _pods_succeed(reader: Reader, now: Instant) -> Iterable[Request]:
    """The writes of kubelets: each pod succeeds, and each terminating pod is deleted."""
    for record in reader.list(PODS.prefix).records:
        pod = record.value
        namespace, name = pod.metadata.namespace, pod.metadata.name
        if pod.metadata.deletion_timestamp is not None:
            options = DeleteOptions(grace_period_seconds=0)
            yield Request("delete", PODS, namespace, name, body=options, user=KUBELET)
        elif pod.status.phase not in ("Succeeded", "Failed"):
            at = timestamp(now)
            ended = {"terminated": {"exitCode": 0, "startedAt": at, "finishedAt": at}}
            container = {"name": "main", "image": "app:1", "imageID": "app:1", "containerID": "simulated://1",
                         "ready": False, "restartCount": 0, "state": ended}  # fmt: skip
            status = {"phase": "Succeeded", "startTime": at, "containerStatuses": [container]}
            body = Patch("application/merge-patch+json", {"status": status})
            yield Request("patch", PODS, namespace, name, "status", body=body, user=KUBELET)


def _job() -> Model:
    tree = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "work"}, "spec": _job_spec(2)}  # fmt: skip
    return Model(
        "job",
        "a Job of 2 completions, whose pods succeed in any order",
        one_loop("job-controller", JobReconciler()),
        (NAMESPACE,),
        (create(JOBS, tree),),
        _pods_succeed,
        horizon_seconds=60,
    )


def _jobs_end(reader: Reader, now: Instant) -> Iterable[Request]:
    """The writes of the Job controller: a Job becomes Complete, and one that is being deleted
    goes."""
    for record in reader.list(JOBS.prefix).records:
        job = record.value
        created = parse_timestamp(job.metadata.creation_timestamp)
        if job.metadata.deletion_timestamp is not None and job.metadata.finalizers:
            yield patch(JOBS, job.metadata.name, {"metadata": {"finalizers": None}})
        elif not job.status.conditions and now >= created + RUN_SECONDS * SECOND:
            at = timestamp(now)
            conditions = [
                {"type": type, "status": "True", "lastTransitionTime": at, "lastProbeTime": at,
                 "reason": "CompletionsReached", "message": ""}
                for type in ("SuccessCriteriaMet", "Complete")
            ]  # fmt: skip
            status = {
                "startTime": at,
                "completionTime": at,
                "conditions": conditions,
            }
            body = Patch("application/merge-patch+json", {"status": status})
            yield Request("patch", JOBS, "default", job.metadata.name, "status", body=body, user=ADMIN)  # fmt: skip


def _cronjob() -> Model:
    tree = {
        "apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "tick"},
        "spec": {
            "schedule": "* * * * *", "concurrencyPolicy": "Forbid", "jobTemplate": {"spec": _job_spec(1)},
        },
    }  # fmt: skip
    return Model(
        "cronjob",
        "a CronJob of every minute with Forbid, whose Jobs take 70 seconds",
        one_loop("cronjob-controller", CronJobReconciler()),
        (NAMESPACE,),
        (create(CRON_JOBS, tree),),
        _jobs_end,
        rests=False,
        horizon_seconds=230,
    )


def _pod_named(name: str) -> Request:
    tree = {"apiVersion": "v1", "kind": "Pod", **pod_template({"app": "made"})}
    return create(PODS, {**tree, "metadata": {"name": name}})


def _quota() -> Model:
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "all"}, "spec": {"hard": {"pods": "1"}}}  # fmt: skip
    return Model(
        "quota",
        "a quota of one pod; of two pods, one is deleted, and a third one is created",
        one_loop(
            "resourcequota-controller",
            only(ResourceQuotaController(), (RESOURCE_QUOTAS, PODS)),
        ),
        (NAMESPACE, create(RESOURCE_QUOTAS, quota)),
        (
            _pod_named("a"),
            _pod_named("b"),
            delete(PODS, "a", grace_period_seconds=0),
            _pod_named("c"),
        ),
        one_revision=True,
        horizon_seconds=10,
    )


WORKLOADS: dict[str, Callable[[], Model]] = {
    "statefulset": _statefulset,
    "daemonset": _daemonset,
    "job": _job,
    "cronjob": _cronjob,
    "quota": _quota,
}
"""Every model of this file by name."""
