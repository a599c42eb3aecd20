"""Each filter and each score by itself, from the few numbers that it reads, beside a plain reading
of its rule: SCHED-5 to SCHED-15, 27, 30 to 34, 45, 52, 53 (spec/scheduler.md,
spec/scheduler_profiles.md).

`test_sched_profiles.py` compares all of them in whole worlds."""

from __future__ import annotations

from fractions import Fraction
from itertools import permutations, product
from math import floor, log, sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st
from immutables import Map
from msgspec.structs import replace
from random_cases import cases, numbers
from sched_reference import line
from sched_worlds import a_node, a_pod, taints, tolerations

from refk8s.core.api.core_v1 import (
    Affinity,
    ContainerImage,
    ContainerStatus,
    NodeAffinity,
    NodeSelector,
    NodeSelectorRequirement,
    NodeSelectorTerm,
    ResourceRequirements,
    Taint,
    Toleration,
)
from refk8s.core.api.selector import NOTHING
from refk8s.core.pods.host_ports import HostPort
from refk8s.core.pods.node_affinity import term_matches
from refk8s.core.pods.tolerations import tolerates
from refk8s.core.scheduler import filters, scores
from refk8s.core.scheduler.arguments import Arguments, Strategy
from refk8s.core.scheduler.filters import (
    node_affinity,
    node_ports,
    node_resources,
    node_unschedulable,
    pod_affinity,
    topology_spread,
)
from refk8s.core.scheduler.filters import taints as taint_filter
from refk8s.core.scheduler.inter_pod import Constraint
from refk8s.core.scheduler.needs import Needs, needs_of
from refk8s.core.scheduler.reasons import (
    NO_NODES,
    UNHELPFUL,
    Refusal,
    explain,
    explain_block,
    histogram,
)
from refk8s.core.scheduler.relations import Relations
from refk8s.core.scheduler.scores import (
    Crowd,
    Raw,
    balanced_allocation,
    image_locality,
    least_allocated,
)
from refk8s.core.scheduler.scores import node_affinity as preference_scores
from refk8s.core.scheduler.scores import (
    node_resources as resource_scores,
)
from refk8s.core.scheduler.scores import (
    pod_affinity as affinity_scores,
)
from refk8s.core.scheduler.scores import (
    taints as taint_scores,
)
from refk8s.core.scheduler.scores import (
    topology_spread as spread_scores,
)
from refk8s.core.scheduler.snapshot import IDLE, facts_of

few = st.integers(0, 4)
GPU, DISK = "example.com/gpu", "other.org/disk"
NAMES = ("cpu", "memory", "ephemeral_storage", GPU, DISK)
SHOWN = ("cpu", "memory", "ephemeral-storage", GPU, DISK)
amounts = st.tuples(few, few, few, few, few)


def needs_with(numbers=(0, 0, 0, 0, 0), scored=None, **parts):
    given_ = dict(zip(NAMES[:3], numbers, strict=False))
    extended = {name: much for name, much in zip(NAMES[3:], numbers[3:], strict=True) if much}
    cpu, memory = scored or numbers[:2]
    needs = replace(needs_of(a_pod("p")), **given_, extended=extended)
    return replace(needs, scored_cpu=cpu, scored_memory=memory, **parts)


def facts_with(numbers=(0, 0, 0, 0, 0), pods=9, labels=None, name="n", **parts):
    extended = {name: much for name, much in zip(NAMES[3:], numbers[3:], strict=True) if much}
    facts = replace(facts_of(a_node(name, labels=labels or {})), extended=extended, pods=pods)
    return replace(facts, **dict(zip(NAMES[:3], numbers, strict=False)), **parts)


def load_with(numbers=(0, 0, 0, 0, 0), count=0, scored=None, **parts):
    extended = {name: much for name, much in zip(NAMES[3:], numbers[3:], strict=True) if much}
    cpu, memory = scored or numbers[:2]
    pods = Map({f"u{number}": None for number in range(count)})
    load = replace(IDLE, pods=pods, extended=extended, scored_cpu=cpu, scored_memory=memory)
    return replace(load, **dict(zip(NAMES[:3], numbers, strict=False)), **parts)


def having(key, *values, fields=False):
    one = NodeSelectorRequirement(key=key, operator="In", values=values)
    return (
        NodeSelectorTerm(match_fields=(one,))
        if fields
        else NodeSelectorTerm(match_expressions=(one,))
    )


