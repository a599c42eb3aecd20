"""Predicates of a component's view. Rules WATCH-1, WATCH-2, WATCHAPI-5,
WATCHAPI-8 (spec/watch.md, spec/watch_api.md)."""

from collections.abc import Iterator
from typing import Any

from refk8s.core.apiserver.selection import select
from refk8s.core.loop.informer import Informer
from refk8s.core.loop.view import Table, View, key_of
from refk8s.core.store import History
from refk8s.core.value import Value


def watch_1_table_is_a_past_state(
    history: History[Any], table: Table, informer: Informer, name: str
) -> list[str]:
    """WATCH-1, for one table whose revision is not compacted. O(n log n)."""
    then: dict[str, Any] = {}
    prefix = informer.resource.prefix
    selection = select(informer.resource, "", informer.label_selector, informer.field_selector)
    for record in history.list(selection.prefix, at=table.revision).records:
        if selection.matches is None or selection.matches(record.value):
            then[key_of(record.value)] = record.value
    now = dict(table.objects.items())
    if now == then:
        return []
    odd = sorted(key for key in {**now, **then} if now.get(key) != then.get(key))
    return [
        f"WATCH-1: the view of {prefix} in {name} at revision {table.revision} differs in {odd[:3]}"
    ]


def watch_2_revisions_never_decrease(name: str, before: View, after: View) -> Iterator[str]:
    """WATCH-2, for two views of one instance of a component."""
    if before.tables is after.tables:
        return
    for prefix in sorted(before.tables):
        was, is_ = before.tables[prefix].revision, after.tables[prefix].revision
        if is_ < was:
            yield f"WATCH-2: the view of {prefix} in {name} went from revision {was} back to {is_}"


class Delivered(Value, frozen=True, eq=False):
    """What a watch delivered to a view, compared with the history."""

    events: int = 0  # changes of objects that the watch selects
    # changes by which an existing object began or ceased to match the selectors
    crossings: int = 0
    wrong: tuple[str, ...] = ()  # how the view differs from the history


def watch_1_delivered_as_changed(
    history: History[Any], was: Table, now: Table, informer: Informer, name: str
) -> Delivered | None:
    """WATCH-1, WATCHAPI-5 and WATCHAPI-8, for the table of a view before and after a delivery; None
    if its revision did not change, or is compacted. O(changes delivered)."""
    if not was.synced or was.revision < history.compacted or now.revision <= was.revision:
        return None
    selection = select(informer.resource, "", informer.label_selector, informer.field_selector)
    matches = selection.matches
    first: dict[str, Any] = {}
    last: dict[str, Any] = {}
    events = crossings = 0
    for change in history.changes(selection.prefix, was.revision):
        if change.revision > now.revision:
            break
        old = change.previous.value if change.previous is not None else None
        new = change.record.value if change.record is not None else None
        was_in = old is not None and (matches is None or matches(old))
        is_in = new is not None and (matches is None or matches(new))
        events += was_in or is_in
        crossings += was_in != is_in and old is not None and new is not None
        key = key_of(new if new is not None else old)
        first.setdefault(key, old if was_in else None)
        last[key] = new if is_in else None
    wrong = [key for key, expected in last.items() if now.objects.get(key) != expected]
    size = len(was.objects) + sum(
        (last[key] is not None) - (first[key] is not None) for key in last
    )
    if len(now.objects) != size:
        wrong.append(f"it has {len(now.objects)} objects, and should have {size}")
    words = (
        f"the view of {informer.resource.prefix} in {name} at revision {now.revision} differs in"
    )
    return Delivered(events, crossings, tuple([f"{words} {each}" for each in sorted(wrong)]))
