"""The addresses of a pod and the ports of its containers. Rules EP-2, EP-3
(spec/workloads/endpoints.md).

Source: API reference, "PodStatus" (podIP, podIPs).
"""

from collections.abc import Iterator

from refk8s.core.api.core_v1 import ContainerPort, Pod, PodSpec
from refk8s.core.api.families import of_family
from refk8s.core.pods.containers import long_running


def container_ports(spec: PodSpec) -> Iterator[ContainerPort]:
    """The ports of the containers and sidecars."""
    for container in long_running(spec):
        yield from container.ports or ()


def addresses_of(pod: Pod) -> list[str]:
    """The addresses in the pod's status."""
    if pod.status is None:
        return []
    addresses = [entry.ip for entry in pod.status.pod_ips or ()] or [pod.status.pod_ip or ""]
    return [address for address in addresses if address]


def address_of_family(pod: Pod, family: str) -> str:
    """The pod's first address of this family in its status; empty without one."""
    return of_family(addresses_of(pod), family)
