"""The moves of the explorer, one class each, and the action of the reference for each. Rules
EXPLORE-2, EXPLORE-6 (spec/explorer.md).

A state is a tuple of numbers: (now, store, budget, bundle of machine 0, bundle of machine 1, ...).
The budget is the number of a tuple: how many faults of each kind are left, and the position of the
user's next request.

The fields of a move distinguish it from the other moves of a state. Its class has

    after       the state after it, before `Transitions.normal`
    arguments   the fields of the reference's action; `ACTIONS` has the type of the action
    word        its name in reports
    fault       the fault whose budget it uses up
    is_free     whether a run may take it infinitely often (EXPLORE-10)
    is_judged   whether laws of steps and decisions are evaluated for it (EXPLORE-7), which needs
                exactly one machine that takes a step

`transitions.py` decides which moves are possible. A new kind of move needs a class here, an entry
in `ACTIONS`, and the line there that lists it.
"""

from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from refk8s.checking.explorer.bundle import Flight, Job, Open
from refk8s.checking.explorer.parts import Parts
from refk8s.core import actions
from refk8s.core.actions import Action, Channel
from refk8s.core.api.request import Request
from refk8s.core.context import Instant
from refk8s.core.value import Value

if TYPE_CHECKING:
    from refk8s.checking.explorer.transitions import Transitions

State = tuple[int, ...]
NOW, STORE, BUDGET, FIRST = 0, 1, 2, 3


class Names(Protocol):
    """Translates the numbers of moves to the names of a cluster: that of the explorer (judge.py) or
    the reference (replay.py)."""

    def machine(self, machine: int) -> str: ...

    def channel(self, machine: int, id: int) -> Channel: ...

    def abandoned(self, machine: int, request: int) -> Channel: ...

    def abandoned_job(self, machine: int, job: Job) -> Channel: ...

    def request(self, request: int) -> Request: ...

    def next_revision(self) -> int: ...


class Move(Value, frozen=True):
    """A transition from one state to the next."""

    word: ClassVar[str]
    fault: ClassVar[str] = ""
    is_free: ClassVar[bool] = True
    is_judged: ClassVar[bool] = False

    def after(self, of: "Transitions", state: State) -> State:
        """The state after this move."""
        raise NotImplementedError

    def arguments(self, names: Names) -> tuple[Any, ...]:
        """The fields of the action for this move."""
        return ()

    def written(self) -> int:
        """The request that the API server decides in this move; -1 if it decides none."""
        return -1

    def about(self) -> int:
        """The number of the request or stream of this move, which has the resource; -1: none."""
        return -1

    def kind(self) -> tuple[Any, ...]:
        """The move for fairness: moves that differ only in ids and positions are of one kind."""
        fields: tuple[Any, ...] = tuple([getattr(self, name) for name in self.__struct_fields__])
        return (self.word, *fields)


# --- moves of one machine -------------------------------------------------------------------------


class MachineMove(Move, frozen=True):
    """A move that changes one machine's bundle."""

    machine: int

    is_judged = True

    def after(self, of: "Transitions", state: State) -> State:
        number, now = state[FIRST + self.machine], state[NOW]
        to = of.remember((number, self, now), number, self.bundle_after, of.parts, number, now)
        return of.with_bundle(state, self, to, state[STORE])

    def bundle_after(self, parts: Parts, number: int, now: Instant) -> int:
        """The number of the machine's bundle after this move."""
        raise NotImplementedError

    def arguments(self, names: Names) -> tuple[Any, ...]:
        return (names.machine(self.machine),)


class Wake(MachineMove, frozen=True):
    word = "wake"

    def bundle_after(self, parts: Parts, number: int, now: Instant) -> int:
        return parts.wake(number, now)


class Operate(MachineMove, frozen=True):
    """The container runtime carries out an operation."""

    job: Job

    word = "operate"

    def bundle_after(self, parts: Parts, number: int, now: Instant) -> int:
        return parts.operate(number, self.job, now)

    def arguments(self, names: Names) -> tuple[Any, ...]:
        if self.job[0] == 0:
            return (names.abandoned_job(self.machine, self.job),)
        return (names.channel(self.machine, self.job[0]),)

    def kind(self) -> tuple[Any, ...]:
        return self.word, self.machine, self.job[1]


class FlightMove(MachineMove, frozen=True):
    """A move of one request or its answer."""

    flight: Flight

    def arguments(self, names: Names) -> tuple[Any, ...]:
        return (names.channel(self.machine, self.flight[0]),)

    def about(self) -> int:
        return self.flight[2]

    def kind(self) -> tuple[Any, ...]:
        return self.word, self.machine, self.flight[2]


