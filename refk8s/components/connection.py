"""Limits of the HTTP connections: their number, their times and the size of their requests.

Rules HTTP-1 ... HTTP-6, HTTP-24, HTTP-26 and HTTP-28.

uvicorn's protocol reads and writes HTTP; the class `Connection` adds the limits. One timer checks
the deadline of every connection once a second, so that a request needs no timer of its own.
Every connection is accepted here, so that connections in a TLS handshake are counted as well.

A request that has arrived whole is offered to `Server.at_once`, which may answer it without
uvicorn's cycle and without a task (at_once.py).
"""

import asyncio
import errno
import gc
import logging
import socket
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import httptools
import uvicorn
from msgspec import Struct
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from refk8s.components.answer_order import AnswerOrder
from refk8s.components.head import ANSWERED, Answering, Head, refusal, scope_of
from refk8s.components.joined_writes import JoinedWrites
from refk8s.components.upgrade import EXTENSION, Streams, take_over
from refk8s.core.api import status
from refk8s.core.api.meta_v1 import Status
from refk8s.core.client.independent import PROTOCOL, REQUESTS_MAX

log = logging.getLogger("refk8s")

# HTTP-2, HTTP-5, HTTP-6.
LINE_BYTES_MAX = 32 << 10  # the URL of a request, which includes selectors
HEAD_BYTES_MAX = 128 << 10  # the request line and all headers
HEADERS_MAX = 128
PIPELINE_MAX = 16  # requests that a client sends before it has the answers
HEAD_SECONDS = 10.0  # from the connection or the first byte of a request to the end of its headers
BODY_SECONDS = 60.0  # from the end of the headers to the end of the body
ANONYMOUS_IDLE_SECONDS = 10.0  # between requests of a connection that has not authenticated
IDLE_SECONDS = 120.0  # between requests of a connection that has
WRITE_SECONDS = 60.0  # for which a client may stop reading an answer
# for which the rest of a rejected request is read and discarded, so that the client receives the
# answer
DRAIN_SECONDS = 2.0
DRAIN_BYTES_MAX = 8 << 20
CLOSED_MAX = 256  # closed connections that wait for a garbage collection (HTTP-7)


# A watch may be silent for long: TCP keepalive detects a dead client after two minutes.
_SOCKET_OPTIONS = (
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4),
)


AtOnce = Callable[["Connection", Head], bool]
"""Answers a whole request, now or later; False: it has done nothing (HTTP-26)."""


