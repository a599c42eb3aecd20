"""What a pod and the existing pods say about each other, counted from every pod and as it is kept, beside
a plain count (SCHED-17, SCHED-30 to SCHED-34, SCHED-53 in spec/scheduler.md and
spec/scheduler_profiles.md)."""

from __future__ import annotations

from collections import Counter
from itertools import product
from types import SimpleNamespace

import pytest
from msgspec.structs import replace
from random_cases import cases
from sched_worlds import a_node, a_pod, placed

from refk8s.core.api.core_v1 import (
    Affinity,
    LabelSelector,
    PodAffinity,
    PodAffinityTerm,
    PodAntiAffinity,
    Taint,
    TopologySpreadConstraint,
    WeightedPodAffinityTerm,
)
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.resources import NODES, PODS
from refk8s.core.api.selector import from_map
from refk8s.core.scheduler import relations as module
from refk8s.core.scheduler.arguments import Arguments
from refk8s.core.scheduler.inter_pod import REQUIRED
from refk8s.core.scheduler.needs import needs_of
from refk8s.core.scheduler.relations import (
    PLAIN,
    Neighbours,
    Remembered,
    Tally,
    changed_nodes,
    relate,
)
from refk8s.core.scheduler.snapshot import EMPTY, IDLE, Group, facts_of, fold, info_of, recompute

ZONE, HOST = "topology.kubernetes.io/zone", "kubernetes.io/hostname"
GONE = "2026-01-01T00:00:00Z"
NAMESPACES = {
    name: SimpleNamespace(metadata=ObjectMeta(name=name, labels={"team": name}))
    for name in ("default", "b")
}


# --- random worlds --------------------------------------------------------------------------------


def a_term(rng):
    return PodAffinityTerm(
        topology_key=rng.choice([ZONE, HOST, "rack"]),
        label_selector=rng.choice([None, LabelSelector(), *[LabelSelector(match_labels={"app": app}) for app in "ab"]]),
        namespaces=rng.choice([None, None, ("b",)]),
        namespace_selector=rng.choice([None, None, LabelSelector(match_labels={"team": "b"})]),
    )  # fmt: skip


def weighted(rng):
    return tuple([
        WeightedPodAffinityTerm(weight=rng.randint(1, 9), pod_affinity_term=a_term(rng))
        for _ in range(rng.randint(0, 2))
    ]) or None  # fmt: skip


def a_constraint(rng):
    return TopologySpreadConstraint(
        label_selector=LabelSelector(match_labels={"app": rng.choice("ab")}), topology_key=rng.choice([ZONE, HOST, "rack"]),
        max_skew=rng.randint(1, 2), when_unsatisfiable=rng.choice(["DoNotSchedule", "ScheduleAnyway"]),
        min_domains=rng.choice([None, 1, 2, 3]), node_affinity_policy=rng.choice([None, "Ignore"]),
        node_taints_policy=rng.choice([None, "Honor"]),
    )  # fmt: skip


def a_tied_pod(rng, name):
    """A pod with labels, half of them with terms about others."""
    parts = {}
    if rng.random() < 0.6:
        parts["affinity"] = Affinity(
            pod_affinity=PodAffinity(
                required_during_scheduling_ignored_during_execution=tuple([a_term(rng) for _ in range(rng.choice([0, 0, 1, 2]))]) or None,
                preferred_during_scheduling_ignored_during_execution=weighted(rng),
            ),
            pod_anti_affinity=PodAntiAffinity(
                required_during_scheduling_ignored_during_execution=tuple([a_term(rng) for _ in range(rng.choice([0, 1, 2]))]) or None,
                preferred_during_scheduling_ignored_during_execution=weighted(rng),
            ),
        )  # fmt: skip
        parts["topology_spread_constraints"] = tuple([a_constraint(rng) for _ in range(rng.choice([0, 0, 1, 2]))]) or None  # fmt: skip
    if rng.random() < 0.3:
        parts["node_selector"] = {"disk": "1"}
    pod = a_pod(name, **parts)
    labels, namespace = {"app": rng.choice("ab")}, rng.choice(["default", "default", "b"])
    return replace(pod, metadata=replace(pod.metadata, labels=labels, namespace=namespace))


def a_tied_node(rng, name):
    labels = {}
    for key, values in ((ZONE, "12"), ("rack", "xy"), ("disk", "1")):
        if rng.random() < 0.75:
            labels[key] = rng.choice(values)
    taints = (Taint(key="k", effect="NoSchedule"),) if rng.random() < 0.25 else None
    return a_node(name, labels=labels, taints=taints, unschedulable=rng.random() < 0.15)


