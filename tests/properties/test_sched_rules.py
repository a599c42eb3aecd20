"""The scheduler's single rules (spec/scheduler.md): filters, scores, the choice and its memory, the
queue, the words."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from sched_worlds import a_node, a_pod, grouped, labelled, nodes, placed, pod_specs, ports

from refk8s.core.api.core_v1 import (
    Affinity,
    Container,
    NodeAffinity,
    NodeSelector,
    NodeSelectorRequirement,
    NodeSelectorTerm,
    Pod,
    PodStatus,
    PreferredSchedulingTerm,
    ResourceRequirements,
    Taint,
)
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.resources import NODES, PODS
from refk8s.core.context import MINUTE, SECOND
from refk8s.core.properties.oracle import requests
from refk8s.core.properties.predicates.scheduler import why_not
from refk8s.core.scheduler.evaluation import judge
from refk8s.core.scheduler.needs import needs_of
from refk8s.core.scheduler.placement import Chooser, choose
from refk8s.core.scheduler.queue import DEFAULT_BACKOFF, PARKED_MAX, Queue
from refk8s.core.scheduler.ranking import Ranking
from refk8s.core.scheduler.reasons import Refusal, explain
from refk8s.core.scheduler.scores import balanced_allocation, least_allocated, topology_spread
from refk8s.core.scheduler.snapshot import CHAIN_LENGTH_MAX, facts_of, fold, info_of, recompute

some_nodes = st.tuples(nodes("n0"), nodes("n1"), nodes("n2"), nodes("n3"))
some_pods = st.lists(
    st.tuples(pod_specs(), st.sampled_from(["", "", "owner-a", "owner-b"])), min_size=1, max_size=6
)


def pod_of(spec, uid: str, node: str = "", owner: str = "") -> Pod:
    return placed(
        Pod(metadata=ObjectMeta(name=uid, namespace="default"), spec=spec, status=PodStatus()),
        node,
        uid,
        owner,
    )


# --- what a pod asks for


@given(pod_specs())
def test_sched_2_a_pod_requests_the_most_that_ever_runs_together(spec):
    needs, expected = needs_of(pod_of(spec, "p")), requests(pod_of(spec, "p"))
    assert (needs.cpu, needs.memory) == (expected.get("cpu", 0), expected.get("memory", 0))
    assert needs.ephemeral_storage == expected.get("ephemeral-storage", 0)
    assert needs.extended == {name: much for name, much in expected.items() if "/" in name and much}


def test_sched_2_init_containers_run_one_by_one_beside_the_sidecars_before_them():
    def queries(name, cpu, policy=None):
        return Container(
            name=name,
            image="x",
            resources=ResourceRequirements(requests={"cpu": cpu}),
            restart_policy=policy,
        )

    pod = a_pod(
        "p",
        {"cpu": "1"},
        init_containers=(queries("i1", "2"), queries("s", "300m", "Always"), queries("i2", "2")),
    )
    assert needs_of(pod).cpu == 2300  # i2 beside s
    assert needs_of(replace(pod, spec=replace(pod.spec, overhead={"cpu": "50m"}))).cpu == 2350
    whole = replace(
        pod, spec=replace(pod.spec, resources=ResourceRequirements(requests={"cpu": "700m"}))
    )
    assert needs_of(whole).cpu == 700


# --- filters


@given(nodes("n0"), some_pods, pod_specs())
def test_sched_5_to_sched_9_a_node_is_refused_exactly_when_something_keeps_the_pod_off(
    node, there, spec
):
    others = [pod_of(other, f"u{at}", "n0") for at, (other, _) in enumerate(there)]
    pod = pod_of(spec, "new")
    verdict = judge(info_of(pod), "n0", recompute([node], others), {})
    reasons = why_not(pod, node, others)
    assert isinstance(verdict, Refusal) == bool(reasons)
    # what it says is among what is wrong (a cordon is a taint to it: SCHED-5, SCHED-6)
    if isinstance(verdict, Refusal):
        rule = {
            "NodeUnschedulable": "SCHED-5", "TaintToleration": "SCHED-5/6", "NodeAffinity": "SCHED-7", "NodePorts": "SCHED-8",
            "NodeResourcesFit": "SCHED-9",
        }[verdict.plugin]  # fmt: skip
        assert any(reason.startswith(rule) for reason in reasons)


@given(nodes("n0"), some_pods, pod_specs())
def test_sched_9_a_refusal_that_no_eviction_can_cure_holds_on_the_empty_node_too(node, there, spec):
    others = [pod_of(other, f"u{at}", "n0") for at, (other, _) in enumerate(there)]
    pod = info_of(pod_of(spec, "new"))
    verdict = judge(pod, "n0", recompute([node], others), {})
    if isinstance(verdict, Refusal) and not verdict.resolvable:
        assert judge(pod, "n0", recompute([node], []), {}) is not None


@given(st.lists(ports, max_size=2), st.lists(ports, max_size=3))
def test_sched_8_a_host_port_is_taken_by_its_address_or_by_all_addresses(mine, theirs):
    def with_ports(name, taken):
        pod = a_pod(name)
        return replace(
            pod,
            spec=replace(
                pod.spec, containers=(replace(pod.spec.containers[0], ports=tuple(taken) or None),)
            ),
        )

    node, other = a_node("n"), placed(with_ports("other", theirs), "n", "u")
    verdict = judge(info_of(with_ports("p", mine)), "n", recompute([node], [other]), {})
    assert isinstance(verdict, Refusal) == bool(why_not(with_ports("p", mine), node, [other]))


def test_sched_9_every_resource_that_is_short_is_named():
    node = a_node("n", cpu="1", memory="1Gi", pods="1")
    others = [placed(a_pod("other", {"cpu": "600m"}), "n", "u")]
    pod = info_of(a_pod("p", {"cpu": "500m", "memory": "2Gi", "example.com/gpu": "1"}))
    verdict = judge(pod, "n", recompute([node], others), {})
    assert verdict.messages == (
        "Too many pods",
        "Insufficient cpu",
        "Insufficient memory",
        "Insufficient example.com/gpu",
    )
    assert not verdict.resolvable
    bare = replace(node, status=replace(node.status, allocatable={"pods": "2"}))
    unasking = judge(info_of(a_pod("p")), "n", recompute([bare], others), {})
    assert unasking is None, "who asks for nothing does not mind that others have taken too much"


def test_sched_7_a_pod_that_names_its_node_is_asked_about_no_other():
    """As a DaemonSet's pods do: the other nodes speak with one voice."""

    def named(operator, *values):
        requirement = NodeSelectorRequirement(key="metadata.name", operator=operator, values=values)
        return NodeSelectorTerm(match_fields=(requirement,))

    def bound_to(*terms):
        selector = NodeSelector(node_selector_terms=terms)
        affinity = NodeAffinity(required_during_scheduling_ignored_during_execution=selector)
        return info_of(a_pod("p", {"cpu": "1"}, affinity=Affinity(node_affinity=affinity)))

    there = [
        a_node("a"),
        a_node("b", cpu="500m"),
        a_node("c", taints=(Taint(key="k", effect="NoSchedule"),)),
    ]
    snapshot = recompute(there, [])
    assert bound_to(named("In", "b"), named("In", "a")).needs.node_names == ("a", "b")
    assert bound_to(named("In", "b"), named("NotIn", "a")).needs.node_names is None
    for terms, expected, words in (
        ((named("In", "a"),), "a", {}),
        (
            (named("In", "b"),),
            None,
            {"Insufficient cpu": 1, "node(s) didn't satisfy plugin(s) [NodeAffinity]": 2},
        ),
        ((named("In", "gone"),), None, {"node(s) didn't satisfy plugin(s) [NodeAffinity]": 3}),
        ((named("In", "b"), named("In", "c"), named("In", "a")), "a", {}),
        (
            (named("In", "c"),),
            None,
            {
                "node(s) had untolerated taint(s)": 1,
                "node(s) didn't satisfy plugin(s) [NodeAffinity]": 2,
            },
        ),
    ):
        for choice in (choose, Chooser().choose):
            name, refusals = choice(bound_to(*terms), snapshot)
            assert name == expected
            if expected is None:
                assert {refusal.messages[0]: count for refusal, count in refusals.items()} == words


