"""Node lifecycle: a node without heartbeat becomes Unknown, and conditions become taints. Rules
NODE-1 to NODE-7 (spec/workloads/node.md).

| condition | taint key | effects |
|---|---|---|
| Ready False | node.kubernetes.io/not-ready | NoSchedule, NoExecute |
| Ready Unknown | node.kubernetes.io/unreachable | NoSchedule, NoExecute |
| MemoryPressure, DiskPressure, PIDPressure True | node.kubernetes.io/memory-pressure and so on | NoSchedule |
| NetworkUnavailable True | node.kubernetes.io/network-unavailable | NoSchedule |
| spec.unschedulable | node.kubernetes.io/unschedulable | NoSchedule |

The time without heartbeat is measured on this controller's clock, from the last *change* of the
heartbeat that it received, because clocks of nodes may be wrong. After a start of the controller
every node has the full grace period. Source: Kubernetes documentation, "Nodes" (heartbeats, node
controller), "Taints and Tolerations" (taint nodes by condition). Left out: cloud providers;
exclusion of nodes being removed from load balancers.
"""

from collections.abc import Iterable
from operator import attrgetter
from typing import Any

from immutables import Map
from msgspec.structs import replace

from refk8s.core.api.conditions import get_condition
from refk8s.core.api.core_v1 import Node, NodeCondition, NodeSpec, Pod, Taint
from refk8s.core.api.request import Request
from refk8s.core.api.resources import LEASES, NODES, PODS
from refk8s.core.context import SECOND, Instant, timestamp
from refk8s.core.loop.plan import NOTHING, Key, Local, Note, Plan
from refk8s.core.loop.reconciler import Interest, Reconciler, own_key
from refk8s.core.loop.view import Fold, Index, View
from refk8s.core.pods.requests import patch_status
from refk8s.core.pods.status import is_ready
from refk8s.core.pods.tolerations import NO_EXECUTE, NO_SCHEDULE
from refk8s.core.value import Value, evolve, field

GRACE: Instant = 50 * SECOND
STARTUP_GRACE: Instant = 60 * SECOND
# between the NoExecute taints of two nodes of a zone (NODE-4)
EVICTION_PAUSE: Instant = 10 * SECOND
EVICTION_PAUSE_SLOW: Instant = 100 * SECOND  # in a large zone that is partly disrupted
# between two writes that overwrite the reports of one kubelet (NODE-2)
UNREADY_PAUSE: Instant = 5 * SECOND
UNHEALTHY_SHARE = 0.55  # share of unready nodes from which a zone is partly disrupted
LARGE_ZONE_NODES = 50  # in a partly disrupted zone of at most this size, no node gets the taint
LEASE_NAMESPACE = "kube-node-lease"
ZONE_LABELS = ("topology.kubernetes.io/region", "topology.kubernetes.io/zone")

NOT_READY, UNREACHABLE = "node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"
UNSCHEDULABLE = "node.kubernetes.io/unschedulable"

TAINTS: dict[tuple[str, str], str] = {
    ("Ready", "False"): NOT_READY,
    ("Ready", "Unknown"): UNREACHABLE,
    ("MemoryPressure", "True"): "node.kubernetes.io/memory-pressure",
    ("DiskPressure", "True"): "node.kubernetes.io/disk-pressure",
    ("PIDPressure", "True"): "node.kubernetes.io/pid-pressure",
    ("NetworkUnavailable", "True"): "node.kubernetes.io/network-unavailable",
}
OURS = {*TAINTS.values(), UNSCHEDULABLE}
WATCHED_CONDITIONS = ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure")


class Health(Value, frozen=True):
    """The last heartbeat of a node, and when this controller received it."""

    uid: str
    sign: tuple[str | None, str | None]  # (the Lease's renewTime, the heartbeat of Ready)
    seen: Instant
    grace: Instant


class Memory(Value, frozen=True, eq=False):
    nodes: Map[Key, Health] = field(default_factory=Map)
    evict_next: Map[str, Instant] = field(default_factory=Map)  # by zone
    unready_next: Map[Key, Instant] = field(default_factory=Map)  # by node


class Zones(Value, frozen=True, eq=False):
    """How many nodes of each zone there are, and how many of them are ready."""

    counts: Map[str, tuple[int, int]] = field(default_factory=Map)


def zone_of(node: Node) -> str:
    labels = node.metadata.labels or {}
    return "/".join(labels.get(label, "") for label in ZONE_LABELS)


def ready_condition(node: Node) -> NodeCondition | None:
    return get_condition(node.status.conditions, "Ready")


def is_ready_node(node: Node) -> bool:
    condition = ready_condition(node)
    return condition is not None and condition.status == "True"


def fold_zones(zones: Zones, resource: Any, old: Node | None, new: Node | None) -> Zones:
    """The counts after one change. O(1)."""
    counts = zones.counts
    for node, sign in ((old, -1), (new, 1)):
        if node is not None:
            nodes, ready = counts.get(zone_of(node), (0, 0))
            counts = counts.set(zone_of(node), (nodes + sign, ready + sign * is_ready_node(node)))
    return Zones(counts)


