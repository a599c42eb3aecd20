"""The tables of the core group, endpoints and events. Rules TABLE-1, TABLE-7 ... TABLE-11
(spec/table.md)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from refk8s.core.api.conditions import get_condition
from refk8s.core.apiserver.table.duration import age
from refk8s.core.apiserver.table.layout import (
    AGE,
    NAME,
    NONE,
    SELECTOR,
    UNKNOWN,
    UNSET,
    Cells,
    Column,
    Layout,
    labels_text,
    named,
    some_of,
    wide,
)
from refk8s.core.apiserver.table.pods import pod, pod_conditions
from refk8s.core.context import Instant

if TYPE_CHECKING:
    from refk8s.core.api.core_v1 import (
        ComponentStatus,
        ConfigMap,
        Endpoints,
        Namespace,
        Node,
        PersistentVolume,
        PersistentVolumeClaim,
        ResourceQuota,
        Secret,
        Service,
        ServiceAccount,
    )
    from refk8s.core.api.discovery_v1 import EndpointSlice

ROLE_LABEL, ROLE_LABEL_PREFIX = "kubernetes.io/role", "node-role.kubernetes.io/"
STORAGE_CLASS_ANNOTATION = "volume.beta.kubernetes.io/storage-class"
ACCESS_MODES = {
    "ReadWriteOnce": "RWO",
    "ReadOnlyMany": "ROX",
    "ReadWriteMany": "RWX",
    "ReadWriteOncePod": "RWOP",
}


# --- services and their endpoints


def service(one: Service, now: Instant) -> Cells:
    spec = one.spec
    cluster_ip = spec.cluster_ips[0] if spec.cluster_ips else NONE
    ports = ",".join(
        f"{port.port}:{port.node_port}/{port.protocol or 'TCP'}"
        if port.node_port
        else f"{port.port}/{port.protocol or 'TCP'}"
        for port in spec.ports or ()
    )
    return *named(
        one, now, spec.type or "", cluster_ip, external_ip(one), ports or NONE
    ), labels_text(spec.selector)


def external_ip(one: Service) -> str:
    """The addresses at which the service is reached from outside, by its type (TABLE-11)."""
    spec = one.spec
    external = list(spec.external_ips or ())
    if spec.type in ("ClusterIP", "NodePort"):
        return ",".join(external) or NONE
    if spec.type == "LoadBalancer":
        balancer = one.status.load_balancer
        return (
            ",".join(
                balancer_addresses((balancer.ingress or ()) if balancer is not None else ())
                + external
            )
            or "<pending>"
        )
    return spec.external_name or "" if spec.type == "ExternalName" else UNKNOWN


def balancer_addresses(ingress: Iterable[Any]) -> list[str]:
    """Addresses of a load balancer, each once, sorted."""
    return sorted({point.ip or point.hostname for point in ingress if point.ip or point.hostname})


def endpoints(one: Endpoints, now: Instant) -> Cells:
    found: list[str] = []
    for subset in one.subsets or ():
        addresses = [address.ip for address in subset.addresses or ()]
        if not subset.ports:
            found.extend(addresses)  # a headless service may have no ports
        for port in subset.ports or ():
            found.extend(
                f"[{ip}]:{port.port}" if ":" in ip else f"{ip}:{port.port}" for ip in addresses
            )
    return named(one, now, some_of(found, "" if one.subsets else NONE))


def endpoint_slice(one: EndpointSlice, now: Instant) -> Cells:
    ports = [
        str(port.port) if port.port is not None else port.name or "*" for port in one.ports or ()
    ]
    addresses = [address for endpoint in one.endpoints or () for address in endpoint.addresses]
    return named(one, now, one.address_type, some_of(ports, UNSET), some_of(addresses, UNSET))


# --- nodes, namespaces and configuration


def node(one: Node, now: Instant) -> Cells:
    ready = next(
        (
            condition.status
            for condition in reversed(one.status.conditions or ())
            if condition.type == "Ready"
        ),
        None,
    )
    status = "Unknown" if ready is None else "Ready" if ready == "True" else "NotReady"
    if one.spec.unschedulable:
        status += ",SchedulingDisabled"
    labels = one.metadata.labels or {}
    roles = {
        key.removeprefix(ROLE_LABEL_PREFIX) for key in labels if key.startswith(ROLE_LABEL_PREFIX)
    } | {labels.get(ROLE_LABEL, "")}
    # reversed, so that the first of a type is found
    addresses = {address.type: address.address for address in reversed(one.status.addresses or ())}
    info = one.status.node_info
    known = (
        (info.kubelet_version, info.os_image, info.kernel_version, info.container_runtime_version)
        if info is not None
        else ("",) * 4
    )
    return (
        one.metadata.name or "", status, ",".join(sorted(roles - {""})) or NONE, age(one.metadata.creation_timestamp, now), known[0],
        addresses.get("InternalIP", NONE), addresses.get("ExternalIP", NONE), *(text or UNKNOWN for text in known[1:]),
    )  # fmt: skip


def namespace(one: Namespace, now: Instant) -> Cells:
    return named(one, now, one.status.phase or "")


def config_map(one: ConfigMap, now: Instant) -> Cells:
    return named(one, now, len(one.data or {}) + len(one.binary_data or {}))


def secret(one: Secret, now: Instant) -> Cells:
    return named(one, now, one.type or "", len(one.data or {}))


def service_account(one: ServiceAccount, now: Instant) -> Cells:
    return named(one, now, len(one.secrets or ()))


def resource_quota(one: ResourceQuota, now: Instant) -> Cells:
    """Used over hard, with requests and limits in separate columns."""
    used = one.status.used or {}
    texts = [
        (name, f"{name}: {used.get(name, '0')}/{hard}")
        for name, hard in sorted((one.status.hard or {}).items())
    ]
    limits = [text for name, text in texts if name.startswith("limits.")]
    others = [text for name, text in texts if not name.startswith("limits.")]
    return named(one, now, ", ".join(others), ", ".join(limits))


def component_status(one: ComponentStatus, now: Instant) -> Cells:
    healthy = get_condition(one.conditions, "Healthy")
    if healthy is None:
        return one.metadata.name or "", "Unknown", "", ""
    status = "Healthy" if healthy.status == "True" else "Unhealthy"
    return one.metadata.name or "", status, healthy.message or "", healthy.error or ""


# --- storage


def persistent_volume(one: PersistentVolume, now: Instant) -> Cells:
    spec = one.spec
    claim = (
        f"{spec.claim_ref.namespace or ''}/{spec.claim_ref.name or ''}"
        if spec.claim_ref is not None
        else ""
    )
    cells = named(
        one, now, (spec.capacity or {}).get("storage", "0"), access_modes(spec.access_modes), spec.persistent_volume_reclaim_policy or "",
        _phase(one), claim, _storage_class(one), spec.volume_attributes_class_name or UNSET, one.status.reason or "",
    )  # fmt: skip
    return *cells, spec.volume_mode or UNSET


def persistent_volume_claim(one: PersistentVolumeClaim, now: Instant) -> Cells:
    spec, status = one.spec, one.status
    capacity = modes = ""
    if spec.volume_name:  # a claim has a capacity and access modes once it is bound
        capacity, modes = (
            (status.capacity or {}).get("storage", "0"),
            access_modes(status.access_modes),
        )
    attributes = spec.volume_attributes_class_name or UNSET
    cells = named(
        one,
        now,
        _phase(one),
        spec.volume_name or "",
        capacity,
        modes,
        _storage_class(one),
        attributes,
    )
    return *cells, spec.volume_mode or UNSET


def access_modes(modes: Iterable[str] | None) -> str:
    """Access modes by their short names, in a fixed order, each once."""
    found = set(modes or ())  # for membership only
    return ",".join(short for mode, short in ACCESS_MODES.items() if mode in found)


def _phase(one: Any) -> str:
    return "Terminating" if one.metadata.deletion_timestamp is not None else one.status.phase or ""


def _storage_class(one: Any) -> str:
    return (
        (one.metadata.annotations or {}).get(STORAGE_CLASS_ANNOTATION)
        or one.spec.storage_class_name
        or ""
    )


# --- events


def event(one: Any, now: Instant) -> Cells:
    """An event of either group; in events.k8s.io the same fields have other names."""
    if one.api_version == "v1":
        about, source, message, component = (
            one.involved_object,
            one.source,
            one.message,
            one.reporting_component,
        )
        first, last, count = one.first_timestamp, one.last_timestamp, one.count
    else:
        about, source, message, component = (
            one.regarding,
            one.deprecated_source,
            one.note,
            one.reporting_controller,
        )
        first, last, count = (
            one.deprecated_first_timestamp,
            one.deprecated_last_timestamp,
            one.deprecated_count,
        )
    first_seen = age(first or one.event_time, now)
    last_seen = age(last, now) if last else first_seen
    if one.series is not None:
        last_seen, count = age(one.series.last_observed_time, now), one.series.count
    target = (about.kind or "").lower() + (f"/{about.name}" if about.name else "")
    origin = [source.component or component or "", source.host or one.reporting_instance or ""]
    return (
        last_seen, one.type or "", one.reason or "", target, about.field_path or "", origin[0] if not origin[1] else ", ".join(origin),
        (message or "").strip(), first_seen, count or 1, one.metadata.name or "",
    )  # fmt: skip


# --- columns

_EVENT = Layout(
    (
        Column("Last Seen", "The time since the last occurrence."), Column("Type", "Normal or Warning."),
        Column("Reason", "The reason of the event."), Column("Object", "The object that the event is about."), wide("Subobject", "The part of the object."),
        wide("Source", "The reporting component and its host."), Column("Message", "The description of the event."),
        wide("First Seen", "The time since the first occurrence."), wide("Count", "The number of occurrences."),
        Column("Name", NAME.description, priority=1, format="name"),
    ),
    event,
)  # fmt: skip

LAYOUTS: dict[tuple[str, str], Layout] = {
    ("", "Pod"): Layout(
        (
            NAME, Column("Ready", "The number of ready containers and of all."), Column("Status", "The status of the pod."),
            Column("Restarts", "The number of restarts, and the time since the last one."), AGE, wide("IP", "The pod's address."),
            wide("Node", "The node of the pod."), wide("Nominated Node", "The node for which it is nominated."),
            wide("Readiness Gates", "The number of readiness gates that are True and of all."),
        ),
        pod,
        pod_conditions,
    ),
    ("", "Service"): Layout(
        (
            NAME, Column("Type", "The type of the service."), Column("Cluster-IP", "Its address in the cluster."),
            Column("External-IP", "Its addresses outside of the cluster."), Column("Port(s)", "Its ports, with node ports."), AGE, SELECTOR,
        ),
        service,
    ),
    ("", "Endpoints"): Layout((NAME, Column("Endpoints", "Addresses and ports of ready pods."), AGE), endpoints),
    ("discovery.k8s.io", "EndpointSlice"): Layout(
        (
            NAME, Column("AddressType", "IPv4, IPv6 or FQDN."), Column("Ports", "The ports of its endpoints."),
            Column("Endpoints", "The addresses of its endpoints."), AGE,
        ),
        endpoint_slice,
    ),
    ("", "Node"): Layout(
        (
            NAME, Column("Status", "Whether the node is ready and schedulable."), Column("Roles", "Its roles, from its labels."), AGE,
            Column("Version", "The version of its kubelet."), wide("Internal-IP", "Its address in the cluster."),
            wide("External-IP", "The external address."), wide("OS-Image", "Its operating system."),
            wide("Kernel-Version", "Its kernel."), wide("Container-Runtime", "Its container runtime."),
        ),
        node,
    ),
    ("", "Namespace"): Layout((NAME, Column("Status", "Active or Terminating."), AGE), namespace),
    ("", "ConfigMap"): Layout((NAME, Column("Data", "The number of entries."), AGE), config_map),
    ("", "Secret"): Layout((NAME, Column("Type", "The type of the secret."), Column("Data", "The number of entries."), AGE), secret),
    ("", "ServiceAccount"): Layout((NAME, Column("Secrets", "The number of secrets in its list."), AGE), service_account),
    ("", "ResourceQuota"): Layout(
        (NAME, Column("Request", "Used and allowed amounts, except limits."), Column("Limit", "Used and allowed limits."), AGE), resource_quota,
    ),
    ("", "ComponentStatus"): Layout(
        (
            NAME, Column("Status", "Whether it is healthy."), Column("Message", "The message."), Column("Error", "The error."),
        ),
        component_status,
    ),
    ("", "PersistentVolume"): Layout(
        (
            NAME, Column("Capacity", "The size of the volume."), Column("Access Modes", "The access modes of the volume."),
            Column("Reclaim Policy", "What happens to the volume after its claim is deleted."), Column("Status", "Its phase."),
            Column("Claim", "The bound claim."), Column("StorageClass", "Its storage class."),
            Column("VolumeAttributesClass", "Its volume attributes class."), Column("Reason", "The reason of the phase."), AGE,
            wide("VolumeMode", "Filesystem or Block."),
        ),
        persistent_volume,
    ),
    ("", "PersistentVolumeClaim"): Layout(
        (
            NAME, Column("Status", "Its phase."), Column("Volume", "The bound volume."), Column("Capacity", "The size of the volume."),
            Column("Access Modes", "The access modes of the volume."), Column("StorageClass", "The requested storage class."),
            Column("VolumeAttributesClass", "The requested volume attributes class."), AGE, wide("VolumeMode", "Filesystem or Block."),
        ),
        persistent_volume_claim,
    ),
    ("", "Event"): _EVENT,
    ("events.k8s.io", "Event"): _EVENT,
}  # fmt: skip