# --- filters --------------------------------------------------------------------------------------


@given(amounts, amounts, amounts, few, few)
def test_sched_9_what_is_requested_must_be_left(wanted, given_, taken, pods, most):
    refusal = node_resources.check(
        needs_with(wanted), facts_with(given_, pods=most), load_with(taken, count=pods)
    )
    rows = list(zip(SHOWN, wanted, given_, taken, strict=True))
    short = [row for row in rows if row[1] and row[1] > row[2] - row[3]]
    messages = ["Too many pods"] if pods >= most else []
    messages += [f"Insufficient {name}" for name, *_ in short]
    resolvable = all(much <= there for _, much, there, _ in short)
    expected = Refusal("NodeResourcesFit", tuple(messages), resolvable) if messages else None
    assert refusal == expected


@pytest.mark.parametrize("place", range(len(NAMES)))
def test_sched_9_a_resource_by_itself_is_compared_with_what_is_left(place):
    """Every case of three small numbers, also where the node has nothing of the resource."""

    def alone(much):
        return tuple(much if at == place else 0 for at in range(len(NAMES)))

    for wanted, there, taken, pods in product(range(3), range(3), range(3), (0, 1)):
        refusal = node_resources.check(
            needs_with(alone(wanted)), facts_with(alone(there), pods=1), load_with(alone(taken), count=pods)
        )  # fmt: skip
        is_short = bool(wanted) and wanted > there - taken
        messages = ["Too many pods"] * pods + [f"Insufficient {SHOWN[place]}"] * is_short
        expected = Refusal("NodeResourcesFit", tuple(messages), not is_short or wanted <= there)
        assert refusal == (expected if messages else None), (wanted, there, taken, pods)


@pytest.mark.parametrize("resources", [(), (GPU,), (GPU, DISK)])
@pytest.mark.parametrize("groups", [(), ("other.org",), ("example.com", "x")])
def test_sched_53_ignored_resources_and_groups_are_not_checked(resources, groups):
    arguments = Arguments(ignored_resources=resources, ignored_groups=groups)
    checks = dict(filters.by_load(("NodeResourcesFit", "NodePorts"), arguments))
    assert list(checks) == ["NodePorts", "NodeResourcesFit"]
    facts = facts_with((1, 1, 1, 0, 0))
    for wanted in product((0, 1, 2), (0, 1), (0, 2), (0, 1), (0, 1)):
        checked = tuple(
            0 if name in resources or name.partition("/")[0] in groups else much
            for name, much in zip(NAMES, wanted, strict=True)
        )
        found = checks["NodeResourcesFit"](needs_with(wanted), facts, IDLE)
        assert found == node_resources.check(needs_with(checked), facts, IDLE)


@given(st.sets(st.sampled_from(["NodeAffinity", "NodeUnschedulable", "TaintToleration", "NodePorts", "NodeResourcesFit"])), st.booleans())  # fmt: skip
def test_sched_51_only_enabled_filters_are_evaluated_and_in_their_order(enabled, is_added):
    added = (having("k", "v"),) if is_added else None
    arguments = Arguments(added_terms=added)
    order = ["NodeAffinity", "NodeUnschedulable", "TaintToleration"]
    order += ["NodeAffinity"] * (2 if is_added else 1)
    by_node = filters.by_node(enabled, arguments)
    assert [name for name, _ in by_node] == [name for name in order if name in enabled]
    by_load = filters.by_load(enabled, arguments)
    assert [name for name, _ in by_load] == [
        name for name in ("NodePorts", "NodeResourcesFit") if name in enabled
    ]
    # each is evaluated for what its plugin is about
    facts = facts_with(
        (9, 9, 9, 9, 9), taints=(Taint(key="a", effect="NoSchedule"),), unschedulable=True
    )
    needs = needs_with(node_selector=(("k", "w"),), node_names=("m",))
    refusals = [check(needs, facts) for _, check in by_node]
    assert [refusal.plugin for refusal in refusals] == [name for name, _ in by_node]
    if "NodeAffinity" in enabled:
        words = ["node(s) didn't satisfy plugin(s) [NodeAffinity]"]
        words += ["node(s) didn't match scheduler-enforced node affinity"] * is_added
        words += ["node(s) didn't match Pod's node affinity/selector"]
        found = [refusal.messages[0] for refusal in refusals if refusal.plugin == "NodeAffinity"]
        assert found == words and not any(refusal.resolvable for refusal in refusals)