def running(rng, number, nodes):
    leaving = GONE if rng.random() < 0.2 else None
    pod = a_tied_pod(rng, f"p{number}")
    return placed(pod, rng.choice(nodes), f"u{number}", deletion_timestamp=leaving)


# --- the plain count ------------------------------------------------------------------------------


def pods_by_domain(nodes, pods, key, is_one, counts_node=lambda facts: True):
    """The pods for which `is_one` holds, in each domain of the key."""
    found = Counter()
    for name, facts in nodes.items():
        if key in facts.labels and counts_node(facts):
            found[facts.labels[key]] += sum(is_one(info) for where, info in pods if where == name)
    return dict(found)


def is_in(term, info):
    selects = term.namespace_selector
    namespaces = [
        name for name, one in NAMESPACES.items()
        if name in term.namespaces or (selects is not None and selects.matches(one.metadata.labels))
    ]  # fmt: skip
    return info.namespace in namespaces and term.selector.matches(info.labels)


def spread_count(constraint, among, pod, nodes, pods):
    def counts_node(facts):
        if any(each.topology_key not in facts.labels for each in among):
            return False
        is_chosen = all(facts.labels.get(key) == value for key, value in pod.needs.node_selector)  # fmt: skip
        is_clean = not facts.taints and not facts.unschedulable
        return (is_chosen or not constraint.honors_affinity) and (
            is_clean or not constraint.honors_taints
        )

    def is_one(info):
        return (
            not info.is_terminating
            and info.namespace == pod.namespace
            and constraint.selector.matches(info.labels)
        )

    return pods_by_domain(nodes, pods, constraint.topology_key, is_one, counts_node)


def expected_of(pod, nodes, pods, arguments):
    """The relations of the pod, as plain values. `pods`: (node, pod)."""
    terms, existing = pod.inter_pod, [(where, one) for where, one in pods if one.inter_pod and where in nodes]  # fmt: skip
    anti, preferred = Counter(), Counter()
    for where, one in existing:
        labels = nodes[where].labels
        for term in one.inter_pod.anti_affinity:
            if term.topology_key in labels and is_in(term, pod):
                anti[term, labels[term.topology_key]] += 1
        pulls = [*one.inter_pod.preferred]
        pulls += [(arguments.hard_pod_affinity_weight, term) for term in one.inter_pod.affinity]
        for weight, term in pulls:
            if weight and term.topology_key in labels and is_in(term, pod):
                preferred[term.topology_key, labels[term.topology_key]] += weight
    preferred = dict(preferred)
    if arguments.ignores_preferences_of_existing and (terms is None or not terms.preferred):
        preferred = {}
    hard, soft = (terms.hard, terms.soft) if terms is not None else ((), ())
    own = [
        pods_by_domain(
            nodes, pods, term.topology_key,
            lambda info: all(is_in(each, info) for each in terms.affinity),
        )
        for term in (terms.affinity if terms is not None else ())
    ]  # fmt: skip
    for weight, term in terms.preferred if terms is not None else ():
        for domain, count in pods_by_domain(nodes, pods, term.topology_key, lambda info, term=term: is_in(term, info)).items():  # fmt: skip
            if count:
                place = (term.topology_key, domain)
                preferred[place] = preferred.get(place, 0) + weight * count
    counted = [spread_count(each, hard, pod, nodes, pods) for each in hard]
    return {
        "affinity": [(term.topology_key, counts) for term, counts in zip(terms.affinity if terms else (), own, strict=True)],
        "is_first": terms is not None and not any(any(counts.values()) for counts in own) and all(is_in(term, pod) for term in terms.affinity),
        "anti_affinity": [
            (term.topology_key, pods_by_domain(nodes, pods, term.topology_key, lambda info, term=term: is_in(term, info)))
            for term in (terms.anti_affinity if terms else ())
        ],
        "existing_anti_affinity": sorted(
            (key, sorted((domain, n) for (one, domain), n in anti.items() if one == term))
            for term in {term for term, _ in anti} for key in [term.topology_key]
        ),
        "hard": [
            (each, int(each.selector.matches(pod.labels)), min(counts.values(), default=0) if len(counts) >= each.min_domains else 0, counts)
            for each, counts in zip(hard, counted, strict=True)
        ],
        "soft": [(each, spread_count(each, soft, pod, nodes, pods)) for each in soft],
        "preferred": preferred,
    }  # fmt: skip


