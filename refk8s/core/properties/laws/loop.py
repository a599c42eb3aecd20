"""Laws of when a key is reconciled. Rules LOOP-1, LOOP-3, LOOP-4 (spec/loop.md)."""

from collections.abc import Iterable

from refk8s.core.cluster.state import Cluster
from refk8s.core.properties.law import Decision, Law
from refk8s.core.properties.predicates.loop import (
    loop_1_every_resource_is_listed,
    loop_3_every_request_is_answered,
    loop_4_the_view_shows_own_writes,
)


def _words(decision: Decision) -> str:
    return f"{decision.reconciler} decides about {decision.key}"


def every_resource_is_listed(
    decision: Decision, before: Cluster, after: Cluster
) -> Iterable[str] | None:
    """LOOP-1."""
    return loop_1_every_resource_is_listed(_words(decision), decision.view, decision.state)


def every_request_is_answered(
    decision: Decision, before: Cluster, after: Cluster
) -> Iterable[str] | None:
    """LOOP-3, for a component that has not just started."""
    if decision.past is None:
        return None
    item = (decision.reconciler, decision.key)
    return loop_3_every_request_is_answered(_words(decision), decision.past, decision.state, item)


def the_view_shows_own_writes(
    decision: Decision, before: Cluster, after: Cluster
) -> Iterable[str] | None:
    """LOOP-4, for a key that was reconciled before."""
    past = decision.past
    busy = past.busy.get((decision.reconciler, decision.key)) if past is not None else None
    if busy is None:
        return None
    return loop_4_the_view_shows_own_writes(_words(decision), decision.view, busy)


OF_DECISIONS = (
    Law("LOOP-1", every_resource_is_listed),
    Law("LOOP-3", every_request_is_answered),
    Law("LOOP-4", the_view_shows_own_writes),
)
