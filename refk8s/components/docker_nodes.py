"""The one node of `refk8s run --adapter docker`: this machine, its engine, and the rules of its
services."""

import asyncio
import logging
import os
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from refk8s.adapters.docker.engine.location import engine_host, why_not
from refk8s.components.clock import Clock
from refk8s.components.nodes import NoEngine, RunningNode
from refk8s.components.pod_sessions import Session
from refk8s.core.api.core_v1 import Pod
from refk8s.core.apiserver.pod_log import LogOptions
from refk8s.core.kubelet.config import KubeletConfig
from refk8s.core.ports import ContainerStatus, RuleSet, SandboxStatus, StreamFailed

log = logging.getLogger("refk8s")

CLUSTER_ID = "cluster-id"

T = TypeVar("T")


class DockerNodes:
    """Makes this machine a node. Raises NoEngine where no engine answers; touches nothing before
    `nodes` is called."""

    def __init__(self, clock: Clock, data_dir: Path, node_name: str) -> None:
        problem = why_not(os.environ)
        if problem:
            raise NoEngine(problem)
        self._data = data_dir
        self._node_name = node_name
        self._runtime: Any = None
        self._rules: Any = None
        self.words = f"the Docker engine at {engine_host(os.environ)}"

    def nodes(self) -> list[RunningNode]:
        """The node. The cluster's id must have been written into the data directory: by it, what
        runs already is known for ours."""
        from refk8s.adapters.docker.runtime import DockerRuntime

        cluster = (self._data / CLUSTER_ID).read_text().strip()
        self._runtime = DockerRuntime(cluster, self._data, self._node_name)
        self._rules = ServiceRules(self._runtime, cluster)
        return [
            RunningNode(
                self._node_name,
                KubeletConfig(),
                self._runtime,
                self._rules,
                DockerContainers(self._runtime.streams),
            )
        ]

    async def bridge(self) -> tuple[str, str]:
        """The address of this machine in the network of the pods, and that network's device. Raises
        OSError where it is not known."""
        address, device, problem = await asyncio.to_thread(self._runtime.pods_bridge)
        if problem:
            raise OSError(problem)
        return address, device

    async def close(self, keep: bool) -> None:
        """Let go of everything. Unless it is to be kept, take away the containers, networks and
        rules of this cluster (RT-8)."""
        if self._runtime is None:
            return
        self._runtime.close()
        if keep:
            return
        await asyncio.to_thread(self._rules.remove)
        problem = await self._runtime.remove_everything()
        if problem:
            log.warning("containers of this cluster are left behind: %s", problem)


class DockerContainers:
    """Streams of the containers of one engine."""

    def __init__(self, streams: Any) -> None:
        self._streams = streams

    async def log(
        self, container: ContainerStatus, options: LogOptions
    ) -> AsyncGenerator[bytes, None]:
        """The log, as the engine keeps it (RT-13)."""
        from refk8s.adapters.docker.streams.logs import open_log

        return await self._begun(open_log(self._streams, container.id, options))

    async def execute(
        self, container: ContainerStatus, command: tuple[str, ...], stdin: bool, tty: bool
    ) -> Session:
        """A command in a container (RT-14)."""
        from refk8s.adapters.docker.streams.sessions import execute

        return await self._begun(execute(self._streams, container.id, command, stdin, tty))

    async def attach(self, container: ContainerStatus, stdin: bool) -> Session:
        """The container's own program (RT-14)."""
        from refk8s.adapters.docker.streams.sessions import attach

        return await self._begun(attach(self._streams, container.id, stdin))

    async def connect(
        self, pod: Pod, sandbox: SandboxStatus, port: int
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection into the pod's network (RT-15)."""
        from refk8s.adapters.docker.streams.port_forward import connect

        address = sandbox.ips[0] if sandbox.ips else ""
        return await self._begun(connect(self._streams, sandbox.id, address, port))

    @staticmethod
    async def _begun(beginning: Coroutine[Any, Any, T]) -> T:
        from refk8s.adapters.docker.streams.connection import EngineSilent, StreamRefused

        try:
            return await beginning
        except StreamRefused as error:
            raise StreamFailed(error.words) from None
        except asyncio.IncompleteReadError:
            raise StreamFailed("the engine ended the connection") from None
        except EngineSilent as error:
            raise StreamFailed(f"the engine does not answer: {error}") from None


class ServiceRules:
    """The rules of services on this machine: chosen when the first set comes, because only then the
    range of the pods is known."""

    def __init__(self, runtime: Any, cluster: str) -> None:
        self._runtime = runtime
        self._cluster = cluster
        self._choosing = threading.Lock()
        self._chosen: Any = None

    def program(self, rules: RuleSet, done: Callable[[str], None]) -> None:
        """Make these the rules; `done` hears of it in the event loop's thread."""
        if self._chosen is not None:
            self._chosen.program(rules, done)
            return

        def chosen(problem: Any) -> None:
            if problem or self._chosen is None:
                done(str(problem))
            else:
                self._chosen.program(rules, done)

        self._runtime.aside(self._choose, chosen)

    def _choose(self) -> str:
        """Kernel rules, or a proxy of our own where the kernel has none; why neither, or empty.
        Called in a worker thread."""
        from refk8s.adapters.linux.address import node_address
        from refk8s.adapters.linux.service_rules import choose_rules

        with self._choosing:
            if self._chosen is not None:
                return ""
            pod_cidr, problem = self._runtime.pod_cidr()
            if problem:
                return str(problem)
            self._chosen = choose_rules(node_address(), pod_cidr, self._cluster)
            return ""

    def remove(self) -> None:
        """Take away what is there of this cluster. Takes its time."""
        problem = self._choose()
        if self._chosen is None:
            log.warning("service rules of this cluster may be left behind: %s", problem)
        else:
            self._chosen.remove()
