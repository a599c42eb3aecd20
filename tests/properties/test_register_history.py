"""The check of linearizability itself: it accepts what one register does, and finds each
mistake."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from register_history import OK, REFUSED, UNKNOWN, Operation, State, violations


def run(seed: int, clients: int = 3, steps: int = 40) -> list[Operation]:
    """Clients of one register that is linearizable. Some answers are lost."""
    chance, now = random.Random(seed), 0.0
    state = State(1, 0, "")
    history: list[Operation] = []
    held: list[State | None] = [None] * clients
    for step in range(steps):
        begin = now = now + chance.random()
        client = chance.randrange(clients)
        found = held[client]
        end = now + 3 * chance.random()  # others run meanwhile
        if found is None:
            held[client] = state
            history.append(Operation("k", begin, end, OK, state))
            continue
        held[client] = None
        mark, number = f"{client}-{step}", found.number + 1
        took = found.version == state.version and chance.random() < 0.8
        if took:
            state = State(state.version + chance.randrange(1, 4), number, mark)
        outcome = UNKNOWN if chance.random() < 0.2 or (found.version == state.version and not took) else OK if took else REFUSED  # fmt: skip
        made = state.version if outcome == OK else 0
        history.append(Operation("k", begin, end, outcome, found, number, mark, made))
    history.append(Operation("k", now + 10, now + 11, OK, state))
    return history


@given(st.integers(0, 10_000))
def test_a_linearizable_history_is_accepted(seed):
    assert list(violations(run(seed))) == []


def broken_stale(history):
    """The last read shows the first state."""
    last = history[-1]
    return [*history, last._replace(begin=last.end, end=last.end + 1, found=State(1, 0, ""))]


def broken_lost(history):
    """An acknowledged write is gone from the last state."""
    last = history[-1]
    return [*history[:-1], last._replace(found=State(last.found.version + 9, 1, "0-0"))]


def broken_refused(history):
    """What was refused is seen."""
    index = next(n for n, each in enumerate(history) if each.mark == history[-1].found.mark)
    return [*history[:index], history[index]._replace(outcome=REFUSED), *history[index + 1 :]]


def broken_twice(history):
    """Two writers have followed the same state."""
    write = next(each for each in history if each.outcome == OK and each.mark)
    late = history[-1].end
    return [*history, write._replace(mark="x", made=10**6, begin=late, end=late + 1)]


def broken_version(history):
    """A version has two contents."""
    last = history[-1]
    return [*history, last._replace(found=last.found._replace(mark="y"))]


@pytest.mark.parametrize(
    "broken", [broken_stale, broken_lost, broken_refused, broken_twice, broken_version]
)
def test_each_mistake_is_found(broken):
    for seed in range(20):
        history = run(seed)
        assert sum(1 for each in history if each.outcome == OK and each.mark) > 3
        assert list(violations(broken(history))), broken.__doc__
