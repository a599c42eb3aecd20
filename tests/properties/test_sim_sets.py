"""Simulated runs with StatefulSets and DaemonSets (spec/simulation.md, spec/workloads/)."""

import pytest

from refk8s.checking.simulator.ready import Ready
from refk8s.checking.simulator.scenario import read_manifests, set_manifests, stateful_set
from refk8s.checking.simulator.script import Order
from refk8s.checking.simulator.simulate import Setup, begin_run, simulate
from refk8s.core.actions import Partition
from refk8s.core.api.resources import PODS
from refk8s.core.cluster.step import step
from refk8s.core.context import MINUTE

REQUESTS = read_manifests(set_manifests())

MET = {
    42: "SIM-4: a set that was being deleted in the foreground created its revision again and again (STS-12)",
    50: "STS-1: a pod that lost its label kept the name of an ordinal",
}
"""Seeds that have found a mistake, and what it was."""


@pytest.mark.parametrize("seed", [0, 1, 2, 3, *MET])
def test_sim_3_sets_reach_the_desired_state_after_any_faults(seed):
    run = simulate(Setup(seed=seed, steps=2_500, nodes=3, requests=REQUESTS))
    assert not run.broken, run.broken[0]


def test_sim_2_the_user_changes_sets_in_these_runs():
    run = simulate(Setup(seed=6, steps=6_000, nodes=3, requests=REQUESTS))
    assert not run.broken, run.broken[0]
    assert {"STS-2", "STS-4", "STS-6", "DS-5"} <= set(run.tested)


def nodes_of(cluster, name):
    """The nodes on which a container of a pod of this name runs."""
    uids = {
        record.value.metadata.uid
        for record in cluster.history.list(PODS.prefix).records
        if record.value.metadata.name == name
    }
    found = {}
    for machine in sorted(cluster.worlds):
        for status in cluster.worlds[machine].running():
            found.setdefault(status.pod_uid, machine)
    return uids, found


def test_sts_15_a_pod_of_a_lost_node_is_not_replaced_while_it_may_run():
    requests = read_manifests([stateful_set("store", 1)])
    run = begin_run(Setup(seed=1, nodes=2, apiservers=1, faults={}, requests=requests, user=False))
    cluster, ready, order = run.cluster, Ready(run.cluster), Order()
    cut, seen = 0, set()

    def advance(until, stop=lambda cluster: False):
        nonlocal cluster
        while cluster.now < until and not stop(cluster):
            action = order.next_action(cluster, ready)
            before, cluster = cluster, step(cluster, action)
            ready.took(before, action, cluster)
            uids, found = nodes_of(cluster, "store-0")
            seen.update(uids)
            running = [machine for uid, machine in found.items() if uid in seen]
            assert len(running) < 2, f"STS-15: store-0 runs on {running}"

    advance(cluster.now + MINUTE, lambda cluster: nodes_of(cluster, "store-0")[1])
    (machine,) = nodes_of(cluster, "store-0")[1].values()
    action = Partition(machine, cluster.now + 20 * MINUTE)
    before, cluster = cluster, step(cluster, action)
    ready.took(before, action, cluster)
    cut = cluster.now
    advance(cut + 15 * MINUTE)
    (pod,) = [record.value for record in cluster.history.list(PODS.prefix).records]
    assert pod.metadata.deletion_timestamp is not None
    advance(cut + 30 * MINUTE)
    uids, found = nodes_of(cluster, "store-0")
    assert set(found) == uids and pod.metadata.uid not in uids
