"""Whole plans about nodes that are lost and about their pods, compared with what they should be
(NODE-1 to NODE-9, PODGC-1 to PODGC-4, spec/workloads/node.md)."""

from __future__ import annotations

from typing import Any

import pytest
from immutables import Map
from msgspec.structs import replace
from workload_helpers import NOW, ago, change, pod, view_of

from refk8s.core.api.coordination_v1 import Lease, LeaseSpec
from refk8s.core.api.core_v1 import (
    Node,
    NodeCondition,
    NodeSpec,
    NodeStatus,
    PodCondition,
    Taint,
    Toleration,
)
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.request import Request, Response
from refk8s.core.api.resources import LEASES, NODES, PODS
from refk8s.core.context import SECOND, micro_timestamp, timestamp
from refk8s.core.controllers import node_lifecycle as lifecycle
from refk8s.core.controllers import pod_gc
from refk8s.core.controllers.node_lifecycle import Health, Memory, NodeLifecycle, eviction_pause
from refk8s.core.controllers.pod_gc import PodGarbageCollector
from refk8s.core.controllers.taint_eviction import TaintEviction, end_of
from refk8s.core.loop.plan import NOTHING, Local, Note, Plan
from refk8s.core.pods.requests import delete_pod, patch_status

NOT_READY, UNREACHABLE = "node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"
WATCHED = ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure")
BEAT = "2026-01-01T00:00:00Z"
READY = (PodCondition(type="Ready", status="True"),)


def node(name: str = "n", ready: Any = "True", taints: Any = (), **fields: Any) -> Node:
    conditions = (
        ()
        if ready is None
        else (NodeCondition(type="Ready", status=ready, last_heartbeat_time=BEAT),)
    )
    made = Node(
        metadata=ObjectMeta(name=name, uid=f"uid-{name}", creation_timestamp=ago(99)),
        spec=NodeSpec(taints=tuple(taints) or None),
        status=NodeStatus(conditions=conditions),
    )
    return change(made, **fields)


def taint(key: str, effect: str, since: Any = None) -> Taint:
    return Taint(key=key, effect=effect, time_added=since)


def bound(name: str = "p", **parts: Any) -> Any:
    return pod(name, **{"node_name": "n", "generation": 4, **parts})


def interest(reconciler: Any, resource: Any) -> Any:
    return next(one.keys for one in reconciler.interests if one.resource is resource)


def health(seen: int = NOW, **fields: Any) -> Health:
    given = {"uid": "uid-n", "sign": (None, BEAT), "seen": seen, "grace": lifecycle.GRACE, **fields}
    return Health(**given)


CONTROLLER = NodeLifecycle()


def reconciled(*objects: Any, memory: Any = None, now: int = NOW) -> Plan:
    local = Local(Memory() if memory is None else memory)
    return CONTROLLER.reconcile(view_of(CONTROLLER, *objects), "n", now, local)


def same(plan: Plan, waves: Any, memory: Any, wake_at: Any, notes: Any = ()) -> None:
    """The plan without the reasons of its requests, which are not empty."""
    found = [[replace(one, because="") for one in wave] for wave in plan.waves]
    assert found == [[replace(one, because="") for one in wave] for wave in waves]
    assert all(one.because for wave in plan.waves for one in wave)
    assert (plan.wake_at, plan.notes) == (wake_at, notes)
    parts = [(m.nodes, m.evict_next, m.unready_next) for m in (plan.memory, memory)]
    assert parts[0] == parts[1]


def remembered(seen: int = NOW, evict: Any = None, unready: Any = None, **fields: Any) -> Memory:
    return Memory(Map({"n": health(seen, **fields)}), Map(evict or {}), Map(unready or {}))


def update(before: Node, *taints: Taint) -> Request:
    body = replace(before, spec=replace(before.spec, taints=taints or None))
    return Request("update", NODES, "", "n", body=body)


STAMP = timestamp(NOW)


