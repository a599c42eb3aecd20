"""Nodes that go silent (spec/workloads/node.md): heartbeats, taints, evictions, and pods whose node
is gone."""

from hypothesis import given
from hypothesis import strategies as st
from immutables import Map
from msgspec.structs import replace
from workload_helpers import NOW, pod, sent, view_of

from refk8s.core.api.coordination_v1 import Lease, LeaseSpec
from refk8s.core.api.core_v1 import Node, NodeCondition, NodeSpec, NodeStatus, Taint, Toleration
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.request import Response
from refk8s.core.api.resources import NODES, PODS
from refk8s.core.context import SECOND, micro_timestamp, timestamp
from refk8s.core.controllers.node_lifecycle import (
    EVICTION_PAUSE,
    GRACE,
    NOT_READY,
    STARTUP_GRACE,
    TAINTS,
    UNREACHABLE,
    UNREADY_PAUSE,
    UNSCHEDULABLE,
    Memory,
    NodeLifecycle,
    Zones,
    eviction_pause,
    fold_zones,
)
from refk8s.core.controllers.pod_gc import FINISHED_MAX, QUARANTINE, TOO_MANY, PodGarbageCollector
from refk8s.core.controllers.taint_eviction import TaintEviction, end_of
from refk8s.core.loop.plan import Local


def node(
    name="n",
    ready="True",
    taints=(),
    unschedulable=None,
    conditions=(),
    heartbeat="2026-01-01T00:00:00Z",
) -> Node:
    found = tuple(NodeCondition(type=t, status=s) for t, s in conditions)
    if ready:
        found = (NodeCondition(type="Ready", status=ready, last_heartbeat_time=heartbeat), *found)
    spec = NodeSpec(taints=tuple(taints) or None, unschedulable=unschedulable)
    return Node(
        metadata=ObjectMeta(name=name, uid=f"uid-{name}"),
        spec=spec,
        status=NodeStatus(conditions=found),
    )


def lease(at: int, name="n") -> Lease:
    return Lease(
        metadata=ObjectMeta(name=name, namespace="kube-node-lease"),
        spec=LeaseSpec(renew_time=micro_timestamp(at)),
    )


WELL = node("well")


def look(now, *objects, memory=None, key="n"):
    controller = NodeLifecycle()
    return controller.reconcile(
        view_of(controller, *objects), key, now, Local(memory if memory is not None else Memory())
    )


def taints_of(plan) -> list[tuple[str, str]]:
    [request] = sent(plan, "update", NODES)
    return sorted((taint.key, taint.effect) for taint in request.body.spec.taints or ())


@given(st.lists(st.integers(1, 120), min_size=1, max_size=8), st.integers(-4000, 4000))
def test_node_1_node_7_a_node_is_lost_exactly_a_grace_after_the_last_change_that_was_seen(
    pauses, skew
):
    """NODE-1, NODE-7: Whatever time the node itself writes; and after a (re)start nobody is lost
    before a whole grace."""
    now, memory, changed_at, seen_any = NOW, Memory(), NOW, 0
    quiet_until = 0  # Whoever denies it is contradicted once in so long (NODE-2).
    renewals = [0]
    for pause in pauses:
        renewed = pause % 2 == 0
        renewals.append(renewals[-1] + renewed)
        plan = look(
            now, node(), WELL, lease(NOW + skew * SECOND + renewals[-1] * SECOND), memory=memory
        )
        if renewed or not seen_any:
            changed_at = now
        lost = bool(sent(plan, "update", NODES, "status"))
        assert lost == (now >= max(changed_at + GRACE, quiet_until))
        quiet_until = now + UNREADY_PAUSE if lost else quiet_until
        memory, seen_any = plan.memory, 1
        now += pause * SECOND


