"""Service rules in the kernel of this machine, by `nft`. Rules NET-11, NET-16 ... NET-19
(spec/network.md).

A change is one transaction of one `nft` process. The whole set is loaded in three cases: a change
fails, since another program flushed the tables; it is the first set, which replaces the rules of an
earlier process without an interval without rules; or the same set comes again. The proxy repeats
its set periodically, because other programs may have changed the host.

The rules are in a table with the cluster's name. There is also an accept for service traffic where
Docker's chains would drop it; `route_localnet` at the pods' bridge, which node ports need at
127.0.0.1; and a route for cluster IPs on a machine without a default route.
"""

import asyncio
import ipaddress
import logging
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

from refk8s.adapters.linux.forwarding import accept, remove_accept
from refk8s.adapters.linux.nft import Unusable, remove_table, run_nft
from refk8s.adapters.linux.tools import output_of
from refk8s.adapters.warn_once import WarnOnce
from refk8s.core.api.families import IPV4, IPV6, Network, of_family
from refk8s.core.network.flows import CONNECTIONLESS, Flow, read_flows, stale_flows
from refk8s.core.network.fronts import Front
from refk8s.core.network.nft_script import change_script, load_script, prepare_script
from refk8s.core.network.nftables import Change, Table, change_table
from refk8s.core.ports import Rule, RuleSet, Target

log = logging.getLogger("refk8s")

FORGET_MAX = 200  # flows deleted one by one after one change; each needs a process


SERVICES: tuple[Network, ...] = (IPv4Network("10.96.0.0/12"),)  # cluster IPs, by default
NO_PODS = "0.0.0.0/32"
"""In place of a pod range of IPv4: without that family, or to remove rules, which have names."""
ROUTE_PROTOCOL = "96"  # marks the routes of refk8s


class KernelRules:
    """The service rules of one node. One thread executes all slow work, in order."""

    def __init__(
        self,
        node_ip: str,
        pod_cidr: str,
        cluster_id: str,
        services: tuple[Network, ...] = SERVICES,
    ) -> None:
        """`node_ip`, `pod_cidr`: one, or one of each family with a comma between them.
        `services`: the ranges of cluster IPs."""
        self.node_ips = tuple(node_ip.split(","))
        self.name = f"refk8s_{cluster_id[:8]}"
        cidrs = pod_cidr.split(",")
        six = of_family(cidrs, IPV6)
        self._pods = IPv4Network(of_family(cidrs, IPV4) or NO_PODS)
        self._pods6 = IPv6Network(six) if six else None
        self._empty = Table(self._pods, pods6=self._pods6)
        self._table = self._empty
        self._loaded = False
        self._warn_once = WarnOnce()
        self._worker = ThreadPoolExecutor(1, "refk8s-rules")
        hosted: list[Network] = [self._pods]
        if self._pods6 is not None:
            hosted.append(self._pods6)
        self._hosts = [
            Host(pods, services, f"refk8s {cluster_id[:8]}", self._warn_once) for pods in hosted
        ]

    def program(self, rules: RuleSet, done: Callable[[str], None]) -> None:
        """Replace the rules. `done` gets "" or the error, in the event loop's thread.

        After an error, the rules are unchanged.
        """
        loop = asyncio.get_running_loop()

        def work() -> None:
            try:
                self.program_now(rules)
                error = ""
            except Unusable as unusable:
                error = str(unusable)
                self._warn_once(f"the service rules could not be made: {error}")
            except Exception as bug:  # also answered, since the proxy waits for it
                error = f"{type(bug).__name__}: {bug}"
                log.exception("the service rules failed with an internal error")
            if not loop.is_closed():
                loop.call_soon_threadsafe(done, error)

        self._worker.submit(work)

    def program_now(self, rules: RuleSet) -> None:
        """Replace the rules, and wait until they are in effect.

        Raises Unusable if the kernel rejects them.
        """
        table, change = change_table(self._table, rules)
        if self._loaded and change and self._change(table, change):
            self._table = table
            self._forget(change.fronts)
            return
        before = self._table.fronts.rules
        self._table = self._load(rules)
        self._loaded = True
        for host in self._hosts:
            host.prepare()
        self._forget([*before, *self._table.fronts.rules])

    def remove(self) -> None:
        """Remove all rules, also those of an earlier process of this cluster (NET-19).

        No rules are programmed afterwards.
        """
        self._worker.shutdown(wait=True, cancel_futures=True)
        try:
            remove_table(self.name)
        except Unusable as error:
            log.warning("the service rules are left behind, in the table %s: %s", self.name, error)
        for host in self._hosts:
            host.restore()

    def _load(self, rules: RuleSet) -> Table:
        """The whole table; existing chains that this set does not need are deleted."""
        table, whole = change_table(self._empty, rules)
        if not (
            self._try(prepare_script(self.name, table, whole, whole=True))
            and self._try(load_script(self.name, table, whole))
        ):
            run_nft(load_script(self.name, table, whole, replace=True))
        return table

    def _change(self, table: Table, change: Change) -> bool:
        if change.pickers and not self._try(prepare_script(self.name, table, change)):
            return False
        return self._try(change_script(self.name, change))

    def _try(self, script: str) -> bool:
        try:
            run_nft(script)
        except Unusable as error:
            log.info("the rules are loaded anew: %s", error)
            return False
        return True

    def _forget(self, changed: Iterable[Front]) -> None:
        """Delete the outdated connection tracking entries of these fronts (NET-16)."""
        fronts = {front for front in changed if front[1] == CONNECTIONLESS}
        if not fronts:
            return
        of_six = ("-f", "ipv6", "-L", "-p", "udp")
        listed = output_of("conntrack", "-L", "-p", "udp")
        if listed is not None and self._pods6 is not None:
            listed += output_of("conntrack", *of_six) or ""
        if listed is None:
            self._warn_once(
                "there is no conntrack program here: UDP clients may stay with endpoints "
                "that have left"
            )
            return
        for flow in stale_flows(
            self._table.fronts.rules, fronts, read_flows(listed), (*self.node_ips, "127.0.0.1")
        )[:FORGET_MAX]:
            output_of("conntrack", *forget_arguments(flow))


