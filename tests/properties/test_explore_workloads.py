"""The explorer's models of Jobs and quotas (spec/explorer.md): how many states they have."""

import pytest

from refk8s.checking.explorer.models import MODELS
from refk8s.checking.explorer.search import HELD, Bounds, explore

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
