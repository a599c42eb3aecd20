"""Endpoints of a Service without a selector are mirrored as slices, for the proxies. Rule SLICE-5
(spec/workloads/endpoints.md).

Source: Kubernetes documentation, "EndpointSlices" (mirroring); KEP-752 "EndpointSlice".
"""

from refk8s.core.api.core_v1 import Endpoints, Service
from refk8s.core.api.discovery_v1 import Endpoint, EndpointConditions, EndpointPort
from refk8s.core.api.families import family_of
from refk8s.core.api.meta_v1 import ObjectMeta, OwnerReference
from refk8s.core.api.resources import ENDPOINT_SLICES, ENDPOINTS, SERVICES
from refk8s.core.context import Instant
from refk8s.core.controllers.endpoints_of import LEADER
from refk8s.core.controllers.slices import (
    BY_SERVICE,
    ENDPOINTS_MAX,
    MANAGED_BY,
    SERVICE_NAME,
    Wanted,
    lay_out_families,
    services_of_slice,
    slices_of,
    writes,
)
from refk8s.core.loop.plan import NOTHING, Key, Local, Plan
from refk8s.core.loop.reconciler import Interest, Reconciler, own_key
from refk8s.core.loop.view import View

CONTROLLER = "endpointslicemirroring-controller.k8s.io"
SKIP = "endpointslice.kubernetes.io/skip-mirror"
NOT_COPIED = (
    "kubectl.kubernetes.io/last-applied-configuration",
    "endpoints.kubernetes.io/last-change-trigger-time",
)
ADDRESSES_MAX = 1_000  # of one subset


class EndpointSliceMirroringController(Reconciler):
    """Reconciles the mirror of the Endpoints of one name."""

    name = "endpointslicemirroring-controller"
    interests = (
        Interest(SERVICES, own_key),
        Interest(ENDPOINTS, own_key),
        Interest(ENDPOINT_SLICES, services_of_slice),
    )
    indexes = (BY_SERVICE,)

    def __init__(self, endpoints_max: int = ENDPOINTS_MAX) -> None:
        self.endpoints_max = endpoints_max  # in one slice

    def reconcile(self, view: View, key: Key, now: Instant, local: Local) -> Plan:
        """Write the Endpoints' addresses into slices, if the service has no selector."""
        # Observe
        endpoints: Endpoints | None = view.get(ENDPOINTS, key)
        slices = slices_of(view, key, CONTROLLER)
        if endpoints is None:
            if not slices:
                return NOTHING
            endpoints = Endpoints(metadata=ObjectMeta())

        # Decide
        wanted = (
            compute_endpoints(endpoints) if is_mirrored(endpoints, view.get(SERVICES, key)) else {}
        )
        layouts = lay_out_families(slices, wanted, False, self.endpoints_max)

        # Act
        requests = writes(layouts, compute_metadata(endpoints), endpoints.metadata.name or "")
        return Plan((requests,)) if requests else NOTHING


def is_mirrored(endpoints: Endpoints, service: Service | None) -> bool:
    """SLICE-5: the service has no selector, and the Endpoints are neither excluded by label nor the
    lock of a leader election."""
    labels, annotations = endpoints.metadata.labels or {}, endpoints.metadata.annotations or {}
    if labels.get(SKIP) == "true" or LEADER in annotations or service is None:
        return False
    return not service.spec.selector


def compute_endpoints(endpoints: Endpoints) -> dict[str, Wanted]:
    """The addresses of the Endpoints as endpoints of slices, by family (SLICE-9)."""
    found: dict[str, Wanted] = {}
    for subset in endpoints.subsets or ():
        ports = tuple(
            EndpointPort(
                name=port.name or "",
                port=port.port,
                protocol=port.protocol or "TCP",
                app_protocol=port.app_protocol,
            )
            for port in subset.ports or ()
        )
        ready, unready = subset.addresses or (), subset.not_ready_addresses or ()
        for number, address in enumerate((*ready, *unready)):
            if number < ADDRESSES_MAX and address.ip:
                found.setdefault(family_of(address.ip), {}).setdefault(ports, []).append(
                    Endpoint(
                        addresses=(address.ip,),
                        conditions=EndpointConditions(ready=number < len(ready)),
                        hostname=address.hostname or None,
                        node_name=address.node_name,
                        target_ref=address.target_ref,
                    )
                )
    return found


def compute_metadata(endpoints: Endpoints) -> ObjectMeta:
    """SLICE-7: the Endpoints' labels and annotations, the labels of service and controller; the
    Endpoints own the slice."""
    metadata = endpoints.metadata
    labels = {**(metadata.labels or {}), SERVICE_NAME: metadata.name or "", MANAGED_BY: CONTROLLER}
    annotations = {
        key: value for key, value in (metadata.annotations or {}).items() if key not in NOT_COPIED
    }
    owner = OwnerReference(
        api_version="v1",
        kind="Endpoints",
        name=metadata.name or "",
        uid=metadata.uid or "",
        controller=True,
        block_owner_deletion=True,
    )
    return ObjectMeta(
        generate_name=f"{metadata.name}-",
        namespace=metadata.namespace,
        labels=labels,
        annotations=annotations or None,
        owner_references=(owner,),
    )
