"""Endpoints: the addresses behind each Service in one object, for older clients. Rules EP-1, EP-5
to EP-7 (spec/workloads/endpoints.md).

Source: API reference, "Endpoints"; Kubernetes documentation, "Service" (over-capacity endpoints).
Left out: the annotation endpoints.kubernetes.io/last-change-trigger-time.
"""

from collections.abc import Iterable

from msgspec.structs import replace

from refk8s.core.api.core_v1 import (
    EndpointAddress,
    EndpointPort,
    Endpoints,
    EndpointSubset,
    ObjectReference,
    Pod,
    Service,
)
from refk8s.core.api.meta_v1 import DeleteOptions, ObjectMeta, Preconditions
from refk8s.core.api.request import Request, Response
from refk8s.core.api.resources import ENDPOINTS, PODS, SERVICES
from refk8s.core.context import SECOND, Instant
from refk8s.core.controllers.endpoints_of import (
    HEADLESS,
    INDEXES,
    LEADER,
    address_of,
    families_of,
    has_selector,
    hostname_of,
    is_headless,
    selected_pods,
    services_of_pod,
    target_port,
)
from refk8s.core.loop.plan import NOTHING, Key, Local, Plan
from refk8s.core.loop.reconciler import Interest, Reconciler, own_key
from refk8s.core.loop.view import View, key_of, split_key
from refk8s.core.pods.status import is_ready

MANAGED_BY = "endpoints.kubernetes.io/managed-by"
CONTROLLER = "endpoint-controller"
ADDRESSES_MAX = 1_000
OVER_CAPACITY = "endpoints.kubernetes.io/over-capacity"
LEFTOVERS: Key = ""
"""The key of the search for Endpoints without a service when the controller starts (EP-7)."""
RETRY: Instant = 1 * SECOND

Ports = tuple[EndpointPort, ...]


def _of_endpoints(view: View, old: Endpoints | None, new: Endpoints | None) -> tuple[Key, ...]:
    """Endpoints that have a service, or that this controller wrote. Others are not deleted with a
    service (EP-7)."""
    either = new if new is not None else old
    assert either is not None
    ours = new is not None and (new.metadata.labels or {}).get(MANAGED_BY) == CONTROLLER
    return (key_of(either),) if ours or view.get(SERVICES, key_of(either)) is not None else ()


class EndpointsController(Reconciler):
    """Reconciles the Endpoints of one service."""

    name = "endpoint-controller"
    interests = (
        Interest(SERVICES, own_key),
        Interest(PODS, services_of_pod),
        Interest(ENDPOINTS, _of_endpoints),
    )
    indexes = INDEXES
    initial_keys = (LEFTOVERS,)

    def start_memory(self, now: Instant) -> frozenset[Key] | None:
        """The Endpoints whose service is being read; None before the search of EP-7."""
        return None

    def reconcile(self, view: View, key: Key, now: Instant, local: Local) -> Plan:
        """Write the service's pods into its Endpoints (EP-5), or delete them (EP-7)."""
        if key == LEFTOVERS:
            return self._find_leftovers(view, now, local.memory)
        # Observe
        service: Service | None = view.get(SERVICES, key)
        existing: Endpoints | None = view.get(ENDPOINTS, key)
        if service is None:
            return _removal(existing) if existing is not None else NOTHING
        if not has_selector(service):
            return NOTHING  # EP-1

        # Decide
        subsets, over = compute_subsets(view, service)
        labels = dict(service.metadata.labels or {}) | {MANAGED_BY: CONTROLLER}
        labels.pop(HEADLESS, None)
        if is_headless(service):
            labels[HEADLESS] = ""
        annotations = (
            {k: v for k, v in (existing.metadata.annotations or {}).items() if k != OVER_CAPACITY}
            if existing
            else {}
        )
        if over:
            annotations[OVER_CAPACITY] = "truncated"

        # Act
        namespace, name = service.metadata.namespace or "", service.metadata.name or ""
        because = (
            f"ready pods behind service {name}: "
            f"{sum(len(subset.addresses or ()) for subset in subsets)}"
        )
        if existing is None:
            metadata = ObjectMeta(
                name=name, namespace=namespace, labels=labels, annotations=annotations or None
            )
            body = Endpoints(metadata=metadata, subsets=subsets or None)
            return Plan(
                ((Request("create", ENDPOINTS, namespace, name, body=body, because=because),),)
            )
        same = (existing.subsets or ()) == subsets and (existing.metadata.labels or {}) == labels
        if same and (existing.metadata.annotations or {}) == annotations:
            return NOTHING
        metadata = replace(existing.metadata, labels=labels, annotations=annotations or None)
        body = replace(existing, metadata=metadata, subsets=subsets or None)
        return Plan(((Request("update", ENDPOINTS, namespace, name, body=body, because=because),),))

    def _find_leftovers(self, view: View, now: Instant, memory: frozenset[Key] | None) -> Plan:
        """Read the service of each Endpoints object that has none in the view: the view of services
        may be older than that of Endpoints (EP-7)."""
        suspects = frozenset(view.keys(ENDPOINTS)) if memory is None else memory
        left = [
            key
            for key in sorted(suspects)
            if view.get(SERVICES, key) is None and _may_be_left_over(view.get(ENDPOINTS, key))
        ]
        queries = tuple(
            Request(
                "get",
                SERVICES,
                *split_key(key),
                because="the view shows Endpoints without a Service",
            )
            for key in left
        )
        return Plan(queries=queries, memory=frozenset(left), wake_at=now + RETRY if left else None)

    def answered(
        self,
        memory: frozenset[Key],
        key: Key,
        request: Request,
        response: Response | None,
        now: Instant,
    ) -> tuple[frozenset[Key], Iterable[Key]]:
        """The answer to the read of a service: only 404 deletes the Endpoints; after an error the
        service is read again."""
        about = f"{request.namespace}/{request.name}"
        if response is None or not (response.ok or response.code == 404):
            return memory, ()
        return memory - {about}, () if response.ok else (about,)


