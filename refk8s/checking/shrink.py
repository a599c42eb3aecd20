"""Shrinks a run that broke a rule to a short run that breaks the same rule.

Rule SIM-9 (spec/simulation.md).

Delta debugging (Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input"): remove
a part of the run, execute the rest, and keep the shorter run if the same rule breaks. The search
removes faults, the user's requests, stretches, single actions and nodes. It also replaces an
unusual order of the cluster's own actions by the fair order (a `Fairly`). Actions that are no
longer enabled are removed.

States are immutable values, so a shorter run is executed from the first state in which it differs.
For a rule that is checked at rest, the search considers a cluster stuck when nothing has changed
for a while; the run that is returned has been checked in full.
"""

from collections.abc import Callable, Sequence
from time import perf_counter

from attrs import define, evolve, frozen

from refk8s.checking.simulator.script import Entry, Fairly, Order
from refk8s.checking.simulator.simulate import Run, Setup, replay, settle
from refk8s.core.actions import (
    Answer,
    Arrive,
    CatchUp,
    Elapse,
    Notify,
    Operate,
    Start,
    StartServer,
    Submit,
    Wake,
)
from refk8s.core.cluster.enabled import is_enabled
from refk8s.core.cluster.state import Cluster
from refk8s.core.properties.law import Broken

BY_ITSELF = (Arrive, Answer, Notify, Operate, Wake, Start, StartServer, CatchUp, Elapse, Fairly)
COARSE, FINE = 8, 1 << 20
"""The number of parts into which the run is divided when its order is made fair."""
AFTERMATH_STEPS = 200
"""How much later than in the longer run a safety rule may break, in actions."""
CIRCLE_STEPS = 2_000
STUCK_SECONDS = 400
"""Longer than every timer except the longest back-off, which the full check covers."""

Progress = Callable[[int, int], None]


@define
class _Trial:
    """One script that breaks the rule, with the state before each of its entries."""

    script: list[Entry]
    states: list[Cluster]

    def append(self, entry: Entry, after: Cluster) -> None:
        self.script.append(entry)
        self.states.append(after)


class _Late(Exception):
    """The time limit of the search is over."""