def test_sched_7_the_selector_and_one_term():
    here = facts_with(labels={"k": "v", "x": "y"}, name="n1")
    right, wrong = having("k", "v"), having("k", "w")
    by_name = having("metadata.name", "n1", fields=True)
    for selector, terms, fits in (
        ((), None, True),
        ((("k", "v"),), None, True),
        ((("k", "w"),), None, False),
        ((("k", "v"), ("x", "z")), None, False),
        ((), (wrong, right), True),
        ((), (wrong,), False),
        ((), (by_name,), True),
        ((), (), False),
        ((("k", "w"),), (right,), False),
        ((("k", "v"),), (wrong,), False),
    ):
        needs = needs_with(node_selector=selector, required_terms=terms)
        assert (node_affinity.check(needs, here) is None) == fits
        assert node_affinity.check(needs, here) in (None, node_affinity.REFUSAL)
    for terms, fits in (
        ((right,), True),
        ((wrong, right), True),
        ((wrong,), False),
        ((by_name,), True),
    ):
        found = node_affinity.check_added(terms, needs_with(), here)
        assert found == (None if fits else node_affinity.ENFORCED)
    for names, fits in ((None, True), (("n0", "n1"), True), (("n0",), False), ((), False)):
        found = node_affinity.check_name(needs_with(node_names=names), here)
        assert found == (None if fits else node_affinity.NOT_NAMED)


CORDON = "node.kubernetes.io/unschedulable"


@given(st.lists(taints, max_size=3), st.lists(tolerations, max_size=2), st.booleans())
def test_sched_5_sched_6_sched_14_taints_and_cordons(there, tolerated, cordoned):
    facts = facts_with(taints=tuple(there), unschedulable=cordoned)
    needs = needs_with(tolerations=tuple(tolerated))

    def is_fine(taint):
        return any(tolerates(one, taint) for one in tolerated)

    hard = [one for one in there if one.effect != "PreferNoSchedule" and not is_fine(one)]
    soft = [one for one in there if one.effect == "PreferNoSchedule" and not is_fine(one)]
    assert taint_filter.check(needs, facts) == (taint_filter.REFUSAL if hard else None)
    assert taint_scores.raw(needs, facts) == len(soft)
    refused = cordoned and not is_fine(Taint(key=CORDON, effect="NoSchedule"))
    found = node_unschedulable.check(needs, facts)
    assert found == (node_unschedulable.REFUSAL if refused else None)


def test_sched_5_a_toleration_of_the_cordon_has_its_effect():
    facts = facts_with(unschedulable=True)
    for effect, fits in (("NoSchedule", True), (None, True), ("NoExecute", False)):
        one = Toleration(key=CORDON, operator="Exists", effect=effect)
        assert (node_unschedulable.check(needs_with(tolerations=(one,)), facts) is None) == fits


def test_sched_8_without_host_ports_no_node_is_refused():
    port = HostPort(80)
    load = load_with(ports=(port,))
    assert node_ports.check(needs_with(ports=()), facts_with(), load) is None
    assert node_ports.check(needs_with(ports=(port,)), facts_with(), IDLE) is None
    assert node_ports.check(needs_with(ports=(port,)), facts_with(), load) == node_ports.REFUSAL


counts = st.dictionaries(st.sampled_from(["a", "b"]), few, max_size=2)
terms = st.lists(st.tuples(st.sampled_from(["zone", "rack"]), counts), max_size=2).map(tuple)
places = st.dictionaries(st.sampled_from(["zone", "rack"]), st.sampled_from(["a", "b"]))


def relations_with(**parts):
    nothing = Relations((), False, (), (), (), (), {})
    return replace(nothing, **parts)


@given(terms, st.booleans(), terms, terms, places)
def test_sched_30_sched_31_the_domains_of_the_node_decide(wanted, first, against, existing, labels):
    relations = relations_with(
        affinity=wanted, is_first=first, anti_affinity=against, existing_anti_affinity=existing
    )

    def there(pairs):
        return [counts.get(labels[key], 0) for key, counts in pairs if key in labels]

    found = pod_affinity.check(relations, facts_with(labels=labels))
    if len(there(wanted)) < len(wanted) or (not first and not all(there(wanted))):
        assert found == pod_affinity.NO_AFFINITY
    elif any(there(against)):
        assert found == pod_affinity.ANTI_AFFINITY
    else:
        assert found == (pod_affinity.EXISTING_ANTI_AFFINITY if any(there(existing)) else None)


