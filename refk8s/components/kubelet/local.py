"""The streams of a node of this process. Rules RT-12 ... RT-15, STREAM-1, STREAM-8."""

import asyncio
from collections.abc import AsyncGenerator

from refk8s.core.api.core_v1 import Pod
from refk8s.core.apiserver.pod_log import choose_log, find_running
from refk8s.core.ports import (
    ContainerNotFound,
    Containers,
    ContainerStatus,
    ExecOptions,
    LogOptions,
    PodsListed,
    SandboxStatus,
    Session,
    StreamFailed,
)


class LocalKubelet:
    """The port `Kubelet` over the containers of one node. Each method asks the node's runtime for
    the containers of the pod's uid (STREAM-1)."""

    def __init__(self, containers: Containers) -> None:
        self._containers = containers

    async def log(
        self, pod: Pod, container: str, options: LogOptions
    ) -> AsyncGenerator[bytes, None]:
        """The log of the requested attempt (RT-12)."""
        attempts = (await self._list(pod)).containers
        return await self._containers.log(
            choose_log(pod, attempts, container, options.previous), options
        )

    async def execute(self, pod: Pod, container: str, options: ExecOptions) -> Session:
        """A command in the running container (RT-14)."""
        found = await self._running(pod, container)
        return await self._containers.execute(found, options.command, options.stdin, options.tty)

    async def attach(self, pod: Pod, container: str, options: ExecOptions) -> Session:
        """The main program of the running container (RT-14)."""
        return await self._containers.attach(await self._running(pod, container), options.stdin)

    async def check(self, pod: Pod) -> None:
        """Raise StreamFailed if the pod has no sandbox to connect to."""
        await self._sandbox(pod)

    async def connect(
        self, pod: Pod, port: int
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to a port in the pod's network (RT-15)."""
        return await self._containers.connect(pod, await self._sandbox(pod), port)

    async def dial(self, pod: Pod, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to the address that the runtime has for the pod's sandbox (STREAM-14)."""
        return await self._containers.dial(pod, await self._sandbox(pod), port)

    async def _list(self, pod: Pod) -> PodsListed:
        return await self._containers.list_pod(pod.metadata.uid or "")

    async def _running(self, pod: Pod, name: str) -> ContainerStatus:
        found = find_running((await self._list(pod)).containers, name)
        if found is None:
            raise ContainerNotFound(f'unable to upgrade connection: container not found ("{name}")')
        return found

    async def _sandbox(self, pod: Pod) -> SandboxStatus:
        ready = [one for one in (await self._list(pod)).sandboxes if one.ready]
        if not ready:
            name, namespace = pod.metadata.name, pod.metadata.namespace
            raise StreamFailed(
                f'unable to upgrade connection: pod not found ("{name}_{namespace}")'
            )
        return ready[-1]
