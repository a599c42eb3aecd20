"""The connections of exec and attach: the same messages over a WebSocket or over SPDY.

Rules STREAM-4, STREAM-5.
"""

import asyncio
import contextlib
from collections import deque

from refk8s.components.asgi import Receive, Send
from refk8s.components.upgrade import Streams
from refk8s.core.api.meta_v1 import Status
from refk8s.core.apiserver.pod_exec import (
    CHANNELS,
    ERROR,
    RESIZE,
    SIZE_BYTES_MAX,
    STDERR,
    STDIN,
    STDOUT,
    WITHOUT_RESIZE,
    Input,
    Version,
    first_channel,
    read_message,
    read_size,
    write_end,
    write_message,
)
from refk8s.core.apiserver.spdy import Data, Gone, Happened, NotSpdy, Opened, Pinged, Reset, Spdy
from refk8s.core.ports import ExecOptions

READ_BYTES = 1 << 16
OPENING_SECONDS_MAX = 30.0
"""How long a client may take to open its streams, as upstream."""
EARLY_EVENTS_MAX = 16
"""How many frames may arrive before the last stream is opened."""
LINGER_SECONDS_MAX = 5.0
"""How long a client may take to close the connection after the last message; closing it earlier
could lose that message."""


class WebSocketWire:
    """Messages over a WebSocket; each begins with its channel."""

    def __init__(
        self, version: Version, options: ExecOptions, receive: Receive, send: Send
    ) -> None:
        self._version = version
        self._options = options
        self._receive = receive
        self._send = send

    async def open(self) -> None:
        """Accept; the first message has no data and signals that the stream is open."""
        await self._receive()  # The request to connect.
        await self._send({"type": "websocket.accept", "subprotocol": self._version.name or None})
        await self.send(first_channel(self._options), b"")

    async def receive(self) -> Input | None:
        message = await self._receive()
        if message["type"] == "websocket.disconnect":
            return None
        return read_message(
            self._version, message.get("bytes") or (message.get("text") or "").encode()
        )

    async def send(self, channel: int, data: bytes) -> None:
        message = write_message(self._version, channel, data)
        await self._send(
            {"type": "websocket.send", "text" if isinstance(message, str) else "bytes": message}
        )

    async def end(self, status: Status) -> None:
        data = write_end(self._version, status)
        if data:
            await self.send(ERROR, data)
        await self._send({"type": "websocket.close", "code": 1000})


class SpdyWire:
    """Messages over SPDY, with a stream for each channel."""

    def __init__(self, version: Version, options: ExecOptions, streams: Streams) -> None:
        self._version = version
        self._reader, self._writer = streams
        self._spdy = Spdy()
        self._waiting: deque[Happened] = deque()
        self._streams: dict[int, int] = {}  # channel -> stream
        self._size = b""
        wanted = {STDIN: options.stdin, STDOUT: options.stdout, STDERR: options.stderr, ERROR: True}
        wanted[RESIZE] = options.tty and version.name not in WITHOUT_RESIZE
        self._wanted = {channel for channel, is_wanted in wanted.items() if is_wanted}

    async def open(self) -> bool:
        """Wait until the client has opened its streams; returns whether it has opened all."""
        early: list[Happened] = []
        try:
            async with asyncio.timeout(OPENING_SECONDS_MAX):
                while not self._wanted <= self._streams.keys():
                    event = await self._next()
                    if event is None or len(early) > EARLY_EVENTS_MAX:
                        return False
                    if not isinstance(event, Opened):
                        early.append(event)
        except TimeoutError:
            return False
        self._waiting.extendleft(reversed(early))
        return True

    async def _next(self) -> Happened | None:
        """The next event other than opened streams and pings, which are handled here.

        None at the end of the connection.
        """
        while True:
            if not self._waiting:
                try:
                    data = await self._reader.read(READ_BYTES)
                    self._waiting += self._spdy.take(data)
                except (NotSpdy, OSError):
                    return None
                if not data:
                    return None
                continue
            event = self._waiting.popleft()
            match event:
                case Opened(stream, headers, _):
                    channel = CHANNELS.get(headers.get("streamtype", ""))
                    if channel not in self._wanted or channel in self._streams:
                        await self._write(self._spdy.refuse(stream))
                        continue
                    self._streams[channel] = stream
                    await self._write(self._spdy.accept(stream))
                    return event
                case Pinged(reply):
                    await self._write(reply)
                case Gone():
                    continue  # The client opens no more streams; the open ones continue.
                case _:
                    return event

    async def receive(self) -> Input | None:
        while (event := await self._next()) is not None:
            match event:
                case Data(stream, data, ended) if stream == self._streams.get(STDIN):
                    if ended and data:
                        self._waiting.appendleft(Data(stream, b"", True))
                    return Input(data=data, is_end=ended and not data)
                case Data(stream, data, _) if stream == self._streams.get(RESIZE):
                    size = self._resized(data)
                    if size is not None:
                        return Input(size=size)
                case Reset(stream) if stream == self._streams.get(STDIN):
                    return Input(is_end=True)
        return None

    def _resized(self, data: bytes) -> tuple[int, int] | None:
        """The newest complete size in the stream of JSON sizes."""
        *whole, rest = (self._size + data).replace(b"}", b"}\0").split(b"\0")
        self._size = rest[-SIZE_BYTES_MAX:]
        sizes = [size for text in whole if (size := read_size(text)) is not None]
        return sizes[-1] if sizes else None

    async def _write(self, frames: bytes) -> None:
        self._writer.write(frames)
        await self._writer.drain()

    async def send(self, channel: int, data: bytes) -> None:
        if channel in self._streams:
            await self._write(Spdy.send(self._streams[channel], data))

    async def end(self, status: Status) -> None:
        for channel in (STDOUT, STDERR):
            if channel in self._streams:
                await self._write(Spdy.send(self._streams[channel], b"", ended=True))
        await self._write(
            Spdy.send(self._streams[ERROR], write_end(self._version, status), ended=True)
        )
        await self.close()

    async def close(self) -> None:
        """Wait until the client has read all data, then close."""
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(LINGER_SECONDS_MAX):
                await self._writer.drain()
                while await self._reader.read(READ_BYTES):
                    pass
        self._writer.close()
