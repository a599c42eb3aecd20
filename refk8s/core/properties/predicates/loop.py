"""Predicates of when a key may be reconciled. Rules LOOP-1, LOOP-3, LOOP-4 (spec/loop.md).

`decision` begins each sentence: the reconciler and the key.
"""

from refk8s.core.loop.plan import Key
from refk8s.core.loop.state import Busy, LoopState
from refk8s.core.loop.view import View


def loop_1_every_resource_is_listed(decision: str, view: View, state: LoopState) -> list[str]:
    """LOOP-1. A resource that is needed only with another one (LOOP-14) is listed when an object of
    that one is in view."""
    needless = {
        prefix
        for prefix, informer in state.informers.items()
        if informer.while_any is not None
        and not informer.revision
        and not view.count(informer.while_any)
    }
    unknown = [
        prefix
        for prefix, table in sorted(view.tables.items())
        if not table.synced and prefix not in needless
    ]
    return [f"{decision}, and has never listed {prefix}" for prefix in unknown]


def loop_3_every_request_is_answered(
    decision: str, past: LoopState, state: LoopState, item: tuple[str, Key]
) -> list[str]:
    """LOOP-3: no request of an earlier decision about the item is unanswered in `state`."""
    waiting = [flight for id, flight in sorted(state.flights.items()) if id <= past.counter] + [
        f for _, f in sorted(state.resends.items())
    ]
    unanswered = [flight.request for flight in waiting if flight.item == item and not flight.query]
    return [
        f"{decision}, and has no answer yet to its {request.verb} of {request.key}"
        for request in unanswered
    ]


def loop_4_the_view_shows_own_writes(decision: str, view: View, busy: Busy) -> list[str]:
    """LOOP-4: the view shows every write of the last decision about the key."""
    found = [
        f"{decision} on the view of {prefix} at {view.tables[prefix].revision}, and wrote at {at}"
        for prefix, at in sorted(busy.reached.items())
        if view.tables[prefix].revision < at
    ]
    for prefix, key, uid, version in busy.gone:
        there = view.tables[prefix].objects.get(key)
        if there is not None and (there.metadata.uid, there.metadata.resource_version) == (
            uid,
            version,
        ):
            found.append(
                f"{decision} on the view of {prefix} that shows {key} as it was before its deletion"
            )
    return found