@pytest.mark.parametrize(("ready", "key"), [("False", NOT_READY), ("Unknown", UNREACHABLE)])
@pytest.mark.parametrize("evict", [None, NOW, NOW + 5 * SECOND, NOW + 99 * SECOND])
def test_node_4_a_node_that_is_not_ready(ready, key, evict):
    """The rate of a zone is kept; the NoExecute taint of the other kind is replaced."""
    other = taint(UNREACHABLE if key == NOT_READY else NOT_READY, "NoExecute", BEAT)
    mine = taint("mine", "NoExecute", BEAT)
    before = node(ready=ready, taints=(mine, other))
    zones = {"/": evict} if evict is not None else {}
    memory = remembered(evict=zones, seen=NOW - 10 * SECOND)
    lost_at = NOW + 40 * SECOND
    plan = reconciled(before, node("well"), memory=memory)
    added = taint(key, "NoSchedule", STAMP)
    if evict is None or evict <= NOW:
        wanted = (added, mine, taint(key, "NoExecute", STAMP))
        after = replace(memory, evict_next=Map({"/": NOW + 10 * SECOND}))
        same(plan, [[update(before, *wanted)]], after, lost_at)
        done = reconciled(node(ready=ready, taints=wanted), node("well"), memory=memory)
        same(done, [], memory, lost_at)
    else:
        wanted = (added, mine, other)
        same(plan, [[update(before, *wanted)]], memory, min(lost_at, evict))


def test_node_4_when_a_node_without_deadline_is_looked_at_again():
    before = node(ready="Unknown")
    known = change(
        before,
        conditions=tuple(
            [
                NodeCondition(type=kind, status="Unknown", last_heartbeat_time=BEAT)
                for kind in WATCHED
            ]
        ),
    )
    memory = remembered(seen=NOW - 60 * SECOND, evict={"/": NOW + 7 * SECOND})
    plan = reconciled(known, node("well"), memory=memory)
    wanted = update(known, taint(UNREACHABLE, "NoSchedule", STAMP))
    same(plan, [[wanted]], memory, NOW + 7 * SECOND)


@pytest.mark.parametrize("zone", ["", "z"])
def test_node_4_the_rate_is_that_of_the_zone(zone):
    labels = {"topology.kubernetes.io/zone": "z"} if zone else None
    before = node(ready="False", labels=labels)
    name = "/z" if zone else "/"
    other = {"/other": NOW + 99 * SECOND}
    plan = reconciled(before, node("well"), memory=remembered(evict=other))
    assert plan.memory.evict_next == Map({**other, name: NOW + 10 * SECOND})
    assert lifecycle.zone_of(before) == name
    both = {"topology.kubernetes.io/zone": "z", "topology.kubernetes.io/region": "r"}
    assert lifecycle.zone_of(node(labels=both)) == "r/z"


def test_node_5_node_6_the_taint_goes():
    stale = (
        taint(NOT_READY, "NoExecute"),
        taint(UNREACHABLE, "NoExecute"),
        taint("a", "NoExecute"),
    )
    before = node(taints=stale)
    memory = remembered()
    lost_at = NOW + lifecycle.GRACE
    same(reconciled(before, memory=memory), [[update(before, stale[2])]], memory, lost_at)
    alone = node(ready="False", taints=stale)
    added = taint(NOT_READY, "NoSchedule", STAMP)
    same(reconciled(alone, memory=memory), [[update(alone, added, stale[2])]], memory, lost_at)
    silent = node(ready=None, taints=stale)
    memory = remembered(sign=(None, None))
    same(reconciled(silent, memory=memory), [], memory, lost_at)
    fine = node()
    same(reconciled(fine, memory=remembered()), [], remembered(), lost_at)


