"""The slice with which a node's name server is found. Rule DNS-19 (spec/dns.md).

Source: Kubernetes documentation, "EndpointSlices" (management), "Service Internal Traffic Policy";
"Using NodeLocal DNSCache in Kubernetes Clusters".
"""

from collections.abc import Mapping

from msgspec.structs import replace

from refk8s.core.api.core_v1 import Node, Service
from refk8s.core.api.discovery_v1 import (
    Endpoint,
    EndpointConditions,
    EndpointPort,
    EndpointSlice,
)
from refk8s.core.api.dns_slice import NAME, NAMESPACE, slice_name
from refk8s.core.api.meta_v1 import ObjectMeta, OwnerReference
from refk8s.core.network.proxy import SERVICE_NAME

MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
CONTROLLER = "name-server.refk8s.io"
Write = tuple[str, EndpointSlice]
"""(verb, object)."""


def correct_slice(
    service: Service | None,
    found: EndpointSlice | None,
    node: Node | None,
    address: str,
    ports: Mapping[str, int],
) -> list[Write]:
    """DNS-19: the writes after which the slice leads to a name server at this address; none if it
    does already. `ports`: the numbers of the served ports of the service by name.

    A service with a selector is that of another DNS, whose endpoints are written by a controller:
    the slice is deleted. Without the service or the node there is nothing to write.
    """
    is_ours = found is not None and (found.metadata.labels or {}).get(MANAGED_BY) == CONTROLLER
    if found is not None and not is_ours:
        return []
    if service is None or service.spec is None or service.spec.selector:
        return [("delete", found)] if found is not None else []
    if node is None:
        return []
    wanted = _slice(service, node, address, ports)
    if found is None:
        return [("create", wanted)]
    owners = [(owner.kind, owner.uid) for owner in found.metadata.owner_references or ()]
    if owners != [("Node", node.metadata.uid)]:
        # of an earlier node of this name: the garbage collector may already have begun to delete it
        return [("delete", found)]
    if (found.endpoints, found.ports, found.metadata.labels) == (
        wanted.endpoints,
        wanted.ports,
        wanted.metadata.labels,
    ):
        return []
    metadata = replace(found.metadata, labels=wanted.metadata.labels)
    return [
        (
            "update",
            replace(found, metadata=metadata, endpoints=wanted.endpoints, ports=wanted.ports),
        )
    ]


def _slice(service: Service, node: Node, address: str, ports: Mapping[str, int]) -> EndpointSlice:
    """The slice of this node; with the node it is deleted."""
    assert service.spec is not None
    owner = OwnerReference(
        api_version="v1", kind="Node", name=node.metadata.name or "", uid=node.metadata.uid or ""
    )
    return EndpointSlice(
        metadata=ObjectMeta(
            name=slice_name(node.metadata.name or ""),
            namespace=NAMESPACE,
            labels={SERVICE_NAME: NAME, MANAGED_BY: CONTROLLER},
            owner_references=(owner,),
        ),
        address_type="IPv4",
        endpoints=(
            Endpoint(
                addresses=(address,),
                conditions=EndpointConditions(ready=True, serving=True, terminating=False),
                node_name=node.metadata.name,
            ),
        ),
        ports=tuple(
            EndpointPort(name=port.name, protocol=port.protocol, port=ports[port.name or ""])
            for port in service.spec.ports or ()
            if port.name in ports
        ),
    )
