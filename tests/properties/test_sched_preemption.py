"""Preemption (spec/scheduler.md, SCHED-35 to SCHED-38): who goes for whom, and who may not take the
room."""

from __future__ import annotations

from collections import Counter

from hypothesis import example, given, settings
from hypothesis import strategies as st
from immutables import Map
from msgspec.structs import replace
from sched_worlds import (
    START,
    a_node,
    a_pod,
    deleted,
    new_cluster,
    patched,
    placed,
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
    PodDisruptionBudgetStatus,
)
from refk8s.core.api.request import Patch, Request
from refk8s.core.api.resources import NODES, POD_DISRUPTION_BUDGETS, PODS, PRIORITY_CLASSES
from refk8s.core.api.scheduling_v1 import PriorityClass
from refk8s.core.api.user import ADMIN
from refk8s.core.cluster.enabled import enabled
from refk8s.core.cluster.step import step
from refk8s.core.context import SECOND
from refk8s.core.scheduler.arguments import DEFAULT_ARGUMENTS
from refk8s.core.scheduler.batch import Batch
from refk8s.core.scheduler.budgets import budgets_of
from refk8s.core.scheduler.evaluation import judge
from refk8s.core.scheduler.nominated import Nominated, Nomination
from refk8s.core.scheduler.placement import Chooser
from refk8s.core.scheduler.preempt import preempt
from refk8s.core.scheduler.profile import make_profile
from refk8s.core.scheduler.queue import Waiting
from refk8s.core.scheduler.snapshot import Change, facts_of, info_of, recompute
from refk8s.core.value import evolve

CLASSES = {"low": 10, "mid": 100, "polite": 500, "high": 1000}


def ranked(name: str, priority: int, cpu: str, **spec):
    return a_pod(name, {"cpu": cpu}, priority=priority, **spec)


def started(pod) -> str:
    return f"2026-01-01T00:00:{int(pod.uid[1:]) % 60:02}Z"


running = st.lists(
    st.tuples(
        st.sampled_from([0, 10, 100]),
        st.sampled_from(["100m", "300m", "500m", "1"]),
        st.integers(0, 2),
    ),
    max_size=10,
)


def fitting(pods):
    """These pods on three nodes of 2 CPUs, as many as there is room for."""
    taken, found = [0, 0, 0], []
    for at, (priority, cpu, node) in enumerate(pods):
        much = 1000 if cpu == "1" else int(cpu[:-1])
        if taken[node] + much <= 2000:
            taken[node] += much
            found.append(placed(ranked(f"r{at}", priority, cpu), f"n{node}", f"u{at}"))
    return found


@given(running, st.sampled_from([0, 10, 50, 1000]), st.sampled_from(["500m", "1", "1900m", "3"]))
def test_sched_35_sched_36_the_fewest_and_least_important_go_and_only_where_it_helps(
    pods, priority, cpu
):
    there = fitting(pods)
    nodes = [a_node(f"n{at}") for at in range(3)]
    snapshot, pod = recompute(nodes, there), info_of(placed(ranked("p", priority, cpu), "", "p"))
    name, _ = Chooser().choose(pod, snapshot)
    if name is not None:
        return
    eviction, counts = preempt(pod, Chooser().refusing(pod, snapshot), snapshot, {}, started)

    def fits_without(node, gone):
        rest = [other for other in there if other.metadata.uid not in gone]
        return judge(pod, node, recompute(nodes, rest), {}) is None

    def lesser(node, than):
        return {
            other.metadata.uid
            for other in there
            if other.spec.node_name == node and other.spec.priority < than
        }

    curable = [
        node.metadata.name
        for node in nodes
        if fits_without(node.metadata.name, lesser(node.metadata.name, priority))
    ]
    assert (eviction is not None) == bool(curable)
    if eviction is None:
        assert sum(counts.values()) == len(nodes)
        return
    gone = {victim.uid for victim in eviction.victims}
    assert gone and all(victim.priority < priority for victim in eviction.victims)
    assert fits_without(eviction.node, gone)
    assert not any(fits_without(eviction.node, gone - {uid}) for uid in gone), (
        "SCHED-35: a victim could have stayed"
    )
    highest = max(victim.priority for victim in eviction.victims)
    for node in curable:  # nowhere would it do with less important victims
        assert not fits_without(node, lesser(node, min(highest, priority))), (
            "SCHED-36: elsewhere less important pods would do"
        )