def pods_by_node() -> Index:
    """Pods by the name of their node, under the name "node"."""
    return Index(
        "node",
        PODS,
        lambda pod: (pod.spec.node_name,) if pod.spec.node_name else (),
        attrgetter("spec.node_name"),
    )


def _node_of_lease(view: View, old: Any | None, new: Any | None) -> tuple[Key, ...]:
    lease = new if new is not None else old
    assert lease is not None
    return (lease.metadata.name,) if lease.metadata.namespace == LEASE_NAMESPACE else ()


def _unknown_node_of_pod(view: View, old: Pod | None, new: Pod | None) -> tuple[Key, ...]:
    """The node of a ready pod, if the node is Unknown (NODE-2)."""
    if new is None or not new.spec.node_name or not is_ready(new):
        return ()
    name = new.spec.node_name
    node = view.get(NODES, name)
    return (name,) if node is not None and _is_unknown(node) else ()


class NodeLifecycle(Reconciler):
    """Reconciles one node."""

    name = component = "node-controller"
    interests = (
        Interest(NODES, own_key),
        Interest(LEASES, _node_of_lease),
        Interest(PODS, _unknown_node_of_pod),
    )
    indexes = (pods_by_node(),)
    folds = (Fold("zones", (NODES,), Zones(), fold_zones),)

    def start_memory(self, now: Instant) -> Memory:
        return Memory()

    def reconcile(self, view: View, key: Key, now: Instant, local: Local) -> Plan:
        """Detect a lost node (NODE-1), set the taints of its conditions (NODE-3), and add NoExecute
        taints at a limited rate (NODE-4)."""
        # Observe
        memory: Memory = local.memory
        node: Node | None = view.get(NODES, key)
        if node is None:
            return Plan(memory=_forget(memory, key)) if key in memory.nodes else NOTHING
        lease = view.get(LEASES, f"{LEASE_NAMESPACE}/{key}")
        health = observe(memory.nodes.get(key), node, lease, now)
        memory = evolve(memory, nodes=memory.nodes.set(key, health))

        # Decide
        lost_at = max(health.seen + health.grace, memory.unready_next.get(key, 0))
        if now >= lost_at and (lost := lose(node, now)) is not None:
            return self._lose(view, node, lost, _note_overwrite(memory, key, now))
        ready = ready_condition(node)
        spec = node.spec
        taints = (
            *no_schedule_taints(node, now),
            *(t for t in spec.taints or () if not (t.key in OURS and t.effect == NO_SCHEDULE)),
        )
        wake_at = lost_at if now < lost_at else None
        is_unready = ready is not None and ready.status != "True"
        pause = eviction_pause(view.fold("zones").counts, zone_of(node))
        if is_unready and pause is not None:
            if not has_no_execute(spec, _key_of(ready)):
                next_at = memory.evict_next.get(zone_of(node), 0)
                if now >= next_at:
                    memory = evolve(
                        memory, evict_next=memory.evict_next.set(zone_of(node), now + pause)
                    )
                    taints = (
                        *without_no_execute(taints),
                        Taint(key=_key_of(ready), effect=NO_EXECUTE, time_added=timestamp(now)),
                    )
                else:
                    wake_at = next_at if wake_at is None else min(wake_at, next_at)
        elif ready is not None:
            taints = without_no_execute(taints)  # it is ready (NODE-5), or no node is (NODE-6)

        # Act
        pods = unready_pods(view, key) if _is_unknown(node) else ()
        if pods and now < (next_at := memory.unready_next.get(key, 0)):
            assert wake_at is not None  # it is not lost before that instant
            pods, wake_at = (), min(wake_at, next_at)
        elif pods:
            memory = _note_overwrite(memory, key, now)
        waves = (pods,) if pods else ()
        if _same(taints, spec.taints or ()):
            return Plan(waves, memory=memory, wake_at=wake_at)
        body = replace(node, spec=replace(spec, taints=tuple(taints) or None))
        words = ", ".join(f"{taint.key}:{taint.effect}" for taint in taints) or "none"
        request = Request(
            "update",
            NODES,
            "",
            key,
            body=body,
            because=f"the taints of its conditions are: {words}",
        )

        # Report
        return Plan(((request,), *waves), memory=memory, wake_at=wake_at)

    def _lose(self, view: View, node: Node, lost: Node, memory: Memory) -> Plan:
        """The node is lost: its conditions become Unknown, and its pods not ready (NODE-2).

        The conditions are written first. If the controller crashes after that, the next instance
        sees a node that is Unknown and updates the remaining pods.
        """
        name = node.metadata.name or ""
        status = Request(
            "update", NODES, "", name, "status", body=lost, because="its heartbeat has stopped"
        )
        pods = unready_pods(view, name)
        note = Note(node, "NodeNotReady", f"Node {name} status is now: NodeNotReady")
        return Plan(((status,), pods), notes=(note,), memory=memory)


def _forget(memory: Memory, node: Key) -> Memory:
    unready = memory.unready_next
    return evolve(
        memory,
        nodes=memory.nodes.delete(node),
        unready_next=unready.delete(node) if node in unready else unready,
    )


