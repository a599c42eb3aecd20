"""The requests and Events of the scheduler about a pod: its condition, its victims, its claims.
Rules SCHED-10, SCHED-11, SCHED-35 (spec/scheduler.md), DRA-11 (spec/devices.md).
"""

from collections.abc import Mapping
from typing import Any

from refk8s.core.api.conditions import get_condition
from refk8s.core.api.core_v1 import Pod, PodCondition, PodStatus
from refk8s.core.api.request import Request
from refk8s.core.api.resources import PODS
from refk8s.core.context import Instant, timestamp
from refk8s.core.loop.plan import Key, Note
from refk8s.core.loop.view import View
from refk8s.core.pods.requests import delete_pod, patch_status
from refk8s.core.pods.status import DISRUPTION_TARGET, disruption_target
from refk8s.core.scheduler.nominated import Nomination
from refk8s.core.scheduler.preempt import RUNNING_SINCE_NOW
from refk8s.core.scheduler.snapshot import PodInfo

GATED = "SchedulingGated"
PREEMPTED = "preempting to accommodate a higher priority pod"


def deallocate(view: View, claims: tuple[Key, ...], pod: PodInfo) -> tuple[Request, ...]:
    """DRA-11."""
    from refk8s.core.scheduler.claims import deallocations

    return deallocations(view, claims, pod)


def remaining(view: View, nomination: Nomination | None) -> list[Pod]:
    """The victims that are not deleted yet."""
    found = (
        [view.get(PODS, f"{info.namespace}/{info.name}") for info in nomination.victims]
        if nomination is not None
        else []
    )
    uids = {info.uid for info in nomination.victims} if nomination is not None else set()
    return [
        pod
        for pod in found
        if pod is not None and pod.metadata.uid in uids and pod.metadata.deletion_timestamp is None
    ]


def preempted(victim: Pod, by: PodInfo, node: str, view: View) -> Note:
    words = f"Preempted by pod {by.uid} on node {node}"
    related = view.get(PODS, f"{by.namespace}/{by.name}")
    return note(victim, by, "Preempted", words, "Preempting", related=related)


def note(pod: Pod, by: PodInfo, reason: str, message: str, action: str, **more: Any) -> Note:
    """An Event about the pod, with the name of the profile that scheduled `by` as its source."""
    return Note(pod, reason, message, action=action, component=by.scheduler_name, **more)


def started_of(pods: Mapping[Key, Pod], pod: PodInfo) -> str:
    """When the pod started, as RFC 3339 text; RUNNING_SINCE_NOW if it has not. `pods`: by key."""
    found = pods.get(f"{pod.namespace}/{pod.name}")
    return (
        found.status.start_time if found is not None and found.status else None
    ) or RUNNING_SINCE_NOW


def write_status(
    pod: Pod, reason: str, message: str, nominated: str, now: Instant
) -> tuple[Request, ...]:
    """SCHED-11: the condition PodScheduled=False with this reason and message, and the nominated
    node, unless the pod has them already."""
    metadata, status = pod.metadata, pod.status or PodStatus()
    found: PodCondition | None = get_condition(status.conditions, "PodScheduled")
    tree: dict[str, Any] = {}
    if found is None or (found.status, found.reason, found.message) != ("False", reason, message):
        condition: dict[str, Any] = {
            "type": "PodScheduled",
            "status": "False",
            "reason": reason,
            "message": message,
        }
        if metadata.generation:
            condition["observedGeneration"] = metadata.generation
        if found is None or found.status != "False":
            condition["lastTransitionTime"] = timestamp(now)
        tree["conditions"] = [condition]
    if (status.nominated_node_name or "") != nominated:
        tree["nominatedNodeName"] = nominated or None
    because = "it has scheduling gates" if reason == GATED else "no node can run it"
    return (patch_status(pod, tree, because),) if tree else ()


def evict(pod: Pod, scheduler_name: str, now: Instant) -> tuple[tuple[Request, ...], Request]:
    """The request that sets a victim's condition, if it is not set, and the deletion (SCHED-35)."""
    marking: tuple[Request, ...] = ()
    if not any(each.type == DISRUPTION_TARGET for each in pod.status.conditions or ()):
        condition = disruption_target(
            pod, "PreemptionByScheduler", f"{scheduler_name}: {PREEMPTED}", now
        )
        because = "it is a victim of preemption"
        marking = (patch_status(pod, {"conditions": [condition]}, because),)
    return marking, delete_pod(pod, "a pod of higher priority needs its room")
