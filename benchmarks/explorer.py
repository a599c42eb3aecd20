"""The speed of the explorer, which models it exhausts, and a comparison with a public
explicit-state checker on a toy model.

    python benchmarks/explorer.py [--seconds N] [MODEL ...]

It takes some minutes; the comparison needs minicheck (PyPI). Rates are per second of CPU time,
because other processes may use the machine. In the toy model each machine reads one object and
writes it back incremented, with the resourceVersion that it read, until it has done so twice; after
a conflict it reads again. In our model the machines use the real API server and store, in that of
minicheck a state is a tuple. Both find the same number of states.
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from typing import Any

from msgspec.structs import replace

from refk8s.checking.explorer.model import Model, create
from refk8s.checking.explorer.models import MODELS
from refk8s.checking.explorer.search import Bounds, explore
from refk8s.core.api.request import Request
from refk8s.core.api.resources import CONFIG_MAPS, NAMESPACES
from refk8s.core.api.user import ADMIN
from refk8s.core.machine import Answered, Call, Event

BUDGETS: tuple[dict[str, int], ...] = (
    {}, {"crash": 1}, {"lose": 1}, {"give-up": 1}, {"duplicate": 1}, {"refuse": 1}, {"cut": 1, "compact": 1},
)  # fmt: skip
TIMES = 2
OBJECT = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "counter"},
    "data": {"value": "0"},
}
GET = Request("get", CONFIG_MAPS, "default", "counter", user=ADMIN)


class Counter:
    """One machine of the toy model. Its state: the number of writes left, and whether it waits for
    the answer to a write."""

    def __init__(self, name: str) -> None:
        self.name = name

    def start(self, now: int, seed: bytes) -> tuple[Any, tuple[Any, ...]]:
        return (TIMES, False), (Call(1, GET),)

    def step(self, state: Any, events: Sequence[Event], now: int) -> tuple[Any, tuple[Any, ...]]:
        (left, writes), event = state, events[0]
        assert isinstance(event, Answered) and event.response is not None
        if not writes:
            body = event.response.body
            greater = replace(body, data={"value": str(int(body.data["value"]) + 1)})
            return (left, True), (
                Call(
                    1,
                    Request("update", CONFIG_MAPS, "default", "counter", body=greater, user=ADMIN),
                ),
            )
        left -= event.response.ok
        return (left, False), (Call(1, GET),) if left else ()


def explorer_model(machines: int) -> Model:
    return Model(
        "toy", "", lambda: {f"m{n}": Counter(f"m{n}") for n in range(machines)},
        (create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}}), create(CONFIG_MAPS, OBJECT)),
        rests_first=False,
    )  # fmt: skip


def minicheck_model(machines: int) -> Any:
    """The toy model for minicheck: (value, (left, phase, value read or written) of each
    machine)."""
    from minicheck import Protocol

    def moves(state: tuple[Any, ...]) -> Iterator[tuple[str, tuple[Any, ...]]]:
        value, *each = state
        for n, (left, phase, seen) in enumerate(each):
            then = value
            if phase == "get sent":
                to = (left, "got", value)
            elif phase == "got":
                to = (left, "put sent", seen)
            elif phase == "put sent":
                is_newest = seen == value
                then, to = (
                    (value + 1, (left, "put", value + 1))
                    if is_newest
                    else (value, (left, "conflict", seen))
                )
            elif phase == "put":
                to = (left - 1, "get sent", None) if left > 1 else (0, "done", None)
            elif phase == "conflict":
                to = (left, "get sent", None)
            else:
                continue
            yield f"{n} {phase}", (then, *each[:n], to, *each[n + 1 :])

    names = ("value", *[f"m{n}" for n in range(machines)])
    return Protocol(
        name="toy", candidate=False, fields=names, initial=(0, *[(TIMES, "get sent", None)] * machines),
        transitions=lambda state: list(moves(state)), invariants={"at most two writes each": lambda d: d["value"] <= TIMES * machines},
    )  # fmt: skip


def compare(machines: int) -> None:
    try:
        from minicheck import check_safety
    except ImportError:
        print("minicheck is not installed: no comparison")
        return
    result = explore(explorer_model(machines), Bounds(), reduced=False)
    mine = result.cpu_seconds
    protocol = minicheck_model(machines)
    begin = time.process_time()
    found = check_safety(protocol, max_states=10_000_000)
    other = time.process_time() - begin
    count = found["reachable_states"]
    ratio = (result.states / mine) / (count / other)
    print(f"toy of {machines} machines: ours {result.states} states in {mine:.2f} s ({result.states / mine:,.0f}/s), "
          f"minicheck {count} in {other:.2f} s ({count / other:,.0f}/s): ratio {ratio:.2f}")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("models", nargs="*", metavar="MODEL")
    given = parser.parse_args()
    print(
        "| model | budget | states | transitions | depth | at rest | CPU s | states/s | result "
        "|\n|---|---|---|---|---|---|---|---|---|"
    )
    for name in given.models or sorted(MODELS):
        for budget in BUDGETS:
            r = explore(MODELS[name](), Bounds(budget, seconds=given.seconds))
            words = ", ".join(f"{fault} {count}" for fault, count in budget.items()) or "none"
            print(f"| {name} | {words} | {r.states:,} | {r.transitions:,} | {r.depth} | {r.resting} | {r.cpu_seconds:.1f} | "
                  f"{r.expanded / r.cpu_seconds:,.0f} | {r.verdict} {r.broken[0].rule if r.broken else r.why} |", flush=True)  # fmt: skip
    for machines in (3, 4):
        compare(machines)


if __name__ == "__main__":
    main()
