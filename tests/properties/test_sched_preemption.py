"""Preemption (spec/scheduler.md, SCHED-35 to SCHED-38): who goes for whom, and who may not take the
room."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from sched_worlds import (
    START,
    a_node,
    a_pod,
    deleted,
    new_cluster,
    patched,
    stored,
    with_node,
    with_pod,
)
from test_sched import all_is_well, condition_of, crash, events, faults, memory_of, pod_named, quiet

from refk8s.core.actions import Arrive, Elapse, Submit
from refk8s.core.api.core_v1 import Affinity, PodAffinityTerm, PodAntiAffinity
from refk8s.core.api.meta_v1 import LabelSelector, ObjectMeta
from refk8s.core.api.policy_v1 import (
    PodDisruptionBudget,
    PodDisruptionBudgetSpec,
)
from refk8s.core.api.request import Patch, Request
from refk8s.core.api.resources import NODES, POD_DISRUPTION_BUDGETS, PODS, PRIORITY_CLASSES
from refk8s.core.api.scheduling_v1 import PriorityClass
from refk8s.core.api.user import ADMIN
from refk8s.core.cluster.enabled import enabled
from refk8s.core.cluster.step import step
from refk8s.core.context import SECOND
from refk8s.core.scheduler.evaluation import judge
from refk8s.core.scheduler.snapshot import info_of, recompute

CLASSES = {"low": 10, "mid": 100, "polite": 500, "high": 1000}


def test_sched_38_the_pod_without_a_budget_goes():
    cluster = with_node(
        with_node(with_classes(new_cluster()), a_node("a", cpu="1")), a_node("b", cpu="1")
    )
    for node in ("a", "b"):
        cluster = quiet(
            with_pod(
                cluster,
                classed(f"v{node}", "low", "1", node_selector={"kubernetes.io/hostname": node}),
            )
        )
    budget = PodDisruptionBudget(
        metadata=ObjectMeta(name="pdb"),
        spec=PodDisruptionBudgetSpec(
            min_available=1, selector=LabelSelector(match_labels={"app": "va"})
        ),
    )
    labelled = Patch("application/merge-patch+json", {"metadata": {"labels": {"app": "va"}}})
    cluster = step(
        cluster, Submit(Request("patch", PODS, "default", "va", body=labelled, user=ADMIN))
    )
    cluster = quiet(
        step(
            cluster,
            Submit(Request("create", POD_DISRUPTION_BUDGETS, "default", body=budget, user=ADMIN)),
        )
    )
    cluster = quiet(with_pod(cluster, classed("vip", "high", "1")))
    assert names(cluster) == ["va", "vip"] and pod_named(cluster, "vip").spec.node_name == "b"


def with_classes(cluster):
    for name, value in CLASSES.items():
        kind = PriorityClass(
            metadata=ObjectMeta(name=name),
            value=value,
            preemption_policy="Never" if name == "polite" else None,
        )
        cluster = step(cluster, Submit(Request("create", PRIORITY_CLASSES, body=kind, user=ADMIN)))
    return cluster


def classed(name: str, kind: str, cpu: str, **spec):
    return a_pod(
        name, {"cpu": cpu}, priority_class_name=kind, termination_grace_period_seconds=0, **spec
    )


def names(cluster):
    return sorted(pod.metadata.name for pod in stored(cluster, PODS))


def test_sched_35_the_more_important_pod_takes_the_place_of_as_few_as_possible():
    cluster = with_node(with_classes(new_cluster()), a_node("n"))
    cluster = quiet(
        with_pod(
            with_pod(cluster, classed("victim", "low", "1500m")),
            classed("bystander", "low", "400m"),
        )
    )
    cluster = quiet(with_pod(cluster, classed("vip", "high", "1")))
    assert names(cluster) == ["bystander", "vip"]
    assert pod_named(cluster, "vip").spec.node_name == "n"
    assert [(name, count) for name, _, count in events(cluster, "Preempted")] == [("victim", 1)]
    assert events(cluster, "FailedScheduling") == [
        ("vip", "0/1 nodes are available: 1 Insufficient cpu.", 1)
    ]


def test_sched_36_the_node_whose_highest_victim_is_lowest():
    cluster = with_node(
        with_node(with_classes(new_cluster()), a_node("a", cpu="1")), a_node("b", cpu="1")
    )
    cluster = quiet(
        with_pod(cluster, classed("va", "mid", "1", node_selector={"kubernetes.io/hostname": "a"}))
    )
    cluster = quiet(
        with_pod(cluster, classed("vb", "low", "1", node_selector={"kubernetes.io/hostname": "b"}))
    )
    cluster = quiet(with_pod(cluster, classed("vip", "high", "1")))
    assert names(cluster) == ["va", "vip"]
    assert pod_named(cluster, "vip").spec.node_name == "b"


def test_sched_35_nobody_goes_where_it_would_not_help():
    cluster = with_node(with_classes(new_cluster()), a_node("n", cpu="1"))
    cluster = quiet(with_pod(cluster, classed("v", "low", "1")))
    cluster = with_pod(cluster, classed("polite", "polite", "1"))
    cluster = with_pod(cluster, classed("equal", "low", "1"))
    cluster = with_pod(cluster, classed("large", "high", "2"))
    cluster = quiet(
        with_pod(cluster, classed("astray", "high", "1", node_selector={"no": "where"}))
    )
    assert pod_named(cluster, "v").metadata.deletion_timestamp is None
    why = {
        name: condition_of(cluster, name).message.partition("preemption: ")[2]
        for name in ("polite", "equal", "large", "astray")
    }
    assert why == {
        "polite": "not eligible due to preemptionPolicy=Never.",
        "equal": "0/1 nodes are available: 1 No preemption victims found for incoming pod.",
        "large": "0/1 nodes are available: 1 Preemption is not helpful for scheduling.",
        "astray": "0/1 nodes are available: 1 Preemption is not helpful for scheduling.",
    }


def test_sched_35_anti_affinity_can_be_cured_too():
    far = PodAffinityTerm(
        label_selector=LabelSelector(match_labels={"app": "web"}),
        topology_key="kubernetes.io/hostname",
    )
    apart = Affinity(
        pod_anti_affinity=PodAntiAffinity(
            required_during_scheduling_ignored_during_execution=(far,)
        )
    )
    cluster = with_node(with_classes(new_cluster()), a_node("n"))
    web = classed("web", "low", "100m")
    cluster = quiet(
        with_pod(cluster, replace(web, metadata=replace(web.metadata, labels={"app": "web"})))
    )
    cluster = quiet(with_pod(cluster, classed("vip", "high", "100m", affinity=apart)))
    assert names(cluster) == ["vip"]


def leaving_slowly(cluster):
    """A full node whose pod takes its time to leave, and a more important pod that waits for
    that."""
    cluster = with_node(cluster, a_node("n", cpu="1"))
    victim = a_pod(
        "victim", {"cpu": "1"}, priority_class_name="low", termination_grace_period_seconds=30
    )
    cluster = quiet(with_pod(cluster, victim))
    cluster = quiet(with_pod(cluster, classed("vip", "high", "1")), seconds=5)
    assert pod_named(cluster, "victim").metadata.deletion_timestamp is not None
    assert pod_named(cluster, "vip").status.nominated_node_name == "n"
    disrupted = [
        c.reason
        for c in pod_named(cluster, "victim").status.conditions
        if c.type == "DisruptionTarget"
    ]
    assert disrupted == ["PreemptionByScheduler"]
    return cluster


def test_sched_37_nobody_less_important_takes_the_room_of_a_nominated_pod():
    cluster = leaving_slowly(with_classes(new_cluster()))
    cluster = with_pod(cluster, classed("thief", "high", "1"))
    cluster = quiet(with_pod(cluster, classed("small", "low", "100m")), seconds=30)
    assert "Insufficient cpu" in condition_of(cluster, "thief").message
    cluster = quiet(deleted(cluster, pod_named(cluster, "victim"), now=True))
    assert pod_named(cluster, "vip").spec.node_name == "n"
    assert not pod_named(cluster, "thief").spec.node_name
    assert not pod_named(cluster, "small").spec.node_name
    assert not len(memory_of(cluster).nominations)


@given(st.sampled_from(["low", "mid", "high"]), st.sampled_from(["100m", "500m", "1"]))
def test_sched_37_only_the_less_and_equally_important_are_held_back(kind, cpu):
    """One CPU is free, and promised to a pod of middle importance whose victim has yet to leave."""
    cluster = with_node(with_classes(new_cluster()), a_node("n", cpu="2"))
    cluster = quiet(
        with_pod(
            cluster,
            a_pod(
                "victim",
                {"cpu": "1"},
                priority_class_name="low",
                termination_grace_period_seconds=30,
            ),
        )
    )
    cluster = quiet(with_pod(cluster, classed("waiting", "mid", "2")), seconds=5)
    assert pod_named(cluster, "waiting").status.nominated_node_name == "n"
    cluster = quiet(with_pod(cluster, classed("comer", kind, cpu)), seconds=5)
    assert bool(pod_named(cluster, "comer").spec.node_name) == (kind == "high")
    assert ("comer" in [name for name, _, _ in events(cluster, "FailedScheduling")]) == (
        kind != "high"
    )


def test_sched_37_a_scheduler_that_starts_anew_keeps_the_room_of_a_nominated_pod():
    cluster = quiet(crash(leaving_slowly(with_classes(new_cluster()))), seconds=5)
    cluster = quiet(with_pod(cluster, classed("thief", "mid", "1")), seconds=30)
    cluster = quiet(deleted(cluster, pod_named(cluster, "victim"), now=True))
    assert pod_named(cluster, "vip").spec.node_name == "n"
    assert not pod_named(cluster, "thief").spec.node_name


def test_sched_37_a_nominated_pod_that_is_deleted_leaves_its_room_to_others():
    cluster = leaving_slowly(with_classes(new_cluster()))
    cluster = quiet(with_pod(cluster, classed("other", "mid", "1")), seconds=30)
    cluster = quiet(deleted(cluster, pod_named(cluster, "vip"), now=True))
    cluster = quiet(deleted(cluster, pod_named(cluster, "victim"), now=True))
    assert pod_named(cluster, "other").spec.node_name == "n"


crowds = st.lists(
    st.tuples(st.sampled_from(["low", "mid", "high"]), st.sampled_from(["200m", "500m", "1"])),
    min_size=3,
    max_size=10,
)
happenings = st.lists(
    st.tuples(st.integers(0, 11), st.integers(0, 2**16)), min_size=20, max_size=60
)


@given(crowds, happenings, st.sampled_from([[], ["lose", "cut"], ["crash"]]))
def test_sched_37_sched_1_whoever_waits_in_the_end_is_no_more_important_than_whoever_runs(
    pods, drawn, allowed
):
    """However it comes: in the end no pod waits for room that less important pods have."""
    cluster = with_node(
        with_node(with_classes(new_cluster()), a_node("a", cpu="1")), a_node("b", cpu="1")
    )
    coming = [classed(f"p{at}", kind, cpu) for at, (kind, cpu) in enumerate(pods)]
    for kind, which in drawn:
        before = cluster
        if kind >= 9 and coming:
            cluster = with_pod(cluster, coming.pop())
        elif kind == 8 and allowed:
            odd = faults(cluster, [fault for fault in allowed if fault != "crash"])
            cluster = (
                crash(cluster)
                if "crash" in allowed
                else step(cluster, odd[which % len(odd)])
                if odd
                else cluster
            )
        else:
            normal = list(enabled(cluster))
            cluster = step(cluster, normal[which % len(normal)]) if normal else cluster
        assert not all_is_well(before, cluster)
    for pod in coming:
        cluster = with_pod(cluster, pod)
    cluster = quiet(cluster, seconds=400)
    there = stored(cluster, PODS)
    nodes = stored(cluster, NODES)
    for pod in there:
        if pod.spec.node_name:
            continue
        info = info_of(pod)
        rest = [
            other
            for other in there
            if other.spec.node_name and other.spec.priority >= pod.spec.priority
        ]
        for node in nodes:
            assert judge(info, node.metadata.name, recompute(nodes, rest), {}) is not None, (
                "SCHED-35: it could have had that room"
            )


def test_sched_37_a_pod_whose_victims_have_yet_to_go_gets_no_others():
    cluster = with_node(
        with_node(with_classes(new_cluster()), a_node("a", cpu="1")), a_node("b", cpu="1")
    )
    cluster = quiet(
        with_pod(with_pod(cluster, classed("va", "low", "1")), classed("vb", "low", "1"))
    )
    cluster = with_pod(cluster, classed("vip", "high", "1"))
    while not [f for _, f in cluster.flying.items() if f.request.verb == "delete"]:
        cluster = step(cluster, next(enabled(cluster)))
    deletions = [id for id, f in cluster.flying.items() if f.request.verb == "delete"]
    cluster = patched(cluster, PODS, "vip", {"metadata": {"labels": {"changed": "yes"}}})
    late = START + 20 * SECOND
    while cluster.now < late:  # the deletion takes its time, and the pod is looked at again
        actions = [
            a for a in enabled(cluster) if not (isinstance(a, Arrive) and a.flying in deletions)
        ]
        cluster = step(cluster, actions[0] if actions else Elapse(cluster.now + SECOND))
    cluster = quiet(cluster)
    assert len(names(cluster)) == 2 and "vip" in names(cluster)
