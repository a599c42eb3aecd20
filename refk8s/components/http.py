"""The HTTP front of the API server, over TLS. Rules HTTP-1 to HTTP-26 (spec/http.md).

An ASGI application under uvicorn's protocol, whose connections are bounded in `connection.py`. Most
requests are answered without it (`at_once.py`).
core/apiserver makes all decisions. The order of a request: authenticate the user by the headers;
parse the request line (cached by method, path and query); authorize; read the body; answer.
"""

import asyncio
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

from refk8s.components.apiserver import UNKNOWN, ApiServer
from refk8s.components.apiserver_metrics import LONG, ApiServerMetrics, Meter
from refk8s.components.asgi import Receive, Scope, Send
from refk8s.components.at_once import AtOnce
from refk8s.components.connection import Connection, Listening, Server
from refk8s.components.connection_limits import compute_connections_max
from refk8s.components.credentials import Credentials
from refk8s.components.exposition import METRICS_TYPE, exposition
from refk8s.components.fair_queues import FairQueues
from refk8s.components.health_metrics import HealthMetrics
from refk8s.components.kept_lists import KeptLists
from refk8s.components.request_body import Disconnected, read_body
from refk8s.components.server_config import server_config
from refk8s.components.token_uses import TokenUses
from refk8s.components.watch_stream import Fanout, WatchStream
from refk8s.components.websocket import refusing, take_token
from refk8s.core.api import status
from refk8s.core.api.request import Response
from refk8s.core.api.status import ApiError
from refk8s.core.api.user import ANONYMOUS, User
from refk8s.core.apiserver.accept import JSON
from refk8s.core.apiserver.aggregation.remotes import find_remote
from refk8s.core.apiserver.authenticate import token_of, user_of_subject
from refk8s.core.apiserver.calls import Ask, Needed
from refk8s.core.apiserver.decode import ReadYaml
from refk8s.core.apiserver.freshness import is_final, reads_latest
from refk8s.core.apiserver.handle import decide
from refk8s.core.apiserver.health import HEALTH_PATHS
from refk8s.core.apiserver.http import (
    Forward,
    Received,
    WireRequest,
    authorized,
    failure,
    receive,
    reply_to,
    user_of,
)
from refk8s.core.apiserver.legacy_tokens import LegacyUse
from refk8s.core.apiserver.outcome import Commit, Connect, Measure, Stream
from refk8s.core.apiserver.proxy import PATHS as PROXIED
from refk8s.core.apiserver.respond import (
    GZIP_BYTES_MIN,
    Reply,
    accepts_gzip,
    gzipped,
    is_to_be_compressed,
)
from refk8s.core.client.independent import PROTOCOL
from refk8s.core.context import Instant
from refk8s.core.value import evolve

if TYPE_CHECKING:
    from refk8s.components.aggregator import Aggregator
    from refk8s.components.auditing import Auditor, Trail
    from refk8s.components.front_proxy import FrontProxy
    from refk8s.components.issuers import Issuers
    from refk8s.components.token_webhook import TokenWebhook
    from refk8s.core.api.yaml_text import YamlDocument

log = logging.getLogger("refk8s")


CLOSING_SECONDS = 2.0
METRICS_PATH, SLIS_PATH = "/metrics", "/metrics/slis"
# a longer body is parsed in a thread, so that it does not block other requests
YAML_BYTES_INLINE = 4 << 10


