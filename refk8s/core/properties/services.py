"""What must be true of services and of the addresses and ports that they hold, in every state of
the store.

    inv   ALLOC-1   one holder
    inv   ALLOC-9   nothing held without its service

Each predicate yields a sentence for every way in which a state breaks its rule. They take plain
objects, and so judge a simulated run and a foreign cluster's recording alike (of which the node
ports' records are not to be had: give None for them).
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from refk8s.core.api.resources import IP_ADDRESSES, SERVICES
from refk8s.core.apiserver.admission.allocate import NODE_PORT_PREFIX
from refk8s.core.cluster.state import Cluster
from refk8s.core.properties.law import Law, objects
from refk8s.core.store import Change

ALLOCATED = "ipaddress.kubernetes.io/managed-by"
"""The label of an IPAddress that the API server made for a service: users may make others for what
they like."""


def things_of(service: Any) -> list[str | int]:
    """The addresses and node ports that a service has."""
    spec = service.spec
    found: dict[str | int, None] = dict.fromkeys(
        address for address in spec.cluster_ips or () if address != "None"
    )
    if spec.type in ("NodePort", "LoadBalancer"):
        found.update(dict.fromkeys(port.node_port for port in spec.ports or () if port.node_port))
    if spec.health_check_node_port:
        found[spec.health_check_node_port] = None
    return list(found)


def alloc_1_one_holder(
    services: Iterable[Any],
    addresses: Mapping[str, Any],
    node_ports: Mapping[int, Any] | None = None,
) -> Iterator[str]:
    """ALLOC-1. `addresses` are the IPAddress objects by name, `node_ports` the records of held node
    ports by number."""
    holders: dict[str | int, str] = {}
    for service in services:
        name = f"{service.metadata.namespace}/{service.metadata.name}"
        for thing in things_of(service):
            if thing in holders:
                yield f"{name} and {holders[thing]} both have {thing}"
            holders[thing] = name
            held = (
                addresses.get(thing)
                if isinstance(thing, str)
                else node_ports.get(thing)
                if node_ports is not None
                else None
            )
            if held is None:
                if isinstance(thing, str) or node_ports is not None:
                    yield f"{name} has {thing}, which nobody holds for it"
            elif f"{held.spec.parent_ref.namespace}/{held.spec.parent_ref.name}" != name:
                yield f"{name} has {thing}, which is held for {held.spec.parent_ref.namespace}/{held.spec.parent_ref.name}"


def alloc_9_nothing_held_without_its_service(
    services: Iterable[Any], addresses: Mapping[str, Any], node_ports: Mapping[int, Any]
) -> Iterator[str]:
    """ALLOC-9. Arguments as those of `alloc_1_one_holder`."""
    had = {thing for service in services for thing in things_of(service)}
    held: list[str | int] = [
        name for name, address in addresses.items() if ALLOCATED in (address.metadata.labels or {})
    ]
    for thing in (*held, *node_ports):
        if thing not in had:
            yield f"{thing} is held, and no service has it"


# --- laws of changes


def _held(cluster: Cluster) -> tuple[list[Any], dict[str, Any], dict[int, Any]]:
    addresses = {
        address.metadata.name: address for address in objects(cluster, IP_ADDRESSES.prefix)
    }
    ports = {int(held.metadata.name): held for held in objects(cluster, NODE_PORT_PREFIX)}
    return objects(cluster, SERVICES.prefix), addresses, ports


def one_holder_of_each_thing(change: Change[Any], before: Cluster, after: Cluster) -> Iterable[str]:
    """ALLOC-1, when a service came, changed or went."""
    return alloc_1_one_holder(*_held(after))


def a_service_leaves_nothing_behind(
    change: Change[Any], before: Cluster, after: Cluster
) -> Iterable[str]:
    """ALLOC-9, when a service came, changed or went."""
    return alloc_9_nothing_held_without_its_service(*_held(after))


def an_address_has_its_service(
    change: Change[Any], before: Cluster, after: Cluster
) -> Iterable[str]:
    """ALLOC-9, when an address came, changed or went."""
    return alloc_9_nothing_held_without_its_service(*_held(after))


def a_node_port_has_its_service(
    change: Change[Any], before: Cluster, after: Cluster
) -> Iterable[str]:
    """ALLOC-9, when a node port came, changed or went."""
    return alloc_9_nothing_held_without_its_service(*_held(after))


OF_CHANGES = (
    Law("ALLOC-1", one_holder_of_each_thing, SERVICES.prefix),
    Law("ALLOC-9", a_service_leaves_nothing_behind, SERVICES.prefix),
    Law("ALLOC-9", an_address_has_its_service, IP_ADDRESSES.prefix),
    Law("ALLOC-9", a_node_port_has_its_service, NODE_PORT_PREFIX),
)
