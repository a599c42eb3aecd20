"""Answers whole requests without a task for each. Rule HTTP-26 (spec/http.md).

Most requests arrive whole and wait for nothing but the commit of the store. The application of
`http.py` costs such a request a task, an event, a record for each part of the answer and a turn of
the loop, which is more than its decision. So a connection offers it here first. What takes time or
is rare is left to the application, which begins with it again: nothing has changed until then.

The stages and their order are those of `http.py`, and the same functions decide.
"""

import asyncio
import logging
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from refk8s.components.apiserver import INTERNAL, UNKNOWN
from refk8s.components.apiserver_metrics import LONG, Meter
from refk8s.components.connection import Connection
from refk8s.components.fair_queues import Ticket
from refk8s.components.head import Answering, Head
from refk8s.components.header_lines import header_lines
from refk8s.components.joined_writes import HELD_BYTES_MAX
from refk8s.core.api.request import Response
from refk8s.core.api.resources import TOKEN_REVIEWS
from refk8s.core.api.user import SERVICE_ACCOUNT_PREFIX
from refk8s.core.apiserver.accept import JSON
from refk8s.core.apiserver.handle import decide
from refk8s.core.apiserver.http import Received, WireRequest, receive, reply_to
from refk8s.core.apiserver.outcome import Commit
from refk8s.core.apiserver.respond import Reply, gzipped, is_to_be_compressed
from refk8s.core.context import Instant

if TYPE_CHECKING:
    from refk8s.components.http import Front
    from refk8s.components.kept_lists import Place

log = logging.getLogger("refk8s")

_METHODS = frozenset(("GET", "POST", "PUT", "PATCH", "DELETE"))
_PREFIXES = (b"/api/", b"/apis/")
_ACCOUNT_LENGTH = len(SERVICE_ACCOUNT_PREFIX)


class AtOnce:
    """The requests of one front that are answered without a task."""

    def __init__(self, front: "Front") -> None:
        self._front = front

    def __call__(self, connection: Connection, head: Head) -> bool:
        """Answer the request, now or when it is committed. False: it is left to the application,
        and nothing has changed."""
        front, api = self._front, self._front.api
        if head.method not in _METHODS or front.auditor is not None:
            return False
        if front.proxy is not None and front.proxy.presented(connection).is_proxy:
            return False  # headers name the user (HTTP-29)
        if not api.store.is_current:
            return False  # it may have to be refreshed first (LIST-14)
        meter = Meter(head.method)
        wire = _wire_of(head, connection)
        if wire is None:
            return False
        now = api.clock.now()
        try:
            user = front.enter(wire, connection, now)
            if user is None:
                return False
            # compared without a call, for nearly every request
            if user.name[:_ACCOUNT_LENGTH] == SERVICE_ACCOUNT_PREFIX and (
                front.token_use(wire, connection, user) is not None
            ):
                return False  # the use of a Secret's token is noted (SA-6)
            # without a reader of YAML, which may take long
            received = receive(wire, user, None, front.address, api.config, api.checks, api.store)
            if type(received) is not Received:
                return False
            serving = _Serving(
                front, connection, received, wire.headers, meter, _place_of(head), now
            )
            outcome = serving.decide()
        except Exception:
            # 401, or an internal error: the application meets it too, and answers it
            return False
        if outcome is None:
            return False
        serving.carry_out(outcome)
        return True


