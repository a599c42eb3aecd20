"""The status writer writes the status of each pod and removes deleted pods from the API. Rules
KUBELET-30 ... KUBELET-32 (spec/kubelet.md).

| the pod | request |
|---|---|
| its status differs from the API server's | update of /status |
| deleted, nothing of it is left on the node, and its status is written | delete with grace period 0, for this uid |

Source: Kubernetes documentation, "Pod Lifecycle" (termination of pods).
"""

from typing import Any

from msgspec.structs import replace

from refk8s.core.api.core_v1 import Pod
from refk8s.core.api.meta_v1 import DeleteOptions, Preconditions
from refk8s.core.api.request import Request
from refk8s.core.api.resources import PODS
from refk8s.core.api.user import node_user
from refk8s.core.context import Instant
from refk8s.core.kubelet.config import KubeletConfig
from refk8s.core.kubelet.draft import Facts
from refk8s.core.kubelet.held_back import held_back_until
from refk8s.core.kubelet.memory import NodeMemory, Sent
from refk8s.core.kubelet.pod_worker import STATUS, pod_key, pod_of
from refk8s.core.kubelet.status import compute_pod_status
from refk8s.core.loop.plan import NOTHING, UNCHANGED, Key, Local, Plan
from refk8s.core.loop.reconciler import Interest, Reconciler
from refk8s.core.loop.view import View


def changed_pod(view: View, old: Pod | None, new: Pod | None) -> list[Key]:
    """A pod that changed. The status of a new one follows its first reconcile by the worker."""
    return [pod_key(new)] if old is not None and new is not None else []


class StatusWriter(Reconciler):
    """Writes the status of each pod of one node."""

    name = STATUS
    memory_name = "kubelet"

    def __init__(self, node_name: str, config: KubeletConfig) -> None:
        self.user = node_user(node_name)
        self.config = config
        self.interests = (Interest(PODS, changed_pod, field_selector=f"spec.nodeName={node_name}"),)

    def start_memory(self, now: Instant) -> NodeMemory:
        return NodeMemory()

    def reconcile(self, view: View, key: Key, now: Instant, local: Local) -> Plan:
        """Write the status if it differs; then delete a terminating pod that has left the node."""
        # Observe
        node: NodeMemory = local.memory
        pod, uid = pod_of(view, key)
        memory = node.pods.get(uid)
        if pod is None or memory is None or node.described is None:
            return Plan(memory=_without_sent(node, uid)) if uid in node.sent else NOTHING

        # Decide
        wait = held_back_until(self.config, pod, memory)
        if wait > now:  # KUBELET-31
            return Plan(wake_at=wait)
        sent = node.sent.get(uid)
        following: Any = UNCHANGED if sent is None else _without_sent(node, uid)
        if sent is not None and sent.memory is memory and sent.status == pod.status:
            status = pod.status  # the view shows what was written of the same memory
        else:
            status = compute_pod_status(Facts(self.config, node.described), pod, memory, now)

        # Act
        if status != pod.status:
            following = replace(node, sent=node.sent.set(uid, Sent(memory, status)))
            body = replace(pod, status=status)
            because = (
                f"the pod is {status.phase}"
                if status.phase != pod.status.phase
                else "its containers changed"
            )
            request = Request(
                "update",
                PODS,
                pod.metadata.namespace or "",
                pod.metadata.name or "",
                "status",
                body,
                because=because,
            )
            return Plan(waves=((request,),), memory=following)
        # KUBELET-32: nothing is left on the node, and the API has the last status.
        if (
            pod.metadata.deletion_timestamp is not None
            and memory.removed
            and pod.metadata.deletion_grace_period_seconds != 0
        ):
            options = DeleteOptions(
                grace_period_seconds=0, preconditions=Preconditions(uid=pod.metadata.uid)
            )
            because = "nothing of the pod is left on the node"
            request = Request(
                "delete",
                PODS,
                pod.metadata.namespace or "",
                pod.metadata.name or "",
                body=options,
                because=because,
            )
            return Plan(waves=((request,),), memory=following)

        # Report
        return NOTHING if sent is None else Plan(memory=following)


def _without_sent(node: NodeMemory, uid: str) -> NodeMemory:
    return replace(node, sent=node.sent.delete(uid))
