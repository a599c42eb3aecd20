"""Port forwarding: SPDY in a WebSocket on one side, connections into a pod on the other. Rule RT-15.

Frames are read and written in core/apiserver/spdy.py, streams are paired in core/apiserver/pod_forward.py; here they are carried.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

from refk8s.core.apiserver.pod_forward import PROTOCOL, Forward, Pairs, compute_refusal
from refk8s.core.apiserver.spdy import Data, NotSpdy, Opened, Pinged, Reset, Spdy

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Connector = Callable[[int], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]

CHUNK_BYTES = 1 << 15

__all__ = ["PROTOCOL", "Forwarding"]


class Forwarding:
    """Everything of one client: one SPDY connection with many streams."""

    def __init__(self, pod: str, connect: Connector, send: Send) -> None:
        self._pod = pod
        self._connect = connect
        self._send = send
        self._spdy = Spdy()
        self._pairs = Pairs()
        self._early: dict[int, list[Data]] = {}  # what came on a data stream before its connection was there
        self._writers: dict[int, asyncio.StreamWriter] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}

    async def carry(self, receive: Receive) -> None:
        """Until the client leaves, or sends what is no SPDY."""
        try:
            while True:
                message = await receive()
                if message["type"] == "websocket.disconnect":
                    return
                try:
                    happened = self._spdy.take(message.get("bytes") or b"")
                except NotSpdy:
                    await self._send({"type": "websocket.close", "code": 1002})
                    return
                for event in happened:
                    await self._take(event)
        finally:
            for task in self._tasks.values():
                task.cancel()
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _take(self, event: Any) -> None:
        match event:
            case Opened(stream, headers, _):
                found = self._pairs.opened(stream, headers)
                if found is None:
                    await self._say(self._spdy.refuse(stream))
                    return
                await self._say(self._spdy.accept(stream))
                if headers.get("streamtype") == "data":
                    self._early[stream] = []
                if isinstance(found, Forward):
                    self._early.setdefault(found.data, [])
                    self._tasks[found.data] = asyncio.ensure_future(self._forward(found))
            case Data(stream, data, ended):
                if stream in self._early:
                    self._early[stream].append(event)
                elif (writer := self._writers.get(stream)) is not None:
                    await _pass_on(writer, data, ended)
            case Reset(stream):
                if (task := self._tasks.get(stream)) is not None:
                    task.cancel()
            case Pinged(reply):
                await self._say(reply)

    async def _forward(self, forward: Forward) -> None:
        """One connection, from its beginning to its end."""
        try:
            try:
                reader, writer = await self._connect(forward.port)
            except Exception as error:  # Whatever keeps it from being made is told to the client.
                words = (getattr(error, "strerror", None) or str(error) or type(error).__name__).lower()
                await self._say(Spdy.send(forward.error, compute_refusal(forward.port, self._pod, words), ended=True))
                await self._say(Spdy.send(forward.data, b"", ended=True))
                return
            try:
                for early in self._early.pop(forward.data):
                    await _pass_on(writer, early.data, early.ended)
                self._writers[forward.data] = writer
                with contextlib.suppress(ConnectionError):
                    while data := await reader.read(CHUNK_BYTES):
                        await self._say(Spdy.send(forward.data, data))
                await self._say(Spdy.send(forward.data, b"", ended=True))
                await self._say(Spdy.send(forward.error, b"", ended=True))
            finally:
                writer.close()
        finally:
            self._early.pop(forward.data, None)
            self._writers.pop(forward.data, None)
            self._tasks.pop(forward.data, None)

    async def _say(self, frames: bytes) -> None:
        await self._send({"type": "websocket.send", "bytes": frames})


async def _pass_on(writer: asyncio.StreamWriter, data: bytes, ended: bool) -> None:
    """To the pod; one that no longer listens is told nothing."""
    with contextlib.suppress(OSError, RuntimeError):
        if data:
            writer.write(data)
            await writer.drain()
        if ended and writer.can_write_eof():
            writer.write_eof()