def test_node_3_the_taints_of_conditions():
    kinds = {
        ("MemoryPressure", "True"): "memory-pressure", ("DiskPressure", "True"): "disk-pressure",
        ("PIDPressure", "True"): "pid-pressure", ("NetworkUnavailable", "True"): "network-unavailable",
        ("MemoryPressure", "False"): "", ("Other", "True"): "",
    }  # fmt: skip
    for (kind, status), key in kinds.items():
        conditions = (NodeCondition(type=kind, status=status),)
        wanted = [taint(f"node.kubernetes.io/{key}", "NoSchedule", STAMP)] if key else []
        assert lifecycle.no_schedule_taints(node(conditions=conditions), NOW) == wanted
        if key:
            known = taint(f"node.kubernetes.io/{key}", "NoSchedule", BEAT)
            there = (taint(f"node.kubernetes.io/{key}", "NoExecute", STAMP), known)
            found = lifecycle.no_schedule_taints(node(conditions=conditions, taints=there), NOW)
            assert found == [known]
    cordoned = lifecycle.no_schedule_taints(node(unschedulable=True), NOW)
    assert cordoned == [taint("node.kubernetes.io/unschedulable", "NoSchedule", STAMP)]
    assert lifecycle.no_schedule_taints(Node(metadata=ObjectMeta(name="n")), NOW) == []


@pytest.mark.parametrize(
    ("counts", "pause"),
    [
        ({}, None),
        ({"z": (0, 0)}, None),
        ({"z": (3, 0)}, None),
        ({"z": (3, 0), "y": (2, 1)}, 10),
        ({"z": (3, 0), "y": (0, 0)}, None),
        ({"y": (2, 1)}, 10),
        ({"z": (3, 1)}, 10),
        ({"z": (4, 1)}, None),
        ({"z": (20, 9)}, None),
        ({"z": (20, 10)}, 10),
        ({"z": (50, 1)}, None),
        ({"z": (51, 1)}, 100),
        ({"z": (60, 27)}, 100),
        ({"z": (60, 28)}, 10),
    ],
)
def test_node_4_node_6_the_pause_of_a_zone(counts, pause):
    found = eviction_pause(Map(counts), "z")
    assert found == (None if pause is None else pause * SECOND)


def lost(before: Node) -> Node:
    def condition(kind: str) -> NodeCondition:
        if kind == "Ready":
            words = "Kubelet stopped posting node status."
            return NodeCondition(
                type=kind,
                status="Unknown",
                reason="NodeStatusUnknown",
                message=words,
                last_heartbeat_time=BEAT,
                last_transition_time=STAMP,
            )
        words = "Kubelet never posted node status."
        return NodeCondition(
            type=kind,
            status="Unknown",
            reason="NodeStatusNeverUpdated",
            message=words,
            last_heartbeat_time=ago(99),
            last_transition_time=STAMP,
        )

    return change(before, conditions=tuple([condition(kind) for kind in WATCHED]))


def unready(one: Any) -> Request:
    words = "Node is not ready"
    condition = {
        "type": "Ready",
        "status": "False",
        "reason": "NodeNotReady",
        "message": words,
        "observedGeneration": 4,
    }
    return patch_status(
        one, {"conditions": [condition]}, "", Note(one, "NodeNotReady", words, "Warning")
    )


def test_node_1_node_2_a_node_is_lost():
    before, mine = node(), bound("a", conditions=READY)
    objects = (before, mine, bound("b"), pod("c", node_name="m", conditions=READY))
    memory = remembered(seen=NOW - lifecycle.GRACE)
    status = Request("update", NODES, "", "n", "status", body=lost(before))
    after = replace(memory, unready_next=Map({"n": NOW + 5 * SECOND}))
    note = Note(before, "NodeNotReady", "Node n status is now: NodeNotReady")
    same(reconciled(*objects, memory=memory), [[status], [unready(mine)]], after, None, (note,))
    for wait in (1, 5 * SECOND):
        paced = replace(memory, unready_next=Map({"n": NOW + wait}))
        same(reconciled(*objects, memory=paced), [], paced, NOW + wait)
    paced = replace(memory, unready_next=Map({"n": NOW}))
    assert len(reconciled(*objects, memory=paced).waves) == 2
    earlier = remembered(seen=NOW - lifecycle.GRACE + 1)
    same(reconciled(*objects, memory=earlier), [], earlier, NOW + 1)