def forget_arguments(flow: Flow) -> list[str]:
    """The arguments with which conntrack deletes these flows of all clients."""
    return [
        *(("-f", "ipv6") if ":" in flow.destination else ()),
        "-D",
        "-p",
        "udp",
        "--orig-dst",
        flow.destination,
        "--orig-port-dst",
        str(flow.port),
        "--reply-src",
        flow.replier,
    ]


def why_no_kernel_rules(with_ipv6: bool = False) -> str:
    """Why this kernel or user cannot have service rules; empty if it can (NET-17). `with_ipv6`: of
    both families.

    Changes nothing.
    """
    target = (Target("192.0.2.1", 1),)
    rules = [
        Rule("192.0.2.2", "TCP", 1, target),
        Rule("192.0.2.2", "UDP", 1, target, 60),
        Rule("192.0.2.2", "SCTP", 1),
        Rule("", "TCP", 1, target, 60, local=True, inside=target),
        Rule("", "UDP", 1, target, masquerade=True),
    ]
    six = (Target("2001:db8::1", 1),)
    rules += [
        Rule("2001:db8::2", "TCP", 1, six, 60),
        Rule("2001:db8::2", "SCTP", 1),
        Rule("::", "UDP", 1, six, masquerade=True),
    ]
    pods6 = IPv6Network("2001:db8::/64") if with_ipv6 else None
    table, change = change_table(
        Table(IPv4Network("192.0.2.0/24"), pods6=pods6), RuleSet({"probe": tuple(rules)})
    )
    try:
        run_nft(load_script("refk8s_probe", table, change), "-c")
    except Unusable as error:
        return str(error)
    return ""


