"""The host ports of a pod, and which of them conflict. Rule POD-22 (spec/pod.md).

Source: API reference, ContainerPort (hostPort, hostIP); Kubernetes documentation, "Sidecar
Containers".
"""

from collections.abc import Iterable

from refk8s.core.api.core_v1 import ContainerPort, PodSpec
from refk8s.core.pods.containers import long_running
from refk8s.core.value import Value

ANY_ADDRESS = "0.0.0.0"


class HostPort(Value, frozen=True, order=True):
    """A port of the node that a container uses."""

    port: int
    protocol: str = "TCP"
    address: str = ANY_ADDRESS


def pod_host_ports(spec: PodSpec) -> tuple[HostPort, ...]:
    """The host ports of the containers that keep running, in order and each once."""
    return host_ports([container.ports for container in long_running(spec)])


def host_ports(of_containers: Iterable[tuple[ContainerPort, ...] | None]) -> tuple[HostPort, ...]:
    """The host ports among the ports of containers, in order and each once. O(ports)."""
    found = {
        HostPort(port.host_port, port.protocol or "TCP", port.host_ip or ANY_ADDRESS)
        for ports in of_containers
        for port in ports or ()
        if port.host_port
    }
    return tuple(sorted(found)) if found else ()


def conflict(one: HostPort, other: HostPort) -> bool:
    """Whether two pods of one node cannot have these ports: number and protocol are equal, and the
    addresses are equal or one is 0.0.0.0 (SCHED-8)."""
    if one.port != other.port or one.protocol != other.protocol:
        return False
    return one.address == other.address or ANY_ADDRESS in (one.address, other.address)


def have_conflict(some: Iterable[HostPort], others: tuple[HostPort, ...]) -> bool:
    """Whether a port in `some` conflicts with a port in `others`."""
    return bool(others) and any(conflict(one, other) for one in some for other in others)