def shown(found):
    """The relations as plain values."""
    return {
        "affinity": [(key, dict(counts)) for key, counts in found.affinity],
        "is_first": found.is_first,
        "anti_affinity": [(key, dict(counts)) for key, counts in found.anti_affinity],
        "existing_anti_affinity": sorted((key, sorted(counts.items())) for key, counts in found.existing_anti_affinity),
        "hard": [(each, own, least, dict(counts)) for each, own, least, counts in found.hard],
        "soft": [(each, dict(counts)) for each, counts in found.soft],
        "preferred": dict(found.preferred),
    }  # fmt: skip


def says_nothing(expected):
    return not any(value for name, value in expected.items() if name != "is_first")


ARGUMENTS = [
    Arguments(),
    Arguments(hard_pod_affinity_weight=0),
    Arguments(hard_pod_affinity_weight=7, ignores_preferences_of_existing=True),
]


def agree(pod, snapshot, source, pods, arguments):
    nodes = dict(snapshot.nodes)
    expected = expected_of(pod, nodes, pods, arguments)
    found = relate(pod, snapshot, NAMESPACES, source, arguments)
    if found is None:
        assert pod.inter_pod is None and says_nothing(expected)
    else:
        assert shown(found) == expected
        assert pod.inter_pod is not None or not says_nothing(expected)


def test_sched_30_to_34_the_relations_of_a_pod_are_the_plain_count():
    for rng in cases(150):
        names = [f"n{number}" for number in range(rng.randint(1, 4))]
        nodes = [a_tied_node(rng, name) for name in names]
        there = [running(rng, number, names) for number in range(rng.randint(0, 5))]
        snapshot = recompute(nodes, there)
        pods = [(one.spec.node_name, info_of(one)) for one in there]
        arguments = rng.choice(ARGUMENTS)
        for number in range(2):
            pod = info_of(placed(a_tied_pod(rng, f"new{number}"), "", "new"))
            agree(pod, snapshot, PLAIN, pods, arguments)


def test_sched_17_what_is_kept_of_others_is_the_plain_count_after_every_change():
    for rng in cases(40):
        names = [f"n{number}" for number in range(4)]
        nodes = {name: a_tied_node(rng, name) for name in names[:3]}
        there, source = {}, Remembered()
        snapshot = recompute(nodes.values(), [])
        asking = [info_of(placed(a_tied_pod(rng, f"new{number}"), "", "new")) for number in range(2)]  # fmt: skip
        for number in range(10):
            kind = rng.random()
            if kind < 0.4:
                one = there[number] = running(rng, number, names)
                snapshot = fold(snapshot, PODS, None, one)
            elif kind < 0.6 and there:
                snapshot = fold(snapshot, PODS, there.pop(rng.choice(list(there))), None)
            else:
                name = rng.choice(names)
                old = nodes.pop(name, None)
                new = None if old is not None and kind < 0.75 else a_tied_node(rng, name)
                if new is not None:
                    nodes[name] = new
                snapshot = fold(snapshot, NODES, old, new)
            pods = [(one.spec.node_name, info_of(one)) for one in there.values()]
            for pod in asking:
                if rng.random() < 0.7:
                    agree(pod, snapshot, source, pods, ARGUMENTS[0])
            kept = source.neighbours(snapshot)
            plain = PLAIN.neighbours(snapshot)
            assert kept.anti_affinity == plain.anti_affinity
            assert kept.preferences == plain.preferences


# --- function by function -------------------------------------------------------------------------


def test_sched_32_the_domain_of_a_node_for_a_question():
    node = facts_of(a_node("n", labels={ZONE: "z", "disk": "1"}))
    assert Tally(ZONE, (ZONE,), ()).domain(node) == "z"
    assert Tally(ZONE, (ZONE, "disk"), ()).domain(node) == "z"
    assert Tally(ZONE, (ZONE, "rack"), ()).domain(node) is None
    assert Tally(ZONE, (ZONE,), ()).domain(None) is None
    plain = facts_of(a_node("n", labels={ZONE: "z"}))
    tainted = facts_of(a_node("n", labels={ZONE: "z", "disk": "1"}, taints=(Taint(key="k", effect="NoSchedule"),)))  # fmt: skip
    cordoned = facts_of(a_node("n", labels={ZONE: "z", "disk": "1"}, unschedulable=True))
    needs = needs_of(a_pod("p", node_selector={"disk": "1"})).key
    for affinity, taints in product([False, True], repeat=2):
        tally = Tally(ZONE, (ZONE,), (), False, needs, affinity, taints)
        assert [tally.domain(one) for one in (node, plain, tainted, cordoned)] == [
            "z", None if affinity else "z", None if taints else "z", None if taints else "z",
        ]  # fmt: skip


