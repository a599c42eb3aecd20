"""The Node object as its kubelet writes it: addresses, capacity, conditions, facts of the machine.
Rules KUBELET-60 ... KUBELET-63, KUBELET-105.

| condition | True when | reasons |
|---|---|---|
| MemoryPressure | less than 100 Mi of memory is free | KubeletHasInsufficientMemory, KubeletHasSufficientMemory |
| DiskPressure | less than a tenth of the disk is free | KubeletHasDiskPressure, KubeletHasNoDiskPressure |
| PIDPressure | fewer than 1,000 process numbers are free | KubeletHasInsufficientPID, KubeletHasSufficientPID |
| Ready | the runtime answers, and pods can have a network | KubeletReady, KubeletNotReady |

Source: Kubernetes documentation, "Node Status", "Nodes" (heartbeats), "Node-pressure Eviction"
(thresholds). Left out: eviction of pods under pressure; reservations for the system, so allocatable
equals capacity.
"""

from msgspec.structs import replace

from refk8s.core.api.conditions import transition_time
from refk8s.core.api.coordination_v1 import Lease, LeaseSpec
from refk8s.core.api.core_v1 import (
    ContainerImage,
    DaemonEndpoint,
    Node,
    NodeAddress,
    NodeCondition,
    NodeDaemonEndpoints,
    NodeSpec,
    NodeStatus,
    NodeSystemInfo,
)
from refk8s.core.api.meta_v1 import ObjectMeta, OwnerReference
from refk8s.core.context import Instant, micro_timestamp, timestamp
from refk8s.core.kubelet.config import KubeletConfig
from refk8s.core.kubelet.node_addresses import node_ips
from refk8s.core.ports import NodeDescribed

LEASE_NAMESPACE = "kube-node-lease"
MEMORY_FREE_MIN = 100 << 20
DISK_FREE_FRACTION_MIN = 0.1
PIDS_FREE_MIN = 1000
IMAGES_MAX = 50


def compute_node(name: str, config: KubeletConfig, facts: NodeDescribed, now: Instant) -> Node:
    """The Node to register."""
    labels = compute_labels(name, config, facts)
    return Node(
        metadata=ObjectMeta(
            name=name,
            labels=labels,
            annotations={"volumes.kubernetes.io/controller-managed-attach-detach": "true"},
        ),
        spec=NodeSpec(taints=config.register_with_taints or None),
        status=compute_node_status(config, facts, "", NodeStatus(), now),
    )


def compute_labels(name: str, config: KubeletConfig, facts: NodeDescribed) -> dict[str, str]:
    """All labels that a node is registered with."""
    return {**dict(config.node_labels), **own_labels(name, facts)}


def own_labels(name: str, facts: NodeDescribed) -> dict[str, str]:
    """The labels that a kubelet maintains on its node."""
    return {
        "beta.kubernetes.io/arch": facts.architecture,
        "beta.kubernetes.io/os": facts.operating_system,
        "kubernetes.io/arch": facts.architecture,
        "kubernetes.io/hostname": facts.hostname or name,
        "kubernetes.io/os": facts.operating_system,
    }


def compute_node_status(
    config: KubeletConfig, facts: NodeDescribed, error: str, old: NodeStatus, now: Instant
) -> NodeStatus:
    """The status with every condition's heartbeat at `now`; fields that others wrote are kept."""
    capacity = {
        "cpu": _milli(facts.cpu_milli),
        "ephemeral-storage": _bytes(facts.ephemeral_storage_bytes),
        "memory": _bytes(facts.memory_bytes),
        "pods": str(facts.pods),
    }
    images = tuple(
        [ContainerImage(names=names, size_bytes=size) for names, size in facts.images[:IMAGES_MAX]]
    )
    held = {condition.type: condition for condition in old.conditions or ()}
    own = [
        _condition(held.get(type), type, holds, reason, message, now)
        for type, holds, reason, message in _conditions(facts, error)
    ]
    types = {condition.type for condition in own}
    # a device plugin or an administrator announces an extended resource as capacity
    kept = {name: amount for name, amount in (old.capacity or {}).items() if "/" in name}
    return replace(
        old,
        addresses=(
            *[NodeAddress(type="InternalIP", address=ip) for ip in node_ips(config, facts)],
            NodeAddress(type="Hostname", address=facts.hostname),
        ),
        capacity={**capacity, **kept},
        allocatable={**capacity, **kept},  # KUBELET-105
        conditions=(
            *[condition for condition in old.conditions or () if condition.type not in types],
            *own,
        ),
        # 0 without a port, as the API server's default is: else the status would always differ
        daemon_endpoints=NodeDaemonEndpoints(kubelet_endpoint=DaemonEndpoint(port=config.port)),
        images=images or None,
        node_info=NodeSystemInfo(
            architecture=facts.architecture,
            boot_id=facts.boot_id,
            container_runtime_version=facts.container_runtime_version,
            kernel_version=facts.kernel_version,
            kubelet_version=config.version,
            machine_id=facts.machine_id,
            operating_system=facts.operating_system,
            os_image=facts.os_image,
            system_uuid=facts.system_uuid,
        ),
    )


