"""The node of `refk8s run --adapter docker`: this machine, its engine and its service rules."""

import asyncio
import logging
import os
from ipaddress import IPv4Network
from pathlib import Path
from typing import TYPE_CHECKING

from refk8s.adapters.docker.engine.location import engine_host, why_not
from refk8s.adapters.linux.abilities import has_capability
from refk8s.adapters.linux.address import node_address, node_address6
from refk8s.adapters.linux.name_server.late import LateNameServer
from refk8s.adapters.linux.resolv_conf import DEFAULT
from refk8s.core.api.families import IPV4, Network, of_family
from refk8s.core.network.node_routes import NONE
from refk8s.core.ports import Containers, NameServer, Node

if TYPE_CHECKING:
    from refk8s.adapters.docker.runtime import DockerRuntime
    from refk8s.adapters.linux.kernel_policies import KernelPolicies
    from refk8s.adapters.linux.node_network import KernelNetwork
    from refk8s.adapters.linux.service_rules import ServiceRules

log = logging.getLogger("refk8s")


class NoEngine(Exception):
    """No Docker engine can be used; the message is the reason, in one line."""


class DockerNodes:
    """Makes this machine a node.

    Raises NoEngine if no engine answers. Changes nothing before `start`.
    """

    cluster_cidr = "10.244.0.0/16"
    receive_packets = True
    simulates_devices = False

    def __init__(
        self,
        data_dir: Path,
        node_name: str,
        dns_address: str = "",
        resolv_conf: Path | None = None,
        node_ip: str = "",
        network_mode: str = NONE,
        services: tuple[Network, ...] = (),
    ) -> None:
        """`services`: the ranges of cluster IPs, if not the usual. `dns_address`: of the cluster's
        DNS. `resolv_conf`, `node_ip`: of the machine, if not the usual. `network_mode`: how packets
        reach other nodes (ROUTE-1)."""
        problem = why_not(os.environ)
        if problem:
            raise NoEngine(problem)
        self._data = data_dir
        self._node_name = node_name
        self._dns_address = dns_address
        self._resolv_conf = resolv_conf
        known = node_ip or node_address()
        six = "" if "," in known else node_address6()
        self._node_ip = f"{known},{six}" if six else known
        self._runtime: DockerRuntime | None = None
        self._rules: ServiceRules | None = None
        self._policies: KernelPolicies | None = None
        self._network: KernelNetwork | None = None
        self._services = services
        self._network_mode = network_mode if has_capability("NET_ADMIN") else NONE
        self._containers: Containers | None = None
        self.words = f"the Docker engine at {engine_host(os.environ)}"

    def start(self, cluster_id: str) -> list[Node]:
        """Start the node; the cluster id identifies containers of an earlier process (RT-1)."""
        from refk8s.adapters.docker.runtime import DockerRuntime
        from refk8s.adapters.docker.streams.containers import DockerContainers
        from refk8s.adapters.linux.kernel_policies import KernelPolicies
        from refk8s.adapters.linux.kernel_rules import SERVICES
        from refk8s.adapters.linux.service_rules import ServiceRules

        runtime = self._runtime = DockerRuntime(
            cluster_id,
            self._data,
            self._node_name,
            self._node_ip,
            self._resolv_conf,
            self._network_mode,
        )
        services = self._services or SERVICES
        rules = self._rules = ServiceRules(
            cluster_id, self._node_ip, runtime.pod_cidr, runtime.aside, services
        )
        policies = self._policies = KernelPolicies(cluster_id, runtime.pod_cidr)
        runtime.on_sandbox = lambda sandbox, then: policies.sandbox_started(
            sandbox.pod_uid, sandbox.ips, then
        )
        containers = self._containers = DockerContainers(runtime, runtime.streams)
        network = self._network = self._make_network(cluster_id)
        name_server = self._name_server()
        return [Node(self._node_name, runtime, rules, containers, name_server, policies, network)]

    def _make_network(self, cluster_id: str) -> "KernelNetwork | None":
        if self._network_mode == NONE:
            return None
        from refk8s.adapters.docker.engine.network import bridge_name
        from refk8s.adapters.linux.node_network import KernelNetwork

        bridge = bridge_name(cluster_id)
        return KernelNetwork(cluster_id, bridge, self._node_ip, self._network_mode)

    def _name_server(self) -> NameServer | None:
        """None if this process cannot give the node addresses or rules, and so no cluster IPs."""
        if not self._dns_address or not has_capability("NET_ADMIN"):
            return None
        return LateNameServer(self._create_name_server)

    def _create_name_server(self) -> NameServer:
        from refk8s.adapters.linux.name_server.server import NameServer

        conf = self._resolv_conf or DEFAULT
        return NameServer("cluster.local", conf, self._dns_address, self.pods_bridge)

    def used_networks(self, cluster_id: str) -> list[Network]:
        """The networks that this machine has routes to, without the default route and the network
        of this cluster's pods."""
        from refk8s.adapters.docker.engine.network import bridge_name
        from refk8s.adapters.linux.kernel_rules import routes_of

        own = bridge_name(cluster_id)
        return [
            network
            for version in (4, 6)
            for device, network in routes_of(version)
            if network.prefixlen and device != own
        ]

    def containers_of(self, node_name: str) -> Containers | None:
        """The containers of this machine's engine."""
        return self._containers if node_name == self._node_name else None

    async def pods_bridge(self) -> tuple[str, IPv4Network]:
        """(this machine's address in the pods' network, that network). OSError if unknown."""
        address, _ = await self.bridge()
        assert self._runtime is not None
        cidr, problem = await asyncio.to_thread(self._runtime.pod_cidr)
        if problem:
            raise OSError(problem)
        return address, IPv4Network(of_family(cidr.split(","), IPV4))

    async def bridge(self) -> tuple[str, str]:
        """This machine's address in the pods' network, and the device of that network.

        Raises OSError if they are unknown.
        """
        if self._runtime is None:
            raise OSError("the node has not been started")
        address, device, problem = await asyncio.to_thread(self._runtime.pods_bridge)
        if problem:
            raise OSError(problem)
        return address, device

    async def close(self, keep: bool) -> None:
        """Stop; unless `keep`, remove the cluster's containers, networks and rules (RT-8)."""
        if self._runtime is None or self._rules is None:
            return
        self._runtime.close()
        if keep:
            return
        await asyncio.to_thread(self._rules.remove)
        if self._policies is not None:
            await asyncio.to_thread(self._policies.remove)
        if self._network is not None:
            await asyncio.to_thread(self._network.remove)
        problem = await self._runtime.remove_everything()
        if problem:
            log.warning("containers of this cluster are left behind: %s", problem)