@pytest.mark.parametrize("wait", [None, 0, 3 * SECOND, 60 * SECOND])
@pytest.mark.parametrize("deadline", [None, 40 * SECOND])
def test_node_2_the_pods_of_an_unknown_node_are_not_ready(wait, deadline):
    conditions = tuple(
        [NodeCondition(type=kind, status="Unknown", last_heartbeat_time=BEAT) for kind in WATCHED]
    )
    tainted = (taint(UNREACHABLE, "NoSchedule"), taint(UNREACHABLE, "NoExecute"))
    before = change(node(taints=tainted), conditions=conditions)
    mine = bound("a", conditions=READY)
    pauses = {} if wait is None else {"n": NOW + wait}
    seen = NOW - (60 if deadline is None else 10) * SECOND
    memory = remembered(seen=seen, unready=pauses)
    plan = reconciled(before, mine, node("well"), memory=memory)
    at = None if deadline is None else max(NOW + deadline, NOW + (wait or 0))
    if wait in (None, 0):
        after = replace(memory, unready_next=Map({"n": NOW + 5 * SECOND}))
        same(plan, [[unready(mine)]], after, at)
    else:
        same(plan, [], memory, NOW + wait if at is None else min(at, NOW + wait))
    quiet = reconciled(before, node("well"), memory=remembered(seen=seen))
    same(quiet, [], remembered(seen=seen), None if deadline is None else NOW + deadline)
    untainted = change(before, taints=None)
    both = reconciled(untainted, mine, node("well"), memory=remembered(seen=seen))
    assert [len(wave) for wave in both.waves] == [1, 1] and both.waves[0][0].resource is NODES


def test_node_2_an_eviction_may_be_due_before_its_pods_are():
    before = change(
        node(),
        conditions=tuple(
            [
                NodeCondition(type=kind, status="Unknown", last_heartbeat_time=BEAT)
                for kind in WATCHED
            ]
        ),
    )
    mine = bound("a", conditions=READY)
    memory = remembered(evict={"/": NOW + 2 * SECOND}, unready={"n": NOW + 4 * SECOND})
    plan = reconciled(before, mine, node("well"), memory=memory)
    wanted = update(before, taint(UNREACHABLE, "NoSchedule", STAMP))
    same(plan, [[wanted]], memory, NOW + 2 * SECOND)


def test_node_2_conditions_that_are_unknown_or_others_stay():
    kept = (
        NodeCondition(type="MemoryPressure", status="Unknown", reason="Mine"),
        NodeCondition(type="Other", status="True", reason="Theirs"),
        NodeCondition(type="DiskPressure", status="Unknown", reason="Mine"),
        NodeCondition(type="PIDPressure", status="Unknown", reason="Mine"),
    )
    before = node()
    before = change(before, conditions=(*before.status.conditions, *kept))
    found = lifecycle.lose(before, NOW).status.conditions
    assert found == (lost(node()).status.conditions[0], *kept)
    assert lifecycle.lose(change(before, conditions=found), NOW) is None


def test_node_4_a_zone_that_is_disrupted_evicts_nobody():
    labels = {"topology.kubernetes.io/zone": "z"}
    before = node(ready="False", labels=labels)
    others = [node(f"m{n}", ready="True" if n == 0 else "False", labels=labels) for n in range(3)]
    plan = reconciled(before, *others, node("well"), memory=remembered())
    added = taint(NOT_READY, "NoSchedule", STAMP)
    same(plan, [[update(before, added)]], remembered(), NOW + lifecycle.GRACE)
    assert lifecycle.has_no_execute(NodeSpec(taints=(taint("k", "NoExecute"),)), "k")
    for key, effect in (("k", "NoSchedule"), ("l", "NoExecute")):
        assert not lifecycle.has_no_execute(NodeSpec(taints=(taint(key, effect),)), "k")


def test_node_9_the_pods_of_a_node_are_indexed():
    index = lifecycle.pods_by_node()
    assert (index.name, index.resource) == ("node", PODS)
    assert tuple(index.values(bound())) == ("n",) and tuple(index.values(pod("p"))) == ()
    assert index.part(bound()) == "n"


