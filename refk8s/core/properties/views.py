"""Laws of what components know. Rules WATCH-1, WATCH-2, WATCH-4, WATCHAPI-5, WATCHAPI-8, CLUSTER-2,
CLUSTER-3 (spec/watch.md, spec/watch_api.md)."""

from collections.abc import Iterable
from typing import Any

from refk8s.core.actions import Action, Answer, Arrive, Notify, Operate
from refk8s.core.apiserver.selection import select
from refk8s.core.cluster.state import Cluster
from refk8s.core.loop.informer import Informer
from refk8s.core.loop.state import LoopState
from refk8s.core.loop.view import Table, key_of
from refk8s.core.properties.law import Law
from refk8s.core.properties.watch import table_is_a_past_state, views_never_go_back
from refk8s.core.value import Value


def no_view_goes_back(before: Cluster, action: Action, after: Cluster) -> Iterable[str] | None:
    """WATCH-2, of a step in which some component heard something."""
    return None if before.components is after.components else views_never_go_back(before, after)


class Heard(Value, frozen=True, eq=False):
    """What a component has just been told of one resource: its table before and after, and whether
    it changed by what is `wrong`."""

    was: Table
    now: Table
    informer: Informer
    events: int = 0  # changes of objects that it sees
    # those by which an object came under its selectors, or left them, and lived on
    crossings: int = 0
    wrong: tuple[str, ...] = ()


def _tables(
    before: Cluster, channel: tuple[str, int, int], after: Cluster
) -> tuple[Table, Table, Informer] | None:
    """The table that this list or watch is for, before and after; None where nobody waits for it
    any more."""
    name, life, id = channel
    old, new = before.components[name], after.components[name]
    if (
        not (old.life == new.life == life)
        or not isinstance(old.state, LoopState)
        or not isinstance(new.state, LoopState)
    ):
        return None
    prefix = old.state.sources.get(id)
    return (
        None
        if prefix is None
        else (
            old.state.view.tables[prefix],
            new.state.view.tables[prefix],
            old.state.informers[prefix],
        )
    )


def heard(before: Cluster, action: Notify, after: Cluster) -> Heard | None:
    """What a watch told, held against the history. O(changes told)."""
    found = _tables(before, action.watch, after)
    if found is None:
        return None
    was, now, informer = found
    if not was.synced or was.revision < after.history.compacted or now.revision <= was.revision:
        return None
    matches = select(
        informer.resource, "", informer.label_selector, informer.field_selector
    ).matches
    first: dict[str, Any] = {}
    last: dict[str, Any] = {}
    events = crossings = 0
    for change in after.history.changes(informer.resource.prefix, was.revision):
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
    words = f"the view of {informer.resource.prefix} in {action.watch[0]}, told up to revision {now.revision}, differs in"
    return Heard(
        was, now, informer, events, crossings, tuple([f"{words} {each}" for each in sorted(wrong)])
    )


def views_follow_the_store(before: Cluster, action: Action, after: Cluster) -> Iterable[str] | None:
    """WATCH-1, of what a watch told and of what a list answered: nothing missed, nothing twice,
    nothing out of order."""
    if isinstance(action, Notify):
        told = heard(before, action, after)
        return told.wrong if told is not None and told.events else None
    assert isinstance(action, Answer)
    found = _tables(before, action.flying, after)
    if (
        found is None
        or not found[1].synced
        or found[1] is found[0]
        or found[1].revision < after.history.compacted
    ):
        return None
    return table_is_a_past_state(after.history, found[1], found[2], action.flying[0])


def bookmarks_skip_nothing(before: Cluster, action: Action, after: Cluster) -> Iterable[str] | None:
    """WATCHAPI-8: where a view moves on and no object of it changed, none has changed in the
    store."""
    assert isinstance(action, Notify)
    told = heard(before, action, after)
    return told.wrong if told is not None and not told.events else None


def entering_and_leaving_is_told(
    before: Cluster, action: Action, after: Cluster
) -> Iterable[str] | None:
    """WATCHAPI-5: what comes under a selector appears, what leaves it disappears."""
    assert isinstance(action, Notify)
    found = _tables(before, action.watch, after)
    if found is None or not (found[2].field_selector or found[2].label_selector):
        return None
    told = heard(before, action, after)
    return told.wrong if told is not None and told.crossings else None


def first_lists_are_the_newest(
    before: Cluster, action: Action, after: Cluster
) -> Iterable[str] | None:
    """WATCH-4: what a component lists to begin (again) is no older than the store, so none goes
    back in time by starting anew."""
    assert isinstance(action, Arrive)
    name, life, id = action.flying
    component, flying = before.components[name], before.flying[action.flying]
    if (
        flying.request.verb != "list"
        or not isinstance(component.state, LoopState)
        or component.life != life
    ):
        return None
    answered = after.flying.get(action.flying)
    if (
        id not in component.state.sources
        or answered is None
        or answered.answer is None
        or not answered.answer.ok
    ):
        return None
    revision = int(answered.answer.body.metadata.resource_version)
    if revision >= before.history.revision:
        return []
    return [
        f"{name} lists {flying.request.resource.prefix} as of revision {revision}, and the store is at {before.history.revision}"
    ]


def a_watch_moves_on(before: Cluster, action: Action, after: Cluster) -> Iterable[str] | None:
    """CLUSTER-2: never back, and never beyond what there is."""
    assert isinstance(action, Notify)
    old, new = before.watches[action.watch], after.watches.get(action.watch)
    if new is None:
        return None
    if old.revision <= new.revision <= max(old.revision, after.history.revision):
        return []
    return [
        f"the watch {action.watch} went from revision {old.revision} to {new.revision}, and the store is at {after.history.revision}"
    ]


def an_earlier_life_is_over(
    before: Cluster, action: Action, after: Cluster
) -> Iterable[str] | None:
    """CLUSTER-3: what was asked for in another life is heard by nobody."""
    match action:
        case Answer(channel) | Notify(channel) | Operate(channel):
            name, life, _ = channel
        case _:
            return None
    old, new = before.components[name], after.components[name]
    if old.life == life and old.back_at is None:
        return None
    return (
        []
        if old.state is new.state
        else [f"{name}, in life {old.life}, heard what {channel} was about"]
    )


OF_STEPS = (
    Law("CLUSTER-3", an_earlier_life_is_over, actions=(Answer, Notify, Operate)),
    Law("WATCH-1", views_follow_the_store, actions=(Notify, Answer)),
    Law("WATCH-2", no_view_goes_back),
    Law("WATCH-4", first_lists_are_the_newest, actions=(Arrive,)),
    Law("WATCHAPI-5", entering_and_leaving_is_told, actions=(Notify,)),
    Law("WATCHAPI-8", bookmarks_skip_nothing, actions=(Notify,)),
    Law("CLUSTER-2", a_watch_moves_on, actions=(Notify,)),
)
