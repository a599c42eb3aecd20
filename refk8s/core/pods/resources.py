"""The resource requests of a pod. Rules SCHED-2, KUBELET-80, POD-23 (spec/scheduler.md,
spec/kubelet.md, spec/pod.md).

Source: Kubernetes documentation, "Resource Management for Pods and Containers", "Sidecar
Containers" (resource sharing within containers), "Pod Overhead". Left out: resources that an
in-place resize has allocated beyond the requests of the spec; dynamic resource claims.
"""

from collections.abc import Callable, Iterable, Mapping

from refk8s.core.api import quantity
from refk8s.core.api.core_v1 import PodSpec
from refk8s.core.memo import remember
from refk8s.core.pods.containers import is_sidecar

CPU, MEMORY, EPHEMERAL_STORAGE, PODS = "cpu", "memory", "ephemeral-storage", "pods"

Amounts = dict[str, int]
"""Amounts of resources: milli-CPUs for cpu, whole units for everything else."""
Requests = Mapping[str, str] | None
"""Quantities by resource, as in a spec."""

_NONE: Amounts = {}


CLASS_PREFIX = "deviceclass.resource.kubernetes.io/"
"""Of the extended resource that each DeviceClass provides (DRA-23)."""


def is_native(resource: str) -> bool:
    """True for a resource of Kubernetes itself: its name has no domain, or kubernetes.io."""
    return "/" not in resource or "kubernetes.io/" in resource


@remember(4096)
def amount(resource: str, text: str) -> int:
    """A quantity as a number: milli-CPUs for cpu, else whole units, rounded up."""
    return quantity.milli_value(text) if resource == CPU else quantity.value(text)


def pod_requests(spec: PodSpec) -> Amounts:
    """The largest sum of requests that run at the same time, with the overhead (POD-23)."""
    of_pod = spec.resources.requests if spec.resources is not None else None
    return compute_requests(*container_requests(spec), of_pod, spec.overhead)


def container_requests(spec: PodSpec) -> tuple[list[Requests], list[tuple[Requests, bool]]]:
    """The requests of the containers and of the init containers, as `compute_requests` has them."""
    return (
        [container.resources.requests for container in spec.containers],
        [(one.resources.requests, is_sidecar(one)) for one in spec.init_containers or ()],
    )


def compute_requests(
    containers: Iterable[Requests],
    init_containers: Iterable[tuple[Requests, bool]],
    of_pod: Requests = None,
    overhead: Requests = None,
    default: Mapping[str, int] = _NONE,
    count: Callable[[str, str], int] = amount,
) -> Amounts:
    """SCHED-2, KUBELET-80: for each resource the largest sum of requests that run at the same time.

    Each init container is given with whether it is a sidecar. Other init containers run one after
    another, each with the sidecars started before it. Pod-level requests replace the sum, and the
    overhead is added. `default`: the amount for a container without a request.
    """
    total: Amounts = {}
    for requests in containers:
        _add(total, requests, default, count)
    sidecars: Amounts = {}
    peak: Amounts = {}
    for requests, stays in init_containers:
        moment = dict(sidecars)
        _add(moment, requests, default, count)
        if stays:
            sidecars = moment
        for name, much in moment.items():
            peak[name] = max(peak.get(name, 0), much)
    if peak:
        for name, much in sidecars.items():
            total[name] = total.get(name, 0) + much
        for name, much in peak.items():
            total[name] = max(total.get(name, 0), much)
    if of_pod:
        for name, text in of_pod.items():
            total[name] = count(name, text)
    if overhead:
        _add(total, overhead, _NONE, count)
    return total


def _add(
    total: Amounts, requests: Requests, default: Mapping[str, int], count: Callable[[str, str], int]
) -> None:
    if requests:
        for name, text in requests.items():
            total[name] = total.get(name, 0) + count(name, text)
    if default:
        for name, much in default.items():
            if not requests or name not in requests:
                total[name] = total.get(name, 0) + much
