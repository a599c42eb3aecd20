"""The families of addresses, IPv4 and IPv6.

Source: Kubernetes documentation, "IPv4/IPv6 dual-stack".
"""

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import TypeAlias

IPV4, IPV6 = "IPv4", "IPv6"
FAMILIES = (IPV4, IPV6)

Network: TypeAlias = IPv4Network | IPv6Network


def family_of(address: str) -> str:
    """The family of a valid address, or of a valid range."""
    return IPV6 if ":" in address else IPV4


def other_family(family: str) -> str:
    return IPV4 if family == IPV6 else IPV6


def of_family(texts: Iterable[str], family: str) -> str:
    """The first of these valid addresses or ranges that is of this family; empty without one."""
    return next((text for text in texts if text and family_of(text) == family), "")


def canonical(address: str) -> str:
    """An address of IPv6 in its canonical form, which the kernel and the model have; one of IPv4 as
    it is. Empty for an invalid one of IPv6."""
    if ":" not in address:
        return address
    try:
        return str(IPv6Address(address)) if "%" not in address else ""
    except ValueError:
        return ""


def read_ranges(text: str) -> tuple[Network, ...]:
    """One range, or one of each family with a comma between them, as the flags of Kubernetes'
    components have them. Raises ValueError with the reason."""
    parts = [part.strip() for part in text.split(",")]
    if len(parts) > 2:
        raise ValueError("at most one range of each family is possible")
    ranges = tuple([ip_network(part) for part in parts])
    if len({network.version for network in ranges}) != len(ranges):
        raise ValueError("the two ranges must be of different families")
    return ranges
