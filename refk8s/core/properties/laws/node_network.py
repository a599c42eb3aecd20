"""Laws of the pod networks of nodes. Rules IPAM-1, IPAM-2 (spec/node_network.md)."""

from collections.abc import Iterable
from typing import Any

from refk8s.core.api.core_v1 import Node
from refk8s.core.api.resources import NODES
from refk8s.core.cluster.state import Cluster
from refk8s.core.properties.law import Law, objects
from refk8s.core.properties.predicates.node_network import (
    ipam_1_no_two_nodes_share_a_range,
    ipam_2_every_node_has_a_range,
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


def _has_range(node: Node) -> bool:
    return node.spec is not None and bool(node.spec.pod_cidr)


OF_CHANGES = (Law("IPAM-1", no_two_nodes_share_a_range, NODES.prefix),)
OF_REST = (Law("IPAM-2", every_node_has_a_range),)
