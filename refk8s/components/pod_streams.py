"""What goes between a client and a pod's containers beside the API: logs, exec, attach, port-forward. Rules RT-12 ... RT-15.

What is decided (which container, which part) is decided in core/apiserver/pod_log.py, pod_exec.py and pod_forward.py; the bytes come from
the adapter of the pod's node.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any, Protocol

from refk8s.components.apiserver import ApiServer
from refk8s.components.driver import Runtime
from refk8s.components.pod_sessions import Session, carry
from refk8s.components.websocket import offered_protocols
from refk8s.core.api import status
from refk8s.core.api.core_v1 import Pod
from refk8s.core.api.request import Request, Response
from refk8s.core.api.resources import NODES
from refk8s.core.api.status import ApiError
from refk8s.core.apiserver import read
from refk8s.core.apiserver.outcome import Connect
from refk8s.core.apiserver.pod_exec import choose_protocol, compute_exec_options
from refk8s.core.apiserver.pod_log import LogOptions, check_scheduled, choose_container, choose_log, compute_log_options, find_running
from refk8s.core.ports import ContainerStatus, Failed, ListPods, PodsListed, Result, SandboxStatus

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

TEXT = [(b"content-type", b"text/plain"), (b"cache-control", b"no-cache, private")]


class StreamFailed(Exception):
    """Why a stream cannot be had, in words for a user."""


class Containers(Protocol):
    """Streams of the containers of a node. What they are about comes from the node's own runtime, never from an object (STREAM-1)."""

    async def log(self, container: ContainerStatus, options: LogOptions) -> AsyncGenerator[bytes, None]:
        """The bytes of a log as they come; StreamFailed where it cannot be read."""

    async def execute(self, container: ContainerStatus, command: tuple[str, ...], stdin: bool, tty: bool) -> Session:
        """Run a command; StreamFailed where it cannot be run."""

    async def attach(self, container: ContainerStatus, stdin: bool) -> Session:
        """Join the container's own program; StreamFailed where it does not run."""

    async def connect(self, pod: Pod, sandbox: SandboxStatus, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to a port inside the network of this sandbox; OSError or StreamFailed where nobody takes it."""


class StreamNode(Protocol):
    """A node as streams need it: what its runtime runs, and the streams of that."""

    @property
    def runtime(self) -> Runtime: ...

    @property
    def containers(self) -> Containers: ...


class PodStreams:
    """Carries out what `Connect` asks for. An answer that is no stream is returned as a Response."""

    def __init__(self, api: ApiServer, nodes: Mapping[str, StreamNode]) -> None:
        self._api = api
        self._nodes = nodes

    async def __call__(self, outcome: Connect, scope: Scope, receive: Receive, send: Send) -> Response | None:
        request = outcome.request
        try:
            if request.resource.plural == "pods":
                if request.subresource == "log":
                    return await self._log(request, receive, send)
                if request.subresource in ("exec", "attach"):
                    return await self._session(request, scope, receive, send)
                if request.subresource == "portforward":
                    return await self._forward(request, scope, receive, send)
        except ApiError as error:
            return Response(error.status.code or 500, error.status)
        except StreamFailed as error:
            return Response(500, status.internal_error(str(error)))
        words = f"{request.subresource} of {request.resource.plural} is not served"
        return Response(501, status.failure(501, "NotImplemented", words))

    def _pod(self, request: Request) -> Pod:
        pod: Pod = read.find(request, self._api.engine).value
        return pod

    def _node(self, pod: Pod) -> StreamNode:
        name = check_scheduled(pod)
        if name not in self._nodes:
            raise ApiError(status.not_found(NODES, name))
        return self._nodes[name]

    @staticmethod
    async def _listed(node: StreamNode, pod: Pod) -> PodsListed:
        """What the node's runtime has under this pod's uid (STREAM-1)."""
        answered: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        node.runtime.run(ListPods((pod.metadata.uid,)), lambda result: None if answered.done() else answered.set_result(result))
        result = await answered
        if not isinstance(result, PodsListed):
            raise StreamFailed(result.message if isinstance(result, Failed) else "the runtime does not answer")
        return result

    async def _session(self, request: Request, scope: Scope, receive: Receive, send: Send) -> Response | None:
        options = compute_exec_options(request.body.parameters, request.subresource)
        pod = self._pod(request)
        name = choose_container(pod, options.container)
        node = self._node(pod)
        if scope["type"] != "websocket":
            raise ApiError(status.bad_request("Upgrade request required"))
        protocol = choose_protocol(offered_protocols(scope))
        if not protocol:
            raise ApiError(status.bad_request("the client offers no version of the stream that is spoken here"))
        container = find_running((await self._listed(node, pod)).containers, name)
        if container is None:
            raise StreamFailed(f'unable to upgrade connection: container not found ("{name}")')
        if request.subresource == "exec":
            session = await node.containers.execute(container, options.command, options.stdin, options.tty)
        else:
            session = await node.containers.attach(container, options.stdin)
        await receive()  # The request to connect.
        await send({"type": "websocket.accept", "subprotocol": protocol})
        await carry(session, options, receive, send)
        return None

    async def _forward(self, request: Request, scope: Scope, receive: Receive, send: Send) -> Response | None:
        from refk8s.components.pod_forward import PROTOCOL, Forwarding  # Few runs need it.

        pod = self._pod(request)
        node = self._node(pod)
        if scope["type"] != "websocket" or PROTOCOL not in offered_protocols(scope):
            raise ApiError(status.bad_request("Upgrade request required"))
        ready = [one for one in (await self._listed(node, pod)).sandboxes if one.ready]
        if not ready:
            raise StreamFailed(f'unable to upgrade connection: pod not found ("{request.name}_{request.namespace}")')
        await receive()  # The request to connect.
        await send({"type": "websocket.accept", "subprotocol": PROTOCOL})
        await Forwarding(request.name, lambda port: node.containers.connect(pod, ready[-1], port), send).carry(receive)
        return None

    async def _log(self, request: Request, receive: Receive, send: Send) -> Response | None:
        pod = self._pod(request)
        options = compute_log_options(dict(reversed(request.body.parameters)), request.name, self._api.clock.now())
        container = choose_container(pod, options.container)
        if not pod.spec.node_name:
            await _answer_nothing(send)
            return None
        node = self._node(pod)
        attempt = choose_log(pod, (await self._listed(node, pod)).containers, container, options.previous)
        async with aclosing(await node.containers.log(attempt, options)) as lines:
            await send({"type": "http.response.start", "status": 200, "headers": TEXT})
            # A log that is followed may stay silent for ever, so the client's leaving ends it as well (STREAM-3).
            tasks = [asyncio.ensure_future(_until_gone(receive)), asyncio.ensure_future(_send_all(lines, send))]
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        await send({"type": "http.response.body", "body": b""})
        return None


async def _send_all(lines: AsyncGenerator[bytes, None], send: Send) -> None:
    async for data in lines:
        await send({"type": "http.response.body", "body": data, "more_body": True})


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _answer_nothing(send: Send) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


async def _one_line() -> AsyncGenerator[bytes, None]:
    yield b"simulated containers write nothing\n"


class SimulatedContainers:
    """Streams of containers that are not there."""

    async def log(self, container: ContainerStatus, options: LogOptions) -> AsyncGenerator[bytes, None]:
        """One line that says so."""
        return _one_line()

    async def execute(self, container: ContainerStatus, command: tuple[str, ...], stdin: bool, tty: bool) -> Session:
        """There is nothing to run it in."""
        raise StreamFailed("simulated containers run no commands")

    async def attach(self, container: ContainerStatus, stdin: bool) -> Session:
        """There is no program."""
        raise StreamFailed("simulated containers run no programs")

    async def connect(self, pod: Pod, sandbox: SandboxStatus, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """There is no network."""
        raise StreamFailed("simulated pods have no ports")