def _note_overwrite(memory: Memory, node: Key, now: Instant) -> Memory:
    """Note that the reports of this node's kubelet are overwritten now, and not again within 5 s: a
    running kubelet reports ready again at once (NODE-2)."""
    return evolve(memory, unready_next=memory.unready_next.set(node, now + UNREADY_PAUSE))


def observe(health: Health | None, node: Node, lease: Any | None, now: Instant) -> Health:
    """The health now; a changed heartbeat restarts the grace period (NODE-1)."""
    ready = ready_condition(node)
    sign = (
        lease.spec.renew_time if lease is not None else None,
        ready.last_heartbeat_time if ready else None,
    )
    uid = node.metadata.uid or ""
    if health is None or health.uid != uid:
        return Health(uid, sign, now, GRACE if any(sign) else STARTUP_GRACE)
    if sign == health.sign:
        return health
    return Health(uid, sign, now, GRACE)


def lose(node: Node, now: Instant) -> Node | None:
    """The node with Unknown conditions (NODE-2); None if they are Unknown already."""
    status = node.status
    known = {condition.type: condition for condition in status.conditions or ()}
    if all(type in known and known[type].status == "Unknown" for type in WATCHED_CONDITIONS):
        return None
    changed = []
    for condition in status.conditions or ():
        if condition.type in WATCHED_CONDITIONS and condition.status != "Unknown":
            words = "Kubelet stopped posting node status."
            condition = replace(
                condition,
                status="Unknown",
                reason="NodeStatusUnknown",
                message=words,
                last_transition_time=timestamp(now),
            )
        changed.append(condition)
    for type in WATCHED_CONDITIONS:
        if type not in known:
            words = "Kubelet never posted node status."
            created = node.metadata.creation_timestamp
            changed.append(
                NodeCondition(
                    type=type, status="Unknown", reason="NodeStatusNeverUpdated", message=words, last_heartbeat_time=created,
                    last_transition_time=timestamp(now),
                )
            )  # fmt: skip
    return replace(node, status=replace(status, conditions=tuple(changed)))


def no_schedule_taints(node: Node, now: Instant) -> list[Taint]:
    """The NoSchedule taints of the conditions; those that are new are added now (NODE-3)."""
    keys = [
        TAINTS[c.type, c.status]
        for c in node.status.conditions or ()
        if (c.type, c.status) in TAINTS
    ]
    if node.spec.unschedulable:
        keys.append(UNSCHEDULABLE)
    present = {taint.key: taint for taint in node.spec.taints or () if taint.effect == NO_SCHEDULE}
    return [
        present.get(key) or Taint(key=key, effect=NO_SCHEDULE, time_added=timestamp(now))
        for key in keys
    ]


def eviction_pause(counts: Map[str, tuple[int, int]], zone: str) -> Instant | None:
    """The time between the NoExecute taints of two nodes of the zone; None: no node gets it
    (NODE-4, NODE-6)."""
    if all(ready == 0 for nodes, ready in counts.values() if nodes):
        return None
    nodes, ready = counts.get(zone, (0, 0))
    unhealthy = nodes - ready
    if ready and unhealthy > 2 and unhealthy / nodes >= UNHEALTHY_SHARE:
        return EVICTION_PAUSE_SLOW if nodes > LARGE_ZONE_NODES else None
    return EVICTION_PAUSE


def _key_of(ready: NodeCondition | None) -> str:
    return UNREACHABLE if ready is not None and ready.status == "Unknown" else NOT_READY


def has_no_execute(spec: NodeSpec, key: str) -> bool:
    return any(taint.key == key and taint.effect == NO_EXECUTE for taint in spec.taints or ())


def without_no_execute(taints: Iterable[Taint]) -> tuple[Taint, ...]:
    return tuple(
        taint
        for taint in taints
        if not (taint.effect == NO_EXECUTE and taint.key in (NOT_READY, UNREACHABLE))
    )


def _same(some: Iterable[Taint], others: Iterable[Taint]) -> bool:
    def ordered(taints: Iterable[Taint]) -> list[tuple[str, str]]:
        return sorted((taint.key, taint.effect) for taint in taints)

    return ordered(some) == ordered(others)


def _is_unknown(node: Node) -> bool:
    ready = ready_condition(node)
    return ready is not None and ready.status == "Unknown"


def unready_pods(view: View, node_name: str) -> tuple[Request, ...]:
    """The requests that set Ready of the ready pods of a lost node to False (NODE-2)."""
    return tuple(_not_ready(pod) for pod in view.indexed(PODS, "node", node_name) if is_ready(pod))


def _not_ready(pod: Pod) -> Request:
    """Set the pod's condition Ready to False, so that Services send nothing to it."""
    words = "Node is not ready"
    condition: dict[str, Any] = {
        "type": "Ready",
        "status": "False",
        "reason": "NodeNotReady",
        "message": words,
    }
    condition["observedGeneration"] = pod.metadata.generation
    note = Note(pod, "NodeNotReady", words, "Warning")
    because = "the heartbeat of its node has stopped"
    return patch_status(pod, {"conditions": [condition]}, because, note)
