"""Simulated runs with volumes of a CSI driver (spec/simulation.md,
spec/workloads/attach_detach.md)."""

import pytest

from refk8s.checking.simulator.scenario import read_manifests, volume_manifests
from refk8s.checking.simulator.simulate import Setup, simulate
from refk8s.core.controllers.attach_detach import _Step

REQUESTS = read_manifests(volume_manifests())


@pytest.mark.parametrize("seed", range(4))
def test_sim_3_attach_6_volumes_are_attached_where_they_are_used_after_any_faults(seed):
    run = simulate(Setup(seed=seed, steps=2_500, nodes=2, requests=REQUESTS))
    assert not run.broken, run.broken[0]
    assert "ATTACH-6" in run.tested


def test_sim_2_the_user_and_the_attacher_act_in_these_runs():
    run = simulate(Setup(seed=4, steps=6_000, nodes=2, requests=REQUESTS))
    assert not run.broken, run.broken[0]
    assert {"ATTACH-3", "ATTACH-6"} <= set(run.tested)


def test_attach_6_a_controller_that_detaches_nothing_is_found(monkeypatch):
    monkeypatch.setattr(_Step, "detach", lambda step, attachment: None)
    run = simulate(Setup(seed=2, steps=2_500, nodes=2, requests=REQUESTS))
    assert [each.rule for each in run.broken[:1]] == ["ATTACH-6"]
