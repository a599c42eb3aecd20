"""Which addresses a connection to a pod or a node may use. Rules STREAM-8, STREAM-14."""

import ipaddress


def is_proxyable(address: str) -> bool:
    """Whether a connection to a pod may use this address: none that leads to this machine itself or
    only to its own network link."""
    return is_routable(address) and not _read(address).is_loopback


def is_routable(address: str) -> bool:
    """Whether it is the IP address of one machine, possibly this one, and not link-local."""
    try:
        found = _read(address)
    except ValueError:
        return False
    return not (
        "%" in address
        or found.is_link_local
        or found.is_multicast
        or found.is_unspecified
        or str(found) == "255.255.255.255"
    )


def _read(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    address = ipaddress.ip_address(text)
    return getattr(address, "ipv4_mapped", None) or address
