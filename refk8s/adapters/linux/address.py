"""The name and the address of this machine, without the engine's client library."""

import ipaddress
import socket

FAR_AWAY = ("203.0.113.1", 9)
FAR_AWAY6 = ("2001:db8::1", 9)
"""An address for documentation. Nothing is sent to it; the kernel only selects the source
address."""


def node_address() -> str:
    """The address of the default route's device; else any other than loopback, else loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(FAR_AWAY)
            return str(probe.getsockname()[0])
        except OSError:
            pass
    try:
        found = [
            str(info[4][0])
            for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)
        ]
    except OSError:
        found = []
    return next(
        (address for address in found if not ipaddress.ip_address(address).is_loopback), "127.0.0.1"
    )


def node_address6() -> str:
    """The address of IPv6 of the default route's device, or of a device with a route to such
    addresses; empty without one."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.connect(FAR_AWAY6)
            address = ipaddress.ip_address(probe.getsockname()[0])
    except OSError:
        return ""
    return "" if address.is_loopback or address.is_link_local else str(address)


def address_towards(host: str, port: int) -> str:
    """This machine's address on the way to a host; `node_address` if that is loopback or no way is
    known."""
    try:
        found = socket.getaddrinfo(host, port, socket.AF_INET, socket.SOCK_DGRAM)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(found[0][4])
            address = str(probe.getsockname()[0])
    except OSError:
        return node_address()
    return node_address() if ipaddress.ip_address(address).is_loopback else address


def is_own_address(text: str) -> bool:
    """Whether it is an IPv4 address of a device of this machine."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind((str(ipaddress.IPv4Address(text)), 0))
    except (OSError, ValueError):
        return False
    return not ipaddress.IPv4Address(text).is_unspecified


def hostname() -> str:
    """This machine's name as a node name."""
    return socket.gethostname().lower().rstrip(".") or "localhost"
