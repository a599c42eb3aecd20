"""The parts of a cluster as numbers, and the effect of every move on them. Rules EXPLORE-2,
EXPLORE-3 (spec/explorer.md).

The reference is `step` of refk8s/core/cluster/step.py. Here each state of a machine, request,
answer, stream and operation has a number, and so has each bundle (bundle.py). The machines and the
API server are the real ones, and the messages to machines come from
refk8s/core/cluster/messages.py. All of them are pure functions, so each result is computed once for
the same numbers.

    handle_event  bundle, event                 -> bundle         Machine.step, renumber the ids
    decide        store, request                -> store, answer  handle and commit
    notify        bundle, watch, its resource   -> bundle         deliver, then handle_event
"""

from collections.abc import Callable, Mapping
from typing import Any

from immutables import Map

from refk8s.checking.explorer.bundle import (
    READS,
    Bundle,
    BundleStep,
    Flight,
    Job,
    Open,
    Turn,
)
from refk8s.checking.explorer.ids import canonical
from refk8s.checking.explorer.interning import Interner
from refk8s.checking.explorer.store import Reader, StoreState, StoreStates
from refk8s.core.api.request import Request, Response
from refk8s.core.apiserver.outcome import Stream
from refk8s.core.cluster.messages import COMPACTED, deliver, no_answer, open_cursor, refusal
from refk8s.core.cluster.state import Component, Cursor, start_seed
from refk8s.core.context import Instant, SeededChance
from refk8s.core.loop.elector import inner_state
from refk8s.core.loop.state import LoopState
from refk8s.core.machine import (
    Answered,
    AnyMachine,
    Effects,
    Event,
    Impossible,
    Ran,
    RuntimeChanged,
    Watched,
    WatchEnded,
    Woken,
)
from refk8s.core.ports import Later
from refk8s.core.properties.law import Decision, decisions
from refk8s.core.store import Committed
from refk8s.core.value import evolve


