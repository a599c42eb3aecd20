"""The moves that are possible in a state, and the state after each. Rules EXPLORE-1, EXPLORE-4,
EXPLORE-8, EXPLORE-9, EXPLORE-12 (spec/explorer.md).

`moves.py` has the moves themselves. The moves of a bundle, and the effect of a move on it, are
computed once.
"""

from collections.abc import Callable, Iterator
from typing import Any

from refk8s.checking.explorer.bundle import READS, Flight, Open
from refk8s.checking.explorer.model import Model
from refk8s.checking.explorer.moves import (
    BUDGET,
    FIRST,
    NOW,
    STORE,
    Answer,
    Arrive,
    ArriveAbandoned,
    Compact,
    Crash,
    CutWatch,
    Disturb,
    Duplicate,
    Elapse,
    Environment,
    GiveUp,
    LoseAbandoned,
    LoseAnswer,
    LoseRequest,
    MachineMove,
    Move,
    Notify,
    OpenWatch,
    Operate,
    Refuse,
    RestartServer,
    State,
    User,
    Wake,
)
from refk8s.checking.explorer.parts import Parts
from refk8s.checking.explorer.renumbering import Renumberer
from refk8s.core.cluster.enabled import is_due, is_in_order
from refk8s.core.cluster.state import Pending
from refk8s.core.context import SECOND, Instant
from refk8s.core.properties.law import Decision

FAULTS = (
    "crash",
    "lose",
    "give-up",
    "cut",
    "compact",
    "duplicate",
    "refuse",
    "restart-server",
    "disturb",
    "slow",
)
"""The faults of a model, each with a budget (`--faults crash=1,lose=1`). slow: time passes although
another action is possible."""


class BundleMoves:
    """The moves of one bundle. Some of them are possible only with certain stores, or later."""

    __slots__ = (
        "abandoned",
        "answers",
        "arrivals",
        "crash",
        "instants",
        "machine",
        "openings",
        "operations",
        "wake",
        "wake_at",
        "watches",
        "writes",
    )

    def __init__(self, parts: Parts, number: int) -> None:
        bundle = parts.bundles[number]
        self.machine = machine = bundle.machine
        sent = [flight for flight in bundle.flying if flight[3] < 0]
        self.arrivals = [Arrive(machine, flight) for flight in sent if not flight[1]]
        self.openings = [OpenWatch(machine, flight) for flight in sent if flight[1]]
        self.answers = [Answer(machine, flight) for flight in bundle.flying if flight[3] >= 0]
        self.writes = [move.flight for move in self.arrivals if _is_write(parts, move.flight)]
        self.abandoned = [ArriveAbandoned(machine, each) for each in sorted(set(bundle.abandoned))]
        self.watches = [OpenedWatch(parts, machine, opened) for opened in bundle.watches]
        pending = [(job[3], Pending(parts.values[job[1]], job[2])) for job in bundle.jobs]
        self.operations = [
            Operate(machine, job)
            for job, (life, own) in zip(bundle.jobs, pending, strict=True)
            if is_in_order(life, own, pending)
        ]
        self.wake = Wake(machine)
        self.crash = Crash(machine)
        self.wake_at = bundle.wake_at
        world = parts.values.get(bundle.world)
        by_itself = world.next_change() if world is not None else None
        instants = (bundle.wake_at, by_itself, *[job[2] for job in bundle.jobs])
        # the instants at which the passing of time makes a move of this bundle possible
        self.instants: list[Instant] = [at for at in instants if at is not None]


class OpenedWatch:
    """One open watch of a bundle, with a move for each number of changes that it can deliver at
    once."""

    __slots__ = ("_moves", "cut", "opened", "position")

    def __init__(self, parts: Parts, machine: int, opened: Open) -> None:
        self.opened = opened
        self.position = parts.position_of(opened[1])
        self.cut = CutWatch(machine, opened)
        self._moves = [Notify(machine, opened, 1)]

    def moves(self, lag: int) -> list[Notify]:
        """The deliveries of a watch with this `Parts.lag`."""
        count = 1 if lag < 0 else lag
        while len(self._moves) < count:
            self._moves.append(Notify(self.cut.machine, self.opened, len(self._moves) + 1))
        return self._moves if len(self._moves) == count else self._moves[:count]


def _is_write(parts: Parts, flight: Flight) -> bool:
    return parts.values[flight[2]].verb not in READS