# --- scores


def points_of(node, pods, pod):
    return facts_of(node), recompute([node], pods).load("n"), needs_of(pod)


def test_sched_12_least_allocated_is_the_mean_of_what_stays_free():
    facts, load, needs = points_of(a_node("n", cpu="4", memory="8Gi"), [placed(a_pod("o", {"cpu": "1", "memory": "2Gi"}), "n", "u")],
                                   a_pod("p", {"cpu": "1", "memory": "4Gi"}))  # fmt: skip
    assert least_allocated.points(needs, facts, load) == (50 + 25) // 2
    facts, load, needs = points_of(a_node("n", cpu="1", memory="2000Mi"), [], a_pod("p"))
    assert least_allocated.points(needs, facts, load) == 90  # 100m of 1, 200Mi of 2000Mi
    facts, load, needs = points_of(
        a_node("n", cpu="1", memory="0"), [], a_pod("p", {"cpu": "250m"})
    )
    assert least_allocated.points(needs, facts, load) == 75


def test_sched_13_balanced_allocation_wants_both_shares_alike():
    facts, load, needs = points_of(
        a_node("n", cpu="4", memory="8Gi"), [], a_pod("p", {"cpu": "2", "memory": "2Gi"})
    )
    # 50 % and 25 %: half the difference is 12.5
    assert balanced_allocation.points(needs, facts, load) == 87
    facts, load, needs = points_of(
        a_node("n", cpu="4", memory="8Gi"), [], a_pod("p", {"cpu": "2", "memory": "4Gi"})
    )
    assert balanced_allocation.points(needs, facts, load) == 100
    facts, load, needs = points_of(a_node("n"), [], a_pod("p"))
    assert balanced_allocation.points(needs, facts, load) == 0


