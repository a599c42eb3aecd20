"""The choice of a node, computed from every node and from what is kept, step by step beside a plain
evaluation of each node (SCHED-16, SCHED-17, SCHED-41, SCHED-56 in spec/scheduler.md and
spec/scheduler_profiles.md)."""

from __future__ import annotations

import pytest
from msgspec.structs import replace
from random_cases import cases
from sched_worlds import a_node, a_pod, grouped, labelled, placed
from test_sched_relations import HOST, NAMESPACES, ZONE, a_tied_node, a_tied_pod
from workload_helpers import change

from refk8s.core.api.core_v1 import (
    Affinity,
    ContainerImage,
    NodeAffinity,
    NodeSelector,
    NodeSelectorRequirement,
    NodeSelectorTerm,
    Taint,
    TopologySpreadConstraint,
)
from refk8s.core.api.resources import NODES, PODS
from refk8s.core.api.selector import from_map
from refk8s.core.scheduler import placement, ranking
from refk8s.core.scheduler.arguments import Arguments
from refk8s.core.scheduler.budgets import budgets_of
from refk8s.core.scheduler.claimed import NOTHING_CLAIMED
from refk8s.core.scheduler.evaluation import (
    Offer,
    crowd_of,
    evaluate,
    judge,
    offer_of,
    refuse,
    reject,
)
from refk8s.core.scheduler.filters import node_affinity
from refk8s.core.scheduler.inter_pod import Constraint
from refk8s.core.scheduler.placement import (
    Chooser,
    candidates,
    choose,
    sizes_of,
    survey,
    total_points,
)
from refk8s.core.scheduler.plugin import ExternalPlugins
from refk8s.core.scheduler.preempt import preempt
from refk8s.core.scheduler.profile import DEFAULT_PROFILE, FILTERS, WEIGHTS, make_profile
from refk8s.core.scheduler.ranking import Ranking, RelatedRanking
from refk8s.core.scheduler.reasons import Refusal
from refk8s.core.scheduler.relations import PLAIN, Relations, Remembered, relate
from refk8s.core.scheduler.scores import Crowd, Raw, raw_of, related_points, relative_points
from refk8s.core.scheduler.snapshot import CHAIN_LENGTH_MAX, EMPTY, Change, fold, info_of, recompute

# --- random worlds --------------------------------------------------------------------------------


def a_random_node(rng, name):
    node = a_tied_node(rng, name)
    if rng.random() < 0.2:
        labels = {key: value for key, value in node.metadata.labels.items() if key != HOST}
        node = replace(node, metadata=replace(node.metadata, labels=labels))
    elif rng.random() < 0.15:
        node = replace(node, metadata=replace(node.metadata, labels={**node.metadata.labels, HOST: "shared"}))  # fmt: skip
    preferred = (Taint(key="p", effect="PreferNoSchedule"),) if rng.random() < 0.3 else ()
    images = tuple([ContainerImage(names=(f"{name}:latest",), size_bytes=300 << 20) for name in "xy" if rng.random() < 0.3])  # fmt: skip
    allocatable = {**node.status.allocatable, "cpu": rng.choice(["1", "2", "4"]), "pods": rng.choice(["2", "9"])}  # fmt: skip
    return change(node, taints=(*(node.spec.taints or ()), *preferred) or None, images=images, allocatable=allocatable)  # fmt: skip


def a_random_pod(rng, name, tied=0.5):
    """A pod that asks for cpu, half of them with terms about others."""
    requests = {"cpu": rng.choice(["100m", "500m", "1", "1500m"])} if rng.random() < 0.8 else None
    plain = a_pod(name, requests)
    if rng.random() < tied:
        pod = a_tied_pod(rng, name)
        return replace(pod, spec=replace(pod.spec, containers=plain.spec.containers))
    pod = labelled(plain, rng.choice("ab"), rng.choice(["default", "default", "b"]))
    return replace(pod, spec=replace(pod.spec, node_selector={"disk": "1"})) if rng.random() < 0.2 else pod  # fmt: skip


def asking(rng, name, tied=0.5):
    """A pod that is to be decided; sometimes a Service selects it."""
    pod = placed(a_random_pod(rng, name, tied), "", name)
    return grouped(pod, **({"app": rng.choice("ab")} if rng.random() < 0.5 else {}))


class World:
    """Pods and nodes that come and go; `snapshot` is what they are now."""

    def __init__(self, rng, tied=0.4, nodes=4):
        self.rng, self.tied, self.number = rng, tied, 0
        self.names = [f"n{number}" for number in range(nodes)]
        self.nodes = {name: a_random_node(rng, name) for name in self.names[:-1]}
        self.pods = {}
        self.snapshot = recompute(self.nodes.values(), [])

    def happen(self):
        rng, kind = self.rng, self.rng.random()
        self.number += 1
        if kind < 0.45:
            pod = placed(
                a_random_pod(rng, f"p{self.number}", self.tied), rng.choice(self.names), f"u{self.number}",
                deletion_timestamp="2026-01-01T00:00:00Z" if rng.random() < 0.15 else None,
            )  # fmt: skip
            self.pods[self.number] = pod = change(pod, priority=rng.choice([0, 0, 5]))
            self.snapshot = fold(self.snapshot, PODS, None, pod)
        elif kind < 0.65 and self.pods:
            pod = self.pods.pop(rng.choice(list(self.pods)))
            self.snapshot = fold(self.snapshot, PODS, pod, None)
        else:
            name = rng.choice(self.names)
            old = self.nodes.pop(name, None)
            new = None if old is not None and kind < 0.78 else a_random_node(rng, name)
            if new is not None:
                self.nodes[name] = new
            self.snapshot = fold(self.snapshot, NODES, old, new)


