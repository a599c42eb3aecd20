"""The simulated time in a minute and the actions in a second, beside a discrete-event loop whose
events have no effect.

Usage: python benchmarks/simulator.py [--steps N]. The peer is SimPy (PyPI) where it is installed,
else the same loop on heapq. One process, one core, CPU time. All laws check every action; a busy
cluster has a user and all faults at their usual rates. Measured on one core of a cloud machine
under load, Python 3.11, SimPy 4.1.2 (1,050,000 events/s):

    2 nodes: idle 11,600 actions/s and 8,800 cluster-minutes a minute, busy 12,800 and 4,300
    20 nodes: idle 11,400 actions/s and 1,100 cluster-minutes a minute, busy 7,800 and 230
"""

from __future__ import annotations

import argparse
import heapq
import time
from collections.abc import Callable
from typing import Any

from refk8s.checking.simulator.faults import parse_faults
from refk8s.checking.simulator.scenario import default_manifests, read_manifests
from refk8s.checking.simulator.simulate import Run, Setup, simulate

ROUNDS = 3
"""Each figure is the best of so many."""

PROCESSES = 100
"""The number of processes of the peer, each of which sleeps again and again."""


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    best, result = float("inf"), None
    for _ in range(ROUNDS):
        started = time.process_time()
        result = work()
        best = min(best, time.process_time() - started)
    return best, result


def with_heapq(events: int) -> None:
    """Take so many events from a heap; each adds another one."""
    queue = [(number * 0.01, number) for number in range(PROCESSES)]
    heapq.heapify(queue)
    for _ in range(events):
        at, number = heapq.heappop(queue)
        heapq.heappush(queue, (at + 1 + number * 0.001, number))


def with_simpy(events: int) -> None:
    """The same with SimPy's processes and timeouts."""
    import simpy

    environment = simpy.Environment()

    def process(number: int) -> Any:
        for _ in range(events // PROCESSES):
            yield environment.timeout(1 + number * 0.001)

    for number in range(PROCESSES):
        environment.process(process(number))
    environment.run()


def peer() -> tuple[str, Callable[[int], None]]:
    try:
        import simpy
    except ImportError:
        return "heapq", with_heapq
    return f"SimPy {simpy.__version__}", with_simpy


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--steps",
        type=int,
        default=6_000,
        help="actions with two nodes; with twenty, three times as many",
    )
    steps: int = parser.parse_args().steps
    name, loop = peer()
    requests = read_manifests(default_manifests())
    print(
        f"{'':24} {'actions':>8} {'actions/s':>10} {'cluster-minutes':>16} {'a minute':>9} "
        f"{name + ', events/s':>24} {'ratio':>6}"
    )
    for nodes in (2, 20):
        for words, faults, is_busy in (("idle", "none", False), ("busy, every fault", "all", True)):
            many = steps * (1 if nodes == 2 else 3)
            setup = Setup(
                seed=8,
                steps=many,
                nodes=nodes,
                faults=parse_faults(faults),
                requests=requests,
                user=is_busy,
            )
            took, run = seconds(lambda setup=setup: simulate(setup))
            assert isinstance(run, Run) and not run.broken, run.broken
            count = len(run.actions)
            plain, _ = seconds(lambda count=count: loop(count))
            minutes = run.virtual_seconds / 60
            print(f"{nodes:3} nodes, {words:14} {count:8} {count / took:10.0f} {minutes:16.1f} {minutes / took * 60:9.0f} "
                  f"{count / plain:24.0f} {plain / took:6.3f}")  # fmt: skip
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
