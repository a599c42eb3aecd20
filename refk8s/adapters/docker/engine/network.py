"""The pods' network: one bridge network of the engine for this cluster, with an address for every
pod. Rules RT-5, RT-8.

The engine would give the address that became free last to the next pod, and for a moment the
service rules of the node may still send the old pod's requests there. So addresses are chosen here:
the one that has been free for longest.
"""

import ipaddress
import logging
import threading
from collections.abc import Mapping
from typing import Any

from refk8s.adapters.docker.engine.client import Engine, Refused
from refk8s.adapters.docker.engine.labels import CLUSTER
from refk8s.adapters.linux import netlink
from refk8s.adapters.linux.kernel_rules import why_no_kernel_rules
from refk8s.adapters.warn_once import WarnOnce
from refk8s.core.api.families import IPV4, IPV6, family_of, of_family
from refk8s.core.network.node_routes import NONE, VXLAN, VXLAN_OVERHEAD

log = logging.getLogger("refk8s")

NO_RANGE = "the Node has no podCIDR"
CONFIGURE_SECONDS_MAX = 5.0
"""How long an operation waits for the range. A Node that was just registered gets it soon."""


def bridge_name(cluster: str) -> str:
    """The device of the pods' network of this cluster."""
    return f"refk8s{cluster[:8]}"


def why_not_ranges(cidr: str) -> str:
    """Why the engine cannot have a network with these ranges; empty if it can (RT-45)."""
    cidrs = cidr.split(",")
    four, six = of_family(cidrs, IPV4), of_family(cidrs, IPV6)
    if not four:
        return f"{cidr}: pods of this engine need addresses of IPv4 too"
    if six and ipaddress.ip_network(six).num_addresses < ipaddress.ip_network(four).num_addresses:
        return f"{six} has fewer addresses than {four}: every pod has one of each"
    return ""


def _ranges(network: dict[str, Any]) -> list[str]:
    """The ranges of a network, as the engine lists them."""
    return [pool["Subnet"] for pool in network["IPAM"]["Config"]]


class NoAddress(Exception):
    """Every address of the node is in use."""


class Addresses:
    """The addresses of one node's network: those in use, by owner, and the free ones in the order
    in which they will be used (RT-5)."""

    def __init__(self, cidr: str, held: Mapping[str, str] | None = None) -> None:
        """`held`: the addresses in use, with their owners. The first new addresses are those above
        the highest of these, because a lower one may have become free only recently."""
        self._used = dict(held or {})
        # the first is the bridge's
        hosts = [str(host) for host in ipaddress.ip_network(cidr).hosts()][1:]
        begin = 1 + max(
            [hosts.index(address) for address in self._used if address in hosts], default=-1
        )
        self._free = dict.fromkeys(
            address for address in hosts[begin:] + hosts[:begin] if address not in self._used
        )

    def take(self, owner: str) -> str:
        """The address that has been free for longest. Raises NoAddress if none is free."""
        address = next(iter(self._free), None)
        if address is None:
            raise NoAddress(f"all {len(self._used)} addresses of this node are in use")
        del self._free[address]
        self._used[address] = owner
        return address

    def give_up(self, owner: str) -> None:
        """Take the owner's address out of use: an unknown program uses it."""
        self._used.update({address: "?" for address, by in self._used.items() if by == owner})

    def free(self, owner: str) -> None:
        """Free the owner's address; it is used again after all others that are free."""
        for address in [address for address, by in self._used.items() if by == owner]:
            del self._used[address]
            self._free[address] = None


