"""Warnings about services, endpoints, nodes and ingresses. Rule WARN-2 (spec/validation.md).

Source: Kubernetes API reference, "Service", "Ingress", "Node" (deprecated fields).
"""

from collections.abc import Iterable
from ipaddress import IPv6Address, ip_network

from refk8s.core.api.core_v1 import Endpoints, Node, Service
from refk8s.core.api.discovery_v1 import EndpointSlice
from refk8s.core.api.networking_v1 import Ingress, NetworkPolicy, NetworkPolicyPeer
from refk8s.core.apiserver.validation.names import is_cidr, parse_ip
from refk8s.core.apiserver.validation.network import CLASS_ANNOTATION

TOPOLOGY_HINTS = "service.kubernetes.io/topology-aware-hints"
TOPOLOGY_MODE = "service.kubernetes.io/topology-mode"
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
CONTROLLERS = ("endpointslice-controller.k8s.io", "endpointslicemirroring-controller.k8s.io")


def _address(text: str, at: str) -> list[str]:
    """An address that is not in canonical form, or an IPv4 address inside an IPv6 one."""
    parsed = parse_ip(text)
    if parsed is None:
        return []
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
        words = "will be considered invalid in a future Kubernetes release"
        return [f'{at}: non-standard IP address "{text}" {words}: use "{parsed.ipv4_mapped}"']
    if str(parsed) != text:
        return [f'{at}: IPv6 address "{text}" should be in RFC 5952 canonical format ("{parsed}")']
    return []


def _range(text: str, at: str) -> list[str]:
    if not is_cidr(text):
        return []
    network = str(ip_network(text, strict=False))
    if network == text:
        return []
    return [f'{at}: CIDR value "{text}" is ambiguous in this context (should be "{network}")']


def warn_service(new: Service, old: Service | None) -> list[str]:
    """WARN-2: fields that have no effect for a service of this type."""
    spec, annotations = new.spec, new.metadata.annotations or {}
    found: list[str] = []
    if TOPOLOGY_HINTS in annotations:
        found.append(
            f"annotation {TOPOLOGY_HINTS} is deprecated, please use {TOPOLOGY_MODE} instead"
        )
    headless = spec.cluster_ip == "None"
    if not headless:
        for position, address in enumerate(spec.cluster_ips or ()):
            found += _address(address, f"spec.clusterIPs[{position}]")
    for position, address in enumerate(spec.external_ips or ()):
        found += _address(address, f"spec.externalIPs[{position}]")
    if spec.load_balancer_ip:
        found += _address(spec.load_balancer_ip, "spec.loadBalancerIP")
    for position, text in enumerate(spec.load_balancer_source_ranges or ()):
        found += _range(text, f"spec.loadBalancerSourceRanges[{position}]")
    is_headless = headless and spec.type in (None, "", "ClusterIP")
    if is_headless:
        for value, name in (
            (spec.load_balancer_ip, "loadBalancerIP"), (spec.external_ips, "externalIPs"),
            (spec.session_affinity not in (None, "", "None"), "SessionAffinity"),
        ):  # fmt: skip
            if value:
                found.append(f"spec.{name} is ignored for headless services")
    if spec.external_ips and not is_headless and spec.type != "ExternalName":
        found.append(
            "spec.externalIPs is deprecated and may no longer be implemented in some clusters"
        )
    if spec.type == "ExternalName":
        if spec.external_ips:
            found.append('spec.externalIPs is ignored when spec.type is "ExternalName"')
    elif spec.external_name:
        found.append('spec.externalName is ignored when spec.type is not "ExternalName"')
    if spec.traffic_distribution == "PreferClose":
        found.append('spec.trafficDistribution: "PreferClose" is deprecated; use "PreferSameZone"')
    return found


def warn_endpoints(new: Endpoints, old: Endpoints | None) -> list[str]:
    found: list[str] = []
    for position, subset in enumerate(new.subsets or ()):
        for number, address in enumerate(subset.addresses or ()):
            found += _address(address.ip, f"subsets[{position}].addresses[{number}].ip")
        for number, address in enumerate(subset.not_ready_addresses or ()):
            found += _address(address.ip, f"subsets[{position}].notReadyAddresses[{number}].ip")
    return found


def warn_endpoint_slice(new: EndpointSlice, old: EndpointSlice | None) -> list[str]:
    """WARN-2: addresses that are names, and addresses that are not in canonical form, unless a
    controller of Kubernetes has written them."""
    if new.address_type == "FQDN":
        return ["spec.addressType: FQDN endpoints are deprecated"]
    if (new.metadata.labels or {}).get(MANAGED_BY) in CONTROLLERS:
        return []
    return [
        words
        for position, endpoint in enumerate(new.endpoints or ())
        for number, text in enumerate(endpoint.addresses)
        for words in _address(text, f"endpoints[{position}].addresses[{number}]")
    ]


def warn_network_policy(new: NetworkPolicy, old: NetworkPolicy | None) -> list[str]:
    """WARN-2: ranges of addresses that are not in canonical form."""
    found: list[str] = []
    for position, ingress in enumerate(new.spec.ingress or ()):
        found += _of_peers(ingress.from_, f"spec.ingress[{position}].from")
    for position, egress in enumerate(new.spec.egress or ()):
        found += _of_peers(egress.to, f"spec.egress[{position}].to")
    return found


def _of_peers(peers: Iterable[NetworkPolicyPeer] | None, at: str) -> list[str]:
    found: list[str] = []
    for position, peer in enumerate(peers or ()):
        if (block := peer.ip_block) is not None:
            here = f"{at}[{position}].ipBlock"
            found += _range(block.cidr, f"{here}.cidr")
            for number, text in enumerate(block.except_ or ()):
                found += _range(text, f"{here}.except[{number}]")
    return found


def warn_node(new: Node, old: Node | None) -> list[str]:
    """WARN-2: fields that no component reads."""
    found: list[str] = []
    if new.spec.external_id:
        found.append("spec.externalID: this field is deprecated, and is unused by Kubernetes")
    for position, text in enumerate(new.spec.pod_cidrs or ()):
        found += _range(text, f"spec.podCIDRs[{position}]")
    return found


def warn_ingress(new: Ingress, old: Ingress | None) -> list[str]:
    """WARN-2: the annotation that the field has replaced; only on create."""
    if old is None and CLASS_ANNOTATION in (new.metadata.annotations or {}):
        return [
            f'annotation "{CLASS_ANNOTATION}" is deprecated, '
            "please use 'spec.ingressClassName' instead"
        ]
    return []