def test_sched_30_sched_32_which_pods_of_a_node_a_question_counts():
    rows = [("a", "default", None), ("a", "default", GONE), ("a", "b", None), ("b", "default", None)]  # fmt: skip
    load = IDLE
    for number, (app, namespace, leaving) in enumerate(rows):
        pod = placed(a_pod("p"), "n", f"u{number}", labels={"app": app}, namespace=namespace, deletion_timestamp=leaving)  # fmt: skip
        load = load.plus(info_of(pod))
    app, everything = from_map({"app": "a"}), from_map({})
    for selectors, staying, count in (
        ((), False, 4), ((), True, 3), (((app, ("default",)),), False, 2), (((app, ("default",)),), True, 1),
        (((app, ("default", "b")),), False, 3), (((app, ("c",)),), False, 0),
        (((app, ("default",)), (from_map({"app": "b"}), ("default",))), False, 0),
        (((app, ("default", "b")), (everything, ("b",))), False, 1),
    ):  # fmt: skip
        assert Tally(ZONE, (ZONE,), selectors, staying).count(load) == count
    assert Tally(ZONE, (ZONE,), ()).count(IDLE) == 0


def test_sched_33_sched_34_neighbours_are_counted_by_term_and_domain():
    term = PodAffinityTerm(topology_key=ZONE, label_selector=LabelSelector(match_labels={"a": "b"}))
    other = replace(term, topology_key="rack")
    required = (term, other)
    pod = placed(a_pod("p", affinity=Affinity(
        pod_affinity=PodAffinity(required_during_scheduling_ignored_during_execution=(term,)),
        pod_anti_affinity=PodAntiAffinity(
            required_during_scheduling_ignored_during_execution=required,
            preferred_during_scheduling_ignored_during_execution=(WeightedPodAffinityTerm(weight=4, pod_affinity_term=term),),
        ),
    )), "n", "u")  # fmt: skip
    info = info_of(pod)
    first, second = info.inter_pod.anti_affinity
    node, bare = facts_of(a_node("n", labels={ZONE: "z"})), facts_of(a_node("n"))
    load = IDLE.plus(info)
    found = Neighbours()
    found.add(None, load, 1)
    found.add(bare, load, 1)
    assert found.anti_affinity == {} == found.preferences
    for count in (1, 2):
        found.add(node, load, 1)
        assert found.anti_affinity == {first: {"z": count}} and second not in found.anti_affinity
        assert found.preferences == {(-4, first): {"z": count}, (REQUIRED, first): {"z": count}}
    found.add(facts_of(a_node("m", labels={ZONE: "y", "rack": "x"})), load, 1)
    assert found.anti_affinity == {first: {"z": 2, "y": 1}, second: {"x": 1}}
    for _ in range(2):
        found.add(node, load, -1)
    assert found.anti_affinity == {first: {"y": 1}, second: {"x": 1}}
    found.add(facts_of(a_node("m", labels={ZONE: "y", "rack": "x"})), load, -1)
    assert found.anti_affinity == {} == found.preferences


@pytest.mark.parametrize("hard", [True, False])
def test_sched_53_the_constraints_of_a_profile_count_the_pods_of_the_group(hard):
    nodes = [a_node(name, labels={ZONE: zone}) for name, zone in (("a", "1"), ("b", "2"), ("c", "1"))]  # fmt: skip
    there = [placed(a_pod("p"), node, f"u{number}", labels={"app": app}) for number, (node, app) in enumerate([("a", "x"), ("c", "x"), ("b", "y")])]  # fmt: skip
    snapshot = recompute(nodes, there)
    when = "DoNotSchedule" if hard else "ScheduleAnyway"
    listed = (TopologySpreadConstraint(topology_key=ZONE, max_skew=1, when_unsatisfiable=when),)
    arguments = Arguments(default_constraints=listed)
    for app, own in (("x", 1), ("y", 0)):
        plain = info_of(placed(a_pod("new"), "", "new", labels={"app": app}))
        pod = replace(plain, group=Group("default", from_map({"app": "x"})))
        found = relate(pod, snapshot, NAMESPACES, PLAIN, arguments)
        ((constraint, *rest),) = found.hard if hard else found.soft
        assert constraint.topology_key == ZONE and not (found.soft if hard else found.hard)
        assert rest == ([own, 0, {"1": 2, "2": 0}] if hard else [{"1": 2, "2": 0}])
        assert found.affinity == found.anti_affinity == found.existing_anti_affinity == ()
        assert found.is_first is False and dict(found.preferred) == {}
        assert relate(plain, snapshot, NAMESPACES, PLAIN, arguments) is None  # without a group
        assert relate(pod, snapshot, NAMESPACES, PLAIN, Arguments(default_constraints=())) is None
        assert relate(pod, snapshot, NAMESPACES, PLAIN) is None


