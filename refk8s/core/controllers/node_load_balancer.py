"""Services of type LoadBalancer, served by the addresses of the nodes. Rules LB-1 to LB-4
(spec/network.md).

The controller writes the addresses into the status of the Service, and the proxy of each node sends
packets to them to its endpoints (NET-4). Source: Kubernetes documentation, "Service" (type
LoadBalancer); KEP-1860 "Load balancer IP mode". Left out: load
balancers that are machines of their own.
"""

from operator import attrgetter

from immutables import Map
from msgspec.structs import replace

from refk8s.core.api.core_v1 import (
    LoadBalancerIngress,
    LoadBalancerStatus,
    Node,
    Service,
    ServiceSpec,
    ServiceStatus,
)
from refk8s.core.api.discovery_v1 import EndpointSlice
from refk8s.core.api.request import Request
from refk8s.core.api.resources import ENDPOINT_SLICES, NODES, SERVICES
from refk8s.core.api.user import service_account_user
from refk8s.core.context import Instant
from refk8s.core.controllers.slices import SERVICE_NAME, services_of_slice
from refk8s.core.loop.plan import NOTHING, Key, Local, Note, Plan
from refk8s.core.loop.reconciler import Interest, Reconciler, own_key
from refk8s.core.loop.view import Index, View
from refk8s.core.pods.node import internal_ip

EXCLUDED = "node.kubernetes.io/exclude-from-external-load-balancers"
KEPT_PORTS = frozenset({22, 2379, 2380, 6443, 10250, 10256, 10257, 10259})
"""Ports of the nodes' own: ssh, etcd and the components (LB-3)."""
REFUSED = "UnsupportedLoadBalancer"


def _balanced(service: Service) -> tuple[str, ...]:
    """The value of the index: Services for which this controller is responsible (LB-1)."""
    spec = service.spec
    is_ours = spec is not None and spec.type == "LoadBalancer" and spec.load_balancer_class is None
    return ("",) if is_ours else ()


def _of_slice(slice: EndpointSlice) -> tuple[str, ...]:
    name = (slice.metadata.labels or {}).get(SERVICE_NAME)
    return (f"{slice.metadata.namespace}/{name}",) if name else ()


def _when_a_node_matters(view: View, old: Node | None, new: Node | None) -> list[Key]:
    """All Services with load balancers, if the address of a node is to be added or removed."""
    if usable_address(old) == usable_address(new):
        return []
    return view.indexed_keys(SERVICES, "load-balanced", "")


def usable_address(node: Node | None) -> str:
    """The address at which a Node serves load balancers; empty if it does not (LB-2)."""
    if node is None or node.metadata.deletion_timestamp is not None:
        return ""
    if EXCLUDED in (node.metadata.labels or {}):
        return ""
    conditions = (node.status.conditions or ()) if node.status is not None else ()
    is_ready = any(each.type == "Ready" and each.status == "True" for each in conditions)
    return internal_ip(node) if is_ready else ""


class NodeLoadBalancer(Reconciler):
    """Reconciles one Service."""

    name = "service-lb-controller"
    component = "service-controller"
    user = service_account_user("kube-system", "service-controller")
    interests = (
        Interest(SERVICES, own_key),
        Interest(ENDPOINT_SLICES, services_of_slice),
        Interest(NODES, _when_a_node_matters),
    )
    indexes = (
        Index("load-balanced", SERVICES, _balanced, attrgetter("spec")),
        Index("load-balanced", ENDPOINT_SLICES, _of_slice, attrgetter("metadata.labels")),
    )

    def start_memory(self, now: Instant) -> Map[Key, str]:
        """By Service: why it has no address, as the last Event said."""
        return Map()

    def reconcile(self, view: View, key: Key, now: Instant, local: Local) -> Plan:
        # Observe
        memory: Map[Key, str] = local.memory
        service: Service | None = view.get(SERVICES, key)
        if service is None or not _balanced(service):
            return Plan(memory=memory.delete(key)) if key in memory else NOTHING
        assert service.spec is not None

        # Decide
        problem = why_not(service)
        addresses = () if problem else find_addresses(view, key, service.spec)
        ingress = tuple([LoadBalancerIngress(ip=each, ip_mode="VIP") for each in addresses])
        held = service.status.load_balancer if service.status is not None else None
        is_same = ((held.ingress if held is not None else None) or ()) == ingress

        # Report
        notes: tuple[Note, ...] = ()
        if problem and memory.get(key) != problem:
            notes, memory = (Note(service, REFUSED, problem, "Warning"),), memory.set(key, problem)
        elif not problem and key in memory:
            memory = memory.delete(key)
        if is_same:
            return Plan(memory=memory, notes=notes) if memory is not local.memory else NOTHING
        status = replace(
            service.status or ServiceStatus(),
            load_balancer=LoadBalancerStatus(ingress=ingress or None),
        )
        request = Request(
            "update",
            SERVICES,
            service.metadata.namespace or "",
            service.metadata.name or "",
            "status",
            body=replace(service, status=status),
            because=f"{len(ingress)} nodes serve it",
        )
        return Plan(((request,),), memory=memory, notes=notes)


def why_not(service: Service) -> str:
    """Why nodes cannot serve this Service; empty if they can (LB-3)."""
    spec = service.spec
    assert spec is not None
    kept = sorted({port.port for port in spec.ports or ()} & KEPT_PORTS)
    if kept:
        return f"port {kept[0]} is used by the nodes themselves; choose another port"
    return ""


def find_addresses(view: View, key: Key, spec: ServiceSpec) -> tuple[str, ...]:
    """The addresses of the nodes that serve it, sorted; with externalTrafficPolicy Local only of
    those with endpoints (LB-2). O(nodes + endpoints)."""
    nodes = {node.metadata.name: usable_address(node) for node in view.list(NODES)}
    if spec.external_traffic_policy == "Local":
        with_endpoints = {
            endpoint.node_name
            for slice in view.indexed(ENDPOINT_SLICES, "load-balanced", key)
            for endpoint in slice.endpoints or ()
            if endpoint.conditions is None or endpoint.conditions.ready is not False
        }
        nodes = {name: address for name, address in nodes.items() if name in with_endpoints}
    return tuple(sorted(address for address in nodes.values() if address))