def test_node_2_a_silent_node_is_unknown_and_its_pods_are_not_ready():
    mine, other = pod("mine", ready=True, node_name="n"), pod("other", ready=True, node_name="well")
    memory = look(NOW, node(), WELL, mine, other).memory
    plan = look(NOW + GRACE, node(), WELL, mine, other, memory=memory)
    [status] = sent(plan, "update", NODES, "status")
    assert {c.type: c.status for c in status.body.status.conditions} == dict.fromkeys(
        ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure"), "Unknown"
    )
    assert [request.name for request in sent(plan, "patch", PODS, "status")] == ["mine"]
    never = look(NOW, Node(metadata=ObjectMeta(name="n", uid="uid-n")), WELL).memory
    assert not sent(
        look(NOW + GRACE, Node(metadata=ObjectMeta(name="n", uid="uid-n")), WELL, memory=never),
        "update",
        NODES,
        "status",
    )
    assert sent(
        look(
            NOW + STARTUP_GRACE,
            Node(metadata=ObjectMeta(name="n", uid="uid-n")),
            WELL,
            memory=never,
        ),
        "update",
        NODES,
        "status",
    )


@given(
    st.lists(st.sampled_from(sorted(TAINTS)), unique_by=lambda pair: pair[0]),
    st.booleans(),
    st.booleans(),
)
def test_node_3_conditions_are_taints_and_others_are_left_alone(conditions, cordoned, stale):
    foreign = Taint(key="example.com/mine", value="x", effect="NoSchedule")
    old = [Taint(key=key, effect="NoSchedule") for key in sorted(TAINTS.values())] if stale else []
    subject = node(
        ready="", taints=[foreign, *old], unschedulable=cordoned or None, conditions=conditions
    )
    plan = look(NOW, subject, WELL)
    wanted = {("example.com/mine", "NoSchedule")} | {
        (TAINTS[pair], "NoSchedule") for pair in conditions
    }
    wanted |= {(UNSCHEDULABLE, "NoSchedule")} if cordoned else set()
    found = (
        taints_of(plan)
        if plan.waves
        else sorted((t.key, t.effect) for t in subject.spec.taints or ())
    )
    assert set(found) - {(NOT_READY, "NoExecute"), (UNREACHABLE, "NoExecute")} == wanted


