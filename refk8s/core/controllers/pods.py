"""What a pod's status means to the controllers that count pods: active, ready, available. Rules
RS-1, RS-8 (spec/workloads/replica_set.md).

Source: Kubernetes documentation, "Pod Lifecycle"; API reference, "PodStatus".
"""

from collections.abc import Iterable
from typing import Any

from refk8s.core.context import SECOND, Instant, parse_timestamp, timestamp

FAILED, SUCCEEDED = "Failed", "Succeeded"


def is_finished(pod: Any) -> bool:
    """All its containers have ended and none will be started again."""
    return pod.status.phase in (FAILED, SUCCEEDED)


def is_active(pod: Any) -> bool:
    """It runs or will run: neither finished nor being deleted (RS-1)."""
    return pod.metadata.deletion_timestamp is None and pod.status.phase not in (FAILED, SUCCEEDED)


def split(pods: Iterable[Any]) -> tuple[list[Any], list[Any]]:
    """Those that are active, and those that are being deleted and have not finished yet. O(n)."""
    active: list[Any] = []
    terminating: list[Any] = []
    for pod in pods:
        if pod.status.phase not in (FAILED, SUCCEEDED):
            (active if pod.metadata.deletion_timestamp is None else terminating).append(pod)
    return active, terminating


def ready_condition(pod: Any) -> Any | None:
    """The condition Ready where it is True, else None."""
    for condition in pod.status.conditions or ():
        if condition.type == "Ready":
            return condition if condition.status == "True" else None
    return None


def disruption_target(pod: Any, reason: str, message: str, now: Instant) -> dict[str, Any]:
    """The condition DisruptionTarget, as a patch has it: why the cluster itself ends a pod (NODE-8,
    PODGC-1)."""
    return {
        "type": "DisruptionTarget", "status": "True", "reason": reason, "message": message, "lastTransitionTime": timestamp(now),
        "observedGeneration": pod.metadata.generation,
    }  # fmt: skip


def available_at(condition: Any, min_ready_seconds: int) -> Instant | None:
    """When a pod with this Ready condition becomes available (RS-8); 0: it is already, None: nobody
    said since when it is ready."""
    if not min_ready_seconds:
        return 0
    if condition.last_transition_time is None:
        return None
    return parse_timestamp(condition.last_transition_time) + min_ready_seconds * SECOND