def test_sched_36_the_most_important_victim_of_a_node_counts():
    there = [
        placed(ranked(name, priority, "1"), node, name)
        for name, priority, node in (
            ("a1", 100, "n0"),
            ("a2", 0, "n0"),
            ("b1", 50, "n1"),
            ("b2", 50, "n1"),
        )
    ]
    nodes = [a_node("n0", cpu="2"), a_node("n1", cpu="2")]
    snapshot, pod = recompute(nodes, there), info_of(placed(ranked("p", 1000, "2"), "", "p"))
    eviction, _ = preempt(pod, Chooser().refusing(pod, snapshot), snapshot, {}, started)
    assert eviction is not None and eviction.node == "n1"
    assert {victim.uid for victim in eviction.victims} == {"b1", "b2"}


chosen = st.sampled_from([None, {}, {"app": "a"}, {"app": "b"}, {"99%": "x"}])
budget_worlds = st.lists(
    st.tuples(st.sampled_from(["default", "other"]), chosen, st.integers(-1, 2)), max_size=3
)
app_labels = st.lists(st.sampled_from(["", "a", "b"]), min_size=10, max_size=10)


@given(running, app_labels, budget_worlds, st.sampled_from(["500m", "1900m"]), st.booleans())
def test_sched_38_no_other_node_and_no_other_victims_break_fewer_budgets(
    pods, apps, drawn, cpu, is_leaving
):
    there = [
        replace(one, metadata=replace(one.metadata, labels={"app": app} if app else None))
        for one, app in zip(fitting(pods), apps, strict=False)
    ]
    leaving = {"r0": "2026-01-01T00:00:00Z"} if is_leaving else None
    objects = [
        PodDisruptionBudget(
            metadata=ObjectMeta(name=f"b{at}", namespace=namespace),
            spec=PodDisruptionBudgetSpec(
                selector=None if labels is None else LabelSelector(match_labels=labels)
            ),
            status=PodDisruptionBudgetStatus(disruptions_allowed=allowed, disrupted_pods=leaving),
        )
        for at, (namespace, labels, allowed) in enumerate(drawn)
    ]
    nodes = [a_node(f"n{at}") for at in range(3)]
    snapshot, pod = recompute(nodes, there), info_of(placed(ranked("p", 1000, cpu), "", "p"))
    if Chooser().choose(pod, snapshot)[0] is not None:
        return
    eviction, _ = preempt(
        pod, Chooser().refusing(pod, snapshot), snapshot, {}, started, budgets_of(objects)
    )
    assert eviction is not None

    def protected(node):
        """The rule in its own words, one budget after another."""
        lesser = sorted(
            snapshot.load(node).pods.values(),
            key=lambda other: (-other.priority, started(other), other.uid),
        )
        found = set()
        for namespace, labels, allowed in drawn:
            if namespace != "default" or labels is None or "99%" in labels:
                continue
            matching = [
                o
                for o in lesser
                if labels.items() <= (o.labels or {}).items()
                and not (is_leaving and o.name == "r0")
            ]
            found |= {other.uid for other in matching[max(0, allowed) :]}
        return found

    def fits_without(node, gone):
        return (
            judge(
                pod,
                node,
                recompute(nodes, [other for other in there if other.metadata.uid not in gone]),
                {},
            )
            is None
        )

    gone = {victim.uid for victim in eviction.victims}
    assert fits_without(eviction.node, gone)
    assert eviction.violations == len(gone & protected(eviction.node))
    others = set(snapshot.load(eviction.node).pods) - protected(eviction.node)
    broken = gone & protected(eviction.node)
    assert not any(fits_without(eviction.node, others | broken - {uid}) for uid in broken), (
        "another could have gone instead"
    )
    for node in ("n0", "n1", "n2"):
        uids = set(snapshot.load(node).pods)
        if fits_without(node, uids - protected(node)):
            assert eviction.violations == 0, f"on {node} no budget would be broken"