def constraint(key="zone", skew=1):
    return Constraint(key, NOTHING, skew, 1, True, False)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["zone", "rack"]), st.integers(1, 2), st.integers(0, 1), few, counts
        ),
        max_size=2,
    ),
    places,
)
def test_sched_32_the_skew_with_the_pod(drawn, labels):
    hard = tuple((constraint(key, skew), own, least, each) for key, skew, own, least, each in drawn)
    expected = None
    for key, skew, own, least, each in drawn:
        if key not in labels:
            expected = topology_spread.NO_LABEL
        elif each.get(labels[key], 0) + own - least > skew:
            expected = topology_spread.REFUSAL
        if expected is not None:
            break
    assert topology_spread.check(relations_with(hard=hard), facts_with(labels=labels)) == expected


def test_sched_32_the_skew_at_every_boundary():
    """Small numbers of pods in the domain, also where it has none, of the pod and of the domain with
    the fewest."""
    for there, own, least, skew in product((None, 0, 1, 2), (0, 1), (0, 1, 2), (1, 2)):
        counts = {} if there is None else {"a": there}
        hard = ((constraint("zone", skew), own, least, counts),)
        is_more = (there or 0) + own - least > skew
        found = topology_spread.check(relations_with(hard=hard), facts_with(labels={"zone": "a"}))
        assert found == (topology_spread.REFUSAL if is_more else None), (there, own, least, skew)


def naming(*requirements):
    """A term with these (key, operator, values) of fields."""
    fields = [NodeSelectorRequirement(key=k, operator=o, values=v) for k, o, v in requirements]
    return NodeSelectorTerm(match_fields=tuple(fields) or None)


def named_by(*terms):
    """The only nodes that the required terms of a pod name."""
    selector = NodeSelector(node_selector_terms=terms)
    required = NodeAffinity(required_during_scheduling_ignored_during_execution=selector)
    return needs_of(a_pod("p", affinity=Affinity(node_affinity=required))).node_names


NAME = "metadata.name"


def test_sched_7_the_nodes_that_the_terms_name():
    assert needs_of(a_pod("p")).node_names is None and named_by() is None
    assert named_by(naming((NAME, "In", ("b", "a")))) == ("a", "b")
    assert named_by(naming((NAME, "In", ("b",))), naming((NAME, "In", ("a", "b")))) == ("a", "b")
    both = naming((NAME, "In", ("a", "b")), (NAME, "In", ("b", "c")))
    assert named_by(both) == ("b",) and named_by(naming((NAME, "In", None))) == ()
    assert named_by(naming((NAME, "In", ("a", "b")), (NAME, "NotIn", ("b",)))) == ("a", "b")
    anywhere = [naming(), having("k", "v"), naming((NAME, "NotIn", ("a",))), naming(("x", "In", ("a",)))]  # fmt: skip
    for term in anywhere:
        assert named_by(term) is None and named_by(naming((NAME, "In", ("a",))), term) is None


requirements_of_fields = st.tuples(
    st.sampled_from([NAME, NAME, "x"]), st.sampled_from(["In", "In", "NotIn", "Exists"]),
    st.lists(st.sampled_from("abc"), max_size=2).map(lambda some: tuple(some) or None),
)  # fmt: skip


@given(st.lists(st.lists(requirements_of_fields, max_size=2), max_size=2))
def test_sched_7_every_node_that_matches_is_one_that_the_terms_name(drawn):
    terms = [naming(*requirements) for requirements in drawn]
    names = named_by(*terms)
    for name in "abc":
        if any(term_matches(term, {}, name) for term in terms):
            assert names is None or name in names


# --- local scores ---------------------------------------------------------------------------------


def both(pair):
    return (*pair, 0, 0, 0)


