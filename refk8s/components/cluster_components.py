"""The components of `refk8s run` beside the API server: a driver for each.

This module is imported when the API is served: nothing that it loads is needed for that.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from refk8s.components.certificate_authority import signing_authorities
from refk8s.components.certificates import Pair
from refk8s.components.clock import Clock
from refk8s.components.driver import Driver
from refk8s.components.kubelet.clients import KubeletClients
from refk8s.components.kubelet.metrics import Metrics
from refk8s.components.kubelet.server import KubeletServer, served_nodes
from refk8s.components.node_parts import node_parts
from refk8s.components.options import RunOptions
from refk8s.components.pod_streams import PodStreams
from refk8s.components.range_flags import pod_ranges
from refk8s.components.served_api import ServedApi
from refk8s.components.story import Storyteller
from refk8s.core.api.service_addresses import dns_address
from refk8s.core.components import control_plane
from refk8s.core.kubelet.config import KubeletConfig
from refk8s.core.ports import Node, Nodes
from refk8s.core.value import evolve

if TYPE_CHECKING:
    from refk8s.components.cluster_dns import ClusterDns
    from refk8s.core.controllers.node_ipam import PodRanges
    from refk8s.core.loop.loop import Loop


class ClusterComponents:
    """The control plane and the parts of each node, for an API that is served."""

    def __init__(
        self,
        options: RunOptions,
        served: ServedApi,
        clock: Clock,
        write_line: Callable[[str], None],
    ) -> None:
        assert served.api is not None and served.front is not None
        assert served.credentials is not None, "serve() comes first"
        self._options, self._served, self._clock = options, served, clock
        self._api, self._front, self._credentials = served.api, served.front, served.credentials
        self._drivers: list[Driver] = []
        self._dns: list[ClusterDns] = []
        self._teller: Storyteller | None = None
        if options.story:
            self._teller = Storyteller(clock.now, write_line)
            self._api.listeners.append(self._teller.committed)

    def start(
        self,
        nodes: Nodes,
        started: Sequence[Node],
        scheduling: "Loop | None",
        of_scheduler: dict[str, Any],
    ) -> None:
        """Start all. `started`: the nodes of this process. `scheduling`: the scheduler of a
        configuration file, and `of_scheduler` its adapters."""
        api, clock = self._api, self._clock
        clients = KubeletClients(self._credentials)
        streams = PodStreams(api, nodes, clients.find)
        self._front.connect, api.outgoing.reach = streams, streams.reach
        authority = Pair(self._credentials.authority, self._credentials.authority_key)
        self._drivers += [
            Driver(machine, api, clock, **(of_scheduler if machine is scheduling else {}))
            for machine in control_plane(
                self._credentials.authority.read_text(),
                authorities=signing_authorities(authority),
                pod_ranges=self._pod_ranges(nodes),
                load_balancers=nodes.receive_packets,
                scheduling=scheduling,
            ).values()
        ]
        for node in started:
            self._add_node(node, nodes.simulates_devices)
        api.config = evolve(api.config, components=("controller-manager", "scheduler"))
        local = served_nodes(self._drivers, started, clock.now)
        streams.local = KubeletServer(local, {}, None, clock.now)
        stats = {name: node.stats for name, node in local.items()}
        api.measure = Metrics(api, stats, clients.find).submit
        for driver in self._drivers:
            driver.start()
        for keeper in self._dns:
            keeper.start()

    def stop(self) -> None:
        """Stop all; safe after a start that failed half way."""
        for keeper in self._dns:
            keeper.stop()
        for driver in self._drivers:
            driver.stop()

    def _add_node(self, node: Node, simulates_devices: bool) -> None:
        dns, teller = dns_address(self._options.service_cidrs), self._teller
        dns_addresses = (dns,) if node.name_server is not None and dns else ()
        config = KubeletConfig(cluster_dns=dns_addresses, simulates_devices=simulates_devices)
        parts, keeper = node_parts(node, config, self._served.call)
        if keeper is not None:
            self._dns.append(keeper)
        for machine, adapters in parts:
            driver = Driver(machine, self._api, self._clock, **adapters)
            if teller is not None and "runtime" in adapters:
                driver.on_run = partial(teller.operated, node.name)
            elif teller is not None and "rules" in adapters:
                driver.on_program = partial(teller.programmed, node.name)
            self._drivers.append(driver)

    def _pod_ranges(self, nodes: Nodes) -> "PodRanges":
        """The ranges of the Nodes."""
        used = nodes.used_networks(self._served.cluster_id)
        ranges = pod_ranges(
            self._options.cluster_cidr or nodes.cluster_cidr, (*self._options.service_cidrs, *used)
        )
        assert ranges is not None
        return ranges
