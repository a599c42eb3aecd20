"""The network of pods across nodes in the kernel of this machine: routes and a tunnel by rtnetlink,
rules by `nft`. Rules ROUTE-4 to ROUTE-9 (spec/node_network.md).

The routes have a protocol number of this cluster, by which a later process finds them. Each is
replaced by one message, so a packet finds the old or the new one. pyroute2 is loaded when there is
another node (24 MB of memory).
"""

import asyncio
import logging
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address, ip_address, ip_interface, ip_network
from typing import Any

from refk8s.adapters.linux.forwarding import accept, remove_accept
from refk8s.adapters.linux.nft import Unusable, remove_table, run_nft
from refk8s.adapters.linux.tools import output_of
from refk8s.adapters.warn_once import WarnOnce
from refk8s.core.api.families import IPV4, Network, of_family
from refk8s.core.network.node_network_script import FORWARD_MARK, network_script
from refk8s.core.network.node_routes import (
    NONE,
    VXLAN_ID,
    VXLAN_OVERHEAD,
    VXLAN_PORT,
    Route,
    change_routes,
    compute_routes,
    hardware_address,
    read_range,
)
from refk8s.core.ports.node_network import NodeNetwork

log = logging.getLogger("refk8s")

PROTOCOLS = range(200, 250)
"""The numbers of protocols that mark routes to other nodes; those of routing programs are below."""
_ONLINK, _PERMANENT, _SELF = 4, 0x80, 2
_FAMILIES = {4: 2, 6: 10}  # as the kernel numbers them
_UNKNOWN = IPv4Address(0)