class Front:
    """The HTTP front of one API server."""

    def __init__(self, api: ApiServer) -> None:
        self.api = api
        # streams to containers
        self.connect: (
            Callable[[Connect, Scope, Receive, Send], Awaitable[Response | None]] | None
        ) = None
        self.issuers: Issuers | None = None  # other issuers of tokens (OIDC-2)
        self.webhook: TokenWebhook | None = None  # which knows further tokens (OIDC-7)
        self.auditor: Auditor | None = None  # the audit log (AUDIT-1)
        self.proxy: FrontProxy | None = None  # proxies that name users (HTTP-29)
        # what other API servers serve (APISVC-10)
        self.discovered: Callable[[], Mapping[str, Any]] = dict
        self._aggregator: Aggregator | None = None
        self.fair = FairQueues()
        self.metrics = ApiServerMetrics()
        self.address = ""  # where clients reach the server, for discovery (HTTP-15)
        self.lists = KeptLists()
        self.health = HealthMetrics()
        self.uses = TokenUses(api)
        self._fanout = Fanout(api.clock)
        self._server: Server | None = None
        self._converting = asyncio.Semaphore(1)  # one thread reads or writes YAML or protobuf
        self.at_once = AtOnce(self)

    # --- the server -------------------------------------------------------------------------------

    async def serve(self, listener: socket.socket, credentials: Credentials) -> None:
        """Start to accept connections; returns when they are accepted."""
        config = server_config(
            self,
            ssl_certfile=str(credentials.certificate),
            ssl_keyfile=str(credentials.key),
            ssl_ca_certs=str(credentials.authority),
            ssl_cert_reqs=ssl.CERT_OPTIONAL,
        )
        assert config.ssl is not None
        config.ssl.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.proxy is not None:
            self.proxy.trust(config.ssl)
        config.ssl.set_alpn_protocols([PROTOCOL])  # a client that offers others gets none of them
        host, port = listener.getsockname()[:2]
        self.address = f"{host}:{port}"
        self._server = Server(config, compute_connections_max())
        self._server.passed_on = self._is_passed_on
        self._server.start()
        self.fair.start()
        self._server.listen(listener)

    async def listen_also(self, listener: socket.socket) -> Listening:
        """Accept connections of another socket too, until the returned object or this front is
        closed."""
        assert self._server is not None
        return self._server.listen(listener)

    async def close(self) -> None:
        """Stop accepting, let running requests end, close."""
        self.fair.stop()
        if self._server is not None:
            await self._server.close(CLOSING_SECONDS)

    # --- one request ------------------------------------------------------------------------------

    async def __call__(self, scope: Scope, receive_part: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            method, send = "GET", refusing(send)
        elif scope["type"] == "http":
            method = scope["method"]
        else:
            return
        meter = self.metrics.begin(method)
        try:
            await self._serve(scope, receive_part, send, meter)
        finally:
            self.metrics.end(meter)
            if meter.trail is not None:
                meter.trail.complete(meter.code)

    async def _serve(self, scope: Scope, receive_part: Receive, send: Send, meter: Meter) -> None:
        connection: Connection | None = scope.get("connection")
        method = meter.method
        wire: WireRequest | None = None  # while its headers are not read
        named: tuple[tuple[bytes, bytes], ...] = ()
        if self.proxy is not None:
            scope["headers"], named = self.proxy.split(scope["headers"])
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }
        try:
            path, query = (
                scope["raw_path"].decode("latin-1"),
                scope["query_string"].decode("latin-1"),
            )
            impersonation = (
                _impersonation(scope["headers"]) if "impersonate-" in " ".join(headers) else ()
            )
            if "upgrade" in headers or scope["type"] == "websocket":
                headers = _with_offered_token(scope, headers)
            wire = WireRequest(
                method, path, query, headers, impersonation=impersonation, named=named
            )
            user = await self._enter(wire, connection, meter)
            if (use := self.token_use(wire, connection, user)) is not None:
                self.uses.note(use, meter)
            if self.auditor is not None:
                begin = partial(self._begin_trail, self.auditor, wire, user, scope, use)
                meter.trail = await self.api.reviewed(begin)
            read_yaml: Callable[[bytes], YamlDocument] = _read_yaml
            if method not in ("GET", "HEAD") and not self._is_passed_on(scope["raw_path"]):
                if user is None:
                    await self._admit_anonymous(wire)
                body = await read_body(receive_part, headers)
                wire = WireRequest(method, path, query, headers, body)
                if len(body) > YAML_BYTES_INLINE and "yaml" in headers.get("content-type", ""):
                    read_yaml = await self._read_beside(body)
            if path[1:].partition("/")[0] in HEALTH_PATHS:
                await self.api.probe()
                self.health.observe(path, query, self.api.checks())
            receive_now = partial(self._receive, wire, user, read_yaml)
            received = await self.api.reviewed(receive_now)
            if type(received) is Reply and received.code == 403 and await self._is_refreshed():
                received = await self.api.reviewed(receive_now)
            if (
                type(received) is Received
                and scope["type"] == "websocket"
                and received.request.verb != "connect"
            ):
                received = failure(
                    ApiError(
                        status.bad_request("only streams to containers are served over a WebSocket")
                    ),
                    wire,
                )
            if type(received) is Forward:
                await self._forward(received, scope, receive_part, send, headers, meter)
                return
            if type(received) is not Received:
                caller = user or ANONYMOUS
                meter.ticket = self.fair.ticket_of_path(caller, method, path, self.api.store)
                meter.takes_no_seat = True
                await self._send(send, received, meter, headers)  # type: ignore[arg-type]
                return
            if use is not None:
                received = evolve(received, warnings=use.warnings + received.warnings)
            meter.request = received.request
            if meter.trail is not None:
                meter.trail.request = received.request
            ticket = self.fair.ticket_of(received.request, method, self.api.store)
            meter.ticket = ticket
            if ticket is None or ticket.flow.level.is_exempt or received.request.verb in LONG:
                meter.takes_no_seat = True
                await self._answer(received, scope, receive_part, send, headers, meter)
                return
            await self.fair.enter(ticket)
            try:
                await self._answer(received, scope, receive_part, send, headers, meter)
            finally:
                self.fair.leave(ticket)
        except ApiError as error:
            if self.auditor is not None and meter.trail is None and wire is not None:
                meter.trail = self._begin_trail(self.auditor, wire, None, scope, meter.use)
            if connection is not None and method not in ("GET", "HEAD"):
                # The rest of the body is not read (HTTP-3, HTTP-4).
                meter.code = error.status.code or 500
                connection.refuse(error.status)
            else:
                await self._send(send, failure(error, wire), meter, headers)
        except Disconnected:
            return
        except Exception:
            # An internal error: it must not close the connection, and its details must not reach
            # the client.
            log.exception("a request failed with an internal error: %s %s", method, scope["path"])
            await self._send(
                send,
                failure(ApiError(status.internal_error("the server has logged it"))),
                meter,
                headers,
            )

    async def _enter(
        self, wire: WireRequest, connection: Connection | None, meter: Meter
    ) -> User | None:
        """The user; None for an anonymous one at an open path. Raises ApiError 401. Does not read
        the body (HTTP-3)."""
        now = self.api.clock.now()
        keys = 0 if self.issuers is None else self.issuers.version
        try:
            return await self.api.reviewed(lambda: self.enter(wire, connection, now))
        except ApiError as error:
            is_newer = await self._is_refreshed()
            has_keys = await self._has_new_keys(wire, error, keys)
            if not await self._is_known_elsewhere(wire, error) and not has_keys and not is_newer:
                if (use := self.token_use(wire, connection, None)) is not None:
                    self.uses.note(use, meter)
                raise
            return await self.api.reviewed(lambda: self.enter(wire, connection, now))

    def enter(self, wire: WireRequest, connection: Connection | None, now: Instant) -> User | None:
        """The same on the state at hand."""
        certificate = None if connection is None else self._user_of_connection(wire, connection)
        user = user_of(wire, self.api.config, now, self.api.store, certificate)
        if connection is not None and user is not None:
            connection.authenticated = True
        return user

    def token_use(
        self, wire: WireRequest, connection: Connection | None, user: User | None
    ) -> LegacyUse | None:
        """The use of the token of a Secret by this request, whose user this is (SA-6)."""
        certificate = None if connection is None else self._user_of_connection(wire, connection)
        return self.uses.find(wire, user, certificate)

    def _user_of_connection(self, wire: WireRequest, connection: Connection) -> User | None:
        """The user by the certificate of the connection (HTTP-18, HTTP-29)."""
        if self.proxy is not None:
            return self.proxy.user_of(wire, connection)
        if connection.user is None:
            connection.user = _user_of_certificate(connection) or False
        return connection.user or None

    def _begin_trail(
        self,
        auditor: "Auditor",
        wire: WireRequest,
        user: User | None,
        scope: Scope,
        use: LegacyUse | None,
    ) -> "Trail":
        """The trail of a request in the audit log (AUDIT-3)."""
        api, original = self.api, None
        if wire.impersonation:
            with suppress(ApiError, Needed):  # 401: it has no user
                plain = evolve(wire, impersonation=())
                original = self.enter(plain, scope.get("connection"), api.clock.now())
        client = scope.get("client")
        address = str(client[0]) if client else ""
        trail = auditor.begin(wire, user, original, address, api.config, api.store)
        if use is not None:
            trail.annotations.update(use.annotations)
        return trail

    async def _has_new_keys(self, wire: WireRequest, error: ApiError, before: int) -> bool:
        """Whether another issuer has new keys, with which a token may be valid (OIDC-4). `before`:
        the version of the keys by which it was refused."""
        if self.issuers is None or error.status.code != 401:
            return False
        if "authorization" not in wire.headers:
            return False
        await self.issuers.refresh()
        return self.issuers.version != before

    async def _is_known_elsewhere(self, wire: WireRequest, error: ApiError) -> bool:
        """Whether the webhook knows the token that was refused (OIDC-7)."""
        if self.webhook is None or error.status.code != 401:
            return False
        return await self.webhook.review(token_of(wire.headers.get("authorization", "")))

    async def _admit_anonymous(self, wire: WireRequest) -> None:
        """Raise ApiError unless anonymous users may do this: only then their body is read
        (AUTHZ-6)."""
        api = self.api
        admit = partial(authorized, wire, None, api.config, api.store)
        try:
            await api.reviewed(admit)
        except ApiError:
            if not await self._is_refreshed():
                raise
            await api.reviewed(admit)

    def _is_passed_on(self, raw_path: bytes) -> bool:
        """Whether another server answers the request, so that its body and a change of the protocol
        are not handled here (STREAM-15, APISVC-5)."""
        if raw_path.startswith(b"/api/"):
            return b"/proxy" in raw_path and PROXIED.fullmatch(raw_path) is not None
        return find_remote(raw_path.decode("latin-1"), self.api.store) is not None

    async def _forward(
        self,
        forward: Forward,
        scope: Scope,
        receive_part: Receive,
        send: Send,
        headers: Mapping[str, str],
        meter: Meter,
    ) -> None:
        """Pass a request on to another API server (APISVC-5). It gives its seat back before, as
        upstream: the other server has its own."""
        if self._aggregator is None:
            # imported here, because few clusters have another API server
            from refk8s.components.aggregator import Aggregator

            self._aggregator = Aggregator(self.api.outgoing)
        request, store, fair = forward.request, self.api.store, self.fair
        ticket = (
            fair.ticket_of_path(forward.user, meter.method, scope["path"], store)
            if request is None
            else fair.ticket_of(request, meter.method, store)
        )
        if ticket is not None and not ticket.flow.level.is_exempt:
            await fair.enter(ticket)
            fair.leave(ticket)
        meter.ticket = ticket
        if request is not None and (request.verb == "watch" or "upgrade" in headers):
            self.metrics.run_long(meter, request)
        meter.request = request
        if meter.trail is not None:
            meter.trail.request = request
            if meter.is_long:
                meter.trail.started()

        async def send_on(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                meter.code = message["status"]
            await send(message)

        reply = await self._aggregator(forward, scope, receive_part, send_on)
        if reply is not None:
            await self._send(send, reply, meter, headers)

    def _receive(
        self, wire: WireRequest, user: User | None, read_yaml: ReadYaml
    ) -> Received | Forward | Reply:
        api = self.api
        if wire.path in (METRICS_PATH, SLIS_PATH) and wire.method in ("GET", "HEAD"):
            try:
                authorized(wire, user, api.config, api.store)
            except ApiError as error:
                return failure(error, wire)
            if wire.path == SLIS_PATH:
                text = exposition(self.health.collect, of_process=False)
            else:
                text = exposition(self._collect)
            return Reply(200, text, METRICS_TYPE)
        place = self.address, api.config, api.checks, api.store
        return receive(wire, user, read_yaml, *place, self.discovered)

    def _collect(self) -> Iterable[Any]:
        return chain(self.metrics.collect(self.api), self.fair.collect(self.api.store))

    async def _is_refreshed(self) -> bool:
        """Whether the state at hand has become newer, so that a refusal is decided again
        (LIST-14)."""
        return not self.api.store.is_current and await self.api.refreshed() is None

    async def _read_beside(self, body: bytes) -> ReadYaml:
        """A function that returns the document of a long body, which a thread has parsed
        (HTTP-21)."""
        try:
            async with self._converting:
                document = await asyncio.to_thread(_read_yaml, body)
        except ValueError as error:
            refused = error
            return lambda _: _raise(refused)
        return lambda _: document

    async def _answer(
        self,
        received: Received,
        scope: Scope,
        receive_part: Receive,
        send: Send,
        headers: Mapping[str, str],
        meter: Meter,
    ) -> None:
        api, request = self.api, received.request
        place = (scope["raw_path"], scope["query_string"])
        is_current = api.store.is_current
        refused: Response | None = None
        if not is_current and reads_latest(request):
            refused, is_current = await api.refreshed(), True
        if (
            request.verb == "list"
            and refused is None
            and (kept := self.lists.recall(place, received, api.store)) is not None
        ):
            if kept.length >= GZIP_BYTES_MIN and accepts_gzip(headers):
                kept = await self.lists.gzipped(place, kept)
            await self._send(send, kept, meter, headers)
            return
        if self.webhook is not None:
            await self.webhook.prepare(request, api)
        outcome = refused or decide(api.exchange(request))
        if not is_current and not is_final(request, outcome):
            outcome = await api.refreshed() or decide(api.exchange(request))
        if type(outcome) is Ask:
            outcome = await api.decided(outcome)
        if type(outcome) is Commit:
            answered: asyncio.Future[Response | None] = asyncio.get_running_loop().create_future()
            api.enqueue(
                request,
                outcome,
                lambda response: None if answered.done() else answered.set_result(response),
            )
            response = await answered or UNKNOWN
        elif type(outcome) is Response:
            response = outcome
        elif type(outcome) is Stream:
            self.metrics.run_long(meter, request)
            if meter.trail is not None:
                meter.trail.started()
            named = () if meter.ticket is None else meter.ticket.headers
            stream = WatchStream(self._fanout, outcome, received, scope["connection"], named)
            await stream.run(api, receive_part, send)
            return
        elif type(outcome) is Measure and api.measure is None:
            response = Response(503, status.unavailable("the nodes have not started yet"))
        elif type(outcome) is Measure:
            measured: asyncio.Future[Response | None] = asyncio.get_running_loop().create_future()
            assert api.measure is not None
            api.measure(
                request,
                lambda response: None if measured.done() else measured.set_result(response),
            )
            response = await measured or UNKNOWN
        else:
            assert type(outcome) is Connect
            if self.connect is None:
                response = Response(503, status.unavailable("the nodes have not started yet"))
            else:
                if (connection := scope.get("connection")) is not None:
                    connection.patient = True
                self.metrics.run_long(meter, request)
                if meter.trail is not None:
                    meter.trail.started()
                ended = await self.connect(outcome, scope, receive_part, send)
                if ended is None:
                    return  # It was a stream, which has ended.
                response = ended
        if meter.trail is not None and response.annotations:
            meter.trail.annotations.update(response.annotations)
        if received.form.media_type != JSON and len(response.records) > 8:
            async with self._converting:
                reply = await asyncio.to_thread(reply_to, received, response, api.clock.now())
        else:
            reply = reply_to(received, response, api.clock.now())
        if request.verb == "list" and type(outcome) is not Measure:
            self.lists.keep(place, received, response, reply, api.store)
        await self._send(send, reply, meter, headers)

    async def _send(
        self, send: Send, reply: Reply, meter: Meter, headers: Mapping[str, str]
    ) -> None:
        meter.code = reply.code
        if meter.use is not None:
            reply = evolve(reply, warnings=meter.use.warnings + reply.warnings)
        trail = meter.trail
        if trail is not None:
            trail.reply = reply
        if is_to_be_compressed(reply, headers):
            reply = await asyncio.to_thread(gzipped, reply)  # HTTP-16
        start = reply.headers()
        start.append((b"content-length", str(reply.length).encode()))
        if meter.ticket is not None:
            start += meter.ticket.headers
        if trail is not None:
            start.append((b"audit-id", trail.id.encode("latin-1", "replace")))
        await send({"type": "http.response.start", "status": reply.code, "headers": start})
        if meter.method == "HEAD":
            await send({"type": "http.response.body", "body": b""})
            return
        await send(
            {"type": "http.response.body", "body": reply.content, "more_body": bool(reply.more)}
        )
        for number, piece in enumerate(reply.more, 1):
            await send(
                {"type": "http.response.body", "body": piece, "more_body": number < len(reply.more)}
            )


def _impersonation(headers: Iterable[tuple[bytes, bytes]]) -> tuple[tuple[str, str], ...]:
    """The headers of an impersonation. Unlike others they may be repeated, and their values are
    UTF-8."""
    return tuple(
        [
            (name.decode("latin-1"), value.decode("utf-8", "replace"))
            for name, value in headers
            if name.startswith(b"impersonate-")
        ]
    )


def _with_offered_token(scope: Scope, headers: dict[str, str]) -> dict[str, str]:
    """The headers of a request for another protocol. A token among the subprotocols of a WebSocket
    is its credentials if it has no others, and is not passed on (HTTP-27)."""
    token = take_token(scope)
    if token is None:
        return headers
    kept = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    return {"authorization": f"Bearer {token}", **kept}


def _raise(error: Exception) -> Any:
    raise error


def _read_yaml(data: bytes) -> "YamlDocument":
    # imported here, because few requests have YAML
    from refk8s.components.yaml_reader import read_yaml

    return read_yaml(data)


def _user_of_certificate(connection: Connection) -> User | None:
    """The user in the client's certificate, which the handshake has verified (HTTP-18)."""
    tls = connection.transport.get_extra_info("ssl_object")
    certificate = tls.getpeercert() if tls is not None else None
    if not certificate:
        return None
    subject = [pair for name in certificate.get("subject", ()) for pair in name]
    return user_of_subject(subject, tls.getpeercert(binary_form=True))
