"""`refk8s sim`: runs of a whole cluster in virtual time, with faults
(refk8s/checking/simulator/simulate.py)."""

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import click
from attrs import evolve
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from refk8s.checking import actions_file
from refk8s.checking.shrink import shrink
from refk8s.checking.simulator import patterns
from refk8s.checking.simulator.faults import BadFaults, parse_faults
from refk8s.checking.simulator.pattern_scenarios import scenario_of
from refk8s.checking.simulator.scenario import (
    BadManifest,
    default_manifests,
    read_manifests,
    refusal,
)
from refk8s.checking.simulator.script import Entry
from refk8s.checking.simulator.simulate import (
    NEAR_STEPS,
    SETTLE_SECONDS,
    Run,
    Setup,
    replay,
    simulate,
)
from refk8s.checking.story import ending, story_of, titles
from refk8s.cli.report import BadUse, by_number, check_place, counts, tested_rules, verdict
from refk8s.core.actions import Action
from refk8s.core.context import SECOND
from refk8s.core.properties import laws

HELD, BROKE, UNDETERMINED = 0, 1, 3
SHRINK_SECONDS = 60
PAIRS_NAMED = 40
STORY_LINES = 40
"""The lines of story that are printed for a run that broke a rule; a replay prints all."""
SETTLING_ACTIONS = 3_000
"""The lines of story that are printed for a cluster that did not settle."""


def simulate_and_report(
    seed: int, steps: int, nodes: int, instances: int, apiservers: int, faults: str, runs: int, replayed: str | None, save: str | None, shorten: bool,
    pattern: str | None, scenario: str | None, files: tuple[str, ...],
) -> int:  # fmt: skip
    """Simulate and print the report; returns the exit status. Raises BadUse before the run."""
    if replayed is not None:
        return _replay(Path(replayed))
    check_place(save)
    if pattern is not None:
        if scenario is not None and files:
            raise BadUse("--scenario and files exclude each other")
        base = _undisturbed(seed, scenario, instances, apiservers, files)
        return _enumerate(base, pattern, save)
    if scenario is not None:
        raise BadUse("--scenario needs --pattern")
    setups = [
        _setup(number, steps, nodes, instances, apiservers, faults, files)
        for number in range(seed, seed + runs)
    ]
    before, seen = time.perf_counter(), []
    with _progress("simulating", "actions", sum(setup.steps for setup in setups)) as tick:
        for number, setup in enumerate(setups):
            run = simulate(setup, lambda taken, number=number: tick(number * steps + taken))  # type: ignore[misc]
            seen.append(run)
            if run.broken:
                break
    took = time.perf_counter() - before
    _report(seen, took)
    run = seen[-1]
    if run.broken:
        _report_failure(run, Path(save or f"refk8s-seed-{run.setup.seed}.run"), shorten)
    else:
        click.echo(verdict(_total([each.tested for each in seen]), _every_rule()))
    click.echo(run.last_line)
    return BROKE if run.broken else HELD


def _setup(
    seed: int,
    steps: int,
    nodes: int,
    instances: int,
    apiservers: int,
    faults: str,
    files: tuple[str, ...],
) -> Setup:
    try:
        rates = parse_faults(faults)
        trees: list[Any] = []
        for name in files:
            trees += _documents(name)
        requests = read_manifests(trees if files else default_manifests())
    except (BadFaults, BadManifest) as error:
        raise BadUse(str(error)) from None
    if not requests:
        raise BadUse(f"{', '.join(files)} has no object")
    setup = Setup(
        seed=seed,
        steps=steps,
        nodes=nodes,
        instances=instances,
        apiservers=apiservers,
        lists_servers=apiservers > 2,  # SIM-12
        faults=rates,
        requests=requests,
    )
    if files and (words := refusal(setup.first_cluster(), requests)):
        raise BadUse(f"the API server refuses {words}")
    return setup


def _documents(name: str) -> list[Any]:
    import yaml

    try:
        return list(
            yaml.load_all(
                Path(name).read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)
            )
        )
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise BadUse(f"{name} cannot be read: {' '.join(reason.split())}") from None


