"""Laws of Endpoints and EndpointSlices. Rules EP-5, SLICE-1, SLICE-2, SLICE-3
(spec/workloads/endpoints.md)."""

from collections.abc import Iterable
from typing import Any

from refk8s.core.api.core_v1 import Service
from refk8s.core.api.resources import ENDPOINT_SLICES, ENDPOINTS, PODS, SERVICES
from refk8s.core.cluster.state import Cluster
from refk8s.core.loop.view import key_of
from refk8s.core.properties.law import Law, objects
from refk8s.core.properties.predicates.endpoints import (
    ep_5_endpoints_list_the_ready_pods,
    has_endpoints,
    is_of_pods,
    service_of,
    slice_1_slices_list_the_selected_pods,
    slice_2_a_slice_is_small,
    slice_3_ready_is_serving_and_not_terminating,
)
from refk8s.core.store import Change


def a_slice_is_small(change: Change[Any], before: Cluster, after: Cluster) -> Iterable[str] | None:
    """SLICE-2."""
    if change.record is None or not is_of_pods(change.record.value):
        return None
    return slice_2_a_slice_is_small(change.key, change.record.value)


def ready_is_serving_and_not_terminating(
    change: Change[Any], before: Cluster, after: Cluster
) -> Iterable[str] | None:
    """SLICE-3, for a slice with endpoints whose service publishes only ready addresses."""
    slice = change.record.value if change.record is not None else None
    if slice is None or not is_of_pods(slice) or not slice.endpoints:
        return None
    service = after.history.get(f"{SERVICES.prefix}{service_of(slice)}")
    if service is None or service.value.spec.publish_not_ready_addresses:
        return None
    return slice_3_ready_is_serving_and_not_terminating(change.key, slice)


def _with_endpoints(cluster: Cluster) -> list[Service]:
    """The services whose endpoints the controllers write (EP-1)."""
    return [service for service in objects(cluster, SERVICES.prefix) if has_endpoints(service)]


def slices_list_the_selected_pods(cluster: Cluster) -> Iterable[str] | None:
    """SLICE-1, SLICE-3, for a settled cluster."""
    services, pods = _with_endpoints(cluster), objects(cluster, PODS.prefix)
    slices = [slice for slice in objects(cluster, ENDPOINT_SLICES.prefix) if is_of_pods(slice)]
    if not services:
        return None
    return [
        words
        for service in services
        for words in slice_1_slices_list_the_selected_pods(service, pods, slices)
    ]


def endpoints_list_the_ready_pods(cluster: Cluster) -> Iterable[str] | None:
    """EP-5, for a settled cluster."""
    services, pods = _with_endpoints(cluster), objects(cluster, PODS.prefix)
    there = {key_of(one): one for one in objects(cluster, ENDPOINTS.prefix)}
    if not services:
        return None
    return [
        words
        for service in services
        for words in ep_5_endpoints_list_the_ready_pods(service, pods, there.get(key_of(service)))
    ]


OF_CHANGES = (
    Law("SLICE-2", a_slice_is_small, ENDPOINT_SLICES.prefix),
    Law("SLICE-3", ready_is_serving_and_not_terminating, ENDPOINT_SLICES.prefix),
)
OF_REST = (
    Law("SLICE-1", slices_list_the_selected_pods),
    Law("EP-5", endpoints_list_the_ready_pods),
)
