"""The snapshot of the scheduler, function by function: what is read of nodes and pods, the sums of a
node, and the chain of changes (SCHED-3, SCHED-4, SCHED-17, SCHED-27 in spec/scheduler.md)."""

from __future__ import annotations

from collections import Counter

import pytest
from immutables import Map
from msgspec.structs import replace
from random_cases import cases, some
from sched_worlds import a_node, a_pod, labelled, placed
from workload_helpers import change

from refk8s.core.api.core_v1 import (
    Affinity,
    ContainerImage,
    ContainerPort,
    ContainerStatus,
    Node,
    PersistentVolumeClaimVolumeSource,
    PodAffinity,
    PodAffinityTerm,
    PodResourceClaim,
    ResourceRequirements,
    Taint,
    Volume,
)
from refk8s.core.api.meta_v1 import LabelSelector, ObjectMeta, OwnerReference
from refk8s.core.api.resources import (
    NODES,
    PODS,
    REPLICA_SETS,
    REPLICATION_CONTROLLERS,
    STATEFUL_SETS,
)
from refk8s.core.api.selector import from_map
from refk8s.core.pods.host_ports import HostPort
from refk8s.core.scheduler import snapshot as module
from refk8s.core.scheduler.needs import needs_of
from refk8s.core.scheduler.snapshot import (
    CHAIN_LENGTH_MAX,
    EMPTY,
    IDLE,
    Change,
    Group,
    Kin,
    NodeFacts,
    changes_since,
    facts_of,
    fold,
    fold_starts,
    image_names,
    info_of,
    is_alike,
    is_same_load,
    node_taken,
    recompute,
)

GPU, DISK = "example.com/gpu", "other.org/disk"
GONE = "2026-01-01T00:00:00Z"

# --- what is read of nodes ------------------------------------------------------------------------


def test_sched_3_the_facts_of_a_node():
    node = a_node("n", cpu="1500m", memory="2Ki", pods="7", labels={"a": "b"})
    images = (ContainerImage(names=("x",), size_bytes=1),)
    allocatable = {**node.status.allocatable, "ephemeral-storage": "3", DISK: "4", GPU: "5"}
    node = change(
        node, allocatable=allocatable, images=images, unschedulable=True,
        taints=(Taint(key="k", value="v", effect="NoSchedule", time_added=GONE), Taint(key="l", effect="NoExecute")),
    )  # fmt: skip
    taints = (Taint(key="k", value="v", effect="NoSchedule"), Taint(key="l", effect="NoExecute"))
    facts = facts_of(node)
    assert facts == NodeFacts(
        "n", node.metadata.labels, taints, True, 1500, 2048, 3, 7, {GPU: 5, DISK: 4}, images
    )
    assert list(facts.extended) == [GPU, DISK]
    assert facts.has_hostname and facts.zone == ""
    zone = facts_of(a_node("n", labels={"topology.kubernetes.io/zone": "z"}))
    assert zone.zone == "z" and zone.unschedulable is False and zone.taints == ()
    nothing = NodeFacts("", {}, (), False, 0, 0, 0, 0, {})
    assert facts_of(Node(metadata=ObjectMeta(), spec=None, status=None)) == nothing
    bare = Node(metadata=ObjectMeta(name="n"))
    assert facts_of(bare) == replace(nothing, name="n") and not facts_of(bare).has_hostname
    assert facts_of(change(node, allocatable=None)).extended == {}


# --- what is read of pods -------------------------------------------------------------------------


def owned(api_version, kind, is_controller=True):
    owner = OwnerReference(api_version=api_version, kind=kind, name="o", uid="u", controller=is_controller)  # fmt: skip
    pod = a_pod("p")
    return replace(pod, metadata=replace(pod.metadata, owner_references=(owner,)))


@pytest.mark.parametrize(
    ("pod", "owner"),
    [
        (owned("apps/v1", "ReplicaSet"), (REPLICA_SETS, "default/o")),
        (owned("v1", "ReplicationController"), (REPLICATION_CONTROLLERS, "default/o")),
        (owned("apps/v1", "StatefulSet"), (STATEFUL_SETS, "default/o")),
        (owned("apps/v1", "DaemonSet"), None),
        (owned("v1", "ReplicaSet"), None),
        (owned("apps/v1", "ReplicaSet", False), None),
        (a_pod("p"), None),
    ],
)
def test_sched_27_the_owner_whose_pods_are_spread(pod, owner):
    assert info_of(pod).owner == owner


