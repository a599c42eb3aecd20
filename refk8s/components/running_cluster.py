"""A running cluster for `refk8s run`: store, API server and a driver for each component."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

from refk8s.components.certificate_authority import signing_authorities
from refk8s.components.certificates import Pair
from refk8s.components.choose_nodes import choose_nodes
from refk8s.components.clock import Clock
from refk8s.components.driver import Driver
from refk8s.components.kubelet.clients import KubeletClients
from refk8s.components.kubelet.metrics import Metrics
from refk8s.components.kubelet.server import KubeletServer, served_nodes
from refk8s.components.options import RunOptions
from refk8s.components.pod_streams import PodStreams
from refk8s.components.range_flags import pod_ranges
from refk8s.components.served_api import ServedApi
from refk8s.components.story import Storyteller
from refk8s.core.api.request import Request, Response
from refk8s.core.api.service_addresses import dns_address
from refk8s.core.kubelet.config import KubeletConfig
from refk8s.core.ports import Node, Nodes
from refk8s.core.value import evolve

if TYPE_CHECKING:
    from refk8s.components.cluster_dns import ClusterDns
    from refk8s.core.controllers.node_ipam import PodRanges
    from refk8s.core.loop.loop import Loop


class RunningCluster:
    """All parts of one `refk8s run`."""

    def __init__(self, options: RunOptions, write_line: Callable[[str], None] = print) -> None:
        self.options = options
        self.write_line = write_line
        self.clock = Clock()
        self.served = ServedApi(options, self.clock)
        self.drivers: list[Driver] = []
        self.nodes: Nodes | None = None
        self._dns: list[ClusterDns] = []

    @property
    def ready_line(self) -> str:
        words = self.nodes.words if self.nodes else ""
        return f"refk8s is ready at {self.served.url} with {words}: export KUBECONFIG={self.options.kubeconfig_path}"

    # --- starting ---------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start all parts. Raises CannotRun; `stop` then removes what was created."""
        options = self.options
        scheduling, adapters = self._scheduler() if options.config else (None, {})
        self.nodes = choose_nodes(
            options.adapter,
            options.nodes,
            options.data,
            self.clock,
            options.resolv_conf_path,
            node_ip=options.machine_address,
            service_cidrs=options.service_cidrs,
            network_mode=options.network,
        )
        await self.served.open()
        await self.served.serve()
        started = self.nodes.start(self.served.cluster_id)
        self.served.maintain(self.nodes)
        await self._start_components(self.nodes, started, scheduling, adapters)

    async def _start_components(
        self,
        nodes: Nodes,
        started: Sequence[Node],
        scheduling: "Loop | None",
        of_scheduler: dict[str, Any],
    ) -> None:
        # The API is served already, so the modules of the components are loaded meanwhile.
        components = await asyncio.to_thread(import_module, "refk8s.core.components")
        from refk8s.components.node_parts import node_parts

        api, front, credentials = self.served.api, self.served.front, self.served.credentials
        assert api is not None and front is not None and credentials is not None
        clock = self.clock
        clients = KubeletClients(credentials)
        streams = PodStreams(api, nodes, clients.find)
        front.connect, api.outgoing.reach = streams, streams.reach
        teller = Storyteller(clock.now, self.write_line) if self.options.story else None
        if teller is not None:
            api.listeners.append(teller.committed)
        authority = Pair(credentials.authority, credentials.authority_key)
        self.drivers += [
            Driver(machine, api, clock, **(of_scheduler if machine is scheduling else {}))
            for machine in components.control_plane(
                credentials.authority.read_text(),
                authorities=signing_authorities(authority),
                pod_ranges=self._pod_ranges(nodes),
                load_balancers=nodes.receive_packets,
                scheduling=scheduling,
            ).values()
        ]
        dns = dns_address(self.options.service_cidrs)
        for node in started:
            dns_addresses = (dns,) if node.name_server is not None and dns else ()
            config = KubeletConfig(
                cluster_dns=dns_addresses, simulates_devices=nodes.simulates_devices
            )
            parts, keeper = node_parts(node, config, self.call)
            if keeper is not None:
                self._dns.append(keeper)
            for machine, adapters in parts:
                driver = Driver(machine, api, clock, **adapters)
                if teller is not None and "runtime" in adapters:
                    driver.on_run = partial(teller.operated, node.name)
                elif teller is not None and "rules" in adapters:
                    driver.on_program = partial(teller.programmed, node.name)
                self.drivers.append(driver)
        api.config = evolve(api.config, components=("controller-manager", "scheduler"))
        local = served_nodes(self.drivers, started, clock.now)
        streams.local = KubeletServer(local, {}, None, clock.now)
        api.measure = Metrics(
            api, {name: node.stats for name, node in local.items()}, clients.find
        ).submit
        for driver in self.drivers:
            driver.start()
        for keeper in self._dns:
            keeper.start()

    def _scheduler(self) -> "tuple[Loop, dict[str, Any]]":
        """The scheduler of `--config` (SCHED-50), and the adapters of its driver. Raises
        CannotRun."""
        from refk8s.components.scheduler_file import read_scheduler_file, scheduler_parts

        return scheduler_parts(read_scheduler_file(self.options.config))

    def _pod_ranges(self, nodes: Nodes) -> "PodRanges":
        """The ranges of the Nodes."""
        used = nodes.used_networks(self.served.cluster_id)
        ranges = pod_ranges(
            self.options.cluster_cidr or nodes.cluster_cidr, (*self.options.service_cidrs, *used)
        )
        assert ranges is not None
        return ranges

    # --- while it runs ----------------------------------------------------------------------------

    async def call(self, request: Request) -> Response:
        """Handle a request of this process."""
        return await self.served.call(request)

    # --- stopping ---------------------------------------------------------------------------------

    async def stop(self) -> None:
        """Stop the started parts in order; safe after a start that failed half way."""
        self.served.stop_maintaining()
        for keeper in self._dns:
            keeper.stop()
        for driver in self.drivers:
            driver.stop()
        if self.nodes is not None:
            await self.nodes.close(self.options.keep)
        await self.served.close()
