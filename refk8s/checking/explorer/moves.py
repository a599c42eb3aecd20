"""Which moves a state has, and where each leads. Rules EXPLORE-1, EXPLORE-2 (spec/explorer.md).

A state is a tuple of numbers: (now, store, purse, bundle of machine 0, bundle of machine 1, ...).
The purse says how many of each fault are left and how far the user's script has come. A move is a
tuple: its kind, the machine, and what it is about in that machine's bundle.

Every move is one action of refk8s/core/actions.py (EXPLORE-6): `replay.py` says which.
"""

from collections.abc import Callable, Iterator
from typing import Any

from refk8s.checking.explorer.models import Model
from refk8s.checking.explorer.parts import Flight, Parts
from refk8s.checking.explorer.renumbering import Quiet
from refk8s.core.context import SECOND, Instant
from refk8s.core.properties.law import Decision

State = tuple[int, ...]
Move = tuple[Any, ...]
NOW, ROW, PURSE, FIRST = 0, 1, 2, 3

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
"""What may go wrong, each so many times in a history (`--faults crash=1,lose=1`). slow: time passes
although something could happen."""


class Menu:
    """What a bundle has to offer, worked out once."""

    __slots__ = (
        "answers",
        "arrivals",
        "jobs",
        "openings",
        "orphans",
        "wake_at",
        "watches",
        "world_at",
    )

    def __init__(self, parts: Parts, number: int) -> None:
        bundle = parts.bundles[number]
        self.answers = [flight for flight in bundle.flying if flight[3] >= 0]
        self.arrivals = [flight for flight in bundle.flying if flight[3] < 0 and not flight[1]]
        self.openings = [flight for flight in bundle.flying if flight[3] < 0 and flight[1]]
        self.orphans = sorted(set(bundle.orphans))
        self.watches = [
            (opened, parts.book.place(parts.values[opened[1]].resource.prefix))
            for opened in bundle.watches
        ]
        self.jobs = bundle.jobs
        self.wake_at = bundle.wake_at
        world = parts.values.get(bundle.world)
        self.world_at: Instant | None = world.next_change() if world is not None else None


