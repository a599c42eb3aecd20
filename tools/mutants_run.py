"""Runs the mutants of tools/mutants, in the copy of the project that has them:

    python tools/mutants_run.py PLAN RESULTS

PLAN is a JSON object with `tests` (files), `mutants` (names) and `seconds_max` (of a test; longer
ones are left out). RESULTS gets a line of JSON for
each mutant: its name, "killed", "survived", "no tests" or "timeout", the seconds, and the test that
failed. The tests are collected once and run once without a mutant, which must pass. Then this
process forks for each mutant, and the fork runs the tests that reach the changed function until one
fails: first those that have killed the largest share of its mutants for their time.
"""

import gc
import inspect
import json
import os
import resource
import signal
import sys
import time
from collections import Counter, defaultdict
from math import ceil
from pathlib import Path
from typing import Any

import mutmut.mutation.trampoline as trampoline
import pytest
from _pytest.runner import runtestprotocol

STATS = "stats"
CPU_SECONDS_MIN, CPU_FACTOR, WALL_FACTOR = 3, 4, 10
MEMORY_BYTES_MAX = 4 << 30


class Mutants:
    """A pytest plugin that runs the tests for each mutant."""

    def __init__(self, mutants: list[str], seconds_max: float, results: Path) -> None:
        self.mutants, self.seconds_max, self.results = mutants, seconds_max, results
        self.active = ""
        self.reached: set[str] = set()
        self.seconds: dict[str, float] = {}
        self.tests: defaultdict[str, list[Any]] = defaultdict(list)  # function -> items
        # (module or function, test) -> mutants of it that the test killed, and for which it was run
        self.kills: Counter[tuple[str, str]] = Counter()
        self.runs: Counter[tuple[str, str]] = Counter()
        trampoline.get_mutant_under_test = lambda: self.active  # type: ignore[assignment]
        trampoline.record_trampoline_hit = lambda name, caller=None: self.reached.add(name)

    def pytest_runtestloop(self, session: Any) -> bool:
        if session.testsfailed:
            sys.exit("a file of tests cannot be collected")
        self.active = STATS
        for item in session.items:
            self.reached.clear()
            begin = time.process_time()
            failed = self.run(item)
            if failed:
                sys.exit(f"{item.nodeid} fails without a mutant:\n{failed}")
            self.seconds[item.nodeid] = time.process_time() - begin
            if self.seconds[item.nodeid] > self.seconds_max:
                continue
            for function in self.reached:
                self.tests[function].append(item)
        self.active = ""
        forget_caches()
        gc.collect()
        gc.freeze()
        with self.results.open("w", buffering=1) as results:
            for mutant in sorted(self.mutants, key=self.function_of):
                results.write(json.dumps([mutant, *self.judge(mutant)]) + "\n")
        return True

    def pytest_runtest_setup(self, item: Any) -> None:
        """Build the controllers of a test's module anew: those of the import have no mutant."""
        from refk8s.core.loop.reconciler import Reconciler

        for value in list(vars(item.module).values()):
            if isinstance(value, Reconciler) and not inspect.signature(type(value)).parameters:
                value.__init__()  # type: ignore[misc]

    def run(self, item: Any) -> str:
        """What went wrong in this test; empty if it passed."""
        reports = runtestprotocol(item, log=False, nextitem=None)
        return "\n".join(str(each.longrepr) for each in reports if each.failed)

    def function_of(self, mutant: str) -> str:
        return mutant.rpartition("__mutmut_")[0]

    def judge(self, mutant: str) -> tuple[str, float, str]:
        """The verdict on a mutant, the seconds that it took, and the test that failed."""
        function = self.function_of(mutant)
        module = function.rpartition(".")[0]
        items = self.tests.get(function, ())
        if not items:
            return "no tests", 0.0, ""

        def worth(item: Any) -> float:
            here, near = (function, item.nodeid), (module, item.nodeid)
            killed = self.kills[here] + 0.2 * self.kills[near] + 1
            share = killed / (self.runs[here] + 0.2 * self.runs[near] + 1)
            return -share / (self.seconds[item.nodeid] + 0.005)

        ordered = sorted(items, key=worth)
        limit = CPU_SECONDS_MIN + ceil(CPU_FACTOR * sum(self.seconds[one.nodeid] for one in items))
        begin = time.monotonic()
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            os._exit(self.try_tests(mutant, ordered, limit, writer))
        os.close(writer)
        _, status = os.waitpid(child, 0)
        seconds = round(time.monotonic() - begin, 3)
        with os.fdopen(reader) as told:
            place = told.read()
        for item in ordered[: int(place) + 1] if place else ordered:
            self.runs[function, item.nodeid] += 1
            self.runs[module, item.nodeid] += 1
        code = os.waitstatus_to_exitcode(status)
        if code in (-signal.SIGALRM, -signal.SIGXCPU, -signal.SIGKILL):
            return "timeout", seconds, ""
        if code == 0:
            return "survived", seconds, ""
        test = ordered[int(place)].nodeid if place else ""
        self.kills[function, test] += 1
        self.kills[module, test] += 1
        return "killed", seconds, test

    def try_tests(self, mutant: str, ordered: list[Any], limit: int, writer: int) -> int:
        """In the fork: run the tests. Ends with 1 as soon as one fails."""
        resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 2))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, limit * WALL_FACTOR)
        self.active = mutant
        try:
            for place, item in enumerate(ordered):
                if self.run(item):
                    os.write(writer, str(place).encode())
                    return 1
        except BaseException:
            return 1
        return 0


def forget_caches() -> None:
    """What the run without a mutant has cached, the forks must not inherit."""
    for name in [name for name in sys.modules if name.startswith("refk8s.")]:
        for value in list(vars(sys.modules[name]).values()):
            if callable(clear := getattr(value, "cache_clear", None)):
                clear()


def main() -> int:
    plan = json.loads(Path(sys.argv[1]).read_text())
    sys.path.insert(0, os.getcwd())
    plugin = Mutants(plan["mutants"], plan["seconds_max"], Path(sys.argv[2]))
    # Whether a test fails matters, not why: without Hypothesis' plugin no patch is prepared for the
    # failed example (1.4 s), and without assertion rewriting no two values are compared line by line.
    without = ["no:cacheprovider", "no:hypothesispytest"]
    arguments = ["--rootdir=.", "--tb=native", "-q", "--assert=plain", *plan["tests"]]
    arguments += [word for name in without for word in ("-p", name)]
    return int(pytest.main(arguments, plugins=[plugin]))


if __name__ == "__main__":
    sys.exit(main())