def test_sched_17_tallies_are_kept_by_question_and_the_oldest_goes_first(monkeypatch):
    monkeypatch.setattr(module, "TALLIES_MAX", 3)
    source, snapshot = Remembered(), recompute([a_node("a", labels={ZONE: "1"})], [])
    questions = [Tally(ZONE, (ZONE,), (), bool(number % 2), bytes([number])) for number in range(5)]
    for number in range(3):
        assert source.tally(questions[number], snapshot) == {"1": 0}
    kept = {question: source._tallies[question] for question in questions[:3]}
    source.tally(questions[0], snapshot)  # used again: the second is the oldest now
    assert source._tallies == kept and list(source._tallies)[-1] == questions[0]
    source.tally(questions[3], snapshot)
    assert list(source._tallies) == [questions[2], questions[0], questions[3]]
    source.tally(questions[4], snapshot)
    assert list(source._tallies) == [questions[0], questions[3], questions[4]]
    assert source._tallies[questions[0]] is kept[questions[0]]


def test_sched_17_only_nodes_that_have_changed_are_read_again():
    snapshot = recompute([a_node("a"), a_node("b")], [])
    seen = snapshot.last_change
    assert list(changed_nodes(snapshot, seen, ["a", "b"])) == []
    assert list(changed_nodes(EMPTY, None, [])) == []
    assert sorted(changed_nodes(EMPTY, None, ["x"])) in ([], ["x"])
    later = fold(snapshot, PODS, None, placed(a_pod("p"), "b", "u"))
    assert list(changed_nodes(later, seen, ["a", "b"])) == ["b"]
    assert sorted(changed_nodes(later, None, [])) == ["a", "b"]
    gone = fold(later, NODES, a_node("a"), None)
    assert sorted(changed_nodes(gone, None, ["a", "b", "c"])) == ["a", "b", "c"]
    assert list(changed_nodes(gone, later.last_change, ["a"])) == ["a"]

    class Counting(Tally, frozen=True):
        def count(self, load):
            asked.append(load)
            return super().count(load)

        def domain(self, facts):
            placed_.append(facts)
            return super().domain(facts)

    asked: list = []
    placed_: list = []
    source, question = Remembered(), Counting(HOST, (HOST,), ())
    assert source.tally(question, snapshot) == {"a": 0, "b": 0} and len(asked) == 2
    assert source.tally(question, snapshot) == {"a": 0, "b": 0} and len(asked) == 2
    assert source.tally(question, later) == {"a": 0, "b": 1} and len(asked) == 3
    assert source.tally(question, gone) == {"b": 1} and len(asked) == 3
    assert len(placed_) == 2  # a node has its domain until it is changed itself
    nowhere = Counting(ZONE, (ZONE,), ())
    assert source.tally(nowhere, gone) == {} and len(asked) == 3 and len(placed_) == 3
    zoned = fold(gone, NODES, a_node("b"), a_node("b", labels={ZONE: "z"}))
    assert source.tally(nowhere, zoned) == {"z": 1} and len(asked) == 4 and len(placed_) == 4


def test_sched_17_only_neighbours_on_changed_nodes_are_counted_again(monkeypatch):
    added = []
    real = Neighbours.add
    monkeypatch.setattr(Neighbours, "add", lambda self, facts, load, sign: added.append((facts.name, sign)) or real(self, facts, load, sign))  # fmt: skip
    term = PodAffinityTerm(topology_key=ZONE, label_selector=LabelSelector())
    affinity = Affinity(pod_affinity=PodAffinity(required_during_scheduling_ignored_during_execution=(term,)))  # fmt: skip
    nodes = [a_node(name, labels={ZONE: name}) for name in "abc"]
    snapshot = recompute(nodes, [placed(a_pod("p", affinity=affinity), name, f"u{name}") for name in "ab"])  # fmt: skip
    source = Remembered()
    for _ in range(2):
        source.neighbours(snapshot)
        assert sorted(added) == [("a", 1), ("b", 1)]
    added.clear()
    later = fold(snapshot, PODS, None, placed(a_pod("q", affinity=affinity), "b", "v"))
    for _ in range(2):
        source.neighbours(later)
        assert added == [("b", -1), ("b", 1)]