class Moves:
    """The transition relation of one model under one set of budgets."""

    def __init__(
        self, model: Model, budgets: dict[str, int], seed: bytes = b"explore", reduced: bool = True
    ) -> None:
        self.reduced = reduced and not model.one_revision
        self.model = model
        self.machines = model.machines()
        self.parts = Parts(self.machines, model.worlds(), seed, model.one_revision)
        self.budgets = tuple([budgets.get(name, 0) for name in FAULTS])
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
        self.purses: list[tuple[tuple[int, ...], int]] = []
        self._purse_numbers: dict[Any, int] = {}
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
        purse = self._purse(self.budgets, 0)
        none = self._purse((0,) * len(FAULTS), len(self.script))
        bundles = [parts.start(machine, 1, now) for machine in range(len(parts.names))]
        state: State = (now, row, none, *bundles)
        while self.model.rests_first:
            following = next(
                (after for move, after in self.of(state, prologue=True) if move[0] != "elapse"),
                None,
            )
            if following is None:
                break
            state = self.normal(following)
        return (*state[:PURSE], purse, *state[FIRST:])

    def _purse(self, budgets: tuple[int, ...], position: int) -> int:
        key = (budgets, position)
        number = self._purse_numbers.get(key)
        if number is None:
            number = self._purse_numbers[key] = len(self.purses)
            self.purses.append(key)
        return number

    def _spend(self, purse: int, fault: str) -> int:
        budgets, position = self.purses[purse]
        place = FAULTS.index(fault)
        return self._purse((*budgets[:place], budgets[place] - 1, *budgets[place + 1 :]), position)

    # --- all moves --------------------------------------------------------------------------------

    def of(self, state: State, prologue: bool = False) -> Iterator[tuple[Move, State]]:
        """Every move from here and where it leads (not yet made `normal`), in a fixed order."""
        now, row = state[NOW], state[ROW]
        if self.reduced and (opening := self._opening(state, now, row)) is not None:
            yield opening
            return
        quiet = True
        for move, after in self._happenings(state, now, row):
            quiet = False
            yield move, after
        if not prologue:
            for request in self._environment(row, now):
                quiet = False
                yield ("environment", request), self._submitted(state, request, state[PURSE])
            budgets, position = self.purses[state[PURSE]]
            if position < len(self.script):
                request = self.script[position]
                yield (
                    ("user", request),
                    self._submitted(state, request, self._purse(budgets, position + 1)),
                )
            if any(budgets):
                yield from self._faults(state, now, row, budgets)
            if (
                (quiet or budgets[-1])
                and (to := self.upcoming(state)) is not None
                and to <= self.horizon
            ):
                purse = state[PURSE] if quiet else self._spend(state[PURSE], "slow")
                yield ("elapse", to), self._elapsed(state, to, purse)

    def is_quiet(self, state: State) -> bool:
        """Whether nothing can happen here but time, the user and faults."""
        now, row = state[NOW], state[ROW]
        return next(self._happenings(state, now, row), None) is None and not self._environment(
            row, now
        )

    def _happenings(self, state: State, now: Instant, row: int) -> Iterator[tuple[Move, State]]:
        parts, steps, memo = self.parts, self._steps, self._memo
        shelves = parts.rows[row]
        for machine in range(len(parts.names)):
            number = state[FIRST + machine]
            menu = self._menu(number)
            for flight in menu.arrivals:
                after, answer, _ = parts.decide(row, flight[2], now)
                key: Any = (number, "arrive", flight[0], answer)
                to = steps.get(key) or memo(key, parts.arrived, number, flight, answer)
                yield ("arrive", machine, flight), self._with(state, machine, to, after)
            for flight in menu.openings:
                key = (number, "open", flight[0], self._home(row, flight), now)
                to = steps.get(key) or memo(key, parts.open_watch, number, flight, shelves, now)
                yield ("open", machine, flight), self._with(state, machine, to, row)
            for flight in menu.answers:
                key = (number, "answer", flight[0], now)
                to = steps.get(key) or memo(key, parts.answer, number, flight, now)
                yield ("answer", machine, flight), self._with(state, machine, to, row)
            for opened, place in menu.watches:
                shelf = shelves[place] if place < len(shelves) else 0
                lag = parts.lag(opened, shelf)
                for limit in range(1, lag + 1) if lag >= 0 else (1,):
                    key = (number, "notify", opened[0], shelf, limit, now)
                    to = steps.get(key) or memo(
                        key, parts.notify, number, opened, shelf, limit, now
                    )
                    yield ("notify", machine, opened, limit), self._with(state, machine, to, row)
            for job in menu.jobs:
                if job[2] <= now:
                    to = memo((number, "operate", job, now), parts.operate, number, job, now)
                    yield ("operate", machine, job), self._with(state, machine, to, row)
            if menu.wake_at is not None and menu.wake_at <= now:
                to = memo((number, "wake", now), parts.wake, number, now)
                yield ("wake", machine), self._with(state, machine, to, row)
            for request in menu.orphans:
                after, _, _ = parts.decide(row, request, now)
                yield (
                    ("orphan", machine, request),
                    self._with(state, machine, parts.without_orphan(number, request), after),
                )

    def _opening(self, state: State, now: Instant, row: int) -> tuple[Move, State] | None:
        """A watch that may be opened. It is opened before anything else happens, since when makes
        no difference (EXPLORE-9)."""
        for machine in range(len(self.parts.names)):
            number = state[FIRST + machine]
            for flight in self._menu(number).openings:
                key = (number, "open", flight[0], self._home(row, flight), now)
                to = self._steps.get(key) or self._memo(
                    key, self.parts.open_watch, number, flight, self.parts.rows[row], now
                )
                return ("open", machine, flight), self._with(state, machine, to, row)
        return None

    def _faults(
        self, state: State, now: Instant, row: int, budgets: tuple[int, ...]
    ) -> Iterator[tuple[Move, State]]:
        parts = self.parts
        left = dict(zip(FAULTS, budgets, strict=True))
        purse = {name: self._spend(state[PURSE], name) for name, count in left.items() if count}
        for machine in range(len(parts.names)):
            number = state[FIRST + machine]
            menu = self._menu(number)
            writes = [flight for flight in menu.arrivals if self._is_write(flight)]
            if left["crash"]:
                to = self._memo(("crash", number, now), parts.crash, number, now)
                yield ("crash", machine), self._with(state, machine, to, row, purse["crash"])
            # a lost answer to a read and a lost read are the same for whoever asked
            if left["lose"]:
                for flight in (
                    *menu.arrivals,
                    *menu.openings,
                    *[flight for flight in menu.answers if self._is_write(flight)],
                ):
                    kind = "lose answer" if flight[3] >= 0 else "lose request"
                    to = self._memo(
                        ("lose", number, flight, now), parts.unanswered, number, flight, now
                    )
                    yield (
                        (kind, machine, flight),
                        self._with(state, machine, to, row, purse["lose"]),
                    )
                for request in menu.orphans:
                    to = parts.without_orphan(number, request)
                    yield (
                        ("lose orphan", machine, request),
                        self._with(state, machine, to, row, purse["lose"]),
                    )
            if left["give-up"]:
                for flight in writes:
                    to = self._memo(
                        ("give up", number, flight, now), parts.give_up, number, flight, now
                    )
                    yield (
                        ("give up", machine, flight),
                        self._with(state, machine, to, row, purse["give-up"]),
                    )
            if left["duplicate"]:
                for flight in writes:
                    after = parts.decide(row, flight[2], now)[0]
                    yield (
                        ("duplicate", machine, flight),
                        self._with(state, machine, number, after, purse["duplicate"]),
                    )
            if left["refuse"]:
                for flight in menu.arrivals:
                    to = self._memo(
                        ("refuse", number, flight), parts.arrived, number, flight, parts.refusal()
                    )
                    yield (
                        ("refuse", machine, flight),
                        self._with(state, machine, to, row, purse["refuse"]),
                    )
            if left["cut"]:
                for opened, _ in menu.watches:
                    to = self._memo(
                        ("cut", number, opened, now), parts.cut_watch, number, opened, now
                    )
                    yield (
                        ("cut", machine, opened),
                        self._with(state, machine, to, row, purse["cut"]),
                    )
            if left["disturb"] and parts.bundles[number].world >= 0:
                for what, which in self.model.disturbances:
                    to = self._memo(
                        ("disturb", number, what, which, now),
                        parts.disturb,
                        number,
                        what,
                        which,
                        now,
                    )
                    yield (
                        ("disturb", machine, what, which),
                        self._with(state, machine, to, row, purse["disturb"]),
                    )
        if left["compact"]:
            compacted = self._memo(
                ("compact", row), lambda: parts.keep_row(parts.book.compact(parts.rows[row]))
            )
            yield ("compact",), (now, compacted, purse["compact"], *state[FIRST:])
        if left["restart-server"]:
            bundles = [
                self._memo(("disconnect", number, now), parts.disconnect, number, now)
                for number in state[FIRST:]
            ]
            yield ("restart server",), (now, row, purse["restart-server"], *bundles)

    def _memo(self, key: Any, function: Callable[..., int], *given: Any) -> int:
        found = self._steps.get(key)
        if found is None:
            parts = self.parts
            parts.made, parts.ids = (), None
            found = self._steps[key] = function(*given)
            before = key[0] if isinstance(key[0], int) else key[1]
            if parts.made:
                self.decisions[before, found] = parts.made
            if parts.ids is not None:
                self.old_ids[before, found] = {new: old for old, new in parts.ids.items()}
        return found

    # --- small things -----------------------------------------------------------------------------

    def _menu(self, number: int) -> Menu:
        menu = self._menus.get(number)
        if menu is None:
            menu = self._menus[number] = Menu(self.parts, number)
        return menu

    def _is_write(self, flight: Flight) -> bool:
        return self.parts.values[flight[2]].verb not in ("get", "list", "watch")

    def _home(self, row: int, flight: Flight) -> int:
        """The shelf that a request is about."""
        parts = self.parts
        return parts.book.shelf(
            parts.rows[row], parts.book.place(parts.values[flight[2]].resource.prefix)
        )

    def _with(self, state: State, machine: int, bundle: int, row: int, purse: int = -1) -> State:
        place = FIRST + machine
        return (
            state[NOW],
            row,
            state[PURSE] if purse < 0 else purse,
            *state[FIRST:place],
            bundle,
            *state[place + 1 :],
        )

    def normal(self, state: State) -> State:
        """Forget what nobody will ask for any more (EXPLORE-4), and count anew where all has been
        heard (EXPLORE-8)."""
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
            return (state[NOW], row, state[PURSE], *bundles)
        return state if row == state[ROW] else (state[NOW], row, *state[PURSE:])

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
            # somebody must list again, and still compares with what it knew
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

    def _submitted(self, state: State, request: int, purse: int) -> State:
        after, _, _ = self.parts.decide(state[ROW], request, state[NOW])
        return (state[NOW], after, purse, *state[FIRST:])

    def _environment(self, row: int, now: Instant) -> tuple[int, ...]:
        key = (row, now)
        found = self._environments.get(key)
        if found is None:
            asked = self.model.environment(self.parts.reader(row), now)
            found = self._environments[key] = tuple([self.parts.keep(request) for request in asked])
        return found

    def upcoming(self, state: State) -> Instant | None:
        """The next instant at which something becomes possible by time alone."""
        instants: list[Instant] = []
        for number in state[FIRST:]:
            menu = self._menu(number)
            instants += [
                at
                for at in (menu.wake_at, menu.world_at, *[job[2] for job in menu.jobs])
                if at is not None and at > state[NOW]
            ]
        return min(instants) if instants else None

    def _elapsed(self, state: State, to: Instant, purse: int) -> State:
        bundles = [self.parts.advance(number, to) for number in state[FIRST:]]
        return (to, state[ROW], purse, *bundles)
