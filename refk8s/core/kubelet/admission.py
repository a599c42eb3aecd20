"""The kubelet admits or rejects a pod that is bound to its node. Rules KUBELET-80 ... KUBELET-82
(spec/kubelet.md).

| the pod | reason of its failure |
|---|---|
| requests more of a resource than is left | OutOfcpu, OutOfmemory, OutOfpods ... |
| has a node selector or required affinity that this node does not match | NodeAffinity |
| has a host port that another pod of the node uses | NodePorts |
| sets a sysctl that is not safe, or one of the host | SysctlForbidden (KUBELET-93) |
| requests groups, AppArmor or an operating system that this node lacks | SupplementalGroupsPolicyNotSupported, AppArmor, PodOSNotSupported |

The kubelet decides once, before it creates anything of the pod; a pod with a start time was
admitted before. A pod that has ended uses no resources. Source: Kubernetes documentation, "Node
Status" (capacity), "Assigning Pods to Nodes"; "Pod Lifecycle" (pods rejected by their node). Left
out: the topology, CPU and memory managers.
"""

from collections.abc import Iterable, Mapping

from refk8s.core.api.core_v1 import Node, Pod
from refk8s.core.kubelet.memory import PodMemory
from refk8s.core.kubelet.security import why_forbidden
from refk8s.core.pods.host_ports import have_conflict, pod_host_ports
from refk8s.core.pods.node_affinity import matches_node
from refk8s.core.pods.resources import (
    CLASS_PREFIX,
    PODS,
    Amounts,
    amount,
    is_native,
    pod_requests,
)
from refk8s.core.ports import NodeDescribed


def requests_of(pod: Pod) -> Amounts:
    """The pod's requests (KUBELET-80), and its place among the node's pods."""
    total = pod_requests(pod.spec)
    total[PODS] = 1
    return total


def capacity_of(facts: NodeDescribed, node: Node | None) -> Amounts:
    """What the node has: as the machine reports it, and as others write it into the Node object."""
    announced = (node.status.allocatable if node is not None else None) or {}
    capacity = {
        resource: amount(resource, text) for resource, text in announced.items() if "/" in resource
    }
    return capacity | {
        "cpu": facts.cpu_milli,
        "memory": facts.memory_bytes,
        "ephemeral-storage": facts.ephemeral_storage_bytes,
        "pods": facts.pods,
    }


def why_rejected(
    pod: Pod,
    requests: Mapping[str, int],
    used: Mapping[str, int],
    capacity: Mapping[str, int],
    labels: Mapping[str, str],
    others: Iterable[PodMemory],
    modules: tuple[str, ...] = (),
) -> tuple[str, str] | None:
    """(reason, message) of the pod's rejection, or None: it is admitted (KUBELET-81).

    `labels` are the node's.
    """
    problem = why_forbidden(pod, modules)
    if problem is not None:
        return problem[0], f"Pod was rejected: {problem[1]}"
    for resource in sorted(requests, key=lambda name: (name != "pods", name)):
        is_own = is_native(resource) and not resource.startswith(CLASS_PREFIX)
        if resource not in capacity and not is_own:
            continue  # KUBELET-81: not a resource of this node
        wanted, taken, there = requests[resource], used.get(resource, 0), capacity.get(resource, 0)
        if wanted and wanted + taken > there:
            words = (
                f"Node didn't have enough resource: {resource}, requested: {wanted}, used: "
                f"{taken}, capacity: {there}"
            )
            return f"OutOf{resource}", f"Pod was rejected: {words}"
    if not matches_node(pod.spec, labels, pod.spec.node_name or ""):  # KUBELET-82
        return (
            "NodeAffinity",
            "Pod was rejected: Predicate NodeAffinity failed: "
            "node(s) didn't match Pod's node affinity/selector",
        )
    ports = pod_host_ports(pod.spec)
    if ports and any(
        other.pod is not None and have_conflict(ports, pod_host_ports(other.pod.spec))
        for other in others
    ):
        return (
            "NodePorts",
            "Pod was rejected: Predicate NodePorts failed: "
            "node(s) didn't have free ports for the requested pod ports",
        )
    return None
