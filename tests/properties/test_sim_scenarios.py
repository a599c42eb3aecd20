"""The failure patterns in the scenarios of each controller (spec/simulation.md, SIM-5 to SIM-7).

A few places here; all of them in the nightly profile, and by `refk8s sim --pattern all --scenario
NAME`.
"""

from functools import cache

import pytest
import sim_trials
from click.testing import CliRunner

from refk8s.checking import actions_file
from refk8s.checking.simulator import patterns
from refk8s.checking.simulator.pattern_scenarios import SCENARIOS
from refk8s.checking.simulator.simulate import Setup, replay
from refk8s.cli import main as cli
from refk8s.core.actions import Submit
from refk8s.core.api.resources import DEPLOYMENTS, JOBS, PODS

OTHERS = [name for name in SCENARIOS if name != "web"]
SETUP = Setup(seed=0, nodes=1, faults={}, user=False)
STRIDES = {"crash": 197, "lag": 61, "skip": 89}


@cache
def undisturbed(name):
    return patterns.begin_scenario(name, SETUP)


@pytest.mark.parametrize("pattern", STRIDES)
@pytest.mark.parametrize("name", OTHERS)
def test_sim_5_sim_6_sim_7_each_controller_ends_as_undisturbed(name, pattern):
    """SIM-5, SIM-6, SIM-7."""
    sim_trials.judge(undisturbed(name), pattern, STRIDES[pattern])


REACHED = {
    "statefulset": {"STS-1", "STS-2", "STS-4", "STS-6"},
    "daemonset": {"DS-1", "DS-5", "DS-8", "DS-9"},
    "job": {"JOB-1", "JOB-2", "JOB-3", "JOB-6", "JOB-11"},
    "cronjob": {"CRON-3", "CRON-5", "JOB-3"},
    "quota": {"QUOTA-1", "QUOTA-7", "QUOTA-8"},
    "autoscaler": {"HPA-10", "DEP-19"},
    "stabilization": {"HPA-8", "HPA-10"},
    "disruption": {"PDB-6", "RS-1", "DEP-19"},
}
"""The rules whose premise each scenario must reach."""


@pytest.mark.parametrize("name", OTHERS)
def test_sim_5_each_scenario_reaches_what_it_is_for(name):
    run = undisturbed(name).run
    assert not run.broken and REACHED[name] <= set(run.tested)


def changes(name, resource):
    """Every stored version of the objects of this resource, in order."""
    history = undisturbed(name).run.cluster.history
    found = history.changes(resource.prefix, history.compacted)
    return [change.record.value for change in found if change.record is not None]


def test_sim_5_the_scenarios_end_as_they_are_meant_to():
    """Forbid and Replace both decide; the budget lets one of two evictions through; a quota
    refuses; the autoscaler puts its target back."""
    names = {job.metadata.name for job in changes("cronjob", JOBS)}
    assert len(names) == 3, "at 14:15, late for 14:16, and at 14:17 instead of that one"
    evicted = {
        pod.metadata.name
        for pod in changes("disruption", PODS)
        for condition in pod.status.conditions or ()
        if condition.reason == "EvictionByEvictionAPI"
    }
    asked = [
        action
        for action in undisturbed("disruption").run.actions
        if isinstance(action, Submit) and action.request.subresource == "eviction"
    ]
    assert (len(asked), len(evicted)) == (4, 2)
    replicas = [one.spec.replicas for one in changes("autoscaler", DEPLOYMENTS)]
    assert [n for n, before in zip(replicas, [0, *replicas], strict=False) if n != before] == [
        1, 4, 1, 4, 2,
    ]  # fmt: skip


def test_sim_5_the_command_has_every_scenario():
    option = next(one for one in cli.sim.params if one.name == "scenario")
    assert list(option.type.choices) == list(SCENARIOS)
    run = CliRunner().invoke
    for words in (["--scenario", "job"], ["--pattern", "lag", "--scenario", "job", "x.yaml"]):
        bad = run(cli.main, ["sim", *words])
        assert bad.exit_code == 2 and len(bad.output.strip().splitlines()) == 1


@pytest.mark.parametrize("name", ["autoscaler", "disruption"])
def test_sim_1_a_run_of_a_scenario_is_replayed_from_its_file(name, tmp_path):
    """With another API server, and with evictions."""
    run = undisturbed(name).run
    path = tmp_path / "one.run"
    actions_file.write(path, run.setup, run.actions)
    again = replay(*actions_file.read(path), is_whole=False)
    assert not again.left_out and again.digest.digest() == run.digest.digest()
