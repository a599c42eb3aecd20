"""The name and the address of this machine. Without the engine's client library, so that it can be asked before
an engine is needed."""

import ipaddress
import socket

FAR_AWAY = ("203.0.113.1", 9)
"""An address for documentation: nothing is sent there, the kernel only says from which address it
would be."""


def node_address() -> str:
    """The address of this machine on the way out: that of the default route's device; else any
    other than loopback, else loopback."""
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
