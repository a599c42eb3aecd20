"""The failure patterns in the scenarios of each controller (spec/simulation.md, SIM-5 to SIM-7).

A few places here; all of them in the nightly profile, and by `refk8s sim --pattern all --scenario
NAME`.
"""

from functools import cache

import pytest
import sim_trials
from click.testing import CliRunner
from msgspec.structs import replace

from refk8s.checking import actions_file
from refk8s.checking.simulator import patterns
from refk8s.checking.simulator.gang import GROUP, SIZE
from refk8s.checking.simulator.pattern_scenarios import SCENARIOS
from refk8s.checking.simulator.scenario import deployment, read_manifests
from refk8s.checking.simulator.simulate import Setup, replay, simulate
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
    "gang": {"SCHED-1", "SCHED-28", "DEP-19"},
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


def bindings(history):
    """How many pods there were at each binding of one, without those that are being deleted."""
    there = set()
    for change in history.changes(PODS.prefix, history.compacted):
        if change.record is None or change.record.value.metadata.deletion_timestamp is not None:
            there.discard(change.key)
            continue
        there.add(change.key)
        before = change.previous.value.spec.node_name if change.previous is not None else None
        if change.record.value.spec.node_name and not before:
            yield len(there)


def test_sched_63_no_pod_of_a_group_is_bound_before_the_others_have_a_node():
    """Two of three wait, for as long as the user does."""
    history = undisturbed("gang").run.cluster.history
    assert list(bindings(history)) == [3, 3, 3, 3]


@pytest.mark.parametrize("seed", range(3))
def test_sched_63_groups_are_bound_together_with_every_fault(seed):
    requests = [
        replace(request, body=with_labels(request.body, {GROUP: "web", SIZE: "3"}))
        for request in read_manifests([deployment("web", 3)])
    ]
    run = simulate(
        Setup(seed=seed, steps=1_500, requests=tuple(requests), user=False, has_gangs=True)
    )
    assert not run.broken, run.broken
    pods = [record.value for record in run.cluster.history.list(PODS.prefix).records]
    assert len(pods) == 3 and all(pod.spec.node_name for pod in pods)


def with_labels(owner, labels):
    template = owner.spec.template
    metadata = replace(template.metadata, labels={**template.metadata.labels, **labels})
    return replace(owner, spec=replace(owner.spec, template=replace(template, metadata=metadata)))


def test_sim_5_the_command_has_every_scenario():
    option = next(one for one in cli.sim.params if one.name == "scenario")
    assert list(option.type.choices) == list(SCENARIOS)
    run = CliRunner().invoke
    for words in (["--scenario", "job"], ["--pattern", "lag", "--scenario", "job", "x.yaml"]):
        bad = run(cli.main, ["sim", *words])
        assert bad.exit_code == 2 and len(bad.output.strip().splitlines()) == 1


@pytest.mark.parametrize("name", ["autoscaler", "gang", "disruption"])
def test_sim_1_a_run_of_a_scenario_is_replayed_from_its_file(name, tmp_path):
    """With another API server, with a plugin of the scheduler, and with evictions."""
    run = undisturbed(name).run
    path = tmp_path / "one.run"
    actions_file.write(path, run.setup, run.actions)
    again = replay(*actions_file.read(path), is_whole=False)
    assert not again.left_out and again.digest.digest() == run.digest.digest()
