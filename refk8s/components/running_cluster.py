"""A running cluster for `refk8s run`: the store, the API server, the nodes and the components."""

import asyncio
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from refk8s.components.choose_nodes import choose_nodes
from refk8s.components.clock import Clock
from refk8s.components.key_maker import KeyMakerProcess
from refk8s.components.options import RunOptions
from refk8s.components.served_api import ServedApi
from refk8s.core.api.request import Request, Response
from refk8s.core.ports import Nodes

if TYPE_CHECKING:
    from refk8s.components.cluster_components import ClusterComponents
    from refk8s.core.loop.loop import Loop


class RunningCluster:
    """All parts of one `refk8s run`."""

    def __init__(
        self,
        options: RunOptions,
        write_line: Callable[[str], None] = print,
        keys: KeyMakerProcess | None = None,
    ) -> None:
        self.options = options
        self.write_line = write_line
        self.clock = Clock()
        self.served = ServedApi(options, self.clock, keys)
        self.nodes: Nodes | None = None
        self._components: ClusterComponents | None = None

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
        # the API is served already, so the modules of the components are loaded meanwhile
        loaded = await asyncio.to_thread(import_module, "refk8s.components.cluster_components")
        components = loaded.ClusterComponents(options, self.served, self.clock, self.write_line)
        self._components = components
        components.start(self.nodes, started, scheduling, adapters)

    def _scheduler(self) -> "tuple[Loop, dict[str, Any]]":
        """The scheduler of `--config` (SCHED-50), and the adapters of its driver. Raises
        CannotRun."""
        from refk8s.components.scheduler_file import read_scheduler_file, scheduler_parts

        return scheduler_parts(read_scheduler_file(self.options.config))

    # --- while it runs ----------------------------------------------------------------------------

    async def call(self, request: Request) -> Response:
        """Handle a request of this process."""
        return await self.served.call(request)

    # --- stopping ---------------------------------------------------------------------------------

    async def stop(self) -> None:
        """Stop the started parts in order; safe after a start that failed half way."""
        self.served.stop_maintaining()
        if self._components is not None:
            self._components.stop()
        if self.nodes is not None:
            await self.nodes.close(self.options.keep)
        await self.served.close()