class Shrinker:
    """The search. `best` is the shortest so far."""

    def __init__(self, run: Run, seconds: float, progress: Progress) -> None:
        self.setup = run.setup
        self.wanted = _signature(run.broken[0])
        self.end = perf_counter() + seconds
        self.progress = progress
        self.tries = 0
        self.at_rest = run.at_rest
        script: list[Entry] = list(run.actions[: run.settled_from] if self.at_rest else run.actions)
        self.longest = len(script)
        states = [self.setup.first_cluster()]
        self.best = _Trial(script, states)
        self.is_sure = (found := self._follow(script, states, [])) is not None
        if found is not None:
            self.best = found

    def search(self) -> None:
        """Shorten `best` until no step shortens it further or the time is over."""
        try:
            self._fewer_nodes()
            while True:
                before = _size(self.best.script)
                self._go_on_fairly(COARSE)
                self._drop(lambda entry: not isinstance(entry, (*BY_ITSELF, Submit)))
                self._drop(lambda entry: isinstance(entry, Submit))
                self._go_on_fairly(FINE)
                self._drop(lambda entry: True)
                self._shorten_stretches()
                self._fewer_nodes()
                if _size(self.best.script) >= before:
                    break
        except _Late:
            pass

    # --- what to remove ---------------------------------------------------------------------------

    def _fewer_nodes(self) -> None:
        while self.setup.nodes > 1:
            fewer = evolve(self.setup, nodes=self.setup.nodes - 1)
            found = self._follow(self.best.script, [fewer.first_cluster()], [])
            if found is None:
                return
            self.setup, self.best = fewer, found

    def _go_on_fairly(self, parts: int) -> None:
        """Replace the cluster's own actions by as many actions in the fair order.

        First in the whole run, then in halves of it, quarters ...
        """
        size = len(self.best.script)
        least = max(size // parts, 1)
        while size >= least:
            at = len(self.best.script)
            while at > 0:
                start = max(at - size, 0)
                piece = self.best.script[start:at]
                calm = _calmed(piece)
                if _size(calm) < _size(piece):
                    self._try(start, at, calm)
                at = min(start, len(self.best.script))
            size //= 2

    def _drop(self, concerns: Callable[[Entry], bool]) -> None:
        """Remove the entries for which `concerns` is true.

        Many at a time, then fewer, from the end of the run to its beginning.
        """
        there = [at for at, entry in enumerate(self.best.script) if concerns(entry)]
        size = max(len(there) // 2, 1)
        while there:
            place = len(there)
            while place > 0:
                chosen = set(there[max(place - size, 0) : place])
                start, end = min(chosen), max(chosen) + 1
                if end <= len(self.best.script):
                    self._try(
                        start,
                        end,
                        [
                            entry
                            for at, entry in enumerate(self.best.script[start:end], start)
                            if at not in chosen
                        ],
                    )
                there = [at for at, entry in enumerate(self.best.script) if concerns(entry)]
                place = min(place - size, len(there))
            if size == 1:
                return
            size //= 2

    def _shorten_stretches(self) -> None:
        for at in range(len(self.best.script) - 1, -1, -1):
            less = 0
            while at < len(self.best.script) and isinstance(entry := self.best.script[at], Fairly):
                count = (less + entry.count) // 2
                if count >= entry.count:
                    break
                if not self._try(at, at + 1, [Fairly(count)] if count else []):
                    less = count + 1

    # --- does the rule still break ----------------------------------------------------------------

    def _try(self, start: int, end: int, instead: Sequence[Entry]) -> bool:
        if perf_counter() > self.end:
            raise _Late
        best = self.best
        found = self._follow(
            [*instead, *best.script[end:]], best.states[: start + 1], best.script[:start]
        )
        if found is None or _size(found.script) >= _size(best.script):
            return False
        self.best = found
        return True

    def _follow(
        self, script: Sequence[Entry], states: list[Cluster], before: Sequence[Entry]
    ) -> _Trial | None:
        """Execute the entries from the last state; returns the trial if the rule breaks."""
        self.tries += 1
        self.progress(self.longest - len(self.best.script), self.longest)
        run = Run(self.setup, states[-1])
        trial = _Trial(list(before), list(states))
        for entry in script:
            if isinstance(entry, Fairly):
                done = self._fairly(run, entry.count)
                if done:
                    trial.append(Fairly(done), run.cluster)
            elif is_enabled(run.cluster, entry):
                run.take(entry)
                trial.append(entry, run.cluster)
            if run.broken:
                return self._judged(trial, run)
        if self.at_rest:
            return trial if self._is_stuck(run) else None
        done = self._fairly(run, AFTERMATH_STEPS)
        if not run.broken:
            return None
        trial.append(Fairly(done), run.cluster)
        return self._judged(trial, run)

    def _judged(self, trial: _Trial, run: Run) -> _Trial | None:
        return (
            trial
            if not self.at_rest and any(_signature(broken) == self.wanted for broken in run.broken)
            else None
        )

    def _fairly(self, run: Run, count: int) -> int:
        order, before = Order(), len(run.actions)
        while (
            len(run.actions) - before < count
            and not run.broken
            and (action := order.next_action(run.cluster, run.ready)) is not None
        ):
            run.take(action)
        return len(run.actions) - before

    def _is_stuck(self, run: Run) -> bool:
        settle(run, STUCK_SECONDS, CIRCLE_STEPS)
        return any(_signature(broken) == self.wanted for broken in run.broken)


@frozen
class Shrunk:
    """A short run that breaks the same rule: `run` as executed, `script` as written to a file."""

    setup: Setup
    script: tuple[Entry, ...]
    run: Run
    tries: int


def shrink(
    run: Run, seconds: float = 60, progress: Progress = lambda done, total: None
) -> Shrunk | None:
    """The shortest run found in this time that breaks the first rule that the given run broke.

    None if no shorter run was found.
    """
    shrinker = Shrinker(run, seconds, progress)
    if not shrinker.is_sure:
        return None
    shrinker.search()
    setup = evolve(shrinker.setup, steps=len(shrinker.best.script), requests=(), user=False)
    again = replay(setup, shrinker.best.script, is_whole=shrinker.at_rest)
    if not any(_signature(broken) == shrinker.wanted for broken in again.broken):
        return None
    return Shrunk(setup, tuple(shrinker.best.script), again, shrinker.tries)


def _signature(broken: Broken) -> str:
    """What a shorter run must share: the rule, and the type of an exception."""
    return (
        broken.words.partition(" ends in ")[2].partition(":")[0]
        if broken.rule == "SIM-8"
        else broken.rule
    )


def _size(script: Sequence[Entry]) -> tuple[int, int, int]:
    """The size to minimise: entries, then entries outside the fair order, then fair actions."""
    calm = [entry.count for entry in script if isinstance(entry, Fairly)]
    odd = sum(1 for entry in script if isinstance(entry, BY_ITSELF)) - len(calm)
    return len(script), odd, sum(calm)


def _calmed(piece: Sequence[Entry]) -> list[Entry]:
    """The same entries, with each stretch of the cluster's own actions in the fair order."""
    calm: list[Entry] = []
    for entry in piece:
        if not isinstance(entry, BY_ITSELF):
            calm.append(entry)
        else:
            count = entry.count if isinstance(entry, Fairly) else 1
            if calm and isinstance(calm[-1], Fairly):
                calm[-1] = Fairly(calm[-1].count + count)
            else:
                calm.append(Fairly(count))
    return calm
