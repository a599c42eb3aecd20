"""Laws of the garbage collector. Rules GC-1, GC-2, GC-4, GC-5, GC-7
(spec/workloads/garbage_collector.md).

A request is checked when it takes effect, against the store. A decision is checked when it is made,
against its view.
"""

from collections.abc import Iterable

from refk8s.core.cluster.state import Cluster
from refk8s.core.properties.law import SERVICE_ACCOUNTS, Arrived, Decision, Law
from refk8s.core.properties.predicates.garbage_collector import (
    gc_1_the_delete_names_one_state,
    gc_2_no_owner_is_in_view,
    gc_2_no_owner_is_stored,
    gc_4_an_owner_is_left,
    gc_5_no_blocking_dependent_is_left,
    gc_7_no_dependent_has_the_reference,
)

COLLECTOR = "generic-garbage-collector"


def names_one_state(arrived: Arrived, before: Cluster, after: Cluster) -> Iterable[str] | None:
    """GC-1."""
    request = arrived.request
    return gc_1_the_delete_names_one_state(request) if request.verb == "delete" else None


def no_owner_is_stored(arrived: Arrived, before: Cluster, after: Cluster) -> Iterable[str] | None:
    """GC-2, when a delete takes effect."""
    change = arrived.target
    if arrived.request.verb != "delete" or change is None or change.previous is None:
        return None
    return gc_2_no_owner_is_stored(before.history, change.key, change.previous.value)


def no_owner_is_in_view(
    decision: Decision, before: Cluster, after: Cluster
) -> Iterable[str] | None:
    """GC-2, when a delete is decided."""
    return gc_2_no_owner_is_in_view(decision.view, decision.plan)


def foreground_owner_goes_last(
    decision: Decision, before: Cluster, after: Cluster
) -> Iterable[str] | None:
    """GC-5."""
    return gc_5_no_blocking_dependent_is_left(decision.view, decision.plan)


def orphans_lose_the_reference_first(
    decision: Decision, before: Cluster, after: Cluster
) -> Iterable[str] | None:
    """GC-7."""
    return gc_7_no_dependent_has_the_reference(decision.view, decision.plan)


def no_orphan_is_left(cluster: Cluster) -> Iterable[str] | None:
    """GC-4, for a settled cluster."""
    owned = [
        r.value for r in cluster.history.list("/").records if r.value.metadata.owner_references
    ]
    if not owned:
        return None
    return [words for obj in owned for words in gc_4_an_owner_is_left(cluster.history, obj)]


OF_REQUESTS = (
    Law("GC-1", names_one_state, SERVICE_ACCOUNTS + COLLECTOR),
    Law("GC-2", no_owner_is_stored, SERVICE_ACCOUNTS + COLLECTOR),
)
OF_DECISIONS = (
    Law("GC-2", no_owner_is_in_view, COLLECTOR),
    Law("GC-5", foreground_owner_goes_last, COLLECTOR),
    Law("GC-7", orphans_lose_the_reference_first, COLLECTOR),
)
OF_REST = (Law("GC-4", no_orphan_is_left),)
