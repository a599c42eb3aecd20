"""The initial objects of a cluster. Rules ADM-12 (spec/admission.md), HOST-2.

The default roles are in authorize/default_policy.py. The process that starts the API server creates
the objects by ordinary requests, namespaces first. An existing object is not changed.

Source: Kubernetes documentation, "Namespaces" (initial namespaces), "Pod Priority and Preemption"
(how to use priority and preemption), "Accessing the
Kubernetes API from a Pod". Left out: flow schemas and priority levels.
"""

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from refk8s.core.api.core_v1 import (
    EndpointAddress,
    EndpointPort,
    Endpoints,
    EndpointSubset,
    Namespace,
    Service,
    ServiceAccount,
    ServicePort,
    ServiceSpec,
)
from refk8s.core.api.discovery_v1 import Endpoint, EndpointConditions, EndpointSlice
from refk8s.core.api.discovery_v1 import EndpointPort as SlicePort
from refk8s.core.api.families import family_of
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.networking_v1 import ServiceCIDR, ServiceCIDRSpec
from refk8s.core.api.rbac_v1 import ClusterRole, PolicyRule
from refk8s.core.api.resources import NODE_METRICS
from refk8s.core.api.scheduling_v1 import PriorityClass
from refk8s.core.api.service_addresses import dns_address, kubernetes_address
from refk8s.core.apiserver.admission.outcome import AdmissionConfig
from refk8s.core.apiserver.admission.service_ranges import DEFAULT_NAME
from refk8s.core.apiserver.live_servers import Server
from refk8s.core.apiserver.validation.cluster import SYSTEM_PRIORITIES
from refk8s.core.apiserver.validation.ports import validate_non_special

NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")
MANAGED_BY, SLICES_OF_SERVERS = "endpointslice.kubernetes.io/managed-by", "apiserver.refk8s.io"
DNS_SERVICE = "kube-dns"
DNS_PORTS = (("dns", "UDP", 53), ("dns-tcp", "TCP", 53), ("metrics", "TCP", 9153))
"""(name, protocol, number) of each port of the cluster's DNS, as kubeadm creates them."""
_USES = {
    "system-node-critical": "Pods that must not be moved away from their node.",
    "system-cluster-critical": "Pods that the cluster needs, on whichever node they run.",
}


def bootstrap_objects(address: str, port: int, config: AdmissionConfig | None = None) -> list[Any]:
    """ADM-12: the initial objects, in an order in which they can be created.

    `address`:`port` is where pods reach the API server. If the address is empty (for example,
    because the server listens at a loopback address), the service `kubernetes` has no endpoints.
    """
    config = config or AdmissionConfig()
    objects: list[Any] = [Namespace(metadata=ObjectMeta(name=name)) for name in NAMESPACES]
    objects += [
        ServiceAccount(metadata=ObjectMeta(name="default", namespace=name)) for name in NAMESPACES
    ]
    objects += [
        PriorityClass(metadata=ObjectMeta(name=name), value=value, description=_USES[name])
        for name, value in SYSTEM_PRIORITIES.items()
    ]
    objects.append(_default_service_cidr(config))
    objects += [_kubernetes_service(port, config), *_dns_service(config)]
    objects.append(_metrics_reader())
    if _is_reached(address):
        objects += _kubernetes_endpoints([Server(address, port)])
    return objects


def _is_reached(address: str) -> bool:
    """Whether pods can reach an API server at this address."""
    return bool(address) and not validate_non_special(address, "")


def _metrics_reader() -> ClusterRole:
    """Users that may view a namespace may read its metrics, as metrics-server has it."""
    to = "rbac.authorization.k8s.io/aggregate-to-"
    labels = {f"{to}{role}": "true" for role in ("admin", "edit", "view")}
    rule = PolicyRule(
        api_groups=(NODE_METRICS.group,),
        resources=("nodes", "pods"),
        verbs=("get", "list", "watch"),
    )
    return ClusterRole(
        metadata=ObjectMeta(name="system:aggregated-metrics-reader", labels=labels), rules=(rule,)
    )


def kubernetes_corrections(
    service: Service | None,
    endpoints: Endpoints | None,
    slices: Sequence[EndpointSlice],
    servers: Sequence[Server],
    config: AdmissionConfig | None = None,
) -> list[tuple[str, Any]]:
    """HOST-2, HOST-20: the writes after which the service `kubernetes` leads to these servers; none
    if it does already. `slices`: of the service.

    Each is (verb, object), in order. Fields that others have added to the objects, such as labels,
    are kept. Source: Kubernetes' reconciler of the same service in the API server, which checks
    every ten seconds.
    """
    found: list[tuple[str, Any]] = []
    servers = sorted(set(servers))
    wanted_service = _kubernetes_service(servers[0].port, config or AdmissionConfig())
    if service is None:
        found.append(("create", wanted_service))
    elif [_port(each) for each in service.spec.ports or ()] != [
        _port(each) for each in wanted_service.spec.ports or ()
    ]:
        found.append(
            (
                "update",
                replace(service, spec=replace(service.spec, ports=wanted_service.spec.ports)),
            )
        )
    reached = [one for one in servers if _is_reached(one.address)]
    if not reached:
        return found
    wanted_endpoints, *wanted_slices = _kubernetes_endpoints(reached)
    if endpoints is None:
        found.append(("create", wanted_endpoints))
    elif endpoints.subsets != wanted_endpoints.subsets:
        found.append(("update", replace(endpoints, subsets=wanted_endpoints.subsets)))
    present = {one.metadata.name: one for one in slices}
    for wanted in wanted_slices:
        found += _slice_corrections(present.pop(wanted.metadata.name, None), wanted)
    found += [("delete", one) for one in present.values() if is_of_servers(one)]
    return found