def test_sched_3_the_facts_of_a_pod():
    plain = labelled(a_pod("p", {"cpu": "1"}), "x")
    info = info_of(plain)
    assert (info.uid, info.namespace, info.name, info.labels) == ("", "default", "p", {"app": "x"})
    assert info.kin == Kin("default", (("app", "x"),)) and info.kin is info_of(plain).kin
    assert (info.is_terminating, info.priority, info.inter_pod) == (False, 0, None)
    assert (info.claims, info.devices, info.group, info.has_claims) == ((), (), None, False)
    assert info.scheduler_name == "default-scheduler" and info.needs == needs_of(plain)
    volume = Volume(name="v", persistent_volume_claim=PersistentVolumeClaimVolumeSource(claim_name="c"))  # fmt: skip
    term = PodAffinityTerm(topology_key="z", label_selector=LabelSelector(match_labels={"a": "b"}))
    affinity = Affinity(pod_affinity=PodAffinity(required_during_scheduling_ignored_during_execution=(term,)))  # fmt: skip
    claim = PodResourceClaim(name="d", resource_claim_name="e")
    much = change(
        placed(plain, "n", "uid", deletion_timestamp=GONE), priority=5, scheduler_name="mine", affinity=affinity,
        volumes=(volume,), resource_claims=(claim,),
    )  # fmt: skip
    info = info_of(much)
    assert (info.uid, info.is_terminating, info.priority) == ("uid", True, 5)
    assert (info.scheduler_name, info.claims) == ("mine", ("default/c",))
    assert [one.key for one in info.devices] == ["default/e"] and info.has_claims
    (found,) = info.inter_pod.affinity
    assert found.namespaces == ("default",) and found.topology_key == "z"
    assert info_of(change(plain, volumes=(volume,))).has_claims
    assert info_of(change(plain, resource_claims=(claim,))).has_claims
    unnamed = replace(plain, metadata=ObjectMeta())
    assert (info_of(unnamed).namespace, info_of(unnamed).name, info_of(unnamed).labels) == ("", "", {})  # fmt: skip
    assert info_of(change(plain, scheduler_name=None)).scheduler_name == "default-scheduler"


@pytest.mark.parametrize("phase", [None, "Pending", "Running", "Unknown", "Succeeded", "Failed"])
@pytest.mark.parametrize("node", [None, "n"])
@pytest.mark.parametrize("leaving", [None, GONE])
def test_sched_4_a_pod_counts_on_its_node_until_it_has_ended(phase, node, leaving):
    pod = change(a_pod("p"), phase=phase, node_name=node, deletion_timestamp=leaving)
    expected = node or ""
    assert node_taken(pod) == ("" if phase in ("Succeeded", "Failed") else expected)
    assert node_taken(None) == node_taken(replace(pod, spec=None)) == ""


def resized(cpu, used):
    """A pod with a generation; its container uses so much."""
    pod = change(placed(a_pod("p", {"cpu": cpu}), "n", "u"), generation=3)
    told = ContainerStatus(
        name="c", image="x", image_id="", ready=True, restart_count=0,
        resources=ResourceRequirements(requests={"cpu": used}), allocated_resources={"cpu": used},
    )  # fmt: skip
    return change(pod, container_statuses=(told,))


