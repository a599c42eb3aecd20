"""Predicates of the addresses and ports allocated to services, in every state of the store. Rules
ALLOC-1, ALLOC-9 (spec/admission.md).

Each predicate yields a sentence for every way in which a state breaks its rule. They take plain
objects, so they also check the recording of another cluster, which does not show the records of
node ports: pass None for those.
"""

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import ip_address
from typing import Any

ALLOCATED = "ipaddress.kubernetes.io/managed-by"
"""The label of an IPAddress that the API server allocated for a service. Users may create
others."""


def allocations_of(service: Any) -> list[str | int]:
    """The addresses and node ports that a service has."""
    spec = service.spec
    found: dict[str | int, None] = dict.fromkeys(
        str(ip_address(address)) for address in spec.cluster_ips or () if address != "None"
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
    """ALLOC-1. `addresses`: the IPAddress objects by name; `node_ports`: the records of allocated
    node ports by number."""
    holders: dict[str | int, str] = {}
    for service in services:
        name = f"{service.metadata.namespace}/{service.metadata.name}"
        for thing in allocations_of(service):
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
                    yield f"{name} has {thing}, which is not allocated"
            elif f"{held.spec.parent_ref.namespace}/{held.spec.parent_ref.name}" != name:
                yield (
                    f"{name} has {thing}, which is allocated to "
                    f"{held.spec.parent_ref.namespace}/{held.spec.parent_ref.name}"
                )


def alloc_9_nothing_held_without_its_service(
    services: Iterable[Any], addresses: Mapping[str, Any], node_ports: Mapping[int, Any]
) -> Iterator[str]:
    """ALLOC-9. Arguments as those of `alloc_1_one_holder`."""
    had = {thing for service in services for thing in allocations_of(service)}
    held: list[str | int] = [
        name for name, address in addresses.items() if ALLOCATED in (address.metadata.labels or {})
    ]
    for thing in (*held, *node_ports):
        if thing not in had:
            yield f"{thing} is allocated, and no service has it"
