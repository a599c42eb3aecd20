"""What ties pods to each other (spec/scheduler.md, SCHED-30 to SCHED-34): affinity, anti-affinity,
spreading."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from sched_worlds import a_node, a_pod, labelled, new_cluster, placed, with_node
from test_sched import condition_of, pod_named, quiet

from refk8s.core.actions import Submit
from refk8s.core.api.core_v1 import (
    Affinity,
    Namespace,
    Pod,
    PodAffinity,
    PodAffinityTerm,
    PodAntiAffinity,
    Taint,
    TopologySpreadConstraint,
    WeightedPodAffinityTerm,
)
from refk8s.core.api.meta_v1 import LabelSelector, LabelSelectorRequirement, ObjectMeta
from refk8s.core.api.request import Request
from refk8s.core.api.resources import NODES, PODS
from refk8s.core.api.selector import from_map
from refk8s.core.api.user import ADMIN
from refk8s.core.apiserver.admission.label_keys import merged
from refk8s.core.cluster.step import step
from refk8s.core.properties.predicates.scheduler import why_not, why_not_among
from refk8s.core.scheduler.evaluation import judge
from refk8s.core.scheduler.placement import Chooser, choose
from refk8s.core.scheduler.relations import PLAIN, Remembered
from refk8s.core.scheduler.snapshot import Group, fold, info_of, recompute

HOST, ZONE = "kubernetes.io/hostname", "topology.kubernetes.io/zone"
NAMESPACE_LABELS = {"default": {"team": "a"}, "b": {"team": "b"}}
NAMESPACES = {
    name: Namespace(metadata=ObjectMeta(name=name, labels=labels))
    for name, labels in NAMESPACE_LABELS.items()
}

apps = st.sampled_from(["web", "db", None])
selectors = st.sampled_from(
    [
        LabelSelector(match_labels={"app": "web"}),
        LabelSelector(match_labels={"app": "db"}),
        LabelSelector(
            match_expressions=(LabelSelectorRequirement(key="app", operator="DoesNotExist"),)
        ),
        LabelSelector(),
        None,
    ]
)
topology_keys = st.sampled_from([HOST, ZONE])
terms = st.builds(
    lambda selector, key, named, chosen, keys: PodAffinityTerm(
        label_selector=selector, topology_key=key, namespaces=named, namespace_selector=chosen, match_label_keys=keys
    ),
    selectors, topology_keys, st.sampled_from([None, None, ("b",)]),
    st.sampled_from([None, None, LabelSelector(match_labels={"team": "b"}), LabelSelector()]), st.sampled_from([None, None, ("app",)]),
)  # fmt: skip
some_terms = st.one_of(st.just(()), st.lists(terms, min_size=1, max_size=2).map(tuple))
weighted = st.lists(
    st.builds(
        lambda weight, term: WeightedPodAffinityTerm(weight=weight, pod_affinity_term=term),
        st.integers(1, 100),
        terms,
    ),
    max_size=1,
).map(tuple)
constraint = st.builds(
    lambda selector, key, skew, hard, least, affinity, taints: TopologySpreadConstraint(
        label_selector=selector, topology_key=key, max_skew=skew, when_unsatisfiable="DoNotSchedule" if hard else "ScheduleAnyway",
        min_domains=least if hard else None, node_affinity_policy=affinity, node_taints_policy=taints,
    ),
    selectors, topology_keys, st.integers(1, 2), st.booleans(), st.sampled_from([None, None, 3]), st.sampled_from([None, "Ignore"]),
    st.sampled_from([None, "Honor"]),
)  # fmt: skip
constraints = st.lists(constraint, max_size=2).map(tuple)


@st.composite
def tied_pods(draw) -> Pod:
    """A pod with labels, and often with inter-pod terms."""
    app = draw(apps)
    affinity = Affinity(
        pod_affinity=PodAffinity(
            required_during_scheduling_ignored_during_execution=draw(some_terms) or None,
            preferred_during_scheduling_ignored_during_execution=draw(weighted) or None,
        ),
        pod_anti_affinity=PodAntiAffinity(
            required_during_scheduling_ignored_during_execution=draw(some_terms) or None,
            preferred_during_scheduling_ignored_during_execution=draw(weighted) or None,
        ),
    )
    pod = a_pod(
        "p",
        affinity=draw(st.sampled_from([None, affinity])),
        topology_spread_constraints=draw(constraints) or None,
    )
    if draw(st.booleans()) and draw(st.booleans()):
        pod = replace(pod, spec=replace(pod.spec, node_selector={"disk": "1"}))
    metadata = replace(
        pod.metadata,
        labels={"app": app} if app else None,
        namespace=draw(st.sampled_from(["default", "default", "b"])),
    )
    return replace(pod, metadata=metadata)


some_nodes = st.lists(
    st.builds(
        lambda zone, disk, tainted: (zone, disk, tainted),
        st.sampled_from([None, "1", "2"]), st.sampled_from([None, "1"]), st.sampled_from([False, False, False, True]),
    ),
    min_size=1, max_size=5,
).map(
    lambda rows: [
        a_node(
            f"n{at}", cpu="64", memory="64Gi", pods="99",
            labels={**({ZONE: zone} if zone else {}), **({"disk": disk} if disk else {})},
            **({"taints": (Taint(key="k", effect="NoSchedule"),)} if tainted else {}),
        )
        for at, (zone, disk, tainted) in enumerate(rows)
    ]
)  # fmt: skip


def there(pods, nodes):
    """These pods, each on some node."""
    return [
        placed(pod, nodes[which % len(nodes)].metadata.name, f"u{at}")
        for at, (pod, which) in enumerate(pods)
    ]


some_pods = st.lists(st.tuples(tied_pods(), st.integers(0, 9)), max_size=6)


web, everybody = LabelSelector(match_labels={"app": "web"}), LabelSelector()
close_terms = st.builds(
    lambda selector, key, scope, keys, others: PodAffinityTerm(
        label_selector=selector, topology_key=key, match_label_keys=keys, mismatch_label_keys=None if keys else others, **scope
    ),
    st.sampled_from([web, web, everybody]), topology_keys,
    st.sampled_from([{}, {}, {"namespaces": ("b",)}, {"namespace_selector": LabelSelector(match_labels={"team": "b"})}]),
    st.sampled_from([None, None, ("tier",)]), st.sampled_from([None, None, ("tier",)]),
)  # fmt: skip
close_constraint = st.builds(
    lambda selector, key, skew, least, keys: TopologySpreadConstraint(
        label_selector=selector,
        topology_key=key,
        max_skew=skew,
        when_unsatisfiable="DoNotSchedule",
        min_domains=least,
        match_label_keys=keys,
    ),
    st.sampled_from([web, web, everybody]), topology_keys, st.sampled_from([1, 1, 2]), st.sampled_from([None, 3]),
    st.sampled_from([None, None, ("tier",)]),
)  # fmt: skip


@st.composite
def tied_by(draw, kind: str) -> Pod:
    """A pod with one kind of inter-pod term, so that no other filter rejects it first. Its terms
    often match other pods."""
    some = draw(st.lists(close_terms, min_size=1, max_size=2))
    affinity = {
        "near": must_be(some),
        "far": must_be(far_terms=some[:1]),
        "loose": None,
        "even": None,
    }[kind]
    pod = a_pod(
        "p",
        affinity=affinity,
        topology_spread_constraints=(draw(close_constraint),) if kind == "even" else None,
    )
    labels = {
        "app": draw(st.sampled_from(["web", "web", "db"])),
        "tier": draw(st.sampled_from(["1", "1", "2"])),
    }
    return replace(
        pod,
        metadata=replace(
            pod.metadata,
            labels=labels,
            namespace=draw(st.sampled_from(["default", "default", "b"])),
        ),
    )


@st.composite
def tied_worlds(draw):
    """(nodes, the pods on them, the pod that comes)"""
    kind, others = draw(
        st.sampled_from(
            [
                ("near", "loose"),
                ("far", "loose"),
                ("loose", "far"),
                ("even", "loose"),
                ("even", "loose"),
            ]
        )
    )
    rows = draw(st.lists(st.sampled_from(["1", "2", "3", None]), min_size=1, max_size=4))
    nodes = [
        a_node(f"n{at}", cpu="64", memory="64Gi", pods="99", labels={ZONE: zone} if zone else {})
        for at, zone in enumerate(rows)
    ]
    running = []
    for at, which in enumerate(draw(st.lists(st.integers(0, 9), min_size=1, max_size=5))):
        leaving = "2026-01-01T00:00:00Z" if draw(st.sampled_from([False, False, True])) else None
        running.append(
            placed(
                draw(tied_by(others)),
                f"n{which % len(nodes)}",
                f"u{at}",
                deletion_timestamp=leaving,
            )
        )
    return nodes, running, draw(tied_by(kind))


@given(tied_worlds())
def test_sched_30_31_32_each_term_by_itself_rejects_exactly_the_nodes_that_it_must(world):
    nodes, running, pod = world
    snapshot = recompute(nodes, running)
    for node in nodes:
        reasons = why_not_among(pod, node, nodes, running, NAMESPACE_LABELS)
        assert (judge(info_of(pod), node.metadata.name, snapshot, NAMESPACES) is not None) == bool(
            reasons
        )


@given(some_nodes, some_pods, tied_pods())
def test_sched_30_31_32_a_node_is_refused_exactly_when_others_keep_the_pod_off(nodes, pods, pod):
    running = there(pods, nodes)
    snapshot = recompute(nodes, running)
    for node in nodes:
        own = why_not(
            pod, node, [other for other in running if other.spec.node_name == node.metadata.name]
        )
        others = why_not_among(pod, node, nodes, running, NAMESPACE_LABELS)
        verdict = judge(info_of(pod), node.metadata.name, snapshot, NAMESPACES)
        assert (verdict is not None) == bool(own or others)
        if verdict is not None and not own:
            uneven = any(reason.startswith("SCHED-32") for reason in others)
            assert verdict.plugin == ("PodTopologySpread" if uneven else "InterPodAffinity")


RACK = "rack"


@st.composite
def spread_worlds(draw):
    """(nodes, pods on them, the pod that comes), about hard constraints alone: two of them more
    often than one.

    Nodes may lack a key of the one, the other or both; some are cordoned or tainted. Pods may be on
    their way out.
    """
    nodes = []
    for at in range(draw(st.integers(2, 4))):
        labels = {
            key: draw(st.sampled_from(["1", "2"]))
            for key in (ZONE, RACK)
            if draw(st.sampled_from([True, True, False]))
        }
        more = draw(
            st.sampled_from(
                [
                    {},
                    {},
                    {"unschedulable": True},
                    {"taints": (Taint(key="k", effect="NoSchedule"),)},
                ]
            )
        )
        nodes.append(a_node(f"n{at}", cpu="64", memory="64Gi", pods="99", labels=labels, **more))
    running = []
    for at, which in enumerate(draw(st.lists(st.integers(0, 9), min_size=1, max_size=5))):
        leaving = "2026-01-01T00:00:00Z" if draw(st.sampled_from([False, False, True])) else None
        running.append(
            placed(
                labelled(a_pod("r"), "web"),
                f"n{which % len(nodes)}",
                f"u{at}",
                deletion_timestamp=leaving,
            )
        )
    one = st.builds(
        lambda key, skew, least, taints: TopologySpreadConstraint(
            label_selector=web, topology_key=key, max_skew=skew, when_unsatisfiable="DoNotSchedule", min_domains=least,
            node_taints_policy=taints,
        ),
        st.sampled_from([ZONE, RACK]), st.sampled_from([1, 1, 2]), st.sampled_from([None, None, 3]), st.sampled_from([None, "Honor"]),
    )  # fmt: skip
    wanted = draw(st.lists(one, min_size=1, max_size=2, unique_by=lambda each: each.topology_key))
    return nodes, running, labelled(a_pod("p", topology_spread_constraints=tuple(wanted)), "web")


@settings(max_examples=400)
@given(spread_worlds())
def test_sched_32_constraints_count_nodes_that_have_every_key_and_pods_that_stay(world):
    nodes, running, pod = world
    snapshot = recompute(nodes, running)
    for node in nodes:
        own = why_not(pod, node, [])
        others = why_not_among(pod, node, nodes, running, NAMESPACE_LABELS)
        assert (judge(info_of(pod), node.metadata.name, snapshot, NAMESPACES) is not None) == bool(
            own or others
        )
        assert (choose(info_of(pod), snapshot, NAMESPACES, Remembered())[0] is None) == all(
            why_not(pod, each, []) or why_not_among(pod, each, nodes, running, NAMESPACE_LABELS)
            for each in nodes
        )


@given(
    st.lists(
        st.tuples(
            st.integers(0, 1),
            st.sampled_from(["", "a", "b"]),
            st.sampled_from(["default", "b"]),
            st.booleans(),
        ),
        max_size=6,
    )
)
def test_sched_27_pods_that_leave_and_those_of_other_namespaces_do_not_count(rows):
    """Each pod is (on which of two nodes, its label, its namespace, whether it is being
    deleted)."""
    nodes = [a_node("n0"), a_node("n1")]
    gone = {True: "2026-01-01T00:00:00Z", False: None}
    pods = [
        placed(
            labelled(a_pod(f"p{at}"), app, namespace),
            f"n{which}",
            f"u{at}",
            deletion_timestamp=gone[leaves],
        )
        for at, (which, app, namespace, leaves) in enumerate(rows)
    ]
    snapshot = recompute(nodes, pods)
    for number in (0, 1):
        for app in "ab":
            counted = [(number, app, "default", False) == row for row in rows]
            group = Group("default", from_map({"app": app}))
            assert group.count(snapshot.load(f"n{number}")) == sum(counted)


kinds_of_event = st.sampled_from(["place", "place", "remove", "leave", "relabel", "drop"])
events = st.lists(st.tuples(kinds_of_event, st.integers(0, 99)), min_size=5, max_size=25)


@given(some_nodes, st.lists(tied_pods(), min_size=1, max_size=4), events)
def test_sched_17_sched_33_sched_34_what_is_remembered_of_others_gives_the_plain_answer(
    nodes, kinds, happening
):
    snapshot, chooser, remembered, running = recompute(nodes, []), Chooser(), Remembered(), []
    for at, (event, which) in enumerate(happening):
        node = nodes[which % len(nodes)]
        if event == "place":
            running.append(placed(kinds[which % len(kinds)], f"n{which % 5}", f"u{at}"))
            snapshot = fold(snapshot, PODS, None, running[-1])
        elif event == "remove" and running:
            snapshot = fold(snapshot, PODS, running.pop(which % len(running)), None)
        elif event == "leave" and running:
            pod = running[which % len(running)]
            leaving = replace(
                pod, metadata=replace(pod.metadata, deletion_timestamp="2026-01-01T00:00:00Z")
            )
            running[which % len(running)] = leaving
            snapshot = fold(snapshot, PODS, pod, leaving)
        elif event == "relabel":
            labels = {**node.metadata.labels, ZONE: str(which % 3)}
            snapshot = fold(
                snapshot, NODES, node, replace(node, metadata=replace(node.metadata, labels=labels))
            )
        elif event == "drop":
            snapshot = fold(snapshot, NODES, node, None if which % 2 else node)
        for pod in map(info_of, kinds):
            name, refusals = chooser.choose(pod, snapshot, NAMESPACES)
            expected, expected_refusals = choose(pod, snapshot, NAMESPACES)
            assert name == expected
            if expected is None:
                assert {
                    refusal: count for refusal, count in refusals.items() if count
                } == expected_refusals
            assert chooser.has_offer(pod, snapshot, NAMESPACES) == (expected is not None)
        one, other = remembered.neighbours(snapshot), PLAIN.neighbours(snapshot)
        assert (one.anti_affinity, one.preferences) == (other.anti_affinity, other.preferences)


@given(tied_worlds(), st.data())
def test_adm_30_label_keys_become_requirements_of_the_selector_and_keep_their_meaning(world, data):
    nodes, running, pod = world
    keys = data.draw(st.sampled_from([None, ("tier",), ("tier", "absent"), ("app",)]))
    part = pod.spec.affinity.pod_anti_affinity if pod.spec.affinity else None
    if part is not None:
        (term,) = part.required_during_scheduling_ignored_during_execution
        other = replace(term, match_label_keys=None, mismatch_label_keys=keys)
        part = replace(part, required_during_scheduling_ignored_during_execution=(term, other))
        pod = replace(
            pod, spec=replace(pod.spec, affinity=replace(pod.spec.affinity, pod_anti_affinity=part))
        )
    made = replace(pod, spec=replace(pod.spec, **merged(pod)))
    for kept, said in zip(_all_terms(made), _all_terms(pod), strict=True):
        labels = pod.metadata.labels
        added = [
            (key, "In", (labels[key],)) for key in said.match_label_keys or () if key in labels
        ]
        added += [
            (key, "NotIn", (labels[key],))
            for key in said.mismatch_label_keys or ()
            if key in labels
        ]
        found = [
            (one.key, one.operator, one.values)
            for one in kept.label_selector.match_expressions or ()
        ]
        before = [
            (one.key, one.operator, one.values)
            for one in said.label_selector.match_expressions or ()
        ]
        assert found == before + added and replace(kept, label_selector=said.label_selector) == said
    snapshot = recompute(nodes, running)
    for node in nodes:
        name = node.metadata.name
        assert judge(info_of(made), name, snapshot, NAMESPACES) == judge(
            info_of(pod), name, snapshot, NAMESPACES
        )


def _all_terms(pod: Pod) -> list[PodAffinityTerm]:
    affinity = pod.spec.affinity
    parts = (
        [part for part in (affinity.pod_affinity, affinity.pod_anti_affinity) if part]
        if affinity
        else []
    )
    return [
        term
        for part in parts
        for term in part.required_during_scheduling_ignored_during_execution or ()
    ]


# --- examples


def near(app: str, key: str = ZONE, **more) -> PodAffinityTerm:
    return PodAffinityTerm(
        label_selector=LabelSelector(match_labels={"app": app}), topology_key=key, **more
    )


def must_be(near_terms=(), far_terms=()) -> Affinity:
    return Affinity(
        pod_affinity=PodAffinity(
            required_during_scheduling_ignored_during_execution=tuple(near_terms)
        )
        if near_terms
        else None,
        pod_anti_affinity=PodAntiAffinity(
            required_during_scheduling_ignored_during_execution=tuple(far_terms)
        )
        if far_terms
        else None,
    )


def submitted(cluster, pod: Pod):
    return step(
        cluster, Submit(Request("create", PODS, pod.metadata.namespace, body=pod, user=ADMIN))
    )


def zones(cluster):
    for name, zone in (("a", "1"), ("b", "1"), ("c", "2")):
        cluster = with_node(cluster, a_node(name, labels={ZONE: zone}))
    return cluster


def test_sched_30_the_first_of_a_group_may_go_anywhere_and_the_others_follow():
    cluster = zones(new_cluster())
    group = must_be([near("g")])
    for name in ("one", "two", "three"):
        cluster = quiet(
            submitted(cluster, labelled(a_pod(name, {"cpu": "500m"}, affinity=group), "g"))
        )
    where = [pod_named(cluster, name).spec.node_name for name in ("one", "two", "three")]
    assert where == ["a", "b", "a"]
    cluster = quiet(submitted(cluster, a_pod("follower", affinity=must_be([near("nobody")]))))
    assert "3 node(s) didn't match pod affinity rules" in condition_of(cluster, "follower").message
    cluster = quiet(submitted(cluster, labelled(a_pod("leader"), "nobody")))
    leader, follower = (
        pod_named(cluster, "leader").spec.node_name,
        pod_named(cluster, "follower").spec.node_name,
    )
    assert (leader, follower) == ("c", "c"), (
        "a pod that was refused is tried again when one comes that it wants to be near"
    )


def test_sched_31_the_anti_affinity_of_a_running_pod_keeps_newcomers_off():
    cluster = with_node(new_cluster(), a_node("n"))
    cluster = quiet(
        submitted(
            cluster, labelled(a_pod("alone", affinity=must_be(far_terms=[near("web", HOST)])), "db")
        )
    )
    cluster = quiet(submitted(cluster, labelled(a_pod("newcomer"), "web")))
    assert (
        "1 node(s) didn't satisfy existing pods anti-affinity rules"
        in condition_of(cluster, "newcomer").message
    )
    cluster = quiet(submitted(cluster, labelled(a_pod("stranger"), "other")))
    assert pod_named(cluster, "stranger").spec.node_name == "n"


def test_sched_32_the_next_pod_goes_to_the_emptier_domain_or_waits():
    cluster = with_node(new_cluster(), a_node("a", pods="1", labels={ZONE: "1"}))
    cluster = with_node(cluster, a_node("b", labels={ZONE: "2"}))
    selector = LabelSelector(match_labels={"app": "s"})
    constraint = TopologySpreadConstraint(
        max_skew=1, topology_key=ZONE, when_unsatisfiable="DoNotSchedule", label_selector=selector
    )
    for name in ("one", "two", "three", "four"):
        cluster = quiet(
            submitted(
                cluster, labelled(a_pod(name, topology_spread_constraints=(constraint,)), "s")
            )
        )
    assert sorted(pod_named(cluster, name).spec.node_name for name in ("one", "two", "three")) == [
        "a",
        "b",
        "b",
    ]
    message = condition_of(cluster, "four").message
    assert message.startswith(
        "0/2 nodes are available: 1 Too many pods, "
        "1 node(s) didn't match pod topology spread constraints."
    )


def test_sched_33_soft_constraints_spread_where_they_can():
    nodes = [
        a_node("a", cpu="64", memory="64Gi", labels={ZONE: "1"}),
        a_node("b", labels={ZONE: "2"}),
    ]
    selector = LabelSelector(match_labels={"app": "s"})
    soft = TopologySpreadConstraint(
        max_skew=1, topology_key=ZONE, when_unsatisfiable="ScheduleAnyway", label_selector=selector
    )
    pod = labelled(a_pod("p", topology_spread_constraints=(soft,)), "s")
    one = placed(pod, "a", "u")
    assert choose(info_of(pod), recompute(nodes, []))[0] == "a"
    assert choose(info_of(pod), recompute(nodes, [one]))[0] == "b"
    assert choose(info_of(pod), recompute(nodes[:1], [one]))[0] == "a"


def test_sched_34_preferred_affinity_draws_both_ways():
    nodes = [a_node("a", cpu="64", memory="64Gi"), a_node("b")]
    likes = WeightedPodAffinityTerm(weight=10, pod_affinity_term=near("db", HOST))
    fond = Affinity(
        pod_affinity=PodAffinity(preferred_during_scheduling_ignored_during_execution=(likes,))
    )
    averse = Affinity(
        pod_anti_affinity=PodAntiAffinity(
            preferred_during_scheduling_ignored_during_execution=(likes,)
        )
    )
    database = placed(labelled(a_pod("db"), "db"), "b", "u")
    assert choose(info_of(a_pod("p")), recompute(nodes, [database]))[0] == "a"
    assert choose(info_of(a_pod("p", affinity=fond)), recompute(nodes, [database]))[0] == "b"
    assert (
        choose(
            info_of(labelled(a_pod("p"), "db")),
            recompute(nodes, [placed(a_pod("q", affinity=fond), "b", "u")]),
        )[0]
        == "b"
    )
    small = [a_node("a", cpu="1", memory="1Gi"), a_node("b", cpu="64", memory="64Gi")]
    assert choose(info_of(a_pod("p", affinity=averse)), recompute(small, [database]))[0] == "a"


def test_sched_30_a_term_means_the_namespace_of_its_own_pod_unless_it_says_otherwise():
    nodes = [a_node("a"), a_node("b")]
    other = placed(labelled(a_pod("w"), "web", namespace="b"), "b", "u")
    snapshot = recompute(nodes, [other])
    for term, expected in (
        (near("web", HOST), None),
        (near("web", HOST, namespaces=("b",)), "b"),
        (near("web", HOST, namespace_selector=LabelSelector(match_labels={"team": "b"})), "b"),
        (near("web", HOST, namespace_selector=LabelSelector()), "b"),
        (near("web", HOST, namespace_selector=LabelSelector(match_labels={"team": "x"})), None),
    ):
        assert (
            choose(info_of(a_pod("p", affinity=must_be([term]))), snapshot, NAMESPACES)[0]
            == expected
        )


def test_sched_30_one_and_the_same_pod_must_be_what_all_terms_mean():
    def is_near(**labels):
        return PodAffinityTerm(label_selector=LabelSelector(match_labels=labels), topology_key=HOST)

    def running(name, **labels):
        pod = a_pod(name)
        return placed(replace(pod, metadata=replace(pod.metadata, labels=labels)), "a", name)

    pod = info_of(a_pod("p", affinity=must_be([is_near(app="web"), is_near(tier="1")])))
    assert (
        choose(
            pod, recompute([a_node("a")], [running("one", app="web"), running("two", tier="1")])
        )[0]
        is None
    )
    assert choose(pod, recompute([a_node("a")], [running("one", app="web", tier="1")]))[0] == "a"


def test_sched_19_sched_31_a_pod_that_was_kept_off_is_welcome_when_the_other_leaves_another_node_of_the_zone():
    nodes = [a_node("a", labels={ZONE: "1"}), a_node("b", labels={ZONE: "1"}, unschedulable=True)]
    guard = placed(a_pod("guard", affinity=must_be(far_terms=[near("web")])), "b", "u")
    newcomer, chooser = info_of(labelled(a_pod("p"), "web")), Chooser()
    guarded = recompute(nodes, [guard])
    assert not chooser.has_offer(newcomer, guarded)
    assert chooser.has_offer(newcomer, fold(guarded, PODS, guard, None))