def test_sched_3_which_changes_of_a_pod_change_the_load():
    pod = placed(a_pod("p", {"cpu": "1"}), "n", "u")
    assert is_same_load(pod, change(pod, phase="Running", annotations={"a": "b"}))
    for other in (
        change(pod, labels={"a": "b"}),
        placed(a_pod("p", {"cpu": "1"}), "n", "v"),
        change(pod, deletion_timestamp=GONE),
        change(pod, priority=3),
    ):
        assert not is_same_load(pod, other) and not is_same_load(other, pod)
    leaving = change(pod, deletion_timestamp=GONE)
    assert is_same_load(leaving, change(leaving, deletion_timestamp="2026-01-01T00:00:09Z"))
    first, second = change(pod, generation=1), change(pod, generation=2)
    assert not is_same_load(first, second)
    assert is_same_load(first, change(first, priority=3))  # the generation tells
    assert is_same_load(pod, second) and not is_same_load(pod, change(second, priority=3))
    assert is_same_load(second, pod) and not is_same_load(change(second, priority=3), pod)
    assert is_same_load(resized("1", "1"), resized("1", "1"))
    assert not is_same_load(resized("1", "1"), resized("1", "2"))
    young = [change(resized("1", used), generation=1) for used in "12"]
    assert is_same_load(*young)  # it has never been resized
    two = [change(resized("1", used), generation=2) for used in "12"]
    assert not is_same_load(*two)


# --- the sums of a node ---------------------------------------------------------------------------


def a_loaded_pod(rng, number):
    requests = {}
    for name, choices in (("cpu", ["1", "2"]), ("memory", ["10", "30"]), ("ephemeral-storage", ["5", "7"]), (GPU, ["1", "2"]), (DISK, ["3"])):  # fmt: skip
        if rng.random() < 0.5:
            requests[name] = rng.choice(choices)
    pod = labelled(a_pod(f"p{number}", requests), rng.choice("ab"), rng.choice(["default", "ns"]))
    ports = tuple([ContainerPort(container_port=1, host_port=each) for each in some(rng, [80, 81], 2)])  # fmt: skip
    (container,) = pod.spec.containers
    pod = replace(pod, spec=replace(pod.spec, containers=(replace(container, ports=ports),)))
    if rng.random() < 0.4:
        term = PodAffinityTerm(topology_key="z", label_selector=LabelSelector(match_labels={"a": "b"}))  # fmt: skip
        pod = change(pod, affinity=Affinity(pod_affinity=PodAffinity(required_during_scheduling_ignored_during_execution=(term,))))  # fmt: skip
    return placed(pod, "n", f"u{number}", deletion_timestamp=GONE if rng.random() < 0.3 else None)


def as_plain(load):
    return {
        **{name: getattr(load, name) for name in ("cpu", "memory", "ephemeral_storage", "extended", "scored_cpu", "scored_memory", "ports")},
        "pods": sorted(load.pods), "bound": sorted(load.bound), "kin": dict(load.kin),
    }  # fmt: skip


def summed(infos):
    """The load of these pods, counted at once."""
    extended = Counter()
    for one in infos:
        extended.update(one.needs.extended)
    found = {
        name: sum(getattr(one.needs, name) for one in infos)
        for name in ("cpu", "memory", "ephemeral_storage", "scored_cpu", "scored_memory")
    }
    return {
        **found,
        "extended": dict(extended),
        "ports": tuple(sorted(port for one in infos for port in one.needs.ports)),
        "pods": sorted(one.uid for one in infos),
        "bound": sorted(one.uid for one in infos if one.inter_pod is not None),
        "kin": dict(Counter(one.kin for one in infos if not one.is_terminating)),
    }


def test_sched_3_the_sums_of_a_node_are_those_of_its_pods_whoever_comes_and_goes():
    for rng in cases(60):
        load, there = IDLE, []
        for number in range(12):
            if there and rng.random() < 0.45:
                load = load.minus(there.pop(rng.randrange(len(there))))
            else:
                there.append(info_of(a_loaded_pod(rng, number)))
                load = load.plus(there[-1])
            assert as_plain(load) == summed(there)
            assert list(load.extended) == sorted(load.extended)
            assert all(load.pods[one.uid] is one for one in there)
            assert all(load.bound[uid].uid == uid for uid in load.bound)
        for one in there:
            load = load.minus(one)
        assert as_plain(load) == as_plain(IDLE)
    assert as_plain(IDLE) == summed([])


PARTS = {
    "cpu": 1, "memory": 1, "scored_cpu": 1, "scored_memory": 1, "ephemeral_storage": 1, "extended": {GPU: 1},
    "ports": (HostPort("0.0.0.0", "TCP", 80),), "pods": Map({"u": None}),
}  # fmt: skip


