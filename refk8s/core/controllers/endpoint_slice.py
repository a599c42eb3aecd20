"""EndpointSlices: the addresses behind each service, at most a hundred a slice. Rules SLICE-1 ... SLICE-5 (spec/workloads/endpoints.md).

Slices are changed as little as possible: what stays, stays in its slice; what is new fills slices that have room.
Source: KEP-752 "EndpointSlice", KEP-1672 "Tracking terminating endpoints"; Kubernetes documentation, "EndpointSlices".
Left out: topology hints; IPv6.
"""

from typing import Any

from msgspec.structs import replace

from refk8s.core.api.core_v1 import Endpoints, ObjectReference, Pod, Service
from refk8s.core.api.discovery_v1 import Endpoint, EndpointConditions, EndpointPort, EndpointSlice
from refk8s.core.api.meta_v1 import DeleteOptions, ObjectMeta, OwnerReference, Preconditions
from refk8s.core.api.request import Request
from refk8s.core.api.resources import ENDPOINT_SLICES, ENDPOINTS, NODES, PODS, SERVICES
from refk8s.core.context import Instant
from refk8s.core.controllers.endpoints_of import (
    HEADLESS,
    INDEXES,
    address_of,
    has_selector,
    hostname_of,
    is_headless,
    selected_pods,
    services_of_pod,
    target_port,
)
from refk8s.core.controllers.pods import ready_condition
from refk8s.core.loop.plan import NOTHING, Key, Local, Plan
from refk8s.core.loop.reconciler import Interest, Reconciler, own_key
from refk8s.core.loop.view import Index, View

ENDPOINTS_MAX = 100  # in one slice
SERVICE_NAME = "kubernetes.io/service-name"
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
CONTROLLER = "endpointslice-controller.k8s.io"
MIRROR = "endpointslicemirroring-controller.k8s.io"
ZONE = "topology.kubernetes.io/zone"

Ports = tuple[EndpointPort, ...]


def _of_service(slice: EndpointSlice) -> tuple[str, ...]:
    name = (slice.metadata.labels or {}).get(SERVICE_NAME)
    return (f"{slice.metadata.namespace}/{name}",) if name else ()


def _services_of_slice(view: View, old: Any | None, new: Any | None) -> list[Key]:
    return list(dict.fromkeys(key for slice in (old, new) if slice is not None for key in _of_service(slice)))


BY_SERVICE = Index("service", ENDPOINT_SLICES, _of_service)


class EndpointSliceController(Reconciler):
    """Looks at one service."""

    name = "endpointslice-controller"
    interests = (
        Interest(SERVICES, own_key),
        Interest(PODS, services_of_pod),
        Interest(ENDPOINT_SLICES, _services_of_slice),
        Interest(NODES, lambda view, old, new: ()),
        Interest(ENDPOINTS, own_key),
    )
    indexes = (*INDEXES, BY_SERVICE)

    def reconcile(self, view: View, key: Key, now: Instant, local: Local) -> Plan:
        """Make the slices of the service tell of its pods (SLICE-1), or of what somebody wrote by hand (SLICE-5)."""
        # Observe
        service: Service | None = view.get(SERVICES, key)
        if service is None or service.metadata.deletion_timestamp is not None:
            return NOTHING  # its slices are the garbage collector's
        slices: list[EndpointSlice] = view.indexed(ENDPOINT_SLICES, "service", key)

        # Decide
        if has_selector(service):
            manager, wanted = CONTROLLER, compute_endpoints(view, service)
        elif service.spec is not None and service.spec.type != "ExternalName":
            manager, wanted = MIRROR, mirrored(view.get(ENDPOINTS, key))
        else:
            manager, wanted = "", {}
        labels = compute_labels(service, manager)
        own = [slice for slice in slices if (slice.metadata.labels or {}).get(MANAGED_BY) in (CONTROLLER, MIRROR)]
        foreign = [slice for slice in own if (slice.metadata.labels or {}).get(MANAGED_BY) != manager]
        mine = [slice for slice in own if slice not in foreign]

        # Act
        requests = [_deletion(slice, "the service is served otherwise now") for slice in foreign]
        for ports in {tuple(slice.ports or ()): None for slice in mine} | dict.fromkeys(wanted):
            of_ports = [slice for slice in mine if tuple(slice.ports or ()) == ports]
            requests += _arrange(service, labels, ports, of_ports, wanted.get(ports, []), manager)
        return Plan((tuple(requests),)) if requests else NOTHING


def compute_endpoints(view: View, service: Service) -> dict[Ports, list[Endpoint]]:
    """The endpoints by their ports, each pod once, in the order of pods (SLICE-2, EP-3). A service without any has one empty slice."""
    found: dict[Ports, list[Endpoint]] = {}
    for pod in selected_pods(view, service):
        address = address_of(pod)
        if address is not None:
            ports = compute_ports(service, pod)
            if ports is not None:
                found.setdefault(ports, []).append(compute_endpoint(view, service, pod, address))
    return found or {(): []}


def compute_ports(service: Service, pod: Pod) -> Ports | None:
    """Where the service's ports lead in this pod; None where it has none of them."""
    assert service.spec is not None
    wanted = service.spec.ports or ()
    found = []
    for port in wanted:
        number = target_port(pod, port)
        if number is not None:
            found.append(EndpointPort(name=port.name or "", port=number, protocol=port.protocol or "TCP", app_protocol=port.app_protocol))
    return tuple(found) if found or not wanted else None


