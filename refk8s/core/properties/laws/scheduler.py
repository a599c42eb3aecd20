"""Laws of the scheduler. Rules SCHED-1, SCHED-25, SCHED-26, SCHED-28 (spec/scheduler.md),
SCHED-58 (spec/scheduler_profiles.md)."""

from collections.abc import Iterable
from typing import Any

from refk8s.core.actions import Action, Operate
from refk8s.core.api.core_v1 import Node
from refk8s.core.api.request import Request
from refk8s.core.api.resources import (
    DEVICE_TAINT_RULES,
    NAMESPACES,
    NODES,
    PODS,
    RESOURCE_CLAIMS,
    RESOURCE_SLICES,
)
from refk8s.core.cluster.state import Cluster
from refk8s.core.loop.view import key_of
from refk8s.core.ports import RunPodSandbox, StartContainer
from refk8s.core.properties.law import Decision, Law, objects, of_two_versions, running
from refk8s.core.properties.oracle import takes_room
from refk8s.core.properties.predicates.devices import why_no_devices
from refk8s.core.properties.predicates.scheduler import (
    on_node,
    sched_1_no_node_over_capacity,
    sched_25_bound_once,
    sched_58_the_extender_let_it_pass,
    why_not,
    why_not_among,
)
from refk8s.core.store import Change


def node_has_room(change: Change[Any], before: Cluster, after: Cluster) -> Iterable[str] | None:
    """SCHED-1, for a change that gave a pod a node."""
    new = None if change.record is None else change.record.value
    if (
        new is None
        or not new.spec.node_name
        or (change.previous is not None and change.previous.value.spec.node_name)
    ):
        return None
    node = after.history.get(f"{NODES.prefix}{new.spec.node_name}")
    if node is None:
        return None
    held: Node = node.value
    there = [
        pod
        for pod in objects(after, PODS.prefix)
        if pod.spec.node_name == held.metadata.name and takes_room(pod)
    ]
    return sched_1_no_node_over_capacity([held], there)


def extenders_let_pods_pass(
    change: Change[Any], before: Cluster, after: Cluster
) -> Iterable[str] | None:
    """SCHED-58, for a change that gave a pod a node."""
    extender = before.extender
    if extender is None or change.record is None or change.previous is None:
        return None
    pod = change.record.value
    if not pod.spec.node_name or change.previous.value.spec.node_name:
        return None
    if not extender.is_asked_about(pod):
        return None
    return sched_58_the_extender_let_it_pass(pod, extender.rejects)


def a_pod_runs_on_one_node(before: Cluster, action: Action, after: Cluster) -> Iterable[str] | None:
    """SCHED-25: a pod that is started on a node does not run on another one."""
    uid = _started(before, action)
    if uid is None:
        return None
    assert isinstance(action, Operate)
    others = [name for name in sorted(after.worlds) if name != action.operation[0]]
    return [
        f"pod {uid} is started at {action.operation[0]} and runs at {name}"
        for name in others
        if running(after.worlds[name], uid)
    ]


def _started(before: Cluster, action: Action) -> str | None:
    assert isinstance(action, Operate)
    match before.operations[action.operation].operation:
        case RunPodSandbox(config):
            return config.pod_uid
        case StartContainer(pod_uid):
            return pod_uid
    return None


def bindings_satisfy_every_filter(
    decision: Decision, before: Cluster, after: Cluster
) -> Iterable[str] | None:
    """SCHED-28: on the view of the scheduler, with the bindings that are not in view yet."""
    found: list[str] | None = None
    for request in decision.requests:
        if request.subresource == "binding":
            what = f"{request.key} to {request.body.target.name}"
            found = (found or []) + [
                f"{what}: {words}" for words in _rejections(decision, request, after)
            ]
    return found


def _rejections(decision: Decision, request: Request, after: Cluster) -> list[str]:
    view = decision.view
    node, pod = view.get(NODES, request.body.target.name), view.get(PODS, request.key)
    if node is None or pod is None:
        return [f"the view shows no such {'node' if node is None else 'pod'}"]
    if pod.spec.node_name:
        return [f"it is on {pod.spec.node_name}"]
    others = [_as_assumed(other, decision, after) for other in view.list(PODS) if other is not pod]
    others = [other for other in others if takes_room(other)]
    here = [other for other in others if other.spec.node_name == node.metadata.name]
    labels = {
        name: namespace.metadata.labels or {}
        for name, namespace in view.table(NAMESPACES).objects.items()
    }
    # Required affinity and spreading may depend on an assumed pod, which is not visible here.
    anti_affinity = [
        words
        for words in why_not_among(pod, node, view.list(NODES), others, labels)
        if words.startswith("SCHED-31")
    ]
    return why_not(pod, node, here) + anti_affinity


def _as_assumed(pod: Any, decision: Decision, after: Cluster) -> Any:
    """The pod with its node, in view or not: the binding is stored, or this life of the scheduler
    has sent it."""
    if pod.spec.node_name:
        return pod
    stored = after.history.get(f"{PODS.prefix}{key_of(pod)}")
    if (
        stored is not None
        and stored.value.metadata.uid == pod.metadata.uid
        and stored.value.spec.node_name
    ):
        return stored.value
    for flight in (*decision.state.flights.values(), *decision.state.resends.values()):
        request = flight.request
        if (
            request.subresource == "binding"
            and request.key == key_of(pod)
            and request.body.metadata.uid == pod.metadata.uid
        ):
            return on_node(pod, request.body.target.name)
    return pod


def no_schedulable_pod_waits(cluster: Cluster) -> Iterable[str] | None:
    """SCHED-26, DRA-4: in a settled cluster no pod that a node can run is unbound."""
    nodes, pods = objects(cluster, NODES.prefix), objects(cluster, PODS.prefix)
    waiting = [
        pod
        for pod in pods
        if not pod.spec.node_name
        and pod.metadata.deletion_timestamp is None
        and not pod.spec.scheduling_gates
    ]
    taking = [pod for pod in pods if takes_room(pod)]
    labels = {
        namespace.metadata.name: namespace.metadata.labels or {}
        for namespace in objects(cluster, NAMESPACES.prefix)
    }
    claims = objects(cluster, RESOURCE_CLAIMS.prefix)
    slices = objects(cluster, RESOURCE_SLICES.prefix)
    rules = objects(cluster, DEVICE_TAINT_RULES.prefix)
    found = []
    for pod in waiting:
        for node in nodes:
            here = [other for other in taking if other.spec.node_name == node.metadata.name]
            if cluster.extender is not None and cluster.extender.rejects(
                pod.metadata.name or "", node.metadata.name or ""
            ):
                continue  # SCHED-58
            if (
                not why_not(pod, node, here)
                and not why_not_among(pod, node, nodes, taking, labels)
                and not why_no_devices(pod, node, claims, slices, rules)
            ):
                found.append(
                    f"pod {pod.metadata.name} waits, and node {node.metadata.name} can run it"
                )
    return found if pods else None


OF_CHANGES = (
    Law("SCHED-25", of_two_versions(sched_25_bound_once), PODS.prefix),
    Law("SCHED-1", node_has_room, PODS.prefix),
    Law("SCHED-58", extenders_let_pods_pass, PODS.prefix),
)
OF_DECISIONS = (Law("SCHED-28", bindings_satisfy_every_filter),)
OF_STEPS = (Law("SCHED-25", a_pod_runs_on_one_node, actions=(Operate,)),)
OF_REST = (Law("SCHED-26", no_schedulable_pod_waits),)
