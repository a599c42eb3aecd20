"""One HTTP request over a connection of its own, whose bodies are streamed in both directions.
Rules STREAM-3, STREAM-8.

A side that reads slowly delays the other one: the answer is read from the connection only as fast
as it is taken. httptools parses the answer.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncGenerator
from typing import Any

import httptools

from refk8s.components.client.keepalive import KEEPALIVE

CHUNK_BYTES = 1 << 16
HEAD_BYTES_MAX = 128 << 10
HEADERS_MAX = 256
CONNECT_SECONDS = 10.0
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class BadAnswer(OSError):
    """The peer has not answered as HTTP/1.1, or has ended the connection early."""


async def dial(
    address: str, port: int, tls: ssl.SSLContext | None = None, server_name: str = ""
) -> Streams:
    """A connection. Raises OSError, also if it is not made within 10 seconds."""
    names: dict[str, Any] = {"ssl": tls, "server_hostname": server_name or address} if tls else {}
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            reader, writer = await asyncio.open_connection(
                address, port, limit=CHUNK_BYTES, **names
            )
    except TimeoutError:
        raise OSError(f"no connection within {CONNECT_SECONDS:.0f} s") from None
    keep_alive(writer)
    return reader, writer


def keep_alive(writer: asyncio.StreamWriter) -> None:
    """Detect a dead peer of this connection."""
    sock = writer.get_extra_info("socket")
    if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
        for level, option, value in KEEPALIVE:
            sock.setsockopt(level, option, value)


class Answer:
    """An answer whose headers have arrived."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.code = 0
        self.reason = ""
        self.headers: list[tuple[bytes, bytes]] = []
        self.reader = reader
        self.writer = writer
        self.is_complete = False
        self.is_upgraded = False
        self.is_kept = False  # whether the connection is not closed after a complete answer
        self._has_headers = False
        self._may_continue = False
        self._head_bytes = 0
        self._body: list[bytes] = []
        self._parser = httptools.HttpResponseParser(self)

    # --- the parser's side

    def on_status(self, status: bytes) -> None:
        self.reason = status.decode("latin-1")

    def on_header(self, name: bytes, value: bytes) -> None:
        if len(self.headers) >= HEADERS_MAX:
            raise BadAnswer(f"the answer has more than {HEADERS_MAX} headers")
        if not self._has_headers:  # else a trailer
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.code = self._parser.get_status_code()
        if 100 <= self.code < 200 and self.code != 101:
            self.headers.clear()  # an interim answer
        else:
            self._has_headers = True

    def on_body(self, data: bytes) -> None:
        self._body.append(data)

    def on_message_complete(self) -> None:
        self.is_complete = self._has_headers
        self._may_continue = bool(self._parser.should_keep_alive())

    # --- reading

    async def begin(self, is_head: bool) -> None:
        """Read until the end of the headers. Raises BadAnswer."""
        while not self._has_headers and not self.is_upgraded:
            data = await self.reader.read(CHUNK_BYTES)
            self._head_bytes += len(data)
            if not data:
                raise BadAnswer("the connection was closed before an answer")
            if self._head_bytes > HEAD_BYTES_MAX + CHUNK_BYTES:
                raise BadAnswer("the headers of the answer are too long")
            self._feed(data)
        if is_head or self.code in (204, 304):
            self.is_complete = True

    def _feed(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self.is_upgraded = True
            rest = data[upgrade.args[0] :]
            if rest:
                self._body.append(rest)
        except (httptools.HttpParserError, httptools.HttpParserCallbackError) as error:
            raise BadAnswer(f"the answer is not HTTP/1.1: {error}") from None

    def header(self, name: bytes) -> bytes:
        """The first value of a header; empty without it."""
        return next((value for found, value in self.headers if found == name), b"")

    async def body(self) -> AsyncGenerator[bytes, None]:
        """The rest of the answer as it arrives. Raises BadAnswer if it ends early."""
        try:
            while True:
                parts, self._body = self._body, []
                for part in parts:
                    yield part
                if self.is_complete:
                    return
                data = await self.reader.read(CHUNK_BYTES)
                if not data:
                    if self._ends_with_connection:
                        return
                    raise BadAnswer("the connection was closed within an answer")
                self._feed(data)
        finally:
            self.close()

    async def read(self, bytes_max: int) -> bytes:
        """The whole body; BadAnswer if it has more bytes."""
        found, length = [], 0
        async with contextlib.aclosing(self.body()) as parts:
            async for part in parts:
                found.append(part)
                length += len(part)
                if length > bytes_max:
                    raise BadAnswer(f"the answer has more than {bytes_max} bytes")
        return b"".join(found)

    async def after_upgrade(self) -> AsyncGenerator[bytes, None]:
        """What the peer sends in the other protocol."""
        parts, self._body = self._body, []
        for part in parts:
            yield part
        while data := await self.reader.read(CHUNK_BYTES):
            yield data

    @property
    def _ends_with_connection(self) -> bool:
        names = {name for name, _ in self.headers}
        return b"content-length" not in names and b"transfer-encoding" not in names

    @property
    def can_be_kept(self) -> bool:
        """Whether another request may be sent over the connection."""
        return (
            self.is_complete
            and self._may_continue
            and not self._ends_with_connection
            and not self.writer.is_closing()
        )

    def close(self) -> None:
        if not (self.is_kept and self.can_be_kept):
            self.writer.close()


async def ask(
    streams: Streams,
    head: bytes,
    body: AsyncGenerator[bytes, None] | None = None,
    seconds: float | None = None,
) -> Answer:
    """Send a request; returns its answer when the headers have arrived. `body`: parts that are
    sent as they come. `seconds`: how long the headers may take. Raises OSError; then the connection
    is closed."""
    reader, writer = streams
    answer = Answer(reader, writer)
    sending: asyncio.Task[None] | None = None
    try:
        writer.write(head)
        if body is not None:
            sending = asyncio.ensure_future(_send(writer, body))
        try:
            async with asyncio.timeout(seconds):
                await answer.begin(head.startswith(b"HEAD "))
        except TimeoutError:
            raise BadAnswer(f"no answer within {seconds:.0f} s") from None
        return answer
    except BaseException:
        if sending is not None:
            sending.cancel()
        writer.close()
        raise


async def _send(writer: asyncio.StreamWriter, body: AsyncGenerator[bytes, None]) -> None:
    """Send the body. If the peer has answered without reading it all, the rest is dropped."""
    with contextlib.suppress(OSError):
        async with contextlib.aclosing(body):
            async for part in body:
                writer.write(part)
                await writer.drain()
