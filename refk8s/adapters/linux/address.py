"""The name and the address of this machine, without the engine's client library."""

import ipaddress
import socket

FAR_AWAY = ("203.0.113.1", 9)
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


def hostname() -> str:
    """This machine's name as a node name."""
    return socket.gethostname().lower().rstrip(".") or "localhost"
