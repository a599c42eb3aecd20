"""Evaluates the laws of refk8s/core/properties on the steps of an exploration, each as seldom as
possible. Rule EXPLORE-7 (spec/explorer.md).

A law of a change or of a request is evaluated once for each store and request. A law of a step or
of a decision is given one machine and a store that records which resources it reads: it is
evaluated once for each pair of bundles and each state of those resources. A law that reads more
raises `NeedsMore`, and is then evaluated at every such step, on the whole cluster. The results are
those of evaluating every law at every step.
"""

from collections import Counter
from collections.abc import Iterable
from operator import attrgetter
from typing import Any

from immutables import Map

from refk8s.checking.explorer.bundle import Bundle, Job
from refk8s.checking.explorer.moves import (
    FIRST,
    NOW,
    STORE,
    Arrive,
    MachineMove,
    Move,
    State,
    to_action,
)
from refk8s.checking.explorer.parts import Parts
from refk8s.checking.explorer.store import Reader, StoreState, StoreStates
from refk8s.checking.explorer.transitions import Transitions
from refk8s.core.actions import Action, Channel
from refk8s.core.api.request import Request, Response
from refk8s.core.cluster.state import Cluster, Component, Cursor, Flying, Pending
from refk8s.core.machine import Impossible
from refk8s.core.properties import laws
from refk8s.core.properties.law import Arrived, Broken, Law
from refk8s.core.store import Change, Committed, Compacted, History, Page, resource_prefix
from refk8s.core.value import evolve

OF_THE_STORE = ("STORE-5", "STORE-7")
"""Laws that compare the identity of records, which equal records share here. Simulated runs
evaluate them."""


class NeedsMore(Exception):
    """A law has read a part of the cluster that it was not given."""


class PartialCluster:
    """The parts of a cluster that are given; reading any other raises NeedsMore."""

    def __init__(self, **known: Any) -> None:
        self.__dict__.update(known)

    def __getattr__(self, name: str) -> Any:
        raise NeedsMore(name)


class OneMachine(dict[str, Any]):
    """The entries of one machine. A law that reads another entry, or all, gets NeedsMore."""

    def __missing__(self, key: str) -> Any:
        raise NeedsMore(key)

    def __iter__(self) -> Any:
        raise NeedsMore("all")

    def get(self, key: str, default: Any = None) -> Any:
        return self[key]


class RecordingReader(Reader):
    """A store that records which resources were read. Its revision is that of the resource of the
    step."""

    __slots__ = ("read",)

    def __init__(
        self, store_states: StoreStates, store: StoreState, home: int, read: set[int]
    ) -> None:
        super().__init__(store_states, store, home)
        self.read = read

    def _history(self, prefix: str) -> History[Any]:
        self.read.add(self.store_states.position(resource_prefix(prefix)))
        return super()._history(prefix)

    @property
    def revision(self) -> int:
        self.read.add(self.home)
        return super().revision

    @property
    def compacted(self) -> int:
        self.read.add(self.home)
        return super().compacted

    def list(
        self, prefix: str, at: int | None = None, after: str | None = None, limit: int | None = None
    ) -> Page[Any]:
        if prefix != "/":
            return super().list(prefix, at, after, limit)
        records = [
            record
            for one in sorted(self.store_states.prefixes)
            for record in super(RecordingReader, self).list(one).records
        ]
        return Page(tuple(sorted(records, key=_key_of)), self.revision, False, 0)

    def changes(self, prefix: str, after: int, limit: int | None = None) -> tuple[Change[Any], ...]:
        """The changes of the resource of this step after a revision; prefix "/" means this
        resource. Of another resource, all changes since its compaction: its revisions are not
        comparable."""
        prefix = self.store_states.prefixes[self.home] if prefix == "/" else prefix
        history = self._history(prefix)
        is_other = self.store_states.position(resource_prefix(prefix)) != self.home
        return history.changes(
            prefix, history.compacted if is_other else self._at(history, after), limit
        )


_key_of = attrgetter("key")

Verdict = tuple[tuple[Broken, ...], tuple[tuple[Law, Any], ...]]
"""The broken rules, and the laws that need the whole cluster, each with the change, request or
decision to evaluate (None: the action)."""