class Connection(HttpToolsProtocol):
    """One connection.

    `authenticated` is set when the user is known, `patient` if a client may stop reading for long.
    """

    def __init__(self, server: "Server") -> None:
        super().__init__(server.config, server.state, {})
        self.registry = server
        self.authenticated = False
        self.patient = False
        self.user: Any = None  # of the client certificate; None until it is read
        self.presented: Any = None  # the same, where proxies name users (HTTP-29)
        self.deadline: float | None = None
        self.began = self.idle_since = server.now
        self.on_writable: Callable[[], None] | None = None  # called when the client reads again
        self._in_head = True
        self._head_bytes = 0
        self._body_parts = 0
        # bytes after the headers that came without any of the body: chunk extensions, trailers
        self._around_body = 0
        self._refused = False
        self._drained = 0
        self._stalled_since: float | None = None
        # a request that has not begun: more of it may be in the bytes that are parsed now
        self._arriving: Head | None = None
        self._at_once = server.at_once
        self.is_independent = False  # whether no request waits for an earlier one (HTTP-28)
        self.unsent = AnswerOrder()  # the answers to independent requests
        # the headers of the last request that was answered at once: as they came, and without the
        # length of its body as bytes and as texts
        self.last_headers: tuple[Any, Any, Mapping[str, str]] = (None, None, {})

    @property
    def is_idle(self) -> bool:
        """Whether no request is in progress."""
        return not self.unsent and (self.cycle is None or bool(self.cycle.response_complete))

    @property
    def _takes_more(self) -> bool:
        """Whether the next request may be answered at once."""
        return self.is_idle or (
            self.is_independent
            and len(self.unsent) < REQUESTS_MAX
            and not self.pipeline
            and (isinstance(self.cycle, Answering) or self.cycle.response_complete)
        )

    @property
    def _awaits_request(self) -> bool:
        """Whether it is idle and no byte of a request has arrived."""
        return self.is_idle and self._in_head and not self._head_bytes

    # --- the transport's side

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._joined = JoinedWrites(transport)
        super().connection_made(self._joined)  # type: ignore[arg-type]
        tls: Any = transport.get_extra_info("ssl_object")
        self.is_independent = tls is not None and tls.selected_alpn_protocol() == PROTOCOL
        self.registry.open[self] = None
        self.deadline = self.registry.now + HEAD_SECONDS

    def connection_lost(self, exc: Exception | None) -> None:
        self.registry.open.pop(self, None)
        self.registry.closed += 1
        self._joined.drop()
        self.unsent.disconnect()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            self._drained += len(data)
            if self._drained > DRAIN_BYTES_MAX:
                self.transport.abort()
            return
        if self._in_head:
            self._head_bytes += len(data)
        parts = self._body_parts
        super().data_received(data)
        if (arriving := self._arriving) is not None:
            self._arriving = None
            if not (arriving.is_whole and self._answers_at_once(arriving)):
                self._begin(arriving)
        if not self._in_head and self._body_parts == parts:
            self._around_body += len(data)
            if self._around_body > HEAD_BYTES_MAX:
                self.refuse(status.header_fields_too_large())
        elif self._in_head and self._head_bytes > HEAD_BYTES_MAX:
            too_long = len(self.url) > LINE_BYTES_MAX or not self.headers
            self.refuse(status.uri_too_long() if too_long else status.header_fields_too_large())

    def pause_writing(self) -> None:
        self._stalled_since = self.registry.now
        super().pause_writing()

    def resume_writing(self) -> None:
        self._stalled_since = None
        super().resume_writing()
        if self.on_writable is not None:
            self.on_writable()

    # --- the parser's side

    def on_message_begin(self) -> None:
        if len(self.pipeline) >= (REQUESTS_MAX if self.is_independent else PIPELINE_MAX):
            self.transport.abort()
        if (arriving := self._arriving) is not None:  # the client sends requests ahead
            self._arriving = None
            self._begin(arriving)
        self.url, self.headers, self.expect_100_continue = b"", [], False
        self._in_head = True
        if self.is_idle:
            self.deadline = self.registry.now + HEAD_SECONDS

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._head_bytes = self._around_body = 0
        if self._refused:
            return
        if len(self.url) > LINE_BYTES_MAX:
            self.refuse(status.uri_too_long())
        elif len(self.headers) > HEADERS_MAX:
            self.refuse(status.header_fields_too_large())
        else:
            upgrades = self.parser.should_upgrade()
            # the parser ends such a request with its headers (HTTP-1)
            if upgrades and self._announces_body():
                self.refuse(
                    status.bad_request("a request that asks for another protocol has no body")
                )
                return
            self.deadline = self.registry.now + BODY_SECONDS
            version = self.parser.get_http_version()
            head = Head(
                self.parser.get_method().decode("ascii"),
                self.url,
                self.headers,
                version != "1.0" and not upgrades and self.parser.should_keep_alive(),
                version,
                self.expect_100_continue,
            )
            if upgrades:
                self.scope = scope_of(self, head)
                self.scope["extensions"] = {EXTENSION: self._take_over}  # type: ignore[dict-item]
                if not self._should_upgrade():
                    self._begin(head, self.scope)
                return
            self.headers = []  # of the trailers, which are no headers of the request (HTTP-2)
            if self._at_once is not None and self._takes_more and not self.expect_100_continue:
                self._arriving = head
            else:
                self._begin(head)

    def _begin(self, head: Head, scope: Any = None) -> None:
        """Begin a request as uvicorn does it: with a cycle, and a task if no other request is in
        progress."""
        was_idle = self.is_idle
        try:
            scope = scope or scope_of(self, head)
        except (httptools.HttpParserError, ValueError) as error:
            self.send_400_response(str(error))
            return
        cycle = self.cycle = RequestResponseCycle(
            scope=scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=head.expects_continue,
            keep_alive=head.keep_alive,
            on_response=self.on_response_complete,
        )
        if was_idle:
            self._start_asgi_task(cycle, self.app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, self.app))
        if head.body:
            super().on_body(head.body)
        if head.is_whole:
            super().on_message_complete()

    def _answers_at_once(self, head: Head) -> bool:
        """Whether the whole request is answered without a cycle (HTTP-26)."""
        assert self._at_once is not None
        return (
            head.keep_alive
            and not self._refused
            and not self.flow.write_paused
            and not self.transport.is_closing()
            and self._at_once(self, head)
        )

    def _announces_body(self) -> bool:
        return any(
            name == b"transfer-encoding"
            or (name == b"content-length" and value.strip(b" \t0") != b"")
            for name, value in self.headers
        )

    def on_body(self, body: bytes) -> None:
        self._body_parts += 1
        if self._refused:
            return
        if self._arriving is not None:
            self._arriving.body += body
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_head = True  # of the next request
        self._head_bytes = 0
        self.deadline = None
        if self._refused:
            return
        if (arriving := self._arriving) is not None:
            arriving.is_whole = True
            if self.is_independent:  # others may follow in the data that is being read
                self._arriving = None
                if not self._answers_at_once(arriving):
                    self._begin(arriving)
        else:
            super().on_message_complete()

    def answer_later(self) -> Answering:
        """A request is answered later, by `answer`; until then, others wait."""
        answering: Any = Answering()
        self.cycle = answering
        if self.is_independent:
            self.unsent.add(answering)
        return answering  # type: ignore[no-any-return]

    def run(self, sending: Coroutine[Any, Any, None]) -> None:
        """Send an answer in a task, which the server waits for when it closes."""
        task = self.loop.create_task(sending)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def answer(self, data: bytes, answering: Answering | None = None) -> None:
        """The last bytes of an answer. `answering`: that of `answer_later`."""
        if self.is_independent:
            self._answer_in_order(data, answering)
            return
        if answering is None:
            self.cycle = ANSWERED
        else:
            answering.response_complete = True
        if data and (answering is None or not answering.disconnected):
            self._joined.write_now(data)
        if answering is not None and not answering.keep_alive:
            self.transport.close()
        self.on_response_complete()

    def _answer_in_order(self, data: bytes, answering: Answering | None) -> None:
        """An answer to an independent request: it is sent after those before it, and together with
        all others of this turn of the loop (HTTP-28)."""
        answering = answering or self.answer_later()
        answering.response_complete, answering.data = True, data
        for ready in self.unsent.ready():
            if ready.data and not ready.disconnected:
                self._joined.write(ready.data)
            if not ready.keep_alive:
                self.transport.close()
        if not self.unsent:
            self.on_response_complete()

    def on_response_complete(self) -> None:
        if not self.is_independent:
            self._joined.flush()  # HTTP-24
        self.idle_since = self.registry.now
        self.patient = False
        if self._in_head and self._head_bytes:
            self.deadline = self.idle_since + HEAD_SECONDS
        elif not self.authenticated and not self.pipeline:
            self.deadline = self.idle_since + ANONYMOUS_IDLE_SECONDS
        elif self._in_head and not self.pipeline:  # else the body has not arrived yet
            self.deadline = self.idle_since + IDLE_SECONDS
        # From here as uvicorn does it, but without a timer for each request.
        if not self.transport.is_closing():
            self.flow.resume_reading()
            if self.pipeline:
                self._start_asgi_task(*self.pipeline.pop())

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection to the WebSocket protocol; it is counted as long as it is open."""
        if self._refused:
            return
        self.authenticated = True  # a request without a user is rejected and closed
        self._leave_http()
        super().handle_websocket_upgrade()
        successor: Any = self.transport.get_protocol()
        # else the protocol has rejected the request itself
        if getattr(successor, "scope", None) is not None:
            successor.scope["connection"] = self
        self._give_to(successor)

    def _should_upgrade(self) -> bool:
        """Whether this server speaks the WebSocket itself; one that is passed on stays a request
        (STREAM-15)."""
        passed_on = self.registry.passed_on
        if passed_on is not None and passed_on(self.url.partition(b"?")[0]):
            return False
        return super()._should_upgrade()

    def _take_over(self, head: bytes) -> Streams:
        """Pass a connection that changes to another protocol to the application (STREAM-4)."""
        self._leave_http()
        streams = take_over(self, head)
        self._give_to(self.transport.get_protocol())
        return streams

    def _unsupported_upgrade_warning(self) -> None:
        """No warning: the upgrade is ignored, and the connection is closed after the answer."""

    def shutdown(self) -> None:
        """Close the connection after the answers to all requests that have begun."""
        if self.unsent:
            self.unsent.end_after_last()
        else:
            super().shutdown()

    def _leave_http(self) -> None:
        """Stop the HTTP protocol: another protocol writes to the transport."""
        self.unsent.disconnect()
        self._joined.flush()
        self.transport = self._joined.below

    def _give_to(self, successor: Any) -> None:
        """Hand the connection to another protocol; it is counted until it is closed."""
        self.deadline = None
        self.patient = True
        lost = successor.connection_lost

        def connection_lost(exc: Exception | None) -> None:
            self.registry.open.pop(self, None)
            lost(exc)

        successor.connection_lost = connection_lost

    def send_400_response(self, msg: str) -> None:
        # Invalid HTTP (an unknown method, a malformed header) is answered with a Status too.
        self.refuse(status.bad_request("the request is not HTTP/1.1 that this server reads"))

    # --- the front's side

    def refuse(self, said: Status) -> None:
        """Answer without reading the rest of the request, then close (HTTP-1 ... HTTP-5)."""
        if self._refused or self.transport.is_closing():
            return
        self._refused = True
        self._arriving = None
        if self.unsent:  # the client would take this for the answer to an earlier request
            self.transport.abort()
            return
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            if self.cycle.response_started:
                self.transport.abort()
                return
        self.pipeline.clear()
        self._unset_keepalive_if_required()
        self.transport.write(refusal(said))
        self.flow.resume_reading()
        self.deadline = self.registry.now + DRAIN_SECONDS

    def check_time(self, now: float) -> None:
        """Close the connection or reject the request if its deadline has passed (HTTP-5)."""
        if (
            self._stalled_since is not None
            and not self.patient
            and now - self._stalled_since > WRITE_SECONDS
        ):
            self.transport.abort()
        elif self.deadline is None or now < self.deadline:
            return
        elif self._refused or (self._awaits_request and not self.authenticated):
            self.transport.abort()
        elif self._awaits_request:
            self.transport.close()
        else:
            self.refuse(status.request_timeout("the request did not arrive in time"))


class Listening(Struct, frozen=True):
    """One listening socket of a server."""

    task: asyncio.Task[None]
    listener: socket.socket

    def close(self) -> None:
        """Stop accepting connections. Open connections stay open."""
        self.task.cancel()
        self.listener.close()


class Server:
    """Accepts up to `connections_max` connections for one application.

    At the limit, it closes the connection that has been idle longest (HTTP-6).
    """

    def __init__(self, config: uvicorn.Config, connections_max: int) -> None:
        self.config = config
        self.state = ServerState()
        self.connections_max = connections_max
        # answers whole requests without a task, if the application can (HTTP-26)
        self.at_once: AtOnce | None = getattr(config.app, "at_once", None)
        # whether the upgrades of requests for a path are not answered here
        self.passed_on: Callable[[bytes], bool] | None = None
        self.open: dict[Connection, None] = {}  # in the order in which they were opened
        self.closed = 0  # since the last garbage collection
        # TLS handshakes, with the time of their start
        self._opening: dict[asyncio.Task[None], tuple[socket.socket, float]] = {}
        self._loop = asyncio.get_running_loop()
        self._listening: list[Listening] = []
        self._timer: asyncio.TimerHandle | None = None
        # to the second: exact enough for deadlines, and costs a request nothing
        self.now = self._loop.time()

    def start(self) -> None:
        """Start the timer that checks deadlines."""
        self._timer = self._loop.call_later(1.0, self._check_times)

    def listen(self, listener: socket.socket) -> "Listening":
        """Accept connections of this non-blocking socket until the returned object is closed."""
        listening = Listening(self._loop.create_task(self._accept(listener)), listener)
        self._listening.append(listening)
        return listening

    async def close(self, seconds: float) -> None:
        """Stop accepting, wait this long for running requests, then close all connections."""
        if self._timer is not None:
            self._timer.cancel()
        for listening in self._listening:
            listening.close()
        for task in list(self._opening):
            task.cancel()
        for protocol in list(self.state.connections):
            protocol.shutdown()
        end = self._loop.time() + seconds
        while (self.state.connections or self.state.tasks) and self._loop.time() < end:
            await asyncio.sleep(0.01)
        for connection in list(self.open):
            connection.transport.abort()
        tasks = [
            *(listening.task for listening in self._listening),
            *self._opening,
            *self.state.tasks,
        ]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = await self._loop.sock_accept(listener)
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE):
                    self._make_room()
                await asyncio.sleep(0.05)
                continue
            if (
                len(self.open) + len(self._opening) >= self.connections_max
                and not self._make_room()
            ):
                connection.close()
                continue
            for level, option, value in _SOCKET_OPTIONS:
                connection.setsockopt(level, option, value)
            task = self._loop.create_task(self._open(connection))
            self._opening[task] = (connection, self.now)
            task.add_done_callback(self._opened)

    async def _open(self, connection: socket.socket) -> None:
        try:
            if self.config.ssl is None:
                await self._loop.connect_accepted_socket(lambda: Connection(self), connection)
            else:
                times: Any = {
                    "ssl_handshake_timeout": HEAD_SECONDS,
                    "ssl_shutdown_timeout": DRAIN_SECONDS,
                }
                await self._loop.connect_accepted_socket(
                    lambda: Connection(self), connection, ssl=self.config.ssl, **times
                )
        except OSError:
            connection.close()  # no TLS, or not in time

    def _opened(self, task: asyncio.Task[None]) -> None:
        connection, _ = self._opening.pop(task)
        if task.cancelled() or task.exception() is not None:
            connection.close()

    def _make_room(self) -> bool:
        """Close one connection: the oldest unauthenticated one, else the one idle longest."""
        anonymous = next((one for one in self.open if not one.authenticated), None)
        opening = next(iter(self._opening), None)
        if opening is not None and (
            anonymous is None or self._opening[opening][1] <= anonymous.began
        ):
            opening.cancel()
            self._opening[opening][0].close()
            return True
        idle = anonymous or min(
            (one for one in self.open if one.is_idle and not one.patient),
            key=lambda one: one.idle_since,
            default=None,
        )
        if idle is None:
            return False
        self.open.pop(idle, None)
        idle.transport.abort()
        return True

    def _check_times(self) -> None:
        now = self.now = self._loop.time()
        for connection in list(self.open):
            connection.check_time(now)
        if self.closed > CLOSED_MAX:
            # A closed TLS connection is a cycle of objects with 15 to 50 kB.
            self.closed = 0
            gc.collect(0)
        self._timer = self._loop.call_later(1.0, self._check_times)