def test_sched_38_a_protected_pod_is_spared_before_a_more_important_one():
    there = [
        placed(ranked("safe", 10, "1"), "n", "u0"),
        placed(ranked("other", 100, "1"), "n", "u1"),
    ]
    there[0] = replace(there[0], metadata=replace(there[0].metadata, labels={"app": "safe"}))
    spec = PodDisruptionBudgetSpec(selector=LabelSelector(match_labels={"app": "safe"}))
    budget = PodDisruptionBudget(metadata=ObjectMeta(name="b", namespace="default"), spec=spec)
    snapshot, pod = (
        recompute([a_node("n")], there),
        info_of(placed(ranked("p", 1000, "1"), "", "p")),
    )
    refusing = list(Chooser().refusing(pod, snapshot))
    assert [
        v.name
        for v in preempt(pod, refusing, snapshot, {}, started, budgets_of([budget]))[0].victims
    ] == ["other"]
    assert [v.name for v in preempt(pod, refusing, snapshot, {}, started)[0].victims] == ["safe"]


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


def test_sched_35_the_more_important_ones_are_spared_first():
    kinds = [("u1", 10, "1"), ("u2", 100, "1"), ("u3", 10, "100m")]
    there = [placed(ranked(uid, priority, cpu), "n", uid) for uid, priority, cpu in kinds]
    snapshot, pod = (
        recompute([a_node("n", cpu="2100m")], there),
        info_of(placed(ranked("p", 1000, "1"), "", "p")),
    )
    eviction, _ = preempt(pod, Chooser().refusing(pod, snapshot), snapshot, {}, started)
    assert [victim.uid for victim in eviction.victims] == ["u1"]


def test_sched_36_two_pods_of_low_priority_go_rather_than_one_of_middle_priority():
    there = [placed(ranked(uid, 10, "500m"), "b", uid) for uid in ("u1", "u2")]
    there.insert(0, placed(ranked("r1", 100, "1"), "a", "u3"))
    nodes, pod = (
        [a_node("a", cpu="1"), a_node("b", cpu="1")],
        info_of(placed(ranked("p", 1000, "1"), "", "p")),
    )
    snapshot = recompute(nodes, there)
    assert preempt(pod, Chooser().refusing(pod, snapshot), snapshot, {}, started)[0].node == "b"
    there[0] = placed(ranked("r1", 10, "1"), "a", "u3")
    snapshot = recompute(nodes, there)
    assert preempt(pod, Chooser().refusing(pod, snapshot), snapshot, {}, started)[0].node == "a", (
        "one rather than two of a kind"
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


@example([(0, 0, "1"), (0, 0, "1")], [(0, "start")], 100)
@example([(1, 0, "1"), (1, 0, "1")], [(0, "come")] * 3, 1)
@example([(n, 0, "1") for n in (0, 0, 1, 1, 2, 2)], [(2, "come"), (0, "leave"), (0, "leave")], 1)
@settings(max_examples=100)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3), st.sampled_from(["1", "500m"])), max_size=8),
    st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["start", "leave", "come", "cordon", "toggle"])), max_size=8),
    st.sampled_from([1, 2, 100]),
)  # fmt: skip
def test_sched_17_sched_35_what_is_kept_of_victims_gives_the_plain_answer(there, events, tries):
    """Pods start, leave and come, and nodes change; the results of unchanged nodes are used again,
    and no more nodes are compared than the profile says."""
    arguments = evolve(DEFAULT_ARGUMENTS, candidates_min=tries, candidates_percent=0)
    profile = make_profile(arguments=arguments)
    nodes = [a_node(f"n{at}", cpu="2") for at in range(3)]
    times: dict[str, str] = {}
    pods = [
        info_of(placed(ranked(f"p{at}", priority, cpu), f"n{node}", f"u{at}"))
        for at, (node, priority, cpu) in enumerate(there)
    ]
    snapshot = recompute(nodes, [])
    for (node, _, _), pod in zip(there, pods, strict=True):
        snapshot = snapshot.with_load(f"n{node}", snapshot.load(f"n{node}").plus(pod))
    when = lambda pod: times.get(pod.uid, "~")  # noqa: E731
    pod, chooser = info_of(placed(ranked("p", 2, "1"), "", "p")), Chooser(profile)
    starts = None
    for number, (which, event) in enumerate([(0, "start"), *events]):
        name = f"n{which}"
        load = snapshot.load(name)
        if event == "start" and load.pods:
            times[sorted(load.pods)[number % len(load.pods)]] = (
                f"2026-01-01T00:00:{59 - number:02}Z"
            )
            starts = Change(name, starts if number % 3 else None, number)
        elif event == "leave" and load.pods:
            snapshot = snapshot.with_load(name, load.minus(load.pods[min(load.pods)]))
        elif event == "come":
            new = info_of(placed(ranked(f"q{number}", 1, "500m"), name, f"v{number}"))
            snapshot = snapshot.with_load(name, load.plus(new))
        elif event == "cordon" and name in snapshot.nodes:
            facts = snapshot.nodes[name]
            snapshot = snapshot.with_node(
                name, evolve(facts, unschedulable=not facts.unschedulable)
            )
        elif event == "toggle":
            facts = None if name in snapshot.nodes else facts_of(nodes[which])
            snapshot = snapshot.with_node(name, facts)
        refusing = list(chooser.refusing(pod, snapshot))
        assert refusing == [
            (each, refusal)
            for each in sorted(snapshot.nodes)
            if (refusal := judge(pod, each, snapshot, {})) is not None
        ]
        kept, counts = chooser.preempt(pod, snapshot, {}, when, starts)
        plain, plain_counts = preempt(pod, refusing, snapshot, {}, when, profile=profile)
        assert (kept is None) == (plain is None)
        assert kept is not None or +Counter(counts) == +Counter(plain_counts)
        if kept is not None:
            assert (kept.node, [v.uid for v in kept.victims]) == (
                plain.node,
                [v.uid for v in plain.victims],
            )