def test_sched_17_loads_are_alike_if_no_filter_and_no_score_can_tell_them_apart():
    assert is_alike(IDLE, IDLE) and is_alike(IDLE, replace(IDLE))
    for name, value in PARTS.items():
        other = replace(IDLE, **{name: value})
        assert not is_alike(IDLE, other) and not is_alike(other, IDLE), name
        assert is_alike(other, replace(other))
    one, two = (replace(IDLE, pods=Map({uid: None})) for uid in "uv")
    assert is_alike(one, two)
    assert is_alike(IDLE, replace(IDLE, kin=Map({Kin("n", ()): 1}), bound=Map({"u": None})))


# --- groups ---------------------------------------------------------------------------------------


def test_sched_27_a_group_counts_the_pods_of_its_namespace_that_stay():
    rows = [("x", "default", None), ("x", "default", None), ("x", "default", GONE), ("y", "default", None), ("x", "other", None)]  # fmt: skip
    load = IDLE
    for number, (app, namespace, leaving) in enumerate(rows):
        pod = labelled(a_pod("p"), app, namespace)
        load = load.plus(info_of(placed(pod, "n", f"u{number}", deletion_timestamp=leaving)))
    group = Group("default", from_map({"app": "x"}))
    for _ in range(2):  # what is known of labels gives the same
        assert group.count(load) == 2
    assert Group("other", from_map({"app": "x"})).count(load) == 1
    assert Group("default", from_map({"app": "z"})).count(load) == 0
    assert group.count(IDLE) == 0
    two = load.plus(info_of(placed(labelled(a_pod("p"), "x"), "n", "more", labels={"app": "x", "tier": "1"})))  # fmt: skip
    assert group.count(two) == 3  # pods of two kinds of labels


def test_sched_27_a_group_compares_each_kind_of_labels_once():
    class Selector:
        asked = 0

        def matches(self, labels):
            Selector.asked += 1
            return True

    group = Group("default", Selector())
    load = IDLE
    for number, app in enumerate("xyx"):
        load = load.plus(info_of(placed(labelled(a_pod("p"), app), "n", f"u{number}")))
    assert [group.count(load) for _ in range(3)] == [3, 3, 3] and Selector.asked == 2


def test_sched_3_the_bytes_of_labels_are_counted():
    assert module._size("ns", ()) == 2
    assert module._size("ns", (("app", "x"), ("tier", "front"))) == 2 + 4 + 9


def test_sched_27_groups_are_equal_by_namespace_and_selector():
    one, same = (Group("a", from_map({"x": "1"})) for _ in range(2))
    assert one == same and hash(one) == hash(same)
    for other in (Group("b", from_map({"x": "1"})), Group("a", from_map({"x": "2"})), None, "a"):
        assert one != other
    assert hash(Group("b", from_map({"x": "1"}))) != hash(one)


def test_sched_27_what_a_group_knows_of_labels_is_bounded(monkeypatch):
    monkeypatch.setattr(module, "KNOWN_MAX", 3)
    group = Group("default", from_map({"app": "x"}))
    load = IDLE
    for number, app in enumerate("xabcdx"):
        load = load.plus(info_of(placed(labelled(a_pod("p"), app), "n", f"u{number}")))
        assert group.count(load) == 1 + (number == 5)
        assert len(group._known) <= 3
    assert sum(len(group._known) == size for size in (1, 2, 3)) == 1
    three = IDLE
    for number, app in enumerate("xab"):
        three = three.plus(info_of(placed(labelled(a_pod("p"), app), "n", f"u{number}")))
    fresh = Group("default", from_map({"app": "x"}))
    assert fresh.count(three) == 1 and len(fresh._known) == 3


# --- the chain of changes -------------------------------------------------------------------------


def test_sched_17_the_nodes_that_have_changed_since_a_link():
    links = [Change("a", None, 1)]
    for name in "bcab":
        links.append(Change(name, links[-1], links[-1].length + 1))
    last = links[-1]
    assert changes_since(last, last) == [] == changes_since(None, None)
    for number, expected in enumerate((["b", "a", "c"], ["b", "a", "c"], ["b", "a"], ["b"], [])):
        assert changes_since(last, links[number]) == expected
    assert changes_since(last, None) is None
    other = Change("a", None, 1)
    assert changes_since(last, other) is None and changes_since(None, other) is None
    assert changes_since(links[1], last) is None


