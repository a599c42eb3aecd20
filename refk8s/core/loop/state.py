"""The state of a loop: due keys, resting keys, requests in transit. Values; a crash discards all of
them (LOOP-8, spec/loop.md).
"""

from typing import Any

from immutables import Map

from refk8s.core.api.request import Request, Response
from refk8s.core.context import Instant
from refk8s.core.loop.informer import Informer
from refk8s.core.loop.plan import Key
from refk8s.core.loop.recorder import Recorder
from refk8s.core.loop.view import View
from refk8s.core.ports import Operation
from refk8s.core.value import Value, field

Item = tuple[str, Key]  # (reconciler, key)
# an object as the view showed it: (resource prefix, key, uid, resourceVersion)
Seen = tuple[str, Key, str, str]


class Busy(Value, frozen=True, eq=False):
    """A key between its plan and the moment when the view shows the result."""

    waves: tuple[tuple[Request, ...], ...] = ()
    last: tuple[Request, ...] = ()
    outstanding: int = 0
    failure: Response | None = None
    reached: Map[str, int] = field(default_factory=Map)  # resource prefix -> revision to reach
    gone: tuple[Seen, ...] = ()  # deleted objects: the view must show it
    due: bool = False  # reconcile again after the release


class Flight(Value, frozen=True, eq=False):
    """One request of a key, in transit.

    `is_retry`: an earlier attempt had no response. `lookup`: the list that shows the outcome of
    such a request. `query`: the reconciler itself handles the response.
    """

    item: Item
    request: Request
    tries: int = 0
    is_retry: bool = False
    lookup: bool = False
    query: bool = False
    due: Instant = 0  # when to send again, if waiting
    seen: tuple[Seen, ...] = ()  # the object of a delete, as seen when it was sent


class LoopState(Value, frozen=True, eq=False):
    """The whole state of a loop; a crash discards all of it."""

    view: View
    informers: Map[str, Informer]
    memories: Map[str, Any]
    seed: bytes
    due: Map[Item, int] = field(default_factory=Map)  # item -> order of arrival
    busy: Map[Item, Busy] = field(default_factory=Map)
    waiting: Map[Item, None] = field(default_factory=Map)  # resting, all requests answered
    failures: Map[Item, tuple[int, Response | None]] = field(default_factory=Map)
    timers: Map[Item, Instant] = field(default_factory=Map)
    timer_next: Instant | None = None  # at or before the earliest timer
    flights: Map[int, Flight] = field(default_factory=Map)
    resends: Map[int, Flight] = field(default_factory=Map)
    runs: Map[int, tuple[Item, Operation]] = field(default_factory=Map)
    programs: Map[int, Item] = field(default_factory=Map)
    # id of a list call or watch -> resource prefix
    sources: Map[int, str] = field(default_factory=Map)
    recorder: Recorder = field(default_factory=Recorder)
    counter: int = 0
    asked: Instant | None = None  # the instant of the last WakeAt
    names: int = 0  # how many names have been generated
    # every informer watches and has listed: until one ends, no step has to look at them
    is_watching: bool = False
    suffix: str = ""  # of the names of this instance's Events (EVENT-5)

    @property
    def synced(self) -> bool:
        return is_synced(self.informers, self.view)


def is_synced(informers: Map[str, Informer], view: View) -> bool:
    """Whether every resource has been listed, except those not needed so far (LOOP-1, LOOP-14)."""
    return all(
        view.tables[prefix].synced or informer.is_dormant(view)
        for prefix, informer in informers.items()
    )
