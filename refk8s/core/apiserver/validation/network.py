"""Ingresses, ingress classes and network policies. Rule VAL-30 (spec/validation.md).

Source: Kubernetes documentation, "Ingress", "Network Policies"; API reference.
"""

from ipaddress import ip_network

from refk8s.core.api.networking_v1 import (
    Ingress,
    IngressBackend,
    IngressClass,
    NetworkPolicy,
    NetworkPolicyPeer,
    NetworkPolicyPort,
)
from refk8s.core.apiserver.validation.field import Causes, forbidden, invalid, not_supported, required, unchanged
from refk8s.core.apiserver.validation.names import dns_1035_label, dns_subdomain, is_cidr, parse_ip, port_name, wildcard_subdomain
from refk8s.core.apiserver.validation.ports import PROTOCOLS, validate_port, validate_port_number
from refk8s.core.apiserver.validation.selectors import validate_selector

PATH_TYPES = ("Exact", "ImplementationSpecific", "Prefix")
POLICY_TYPES = ("Egress", "Ingress")
_FORBIDDEN_PARTS = ("//", "/./", "/../", "%2f", "%2F")
_FORBIDDEN_ENDS = ("/..", "/.")


def validate_ingress(ingress: Ingress) -> Causes:
    """VAL-30: somewhere to lead, hosts by name, paths that begin at the root."""
    spec = ingress.spec
    causes: Causes = []
    if not spec.rules and spec.default_backend is None:
        causes.append(invalid("spec", spec.rules, "either `defaultBackend` or `rules` must be specified"))
    if spec.default_backend is not None:
        causes += _validate_backend(spec.default_backend, "spec.defaultBackend")
    for position, rule in enumerate(spec.rules or ()):
        here = f"spec.rules[{position}]"
        if rule.host:
            causes += _validate_host(rule.host, f"{here}.host")
        if rule.http is None:
            continue
        if not rule.http.paths:
            causes.append(required(f"{here}.http.paths"))
        for number, path in enumerate(rule.http.paths):
            where = f"{here}.http.paths[{number}]"
            causes += _validate_path(path.path or "", path.path_type, where)
            causes += _validate_backend(path.backend, f"{where}.backend")
    for position, tls in enumerate(spec.tls or ()):
        for number, host in enumerate(tls.hosts or ()):
            where = f"spec.tls[{position}].hosts[{number}]"
            words = wildcard_subdomain(host) if "*" in host else dns_subdomain(host)
            causes += [invalid(where, host, word) for word in words]
    if spec.ingress_class_name is not None:
        causes += [invalid("spec.ingressClassName", spec.ingress_class_name, word) for word in dns_subdomain(spec.ingress_class_name)]
    return causes


def _validate_host(host: str, at: str) -> Causes:
    if parse_ip(host) is not None:
        return [invalid(at, host, "must be a DNS name, not an IP address")]
    words = wildcard_subdomain(host) if "*" in host else dns_subdomain(host)
    return [invalid(at, host, word) for word in words]


def _validate_path(path: str, kind: str, at: str) -> Causes:
    if not kind:
        return [required(f"{at}.pathType", "pathType must be specified")]
    if kind not in PATH_TYPES:
        return [not_supported(f"{at}.pathType", kind, PATH_TYPES)]
    if kind == "ImplementationSpecific":
        return [invalid(f"{at}.path", path, "must be an absolute path")] if path and not path.startswith("/") else []
    causes: Causes = []
    if not path.startswith("/"):
        causes.append(invalid(f"{at}.path", path, "must be an absolute path"))
    if path:
        causes += [invalid(f"{at}.path", path, f"must not contain '{part}'") for part in _FORBIDDEN_PARTS if part in path]
        causes += [invalid(f"{at}.path", path, f"cannot end with '{end}'") for end in _FORBIDDEN_ENDS if path.endswith(end)]
    return causes


def _validate_backend(backend: IngressBackend, at: str) -> Causes:
    service, resource = backend.service, backend.resource
    if service is not None and resource is not None:
        return [invalid(at, "", "cannot set both resource and service backends")]
    if resource is not None:
        causes = [] if resource.kind else [required(f"{at}.resource.kind")]
        return causes + ([] if resource.name else [required(f"{at}.resource.name")])
    if service is None:
        return [required(at, "resource or service backend is required")]
    causes = []
    if not service.name:
        causes.append(required(f"{at}.service.name"))
    else:
        causes += [invalid(f"{at}.service.name", service.name, word) for word in dns_1035_label(service.name)]
    port = service.port
    if port is None or (not port.name and not port.number):
        causes.append(required(f"{at}.service.port", "port name or number is required"))
    elif port.name and port.number:
        causes.append(invalid(f"{at}.service.port", "", "cannot set both port name & port number"))
    elif port.name:
        causes += [invalid(f"{at}.service.port.name", port.name, word) for word in port_name(port.name)]
    else:
        causes += validate_port_number(port.number or 0, f"{at}.service.port.number")
    return causes