class Claims:
    """Claims that refuse nodes before or after the filters of other pods, and give points."""

    def __init__(self, rng, names):
        self.early_ = {name: Refusal("Early", ("early",), True) for name in names if rng.random() < 0.25}  # fmt: skip
        self.late_ = {name: Refusal("Late", ("late",), False) for name in names if rng.random() < 0.25}  # fmt: skip
        self.given = {name: rng.randint(0, 100) for name in names if rng.random() < 0.8}
        self.asked = []

    def __bool__(self):
        return True

    def early(self, name):
        self.asked.append(("early", name))
        return self.early_.get(name)

    def late(self, name):
        self.asked.append(("late", name))
        return self.late_.get(name)

    def refusal_with(self, name, load):
        return self.early_.get(name) or self.late_.get(name)

    def points(self, names):
        return {name: self.given[name] for name in names if name in self.given}


class Odd:
    """A plugin of another package: refuses some nodes, and gives points by the number of pods."""

    def __init__(self, name, refused=()):
        self.name, self.refused = name, refused

    def filter(self, pod, node, load):
        return f"odd {pod.name} {len(load.pods)}" if node.name in self.refused else ""

    def score(self, pod, node, load):
        return 10 * len(load.pods) + len(node.name) + len(pod.name)

    def normalize(self, scores):
        return scores


def with_plugins(rng):
    plugins = ExternalPlugins(filter=(Odd("Odd", rng.sample(["n0", "n1", "n2", "n3"], 1)),), score=(Odd("Odd"), Odd("Mute")))  # fmt: skip
    return make_profile(weights={**WEIGHTS, "Odd": 3, "Mute": 0}, plugins=plugins)


BY_ZONES = TopologySpreadConstraint(topology_key=ZONE, max_skew=1, when_unsatisfiable="DoNotSchedule")  # fmt: skip
BY_RACKS = replace(BY_ZONES, topology_key="rack", when_unsatisfiable="ScheduleAnyway")


def without(*names):
    return make_profile(filters=[name for name in FILTERS if name not in names])


PROFILES = [
    DEFAULT_PROFILE,
    without("InterPodAffinity"),
    without("PodTopologySpread", "NodeResourcesFit"),
    make_profile(weights={"NodeResourcesFit": 1, "PodTopologySpread": 5, "InterPodAffinity": 1}),
    make_profile(weights={}),
    make_profile(filters=["NodeResourcesFit"]),
    make_profile(arguments=Arguments(default_constraints=(BY_ZONES,))),
    make_profile(arguments=Arguments(default_constraints=(BY_RACKS,))),
]


# --- the plain evaluation -------------------------------------------------------------------------


def plainly(pod, snapshot, profile, claimed=NOTHING_CLAIMED):
    """The points of each node that can run the pod, with its pods, and why each other cannot."""
    relations = relate(pod, snapshot, NAMESPACES, PLAIN, profile.arguments)
    names = sorted(snapshot.nodes)
    if pod.needs.node_names is not None and "NodeAffinity" in profile.filters:
        names = [name for name in names if name in pod.needs.node_names]
    refused = {name: node_affinity.NOT_NAMED for name in snapshot.nodes if name not in names}
    offers, zones = {}, {}
    for name in names:
        facts, load = snapshot.nodes[name], snapshot.load(name)
        refusal = refuse(profile, pod.needs, facts, load)
        if refusal is None and claimed:
            refusal = claimed.early(name)
        if refusal is None:
            refusal = reject(profile, pod, relations, facts, load)
        if refusal is None and claimed:
            refusal = claimed.late(name)
        found = evaluate(profile, pod.needs, facts, load)
        if refusal is None:
            offers[name] = offer_of(profile, pod, facts, load, found)
        else:
            refused[name] = refusal
        if pod.group is not None and node_affinity.check(pod.needs, facts) is None:
            zones[facts.zone] = zones.get(facts.zone, 0) + pod.group.count(load)
    crowd = crowd_of(pod, snapshot, zones)
    relative = relative_points(profile.weights, sizes_of(offers), crowd)
    nodes = {name: snapshot.nodes[name] for name in offers}
    related = related_points(profile.weights, relations, nodes) if relations is not None and nodes else {}  # fmt: skip
    points = {}
    for name, offer in offers.items():
        points[name] = offer.local + relative[offer.raw] + related.get(name, 0)
        for plugin in profile.plugins.score:
            points[name] += profile.weights.get(plugin.name, 0) * plugin.score(pod, snapshot.nodes[name], snapshot.load(name))  # fmt: skip
        if claimed:
            points[name] += profile.weights.get("DynamicResources", 0) * claimed.points([name]).get(name, 0)  # fmt: skip
    return points, refused, crowd, offers


def counted(refused):
    found = {}
    for refusal in refused.values():
        found[refusal] = found.get(refusal, 0) + 1
    return found


def best_of(points, offers):
    ranks = sorted((-points[name], offers[name].pods, name) for name in points)
    return ranks[0][2] if ranks else None


