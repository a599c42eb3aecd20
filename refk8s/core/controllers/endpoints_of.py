"""Which pods and ports are behind a Service, for Endpoints and EndpointSlices. Rules EP-1 to EP-4
(spec/workloads/endpoints.md).

Source: Kubernetes documentation, "Service" (selectors, named target ports, headless services), "DNS
for Services and Pods" (hostnames), "IPv4/IPv6 dual-stack".
"""

from operator import attrgetter

from refk8s.core.api.core_v1 import Pod, Service, ServicePort
from refk8s.core.api.families import family_of
from refk8s.core.api.resources import PODS
from refk8s.core.loop.plan import Key
from refk8s.core.loop.view import Index, View, key_of
from refk8s.core.pods.addresses import address_of_family, container_ports
from refk8s.core.pods.services import (
    SERVICES_BY_PAIR,
    matches,
    pairs_of,
    selector_pair,
    services_selecting,
)
from refk8s.core.pods.status import is_finished, is_ready

LEADER = "control-plane.alpha.kubernetes.io/leader"
"""The annotation of Endpoints that are the lock of a leader election."""
HEADLESS = "service.kubernetes.io/headless"


def has_selector(service: Service) -> bool:
    """Whether the controllers write the service's Endpoints and slices, and not a user (EP-1)."""
    spec = service.spec
    return bool(spec.selector) and spec.type != "ExternalName"


def is_headless(service: Service) -> bool:
    return service.spec.cluster_ip == "None"


# --- indexes


def _pairs(pod: Pod) -> list[str]:
    return pairs_of(pod.metadata.namespace, pod.metadata.labels or {})


INDEXES = (
    Index("label", PODS, _pairs, attrgetter("metadata.labels")),
    SERVICES_BY_PAIR,
)


def selected_pods(view: View, service: Service) -> list[Pod]:
    """The pods that the selector selects, in the order of their keys. O(pods that have one of its
    labels)."""
    [pair] = selector_pair(service)
    assert service.spec.selector
    return [
        pod
        for pod in view.indexed(PODS, "label", pair)
        if matches(service.spec.selector, pod.metadata.labels)
    ]


def services_of_pod(view: View, old: Pod | None, new: Pod | None) -> list[Key]:
    """The services that select the pod, before or after. O(labels and services found)."""
    if old is not None and new is not None and not _differs(old, new):
        return []
    found: dict[Key, None] = {}
    for pod in (new,) if _has_same_labels(old, new) else (old, new):
        if pod is None:
            continue
        metadata = pod.metadata
        for service in services_selecting(view, metadata.namespace, metadata.labels or {}):
            if has_selector(service):
                found[key_of(service)] = None
    return list(found)


def _has_same_labels(old: Pod | None, new: Pod | None) -> bool:
    return (
        old is not None
        and new is not None
        and old.metadata.labels == new.metadata.labels
        and old.metadata.namespace == new.metadata.namespace
    )


def _differs(old: Pod, new: Pod) -> bool:
    """Whether anything changed that an endpoint contains."""
    a, b = old.metadata, new.metadata
    if a.uid != b.uid or a.labels != b.labels or a.deletion_timestamp != b.deletion_timestamp:
        return True
    x, y = old.status, new.status
    if x.pod_ips != y.pod_ips or x.pod_ip != y.pod_ip or is_finished(old) != is_finished(new):
        return True
    return old.spec != new.spec or is_ready(old) != is_ready(new)


# --- ports


def target_port(pod: Pod, port: ServicePort) -> int | None:
    """The number of `targetPort` in this pod; None if the pod has no port of that name (EP-3)."""
    target = port.target_port
    if isinstance(target, int) and target:
        return target
    if isinstance(target, str) and target:
        protocol = port.protocol or "TCP"
        for found in container_ports(pod.spec):
            if found.name == target and (found.protocol or "TCP") == protocol:
                return int(found.container_port)
        return None
    return port.port


def families_of(service: Service) -> tuple[str, ...]:
    """The families of the service's endpoints. A service without `ipFamilies`, from before it had
    them, has that of its cluster IP."""
    return service.spec.ip_families or (family_of(service.spec.cluster_ip or ""),)


def address_of(pod: Pod, family: str) -> str | None:
    """The pod's address of this family, if it has one and has not finished (EP-2)."""
    if is_finished(pod):
        return None
    return address_of_family(pod, family) or None


def hostname_of(pod: Pod, service: Service) -> str | None:
    """The pod's hostname in the DNS of a service that is its subdomain (EP-4)."""
    spec = pod.spec
    return spec.hostname if spec.hostname and spec.subdomain == service.metadata.name else None
