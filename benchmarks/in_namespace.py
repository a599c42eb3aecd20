"""What the benchmarks of kernel rules share: a network namespace of their own, and the best time."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from ctypes import CDLL
from typing import Any

CLONE_NEWNET = 0x40000000
ROUNDS = 7
"""Each figure is the best of so many; those of whole loads are of three."""


def seconds(work: Callable[[], Any], rounds: int = ROUNDS) -> float:
    """The shortest time of so many rounds."""
    best = float("inf")
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - started)
    return best


def run_in_namespace(measure: Callable[[], None]) -> int:
    """Measure in a new network namespace, which is deleted afterwards. Returns an exit status."""
    if os.geteuid() != 0:
        print("needs root: rules are loaded into a network namespace of their own", file=sys.stderr)
        return 2
    name = f"refk8s-bench-{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        with ThreadPoolExecutor(1, initializer=lambda: _enter(name)) as inside:
            inside.submit(measure).result()
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True)
    return 0


def _enter(name: str) -> None:
    with open(f"/var/run/netns/{name}") as file:
        assert CDLL(None).setns(file.fileno(), CLONE_NEWNET) == 0
