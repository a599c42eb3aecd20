"""Completes the fields of a service before allocation. Rules ALLOC-2, ALLOC-3, ALLOC-7, ALLOC-8
(spec/admission.md).

Source: Kubernetes documentation, "Service", "IPv4/IPv6 dual-stack"; KEP-563, "IPv4/IPv6
Dual-Stack". Left out: clusters with two address families.
"""

from ipaddress import IPv4Address
from typing import Any

from msgspec.structs import replace

from refk8s.core.api import resources, status
from refk8s.core.api.core_v1 import Service, ServiceSpec
from refk8s.core.api.status import INVALID, ApiError, Cause
from refk8s.core.apiserver.validation.names import parse_ip
from refk8s.core.apiserver.validation.service import validate_families

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
    return replace(new, spec=replace(after, **changed)) if changed else new


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
            changed["ports"] = tuple(
                [replace(port, node_port=None) if port.node_port else port for port in after.ports]
            )
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
    return replace(new, spec=replace(after, **changed)) if changed else new


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


def _of_single_stack(spec: ServiceSpec) -> list[Cause]:
    """ALLOC-2: without a policy for two families there is one of each."""
    if spec.ip_family_policy not in (None, "SingleStack"):
        return []
    words = "must be 'RequireDualStack' or 'PreferDualStack' when multiple {} are specified"
    several = (("cluster IPs", spec.cluster_ips), ("IP families", spec.ip_families))
    return [
        Cause(INVALID, "spec.ipFamilyPolicy", words.format(what), "SingleStack")
        for what, values in several
        if len(values or ()) > 1
    ]


def with_families(service: Service) -> ServiceSpec:
    """ALLOC-2: one family, IPv4; a headless service without a selector may have endpoints of both
    families.

    Raises ApiError 422 for an unsupported family. Before that it checks that addresses and families
    match, because nothing can be allocated if they do not.
    """
    spec = service.spec
    if wrong := validate_families(spec):
        raise ApiError(status.invalid(resources.SERVICES, service.metadata.name or "", wrong))
    if not needs_cluster_ip(spec):
        return spec
    headless = (
        bool(spec.cluster_ips) and spec.cluster_ips is not None and spec.cluster_ips[0] == NONE
    )
    if headless and not spec.selector:
        policy = spec.ip_family_policy or (
            "RequireDualStack" if len(spec.ip_families or ()) != 1 else "SingleStack"
        )
        families = spec.ip_families or ("IPv4",)
        if policy != "SingleStack" and len(families) == 1:
            families = (*families, "IPv6" if families[0] == "IPv4" else "IPv4")
        return replace(spec, ip_family_policy=policy, ip_families=families)
    causes = _of_single_stack(spec)
    if causes:
        raise ApiError(status.invalid(resources.SERVICES, service.metadata.name or "", causes))
    for position, family in enumerate(spec.ip_families or ()):
        if family == "IPv6":
            causes.append(
                Cause(
                    INVALID,
                    f"spec.ipFamilies[{position}]",
                    "not configured on this cluster",
                    family,
                )
            )
    if not spec.ip_families:
        for position, address in enumerate(spec.cluster_ips or ()):
            if parse_ip(address) is not None and not isinstance(parse_ip(address), IPv4Address):
                causes.append(
                    Cause(
                        INVALID,
                        f"spec.clusterIPs[{position}]",
                        "IPv6 is not configured on this cluster",
                        list(spec.cluster_ips or ()),
                    )
                )
    if spec.ip_family_policy == "RequireDualStack":
        words = "this cluster is not configured for dual-stack services"
        causes.append(Cause(INVALID, "spec.ipFamilyPolicy", words, spec.ip_family_policy))
    if causes:
        raise ApiError(status.invalid(resources.SERVICES, service.metadata.name or "", causes))
    if spec.ip_families and spec.ip_family_policy:
        return spec
    return replace(
        spec,
        ip_families=spec.ip_families or ("IPv4",),
        ip_family_policy=spec.ip_family_policy or "SingleStack",
    )
