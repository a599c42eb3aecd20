"""This machine: its name, its address, and the name server that it can run."""

from pathlib import Path
from typing import TYPE_CHECKING

from refk8s.adapters.linux.address import (
    address_towards,
    hostname,
    is_own_address,
    node_address,
)
from refk8s.adapters.linux.resolv_conf import DEFAULT

if TYPE_CHECKING:
    from refk8s.adapters.linux.name_server.server import PodsBridge
    from refk8s.core.ports import NameServer


def create_name_server(
    domain: str, resolv_conf: Path | None, cluster_address: str, pods_bridge: "PodsBridge"
) -> "NameServer":
    """A name server of this machine's pods; its sockets are not opened."""
    from refk8s.adapters.linux.name_server.server import NameServer

    return NameServer(domain, resolv_conf or DEFAULT, cluster_address, pods_bridge)


__all__ = [
    "address_towards",
    "create_name_server",
    "hostname",
    "is_own_address",
    "node_address",
]