def compute_endpoint(view: View, service: Service, pod: Pod, address: str) -> Endpoint:
    """SLICE-3: serving is the pod's own readiness, terminating its deletion, ready both together, unless the service wants all."""
    assert service.spec is not None and pod.spec is not None
    serving = ready_condition(pod) is not None
    terminating = pod.metadata.deletion_timestamp is not None
    ready = bool(service.spec.publish_not_ready_addresses) or (serving and not terminating)
    node = view.get(NODES, pod.spec.node_name) if pod.spec.node_name else None
    reference = ObjectReference(kind="Pod", namespace=pod.metadata.namespace, name=pod.metadata.name, uid=pod.metadata.uid)
    return Endpoint(
        addresses=(address,),
        conditions=EndpointConditions(ready=ready, serving=serving, terminating=terminating),
        hostname=hostname_of(pod, service),
        node_name=pod.spec.node_name or None,
        target_ref=reference,
        zone=(node.metadata.labels or {}).get(ZONE) if node is not None else None,
    )


def mirrored(endpoints: Endpoints | None) -> dict[Ports, list[Endpoint]]:
    """SLICE-5: what Endpoints made by hand say, in the words of slices."""
    found: dict[Ports, list[Endpoint]] = {}
    for subset in (endpoints.subsets or ()) if endpoints is not None else ():
        ports = tuple(
            EndpointPort(name=port.name or "", port=port.port, protocol=port.protocol or "TCP", app_protocol=port.app_protocol)
            for port in subset.ports or ()
        )
        for ready, addresses in ((True, subset.addresses), (False, subset.not_ready_addresses)):
            for address in addresses or ():
                found.setdefault(ports, []).append(
                    Endpoint(
                        addresses=(address.ip,), conditions=EndpointConditions(ready=ready), hostname=address.hostname or None,
                        node_name=address.node_name, target_ref=address.target_ref,
                    )
                )  # fmt: skip
    return found


def compute_labels(service: Service, manager: str) -> dict[str, str]:
    """The service's labels, whose slice it is, and who keeps it."""
    labels = {key: value for key, value in (service.metadata.labels or {}).items() if key not in (SERVICE_NAME, MANAGED_BY, HEADLESS)}
    labels |= {SERVICE_NAME: service.metadata.name or "", MANAGED_BY: manager}
    return labels | {HEADLESS: ""} if is_headless(service) else labels


def _identity(endpoint: Endpoint) -> tuple[str, str]:
    reference = endpoint.target_ref
    return endpoint.addresses[0] if endpoint.addresses else "", (reference.uid or "") if reference is not None else ""


def _arrange(
    service: Service, labels: dict[str, str], ports: Ports, slices: list[EndpointSlice], wanted: list[Endpoint], manager: str
) -> list[Request]:
    """The writes that make these slices hold exactly the wanted endpoints, few of them (SLICE-4). O(endpoints)."""
    waiting = {_identity(endpoint): endpoint for endpoint in wanted}
    kept: list[list[Endpoint]] = []
    for slice in slices:
        kept.append([waiting.pop(_identity(e)) for e in slice.endpoints or () if _identity(e) in waiting][:ENDPOINTS_MAX])
    new = list(waiting.values())
    changed = [index for index, slice in enumerate(slices) if tuple(kept[index]) != tuple(slice.endpoints or ())]
    for index in (*changed, *(i for i in range(len(slices)) if i not in changed)):
        room = ENDPOINTS_MAX - len(kept[index])
        kept[index] += new[:room]
        new = new[room:]
    requests = []
    empty_allowed = not wanted and ports == () and manager == CONTROLLER  # the one empty slice of a service without endpoints
    for slice, endpoints in zip(slices, kept, strict=True):
        if not endpoints and not empty_allowed:
            requests.append(_deletion(slice, "it is empty"))
            continue
        empty_allowed = empty_allowed and bool(endpoints)
        same = tuple(endpoints) == tuple(slice.endpoints or ()) and _labels_fit(slice, labels)
        if not same:
            metadata = replace(slice.metadata, labels=labels)
            body = replace(slice, metadata=metadata, endpoints=tuple(endpoints) or None)
            requests.append(_write("update", slice.metadata.namespace or "", slice.metadata.name or "", body, service))
    for start in range(0, len(new), ENDPOINTS_MAX):
        requests.append(_creation(service, labels, ports, new[start : start + ENDPOINTS_MAX]))
    if empty_allowed and not slices:
        requests.append(_creation(service, labels, ports, []))
    return requests


def _labels_fit(slice: EndpointSlice, labels: dict[str, str]) -> bool:
    return (slice.metadata.labels or {}) == labels


def _write(verb: str, namespace: str, name: str, body: Any, service: Service) -> Request:
    ready = sum(1 for endpoint in body.endpoints or () if endpoint.conditions.ready)
    because = f"{ready} of {len(body.endpoints or ())} pods behind service {service.metadata.name} can be sent to"
    return Request(verb, ENDPOINT_SLICES, namespace, name, body=body, because=because)


def _creation(service: Service, labels: dict[str, str], ports: Ports, endpoints: list[Endpoint]) -> Request:
    owner = OwnerReference(
        api_version="v1", kind="Service", name=service.metadata.name or "", uid=service.metadata.uid or "", controller=True,
        block_owner_deletion=True,
    )  # fmt: skip
    metadata = ObjectMeta(
        generate_name=f"{service.metadata.name}-", namespace=service.metadata.namespace, labels=labels, owner_references=(owner,)
    )
    body = EndpointSlice(metadata=metadata, address_type="IPv4", endpoints=tuple(endpoints) or None, ports=ports or None)
    return _write("create", service.metadata.namespace or "", "", body, service)


def _deletion(slice: EndpointSlice, because: str) -> Request:
    metadata = slice.metadata
    options = DeleteOptions(preconditions=Preconditions(uid=metadata.uid))
    return Request("delete", ENDPOINT_SLICES, metadata.namespace or "", metadata.name or "", body=options, because=because)