def test_sched_14_prefer_no_schedule_only_ranks():
    tainted = a_node("a", taints=(Taint(key="k", effect="PreferNoSchedule"),))
    assert (
        choose(info_of(a_pod("p")), recompute([tainted, a_node("b", cpu="1", memory="1Gi")], []))[0]
        == "b"
    )
    assert choose(info_of(a_pod("p")), recompute([tainted], []))[0] == "a"


def test_sched_15_the_weights_of_preferred_terms_add_up():
    def term(key, weight):
        requirement = NodeSelectorRequirement(key=key, operator="Exists")
        return PreferredSchedulingTerm(
            weight=weight, preference=NodeSelectorTerm(match_expressions=(requirement,))
        )

    affinity = Affinity(
        node_affinity=NodeAffinity(
            preferred_during_scheduling_ignored_during_execution=(
                term("x", 30),
                term("y", 30),
                term("z", 50),
            )
        )
    )
    there = [a_node("a", labels={"z": ""}), a_node("b", labels={"x": "", "y": ""}), a_node("c")]
    assert choose(info_of(a_pod("p", affinity=affinity)), recompute(there, []))[0] == "b"


def test_sched_27_pods_of_one_owner_go_to_different_nodes_and_zones_though_one_node_is_empty():
    zone = "topology.kubernetes.io/zone"
    there = [
        a_node("a", cpu="8", memory="16Gi", labels={zone: "1"}),
        a_node("b", labels={zone: "1"}),
        a_node("c", labels={zone: "2"}),
    ]
    snapshot, chosen = (
        recompute(
            there,
            [placed(a_pod("o", {"cpu": "500m", "memory": "1Gi"}), name, name) for name in "bc"],
        ),
        [],
    )
    for at in range(3):
        pod = grouped(labelled(placed(a_pod(f"p{at}"), "", f"u{at}"), "rs"), app="rs")
        name, _ = choose(pod, snapshot)
        snapshot = snapshot.with_load(name, snapshot.load(name).plus(pod))
        chosen.append(name)
    assert chosen == ["a", "c", "b"]
    alone = [choose(info_of(a_pod(f"q{at}")), snapshot)[0] for at in range(2)]
    assert alone == ["a", "a"], "without a group only the room counts"


