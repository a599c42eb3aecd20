"""One connection to an API server: one request at a time, and its answer as it comes. Rules
CLIENT-3, CLIENT-7 (spec/client.md).

httptools parses the answers. The receiver of an answer is called in the event loop, as the bytes
arrive; no task waits for them.
"""

import asyncio
import logging
import socket
from typing import Any, Protocol

import httptools

log = logging.getLogger("refk8s")

HEAD_BYTES_MAX = 64 << 10

# A watch may be silent for long: TCP keepalive detects a dead server after 45 seconds, and the
# same time ends a connection whose data the server does not acknowledge.
DEAD_SECONDS = 45
_SOCKET_OPTIONS = (
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, DEAD_SECONDS * 1000),
)


class Receiver(Protocol):
    """What takes an answer. One of `end` and `lost` is called, once, and nothing after it."""

    def head(self, code: int, retry_after: str) -> None:
        """The status line and the headers have arrived."""

    def data(self, data: bytes) -> None:
        """A part of the body."""

    def end(self) -> None:
        """The answer is complete."""

    def lost(self, why: str) -> None:
        """The connection has ended before that."""


class Connection(asyncio.Protocol):
    """A connection; `receiver` is None while it is idle."""

    def __init__(self) -> None:
        self.receiver: Receiver | None = None
        self.deadline = 0.0  # of the present request, in the time of the event loop
        self.idle_since = 0.0
        self.is_open = False
        self.is_retired = False  # not to be used for another request
        self._transport: Any = None
        self._parser = httptools.HttpResponseParser(self)
        self._why = "the server has closed the connection"
        self._in_head = True
        self._has_answered = False  # within the data that is being read
        self._head_bytes = 0
        self._retry_after = ""

    def send(self, message: bytes, receiver: Receiver, deadline: float) -> None:
        """Send a request; its answer goes to the receiver."""
        assert self.receiver is None and self.is_open
        self.receiver, self.deadline = receiver, deadline
        self._transport.write(message)

    def abort(self, why: str) -> None:
        """End the connection at once."""
        self._why = why
        if self._transport is not None:
            self._transport.abort()
        self.is_open = False

    # --- the transport's side

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self.is_open = True
        if (sock := transport.get_extra_info("socket")) is not None:
            for level, option, value in _SOCKET_OPTIONS:
                sock.setsockopt(level, option, value)

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_open = False
        receiver, self.receiver = self.receiver, None
        if receiver is not None:
            receiver.lost(str(exc) if exc is not None and str(exc) else self._why)

    def data_received(self, data: bytes) -> None:
        self._has_answered = False
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError:
            log.exception("an answer could not be taken")
            self.abort("an internal error")
            return
        except httptools.HttpParserError as error:
            self.abort(f"the server has sent no HTTP/1.1: {error}")
            return
        if self._in_head and self.receiver is not None:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES_MAX:
                self.abort(f"the headers of an answer have more than {HEAD_BYTES_MAX} bytes")

    # --- the parser's side

    def on_message_begin(self) -> None:
        # Not even the next request can have been sent before the data that is being read here.
        if self.receiver is None or self._has_answered:
            receiver, self.receiver = self.receiver, None
            self.abort("the server has sent an answer to no request")
            if receiver is not None:
                receiver.lost(self._why)

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"retry-after":
            self._retry_after = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        code = self._parser.get_status_code()
        if code >= 200 and self.receiver is not None:  # else an interim answer, which says nothing
            self._in_head = False
            self.receiver.head(code, self._retry_after)

    def on_body(self, data: bytes) -> None:
        if self.receiver is not None and self.is_open:
            self.receiver.data(data)

    def on_message_complete(self) -> None:
        self._head_bytes, self._retry_after = 0, ""
        if self._in_head:
            return
        self._in_head = self._has_answered = True
        if not self._parser.should_keep_alive():
            self.is_open = False
            self._transport.close()
        receiver, self.receiver = self.receiver, None
        if receiver is not None:
            receiver.end()
