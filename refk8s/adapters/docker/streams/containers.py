"""The containers of one engine, as the API server uses them. Rules RT-13, RT-14,
RT-15, STREAM-1."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Mapping
from typing import TypeVar

from refk8s.adapters.docker.streams import port_forward, sessions
from refk8s.adapters.docker.streams.connection import EngineSilent, StreamRefused, Streams
from refk8s.adapters.docker.streams.logs import open_log
from refk8s.adapters.docker.streams.sessions import ContainerSession
from refk8s.adapters.docker.streams.usage import measure
from refk8s.adapters.linux.machine_usage import machine_usage
from refk8s.adapters.linux.namespaces import CONNECT_SECONDS_MAX
from refk8s.adapters.pod_listing import list_all, list_pod
from refk8s.core.api.addresses import is_proxyable
from refk8s.core.api.core_v1 import Pod
from refk8s.core.ports import (
    RUNNING,
    ContainerStatus,
    LogOptions,
    PodsListed,
    Runtime,
    SandboxStatus,
    StreamFailed,
    Usage,
)

T = TypeVar("T")


class DockerContainers:
    """Streams of the containers of one engine."""

    def __init__(self, runtime: Runtime, streams: Streams) -> None:
        self._runtime = runtime
        self._streams = streams

    async def list_pod(self, pod_uid: str) -> PodsListed:
        """The container of this pod's uid in the engine (STREAM-1)."""
        return await list_pod(self._runtime, pod_uid)

    async def log(
        self, container: ContainerStatus, options: LogOptions
    ) -> AsyncGenerator[bytes, None]:
        """The log, as the engine keeps it (RT-13)."""
        return await _begun(open_log(self._streams, container.id, options))

    async def execute(
        self, container: ContainerStatus, command: tuple[str, ...], stdin: bool, tty: bool
    ) -> ContainerSession:
        """A command in a container (RT-14)."""
        return await _begun(sessions.execute(self._streams, container.id, command, stdin, tty))

    async def attach(self, container: ContainerStatus, stdin: bool) -> ContainerSession:
        """The container's own program (RT-14)."""
        return await _begun(sessions.attach(self._streams, container.id, stdin))

    async def connect(
        self, pod: Pod, sandbox: SandboxStatus, port: int
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection into the pod's network (RT-15)."""
        address = sandbox.ips[0] if sandbox.ips else ""
        return await _begun(port_forward.connect(self._streams, sandbox.id, address, port))

    async def dial(
        self, pod: Pod, sandbox: SandboxStatus, port: int
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to the address that the engine gave the sandbox (STREAM-14)."""
        address = sandbox.ips[0] if sandbox.ips else ""
        if not is_proxyable(address):
            raise StreamFailed(f"address not allowed: {address or 'the pod has none'}")
        return await asyncio.wait_for(asyncio.open_connection(address, port), CONNECT_SECONDS_MAX)

    async def usage(self, pods: Mapping[str, Pod]) -> Usage:
        """The counters of the engine for the containers of these pods, and those of the machine
        (STREAM-17)."""
        listed = await list_all(self._runtime)
        running = [one for one in listed.containers if one.state == RUNNING and one.pod_uid in pods]
        containers = await _begun(measure(self._streams, running))
        try:
            cpu, memory = machine_usage()
        except (OSError, ValueError) as error:
            raise StreamFailed(f"the use of this machine is not known: {error}") from None
        return Usage(time.time_ns() // 1000, cpu, memory, containers)


async def _begun(beginning: Awaitable[T]) -> T:
    """The stream. Raises StreamFailed if the engine rejects it or does not answer."""
    try:
        return await beginning
    except StreamRefused as error:
        raise StreamFailed(error.words) from None
    except asyncio.IncompleteReadError:
        raise StreamFailed("the engine ended the connection") from None
    except EngineSilent as error:
        raise StreamFailed(f"the engine does not answer: {error}") from None
