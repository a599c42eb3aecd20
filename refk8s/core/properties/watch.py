"""What must hold of views. Rules WATCH-1, WATCH-2 (spec/watch.md)."""

from typing import Any

from refk8s.core.apiserver.selection import select
from refk8s.core.cluster.state import Cluster
from refk8s.core.loop.informer import Informer
from refk8s.core.loop.state import LoopState
from refk8s.core.loop.view import Table, key_of
from refk8s.core.store import History


def views_are_past_states(cluster: Cluster) -> list[str]:
    """WATCH-1: each table holds what the store held at the table's revision, within its selectors.
    What is wrong, in words."""
    wrong = []
    for name in sorted(cluster.components):
        state = cluster.components[name].state
        if not isinstance(state, LoopState):
            continue
        for prefix in sorted(state.view.tables):
            table = state.view.tables[prefix]
            if table.synced and table.revision >= cluster.history.compacted:
                wrong += table_is_a_past_state(
                    cluster.history, table, state.informers[prefix], name
                )
    return wrong


def table_is_a_past_state(
    history: History[Any], table: Table, informer: Informer, name: str
) -> list[str]:
    """WATCH-1, of one table whose revision is still known. O(n log n)."""
    then: dict[str, Any] = {}
    prefix = informer.resource.prefix
    matches = select(
        informer.resource, "", informer.label_selector, informer.field_selector
    ).matches
    for record in history.list(prefix, at=table.revision).records:
        if matches is None or matches(record.value):
            then[key_of(record.value)] = record.value
    now = dict(table.objects.items())
    if now == then:
        return []
    odd = sorted(key for key in {**now, **then} if now.get(key) != then.get(key))
    return [
        f"WATCH-1: the view of {prefix} in {name} at revision {table.revision} differs in {odd[:3]}"
    ]


def views_never_go_back(before: Cluster, after: Cluster) -> list[str]:
    """WATCH-2: within one life of a component no table's revision decreases."""
    wrong = []
    for name in sorted(before.components):
        old, new = before.components[name], after.components[name]
        if (
            old is new
            or old.life != new.life
            or not isinstance(old.state, LoopState)
            or not isinstance(new.state, LoopState)
        ):
            continue
        if old.state.view.tables is new.state.view.tables:
            continue
        for prefix in sorted(old.state.view.tables):
            was, is_ = (
                old.state.view.tables[prefix].revision,
                new.state.view.tables[prefix].revision,
            )
            if is_ < was:
                wrong.append(
                    f"WATCH-2: the view of {prefix} in {name} went from revision {was} back to {is_}"
                )
    return wrong
