"""Whether a node takes a pod that was bound to it. Rules KUBELET-80 ... KUBELET-82
(spec/kubelet.md).

| the pod | reason of its failure |
|---|---|
| asks for more than is left of a resource | OutOfcpu, OutOfmemory, OutOfpods ... |
| has a node selector or required affinity that this node does not match | NodeAffinity |
| has a host port that another pod of the node uses | NodePorts |
| sets a sysctl that is not safe, or one of the host | SysctlForbidden (KUBELET-93) |
| asks for groups, AppArmor or a system that this node has not | SupplementalGroupsPolicyNotSupported, AppArmor, PodOSNotSupported |

A pod is judged once, before anything of it is made; one with a start time was taken before. A pod
that ended uses nothing. Source: Kubernetes documentation, "Node Status" (capacity), "Assigning Pods
to Nodes"; "Pod Lifecycle" (pods rejected by their node). Left out: the topology, CPU and memory
managers.
"""

from collections.abc import Iterable, Mapping

from refk8s.core.api import quantity
from refk8s.core.api.core_v1 import (
    Container,
    Node,
    NodeSelectorRequirement,
    NodeSelectorTerm,
    Pod,
    ResourceRequirements,
)
from refk8s.core.api.integer import int64
from refk8s.core.kubelet.memory import PodMemory
from refk8s.core.kubelet.security import why_forbidden
from refk8s.core.kubelet.sync import is_sidecar
from refk8s.core.memo import remember
from refk8s.core.ports import NodeDescribed

Amounts = Mapping[str, int]
"""Amounts of resources: milli-CPUs for cpu, whole units for everything else."""


@remember(4096)
def amount(resource: str, text: str) -> int:
    return quantity.milli_value(text) if resource == "cpu" else quantity.value(text)


def requests_of(pod: Pod) -> dict[str, int]:
    """What the pod uses at most at once: its containers and sidecars, or an init container with the
    sidecars before it (KUBELET-80)."""
    total: dict[str, int] = {"pods": 1}
    for container in pod.spec.containers:
        _add(total, container.resources.requests)
    highest: dict[str, int] = {}
    sidecars: dict[str, int] = {}
    for container in pod.spec.init_containers or ():
        if is_sidecar(container):
            _add(sidecars, container.resources.requests)
            needed = dict(sidecars)
        else:
            needed = dict(sidecars)
            _add(needed, container.resources.requests)
        for resource, count in needed.items():
            highest[resource] = max(highest.get(resource, 0), count)
    for resource, count in sidecars.items():
        total[resource] = total.get(resource, 0) + count
    for resource, count in highest.items():
        total[resource] = max(total.get(resource, 0), count)
    _raise_to_pod_level(total, pod.spec.resources)
    _add(total, pod.spec.overhead)
    return total


def _add(total: dict[str, int], requests: Mapping[str, str] | None) -> None:
    for resource, text in (requests or {}).items():
        total[resource] = total.get(resource, 0) + amount(resource, text)


def _raise_to_pod_level(total: dict[str, int], resources: ResourceRequirements | None) -> None:
    for resource, text in ((resources.requests if resources is not None else None) or {}).items():
        total[resource] = amount(resource, text)


def capacity_of(facts: NodeDescribed, node: Node | None) -> dict[str, int]:
    """What the node has: the machine's word, and what others announced on the Node object."""
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
    requests: Amounts,
    used: Amounts,
    capacity: Amounts,
    labels: Mapping[str, str],
    others: Iterable[PodMemory],
    modules: tuple[str, ...] = (),
) -> tuple[str, str] | None:
    """(reason, message) of the pod's failure, or None: it is taken (KUBELET-81). `labels` are the
    node's."""
    problem = why_forbidden(pod, modules)
    if problem is not None:
        return problem[0], f"Pod was rejected: {problem[1]}"
    for resource in sorted(requests, key=lambda name: (name != "pods", name)):
        wanted, taken, there = requests[resource], used.get(resource, 0), capacity.get(resource, 0)
        if wanted and wanted + taken > there:
            words = f"Node didn't have enough resource: {resource}, requested: {wanted}, used: {taken}, capacity: {there}"
            return f"OutOf{resource}", f"Pod was rejected: {words}"
    if not matches_node(pod, labels):
        return (
            "NodeAffinity",
            "Pod was rejected: Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector",
        )
    ports = host_ports(pod)
    if ports and any(
        other.pod is not None and _conflict(ports, host_ports(other.pod)) for other in others
    ):
        return (
            "NodePorts",
            "Pod was rejected: Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports",
        )
    return None


def host_ports(pod: Pod) -> list[tuple[str, str, int]]:
    """(address, protocol, port) of every port of the node that the pod takes."""
    containers: tuple[Container, ...] = (
        *pod.spec.containers,
        *[c for c in pod.spec.init_containers or () if is_sidecar(c)],
    )
    return [
        (port.host_ip or "0.0.0.0", port.protocol or "TCP", port.host_port)
        for c in containers
        for port in c.ports or ()
        if port.host_port
    ]


def _conflict(left: list[tuple[str, str, int]], right: list[tuple[str, str, int]]) -> bool:
    return any(
        a[1:] == b[1:] and (a[0] == b[0] or "0.0.0.0" in (a[0], b[0])) for a in left for b in right
    )


# --- node selector and affinity -------------------------------------------------------------------


def matches_node(pod: Pod, labels: Mapping[str, str]) -> bool:
    """Whether the node's labels satisfy the pod's selector and required node affinity
    (KUBELET-82)."""
    affinity = pod.spec.affinity.node_affinity if pod.spec.affinity is not None else None
    required = (
        affinity.required_during_scheduling_ignored_during_execution
        if affinity is not None
        else None
    )
    if any(labels.get(key) != value for key, value in (pod.spec.node_selector or {}).items()):
        return False
    name = pod.spec.node_name or ""
    return required is None or any(
        _term(term, labels, name) for term in required.node_selector_terms or ()
    )


def _term(term: NodeSelectorTerm, labels: Mapping[str, str], name: str) -> bool:
    """All requirements of a term hold; one without any matches nothing."""
    if not term.match_expressions and not term.match_fields:
        return False
    return all(_requirement(r, labels) for r in term.match_expressions or ()) and all(
        _requirement(r, {"metadata.name": name}) for r in term.match_fields or ()
    )


def _requirement(requirement: NodeSelectorRequirement, labels: Mapping[str, str]) -> bool:
    held, values = labels.get(requirement.key), requirement.values or ()
    match requirement.operator:
        case "In":
            return held is not None and held in values
        case "NotIn":
            return held is None or held not in values
        case "Exists":
            return held is not None
        case "DoesNotExist":
            return held is None
    left, right = int64(held or ""), int64(values[0] if len(values) == 1 else "")
    if left is None or right is None:
        return False
    return (
        left > right
        if requirement.operator == "Gt"
        else requirement.operator == "Lt" and left < right
    )