def is_of_servers(endpoint_slice: EndpointSlice) -> bool:
    """Whether the API servers have made it, for those of another port or family (HOST-20)."""
    labels = endpoint_slice.metadata.labels or {}
    return labels.get(MANAGED_BY) == SLICES_OF_SERVERS


def _slice_corrections(
    endpoint_slice: EndpointSlice | None, wanted: EndpointSlice
) -> list[tuple[str, Any]]:
    if endpoint_slice is None:
        return [("create", wanted)]
    if endpoint_slice.address_type != wanted.address_type:  # it is immutable
        return [("delete", endpoint_slice), ("create", wanted)]
    labels = {**(endpoint_slice.metadata.labels or {}), **(wanted.metadata.labels or {})}
    if (endpoint_slice.endpoints, endpoint_slice.ports, endpoint_slice.metadata.labels) == (
        wanted.endpoints,
        wanted.ports,
        labels,
    ):
        return []
    metadata = replace(endpoint_slice.metadata, labels=labels)
    corrected = replace(
        endpoint_slice, metadata=metadata, endpoints=wanted.endpoints, ports=wanted.ports
    )
    return [("update", corrected)]


def _port(port: ServicePort) -> tuple[Any, ...]:
    return port.name, port.protocol or "TCP", port.port, port.target_port


def service_cidr_correction(
    found: ServiceCIDR | None, config: AdmissionConfig
) -> tuple[str, ServiceCIDR] | None:
    """HOST-18: the write after which the ServiceCIDR of the flags is there; None if it is.

    A cluster that gets a second family adds its range; any other difference is left to the
    administrator, because services have addresses of the old range.
    """
    wanted = _default_service_cidr(config)
    if found is None:
        return "create", wanted
    before, cidrs = found.spec.cidrs or (), wanted.spec.cidrs or ()
    if len(before) == 1 and len(cidrs) == 2 and before[0] == cidrs[0]:
        return "update", replace(found, spec=wanted.spec)
    return None


def _default_service_cidr(config: AdmissionConfig) -> ServiceCIDR:
    return ServiceCIDR(
        metadata=ObjectMeta(name=DEFAULT_NAME),
        spec=ServiceCIDRSpec(cidrs=tuple([str(each) for each in config.service_cidrs])),
    )


def _dns_service(config: AdmissionConfig) -> list[Service]:
    """The service at which pods reach the name server of their own node (DNS-19).

    It has no selector: each node's name server writes its own slice.
    """
    address = dns_address(config.service_cidrs)
    if not address:
        return []
    labels = {
        "k8s-app": DNS_SERVICE,
        "kubernetes.io/cluster-service": "true",
        "kubernetes.io/name": "CoreDNS",
    }
    return [
        Service(
            metadata=ObjectMeta(name=DNS_SERVICE, namespace="kube-system", labels=labels),
            spec=ServiceSpec(
                cluster_ip=address,
                internal_traffic_policy="Local",
                ports=tuple(
                    ServicePort(name=name, protocol=protocol, port=number)
                    for name, protocol, number in DNS_PORTS
                ),
            ),
        )
    ]


def _kubernetes_service(port: int, config: AdmissionConfig) -> Service:
    labels = {"component": "apiserver", "provider": "kubernetes"}
    return Service(
        metadata=ObjectMeta(name="kubernetes", namespace="default", labels=labels),
        spec=ServiceSpec(
            cluster_ip=kubernetes_address(config.service_cidrs),
            ports=(ServicePort(name="https", port=443, target_port=port),),
        ),
    )


def _kubernetes_endpoints(servers: Sequence[Server]) -> list[Any]:
    """The Endpoints, and a slice for each family and port of the servers, which are in order. The
    first slice has the name of the service."""
    unmirrored = {"endpointslice.kubernetes.io/skip-mirror": "true"}
    of_port: dict[int, list[str]] = {}
    of_slice: dict[tuple[str, int], list[str]] = {}
    for address, port in servers:
        of_port.setdefault(port, []).append(address)
        of_slice.setdefault((family_of(address), port), []).append(address)
    subsets = tuple(
        EndpointSubset(
            addresses=tuple(EndpointAddress(ip=address) for address in addresses),
            ports=(EndpointPort(name="https", port=port, protocol="TCP"),),
        )
        for port, addresses in sorted(of_port.items())
    )
    metadata = ObjectMeta(name="kubernetes", namespace="default", labels=unmirrored)
    found: list[Any] = [Endpoints(metadata=metadata, subsets=subsets)]
    for place, ((family, port), addresses) in enumerate(sorted(of_slice.items())):
        labels = {"kubernetes.io/service-name": "kubernetes"}
        name = "kubernetes"
        if place:
            labels[MANAGED_BY], name = SLICES_OF_SERVERS, f"kubernetes-{family.lower()}-{port}"
        ready = EndpointConditions(ready=True)
        found.append(
            EndpointSlice(
                metadata=ObjectMeta(name=name, namespace="default", labels=labels),
                address_type=family,
                endpoints=tuple(
                    Endpoint(addresses=(address,), conditions=ready) for address in addresses
                ),
                ports=(SlicePort(name="https", port=port, protocol="TCP"),),
            )
        )
    return found
