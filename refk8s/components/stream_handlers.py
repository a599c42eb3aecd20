"""Answers requests for logs, exec, attach and port-forward, at the API server and at a kubelet's
port. Rules RT-12 ... RT-15, STREAM-3, STREAM-4, STREAM-7.

A handler agrees on a protocol with the client, opens the stream, and copies bytes until one side
ends. A stream that cannot be opened is an ApiError or StreamFailed.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import TypeVar

from refk8s.components.asgi import Receive, Scope, Send
from refk8s.components.log_bodies import SendPiece, http_log, websocket_log
from refk8s.components.pod_sessions import Wire, carry
from refk8s.components.upgrade import (
    EXTENSION,
    Streams,
    offered_versions,
    spdy_head,
    wanted_upgrade,
)
from refk8s.components.websocket import offered_protocols
from refk8s.components.wires import SpdyWire, WebSocketWire
from refk8s.core.api import status
from refk8s.core.api.status import ApiError
from refk8s.core.apiserver.pod_exec import (
    V5,
    choose_protocol,
    choose_spdy,
    choose_websocket,
    compute_failure,
)
from refk8s.core.apiserver.pod_forward import CHANNELS, SPDY, TUNNEL, compute_ports
from refk8s.core.ports import ContainerNotFound, ExecOptions, Session, StreamFailed

CHUNK_BYTES = 1 << 16

T = TypeVar("T")
Choose = Callable[[tuple[str, ...]], T]
Connector = Callable[[int], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


async def serve_session(
    scope: Scope,
    receive: Receive,
    send: Send,
    options: ExecOptions,
    open_session: Callable[[], Awaitable[Session]],
    is_kubelet: bool = False,
) -> None:
    """exec and attach. A kubelet answers with an error if the session cannot be opened
    (STREAM-10); the API server opens the stream, and sends the error on its error channel."""
    spdy, version = _agree(scope, choose_spdy, choose_websocket)
    session: Session | None = None
    problem = ""
    try:
        session = await open_session()
    except StreamFailed as error:
        if is_kubelet or (isinstance(error, ContainerNotFound) and version != V5):
            raise
        problem = str(error)
    wire: Wire
    try:
        if spdy is not None:
            streams = spdy(version.name if offered_versions(scope) else "")
            try:
                wire = SpdyWire(version, options, streams)
                if await wire.open():
                    await _run(session, problem, options, wire)
            finally:
                streams[1].close()
        else:
            wire = WebSocketWire(version, options, receive, send)
            await wire.open()
            await _run(session, problem, options, wire)
    finally:
        if session is not None:
            session.close()


async def _run(session: Session | None, problem: str, options: ExecOptions, wire: Wire) -> None:
    """Run the session. The connection is a stream already, so errors are sent on the error
    channel."""
    if session is None:
        await wire.end(compute_failure(problem))
    else:
        await carry(session, options, wire)


async def serve_forward(
    scope: Scope,
    receive: Receive,
    send: Send,
    pod: str,
    parameters: tuple[tuple[str, str], ...],
    prepare: Callable[[], Awaitable[Connector]],
    is_kubelet: bool = False,
) -> None:
    """Port forwarding. `prepare` finds the pod and returns what connects to a port of it. A kubelet
    accepts v5.channel.k8s.io too (STREAM-10)."""
    from refk8s.components.pod_forward import Forwarding, forward_channels  # Few runs need it.

    versions = {V5.name: V5, **CHANNELS} if is_kubelet else CHANNELS
    spdy, name = _agree(
        scope,
        lambda offered: choose_protocol(offered, (SPDY,)),
        lambda offered: choose_protocol(offered, (TUNNEL, *versions)),
    )
    ports = () if spdy is not None or name == TUNNEL else compute_ports(parameters)
    connect = await prepare()
    if spdy is not None:
        reader, writer = spdy(name)

        async def write(frames: bytes) -> None:
            writer.write(frames)
            await writer.drain()

        async def read_on() -> bytes | None:
            return await reader.read(CHUNK_BYTES) or None

        try:
            with contextlib.suppress(OSError):
                await Forwarding(pod, connect, write).carry(read_on)
        finally:
            writer.close()
        return
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
        is_spdy = await Forwarding(pod, connect, send_message).carry(next_message)
    else:
        await forward_channels(versions[name], ports, pod, connect, next_message, send_message)
        is_spdy = True
    await send({"type": "websocket.close", "code": 1000 if is_spdy else 1002})


async def serve_log(
    scope: Scope,
    receive: Receive,
    send: Send,
    open_log: Callable[[], Awaitable[AsyncGenerator[bytes, None]]],
) -> None:
    """A log, as the body of a response or as messages of a WebSocket."""
    body = await open_log()
    async with aclosing(body) as pieces:
        send_piece, finish = (
            http_log(send)
            if scope["type"] == "http"
            else websocket_log(offered_protocols(scope), receive, send)
        )
        await send_piece(b"")
        # A followed log may have no further lines, so a disconnect of the client ends it as
        # well (STREAM-3).
        tasks = [
            asyncio.ensure_future(_until_disconnected(receive)),
            asyncio.ensure_future(_send_all(pieces, send_piece)),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    await finish()


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
    take_over = scope["extensions"][EXTENSION]
    return lambda version: take_over(spdy_head(version)), over_spdy(offered_versions(scope))


async def _send_all(lines: AsyncGenerator[bytes, None], send_piece: SendPiece) -> None:
    async for data in lines:
        await send_piece(data)


async def _until_disconnected(receive: Receive) -> None:
    while (await receive())["type"] not in ("http.disconnect", "websocket.disconnect"):
        pass