def _may_be_left_over(endpoints: Endpoints | None) -> bool:
    return endpoints is not None and LEADER not in (endpoints.metadata.annotations or {})


def compute_subsets(view: View, service: Service) -> tuple[tuple[EndpointSubset, ...], bool]:
    """The subsets, and whether some addresses were left out (EP-6). O(pods x ports)."""
    publish = bool(service.spec.publish_not_ready_addresses)
    primary = families_of(service)[0]  # EP-2
    found: list[tuple[EndpointAddress, bool]] = []
    # the pods of each port; None: a service without ports
    behind: dict[EndpointPort | None, list[int]] = {}
    for pod in selected_pods(view, service):
        ip = address_of(pod, primary)
        if ip is None or (pod.metadata.deletion_timestamp is not None and not publish):
            continue
        for port in compute_ports(service, pod):
            behind.setdefault(port, []).append(len(found))
        found.append((compute_address(service, pod, ip), publish or is_ready(pod)))
    together: dict[tuple[int, ...], list[EndpointPort]] = {}
    for port, pods in behind.items():
        together.setdefault(tuple(pods), []).extend([port] if port is not None else [])
    subsets = [
        EndpointSubset(
            addresses=_sorted(found[index][0] for index in pods if found[index][1]),
            not_ready_addresses=_sorted(found[index][0] for index in pods if not found[index][1]),
            ports=tuple(sorted(ports, key=_order)) or None,
        )
        for pods, ports in together.items()
    ]
    return _truncated(
        sorted(subsets, key=lambda subset: [_order(port) for port in subset.ports or ()])
    )


def _order(port: EndpointPort) -> tuple[str, int, str]:
    return port.name or "", port.port, port.protocol or ""


def _truncated(subsets: list[EndpointSubset]) -> tuple[tuple[EndpointSubset, ...], bool]:
    """At most 1,000 addresses, the ready ones first, and whether any were left out (EP-6)."""
    total = sum(
        len(subset.addresses or ()) + len(subset.not_ready_addresses or ()) for subset in subsets
    )
    if total <= ADDRESSES_MAX:
        return tuple(subsets), False
    room = ADDRESSES_MAX
    kept: list[EndpointSubset] = []
    for subset in subsets:
        addresses = (subset.addresses or ())[:room]
        room -= len(addresses)
        kept.append(replace(subset, addresses=addresses or None))
    for index, subset in enumerate(kept):
        addresses = (subset.not_ready_addresses or ())[:room]
        room -= len(addresses)
        kept[index] = replace(subset, not_ready_addresses=addresses or None)
    return tuple(subset for subset in kept if subset.addresses or subset.not_ready_addresses), True


def compute_ports(service: Service, pod: Pod) -> list[EndpointPort | None]:
    """The service's ports as resolved in this pod, without those that it does not have (EP-3);
    [None] for a service without ports."""
    found: list[EndpointPort | None] = []
    for port in service.spec.ports or ():
        number = target_port(pod, port)
        if number is not None:
            found.append(
                EndpointPort(
                    name=port.name or None,
                    port=number,
                    protocol=port.protocol or "TCP",
                    app_protocol=port.app_protocol,
                )
            )
    return found if service.spec.ports else [None]


def compute_address(service: Service, pod: Pod, ip: str) -> EndpointAddress:
    reference = ObjectReference(
        kind="Pod", namespace=pod.metadata.namespace, name=pod.metadata.name, uid=pod.metadata.uid
    )
    return EndpointAddress(
        ip=ip,
        hostname=hostname_of(pod, service),
        node_name=pod.spec.node_name or None,
        target_ref=reference,
    )


def _sorted(addresses: Iterable[EndpointAddress]) -> tuple[EndpointAddress, ...] | None:
    found = sorted(
        addresses,
        key=lambda a: (a.ip, (a.target_ref.uid or "") if a.target_ref is not None else ""),
    )
    return tuple(found) or None


def _removal(existing: Endpoints) -> Plan:
    metadata = existing.metadata
    options = DeleteOptions(preconditions=Preconditions(uid=metadata.uid))
    because = "its Service does not exist"
    return Plan(
        (
            (
                Request(
                    "delete",
                    ENDPOINTS,
                    metadata.namespace or "",
                    metadata.name or "",
                    body=options,
                    because=because,
                ),
            ),
        )
    )
