"""The addresses of a node, which its pods show as theirs. Rule KUBELET-119 (spec/kubelet.md).

Source: Kubernetes documentation, "IPv4/IPv6 dual-stack" (`--node-ip`); API reference, "NodeAddress".
"""

from refk8s.core.kubelet.config import KubeletConfig
from refk8s.core.ports import NodeDescribed


def node_ips(config: KubeletConfig, node: NodeDescribed) -> tuple[str, ...]:
    """One address, or one of each family, the primary one first."""
    if config.node_ip:
        return tuple(config.node_ip.split(","))
    return (node.internal_ip, node.second_ip) if node.second_ip else (node.internal_ip,)
