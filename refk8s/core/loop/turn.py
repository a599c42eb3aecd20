"""The loop, the state machine that runs every reconciler: one step of it. Rules LOOP-1 to LOOP-10,
WATCH-1 (spec/loop.md).

A turn applies the events in order and lets time pass. It then releases the keys whose writes the
view now shows, and reconciles the due keys:

1. LOOP-1  No key is reconciled before every watched resource has been listed once.
2. LOOP-2  A change makes only the keys that it concerns due; a due key is reconciled once.
3. LOOP-3  A key with unanswered requests is not reconciled.
4. LOOP-4  A key is not reconciled before the view shows its own writes.
5. LOOP-5  Waves are sent one after another. A refused request ends the plan, and the key backs off.
6. LOOP-6  A request without a response is sent again, unchanged, until it is answered. The loop
           chooses a generated name once, so that a repeated create makes no second object.
7. LOOP-7  A retried request that is refused is followed by a GET.
10. LOOP-10 An exception about one key is reported; that key backs off, and all others continue.

Source: design proposal "Controller reference" and the client-go documentation of informers and work
queues, for the guarantees; ARCHITECTURE.md explains the problem of lost responses.
"""

from collections.abc import Callable, Iterable
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import msgspec

from refk8s.core.api.request import Request, Response, WatchEvent
from refk8s.core.context import MILLISECOND, SECOND, SUFFIX_LENGTH, Instant, format_suffix
from refk8s.core.loop import informer as informers
from refk8s.core.loop.informer import Informer
from refk8s.core.loop.plan import UNCHANGED, Key, Local, Note, Plan
from refk8s.core.loop.reconciler import Reconciler
from refk8s.core.loop.recorder import record
from refk8s.core.loop.state import Busy, Flight, Item, LoopState, Seen
from refk8s.core.loop.view import Problems, key_of
from refk8s.core.machine import (
    Answered,
    Call,
    Effect,
    Effects,
    Event,
    Problem,
    Program,
    Programmed,
    Ran,
    Run,
    RuntimeChanged,
    WakeAt,
    Watch,
    Watched,
    WatchEnded,
    Woken,
)
from refk8s.core.ports import RuleSet
from refk8s.core.value import evolve

if TYPE_CHECKING:
    from refk8s.core.loop.loop import Loop

BACKOFF_FIRST: Instant = 5 * MILLISECOND
BACKOFF_MAX: Instant = 1_000 * SECOND
RESEND_FIRST: Instant = 50 * MILLISECOND
RESEND_MAX: Instant = 10 * SECOND
GENERATED_BASE_LENGTH_MAX = 58
TIMERS_SEARCHED_MAX = 64