class Transitions:
    """The transition relation of one model under one set of budgets."""

    def __init__(
        self, model: Model, budgets: dict[str, int], seed: bytes = b"explore", reduced: bool = True
    ) -> None:
        self.reduced = reduced and not model.one_revision
        self.model = model
        self.machines = model.machines()
        self.parts = Parts(self.machines, model.worlds(), seed, model.one_revision)
        self.first_budget = tuple([budgets.get(name, 0) for name in FAULTS])
        self.horizon = model.start + model.horizon_seconds * SECOND
        self.renumberer = Renumberer(self.parts)
        self._bundle_moves: dict[int, BundleMoves] = {}
        self._steps: dict[Any, int] = {}
        # the decisions in the step from the first bundle to the second
        self.decisions: dict[tuple[int, int], tuple[Decision, ...]] = {}
        # in the step from the first bundle to the second: new id -> old id
        self.old_ids: dict[tuple[int, int], dict[int, int]] = {}
        self._cuts: dict[Any, tuple[int, tuple[tuple[int, int], ...]]] = {}
        self._environments: dict[Any, tuple[int, ...]] = {}
        # by number: how many faults of each kind are left, and the next request of the user's
        # script
        self.budgets: list[tuple[tuple[int, ...], int]] = []
        self._budget_numbers: dict[Any, int] = {}
        self._spent: dict[tuple[int, str], int] = {}
        self.script = [self.parts.keep(request) for request in model.script]

    # --- the first state --------------------------------------------------------------------------

    def first(self) -> State:
        """The initial state: the setup is stored, and every machine has started and is at rest."""
        parts, now = self.parts, self.model.start
        store = parts.keep_store(())
        for request in self.model.setup:
            store, answer, _ = parts.decide(store, parts.keep(request), now)
            if not parts.values[answer].ok:
                raise ValueError(
                    f"the setup of model {self.model.name} is refused: {parts.values[answer].body}"
                )
        budget = self._keep_budget(self.first_budget, 0)
        none = self._keep_budget((0,) * len(FAULTS), len(self.script))
        bundles = [parts.start(machine, 1, now) for machine in range(len(parts.names))]
        state: State = (now, store, none, *bundles)
        while self.model.rests_first:
            following = next(self.of(state, prologue=True), None)
            if following is None:
                break
            state = self.normal(following[1])
        return (*state[:BUDGET], budget, *state[FIRST:])

    # --- budgets ----------------------------------------------------------------------------------

    def _keep_budget(self, left: tuple[int, ...], position: int) -> int:
        key = (left, position)
        number = self._budget_numbers.get(key)
        if number is None:
            number = self._budget_numbers[key] = len(self.budgets)
            self.budgets.append(key)
        return number

    def spend(self, budget: int, fault: str) -> int:
        """The budget after one fault of this kind."""
        found = self._spent.get((budget, fault))
        if found is None:
            left, position = self.budgets[budget]
            position = FAULTS.index(fault)
            left = (*left[:position], left[position] - 1, *left[position + 1 :])
            found = self._spent[budget, fault] = self._keep_budget(left, position)
        return found

    def next_request(self, budget: int) -> int:
        """The budget after the user's next request."""
        left, position = self.budgets[budget]
        return self._keep_budget(left, position + 1)

    # --- all moves --------------------------------------------------------------------------------

    def of(self, state: State, prologue: bool = False) -> Iterator[tuple[Move, State]]:
        """Every possible move and the state after it (before `normal`), in a fixed order.
        `prologue`: without time, user, environment and faults."""
        if self.reduced and (opening := self._opening(state)) is not None:
            yield opening, opening.after(self, state)
            return
        is_quiet = True
        for move in self.happenings(state):
            is_quiet = False
            yield move, move.after(self, state)
        if prologue:
            return
        for request in self._environment(state[STORE], state[NOW]):
            is_quiet = False
            simulated = Environment(request)
            yield simulated, simulated.after(self, state)
        left, position = self.budgets[state[BUDGET]]
        if position < len(self.script):
            request_of_user = User(self.script[position])
            yield request_of_user, request_of_user.after(self, state)
        if any(left):
            for fault in self._faults(state, dict(zip(FAULTS, left, strict=True))):
                yield fault, fault.after(self, state)
        if is_quiet or left[-1]:
            to = self.upcoming(state)
            if to is not None and to <= self.horizon:
                elapse = Elapse(to, not is_quiet)
                yield elapse, elapse.after(self, state)

    def is_quiet(self, state: State) -> bool:
        """Whether only the user, faults and the passing of time can change this state."""
        return next(self.happenings(state), None) is None and not self._environment(
            state[STORE], state[NOW]
        )

    def happenings(self, state: State) -> Iterator[Move]:
        """The moves that `happenings` of the reference has as actions (EXPLORE-12), in a fixed
        order."""
        parts, now = self.parts, state[NOW]
        resource_states = parts.stores[state[STORE]]
        for number in state[FIRST:]:
            possible = self._moves_of(number)
            yield from possible.arrivals
            yield from possible.openings
            yield from possible.answers
            for watch in possible.watches:
                resource_state = (
                    resource_states[watch.position] if watch.position < len(resource_states) else 0
                )
                if lag := parts.lag(watch.opened, resource_state):
                    yield from watch.moves(lag)
            for operate in possible.operations:
                if is_due(operate.job[2], now):
                    yield operate
            if is_due(possible.wake_at, now):
                yield possible.wake
            yield from possible.abandoned

    def _opening(self, state: State) -> Move | None:
        """The opening of a requested watch, which precedes every other move (EXPLORE-9)."""
        for number in state[FIRST:]:
            for opening in self._moves_of(number).openings:
                return opening
        return None

    def _faults(self, state: State, left: dict[str, int]) -> Iterator[Move]:
        parts = self.parts
        for number in state[FIRST:]:
            possible = self._moves_of(number)
            machine = possible.machine
            if left["crash"]:
                yield possible.crash
            if left["lose"]:
                for sent in (*possible.arrivals, *possible.openings):
                    yield LoseRequest(machine, sent.flight)
                # a lost answer to a read and a lost read are the same for the machine
                for answer in possible.answers:
                    if _is_write(parts, answer.flight):
                        yield LoseAnswer(machine, answer.flight)
                for abandoned in possible.abandoned:
                    yield LoseAbandoned(machine, abandoned.request)
            if left["give-up"]:
                for flight in possible.writes:
                    yield GiveUp(machine, flight)
            if left["duplicate"]:
                for flight in possible.writes:
                    yield Duplicate(machine, flight)
            if left["refuse"]:
                for arrival in possible.arrivals:
                    yield Refuse(machine, arrival.flight)
            if left["cut"]:
                for watch in possible.watches:
                    yield watch.cut
            if left["disturb"] and parts.bundles[number].world >= 0:
                for what, which in self.model.disturbances:
                    yield Disturb(machine, what, which)
        if left["compact"]:
            yield Compact()
        if left["restart-server"]:
            yield RestartServer()

    def upcoming(self, state: State) -> Instant | None:
        """The next instant at which the passing of time makes a move possible."""
        now = state[NOW]
        instants = [
            at for number in state[FIRST:] for at in self._moves_of(number).instants if at > now
        ]
        return min(instants) if instants else None

    def _environment(self, store: int, now: Instant) -> tuple[int, ...]:
        key = (store, now)
        found = self._environments.get(key)
        if found is None:
            asked = self.model.environment(self.parts.reader(store), now)
            found = self._environments[key] = tuple([self.parts.keep(request) for request in asked])
        return found

    # --- what the moves use -----------------------------------------------------------------------

    def remember(self, key: Any, number: int, function: Callable[..., int], *given: Any) -> int:
        """The bundle that a function makes of the bundle `number`, computed once for each key. The
        decisions in the step and the machine's old ids are kept."""
        found = self._steps.get(key)
        if found is None:
            parts = self.parts
            parts.made, parts.ids = (), None
            found = self._steps[key] = function(*given)
            if parts.made:
                self.decisions[number, found] = parts.made
            if parts.ids is not None:
                self.old_ids[number, found] = {new: old for old, new in parts.ids.items()}
        return found

    def with_bundle(self, state: State, move: MachineMove, bundle: int, store: int) -> State:
        """The state after this move of one machine, with its new bundle and store. A fault uses up
        its budget."""
        position = FIRST + move.machine
        budget = self.spend(state[BUDGET], move.fault) if move.fault else state[BUDGET]
        return (state[NOW], store, budget, *state[FIRST:position], bundle, *state[position + 1 :])

    def _moves_of(self, number: int) -> BundleMoves:
        possible = self._bundle_moves.get(number)
        if possible is None:
            possible = self._bundle_moves[number] = BundleMoves(self.parts, number)
        return possible

    # --- one state for all states that no machine can distinguish ---------------------------------

    def normal(self, state: State) -> State:
        """The state without changes that no machine can request any more (EXPLORE-4), and with the
        revisions renumbered that every watcher has reached (EXPLORE-8)."""
        compacted_revisions = self.parts.needed_numbers
        key = (state[STORE], *[compacted_revisions[number] for number in state[FIRST:]])
        found = self._cuts.get(key)
        if found is None:
            found = self._cuts[key] = self._cut_anew(state)
        store, renamed = found
        if renamed:
            bundles = state[FIRST:]
            for position, resource_state in renamed:
                bundles = tuple(
                    [
                        self.renumberer.of_bundle(number, position, resource_state)
                        for number in bundles
                    ]
                )
            return (state[NOW], store, state[BUDGET], *bundles)
        return state if store == state[STORE] else (state[NOW], store, *state[BUDGET:])

    def _cut_anew(self, state: State) -> tuple[int, tuple[tuple[int, int], ...]]:
        parts, store_states = self.parts, self.parts.store_states
        lowest: dict[int, int] = {}
        for number in state[FIRST:]:
            for position, revision in parts.needed_revisions(number):
                lowest[position] = min(revision, lowest.get(position, revision))
        cut = parts.stores[state[STORE]]
        renamed: list[tuple[int, int]] = []
        for position, resource_state in enumerate(cut):
            top = store_states.revisions[resource_state]
            floor = lowest.get(position, top)
            cut = store_states.cut(cut, position, min(floor, top))
            # a machine must list again, and will compare the list with its view
            is_missed = floor < store_states.compacted_revisions[cut[position]]
            if (
                self.reduced
                and resource_state
                and not is_missed
                and (renaming := self.renumberer.of_resource(position, cut[position])) is not None
            ):
                renamed.append((position, cut[position]))
                cut = store_states.with_resource(cut, position, renaming[1])
        return parts.keep_store(cut), tuple(renamed)