def checked(pod, snapshot, profile, claimed, source=PLAIN, evaluations=None):
    """`survey`, `choose` and the points, beside the plain evaluation."""
    points, refused, crowd, offers = plainly(pod, snapshot, profile, claimed)
    arguments = (pod, snapshot, NAMESPACES, source, evaluations, profile, claimed)
    found = survey(*arguments)
    assert found.offers == offers and found.refusals == counted(refused)
    assert list(found.offers) == sorted(found.offers)
    used = {zone: count for zone, count in found.crowd.zones.items() if count}
    assert used == {zone: count for zone, count in crowd.zones.items() if count}
    if offers:
        assert total_points(pod, snapshot, found, profile, claimed) == points
    name, refusals = choose(*arguments)
    assert name == best_of(points, offers) and refusals == counted(refused)
    return points, refused


def test_sched_16_sched_41_sched_56_every_node_is_evaluated_as_one_by_one():
    for rng in cases(120):
        world = World(rng)
        for _ in range(rng.randint(0, 8)):
            world.happen()
        profile = rng.choice([*PROFILES, with_plugins(rng), with_plugins(rng)])
        claimed = Claims(rng, world.names) if rng.random() < 0.4 else NOTHING_CLAIMED
        evaluations = {} if rng.random() < 0.5 else None
        pod = asking(rng, "new")
        for _ in range(2):
            checked(pod, world.snapshot, profile, claimed, PLAIN, evaluations)
            world.happen()


def test_sched_41_claims_are_asked_only_about_nodes_that_nothing_before_refuses():
    nodes = [a_node("a"), a_node("b", cpu="1m"), a_node("c"), a_node("d"), a_node("e")]
    pod = info_of(a_pod("p", {"cpu": "1"}))
    for rng in cases(1):
        claimed = Claims(rng, "abcde")
    early, late = Refusal("Early", ("early",), True), Refusal("Late", ("late",), False)
    claimed.early_, claimed.late_ = {"c": early, "b": early}, {"d": late, "c": late}
    profile = make_profile(plugins=ExternalPlugins(filter=(Odd("Odd", ("e",)),)))
    snapshot = recompute(nodes, [])
    found = survey(pod, snapshot, NAMESPACES, PLAIN, None, profile, claimed)
    assert list(found.offers) == ["a"]
    assert claimed.asked == [
        ("early", "a"), ("late", "a"), ("early", "c"), ("early", "d"), ("late", "d"), ("early", "e"),
    ]  # fmt: skip
    assert {refusal.plugin: count for refusal, count in found.refusals.items()} == {
        "NodeResourcesFit": 1, "Early": 1, "Late": 1, "Odd": 1,
    }  # fmt: skip
    claimed.asked.clear()
    told = list(Chooser(profile).refusing(pod, snapshot, NAMESPACES, claimed))
    assert [(name, refusal.plugin) for name, refusal in told] == [
        ("b", "NodeResourcesFit"), ("c", "Early"), ("d", "Late"), ("e", "Odd"),
    ]  # fmt: skip
    assert claimed.asked == [
        ("early", "a"), ("late", "a"), ("early", "c"), ("early", "d"), ("late", "d"), ("early", "e"),
    ]  # fmt: skip


def test_sched_17_evaluations_are_used_again_while_node_and_load_are_the_same(monkeypatch):
    snapshot = recompute([a_node("a"), a_node("b")], [])
    pod, kept = info_of(a_pod("p", {"cpu": "1"})), {}
    survey(pod, snapshot, {}, PLAIN, kept)
    assert sorted(kept) == ["a", "b"]
    first = dict(kept)
    survey(pod, snapshot, {}, PLAIN, kept)
    assert all(kept[name] is first[name] for name in "ab")
    later = fold(snapshot, PODS, None, placed(a_pod("q"), "a", "u"))
    survey(pod, later, {}, PLAIN, kept)
    assert kept["a"] is not first["a"] and kept["b"] is first["b"]
    assert kept["a"].load is later.load("a") and kept["a"].facts is first["a"].facts
    relabelled = fold(later, NODES, a_node("b"), a_node("b", labels={"x": "y"}))
    second, calls = dict(kept), asked_for(monkeypatch, placement, "evaluate")
    survey(pod, relabelled, {}, PLAIN, kept)
    assert kept["b"] is not first["b"] and kept["b"].facts is relabelled.nodes["b"]
    assert [(one[2].name, one[4]) for one in calls] == [("b", second["b"])]  # with what was known


def naming(*names):
    field = NodeSelectorRequirement(key="metadata.name", operator="In", values=names)
    terms = (NodeSelectorTerm(match_fields=(field,)),)
    selector = NodeSelector(node_selector_terms=terms)
    return Affinity(node_affinity=NodeAffinity(required_during_scheduling_ignored_during_execution=selector))  # fmt: skip


def test_sched_7_the_nodes_to_evaluate():
    snapshot = recompute([a_node(name) for name in "cab"], [])
    plain, named = info_of(a_pod("p")), info_of(a_pod("p", affinity=naming("b")))
    assert candidates(plain, snapshot) == ["a", "b", "c"] and candidates(named, snapshot) == ["b"]
    assert candidates(info_of(a_pod("p", affinity=naming("x"))), snapshot) == []
    free = without("NodeAffinity")
    assert candidates(named, snapshot, free) == ["a", "b", "c"]
    found = survey(named, snapshot)
    assert list(found.offers) == ["b"] and found.refusals == {node_affinity.NOT_NAMED: 2}
    assert survey(plain, snapshot).refusals == {} == survey(named, recompute([a_node("b")], [])).refusals  # fmt: skip
    assert choose(named, snapshot) == ("b", {node_affinity.NOT_NAMED: 2})
    assert choose(plain, EMPTY) == (None, {})
    chooser = Chooser()
    absent = info_of(a_pod("p", affinity=naming("x")))
    assert Chooser(free).has_offer(absent, snapshot) and not Chooser().has_offer(absent, snapshot)
    assert chooser.choose(named, snapshot) == choose(named, snapshot)
    assert not chooser._evaluations and not chooser._rankings  # few nodes: nothing is kept
    assert Chooser(free).choose(named, snapshot)[0] == "a"