def test_sched_12_sched_13_cpu_and_memory():
    """The requests of scores differ from those of filters: containers without any count."""
    for rng in cases(400):
        wanted, scored, taken, taken_scored = (numbers(rng, 20) for _ in range(4))
        given_ = numbers(rng, 60)
        needs = needs_with(both(wanted), scored)
        facts, load = facts_with(both(given_)), load_with(both(taken), scored=taken_scored)
        free = [
            max(there - used - more, 0) * 100 // there
            for there, used, more in zip(given_, taken_scored, scored, strict=True)
            if there
        ]
        expected = sum(free) // len(free) if free else 0
        points = least_allocated.points(needs, facts, load)
        assert points == expected and isinstance(points, int)

        found = balanced_allocation.points(needs, facts, load)
        if not any(wanted):
            assert found == 0
        elif not all(given_):
            assert found == 100
        else:
            shares = [
                min(Fraction(used + more, there), Fraction(1))
                for there, used, more in zip(given_, taken, wanted, strict=True)
            ]
            assert found == floor(100 * (1 - abs(shares[0] - shares[1]) / 2))
    assert scores.node_resources.fit_points(Strategy()) is least_allocated.points
    assert resource_scores.balanced_points(("cpu", "memory")) is balanced_allocation.points


TYPES = ("LeastAllocated", "MostAllocated", "RequestedToCapacityRatio")


def a_shape(rng):
    xs = sorted(rng.sample(range(101), rng.randint(1, 3)))
    return tuple((x, rng.randint(0, 10)) for x in xs)


@pytest.mark.parametrize("kind", TYPES)
def test_sched_52_the_strategies(kind):
    for rng in cases(400):
        names = rng.sample(SHOWN, rng.randint(1, 5))
        resources = tuple((name, rng.randint(1, 3)) for name in names)
        shape = a_shape(rng)
        wanted, taken, given_ = numbers(rng, 5, 5), numbers(rng, 5, 5), numbers(rng, 20, 5)
        scored, loaded = numbers(rng, 5), numbers(rng, 5)
        needs, facts = needs_with(wanted, scored), facts_with(given_)
        load = load_with(taken, scored=loaded)
        rows = dict(zip(SHOWN, zip(wanted, given_, taken, strict=True), strict=True))
        rows["cpu"] = (scored[0], given_[0], loaded[0])
        rows["memory"] = (scored[1], given_[1], loaded[1])
        total = of = 0
        for name, weight in resources:
            more, there, used = rows[name]
            if not there or ("/" in name and not more):
                continue
            if kind == "LeastAllocated":
                points = max(there - used - more, 0) * 100 // there
            elif kind == "MostAllocated":
                points = min(used + more, there) * 100 // there
            else:
                points = line(shape, min((used + more) * 100 // there, 100))
            if points or kind != TYPES[2]:
                total, of = total + weight * points, of + weight
        expected = 0
        if of:
            mean = Fraction(total, of)
            expected = floor(mean + Fraction(1, 2)) if kind == TYPES[2] else floor(mean)
        found = resource_scores.fit_points(Strategy(kind, resources, shape))(needs, facts, load)
        assert found == expected, (resources, shape, rows)


def test_sched_52_the_balance_of_any_resources():
    for rng in cases(600):
        names = rng.sample(SHOWN, rng.randint(1, 5))
        wanted, taken, given_ = numbers(rng, 5, 5), numbers(rng, 5, 5), numbers(rng, 20, 5)
        rows = dict(zip(SHOWN, zip(wanted, given_, taken, strict=True), strict=True))
        # an extended resource that is not requested is not one of the node's
        shares = [
            min((rows[name][2] + rows[name][0]) / rows[name][1], 1.0)
            for name in names
            if rows[name][1] and not ("/" in name and not rows[name][0])
        ]
        if not any(rows[name][0] for name in names):
            expected = 0
        elif len(shares) < 2:
            expected = 100
        elif len(shares) == 2:
            expected = int((1 - abs(shares[0] - shares[1]) / 2) * 100)
        else:
            mean = sum(shares) / len(shares)
            variance = sum((each - mean) * (each - mean) for each in shares) / len(shares)
            expected = int((1 - sqrt(variance)) * 100)
        points = resource_scores.balanced_points((*names, "x"))  # other than the default ones
        # what containers without requests count as is for other scores
        needs, load = needs_with(wanted, (9, 9)), load_with(taken, scored=(9, 9))
        assert points(needs, facts_with(given_), load) == expected, (names, rows)


def test_sched_51_the_local_scores_with_a_weight():
    arguments = Arguments(strategy=Strategy("MostAllocated"), balanced=("cpu",))
    names = ("NodeResourcesFit", "NodeResourcesBalancedAllocation")
    found = scores.local_scores({names[0]: 2, names[1]: 3, "TaintToleration": 1}, arguments)
    assert [(name, weight) for name, weight, _ in found] == [(names[0], 2), (names[1], 3)]
    needs, facts = needs_with((1, 1, 0, 0, 0)), facts_with((2, 4, 0, 0, 0))
    assert [points(needs, facts, IDLE) for _, _, points in found] == [37, 100]
    assert [name for name, *_ in scores.local_scores({names[1]: 3, names[0]: 0}, arguments)] == [
        names[1]
    ]
    assert scores.local_scores({}, arguments) == ()


# --- scores that are relative to the other nodes --------------------------------------------------


def test_sched_15_the_weights_of_the_terms_that_match():
    here = facts_with(labels={"k": "v"}, name="n1")
    preferred = (
        (3, having("k", "v")),
        (5, having("k", "w")),
        (7, having("metadata.name", "n1", fields=True)),
    )
    assert preference_scores.raw(preferred, here) == 10
    needs = needs_with(preferred_terms=preferred[:2])
    assert scores.raw_of(needs, here, Arguments()) == (0, 3, ())
    added = Arguments(added_preferences=preferred[2:])
    assert scores.raw_of(needs, here, added) == (0, 10, ())
    image = ContainerImage(names=("a:1",), size_bytes=5)
    tainted = replace(here, taints=(Taint(key="a", effect="PreferNoSchedule"),), images=(image,))
    assert scores.raw_of(replace(needs, images=("a:1",)), tainted, added) == (1, 10, (("a:1", 5),))


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("a", "a:latest"), ("a:1", "a:1"), ("host:5000/a", "host:5000/a:latest"), ("host/a:1", "host/a:1"), ("host:5/a:1", "host:5/a:1"),
    ],
)  # fmt: skip
def test_sched_45_an_image_without_a_tag_is_the_latest(image, name):
    assert image_locality.full_name(image) == name