def test_sched_37_a_nominated_pod_goes_to_its_node_though_another_is_better():
    """The second node is added while the victim ends; the room of the first is free first."""
    working = recompute([a_node("a", cpu="1"), a_node("b", cpu="64")], [])
    pod = info_of(placed(ranked("p", 5, "1"), "", "p"))
    nominated = Nominated(working, {"default/p": Nomination(pod, "a")})
    batch = Batch({"default-scheduler": Chooser()}, nominated, {}, started, lambda: (), None, Map())
    batch.decide(Waiting("default/p", pod, 1), placed(ranked("p", 5, "1"), "", "p"))
    ((_, node, _),) = batch.placed
    assert node == "a"


@given(
    st.lists(
        st.tuples(st.sampled_from(["nominate", "remove", "place"]), st.integers(0, 4), st.integers(0, 3), st.integers(0, 1)),
        max_size=12,
    )
)  # fmt: skip
def test_sched_37_the_room_of_nominated_pods_is_that_computed_from_scratch(steps):
    """After every decision, for pods of every priority."""
    pods = [info_of(placed(ranked(f"p{at}", at % 4, "100m"), "", f"u{at}")) for at in range(5)]
    nominated = Nominated(recompute([a_node("n0"), a_node("n1")], []), {})
    for step_, which, priority, node in steps:
        pod, key = pods[which], f"default/p{which}"
        if step_ == "nominate" and pod.uid not in _everywhere(nominated.working):
            nominated.nominate(key, Nomination(pod, f"n{node}"))
        elif step_ == "remove":
            nominated.remove(key)
        elif step_ == "place" and pod.uid not in _everywhere(nominated.working):
            nominated.place(pod, f"n{node}")
            assert key not in nominated.nominations
        asking = info_of(placed(ranked("asking", priority, "1"), "", "asking"))
        for each in (asking, *pods):
            found = nominated.around(each)
            for name in ("n0", "n1"):
                expected = set(nominated.working.load(name).pods) | {
                    other.pod.uid
                    for other in nominated.nominations.values()
                    if other.node == name
                    and other.pod.priority >= each.priority
                    and other.pod.uid != each.uid
                }
                assert set(found.load(name).pods) == expected
                assert found.load(name).cpu == sum(
                    p.needs.cpu for p in found.load(name).pods.values()
                )


def _everywhere(snapshot):
    return {uid for name in ("n0", "n1") for uid in snapshot.load(name).pods}
