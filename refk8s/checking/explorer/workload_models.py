"""Small clusters for the explorer: a Job and a quota.

Spec: spec/explorer.md; `model.py` says what a model is. Kubelets are an environment.
"""

from collections.abc import Callable, Iterable
from typing import Any

from refk8s.checking.explorer.model import (
    KUBELET,
    NAMESPACE,
    Model,
    create,
    delete,
    one_loop,
    only,
    pod_template,
)
from refk8s.core.api.meta_v1 import DeleteOptions
from refk8s.core.api.request import Patch, Request
from refk8s.core.api.resources import (
    JOBS,
    PODS,
    RESOURCE_QUOTAS,
)
from refk8s.core.apiserver.outcome import Reader
from refk8s.core.context import Instant, timestamp
from refk8s.core.controllers.job import JobReconciler
from refk8s.core.controllers.resource_quota import ResourceQuotaController


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
    "job": _job,
    "quota": _quota,
}
"""Every model of this file by name."""
