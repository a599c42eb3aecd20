"""Port forwarding: copies bytes between a client and connections into a pod.

Rules RT-15, STREAM-3, STREAM-6. core/apiserver/spdy.py reads and writes frames, and
core/apiserver/pod_forward.py pairs streams.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from refk8s.core.apiserver.pod_exec import CLOSE, V5, Version, read_channel, write_message
from refk8s.core.apiserver.pod_forward import CONNECTIONS_MAX, Forward, Pairs, compute_refusal
from refk8s.core.apiserver.spdy import Data, NotSpdy, Opened, Pinged, Reset, Spdy

ReceiveBytes = Callable[[], Awaitable[bytes | None]]
"""The next message of the client; None after it has disconnected."""
SendBytes = Callable[[bytes], Awaitable[None]]
Connector = Callable[[int], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]

CHUNK_BYTES = 1 << 15
PIPE_BYTES_MAX = 1 << 16
"""The buffer of one connection into the pod; when it is full, the client waits."""


class Pipe:
    """The buffer from the client to one connection: at most PIPE_BYTES_MAX and one piece more."""

    def __init__(self) -> None:
        self._parts: deque[tuple[bytes, bool]] = deque()
        self._size = 0
        self._changed = asyncio.Event()
        self._closed = False

    @property
    def is_full(self) -> bool:
        return self._size > PIPE_BYTES_MAX and not self._closed

    async def put(self, data: bytes, ended: bool) -> None:
        """Add a piece (`ended`: the last one). Waits while the buffer is full."""
        if self._closed:
            return
        self._parts.append((data, ended))
        self._size += len(data)
        self._changed.set()
        while self.is_full:
            self._changed.clear()
            await self._changed.wait()

    async def carry(self, writer: asyncio.StreamWriter) -> None:
        """Send the pieces to the pod until the last one or until the pod closes its end."""
        with contextlib.suppress(OSError, RuntimeError):
            while True:
                while not self._parts:
                    self._changed.clear()
                    await self._changed.wait()
                data, ended = self._parts.popleft()
                self._size -= len(data)
                self._changed.set()
                if data:
                    writer.write(data)
                    await writer.drain()
                if ended:
                    if writer.can_write_eof():
                        writer.write_eof()
                    return
        self.close()

    def close(self) -> None:
        """The connection has ended: further data is dropped."""
        self._closed = True
        self._parts.clear()
        self._changed.set()


Refuse = Callable[[str], Awaitable[None]]


async def run_connection(
    connect: Connector, port: int, pipe: Pipe, send_data: SendBytes, refuse: Refuse
) -> None:
    """One connection into the pod, until the pod ends its output."""
    try:
        try:
            reader, writer = await connect(port)
        except Exception as error:  # The client receives it as the error of its connection.
            await refuse(
                (getattr(error, "strerror", None) or str(error) or type(error).__name__).lower()
            )
            return
        pumping = asyncio.ensure_future(pipe.carry(writer))
        try:
            with contextlib.suppress(ConnectionError):
                while data := await reader.read(CHUNK_BYTES):
                    await send_data(data)
        finally:
            pumping.cancel()
            await asyncio.gather(pumping, return_exceptions=True)
            writer.close()
    finally:
        pipe.close()


class Forwarding:
    """Port forwarding for one SPDY client: one connection with many streams."""

    def __init__(self, pod: str, connect: Connector, send: SendBytes) -> None:
        self._pod = pod
        self._connect = connect
        self._send = send
        self._spdy = Spdy()
        self._pairs = Pairs()
        self._pipes: dict[int, Pipe] = {}  # by data stream
        self._tasks: dict[int, asyncio.Task[None]] = {}

    async def carry(self, receive: ReceiveBytes) -> bool:
        """Run until the client disconnects; False if it sent invalid SPDY."""
        try:
            while (data := await receive()) is not None:
                try:
                    happened = self._spdy.take(data)
                except NotSpdy:
                    return False
                for event in happened:
                    await self._take(event)
            return True
        finally:
            for task in self._tasks.values():
                task.cancel()
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _take(self, event: Any) -> None:
        match event:
            case Opened(stream, headers, _):
                found = (
                    self._pairs.opened(stream, headers)
                    if len(self._pipes) < CONNECTIONS_MAX
                    else None
                )
                if found is None:
                    await self._send(self._spdy.refuse(stream))
                    return
                await self._send(self._spdy.accept(stream))
                if headers.get("streamtype") == "data":
                    self._pipes[stream] = Pipe()
                if isinstance(found, Forward) and found.data in self._pipes:
                    self._tasks[found.data] = asyncio.ensure_future(
                        self._forward(found, self._pipes[found.data])
                    )
            case Data(stream, data, ended) if (pipe := self._pipes.get(stream)) is not None:
                if pipe.is_full and stream not in self._tasks:
                    # The second stream of the pair is missing, so there is no connection.
                    del self._pipes[stream]
                    await self._send(self._spdy.refuse(stream))
                else:
                    await pipe.put(data, ended)
            case Reset(stream):
                if (task := self._tasks.get(stream)) is not None:
                    task.cancel()
                elif stream in self._pipes:
                    del self._pipes[stream]
            case Pinged(reply):
                await self._send(reply)

    async def _forward(self, forward: Forward, pipe: Pipe) -> None:
        async def send_data(data: bytes) -> None:
            await self._send(Spdy.send(forward.data, data))

        async def refuse(words: str) -> None:
            await self._send(
                Spdy.send(forward.error, compute_refusal(forward.port, self._pod, words))
            )

        try:
            # The client has disconnected: `carry` gets the same event and ends the rest.
            with contextlib.suppress(OSError):
                await run_connection(self._connect, forward.port, pipe, send_data, refuse)
                await self._send(Spdy.send(forward.data, b"", ended=True))
                await self._send(Spdy.send(forward.error, b"", ended=True))
        finally:
            self._pipes.pop(forward.data, None)
            self._tasks.pop(forward.data, None)


SendMessage = Callable[[bytes | str], Awaitable[None]]


async def forward_channels(
    version: Version,
    ports: tuple[int, ...],
    pod: str,
    connect: Connector,
    receive: ReceiveBytes,
    send: SendMessage,
) -> None:
    """Port forwarding for one WebSocket client, with two channels for each port (STREAM-6).

    Runs until all connections have ended or the client disconnects.
    """
    pipes = [Pipe() for _ in ports]
    is_v5 = version == V5

    async def forward(index: int, port: int) -> None:
        async def connect_and_tell(
            port: int,
        ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
            streams = await connect(port)
            if is_v5:
                await send_data(b"")
            return streams

        async def send_data(data: bytes) -> None:
            await send(write_message(version, 2 * index, data))

        async def refuse(words: str) -> None:
            await send(write_message(version, 2 * index + 1, compute_refusal(port, pod, words)))

        await run_connection(connect_and_tell, port, pipes[index], send_data, refuse)

    async def listen() -> None:
        while (message := await receive()) is not None:
            channel, data = read_channel(version, message)
            is_end = is_v5 and channel == CLOSE and len(data) == 1
            if is_end:
                channel, data = data[0], b""
            if channel % 2 == 0 and channel // 2 < len(pipes):
                await pipes[channel // 2].put(data, is_end)

    for index, port in enumerate(ports if not is_v5 else ()):
        for channel in (2 * index, 2 * index + 1):
            await send(write_message(version, channel, port.to_bytes(2, "little")))
    listening = asyncio.ensure_future(listen())
    connections = asyncio.gather(*[forward(index, port) for index, port in enumerate(ports)])
    try:
        await asyncio.wait((listening, connections), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (listening, connections):
            task.cancel()
        await asyncio.gather(listening, connections, return_exceptions=True)
