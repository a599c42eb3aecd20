"""Simulated runs with claims of devices (spec/simulation.md, spec/devices.md)."""

from functools import cache

import pytest
import sim_trials
from hypothesis import settings

from refk8s.checking.simulator import patterns
from refk8s.checking.simulator.pattern_scenarios import scenario_of
from refk8s.checking.simulator.scenario import (
    creation,
    device_manifests,
    device_pod,
    extended_pod,
    read_manifests,
)
from refk8s.checking.simulator.simulate import Setup, simulate
from refk8s.core.api import codec
from refk8s.core.api.core_v1 import Pod
from refk8s.core.api.meta_v1 import DeleteOptions
from refk8s.core.api.request import Request
from refk8s.core.api.resources import PODS, RESOURCE_CLAIMS
from refk8s.core.api.user import ADMIN

NIGHTLY = settings().max_examples >= 1_000
REQUESTS = read_manifests(device_manifests())

MET = {
    32: "SIM-8: the answers to two questions about one claim, the first of which was enough (DRA-13)",
    327: "SIM-4: the scheduler and the controller wrote the finalizer in turn, while the controller did not see the pod (DRA-14)",
}
"""Seeds that have found a mistake, and what it was."""


@pytest.mark.parametrize("seed", [0, 1, 2, 3, *MET])
def test_sim_3_claims_reach_the_desired_state_after_any_faults(seed):
    run = simulate(Setup(seed=seed, steps=2_500, nodes=2, requests=REQUESTS))
    assert not run.broken, run.broken[0]


def test_sim_2_the_user_changes_claims_in_these_runs():
    run = simulate(Setup(seed=6, steps=6_000, nodes=2, requests=REQUESTS))
    assert not run.broken, run.broken[0]
    assert {"DRA-5", "DRA-8", "DRA-12", "DRA-13", "DRA-14", "DRA-21", "DRA-22", "DRA-25"} <= set(
        run.tested
    )


# --- crashes, late watches, missed changes --------------------------------------------------------


def _make(name, claim, script="sleep 900"):
    return lambda cluster: creation(codec.from_tree(Pod, device_pod(name, claim, script, claim == "one")))  # fmt: skip


def _delete(resource, name):
    request = Request("delete", resource, "default", name, body=DeleteOptions(), user=ADMIN)
    return lambda cluster: request


def _count(name):
    return lambda cluster: creation(codec.from_tree(Pod, extended_pod(name, "sleep 900")))


WORLD = scenario_of(read_manifests(device_manifests(1)[:-2]))
STORY = (
    *WORLD,
    (_make("trains-0", "one"),),
    (_make("shares-0", "shared"),),
    (_make("shares-1", "shared"), _make("trains-1", "one")),
    (_delete(PODS, "trains-0"), _delete(PODS, "shares-0")),
    (_delete(RESOURCE_CLAIMS, "shared"), _delete(PODS, "shares-1")),
    (_make("trains-2", "one", "sleep 2"),),
    (_delete(PODS, "trains-2"), _count("counts-0")),
    (_delete(PODS, "counts-0"), _count("counts-1")),
)
"""Two devices, of which one is shared, are wanted by three pods, and then by others as an extended
resource; claims and pods go."""


@cache
def undisturbed():
    return patterns.begin(Setup(seed=0, nodes=1, faults={}, user=False), STORY)


@pytest.mark.parametrize(("pattern", "stride"), [("crash", 53), ("lag", 29), ("skip", 61)])
def test_sim_5_sim_6_sim_7_claims_end_as_undisturbed(pattern, stride):
    """SIM-5, SIM-6, SIM-7."""
    sim_trials.judge(undisturbed(), pattern, stride)
