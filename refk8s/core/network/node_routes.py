"""Routes to the pods of other nodes. Rules ROUTE-1 to ROUTE-6, ROUTE-9 (spec/node_network.md).

    host-gw   10.244.2.0/24 via 192.0.2.12                      the other node is on a shared link
    vxlan     10.244.2.0/24 via 10.244.2.0 dev VXLAN onlink     its packets go inside UDP packets
              10.244.2.0 is at 02:00:0a:f4:02:00                to 192.0.2.12

The network address of a range stands for its node in the tunnel, and the hardware address follows
from it, so all nodes compute the same without telling each other. Packets of IPv6 go through the
same tunnel, to the address of IPv4 of the other node and to the hardware address of its range of
IPv4 (ROUTE-9). Source: the flannel
documentation, "Backends" (host-gw, VXLAN), for the layout; ip-route(8), ip-link(8), bridge(8).
"""

from collections.abc import Iterable
from ipaddress import (
    AddressValueError,
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    NetmaskValueError,
)
from typing import TypeAlias

from refk8s.core.api.families import Network
from refk8s.core.ports.node_network import NodeNetwork
from refk8s.core.value import Value

Address: TypeAlias = IPv4Address | IPv6Address

HOST_GW, VXLAN, AUTO, NONE = "host-gw", "vxlan", "auto", "none"
MODES = (AUTO, HOST_GW, VXLAN, NONE)
VXLAN_OVERHEAD = 50
"""Bytes of a packet for the outer headers: Ethernet 14, IP 20, UDP 8, VXLAN 8."""
VXLAN_ID = 8053
VXLAN_PORT = 8472
PREFIX_LENGTH_MIN = 8


class Route(Value, frozen=True):
    """Packets to `range` go to the node at `node`, inside UDP packets if `tunnel`."""

    range: Network
    node: Address
    tunnel: bool = False
    hardware: str = ""  # of a range of IPv6: the hardware address in the tunnel

    @property
    def gateway(self) -> Address:
        """The next hop: the node, or the address that stands for it in the tunnel."""
        return self.range.network_address if self.tunnel else self.node

    @property
    def hardware_address(self) -> str:
        """The hardware address of the other node in the tunnel."""
        return self.hardware or hardware_address(self.range)

    def __lt__(self, other: "Route") -> bool:
        return _order(self) < _order(other)


def _order(route: Route) -> tuple[int, str, str, bool]:
    return route.range.version, str(route.range), str(route.node), route.tunnel


class Routes(Value, frozen=True):
    """The routes of a node, sorted, and why other nodes have none."""

    routes: tuple[Route, ...] = ()
    problems: tuple[str, ...] = ()


class Change(Value, frozen=True):
    """The routes to add or replace, then those to remove."""

    added: tuple[Route, ...] = ()
    removed: tuple[Route, ...] = ()


def hardware_address(network: Network) -> str:
    """The hardware address, in the tunnel, of the node that has this range of IPv4."""
    return ":".join(f"{byte:02x}" for byte in (2, 0, *network.network_address.packed))


def compute_routes(network: NodeNetwork, links: Iterable[Network], mode: str) -> Routes:
    """The routes of this node (ROUTE-1). `links`: the networks of its links. O(nodes x links)."""
    all_links = tuple(links)
    if mode == NONE:
        return Routes()
    four = _routes(network, [each for each in all_links if each.version == 4], mode)
    six = _routes6(network, [each for each in all_links if each.version == 6], mode)
    return Routes((*four.routes, *six.routes), (*four.problems, *six.problems))


def _routes(network: NodeNetwork, links: list[Network], mode: str) -> Routes:
    own = read_range(network.pod_cidr)
    if own is None:
        return Routes()
    taken = _Ranges((own, *links))
    found: list[Route] = []
    problems: list[str] = []
    for peer in network.peers:
        if not peer.pod_cidr and peer.pod_cidr6:
            continue
        cidr, address = read_range(peer.pod_cidr), read_address(peer.address)
        if cidr is None or address is None:
            problems.append(f"node {peer.name}: podCIDR or InternalIP is not valid")
            continue
        is_direct = any(address in link for link in links)
        if mode == HOST_GW and not is_direct:
            problems.append(
                f"node {peer.name}: {address} is on no link of this node; use --network auto"
            )
        elif any(address in each for each in (own, cidr)) or not taken.add(cidr):
            # ROUTE-3
            problems.append(
                f"node {peer.name}: podCIDR {cidr} overlaps another network of this node"
            )
        else:
            found.append(Route(cidr, address, tunnel=mode == VXLAN or not is_direct))
    return Routes(tuple(sorted(found)), tuple(problems))


