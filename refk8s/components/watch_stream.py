"""A watch as a streaming response with a bounded buffer. Rules HTTP-11, HTTP-12, WATCHAPI-8.

The events of one change are encoded once for all watchers of the same form. After the initial
events, an event is written to the connection at once, without waking a task. A client that does not
read is detected by the size of its buffer, also while no send is in progress.
"""

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Any

from refk8s.components.apiserver import ApiServer
from refk8s.components.asgi import Receive, Send
from refk8s.components.clock import Clock
from refk8s.components.connection import Connection
from refk8s.core.api import status
from refk8s.core.api.request import WatchEvent
from refk8s.core.apiserver.http import Received
from refk8s.core.apiserver.outcome import Stream
from refk8s.core.apiserver.respond import (
    stream_type,
    warning_headers,
    write_error,
    write_events,
)

Events = tuple[WatchEvent, ...]

# that may wait for a client before its watch is ended; one event may be longer
BACKLOG_BYTES_MAX = 8 << 20
BACKLOG_EVENTS_MAX = 10_000
EVENTS_A_PIECE = 64

_HEADERS = [
    (b"cache-control", b"no-cache, private"),
    (b"transfer-encoding", b"chunked"),
]


class Fanout:
    """Encodes events once for all watchers of the same form (HTTP-12).

    The bytes are discarded in the next turn of the loop.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._written: dict[int, tuple[Events, dict[Any, bytes]]] = {}

    def chunk(self, events: Events, received: Received, columns: bool) -> bytes:
        """The events as one chunk of a response."""
        found = self._written.get(id(events))
        if found is None:
            if not self._written:
                asyncio.get_running_loop().call_soon(self._written.clear)
            found = self._written[id(events)] = (events, {})
        include, resource = received.include_object, received.request.resource
        # `received.form` and `resource` are values, and the same ones for watchers of the same
        # kind.
        key = (received.form, include, columns, resource.prefix, resource.api_version)
        chunk = found[1].get(key)
        if chunk is None:
            lines = write_events(
                events,
                received.form,
                resource,
                self._clock.now(),
                include_object=include,
                columns=columns,
            )
            chunk = found[1][key] = _chunk(lines)
        return chunk


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


class WatchStream:
    """One watch of one client over one connection."""

    def __init__(
        self,
        fanout: Fanout,
        stream: Stream,
        received: Received,
        connection: Connection,
        headers: Iterable[tuple[bytes, bytes]] = (),
    ) -> None:
        media_type = (b"content-type", stream_type(received.form).encode())
        self._headers = [media_type, *_HEADERS, *warning_headers(received.warnings), *headers]
        self._fanout = fanout
        self._stream = stream
        self._received = received
        self._connection = connection
        self._initial: deque[Events] = deque()
        self._waiting: deque[tuple[bytes, int]] = deque()  # chunks and how many events each has
        self._bytes = self._events = 0
        self._opened = False  # whether chunks may go to the connection directly
        self._columns = True
        self._over = asyncio.Event()

    async def run(self, api: ApiServer, receive: Receive, send: Send) -> None:
        """Run until the client disconnects or is too slow, the timeout, or the server stops."""
        close = api.open(self._stream, self._deliver, self._end, self._first)
        gone = asyncio.ensure_future(_until_disconnected(receive, self._over))
        connection = self._connection
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self._headers})
            columns = True
            while self._initial and not self._over.is_set():
                await self._flow(
                    self._fanout.chunk(self._initial.popleft(), self._received, columns)
                )
                columns = False
            self._opened = True
            connection.on_writable = self._write_waiting
            self._write_waiting()
            await self._over.wait()
            if not connection.transport.is_closing():
                await self._finish(send)
        finally:
            connection.on_writable = None
            close()
            gone.cancel()

    async def _flow(self, chunk: bytes) -> None:
        """Send a chunk after the client has read the earlier ones, unless the watch has ended."""
        connection = self._connection
        if connection.flow.write_paused:
            drained, over = (
                asyncio.ensure_future(connection.flow.drain()),
                asyncio.ensure_future(self._over.wait()),
            )
            await asyncio.wait((drained, over), return_when=asyncio.FIRST_COMPLETED)
            drained.cancel()
            over.cancel()
        if not self._over.is_set() and not connection.transport.is_closing():
            connection.transport.write(chunk)

    async def _finish(self, send: Send) -> None:
        connection = self._connection
        if connection.flow.write_paused or self._waiting or self._initial:
            connection.transport.abort()  # It does not read: free its buffer now.
        elif connection.cycle is not None and not connection.cycle.disconnected:
            await send({"type": "http.response.body", "body": b""})

    # --- called by the API server

    def _first(self, events: Events) -> None:
        # The first event sent has the column definitions of a table (TABLE-5).
        self._columns = not events
        for start in range(0, len(events), EVENTS_A_PIECE):
            self._initial.append(events[start : start + EVENTS_A_PIECE])

    def _deliver(self, events: Events) -> None:
        if self._over.is_set():
            return
        chunk = self._fanout.chunk(events, self._received, self._columns)
        self._columns = False
        if self._opened and not self._waiting and not self._connection.flow.write_paused:
            self._connection.transport.write(chunk)
            return
        self._waiting.append((chunk, len(events)))
        self._bytes += len(chunk)
        self._events += len(events)
        if len(self._waiting) > 1 and (
            self._bytes > BACKLOG_BYTES_MAX or self._events > BACKLOG_EVENTS_MAX
        ):
            self._waiting.clear()
            # too slow: the client watches again from its last revision, or lists
            self._connection.transport.abort()
            self._over.set()

    def _write_waiting(self) -> None:
        flow, transport = self._connection.flow, self._connection.transport
        while self._waiting and not flow.write_paused and not transport.is_closing():
            chunk, count = self._waiting.popleft()
            self._bytes -= len(chunk)
            self._events -= count
            transport.write(chunk)

    def _end(self, code: int) -> None:
        if code == 410 and not self._over.is_set() and not self._connection.flow.write_paused:
            expired = status.expired("the revision that this watch stood at is compacted")
            said = write_error(expired, self._received.form)
            self._connection.transport.write(_chunk(said))
        self._over.set()


async def _until_disconnected(receive: Receive, over: asyncio.Event) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    over.set()