class Host:
    """Settings of the machine beside the table; they are restored at the end (NET-18)."""

    def __init__(
        self,
        pods: Network,
        services: tuple[Network, ...],
        comment: str,
        say: Callable[[str], None],
    ) -> None:
        """`pods`: of one family. `services`: the ranges of cluster IPs."""
        self._pods = pods
        self._services = [each for each in services if each.version == pods.version]
        self._comment = comment
        self._say = say

    def prepare(self) -> None:
        """Apply the missing settings; log once each one that fails."""
        for bridge in bridges_to(self._pods):
            for services in self._services:
                self._route(services, bridge)
            if self._pods.version == 6:
                continue
            setting = _route_localnet(bridge)
            try:
                if setting.read_text().strip() != "1":
                    setting.write_text("1")
            except OSError as error:
                self._say(
                    "node ports do not answer at 127.0.0.1: "
                    f"{setting} cannot be set ({error.strerror})"
                )
        accept(self._match(), self._comment, self._pods.version == 6)

    def _route(self, services: Network, bridge: str) -> None:
        """A route for cluster IPs, if there is none: the node's own packets to a cluster IP are
        translated only if they have a route before. Most machines have a default route."""
        if not any(
            network.version == services.version
            and network.prefixlen <= services.prefixlen
            and services.network_address in network
            for _, network in routes_of(services.version)
        ):
            self._ip("add", services, bridge)

    def _ip(self, verb: str, services: Network, bridge: str) -> None:
        words = ("route", verb, str(services), "dev", bridge, "proto", ROUTE_PROTOCOL)
        output_of("ip", *(("-6",) if services.version == 6 else ()), *words)

    def restore(self) -> None:
        """Restore the settings."""
        remove_accept(self._match(), self._comment, self._pods.version == 6)
        for bridge in bridges_to(self._pods):
            for services in self._services:
                self._ip("del", services, bridge)
            if self._pods.version == 6:
                continue
            try:
                _route_localnet(bridge).write_text("0")
            except OSError:
                continue  # it is gone, or was never set

    def _match(self) -> list[str]:
        """Only packets that service rules translated, so pods are not exposed otherwise."""
        return ["-d", str(self._pods), "-m", "conntrack", "--ctstate", "DNAT"]


def _route_localnet(bridge: str) -> Path:
    return Path("/proc/sys/net/ipv4/conf") / bridge / "route_localnet"


def bridges_to(pods: Network) -> list[str]:
    """The interfaces that lead to pods of this node."""
    return list(
        dict.fromkeys(
            interface
            for interface, network in routes_of(pods.version)
            if network.prefixlen >= max(pods.prefixlen, 1) and network.network_address in pods
        )
    )


def routes_of(version: int) -> Sequence[tuple[str, Network]]:
    """The routes of a family."""
    return routes() if version == 4 else routes6()


def routes6(table: str = "/proc/thread-self/net/ipv6_route") -> list[tuple[str, IPv6Network]]:
    """(interface, network) of every route of IPv6 of this thread's network namespace, without those
    to single addresses, to link-local ones and to multicast; empty if unknown."""
    try:
        lines = Path(table).read_text().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        destination, length, *_, flags, interface = line.split()
        network = IPv6Network((int(destination, 16), int(length, 16)), strict=False)
        is_rejected = int(flags, 16) & _REJECTED
        if network.prefixlen < 128 and not (
            is_rejected or network.is_link_local or network.is_multicast or interface == "lo"
        ):
            found.append((interface, network))
    return found


_REJECTED = 0x0200  # a route that answers "unreachable" (linux/route.h)


def routes(table: str = "/proc/thread-self/net/route") -> list[tuple[str, IPv4Network]]:
    """(interface, network) of every route in this thread's network namespace; empty if unknown."""
    try:
        lines = Path(table).read_text().splitlines()[1:]
    except OSError:
        return []
    found = []
    for line in lines:
        interface, destination, _gateway, *rest = line.split()
        address, mask = (int(word, 16).to_bytes(4, "little") for word in (destination, rest[4]))
        found.append(
            (interface, IPv4Network((address, str(ipaddress.IPv4Address(mask))), strict=False))
        )
    return found
