"""Three failure patterns, each injected systematically at every place of a small scenario.

Rules SIM-5 ... SIM-7 (spec/simulation.md).

    crash   a component crashes after a write; for every component and every write
    lag     a watch always lags by a number of changes; for every watch and every lag up to a bound
    skip    a watcher misses a change, since its stream breaks and the change is compacted; for
            every watch and every change

The scenarios are in `pattern_scenarios.py`. Each run must satisfy every law, come to rest, and have
the same end state as the run without failures.

Source: Sun et al., "Automatic Reliability Testing for Cluster Management Controllers" (OSDI 2022),
which names the patterns (intermediate states, stale states, unobserved states) and compares with an
undisturbed end.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeAlias

from attrs import define, evolve, field, frozen

from refk8s.checking.simulator.end_state import UNTOLD, difference, end_state
from refk8s.checking.simulator.pattern_scenarios import (
    PAUSE_SECONDS,
    SCENARIOS,
    Story,
    Wish,
)
from refk8s.checking.simulator.script import Order
from refk8s.checking.simulator.simulate import Run, Setup, is_news, settle
from refk8s.core.actions import (
    Action,
    Arrive,
    Channel,
    Compact,
    Crash,
    CutWatch,
    Elapse,
    Notify,
    Submit,
)
from refk8s.core.cluster.state import Cluster
from refk8s.core.context import SECOND
from refk8s.core.properties.law import Broken

LAG_MAX = 4
STEPS_MAX = 10_000


class Policy(Protocol):
    """Selects the next action."""

    def next_action(self, run: Run) -> Action | None:
        """The next action; None if no action will ever be enabled again."""


class Calm:
    """The fair order."""

    def __init__(self) -> None:
        self.order = Order()

    def next_action(self, run: Run) -> Action | None:
        return self.order.next_action(run.cluster, run.ready)


@define
class Lagging:
    """The fair order, except that one watch of one machine lags by a number of changes.

    The lag is kept as long as another action is enabled.
    """

    machine: str
    prefix: str
    lag: int
    order: Order = field(factory=Order)

    def next_action(self, run: Run) -> Action | None:
        for _ in range(len(run.cluster.watches) + 1):
            action = self.order.next_action(run.cluster, run.ready)
            if not (
                isinstance(action, Notify)
                and watched_by(run.cluster, action.watch) == (self.machine, self.prefix)
            ):
                return action
            cursor = run.cluster.watches[action.watch]
            others = [other for other in run.ready.actions(run.cluster) if other != action]
            if not others or cursor.revision < run.cluster.history.compacted:
                return Notify(action.watch, 1)
            if len(run.cluster.history.changes(self.prefix, cursor.revision)) > self.lag:
                return Notify(action.watch, 1)
        return action


@define
class Skipping:
    """The fair order, except that one machine misses the change at this revision."""

    machine: str
    prefix: str
    revision: int
    is_cut: bool = False
    is_over: bool = False
    order: Order = field(factory=Order)

    def next_action(self, run: Run) -> Action | None:
        cluster = run.cluster
        if not self.is_cut and cluster.history.revision >= self.revision:
            self.is_cut = True
            for channel in sorted(cluster.watches):
                if (
                    watched_by(cluster, channel) == (self.machine, self.prefix)
                    and cluster.watches[channel].revision < self.revision
                ):
                    return CutWatch(channel)
            self.is_over = True
        action = self.order.next_action(cluster, run.ready)
        if (
            self.is_cut
            and not self.is_over
            and isinstance(action, Arrive)
            and action.flying[0] == self.machine
        ):
            flying = cluster.flying[action.flying]
            if (
                flying.watch
                and flying.request.resource.prefix == self.prefix
                and cluster.history.compacted < cluster.history.revision
            ):
                self.is_over = True
                self.order = Order()
                return Compact(cluster.history.revision)
        return action


def watched_by(cluster: Cluster, channel: Channel) -> tuple[str, str]:
    """(machine, resource prefix) of an open watch."""
    return channel[0], cluster.watches[channel].stream.resource.prefix


Keep: TypeAlias = Callable[[Run, int], None]


def play(
    run: Run,
    story: Sequence[Sequence[Wish]],
    told: int,
    policy: Policy,
    keep: Keep = lambda run, told: None,
    pause_seconds: int = PAUSE_SECONDS,
) -> Run:
    """Continue a run: after each pause the next requests (`told` of them were sent), then rest.

    The state at rest is checked.
    """
    last, steps = run.cluster.now, 0
    while not run.broken:
        action = policy.next_action(run)
        if action is None or (
            isinstance(action, Elapse) and action.to > last + pause_seconds * SECOND
        ):
            if told == len(story):
                break
            for wish in story[told]:
                run.take(Submit(wish(run.cluster)))
            told += 1
            last = run.cluster.now
            continue
        run.take(action)
        steps += 1
        if steps > STEPS_MAX:
            run.broken.append(
                Broken("SIM-4", f"after {steps} steps this part of the story has not come to rest")
            )
        if is_news(run.cluster):
            last = run.cluster.now
        keep(run, told)
    if not run.broken:
        settle(run)
    return run


@frozen
class Trial:
    """One place at which a pattern is injected, in words, and the run that begins there."""

    words: str
    run: Run
    told: int
    policy: Policy


@frozen
class Base:
    """The run without failures, its end state, and the states after its writes."""

    setup: Setup
    story: Story
    run: Run
    end: "Counter[str]"
    # (revision, state, parts told, actions so far)
    writes: tuple[tuple[int, Cluster, int, int], ...]
    pause_seconds: int = PAUSE_SECONDS


def begin_scenario(name: str, setup: Setup) -> Base:
    """Run the scenario of this name on the cluster that it needs."""
    scenario = SCENARIOS[name]()
    setup = evolve(
        setup,
        nodes=scenario.nodes,
        other_server_seconds=scenario.other_server_seconds,
        has_gangs=scenario.has_gangs,
    )
    return begin(setup, scenario.story, scenario.pause_seconds)


def begin(setup: Setup, story: Story, pause_seconds: int = PAUSE_SECONDS) -> Base:
    """Run these parts without failures. Rules that break are in its run."""
    writes: list[tuple[int, Cluster, int, int]] = []

    def keep(run: Run, told: int) -> None:
        if is_written(run.cluster):
            writes.append((run.cluster.history.revision, run.cluster, told, len(run.actions)))

    run = play(Run(setup, setup.first_cluster()), story, 0, Calm(), keep, pause_seconds)
    return Base(setup, story, run, end_state(run.cluster), tuple(writes), pause_seconds)


def is_written(cluster: Cluster) -> bool:
    """Whether the last step wrote an object on which components base decisions."""
    commit = cluster.last_commit
    return commit is not None and any(
        not change.key.startswith(UNTOLD) for change in commit.changes
    )


def crashes(base: Base) -> Iterator[Trial]:
    """SIM-5: a crash of every component after every write."""
    for revision, cluster, told, count in base.writes:
        for name in sorted(cluster.components):
            run = Run(base.setup, cluster, list(base.run.actions[:count]))
            run.take(Crash(name))
            yield Trial(f"{name} crashes after revision {revision}", run, told, Calm())


def lags(base: Base, most: int = LAG_MAX) -> Iterator[Trial]:
    """SIM-6: a lag of 1, 2 ... changes for every watch of a resource that was written."""
    for machine, prefix in _watches(base):
        for lag in range(1, most + 1):
            run = Run(base.setup, base.setup.first_cluster())
            yield Trial(
                f"{machine} is {lag} behind in {prefix}", run, 0, Lagging(machine, prefix, lag)
            )


def skips(base: Base) -> Iterator[Trial]:
    """SIM-7: for every watch, every change that it would have delivered is skipped."""
    watches = _watches(base)
    for revision, cluster, told, count in base.writes:
        changed = (
            {change.key for change in cluster.last_commit.changes}
            if cluster.last_commit is not None
            else set()
        )
        for machine, prefix in watches:
            if any(key.startswith(prefix) for key in changed):
                run = Run(base.setup, cluster, list(base.run.actions[:count]))
                yield Trial(
                    f"{machine} never hears of revision {revision} of {prefix}",
                    run,
                    told,
                    Skipping(machine, prefix, revision),
                )


PATTERNS: dict[str, tuple[str, str, Callable[[Base], Iterator[Trial]]]] = {
    "crash": ("SIM-5", "crashes", crashes),
    "lag": ("SIM-6", "watches held back", lags),
    "skip": ("SIM-7", "changes unheard of", skips),
}
"""Each pattern with its rule, the name of its trials, and the function that lists them."""


def judge_trial(base: Base, trial: Trial, rule: str) -> Run:
    """Run a trial to its end.

    `broken` has the rules that broke, and any difference from the end state without failures.
    """
    run = trial.run
    if not run.broken:
        play(run, base.story, trial.told, trial.policy, pause_seconds=base.pause_seconds)
    if not run.broken:
        run.tested[rule] += 1
        run.broken += [
            Broken(rule, f"{trial.words}: {words}")
            for words in difference(base.end, end_state(run.cluster))
        ]
        run.at_rest = bool(run.broken)
    return run


def _watches(base: Base) -> list[tuple[str, str]]:
    """The watches (machine, resource) of the resources that are written."""
    cluster = base.run.cluster
    there = sorted({watched_by(cluster, channel) for channel in cluster.watches})
    return [
        (machine, prefix)
        for machine, prefix in there
        if base.writes and cluster.history.changes(prefix, cluster.history.compacted)
    ]
