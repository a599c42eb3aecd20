"""Connections between a client and the containers of a pod: logs, exec, attach, port-forward.

Rules RT-12 ... RT-15, STREAM-1, STREAM-3, STREAM-4, STREAM-7. core/apiserver/pod_log.py,
pod_exec.py and pod_forward.py select the container and the part of a log. The bytes come from the
containers of the pod's node (core/ports).
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import TypeVar

from refk8s.components.apiserver import ApiServer
from refk8s.components.asgi import Receive, Scope, Send
from refk8s.components.log_bodies import SendPiece, http_log, websocket_log
from refk8s.components.pod_sessions import Wire, carry
from refk8s.components.upgrade import EXTENSION, Streams, offered_versions, wanted_upgrade
from refk8s.components.websocket import offered_protocols
from refk8s.components.wires import SpdyWire, WebSocketWire
from refk8s.core.api import status
from refk8s.core.api.core_v1 import Pod
from refk8s.core.api.request import Request, Response
from refk8s.core.api.resources import NODES
from refk8s.core.api.status import ApiError
from refk8s.core.apiserver import read
from refk8s.core.apiserver.outcome import Connect
from refk8s.core.apiserver.pod_exec import (
    V5,
    ExecOptions,
    choose_protocol,
    choose_spdy,
    choose_websocket,
    compute_exec_options,
    compute_failure,
)
from refk8s.core.apiserver.pod_forward import CHANNELS, SPDY, TUNNEL, WEBSOCKET, compute_ports
from refk8s.core.apiserver.pod_log import (
    check_scheduled,
    choose_container,
    choose_log,
    compute_log_options,
    find_running,
)
from refk8s.core.ports import Containers, ContainerStatus, Nodes, StreamFailed

CHUNK_BYTES = 1 << 16

T = TypeVar("T")
Choose = Callable[[tuple[str, ...]], T]


class PodStreams:
    """Handles `Connect` requests. An answer that is not a stream is returned as a Response."""

    def __init__(self, api: ApiServer, nodes: Nodes | None) -> None:
        self._api = api
        self._nodes = nodes

    async def __call__(
        self, outcome: Connect, scope: Scope, receive: Receive, send: Send
    ) -> Response | None:
        request = outcome.request
        try:
            if request.resource.plural == "pods":
                if request.subresource == "log":
                    return await self._log(request, scope, receive, send)
                if request.subresource in ("exec", "attach"):
                    return await self._session(request, scope, receive, send)
                if request.subresource == "portforward":
                    return await self._forward(request, scope, receive, send)
        except ApiError as error:
            return Response(error.status.code or 500, error.status)
        except StreamFailed as error:
            return Response(500, status.internal_error(str(error)))
        except OSError:
            return None  # The client has left.
        words = f"{request.subresource} of {request.resource.plural} is not served"
        return Response(501, status.failure(501, "NotImplemented", words))

    def _pod(self, request: Request) -> Pod:
        pod: Pod = read.find(request, self._api.store).value
        return pod

    def _containers(self, pod: Pod) -> Containers:
        """The containers of the pod's node."""
        name = check_scheduled(pod)
        found = self._nodes.containers_of(name) if self._nodes is not None else None
        if found is not None:
            return found
        if self._api.store.get(NODES.key("", name)) is None:
            raise ApiError(status.not_found(NODES, name))
        words = f"the kubelet of node {name} runs in another process, to which streams are not supported yet"  # PROC-4
        raise ApiError(status.failure(501, "NotImplemented", words))

    async def _session(
        self, request: Request, scope: Scope, receive: Receive, send: Send
    ) -> Response | None:
        options = compute_exec_options(request.body.parameters, request.subresource)
        pod = self._pod(request)
        name = choose_container(pod, options.container)
        containers = self._containers(pod)
        spdy, version = _agree(scope, choose_spdy, choose_websocket)
        container = find_running(
            (await containers.list_pod(pod.metadata.uid or "")).containers, name
        )
        if container is None and version != V5:
            raise StreamFailed(_no_container(name))
        wire: Wire
        if spdy is not None:
            streams = spdy(version.name if offered_versions(scope) else "")
            try:
                wire = SpdyWire(version, options, streams)
                if await wire.open():
                    await self._run(request, containers, container, options, wire)
            finally:
                streams[1].close()
        else:
            wire = WebSocketWire(version, options, receive, send)
            await wire.open()
            await self._run(request, containers, container, options, wire)
        return None

    @staticmethod
    async def _run(
        request: Request,
        containers: Containers,
        container: ContainerStatus | None,
        options: ExecOptions,
        wire: Wire,
    ) -> None:
        """Run the session.

        The connection is a stream already, so errors are sent on the error channel.
        """
        try:
            if container is None:
                raise StreamFailed(_no_container(options.container))
            if request.subresource == "exec":
                session = await containers.execute(
                    container, options.command, options.stdin, options.tty
                )
            else:
                session = await containers.attach(container, options.stdin)
        except StreamFailed as error:
            await wire.end(compute_failure(str(error)))
            return
        await carry(session, options, wire)

    async def _forward(
        self, request: Request, scope: Scope, receive: Receive, send: Send
    ) -> Response | None:
        from refk8s.components.pod_forward import Forwarding, forward_channels  # Few runs need it.

        pod = self._pod(request)
        containers = self._containers(pod)
        spdy, name = _agree(
            scope,
            lambda offered: choose_protocol(offered, (SPDY,)),
            lambda offered: choose_protocol(offered, WEBSOCKET),
        )
        ports = () if spdy is not None or name == TUNNEL else compute_ports(request.body.parameters)
        ready = [
            one
            for one in (await containers.list_pod(pod.metadata.uid or "")).sandboxes
            if one.ready
        ]
        if not ready:
            raise StreamFailed(
                f'unable to upgrade connection: pod not found ("{request.name}_{request.namespace}")'
            )

        async def connect(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
            return await containers.connect(pod, ready[-1], port)

        if spdy is not None:
            reader, writer = spdy(name)

            async def write(frames: bytes) -> None:
                writer.write(frames)
                await writer.drain()

            async def read_on() -> bytes | None:
                return await reader.read(CHUNK_BYTES) or None

            try:
                with contextlib.suppress(OSError):
                    await Forwarding(request.name, connect, write).carry(read_on)
            finally:
                writer.close()
            return None
        await receive()  # The request to connect.
        await send({"type": "websocket.accept", "subprotocol": name or None})

        async def next_message() -> bytes | None:
            message = await receive()
            return (
                None
                if message["type"] == "websocket.disconnect"
                else message.get("bytes") or (message.get("text") or "").encode()
            )

        async def send_message(message: bytes | str) -> None:
            await send(
                {"type": "websocket.send", "text" if isinstance(message, str) else "bytes": message}
            )

        if name == TUNNEL:
            is_spdy = await Forwarding(request.name, connect, send_message).carry(next_message)
        else:
            await forward_channels(
                CHANNELS[name], ports, request.name, connect, next_message, send_message
            )
            is_spdy = True
        await send({"type": "websocket.close", "code": 1000 if is_spdy else 1002})
        return None

    async def _log(
        self, request: Request, scope: Scope, receive: Receive, send: Send
    ) -> Response | None:
        pod = self._pod(request)
        options = compute_log_options(
            dict(reversed(request.body.parameters)), request.name, self._api.clock.now()
        )
        container = choose_container(pod, options.container)
        if not pod.spec.node_name:
            await _answer_nothing(send)
            return None
        containers = self._containers(pod)
        attempt = choose_log(
            pod,
            (await containers.list_pod(pod.metadata.uid or "")).containers,
            container,
            options.previous,
        )
        send_piece, finish = (
            http_log(send)
            if scope["type"] == "http"
            else websocket_log(offered_protocols(scope), receive, send)
        )
        async with aclosing(await containers.log(attempt, options)) as lines:
            await send_piece(b"")
            # A followed log may have no further lines, so a disconnect of the client ends it as
            # well (STREAM-3).
            tasks = [
                asyncio.ensure_future(_until_disconnected(receive)),
                asyncio.ensure_future(_send_all(lines, send_piece)),
            ]
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        await finish()
        return None


def _no_container(name: str) -> str:
    return f'unable to upgrade connection: container not found ("{name}")'


def _agree(
    scope: Scope, over_spdy: Choose[T], over_websocket: Choose[T]
) -> tuple[Callable[[str], Streams] | None, T]:
    """The function that upgrades to SPDY (None: a WebSocket), and the protocol version.

    Raises ApiError 400 or 403 (STREAM-4, STREAM-7).
    """
    if scope["type"] == "websocket":
        return None, over_websocket(offered_protocols(scope))
    if wanted_upgrade(scope) != "spdy/3.1":
        raise ApiError(status.bad_request("Upgrade request required"))
    return scope["extensions"][EXTENSION], over_spdy(offered_versions(scope))


async def _send_all(lines: AsyncGenerator[bytes, None], send_piece: SendPiece) -> None:
    async for data in lines:
        await send_piece(data)


async def _until_disconnected(receive: Receive) -> None:
    while (await receive())["type"] not in ("http.disconnect", "websocket.disconnect"):
        pass


async def _answer_nothing(send: Send) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})
