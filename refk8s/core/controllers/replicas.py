"""How many pods an owner has, and how many of them are ready. Rules RS-7 to RS-10
(spec/workloads/replica_set.md).

A fold counts the pods of each owner in groups, so that a change of one pod does not make the
controller read all others. `known_replicas` adds up the groups. `read_replicas` reads every pod,
which takes longer, but is possible for every owner.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from immutables import Map

from refk8s.core.api.resources import PODS, Resource
from refk8s.core.context import Instant
from refk8s.core.controllers.owners import Selects
from refk8s.core.loop.view import Fold, View, controller_of
from refk8s.core.pods.status import FINAL_PHASES, available_at, ready_condition
from refk8s.core.value import Value

# the states in which pods are counted; those of a finished pod are not
READY, UNREADY, TERMINATING = "ready", "unready", "terminating"

Owner = tuple[str, str, str]  # namespace, name and uid
Group = tuple[frozenset[tuple[str, str]], str]  # labels and state
Groups = Map[Group, int]

_NONE: Groups = Map()
_NO_LABELS: dict[str, str] = {}


class Replicas(Value, frozen=True):
    """The pods of one owner that have not finished. All but the last number are of active pods."""

    active: int
    fully_labeled: int
    ready: int
    available: int
    terminating: int
    available_at: Instant | None = None  # when the next ready pod becomes available


def template_labels(owner: Any) -> Mapping[str, str]:
    """The labels of the pods that the owner creates."""
    template = owner.spec.template
    return (template.metadata.labels if template is not None else None) or _NO_LABELS


def read_replicas(
    owner: Any, active: Sequence[Any], terminating: Sequence[Any], now: Instant
) -> Replicas:
    """Count these pods. O(pods)."""
    min_ready_seconds = owner.spec.min_ready_seconds or 0
    labels = template_labels(owner).items()
    fully_labeled = ready = available = 0
    next_at: Instant | None = None
    before, is_full = None, False
    for pod in active:
        its = pod.metadata.labels
        if its is not before or its is None:  # Pods of one template often share one map.
            before, is_full = its, labels <= (its or _NO_LABELS).items()
        fully_labeled += is_full  # RS-9
        condition = ready_condition(pod)
        if condition is not None:
            ready += 1
            at = available_at(condition, min_ready_seconds)
            if at is not None and at <= now:
                available += 1
            elif at is not None and (next_at is None or at < next_at):
                next_at = at
    return Replicas(len(active), fully_labeled, ready, available, len(terminating), next_at)


def known_replicas(view: View, owner: Any, selected: Selects) -> Replicas | None:
    """The same numbers from the fold. O(groups).

    None if the pods must be read: availability depends on times (RS-8), or the owner has to release
    a pod (OWN-3).
    """
    metadata = owner.metadata
    if owner.spec.min_ready_seconds:
        return None
    groups = view.fold(REPLICAS.name).get((metadata.namespace, metadata.name, metadata.uid), _NONE)
    labels = template_labels(owner).items()
    active = fully_labeled = ready = terminating = 0
    for (items, state), count in groups.items():
        if not selected(dict(items)):
            if state != TERMINATING and metadata.deletion_timestamp is None:
                return None
        elif state == TERMINATING:
            terminating += count
        else:
            active += count
            fully_labeled += count if labels <= items else 0
            ready += count if state == READY else 0
    return Replicas(active, fully_labeled, ready, ready, terminating)


# --- the fold -------------------------------------------------------------------------------------


def _place(pod: Any | None) -> tuple[Owner, Group] | None:
    """Where a pod is counted; None if it is not."""
    if pod is None or pod.status.phase in FINAL_PHASES:
        return None
    controller = controller_of(pod)
    if controller is None:
        return None
    metadata = pod.metadata
    if metadata.deletion_timestamp is not None:
        state = TERMINATING
    else:
        state = UNREADY if ready_condition(pod) is None else READY
    labels = frozenset((metadata.labels or _NO_LABELS).items())
    return (metadata.namespace, controller.name, controller.uid), (labels, state)


def count_replicas(
    counts: Map[Owner, Groups], resource: Resource, old: Any | None, new: Any | None
) -> Map[Owner, Groups]:
    """The numbers after one change. O(labels)."""
    before, after = _place(old), _place(new)
    if before == after:
        return counts
    for place, step in ((before, -1), (after, 1)):
        if place is not None:
            owner, group = place
            groups = counts.get(owner, _NONE)
            count = groups.get(group, 0) + step
            groups = groups.set(group, count) if count else groups.delete(group)
            counts = counts.set(owner, groups) if groups else counts.delete(owner)
    return counts


REPLICAS = Fold("replicas", (PODS,), Map(), count_replicas)
