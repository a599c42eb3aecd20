"""The explorer's models of Jobs and quotas (spec/explorer.md): how many states they have, and
which bugs of the museum are found in them."""

import museum.exhibit as museum
import pytest
from museum.change import applied

from refk8s.checking.explorer.models import MODELS
from refk8s.checking.explorer.search import BROKE, HELD, Bounds, explore

STATES = {"job": 410, "quota": 41}
"""The number of states without faults. Another number means that some decision has changed."""
TESTED = {
    "job": {"JOB-1", "JOB-2", "JOB-3", "JOB-11"},
    "quota": {"QUOTA-1", "QUOTA-7", "QUOTA-8"},
}


@pytest.mark.parametrize("name", STATES)
def test_explore_1_a_model_of_a_workload_is_exhausted_and_every_rule_holds(name):
    result = explore(MODELS[name](), Bounds())
    assert (result.verdict, result.broken, result.states) == (HELD, [], STATES[name])
    assert TESTED[name] <= set(result.tested)


MISTAKES = {"job": ("counted_twice", "JOB-3"), "quota": ("quota_counted_too_early", "QUOTA-8")}
"""Of each model, an exhibit of the museum, and the rule that it breaks there without a fault."""


@pytest.mark.parametrize("name", MISTAKES)
def test_explore_1_a_bug_of_the_museum_is_found_in_a_model(name):
    exhibit, rule = MISTAKES[name]
    with applied(museum.load(exhibit).changes):
        result = explore(MODELS[name](), Bounds())
    assert result.verdict == BROKE and rule in {each.rule for each in result.broken}
