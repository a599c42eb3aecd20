"""Endpoints and endpoint slices. Rule VAL-24 (spec/validation.md).

Source: Kubernetes API reference, "Endpoints", "EndpointSlice"; documentation, "EndpointSlices".
"""

from refk8s.core.api.core_v1 import EndpointAddress, Endpoints, EndpointSubset
from refk8s.core.api.discovery_v1 import EndpointHints, EndpointPort, EndpointSlice
from refk8s.core.apiserver.validation.field import (
    Causes,
    duplicate,
    invalid,
    malformed,
    not_supported,
    required,
    too_many,
    unchanged,
)
from refk8s.core.apiserver.validation.names import (
    Check,
    dns_label,
    dns_subdomain,
    label_value,
    parse_ip,
    qualified_name,
)
from refk8s.core.apiserver.validation.ports import (
    PROTOCOLS,
    validate_address,
    validate_non_special,
    validate_port_number,
)

ADDRESS_TYPES = ("FQDN", "IPv4", "IPv6")
ENDPOINTS_MAX, PORTS_MAX, ADDRESSES_MAX = 1000, 20_000, 100
HINTS_MAX = 8


def validate_endpoints(endpoints: Endpoints) -> Causes:
    causes: Causes = []
    for position, subset in enumerate(endpoints.subsets or ()):
        causes += _validate_subset(subset, f"subsets[{position}]")
    return causes


def validate_endpoints_update(new: Endpoints, old: Endpoints) -> Causes:
    return [] if new.subsets == old.subsets else validate_endpoints(new)


def _validate_subset(subset: EndpointSubset, at: str) -> Causes:
    """VAL-24: addresses that are not loopback or link-local; several ports have names."""
    causes: Causes = []
    if not subset.addresses and not subset.not_ready_addresses:
        causes.append(required(at, "must specify `addresses` or `notReadyAddresses`"))
    for position, address in enumerate(subset.addresses or ()):
        causes += _validate_endpoint_address(address, f"{at}.addresses[{position}]")
    for position, address in enumerate(subset.not_ready_addresses or ()):
        causes += _validate_endpoint_address(address, f"{at}.notReadyAddresses[{position}]")
    ports = subset.ports or ()
    for position, port in enumerate(ports):
        here = f"{at}.ports[{position}]"
        if len(ports) > 1 and not port.name:
            causes.append(required(f"{here}.name"))
        elif port.name:
            causes += malformed(f"{here}.name", port.name, dns_label)
        causes += validate_port_number(port.port, f"{here}.port")
        if not port.protocol:
            causes.append(required(f"{here}.protocol"))
        elif port.protocol not in PROTOCOLS:
            causes.append(not_supported(f"{here}.protocol", port.protocol, PROTOCOLS))
        if port.app_protocol is not None:
            causes += malformed(f"{here}.appProtocol", port.app_protocol, qualified_name)
    return causes


def _validate_endpoint_address(address: EndpointAddress, at: str) -> Causes:
    causes = validate_address(address.ip, f"{at}.ip")
    if address.hostname:
        causes += malformed(f"{at}.hostname", address.hostname, dns_label)
    if address.node_name is not None:
        causes += malformed(f"{at}.nodeName", address.node_name, dns_subdomain)
    return causes + validate_non_special(address.ip, f"{at}.ip")


