"""Taint-based eviction: pods that do not tolerate a NoExecute taint are deleted. Rules NODE-8,
NODE-9 (spec/workloads/node.md).

Source: Kubernetes documentation, "Taints and Tolerations" (taint-based evictions).
"""

from immutables import Map

from refk8s.core.api.core_v1 import Node, Pod, Taint, Toleration
from refk8s.core.api.request import Request
from refk8s.core.api.resources import NODES, PODS
from refk8s.core.api.user import service_account_user
from refk8s.core.context import SECOND, Instant, parse_timestamp
from refk8s.core.controllers.node_lifecycle import pods_by_node
from refk8s.core.loop.plan import NOTHING, Key, Local, Note, Plan
from refk8s.core.loop.reconciler import Interest, Reconciler
from refk8s.core.loop.view import View, key_of
from refk8s.core.pods.requests import delete_pod, patch_status
from refk8s.core.pods.status import disruption_target
from refk8s.core.pods.tolerations import NO_EXECUTE, tolerates


def _taints(node: Node | None) -> tuple[Taint, ...]:
    if node is None:
        return ()
    return tuple(taint for taint in node.spec.taints or () if taint.effect == NO_EXECUTE)


def _pods_of_node(view: View, old: Node | None, new: Node | None) -> list[Key]:
    if _taints(old) == _taints(new):
        return []
    node = new if new is not None else old
    assert node is not None
    return view.indexed_keys(PODS, "node", node.metadata.name or "")


def _bound_pod(view: View, old: Pod | None, new: Pod | None) -> tuple[Key, ...]:
    """A bound pod that changed, if its node has a NoExecute taint."""
    pod = new if new is not None else old
    assert pod is not None
    if not pod.spec.node_name or not _taints(view.get(NODES, pod.spec.node_name)):
        return ()
    return (key_of(pod),)


class TaintEviction(Reconciler):
    """Reconciles one pod."""

    name = component = "taint-eviction-controller"
    user = service_account_user("kube-system", "node-controller")
    interests = (Interest(PODS, _bound_pod), Interest(NODES, _pods_of_node))
    indexes = (pods_by_node(),)

    def start_memory(self, now: Instant) -> Map[str, Instant]:
        """By uid of the pod: since when its eviction is pending, for taints without `timeAdded`."""
        return Map()

    def reconcile(self, view: View, key: Key, now: Instant, local: Local) -> Plan:
        """Delete the pod when the shortest toleration of its node's taints has ended (NODE-8)."""
        # Observe
        since: Map[str, Instant] = local.memory
        pod: Pod | None = view.get(PODS, key)
        if pod is None or pod.metadata.deletion_timestamp is not None or not pod.spec.node_name:
            return NOTHING
        uid = pod.metadata.uid or ""
        node: Node | None = view.get(NODES, pod.spec.node_name)
        taints = _taints(node)

        # Decide
        ends = [end_of(taint, pod.spec.tolerations or (), since.get(uid, now)) for taint in taints]
        due = [end for end in ends if end is not None]
        if node is None or not due:
            return Plan(memory=since.delete(uid)) if uid in since else NOTHING  # NODE-9: cancelled
        at = min(due)
        if at > now:
            return Plan(memory=since if uid in since else since.set(uid, now), wake_at=at)

        # Act
        return Plan(
            (_guard(node), *_eviction(pod, now)),
            notes=(Note(pod, "TaintManagerEviction", f"Marking for deletion Pod {key}"),),
            memory=since.delete(uid) if uid in since else since,
        )


def end_of(taint: Taint, tolerations: tuple[Toleration, ...], since: Instant) -> Instant | None:
    """When a pod with these tolerations is evicted for this taint; None: never. Of the tolerations
    that match the taint, the shortest decides."""
    seconds: list[int] = []
    tolerated = False
    for toleration in tolerations:
        if tolerates(toleration, taint):
            tolerated = True
            if toleration.toleration_seconds is not None:
                seconds.append(max(0, toleration.toleration_seconds))
    start = parse_timestamp(taint.time_added) if taint.time_added else since
    if not tolerated:
        return start
    return start + min(seconds) * SECOND if seconds else None


def _guard(node: Node) -> tuple[Request, ...]:
    """Write the node's unchanged status before an eviction. The write changes nothing, but the API
    server refuses it if the view of the node is old. So a taint that was removed before the pod was
    bound does not evict it (NODE-9)."""
    because = f"check that {node.metadata.name} still has its taints"
    return (
        Request(
            "update", NODES, "", node.metadata.name or "", "status", body=node, because=because
        ),
    )


def _eviction(pod: Pod, now: Instant) -> tuple[tuple[Request, ...], ...]:
    condition = disruption_target(
        pod, "DeletionByTaintManager", "Taint manager: deleting due to NoExecute taint", now
    )
    because = f"it does not tolerate a taint of {pod.spec.node_name}"
    marking = patch_status(pod, {"conditions": [condition]}, because)
    return (marking,), (delete_pod(pod, because),)