def _conditions(facts: NodeDescribed, error: str) -> list[tuple[str, bool, str, str]]:
    """(type, holds, reason, message) of each condition of ours, in the usual order.

    An unknown value counts as no pressure.
    """
    memory = 0 <= facts.memory_available_bytes < MEMORY_FREE_MIN
    disk = 0 <= facts.disk_available_fraction < DISK_FREE_FRACTION_MIN
    pids = 0 <= facts.pids_available < PIDS_FREE_MIN
    return [
        (
            "MemoryPressure",
            True,
            "KubeletHasInsufficientMemory",
            "kubelet has insufficient memory available",
        )
        if memory
        else (
            "MemoryPressure",
            False,
            "KubeletHasSufficientMemory",
            "kubelet has sufficient memory available",
        ),
        ("DiskPressure", True, "KubeletHasDiskPressure", "kubelet has disk pressure")
        if disk
        else ("DiskPressure", False, "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        ("PIDPressure", True, "KubeletHasInsufficientPID", "kubelet has insufficient PID available")
        if pids
        else (
            "PIDPressure",
            False,
            "KubeletHasSufficientPID",
            "kubelet has sufficient PID available",
        ),
        ("Ready", False, "KubeletNotReady", f"container runtime is down: {error}")
        if error
        else (
            "Ready",
            False,
            "KubeletNotReady",
            f"container runtime network not ready: {facts.network_error}",
        )
        if facts.network_error
        else ("Ready", True, "KubeletReady", "kubelet is posting ready status"),
    ]


def _condition(
    old: NodeCondition | None, type: str, holds: bool, reason: str, message: str, now: Instant
) -> NodeCondition:
    status = "True" if holds else "False"
    since = transition_time(old, status, timestamp(now))
    return NodeCondition(
        type=type,
        status=status,
        reason=reason,
        message=message,
        last_heartbeat_time=timestamp(now),
        last_transition_time=since,
    )


def is_same_but_heartbeats(a: NodeStatus, b: NodeStatus) -> bool:
    """Whether two statuses are equal apart from heartbeats."""
    return _without_heartbeats(a) == _without_heartbeats(b)


def _without_heartbeats(status: NodeStatus) -> NodeStatus:
    return replace(
        status,
        conditions=tuple([replace(c, last_heartbeat_time=None) for c in status.conditions or ()]),
    )


def compute_lease(node: Node, config: KubeletConfig, now: Instant) -> Lease:
    """The Lease whose renewal shows that this node is alive (KUBELET-62)."""
    owner = OwnerReference(
        api_version="v1", kind="Node", name=node.metadata.name or "", uid=node.metadata.uid or ""
    )
    return Lease(
        metadata=ObjectMeta(
            name=node.metadata.name, namespace=LEASE_NAMESPACE, owner_references=(owner,)
        ),
        spec=LeaseSpec(
            holder_identity=node.metadata.name,
            lease_duration_seconds=config.node_lease_duration_seconds,
            renew_time=micro_timestamp(now),
        ),
    )


def _milli(cpus: int) -> str:
    return str(cpus // 1000) if cpus % 1000 == 0 else f"{cpus}m"


def _bytes(count: int) -> str:
    """Bytes in the largest binary unit that divides them, the canonical form of a quantity."""
    for suffix in ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"):
        if count % 1024 or count == 0 or suffix == "Ei":
            return f"{count}{suffix}"
        count //= 1024
    raise AssertionError