def test_sched_17_the_chain_has_a_bounded_length():
    snapshot, seen = EMPTY, []
    for number in range(CHAIN_LENGTH_MAX + 3):
        snapshot = snapshot.with_load("n", IDLE)
        seen.append(snapshot.last_change)
        assert snapshot.last_change.length == number % CHAIN_LENGTH_MAX + 1
        assert (snapshot.last_change.before is None) is (number % CHAIN_LENGTH_MAX == 0)
    assert seen[1].before is seen[0] and seen[0].node == seen[1].node == "n"
    assert snapshot.changed_since(seen[CHAIN_LENGTH_MAX - 1]) is None
    assert snapshot.changed_since(seen[CHAIN_LENGTH_MAX]) == ["n"]


# --- snapshots ------------------------------------------------------------------------------------

NAMES = ["a", "b", "c"]


def with_images(name, *images):
    listed = tuple([ContainerImage(names=names, size_bytes=1) for names in images])
    return change(a_node(name), images=listed or None)


def test_sched_45_the_number_of_nodes_that_have_each_image():
    assert image_names([ContainerImage(names=("y", "x")), ContainerImage(names=("x",)), ContainerImage(names=None)]) == ["x", "y"]  # fmt: skip
    for rng in cases(40):
        there, snapshot = {}, EMPTY
        for _ in range(8):
            name = rng.choice(NAMES)
            node = None
            if rng.random() < 0.75:
                node = with_images(name, *[tuple(some(rng, "xyz", 2)) for _ in range(rng.randint(0, 2))])  # fmt: skip
            there[name] = node
            snapshot = snapshot.with_node(name, node and facts_of(node))
            expected = Counter()
            for each in there.values():
                expected.update(image_names(each.status.images or ()) if each else ())
            assert dict(snapshot.images) == dict(expected)


def test_sched_3_a_snapshot_after_each_change_of_a_node():
    node = facts_of(a_node("a"))
    one = EMPTY.with_node("a", node)
    assert dict(one.nodes) == {"a": node} and one.last_change.node == "a"
    assert one.changed_since(None) is None and EMPTY.changed_since(None) == []
    assert one.with_node("a", facts_of(a_node("a"))) is one is one.with_node("b", None)
    none = one.with_node("a", None)
    assert dict(none.nodes) == {} and none.changed_since(one.last_change) == ["a"]
    info = info_of(placed(a_pod("p"), "a", "u"))
    loaded = one.with_load("a", IDLE.plus(info))
    other = facts_of(a_node("a", cpu="9"))
    later = loaded.with_node("a", other)
    assert later.nodes["a"] is other and later.loads is loaded.loads
    assert later.bound is loaded.bound and later.changed_since(one.last_change) == ["a"]


def test_sched_3_a_snapshot_after_each_change_of_a_load():
    term = PodAffinityTerm(topology_key="z", label_selector=LabelSelector(match_labels={"a": "b"}))
    affinity = Affinity(pod_affinity=PodAffinity(required_during_scheduling_ignored_during_execution=(term,)))  # fmt: skip
    plain = info_of(placed(a_pod("p"), "a", "u"))
    tied = info_of(placed(change(a_pod("q"), affinity=affinity), "a", "v"))
    both = IDLE.plus(plain).plus(tied)
    base = EMPTY.with_node("a", facts_of(with_images("a", ("x",))))
    snapshot = base
    for load, bound in (
        (IDLE.plus(plain), []), (both, ["a"]), (IDLE.plus(tied), ["a"]), (IDLE.plus(plain), []), (IDLE, []), (IDLE, []),
    ):  # fmt: skip
        before = snapshot
        snapshot = snapshot.with_load("a", load)
        assert snapshot.load("a") is load and ("a" in snapshot.loads) is bool(len(load.pods))
        assert list(snapshot.bound) == bound
        assert snapshot.nodes is base.nodes and snapshot.images is base.images
        assert snapshot.changed_since(before.last_change) == ["a"]
    two = snapshot.with_load("a", both).with_load("b", IDLE.plus(tied))
    assert sorted(two.bound) == ["a", "b"] and list(two.with_load("b", IDLE).bound) == ["a"]
    assert list(two.with_load("c", IDLE.plus(plain)).bound) == list(two.bound)
    assert two.load("c") is IDLE


