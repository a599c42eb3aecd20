"""Laws of the addresses and ports that are allocated to services. Rules ALLOC-1, ALLOC-9
(spec/admission.md)."""

from collections.abc import Iterable
from typing import Any

from refk8s.core.api.resources import IP_ADDRESSES, SERVICES
from refk8s.core.apiserver.admission.ledger import NODE_PORT_PREFIX
from refk8s.core.cluster.state import Cluster
from refk8s.core.properties.law import Law, objects
from refk8s.core.properties.predicates.services import (
    alloc_1_one_holder,
    alloc_9_nothing_held_without_its_service,
)
from refk8s.core.store import Change


def _held(cluster: Cluster) -> tuple[list[Any], dict[str, Any], dict[int, Any]]:
    addresses = {
        address.metadata.name: address for address in objects(cluster, IP_ADDRESSES.prefix)
    }
    ports = {int(held.metadata.name): held for held in objects(cluster, NODE_PORT_PREFIX)}
    return objects(cluster, SERVICES.prefix), addresses, ports


def one_holder_of_each_address(
    change: Change[Any], before: Cluster, after: Cluster
) -> Iterable[str]:
    """ALLOC-1, when a service is created, changed or removed."""
    return alloc_1_one_holder(*_held(after))


def a_service_leaves_nothing_behind(
    change: Change[Any], before: Cluster, after: Cluster
) -> Iterable[str]:
    """ALLOC-9, when a service is created, changed or removed."""
    return alloc_9_nothing_held_without_its_service(*_held(after))


def an_address_has_its_service(
    change: Change[Any], before: Cluster, after: Cluster
) -> Iterable[str]:
    """ALLOC-9, when an IPAddress is created, changed or removed."""
    return alloc_9_nothing_held_without_its_service(*_held(after))


def a_node_port_has_its_service(
    change: Change[Any], before: Cluster, after: Cluster
) -> Iterable[str]:
    """ALLOC-9, when the record of a node port is created, changed or removed."""
    return alloc_9_nothing_held_without_its_service(*_held(after))


OF_CHANGES = (
    Law("ALLOC-1", one_holder_of_each_address, SERVICES.prefix),
    Law("ALLOC-9", a_service_leaves_nothing_behind, SERVICES.prefix),
    Law("ALLOC-9", an_address_has_its_service, IP_ADDRESSES.prefix),
    Law("ALLOC-9", a_node_port_has_its_service, NODE_PORT_PREFIX),
)