class Parts:
    """The parts of one exploration, by number."""

    def __init__(
        self,
        machines: Mapping[str, AnyMachine],
        worlds: Mapping[str, Any],
        seed: bytes,
        one_revision: bool = False,
    ) -> None:
        self.seed = seed
        self.names = sorted(machines)
        self.machines = [machines[name] for name in self.names]
        self.first_worlds = worlds
        self.interner = Interner()
        self.values: dict[int, Any] = {}
        self.store_states = StoreStates(self.interner, seed, one_revision)
        self.stores: list[StoreState] = []
        self._store_numbers: dict[StoreState, int] = {}
        self.bundles: list[Bundle] = []
        self._bundle_numbers: dict[Any, int] = {}
        self._turns: dict[Any, Turn] = {}
        self._decided: dict[Any, Any] = {}
        self._chunks: dict[Any, Any] = {}
        self._compacted: dict[int, int] = {}
        self._needed_revisions: list[tuple[tuple[int, int], ...]] = []
        self.needed_numbers: list[int] = []
        self.misses = 0
        self.made: tuple[Decision, ...] = ()  # decisions of all machines since it was emptied
        self.ids: dict[int, int] | None = None  # old id -> new id, in the last step of a machine
        self.judge: Callable[[int, int, Request, Response, Committed[Any] | None], Any] = (
            lambda *given: None
        )

    # --- numbers ----------------------------------------------------------------------------------

    def keep(self, value: Any) -> int:
        """The number of a value; `values` has the value by number."""
        number = self.interner.number(value)
        self.values.setdefault(number, value)
        return number

    def position_of(self, number: int) -> int:
        """The position in a StoreState of the resource of a request or stream."""
        return self.store_states.position(self.values[number].resource.prefix)

    def keep_store(self, store: StoreState) -> int:
        while store and store[-1] == 0:
            store = store[:-1]
        number = self._store_numbers.get(store)
        if number is None:
            number = self._store_numbers[store] = len(self.stores)
            self.stores.append(store)
        return number

    def keep_bundle(self, bundle: Bundle) -> int:
        key = bundle.key
        number = self._bundle_numbers.get(key)
        if number is None:
            number = self._bundle_numbers[key] = len(self.bundles)
            self.bundles.append(bundle)
            needed = self._needed_revisions_of(bundle)
            self._needed_revisions.append(needed)
            self.needed_numbers.append(self.interner.number(needed))
        return number

    def needed_revisions(self, number: int) -> tuple[tuple[int, int], ...]:
        return self._needed_revisions[number]

    def _needed_revisions_of(self, bundle: Bundle) -> tuple[tuple[int, int], ...]:
        """For each resource, the revision after which this machine may still request changes."""
        found: dict[int, int] = {}

        def note(prefix: str, revision: int) -> None:
            position = self.store_states.position(prefix)
            found[position] = min(revision, found.get(position, revision))

        state = inner_state(self.values.get(bundle.state))
        if isinstance(state, LoopState):
            for prefix, informer in state.informers.items():
                # a machine that lists again still compares the list with its view
                if revision := informer.revision or state.view.tables[prefix].revision:
                    note(prefix, revision)
        for _, stream, revision, _ in bundle.watches:
            note(self.values[stream].resource.prefix, revision)
        for _, is_watch, request, answer in bundle.flying:
            asked = self.values[request]
            if is_watch:
                note(asked.resource.prefix, int(asked.options.resource_version or 0))
            elif asked.verb == "list" and answer >= 0 and self.values[answer].ok:
                note(asked.resource.prefix, int(self.values[answer].body.metadata.resource_version))
        return tuple(sorted(found.items()))

    # --- machines ---------------------------------------------------------------------------------

    def start(self, machine: int, life: int, now: Instant, left: Bundle | None = None) -> int:
        """A new instance of the machine, with an empty state. Writes of the last one that are in
        transit still arrive, and their answers are dropped (CLUSTER-3)."""
        name = self.names[machine]
        seed = start_seed(self.seed, name, life)
        state, effects = self.machines[machine].start(now, seed)
        if left is None:
            world = self.first_worlds.get(name)
            bundle = Bundle(machine, -1, life, world=-1 if world is None else self.keep(world))
        else:
            sent = [
                request
                for _, is_watch, request, answer in left.flying
                if answer < 0 and self._is_write(request)
            ]
            jobs = tuple(sorted([(0, *job[1:]) for job in left.jobs]))
            bundle = evolve(left, state=-1, life=life, wake_at=None, flying=(), watches=(), jobs=jobs,
                            abandoned=tuple(sorted((*left.abandoned, *sent))))  # fmt: skip
        return self.keep_bundle(self._apply(bundle, self._turn(machine, state, effects, now)))

    def handle_event(
        self, bundle: Bundle, event: Event, key: tuple[Any, ...], now: Instant
    ) -> Bundle:
        """The bundle after its machine has handled the event. `key`: the event in numbers."""
        memo = (bundle.state, key, now)
        turn = self._turns.get(memo)
        if turn is None:
            self.misses += 1
            machine = self.machines[bundle.machine]
            state, effects = machine.step(self.values[bundle.state], (event,), now)
            past = self.values[bundle.state]
            made = (
                _decisions(self.names[bundle.machine], past, state, bundle.life) if effects else ()
            )
            turn = self._turns[memo] = evolve(
                self._turn(bundle.machine, state, effects, now), decisions=made
            )
        self.made += turn.decisions
        self.ids = turn.ids
        return self._apply(bundle, turn)

    def _turn(self, machine: int, state: Any, effects: Effects, now: Instant) -> Turn:
        asked = BundleStep(self.machines[machine], state, now)
        asked.carry_out_all(effects)
        state, ids = canonical(asked.state)
        return Turn(
            self.keep(state),
            ids,
            tuple(
                [
                    (ids[id], is_watch, self.keep(request), -1)
                    for id, is_watch, request in asked.calls
                    if id in ids
                ]
            ),
            tuple([(ids[id], self.keep(operation)) for id, operation in asked.jobs if id in ids]),
            asked.is_timer_set,
            asked.timer,
            -1 if asked.rules is None else self.keep(asked.rules),
        )

    def _apply(self, bundle: Bundle, turn: Turn) -> Bundle:
        ids = turn.ids
        flying = [(ids[f[0]], f[1], f[2], f[3]) for f in bundle.flying if f[0] in ids]
        abandoned = bundle.abandoned
        if len(flying) < len(bundle.flying):
            lost = [
                f[2] for f in bundle.flying if f[0] not in ids and f[3] < 0 and self._is_write(f[2])
            ]
            abandoned = tuple(sorted((*abandoned, *lost))) if lost else abandoned
        return Bundle(
            bundle.machine,
            turn.state,
            bundle.life,
            turn.wake_at if turn.wakes else bundle.wake_at,
            tuple(sorted([*flying, *turn.calls])),
            abandoned,
            tuple(sorted([(ids[w[0]], w[1], w[2], w[3]) for w in bundle.watches if w[0] in ids])),
            tuple(
                sorted(
                    [
                        *[(ids.get(job[0], 0), *job[1:]) for job in bundle.jobs],
                        *[(id, operation, 0, bundle.life) for id, operation in turn.operations],
                    ]
                )
            ),
            bundle.world,
            turn.rules if turn.rules >= 0 else bundle.rules,
        )

    def _is_write(self, request: int) -> bool:
        return self.values[request].verb not in READS

    # --- what a bundle can do (each: bundle number -> bundle number) ------------------------------

    def answer(self, number: int, flight: Flight, now: Instant) -> int:
        """An answer reaches the machine."""
        bundle = self._without(number, flight)
        event = Answered(flight[0], self.values[flight[3]])
        return self.keep_bundle(self.handle_event(bundle, event, ("A", flight[0], flight[3]), now))

    def unanswered(self, number: int, flight: Flight, now: Instant) -> int:
        """The request or its answer is lost: the outcome is unknown to the machine (CLUSTER-5)."""
        bundle = self._without(number, flight)
        return self.keep_bundle(self._silence(bundle, flight, now))

    def give_up(self, number: int, flight: Flight, now: Instant) -> int:
        """The machine stops waiting; the request still arrives."""
        bundle = self._without(number, flight)
        bundle = evolve(bundle, abandoned=tuple(sorted((*bundle.abandoned, flight[2]))))
        return self.keep_bundle(self._silence(bundle, flight, now))

    def _silence(self, bundle: Bundle, flight: Flight, now: Instant) -> Bundle:
        event = no_answer(flight[0], flight[1])
        return self.handle_event(bundle, event, _silent_key(flight[0], flight[1]), now)

    def _end(self, bundle: Bundle, id: int, code: int, now: Instant) -> Bundle:
        return self.handle_event(bundle, WatchEnded(id, code), ("E", id, code), now)

    def _without(self, number: int, flight: Flight) -> Bundle:
        bundle = self.bundles[number]
        return evolve(bundle, flying=tuple([other for other in bundle.flying if other != flight]))

    def arrived(self, number: int, flight: Flight, answer: int) -> int:
        """The request is decided, and its answer is in transit."""
        bundle = self._without(number, flight)
        flying = tuple(sorted((*bundle.flying, (flight[0], flight[1], flight[2], answer))))
        return self.keep_bundle(evolve(bundle, flying=flying))

    def without_abandoned(self, number: int, request: int) -> int:
        """An abandoned request has arrived, or was lost."""
        bundle = self.bundles[number]
        abandoned = list(bundle.abandoned)
        abandoned.remove(request)
        return self.keep_bundle(evolve(bundle, abandoned=tuple(abandoned)))

    def open_watch(self, number: int, flight: Flight, store: StoreState, now: Instant) -> int:
        bundle = self._without(number, flight)
        _, outcome, _ = self.store_states.decide(store, self.values[flight[2]], now)
        cursor = open_cursor(outcome)
        if isinstance(cursor, int):
            return self.keep_bundle(self._end(bundle, flight[0], cursor, now))
        initial = self.keep(cursor.initial) if cursor.initial else -1
        opened = (flight[0], self._stream(cursor.stream), cursor.revision, initial)
        return self.keep_bundle(evolve(bundle, watches=tuple(sorted((*bundle.watches, opened)))))

    def _stream(self, stream: Stream) -> int:
        """The number of a stream without its position and initial events, which are separate
        fields of an open watch."""
        bare = evolve(stream, revision=0, floor=0, initial=(), initial_events_end=False)
        return self.keep(bare)

    def lag(self, opened: Open, resource_state: int) -> int:
        """The number of changes that the watch has not delivered, at least 1 if it has initial
        events to deliver; -1: the changes are compacted."""
        key = ("lag", opened[1], opened[2], opened[3], resource_state)
        found = self._chunks.get(key)
        if found is None:
            history = self.store_states.resource_states[resource_state].history
            if opened[2] < history.compacted:
                found = -1
            else:
                stream: Stream = self.values[opened[1]]
                changes = (
                    history.changes(stream.prefix, opened[2])
                    if opened[2] <= history.revision
                    else ()
                )
                found = max(len(changes), int(opened[3] >= 0))
            self._chunks[key] = found
        return int(found)

    def notify(
        self, number: int, opened: Open, resource_state: int, limit: int, now: Instant
    ) -> int:
        """A watch delivers at most `limit` changes, or ends if they are compacted."""
        key = ("events", opened[1], opened[2], opened[3], resource_state, limit)
        chunk = self._chunks.get(key)
        if chunk is None:
            chunk = self._chunks[key] = self._chunk(opened, resource_state, limit)
        events, events_number, revision = chunk
        bundle = self.bundles[number]
        rest = tuple([other for other in bundle.watches if other != opened])
        if events is None:
            bundle = evolve(bundle, watches=rest)
            return self.keep_bundle(self._end(bundle, opened[0], COMPACTED, now))
        bundle = evolve(
            bundle, watches=tuple(sorted((*rest, (opened[0], opened[1], revision, -1))))
        )
        if not events:
            return self.keep_bundle(bundle)
        return self.keep_bundle(
            self.handle_event(
                bundle, Watched(opened[0], events), ("W", opened[0], events_number), now
            )
        )

    def _chunk(self, opened: Open, resource_state: int, limit: int) -> Any:
        stream: Stream = evolve(self.values[opened[1]], floor=opened[2])
        cursor = Cursor(stream, opened[2], self.values.get(opened[3], ()))
        delivered = deliver(
            cursor, self.store_states.resource_states[resource_state].history, limit
        )
        if delivered is None:
            return None, -1, 0
        events, cursor = delivered
        return events, self.keep(events), cursor.revision

    def cut_watch(self, number: int, opened: Open, now: Instant) -> int:
        bundle = self.bundles[number]
        bundle = evolve(
            bundle, watches=tuple([other for other in bundle.watches if other != opened])
        )
        return self.keep_bundle(
            self.handle_event(bundle, WatchEnded(opened[0]), ("E", opened[0], 0), now)
        )

    def disconnect(self, number: int, now: Instant) -> int:
        """Every connection breaks (CLUSTER-9)."""
        bundle = self.bundles[number]
        ended = [(opened[0], True) for opened in bundle.watches] + [
            (flight[0], flight[1]) for flight in bundle.flying
        ]
        bundle = evolve(bundle, flying=(), abandoned=(), watches=())
        while ended:
            (id, is_watch), *ended = ended
            key = _silent_key(id, is_watch)
            state = bundle.state
            bundle = self.handle_event(bundle, no_answer(id, is_watch), key, now)
            ids = self._turns[state, key, now].ids  # the step has renumbered the other ids
            ended = [(ids[other], watch) for other, watch in ended if other in ids]
        return self.keep_bundle(bundle)

    def wake(self, number: int, now: Instant) -> int:
        bundle = evolve(self.bundles[number], wake_at=None)
        return self.keep_bundle(self.handle_event(bundle, Woken(), ("K",), now))

    def crash(self, number: int, now: Instant) -> int:
        bundle = self.bundles[number]
        return self.start(bundle.machine, bundle.life + 1, now, bundle)

    def operate(self, number: int, job: Job, now: Instant) -> int:
        """The runtime carries out an operation and reports its result."""
        bundle = self.bundles[number]
        rest = list(bundle.jobs)
        rest.remove(job)
        operation = self.values[job[1]]
        world: Any = self.values[bundle.world]
        chance = SeededChance(chance_of_operation(self.seed, operation, world.started))
        world, result = world.carry_out(operation, now, chance)
        if isinstance(result, Later):
            jobs = tuple(sorted((*rest, (job[0], job[1], result.at, job[3]))))
            return self.keep_bundle(evolve(bundle, world=self.keep(world), jobs=jobs))
        bundle = evolve(bundle, world=self.keep(world), jobs=tuple(rest))
        if job[0]:
            bundle = self.handle_event(
                bundle, Ran(job[0], result), ("R", job[0], self.keep(result)), now
            )
        return self.keep_bundle(bundle)

    def advance(self, number: int, to: Instant) -> int:
        """Time passes for the runtime of a node."""
        bundle = self.bundles[number]
        if bundle.world < 0:
            return number
        world, changed = self.values[bundle.world].advance(to)
        return self._changed(bundle, world, changed, to)

    def disturb(self, number: int, what: str, which: str, now: Instant) -> int:
        bundle = self.bundles[number]
        world, changed = self.values[bundle.world].disturb(what, which, now)
        return self._changed(bundle, world, changed, now)

    def _changed(self, bundle: Bundle, world: Any, changed: tuple[str, ...], now: Instant) -> int:
        bundle = evolve(bundle, world=self.keep(world))
        if changed:
            bundle = self.handle_event(
                bundle, RuntimeChanged(changed), ("C", self.keep(changed)), now
            )
        return self.keep_bundle(bundle)

    # --- the API server ---------------------------------------------------------------------------

    def decide(self, store: int, request: int, now: Instant) -> tuple[int, int, Any]:
        """The store after a request, the number of the answer, and the verdict of the laws on the
        commit."""
        key = (store, request, now)
        found = self._decided.get(key)
        if found is None:
            self.misses += 1
            after, response, committed = self.store_states.decide(
                self.stores[store], self.values[request], now
            )
            if not isinstance(response, Response):
                raise Impossible("a stream instead of an answer")
            number = self.keep_store(after)
            verdict = self.judge(store, number, self.values[request], response, committed)
            found = self._decided[key] = (number, self.keep(response), verdict)
        return found

    def refusal(self) -> int:
        return self.keep(refusal(500))

    def compacted(self, store: int) -> int:
        """The store with all history discarded."""
        found = self._compacted.get(store)
        if found is None:
            found = self._compacted[store] = self.keep_store(
                self.store_states.compact(self.stores[store])
            )
        return found

    def reader(self, store: int) -> Reader:
        return self.store_states.reader(self.stores[store], 0)


def _silent_key(id: int, is_watch: bool) -> tuple[Any, ...]:
    """`no_answer` in numbers."""
    return ("E", id, 0) if is_watch else ("A", id, -1)


def _decisions(name: str, past: Any, state: Any, life: int) -> tuple[Decision, ...]:
    """The decisions of the loop in this step. They are recognised by their ids, so this is called
    before the ids are renumbered."""
    if not isinstance(inner_state(past), LoopState):
        return ()
    before = Map({name: Component(past, life)})
    after = Map({name: Component(state, life)})
    return tuple(decisions(_Pair(before), _Pair(after)))  # type: ignore[arg-type]


class _Pair:
    """The part of a cluster that `decisions` reads."""

    def __init__(self, components: "Map[str, Component]") -> None:
        self.components = components


def chance_of_operation(seed: bytes, operation: Any, started: int) -> bytes:
    """The seed of the ids that the runtime assigns in an operation."""
    return seed + repr(operation).encode() + started.to_bytes(4, "big")
