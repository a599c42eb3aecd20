"""Predicates of DaemonSets. Rules DS-1, DS-5, DS-8, DS-9 (spec/workloads/daemon_set.md).

plan    DS-5, DS-8, DS-9    one decision: a view, and the plan made from it
state   DS-1                all pods of a settled cluster
"""

from collections.abc import Iterator, Sequence
from typing import Any

from refk8s.core.api.intstr import scaled
from refk8s.core.api.request import Request
from refk8s.core.api.resources import NODES, PODS
from refk8s.core.context import SECOND, Instant, parse_timestamp
from refk8s.core.loop.plan import Plan
from refk8s.core.loop.view import View
from refk8s.core.properties.oracle import is_finished, is_ready, tolerates
from refk8s.core.properties.predicates.owners import controlled

_CONDITIONS = ("disk-pressure", "memory-pressure", "pid-pressure", "unschedulable")


def pinned_to(pod: Any) -> str | None:
    """The node of the pod, or the one that its node affinity names."""
    if pod.spec.node_name:
        return str(pod.spec.node_name)
    affinity = pod.spec.affinity
    required = (
        affinity.node_affinity.required_during_scheduling_ignored_during_execution
        if affinity is not None and affinity.node_affinity is not None
        else None
    )
    for term in required.node_selector_terms if required is not None else ():
        for field in term.match_fields or ():
            return str(field.values[0])
    return None


def is_plain(owner: Any) -> bool:
    """Whether the template selects nodes only by labels and tolerations."""
    spec = owner.spec.template.spec
    return spec.affinity is None and not spec.node_name


def may_run(owner: Any, node: Any) -> bool:
    """DS-2, for a template that selects nodes only by labels and tolerations."""
    spec = owner.spec.template.spec
    labels = node.metadata.labels or {}
    if any(labels.get(name) != value for name, value in (spec.node_selector or {}).items()):
        return False
    for taint in node.spec.taints or ():
        own = taint.key.removeprefix("node.kubernetes.io/")
        if taint.effect == "PreferNoSchedule":
            continue
        if taint.effect == "NoExecute" and own in ("not-ready", "unreachable"):
            continue
        if taint.effect == "NoSchedule" and own in _CONDITIONS:
            continue
        if own == "network-unavailable" and taint.effect == "NoSchedule" and spec.host_network:
            continue
        if not any(tolerates(one, taint) for one in spec.tolerations or ()):
            return False
    return True


def is_available(pod: Any, owner: Any, now: Instant) -> bool:
    if not is_ready(pod):
        return False
    seconds = owner.spec.min_ready_seconds or 0
    ready = next(one for one in pod.status.conditions if one.type == "Ready")
    return not seconds or bool(
        ready.last_transition_time
        and parse_timestamp(ready.last_transition_time) + seconds * SECOND <= now
    )


def of_pods(plan: Plan, verb: str) -> list[Request]:
    return [one for one in plan.requests if one.verb == verb and one.resource is PODS]


def own_pods(view: View, owner: Any) -> list[Any]:
    return controlled(view.list(PODS), owner.metadata.uid)


def is_staying(pod: Any) -> bool:
    return pod.metadata.deletion_timestamp is None and not is_finished(pod)


def bound(value: Any, total: int, default: int) -> int:
    return scaled(default if value is None else value, total, round_up=True)


def ds_1_settled(owner: Any, nodes: Sequence[Any], pods: Sequence[Any]) -> Iterator[str]:
    """In a settled cluster every node that may run a pod has one (two in a surge that waits), and
    the status counts them."""
    name = owner.metadata.name
    mine = [pod for pod in controlled(pods, owner.metadata.uid) if is_staying(pod)]
    wanted = [node.metadata.name for node in nodes if may_run(owner, node)]
    for node in wanted:
        count = sum(pinned_to(pod) == node for pod in mine)
        failed = any(is_finished(pod) and pinned_to(pod) == node for pod in pods)
        if count == 0 and not failed:
            yield f"{node} has no pod of {name}"
    if owner.status.desired_number_scheduled != len(wanted):
        yield (
            f"status.desiredNumberScheduled of {name} is {owner.status.desired_number_scheduled}, "
            f"and {len(wanted)} nodes may run it"
        )
    if owner.status.observed_generation != owner.metadata.generation:
        yield f"status.observedGeneration of {name} is not its generation"


def ds_5_one_pod_on_a_node(view: View, owner: Any, plan: Plan) -> Iterator[str]:
    """A pod is created on a node without one. With maxSurge it may be beside one pod of an earlier
    template."""
    rolling = owner.spec.update_strategy.rolling_update
    surges = rolling is not None and rolling.max_surge not in (None, 0, "0%")
    creations = [pinned_to(request.body) for request in of_pods(plan, "create")]
    pods = own_pods(view, owner)
    for node in creations:
        if creations.count(node) > 1:
            yield f"creates two pods on {node}"
        there = [pod for pod in pods if pinned_to(pod) == node]
        if surges:
            there = [pod for pod in there if is_staying(pod)]
        gone = [
            pod for pod in there if is_finished(pod) and pod.metadata.deletion_timestamp is not None
        ]
        if len(there) - len(gone) > (1 if surges else 0):
            yield f"creates a pod on {node}, which has {len(there)}"


def ds_8_updates_within_bounds(view: View, owner: Any, plan: Plan, now: Instant) -> Iterator[str]:
    """Without surge, a plan that deletes available pods of nodes that may run them leaves at most
    maxUnavailable of these nodes without an available pod."""
    rolling = owner.spec.update_strategy.rolling_update
    if rolling is not None and rolling.max_surge not in (None, 0, "0%"):
        return
    deleted = {request.name for request in of_pods(plan, "delete")}
    nodes = [node.metadata.name for node in view.list(NODES) if may_run(owner, node)]
    pods = own_pods(view, owner)
    without: list[str] = []
    lost: list[str] = []
    for node in nodes:
        there = [
            pod
            for pod in pods
            if pinned_to(pod) == node and is_staying(pod) and is_available(pod, owner, now)
        ]
        left = [pod for pod in there if pod.metadata.name not in deleted]
        if not left:
            without.append(node)
            lost += [node] if there else []
    unavailable = rolling.max_unavailable if rolling is not None else None
    most = max(1, bound(unavailable, len(nodes), 1))
    if lost and len(without) > most:
        yield f"{without} have no available pod after it, and maxUnavailable is {most}"


def ds_9_two_pods_at_most(view: View, owner: Any, plan: Plan) -> Iterator[str]:
    """With maxSurge, a plan leaves at most two pods on a node."""
    deleted = {request.name for request in of_pods(plan, "delete")}
    counts: dict[str | None, int] = {}
    for pod in own_pods(view, owner):
        if is_staying(pod) and pod.metadata.name not in deleted:
            counts[pinned_to(pod)] = counts.get(pinned_to(pod), 0) + 1
    for request in of_pods(plan, "create"):
        node = pinned_to(request.body)
        counts[node] = counts.get(node, 0) + 1
        if counts[node] > 2:
            yield f"{node} gets {counts[node]} pods"