MIB = 1 << 20
images = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from([0, 23, 24, 500, 1000, 3000])), max_size=3
)


@given(images, st.integers(1, 3), st.dictionaries(st.sampled_from("abc"), st.integers(1, 4)), st.integers(1, 4))  # fmt: skip
def test_sched_45_the_bytes_of_an_image_count_by_the_share_of_nodes_that_have_it(
    found, containers, having_it, nodes
):
    sizes = tuple((name, much * MIB) for name, much in found)
    total = sum(int(much * having_it.get(name, 0) / nodes) for name, much in sizes)
    least, most = 23 * MIB, 1000 * MIB * containers
    share = Fraction(min(max(total, least), most) - least, most - least)
    points = image_locality.points(sizes, containers, having_it, nodes)
    assert abs(points - floor(100 * share)) <= (0 if nodes in (1, 2, 4) else 1)


def test_sched_45_the_images_of_the_containers_that_the_node_has():
    there = (
        ContainerImage(names=("a:latest", "x/a:1"), size_bytes=7),
        ContainerImage(names=None, size_bytes=9),
        ContainerImage(names=("b:1",), size_bytes=None),
    )
    facts = facts_with(images=there)
    needs = needs_with(images=("a", "b:1", "c", "x/a:1", "a"))
    expected = (("a:latest", 7), ("b:1", 0), ("x/a:1", 7), ("a:latest", 7))
    assert image_locality.raw(needs, facts) == expected
    assert image_locality.raw(needs, facts_with(images=())) == ()


raws = st.builds(
    Raw,
    taints=st.integers(0, 3),
    preference=st.integers(0, 3),
    siblings=st.integers(0, 2),
    zone=st.sampled_from(["", "a", "b"]),
    has_hostname=st.booleans(),
    images=st.sampled_from([(), (("i", 500 * MIB),)]),
)
WEIGHTS = {"TaintToleration": 3, "NodeAffinity": 2, "PodTopologySpread": 5, "ImageLocality": 7}


