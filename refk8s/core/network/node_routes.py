"""Routes to the pods of other nodes. Rules ROUTE-1 to ROUTE-6 (spec/node_network.md).

    host-gw   10.244.2.0/24 via 192.0.2.12                      the other node is on a shared link
    vxlan     10.244.2.0/24 via 10.244.2.0 dev VXLAN onlink     its packets go inside UDP packets
              10.244.2.0 is at 02:00:0a:f4:02:00                to 192.0.2.12

The network address of a range stands for its node in the tunnel, and the hardware address follows
from it, so all nodes compute the same without telling each other. Source: the flannel
documentation, "Backends" (host-gw, VXLAN), for the layout; ip-route(8), ip-link(8), bridge(8).
"""

from collections.abc import Iterable
from ipaddress import AddressValueError, IPv4Address, IPv4Network, NetmaskValueError

from refk8s.core.ports.node_network import NodeNetwork
from refk8s.core.value import Value

HOST_GW, VXLAN, AUTO, NONE = "host-gw", "vxlan", "auto", "none"
MODES = (AUTO, HOST_GW, VXLAN, NONE)
VXLAN_OVERHEAD = 50
"""Bytes of a packet for the outer headers: Ethernet 14, IP 20, UDP 8, VXLAN 8."""
VXLAN_ID = 8053
VXLAN_PORT = 8472
PREFIX_LENGTH_MIN = 8


class Route(Value, frozen=True, order=True):
    """Packets to `range` go to the node at `node`, inside UDP packets if `tunnel`."""

    range: IPv4Network
    node: IPv4Address
    tunnel: bool = False

    @property
    def gateway(self) -> IPv4Address:
        """The next hop: the node, or the address that stands for it in the tunnel."""
        return self.range.network_address if self.tunnel else self.node


class Routes(Value, frozen=True):
    """The routes of a node, sorted, and why other nodes have none."""

    routes: tuple[Route, ...] = ()
    problems: tuple[str, ...] = ()


class Change(Value, frozen=True):
    """The routes to add or replace, then those to remove."""

    added: tuple[Route, ...] = ()
    removed: tuple[Route, ...] = ()


def hardware_address(network: IPv4Network) -> str:
    """The hardware address, in the tunnel, of the node that has this range."""
    return ":".join(f"{byte:02x}" for byte in (2, 0, *network.network_address.packed))


def compute_routes(network: NodeNetwork, links: Iterable[IPv4Network], mode: str) -> Routes:
    """The routes of this node (ROUTE-1). `links`: the networks of its links. O(nodes x links)."""
    links = tuple(links)
    own = read_range(network.pod_cidr)
    if own is None or mode == NONE:
        return Routes()
    taken = _Ranges((own, *links))
    found: list[Route] = []
    problems: list[str] = []
    for peer in network.peers:
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


class _Ranges:
    """Networks that do not overlap; sorted, so that each new one is compared with few."""

    def __init__(self, networks: Iterable[IPv4Network]) -> None:
        self._lengths: set[int] = set()
        self._known: set[tuple[int, int]] = set()
        self._covered: set[tuple[int, int]] = set()
        for network in networks:
            self._put(network)

    def _put(self, network: IPv4Network) -> None:
        first, length = int(network.network_address), network.prefixlen
        self._lengths.add(length)
        self._known.add((first, length))
        for above in range(length):
            self._covered.add((first >> (32 - above) << (32 - above), above))

    def add(self, network: IPv4Network) -> bool:
        """Add a network; False if it overlaps one of them."""
        first, length = int(network.network_address), network.prefixlen
        if (first, length) in self._covered or any(
            (first >> (32 - shorter) << (32 - shorter), shorter) in self._known
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


def read_range(text: str) -> IPv4Network | None:
    """A podCIDR; None if it is not a range of IPv4 that a node may have."""
    try:
        network = IPv4Network(text)
    except (AddressValueError, NetmaskValueError, ValueError):
        return None
    is_plain = not (network.is_loopback or network.is_multicast or network.is_link_local)
    return network if PREFIX_LENGTH_MIN <= network.prefixlen <= 30 and is_plain else None


def read_address(text: str) -> IPv4Address | None:
    """An InternalIP; None if it is not an address of IPv4 of a machine."""
    try:
        address = IPv4Address(text)
    except (AddressValueError, ValueError):
        return None
    is_plain = not (address.is_loopback or address.is_multicast or address.is_unspecified)
    return address if is_plain else None