# --- what is kept ---------------------------------------------------------------------------------


def nonzero(refusals):
    return {refusal: count for refusal, count in refusals.items() if count}


@pytest.mark.parametrize("tied", [0.0, 0.5])
def test_sched_17_the_chooser_gives_the_plain_answer_after_every_change(tied):
    for rng in cases(60):
        world, profile = World(rng, tied), rng.choice([*PROFILES, with_plugins(rng)])
        chooser = Chooser(profile)
        kinds = [asking(rng, f"k{number}", tied) for number in range(3)]
        if rng.random() < 0.2:
            kinds.append(info_of(a_pod("named", affinity=naming(*rng.sample(world.names, 2)))))
        for _ in range(10):
            world.happen()
            snapshot = world.snapshot
            for pod in kinds:
                if rng.random() < 0.4:
                    continue
                claimed = Claims(rng, world.names) if rng.random() < 0.2 else NOTHING_CLAIMED
                points, refused, _, offers = plainly(pod, snapshot, profile, claimed)
                name, refusals = chooser.choose(pod, snapshot, NAMESPACES, claimed)
                assert name == best_of(points, offers)
                if name is None:
                    assert nonzero(refusals) == counted(refused)
                found = chooser.survey(pod, snapshot, NAMESPACES, claimed)
                assert found.offers == offers and found.refusals == counted(refused)
                if pod.needs.node_names is None:
                    told = list(chooser.refusing(pod, snapshot, NAMESPACES, claimed))
                    assert told == sorted(refused.items())
                if not claimed:
                    assert chooser.has_offer(pod, snapshot, NAMESPACES) is bool(offers)


def victims_of(found):
    eviction, counts = found
    if eviction is None:
        return None, nonzero(counts)
    return eviction.node, sorted(one.uid for one in eviction.victims)


def test_sched_17_sched_35_preemption_from_what_is_kept_is_the_plain_one():
    for rng in cases(60):
        world, profile = World(rng, rng.choice([0.0, 0.0, 0.4])), rng.choice([*PROFILES[:6], with_plugins(rng)])  # fmt: skip
        chooser = Chooser(profile)
        kinds = [replace(asking(rng, f"k{number}", 0.2), priority=rng.choice([3, 9])) for number in range(2)]  # fmt: skip

        def started(pod):
            return f"2026-01-01T00:00:0{len(pod.name)}Z"

        for _ in range(10):
            world.happen()
            for pod in kinds:
                claimed = Claims(rng, world.names) if rng.random() < 0.2 else NOTHING_CLAIMED
                _, refused, _, offers = plainly(pod, world.snapshot, profile, claimed)
                if offers or rng.random() < 0.2:
                    continue
                given = (pod, sorted(refused.items()), world.snapshot, NAMESPACES, started, (), profile, claimed)  # fmt: skip
                found = chooser.preempt(pod, world.snapshot, NAMESPACES, started, None, (), claimed)
                assert victims_of(found) == victims_of(preempt(*given))


def test_sched_17_preemption_is_kept_by_needs_and_priority(monkeypatch):
    chooser, snapshot = Chooser(), recompute([a_node("a", cpu="1")], [placed(a_pod("q", {"cpu": "1"}), "a", "u")])  # fmt: skip
    pod = replace(info_of(a_pod("p", {"cpu": "1"})), priority=5)

    def ask(pod, budgets=(), claimed=NOTHING_CLAIMED, chooser=chooser):
        found, _ = chooser.preempt(pod, snapshot, {}, lambda one: "", None, budgets, claimed)
        return found.node

    assert ask(pod) == "a" and len(chooser._candidates) == 1
    (kept,) = chooser._candidates.values()
    assert kept is not None
    assert ask(pod) == "a" and list(chooser._candidates.values()) == [kept]
    assert ask(replace(pod, priority=6)) == "a" and len(chooser._candidates) == 2
    other = replace(info_of(a_pod("p", {"cpu": "500m"})), priority=5)
    assert ask(other) == "a" and len(chooser._candidates) == 3
    named = replace(info_of(a_pod("p", {"cpu": "1"}, affinity=naming("a"))), priority=5)
    plugins = make_profile(plugins=ExternalPlugins(filter=(Odd("Odd"),)))
    for rng in cases(1):
        claimed = Claims(rng, "")
    for fresh in (Chooser(), Chooser(plugins)):
        if fresh.profile is plugins:
            assert ask(pod, chooser=fresh) == "a"
        else:
            assert ask(named, chooser=fresh) == "a" and ask(pod, claimed=claimed, chooser=fresh) == "a"  # fmt: skip
        assert not fresh._candidates


def asked_for(monkeypatch, module, name):
    """The arguments of each call of this function of the module."""
    calls, real = [], getattr(module, name)

    def counting(*arguments):
        calls.append(arguments)
        return real(*arguments)

    monkeypatch.setattr(module, name, counting)
    return calls