def test_node_7_a_node_that_is_gone_is_forgotten():
    other = {"m": health(uid="uid-m")}
    memory = Memory(Map({"n": health(), **other}), Map({"/": 3}), Map({"n": 5, "m": 6}))
    same(reconciled(memory=memory), [], Memory(Map(other), Map({"/": 3}), Map({"m": 6})), None)
    memory = Memory(Map({"n": health()}))
    same(reconciled(memory=memory), [], Memory(), None)
    assert reconciled(memory=Memory(Map(other))) == NOTHING


@pytest.mark.parametrize("renewed", [None, NOW])
@pytest.mark.parametrize("has_lease", [True, False])
@pytest.mark.parametrize("ready", [None, "True"])
def test_node_1_the_heartbeats_of_a_node(renewed, has_lease, ready):
    spec = LeaseSpec(renew_time=None if renewed is None else micro_timestamp(renewed))
    lease = Lease(metadata=ObjectMeta(name="n"), spec=spec) if has_lease else None
    sign = (spec.renew_time if has_lease else None, BEAT if ready else None)
    before = node(ready=ready)
    grace = lifecycle.GRACE if any(sign) else lifecycle.STARTUP_GRACE
    assert lifecycle.observe(None, before, lease, NOW) == Health("uid-n", sign, NOW, grace)
    other = Health("uid-m", sign, 7, 8)
    assert lifecycle.observe(other, before, lease, NOW) == Health("uid-n", sign, NOW, grace)
    known = Health("uid-n", sign, 7, 8)
    assert lifecycle.observe(known, before, lease, NOW) is known
    changed = Health("uid-n", ("x", "y"), 7, 8)
    assert lifecycle.observe(changed, before, lease, NOW) == Health(
        "uid-n", sign, NOW, lifecycle.GRACE
    )


def test_node_1_a_lease_is_that_of_the_node():
    lease = Lease(
        metadata=ObjectMeta(name="n", namespace="kube-node-lease"), spec=LeaseSpec(renew_time="x")
    )
    plan = reconciled(node(), lease)
    assert plan.memory.nodes["n"].sign == ("x", BEAT)
    keys = interest(CONTROLLER, LEASES)
    elsewhere = replace(lease, metadata=ObjectMeta(name="n", namespace="default"))
    view = view_of(CONTROLLER)
    for old, new in ((None, lease), (lease, None), (lease, lease)):
        assert keys(view, old, new) == ("n",)
    for old, new in ((None, elsewhere), (elsewhere, None), (lease, elsewhere)):
        assert keys(view, old, new) == ()


def test_node_2_a_ready_pod_makes_its_unknown_node_due():
    keys = interest(CONTROLLER, PODS)
    for status, is_due in (("Unknown", True), ("False", False), ("True", False)):
        view = view_of(CONTROLLER, node(ready=status))
        assert keys(view, None, bound(conditions=READY)) == (("n",) if is_due else ())
        assert keys(view, None, bound()) == keys(view, bound(conditions=READY), None) == ()
        assert keys(view, None, pod("q", conditions=READY)) == ()
        assert keys(view, None, pod("q", node_name="m", conditions=READY)) == ()


def test_node_4_the_nodes_of_zones_are_counted():
    def counted(*changes: tuple[Any, Any]) -> dict[str, tuple[int, int]]:
        zones = lifecycle.Zones()
        for old, new in changes:
            zones = lifecycle.fold_zones(zones, NODES, old, new)
        return dict(zones.counts)

    good, bad = node(), node(ready="False")
    there = node("m", labels={"topology.kubernetes.io/zone": "z"})
    assert counted((None, good)) == {"/": (1, 1)} and counted((None, bad)) == {"/": (1, 0)}
    assert counted((None, good), (good, bad)) == {"/": (1, 0)}
    assert counted((None, bad), (bad, good), (None, there)) == {"/": (1, 1), "/z": (1, 1)}
    assert counted((None, good), (None, there), (there, None)) == {"/": (1, 1), "/z": (0, 0)}


