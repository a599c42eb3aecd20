"""What the network of pods needs of a Node: its address, and the range of its pods.

Source: API reference, "NodeStatus" (addresses), "NodeSpec" (podCIDR, podCIDRs). Left out: IPv6.
"""

from refk8s.core.api.core_v1 import Node


def internal_ip(node: Node) -> str:
    """The first InternalIP of IPv4; empty without one."""
    addresses = (node.status.addresses or ()) if node.status is not None else ()
    return next(
        (
            each.address
            for each in addresses
            if each.type == "InternalIP" and ":" not in each.address
        ),
        "",
    )


def pod_cidr(node: Node | None) -> str:
    """The range of IPv4 addresses of the Node's pods; empty without one."""
    if node is None or node.spec is None:
        return ""
    cidrs = node.spec.pod_cidrs or (node.spec.pod_cidr or "",)
    return next((cidr for cidr in cidrs if ":" not in cidr), "")
