"""The network of pods across nodes, as a node sees it (spec/node_network.md)."""

from refk8s.core.value import Value


class Peer(Value, frozen=True, order=True):
    """Another node: the range of its pods, and its InternalIP, of IPv4 and of IPv6; those that it
    does not have are empty."""

    name: str
    pod_cidr: str
    address: str
    pod_cidr6: str = ""
    address6: str = ""


class NodeNetwork(Value, frozen=True):
    """The range of this node's pods, its InternalIP, and the other nodes, sorted; the same of IPv6.
    The ranges are empty before the Node has one."""

    pod_cidr: str = ""
    address: str = ""
    peers: tuple[Peer, ...] = ()
    pod_cidr6: str = ""
    address6: str = ""