def test_sched_17_a_pod_that_no_node_could_run_is_compared_with_changed_nodes_only(monkeypatch):
    calls = asked_for(monkeypatch, placement, "refuse")
    chooser, pod = Chooser(), info_of(a_pod("p", {"cpu": "5"}))
    snapshot = recompute([a_node(name, cpu="4") for name in "abc"], [])
    for snapshot_, expected, asked in (
        (snapshot, False, "abc"),
        (snapshot, False, ""),
        (fold(snapshot, NODES, a_node("b"), a_node("b", cpu="3")), False, "b"),
        (fold(snapshot, NODES, a_node("b"), a_node("b", cpu="9")), True, None),
        (fold(snapshot, NODES, a_node("b"), None), False, "ac"),
    ):
        calls.clear()
        assert chooser.has_offer(pod, snapshot_) is expected
        if asked is not None:
            assert [one[2].name for one in calls] == list(asked)
    calls.clear()
    assert chooser.has_offer(info_of(a_pod("q", {"cpu": "4"})), snapshot) and len(calls) == 1
    assert chooser.has_offer(pod, EMPTY) is False
    known = info_of(a_pod("p", {"cpu": "7"}))
    assert not chooser.has_offer(known, snapshot)
    removed = fold(snapshot, NODES, a_node("c"), None)
    calls.clear()
    assert not chooser.has_offer(known, removed) and calls == []  # the node is gone
    assert not chooser.has_offer(known, removed) and calls == []


def test_sched_17_the_oldest_kinds_without_a_node_are_forgotten_first(monkeypatch):
    monkeypatch.setattr(placement, "INFEASIBLE_MAX", 2)
    calls = asked_for(monkeypatch, placement, "refuse")
    chooser, snapshot = Chooser(), recompute([a_node("a", cpu="1")], [])
    kinds = [info_of(a_pod("p", {"cpu": str(much)})) for much in (2, 3, 4)]
    for number, asked in ((0, 1), (1, 1), (0, 0), (2, 1), (0, 0), (1, 1), (2, 1)):
        calls.clear()
        assert not chooser.has_offer(kinds[number], snapshot)
        assert len(calls) == asked, number
        assert len(chooser._infeasible) <= 2


