"""A history of clients that read and write objects by compare-and-set, and whether it is
linearizable: as if each operation had taken effect at one moment between its begin and its end.

Every write compares the version that it has read, increments the number and leaves a mark that no
other write has. So the versions of a key order its states, and these conditions are enough: every
state follows from the one that its writer has read, nothing that was refused is ever seen, and no
operation finds a state older than one that was seen before it began.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

OK, REFUSED, UNKNOWN = "ok", "refused", "unknown"


class State(NamedTuple):
    """What an object is at a version."""

    version: int
    number: int
    mark: str


class Operation(NamedTuple):
    """A read (`mark` is empty), or a write of `number` after the state `found`. `made`: the version
    of a write that succeeded."""

    key: str
    begin: float
    end: float
    outcome: str
    found: State | None = None
    number: int = 0
    mark: str = ""
    made: int = 0

    @property
    def seen(self) -> State | None:
        """The state that the operation shows; None if it shows none."""
        if self.outcome != OK:
            return None
        return State(self.made, self.number, self.mark) if self.mark else self.found


def violations(history: Iterable[Operation]) -> Iterator[str]:
    """Why the history is not linearizable. O(n log n)."""
    by_key: dict[str, list[Operation]] = {}
    for operation in history:
        by_key.setdefault(operation.key, []).append(operation)
    for key, operations in by_key.items():
        for words in (*_states(operations), *_order(operations)):
            yield f"{key}: {words}"


def _states(operations: list[Operation]) -> Iterator[str]:
    states: dict[int, State] = {}
    for state in [each.seen for each in operations] + [each.found for each in operations]:
        if state is not None and states.setdefault(state.version, state) != state:
            yield f"version {state.version} is {states[state.version]} and {state}"
    writes = {each.mark: each for each in operations if each.mark}
    numbers: dict[int, str] = {}
    last = None
    for _, state in sorted(states.items()):
        write = writes.get(state.mark)
        if write is not None and write.outcome == REFUSED:
            yield f"{state} was refused"
        if write is not None and write.found is not None and write.number != state.number:
            yield f"{state} is not what was written: {write.number}"
        if numbers.setdefault(state.number, state.mark) != state.mark:
            yield f"two writes have the number {state.number}: an update is lost"
        if last is not None and state.number <= last.number:
            yield f"{state} is after {last}"
        last = state
    if states:
        newest = max(states)
        effective = {each.mark for each in operations if each.mark and each.outcome == OK}
        possible = len(effective) + sum(1 for each in operations if each.outcome == UNKNOWN)
        number = states[newest].number
        if not len(effective) <= number <= possible:
            yield f"the number is {number} after {len(effective)} to {possible} writes"


def _order(operations: list[Operation]) -> Iterator[str]:
    """What begins after another operation has ended is not older."""
    ended = sorted((each for each in operations if each.seen is not None), key=lambda one: one.end)
    newest, position = 0, 0
    for operation in sorted(operations, key=lambda one: one.begin):
        while position < len(ended) and ended[position].end <= operation.begin:
            seen = ended[position].seen
            assert seen is not None
            newest, position = max(newest, seen.version), position + 1
        state = operation.seen
        if state is not None and state.version < newest:
            yield f"{operation} shows {state}, and version {newest} was seen before"
        if state is not None and operation.mark and state.version <= newest:
            yield f"{operation} wrote version {state.version} after {newest} was seen"