def _replay(path: Path) -> int:
    try:
        setup, actions = actions_file.read(path)
    except actions_file.BadFile as error:
        raise BadUse(str(error)) from None
    run = replay(setup, actions)
    click.echo("\n".join(_story(run)))
    if run.left_out:
        click.echo(
            f"UNDETERMINED: {run.left_out} of {len(actions)} entries "
            "are no longer possible, and were left out"
        )
    elif not run.broken:
        click.echo(verdict(run.tested, _every_rule()))
    click.echo(run.last_line)
    return BROKE if run.broken else UNDETERMINED if run.left_out else HELD


def _undisturbed(
    seed: int, scenario: str | None, instances: int, apiservers: int, files: tuple[str, ...]
) -> patterns.Base:
    """The run that the patterns disturb: of a scenario, or of the files on one node."""
    setup = evolve(_setup(seed, 0, 1, instances, apiservers, "none", files), user=False)
    if files:
        return patterns.begin(setup, scenario_of(setup.requests))
    return patterns.begin_scenario(scenario or "web", setup)


def _enumerate(base: patterns.Base, pattern: str, save: str | None) -> int:
    """One pattern, or all three, at every place of a small run."""
    digest, steps, seconds = hashlib.sha256(), len(base.run.actions), base.run.virtual_seconds
    failed, tested = base.run if base.run.broken else None, Counter(base.run.tested)
    for name in sorted(patterns.PATTERNS) if pattern == "all" else [pattern]:
        if failed is not None:
            break
        rule, what, trials = patterns.PATTERNS[name]
        total = sum(1 for _ in trials(base))
        before, done = time.perf_counter(), 0
        with _progress(name, what, total) as tick:
            for trial in trials(base):
                run = patterns.judge_trial(base, trial, rule)
                steps, seconds = steps + len(run.actions), seconds + run.virtual_seconds
                digest.update(run.digest.digest())
                tested.update(run.tested)
                if run.broken:
                    failed = run
                    break
                done += 1
                tick(done)
        took = time.perf_counter() - before
        each = (
            "each ends as the undisturbed run"
            if failed is None
            else "all of which end as the undisturbed run, and one that does not"
        )
        click.echo(f"{name}: {done} {what}, {each} ({took:.0f} s)")
    if failed is not None:
        _report_failure(failed, Path(save or f"refk8s-{pattern}.run"), False)
    else:
        click.echo(verdict(tested, _every_rule()))
    click.echo(
        f"seed {base.setup.seed} steps {steps} virtual {seconds:.3f} digest {digest.hexdigest()}"
    )
    return HELD if failed is None else BROKE


def _report_failure(run: Run, path: Path, shorten: bool) -> None:
    """Print the broken rule, the shortest run found that breaks it, the end of its story, and the
    command that replays it."""
    for broken in run.broken:
        click.echo(f"broken: {broken}")
    script: list[Entry] = list(run.actions[: run.settled_from] if run.at_rest else run.actions)
    setup, shown, words = run.setup, run, str(run.broken[0])
    if shorten:
        before = time.perf_counter()
        with _progress("shrinking", "actions", len(script)) as tick:
            found = shrink(run, SHRINK_SECONDS, lambda done, total: tick(done))
        if found is not None:
            took = time.perf_counter() - before
            click.echo(
                f"shrunk:  {len(found.script)} of {len(script)} actions are left ({found.tries} "
                f"tries in {took:.0f} s)"
            )
            setup, script, shown = found.setup, list(found.script), found.run
    actions_file.write(path, setup, script, words)
    story = _story(shown)
    if len(story) > STORY_LINES:
        click.echo(
            f"           ... ({len(story) - STORY_LINES} lines before; "
            "the command below prints them)"
        )
    click.echo("\n".join(story[-STORY_LINES:]))
    click.echo(f"replay it:  refk8s sim --replay {path}")


