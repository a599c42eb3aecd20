"""One connection to an API server: requests, and their answers as they come. Rules CLIENT-3,
CLIENT-7, CLIENT-13 (spec/client.md).

httptools parses the answers. The receiver of an answer is called in the event loop, as the bytes
arrive; no task waits for them.
"""

import asyncio
import logging
import math
import socket
from collections import deque
from typing import Any, Protocol

import httptools

from refk8s.components.client.keepalive import KEEPALIVE
from refk8s.core.client.independent import PROTOCOL, REQUESTS_MAX

log = logging.getLogger("refk8s")

HEAD_BYTES_MAX = 64 << 10

# A watch may be silent for long: TCP keepalive detects a dead server, and after the same time a
# connection ends whose data the server does not acknowledge.
DEAD_SECONDS = 45
_SOCKET_OPTIONS = (
    *KEEPALIVE,
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


class Awaiting(Receiver, Protocol):
    """A receiver of the answer to a request that has been sent."""

    deadline: float
    """When the answer must have arrived, in the time of the event loop."""


class Connection(asyncio.Protocol):
    """A connection; `receivers` are those of the requests in progress, in their order."""

    def __init__(self) -> None:
        self.receivers: deque[Awaiting] = deque()
        self.began = 0.0  # when the next answer became due: at the request or the answer before it
        self.idle_since = 0.0
        self.is_urgent = False  # whether its requests are
        self.is_open = False
        self.is_retired = False  # not to be used for another request
        self.is_refk8s = False  # whether the server is one (CLIENT-13, CLIENT-14)
        self.requests_max = 1  # that may be in progress
        self.server = ""  # its URL
        self.host = ""  # of the server, for the header
        self._transport: Any = None
        self._parser = httptools.HttpResponseParser(self)
        self._why = "the server has closed the connection"
        self._in_head = True
        self._has_begun = False  # an answer
        self._expected = 0  # answers within the data that is being read
        self._head_bytes = 0
        self._retry_after = ""

    def send(self, messages: list[bytes], receivers: list[Awaiting]) -> None:
        """Send requests together; their answers go to the receivers."""
        assert self.is_open
        self.receivers += receivers
        self._transport.write(messages[0] if len(messages) == 1 else b"".join(messages))

    def abort(self, why: str) -> None:
        """End the connection at once."""
        self._why = why
        if self._transport is not None:
            self._transport.abort()
        self.is_open = False

    def drop(self, why: str) -> None:
        """End the connection at once; no receiver is called any more."""
        self.receivers.clear()
        self.abort(why)

    def deadline(self) -> float:
        """When the next answer must have arrived, in the time of the event loop."""
        return self.receivers[0].deadline if self.receivers else math.inf

    # --- the transport's side

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self.is_open = True
        tls = transport.get_extra_info("ssl_object")
        if tls is not None and tls.selected_alpn_protocol() == PROTOCOL:
            self.is_refk8s, self.requests_max = True, REQUESTS_MAX
        if (sock := transport.get_extra_info("socket")) is not None:
            for level, option, value in _SOCKET_OPTIONS:
                sock.setsockopt(level, option, value)

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_open = False
        why = str(exc) if exc is not None and str(exc) else self._why
        while self.receivers:
            self.receivers.popleft().lost(why)

    def data_received(self, data: bytes) -> None:
        # Requests that are sent while this data is read cannot have been answered in it.
        self._expected = len(self.receivers)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError:
            log.exception("an answer could not be taken")
            self.abort("an internal error")
            return
        except httptools.HttpParserError as error:
            self.abort(f"the server has sent no HTTP/1.1: {error}")
            return
        if self._in_head and self._has_begun:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES_MAX:
                self.abort(f"the headers of an answer have more than {HEAD_BYTES_MAX} bytes")

    # --- the parser's side

    def on_message_begin(self) -> None:
        self._has_begun = True
        if self.is_open and not self._expected:
            self.abort("the server has sent an answer to no request")

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"retry-after":
            self._retry_after = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        code = self._parser.get_status_code()
        if code >= 200 and self._expected:  # else an interim answer, which says nothing
            self._in_head = False
            if self.receivers and self.is_open:
                self.receivers[0].head(code, self._retry_after)

    def on_body(self, data: bytes) -> None:
        if self.receivers and self.is_open:
            self.receivers[0].data(data)

    def on_message_complete(self) -> None:
        self._head_bytes, self._retry_after, self._has_begun = 0, "", False
        if self._in_head:
            return
        self._in_head = True
        self._expected -= 1
        if not self.is_open:
            return
        if not self._parser.should_keep_alive():
            self.is_open = False
            self._transport.close()
        if self.receivers:
            self.receivers.popleft().end()