# --- evictions


EVICTOR = TaintEviction()
OUT = taint("k", "NoExecute")


def evicted(*objects: Any, since: Any = None) -> Plan:
    return EVICTOR.reconcile(view_of(EVICTOR, *objects), "default/p", NOW, Local(Map(since or {})))


def tolerating(seconds: Any) -> Any:
    one = Toleration(key="k", operator="Exists", effect="NoExecute", toleration_seconds=seconds)
    return bound(tolerations=(one,))


def target(reason: str, words: str) -> dict[str, Any]:
    return {
        "type": "DisruptionTarget",
        "status": "True",
        "reason": reason,
        "message": words,
        "lastTransitionTime": STAMP,
        "observedGeneration": 4,
    }


def requests_of(plan: Plan) -> list[list[Request]]:
    assert all(one.because for wave in plan.waves for one in wave)
    return [[replace(one, because="") for one in wave] for wave in plan.waves]


@pytest.mark.parametrize("since", [None, {"uid-p": NOW - 5 * SECOND}, {"uid-q": 3}])
def test_node_8_an_eviction(since):
    there, mine = node(taints=(OUT, taint("x", "NoSchedule"))), bound()
    plan = evicted(there, mine, since=since)
    words = "Taint manager: deleting due to NoExecute taint"
    assert requests_of(plan) == [
        [Request("update", NODES, "", "n", "status", body=there)],
        [patch_status(mine, {"conditions": [target("DeletionByTaintManager", words)]}, "")],
        [delete_pod(mine, "")],
    ]
    assert plan.notes == (Note(mine, "TaintManagerEviction", "Marking for deletion Pod default/p"),)
    assert plan.memory == Map({"uid-q": 3} if since == {"uid-q": 3} else {})


def test_node_8_node_9_when_a_pod_is_evicted():
    there = node(taints=(OUT,))
    soon = evicted(there, tolerating(7))
    assert (soon.waves, soon.wake_at, soon.memory) == ((), NOW + 7 * SECOND, Map({"uid-p": NOW}))
    known = {"uid-p": NOW - 3 * SECOND}
    soon = evicted(there, tolerating(7), since=known)
    assert (soon.waves, soon.wake_at, soon.memory) == ((), NOW + 4 * SECOND, Map(known))
    assert len(evicted(there, tolerating(3), since=known).waves) == 3
    assert evicted(there, tolerating(None)) == NOTHING
    for objects in ((there, tolerating(None)), (node(), bound()), (bound(),)):
        assert evicted(*objects, since={**known, "uid-q": 1}) == Plan(memory=Map({"uid-q": 1}))
        assert evicted(*objects) == NOTHING
    gone = bound(deletion_timestamp=BEAT)
    for objects in ((there,), (there, gone), (there, pod("p"))):
        assert evicted(*objects, since=known) == NOTHING
    two = node(taints=(OUT, taint("l", "NoExecute", timestamp(NOW - 2 * SECOND))))
    several = bound(tolerations=(
        Toleration(key="k", operator="Exists", toleration_seconds=9),
        Toleration(key="l", operator="Exists", toleration_seconds=6),
    ))  # fmt: skip
    assert evicted(two, several).wake_at == NOW + 4 * SECOND


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [([], 0), ([None], None), ([5], 5), ([5, None], 5), ([9, 5], 5), ([0], 0), ([-3], 0), ([1], 1)],
)
@pytest.mark.parametrize("added", [None, 30])
def test_node_8_the_shortest_toleration_decides(seconds, expected, added):
    one = taint("k", "NoExecute", None if added is None else ago(added))
    given = [Toleration(key="k", operator="Exists", toleration_seconds=each) for each in seconds]
    other = Toleration(key="other", operator="Exists", toleration_seconds=1)
    start = NOW - 7 * SECOND if added is None else NOW - added * SECOND
    found = end_of(one, (other, *given), NOW - 7 * SECOND)
    assert found == (None if expected is None else start + expected * SECOND)


