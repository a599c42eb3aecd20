"""Predicates of Endpoints and EndpointSlices. Rules EP-5, SLICE-1, SLICE-2, SLICE-3
(spec/workloads/endpoints.md).

Each yields a sentence for every way in which the objects break its rule. They compute the endpoints
from services and pods, without the controllers' functions.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from refk8s.core.api.core_v1 import Service
from refk8s.core.api.discovery_v1 import EndpointSlice
from refk8s.core.loop.view import key_of
from refk8s.core.properties.oracle import is_finished, is_ready

MANAGED_BY, OF_PODS = "endpointslice.kubernetes.io/managed-by", "endpointslice-controller.k8s.io"
ENDPOINTS_MAX = 100


def is_of_pods(slice: EndpointSlice) -> bool:
    """Whether the endpointslice controller manages the slice."""
    return (slice.metadata.labels or {}).get(MANAGED_BY) == OF_PODS


def service_of(slice: EndpointSlice) -> str:
    """The key of the service of a slice."""
    name = (slice.metadata.labels or {}).get("kubernetes.io/service-name")
    return f"{slice.metadata.namespace}/{name}"


def has_endpoints(service: Service) -> bool:
    """Whether the controllers write the endpoints of this service (EP-1)."""
    return (
        service.metadata.deletion_timestamp is None
        and service.spec is not None
        and bool(service.spec.selector)
        and service.spec.type != "ExternalName"
    )


def _families(service: Service) -> tuple[str, ...]:
    """The families of the service's endpoints (SLICE-9), the primary one first."""
    assert service.spec is not None
    return service.spec.ip_families or ("IPv4",)


def _behind(
    service: Service, pods: Iterable[Any], family: str
) -> dict[tuple[str, str], tuple[bool, bool]]:
    """(uid, address of this family) of each pod that the selector selects, with (is ready, is
    terminating)."""
    assert service.spec is not None and service.spec.selector
    wanted = service.spec.selector.items()
    found = {}
    for pod in pods:
        if (
            pod.metadata.namespace != service.metadata.namespace
            or not wanted <= (pod.metadata.labels or {}).items()
        ):
            continue
        addresses = [each.ip for each in pod.status.pod_ips or ()] or [pod.status.pod_ip or ""]
        mine = [each for each in addresses if each and (":" in each) == (family == "IPv6")]
        if not mine or is_finished(pod):
            continue
        ready = is_ready(pod)
        found[pod.metadata.uid, mine[0]] = (
            ready,
            pod.metadata.deletion_timestamp is not None,
        )
    return found


def slice_1_slices_list_the_selected_pods(
    service: Service, pods: Sequence[Any], slices: Iterable[EndpointSlice]
) -> Iterator[str]:
    """SLICE-1, SLICE-3, SLICE-9: the slices of each family of the service list each selected pod
    once, with its state."""
    name, publish = key_of(service), bool(service.spec and service.spec.publish_not_ready_addresses)
    expected = {
        pod: (publish or (ready and not terminating), ready, terminating)
        for family in _families(service)
        for pod, (ready, terminating) in _behind(service, pods, family).items()
    }
    listed: dict[tuple[str, str], tuple[bool, bool, bool]] = {}
    for slice in slices:
        for endpoint in (slice.endpoints or ()) if service_of(slice) == name else ():
            if (":" in endpoint.addresses[0]) != (slice.address_type == "IPv6"):
                yield f"{name}: a slice of {slice.address_type} lists {endpoint.addresses[0]}"
            pod = (
                (endpoint.target_ref.uid or "") if endpoint.target_ref is not None else "",
                endpoint.addresses[0],
            )
            if pod in listed:
                yield f"{name}: its slices list {pod[1]} twice"
            state = endpoint.conditions
            listed[pod] = (
                (bool(state.ready), bool(state.serving), bool(state.terminating))
                if state is not None
                else (True, True, False)
            )
    if listed != expected:
        yield f"{name}: its slices list {sorted(listed.items())}, not {sorted(expected.items())}"


def slice_2_a_slice_is_small(key: str, slice: EndpointSlice) -> Iterator[str]:
    """SLICE-2."""
    count = len(slice.endpoints or ())
    if count > ENDPOINTS_MAX:
        yield f"{key} has {count} endpoints"


def slice_3_ready_is_serving_and_not_terminating(key: str, slice: EndpointSlice) -> Iterator[str]:
    """SLICE-3, for a service without publishNotReadyAddresses."""
    for endpoint in slice.endpoints or ():
        state = endpoint.conditions
        if state is not None and bool(state.ready) != (
            bool(state.serving) and not state.terminating
        ):
            yield (
                f"{key}: {endpoint.addresses[0]} is ready {state.ready}, serving {state.serving}, "
                f"terminating {state.terminating}"
            )


def ep_5_endpoints_list_the_ready_pods(
    service: Service, pods: Sequence[Any], endpoints: Any | None
) -> Iterator[str]:
    """EP-5. `endpoints`: the Endpoints object of the service."""
    if endpoints is None:
        yield f"{key_of(service)} has no Endpoints"
        return
    publish = bool(service.spec and service.spec.publish_not_ready_addresses)
    behind = {
        pod: publish or ready
        for pod, (ready, terminating) in _behind(service, pods, _families(service)[0]).items()
        if publish or not terminating
    }
    found: dict[tuple[str, str], bool] = {}
    for subset in endpoints.subsets or ():
        for ready, addresses in ((True, subset.addresses), (False, subset.not_ready_addresses)):
            for address in addresses or ():
                found[
                    address.target_ref.uid if address.target_ref is not None else "", address.ip
                ] = ready
    if found != behind:
        yield (
            f"{key_of(service)}: its Endpoints list {sorted(found.items())}, "
            f"not {sorted(behind.items())}"
        )