class KernelNetwork:
    """The network of one node. One thread executes all slow work, in order."""

    def __init__(self, cluster_id: str, bridge: str, node_ip: str, mode: str) -> None:
        """`bridge`: the device of the pods' network of this node."""
        self.bridge = bridge
        self.tunnel = f"rfkv{cluster_id[:8]}"
        self.table = f"refk8s_{cluster_id[:8]}_nodes"
        self.mode = mode
        self.protocol = PROTOCOLS[zlib.crc32(cluster_id.encode()) % len(PROTOCOLS)]
        self._node_ip = of_family(node_ip.split(","), IPV4)
        self._comment = f"refk8s {cluster_id[:8]} nodes"
        self._match = ["-m", "mark", "--mark", f"{FORWARD_MARK}/{FORWARD_MARK}"]
        self._script = ""
        self._network = NodeNetwork()
        self._warn_once = WarnOnce()
        self._worker = ThreadPoolExecutor(1, "refk8s-network")

    def program(self, network: NodeNetwork, done: Callable[[str], None]) -> None:
        """Make this the network of the node; `done` gets "" or the error, in the event loop's
        thread."""
        loop = asyncio.get_running_loop()

        def work() -> None:
            error = ""
            try:
                self.program_now(network)
            except Exception as problem:  # also answered, since the machine waits for it
                error = str(problem) or type(problem).__name__
                self._warn_once(f"the routes to other nodes could not be made: {error}")
            if not loop.is_closed():
                loop.call_soon_threadsafe(done, error)

        self._worker.submit(work)

    def program_now(self, network: NodeNetwork) -> None:
        """The same; waits. Raises Unusable or OSError if the kernel refuses it."""
        own, own6 = read_range(network.pod_cidr), read_range(network.pod_cidr6, 6)
        if (own is None and own6 is None) or self.mode == NONE:
            return
        routes: tuple[Route, ...] = ()
        if network.peers or self._has_routes():
            routes = self._route(network)
        script = network_script(self.table, own, self.bridge, self.tunnel, routes, own6)
        if script != self._script or network == self._network:  # the same again: a refresh
            run_nft(script)
            accept(self._match, self._comment)
            if own6 is not None:
                accept(self._match, self._comment, is_six=True)
        self._script, self._network = script, network

    def _has_routes(self) -> bool:
        return any(
            (output_of("ip", family, "route", "show", "proto", str(self.protocol)) or "").strip()
            for family in ("-4", "-6")
        )

    def _route(self, network: NodeNetwork) -> tuple[Route, ...]:
        """Change the routes of the kernel (ROUTE-5); returns them."""
        from pyroute2.iproute.linux import IPRoute

        with IPRoute() as ip:
            found = compute_routes(network, self._links(ip), self.mode)
            for problem in found.problems:
                self._warn_once(f"pods of another node cannot be reached: {problem}")
            needs_tunnel = any(route.tunnel for route in found.routes)
            own, own6 = read_range(network.pod_cidr), read_range(network.pod_cidr6, 6)
            is_made = needs_tunnel and own is not None
            tunnel = self._ensure_tunnel(ip, own, own6) if is_made and own is not None else 0
            change = change_routes(self._held(ip), found.routes)
            for route in change.added:
                self._add(ip, route, tunnel)
            for route in change.removed:
                of = _FAMILIES[route.range.version]
                ip.route("del", dst=str(route.range), proto=self.protocol, family=of)
            if needs_tunnel:
                self._tidy_tunnel(ip, tunnel, found.routes)
            else:
                self._remove_tunnel(ip)
        return found.routes

    def _links(self, ip: Any) -> list[Network]:
        """The networks of this machine's links, without those of pods and tunnels."""
        own = {index for name in (self.bridge, self.tunnel, "lo") for index in _find(ip, name)}
        found = [
            ip_interface((each.get_attr("IFA_ADDRESS"), each["prefixlen"])).network
            for family in _FAMILIES.values()
            for each in ip.get_addr(family=family)
            if each["index"] not in own
        ]
        return [
            each for each in found if each.prefixlen < each.max_prefixlen and not each.is_link_local
        ]

    def _held(self, ip: Any) -> Iterator[Route]:
        """The routes that this or an earlier process has made, as they are now."""
        found = [
            route
            for family in _FAMILIES.values()
            for route in ip.get_routes(family=family, table=254)
            if route["proto"] == self.protocol
        ]
        tunnel = next(iter(_find(ip, self.tunnel)), 0)
        nodes = self._tunnel_nodes(ip, tunnel) if tunnel else {}
        for route in found:
            cidr = ip_network((route.get_attr("RTA_DST"), route["dst_len"]))
            gateway = ip_address(route.get_attr("RTA_GATEWAY") or 0)
            if tunnel and route.get_attr("RTA_OIF") == tunnel:
                node, hardware = nodes.get(str(gateway), (_UNKNOWN, ""))
                yield Route(cidr, node, True, hardware if cidr.version == 6 else "")
            else:
                yield Route(cidr, gateway)

    def _tunnel_nodes(self, ip: Any, tunnel: int) -> dict[str, tuple[IPv4Address, str]]:
        """The node and the hardware address of each address in the tunnel."""
        nodes = {
            entry.get_attr("NDA_LLADDR"): IPv4Address(entry.get_attr("NDA_DST"))
            for entry in ip.fdb("dump", ifindex=tunnel)
            if entry.get_attr("NDA_DST")
        }
        return {
            entry.get_attr("NDA_DST"): (
                nodes.get(entry.get_attr("NDA_LLADDR"), _UNKNOWN),
                entry.get_attr("NDA_LLADDR") or "",
            )
            for family in _FAMILIES.values()
            for entry in ip.get_neighbours(family=family, ifindex=tunnel)
        }

    def _add(self, ip: Any, route: Route, tunnel: int) -> None:
        family = _FAMILIES[route.range.version]
        where = {"dst": str(route.range), "proto": self.protocol, "family": family}
        gateway = str(route.gateway)
        if not route.tunnel:
            ip.route("replace", gateway=gateway, **where)
            return
        more = {"lladdr": route.hardware_address, "ifindex": tunnel, "state": _PERMANENT}
        ip.fdb("replace", dst=str(route.node), flags=_SELF, **more)
        ip.neigh("replace", dst=gateway, family=family, **more)
        ip.route("replace", gateway=gateway, oif=tunnel, flags=_ONLINK, **where)

    def _ensure_tunnel(self, ip: Any, own: Network, own6: Network | None) -> int:
        """The index of the tunnel's device, which is made anew if it is not as it must be."""
        wanted = {
            "vxlan_id": VXLAN_ID,
            "vxlan_local": self._node_ip,
            "vxlan_port": VXLAN_PORT,
            "vxlan_learning": 0,
        }
        address, mtu = hardware_address(own), link_mtu(ip, self._node_ip) - VXLAN_OVERHEAD
        for link in ip.get_links(ifname=self.tunnel):
            data = link.get_nested("IFLA_LINKINFO", "IFLA_INFO_DATA")
            is_same = (
                data is not None
                and data.get_attr("IFLA_VXLAN_ID") == VXLAN_ID
                and data.get_attr("IFLA_VXLAN_LOCAL") == self._node_ip
                and link.get_attr("IFLA_ADDRESS") == address
                and link.get_attr("IFLA_MTU") == mtu
            )
            if is_same:
                self._address_tunnel(ip, int(link["index"]), own6)
                return int(link["index"])
            ip.link("del", index=link["index"])
        ip.link("add", ifname=self.tunnel, kind="vxlan", address=address, mtu=mtu, **wanted)
        index = next(iter(_find(ip, self.tunnel)))
        ip.addr("add", index=index, address=str(own.network_address), prefixlen=32)
        ip.link("set", index=index, state="up")
        self._address_tunnel(ip, index, own6)
        return index

    @staticmethod
    def _address_tunnel(ip: Any, index: int, own6: Network | None) -> None:
        """Give the device the address of IPv6 that the node's own packets through it have."""
        if own6 is None:
            return
        address = str(own6.network_address)
        if not any(
            each.get_attr("IFA_ADDRESS") == address for each in ip.get_addr(family=10, index=index)
        ):
            ip.addr("add", index=index, address=address, prefixlen=128, family=10)

    def _tidy_tunnel(self, ip: Any, tunnel: int, routes: tuple[Route, ...]) -> None:
        """Remove entries of nodes that are no longer reached through the tunnel."""
        wanted = {route.hardware_address for route in routes if route.tunnel}
        entries = [
            entry
            for family in _FAMILIES.values()
            for entry in ip.get_neighbours(family=family, ifindex=tunnel)
        ]
        for entry in entries:
            if entry.get_attr("NDA_LLADDR") not in wanted and entry["state"] == _PERMANENT:
                family = entry["family"]
                ip.neigh("del", dst=entry.get_attr("NDA_DST"), ifindex=tunnel, family=family)
        for entry in ip.fdb("dump", ifindex=tunnel):
            address, node = entry.get_attr("NDA_LLADDR"), entry.get_attr("NDA_DST")
            if address not in wanted and node:
                ip.fdb("del", lladdr=address, dst=node, ifindex=tunnel, flags=_SELF)

    def _remove_tunnel(self, ip: Any) -> None:
        for index in _find(ip, self.tunnel):
            ip.link("del", index=index)

    def remove(self) -> None:
        """Remove all of it, also what an earlier process of this cluster has made (ROUTE-8)."""
        self._worker.shutdown(wait=True, cancel_futures=True)
        try:
            remove_table(self.table)
        except Unusable as error:
            log.warning("rules are left behind, in the table %s: %s", self.table, error)
        for is_six in (False, True):
            remove_accept(self._match, self._comment, is_six)
            family = "-6" if is_six else "-4"
            output_of("ip", family, "route", "flush", "proto", str(self.protocol))
        output_of("ip", "link", "del", self.tunnel)


def _find(ip: Any, name: str) -> list[int]:
    return list(ip.link_lookup(ifname=name))


def link_mtu(ip: Any, node_ip: str) -> int:
    """The MTU of the link that has this address; that of Ethernet if there is none."""
    for each in ip.get_addr(family=2, address=node_ip):
        for link in ip.get_links(each["index"]):
            return int(link.get_attr("IFLA_MTU"))
    return 1500


def mtu_of(node_ip: str) -> int:
    """The same, for callers without a socket of rtnetlink."""
    from pyroute2.iproute.linux import IPRoute

    with IPRoute() as ip:
        return link_mtu(ip, node_ip)