@given(
    st.dictionaries(
        st.tuples(st.integers(0, 9), st.sampled_from(["", "a", "b"]), st.booleans()),
        st.just(0),
        min_size=1,
    )
)
def test_sched_27_fewer_siblings_near_are_never_worse(places):
    zones = {
        "a": sum(n for n, zone, _ in places if zone == "a"),
        "b": sum(n for n, zone, _ in places if zone == "b"),
    }
    points = topology_spread.points(places, len(places), zones)
    assert all(0 <= point <= 100 for point in points.values())
    for one in places:
        for other in places:
            if one[1:] == other[1:] and one[0] <= other[0]:
                assert points[one] >= points[other]


# --- the choice


changes = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "place",
                "place",
                "place",
                "remove",
                "cordon",
                "relabel",
                "drop",
                "return",
                "ask",
                "ask",
                "ask",
            ]
        ),
        st.integers(0, 99),
    ),
    min_size=5,
    max_size=60,
)


@given(some_nodes, some_pods, changes)
def test_sched_16_sched_17_what_is_remembered_gives_the_plain_answer(there, pods, events):
    """Rankings of all kinds live through the same changes; each is asked now and then, and answers
    as if it had asked every node."""
    kinds = [
        grouped(pod_of(spec, f"k{at}"), **({"app": owner} if owner else {}))
        for at, (spec, owner) in enumerate(pods)
    ]
    snapshot, chooser, running = recompute(there, []), Chooser(), []
    for at, (event, which) in enumerate(events):
        pod, node = kinds[which % len(kinds)], there[which % len(there)]
        name = node.metadata.name
        if event == "place":
            spec, owner = pods[which % len(pods)]
            placed_pod = labelled(pod_of(spec, f"u{at}", name), owner)
            running.append(placed_pod)
            snapshot = fold(snapshot, PODS, None, placed_pod)
        elif event == "remove" and running:
            snapshot = fold(snapshot, PODS, running.pop(which % len(running)), None)
        elif event == "cordon":
            snapshot = fold(
                snapshot,
                NODES,
                node,
                replace(node, spec=replace(node.spec, unschedulable=bool(which % 2))),
            )
        elif event == "relabel":
            labels = {**node.metadata.labels, "topology.kubernetes.io/zone": str(which % 3)}
            snapshot = fold(
                snapshot, NODES, node, replace(node, metadata=replace(node.metadata, labels=labels))
            )
        elif event == "drop":
            snapshot = fold(snapshot, NODES, node, None)
        elif event == "return":
            snapshot = fold(snapshot, NODES, None, node)
        else:
            name, refusals = chooser.choose(pod, snapshot)
            expected, expected_refusals = choose(pod, snapshot)
            assert name == expected
            if expected is None:
                assert {
                    refusal: count for refusal, count in refusals.items() if count
                } == expected_refusals
                assert sum(expected_refusals.values()) == len(snapshot.nodes), (
                    "SCHED-10: every node says one thing"
                )
            assert chooser.has_offer(pod, snapshot) == (expected is not None)


@given(
    st.lists(
        st.tuples(st.sampled_from(["place", "place", "remove"]), st.integers(0, 99)),
        min_size=10,
        max_size=30,
    )
)
def test_sched_17_sched_27_what_is_remembered_of_siblings_is_right(events):
    zone = "topology.kubernetes.io/zone"
    there = [
        a_node(
            f"n{at}",
            cpu="64",
            memory="640Gi",
            pods="100",
            labels={zone: f"z{at // 2}"} if at < 5 else {},
        )
        for at in range(6)
    ]
    snapshot, chooser, running = recompute(there, []), Chooser(), []
    asking = [grouped(placed(a_pod("p"), "", "p"), app=app) for app in ("a", "b")]
    for at, (event, which) in enumerate(events):
        if event == "place":
            running.append(
                labelled(placed(a_pod(f"p{at}"), f"n{which % 6}", f"u{at}"), "ab"[which % 2])
            )
            snapshot = fold(snapshot, PODS, None, running[-1])
        elif event == "remove" and running:
            snapshot = fold(snapshot, PODS, running.pop(which % len(running)), None)
        for pod in asking:
            assert chooser.choose(pod, snapshot)[0] == choose(pod, snapshot)[0]


