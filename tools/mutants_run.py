"""Runs the mutants of tools/mutants, in the copy of the project that has them:

    python tools/mutants_run.py PLAN RESULTS

PLAN is a JSON object with `tests` (files), `mutants` (names) and `seconds_max` (of a test; longer
ones are left out). RESULTS gets a line of JSON for
each mutant: its name, "killed", "survived", "no tests" or "timeout", the seconds, and the test that
failed. The tests are collected once and run once without a mutant, which must pass. Then this
process forks for each function. The fork activates one mutant of it after another, and runs the
tests that reach the function until one fails: first those that have killed the largest share of its
mutants for their time. At the end it runs them without a mutant. If one fails then, a mutant has
left something behind, and each mutant of the function is run in a fork of its own.
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
from collections.abc import Callable, Iterator
from itertools import groupby
from math import ceil
from pathlib import Path
from typing import Any

import mutmut.mutation.trampoline as trampoline
import pytest
from _pytest.runner import runtestprotocol

STATS = "stats"
CPU_SECONDS_MIN, CPU_FACTOR, WALL_FACTOR = 3, 4, 10
MEMORY_BYTES_MAX = 4 << 30
TIMED_OUT = (-signal.SIGALRM, -signal.SIGPROF)


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
        caches = all_caches()
        for clear in caches:
            clear()
        gc.collect()
        gc.freeze()
        with self.results.open("w", buffering=1) as results:
            for function, mutants in groupby(sorted(self.mutants, key=function_of), function_of):
                for told in self.judge_function(function, list(mutants), caches):
                    results.write(json.dumps(told) + "\n")
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

    def judge_function(
        self, function: str, mutants: list[str], caches: list[Callable[[], None]]
    ) -> Iterator[list[Any]]:
        """For each mutant of the function: its name, the verdict, the seconds, and the test that
        failed. Several in one fork: a fork takes longer than most tests."""
        items = self.tests.get(function, ())
        if not items:
            yield from ([mutant, "no tests", 0.0, ""] for mutant in mutants)
            return
        while mutants:
            begun = time.monotonic()
            told: list[list[Any]] = []
            ended, is_clean = self.fork(function, mutants, caches, told.append)
            is_clean = is_clean and (ended is None or len(told) < len(mutants))
            if not is_clean and len(mutants) > 1:
                # a mutant has changed more than its fork may keep: each gets a fork of its own
                for mutant in mutants:
                    yield from self.judge_function(function, [mutant], caches)
                return
            yield from told
            mutants = mutants[len(told) :]
            if mutants and ended is not None:
                verdict = "timeout" if ended in TIMED_OUT else "killed"
                yield [mutants[0], verdict, round(time.monotonic() - begun, 3), ""]
                mutants = mutants[1:]

    def fork(
        self,
        function: str,
        mutants: list[str],
        caches: list[Callable[[], None]],
        tell: Callable[[list[Any]], None],
    ) -> tuple[int | None, bool]:
        """Run these mutants in a fork until it ends. Returns with which code, None if it has run
        all of them, and whether the tests pass in it afterwards without a mutant."""
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            os.close(reader)
            os._exit(self.try_mutants(function, mutants, caches, writer))
        os.close(writer)
        is_whole, is_clean = False, True
        with os.fdopen(reader) as lines:
            for line in lines:
                told = json.loads(line)
                if isinstance(told, bool):
                    is_whole, is_clean = True, told
                    continue
                mutant, failed, tried = told[0], told[3], told.pop()
                self.count(function, tried, failed)
                tell([mutant, *told[1:]])
        _, status = os.waitpid(child, 0)
        return (None if is_whole else os.waitstatus_to_exitcode(status)), is_clean

    def count(self, function: str, tried: list[str], failed: str) -> None:
        """Which tests have been run for a mutant of the function, and which one has killed it."""
        for place in (function, function.rpartition(".")[0]):
            for test in tried:
                self.runs[place, test] += 1
            if failed:
                self.kills[place, failed] += 1

    def in_order(self, function: str) -> list[Any]:
        """The tests of the function; first those that killed most of its mutants for their time."""
        module = function.rpartition(".")[0]

        def worth(item: Any) -> float:
            here, near = (function, item.nodeid), (module, item.nodeid)
            killed = self.kills[here] + 0.2 * self.kills[near] + 1
            share = killed / (self.runs[here] + 0.2 * self.runs[near] + 1)
            return -share / (self.seconds[item.nodeid] + 0.005)

        return sorted(self.tests[function], key=worth)

    def try_mutants(
        self, function: str, mutants: list[str], caches: list[Callable[[], None]], writer: int
    ) -> int:
        """In the fork: run the tests for each mutant until one fails, and at the end once more
        without a mutant. A limit of time ends the fork."""
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))
        items = self.tests[function]
        limit = CPU_SECONDS_MIN + ceil(CPU_FACTOR * sum(self.seconds[one.nodeid] for one in items))
        for each in TIMED_OUT:
            signal.signal(-each, signal.SIG_DFL)

        def limited() -> None:
            signal.setitimer(signal.ITIMER_PROF, limit)
            signal.setitimer(signal.ITIMER_REAL, limit * WALL_FACTOR)

        for mutant in mutants:
            begin, failed = time.monotonic(), ""
            tried: list[str] = []
            limited()
            self.active = mutant
            for item in self.in_order(function):
                tried.append(item.nodeid)
                if self.fails(item):
                    failed = item.nodeid
                    break
            self.active = ""
            for clear in caches:
                clear()
            self.count(function, tried, failed)
            verdict, seconds = "killed" if failed else "survived", time.monotonic() - begin
            told = [mutant, verdict, round(seconds, 3), failed, tried]
            os.write(writer, (json.dumps(told) + "\n").encode())
        limited()
        is_clean = not any(self.fails(item) for item in items)
        os.write(writer, (json.dumps(is_clean) + "\n").encode())
        return 0

    def fails(self, item: Any) -> bool:
        """Whether the test fails, in whatever way."""
        try:
            return bool(self.run(item))
        except BaseException:
            return True


def function_of(mutant: str) -> str:
    return mutant.rpartition("__mutmut_")[0]


def all_caches() -> list[Callable[[], None]]:
    """What empties each cache of the project. What the run without a mutant, or another mutant, has
    cached, a mutant must not inherit."""
    found = []
    for name in [name for name in sys.modules if name.startswith("refk8s.")]:
        for value in list(vars(sys.modules[name]).values()):
            if callable(clear := getattr(value, "cache_clear", None)):
                found.append(clear)
    return found


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
