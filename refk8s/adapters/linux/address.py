"""The name and the addresses of this machine, without the engine's client library. Rule HOST-19
(spec/host.md)."""

import fcntl
import ipaddress
import socket
import struct
from collections.abc import Iterable
from pathlib import Path

FAR_AWAY = ("203.0.113.1", 9)
FAR_AWAY6 = ("2001:db8::1", 9)
"""An address for documentation. Nothing is sent to it; the kernel only selects the source
address."""


def node_address() -> str:
    """The address of the default route's device; else that of the machine's name or of another
    device, but not of loopback; else 127.0.0.1."""
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
        (address for address in found if not ipaddress.ip_address(address).is_loopback),
        choose_address(device_addresses()),
    )


def choose_address(devices: Iterable[tuple[str, str, bool]]) -> str:
    """The address of the first of these (device, address, is a bridge) that leads to other
    machines: not loopback, and a bridge, which leads to containers, only if there is nothing else;
    127.0.0.1 without one."""
    possible = [
        (is_bridge, place, address)
        for place, (_, address, is_bridge) in enumerate(devices)
        if not ipaddress.ip_address(address).is_loopback
    ]
    return min(possible)[2] if possible else "127.0.0.1"


def device_addresses() -> list[tuple[str, str, bool]]:
    """(name, first address of IPv4, whether it is a bridge) of each device that is up, in the
    order of the kernel. Devices without an address are left out."""
    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            request = struct.pack("256s", name.encode()[:15])
            try:
                flags = struct.unpack_from("H", fcntl.ioctl(probe, _GET_FLAGS, request), 16)[0]
                address = fcntl.ioctl(probe, _GET_ADDRESS, request)[20:24]
            except OSError:
                continue
            if flags & _IS_UP:
                is_bridge = Path(f"/sys/class/net/{name}/bridge").exists()
                found.append((name, socket.inet_ntoa(address), is_bridge))
    return found


_GET_FLAGS, _GET_ADDRESS, _IS_UP = 0x8913, 0x8915, 1
"""Requests about a device, and a flag of it (netdevice(7))."""


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
    """Whether it is an address of a device of this machine, without a zone."""
    try:
        address = ipaddress.ip_address(text)
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except (OSError, ValueError):
        return False
    return not address.is_unspecified


def hostname() -> str:
    """This machine's name as a node name."""
    return socket.gethostname().lower().rstrip(".") or "localhost"
