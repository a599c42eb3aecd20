"""What the network of pods needs of a Node: its addresses, and the ranges of its pods.

Source: API reference, "NodeStatus" (addresses), "NodeSpec" (podCIDR, podCIDRs).
"""

from refk8s.core.api.core_v1 import Node
from refk8s.core.api.families import IPV4, of_family


def internal_ip(node: Node, family: str = IPV4) -> str:
    """The first InternalIP of this family; empty without one."""
    addresses = (node.status.addresses or ()) if node.status is not None else ()
    return of_family([each.address for each in addresses if each.type == "InternalIP"], family)


def pod_cidrs(node: Node | None) -> tuple[str, ...]:
    """The ranges of the Node's pods, the primary one first; empty without one."""
    if node is None or node.spec is None:
        return ()
    return node.spec.pod_cidrs or ((node.spec.pod_cidr,) if node.spec.pod_cidr else ())


def pod_cidr(node: Node | None, family: str = IPV4) -> str:
    """The range of this family of the Node's pods; empty without one."""
    return of_family(pod_cidrs(node), family)