def validate_ingress_class(ingress_class: IngressClass) -> Causes:
    parameters = ingress_class.spec.parameters
    if parameters is None:
        return []
    causes: Causes = []
    if not parameters.kind:
        causes.append(required("spec.parameters.kind", "kind is required"))
    if not parameters.name:
        causes.append(required("spec.parameters.name", "name is required"))
    if parameters.scope not in ("Cluster", "Namespace"):
        causes.append(not_supported("spec.parameters.scope", parameters.scope, ("Cluster", "Namespace")))
    elif parameters.scope == "Namespace" and not parameters.namespace:
        causes.append(required("spec.parameters.namespace", "`parameters.scope` is set to 'Namespace'"))
    elif parameters.scope == "Cluster" and parameters.namespace is not None:
        causes.append(forbidden("spec.parameters.namespace", "`parameters.scope` is set to 'Cluster'"))
    return causes


def validate_ingress_class_update(new: IngressClass, old: IngressClass) -> Causes:
    return unchanged("spec.controller", new.spec.controller, old.spec.controller) + validate_ingress_class(new)


def validate_network_policy(policy: NetworkPolicy) -> Causes:
    """VAL-30: a peer is a block of addresses or a choice of pods, not both."""
    spec = policy.spec
    causes = validate_selector(spec.pod_selector, "spec.podSelector")
    for position, ingress in enumerate(spec.ingress or ()):
        here = f"spec.ingress[{position}]"
        causes += _validate_rule(ingress.ports, ingress.from_, here, "from")
    for position, egress in enumerate(spec.egress or ()):
        here = f"spec.egress[{position}]"
        causes += _validate_rule(egress.ports, egress.to, here, "to")
    types = spec.policy_types or ()
    if len(types) > len(POLICY_TYPES):
        return [*causes, invalid("spec.policyTypes", types, "may not specify more than two policyTypes")]
    for position, kind in enumerate(types):
        if kind not in POLICY_TYPES:
            causes.append(not_supported(f"spec.policyTypes[{position}]", kind, POLICY_TYPES))
    return causes


def _validate_rule(ports: tuple[NetworkPolicyPort, ...] | None, peers: tuple[NetworkPolicyPeer, ...] | None, at: str, name: str) -> Causes:
    causes: Causes = []
    for position, port in enumerate(ports or ()):
        here = f"{at}.ports[{position}]"
        if port.protocol is not None and port.protocol not in PROTOCOLS:
            causes.append(not_supported(f"{here}.protocol", port.protocol, PROTOCOLS))
        if port.port is None:
            if port.end_port is not None:
                causes.append(required(f"{here}.port", "must be specified when `endPort` is specified"))
            continue
        causes += validate_port(port.port, f"{here}.port")
        if port.end_port is not None:
            if isinstance(port.port, str):
                causes.append(invalid(f"{here}.endPort", port.end_port, "may not be specified when `port` is non-numeric"))
            elif port.end_port < port.port:
                causes.append(invalid(f"{here}.endPort", port.end_port, "must be greater than or equal to `port`"))
            else:
                causes += validate_port_number(port.end_port, f"{here}.endPort")
    for position, peer in enumerate(peers or ()):
        causes += _validate_peer(peer, f"{at}.{name}[{position}]")
    return causes


def _validate_peer(peer: NetworkPolicyPeer, at: str) -> Causes:
    causes = validate_selector(peer.pod_selector, f"{at}.podSelector")
    causes += validate_selector(peer.namespace_selector, f"{at}.namespaceSelector")
    block = peer.ip_block
    chosen = peer.pod_selector is not None or peer.namespace_selector is not None
    if block is None:
        return causes if chosen else [*causes, required(at, "must specify a peer")]
    if chosen:
        return [*causes, forbidden(at, "may not specify both ipBlock and another peer")]
    words = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
    if not block.cidr:
        return [*causes, required(f"{at}.ipBlock.cidr")]
    if not is_cidr(block.cidr):
        return [*causes, invalid(f"{at}.ipBlock.cidr", block.cidr, words)]
    whole = ip_network(block.cidr, strict=False)
    for position, text in enumerate(block.except_ or ()):
        where = f"{at}.ipBlock.except[{position}]"
        if not is_cidr(text):
            causes.append(invalid(where, text, words))
            continue
        part = ip_network(text, strict=False)
        within = part.version == whole.version and part.prefixlen > whole.prefixlen and part.network_address in whole
        if not within:
            causes.append(invalid(where, text, f"must be a strict subset of `cidr`: {block.cidr}"))
    return causes