class _Serving:
    """One request while it is served."""

    __slots__ = (
        "answering", "connection", "front", "headers", "is_kept", "meter", "now", "place",
        "received", "seat",
    )  # fmt: skip

    def __init__(
        self,
        front: "Front",
        connection: Connection,
        received: Received,
        headers: Mapping[str, str],
        meter: Meter,
        place: "Place",
        now: Instant,
    ) -> None:
        self.front = front
        self.connection = connection
        self.received = received
        self.headers = headers
        self.meter = meter
        self.place = place
        self.now = now  # of the decision and the answer
        self.is_kept = False  # whether the answer is a list that is kept as text
        self.seat: Ticket | None = None
        self.answering: Answering | None = None

    def decide(self) -> Reply | Commit | None:
        """The answer, or the transaction whose answer it waits for; it has a seat then. None: the
        application serves this request."""
        front, received, request = self.front, self.received, self.received.request
        api, is_list = front.api, request.verb == "list"
        if request.verb in LONG or (is_list and received.form.media_type != JSON):
            return None
        if front.webhook is not None and request.resource == TOKEN_REVIEWS:
            return None
        ticket = front.fair.ticket_of(request, self.meter.method, api.store)
        self.meter.request, self.meter.ticket = request, ticket
        if ticket is not None and not ticket.flow.level.is_exempt:
            if not front.fair.enters(ticket):
                return None
            self.seat = ticket
        found: Reply | Commit | None = None
        try:
            if is_list:
                found = front.lists.recall(self.place, received, api.store)
                self.is_kept = found is not None
            if found is None:
                outcome = decide(api.exchange(request, self.now))
                if type(outcome) is Commit:
                    found = outcome
                elif type(outcome) is Response:
                    found = reply_to(received, outcome, self.now)
                    if is_list:
                        front.lists.keep(self.place, received, outcome, found, api.store)
            return found
        finally:
            if found is None:
                self._leave()

    def carry_out(self, outcome: Reply | Commit) -> None:
        """Answer, or submit the transaction."""
        self.front.metrics.enter(self.meter)
        if type(outcome) is Commit:
            self.answering = self.connection.answer_later()
            self.front.api.enqueue(self.received.request, outcome, self._committed)
        else:
            assert type(outcome) is Reply
            self._send(outcome)

    def _leave(self) -> None:
        if self.seat is not None:
            self.front.fair.leave(self.seat)
            self.seat = None

    def _committed(self, response: Response | None) -> None:
        """Answer a request whose outcome is known."""
        try:
            reply = reply_to(self.received, response or UNKNOWN, self.now)
        except Exception:
            log.exception("an answer could not be written")
            reply = reply_to(self.received, INTERNAL, self.now)
        self._send(reply)

    def _send(self, reply: Reply) -> None:
        self.meter.code = reply.code
        is_long = bool(reply.more) and reply.length > HELD_BYTES_MAX
        if is_long or is_to_be_compressed(reply, self.headers):
            self.answering = self.answering or self.connection.answer_later()
            self.connection.run(self._send_long(reply))
            return
        data = self._head_of(reply) + reply.content
        self._end(b"".join((data, *reply.more)) if reply.more else data)

    async def _send_long(self, reply: Reply) -> None:
        """Send an answer that is compressed first, or that is as long that the client has to be
        waited for."""
        connection, answering = self.connection, self.answering
        assert answering is not None
        try:
            await connection.unsent.turn_of(answering)
            if is_to_be_compressed(reply, self.headers):
                reply = (
                    await self.front.lists.gzipped(self.place, reply)
                    if self.is_kept
                    else await asyncio.to_thread(gzipped, reply)
                )
            connection.transport.write(self._head_of(reply) + reply.content)
            for piece in reply.more:
                await connection.flow.drain()
                if answering.disconnected:
                    break
                connection.transport.write(piece)
        finally:
            self._end(b"")

    def _head_of(self, reply: Reply) -> bytes:
        """The status line and headers of the answer."""
        if reply.warnings or reply.encoding or reply.vary or reply.etag or reply.location:
            start = STATUS_LINE[reply.code] + header_lines(reply.headers())
        else:
            start = _start_of(reply.code, reply.media_type, reply.cache)
        ticket, answering = self.meter.ticket, self.answering
        flow = b"" if ticket is None else ticket.lines
        is_last = answering is not None and not answering.keep_alive
        end = b"connection: close\r\n\r\n" if is_last else b"\r\n"
        return b"%bcontent-length: %d\r\n%b%b" % (start, reply.length, flow, end)

    def _end(self, data: bytes) -> None:
        self._leave()
        self.connection.answer(data, self.answering)
        self.front.metrics.end(self.meter)


def _wire_of(head: Head, connection: Connection) -> WireRequest | None:
    """The request line and headers as texts; None for a request that is left to the application:
    one for another path than that of a resource, or of a user who acts as another one."""
    url = head.url
    if not url.startswith(_PREFIXES) or not url.isascii() or b"#" in url:
        return None
    # most clients send the same headers with every request of a connection, but for the length of
    # the body, which has arrived
    seen, known, headers = connection.last_headers
    if seen != head.headers:
        lines = [line for line in head.headers if line[0] != b"content-length"]
        if lines != known:
            headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in lines}
            if "impersonate-" in " ".join(headers):
                return None
        connection.last_headers = head.headers, lines, headers
    path, _, query = url.decode("ascii").partition("?")
    return WireRequest(head.method, path, query, headers, head.body)


def _place_of(head: Head) -> "Place":
    path, _, query = head.url.partition(b"?")
    return path, query


@lru_cache(maxsize=64)
def _start_of(code: int, media_type: str, cache: str) -> bytes:
    return STATUS_LINE[code] + header_lines(Reply(code, b"", media_type, cache=cache).headers())