def test_node_8_what_makes_a_pod_due():
    of_nodes, of_pods = interest(EVICTOR, NODES), interest(EVICTOR, PODS)
    good, bad = node(taints=(taint("x", "NoSchedule"),)), node(taints=(OUT,))
    worse = node(taints=(OUT, taint("l", "NoExecute")))
    view = view_of(EVICTOR, bad, bound(), pod("elsewhere", node_name="m"), pod("free"))
    for old, new in ((None, bad), (bad, None), (good, bad), (bad, good), (bad, worse)):
        assert list(of_nodes(view, old, new)) == ["default/p"]
    for old, new in ((None, good), (good, None), (bad, bad), (good, node()), (node(), good)):
        assert list(of_nodes(view, old, new)) == []
    for old, new in ((None, bound()), (bound(), None), (bound(), bound())):
        assert list(of_pods(view, old, new)) == ["default/p"]
    for one in (pod("free"), pod("elsewhere", node_name="m")):
        assert list(of_pods(view, None, one)) == []
    assert list(of_pods(view_of(EVICTOR, good), None, bound())) == []


# --- pods without their nodes


COLLECTOR = PodGarbageCollector()
WAIT = pod_gc.QUARANTINE


def collected(*objects: Any, key: str = "default/p", missing: Any = None, gone: Any = None) -> Plan:
    memory = pod_gc.Memory(Map(missing or {}), Map(gone or {}))
    return COLLECTOR.reconcile(view_of(COLLECTOR, *objects), key, NOW, Local(memory))


def memory_of(plan: Plan) -> tuple[Any, Any]:
    return dict(plan.memory.missing), dict(plan.memory.gone)


def test_podgc_1_podgc_2_a_pod_whose_node_is_gone():
    other = {"m": 3}
    first = collected(bound(), missing=other)
    assert (first.waves, first.queries, first.wake_at) == ((), (), NOW + WAIT)
    assert memory_of(first) == ({**other, "n": NOW}, {})
    later = collected(bound(), missing={"n": NOW - WAIT + 1}, gone={"n": True})
    assert (later.waves, later.queries, later.wake_at) == ((), (), NOW + 1)
    due = {"n": NOW - WAIT}
    ask = collected(bound(), missing=due, gone={"m": True})
    [query] = ask.queries
    assert replace(query, because="") == Request("get", NODES, "", "n") and query.because
    assert (ask.waves, ask.wake_at, memory_of(ask)) == ((), NOW + WAIT, (due, {"m": True}))
    words = "PodGC: node no longer exists"
    failed = {"phase": "Failed", "conditions": [target("DeletionByPodGC", words)]}
    mine, done = bound(), bound(phase="Succeeded")
    plan = collected(mine, missing=due, gone={"n": True})
    assert requests_of(plan) == [[patch_status(mine, failed, "")], [delete_pod(mine, "", 0)]]
    assert memory_of(plan) == (due, {"n": True}) and plan.wake_at is None
    assert requests_of(collected(done, missing=due, gone={"n": True})) == [
        [delete_pod(done, "", 0)]
    ]


def test_podgc_1_podgc_4_other_pods():
    due = {"missing": {"n": NOW - WAIT}, "gone": {"n": True}}
    leaving = pod("p", deletion_timestamp=BEAT)
    [[request]] = requests_of(collected(leaving))
    assert request == patch_status(leaving, {"phase": "Failed"}, "")
    ended = pod("p", deletion_timestamp=BEAT, phase="Failed")
    for objects in ((), (pod("p"),), (bound(), node()), (ended,)):
        assert collected(*objects, **due) == NOTHING


@pytest.mark.parametrize("code", [None, 200, 404, 500])
@pytest.mark.parametrize("is_missing", [True, False])
def test_podgc_2_the_answer_about_a_node(code, is_missing):
    given = {"m": 1, **({"n": 2} if is_missing else {})}
    memory = pod_gc.Memory(Map(given), Map({"m": True}))
    request = Request("get", NODES, "", "n")
    response = None if code is None else Response(code, None)
    after, keys = COLLECTOR.answered(memory, "default/p", request, response, NOW)
    assert tuple(keys) == (("default/p",) if code == 404 else ())
    found = dict(after.missing), dict(after.gone)
    kept = given if code in (None, 404) else {"m": 1}
    assert found == (kept, {"m": True, **({"n": True} if code == 404 else {})})