def test_sched_17_a_ranking_that_has_lost_the_thread_looks_at_every_node():
    there = [a_node("a", pods="9000"), a_node("b", pods="9000")]
    snapshot = recompute(there, [])
    pod = info_of(a_pod("p"))
    ranking = Ranking(pod, {})
    assert ranking.choose(snapshot)[0] == "a"
    snapshot = fold(snapshot, PODS, None, placed(a_pod("o"), "a", "u"))
    other = placed(a_pod("q"), "b", "v")
    for _ in range(CHAIN_LENGTH_MAX):
        snapshot = fold(fold(snapshot, PODS, None, other), PODS, other, None)
    assert ranking.choose(snapshot)[0] == choose(pod, snapshot)[0] == "b"


@given(some_nodes, st.integers(1, 30))
def test_sched_16_equal_pods_on_equal_nodes_spread_evenly(there, count):
    snapshot = recompute(
        [a_node(node.metadata.name, cpu="64", memory="640Gi", pods="100") for node in there], []
    )
    pods_of = dict.fromkeys(sorted(snapshot.nodes), 0)
    for at in range(count):
        pod = info_of(placed(a_pod("p", {"cpu": "10m"}), "", f"u{at}"))
        name, _ = choose(pod, snapshot)
        snapshot = snapshot.with_load(name, snapshot.load(name).plus(pod))
        pods_of[name] += 1
    assert max(pods_of.values()) - min(pods_of.values()) <= 1


# --- the queue


def waiting_in(queue: Queue, now: int, welcome=lambda pod: True):
    ready, later = queue.ready(now, welcome)
    return [waiting.key for waiting in ready], later


@given(st.lists(st.integers(-2, 2), min_size=1, max_size=20))
def test_sched_18_the_higher_priority_first_then_who_came_first(priorities):
    queue = Queue()
    for at, priority in enumerate(priorities):
        queue = queue.admit(
            f"d/p{at}", info_of(placed(a_pod(f"p{at}", priority=priority), "", f"u{at}"))
        )
    keys, _ = waiting_in(queue, 0)
    order = [(priorities[int(key[3:])], int(key[3:])) for key in keys]
    assert len(order) == len(priorities)
    assert all(
        one[0] > other[0] or (one[0] == other[0] and one[1] < other[1])
        for one, other in pairwise(order)
    )


@given(st.integers(1, 12))
def test_sched_20_the_back_off_doubles_from_one_second_to_ten(attempts):
    queue, now = Queue().admit("d/p", info_of(a_pod("p"))), 0
    for attempt in range(attempts):
        waiting = queue.pods["d/p"]
        queue = queue.park([waiting], now)
        delay = min(SECOND * 2**attempt, DEFAULT_BACKOFF.longest)
        assert waiting_in(queue, now + delay - 1) == ([], now + delay)
        now += delay
        assert waiting_in(queue, now) == (["d/p"], None)


def test_sched_19_sched_21_a_parked_pod_is_tried_when_welcome_or_after_five_minutes():
    queue = (
        Queue()
        .admit("d/p", info_of(a_pod("p", {"cpu": "1"})))
        .admit("d/q", info_of(a_pod("q", {"cpu": "2"})))
    )
    queue = queue.park([queue.pods["d/p"], queue.pods["d/q"]], 0)
    assert waiting_in(queue, MINUTE, lambda pod: pod.needs.cpu == 1000) == (["d/p"], None)
    assert waiting_in(queue, MINUTE, lambda pod: False) == ([], None)
    assert queue.flush(PARKED_MAX - 1) is queue
    assert waiting_in(queue.flush(PARKED_MAX), PARKED_MAX, lambda pod: False) == (
        ["d/p", "d/q"],
        None,
    )


# --- the words


def test_sched_10_reasons_are_counted_and_sorted_as_text():
    refusals = {
        Refusal("NodeResourcesFit", ("Insufficient cpu", "Insufficient memory"), True): 2,
        Refusal("NodeResourcesFit", ("Insufficient cpu",), False): 10,
        Refusal(
            "NodePorts", ("node(s) didn't have free ports for the requested pod ports",), True
        ): 1,
        Refusal("TaintToleration", ("node(s) had untolerated taint(s)",), False): 0,
    }
    assert explain(refusals, 13, "why not") == (
        "0/13 nodes are available: 1 node(s) didn't have free ports for the requested pod ports, "
        "12 Insufficient cpu, "
        "2 Insufficient memory. no new claims to deallocate, preemption: why not"
    )
