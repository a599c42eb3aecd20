"""This machine: its name, its address, and the name server that it can run."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from refk8s.adapters.linux.address import (
    address_towards,
    hostname,
    is_own_address,
    node_address,
    node_address6,
)
from refk8s.adapters.linux.resolv_conf import DEFAULT

if TYPE_CHECKING:
    from refk8s.adapters.linux.kernel_policies import KernelPolicies
    from refk8s.adapters.linux.name_server.server import NameServer as LinuxNameServer
    from refk8s.adapters.linux.name_server.server import PodsBridge
    from refk8s.adapters.linux.service_rules import Aside, ServiceRules


def create_name_server(
    domain: str, resolv_conf: Path | None, cluster_address: str, pods_bridge: "PodsBridge"
) -> "LinuxNameServer":
    """A name server of this machine's pods; its sockets are not opened."""
    from refk8s.adapters.linux.name_server.server import NameServer

    return NameServer(domain, resolv_conf or DEFAULT, cluster_address, pods_bridge)


def create_service_rules(
    rules_id: str, node_ip: str, pod_cidr: Callable[[], tuple[str, str]], aside: "Aside"
) -> "ServiceRules":
    """The service rules of this machine."""
    from refk8s.adapters.linux.service_rules import ServiceRules

    return ServiceRules(rules_id, node_ip, pod_cidr, aside)


def create_policies(rules_id: str, pod_cidr: Callable[[], tuple[str, str]]) -> "KernelPolicies":
    """The network policies of this machine."""
    from refk8s.adapters.linux.kernel_policies import KernelPolicies

    return KernelPolicies(rules_id, pod_cidr)


__all__ = [
    "address_towards",
    "create_name_server",
    "create_policies",
    "create_service_rules",
    "hostname",
    "is_own_address",
    "node_address",
    "node_address6",
]