def _routes6(network: NodeNetwork, links: list[Network], mode: str) -> Routes:
    """ROUTE-9."""
    own = read_range(network.pod_cidr6, 6)
    if own is None:
        return Routes()
    taken = _Ranges((own, *links), 128)
    found: list[Route] = []
    problems: list[str] = []
    for peer in network.peers:
        if not peer.pod_cidr6:
            continue
        cidr, address = read_range(peer.pod_cidr6, 6), read_address(peer.address6, 6)
        four, tunnel_end = read_range(peer.pod_cidr), read_address(peer.address)
        is_direct = address is not None and any(address in link for link in links)
        if cidr is None:
            problems.append(f"node {peer.name}: podCIDR {peer.pod_cidr6} is not valid")
        elif mode == HOST_GW and not is_direct:
            problems.append(
                f"node {peer.name}: its InternalIP of IPv6 ({address or 'none'}) is on "
                "no link of this "
                "node; use --network auto"
            )
        elif not taken.add(cidr) or (
            address is not None and any(address in r for r in (own, cidr))
        ):
            problems.append(
                f"node {peer.name}: podCIDR {cidr} overlaps another network of this node"
            )
        elif is_direct and mode != VXLAN and address is not None:
            found.append(Route(cidr, address))
        elif four is None or tunnel_end is None:
            problems.append(
                f"node {peer.name}: without a podCIDR and an InternalIP of IPv4 there "
                "is no tunnel to "
                f"{cidr}"
            )
        else:
            found.append(Route(cidr, tunnel_end, tunnel=True, hardware=hardware_address(four)))
    return Routes(tuple(sorted(found)), tuple(problems))


class _Ranges:
    """Networks that do not overlap; sorted, so that each new one is compared with few."""

    def __init__(self, networks: Iterable[Network], bits: int = 32) -> None:
        """`bits`: of an address of their family."""
        self._bits = bits
        self._lengths: set[int] = set()
        self._known: set[tuple[int, int]] = set()
        self._covered: set[tuple[int, int]] = set()
        for network in networks:
            self._put(network)

    def _put(self, network: Network) -> None:
        first, length = int(network.network_address), network.prefixlen
        self._lengths.add(length)
        self._known.add((first, length))
        for above in range(length):
            rest = self._bits - above
            self._covered.add((first >> rest << rest, above))

    def add(self, network: Network) -> bool:
        """Add a network; False if it overlaps one of them."""
        first, length = int(network.network_address), network.prefixlen
        if (first, length) in self._covered or any(
            (first >> (self._bits - shorter) << (self._bits - shorter), shorter) in self._known
            for shorter in self._lengths
            if shorter <= length
        ):
            return False
        self._put(network)
        return True


def change_routes(held: Iterable[Route], wanted: Iterable[Route]) -> Change:
    """What turns the first routes into the others (ROUTE-5). A route to the same range is replaced,
    and so not removed."""
    held, wanted = {*held}, {*wanted}
    ranges = {route.range for route in wanted}
    return Change(
        tuple(sorted(wanted - held)),
        tuple(sorted(route for route in held - wanted if route.range not in ranges)),
    )


def read_range(text: str, version: int = 4) -> Network | None:
    """A podCIDR; None if it is not a range of this family that a node may have."""
    try:
        network = IPv4Network(text) if version == 4 else IPv6Network(text)
    except (AddressValueError, NetmaskValueError, ValueError):
        return None
    is_plain = not (network.is_loopback or network.is_multicast or network.is_link_local)
    most = network.max_prefixlen - 2
    return network if PREFIX_LENGTH_MIN <= network.prefixlen <= most and is_plain else None


def read_address(text: str, version: int = 4) -> Address | None:
    """An InternalIP; None if it is not an address of this family of a machine."""
    try:
        address = IPv4Address(text) if version == 4 else IPv6Address(text)
    except (AddressValueError, ValueError):
        return None
    if "%" in text or (version == 6 and address.is_link_local):
        return None
    is_plain = not (address.is_loopback or address.is_multicast or address.is_unspecified)
    return address if is_plain else None
