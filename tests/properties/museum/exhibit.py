"""An exhibit of the museum: a bug of Kubernetes or a related project, reproduced, and what finds
it.

A file of the museum has the story as its docstring, and one `EXHIBIT`. A finder searches the
changed core for a broken rule, in the same order each time, and returns how many steps or examples
this took. On the unchanged core the same search finds nothing. There are three kinds: a property of
tests/properties, the simulator (`refk8s sim`), and random lives of one node (kubelet_chaos.py).
"""

import importlib
import io
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from random import Random
from typing import Any, Protocol

import hypothesis
import pytest
from attrs import evolve, frozen
from hypothesis import HealthCheck, Phase

from refk8s.checking.simulator import scenario
from refk8s.checking.simulator.faults import parse_faults
from refk8s.checking.simulator.simulate import Setup, simulate

from .change import Change, applied

KINDS = {"issue": "issues", "pull request": "pull"}


@frozen
class Found:
    """The result of a search: what is wrong ("" if nothing is), after how many examples or steps,
    and in which run (if runs are numbered)."""

    wrong: str
    count: int
    unit: str  # "examples" or "steps"
    run: int = 0
    seconds: float = 0.0  # of the processor


class Finder(Protocol):
    """A search for a broken rule."""

    @property
    def words(self) -> str:
        """What finds the bug, for the table."""

    def search(self, known: Found | None = None, rule: str = "") -> Found:
        """Search, if many rules are checked for this one. With `known`, search only as far as that
        search."""


@frozen
class Property:
    """A property of tests/properties, with at most so many examples, always the same ones."""

    test: str  # "test_rs.test_rs_2_..."
    examples_max: int = 100

    @property
    def words(self) -> str:
        return f"`{self.test.rpartition('.')[2]}`"

    def search(self, known: Found | None = None, rule: str = "") -> Found:
        module, _, name = self.test.partition(".")
        test = getattr(importlib.import_module(module), name)
        if not hasattr(test, "hypothesis"):
            return Found(_wrong(test), 1, "examples")
        count = 0
        inner, before = test.hypothesis.inner_test, test._hypothesis_internal_use_settings

        def counted(*args: Any, **kwargs: Any) -> None:
            nonlocal count
            count += 1
            inner(*args, **kwargs)

        # The name and the code decide which examples come first, so they are the property's own.
        counted.__name__, counted.__qualname__, counted.__module__ = (
            inner.__name__,
            inner.__qualname__,
            inner.__module__,
        )
        test.hypothesis.inner_test = counted
        test._hypothesis_internal_use_settings = hypothesis.settings(
            max_examples=self.examples_max if known is None else known.count,
            derandomize=True,
            database=None,
            deadline=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
            report_multiple_bugs=False,
        )
        try:
            return Found(_wrong(test), count, "examples")
        finally:
            test.hypothesis.inner_test, test._hypothesis_internal_use_settings = inner, before


@frozen
class Simulation:
    """Runs of the simulator from the seeds 0, 1, 2 ... until one breaks the rule."""

    steps: int = 1_500
    seeds_max: int = 60
    faults: str = "all"
    instances: int = 1
    manifests: str = ""  # the function of `scenario` that names the first objects

    @property
    def words(self) -> str:
        instances = f" --instances {self.instances}" if self.instances > 1 else ""
        faults = f" --faults {self.faults}" if self.faults != "all" else ""
        begins = f" with `{self.manifests}`" if self.manifests else ""
        return f"`refk8s sim --steps {self.steps}{instances}{faults}`{begins}"

    def search(self, known: Found | None = None, rule: str = "") -> Found:
        total = 0
        first = getattr(scenario, self.manifests)() if self.manifests else ()
        requests = scenario.read_manifests(first)
        for seed in range(self.seeds_max) if known is None else (known.run,):
            faults = parse_faults(self.faults)
            run = simulate(
                Setup(
                    seed=seed,
                    steps=self.steps,
                    instances=self.instances,
                    faults=faults,
                    requests=requests,
                )
            )
            total += len(run.actions)
            if any(not rule or broken.rule == rule for broken in run.broken):
                return Found("; ".join(map(str, run.broken)), total, "steps", seed)
        return Found("", total, "steps")


@frozen
class Lives:
    """Random lives of one node with its kubelet, judged by the laws of
    tests/properties/kubelet_chaos.py."""

    lives_max: int = 60
    happenings: int = 250

    @property
    def words(self) -> str:
        return "random lives of a node (`kubelet_chaos.py`)"

    def search(self, known: Found | None = None, rule: str = "") -> Found:
        chaos = importlib.import_module("kubelet_chaos").Chaos
        for life in range(self.lives_max) if known is None else (known.run,):
            chance = Random(life)
            tape = [chance.randrange(4096) for _ in range(self.happenings)]
            wrong = _wrong(lambda life=life, tape=tape: chaos(life).play(tape).mend().settled())
            if wrong:
                return Found(wrong, (life + 1) * self.happenings, "steps", life)
        return Found("", self.lives_max * self.happenings, "steps")


def _wrong(test: Callable[[], Any]) -> str:
    """What is wrong if the test fails; "" where it passes. Other errors than a failed assertion are
    not what is looked for: they go on."""
    try:
        with redirect_stdout(io.StringIO()):
            test()
    except (AssertionError, pytest.fail.Exception) as error:
        return (
            next((line for line in str(error).splitlines() if line.strip()), "")
            or f"{type(error).__name__}"
        )
    return ""


@frozen
class Way:
    """A way to find a bug: the rule that is seen to be broken, and by what."""

    rule: str
    finder: Finder

    def is_right(self, found: Found) -> bool:
        """Whether what was found is this rule: it says so, or it is that rule's property that
        failed."""
        return (
            f"{self.rule}:" in found.wrong
            or f"_{self.rule}_".lower().replace("-", "_") in self.finder.words
        )


@frozen
class Exhibit:
    """One bug: what it is called, who told of it, the rule that it breaks, the change that makes it
    again, and what finds it."""

    title: str
    repository: str
    kind: str  # "issue" or "pull request"
    number: int
    said: str  # the issue's own title
    rule: str
    changes: Sequence[Change]
    finder: Finder
    also: Sequence[Way] = ()
    name: str = ""
    story: str = ""

    @property
    def source(self) -> str:
        return f"{self.repository} {self.kind} #{self.number}"

    @property
    def url(self) -> str:
        return f"https://github.com/{self.repository}/{KINDS[self.kind]}/{self.number}"

    @property
    def ways(self) -> tuple[Way, ...]:
        """Every way in which it is found."""
        return (Way(self.rule, self.finder), *self.also)

    def search(self, way: Way) -> Found:
        """What a finder comes to on the core with the bug in it."""
        begin = time.process_time()
        with applied(self.changes):
            found = way.finder.search(rule=way.rule)
        return evolve(found, seconds=time.process_time() - begin)


def names() -> list[str]:
    """The exhibits, by the names of their files."""
    here = Path(__file__).parent
    return sorted(
        path.stem
        for path in here.glob("*.py")
        if path.stem not in ("__init__", "change", "exhibit")
    )


def load(name: str) -> Exhibit:
    """The exhibit of a file of the museum, with the file's docstring as its story."""
    module = importlib.import_module(f"museum.{name}")
    exhibit: Exhibit = module.EXHIBIT
    return evolve(exhibit, name=name, story=module.__doc__ or "")
