"""The addresses of a pod and the ports of its containers. Rules EP-2, EP-3
(spec/workloads/endpoints.md).

Source: API reference, "PodStatus" (podIP, podIPs). Left out: IPv6.
"""

from collections.abc import Iterator

from refk8s.core.api.core_v1 import ContainerPort, Pod, PodSpec
from refk8s.core.pods.containers import long_running


def container_ports(spec: PodSpec) -> Iterator[ContainerPort]:
    """The ports of the containers and sidecars."""
    for container in long_running(spec):
        yield from container.ports or ()


def ipv4_addresses(pod: Pod) -> tuple[str, ...]:
    """The IPv4 addresses in the pod's status."""
    if pod.status is None:
        return ()
    addresses = [entry.ip for entry in pod.status.pod_ips or ()] or [pod.status.pod_ip or ""]
    return tuple([address for address in addresses if address and is_ipv4(address)])


def is_ipv4(address: str) -> bool:
    """Whether a valid address is IPv4, the only family of services and pods here."""
    return bool(address) and ":" not in address