@pytest.mark.parametrize(("nodes", "most"), [(0, 5), (1, 5), (2, 5), (3, 3), (4, 3)])
def test_sched_17_as_many_kinds_are_kept_as_rows_allow(monkeypatch, nodes, most):
    monkeypatch.setattr(placement, "ROWS_MAX", 10)
    monkeypatch.setattr(placement, "KINDS_MIN", 3)
    expected = max(3, 10 // max(1, nodes))
    chooser = Chooser()
    snapshot = recompute([a_node(f"n{number}") for number in range(nodes)], [])
    kinds = [info_of(a_pod("p", {"cpu": f"{number + 1}m"})) for number in range(12)]
    for pod in kinds:
        chooser.choose(pod, snapshot)
        assert len(chooser._rankings) <= expected and len(chooser._evaluations) <= expected
    assert [needs for needs, _ in chooser._rankings] == [one.needs.key for one in kinds[-expected:]]
    assert list(chooser._evaluations) == [one.needs.key for one in kinds[-expected:]]
    oldest = chooser._rankings[next(iter(chooser._rankings))]
    chooser.choose(kinds[-expected], snapshot)  # used again: the youngest now
    assert list(chooser._rankings.values())[-1] is oldest
    assert most and len(chooser._rankings) == expected


def test_sched_17_only_changed_nodes_are_evaluated_again(monkeypatch):
    calls = asked_for(monkeypatch, ranking, "evaluate")
    chooser, pod = Chooser(), info_of(a_pod("p", {"cpu": "1"}))
    snapshot = recompute([a_node(name) for name in "abc"], [])
    assert chooser.choose(pod, snapshot)[0] == "a" and len(calls) == 3
    assert chooser.choose(pod, snapshot)[0] == "a" and len(calls) == 3
    later = fold(snapshot, PODS, None, placed(a_pod("q", {"cpu": "1"}), "a", "u"))
    assert chooser.choose(pod, later)[0] == "b" and len(calls) == 4
    assert calls[-1][4] is not None and calls[-1][4].facts is later.nodes["a"]
    # another kind with the same needs uses the same evaluations
    group = grouped(a_pod("p", {"cpu": "1"}), app="x")
    assert chooser.choose(group, later)[0] == "b" and len(calls) == 4
    # a load that no filter can tell from the one before
    swapped = fold(fold(later, PODS, placed(a_pod("q", {"cpu": "1"}), "a", "u"), None), PODS, None, placed(a_pod("r", {"cpu": "1"}), "a", "v"))  # fmt: skip
    assert chooser.choose(pod, swapped)[0] == "b" and len(calls) == 4
    gone = fold(swapped, NODES, a_node("b"), None)
    assert chooser.choose(pod, gone)[0] == "c" and len(calls) == 4
    back = fold(gone, NODES, None, a_node("b"))
    assert chooser.choose(pod, back)[0] == "b" and len(calls) == 5
    changed = fold(back, NODES, a_node("b"), a_node("b", labels={"x": "y"}))
    assert chooser.choose(pod, changed)[0] == "b" and len(calls) == 6


def test_sched_17_outdated_entries_of_a_ranking_are_bounded():
    snapshot, ranked = recompute([a_node("a", pods="999"), a_node("b", pods="999")], []), Ranking(info_of(a_pod("p")), {})  # fmt: skip
    pods, most = [], 0
    for number in range(300):
        if len(pods) > 3:
            snapshot = fold(snapshot, PODS, pods.pop(0), None)
        pods.append(placed(a_pod(f"q{number}"), "ab"[number % 2], f"u{number}"))
        snapshot = fold(snapshot, PODS, None, pods[-1])
        ranked.names(snapshot)  # nothing is taken from the heap
        for group in ranked._groups.values():
            most = max(most, len(group.heap) - 2 * group.size if group.size > 1 else 0)
            assert len(group.heap) <= 2 * group.size + 65
            assert sum(map(ranked._is_current, group.heap)) == group.size
        if number % 50 == 49:
            expected = choose(info_of(a_pod("p")), snapshot)[0]
            assert ranked.choose(snapshot)[0] == expected
            (group,) = ranked._groups.values()
            assert ranked._is_current(group.heap[0])
    assert most == 65  # outdated ones stay until there are so many


def test_sched_17_the_names_and_refusals_of_a_ranking():
    pod = info_of(a_pod("p", {"cpu": "1"}))
    snapshot = recompute([a_node("c"), a_node("a", cpu="1m"), a_node("b")], [])
    ranked = Ranking(pod, {})
    names = ranked.names(snapshot)
    assert names == ["a", "b", "c"] and ranked.names(snapshot) is names
    assert ranked.refusal("a").plugin == "NodeResourcesFit" and ranked.refusal("b") is None
    assert [(name, found is None) for name, found in ranked.refusing(snapshot)] == [("a", False), ("b", True), ("c", True)]  # fmt: skip
    fuller = fold(snapshot, PODS, None, placed(a_pod("q", {"cpu": "2"}), "b", "u"))
    assert ranked.names(fuller) is names and ranked.refusal("b") is not None
    wider = fold(fuller, NODES, None, a_node("d"))
    assert ranked.names(wider) == ["a", "b", "c", "d"]
    fewer = fold(wider, NODES, a_node("a"), None)
    assert ranked.names(fewer) == ["b", "c", "d"]
    assert [name for name, _ in ranked.refusing(fewer)] == ["b", "c", "d"]
    assert ranked.names(EMPTY) == [] and ranked.choose(EMPTY)[0] is None
    assert Ranking(pod, {}).names(EMPTY) == []
    none, refusals = Ranking(info_of(a_pod("p", {"cpu": "9"})), {}).choose(snapshot)
    assert none is None and sum(refusals.values()) == 3


def test_sched_17_a_ranking_that_has_lost_the_thread_looks_at_every_node():
    snapshot = recompute([a_node("a", pods="9000"), a_node("b", pods="9000")], [])
    pod, ranked = info_of(a_pod("p")), Ranking(info_of(a_pod("p")), {})
    assert ranked.choose(snapshot)[0] == "a"
    snapshot = fold(snapshot, PODS, None, placed(a_pod("o"), "a", "u"))
    for _ in range(CHAIN_LENGTH_MAX):
        snapshot = snapshot.with_load("b", snapshot.load("b"))
    assert ranked.choose(snapshot)[0] == choose(pod, snapshot)[0] == "b"


# --- rankings of pods with relations --------------------------------------------------------------


def relations_with(**parts):
    plain = {
        "affinity": (), "is_first": False, "anti_affinity": (), "existing_anti_affinity": (), "hard": (), "soft": (),
        "preferred": {},
    }  # fmt: skip
    return Relations(**{**plain, **parts})


def a_key(key):
    return Constraint(key, from_map({}), 1, 1, False, False)


PLACES = {
    "affinity": lambda key: ((key, {}),),
    "hard": lambda key: ((a_key(key), 0, 0, {}),),
    "soft": lambda key: ((a_key(key), {}),),
    "preferred": lambda key: {(key, "x"): 1},
    "anti_affinity": lambda key: ((key, {}),),
    "existing_anti_affinity": lambda key: ((key, {}),),
}


@pytest.mark.parametrize("place", PLACES)
def test_sched_17_which_relations_are_those_of_groups(place):
    for key in (HOST, ZONE):
        found = relations_with(**{place: PLACES[place](key)})
        is_away = place in ("anti_affinity", "existing_anti_affinity")
        assert ranking._is_by_groups(found) is (key != HOST or is_away)
        assert ranking._topology_of(found) == (() if key == HOST else (ZONE,))
        assert ranking._by_host(found) == (
            [{}] if place == "anti_affinity" and key == HOST else [],
            [{}] if place == "existing_anti_affinity" and key == HOST else [],
        )
        rest = ranking._without_hosts(found)
        kept = relations_with(**({} if is_away and key == HOST else {place: PLACES[place](key)}))
        for name in PLACES:
            assert getattr(rest, name) == getattr(kept, name)
    every = relations_with(**{name: make("ab"[number % 2]) for number, (name, make) in enumerate(PLACES.items())})  # fmt: skip
    assert ranking._topology_of(every) == ("a", "b")
    twice = relations_with(preferred={(ZONE, "x"): 1, (HOST, "y"): 2})
    assert not ranking._is_by_groups(twice)


def test_sched_17_counts_are_the_same_if_they_are_the_same_objects():
    one, other = {"a": 1}, {"a": 1}
    assert ranking._are_same(([one], [other]), ([one], [other]))
    for changed in (([other], [other]), ([one], [one]), ([one, one], [other]), ([one], []), ([], [other])):  # fmt: skip
        assert not ranking._are_same(([one], [other]), changed)
    assert ranking._are_same(([], []), ([], []))


def test_sched_17_a_ranking_with_relations_gives_the_plain_answer_where_it_can():
    found_any = 0
    for rng in cases(150):
        world, profile, source = World(rng, 0.6), rng.choice(PROFILES), Remembered()
        pod = asking(rng, "new", 1.0)
        ranked = RelatedRanking(pod, {}, profile)
        for _ in range(8):
            world.happen()
            relations = relate(pod, world.snapshot, NAMESPACES, source, profile.arguments)
            if relations is None:
                continue
            name = ranked.choose_among(world.snapshot, relations)
            points, _, _, offers = plainly(pod, world.snapshot, profile)
            hosts = [facts.labels[HOST] for facts in world.snapshot.nodes.values() if HOST in facts.labels]  # fmt: skip
            if not ranking._is_by_groups(relations) or (
                len(set(hosts)) < len(hosts) and ranked._seen is not None
            ):
                assert name is None
            else:
                assert name == best_of(points, offers)
                found_any += name is not None
    assert found_any > 100


def test_sched_17_a_ranking_with_relations_begins_anew_for_other_terms():
    pod, counts, more = info_of(a_pod("p")), {"a": 0}, {"a": 0}
    ranked = RelatedRanking(pod, {}, DEFAULT_PROFILE)
    snapshot = recompute([a_node(name, labels={ZONE: zone}) for name, zone in (("a", "1"), ("b", "2"))], [])  # fmt: skip
    by_host = relations_with(anti_affinity=((HOST, counts),))
    assert ranked.choose_among(snapshot, by_host) == "a"
    rows = dict(ranked._rows)
    assert ranked.choose_among(snapshot, relations_with(anti_affinity=((HOST, counts),))) == "a"
    assert ranked._rows == rows  # the same counts: nothing is evaluated again
    for other in (
        relations_with(anti_affinity=((HOST, more),)),
        relations_with(anti_affinity=((HOST, more), (ZONE, {}))),
        relations_with(existing_anti_affinity=((HOST, more),)),
        relations_with(),
        relations_with(affinity=((ZONE, {"1": 0, "2": 1}),)),
    ):
        expected = "b" if other.affinity else "a"
        before = dict(ranked._rows)
        assert ranked.choose_among(snapshot, other) == expected
        assert all(ranked._rows[name] is not before[name] for name in before)
    assert ranked._topology == (ZONE,) and ranked._relations is other
    taken = relations_with(anti_affinity=((HOST, {"a": 1}),))
    assert RelatedRanking(pod, {}, DEFAULT_PROFILE).choose_among(snapshot, taken) == "b"
    existing = relations_with(existing_anti_affinity=((HOST, {"a": 0}), (HOST, {"b": 2})))
    assert RelatedRanking(pod, {}, DEFAULT_PROFILE).choose_among(snapshot, existing) == "a"
    both = relations_with(existing_anti_affinity=((HOST, {"a": 1}), (HOST, {"b": 2})))
    assert RelatedRanking(pod, {}, DEFAULT_PROFILE).choose_among(snapshot, both) is None
    assert RelatedRanking(pod, {}, without("InterPodAffinity")).choose_among(snapshot, both) == "a"
    assert RelatedRanking(pod, {}, DEFAULT_PROFILE).choose_among(EMPTY, both) is None


def test_sched_17_host_names_that_several_nodes_have_are_counted():
    pod = info_of(a_pod("p"))
    ranked, relations = RelatedRanking(pod, {}, DEFAULT_PROFILE), relations_with()

    def node(name, host):
        made = a_node(name)
        return replace(made, metadata=replace(made.metadata, labels={HOST: host} if host else {}))

    snapshot, there = EMPTY, {}
    for name, host, shared in (
        ("a", "x", 0), ("b", "y", 0), ("b", "x", 1), ("c", "x", 1), ("c", None, 1), ("d", "y", 1), ("c", "y", 2),
        ("b", None, 1), ("a", "y", 1), ("c", "z", 1), ("d", "w", 0), ("a", None, 0),
    ):  # fmt: skip
        new = node(name, host)
        snapshot = fold(snapshot, NODES, there.get(name), new)
        there[name] = new
        found = ranked.choose_among(snapshot, relations)
        assert ranked._shared == shared and (found is None) is bool(shared)
    for name in list(there):
        snapshot = fold(snapshot, NODES, there.pop(name), None)
        ranked.choose_among(snapshot, relations)
    assert ranked._shared == 0 and not any(ranked._hosts.values())


# --- one node -------------------------------------------------------------------------------------


def test_sched_16_a_node_is_judged_as_in_a_survey():
    for rng in cases(60):
        world, profile = World(rng, 0.6), rng.choice([*PROFILES, with_plugins(rng)])
        for _ in range(6):
            world.happen()
        pod = asking(rng, "new", 0.7)
        if pod.needs.node_names is not None:
            continue
        _, refused, _, _ = plainly(pod, world.snapshot, profile)
        for name in world.snapshot.nodes:
            assert judge(pod, name, world.snapshot, NAMESPACES, profile) == refused.get(name)


def test_sched_17_an_evaluation_is_the_same_with_and_without_the_one_before():
    for rng in cases(60):
        world, profile = World(rng, 0.2), rng.choice(PROFILES)
        pod = asking(rng, "new", 0.2)
        kept = {}
        for _ in range(8):
            world.happen()
            for name, facts in world.snapshot.nodes.items():
                load = world.snapshot.load(name)
                fresh = evaluate(profile, pod.needs, facts, load)
                found = evaluate(profile, pod.needs, facts, load, kept.get(name))
                for field in fresh.__struct_fields__:
                    assert getattr(found, field) == getattr(fresh, field), field
                assert found.facts is facts and found.load is load
                assert fresh.static is None or isinstance(fresh.static, Refusal)
                assert fresh.images == raw_of(pod.needs, facts, profile.arguments)[2]
                assert fresh.refusal == refuse(profile, pod.needs, facts, load)
                points = sum(weight * each(pod.needs, facts, load) for _, weight, each in profile.local)  # fmt: skip
                assert fresh.local == (points if fresh.refusal is None else 0)
                kept[name] = found
                offer = offer_of(profile, pod, facts, load, found)
                if found.refusal is not None:
                    assert offer is found.refusal
                    continue
                assert isinstance(offer, Offer)
                is_counted = pod.group is not None and profile.arguments.default_constraints is None
                assert offer.raw.siblings == (pod.group.count(load) if is_counted else None)
                assert (offer.local, offer.pods) == (found.local, len(load.pods))
                assert offer.raw.images == found.images
                assert (offer.raw.zone, offer.raw.has_hostname) == (facts.zone, facts.has_hostname)


def test_sched_16_how_many_nodes_of_each_kind_there_are():
    one, other = (Raw(taints, 0, None, "", True, ()) for taints in (0, 1))
    offers = {name: Offer(raw, 0, 0) for name, raw in zip("abc", (one, other, one), strict=True)}
    assert sizes_of(offers) == {one: 2, other: 1} and sizes_of({}) == {}
    snapshot = recompute([change(a_node("a"), images=(ContainerImage(names=("x",), size_bytes=1),)), a_node("b")], [])  # fmt: skip
    pod = info_of(a_pod("p"))
    assert crowd_of(pod, snapshot, {"z": 3}) == Crowd({"z": 3}, 1, snapshot.images, 2)


def test_sched_27_a_ranking_counts_the_pods_of_the_group_by_zone():
    for rng in cases(40):
        world, profile, kept = World(rng, 0.0), rng.choice(PROFILES[:6]), {}
        pod = asking(rng, "new", 0.0)
        ranked = Ranking(pod, kept, profile)
        for _ in range(10):
            world.happen()
            ranked.names(world.snapshot)
            _, _, crowd, offers = plainly(pod, world.snapshot, profile)
            assert {zone: n for zone, n in ranked._zones.items() if n} == {zone: n for zone, n in crowd.zones.items() if n}  # fmt: skip
            assert set(kept) == set(world.snapshot.nodes)  # nothing is kept of a node that is gone
            assert {raw: group.size for raw, group in ranked._groups.items()} == sizes_of(offers)


def test_sched_17_the_kinds_of_nodes_of_a_ranking_with_relations(monkeypatch):
    calls = asked_for(monkeypatch, ranking, "relative_points")
    pod = info_of(a_pod("p"))
    nodes = [a_node(name, labels={"rack": rack}) for name, rack in zip("abcd", "1122", strict=True)]
    nodes.append(a_node("e", labels={"rack": "2"}, taints=(Taint(key="p", effect="PreferNoSchedule"),)))  # fmt: skip
    snapshot = recompute(nodes, [])
    by_rack = relations_with(preferred={("rack", "2"): 1})
    assert RelatedRanking(pod, {}, DEFAULT_PROFILE).choose_among(snapshot, by_rack) == "c"
    assert sorted(calls[-1][1].values()) == [1, 4]


def test_sched_17_what_is_kept_is_used_again(monkeypatch):
    """Rankings of pods with and without relations, and the evaluations of the others."""
    near = change(a_pod("near"), topology_spread_constraints=(BY_ZONES,), labels={"app": "a"})
    plain, tied = info_of(a_pod("plain")), info_of(near)
    snapshot = recompute([a_node(name, labels={ZONE: name}) for name in "ab"], [])
    chooser = Chooser()
    for pod, kept in ((plain, chooser._rankings), (tied, chooser._related)):
        first, again = ((chooser.choose(pod, snapshot), list(kept.values())) for _ in range(2))
        assert first == again and len(first[1]) == 1 and first[1][0] is not None
    calls = asked_for(monkeypatch, placement, "choose"), asked_for(monkeypatch, placement, "survey")
    assert chooser.choose(tied, snapshot)[0] == "a" and calls == ([], [])  # no survey of all nodes
    for rng in cases(1):
        claimed = Claims(rng, "")
    for pod in (plain, tied):
        evaluations = chooser._evaluations_of(pod.needs, snapshot)
        chooser.choose(pod, snapshot, NAMESPACES, claimed)
        assert calls[0][-1][4] is evaluations is calls[1][-1][4]
        chooser.survey(pod, snapshot)
        assert calls[1][-1][4] is evaluations
    offered = asked_for(monkeypatch, ranking, "offer_of")
    again = snapshot.with_load("b", snapshot.load("b"))
    chooser.choose(plain, again)
    assert offered == []  # neither node nor load is another one


def test_sched_35_sched_38_preemption_knows_budgets_and_start_times(monkeypatch):
    calls = asked_for(monkeypatch, placement, "preempt")
    snapshot = recompute([a_node("a", cpu="1")], [placed(a_pod("q", {"cpu": "1"}), "a", "u")])
    pod, starts = replace(info_of(a_pod("p", {"cpu": "1"})), priority=5), Change("a", None, 1)
    budgets = budgets_of([])
    chooser = Chooser()
    protected = [object()]
    monkeypatch.setattr(placement, "preempt", lambda *arguments: calls.append(arguments) or (None, {}))  # fmt: skip
    chooser.preempt(pod, snapshot, {}, str, starts, protected)
    assert calls[-1][5] is protected
    found, _ = chooser.preempt(pod, snapshot, {}, lambda one: "", starts, budgets)
    assert found.node == "a" and len(calls) == 1
    (kept,) = chooser._candidates.values()
    assert kept._starts is starts
