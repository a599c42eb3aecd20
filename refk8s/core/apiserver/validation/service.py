"""Services. Rules VAL-22, VAL-23 (spec/validation.md).

Source: Kubernetes API reference, "Service"; documentation, "Service", "Virtual IPs and Service
Proxies", "IPv4/IPv6 dual-stack". Left out: fields that only a cloud's load balancer reads (a class
is checked only as a name).
"""

from ipaddress import IPv4Address

from refk8s.core.api.core_v1 import Service, ServicePort, ServiceSpec
from refk8s.core.apiserver.validation.field import (
    Causes,
    duplicate,
    forbidden,
    invalid,
    malformed,
    not_supported,
    required,
)
from refk8s.core.apiserver.validation.metadata import validate_labels
from refk8s.core.apiserver.validation.names import (
    dns_label,
    dns_subdomain,
    is_cidr,
    parse_ip,
    qualified_name,
)
from refk8s.core.apiserver.validation.ports import (
    PROTOCOLS,
    validate_address,
    validate_load_balancer,
    validate_non_special,
    validate_port,
    validate_port_number,
)

TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
ADDRESSED_TYPES = ("ClusterIP", "LoadBalancer", "NodePort")
IP_MODES = ("Proxy", "VIP")
DISTRIBUTIONS = ("PreferClose", "PreferSameZone", "PreferSameNode")
AFFINITY_SECONDS_MAX = 86_400
KUBELET_PORT = 10250
NONE = "None"


def is_headless(spec: ServiceSpec) -> bool:
    return spec.cluster_ip == NONE or bool(spec.cluster_ips and spec.cluster_ips[0] == NONE)


def has_external_traffic(spec: ServiceSpec) -> bool:
    """Whether the service can be reached from outside the cluster."""
    return spec.type in ("NodePort", "LoadBalancer") or (
        spec.type == "ClusterIP" and bool(spec.external_ips)
    )


def needs_health_check(spec: ServiceSpec) -> bool:
    return spec.type == "LoadBalancer" and spec.external_traffic_policy == "Local"


def validate_service(service: Service) -> Causes:
    """VAL-22."""
    spec = service.spec
    causes: Causes = []
    headless = is_headless(spec)
    if not spec.ports and not headless and spec.type != "ExternalName":
        causes.append(required("spec.ports"))
    if spec.type == "LoadBalancer":
        for position, port in enumerate(spec.ports or ()):
            if port.port == KUBELET_PORT:
                words = f"may not expose port {KUBELET_PORT} externally since it is used by kubelet"
                causes.append(invalid(f"spec.ports[{position}]", port.port, words))
    if headless and spec.type in ("LoadBalancer", "NodePort"):
        causes.append(
            invalid(
                "spec.clusterIPs[0]", NONE, f"may not be set to 'None' for {spec.type} services"
            )
        )
    if spec.type == "ExternalName":
        causes += _validate_external_name(spec)
    causes += _validate_service_ports(spec.ports or (), headless)
    if spec.selector:
        causes += validate_labels(spec.selector, "spec.selector")
    causes += _validate_affinity(spec)
    causes += validate_families(spec)
    for position, address in enumerate(spec.external_ips or ()):
        where = f"spec.externalIPs[{position}]"
        causes += validate_address(address, where) or validate_non_special(address, where)
    if not spec.type:
        causes.append(required("spec.type"))
    elif spec.type not in TYPES:
        causes.append(not_supported("spec.type", spec.type, TYPES))
    return causes + _validate_port_pairs(spec) + _validate_traffic(spec)


def _validate_external_name(spec: ServiceSpec) -> Causes:
    causes: Causes = []
    if spec.cluster_ips or spec.cluster_ip:
        causes.append(forbidden("spec.clusterIPs", "may not be set when `type` is 'ExternalName'"))
    if spec.ip_families:
        causes.append(forbidden("spec.ipFamilies", "may not be set for ExternalName services"))
    if spec.ip_family_policy is not None:
        causes.append(forbidden("spec.ipFamilyPolicy", "may not be set for ExternalName services"))
    name = (spec.external_name or "").removesuffix(".")
    if not name:
        causes.append(required("spec.externalName"))
    else:
        causes += malformed("spec.externalName", name, dns_subdomain)
    return causes


def _validate_service_ports(ports: tuple[ServicePort, ...], headless: bool) -> Causes:
    """VAL-22: several ports have unique names; the target port of a headless service is its
    port."""
    causes: Causes = []
    names: set[str] = set()
    for position, port in enumerate(ports):
        here = f"spec.ports[{position}]"
        if not port.name:
            if len(ports) > 1:
                causes.append(required(f"{here}.name"))
        else:
            causes += malformed(f"{here}.name", port.name, dns_label)
            if port.name in names:
                causes.append(duplicate(f"{here}.name", port.name))
            names.add(port.name)
        causes += validate_port_number(port.port, f"{here}.port")
        if not port.protocol:
            causes.append(required(f"{here}.protocol"))
        elif port.protocol not in PROTOCOLS:
            causes.append(not_supported(f"{here}.protocol", port.protocol, PROTOCOLS))
        if port.target_port is not None:
            causes += validate_port(port.target_port, f"{here}.targetPort")
        if port.app_protocol is not None:
            causes += malformed(f"{here}.appProtocol", port.app_protocol, qualified_name)
    return causes