class _StepResults:
    """The results for one step of one machine, and the resources on which they depend."""

    __slots__ = ("by_stores", "positions", "verdicts")

    def __init__(self) -> None:
        self.positions: tuple[int, ...] = ()
        self.verdicts: dict[Any, Verdict] = {}
        self.by_stores: dict[tuple[int, int], Verdict] = {}  # a cache of `verdicts`


class Judge:
    """Evaluates the laws. `tested` counts the evaluations in which each law applied."""

    def __init__(self, moves: Transitions) -> None:
        self.moves = moves
        self.parts = moves.parts
        self.store_states = moves.parts.store_states
        self.tested: Counter[str] = Counter()
        self.of_changes = (
            *[law for law in laws.OF_CHANGES if law.rule not in OF_THE_STORE],
            *moves.model.laws,
        )
        self._local: dict[Any, _StepResults] = {}
        self.whole_evaluations = 0
        self.unevaluated = 0
        self.parts.judge = self._of_request

    def of_move(self, state: State, move: Move, after: State) -> list[Broken]:
        """The rules that a step breaks."""
        found: list[Broken] = []
        if (request := move.written()) >= 0:
            verdict: Verdict = self.parts.decide(state[STORE], request, state[NOW])[2]
            if verdict[0] or verdict[1]:
                found += verdict[0]
                found += self._of_whole(state, move, after, verdict[1])
        if move.is_judged:
            assert isinstance(move, MachineMove)
            position = FIRST + move.machine
            key = (state[position], after[position], move.word)
            entry = self._local.get(key)
            if entry is None:
                entry = self._local[key] = _StepResults()
            numbers = (state[STORE], after[STORE])
            local = entry.by_stores.get(numbers)
            if local is None:
                before, later = [self.parts.stores[number] for number in numbers]
                local = entry.verdicts.get(self._resource_states(entry, before, later))
                if local is None:
                    local = self._of_machine(entry, state, move, after)
                entry.by_stores[numbers] = local
            if local[0] or local[1]:
                found += local[0]
                found += self._of_whole(state, move, after, local[1])
        return found

    def _resource_states(
        self, entry: _StepResults, store: StoreState, store_after: StoreState
    ) -> tuple[int, ...]:
        if not entry.positions:
            return ()
        resource_state = self.store_states.resource_state
        return tuple(
            [
                resource_state(one, position)
                for position in entry.positions
                for one in (store, store_after)
            ]
        )

    def at_rest(self, state: State) -> list[Broken]:
        """The rules that a settled state breaks."""
        whole = self.whole(state)
        found: list[Broken] = []
        model = self.moves.model
        for law in (*(laws.OF_REST if model.rests else ()), *model.laws_of_rest):
            try:
                found += self._note(law, law.check(whole))
            except Compacted:
                # it reads history that is discarded here
                self.unevaluated += 1
        return found

    def _of_request(
        self,
        before: int,
        after: int,
        request: Request,
        response: Response,
        committed: Committed[Any] | None,
    ) -> Verdict:
        """The laws of requests and changes, resource by resource."""
        broken: list[Broken] = []
        more: list[tuple[Law, Any]] = []
        own = self.store_states.position(request.resource.prefix)
        committed = self._as_kept(committed, self.parts.stores[before], self.parts.stores[after])
        groups: dict[int, list[Change[Any]]] = {}
        changes = committed.changes if committed is not None else ()
        for change in changes:
            groups.setdefault(self.store_states.position(resource_prefix(change.key)), []).append(
                change
            )
        for position, group in groups.items():
            old, new = self._stores(
                before, after, position, Committed(group[-1].revision, tuple(group))
            )
            for change in group:
                for law in self.of_changes:
                    if change.key.startswith(law.prefix):
                        self._ask(law, change, (change, old, new), broken, more)
        old, new = self._stores(before, after, own, committed)
        arrived = Arrived(request, response, changes)
        for law in laws.OF_REQUESTS:
            if request.user.name.startswith(law.prefix):
                self._ask(law, arrived, (arrived, old, new), broken, more)
        return tuple(broken), tuple(more)

    def _stores(
        self, before: int, after: int, home: int, committed: Committed[Any] | None
    ) -> tuple[PartialCluster, PartialCluster]:
        stores = self.parts.stores
        old = PartialCluster(
            history=RecordingReader(self.store_states, stores[before], home, set()),
            last_commit=None,
        )
        return old, PartialCluster(
            history=RecordingReader(self.store_states, stores[after], home, set()),
            last_commit=committed,
        )

    def _of_machine(
        self, entry: _StepResults, state: State, move: MachineMove, after: State
    ) -> Verdict:
        """The laws of steps and decisions, for one machine."""
        read: set[int] = set()
        home = self._home(move)
        stores = self.parts.stores
        store, store_after = stores[state[STORE]], stores[after[STORE]]
        here = self._partial_cluster(
            state, move.machine, RecordingReader(self.store_states, store, home, read)
        )
        there = self._partial_cluster(
            after,
            move.machine,
            RecordingReader(self.store_states, store_after, home, read),
            self._old_ids(state, move, after),
        )
        there.__dict__["last_commit"] = self._committed(state, move)
        action = self.action(state, move)
        broken: list[Broken] = []
        more: list[tuple[Law, Any]] = []
        kind = type(action)
        for law in laws.OF_STEPS:
            if not law.actions or kind in law.actions:
                self._ask(law, None, (here, action, there), broken, more)
        for decision in self.moves.decisions.get(
            (state[FIRST + move.machine], after[FIRST + move.machine]), ()
        ):
            for law in laws.OF_DECISIONS:
                if decision.reconciler.startswith(law.prefix):
                    self._ask(law, decision, (decision, here, there), broken, more)
        if not read <= set(entry.positions):
            entry.positions = tuple(sorted(read | set(entry.positions)))
        verdict = entry.verdicts[self._resource_states(entry, store, store_after)] = (
            tuple(broken),
            tuple(more),
        )
        return verdict

    def _old_ids(self, state: State, move: Move, after: State) -> dict[int, int]:
        """The ids before a step, by the ids after it, for laws that compare messages in transit."""
        if not isinstance(move, MachineMove):
            return {}
        position = FIRST + move.machine
        return self.moves.old_ids.get((state[position], after[position]), {})

    def _committed(self, state: State, move: Move) -> Committed[Any] | None:
        """The writes of this step; the request is decided again for it."""
        if not isinstance(move, Arrive):
            return None
        store = self.parts.stores[state[STORE]]
        store_after, _, committed = self.store_states.decide(
            store, self.parts.values[move.flight[2]], state[NOW]
        )
        return self._as_kept(committed, store, store_after)

    def _as_kept(
        self, committed: Committed[Any] | None, store: StoreState, store_after: StoreState
    ) -> Committed[Any] | None:
        """The changes with the records of the explorer, in which equal ones are identical."""
        if committed is None:
            return None
        old, new = Reader(self.store_states, store, 0), Reader(self.store_states, store_after, 0)
        changes = [
            Change(change.revision, change.key, new.get(change.key), old.get(change.key))
            for change in committed.changes
        ]
        return Committed(committed.revision, tuple(changes))

    def _of_whole(
        self, state: State, move: Move, after: State, wanting: tuple[tuple[Law, Any], ...]
    ) -> list[Broken]:
        if not wanting:
            return []
        self.whole_evaluations += 1
        home = self._home(move)
        before = self.whole(state, home)
        then = evolve(
            self.whole(after, home, self._old_ids(state, move, after), move),
            last_commit=self._committed(state, move),
        )
        found: list[Broken] = []
        for law, about in wanting:
            given = (
                (before, self.action(state, move), then) if about is None else (about, before, then)
            )
            found += self._note(law, law.check(*given))
        return found

    def _ask(
        self,
        law: Law,
        about: Any,
        given: tuple[Any, ...],
        broken: list[Broken],
        more: list[tuple[Law, Any]],
    ) -> None:
        try:
            broken += self._note(law, law.check(*given))
        except NeedsMore:
            more.append((law, about))

    def _note(self, law: Law, wrong: Iterable[str] | None) -> list[Broken]:
        if wrong is None:
            return []
        found = [Broken(law.rule, words) for words in wrong]
        self.tested[law.rule] += 1
        return found

    def _home(self, move: Move) -> int:
        """The resource of a move."""
        about = move.about()
        return self.parts.position_of(about) if about >= 0 else 0

    # --- clusters from numbers --------------------------------------------------------------------

    def _partial_cluster(
        self,
        state: State,
        machine: int,
        history: RecordingReader,
        ids: dict[int, int] | None = None,
    ) -> PartialCluster:
        parts: dict[str, Any] = dict(
            self._bundle_as_maps(self.parts.bundles[state[FIRST + machine]], ids or {})
        )
        if len(self.parts.first_worlds) > 1:
            parts["worlds"] = OneMachine(parts["worlds"])
        return PartialCluster(now=state[NOW], history=history, last_commit=None, **parts)

    def whole(
        self,
        state: State,
        home: int = 0,
        ids: dict[int, int] | None = None,
        move: Move | None = None,
    ) -> Cluster:
        """The state as a Cluster, with ids renumbered; its history has each resource's own
        revisions."""
        maps: dict[str, dict[Any, Any]] = {}
        for machine, number in enumerate(state[FIRST:]):
            is_moved = isinstance(move, MachineMove) and machine == move.machine
            renamed = ids if ids and is_moved else {}
            for name, entries in self._bundle_as_maps(self.parts.bundles[number], renamed).items():
                maps.setdefault(name, {}).update(entries)
        parts: dict[str, Any] = {name: Map(entries) for name, entries in maps.items()}
        cluster = Cluster(
            machines=self.moves.machines, seed=self.parts.seed, now=state[NOW], **parts
        )
        return evolve(
            cluster,
            history=RecordingReader(
                self.store_states, self.parts.stores[state[STORE]], home, set()
            ),
        )

    def _bundle_as_maps(self, bundle: Bundle, ids: dict[int, int]) -> dict[str, "Map[Any, Any]"]:
        values, name = self.parts.values, self.parts.names[bundle.machine]
        life = bundle.life
        flying = {
            (name, life, ids.get(f[0], f[0])): Flying(values[f[2]], values.get(f[3]), watch=f[1])
            for f in bundle.flying
        }
        flying |= {
            (name, 0, n): Flying(values[request]) for n, request in enumerate(bundle.abandoned)
        }
        return {
            "components": Map({name: Component(values.get(bundle.state), life, bundle.wake_at)}),
            "flying": Map(flying),
            "watches": Map(
                {
                    (name, life, ids.get(w[0], w[0])): Cursor(
                        values[w[1]], w[2], values.get(w[3], ())
                    )
                    for w in bundle.watches
                }
            ),
            "operations": Map(
                {
                    (name, job[3], ids.get(job[0], job[0]) or -position): Pending(
                        values[job[1]], job[2]
                    )
                    for position, job in enumerate(bundle.jobs)
                }
            ),
            "worlds": Map({name: values[bundle.world]}) if bundle.world >= 0 else Map(),
            "rules": Map({name: values[bundle.rules]}) if bundle.rules >= 0 else Map(),
        }

    def action(self, state: State, move: Move) -> Action:
        """The move as an action on `whole` (its ids are the explorer's own)."""
        return to_action(move, _ExplorerNames(self.parts, state))


class _ExplorerNames:
    """The names of machines, requests and watches in `Judge.whole`."""

    def __init__(self, parts: Parts, state: State) -> None:
        self.parts = parts
        self.state = state

    def machine(self, machine: int) -> str:
        return self.parts.names[machine]

    def channel(self, machine: int, id: int) -> Channel:
        return self.machine(machine), self.parts.bundles[self.state[FIRST + machine]].life, id

    def abandoned(self, machine: int, request: int) -> Channel:
        abandoned = self.parts.bundles[self.state[FIRST + machine]].abandoned
        return self.machine(machine), 0, abandoned.index(request)

    def abandoned_job(self, machine: int, job: Job) -> Channel:
        jobs = self.parts.bundles[self.state[FIRST + machine]].jobs
        return self.machine(machine), job[3], -jobs.index(job)

    def request(self, request: int) -> Request:
        found: Request = self.parts.values[request]
        return found

    def next_revision(self) -> int:
        raise Impossible("no law is evaluated for a compaction")