class Network:
    """The cluster's network on this engine, made with the range that the kubelet configures
    (RT-36)."""

    def __init__(
        self, engine: Engine, cluster: str, node_ip: str = "", network_mode: str = NONE
    ) -> None:
        """`network_mode`: how packets reach other nodes, whose rules then replace the engine's
        masquerade (ROUTE-4). `node_ip`: the address of the link to them, or one of each family
        with a comma between them."""
        self._engine = engine
        self._node_ip = node_ip.split(",")
        self._network_mode = network_mode
        self._cluster = cluster
        self._lock = threading.Condition()
        self._addresses: Addresses | None = None
        self._range = ""
        self._warn_once = WarnOnce()
        self.cidr = ""
        self.name = f"refk8s-{cluster[:8]}"
        self.bridge = bridge_name(cluster)

    def configure(self, cidr: str) -> str:
        """Make sure that the network exists with this range; returns why it cannot, or ""."""
        if problem := why_not_ranges(cidr):
            return problem
        with self._lock:
            found = self._engine.found("inspect_network", self.name)
            if found is not None and {*_ranges(found)} != {*cidr.split(",")}:
                if found.get("Containers"):
                    ranges = ",".join(_ranges(found))
                    return (
                        f"the network {self.name} has containers and the range {ranges}, not {cidr}"
                    )
                self._engine.found("remove_network", self.name)
                self._addresses = None
            self._range = cidr
            self._lock.notify_all()
        self.ensure()
        return ""

    def problem(self) -> str:
        """Why pods cannot have addresses; empty if they can."""
        with self._lock:
            return "" if self._addresses is not None else NO_RANGE

    def ensure(self) -> None:
        """Make sure that the network exists; one of an earlier process is used (RT-2, RT-3)."""
        with self._lock:
            if self._addresses is not None:
                return
            found = self._engine.found("inspect_network", self.name)
            if found is None:
                if not self._lock.wait_for(lambda: self._range, CONFIGURE_SECONDS_MAX):
                    raise Refused(0, NO_RANGE)
                if self._addresses is None:
                    self.cidr = self._make(self._range)
                    self._addresses = Addresses(of_family(self.cidr.split(","), IPV4))
                return
            self.cidr = ",".join(_ranges(found))
            members = sorted(
                (found.get("Containers") or {}).values(), key=lambda member: member["IPv4Address"]
            )
            self._addresses = Addresses(
                of_family(_ranges(found), IPV4),
                {member["IPv4Address"].partition("/")[0]: member["Name"] for member in members},
            )

    def _make(self, cidr: str) -> str:
        """Create the network; returns its range."""
        cidrs = cidr.split(",")
        pools = [{"Subnet": each, "Gateway": str(ipaddress.ip_network(each)[1])} for each in cidrs]
        options = {"com.docker.network.bridge.name": self.bridge, **self._options()}
        try:
            self._engine.call(
                "create_network",
                self.name,
                driver="bridge",
                options=options,
                ipam={"Driver": "default", "Config": pools},
                check_duplicate=True,
                enable_ipv6=":" in cidr,
                labels={CLUSTER: self._cluster},
            )
        except Refused as error:
            if not error.is_conflict:
                raise
            found = self._engine.call("inspect_network", self.name)
            return ",".join(_ranges(found))
        return cidr

    @property
    def node_ips(self) -> tuple[str, ...]:
        """The addresses of the node of the families of its pods, that of its first range first."""
        cidrs = self.cidr.split(",") if self.cidr else []
        found = [of_family(self._node_ip, family_of(cidr)) for cidr in cidrs]
        return tuple([address for address in found if address]) or (self._node_ip[0],)

    def second_address(self, address: str) -> str:
        """The address of IPv6 of the sandbox with this address of IPv4: it has the same place in
        its range. Empty without a range of IPv6."""
        cidrs = self.cidr.split(",")
        six = of_family(cidrs, IPV6)
        if not six:
            return ""
        first = ipaddress.IPv4Network(of_family(cidrs, IPV4)).network_address
        place = int(ipaddress.IPv4Address(address)) - int(first)
        return str(ipaddress.IPv6Network(six)[place])

    def _options(self) -> dict[str, str]:
        """ROUTE-4, ROUTE-7."""
        options = {}
        if self._network_mode != NONE and not why_no_kernel_rules():
            options["com.docker.network.bridge.enable_ip_masquerade"] = "false"
        if self._network_mode == VXLAN:
            from refk8s.adapters.linux.node_network import mtu_of

            options["com.docker.network.driver.mtu"] = str(
                mtu_of(of_family(self._node_ip, IPV4)) - VXLAN_OVERHEAD
            )
        return options

    def take(self, owner: str) -> str:
        """An address for the sandbox of this name."""
        self.ensure()
        with self._lock:
            assert self._addresses is not None
            return self._addresses.take(owner)

    def keep_off(self, owner: str) -> None:
        """Another container of the network uses the sandbox's address: do not use it again."""
        with self._lock:
            if self._addresses is not None:
                self._addresses.give_up(owner)

    def free(self, owner: str) -> None:
        """The sandbox of this name was removed: free its address."""
        with self._lock:
            if self._addresses is not None:
                self._addresses.free(owner)

    def forget(self) -> None:
        """The network was removed by another program: create it again when it is needed."""
        with self._lock:
            self._addresses = None

    def let_pods_reach_themselves(self) -> None:
        """Set hairpin mode for every port of the bridge; log once if that is not permitted."""
        try:
            netlink.set_hairpin(self.bridge)
        except (OSError, AttributeError) as error:  # AttributeError: a system without netlink
            words = getattr(error, "strerror", None) or error
            self._warn_once(
                "pods cannot reach themselves through their own service: "
                f"the bridge's ports stay as they are ({words})"
            )

    def remove(self) -> None:
        """Remove the network (RT-8)."""
        try:
            self._engine.found("remove_network", self.name)
        except Refused as error:
            log.warning("the network %s is left behind: %s", self.name, error.words)