def test_node_4_nodes_are_emptied_one_after_another():
    sick = [node(f"n{i}", ready="False") for i in range(3)]
    others = [node(f"w{i}") for i in range(7)]
    now, memory, at = NOW, Memory(), []
    for _ in range(40):
        for subject in list(sick):
            plan = look(now, *sick, *others, memory=memory, key=subject.metadata.name)
            memory = plan.memory
            if plan.waves and (NOT_READY, "NoExecute") in taints_of(plan):
                at.append((now - NOW) // SECOND)
                [request] = sent(plan, "update", NODES)
                sick[sick.index(subject)] = request.body
        now += SECOND
    assert at == [0, EVICTION_PAUSE // SECOND, 2 * EVICTION_PAUSE // SECOND]


@given(st.lists(st.tuples(st.sampled_from(["", "a"]), st.booleans()), max_size=8))
def test_node_6_nobody_is_evicted_when_nobody_is_well(nodes):
    zones = Zones()
    for number, (zone, ready) in enumerate(nodes):
        labels = {"topology.kubernetes.io/zone": zone}
        subject = node(f"n{number}", ready="True" if ready else "False")
        zones = fold_zones(
            zones, NODES, None, replace(subject, metadata=replace(subject.metadata, labels=labels))
        )
    pause = eviction_pause(zones.counts, "/a")
    if not any(ready for _, ready in nodes):
        assert pause is None
    here = [ready for zone, ready in nodes if zone == "a"]
    if any(ready for _, ready in nodes) and here.count(False) <= 2:
        assert pause == EVICTION_PAUSE


def test_node_5_node_6_the_noexecute_taint_goes_when_the_node_is_well_or_nobody_is():
    out = [Taint(key=NOT_READY, effect="NoExecute"), Taint(key=UNREACHABLE, effect="NoExecute")]
    assert taints_of(look(NOW, node(taints=out), WELL)) == []
    alone = look(NOW, node(ready="False", taints=out))
    assert taints_of(alone) == [(NOT_READY, "NoSchedule")]


tolerations = st.lists(
    st.builds(
        Toleration,
        key=st.sampled_from([None, "k", "other"]),
        operator=st.sampled_from([None, "Exists", "Equal"]),
        value=st.sampled_from([None, "v", "w"]),
        effect=st.sampled_from([None, "NoExecute", "NoSchedule"]),
        toleration_seconds=st.one_of(st.none(), st.integers(-5, 600)),
    ),
    max_size=4,
)


@given(tolerations)
def test_node_8_a_pod_goes_after_the_shortest_toleration_that_matches(found):
    taint = Taint(key="k", value="v", effect="NoExecute")
    matching = [
        t for t in found
        if t.effect in (None, "NoExecute") and t.key in (None, "k")
        and (t.operator == "Exists" or (t.value or "") == "v")
    ]  # fmt: skip
    end = end_of(taint, tuple(found), NOW)
    limits = [max(0, t.toleration_seconds) for t in matching if t.toleration_seconds is not None]
    assert end == (NOW if not matching else NOW + min(limits) * SECOND if limits else None)


def test_node_8_node_9_a_pod_is_told_and_deleted_in_time_and_spared_when_the_taint_goes():
    """NODE-8, NODE-9."""
    controller = TaintEviction()
    tainted = node(taints=[Taint(key="k", effect="NoExecute", time_added=timestamp(NOW))])
    subject = pod(
        "p",
        node_name="n",
        tolerations=(Toleration(key="k", operator="Exists", toleration_seconds=60),),
    )
    early = controller.reconcile(
        view_of(controller, subject, tainted), "default/p", NOW, Local(Map())
    )
    assert early.wake_at == NOW + 60 * SECOND and not early.waves
    late = controller.reconcile(
        view_of(controller, subject, tainted), "default/p", NOW + 60 * SECOND, Local(early.memory)
    )
    assert [wave[0].verb for wave in late.waves] == ["update", "patch", "delete"]
    assert sent(late, "delete", PODS)[0].body.preconditions.uid == subject.metadata.uid
    spared = controller.reconcile(
        view_of(controller, subject, node()), "default/p", NOW + 60 * SECOND, Local(early.memory)
    )
    assert not spared.waves


def test_podgc_1_podgc_2_a_pod_is_forced_out_only_when_its_node_was_gone_for_long_and_is_really_gone():
    """PODGC-1, PODGC-2."""
    controller = PodGarbageCollector()
    subject = pod("p", node_name="gone")
    view = view_of(controller, subject)
    first = controller.reconcile(view, "default/p", NOW, Local(controller.start_memory(NOW)))
    assert not first.waves and not first.queries and first.wake_at == NOW + QUARANTINE
    second = controller.reconcile(view, "default/p", NOW + QUARANTINE, Local(first.memory))
    assert [request.name for request in second.queries] == ["gone"] and not second.waves
    there, _ = controller.answered(
        second.memory, "default/p", second.queries[0], Response(200, node("gone")), NOW
    )
    assert not controller.reconcile(view, "default/p", NOW + QUARANTINE, Local(there)).waves
    lost, _ = controller.answered(
        second.memory, "default/p", second.queries[0], Response(404, None), NOW
    )
    third = controller.reconcile(view, "default/p", NOW + QUARANTINE, Local(lost))
    assert [wave[0].verb for wave in third.waves] == ["patch", "delete"]
    assert sent(third, "delete", PODS)[0].body.grace_period_seconds == 0
    assert not controller.reconcile(
        view_of(controller, subject, node("gone")), "default/p", NOW, Local(lost)
    ).waves


def test_podgc_3_the_oldest_of_too_many_finished_pods_go():
    controller = PodGarbageCollector()
    finished = [
        pod(f"p{i:05}", phase="Succeeded", creation_timestamp=timestamp(NOW + i * SECOND))
        for i in range(FINISHED_MAX + 2)
    ]
    plan = controller.reconcile(
        view_of(controller, *finished), TOO_MANY, NOW, Local(controller.start_memory(NOW))
    )
    assert [request.name for request in sent(plan, "delete")] == ["p00000", "p00001"]
