"""Ingresses, ingress classes and network policies. Rule VAL-30 (spec/validation.md).

Source: Kubernetes documentation, "Ingress", "Network Policies"; API reference.
"""

import re
from ipaddress import ip_network

from refk8s.core.api.networking_v1 import (
    Ingress,
    IngressBackend,
    IngressClass,
    IPBlock,
    NetworkPolicy,
    NetworkPolicyPeer,
    NetworkPolicyPort,
)
from refk8s.core.apiserver.validation.field import (
    Causes,
    forbidden,
    invalid,
    malformed,
    not_supported,
    required,
    too_long,
    unchanged,
)
from refk8s.core.apiserver.validation.names import (
    dns_label,
    dns_subdomain,
    is_cidr,
    parse_ip,
    path_segment,
    port_name,
    wildcard_subdomain,
)
from refk8s.core.apiserver.validation.ports import (
    PROTOCOLS,
    validate_load_balancer,
    validate_port,
    validate_port_number,
)
from refk8s.core.apiserver.validation.selectors import validate_selector

PATH_TYPES = ("Exact", "ImplementationSpecific", "Prefix")
POLICY_TYPES = ("Ingress", "Egress")
_FORBIDDEN_PARTS = ("//", "/./", "/../", "%2f", "%2F")
_FORBIDDEN_ENDS = ("/..", "/.")
CLASS_ANNOTATION = "kubernetes.io/ingress.class"
CONTROLLER_BYTES_MAX = 250
_is_path = re.compile(r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+", re.ASCII).fullmatch


def validate_ingress(ingress: Ingress) -> Causes:
    """VAL-30: rules or a default backend, valid hosts, absolute paths."""
    spec = ingress.spec
    causes: Causes = []
    if not spec.rules and spec.default_backend is None:
        causes.append(
            invalid("spec", spec.rules, "either `defaultBackend` or `rules` must be specified")
        )
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
            if path.path_type is not None:
                causes += _validate_backend(path.backend, f"{where}.backend")
    for position, tls in enumerate(spec.tls or ()):
        for number, host in enumerate(tls.hosts or ()):
            where = f"spec.tls[{position}].hosts[{number}]"
            words = wildcard_subdomain(host) if "*" in host else dns_subdomain(host)
            causes += [invalid(where, host, word) for word in words]
        if tls.secret_name:
            where = f"spec.tls[{position}].secretName"
            causes += malformed(where, tls.secret_name, dns_subdomain)
    if spec.ingress_class_name is not None:
        causes += malformed("spec.ingressClassName", spec.ingress_class_name, dns_subdomain)
    return causes


def _validate_host(host: str, at: str) -> Causes:
    if parse_ip(host) is not None:
        return [invalid(at, host, "must be a DNS name, not an IP address")]
    words = wildcard_subdomain(host) if "*" in host else dns_subdomain(host)
    return [invalid(at, host, word) for word in words]


def _validate_path(path: str, kind: str | None, at: str) -> Causes:
    if kind is None:
        return [required(f"{at}.pathType", "pathType must be specified")]
    if kind not in PATH_TYPES:
        return [not_supported(f"{at}.pathType", kind, PATH_TYPES)]
    if kind == "ImplementationSpecific":
        return (
            [invalid(f"{at}.path", path, "must be an absolute path")]
            if path and not path.startswith("/")
            else []
        )
    causes: Causes = []
    if not path.startswith("/"):
        causes.append(invalid(f"{at}.path", path, "must be an absolute path"))
    if path:
        causes += [
            invalid(f"{at}.path", path, f"must not contain '{part}'")
            for part in _FORBIDDEN_PARTS
            if part in path
        ]
        causes += [
            invalid(f"{at}.path", path, f"cannot end with '{end}'")
            for end in _FORBIDDEN_ENDS
            if path.endswith(end)
        ]
    return causes


def _validate_backend(backend: IngressBackend, at: str) -> Causes:
    """VAL-30: a service with one of its ports, or an object of the same namespace."""
    service, resource = backend.service, backend.resource
    if service is not None and resource is not None:
        return [invalid(at, "", "cannot set both resource and service backends")]
    if resource is not None:
        return _validate_reference(
            resource.api_group, resource.kind, resource.name, f"{at}.resource"
        )
    if service is None:
        return [invalid(at, "", "resource or service backend is required")]
    causes: Causes = []
    if not service.name:
        causes.append(required(f"{at}.service.name"))
    else:
        causes += malformed(f"{at}.service.name", service.name, dns_label)
    port = service.port
    if port is not None and port.name and port.number:
        causes.append(invalid(at, "", "cannot set both port name & port number"))
    elif port is not None and port.name:
        causes += malformed(f"{at}.service.port.name", port.name, port_name)
    elif port is not None and port.number:
        causes += validate_port_number(port.number, f"{at}.service.port.number")
    else:
        causes.append(required(at, "port name or number is required"))
    return causes


def _validate_reference(group: str | None, kind: str, name: str, at: str) -> Causes:
    """A kind and a name, each a valid segment of a path."""
    causes: Causes = []
    if group:
        causes += malformed(f"{at}.apiGroup", group, dns_subdomain)
    for text, part in ((kind, "kind"), (name, "name")):
        if not text:
            causes.append(required(f"{at}.{part}", f"{part} is required"))
        else:
            causes += malformed(f"{at}.{part}", text, path_segment)
    return causes


def validate_new_ingress(ingress: Ingress) -> Causes:
    """VAL-30: the class annotation and the field are equal if both are given."""
    causes = validate_ingress(ingress)
    annotation, name = (
        (ingress.metadata.annotations or {}).get(CLASS_ANNOTATION),
        ingress.spec.ingress_class_name,
    )
    if annotation is not None and name is not None and annotation != name:
        words = "must match `ingressClassName` when both are specified"
        causes.append(invalid(f"annotations.{CLASS_ANNOTATION}", annotation, words))
    return causes


def validate_ingress_update(new: Ingress, old: Ingress) -> Causes:
    return validate_ingress(new)


def validate_ingress_status(new: Ingress, old: Ingress) -> Causes:
    return validate_load_balancer(new.status.load_balancer.ingress, "status.loadBalancer.ingress")


def validate_ingress_class(ingress_class: IngressClass) -> Causes:
    """VAL-30: the controller, and the reference to its parameters."""
    causes = _validate_controller(ingress_class.spec.controller or "", "spec.controller")
    parameters = ingress_class.spec.parameters
    if parameters is None:
        return causes
    at = "spec.parameters"
    causes += _validate_reference(parameters.api_group, parameters.kind, parameters.name, at)
    if parameters.scope is None:
        causes.append(required(f"{at}.scope"))
    elif parameters.scope not in ("Cluster", "Namespace"):
        causes.append(not_supported(f"{at}.scope", parameters.scope, ("Cluster", "Namespace")))
    elif parameters.scope == "Namespace" and parameters.namespace is None:
        causes.append(required(f"{at}.namespace", "`parameters.scope` is set to 'Namespace'"))
    elif parameters.scope == "Namespace":
        namespace = parameters.namespace or ""
        causes += malformed(f"{at}.namespace", namespace, dns_label)
    elif parameters.namespace is not None:
        causes.append(forbidden(f"{at}.namespace", "`parameters.scope` is set to 'Cluster'"))
    return causes


def _validate_controller(name: str, at: str) -> Causes:
    """A domain, a slash and a path."""
    if not name:
        return [required(at)]
    causes = [too_long(at, CONTROLLER_BYTES_MAX)] if len(name) > CONTROLLER_BYTES_MAX else []
    domain, slash, path = name.partition("/")
    if not slash or not domain or not path:
        return [
            *causes,
            invalid(at, name, 'must be a domain-prefixed path (such as "acme.io/foo")'),
        ]
    causes += malformed(at, domain, dns_subdomain)
    if not _is_path(path):
        causes.append(invalid(at, path, "Invalid path"))
    return causes


def validate_ingress_class_update(new: IngressClass, old: IngressClass) -> Causes:
    return unchanged(
        "spec.controller", new.spec.controller or "", old.spec.controller or ""
    ) + validate_ingress_class(new)


def validate_network_policy(policy: NetworkPolicy) -> Causes:
    """VAL-30: a peer is an ipBlock or selects pods or namespaces, not both."""
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
        return [
            *causes,
            invalid("spec.policyTypes", types, "may not specify more than two policyTypes"),
        ]
    for position, kind in enumerate(types):
        if kind not in POLICY_TYPES:
            causes.append(not_supported(f"spec.policyTypes[{position}]", kind, POLICY_TYPES))
    return causes


def _validate_rule(
    ports: tuple[NetworkPolicyPort, ...] | None,
    peers: tuple[NetworkPolicyPeer, ...] | None,
    at: str,
    name: str,
) -> Causes:
    causes: Causes = []
    for position, port in enumerate(ports or ()):
        here = f"{at}.ports[{position}]"
        if port.protocol is not None and port.protocol not in PROTOCOLS:
            causes.append(not_supported(f"{here}.protocol", port.protocol, PROTOCOLS))
        if port.port is None:
            if port.end_port is not None:
                causes.append(
                    invalid(
                        f"{here}.endPort",
                        port.end_port,
                        "may not be specified when `port` is not specified",
                    )
                )
            continue
        causes += validate_port(port.port, f"{here}.port")
        if port.end_port is not None:
            if isinstance(port.port, str):
                causes.append(
                    invalid(
                        f"{here}.endPort",
                        port.end_port,
                        "may not be specified when `port` is non-numeric",
                    )
                )
            elif port.end_port < port.port:
                causes.append(
                    # upstream shows the port, not the end
                    invalid(f"{here}.endPort", port.port, "must be greater than or equal to `port`")
                )
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
        causes.append(forbidden(at, "may not specify both ipBlock and another peer"))
    return causes + _validate_block(block, f"{at}.ipBlock")


def _validate_block(block: IPBlock, at: str) -> Causes:
    """VAL-30: a range of addresses, and excluded ranges within it."""
    causes: Causes = []
    words = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
    if not block.cidr:
        return [required(f"{at}.cidr")]
    if not is_cidr(block.cidr):
        return [invalid(f"{at}.cidr", block.cidr, words)]
    whole = ip_network(block.cidr, strict=False)
    for position, text in enumerate(block.except_ or ()):
        where = f"{at}.except[{position}]"
        if not is_cidr(text):
            causes.append(invalid(where, text, words))
            continue
        part = ip_network(text, strict=False)
        within = (
            part.version == whole.version
            and part.prefixlen > whole.prefixlen
            and part.network_address in whole
        )
        if not within:
            causes.append(invalid(where, text, "must be a strict subset of `cidr`"))
    return causes
