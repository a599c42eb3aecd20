"""Completes the fields of a service before allocation. Rules ALLOC-3, ALLOC-7, ALLOC-8
(spec/admission.md). Its families are completed in service_families.py.

Source: Kubernetes documentation, "Service", "IPv4/IPv6 dual-stack".
"""

from typing import Any

from msgspec.structs import replace

from refk8s.core.api.core_v1 import Service, ServiceSpec

NONE = "None"


# --- requirements of the types


def needs_cluster_ip(spec: ServiceSpec) -> bool:
    return spec.type in ("ClusterIP", "NodePort", "LoadBalancer")


def needs_node_ports(spec: ServiceSpec) -> bool:
    return spec.type == "NodePort" or (
        spec.type == "LoadBalancer" and spec.allocate_load_balancer_node_ports is not False
    )


def may_have_node_ports(spec: ServiceSpec) -> bool:
    return spec.type in ("NodePort", "LoadBalancer")


def needs_health_check_port(spec: ServiceSpec) -> bool:
    return spec.type == "LoadBalancer" and spec.external_traffic_policy == "Local"


# --- updates: omitted values, and values of the old type


def with_kept_values(new: Service, old: Service) -> Service:
    """ALLOC-7: an update that omits the allocated values keeps them."""
    before, after = old.spec, new.spec
    changed: dict[str, Any] = {}
    if needs_cluster_ip(before) and needs_cluster_ip(after):
        address = after.cluster_ip or before.cluster_ip
        if address != after.cluster_ip:
            changed["cluster_ip"] = address
        if not after.cluster_ips and address == before.cluster_ip:
            changed["cluster_ips"] = before.cluster_ips
        if not after.ip_families and not after.ip_family_policy:
            changed["ip_families"], changed["ip_family_policy"] = (
                before.ip_families,
                before.ip_family_policy,
            )
    if may_have_node_ports(before) and may_have_node_ports(after) and after.ports:
        used = {port.node_port for port in before.ports or ()} & {
            port.node_port for port in after.ports
        }
        by_name = {port.name: port.node_port for port in before.ports or ()}
        ports = tuple([
            replace(port, node_port=by_name[port.name])
            if not port.node_port and by_name.get(port.name) and by_name[port.name] not in used else port
            for port in after.ports
        ])  # fmt: skip
        if ports != after.ports:
            changed["ports"] = ports
    if (
        needs_health_check_port(before)
        and needs_health_check_port(after)
        and not after.health_check_node_port
    ):
        changed["health_check_node_port"] = before.health_check_node_port
    return replace(new, spec=replace(after, **changed))


def without_type_dependents(new: Service, old: Service) -> Service:
    """ALLOC-8: values of the old type that are sent back unchanged are dropped."""
    before, after = old.spec, new.spec
    if (
        before.type == after.type
        and before.external_traffic_policy == after.external_traffic_policy
    ):
        return new
    changed: dict[str, Any] = {}
    if needs_cluster_ip(before) and not needs_cluster_ip(after):
        if after.cluster_ip in (None, before.cluster_ip) and after.cluster_ips in (
            None,
            before.cluster_ips,
        ):
            changed.update(cluster_ip=None, cluster_ips=None)
        if after.ip_families == before.ip_families:
            changed["ip_families"] = None
        if after.ip_family_policy == before.ip_family_policy:
            changed["ip_family_policy"] = None
        if after.internal_traffic_policy == before.internal_traffic_policy:
            changed["internal_traffic_policy"] = None
    if may_have_node_ports(before) and not may_have_node_ports(after) and after.ports:
        known = {port.node_port for port in before.ports or ()}
        if all(port.node_port in known or not port.node_port for port in after.ports):
            changed["ports"] = tuple([replace(port, node_port=None) for port in after.ports])
    same_check = after.health_check_node_port == before.health_check_node_port
    if same_check and needs_health_check_port(before) and not needs_health_check_port(after):
        changed["health_check_node_port"] = None
    if before.type == "LoadBalancer" and after.type != "LoadBalancer":
        for name in ("allocate_load_balancer_node_ports", "load_balancer_class"):
            if getattr(after, name) == getattr(before, name):
                changed[name] = None
    same_policy = after.external_traffic_policy == before.external_traffic_policy
    if (
        same_policy
        and may_have_node_ports(before)
        and not may_have_node_ports(after)
        and not after.external_ips
    ):
        changed["external_traffic_policy"] = None
    return replace(new, spec=replace(after, **changed))


def with_cluster_ips(new: Service, old: Service | None) -> Service:
    """ALLOC-3: clusterIP is the first of clusterIPs; a service with only one of the two gets
    both."""
    spec = new.spec
    before = old.spec if old is not None else ServiceSpec()
    address, addresses = spec.cluster_ip, spec.cluster_ips
    if address and not addresses:
        addresses = (address,)
    elif addresses and address != addresses[0]:
        if not address and before.cluster_ip and addresses == before.cluster_ips:
            addresses = None  # the first was removed
        elif address and addresses == before.cluster_ips:
            addresses = (address,)  # the first was changed
    return (
        new
        if addresses == spec.cluster_ips
        else replace(new, spec=replace(spec, cluster_ips=addresses))
    )