def _validate_affinity(spec: ServiceSpec) -> Causes:
    if not spec.session_affinity:
        return [required("spec.sessionAffinity")]
    config = spec.session_affinity_config
    if spec.session_affinity == NONE:
        return (
            [
                forbidden(
                    "spec.sessionAffinityConfig", "must not be set when session affinity is None"
                )
            ]
            if config is not None
            else []
        )
    if spec.session_affinity != "ClientIP":
        return [not_supported("spec.sessionAffinity", spec.session_affinity, ("ClientIP", "None"))]
    seconds = (
        config.client_ip.timeout_seconds
        if config is not None and config.client_ip is not None
        else None
    )
    if seconds is None:
        return [
            required(
                "spec.sessionAffinityConfig.clientIP.timeoutSeconds",
                "when session affinity type is ClientIP",
            )
        ]
    if not 0 < seconds <= AFFINITY_SECONDS_MAX:
        words = f"must be greater than 0 and less than {AFFINITY_SECONDS_MAX}"
        return [invalid("spec.sessionAffinityConfig.clientIP.timeoutSeconds", seconds, words)]
    return []


def validate_families(spec: ServiceSpec) -> Causes:
    """VAL-23: cluster IPs are addresses of different families, in the order of ipFamilies;
    clusterIP is the first."""
    if spec.type == "ExternalName":
        return []
    causes: Causes = []
    families, addresses = spec.ip_families or (), spec.cluster_ips or ()
    if spec.cluster_ip and not addresses:
        causes.append(required("spec.clusterIPs"))
    elif addresses and not spec.cluster_ip:
        causes.append(
            invalid("spec.clusterIPs", addresses, "must be empty when `clusterIP` is not specified")
        )
    elif addresses and spec.cluster_ip != addresses[0]:
        causes.append(invalid("spec.clusterIPs", addresses, "first value must match `clusterIP`"))
    for position, family in enumerate(families):
        if family not in ("IPv4", "IPv6"):
            causes.append(not_supported(f"spec.ipFamilies[{position}]", family, ("IPv4", "IPv6")))
        elif family in families[:position]:
            causes.append(duplicate(f"spec.ipFamilies[{position}]", family))
    if spec.ip_family_policy is not None and spec.ip_family_policy not in (
        "PreferDualStack",
        "RequireDualStack",
        "SingleStack",
    ):
        words = ("PreferDualStack", "RequireDualStack", "SingleStack")
        causes.append(not_supported("spec.ipFamilyPolicy", spec.ip_family_policy, words))
    wrong: Causes = []
    for position, address in enumerate(addresses):
        if position == 0 and address == NONE:
            if len(addresses) > 1:
                wrong.append(
                    invalid("spec.clusterIPs", addresses, "'None' must be the first and only value")
                )
        else:
            wrong += validate_address(address, f"spec.clusterIPs[{position}]")
    causes += wrong
    if len(addresses) > 2:
        causes.append(invalid("spec.clusterIPs", addresses, "may only hold up to 2 values"))
    if wrong:
        return causes
    kinds = [_family(address) for address in addresses]
    if len(addresses) > 1 and set(kinds) != {"IPv4", "IPv6"}:
        causes.append(
            invalid(
                "spec.clusterIPs", addresses, "may specify no more than one IP for each IP family"
            )
        )
    if causes or NONE in addresses:
        return causes
    for position, (kind, family) in enumerate(zip(kinds, families, strict=False)):
        if kind != family:
            why = f"expected an {family} value as indicated by `ipFamilies[{position}]`"
            causes.append(invalid(f"spec.clusterIPs[{position}]", addresses[position], why))
    return causes


def _family(address: str) -> str:
    return "IPv4" if isinstance(parse_ip(address), IPv4Address) else "IPv6"


def _validate_port_pairs(spec: ServiceSpec) -> Causes:
    """VAL-22: each (protocol, port) and each (protocol, node port) once; a ClusterIP service has no
    node ports."""
    causes: Causes = []
    ports = spec.ports or ()
    if spec.type == "ClusterIP":
        for position, port in enumerate(ports):
            if port.node_port:
                causes.append(
                    forbidden(
                        f"spec.ports[{position}].nodePort",
                        "may not be used when `type` is 'ClusterIP'",
                    )
                )
    seen: set[tuple[str | None, int]] = set()
    for position, port in enumerate(ports):
        if port.node_port:
            if (port.protocol, port.node_port) in seen:
                causes.append(duplicate(f"spec.ports[{position}].nodePort", port.node_port))
            seen.add((port.protocol, port.node_port))
    pairs: set[tuple[str | None, int]] = set()
    for position, port in enumerate(ports):
        if (port.protocol, port.port) in pairs:
            causes.append(
                duplicate(f"spec.ports[{position}]", {"port": port.port, "protocol": port.protocol})
            )
        pairs.add((port.protocol, port.port))
    return causes


