"""Finds fair cycles in the explored graph. Rule EXPLORE-10 (spec/explorer.md).

After the renumbering of quiet resources, a run that never comes to rest visits a state again. So it
is a cycle of the explored graph, without faults and user requests, which are finite in number. The
cycle breaks the rule if it is fair: every move that is enabled in all of its states is taken in it.
This module searches for strongly connected components with such a cycle.
"""

from array import array
from collections.abc import Sequence
from typing import Any

from refk8s.checking.explorer.moves import Move, State
from refk8s.checking.explorer.transitions import Transitions


class Graph:
    """The explored graph: for each state, in the order of numbers, the successors by free moves."""

    def __init__(self) -> None:
        self.starts = array("l", [0])
        self.targets = array("l")

    def close(self) -> None:
        """End the successors of the current state."""
        self.starts.append(len(self.targets))

    def of(self, number: int) -> Sequence[int]:
        return self.targets[self.starts[number] : self.starts[number + 1]]


def components(graph: Graph) -> list[list[int]]:
    """The strongly connected components with a cycle, each sorted. O(states + moves).

    Tarjan's algorithm without recursion.
    """
    size = len(graph.starts) - 1
    index, low = array("l", [-1]) * size, array("l", [0]) * size
    on_stack = bytearray(size)
    stack: list[int] = []
    found: list[list[int]] = []
    counter = 0
    for root in range(size):
        if index[root] >= 0:
            continue
        work = [(root, graph.starts[root])]
        index[root] = low[root] = counter
        counter += 1
        stack.append(root)
        on_stack[root] = 1
        while work:
            node, edge = work.pop()
            descended = False
            while edge < graph.starts[node + 1]:
                target = graph.targets[edge]
                edge += 1
                if index[target] < 0:
                    work += [(node, edge), (target, graph.starts[target])]
                    index[target] = low[target] = counter
                    counter += 1
                    stack.append(target)
                    on_stack[target] = 1
                    descended = True
                    break
                if on_stack[target]:
                    low[node] = min(low[node], index[target])
            if descended:
                continue
            if low[node] == index[node]:
                part: list[int] = []
                while not part or part[-1] != node:
                    part.append(stack.pop())
                    on_stack[part[-1]] = 0
                if len(part) > 1 or node in graph.of(node):
                    found.append(sorted(part))
            if work:
                parent = work[-1][0]
                low[parent] = min(low[parent], low[node])
    return found


def fair_cycle(moves: Transitions, order: Sequence[State], graph: Graph) -> list[int] | None:
    """A strongly connected component in which a fair run can stay for ever, or None."""
    numbers: dict[State, int] | None = None
    for part in components(graph):
        inside = set(part)
        numbers = (
            numbers
            if numbers is not None
            else {state: number for number, state in enumerate(order)}
        )
        always: set[tuple[Any, ...]] | None = None
        taken: set[tuple[Any, ...]] = set()
        for number in part:
            here = set()
            for move, after in moves.of(order[number]):
                if move.is_free:
                    kind = move.kind()
                    here.add(kind)
                    if numbers[moves.normal(after)] in inside:
                        taken.add(kind)
            always = here if always is None else always & here
        if always is not None and always <= taken:
            return part
    return None


def round_trip(
    moves: Transitions, order: Sequence[State], part: list[int]
) -> list[tuple[State, Move]]:
    """The moves of a shortest cycle through the first state of a component."""
    inside = {order[number] for number in part}
    first = order[part[0]]
    before: dict[State, tuple[State, Move]] = {}
    queue = [first]
    for state in queue:
        for move, after in moves.of(state):
            to = moves.normal(after)
            if not move.is_free or to not in inside:
                continue
            if to == first:
                found = [(state, move)]
                while found[0][0] != first:
                    found.insert(0, before[found[0][0]])
                return found
            if to not in before:
                before[to] = (state, move)
                queue.append(to)
    return []
