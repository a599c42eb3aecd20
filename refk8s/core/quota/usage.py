"""What one object uses of a quota, by the names of `spec.hard`. Rule QUOTA-3 (spec/quota.md).

    pods                       pods, cpu, memory, requests.*, limits.*, hugepages-*, count/pods
    services                   services, services.nodeports, services.loadbalancers, count/services
    persistentvolumeclaims     persistentvolumeclaims, requests.storage, the same of each storage
                               class, count/persistentvolumeclaims
    resourceclaims             the devices of each class, count/resourceclaims.resource.k8s.io
    every other resource       count/RESOURCE.GROUP, and for a few the plain name

Source: Kubernetes documentation, "Resource Quotas"; KEP-4381 "DRA: Structured Parameters".
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from refk8s.core.api import quantity
from refk8s.core.api.core_v1 import PersistentVolumeClaim, Pod, PodSpec, Service
from refk8s.core.api.quantity import ZERO, Amount
from refk8s.core.api.resources import (
    ALL,
    CONFIG_MAPS,
    EVENTS,
    EVENTS_V1,
    PERSISTENT_VOLUME_CLAIMS,
    PODS,
    REPLICATION_CONTROLLERS,
    RESOURCE_CLAIMS,
    RESOURCE_QUOTAS,
    SECRETS,
    SERVICES,
    Resource,
)
from refk8s.core.context import SECOND, Instant, parse_timestamp
from refk8s.core.memo import remember_identical
from refk8s.core.pods.containers import is_sidecar
from refk8s.core.pods.resize import limits_in_use, requests_in_use
from refk8s.core.pods.resources import is_native
from refk8s.core.pods.status import is_finished

if TYPE_CHECKING:
    from refk8s.core.api.resource_v1 import DeviceRequest

Usage = Mapping[str, Amount]
"""Amounts by the names of `spec.hard`."""

ONE = Amount(quantity.NANO)

COUNTED: tuple[Resource, ...] = tuple(
    resource
    for resource in ALL
    if resource.namespaced
    and {"create", "list", "watch", "delete"} <= set(resource.verbs)
    and resource not in (EVENTS, EVENTS_V1)
    and not resource.storage_api_version
)
"""Every built-in resource that quotas count: all namespaced ones except Events."""

_PLAIN_NAMES = {
    resource.prefix: resource.plural
    for resource in (CONFIG_MAPS, REPLICATION_CONTROLLERS, RESOURCE_QUOTAS, SECRETS)
}
_COMPUTE = ("cpu", "memory", "ephemeral-storage")
_POD_NAMES = frozenset(
    ["count/pods", "pods", *_COMPUTE, *(f"requests.{name}" for name in _COMPUTE)]
    + [f"limits.{name}" for name in _COMPUTE]
)
_SERVICE_NAMES = frozenset(
    ["count/services", "services", "services.nodeports", "services.loadbalancers"]
)
_CLAIM_NAMES = ("persistentvolumeclaims", "requests.storage")
_OF_CLASS = ".storageclass.storage.k8s.io/"
_OF_DEVICE_CLASS = ".deviceclass.resource.k8s.io/devices"
_ALL_DEVICES = 32
"""What a request for all devices of a class counts: the most that a claim is allocated."""
_OLD_STORAGE_CLASS = "volume.beta.kubernetes.io/storage-class"
HUGE_PAGES, REQUESTS = "hugepages-", "requests."


@lru_cache(maxsize=4096)
def count_name(group: str, plural: str) -> str:
    """The name under which objects of any kind are counted: count/deployments.apps."""
    return f"count/{plural}.{group}" if group else f"count/{plural}"


def is_counted(resource: Resource) -> bool:
    """Whether quotas count the objects of the resource."""
    return resource.namespaced and resource.prefix != EVENTS.prefix


def concerns(resource: Resource, name: str) -> bool:
    """Whether objects of the resource use what this name of `spec.hard` limits."""
    if resource == PODS:
        return (
            name in _POD_NAMES
            or name.startswith((HUGE_PAGES, REQUESTS + HUGE_PAGES))
            or (name.startswith(REQUESTS) and not is_native(name))
        )
    if resource == SERVICES:
        return name in _SERVICE_NAMES
    if resource == PERSISTENT_VOLUME_CLAIMS:
        return (
            name == "count/persistentvolumeclaims"
            or name in _CLAIM_NAMES
            or name.endswith(tuple(_OF_CLASS + one for one in _CLAIM_NAMES))
        )
    if resource == RESOURCE_CLAIMS and name.endswith(_OF_DEVICE_CLASS):
        return True
    return name in (
        count_name(resource.group, resource.plural),
        _PLAIN_NAMES.get(resource.prefix),
    )


def usage_of(resource: Resource, obj: Any) -> Usage:
    """What the object uses (QUOTA-3). A pod that is being deleted counts as if its grace period
    had not expired; see `expires_at`."""
    if resource == PODS:
        return pod_usage(obj)
    if resource == SERVICES:
        return service_usage(obj)
    if resource == PERSISTENT_VOLUME_CLAIMS:
        return claim_usage(obj)
    found = {count_name(resource.group, resource.plural): ONE}
    if resource == RESOURCE_CLAIMS:
        found.update(total(map(_devices, obj.spec.devices.requests or ())))
    plain = _PLAIN_NAMES.get(resource.prefix)
    if plain is not None:
        found[plain] = ONE
    return found


def total(usages: Iterable[Usage]) -> dict[str, Amount]:
    """The sum, name by name."""
    found: dict[str, Amount] = {}
    for usage in usages:
        for name, much in usage.items():
            found[name] = found[name] + much if name in found else much
    return found


# --- pods


def pod_usage(pod: Pod) -> Usage:
    """A finished pod uses only count/pods."""
    found = {"count/pods": ONE}
    if is_finished(pod):
        return found
    found["pods"] = ONE
    if (pod.metadata.generation or 0) > 1:  # it may have been resized (RESIZE-6)
        found.update(named(pod_requests(pod), pod_limits(pod)))
    else:
        found.update(_requested_by(pod.spec))
    return found


@remember_identical(16)
def _requested_by(spec: PodSpec) -> Usage:
    """What pods with this spec request; new pods of one template have one spec."""
    pod = Pod(spec=spec)
    return named(pod_requests(pod), pod_limits(pod))


def expires_at(pod: Pod) -> Instant | None:
    """After this instant a pod that is being deleted uses only count/pods; None if it is not being
    deleted. So a lost node does not keep a quota in use."""
    metadata = pod.metadata
    if metadata.deletion_timestamp is None or metadata.deletion_grace_period_seconds is None:
        return None
    since = parse_timestamp(metadata.deletion_timestamp)
    return since + metadata.deletion_grace_period_seconds * SECOND


def named(
    requests: Mapping[str, Amount] | None, limits: Mapping[str, Amount] | None
) -> dict[str, Amount]:
    """Requests and limits by the names of `spec.hard`."""
    found: dict[str, Amount] = {}
    for name, much in (requests or {}).items():
        if name in _COMPUTE or name.startswith(HUGE_PAGES):
            found[name] = found[REQUESTS + name] = much
        elif not is_native(name):
            found[REQUESTS + name] = much
    for name, much in (limits or {}).items():
        if name in _COMPUTE:
            found[f"limits.{name}"] = much
    return found


def pod_requests(pod: Pod) -> dict[str, Amount]:
    """The largest sum of requests that run at the same time, with the overhead (POD-23). During a
    resize the larger of what is desired and what is allocated counts (RESIZE-6)."""
    spec, used = pod.spec, requests_in_use(pod)
    found = _at_once(
        [used.get(one.name) or one.resources.requests for one in spec.containers],
        [
            (used.get(one.name) or one.resources.requests, is_sidecar(one))
            for one in spec.init_containers or ()
        ],
    )
    if spec.resources is not None:
        found.update(amounts(spec.resources.requests))
    return total((found, amounts(spec.overhead))) if spec.overhead else found


def pod_limits(pod: Pod) -> dict[str, Amount]:
    """The largest sum of limits that apply at the same time. The overhead is added to what is
    limited."""
    spec, used = pod.spec, limits_in_use(pod)
    found = _at_once(
        [used.get(one.name) or one.resources.limits for one in spec.containers],
        [
            (used.get(one.name) or one.resources.limits, is_sidecar(one))
            for one in spec.init_containers or ()
        ],
    )
    if spec.resources is not None:
        found.update(amounts(spec.resources.limits))
    for name, much in amounts(spec.overhead).items():
        if name in found and found[name].nano:
            found[name] = found[name] + much
    return found


def amounts(texts: Mapping[str, str] | None) -> dict[str, Amount]:
    """Quantities as numbers."""
    return {name: quantity.parse(text) for name, text in texts.items()} if texts else {}


def _at_once(
    containers: Iterable[Mapping[str, str] | None],
    init_containers: Iterable[tuple[Mapping[str, str] | None, bool]],
) -> dict[str, Amount]:
    """For each resource the largest sum of amounts that apply at the same time. Each init container
    is given with whether it is a sidecar."""
    found = total(map(amounts, containers))
    sidecars: dict[str, Amount] = {}
    peaks: dict[str, Amount] = {}
    for texts, stays in init_containers:
        moment = total((sidecars, amounts(texts)))
        if stays:
            sidecars = moment
        for name, much in moment.items():
            peaks[name] = max(peaks.get(name, ZERO), much, key=_nano)
    if sidecars:
        found = total((found, sidecars))
    for name, much in peaks.items():
        found[name] = max(found.get(name, ZERO), much, key=_nano)
    return found


def _nano(amount: Amount) -> int:
    return amount.nano


# --- services and claims


def service_usage(service: Service) -> Usage:
    """Node ports are counted by intent: they are not allocated yet when a Service is admitted."""
    spec = service.spec
    ports = spec.ports or ()
    found = {"count/services": ONE, "services": ONE, "services.loadbalancers": ZERO}
    node_ports = 0
    if spec.type == "LoadBalancer":
        found["services.loadbalancers"] = ONE
        suppressed = spec.allocate_load_balancer_node_ports is False
        node_ports = sum(1 for port in ports if port.node_port) if suppressed else len(ports)
    elif spec.type == "NodePort":
        node_ports = len(ports)
    found["services.nodeports"] = Amount(node_ports * quantity.NANO)
    return found


def claim_usage(claim: PersistentVolumeClaim) -> Usage:
    """A claim uses its request, or what an expansion has allocated if that is more; both count also
    under the name of its storage class."""
    found = {"count/persistentvolumeclaims": ONE, "persistentvolumeclaims": ONE}
    storage = _whole(claim.spec.resources.requests)
    if storage is not None:
        allocated = _whole(claim.status.allocated_resources)
        if allocated is not None and allocated.nano > storage.nano:
            storage = allocated
        found["requests.storage"] = storage
    old_class = (claim.metadata.annotations or {}).get(_OLD_STORAGE_CLASS)
    name = old_class if old_class is not None else claim.spec.storage_class_name
    if name:
        found[f"{name}{_OF_CLASS}persistentvolumeclaims"] = ONE
        if storage is not None:
            found[f"{name}{_OF_CLASS}requests.storage"] = storage
    return found


def _devices(request: "DeviceRequest") -> Usage:
    """The devices of each class that a request may get; of alternatives the most of each class."""
    found: dict[str, Amount] = {}
    for one in (request.exactly, *(request.first_available or ())):
        if one is None:
            continue
        number = {"ExactCount": one.count or 0, "All": _ALL_DEVICES}.get(
            one.allocation_mode or "", 0
        )
        name = f"{one.device_class_name}{_OF_DEVICE_CLASS}"
        found[name] = max(found.get(name, ZERO), Amount(number * quantity.NANO), key=_nano)
    return found


def _whole(texts: Mapping[str, str] | None) -> Amount | None:
    """The storage in whole bytes, rounded up."""
    if not texts or "storage" not in texts:
        return None
    found = quantity.parse(texts["storage"])
    return Amount(found.value * quantity.NANO, found.format)
