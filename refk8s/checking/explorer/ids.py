"""A loop's ids, renumbered in an order that does not depend on the order of its requests. Rule
EXPLORE-3 (spec/explorer.md)."""

from typing import Any

from immutables import Map

from refk8s.core.api.request import Request
from refk8s.core.loop.elector import ElectorState, outer_id
from refk8s.core.loop.recorder import Recorder
from refk8s.core.loop.state import LoopState
from refk8s.core.value import evolve


def live_ids(state: Any) -> dict[int, tuple[Any, ...]]:
    """The requests, watches and operations for which a loop waits: id -> description, which does
    not depend on the order of the requests."""
    if isinstance(state, ElectorState):
        return _live_ids_of_elector(state)
    if not isinstance(state, LoopState):
        return {}
    found: dict[int, tuple[Any, ...]] = {}
    for id, flight in state.flights.items():
        found[id] = (0, *target_of(flight.request), flight.item, flight.tries)
    for id, prefix in state.sources.items():
        found[id] = (1, prefix)
    for id, (item, operation) in state.runs.items():
        found[id] = (2, item, type(operation).__name__, repr(operation))
    for id, flight in state.resends.items():
        found[id] = (3, *target_of(flight.request), flight.item, flight.due)
    for id in state.programs:
        found[id] = (4,)
    for _, id in state.due.items():
        found[id] = (5,)
    return found


def _live_ids_of_elector(state: ElectorState) -> dict[int, tuple[Any, ...]]:
    """Its own request, and the requests and watches of the loop inside."""
    found: dict[int, tuple[Any, ...]] = {}
    if state.sent is not None:
        found[state.sent.id] = (6, state.sent.purpose, state.sent.at)
    if state.leading is not None:
        for id, about in live_ids(state.leading.state).items():
            found[outer_id(state.leading.base, id)] = about
    return found


def target_of(request: Request) -> tuple[str, ...]:
    """The verb, and the object or resource, of a request."""
    return (
        request.verb,
        request.resource.prefix,
        request.namespace,
        request.name,
        request.subresource,
    )


def canonical(state: Any) -> tuple[Any, dict[int, int]]:
    """A loop's state with its ids renumbered in the order of their descriptions, and old id -> new
    id (EXPLORE-3).

    Ids are only compared for equality, but those of due keys and of equal requests keep their
    order.
    """
    if isinstance(state, ElectorState):
        return _canonical_elector(state)
    if not isinstance(state, LoopState):
        return state, _SAME_IDS
    about = live_ids(state)
    order = sorted(about, key=lambda id: (about[id], id))
    ids = {old: new for new, old in enumerate(order, 1)}
    return (
        evolve(
            state,
            flights=_renamed(state.flights, ids),
            sources=_renamed(state.sources, ids),
            runs=_renamed(state.runs, ids),
            resends=_renamed(state.resends, ids),
            programs=_renamed(state.programs, ids),
            due=Map({item: ids[id] for item, id in state.due.items()})
            if len(state.due)
            else state.due,
            counter=len(ids),
            recorder=_NO_RECORDER,
        ),
        ids,
    )


def _canonical_elector(state: ElectorState) -> tuple[ElectorState, dict[int, int]]:
    """An elector's state with the ids of the loop inside renumbered."""
    ids = {state.sent.id: state.sent.id} if state.sent is not None else {}
    leading = state.leading
    if leading is not None:
        inner, renamed = canonical(leading.state)
        ids |= {outer_id(leading.base, old): outer_id(0, new) for old, new in renamed.items()}
        watches = Map({ids[id]: None for id in leading.watches if id in ids})
        leading = evolve(leading, state=inner, base=0, watches=watches)
    unanswered = Map({ids[id]: None for id in state.unanswered if id in ids})
    top = 1 + max((new // 2 for new in ids.values() if new % 2), default=-1)
    return (
        evolve(state, leading=leading, unanswered=unanswered, base=top, recorder=_NO_RECORDER),
        ids,
    )


class _SameIds(dict[int, int]):
    """The ids of a machine that is not a loop are not renumbered: how it uses them is unknown."""

    def __missing__(self, id: int) -> int:
        return id

    def __contains__(self, id: object) -> bool:
        return True

    def get(self, id: int, default: Any = None) -> int:
        return id


_SAME_IDS = _SameIds()
_NO_RECORDER = Recorder()


def _renamed(entries: "Map[int, Any]", ids: dict[int, int]) -> "Map[int, Any]":
    if all(ids[id] == id for id in entries):
        return entries  # the same object, so that the interner reads it once
    return Map({ids[id]: value for id, value in entries.items()})
