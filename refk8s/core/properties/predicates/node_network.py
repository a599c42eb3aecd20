"""Predicates of the pod networks of nodes. Rules IPAM-1, IPAM-2, ROUTE-1, ROUTE-2
(spec/node_network.md).

They read podCIDR as text, without the functions of the controller.
"""

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Network, IPv6Network, ip_network

from refk8s.core.api.core_v1 import Node
from refk8s.core.network.node_routes import Route
from refk8s.core.ports.node_network import NodeNetwork, Peer


def _networks(node: Node) -> list[IPv4Network | IPv6Network]:
    spec = node.spec
    texts = (spec.pod_cidrs or (spec.pod_cidr,)) if spec is not None else ()
    return [ip_network(text) for text in texts if text]


def ipam_1_no_two_nodes_share_a_range(node: Node, nodes: Iterable[Node]) -> Iterator[str]:
    """IPAM-1: no address is in the range of this Node and of another one."""
    for other in nodes:
        if other.metadata.uid == node.metadata.uid:
            continue
        for mine in _networks(node):
            for theirs in _networks(other):
                if mine.version == theirs.version and mine.overlaps(theirs):
                    yield (
                        f"the Nodes {node.metadata.name} and {other.metadata.name} "
                        f"have the ranges {mine} and {theirs}"
                    )


def ipam_2_every_node_has_a_range(nodes: Iterable[Node]) -> Iterator[str]:
    """IPAM-2: in a cluster at rest, every Node has a range, if there are enough."""
    for node in nodes:
        if not _networks(node) and node.metadata.deletion_timestamp is None:
            yield f"the Node {node.metadata.name} has no range"


def route_1_packets_reach_the_node(peers: Iterable[Peer], routes: Iterable[Route]) -> Iterator[str]:
    """ROUTE-1: the longest route to the first and last address of each range leads to its node.
    `peers`: those that must have a route."""
    routes = tuple(routes)
    for peer in peers:
        for cidr in (peer.pod_cidr, peer.pod_cidr6):
            network = ip_network(cidr or "0.0.0.0/32")
            for address in (network[0], network[-1]) if cidr else ():
                ways = sorted(
                    (r.range.prefixlen, str(r.node)) for r in routes if address in r.range
                )
                if not ways or ways[-1][1] not in (peer.address, peer.address6):
                    yield f"{address} of {peer.name} is sent to {ways}, not to {peer.address}"


def peer_of(node: Node) -> Peer:
    """What other nodes have to know of a Node; empty texts for what it does not have yet."""
    addresses = (node.status.addresses if node.status is not None else None) or ()
    own = [each.address for each in addresses if each.type == "InternalIP"]
    spec = node.spec
    cidrs = ((spec.pod_cidrs or (spec.pod_cidr or "",)) if spec is not None else None) or ()

    def first(texts: Iterable[str], is_six: bool) -> str:
        return next((text for text in texts if text and (":" in text) == is_six), "")

    return Peer(
        node.metadata.name or "",
        first(cidrs, False),
        first(own, False),
        first(cidrs, True),
        first(own, True),
    )


def route_1_the_network_is_that_of_the_nodes(
    network: NodeNetwork, nodes: Iterable[Node], name: str
) -> Iterator[str]:
    """ROUTE-1: a node knows its own range, and all other Nodes with a range and an address."""
    peers = {peer.name: peer for peer in map(peer_of, nodes)}
    own = peers.pop(name, Peer("", "", ""))
    mine = (network.pod_cidr, network.address, network.pod_cidr6, network.address6)
    if mine != (own.pod_cidr, own.address, own.pod_cidr6, own.address6):
        yield f"{name} has {network.pod_cidr} and {network.address}, not {own}"
    wanted = {
        peer
        for peer in peers.values()
        if (peer.pod_cidr and peer.address) or (peer.pod_cidr6 and (peer.address6 or peer.address))
    }
    if {*network.peers} != wanted:
        yield f"{name} has routes to {network.peers}, not to {sorted(wanted)}"


def route_2_the_first_network_has_a_range(network: NodeNetwork, name: str) -> Iterator[str]:
    """ROUTE-2: nothing is passed on before the own Node has a range."""
    if not network.pod_cidr and not network.pod_cidr6:
        yield f"{name} removes the routes of an earlier process before it knows its range"
