"""Ports and addresses, of containers and services. Rule VAL-10 (spec/validation.md).

Source: Kubernetes API reference, "Container" (ports); documentation, "Service" (port definitions).
"""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address

from refk8s.core.api.core_v1 import Container, ContainerPort, LoadBalancerIngress
from refk8s.core.api.networking_v1 import IngressLoadBalancerIngress
from refk8s.core.apiserver.validation.field import (
    PORT_RANGE,
    Causes,
    duplicate,
    invalid,
    malformed,
    not_supported,
    required,
)
from refk8s.core.apiserver.validation.names import dns_subdomain, parse_ip, port_name

PROTOCOLS = ("SCTP", "TCP", "UDP")


def validate_port_number(number: int, at: str) -> Causes:
    return [] if 1 <= number <= 65535 else [invalid(at, number, PORT_RANGE)]


def validate_port(port: int | str, at: str) -> Causes:
    """A number, or the name of a port."""
    if isinstance(port, int):
        return validate_port_number(port, at)
    return malformed(at, port, port_name)


def validate_ports(ports: tuple[ContainerPort, ...], at: str) -> Causes:
    """VAL-10: numbers from 1 to 65535, known protocols, unique names."""
    causes: Causes = []
    seen: set[str] = set()
    for position, port in enumerate(ports):
        here = f"{at}[{position}]"
        if port.name:
            words = port_name(port.name)
            if words:
                causes += [invalid(f"{here}.name", port.name, word) for word in words]
            elif port.name in seen:
                causes.append(duplicate(f"{here}.name", port.name))
            seen.add(port.name)
        if not port.container_port:
            causes.append(required(f"{here}.containerPort"))
        else:
            causes += validate_port_number(port.container_port, f"{here}.containerPort")
        if port.host_port:
            causes += validate_port_number(port.host_port, f"{here}.hostPort")
        if not port.protocol:
            causes.append(required(f"{here}.protocol"))
        elif port.protocol not in PROTOCOLS:
            causes.append(not_supported(f"{here}.protocol", port.protocol, PROTOCOLS))
    return causes


def validate_host_ports(containers: tuple[Container, ...], at: str) -> Causes:
    """VAL-10: no two of these containers have the same host port."""
    causes: Causes = []
    seen: set[str] = set()
    for position, container in enumerate(containers):
        for number, port in enumerate(container.ports or ()):
            if port.host_port:
                key = f"{port.protocol}/{port.host_ip or ''}/{port.host_port}"
                if key in seen:
                    causes.append(duplicate(f"{at}[{position}].ports[{number}].hostPort", key))
                seen.add(key)
    return causes


def validate_address(address: str, at: str) -> Causes:
    return (
        []
        if parse_ip(address) is not None
        else [invalid(at, address, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)")]
    )


def validate_load_balancer(
    points: Sequence[LoadBalancerIngress | IngressLoadBalancerIngress] | None, at: str
) -> Causes:
    """VAL-22, VAL-30: the load balancer of a Service or an Ingress has an IP address or a host
    name."""
    causes: Causes = []
    for position, point in enumerate(points or ()):
        here = f"{at}[{position}]"
        if point.ip:
            causes += validate_address(point.ip, f"{here}.ip")
        if point.hostname:
            causes += malformed(f"{here}.hostname", point.hostname, dns_subdomain)
            if parse_ip(point.hostname) is not None:
                words = "must be a DNS name, not an IP address"
                causes.append(invalid(f"{here}.hostname", point.hostname, words))
    return causes


def validate_non_special(text: str, at: str) -> Causes:
    """An address that other machines can send packets to."""
    address: IPv4Address | IPv6Address | None = parse_ip(text)
    if address is None:
        return []
    if address.is_unspecified:
        return [invalid(at, text, "may not be unspecified (0.0.0.0 or ::)")]
    if address.is_loopback:
        return [invalid(at, text, "may not be in the loopback range (127.0.0.0/8, ::1/128)")]
    if address.is_link_local:
        return [invalid(at, text, "may not be in the link-local range (169.254.0.0/16, fe80::/10)")]
    is_old = isinstance(address, IPv4Address)
    if int(address) >> (8 if is_old else 112) == (0xE00000 if is_old else 0xFF02):
        return [
            invalid(
                at, text, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"
            )
        ]
    return []