def _story(run: Run) -> list[str]:
    """The story and its end; for a cluster that did not settle, the lines that show why."""
    first = run.setup.first_cluster()
    if run.settled_from is None:
        return story_of(first, run.actions, run.broken)
    rest = run.settled_from + SETTLING_ACTIONS
    more = (
        [f"           ... (and so on: {len(run.actions) - rest} more actions)"]
        if len(run.actions) > rest
        else []
    )
    return [*story_of(first, run.actions[:rest]), *more, *ending(run.broken)]


def _report(runs: list[Run], seconds: float) -> None:
    """Which rules, actions and pairs of faults were exercised, and how fast."""
    steps = sum(len(run.actions) for run in runs)
    minutes = sum(run.virtual_seconds for run in runs) / 60
    click.echo(f"{len(runs)} run{'s' if len(runs) > 1 else ''}, {steps} actions, {minutes:.1f} virtual minutes in {seconds:.1f} s "
               f"({minutes / seconds * 60:.0f} a minute)")  # fmt: skip
    tested, taken, faults = (
        _total([getattr(run, name) for run in runs]) for name in ("tested", "taken", "faults")
    )
    pairs = {pair for run in runs for pair in run.pairs}
    if settled := sorted(
        run.settled_after / SECOND
        for run in runs
        if run.settled_from is not None and not run.broken
    ):
        median, most = settled[len(settled) // 2], settled[len(settled) * 9 // 10]
        click.echo(
            f"settled after:  median {median:.0f} s, 90 % {most:.0f} s, "
            f"maximum {settled[-1]:.0f} s "
            f"(limit {SETTLE_SECONDS} s)"
        )
    click.echo("rules tested:")
    for line in tested_rules(tested):
        click.echo(line)
    click.echo("actions taken:  " + counts(taken))
    click.echo("faults made:    " + (counts(faults) or "none"))
    wanted = runs[0].setup.faults
    idle = [name for name in sorted(wanted) if name not in faults]
    untested = [
        f"{rule} ({titles()[rule]})" if rule in titles() else rule
        for rule in by_number(_every_rule() - set(tested))
    ]
    calm = sorted(kind.__name__ for kind in get_args(Action) if kind.__name__ not in taken)
    if any(run.setup.instances > 1 for run in runs):
        elected = counts(_total([run.elected for run in runs]))
        click.echo(f"leaders chosen: {elected or 'none'}")
    for what, names in (
        ("never made:     ", idle),
        ("never taken:    ", calm),
        ("never tested:   ", untested),
    ):
        if names:
            click.echo(what + ("; " if names is untested else ", ").join(names))
    possible = [(one, other) for one in sorted(wanted) for other in sorted(wanted) if one <= other]
    missing = [f"{one}+{other}" for one, other in possible if (one, other) not in pairs]
    click.echo(f"pairs of faults within {NEAR_STEPS} actions: {len(pairs)} of {len(possible)}")
    if missing and len(missing) <= PAIRS_NAMED:
        click.echo("pairs never met: " + ", ".join(missing))


def _every_rule() -> set[str]:
    """The rules that a run can test."""
    return {law.rule for law in laws.all_laws()} | {"SIM-8"}


def _total(counters: "list[Counter[str]]") -> "Counter[str]":
    total: Counter[str] = Counter()
    for counter in counters:
        total.update(counter)
    return total


PROGRESS_SECONDS = 10.0
"""The time between progress lines if the output is not a terminal."""


@contextmanager
def _progress(doing: str, what: str, total: int) -> Iterator[Any]:
    """Progress on standard error: a bar if it is a terminal, else a line from time to time."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines(doing, what, total)
        return
    columns = (
        TextColumn(doing),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(what),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda taken: bar.update(task, completed=taken)


def _lines(doing: str, what: str, total: int) -> Callable[[int], None]:
    last = time.perf_counter()

    def tick(taken: int) -> None:
        nonlocal last
        if (now := time.perf_counter()) - last >= PROGRESS_SECONDS:
            last = now
            click.echo(f"{doing}: {taken:,} of {total:,} {what}", err=True)

    return tick