def equal(one, other):
    assert dict(one.nodes) == dict(other.nodes) and dict(one.images) == dict(other.images)
    assert {name: as_plain(load) for name, load in one.loads.items()} == {
        name: as_plain(load) for name, load in other.loads.items()
    }
    assert sorted(one.bound) == sorted(other.bound)


def test_sched_3_the_fold_is_what_is_computed_from_scratch():
    """Pods are bound, end, are labelled, are deleted and come back, and nodes come and go."""
    for rng in cases(60):
        snapshot, pods, nodes = EMPTY, {}, {}
        for _ in range(14):
            if rng.random() < 0.25:
                name = rng.choice(NAMES)
                old = nodes.pop(name, None)
                new = None if old and rng.random() < 0.5 else a_node(name, cpu=rng.choice("12"))
                if new is not None:
                    nodes[name] = new
                snapshot = fold(snapshot, NODES, old, new)
            else:
                key = rng.choice("pq")
                old = pods.pop(key, None)
                new = None if old and rng.random() < 0.3 else a_loaded_pod(rng, key)
                if new is not None:
                    new = change(
                        new, node_name=rng.choice([None, *NAMES]), phase=rng.choice(["Running", "Running", "Failed"])
                    )  # fmt: skip
                    pods[key] = new
                snapshot = fold(snapshot, PODS, old, new)
            equal(snapshot, recompute(nodes.values(), pods.values()))


def test_sched_3_a_change_that_matters_to_no_node_leaves_the_snapshot_unchanged():
    pod = placed(a_pod("p", {"cpu": "1"}), "a", "u")
    snapshot = fold(recompute([a_node("a")], []), PODS, None, pod)
    assert fold(snapshot, PODS, pod, change(pod, phase="Running")) is snapshot
    waiting = placed(a_pod("q"), "", "v")
    for old, new in ((None, waiting), (waiting, change(waiting, priority=4)), (waiting, None)):
        assert fold(snapshot, PODS, old, new) is snapshot
    changed = fold(snapshot, PODS, pod, change(pod, priority=4))
    assert changed.load("a").pods["u"].priority == 4 and changed is not snapshot
    moved = fold(snapshot, PODS, pod, change(pod, node_name="b"))
    assert list(moved.loads) == ["b"] and moved.changed_since(snapshot.last_change) == ["b", "a"]


def test_sched_36_the_chain_of_start_times():
    pod = placed(a_pod("p"), "n", "u")
    started = change(pod, start_time=GONE)
    first = fold_starts(None, PODS, pod, started)
    assert (first.node, first.before, first.length) == ("n", None, 1)
    second = fold_starts(first, PODS, started, change(pod, start_time="2026-01-01T00:00:09Z"))
    assert second.node == "n" and second.before is first
    for old, new in (
        (None, started),
        (started, None),
        (started, started),
        (started, change(started, phase="Running")),
        (change(pod, node_name=None), change(started, node_name=None)),
        (replace(pod, status=None), change(pod, phase="Running")),
    ):
        assert fold_starts(first, PODS, old, new) is first
    none = replace(pod, status=None)
    assert fold_starts(first, PODS, none, started).before is first
    assert fold_starts(first, PODS, started, none).before is first


def test_sched_3_nodes_are_folded_by_name():
    node = a_node("a")
    snapshot = fold(EMPTY, NODES, None, node)
    assert list(snapshot.nodes) == ["a"] and fold(snapshot, NODES, node, node) is snapshot
    assert list(fold(snapshot, NODES, node, None).nodes) == []
    later = fold(snapshot, NODES, node, change(node, unschedulable=True))
    assert later.nodes["a"].unschedulable
    assert list(recompute([node], []).nodes) == ["a"]
