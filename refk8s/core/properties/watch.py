"""What must hold of views. Rules WATCH-1, WATCH-2 (spec/watch.md)."""

from typing import Any

from refk8s.core.apiserver.selection import select
from refk8s.core.cluster import Cluster
from refk8s.core.loop.state import LoopState
from refk8s.core.loop.view import key_of


def views_are_past_states(cluster: Cluster) -> list[str]:
    """WATCH-1: each table holds what the store held at the table's revision, within its selectors. What is wrong, in words."""
    wrong = []
    for name in sorted(cluster.components):
        state = cluster.components[name].state
        if not isinstance(state, LoopState):
            continue
        for prefix in sorted(state.view.tables):
            table, informer = state.view.tables[prefix], state.informers[prefix]
            if not table.synced or table.revision < cluster.history.compacted:
                continue
            then: dict[str, Any] = {}
            matches = select(informer.resource, "", informer.label_selector, informer.field_selector).matches
            for record in cluster.history.list(prefix, at=table.revision).records:
                if matches is None or matches(record.value):
                    then[key_of(record.value)] = record.value
            now = dict(table.objects.items())
            if now != then:
                odd = sorted(key for key in {**now, **then} if now.get(key) != then.get(key))
                wrong.append(f"WATCH-1: the view of {prefix} in {name} at revision {table.revision} differs in {odd[:3]}")
    return wrong


def views_never_go_back(before: Cluster, after: Cluster) -> list[str]:
    """WATCH-2: within one life of a component no table's revision decreases."""
    wrong = []
    for name in sorted(before.components):
        old, new = before.components[name], after.components[name]
        if old.life != new.life or old.state is new.state or not isinstance(old.state, LoopState) or not isinstance(new.state, LoopState):
            continue
        for prefix in sorted(old.state.view.tables):
            was, is_ = old.state.view.tables[prefix].revision, new.state.view.tables[prefix].revision
            if is_ < was:
                wrong.append(f"WATCH-2: the view of {prefix} in {name} went from revision {was} back to {is_}")
    return wrong
