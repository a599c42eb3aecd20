"""The victims of a preemption, from pods and nodes without a cluster: SCHED-35 to SCHED-38
(spec/scheduler.md). `test_sched_preemption.py` shows what becomes of them."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from immutables import Map
from msgspec.structs import replace
from random_cases import cases
from sched_worlds import (
    a_node,
    a_pod,
    placed,
)
from test_sched_volumes import on, using
from test_vol import a_volume, bound
from workload_helpers import view_of

from refk8s.core.api.core_v1 import Affinity, Namespace, PodAffinityTerm, PodAntiAffinity
from refk8s.core.api.meta_v1 import LabelSelector, LabelSelectorRequirement, ObjectMeta
from refk8s.core.api.policy_v1 import (
    PodDisruptionBudget,
    PodDisruptionBudgetSpec,
    PodDisruptionBudgetStatus,
)
from refk8s.core.loop.plan import UNCHANGED, Local
from refk8s.core.scheduler.arguments import DEFAULT_ARGUMENTS
from refk8s.core.scheduler.batch import Batch
from refk8s.core.scheduler.budgets import budgets_of, find_protected
from refk8s.core.scheduler.candidates import Candidates
from refk8s.core.scheduler.claimed import NOTHING_CLAIMED, Claimed
from refk8s.core.scheduler.cycle import Scheduler
from refk8s.core.scheduler.evaluation import judge
from refk8s.core.scheduler.hints import SCHEDULE
from refk8s.core.scheduler.nominated import Nominated, Nomination, key_of_info
from refk8s.core.scheduler.placement import Chooser
from refk8s.core.scheduler.preempt import evictions, preempt, rank_of, victims_on
from refk8s.core.scheduler.profile import DEFAULT_PROFILE, make_profile
from refk8s.core.scheduler.queue import Waiting
from refk8s.core.scheduler.reasons import NO_VICTIMS, UNHELPFUL, Refusal
from refk8s.core.scheduler.snapshot import Change, facts_of, info_of, recompute
from refk8s.core.scheduler.volumes import volumes_of
from refk8s.core.value import evolve


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


@example([(0, 0, "1"), (0, 0, "1")], [(0, "start")], 100)
@example([(1, 0, "1"), (1, 0, "1")], [(0, "come")] * 3, 1)
@example([(n, 0, "1") for n in (0, 0, 1, 1, 2, 2)], [(2, "come"), (0, "leave"), (0, "leave")], 1)
@settings(max_examples=100)
@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, 3), st.sampled_from(["1", "500m"])), max_size=8
    ),
    st.lists(
        st.tuples(
            st.integers(0, 2), st.sampled_from(["start", "leave", "come", "cordon", "toggle"])
        ),
        max_size=8,
    ),
    st.sampled_from([1, 2, 100]),
)
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


def test_sched_37_the_room_of_nominated_pods_is_that_computed_from_scratch():
    """After every decision, for pods of every priority."""
    for rng in cases(200):
        steps = [
            (
                rng.choice(["nominate", "nominate", "remove", "place"]),
                rng.randint(0, 4),
                rng.randint(0, 3),
                rng.randint(0, 1),
            )
            for _ in range(rng.randint(1, 8))
        ]
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


# --- by hand --------------------------------------------------------------------------------------


def info(uid, priority=0, cpu="1", **metadata):
    return info_of(placed(ranked(uid, priority, cpu), "n", uid, **metadata))


def since(pod) -> str:
    """When the pod started: a name of a time in its uid, `late` after `early`."""
    return "2026-01-02T00:00:00Z" if "late" in pod.uid else "2026-01-01T00:00:00Z"


BETTER = [
    # the fewest violations of budgets
    ((("a", 100), 0), (("b", 0), 1)),
    # the lowest highest priority
    ((("a", 5), ("b", 5), 0), (("c", 6), 0)),
    # the lowest sum
    ((("a", 6), ("b", -7), 0), (("c", 6), ("d", -6), 0)),
    # a pod of any priority counts in the sum, also a negative one: the fewest
    ((("a", -9), 0), (("b", -9), ("c", -9), 0)),
    # the latest start, of those with the highest priority
    ((("late", 6), ("b", 1), 0), (("c", 6), ("late2", 1), 0)),
    ((("late", 6), ("late2", 6), 0), (("late3", 6), ("d", 6), 0)),
]


@pytest.mark.parametrize(("better", "worse"), BETTER)
def test_sched_36_sched_38_nodes_are_compared_in_this_order(better, worse):
    def rank(node, drawn):
        *victims, violations = drawn
        return rank_of(node, tuple(info(*one) for one in victims), violations, since)

    assert rank("z", better) < rank("a", worse), "the name comes last"
    assert rank("a", better) < rank("b", better) and rank("a", better) == rank("a", better)
    assert rank_of("a", (), 0, since) == ()


def tried_on(pods, priority=10, cpu="2", refusal=None, budgets=()):
    """What is found on a node of 2 CPUs with these pods, in which deletions could help."""
    snapshot = recompute([a_node("n")], [])
    load = snapshot.load("n")
    for pod in pods:
        load = load.plus(pod)
    why = refusal or Refusal("NodeResourcesFit", ("Insufficient cpu",), True)
    asking = info("p", priority, cpu)
    return victims_on(
        asking, "n", why, snapshot.with_load("n", load), {}, since, budgets, DEFAULT_PROFILE
    )


def test_sched_35_why_no_pod_is_deleted_on_a_node():
    rejects = Refusal("NodeAffinity", ("no",), False)
    assert tried_on([info("a")], refusal=rejects) == (UNHELPFUL,)
    assert tried_on([info("a", 10), info("b", 11)]) == (NO_VICTIMS,)
    assert tried_on([]) == (NO_VICTIMS,)
    assert tried_on([info("a", 9)], cpu="3") == ("Insufficient cpu",)
    words = 'expected at least one victim pod on node "n"'
    assert tried_on([info("a", 9, "500m")], cpu="1") == (words,)


def test_sched_35_the_victims_in_the_order_of_their_importance():
    pods = [info("a", 1), info("b-late", 3), info("c", 3), info("d", 20, "100m")]
    found = tried_on(pods, cpu="1900m")
    assert [one.uid for one in found.victims] == ["c", "b-late", "a"]
    assert (found.node, found.violations) == ("n", 0)
    assert found.rank == rank_of("n", found.victims, 0, since)
    # the longer running one of the same priority is spared
    found = tried_on([info("b-late", 3), info("c", 3)], cpu="1")
    assert [one.uid for one in found.victims] == ["b-late"]
    found = tried_on([info("y", 3), info("x", 3)], cpu="1")
    assert [one.uid for one in found.victims] == ["y"], "and then the one whose uid comes first"


def pairs_of(*found):
    return [(one.namespace, one.allowed, sorted(one.disrupted)) for one in found]


def budget_object(allowed=0, selector=None, namespace="default", disrupted=None, **parts):
    made = PodDisruptionBudget(
        metadata=ObjectMeta(name="b", namespace=namespace),
        spec=PodDisruptionBudgetSpec(selector=selector),
        status=PodDisruptionBudgetStatus(disruptions_allowed=allowed, disrupted_pods=disrupted),
    )
    return replace(made, **parts)


ALL, APP = LabelSelector(), LabelSelector(match_labels={"app": "a"})
WRONG = LabelSelector(
    match_expressions=(LabelSelectorRequirement(key="k", operator="Odd", values=()),)
)


def test_sched_38_what_is_read_of_a_budget():
    right = budget_object(2, APP, disrupted={"x": "2026-01-01T00:00:00Z"})
    found = budgets_of([budget_object(1, WRONG), right, budget_object(None, ALL, namespace="o")])
    assert pairs_of(*found) == [("default", 2, ["x"]), ("o", 0, [])]
    assert found[0].selector.matches({"app": "a"}) and not found[0].selector.matches({})
    assert found[1].selector.matches({})
    bare = budgets_of([budget_object(spec=None, status=None)])
    assert pairs_of(*bare) == [("default", 0, [])] and not bare[0].selector.matches({"app": "a"})


def test_sched_38_a_pod_is_protected_if_its_deletion_brings_a_budget_below_zero():
    pods = [info(uid, labels={"app": "a"}) for uid in "uvw"] + [info("x")]
    for allowed, expected in ((-1, "uvwx"), (0, "uvwx"), (1, "vwx"), (2, "wx"), (4, "")):
        protected = find_protected(pods, budgets_of([budget_object(allowed, ALL)]))
        assert protected == frozenset(expected)
    some = budgets_of([budget_object(1, APP), budget_object(0, ALL, namespace="other")])
    assert find_protected(pods, some) == {"v", "w"}
    leaving = budget_object(1, ALL, disrupted={"u": "2026-01-01T00:00:00Z"})
    assert find_protected(pods, budgets_of([leaving])) == {"w", "x"}
    both = budgets_of([budget_object(3, ALL), budget_object(1, APP)])
    assert find_protected(pods, both) == {"v", "w", "x"}
    assert find_protected(pods, ()) == frozenset()


def test_sched_38_protected_pods_are_spared_first_and_counted():
    pods = [info("a", 5, labels={"app": "a"}), info("b", 7)]
    budgets = budgets_of([budget_object(0, APP)])
    found = tried_on(pods, cpu="1", budgets=budgets)
    assert ([one.uid for one in found.victims], found.violations) == (["b"], 0)
    found = tried_on(pods, cpu="2", budgets=budgets)
    assert ([one.uid for one in found.victims], found.violations) == (["b", "a"], 1)
    assert [one.uid for one in tried_on(pods, cpu="1").victims] == ["a"]


@pytest.mark.parametrize(
    ("least", "percent", "protected", "tried"),
    [
        (1, 0, "", 1),
        (2, 0, "", 2),
        (1, 50, "", 3),
        (1, 40, "", 2),
        (1, 100, "", 6),
        (4, 50, "", 4),
        (9, 0, "", 6),
        (1, 0, "ab", 3),
        (2, 0, "a", 2),
        (0, 0, "", 1),
    ],
)
def test_sched_36_sched_38_as_many_nodes_are_tried_as_the_profile_says(
    least, percent, protected, tried
):
    """A node where no budget is violated is looked for further."""
    arguments = evolve(DEFAULT_ARGUMENTS, candidates_min=least, candidates_percent=percent)
    nodes = [a_node(name, cpu="1") for name in "abcdef"]
    snapshot = recompute(nodes, [])
    for name in "abcdef":
        labels = {"app": "a"} if name in protected else None
        pod = info(f"of-{name}", 100 - ord(name) + 97, labels=labels)
        snapshot = snapshot.with_load(name, snapshot.load(name).plus(pod))
    asking, profile = info("p", 1000), make_profile(arguments=arguments)
    refusing = list(Chooser().refusing(asking, snapshot))
    budgets = budgets_of([budget_object(0, APP)])
    made = list(evictions(asking, refusing, snapshot, {}, since, budgets, profile, NOTHING_CLAIMED))
    assert [one.node for one in made] == list("abcdef"[:tried])
    best, counts = preempt(asking, refusing, snapshot, {}, since, budgets, profile)
    harmless = [one for one in made if not one.violations]
    assert best.node == max(harmless, key=lambda one: one.node).node
    assert counts == {UNHELPFUL: 0, NO_VICTIMS: 0}
    if not protected:  # what is kept of victims is the same
        assert Chooser(profile).preempt(asking, snapshot, {}, since, None)[0].node == best.node


def test_sched_35_the_reasons_are_counted():
    nodes = [a_node("a", cpu="1"), a_node("b", cpu="1"), a_node("c", unschedulable=True)]
    snapshot = recompute(nodes, [])
    for name, priority in (("a", 1), ("b", 2000)):
        snapshot = snapshot.with_load(name, snapshot.load(name).plus(info(f"of-{name}", priority)))
    asking = info("p", 1000, "3")
    refusing = list(Chooser().refusing(asking, snapshot))
    best, counts = preempt(asking, refusing, snapshot, {}, since)
    assert best is None
    assert counts == {UNHELPFUL: 3, NO_VICTIMS: 0}, "more than an empty node has"
    asking = info("p", 1000, "1")
    refusing = [(name, why) for name, why in Chooser().refusing(asking, snapshot) if name != "a"]
    assert preempt(asking, refusing, snapshot, {}, since)[1] == {UNHELPFUL: 1, NO_VICTIMS: 1}


def test_sched_37_nominations_by_node():
    nominated = Nominated(
        recompute([a_node("a"), a_node("b")], []),
        {"d/q": Nomination(info("q"), "a"), "d/p": Nomination(info("p"), "a")},
    )
    assert nominated.keys_on("a") == ["d/p", "d/q"] and nominated.keys_on("b") == []
    nominated.nominate("d/p", Nomination(info("p"), "b"))
    assert (nominated.keys_on("a"), nominated.keys_on("b")) == (["d/q"], ["d/p"])
    nominated.remove("d/absent")
    nominated.remove("d/q")
    assert nominated.keys_on("a") == [] and sorted(nominated.nominations) == ["d/p"]
    nominated.remove("d/p")
    assert nominated.base(0) is nominated.working, "nothing is computed without nominations"


def test_sched_37_another_pod_of_the_same_name_is_not_the_nominated_one():
    nominated = Nominated(recompute([a_node("a")], []), {"default/p": Nomination(info("p"), "a")})
    same = replace(info("p"), uid="other")
    assert set(nominated.around(same).load("a").pods) == {"p"}
    assert set(nominated.around(info("p")).load("a").pods) == set()
    assert key_of_info(same) == "default/p"
    higher = replace(info("x"), priority=1)
    assert set(nominated.around(higher).load("a").pods) == set()


def test_sched_17_results_that_are_kept_give_the_plain_answer_whatever_is_known_of_changes():
    """The nodes, their pods and the start times of these change, step by step or all at once: then
    no list of changes is known, and every node is compared with what is kept of it."""
    for rng in cases(150):
        arguments = evolve(
            DEFAULT_ARGUMENTS,
            candidates_min=rng.choice([1, 2, 9]),
            candidates_percent=rng.choice([0, 60, 100]),
        )
        profile = make_profile(arguments=arguments)
        chooser, asking = Chooser(profile), info("p", 5, rng.choice(["1", "2"]))
        world = {
            name: {f"{name}{at}": rng.randint(0, 6) for at in range(rng.randint(0, 2))}
            for name in "abcd"
        }
        times: dict[str, str] = {}
        nodes = {name: a_node(name) for name in "abcd"}
        starts = Change("a", None, 0)

        def snapshot_of(world, nodes):
            found = recompute(list(nodes.values()), [])
            for name, pods in world.items():
                for uid, priority in pods.items():
                    found = found.with_load(name, found.load(name).plus(info(uid, priority)))
            return found

        snapshot = snapshot_of(world, nodes)
        for number in range(1, 5):
            when = {**times}.get
            names = sorted(nodes)
            refusing = list(chooser.refusing(asking, snapshot))
            started_ = lambda pod, when=when: when(pod.uid, "~")  # noqa: E731
            kept, counts = chooser.preempt(asking, snapshot, {}, started_, starts)
            plain, plain_counts = preempt(asking, refusing, snapshot, {}, started_, profile=profile)
            assert (kept is None) == (plain is None)
            if kept is None:
                assert +Counter(counts) == +Counter(plain_counts)
            else:
                assert (kept.node, kept.rank) == (plain.node, plain.rank)
                assert [one.uid for one in kept.victims] == [one.uid for one in plain.victims]
            name, is_known = rng.choice("abcd"), rng.random() < 0.4
            what = rng.choice(["come", "leave", "start", "node"])
            if what == "come":
                world[name][f"{name}x{number}"] = rng.randint(0, 6)
                uid, priority = f"{name}x{number}", world[name][f"{name}x{number}"]
                later = snapshot.with_load(name, snapshot.load(name).plus(info(uid, priority)))
            elif what == "leave" and world[name]:
                uid = sorted(world[name])[0]
                gone = info(uid, world[name].pop(uid))
                later = snapshot.with_load(name, snapshot.load(name).minus(gone))
            elif what == "node":
                if nodes.pop(name, None) is None:
                    nodes[name] = a_node(name)
                facts = facts_of(nodes[name]) if name in nodes else None
                later = snapshot.with_node(name, facts)
            else:
                for uid in world[name]:
                    times[uid] = f"2026-01-01T00:00:{rng.randint(10, 59)}Z"
                starts, later = Change(name, starts if is_known else None, number), snapshot
            snapshot = later if is_known or rng.random() < 0.5 else snapshot_of(world, nodes)
            assert names


def test_sched_37_a_nominated_pod_that_is_bound_already_counts_once():
    working = recompute([a_node("a")], [placed(ranked("p", 0, "1"), "a", "p")])
    nominated = Nominated(working, {"default/p": Nomination(info("p"), "a")})
    assert nominated.base(0).load("a").cpu == 1000
    nominated.remove("default/p")
    nominated.nominations["d/other"] = Nomination(info("other"), "a")
    assert nominated.base(0).load("a").cpu == 1000


def test_sched_35_other_pods_and_the_profile_count_without_the_victims_too():
    """A pod of higher priority keeps the node from running the pod: no other is deleted."""
    selector = LabelSelector(match_labels={"team": "b"})
    term = PodAffinityTerm(
        label_selector=LabelSelector(),
        namespace_selector=selector,
        topology_key="kubernetes.io/hostname",
    )
    far = PodAntiAffinity(required_during_scheduling_ignored_during_execution=(term,))
    asking = info_of(
        placed(ranked("p", 10, "1", affinity=Affinity(pod_anti_affinity=far)), "", "p")
    )
    namespaces = {
        "default": Namespace(metadata=ObjectMeta(name="default")),
        "b": Namespace(metadata=ObjectMeta(name="b", labels={"team": "b"})),
    }
    low, high = (
        info(uid, priority, "100m", namespace="b") for uid, priority in (("l", 1), ("h", 99))
    )
    for pods, expected in (((low, high), None), ((low,), ["l"])):
        snapshot = recompute([a_node("n", pods="5")], [])
        for pod in pods:
            snapshot = snapshot.with_load("n", snapshot.load("n").plus(pod))
        refusing = list(Chooser().refusing(asking, snapshot, namespaces))
        best, counts = preempt(asking, refusing, snapshot, namespaces, since)
        if expected is None:
            words = "node(s) didn't match pod anti-affinity rules"
            assert best is None and counts[words] == 1
        else:
            assert [one.uid for one in best.victims] == expected
    # a resource that the profile does not check
    profile = make_profile(arguments=evolve(DEFAULT_ARGUMENTS, ignored_resources=("a.com/gpu",)))
    for cpu, expected in (("2", ["k", "l"]), ("1", ["l"])):
        pod = a_pod("p", {"cpu": cpu, "a.com/gpu": "1"}, priority=10)
        asking = info_of(placed(pod, "", "p"))
        snapshot = recompute([a_node("n")], [])
        for uid in "kl":
            snapshot = snapshot.with_load("n", snapshot.load("n").plus(info(uid, 1)))
        refusing = list(Chooser(profile).refusing(asking, snapshot))
        best, _ = preempt(asking, refusing, snapshot, {}, since, profile=profile)
        assert [one.uid for one in best.victims] == expected


def test_sched_35_no_pod_is_deleted_on_a_node_that_the_volumes_of_the_pod_do_not_reach():
    """Its volume is on the second node, where the victim is more important."""
    pod = using("c", containers=a_pod("p", {"cpu": "2"}).spec.containers, priority=50)
    nodes = [a_node("n0"), a_node("n1")]
    view = view_of(Scheduler(), *nodes, pod, bound(), on(a_volume(), "n1"))
    asking = info_of(pod)
    for both in (True, False):
        snapshot = recompute(nodes if both else nodes[:1], [])
        for name, priority in (("n0", 1), ("n1", 9)) if both else (("n0", 1),):
            snapshot = snapshot.with_load(name, snapshot.load(name).plus(info(name, priority)))
        refusing = list(Chooser().refusing(asking, snapshot))
        assert [name for name, _ in refusing] == sorted(snapshot.nodes)
        claimed = Claimed(volumes_of(view, asking), None, snapshot)
        best, counts = preempt(asking, refusing, snapshot, {}, since, claimed=claimed)
        words = "node(s) didn't match PersistentVolume's node affinity"
        assert counts == {UNHELPFUL: 0, NO_VICTIMS: 0, words: 1}
        assert (best.node if best else None) == ("n1" if both else None)
        assert preempt(asking, refusing, snapshot, {}, since)[0].node == "n0"


def test_sched_17_only_nodes_whose_pods_or_start_times_have_changed_are_tried_again():
    """Also if the changes themselves are not known: then each node is compared with what is kept."""
    asking, names = info("p", 5, "500m"), list("abcd")
    snapshot = recompute([a_node(name, cpu="1") for name in names], [])
    for name in names:
        for uid, priority in ((f"low-{name}", 1), (f"equal-{name}", 5)):
            pod = info(uid, priority, "500m")
            snapshot = snapshot.with_load(name, snapshot.load(name).plus(pod))
    tried: list[str] = []
    times: dict[str, str] = {}
    candidates, starts = Candidates(), Change("a", None, 0)

    def look(snapshot, starts, profile=DEFAULT_PROFILE):
        def verdict(name):
            tried.append(name)
            return judge(asking, name, snapshot, {}, profile)

        tried.clear()
        known = dict(times)
        found, _ = candidates.best(
            asking,
            sorted(snapshot.nodes),
            verdict,
            snapshot,
            lambda pod: known.get(pod.uid, "~"),
            starts,
            profile,
        )
        assert found is not None and found.node == "a"
        return list(tried)

    def cut(snapshot):
        """The same nodes and loads, without the list of changes."""
        return evolve(snapshot, last_change=Change("z", None, 0))

    assert look(snapshot, starts) == names
    assert look(snapshot, starts) == look(cut(snapshot), starts) == []
    assert look(cut(snapshot), Change("z", None, 0)) == []
    for change in (lambda one: one, cut):
        pod = info(f"new-{len(snapshot.load('b').pods)}", 1, "100m")
        snapshot = change(snapshot.with_load("b", snapshot.load("b").plus(pod)))
        assert look(snapshot, starts) == ["b"]
        facts = evolve(snapshot.nodes["c"], memory=snapshot.nodes["c"].memory + 1)
        snapshot = change(snapshot.with_node("c", facts))
        assert look(snapshot, starts) == ["c"]
    times["low-d"] = "2026-01-01T00:00:00Z"
    starts = Change("d", starts, 1)
    assert look(snapshot, Change("z", None, 0)) == ["d"], "the times are compared"
    assert look(snapshot, starts) == []
    times["equal-d"] = "2026-01-01T00:00:00Z"
    assert look(snapshot, Change("z", None, 0)) == [], "that of a pod which is no victim is not"
    # a node that is gone is forgotten, and tried when it is there again
    gone = cut(snapshot.with_node("c", None))
    assert look(gone, starts) == []
    assert look(cut(gone.with_node("c", snapshot.nodes["c"])), starts) == ["c"]


def after_both(priority, cpu="1", **spec):
    """The scheduler's memory, and its plan for the pod p, when p has been nominated and another pod of
    this name, priority and size is seen before the victim q is deleted."""
    machine, victim = Scheduler(), placed(ranked("q", 0, "2"), "a", "u1")
    former, later = placed(ranked("p", 10, "1"), "", "u2"), placed(ranked("p", priority, cpu, **spec), "", "u3")  # fmt: skip
    memory, plan = machine.start_memory(0), None
    for pod in (former, later):
        view = view_of(machine, a_node("a"), victim, pod)
        keys = ("default/p", SCHEDULE) if pod is former else ("default/p", SCHEDULE, "default/p")
        for key in keys:
            plan = machine.reconcile(view, key, 0, Local(memory=memory))
            memory = memory if plan.memory is UNCHANGED else plan.memory
        if pod is former:
            assert memory.nominations["default/p"].pod.uid == "u2"
    return memory, plan


def test_sched_37_the_nomination_of_a_pod_ends_with_it_though_another_has_its_name():
    """The victims of the former pod live, unless the new one needs them itself."""
    for parts in ((0, "1"), (10, "9")):
        memory, plan = after_both(*parts)
        assert not memory.nominations and [one.name for one in plan.requests] == ["p"]
    memory, plan = after_both(10, preemption_policy="Never")
    assert not memory.nominations and [one.name for one in plan.requests] == ["p"]
    memory, plan = after_both(5)
    assert memory.nominations["default/p"].pod.uid == "u3"
    assert [(one.verb, one.name) for one in plan.requests] == [("patch", "q"), ("delete", "q"), ("patch", "p")]  # fmt: skip