def validate_endpoint_slice(endpoint_slice: EndpointSlice) -> Causes:
    """VAL-24: one address type, at most 1,000 endpoints, unique port names."""
    causes: Causes = []
    kind = endpoint_slice.address_type
    if not kind:
        causes.append(required("addressType"))
    elif kind not in ADDRESS_TYPES:
        causes.append(not_supported("addressType", kind, ADDRESS_TYPES))
    causes += _validate_slice_ports(endpoint_slice.ports or ())
    endpoints = endpoint_slice.endpoints or ()
    if len(endpoints) > ENDPOINTS_MAX:
        return [*causes, too_many("endpoints", len(endpoints), ENDPOINTS_MAX)]
    for position, endpoint in enumerate(endpoints):
        here = f"endpoints[{position}]"
        if not endpoint.addresses:
            causes.append(required(f"{here}.addresses", "must contain at least 1 address"))
        elif len(endpoint.addresses) > ADDRESSES_MAX:
            causes.append(too_many(f"{here}.addresses", len(endpoint.addresses), ADDRESSES_MAX))
        for number, address in enumerate(endpoint.addresses):
            where = f"{here}.addresses[{number}]"
            if kind == "FQDN":
                causes += _validate_fqdn(address, where)
            elif kind in ("IPv4", "IPv6"):
                parsed = parse_ip(address)
                if parsed is None:
                    causes += validate_address(address, where)
                elif f"IPv{parsed.version}" != kind:
                    causes.append(
                        invalid(f"{here}.addresses", address, f"must be an {kind} address")
                    )
                causes += validate_non_special(address, where)
        if endpoint.node_name is not None:
            causes += malformed(f"{here}.nodeName", endpoint.node_name, dns_subdomain)
        if endpoint.hostname is not None:
            causes += malformed(f"{here}.hostname", endpoint.hostname, dns_label)
        if endpoint.hints is not None:
            causes += _validate_hints(endpoint.hints, f"{here}.hints")
    return causes


def _validate_slice_ports(ports: tuple[EndpointPort, ...]) -> Causes:
    if len(ports) > PORTS_MAX:
        return [too_many("ports", len(ports), PORTS_MAX)]
    causes: Causes = []
    names: set[str | None] = set()
    for position, slice_port in enumerate(ports):
        here = f"ports[{position}]"
        if slice_port.name:
            causes += malformed(f"{here}.name", slice_port.name, dns_label)
        if slice_port.name in names:
            causes.append(duplicate(f"{here}.name", slice_port.name))
        names.add(slice_port.name)
        if slice_port.protocol is None:
            causes.append(required(f"{here}.protocol"))
        elif slice_port.protocol not in PROTOCOLS:
            causes.append(not_supported(f"{here}.protocol", slice_port.protocol, PROTOCOLS))
        if slice_port.app_protocol is not None:
            words = qualified_name(slice_port.app_protocol)
            causes += [
                invalid(f"{here}.appProtocol", slice_port.app_protocol, word) for word in words
            ]
    return causes


def _validate_fqdn(name: str, at: str) -> Causes:
    """A name of at least two labels; it may end with a dot."""
    labels = name.removesuffix(".")
    if not name:
        return [required(at)]
    causes = [invalid(at, name, word) for word in dns_subdomain(labels)]
    if not causes and "." not in labels:
        causes.append(
            invalid(at, name, "should be a domain with at least two segments separated by dots")
        )
    return causes


def _validate_hints(hints: EndpointHints, at: str) -> Causes:
    """VAL-24: at most eight zones and eight nodes, each once."""
    causes = _validate_hint_names(
        [zone.name for zone in hints.for_zones or ()], f"{at}.forZones", label_value
    )
    return causes + _validate_hint_names(
        [node.name for node in hints.for_nodes or ()], f"{at}.forNodes", dns_subdomain
    )


def _validate_hint_names(names: list[str], at: str, check: Check) -> Causes:
    if len(names) > HINTS_MAX:
        return [too_many(at, len(names), HINTS_MAX)]
    causes: Causes = []
    for position, name in enumerate(names):
        if name in names[:position]:
            causes.append(duplicate(f"{at}[{position}].name", name))
        else:
            causes += malformed(f"{at}[{position}].name", name, check)
    return causes


def validate_endpoint_slice_update(new: EndpointSlice, old: EndpointSlice) -> Causes:
    return validate_endpoint_slice(new) + unchanged(
        "addressType", new.address_type, old.address_type
    )
