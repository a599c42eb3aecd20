"""Defaults of services and of the endpoints behind them. Rules DEF-12, DEF-13 (spec/defaults.md).

Source: Kubernetes API reference, "Service", "Endpoints", "EndpointSlice"; documentation, "Virtual
IPs and Service Proxies". Left out: address families, cluster IPs and node ports, which are
allocated (refk8s/core/apiserver/admission/allocate.py).
"""

from typing import Any

from msgspec.structs import replace

from refk8s.core.api.core_v1 import (
    ClientIPConfig,
    Endpoints,
    LoadBalancerStatus,
    Service,
    ServicePort,
    SessionAffinityConfig,
)
from refk8s.core.api.discovery_v1 import EndpointSlice

AFFINITY_SECONDS = 10_800
_THREE_HOURS = SessionAffinityConfig(client_ip=ClientIPConfig(timeout_seconds=AFFINITY_SECONDS))


def default_service(service: Service) -> Service:
    """DEF-12: type ClusterIP without affinity; TCP ports with the same target port; traffic policy
    Cluster."""
    spec = service.spec
    changed: dict[str, Any] = {}
    kind = spec.type or "ClusterIP"
    if not spec.type:
        changed["type"] = kind
    affinity = spec.session_affinity or "None"
    if not spec.session_affinity:
        changed["session_affinity"] = affinity
    if affinity == "None":
        if spec.session_affinity_config is not None:
            changed["session_affinity_config"] = None
    elif affinity == "ClientIP":
        config = spec.session_affinity_config
        if config is None or config.client_ip is None or config.client_ip.timeout_seconds is None:
            changed["session_affinity_config"] = _THREE_HOURS
    if spec.ports:
        ports = tuple([_default_port(port) for port in spec.ports])
        if ports != spec.ports:
            changed["ports"] = ports
    if not spec.external_traffic_policy and (
        kind in ("NodePort", "LoadBalancer") or (kind == "ClusterIP" and spec.external_ips)
    ):
        changed["external_traffic_policy"] = "Cluster"
    if spec.internal_traffic_policy is None and kind in ("ClusterIP", "NodePort", "LoadBalancer"):
        changed["internal_traffic_policy"] = "Cluster"
    if kind == "LoadBalancer":
        if spec.allocate_load_balancer_node_ports is None:
            changed["allocate_load_balancer_node_ports"] = True
        service = _default_ingress(service)
    return replace(service, spec=replace(spec, **changed)) if changed else service


def _default_port(port: ServicePort) -> ServicePort:
    """DEF-12. Zero and the empty text count as absent. -1 and the like do not, and validation
    rejects them."""
    missing = port.target_port is None or port.target_port == 0 or port.target_port == ""
    if port.protocol and not missing:
        return port
    return replace(
        port,
        protocol=port.protocol or "TCP",
        target_port=port.port if missing else port.target_port,
    )


def _default_ingress(service: Service) -> Service:
    """The ipMode of the load balancer's addresses is VIP."""
    ingress = service.status.load_balancer.ingress
    if not ingress or all(not one.ip or one.ip_mode for one in ingress):
        return service
    addresses = tuple(
        [replace(one, ip_mode="VIP") if one.ip and not one.ip_mode else one for one in ingress]
    )
    return replace(
        service, status=replace(service.status, load_balancer=LoadBalancerStatus(ingress=addresses))
    )


def default_endpoints(endpoints: Endpoints) -> Endpoints:
    """DEF-13: ports are TCP."""
    subsets = endpoints.subsets
    if not subsets or all(port.protocol for subset in subsets for port in subset.ports or ()):
        return endpoints
    fresh = tuple([
        replace(subset, ports=subset.ports and tuple([replace(port, protocol=port.protocol or "TCP") for port in subset.ports]))
        for subset in subsets
    ])  # fmt: skip
    return replace(endpoints, subsets=fresh)


def default_endpoint_slice(endpoint_slice: EndpointSlice) -> EndpointSlice:
    """DEF-13: ports are TCP and have an empty name."""
    ports = endpoint_slice.ports
    if not ports or all(port.name is not None and port.protocol is not None for port in ports):
        return endpoint_slice
    fresh = tuple([
        replace(port, name="" if port.name is None else port.name, protocol="TCP" if port.protocol is None else port.protocol)
        for port in ports
    ])  # fmt: skip
    return replace(endpoint_slice, ports=fresh)
