"""States of a pod from its status: finished, active, ready, available. Rules RS-1, RS-8, POD-24
(spec/workloads/replica_set.md, spec/pod.md).

Source: Kubernetes documentation, "Pod Lifecycle"; API reference, "PodStatus".
"""

from collections.abc import Iterable
from typing import Any

from refk8s.core.context import SECOND, Instant, parse_timestamp, timestamp

PENDING, RUNNING, SUCCEEDED, FAILED = "Pending", "Running", "Succeeded", "Failed"
FINAL_PHASES = (SUCCEEDED, FAILED)
DISRUPTION_TARGET = "DisruptionTarget"


def is_finished(pod: Any) -> bool:
    """Whether the phase is Succeeded or Failed: no container runs or will be started again."""
    return pod.status.phase in FINAL_PHASES


def is_active(pod: Any) -> bool:
    """Whether it has neither finished nor is being deleted (RS-1)."""
    return pod.metadata.deletion_timestamp is None and pod.status.phase not in FINAL_PHASES


def split(pods: Iterable[Any]) -> tuple[list[Any], list[Any]]:
    """(active pods, pods that are being deleted and have not finished). O(n)."""
    active: list[Any] = []
    terminating: list[Any] = []
    for pod in pods:
        if pod.status.phase not in FINAL_PHASES:
            (active if pod.metadata.deletion_timestamp is None else terminating).append(pod)
    return active, terminating


def is_ready(pod: Any) -> bool:
    """Whether the condition Ready is True."""
    return ready_condition(pod) is not None


def ready_condition(pod: Any) -> Any | None:
    """The first condition Ready if it is True, else None (POD-24). O(conditions)."""
    for condition in pod.status.conditions or ():  # a loop, because every pod is read often
        if condition.type == "Ready":
            return condition if condition.status == "True" else None
    return None


def disruption_target(pod: Any, reason: str, message: str, now: Instant) -> dict[str, Any]:
    """The condition DisruptionTarget for a patch, with its reason (NODE-8, PODGC-1)."""
    return {
        "type": DISRUPTION_TARGET, "status": "True", "reason": reason, "message": message, "lastTransitionTime": timestamp(now),
        "observedGeneration": pod.metadata.generation,
    }  # fmt: skip


def available_at(condition: Any, min_ready_seconds: int) -> Instant | None:
    """When a pod with this Ready condition becomes available (RS-8). 0: it is already; None: the
    condition has no lastTransitionTime."""
    if not min_ready_seconds:
        return 0
    if condition.last_transition_time is None:
        return None
    return parse_timestamp(condition.last_transition_time) + min_ready_seconds * SECOND
