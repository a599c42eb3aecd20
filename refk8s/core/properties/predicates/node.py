"""Predicates of lost nodes and their pods. Rules NODE-4, NODE-5, NODE-6, NODE-8, PODGC-1, PODGC-2
(spec/workloads/node.md).

Each yields a sentence for every way in which a change, a plan or what is stored breaks its rule.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from refk8s.core.api.core_v1 import Node, Pod
from refk8s.core.api.resources import NODES, PODS
from refk8s.core.context import SECOND, Instant, parse_timestamp
from refk8s.core.loop.plan import Plan
from refk8s.core.loop.view import View, key_of
from refk8s.core.properties.oracle import is_finished

NO_EXECUTE = {"node.kubernetes.io/not-ready": "False", "node.kubernetes.io/unreachable": "Unknown"}
"""The NoExecute taints of the node controller, each with its status of the condition Ready."""


def no_execute_taints(node: Node | None) -> set[str]:
    """The keys of the taints that evict pods."""
    taints = node.spec.taints or () if node is not None and node.spec is not None else ()
    return {taint.key for taint in taints if taint.effect == "NoExecute"}


def readiness(node: Node) -> str:
    """The status of the condition Ready."""
    conditions = node.status.conditions or () if node.status is not None else ()
    return next((condition.status for condition in conditions if condition.type == "Ready"), "")


def node_4_the_taint_fits_the_condition(before: Node | None, after: Node) -> Iterator[str]:
    """NODE-4: a node gets the NoExecute taint of its condition Ready."""
    status = readiness(after)
    for key in sorted(no_execute_taints(after) - no_execute_taints(before)):
        if NO_EXECUTE.get(key, status) != status:
            yield f"node {after.metadata.name} is Ready {status} and gets {key}"


def node_5_ready_without_taints(node: Node) -> Iterator[str]:
    """NODE-5, for a settled cluster: a ready node has no NoExecute taint of the node controller."""
    if readiness(node) == "True":
        taints = node.spec.taints or () if node.spec is not None else ()
        for taint in taints:
            if taint.effect == "NoExecute" and taint.key in NO_EXECUTE:
                yield f"node {node.metadata.name} is ready, and has {taint.key}"


def node_6_some_node_is_ready(view: View, plan: Plan) -> list[str] | None:
    """NODE-6: a NoExecute taint is added only if some node of the view is ready. None if the plan
    adds none."""
    found: list[str] | None = None
    for request in plan.requests:
        is_update = (
            request.resource is NODES and request.verb == "update" and not request.subresource
        )
        if is_update and no_execute_taints(request.body) - no_execute_taints(
            view.get(NODES, request.name)
        ):
            well = any(readiness(node) == "True" for node in view.list(NODES))
            found = (found or []) + (
                []
                if well
                else [f"node {request.name} gets a NoExecute taint, and no node is ready"]
            )
    return found


def node_8_evicted_for_a_taint(view: View, plan: Plan, now: Instant) -> list[str] | None:
    """NODE-8: a pod is evicted only if it does not, or no longer, tolerate a taint of its node, and
    with its own grace period. None if the plan evicts no pod. `now`: by the controller's clock."""
    found: list[str] | None = None
    for request in plan.requests:
        if request.resource is not PODS or request.verb != "delete":
            continue
        found = found or []
        pod: Pod | None = view.get(PODS, request.key)
        node = (
            view.get(NODES, pod.spec.node_name) if pod is not None and pod.spec.node_name else None
        )
        if (
            pod is None
            or node is None
            or all(_tolerates(pod, taint, now) for taint in node.spec.taints or ())
        ):
            found.append(f"pod {request.key} is evicted, and tolerates every taint of its node")
        if request.body is None or request.body.grace_period_seconds is not None:
            found.append(f"pod {request.key} is evicted, and not with its own grace period")
    return found


def _tolerates(pod: Pod, taint: Any, now: Instant) -> bool:
    """Whether the pod still tolerates this taint."""
    if taint.effect != "NoExecute":
        return True
    matching = [
        each for each in pod.spec.tolerations or ()
        if each.effect in (None, "", taint.effect) and each.key in (None, "", taint.key)
        and (each.operator == "Exists" or (each.value or "") == (taint.value or ""))
    ]  # fmt: skip
    seconds = [each.toleration_seconds for each in matching if each.toleration_seconds is not None]
    if not matching or not seconds:
        return bool(matching)
    return (
        taint.time_added is not None
        and now < parse_timestamp(taint.time_added) + max(0, min(seconds)) * SECOND
    )


def podgc_1_the_node_is_gone(pod: Pod, is_stored: bool) -> Iterator[str]:
    """PODGC-1: a pod is removed by force only if its node is not stored."""
    if is_stored:
        yield f"pod {key_of(pod)} was removed by force, and its node {pod.spec.node_name} exists"


def podgc_1_no_pod_is_left(pods: Iterable[Pod], nodes: Iterable[Node]) -> Iterator[str]:
    """PODGC-1, for a settled cluster: no pod is bound to a node that is not stored."""
    names = {node.metadata.name for node in nodes}
    for pod in pods:
        if pod.spec.node_name and pod.spec.node_name not in names:
            yield f"pod {pod.metadata.name} is on node {pod.spec.node_name}, which does not exist"


def podgc_2_the_node_is_not_in_view(view: View, plan: Plan) -> list[str] | None:
    """PODGC-2, as far as a view can show it: the node of a pod that is removed by force is not in
    view, unless the pod has finished (PODGC-3). None if the plan removes no pod."""
    removed = [
        request
        for request in plan.requests
        if request.resource is PODS and request.verb == "delete"
    ]
    if not removed:
        return None
    pods = [pod for request in removed if (pod := view.get(PODS, request.key)) is not None]
    return [
        f"pod {key_of(pod)} is removed by force, and its node {pod.spec.node_name} is in view"
        for pod in pods
        if not is_finished(pod) and view.get(NODES, pod.spec.node_name or "") is not None
    ]
