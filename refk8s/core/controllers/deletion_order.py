"""The order in which surplus pods are deleted. Rules RS-5 (spec/workloads/replica_set.md), JOB-14
(spec/workloads/job.md).

Pods of a ReplicaSet are sorted by `deletion_key`, smallest first. Each line of the key decides
between pods that are equal in all lines before it. Source: Kubernetes documentation, "ReplicaSet",
"Scaling a ReplicaSet"; KEP-2185 (random pod selection on scale-down), KEP-2255 (pod cost).
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from refk8s.core.context import Instant, parse_timestamp
from refk8s.core.pods.containers import sidecars
from refk8s.core.pods.status import is_active, ready_condition

DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
COST_MAX = 2**31 - 1

_PHASES = {"Pending": 0, None: 0, "": 0, "Unknown": 1, "Running": 2}
_WHOLE_NUMBER = re.compile(r"0|-?[1-9][0-9]{0,9}")


def rank_for_deletion(pods: Iterable[Any], relatives: Iterable[Any], now: Instant) -> list[Any]:
    """The pods in the order in which they are deleted. `relatives` are the pods of all ReplicaSets
    of the same owner. O(n log n)."""
    neighbours: dict[str, int] = {}
    for pod in relatives:
        if is_active(pod):
            node = pod.spec.node_name or ""
            neighbours[node] = neighbours.get(node, 0) + 1
    return sorted(pods, key=deletion_key(neighbours, now))


def deletion_key(neighbours: Mapping[str, int], now: Instant) -> Callable[[Any], tuple[Any, ...]]:
    """The sorting key. `neighbours` counts the active relatives on each node.

    Ages are compared by their binary logarithm, so that scaling down does not always delete the
    youngest pods. The uid, which is random, decides between pods that are equal otherwise.
    """

    def key(pod: Any) -> tuple[Any, ...]:
        node = pod.spec.node_name or ""
        ready = ready_condition(pod)
        return (
            node != "",
            _PHASES.get(pod.status.phase, 2),
            ready is not None,
            _cost(pod),
            -neighbours.get(node, 0),
            _age(ready.last_transition_time, now) if ready is not None else 0,
            *_restarts(pod),
            _age(pod.metadata.creation_timestamp, now),
            pod.metadata.uid or "",
        )

    return key


def active_key(pod: Any) -> tuple[Any, ...]:
    """The sorting key of the surplus pods of a Job (JOB-14): as above, without costs and
    neighbours, and with exact times."""
    ready = ready_condition(pod)
    since = ready.last_transition_time if ready is not None else None
    created = pod.metadata.creation_timestamp
    return (
        bool(pod.spec.node_name),
        _PHASES.get(pod.status.phase, 2),
        ready is not None,
        -parse_timestamp(since) if since else 0,
        *_restarts(pod),
        -parse_timestamp(created) if created else 0,
        pod.metadata.uid or "",
    )


def _cost(pod: Any) -> int:
    """The annotated cost; 0 if it is absent or not a 32-bit whole number in plain form."""
    text = (pod.metadata.annotations or {}).get(DELETION_COST, "0")
    cost = int(text) if _WHOLE_NUMBER.fullmatch(text) else 0
    return cost if -COST_MAX - 1 <= cost <= COST_MAX else 0


def _age(since: str | None, now: Instant) -> int:
    """The binary logarithm of an age in nanoseconds; -1 for a time in the future, -2 for none."""
    if since is None:
        return -2
    age = (now - parse_timestamp(since)) * 1_000
    return age.bit_length() - 1 if age > 0 else -1


def _restarts(pod: Any) -> tuple[int, int]:
    """The most restarts of one container, and of one sidecar; negative, because more restarts are
    deleted first."""
    most = max((status.restart_count for status in pod.status.container_statuses or ()), default=0)
    names = [container.name for container in sidecars(pod.spec)]
    most_of_sidecars = max(
        (s.restart_count for s in pod.status.init_container_statuses or () if s.name in names),
        default=0,
    )
    return -most, -most_of_sidecars
