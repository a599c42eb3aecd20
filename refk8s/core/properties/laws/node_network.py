"""Laws of the pod networks of nodes. Rules IPAM-1, IPAM-2, ROUTE-1, ROUTE-2 (spec/node_network.md).

The links of a simulated node are those of its InternalIP and of nothing else.
"""

from collections.abc import Iterable, Iterator
from ipaddress import ip_network
from typing import Any

from refk8s.core.actions import Action
from refk8s.core.api.core_v1 import Node
from refk8s.core.api.families import Network
from refk8s.core.api.resources import NODES
from refk8s.core.cluster.state import Cluster
from refk8s.core.loop.state import LoopState
from refk8s.core.network.node_routes import AUTO, compute_routes
from refk8s.core.ports.node_network import NodeNetwork
from refk8s.core.properties.law import Law, objects
from refk8s.core.properties.predicates.node_network import (
    ipam_1_no_two_nodes_share_a_range,
    ipam_2_every_node_has_a_range,
    peer_of,
    route_1_packets_reach_the_node,
    route_1_the_network_is_that_of_the_nodes,
    route_2_the_first_network_has_a_range,
)
from refk8s.core.store import Change


def no_two_nodes_share_a_range(
    change: Change[Any], before: Cluster, after: Cluster
) -> Iterable[str] | None:
    """IPAM-1, for a write that gives a Node a range."""
    if change.record is None or not _has_range(change.record.value):
        return None
    if change.previous is not None and _has_range(change.previous.value):
        return None
    return ipam_1_no_two_nodes_share_a_range(change.record.value, objects(after, NODES.prefix))


def every_node_has_a_range(cluster: Cluster) -> Iterable[str] | None:
    """IPAM-2, if the cluster allocates ranges and has enough of them."""
    nodes = objects(cluster, NODES.prefix)
    return ipam_2_every_node_has_a_range(nodes) if any(map(_has_range, nodes)) else None


def new_networks_match_the_view(
    before: Cluster, action: Action, after: Cluster
) -> Iterable[str] | None:
    """ROUTE-1: a network that a machine gives to its adapter follows from its view of the Nodes."""
    found: list[str] = []
    for name, network in _new_networks(before, after):
        state = after.components[name].state
        if isinstance(state, LoopState):
            found += route_1_the_network_is_that_of_the_nodes(
                network, state.view.list(NODES), name.partition("/")[2]
            )
    return found if before.networks is not after.networks else None


def first_networks_have_a_range(
    before: Cluster, action: Action, after: Cluster
) -> Iterable[str] | None:
    """ROUTE-2, for the first network of an instance."""
    if before.networks is after.networks:
        return None
    return [
        words
        for name, network in _new_networks(before, after)
        if name not in before.networks
        for words in route_2_the_first_network_has_a_range(network, name.partition("/")[2])
    ]


def packets_to_pods_reach_their_nodes(cluster: Cluster) -> Iterable[str] | None:
    """ROUTE-1, for every pair of nodes of a settled cluster."""
    if not cluster.networks:
        return None
    nodes = objects(cluster, NODES.prefix)
    peers = [peer for peer in map(peer_of, nodes) if peer.pod_cidr and peer.address]
    return [
        f"{name}: {words}"
        for name, network in sorted(cluster.networks.items())
        for words in route_1_packets_reach_the_node(
            [peer for peer in peers if peer.name != name.partition("/")[2]],
            compute_routes(network, _links(network), AUTO).routes,
        )
    ]


def _new_networks(before: Cluster, after: Cluster) -> Iterator[tuple[str, Any]]:
    for name in sorted(after.networks):
        if before.networks.get(name) is not after.networks[name]:
            yield name, after.networks[name]


def _links(network: NodeNetwork) -> list[Network]:
    links = ((network.address, 24), (network.address6, 112))
    return [ip_network(f"{address}/{length}", strict=False) for address, length in links if address]


def _has_range(node: Node) -> bool:
    return node.spec is not None and bool(node.spec.pod_cidr)


OF_CHANGES = (Law("IPAM-1", no_two_nodes_share_a_range, NODES.prefix),)
OF_STEPS = (
    Law("ROUTE-1", new_networks_match_the_view),
    Law("ROUTE-2", first_networks_have_a_range),
)
OF_REST = (
    Law("IPAM-2", every_node_has_a_range),
    Law("ROUTE-1", packets_to_pods_reach_their_nodes),
)
