"""The addresses of a node, which its pods show as theirs. Rule KUBELET-119 (spec/kubelet.md).

Source: Kubernetes documentation, "IPv4/IPv6 dual-stack" (`--node-ip`); API reference,
"NodeAddress".
"""

from refk8s.core.api.families import family_of
from refk8s.core.kubelet.config import KubeletConfig
from refk8s.core.ports import NodeDescribed


def node_ips(config: KubeletConfig, node: NodeDescribed) -> tuple[str, ...]:
    """One address, or one of each family, the primary one first."""
    if config.node_ip:
        found = tuple(config.node_ip.split(","))
        is_more = (
            node.second_ip and len(found) == 1 and family_of(found[0]) != family_of(node.second_ip)
        )
        return (*found, node.second_ip) if is_more else found
    return (node.internal_ip, node.second_ip) if node.second_ip else (node.internal_ip,)
