"""Endpoints and endpoint slices: where a service leads. Rule VAL-24 (spec/validation.md).

Source: Kubernetes API reference, "Endpoints", "EndpointSlice"; documentation, "EndpointSlices".
"""

from ipaddress import IPv4Address

from refk8s.core.api.core_v1 import EndpointAddress, Endpoints, EndpointSubset
from refk8s.core.api.discovery_v1 import EndpointSlice
from refk8s.core.apiserver.validation.field import Causes, duplicate, invalid, not_supported, required, too_many, unchanged
from refk8s.core.apiserver.validation.names import dns_label, dns_subdomain, parse_ip
from refk8s.core.apiserver.validation.ports import PROTOCOLS, validate_address, validate_non_special, validate_port_number

ADDRESS_TYPES = ("FQDN", "IPv4", "IPv6")
ENDPOINTS_MAX, PORTS_MAX, ADDRESSES_MAX = 1000, 20_000, 100


def validate_endpoints(endpoints: Endpoints) -> Causes:
    causes: Causes = []
    for position, subset in enumerate(endpoints.subsets or ()):
        causes += _validate_subset(subset, f"subsets[{position}]")
    return causes


def validate_endpoints_update(new: Endpoints, old: Endpoints) -> Causes:
    return [] if new.subsets == old.subsets else validate_endpoints(new)


def _validate_subset(subset: EndpointSubset, at: str) -> Causes:
    """VAL-24: addresses that can be reached, and ports that have names where there are several."""
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
            causes += [invalid(f"{here}.name", port.name, word) for word in dns_label(port.name)]
        causes += validate_port_number(port.port, f"{here}.port")
        if not port.protocol:
            causes.append(required(f"{here}.protocol"))
        elif port.protocol not in PROTOCOLS:
            causes.append(not_supported(f"{here}.protocol", port.protocol, PROTOCOLS))
    return causes


def _validate_endpoint_address(address: EndpointAddress, at: str) -> Causes:
    causes = validate_address(address.ip, f"{at}.ip")
    if address.hostname:
        causes += [invalid(f"{at}.hostname", address.hostname, word) for word in dns_label(address.hostname)]
    if address.node_name is not None:
        causes += [invalid(f"{at}.nodeName", address.node_name, word) for word in dns_subdomain(address.node_name)]
    return causes + (validate_non_special(address.ip, f"{at}.ip") if not causes else [])


def validate_endpoint_slice(endpoint_slice: EndpointSlice) -> Causes:
    """VAL-24: one kind of address, at most a thousand endpoints, ports with names that differ."""
    causes: Causes = []
    kind = endpoint_slice.address_type
    if not kind:
        causes.append(required("addressType"))
    elif kind not in ADDRESS_TYPES:
        causes.append(not_supported("addressType", kind, ADDRESS_TYPES))
    endpoints, ports = endpoint_slice.endpoints or (), endpoint_slice.ports or ()
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
                causes += [invalid(where, address, word) for word in dns_subdomain(address)]
            elif kind in ("IPv4", "IPv6"):
                if parse_ip(address) is None or ("IPv4" if isinstance(parse_ip(address), IPv4Address) else "IPv6") != kind:
                    causes.append(invalid(where, address, f"must be a valid {kind} address"))
                else:
                    causes += validate_non_special(address, where)
        if endpoint.node_name is not None:
            causes += [invalid(f"{here}.nodeName", endpoint.node_name, word) for word in dns_subdomain(endpoint.node_name)]
        if endpoint.hostname is not None:
            causes += [invalid(f"{here}.hostname", endpoint.hostname, word) for word in dns_label(endpoint.hostname)]
    if len(ports) > PORTS_MAX:
        return [*causes, too_many("ports", len(ports), PORTS_MAX)]
    names: set[str | None] = set()
    for position, slice_port in enumerate(ports):
        here = f"ports[{position}]"
        if slice_port.name:
            causes += [invalid(f"{here}.name", slice_port.name, word) for word in dns_label(slice_port.name)]
        if slice_port.name in names:
            causes.append(duplicate(f"{here}.name", slice_port.name))
        names.add(slice_port.name)
        if slice_port.protocol is None:
            causes.append(required(f"{here}.protocol"))
        elif slice_port.protocol not in PROTOCOLS:
            causes.append(not_supported(f"{here}.protocol", slice_port.protocol, PROTOCOLS))
    return causes


def validate_endpoint_slice_update(new: EndpointSlice, old: EndpointSlice) -> Causes:
    return validate_endpoint_slice(new) + unchanged("addressType", new.address_type, old.address_type)


