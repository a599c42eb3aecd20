"""EndpointSlices: the addresses behind each service with a selector. Rules SLICE-1, SLICE-3,
SLICE-6, SLICE-7, SLICE-8, SLICE-10 (spec/workloads/endpoints.md).

The endpoints are computed here and divided into slices in `slices.py`. Source: KEP-752
"EndpointSlice", KEP-1672 "Tracking terminating endpoints"; Kubernetes documentation,
"EndpointSlices"; KEP-4444 and KEP-3015 (traffic distribution). Left out: the annotation
endpoints.kubernetes.io/last-change-trigger-time (D-47).
"""

from collections.abc import Iterable

from refk8s.core.api.core_v1 import Node, ObjectReference, Pod, Service
from refk8s.core.api.discovery_v1 import (
    Endpoint,
    EndpointConditions,
    EndpointHints,
    EndpointPort,
    ForNode,
    ForZone,
)
from refk8s.core.api.meta_v1 import ObjectMeta, OwnerReference
from refk8s.core.api.resources import ENDPOINT_SLICES, NODES, PODS, SERVICES
from refk8s.core.context import Instant
from refk8s.core.controllers.endpoints_of import (
    HEADLESS,
    INDEXES,
    address_of,
    families_of,
    has_selector,
    hostname_of,
    is_headless,
    selected_pods,
    services_of_pod,
    target_port,
)
from refk8s.core.controllers.node_lifecycle import pods_by_node
from refk8s.core.controllers.slices import (
    BY_SERVICE,
    ENDPOINTS_MAX,
    MANAGED_BY,
    SERVICE_NAME,
    Ports,
    Wanted,
    lay_out_families,
    services_of_slice,
    slices_of,
    writes,
)
from refk8s.core.loop.plan import NOTHING, Key, Local, Note, Plan
from refk8s.core.loop.reconciler import Interest, Reconciler, own_key
from refk8s.core.loop.view import Index, View
from refk8s.core.pods.status import is_ready

CONTROLLER = "endpointslice-controller.k8s.io"
ZONE = "topology.kubernetes.io/zone"
MODE, OLD_MODE = "service.kubernetes.io/topology-mode", "service.kubernetes.io/topology-aware-hints"
PREFER_CLOSE, PREFER_SAME_ZONE, PREFER_SAME_NODE = "PreferClose", "PreferSameZone", "PreferSameNode"


def _services_on_node(view: View, old: Node | None, new: Node | None) -> Iterable[Key]:
    """The services with a pod on a node that was created, removed or got another zone (SLICE-6),
    and those with topology aware hints if the node counts otherwise for them (SLICE-10). O(pods on
    the node)."""
    hinted = _hinted_by_node(view, old, new)
    zone_before, zone_after = (
        ((node.metadata.labels or {}).get(ZONE) if node is not None else "") for node in (old, new)
    )
    either = new if new is not None else old
    if either is None or (old is not None and new is not None and zone_before == zone_after):
        return hinted
    return dict.fromkeys(hinted) | dict.fromkeys(
        key
        for pod in view.indexed(PODS, "node", either.metadata.name or "")
        for key in services_of_pod(view, None, pod)
    )


def _hinted_by_node(view: View, old: Node | None, new: Node | None) -> Iterable[Key]:
    services = view.indexed_keys(SERVICES, "topology_aware", MODE)
    if not services:
        return ()
    from refk8s.core.controllers.topology_hints import node_facts

    return services if node_facts(old) != node_facts(new) else ()


def is_topology_aware(service: Service) -> bool:
    """SLICE-10: whether the annotation asks for hints by zone. They replace those of
    `trafficDistribution`."""
    annotations = service.metadata.annotations
    if not annotations:
        return False
    return annotations.get(OLD_MODE, annotations.get(MODE)) in ("Auto", "auto")


def _topology_aware(service: Service) -> list[str]:
    return [MODE] if is_topology_aware(service) else []


