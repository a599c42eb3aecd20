"""The explorer's models of StatefulSets, DaemonSets, Jobs, CronJobs and quotas (spec/explorer.md):
how many states they have, and which mistakes are found in them."""

import museum.exhibit as museum
import pytest
from museum.change import Change, applied

from refk8s.checking.explorer.models import MODELS
from refk8s.checking.explorer.search import BROKE, HELD, Bounds, explore
from refk8s.core.controllers.daemon_set_steps import manage
from refk8s.core.controllers.stateful_set_steps import ordered

STATES = {"statefulset": 1545, "daemonset": 1014, "job": 410, "cronjob": 59, "quota": 41}
"""The number of states without faults. Another number means that some decision has changed."""
TESTED = {
    "statefulset": {"STS-1", "STS-2", "STS-4", "STS-6", "STS-12"},
    "daemonset": {"DS-1", "DS-5", "DS-8", "DS-9", "DS-12"},
    "job": {"JOB-1", "JOB-2", "JOB-3", "JOB-11"},
    "cronjob": {"CRON-3", "CRON-5"},
    "quota": {"QUOTA-1", "QUOTA-7", "QUOTA-8"},
}


@pytest.mark.parametrize("name", STATES)
def test_explore_1_a_model_of_a_workload_is_exhausted_and_every_rule_holds(name):
    result = explore(MODELS[name](), Bounds())
    assert (result.verdict, result.broken, result.states) == (HELD, [], STATES[name])
    assert TESTED[name] <= set(result.tested)


UNREADY_GO_ON = Change(
    ordered,
    "if not situation.is_healthy(pod):\n    return Steps(waves, True)",
    "",
)
"""A StatefulSet creates the next pod before the last one is ready."""
TERMINATING_ARE_GONE = Change(
    manage,
    "if fit.gets and not pods:",
    "if fit.gets and all(map(is_going, pods)):",
)
"""A DaemonSet replaces a pod that still ends on its node."""
MISTAKES = {
    "statefulset": ((UNREADY_GO_ON,), "STS-4", {}),
    "daemonset": ((TERMINATING_ARE_GONE,), "DS-5", {}),
    "job": (museum.load("counted_twice").changes, "JOB-3", {}),
    "cronjob": (museum.load("scheduled_twice").changes, "CRON-3", {"crash": 1}),
    "quota": (museum.load("quota_counted_too_early").changes, "QUOTA-8", {}),
}
"""Of each model, a mistake, the rule that it breaks there, and the faults that this needs."""


@pytest.mark.parametrize("name", MISTAKES)
def test_explore_1_a_mistake_in_a_controller_is_found_in_its_model(name):
    changes, rule, faults = MISTAKES[name]
    with applied(changes):
        result = explore(MODELS[name](), Bounds(faults))
    assert result.verdict == BROKE and rule in {each.rule for each in result.broken}


def test_cron_5_a_creation_may_arrive_after_a_crash():
    """It is beside the Job of the next instance, for which time has to pass meanwhile."""
    assert explore(MODELS["cronjob"](), Bounds({"crash": 1, "slow": 1})).verdict == HELD
