"""What goes between a client and a pod's containers beside the API: logs, exec, attach, port-forward. Rules RT-12 ... RT-15.

What is decided (which container, which part) is decided in core/apiserver/pod_log.py, pod_exec.py and pod_forward.py; the bytes come from
the adapter of the pod's node.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Protocol

from refk8s.components.apiserver import ApiServer
from refk8s.components.pod_sessions import Session, carry
from refk8s.components.websocket import offered_protocols
from refk8s.core.api import status
from refk8s.core.api.core_v1 import Pod
from refk8s.core.api.request import Request, Response
from refk8s.core.api.status import ApiError
from refk8s.core.apiserver import read
from refk8s.core.apiserver.outcome import Connect
from refk8s.core.apiserver.pod_exec import choose_protocol, compute_exec_options
from refk8s.core.apiserver.pod_log import LogOptions, choose_container, choose_log, compute_log_options, running_container

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

TEXT = [(b"content-type", b"text/plain"), (b"cache-control", b"no-cache, private")]


class StreamFailed(Exception):
    """Why a stream cannot be had, in words for a user."""


class Containers(Protocol):
    """Streams of the containers of a node."""

    def log(self, container_id: str, options: LogOptions) -> AsyncIterator[bytes]:
        """The bytes of a log; StreamFailed before the first where it cannot be read."""

    async def execute(self, container_id: str, command: tuple[str, ...], stdin: bool, tty: bool) -> Session:
        """Run a command; StreamFailed where it cannot be run."""

    async def attach(self, container_id: str, stdin: bool) -> Session:
        """Join the container's own program; StreamFailed where it does not run."""

    async def connect(self, container_id: str, address: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to a port inside the network of this container's pod; OSError or StreamFailed where nobody takes it."""


class PodStreams:
    """Carries out what `Connect` asks for. An answer that is no stream is returned as a Response."""

    def __init__(self, api: ApiServer, containers: Containers) -> None:
        self._api = api
        self._containers = containers

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

    async def _session(self, request: Request, scope: Scope, receive: Receive, send: Send) -> Response | None:
        options = compute_exec_options(request.body.parameters, request.subresource)
        id = running_container(self._pod(request), options.container)
        if scope["type"] != "websocket":
            raise ApiError(status.bad_request("Upgrade request required"))
        protocol = choose_protocol(offered_protocols(scope))
        if not protocol:
            raise ApiError(status.bad_request("the client offers no version of the stream that is spoken here"))
        if request.subresource == "exec":
            session = await self._containers.execute(id, options.command, options.stdin, options.tty)
        else:
            session = await self._containers.attach(id, options.stdin)
        await receive()  # The request to connect.
        await send({"type": "websocket.accept", "subprotocol": protocol})
        await carry(session, options, receive, send)
        return None

    async def _forward(self, request: Request, scope: Scope, receive: Receive, send: Send) -> Response | None:
        from refk8s.components.pod_forward import PROTOCOL, Forwarding  # Few runs need it.

        pod = self._pod(request)
        found = pod.status.container_statuses or ()
        running = [one.name for one in found if one.state is not None and one.state.running is not None]
        if not running:
            raise ApiError(status.bad_request(f"unable to forward port because pod is not running. Current status={pod.status.phase}"))
        id = running_container(pod, running[0])
        if scope["type"] != "websocket" or PROTOCOL not in offered_protocols(scope):
            raise ApiError(status.bad_request(f"Upgrade request required: to a WebSocket of {PROTOCOL}"))
        await receive()  # The request to connect.
        await send({"type": "websocket.accept", "subprotocol": PROTOCOL})
        address = pod.status.pod_ip or ""
        await Forwarding(request.name, lambda port: self._containers.connect(id, address, port), send).carry(receive)
        return None

    async def _log(self, request: Request, receive: Receive, send: Send) -> Response | None:
        pod = self._pod(request)
        options = compute_log_options(dict(reversed(request.body.parameters)), request.name, self._api.clock.now())
        container = choose_container(pod, options.container)
        if not pod.spec.node_name:
            await _answer_nothing(send)
            return None
        lines = self._containers.log(choose_log(pod, container, options.previous), options)
        first = await anext(lines, b"")
        await send({"type": "http.response.start", "status": 200, "headers": TEXT})
        gone = asyncio.ensure_future(_until_gone(receive))
        sending = asyncio.ensure_future(_send_all(first, lines, send))
        await asyncio.wait((gone, sending), return_when=asyncio.FIRST_COMPLETED)
        for task in (gone, sending):
            task.cancel()
        await asyncio.gather(gone, sending, return_exceptions=True)
        await send({"type": "http.response.body", "body": b""})
        return None


async def _send_all(first: bytes, lines: AsyncIterator[bytes], send: Send) -> None:
    await send({"type": "http.response.body", "body": first, "more_body": True})
    async for data in lines:
        await send({"type": "http.response.body", "body": data, "more_body": True})


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _answer_nothing(send: Send) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


class SimulatedContainers:
    """Streams of containers that are not there."""

    async def log(self, container_id: str, options: LogOptions) -> AsyncIterator[bytes]:
        """One line that says so."""
        yield b"simulated containers write nothing\n"

    async def execute(self, container_id: str, command: tuple[str, ...], stdin: bool, tty: bool) -> Session:
        """There is nothing to run it in."""
        raise StreamFailed("simulated containers run no commands")

    async def attach(self, container_id: str, stdin: bool) -> Session:
        """There is no program."""
        raise StreamFailed("simulated containers run no programs")

    async def connect(self, container_id: str, address: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """There is no network."""
        raise StreamFailed("simulated pods have no ports")
