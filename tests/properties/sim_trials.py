"""Runs of the simulator that are disturbed at one place each."""

from itertools import islice

from hypothesis import settings

from refk8s.checking.simulator import patterns

NIGHTLY = settings().max_examples >= 1_000


def judge(base: patterns.Base, pattern: str, stride: int) -> None:
    """Each run that is disturbed in this way ends as the undisturbed one. In the nightly profile at
    every place, else at each place of a number that `stride` divides."""
    assert not base.run.broken
    rule, _, trials = patterns.PATTERNS[pattern]
    for trial in islice(trials(base), 0, None, 1 if NIGHTLY else stride):
        run = patterns.judge_trial(base, trial, rule)
        assert not run.broken, f"{trial.words}: {run.broken[0]}"