def _validate_traffic(spec: ServiceSpec) -> Causes:
    causes: Causes = []
    balanced = spec.type == "LoadBalancer"
    if spec.load_balancer_source_ranges:
        if not balanced:
            causes.append(
                forbidden(
                    "spec.LoadBalancerSourceRanges",
                    "may only be used when `type` is 'LoadBalancer'",
                )
            )
        for position, text in enumerate(spec.load_balancer_source_ranges):
            if not is_cidr(text.strip()):
                words = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
                causes.append(invalid(f"spec.LoadBalancerSourceRanges[{position}]", text, words))
    if spec.allocate_load_balancer_node_ports is not None and not balanced:
        causes.append(
            forbidden(
                "spec.allocateLoadBalancerNodePorts",
                "may only be used when `type` is 'LoadBalancer'",
            )
        )
    if spec.load_balancer_class is not None:
        if not balanced:
            causes.append(
                forbidden(
                    "spec.loadBalancerClass", "may only be used when `type` is 'LoadBalancer'"
                )
            )
        else:
            causes += malformed("spec.loadBalancerClass", spec.load_balancer_class, qualified_name)
    policy = spec.external_traffic_policy
    if not has_external_traffic(spec):
        if policy:
            causes.append(
                invalid(
                    "spec.externalTrafficPolicy",
                    policy,
                    "may only be set for externally-accessible services",
                )
            )
    elif not policy:
        causes.append(required("spec.externalTrafficPolicy"))
    elif policy not in ("Cluster", "Local"):
        causes.append(not_supported("spec.externalTrafficPolicy", policy, ("Cluster", "Local")))
    port = spec.health_check_node_port
    if needs_health_check(spec):
        causes += (
            validate_port_number(port, "spec.healthCheckNodePort")
            if port
            else [required("spec.healthCheckNodePort")]
        )
    elif port:
        words = (
            "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"
        )
        causes.append(invalid("spec.healthCheckNodePort", port, words))
    internal = spec.internal_traffic_policy
    if internal is None:
        if spec.type in ("ClusterIP", "NodePort", "LoadBalancer"):
            causes.append(required("spec.internalTrafficPolicy"))
    elif internal not in ("Cluster", "Local"):
        causes.append(not_supported("spec.internalTrafficPolicy", internal, ("Cluster", "Local")))
    distribution = spec.traffic_distribution
    if distribution is not None and distribution not in DISTRIBUTIONS:
        causes.append(not_supported("spec.trafficDistribution", distribution, DISTRIBUTIONS))
    return causes


def validate_service_update(new: Service, old: Service) -> Causes:
    """VAL-23: while a service has cluster IPs, the first is immutable; a second may be added and
    removed."""
    causes: Causes = []
    before, after = old.spec.cluster_ips or (), new.spec.cluster_ips or ()
    if old.spec.type in ADDRESSED_TYPES and new.spec.type in ADDRESSED_TYPES:
        if before and after and before[0] != after[0]:
            causes.append(invalid("spec.clusterIPs[0]", after, "may not change once set"))
        elif before and not after:
            causes.append(
                invalid("spec.clusterIPs[0]", after, "primary clusterIP can not be unset")
            )
        elif len(before) == 2 and len(after) == 2 and before[1] != after[1]:
            causes.append(invalid("spec.clusterIPs[1]", after, "may not change once set"))
        families_before, families_after = old.spec.ip_families or (), new.spec.ip_families or ()
        if families_before and families_after and families_before[0] != families_after[0]:
            causes.append(invalid("spec.ipFamilies[0]", families_after, "may not change once set"))
    if (
        old.spec.load_balancer_class != new.spec.load_balancer_class
        and old.spec.type == new.spec.type == "LoadBalancer"
    ):
        causes.append(
            invalid(
                "spec.loadBalancerClass", new.spec.load_balancer_class, "may not change once set"
            )
        )
    return causes + validate_service(new)


def validate_service_status(new: Service, old: Service) -> Causes:
    """VAL-22: only a load balancer has addresses of one, each with its mode."""
    points, at = new.status.load_balancer.ingress or (), "status.loadBalancer.ingress"
    if points and new.spec.type != "LoadBalancer":
        return [forbidden(at, "may only be used when `spec.type` is LoadBalancer")]
    causes: Causes = []
    for position, point in enumerate(points):
        mode, where = point.ip_mode, f"{at}[{position}].ipMode"
        if mode is None:
            if point.ip:
                causes.append(required(where, "must be specified when `ip` is set"))
        elif not point.ip:
            causes.append(forbidden(where, "may not be specified when `ip` is not set"))
        elif mode not in IP_MODES:
            causes.append(not_supported(where, mode, IP_MODES))
    return validate_load_balancer(points, at) + causes