class Turn:
    """The draft of one step: mutable copies of the state's maps, and the effects so far."""

    def __init__(self, loop: "Loop", state: LoopState, now: Instant) -> None:
        self.loop = loop
        self.before = state
        self.now = now
        self.view = state.view
        self.informers = state.informers
        self.memories = state.memories
        self.recorder = state.recorder
        self.counter = state.counter
        self.asked = state.asked
        self.names = state.names
        self.timer_next = state.timer_next
        self.due = state.due
        self.busy = state.busy.mutate()
        self.waiting = state.waiting
        self.failures = state.failures.mutate()
        self.timers = state.timers
        self.flights = state.flights.mutate()
        self.resends = state.resends
        self.runs = state.runs.mutate()
        self.programs = state.programs.mutate()
        self.sources = state.sources.mutate()
        self.effects: list[Effect] = []

    def finish(self) -> tuple[LoopState, Effects]:
        self._let_time_pass()
        self._run_informers()
        self._release()
        self._reconcile()
        self._ask_to_be_woken()
        state = LoopState(
            self.view,
            self.informers,
            self.memories,
            self.before.seed,
            self.due,
            self.busy.finish(),
            self.waiting,
            self.failures.finish(),
            self.timers,
            self.timer_next,
            self.flights.finish(),
            self.resends,
            self.runs.finish(),
            self.programs.finish(),
            self.sources.finish(),
            self.recorder,
            self.counter,
            self.asked,
            self.names,
        )
        return state, tuple(self.effects)

    # --- events -----------------------------------------------------------------------------------

    def hear(self, event: Event) -> None:
        """Apply one event; an id without an open request (closed watch, Event) is ignored."""
        match event:
            case Watched(id, events):
                if (prefix := self.sources.get(id)) is not None:
                    self._watched(prefix, events)
            case Answered(id, response):
                if (prefix := self.sources.get(id)) is not None:
                    self._listed(prefix, id, response)
                elif id in self.flights:
                    self._answered(id, response)
            case WatchEnded(id, code):
                if (prefix := self.sources.get(id)) is not None:
                    del self.sources[id]
                    informer = self.informers[prefix]
                    self.informers = self.informers.set(
                        prefix,
                        informer.gone(self.now) if code == 410 else informer.failed(self.now),
                    )
            case Ran(id, result):
                if id in self.runs:
                    item, operation = self.runs.pop(id)
                    reconciler = self.loop.reconcilers[item[0]]
                    self._take_in(item, reconciler.ran, item[1], operation, result)
            case RuntimeChanged(pod_uids):
                for reconciler in self.loop.reconcilers.values():
                    self._take_in((reconciler.name, ""), reconciler.runtime_changed, pod_uids)
            case Programmed(id, error):
                if id in self.programs:
                    item = self.programs.pop(id)
                    self._answer_for(item, Response(500, error) if error else None)
            case Woken():
                self.asked = None

    def _watched(self, prefix: str, events: tuple[WatchEvent, ...]) -> None:
        informer = self.informers[prefix]
        changes: list[tuple[Key, Any | None]] = []
        revision = informer.revision
        for event in events:
            if event.revision < revision or (
                event.revision == revision and event.type == "BOOKMARK"
            ):
                continue  # WATCH-5: a change that the view has is not applied again
            revision = event.revision
            if event.type != "BOOKMARK":
                changes.append(
                    (key_of(event.object), None if event.type == "DELETED" else event.object)
                )
        self.informers = self.informers.set(prefix, informer.heard(revision))
        self._see(informer, changes, revision)

    def _listed(self, prefix: str, id: int, response: Response | None) -> None:
        del self.sources[id]
        informer = self.informers[prefix]
        if response is None or not response.ok:
            self.informers = self.informers.set(prefix, informer.failed(self.now))
            return
        revision = int(response.body.metadata.resource_version)
        listed = {key_of(obj): obj for obj in response.body.items}
        changes: list[tuple[Key, Any | None]] = [
            (key, None) for key in self.view.keys(informer.resource) if key not in listed
        ]
        known = self.view.table(informer.resource).objects
        changes += [
            (key, obj)
            for key, obj in listed.items()
            if key not in known or known[key].metadata != obj.metadata
        ]
        self.informers = self.informers.set(prefix, self._watch(informer, revision))
        self._see(informer, changes, revision)

    def _watch(self, informer: Informer, revision: int) -> Informer:
        id = self._next_id()
        informer = informer.watching(revision)
        self.sources[id] = informer.resource.prefix
        self.effects.append(Watch(id, informer.watch_request(self.loop.user)))
        return informer

    def _see(
        self, informer: Informer, changes: Iterable[tuple[Key, Any | None]], revision: int
    ) -> None:
        resource = informer.resource
        problems: Problems = []
        self.view, changed = self.loop.viewer.apply(
            self.view, resource, changes, revision, problems=problems
        )
        for key, error in problems:
            self._report((self.loop.name, key), error)
        for name, keys in self.loop.listeners[resource.prefix]:  # LOOP-2
            for own, old, new in changed:
                try:
                    concerned = tuple(keys(self.view, old, new))
                except Exception as error:  # LOOP-10
                    self._report((name, own), error)
                    continue
                for key in concerned:
                    self.make_due((name, key))

    def make_due(self, item: Item) -> None:
        busy = self.busy.get(item)
        if busy is not None:
            if not busy.due:
                self.busy[item] = evolve(busy, due=True)
        elif item not in self.due:
            self.due = self.due.set(item, self._next_id())

    # --- answers ----------------------------------------------------------------------------------

    def _answered(self, id: int, response: Response | None) -> None:
        flight = self.flights.pop(id)
        if flight.ask:
            reconciler = self.loop.reconcilers[flight.item[0]]
            self._take_in(
                flight.item, reconciler.answered, flight.item[1], flight.request, response
            )
            return
        if response is not None and response.code >= 500 and (flight.doubtful or flight.lookup):
            response = None  # A 5xx response does not show whether an earlier attempt took effect.
        if response is None or response.code == 503:  # LOOP-6: unknown, so send it again
            delay = min(RESEND_FIRST << min(flight.tries, 20), RESEND_MAX)
            again = evolve(flight, tries=flight.tries + 1, doubtful=True, due=self.now + delay)
            self.resends = self.resends.set(self._next_id(), again)
            return
        if flight.lookup:
            self._answer_for(
                flight.item, None, self._reached(flight.request, response) if response.ok else ()
            )
        elif response.ok or (flight.request.verb == "delete" and response.code == 404):
            if flight.request.note is not None and response.ok:
                self._note_done(flight)
            self._answer_for(
                flight.item, None, self._reached(flight.request, response), flight.seen
            )
        elif flight.doubtful or _is_made_already(flight.request, response):  # LOOP-7
            self._send(
                Flight(
                    flight.item,
                    evolve(flight.request, verb="get", subresource="", body=None),
                    lookup=True,
                )
            )
        else:
            self._answer_for(flight.item, response)

    def _reached(self, request: Request, response: Response) -> tuple[tuple[str, int], ...]:
        metadata = getattr(response.body, "metadata", None)
        version = getattr(metadata, "resource_version", None)
        if request.verb == "delete" or not version or request.resource.prefix not in self.informers:
            return ()
        return ((request.resource.prefix, int(version)),)

    def _seen(self, request: Request) -> tuple[Seen, ...]:
        if request.verb != "delete" or request.resource.prefix not in self.informers:
            return ()
        key = request.key
        known = self.view.get(request.resource, key)
        return (
            ((request.resource.prefix, key, known.metadata.uid, known.metadata.resource_version),)
            if known is not None
            else ()
        )

    def _answer_for(
        self,
        item: Item,
        failure: Response | None,
        reached: Iterable[tuple[str, int]] = (),
        gone: tuple[Seen, ...] = (),
    ) -> None:
        """A request of the key (or its rules) is answered: send the next wave, or end the plan."""
        busy = self.busy[item]
        waits = busy.reached
        for prefix, revision in reached:
            if revision > waits.get(prefix, 0):
                waits = waits.set(prefix, revision)
        busy = evolve(
            busy,
            outstanding=busy.outstanding - 1,
            failure=busy.failure or failure,
            reached=waits,
            gone=busy.gone + gone,
        )
        if busy.outstanding == 0:
            if busy.failure is not None:
                busy = evolve(busy, waves=())  # LOOP-5
            if busy.waves:
                wave, busy = (
                    busy.waves[0],
                    evolve(busy, waves=busy.waves[1:], outstanding=len(busy.waves[0])),
                )
            else:
                wave, busy = busy.last, evolve(busy, last=(), outstanding=len(busy.last))
            for request in wave:
                self._send(Flight(item, request))
        if busy.outstanding == 0 and busy.failure is None:
            busy = evolve(busy, due=True)  # LOOP-9
        self.busy[item] = busy
        if busy.outstanding == 0:
            self.waiting = self.waiting.set(item, None)
            self._conclude(item, busy.failure)

    def _conclude(self, item: Item, failure: Response | None, failed: bool = False) -> None:
        if failure is None and not failed:
            self.failures.pop(item, None)
            return
        count, _ = self.failures.get(item, (0, None))
        self.failures[item] = (count + 1, failure)
        self._set_timer(item, self.now + min(BACKOFF_FIRST << min(count, 30), BACKOFF_MAX))

    def _send(self, flight: Flight) -> None:
        id = self._next_id()
        if flight.request.verb == "delete" and not flight.seen:
            flight = evolve(flight, seen=self._seen(flight.request))
        self.flights[id] = flight
        self.effects.append(Call(id, flight.request))

    # --- time -------------------------------------------------------------------------------------

    def _let_time_pass(self) -> None:
        if self.timer_next is not None and self.timer_next <= self.now:
            rest: Instant | None = None
            ripe: list[tuple[Instant, Item]] = []
            for item, at in self.timers.items():
                if at <= self.now:
                    ripe.append((at, item))
                elif rest is None or at < rest:
                    rest = at
            for _, item in sorted(ripe):
                self.timers = self.timers.delete(item)
                self.make_due(item)
            self.timer_next = rest
        if len(self.resends):
            for id, flight in sorted(self.resends.items()):
                if flight.due <= self.now:
                    self.resends = self.resends.delete(id)
                    self._send(flight)

    def _set_timer(self, item: Item, at: Instant | None) -> None:
        old = self.timers.get(item)
        if old == at:
            return
        self.timers = self.timers.delete(item) if at is None else self.timers.set(item, at)
        if at is not None and (self.timer_next is None or at <= self.timer_next):
            self.timer_next = at
        elif old is not None and old == self.timer_next and len(self.timers) <= TIMERS_SEARCHED_MAX:
            # The earliest timer was the one that is gone: a wake for it would cost a step. With
            # many timers, a wake costs less than the search.
            self.timer_next = min(self.timers.values(), default=None)

    def _ask_to_be_woken(self) -> None:
        at = self.timer_next
        for flight in self.resends.values():
            at = flight.due if at is None else min(at, flight.due)
        for informer in self.informers.values():
            if informer.phase == informers.RESTING:
                at = informer.due if at is None else min(at, informer.due)
        if at != self.asked:
            self.asked = at
            self.effects.append(WakeAt(at))

    def _run_informers(self) -> None:
        for prefix in self.loop.sources:
            informer = self.informers[prefix]
            if informer.phase != informers.RESTING or informer.due > self.now:
                continue
            if informer.revision:
                informer = self._watch(informer, informer.revision)
            else:
                id = self._next_id()
                self.sources[id] = prefix
                self.effects.append(Call(id, informer.list_request(self.loop.user)))
                informer = informer.listing()
            self.informers = self.informers.set(prefix, informer)

    # --- reconciling ------------------------------------------------------------------------------

    def _release(self) -> None:
        """LOOP-4: make the resting keys due whose own writes the view now shows."""
        for item in sorted(self.waiting):
            busy = self.busy[item]
            if all(
                self.view.tables[prefix].revision >= revision
                for prefix, revision in busy.reached.items()
            ) and all(self._is_gone(*gone) for gone in busy.gone):
                self.waiting = self.waiting.delete(item)
                del self.busy[item]
                if busy.due:
                    self.make_due(item)

    def _is_gone(self, prefix: str, key: Key, uid: str, version: str) -> bool:
        """Whether the view shows the deletion, and not only an earlier change of the object."""
        obj = self.view.tables[prefix].objects.get(key)
        if obj is None or obj.metadata.uid != uid:
            return True
        return (
            obj.metadata.deletion_timestamp is not None and obj.metadata.resource_version != version
        )

    def _reconcile(self) -> None:
        # LOOP-1
        if not len(self.due) or not all(table.synced for table in self.view.tables.values()):
            return
        while len(self.due):  # A plan may make other keys due at once (Plan.enqueue).
            for item, _ in sorted(self.due.items(), key=_order):
                if item in self.due:  # otherwise an earlier reconcile of this turn has removed it
                    self.due = self.due.delete(item)
                    self._decide(item)

    def _decide(self, item: Item) -> None:
        name, key = item
        reconciler = self.loop.reconcilers[name]
        failures, failure = self.failures.get(item, (0, None))
        try:
            plan = reconciler.reconcile(
                self.view, key, self.now, Local(self._memory(reconciler), failures, failure)
            )
            waves, last = plan.waves, plan.last
            if waves or last:  # most plans have no requests
                waves = tuple([self._named_all(wave, name) for wave in waves if wave])
                last = self._named_all(last, name)
        except Exception as error:  # LOOP-10
            self._report(item, error)
            self._conclude(item, failure, failed=True)
            return
        if plan.memory is not UNCHANGED:
            self.memories = self.memories.set(self.loop.memory_names[name], plan.memory)
        self._set_timer(item, plan.wake_at)
        self._start_plan(item, plan, waves, last)
        for request in plan.asks:
            self._send(Flight(item, evolve(request, user=self.loop.users[name]), ask=True))
        for operation in plan.runs:
            id = self._next_id()
            self.runs[id] = (item, operation)
            self.effects.append(Run(id, operation))
        for problem in plan.problems:
            self._report(item, problem)
        for note in plan.notes:
            self._note(note, name)
        for other in plan.enqueue:
            self.make_due(other)

    def _start_plan(
        self,
        item: Item,
        plan: Plan,
        waves: tuple[tuple[Request, ...], ...],
        last: tuple[Request, ...],
    ) -> None:
        if not waves:
            waves, last = ((last,), ()) if last else ((), ())
        first = waves[0] if waves else ()
        if first or plan.rules is not None:
            outstanding = len(first) + (plan.rules is not None)
            self.busy[item] = Busy(waves[1:], last, outstanding)
            for request in first:
                self._send(Flight(item, request))
            if plan.rules is not None:
                self._program(item, plan.rules)
        else:
            self._conclude(item, None, plan.failed)

    def _program(self, item: Item, rules: RuleSet) -> None:
        id = self._next_id()
        self.programs[id] = item
        self.effects.append(Program(id, rules))

    def _named_all(self, requests: tuple[Request, ...], reconciler: str) -> tuple[Request, ...]:
        return tuple([self._named(request, reconciler) for request in requests])

    def _named(self, request: Request, reconciler: str) -> Request:
        """The request as it is sent: with the user of its component, and a generated name (LOOP-6).

        The loop chooses the name that the API server would generate from generateName.
        """
        user = self.loop.users[reconciler]
        if request.verb == "create" and not request.subresource:
            metadata = request.body.metadata
            if metadata.generate_name and not metadata.name:
                name = metadata.generate_name[:GENERATED_BASE_LENGTH_MAX] + self._new_name()
                body = msgspec.structs.replace(
                    request.body, metadata=msgspec.structs.replace(metadata, name=name)
                )
                return evolve(request, body=body, user=user, name=name)
            return evolve(request, user=user, name=metadata.name or "")
        return evolve(request, user=user)

    def _note(self, note: Note, reconciler: str) -> None:
        user = self.loop.users[reconciler]
        component = self.loop.reconcilers[reconciler].component or self.loop.component
        self.recorder, request = record(
            self.recorder,
            note,
            component,
            self.loop.host,
            user,
            self._unique() + self._unique(),
            self.now,
        )
        if request is not None:
            self.effects.append(Call(self._next_id(), request, background=True))

    def _note_done(self, flight: Flight) -> None:
        """EVENT-3: the request of a note has succeeded, so its Event may be recorded."""
        note: Note = flight.request.note
        self._note(
            evolve(note, message=note.message.replace("{name}", flight.request.name)),
            flight.item[0],
        )

    # --- helpers ----------------------------------------------------------------------------------

    def _memory(self, reconciler: Reconciler) -> Any:
        return self.memories[self.loop.memory_names[reconciler.name]]

    def _take_in(
        self, item: Item, how: Callable[..., tuple[Any, Iterable[Key]]], *what: Any
    ) -> None:
        """Pass a result to the reconciler; if it raises, nothing changes (LOOP-10)."""
        reconciler = self.loop.reconcilers[item[0]]
        try:
            memory, keys = how(self._memory(reconciler), *what, self.now)
            keys = tuple(keys)
        except Exception as error:
            self._report(item, error)
            self._conclude(item, None, failed=True)
            return
        self.memories = self.memories.set(self.loop.memory_names[reconciler.name], memory)
        for key in keys:
            self.make_due((reconciler.name, key))

    def _report(self, item: Item, error: Exception) -> None:
        self.effects.append(Problem(*item, error))

    def _next_id(self) -> int:
        self.counter += 1
        return self.counter

    def _new_name(self) -> str:
        """The suffix for generateName, from a counter of its own (CLUSTER-12)."""
        self.names += 1
        return format_suffix(
            blake2b(
                self.before.seed + b"name" + self.names.to_bytes(8, "big"),
                digest_size=SUFFIX_LENGTH,
            ).digest()
        )

    def _unique(self) -> str:
        return format_suffix(
            blake2b(
                self.before.seed + self._next_id().to_bytes(8, "big"), digest_size=SUFFIX_LENGTH
            ).digest()
        )


def _is_made_already(request: Request, response: Response) -> bool:
    """Whether an earlier arrival (a duplicate) of this create made the object of this name."""
    return (
        response.code == 409
        and request.verb == "create"
        and not request.subresource
        and bool(request.body.metadata.generate_name)
    )


def _order(entry: tuple[Item, int]) -> int:
    return entry[1]