class Arrive(FlightMove, frozen=True):
    """A request reaches the API server."""

    word = "arrive"

    def after(self, of: "Transitions", state: State) -> State:
        number, flight, parts = state[FIRST + self.machine], self.flight, of.parts
        store, answer, _ = parts.decide(state[STORE], flight[2], state[NOW])
        to = of.remember((number, self, answer), number, parts.arrived, number, flight, answer)
        return of.with_bundle(state, self, to, store)

    def written(self) -> int:
        return self.flight[2]


class OpenWatch(FlightMove, frozen=True):
    """A watch request reaches the API server."""

    word = "open"

    def after(self, of: "Transitions", state: State) -> State:
        number, now, parts = state[FIRST + self.machine], state[NOW], of.parts
        store = parts.stores[state[STORE]]
        resource_state = parts.store_states.resource_state(store, parts.position_of(self.flight[2]))
        key = (number, self, resource_state, now)
        to = of.remember(key, number, parts.open_watch, number, self.flight, store, now)
        return of.with_bundle(state, self, to, state[STORE])


class Answer(FlightMove, frozen=True):
    """An answer reaches the machine."""

    word = "answer"

    def bundle_after(self, parts: Parts, number: int, now: Instant) -> int:
        return parts.answer(number, self.flight, now)


class WatchMove(MachineMove, frozen=True):
    """A move of one open watch."""

    watch: Open

    def arguments(self, names: Names) -> tuple[Any, ...]:
        return (names.channel(self.machine, self.watch[0]),)

    def about(self) -> int:
        return self.watch[1]


class Notify(WatchMove, frozen=True):
    """A watch delivers at most `limit` changes."""

    limit: int

    word = "notify"

    def after(self, of: "Transitions", state: State) -> State:
        number, now, parts = state[FIRST + self.machine], state[NOW], of.parts
        store, watch, limit = parts.stores[state[STORE]], self.watch, self.limit
        resource_state = parts.store_states.resource_state(store, parts.position_of(watch[1]))
        key = (number, self, resource_state, now)
        to = of.remember(key, number, parts.notify, number, watch, resource_state, limit, now)
        return of.with_bundle(state, self, to, state[STORE])

    def arguments(self, names: Names) -> tuple[Any, ...]:
        return (*WatchMove.arguments(self, names), self.limit)

    def kind(self) -> tuple[Any, ...]:
        return self.word, self.machine, self.watch[1]


class AbandonedMove(MachineMove, frozen=True):
    """A move of an abandoned request: no machine waits for its answer."""

    request: int

    is_judged = False

    def arguments(self, names: Names) -> tuple[Any, ...]:
        return (names.abandoned(self.machine, self.request),)

    def about(self) -> int:
        return self.request


class ArriveAbandoned(AbandonedMove, frozen=True):
    """An abandoned request reaches the API server."""

    word = "arrive abandoned"

    def after(self, of: "Transitions", state: State) -> State:
        store, _, _ = of.parts.decide(state[STORE], self.request, state[NOW])
        to = of.parts.without_abandoned(state[FIRST + self.machine], self.request)
        return of.with_bundle(state, self, to, store)

    def written(self) -> int:
        return self.request


# --- moves of no machine --------------------------------------------------------------------------


class Environment(Move, frozen=True):
    """The environment sends a request, which takes effect at once."""

    request: int

    word = "environment"

    def after(self, of: "Transitions", state: State) -> State:
        store, _, _ = of.parts.decide(state[STORE], self.request, state[NOW])
        return (state[NOW], store, *state[BUDGET:])

    def arguments(self, names: Names) -> tuple[Any, ...]:
        return (names.request(self.request),)

    def written(self) -> int:
        return self.request

    def about(self) -> int:
        return self.request


class User(Environment, frozen=True):
    """The user sends the next request of the script."""

    word = "user"
    is_free = False

    def after(self, of: "Transitions", state: State) -> State:
        now, store, budget, *bundles = Environment.after(self, of, state)
        return (now, store, of.next_request(budget), *bundles)


class Elapse(Move, frozen=True):
    """Time passes. `is_slow`: although another move is possible."""

    to: Instant
    is_slow: bool = False

    word = "elapse"

    def after(self, of: "Transitions", state: State) -> State:
        bundles = [of.parts.advance(number, self.to) for number in state[FIRST:]]
        budget = of.spend(state[BUDGET], "slow") if self.is_slow else state[BUDGET]
        return (self.to, state[STORE], budget, *bundles)

    def arguments(self, names: Names) -> tuple[Any, ...]:
        return (self.to,)

    def kind(self) -> tuple[Any, ...]:
        return self.word, self.to


# --- faults ---------------------------------------------------------------------------------------


class Crash(MachineMove, frozen=True):
    word = fault = "crash"
    is_free = False

    def bundle_after(self, parts: Parts, number: int, now: Instant) -> int:
        return parts.crash(number, now)


