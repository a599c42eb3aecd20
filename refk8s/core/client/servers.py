"""The API servers that a client may use, and their order. Rules CLIENT-15, CLIENT-16
(spec/client.md).

Each process of a node or a control plane may know several API servers of its cluster: those of its
kubeconfig, and those that the Service `kubernetes` lists. So no load balancer is required.
"""

from collections.abc import Iterable
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import urlsplit

from refk8s.core.api.discovery_v1 import EndpointSlice

SERVERS_MAX: Final = 16
PORT_NAME: Final = "https"


def order(servers: tuple[str, ...], current: str) -> tuple[str, ...]:
    """The servers in the order in which they are tried: the current one, then those after it."""
    start = servers.index(current) if current in servers else 0
    return servers[start:] + servers[:start]


def known_servers(named: Iterable[str], learnt: Iterable[str]) -> tuple[str, ...]:
    """The named servers, then the learnt ones, each once; at most 16 in all."""
    return tuple(dict.fromkeys((*named, *learnt)))[:SERVERS_MAX]


def after_command(given: tuple[str, ...], stored: tuple[str, ...]) -> tuple[str, ...]:
    """The servers of a node that is started again with these URLs (TRUST-12): they come first. The
    stored ones are kept after them if one of those is among them, else the cluster has moved."""
    if not given:
        return stored
    return known_servers(given, stored if {*given} & {*stored} else ())


def may_learn(server: str, insecure: bool) -> bool:
    """Whether learnt servers can replace this one: their certificates are verified, and what other
    machines reach is of no use to a client of a loopback address or a path of a proxy."""
    url = urlsplit(server)
    if url.scheme != "https" or url.path or insecure:
        return False
    try:
        return not ip_address(url.hostname or "").is_loopback
    except ValueError:
        return url.hostname != "localhost"


def servers_of(slices: Iterable[EndpointSlice]) -> tuple[str, ...]:
    """The URLs of the endpoints of the Service `kubernetes`, sorted. What is no address of a
    machine is left out."""
    found = set()
    for one in slices:
        ports = [port.port for port in one.ports or () if port.name == PORT_NAME]
        for endpoint in one.endpoints or ():
            conditions = endpoint.conditions
            if conditions is not None and conditions.ready is False:
                continue
            for address in endpoint.addresses or ():
                found |= {_url(address, port) for port in ports if port}
    return tuple(sorted(found - {""}))[:SERVERS_MAX]


def _url(text: Any, port: int) -> str:
    try:
        address = ip_address(text)
    except ValueError:
        return ""
    if address.is_loopback or address.is_unspecified or address.is_link_local:
        return ""
    return f"https://[{address}]:{port}" if address.version == 6 else f"https://{address}:{port}"