@given(
    st.dictionaries(raws, st.integers(1, 2), min_size=1, max_size=4),
    st.sets(st.sampled_from(sorted(WEIGHTS))),
    st.booleans(),
    st.booleans(),
)
def test_sched_14_sched_15_sched_27_sched_45_relative_points_by_kind_of_node(
    sizes, names, is_spread, has_images
):
    if not is_spread:
        sizes = {raw._replace(siblings=None): size for raw, size in sizes.items()}
    zones = {"a": 3, "b": 1}
    crowd = Crowd(zones, 1, {"i": 2} if has_images else {}, 4)
    weights = {name: WEIGHTS[name] for name in names}
    most_taints = max(raw.taints for raw in sizes)
    most = max(raw.preference for raw in sizes)
    kinds = {(raw.siblings, raw.zone, raw.has_hostname) for raw in sizes}
    spread = spread_scores.points(kinds, sum(sizes.values()), zones) if is_spread else {}
    expected = {
        "TaintToleration": {
            raw: 100 - 100 * raw.taints // most_taints if most_taints else 100 for raw in sizes
        },
        "NodeAffinity": {raw: 100 * raw.preference // most if most else 0 for raw in sizes},
        "PodTopologySpread": {raw: spread.get(raw[2:5], 0) for raw in sizes},
        "ImageLocality": {
            raw: image_locality.points(raw.images, 1, {"i": 2}, 4)
            if has_images and raw.images
            else 0
            for raw in sizes
        },
    }
    found = {
        name: (weight, points)
        for name, weight, points in scores.relative_scores(weights, sizes, crowd)
    }
    assert found == {name: (weights[name], expected[name]) for name in names}
    total = scores.relative_points(weights, sizes, crowd)
    whole = {raw: sum(weights[name] * expected[name][raw] for name in names) for raw in sizes}
    # what is the same for all kinds may be left out
    assert len({whole[raw] - total[raw] for raw in sizes}) == 1


@given(
    st.dictionaries(
        st.tuples(st.integers(0, 5), st.sampled_from(["", "a", "b"]), st.booleans()),
        st.none(),
        min_size=1,
        max_size=5,
    ),
    st.integers(1, 9),
)
def test_sched_27_siblings_count_by_the_number_of_domains(kinds, nodes):
    zones = {"a": 3}
    per_node, per_zone = log(nodes + 2), log(len({zone for _, zone, _ in kinds}) + 2)
    crowds = {
        (siblings, zone, named): floor(
            (siblings * per_node + 2 if named else 0)
            + (zones.get(zone, 0) * per_zone + 4 if zone else 0)
            + 0.5
        )
        for siblings, zone, named in kinds
    }
    most, least = max(crowds.values()), min(crowds.values())
    expected = {
        kind: 100 * (most + least - crowd) // most if most else 100
        for kind, crowd in crowds.items()
    }
    assert spread_scores.points(kinds, nodes, zones) == expected
    apart = {(None, zone, named): None for _, zone, named in kinds}
    assert spread_scores.points(apart, nodes, zones) == dict.fromkeys(apart, 0)


# --- scores from the pods of all nodes ------------------------------------------------------------


@given(
    st.dictionaries(
        st.tuples(st.sampled_from(["zone", "rack"]), st.sampled_from(["a", "b"])),
        st.integers(-9, 9),
        max_size=4,
    ),
    st.lists(places, min_size=1, max_size=4),
)
def test_sched_34_the_sum_of_weights_in_the_domains_of_a_node(preferred, drawn):
    nodes = {f"n{at}": facts_with(labels=labels) for at, labels in enumerate(drawn)}
    raw = {
        name: sum(preferred.get(pair, 0) for pair in facts.labels.items())
        for name, facts in nodes.items()
    }
    least, most = min(raw.values()), max(raw.values())
    expected = {
        name: 100 * (much - least) // (most - least) if most > least else 0
        for name, much in raw.items()
    }
    relations = relations_with(preferred=preferred)
    assert affinity_scores.points(relations, nodes) == expected
    for weights in ({"InterPodAffinity": 2}, {"PodTopologySpread": 3}, {}):
        found = list(scores.related_scores(weights, relations, nodes))
        assert [(name, weight) for name, weight, _ in found] == list(weights.items())
        total = scores.related_points(weights, relations, nodes)
        factor = weights.get("InterPodAffinity", 0)
        assert total == {name: factor * each for name, each in expected.items()}


def test_sched_33_the_soft_constraints_of_the_pod():
    for rng in cases(300):
        drawn = [
            (key, rng.randint(1, 3), {name: rng.randint(0, 6) for name in rng.sample("abc", 2)})
            for key in rng.sample(["zone", "rack"], rng.randint(0, 2))
        ]
        labels = [
            {key: rng.choice("abc") for key in ("zone", "rack") if rng.random() < 0.9}
            for _ in range(rng.randint(1, 4))
        ]
        nodes = {f"n{at}": facts_with(labels=each) for at, each in enumerate(labels)}
        soft = tuple((constraint(key, skew), each) for key, skew, each in drawn)
        whole = {
            name: facts.labels
            for name, facts in nodes.items()
            if all(key in facts.labels for key, *_ in drawn)
        }
        crowds = {}
        for name, mine in whole.items():
            crowd = 0.0
            for key, skew, each in drawn:
                weight = log(len({theirs[key] for theirs in whole.values()}) + 2)
                crowd += each.get(mine[key], 0) * weight + skew - 1
            crowds[name] = floor(crowd + 0.5)
        most, least = max(crowds.values(), default=0), min(crowds.values(), default=0)
        expected = {
            name: 0
            if not drawn or name not in crowds
            else 100 * (most + least - crowds[name]) // most
            if most
            else 100
            for name in nodes
        }
        relations = relations_with(soft=soft)
        assert spread_scores.stated_points(relations, nodes) == expected
        assert scores.related_points({"PodTopologySpread": 2}, relations, nodes) == {
            name: 2 * each for name, each in expected.items()
        }


def test_sched_33_sched_34_the_weighted_scores_of_other_pods_are_added():
    nodes = {name: facts_with(labels={"zone": name}) for name in "ab"}
    relations = relations_with(
        soft=((constraint("zone", 1), {"a": 2}),), preferred={("zone", "a"): 4}
    )
    spread = spread_scores.stated_points(relations, nodes)
    near = affinity_scores.points(relations, nodes)
    assert spread["a"] < spread["b"] and near["a"] > near["b"]
    weights = {"PodTopologySpread": 2, "InterPodAffinity": 3}
    assert scores.related_points(weights, relations, nodes) == {
        name: 2 * spread[name] + 3 * near[name] for name in nodes
    }


# --- what a pod needs -----------------------------------------------------------------------------


def test_sched_2_requests_of_the_pod_and_of_its_containers():
    """Shows SCHED-2: pod-level requests come first; a resize counts with the larger amount."""
    limits = {"cpu": "3", "memory": "5"}
    needs = needs_of(a_pod("p", {"cpu": "1"}, resources=ResourceRequirements(requests=limits)))
    assert (needs.cpu, needs.memory) == (3000, 5)
    pod = a_pod("p", {"cpu": "1"})
    (container,) = pod.spec.containers
    sidecar = replace(container, name="s", restart_policy="Always")
    pod = replace(pod, spec=replace(pod.spec, init_containers=(sidecar,)))
    assert needs_of(pod).cpu == 2000
    told = [
        ContainerStatus(
            name=name, resources=ResourceRequirements(requests={"cpu": much}), allocated_resources={"cpu": much},
        )
        for name, much in ((container.name, "4"), ("s", "6"))
    ]  # fmt: skip
    status = replace(pod.status, container_statuses=(told[0],), init_container_statuses=(told[1],))
    for generation, cpu in ((1, 2000), (2, 10_000)):
        resized = replace(pod, metadata=replace(pod.metadata, generation=generation), status=status)
        assert needs_of(resized).cpu == cpu
    one = replace(status, init_container_statuses=None)
    half = replace(pod, metadata=replace(pod.metadata, generation=2), status=one)
    assert needs_of(half).cpu == 5000, "what is not resized counts as in the spec"
    assert Needs.of(needs.key) is needs


# --- the words ------------------------------------------------------------------------------------


def test_sched_10_sched_40_the_messages_in_full():
    assert histogram({}, 3) == "0/3 nodes are available:"
    counted = {"b": 2, "a": 10, "c": 0}
    assert histogram(counted, 12) == "0/12 nodes are available: 10 a, 2 b."
    for order in permutations(counted.items()):
        assert histogram(dict(order), 12) == histogram(counted, 12)
    refusals = {Refusal("X", ("a", "b"), True): 2, Refusal("Y", ("a",), True): 1}
    words = "0/3 nodes are available: 2 b, 3 a."
    assert explain(refusals, 3, "") == words
    assert explain(refusals, 3, "why") == f"{words} no new claims to deallocate, preemption: why"
    assert explain(refusals, 3, "why", "") == f"{words} preemption: why"
    assert explain(refusals, 3, "why", "x") == f"{words} x, preemption: why"
    assert explain({}, 0, "why") == explain_block("x", 0) == NO_NODES
    assert NO_NODES == "no nodes available to schedule pods"
    assert explain_block("x", 3) == "0/3 nodes are available: x. not found"
    assert explain_block("x", 3, is_about_devices=True) == (
        "0/3 nodes are available: x. no new claims to deallocate, preemption: "
        f"0/3 nodes are available: 3 {UNHELPFUL}."
    )