class LoseRequest(FlightMove, frozen=True):
    word, fault = "lose request", "lose"
    is_free = False

    def bundle_after(self, parts: Parts, number: int, now: Instant) -> int:
        return parts.unanswered(number, self.flight, now)


class LoseAnswer(LoseRequest, frozen=True):
    word = "lose answer"


class LoseAbandoned(AbandonedMove, frozen=True):
    word, fault = "lose abandoned", "lose"
    is_free = False

    def bundle_after(self, parts: Parts, number: int, now: Instant) -> int:
        return parts.without_abandoned(number, self.request)


class GiveUp(FlightMove, frozen=True):
    """The machine stops waiting for a request, which may still arrive."""

    word, fault = "give up", "give-up"
    is_free = False

    def bundle_after(self, parts: Parts, number: int, now: Instant) -> int:
        return parts.give_up(number, self.flight, now)


class Duplicate(FlightMove, frozen=True):
    """A write arrives twice."""

    word = fault = "duplicate"
    is_free = False
    is_judged = False

    def after(self, of: "Transitions", state: State) -> State:
        store, _, _ = of.parts.decide(state[STORE], self.flight[2], state[NOW])
        return of.with_bundle(state, self, state[FIRST + self.machine], store)

    def written(self) -> int:
        return self.flight[2]


class Refuse(FlightMove, frozen=True):
    """The API server answers 500 without executing the request."""

    word = fault = "refuse"
    is_free = False

    def bundle_after(self, parts: Parts, number: int, now: Instant) -> int:
        return parts.arrived(number, self.flight, parts.refusal())


class CutWatch(WatchMove, frozen=True):
    word = fault = "cut"
    is_free = False

    def bundle_after(self, parts: Parts, number: int, now: Instant) -> int:
        return parts.cut_watch(number, self.watch, now)


class Disturb(MachineMove, frozen=True):
    """A fault of a node, from the model's `disturbances`."""

    what: str
    which: str

    word = fault = "disturb"
    is_free = False

    def bundle_after(self, parts: Parts, number: int, now: Instant) -> int:
        return parts.disturb(number, self.what, self.which, now)

    def arguments(self, names: Names) -> tuple[Any, ...]:
        return (names.machine(self.machine), self.what, self.which)


class Compact(Move, frozen=True):
    """The store discards all history. In the reference an unrelated object is written before, so
    that every watch is behind the compacted revision."""

    word = fault = "compact"
    is_free = False

    def after(self, of: "Transitions", state: State) -> State:
        budget = of.spend(state[BUDGET], self.fault)
        return (state[NOW], of.parts.compacted(state[STORE]), budget, *state[FIRST:])

    def arguments(self, names: Names) -> tuple[Any, ...]:
        return (names.next_revision(),)


class RestartServer(Move, frozen=True):
    """Every connection breaks."""

    word, fault = "restart server", "restart-server"
    is_free = False

    def after(self, of: "Transitions", state: State) -> State:
        now = state[NOW]
        bundles = [
            of.remember((number, self, now), number, of.parts.disconnect, number, now)
            for number in state[FIRST:]
        ]
        return (now, state[STORE], of.spend(state[BUDGET], self.fault), *bundles)


# --- the action of the reference for each (EXPLORE-6) ---------------------------------------------

ACTIONS: dict[type[Move], type[Action]] = {
    Arrive: actions.Arrive,
    OpenWatch: actions.Arrive,
    ArriveAbandoned: actions.Arrive,
    Answer: actions.Answer,
    Notify: actions.Notify,
    Operate: actions.Operate,
    Wake: actions.Wake,
    Elapse: actions.Elapse,
    Environment: actions.Submit,
    User: actions.Submit,
    Crash: actions.Crash,
    LoseRequest: actions.LoseRequest,
    LoseAbandoned: actions.LoseRequest,
    LoseAnswer: actions.LoseAnswer,
    GiveUp: actions.GiveUp,
    Duplicate: actions.Duplicate,
    Refuse: actions.Refuse,
    CutWatch: actions.CutWatch,
    Disturb: actions.Disturb,
    Compact: actions.Compact,
    RestartServer: actions.RestartServer,
}
"""Not explored: `Delay` and `Partition` (any order of deliveries is a delay), `Stop` and `Start` (a
crash is a stop without duration), `Suspend` and `Resume` (a late delivery of everything), `Skew`.
With one API server there are no `Stale`, `CatchUp`, `CutOff`, `Switch`, `StopServer` and
`StartServer`."""


def to_action(move: Move, names: Names) -> Action:
    """The action for this move, with the names of one cluster."""
    action: Action = ACTIONS[type(move)](*move.arguments(names))
    return action
