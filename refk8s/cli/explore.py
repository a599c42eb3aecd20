"""`refk8s explore`: every interleaving of a small cluster, with its three results
(refk8s/checking/explorer/search.py). Rule EXPLORE-5."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress, TextColumn, TimeElapsedColumn

from refk8s.checking.explorer import history_file
from refk8s.checking.explorer.models import MODELS
from refk8s.checking.explorer.replay import begin_model, history_actions, take
from refk8s.checking.explorer.search import BROKE, HELD, Bounds, Result, explore
from refk8s.checking.explorer.transitions import FAULTS
from refk8s.checking.story import story_of
from refk8s.cli.report import BadUse, check_place, counts, tested_rules
from refk8s.core.properties import laws

STATUS = {HELD: 0, BROKE: 1}
STATUS_UNDETERMINED = 3


def parse_budgets(text: str) -> dict[str, int]:
    """`crash=1,lose=2` as budgets by fault; a name alone has budget 1. Raises BadUse for an unknown
    fault."""
    found: dict[str, int] = {}
    for word in [] if text in ("", "none") else text.split(","):
        name, _, number = word.strip().partition("=")
        if name not in FAULTS or not (number or "1").isdigit():
            raise BadUse(
                f"{word.strip()!r} is not a fault with a budget (such as crash=1,lose=2); "
                f"faults are {', '.join(FAULTS)}"
            )
        found[name] = int(number or 1)
    return found


def explore_and_report(
    model: str | None,
    faults: str,
    depth: int | None,
    states: int | None,
    seconds: float | None,
    save: str | None,
    replayed: str | None,
) -> int:
    """Explore and print the report; returns the exit status."""
    if replayed is not None:
        return _replay(Path(replayed))
    if model is None:
        for name in sorted(MODELS):
            click.echo(f"{name:14s}{MODELS[name]().summary}")
        return 0
    if model not in MODELS:
        raise BadUse(f"unknown model {model!r}; models are {', '.join(sorted(MODELS))}")
    check_place(save)
    bounds = Bounds(parse_budgets(faults), depth, states, seconds)
    with _progress() as tick:
        result = explore(MODELS[model](), bounds, tick)
    _report(result)
    if result.verdict == BROKE:
        _report_failure(result, Path(save or f"refk8s-explore-{model}.run"))
    return STATUS.get(result.verdict, STATUS_UNDETERMINED)


def _report(result: Result) -> None:
    rate = result.expanded / max(result.cpu_seconds, 1e-9)
    click.echo(f"model {result.model.name}: {result.model.summary}")
    budgets = ", ".join(f"{name} {count}" for name, count in result.bounds.faults.items())
    click.echo(
        f"budgets:        {budgets or 'no faults'}; "
        f"{result.model.horizon_seconds} s of virtual time"
    )
    click.echo("moves taken:    " + counts(result.taken))
    click.echo("rules tested:")
    for line in tested_rules(result.tested):
        click.echo(line)
    every = {law.rule for law in (*laws.all_laws(), *result.model.laws, *result.model.laws_of_rest)}
    if result.unevaluated:
        click.echo(
            f"not checked:    {result.unevaluated} times a rule of settled states, "
            "which needs the past"
        )
    if untested := sorted(every - set(result.tested)):
        click.echo("never tested:   " + ", ".join(untested))
    size = (
        f"{result.states} states, {result.transitions} transitions, depth {result.depth}, "
        f"{result.resting} at rest"
    )
    if result.at_horizon:
        size += f" ({result.at_horizon} of them with timers beyond the model's time)"
    if result.verdict == HELD:
        click.echo(
            f"exhausted: {size}; every rule held ({result.seconds:.1f} s, "
            f"{rate:,.0f} states per CPU second)"
        )
    elif result.verdict == BROKE:
        click.echo(
            f"broke: after {size} ({result.seconds:.1f} s, {rate:,.0f} states per CPU second)"
        )
    else:
        share = result.expanded / result.states
        click.echo(f"UNDETERMINED: {result.states} states, depth {result.depth}; {share:.1%} of the states found were expanded "
                   f"({result.transitions} transitions)")  # fmt: skip
        click.echo(
            f"stopped by {result.why} ({result.seconds:.1f} s, {rate:,.0f} states per CPU second)"
        )


def _report_failure(result: Result, path: Path) -> None:
    assert result.moves is not None
    actions = history_actions(result.moves, result.history)
    click.echo("\n".join(story_of(begin_model(result.model), actions, result.broken, take)))
    history_file.write(path, result.model.name, actions, str(result.broken[0]))
    _, again = history_file.replay(result.model, actions)
    rules = sorted({broken.rule for broken in again})
    outcome = (
        f"{', '.join(rules)} broke" if rules else "no rule broke, which is an error of the explorer"
    )
    click.echo(f"on the reference, action by action: {outcome}")
    click.echo(f"replay it:  refk8s explore --replay {path}")


def _replay(path: Path) -> int:
    try:
        model, actions = history_file.read(path)
    except history_file.BadFile as error:
        raise BadUse(str(error)) from None
    try:
        cluster, found = history_file.replay(MODELS[model](), actions)
    except history_file.Outdated as error:
        click.echo(f"UNDETERMINED: {error}")
        return STATUS_UNDETERMINED
    click.echo("\n".join(story_of(begin_model(MODELS[model]()), actions, found, take)))
    outcome = "a rule broke" if found else "every rule held"
    click.echo(
        f"model {model} actions {len(actions)} revision {cluster.history.revision}: {outcome}"
    )
    return 1 if found else 0


@contextmanager
def _progress() -> Iterator[Callable[[Result], None]]:
    """A progress line on standard error if it is a terminal; the total is not known."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda result: None
        return
    with Progress(
        TextColumn("exploring  {task.description}"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    ) as bar:
        task = bar.add_task("")
        yield lambda result: bar.update(
            task,
            description=(
                f"{result.states:,} states  depth {result.depth}  "
                f"{result.states / max(result.seconds, 1e-9):,.0f} a second"
            ),
        )
