"""The draft of one step of a loop: mutable copies of the state's maps, and the effects so far.

The functions that use it are in turn.py, watching.py and requests.py. Rules LOOP-2, LOOP-5,
LOOP-10 (spec/loop.md).
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from immutables import Map
from msgspec.structs import replace

from refk8s.core.api.request import Response
from refk8s.core.context import MILLISECOND, SECOND, SUFFIX_LENGTH, Instant, format_suffix
from refk8s.core.loop.plan import Key, Note
from refk8s.core.loop.recorder import record
from refk8s.core.loop.state import Item, LoopState
from refk8s.core.machine import Call, Effect, Problem

if TYPE_CHECKING:
    from refk8s.core.loop.loop import Loop

BACKOFF_FIRST: Instant = 5 * MILLISECOND
BACKOFF_MAX: Instant = 1_000 * SECOND
TIMERS_SEARCHED_MAX = 64
_NONE_DUE: Map[Item, int] = Map()


def _number(entry: tuple[Item, int]) -> int:
    return entry[1]


class Draft:
    """The state of a loop during one step."""

    def __init__(self, loop: "Loop", state: LoopState, now: Instant) -> None:
        self.loop = loop
        self.before = state
        self.now = now
        self.view = state.view
        self.informers = state.informers
        self.memories: dict[str, Any] = {}  # those that have changed in this step
        self.recorder = state.recorder
        self.counter = state.counter
        self.asked = state.asked
        self.names = state.names
        self.is_watching = state.is_watching
        self.timer_next = state.timer_next
        # in the order of their arrival, which is the order of their numbers
        self.due = (
            OrderedDict(sorted(state.due.items(), key=_number)) if state.due else OrderedDict()
        )
        self.busy = state.busy.mutate()
        self.waiting = state.waiting
        self.failures = state.failures
        self.timers = state.timers
        self.flights = state.flights.mutate()
        self.resends = state.resends
        self.runs = state.runs.mutate()
        self.programs = state.programs
        self.sources = state.sources
        self.effects: list[Effect] = []

    def to_state(self) -> LoopState:
        """The state after the step."""
        return LoopState(
            self.view,
            self.informers,
            self.before.memories.update(self.memories) if self.memories else self.before.memories,
            self.before.seed,
            Map(self.due) if self.due else _NONE_DUE,
            self.busy.finish(),
            self.waiting,
            self.failures,
            self.timers,
            self.timer_next,
            self.flights.finish(),
            self.resends,
            self.runs.finish(),
            self.programs,
            self.sources,
            self.recorder,
            self.counter,
            self.asked,
            self.names,
            self.is_watching,
            self.before.suffix,
        )

    # --- keys ---------------------------------------------------------------------------------

    def make_due(self, item: Item) -> None:
        """Reconcile the key in this step, or after its release if it rests (LOOP-2)."""
        busy = self.busy.get(item)
        if busy is not None:
            if not busy.due:
                self.busy[item] = replace(busy, due=True)
        elif item not in self.due:
            self.counter += 1
            self.due[item] = self.counter

    def set_timer(self, item: Item, at: Instant | None) -> None:
        """Replace the timer of a key; None: it has none."""
        old = self.timers.get(item)
        if old == at:
            return
        self.timers = self.timers.delete(item) if at is None else self.timers.set(item, at)
        if at is not None and (self.timer_next is None or at <= self.timer_next):
            self.timer_next = at
        elif old is not None and old == self.timer_next and len(self.timers) <= TIMERS_SEARCHED_MAX:
            # The removed timer was the earliest one: a wake for it would cost a step. With many
            # timers, a wake costs less than the search.
            self.timer_next = min(self.timers.values(), default=None)

    def wake_at(self, item: Item, at: Instant) -> None:
        """Reconcile the key at this instant, or earlier if its timer is."""
        old = self.timers.get(item)
        if old is None or at < old:
            self.set_timer(item, at)

    def end_plan(self, item: Item, failure: Response | None, failed: bool = False) -> None:
        """A plan has ended: after a failure the key is reconciled again after a back-off
        (LOOP-5)."""
        if failure is None and not failed:
            if item in self.failures:
                self.failures = self.failures.delete(item)
            return
        count, _ = self.failures.get(item, (0, None))
        self.failures = self.failures.set(item, (count + 1, failure))
        self.set_timer(item, self.now + min(BACKOFF_FIRST << min(count, 30), BACKOFF_MAX))

    # --- reconcilers --------------------------------------------------------------------------

    def memory_of(self, name: str) -> Any:
        """The memory of this name (Reconciler.memory_name)."""
        return self.memories[name] if name in self.memories else self.before.memories[name]

    def pass_result(
        self, item: Item, handler: Callable[..., tuple[Any, Iterable[Key]]], *result: Any
    ) -> None:
        """Pass a result to the reconciler; if it raises, nothing changes (LOOP-10)."""
        reconciler = item[0]
        name = self.loop.memory_names[reconciler]
        try:
            memory, keys = handler(self.memory_of(name), *result, self.now)
            keys = tuple(keys)
        except Exception as error:
            self.report(item, error)
            self.end_plan(item, None, failed=True)
            return
        self.memories[name] = memory
        for key in keys:
            self.make_due((reconciler, key))

    def report(self, item: Item, error: Exception) -> None:
        """Report an exception about a key (LOOP-10)."""
        self.effects.append(Problem(*item, error))

    def record(self, note: Note, reconciler: str) -> None:
        """Record an Event of a reconciler (EVENT-1). Its name ends with the letters of this
        instance and a number (EVENT-5)."""
        user = self.loop.users[reconciler]
        component = (
            note.component or self.loop.reconcilers[reconciler].component or self.loop.component
        )
        self.counter += 1
        unique = f"{self.before.suffix}{self.counter:05x}"
        self.recorder, request = record(
            self.recorder,
            note,
            component,
            self.loop.host,
            user,
            unique,
            self.now,
        )
        if request is not None:
            self.counter += 1
            self.effects.append(Call(self.counter, request, background=True))

    # --- ids and names ------------------------------------------------------------------------

    def next_id(self) -> int:
        """A new id for a request, watch or operation, larger than all before."""
        self.counter += 1
        return self.counter

    def new_name(self) -> str:
        """The suffix for generateName, from a counter of its own (CLUSTER-12)."""
        self.names += 1
        return format_suffix(
            blake2b(
                self.before.seed + b"name" + self.names.to_bytes(8, "big"),
                digest_size=SUFFIX_LENGTH,
            ).digest()
        )
