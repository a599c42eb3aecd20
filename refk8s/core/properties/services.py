"""What must be true of services and of the addresses and ports that they hold, in every state of the store.

    inv   ALLOC-1   one holder, and nothing held for nobody

Each predicate yields a sentence for every way in which a state breaks its rule. They take plain objects, and so judge a simulated run and a
foreign cluster's recording alike (of which the node ports' records are not to be had: give None for them).
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any


def alloc_1_one_holder(
    services: Iterable[Any], addresses: Mapping[str, Any], node_ports: Mapping[int, Any] | None = None
) -> Iterator[str]:
    """ALLOC-1. `addresses` are the IPAddress objects by name, `node_ports` the records of held node ports by number."""
    holders: dict[str | int, str] = {}
    for service in services:
        name = f"{service.metadata.namespace}/{service.metadata.name}"
        wanted: dict[str | int, None] = dict.fromkeys(address for address in service.spec.cluster_ips or () if address != "None")
        if service.spec.type in ("NodePort", "LoadBalancer"):
            wanted.update(dict.fromkeys(port.node_port for port in service.spec.ports or () if port.node_port))
        if service.spec.health_check_node_port:
            wanted[service.spec.health_check_node_port] = None
        for thing in wanted:
            if thing in holders:
                yield f"{name} and {holders[thing]} both have {thing}"
            holders[thing] = name
            held = addresses.get(thing) if isinstance(thing, str) else node_ports.get(thing) if node_ports is not None else None
            if held is None:
                if isinstance(thing, str) or node_ports is not None:
                    yield f"{name} has {thing}, which nobody holds for it"
            elif f"{held.spec.parent_ref.namespace}/{held.spec.parent_ref.name}" != name:
                yield f"{name} has {thing}, which is held for {held.spec.parent_ref.namespace}/{held.spec.parent_ref.name}"
    held_things: list[str | int] = [*addresses, *(node_ports or {})]
    for thing in held_things:
        if thing not in holders:
            yield f"{thing} is held, and no service has it"
