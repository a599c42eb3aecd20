"""Laws of views and watches. Rules WATCH-1, WATCH-2, WATCH-4, WATCHAPI-5, WATCHAPI-8, CLUSTER-2,
CLUSTER-3 (spec/watch.md, spec/watch_api.md, spec/cluster.md)."""

from collections.abc import Iterable

from refk8s.core.actions import Action, Answer, Arrive, Notify, Operate
from refk8s.core.cluster.state import Cluster
from refk8s.core.loop.elector import inner_id
from refk8s.core.loop.informer import Informer
from refk8s.core.loop.view import Table
from refk8s.core.properties.law import Law, is_same_instance, loop_of
from refk8s.core.properties.predicates.watch import (
    Delivered,
    watch_1_delivered_as_changed,
    watch_1_table_is_a_past_state,
    watch_2_revisions_never_decrease,
)


def views_never_go_back(before: Cluster, after: Cluster) -> list[str]:
    """WATCH-2: within one instance of a component no table's revision decreases."""
    wrong: list[str] = []
    for name in sorted(before.components):
        old, new = before.components[name], after.components[name]
        if old is not new and is_same_instance(old, new):
            was, now = loop_of(old), loop_of(new)
            if was is not None and now is not None:
                wrong += watch_2_revisions_never_decrease(name, was.view, now.view)
    return wrong


def no_view_goes_back(before: Cluster, action: Action, after: Cluster) -> Iterable[str] | None:
    """WATCH-2, for a step in which a component received an event."""
    return None if before.components is after.components else views_never_go_back(before, after)


def views_are_past_states(cluster: Cluster) -> list[str]:
    """WATCH-1: each table equals the store at the table's revision, within its selectors."""
    wrong = []
    for name in sorted(cluster.components):
        state = loop_of(cluster.components[name])
        if state is None:
            continue
        for prefix in sorted(state.view.tables):
            table = state.view.tables[prefix]
            if table.synced and table.revision >= cluster.history.compacted:
                wrong += watch_1_table_is_a_past_state(
                    cluster.history, table, state.informers[prefix], name
                )
    return wrong


def _tables(
    before: Cluster, channel: tuple[str, int, int], after: Cluster
) -> tuple[Table, Table, Informer] | None:
    """The table that this list or watch is for, before and after; None if the component does not
    wait for it any more."""
    name, life, id = channel
    old, new = before.components[name], after.components[name]
    was, now = loop_of(old), loop_of(new)
    if old.life != life or not is_same_instance(old, new) or was is None or now is None:
        return None
    prefix = was.sources.get(inner_id(old.state, id))
    if prefix is None:
        return None
    return was.view.tables[prefix], now.view.tables[prefix], was.informers[prefix]


def delivered(before: Cluster, action: Notify, after: Cluster) -> Delivered | None:
    """What a watch delivered in this step; None if no instance waits for it any more."""
    found = _tables(before, action.watch, after)
    if found is None:
        return None
    was, now, informer = found
    return watch_1_delivered_as_changed(after.history, was, now, informer, action.watch[0])


def views_follow_the_store(before: Cluster, action: Action, after: Cluster) -> Iterable[str] | None:
    """WATCH-1, for what a watch delivered and for the answer to a list: no change is missed,
    repeated or out of order."""
    if isinstance(action, Notify):
        delivery = delivered(before, action, after)
        return delivery.wrong if delivery is not None and delivery.events else None
    assert isinstance(action, Answer)
    found = _tables(before, action.flying, after)
    if (
        found is None
        or not found[1].synced
        or found[1] is found[0]
        or found[1].revision < after.history.compacted
    ):
        return None
    return watch_1_table_is_a_past_state(after.history, found[1], found[2], action.flying[0])


def bookmarks_skip_nothing(before: Cluster, action: Action, after: Cluster) -> Iterable[str] | None:
    """WATCHAPI-8: if a view's revision rises without a change, no object changed."""
    assert isinstance(action, Notify)
    delivery = delivered(before, action, after)
    return delivery.wrong if delivery is not None and not delivery.events else None


def selectors_are_followed(before: Cluster, action: Action, after: Cluster) -> Iterable[str] | None:
    """WATCHAPI-5: an object that begins to match the selectors appears, one that ceases to match
    disappears."""
    assert isinstance(action, Notify)
    found = _tables(before, action.watch, after)
    if found is None or not (found[2].field_selector or found[2].label_selector):
        return None
    delivery = delivered(before, action, after)
    return delivery.wrong if delivery is not None and delivery.crossings else None


def first_lists_are_the_latest(
    before: Cluster, action: Action, after: Cluster
) -> Iterable[str] | None:
    """WATCH-4: a list with which a component starts (again) is no older than the store, so no
    component goes back in time by starting again."""
    assert isinstance(action, Arrive)
    name, life, id = action.flying
    component, flying = before.components[name], before.flying[action.flying]
    state = loop_of(component)
    if flying.request.verb != "list" or state is None or component.life != life:
        return None
    answered = after.flying.get(action.flying)
    if (
        inner_id(component.state, id) not in state.sources
        or answered is None
        or answered.answer is None
        or not answered.answer.ok
    ):
        return None
    revision = int(answered.answer.body.metadata.resource_version)
    if revision >= before.history.revision:
        return []
    return [
        f"{name} lists {flying.request.resource.prefix} as of revision {revision}, "
        f"and the store is at {before.history.revision}"
    ]


def watches_never_go_back(before: Cluster, action: Action, after: Cluster) -> Iterable[str] | None:
    """CLUSTER-2: a watch never goes back, and never beyond the revision of the store."""
    assert isinstance(action, Notify)
    old, new = before.watches[action.watch], after.watches.get(action.watch)
    if new is None:
        return None
    if old.revision <= new.revision <= max(old.revision, after.history.revision):
        return []
    return [
        f"the watch {action.watch} went from revision {old.revision} to {new.revision}, "
        f"and the store is at {after.history.revision}"
    ]


def answers_of_an_earlier_life_are_ignored(
    before: Cluster, action: Action, after: Cluster
) -> Iterable[str] | None:
    """CLUSTER-3: a component ignores what an earlier life of it requested."""
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
        else [f"{name}, instance {old.life}, received the answer to {channel}"]
    )


OF_STEPS = (
    Law("CLUSTER-3", answers_of_an_earlier_life_are_ignored, actions=(Answer, Notify, Operate)),
    Law("WATCH-1", views_follow_the_store, actions=(Notify, Answer)),
    Law("WATCH-2", no_view_goes_back),
    Law("WATCH-4", first_lists_are_the_latest, actions=(Arrive,)),
    Law("WATCHAPI-5", selectors_are_followed, actions=(Notify,)),
    Law("WATCHAPI-8", bookmarks_skip_nothing, actions=(Notify,)),
    Law("CLUSTER-2", watches_never_go_back, actions=(Notify,)),
)
OF_REST = (Law("WATCH-1", views_are_past_states),)
