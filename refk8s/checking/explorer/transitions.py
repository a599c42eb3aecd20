"""Which moves a state has, and the state that each leads to. Rules EXPLORE-1, EXPLORE-4, EXPLORE-8,
EXPLORE-9 (spec/explorer.md).

`moves.py` has the moves themselves. What a move does to one bundle is computed once and then looked
up; a bundle's moves are made once, too.
"""

from collections.abc import Callable, Iterator
from typing import Any

from refk8s.checking.explorer.bundle import READS, Flight, Open
from refk8s.checking.explorer.models import Model
from refk8s.checking.explorer.moves import (
    BUDGET,
    FIRST,
    NOW,
    ROW,
    Answer,
    Arrive,
    ArriveOrphan,
    Compact,
    Crash,
    CutWatch,
    Disturb,
    Duplicate,
    Elapse,
    Environment,
    GiveUp,
    LoseAnswer,
    LoseOrphan,
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
from refk8s.checking.explorer.renumbering import Quiet
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


class Menu:
    """The moves of one bundle, whatever the store has."""

    __slots__ = (
        "answers",
        "arrivals",
        "crash",
        "instants",
        "machine",
        "openings",
        "operations",
        "orphans",
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
        self.orphans = [ArriveOrphan(machine, each) for each in sorted(set(bundle.orphans))]
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
        # when something becomes possible here by time alone
        self.instants: list[Instant] = [at for at in instants if at is not None]


class OpenedWatch:
    """One open watch of a bundle: a move for each number of changes that it can deliver at once."""

    __slots__ = ("_moves", "cut", "opened", "place")

    def __init__(self, parts: Parts, machine: int, opened: Open) -> None:
        self.opened = opened
        self.place = parts.place_of(opened[1])
        self.cut = CutWatch(machine, opened)
        self._moves = [Notify(machine, opened, 1)]

    def moves(self, lag: int) -> list[Notify]:
        """`lag` as of `Parts.lag`."""
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
        self.quiet = Quiet(self.parts)
        self._menus: dict[int, Menu] = {}
        self._steps: dict[Any, int] = {}
        # made on the way from one bundle to another
        self.decisions: dict[tuple[int, int], tuple[Decision, ...]] = {}
        # what is called by the one id in the second was called so in the first
        self.old_ids: dict[tuple[int, int], dict[int, int]] = {}
        self._cuts: dict[Any, tuple[int, tuple[tuple[int, int], ...]]] = {}
        self._environments: dict[Any, tuple[int, ...]] = {}
        # by number: how many faults of each kind are left, and the place in the user's script
        self.budgets: list[tuple[tuple[int, ...], int]] = []
        self._budget_numbers: dict[Any, int] = {}
        self._spent: dict[tuple[int, str], int] = {}
        self.script = [self.parts.keep(request) for request in model.script]

    # --- the first state --------------------------------------------------------------------------

    def first(self) -> State:
        """What the user has set up is stored, every machine has started, and has come to rest."""
        parts, now = self.parts, self.model.start
        row = parts.keep_row(())
        for request in self.model.setup:
            row, answer, _ = parts.decide(row, parts.keep(request), now)
            if not parts.values[answer].ok:
                raise ValueError(
                    f"the setup of model {self.model.name} is refused: {parts.values[answer].body}"
                )
        budget = self._keep_budget(self.first_budget, 0)
        none = self._keep_budget((0,) * len(FAULTS), len(self.script))
        bundles = [parts.start(machine, 1, now) for machine in range(len(parts.names))]
        state: State = (now, row, none, *bundles)
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
        """The budget with one fault of this kind less."""
        found = self._spent.get((budget, fault))
        if found is None:
            left, position = self.budgets[budget]
            place = FAULTS.index(fault)
            left = (*left[:place], left[place] - 1, *left[place + 1 :])
            found = self._spent[budget, fault] = self._keep_budget(left, position)
        return found

    def next_request(self, budget: int) -> int:
        """The budget with one request of the user less."""
        left, position = self.budgets[budget]
        return self._keep_budget(left, position + 1)

    # --- all moves --------------------------------------------------------------------------------

    def of(self, state: State, prologue: bool = False) -> Iterator[tuple[Move, State]]:
        """Every move from here and where it leads (not yet made `normal`), in a fixed order.
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
        for request in self._environment(state[ROW], state[NOW]):
            is_quiet = False
            played = Environment(request)
            yield played, played.after(self, state)
        left, position = self.budgets[state[BUDGET]]
        if position < len(self.script):
            wish = User(self.script[position])
            yield wish, wish.after(self, state)
        if any(left):
            for fault in self._faults(state, dict(zip(FAULTS, left, strict=True))):
                yield fault, fault.after(self, state)
        if is_quiet or left[-1]:
            to = self.upcoming(state)
            if to is not None and to <= self.horizon:
                elapse = Elapse(to, not is_quiet)
                yield elapse, elapse.after(self, state)

    def is_quiet(self, state: State) -> bool:
        """Whether nothing can happen here but time, the user and faults."""
        return next(self.happenings(state), None) is None and not self._environment(
            state[ROW], state[NOW]
        )

    def happenings(self, state: State) -> Iterator[Move]:
        """The moves that `happenings` of the reference has as actions (EXPLORE-12), in a fixed order."""
        parts, now = self.parts, state[NOW]
        shelves = parts.rows[state[ROW]]
        for number in state[FIRST:]:
            menu = self._menu(number)
            yield from menu.arrivals
            yield from menu.openings
            yield from menu.answers
            for watch in menu.watches:
                shelf = shelves[watch.place] if watch.place < len(shelves) else 0
                if lag := parts.lag(watch.opened, shelf):
                    yield from watch.moves(lag)
            for operate in menu.operations:
                if is_due(operate.job[2], now):
                    yield operate
            if is_due(menu.wake_at, now):
                yield menu.wake
            yield from menu.orphans

    def _opening(self, state: State) -> Move | None:
        """A watch that may be opened. It is opened before anything else happens, since when makes
        no difference (EXPLORE-9)."""
        for number in state[FIRST:]:
            for opening in self._menu(number).openings:
                return opening
        return None

    def _faults(self, state: State, left: dict[str, int]) -> Iterator[Move]:
        parts = self.parts
        for number in state[FIRST:]:
            menu = self._menu(number)
            machine = menu.machine
            if left["crash"]:
                yield menu.crash
            if left["lose"]:
                for sent in (*menu.arrivals, *menu.openings):
                    yield LoseRequest(machine, sent.flight)
                # a lost answer to a read and a lost read are the same for the machine
                for answer in menu.answers:
                    if _is_write(parts, answer.flight):
                        yield LoseAnswer(machine, answer.flight)
                for orphan in menu.orphans:
                    yield LoseOrphan(machine, orphan.request)
            if left["give-up"]:
                for flight in menu.writes:
                    yield GiveUp(machine, flight)
            if left["duplicate"]:
                for flight in menu.writes:
                    yield Duplicate(machine, flight)
            if left["refuse"]:
                for arrival in menu.arrivals:
                    yield Refuse(machine, arrival.flight)
            if left["cut"]:
                for watch in menu.watches:
                    yield watch.cut
            if left["disturb"] and parts.bundles[number].world >= 0:
                for what, which in self.model.disturbances:
                    yield Disturb(machine, what, which)
        if left["compact"]:
            yield Compact()
        if left["restart-server"]:
            yield RestartServer()

    def upcoming(self, state: State) -> Instant | None:
        """The next instant at which something becomes possible by time alone."""
        now = state[NOW]
        instants = [
            at for number in state[FIRST:] for at in self._menu(number).instants if at > now
        ]
        return min(instants) if instants else None

    def _environment(self, row: int, now: Instant) -> tuple[int, ...]:
        key = (row, now)
        found = self._environments.get(key)
        if found is None:
            asked = self.model.environment(self.parts.reader(row), now)
            found = self._environments[key] = tuple([self.parts.keep(request) for request in asked])
        return found

    # --- what the moves use -----------------------------------------------------------------------

    def remember(self, key: Any, number: int, function: Callable[..., int], *given: Any) -> int:
        """What a function makes of the bundle `number`, computed once for each key; with the
        decisions made on the way and the machine's ids from before."""
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

    def with_bundle(self, state: State, move: MachineMove, bundle: int, row: int) -> State:
        """The state after this move of one machine: with another bundle, perhaps another store, and
        one fault less where the move is one."""
        place = FIRST + move.machine
        budget = self.spend(state[BUDGET], move.fault) if move.fault else state[BUDGET]
        return (state[NOW], row, budget, *state[FIRST:place], bundle, *state[place + 1 :])

    def _menu(self, number: int) -> Menu:
        menu = self._menus.get(number)
        if menu is None:
            menu = self._menus[number] = Menu(self.parts, number)
        return menu

    # --- one state for all that no machine can tell apart -----------------------------------------

    def normal(self, state: State) -> State:
        """The state without changes that no machine will ask for any more (EXPLORE-4), with the
        revisions renumbered that every watcher has reached (EXPLORE-8)."""
        floors = self.parts.floor_numbers
        key = (state[ROW], *[floors[number] for number in state[FIRST:]])
        found = self._cuts.get(key)
        if found is None:
            found = self._cuts[key] = self._cut_anew(state)
        row, renamed = found
        if renamed:
            bundles = state[FIRST:]
            for place, shelf in renamed:
                bundles = tuple([self.quiet.of_bundle(number, place, shelf) for number in bundles])
            return (state[NOW], row, state[BUDGET], *bundles)
        return state if row == state[ROW] else (state[NOW], row, *state[BUDGET:])

    def _cut_anew(self, state: State) -> tuple[int, tuple[tuple[int, int], ...]]:
        parts, book = self.parts, self.parts.book
        lowest: dict[int, int] = {}
        for number in state[FIRST:]:
            for place, revision in parts.floors(number):
                lowest[place] = min(revision, lowest.get(place, revision))
        cut = parts.rows[state[ROW]]
        renamed: list[tuple[int, int]] = []
        for place, shelf in enumerate(cut):
            top = book.tops[shelf]
            floor = lowest.get(place, top)
            cut = book.cut(cut, place, min(floor, top))
            # a machine must list again, and still compares with what it has in its view
            is_missed = floor < book.floors[cut[place]]
            if (
                self.reduced
                and shelf
                and not is_missed
                and (renaming := self.quiet.of_shelf(place, cut[place])) is not None
            ):
                renamed.append((place, cut[place]))
                cut = book.with_shelf(cut, place, renaming[1])
        return parts.keep_row(cut), tuple(renamed)
