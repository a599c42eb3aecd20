"""The components of one node, each with the adapter of its driver."""

from collections.abc import Awaitable, Callable
from typing import Any

from refk8s.components.cluster_dns import ClusterDns
from refk8s.core import components
from refk8s.core.api.request import Request, Response
from refk8s.core.kubelet.config import KubeletConfig
from refk8s.core.machine import AnyMachine
from refk8s.core.network.dns_machine import dns
from refk8s.core.ports import Node


def node_parts(
    node: Node, config: KubeletConfig, call: Callable[[Request], Awaitable[Response | None]]
) -> tuple[list[tuple[AnyMachine, dict[str, Any]]], ClusterDns | None]:
    """(each machine and the adapters of its driver, what keeps the name server behind kube-dns):
    the kubelet, the proxy, and, if the node has them, the policies, the routes to other nodes and
    the name server."""
    parts: list[tuple[AnyMachine, dict[str, Any]]] = []
    keeper = None
    if node.name_server is not None:
        parts.append((dns(domain=config.cluster_domain), {"name_server": node.name_server}))
        keeper = ClusterDns(node.name_server, node.name, call)
    if node.policies is not None:
        parts.append((components.policy_machine(node.name), {"policies": node.policies}))
    if node.network is not None:
        parts.append((components.network_machine(node.name), {"network": node.network}))
    for machine in components.node_machines(node.name, config):
        is_kubelet = machine.name == components.kubelet_name(node.name)
        parts.append((machine, {"runtime": node.runtime} if is_kubelet else {"rules": node.rules}))
    return parts, keeper