@pytest.mark.parametrize(
    ("missing", "gone"), [({"n": 1}, {"n": True}), ({"n": 1}, {}), ({}, {"n": True}), ({}, {})]
)
def test_podgc_2_a_node_that_is_back(missing, gone):
    others = {"missing": {**missing, "m": 1}, "gone": {**gone, "m": True}}
    key = pod_gc.BACK + "n"
    plan = collected(node(), key=key, **others)
    if missing or gone:
        assert memory_of(plan) == ({"m": 1}, {"m": True}) and not plan.waves
    else:
        assert plan == NOTHING
    assert collected(key=key, **others) == NOTHING


def test_podgc_3_too_many_finished_pods(monkeypatch):
    monkeypatch.setattr(pod_gc, "FINISHED_MAX", 2)
    ages = {"a": 1, "b": 3, "c": 3, "d": 2}
    finished = [
        pod(name, phase="Failed", creation_timestamp=ago(age)) for name, age in ages.items()
    ]
    others = [pod("e", creation_timestamp=ago(9))]
    plan = collected(*finished, *others, key=pod_gc.TOO_MANY)
    [wave] = requests_of(plan)
    assert wave == [delete_pod(finished[1], "", 0), delete_pod(finished[2], "", 0)]
    assert collected(*finished[:2], *others, key=pod_gc.TOO_MANY) == NOTHING
    [[one]] = requests_of(collected(*finished[:3], key=pod_gc.TOO_MANY))
    assert one == delete_pod(finished[1], "", 0)
    twins = [pod(name, phase="Failed") for name in "hgfedcba"]
    wave = requests_of(collected(*twins, key=pod_gc.TOO_MANY))[0]
    assert [one.name for one in wave] == ["a", "b", "c", "d", "e", "f"]
    keys = interest(COLLECTOR, PODS)
    assert keys(view_of(COLLECTOR, *finished[:3]), None, pod("x")) == [pod_gc.TOO_MANY]
    assert keys(view_of(COLLECTOR, *finished[:2]), None, pod("x")) == []


def test_podgc_3_the_finished_pods_are_known():
    def folded(*steps: tuple[Any, Any]) -> dict[str, str]:
        found: Any = Map()
        for old, new in steps:
            found = pod_gc.fold_finished(found, PODS, old, new)
        return dict(found)

    runs, ends = pod("p"), pod("p", phase="Succeeded", creation_timestamp=ago(9))
    undated = pod("p", phase="Failed", creation_timestamp=None)
    assert folded((None, runs)) == folded((None, runs), (runs, None)) == {}
    assert folded((None, ends)) == folded((None, runs), (runs, ends)) == {"default/p": ago(9)}
    assert folded((None, ends), (ends, ends)) == {"default/p": ago(9)}
    assert folded((None, ends), (ends, runs)) == folded((None, ends), (ends, None)) == {}
    assert folded((None, undated)) == {"default/p": ""}


def test_podgc_1_what_makes_a_pod_due():
    of_pods, of_nodes = interest(COLLECTOR, PODS), interest(COLLECTOR, NODES)
    view = view_of(COLLECTOR, node("m"), bound(), pod("other", node_name="m"))
    leaving = pod("p", deletion_timestamp=BEAT)
    assert of_pods(view, None, bound()) == of_pods(view, None, leaving) == ["default/p"]
    for one in (pod("p", node_name="m"), pod("p"), change(leaving, phase="Failed")):
        assert of_pods(view, None, one) == []
    assert of_pods(view, bound(), None) == []
    assert of_nodes(view, None, node()) == ["is back: n"]
    assert list(of_nodes(view, node(), None)) == ["default/p"]
    assert list(of_nodes(view, node(), node())) == []
