"""Explores every history of a small cluster, shortest first.

Rules EXPLORE-1 ... EXPLORE-12 (spec/explorer.md).

A breadth-first search over the states of refk8s/checking/explorer/moves.py, which evaluates the
laws in every step. It has one of three outcomes:

    HELD           every state within the model's bounds was visited, and every rule held
    BROKE          a rule broke; the history is a shortest one
    UNDETERMINED   the search stopped before it had visited every state
"""

import gc
import time
from array import array
from collections import Counter
from collections.abc import Callable

from attrs import define, field, frozen

from refk8s.checking.explorer.judge import Judge
from refk8s.checking.explorer.liveness import Graph, fair_cycle, round_trip
from refk8s.checking.explorer.model import Model
from refk8s.checking.explorer.moves import Move, State
from refk8s.checking.explorer.transitions import Transitions
from refk8s.core.properties.law import Broken

HELD, BROKE, UNDETERMINED = "held", "broke", "UNDETERMINED"


@frozen
class Bounds:
    """The bounds of a search: faults with budgets, steps, states and seconds; None: no bound."""

    faults: dict[str, int] = field(factory=dict)
    depth: int | None = None
    states: int | None = None
    seconds: float | None = None


@define
class Result:
    """The result of a search."""

    model: Model
    bounds: Bounds
    verdict: str = UNDETERMINED
    why: str = ""  # what stopped it
    states: int = 0
    expanded: int = 0
    transitions: int = 0
    depth: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    resting: int = 0  # states without a move before the horizon
    rests: list[State] = field(factory=list)
    at_horizon: int = 0  # states in which only time beyond the model's horizon could pass
    unevaluated: int = 0  # laws of rest that read history that is discarded here
    taken: Counter[str] = field(factory=Counter)
    tested: Counter[str] = field(factory=Counter)
    broken: list[Broken] = field(factory=list)
    # each move with the state before it
    history: list[tuple[State, Move | None]] = field(factory=list)
    moves: Transitions | None = None


def explore(
    model: Model,
    bounds: Bounds,
    progress: Callable[[Result], None] = lambda result: None,
    reduced: bool = True,
) -> Result:
    """Search until every state is visited, a rule breaks, or a bound is reached.

    `progress` is called about ten times a second. If not `reduced`, EXPLORE-8 and EXPLORE-9 are
    disabled, for comparison.
    """
    gc.collect()
    # a search keeps the values that it creates: the garbage collector would scan them again and
    # again without effect
    gc.disable()
    try:
        return _explore(model, bounds, progress, reduced)
    finally:
        gc.enable()


def _explore(
    model: Model, bounds: Bounds, progress: Callable[[Result], None], reduced: bool
) -> Result:
    began = time.perf_counter()
    moves = Transitions(model, bounds.faults, reduced=reduced)
    judge = Judge(moves)
    result = Result(model, bounds, moves=moves, tested=judge.tested)
    first = moves.first()
    order: list[State] = [first]  # in the order of discovery, so by depth
    seen: dict[State, int] = {first: 0}
    parents = array("l", [-1])
    level_ends, shown = 1, began
    taken: Counter[str] = Counter()
    at = 0
    graph = Graph()
    cpu = time.process_time()

    def finish(verdict: str, why: str = "") -> Result:
        result.verdict, result.why = verdict, why
        result.states, result.expanded, result.seconds = len(order), at, time.perf_counter() - began
        result.taken, result.cpu_seconds, result.unevaluated = (
            taken,
            time.process_time() - cpu,
            judge.unevaluated,
        )
        return result

    try:
        while at < len(order):
            if at == level_ends:
                if bounds.depth is not None and result.depth >= bounds.depth:
                    return finish(UNDETERMINED, f"depth {bounds.depth}")
                result.depth += 1
                level_ends = len(order)
            if not at & 255:
                now = time.perf_counter()
                if bounds.seconds is not None and now - began >= bounds.seconds:
                    return finish(UNDETERMINED, f"{bounds.seconds:g} seconds")
                if now - shown >= 0.1:
                    shown = now
                    result.states, result.seconds = len(order), now - began
                    progress(result)
            state = order[at]
            for move, after in moves.of(state):
                result.transitions += 1
                taken[move.word] += 1
                if broken := judge.of_move(state, move, after):
                    result.broken = broken
                    result.history = [
                        *_path(moves, order, parents, at),
                        (state, move),
                        (after, None),
                    ]
                    at += 1
                    return finish(BROKE)
                after = moves.normal(after)
                number = seen.get(after)
                if number is None:
                    number = seen[after] = len(order)
                    order.append(after)
                    parents.append(at)
                if move.is_free:
                    graph.targets.append(number)
            graph.close()
            if moves.is_quiet(state):
                upcoming = moves.upcoming(state)
                if upcoming is None or upcoming > moves.horizon:
                    result.resting += 1
                    result.rests.append(state)
                    result.at_horizon += upcoming is not None
                    if broken := judge.at_rest(state):
                        result.broken = broken
                        result.history = [*_path(moves, order, parents, at), (state, None)]
                        at += 1
                        return finish(BROKE)
            at += 1
            if bounds.states is not None and len(order) >= bounds.states and at < len(order):
                return finish(UNDETERMINED, f"{bounds.states} states")
    except KeyboardInterrupt:
        return finish(UNDETERMINED, "Ctrl-C")
    if (part := fair_cycle(moves, order, graph)) is not None:
        words = f"a fair run stays in a cycle of {len(part)} states and never settles"
        result.broken = [Broken("EXPLORE-10", words)]
        result.history = [*_path(moves, order, parents, part[0]), *round_trip(moves, order, part)]
        return finish(BROKE)
    return finish(HELD)


def _path(
    moves: Transitions, order: list[State], parents: "array[int]", at: int
) -> list[tuple[State, Move]]:
    """The moves that led to a state, each with the state before it."""
    found: list[tuple[State, Move]] = []
    while parents[at] >= 0:
        before = order[parents[at]]
        move = next(move for move, after in moves.of(before) if moves.normal(after) == order[at])
        found.append((before, move))
        at = parents[at]
    return found[::-1]
