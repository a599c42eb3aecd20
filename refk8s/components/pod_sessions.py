"""exec and attach: a WebSocket on one side, a session with a container on the other. Rule RT-14.

What the messages mean is decided in core/apiserver/pod_exec.py; here they are carried.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Protocol

from refk8s.core.apiserver.pod_exec import ExecOptions, compute_end, compute_failure, end_message, read_message, write_message

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


class Session(Protocol):
    """Bytes both ways with something that runs in a container."""

    def hear(self) -> AsyncIterator[tuple[int, bytes]]: ...

    async def say(self, data: bytes) -> None: ...

    def end_input(self) -> None: ...

    async def resize(self, columns: int, rows: int) -> None: ...

    async def exit_code(self) -> int: ...

    def close(self) -> None: ...


async def carry(session: Session, options: ExecOptions, receive: Receive, send: Send) -> None:
    """Carry everything both ways until the command ends or the client leaves; then tell the end, once and last."""
    incoming = asyncio.ensure_future(_listen(session, options, receive))
    outgoing = asyncio.ensure_future(_speak(session, options, send))
    try:
        await asyncio.wait((incoming, outgoing), return_when=asyncio.FIRST_COMPLETED)
        if not outgoing.done():
            return  # The client has left.
        try:
            outgoing.result()
            end = compute_end(options.command, await session.exit_code())
        except Exception as error:
            end = compute_failure(str(error) or type(error).__name__)
        with contextlib.suppress(RuntimeError, OSError):  # The client may leave at this very moment.
            await send({"type": "websocket.send", "bytes": end_message(end)})
            await send({"type": "websocket.close", "code": 1000})
    finally:
        session.close()
        for task in (incoming, outgoing):
            task.cancel()
        await asyncio.gather(incoming, outgoing, return_exceptions=True)


async def _listen(session: Session, options: ExecOptions, receive: Receive) -> None:
    """From the client to the container; returns when the client has left."""
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            return
        told = read_message(message.get("bytes") or (message.get("text") or "").encode())
        with contextlib.suppress(OSError):  # What has ended no longer listens.
            if told.size is not None:
                await session.resize(*told.size)
            elif told.is_end:
                session.end_input()
            elif told.data and options.stdin:
                await session.say(told.data)


async def _speak(session: Session, options: ExecOptions, send: Send) -> None:
    """From the container to the client; returns when the container has no more to say."""
    wanted = {1: options.stdout, 2: options.stderr}
    async for channel, data in session.hear():
        if wanted.get(channel):
            await send({"type": "websocket.send", "bytes": write_message(channel, data)})
