"""The initial objects of a cluster. Rules ADM-12 (spec/admission.md), HOST-2.

The default roles are in authorize/default_policy.py. The process that starts the API server creates
the objects by ordinary requests, namespaces first. An existing object is not changed.

Source: Kubernetes documentation, "Namespaces" (initial namespaces), "Pod Priority and Preemption"
(how to use priority and preemption), "Accessing the
Kubernetes API from a Pod". Left out: flow schemas and priority levels.
"""

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
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.networking_v1 import ServiceCIDR, ServiceCIDRSpec
from refk8s.core.api.rbac_v1 import ClusterRole, PolicyRule
from refk8s.core.api.resources import NODE_METRICS
from refk8s.core.api.scheduling_v1 import PriorityClass
from refk8s.core.api.service_addresses import dns_address, kubernetes_address
from refk8s.core.apiserver.admission.outcome import AdmissionConfig
from refk8s.core.apiserver.admission.service_ranges import DEFAULT_NAME
from refk8s.core.apiserver.validation.cluster import SYSTEM_PRIORITIES
from refk8s.core.apiserver.validation.ports import validate_non_special

NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")
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
    if not validate_non_special(address, ""):
        objects += _kubernetes_endpoints(address, port)
    return objects


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
    service: Service | None, endpoints: Endpoints | None, endpoint_slice: EndpointSlice | None, address: str, port: int,
    config: AdmissionConfig | None = None,
) -> list[tuple[str, Any]]:  # fmt: skip
    """HOST-2: the writes after which the service `kubernetes` leads to address:port; none if it
    does already.

    Each is (verb, object), in order. Fields that others have added to the objects, such as labels,
    are kept. Source: Kubernetes' reconciler of the same service in the API server, which checks
    every ten seconds.
    """
    found: list[tuple[str, Any]] = []
    wanted_service = _kubernetes_service(port, config or AdmissionConfig())
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
    if not address or validate_non_special(address, ""):
        return found
    wanted_endpoints, wanted_slice = _kubernetes_endpoints(address, port)
    if endpoints is None:
        found.append(("create", wanted_endpoints))
    elif endpoints.subsets != wanted_endpoints.subsets:
        found.append(("update", replace(endpoints, subsets=wanted_endpoints.subsets)))
    service_name = ((endpoint_slice.metadata.labels or {}) if endpoint_slice else {}).get(
        "kubernetes.io/service-name"
    )
    if endpoint_slice is None:
        found.append(("create", wanted_slice))
    elif endpoint_slice.address_type != wanted_slice.address_type:  # it is immutable
        found += [("delete", endpoint_slice), ("create", wanted_slice)]
    elif (endpoint_slice.endpoints, endpoint_slice.ports) != (
        wanted_slice.endpoints,
        wanted_slice.ports,
    ) or service_name != "kubernetes":
        labels = {**(endpoint_slice.metadata.labels or {}), **(wanted_slice.metadata.labels or {})}
        metadata = replace(endpoint_slice.metadata, labels=labels)
        corrected = replace(
            endpoint_slice,
            metadata=metadata,
            endpoints=wanted_slice.endpoints,
            ports=wanted_slice.ports,
        )
        found.append(("update", corrected))
    return found


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


def _kubernetes_endpoints(address: str, port: int) -> list[Any]:
    unmirrored = {"endpointslice.kubernetes.io/skip-mirror": "true"}
    ports = (EndpointPort(name="https", port=port, protocol="TCP"),)
    return [
        Endpoints(
            metadata=ObjectMeta(name="kubernetes", namespace="default", labels=unmirrored),
            subsets=(EndpointSubset(addresses=(EndpointAddress(ip=address),), ports=ports),),
        ),
        EndpointSlice(
            metadata=ObjectMeta(
                name="kubernetes",
                namespace="default",
                labels={"kubernetes.io/service-name": "kubernetes"},
            ),
            address_type="IPv4" if "." in address else "IPv6",
            endpoints=(Endpoint(addresses=(address,), conditions=EndpointConditions(ready=True)),),
            ports=(SlicePort(name="https", port=port, protocol="TCP"),),
        ),
    ]
