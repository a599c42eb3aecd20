"""A silent node's pods (NODE-2): whatever crashes and is lost on the way, none of them stays
ready."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from runs import choices, run, settle
from workload_helpers import create, make_ready, new_cluster, nothing_wrong, patch, pod, stored

from refk8s.core.api.core_v1 import Node, NodeCondition, NodeStatus
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.resources import NODES, PODS
from refk8s.core.cluster.step import start_all
from refk8s.core.context import MILLISECOND, SECOND
from refk8s.core.controllers.node_lifecycle import (
    GRACE,
    STARTUP_GRACE,
    UNREADY_PAUSE,
    NodeLifecycle,
)
from refk8s.core.pods.status import ready_condition
from refk8s.core.value import evolve

WAIT = (GRACE + STARTUP_GRACE) // SECOND


@given(st.integers(1, 3), choices, st.booleans())
def test_node_2_no_pod_of_a_silent_node_stays_ready_whatever_crashes_on_the_way(
    count, drawn, says_so_later
):
    conditions = tuple(
        NodeCondition(type=type, status="True", last_heartbeat_time="2026-01-01T00:00:00Z")
        for type in ("Ready",)
    )
    names = [f"p{number}" for number in range(count)]
    cluster = create(
        new_cluster(NodeLifecycle()),
        Node(metadata=ObjectMeta(name="n"), status=NodeStatus(conditions=conditions)),
    )
    for name in names:
        cluster = make_ready(create(cluster, pod(name, node_name="n")), name)
    cluster = settle(start_all(cluster), nothing_wrong, seconds_max=GRACE // SECOND - 1)
    cluster = run(cluster, [(0, 0), *drawn], nothing_wrong, ["crash", "lose", "cut"])
    cluster = settle(cluster, nothing_wrong, seconds_max=WAIT)
    if says_so_later:  # A status that was on its way when the node went silent arrives only now.
        cluster = settle(make_ready(cluster, names[0]), nothing_wrong, seconds_max=5)
    [node] = stored(cluster, NODES)
    assert [c.status for c in node.status.conditions if c.type == "Ready"] == ["Unknown"]
    assert [p.metadata.name for p in stored(cluster, PODS) if ready_condition(p)] == []


@given(st.lists(st.integers(0, 3_000), min_size=1, max_size=60))
def test_node_2_a_kubelet_that_says_otherwise_is_contradicted_at_a_measured_pace(pauses):
    """Found by simulation: a kubelet was back, its node's heartbeat was not due yet, and both wrote
    the pod as fast as they could."""
    conditions = (
        NodeCondition(type="Ready", status="True", last_heartbeat_time="2026-01-01T00:00:00Z"),
    )
    cluster = create(
        new_cluster(NodeLifecycle()),
        Node(metadata=ObjectMeta(name="n"), status=NodeStatus(conditions=conditions)),
    )
    cluster = settle(
        start_all(make_ready(create(cluster, pod("p", node_name="n")), "p")),
        nothing_wrong,
        seconds_max=WAIT,
    )
    contradicted = []
    for pause in pauses:
        for _ in range(3):  # it insists
            cluster = make_ready(cluster, "p")
            cluster = settle(cluster, nothing_wrong, seconds_max=0)
            [there] = stored(cluster, PODS)
            if not ready_condition(there):
                contradicted.append(cluster.now)
        cluster = evolve(cluster, now=cluster.now + pause * MILLISECOND)
    assert all(later - earlier >= UNREADY_PAUSE for earlier, later in pairwise(contradicted))
    [there] = stored(settle(make_ready(cluster, "p"), nothing_wrong, seconds_max=6), PODS)
    assert not ready_condition(there)


@given(st.integers(1, 6))
def test_node_2_a_node_that_denies_its_silence_is_contradicted_at_a_measured_pace_too(times):
    """Found by simulation: the controller's clock jumped, and a kubelet denied its silence within
    the second of its last heartbeat."""
    well = NodeCondition(type="Ready", status="True", last_heartbeat_time="2026-01-01T00:00:00Z")
    cluster = create(
        new_cluster(NodeLifecycle()),
        Node(metadata=ObjectMeta(name="n"), status=NodeStatus(conditions=(well,))),
    )
    cluster = settle(start_all(cluster), nothing_wrong, seconds_max=WAIT)
    lost = 0
    for _ in range(times):
        condition = {"type": "Ready", "status": "True", "lastHeartbeatTime": "2026-01-01T00:00:00Z"}
        cluster = settle(
            patch(cluster, NODES, "n", {"status": {"conditions": [condition]}}, "status"),
            nothing_wrong,
            seconds_max=0,
        )
        [node] = stored(cluster, NODES)
        lost += [c.status for c in node.status.conditions if c.type == "Ready"] == ["Unknown"]
    assert lost <= 1