class EndpointSliceController(Reconciler):
    """Reconciles the slices of one service."""

    name = "endpointslice-controller"
    interests = (
        Interest(SERVICES, own_key),
        Interest(PODS, services_of_pod),
        Interest(ENDPOINT_SLICES, services_of_slice),
        Interest(NODES, _services_on_node),
    )
    indexes = (
        *INDEXES,
        BY_SERVICE,
        pods_by_node(),
        Index("topology_aware", SERVICES, _topology_aware, lambda one: one.metadata.annotations),
    )

    def __init__(self, endpoints_max: int = ENDPOINTS_MAX) -> None:
        self.endpoints_max = endpoints_max  # in one slice

    def reconcile(self, view: View, key: Key, now: Instant, local: Local) -> Plan:
        """Write the service's pods into its slices (SLICE-1)."""
        # Observe
        service: Service | None = view.get(SERVICES, key)
        if (
            service is None
            or service.metadata.deletion_timestamp is not None
            or not has_selector(service)
        ):
            return NOTHING  # EP-1; the garbage collector deletes the slices of a removed service

        slices = slices_of(view, key, CONTROLLER)

        # Decide
        wanted = {
            family: compute_endpoints(view, service, family) for family in families_of(service)
        }
        is_hinted = is_topology_aware(service)
        if is_hinted:
            from refk8s.core.controllers.topology_hints import add_hints_of, with_old_hints

            wanted = {family: with_old_hints(each, slices) for family, each in wanted.items()}
        layouts = lay_out_families(slices, wanted, True, self.endpoints_max)
        notes: tuple[Note, ...] = ()
        if is_hinted:
            layouts, notes = add_hints_of(service, layouts, slices, view.list(NODES))

        # Act
        requests = writes(layouts, compute_metadata(service), service.metadata.name or "")
        return Plan((requests,) if requests else (), notes=notes) if requests or notes else NOTHING


def compute_endpoints(view: View, service: Service, family: str) -> Wanted:
    """The endpoints of this family by their resolved ports, each pod once, in the order of pods
    (SLICE-1, SLICE-9)."""
    found: Wanted = {}
    for pod in selected_pods(view, service):
        address = address_of(pod, family)
        node: Node | None = view.get(NODES, pod.spec.node_name or "")
        if address is None or (node is None and not service.spec.publish_not_ready_addresses):
            # SLICE-6: its node does not exist, so its zone is unknown
            continue
        found.setdefault(compute_ports(service, pod), []).append(
            compute_endpoint(service, pod, address, node)
        )
    return found


def compute_ports(service: Service, pod: Pod) -> Ports:
    """The service's ports as resolved in this pod, without those that it does not have (EP-3)."""
    found = []
    for port in service.spec.ports or ():
        number = target_port(pod, port)
        if number is not None:
            found.append(
                EndpointPort(
                    name=port.name or "",
                    port=number,
                    protocol=port.protocol or "TCP",
                    app_protocol=port.app_protocol,
                )
            )
    return tuple(found)


def compute_endpoint(service: Service, pod: Pod, address: str, node: Node | None) -> Endpoint:
    """SLICE-3: `serving` is the pod's readiness, `terminating` its deletion, and `ready` follows
    from both, or from publishNotReadyAddresses."""
    serving = is_ready(pod)
    terminating = pod.metadata.deletion_timestamp is not None
    ready = bool(service.spec.publish_not_ready_addresses) or (serving and not terminating)
    reference = ObjectReference(
        kind="Pod", namespace=pod.metadata.namespace, name=pod.metadata.name, uid=pod.metadata.uid
    )
    zone = (node.metadata.labels or {}).get(ZONE) or None if node is not None else None
    return Endpoint(
        addresses=(address,),
        conditions=EndpointConditions(ready=ready, serving=serving, terminating=terminating),
        hostname=hostname_of(pod, service),
        node_name=pod.spec.node_name or None,
        target_ref=reference,
        zone=zone,
        hints=compute_hints(service, zone, pod.spec.node_name or "") if ready else None,
    )


def compute_hints(service: Service, zone: str | None, node_name: str) -> EndpointHints | None:
    """SLICE-8: for which clients a ready endpoint is; None for all."""
    distribution = service.spec.traffic_distribution
    if distribution not in (PREFER_CLOSE, PREFER_SAME_ZONE, PREFER_SAME_NODE):
        return None
    zones = (ForZone(name=zone),) if zone else None
    nodes = (ForNode(name=node_name),) if node_name and distribution == PREFER_SAME_NODE else None
    return EndpointHints(for_zones=zones, for_nodes=nodes) if zones or nodes else None


def compute_metadata(service: Service) -> ObjectMeta:
    """SLICE-7: the service's labels, the labels of service and controller, and the owner."""
    labels = {
        key: value
        for key, value in (service.metadata.labels or {}).items()
        if key not in (SERVICE_NAME, MANAGED_BY, HEADLESS)
    }
    labels |= {SERVICE_NAME: service.metadata.name or "", MANAGED_BY: CONTROLLER}
    if is_headless(service):
        labels[HEADLESS] = ""
    owner = OwnerReference(
        api_version="v1", kind="Service", name=service.metadata.name or "", uid=service.metadata.uid or "", controller=True,
        block_owner_deletion=True,
    )  # fmt: skip
    return ObjectMeta(
        generate_name=f"{service.metadata.name}-",
        namespace=service.metadata.namespace,
        labels=labels,
        owner_references=(owner,),
    )
