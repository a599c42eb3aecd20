"""The HTTP front of the API server: bytes in, bytes out, over TLS. Everything that is decided is decided in core/apiserver.

An ASGI application under uvicorn, whose care with slow and malformed clients we keep. What is asked again and again (the same method, path,
query and token) is parsed once; the rest of the way is the same for every request.
"""

import asyncio
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from refk8s.components.apiserver import ApiServer
from refk8s.components.credentials import Credentials
from refk8s.components.upgrade import EXTENSION, take_over
from refk8s.components.websocket import refusing, websocket_protocol
from refk8s.core.api import status
from refk8s.core.api.codec import encode
from refk8s.core.api.request import Response, User, WatchEvent
from refk8s.core.api.status import ApiError
from refk8s.core.api.yaml_text import YamlDocument
from refk8s.core.apiserver.accept import PLAIN_JSON
from refk8s.core.apiserver.decode import BODY_BYTES_MAX
from refk8s.core.apiserver.handle import handle
from refk8s.core.apiserver.list_text import ListText, keep, recall
from refk8s.core.apiserver.outcome import Commit, Connect, Stream
from refk8s.core.apiserver.respond import Reply, write_error, write_events
from refk8s.core.apiserver.wire import Received, WireRequest, failure, receive, reply_to, user_of

log = logging.getLogger("refk8s")

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

WATCH_BACKLOG_MAX = 10_000  # events that a slow client may be behind before its watch is ended
USERS_MAX = 4096
LISTS_MAX = 16


class Front:
    """Serves one API server. `users` are the tokens that the cluster was given."""

    def __init__(self, api: ApiServer, users: dict[str, User]) -> None:
        self.api = api
        self.users = users
        self.connect: Callable[[Connect, Scope, Receive, Send], Awaitable[Response | None]] | None = None  # streams to containers
        self._lists: dict[tuple[bytes, bytes], ListText] = {}
        self._server: _Server | None = None
        self._serving: asyncio.Task[None] | None = None

    # --- the server --------------------------------------------------------------------------------------------------

    async def serve(self, listener: socket.socket, credentials: Credentials) -> None:
        """Start to accept connections; returns when that is so."""
        config = uvicorn.Config(
            self,
            http=_Protocol,
            ws="none",
            ws_per_message_deflate=False,
            ws_ping_interval=None,  # type: ignore[arg-type]  # A client that is made to wait for a container does not answer (STREAM-3).
            lifespan="off",
            log_config=None,
            log_level="error",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=120,
            timeout_graceful_shutdown=2,
            ssl_certfile=str(credentials.certificate),
            ssl_keyfile=str(credentials.key),
        )
        config.load()
        config.ws_protocol_class = websocket_protocol  # type: ignore[assignment]
        assert config.ssl is not None
        config.ssl.minimum_version = ssl.TLSVersion.TLSv1_2
        self._server = _Server(config)
        self._serving = asyncio.create_task(self._server.run_on(listener))
        await self._server.accepting.wait()

    async def listen_also(self, listener: socket.socket) -> asyncio.Server:
        """Accept connections of another socket too, until the returned server or this front is closed."""
        assert self._server is not None
        return await self._server.listen_also(listener)

    async def close(self) -> None:
        """Stop accepting, let running requests end, close."""
        if self._server is not None and self._serving is not None:
            self._server.should_exit = True
            await self._serving

    # --- one request -------------------------------------------------------------------------------------------------

    async def __call__(self, scope: Scope, receive_part: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            method, send = "GET", refusing(send)
        elif scope["type"] == "http":
            method = scope["method"]
        else:
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        body = b""
        if method not in ("GET", "HEAD"):
            body = await _read_body(receive_part)
        try:
            received = self._receive(method, scope, headers, body)
            if type(received) is Received and scope["type"] == "websocket" and received.request.verb != "connect":
                received = failure(ApiError(status.bad_request("only streams to containers are served over a WebSocket")))
            if type(received) is not Received:
                await _send(send, received, method)  # type: ignore[arg-type]
                return
            await self._answer(received, scope, receive_part, send)
        except Exception:
            # Our own mistake: it must not take the connection along, and must not show the client our inside.
            log.exception("a request met a bug of ours: %s %s", method, scope["path"])
            await _send(send, Reply(500, _INTERNAL), method)

    def _receive(self, method: str, scope: Scope, headers: dict[str, str], body: bytes) -> Received | Reply:
        path = scope["raw_path"].decode("latin-1")
        wire = WireRequest(method, path, scope["query_string"].decode("latin-1"), headers, body)
        user = user_of(wire, self.users, self.api.config, self.api.clock.now())
        return receive(wire, user, _read_yaml, headers.get("host", ""))

    async def _answer(self, received: Received, scope: Scope, receive_part: Receive, send: Send) -> None:
        api, request = self.api, received.request
        place = (scope["raw_path"], scope["query_string"])
        kept = self._lists.get(place) if request.verb == "list" and received.form == PLAIN_JSON else None
        if kept is not None and (again := recall(kept, api.engine)) is not None:
            await _send(send, again, method_of(scope))
            return
        outcome = handle(request, api.engine, api.context(), api.config)
        if type(outcome) is Commit:
            answered: asyncio.Future[Response | None] = asyncio.get_running_loop().create_future()
            api.enqueue(request, outcome, lambda response: None if answered.done() else answered.set_result(response))
            response = await answered
            assert response is not None
        elif type(outcome) is Response:
            response = outcome
        elif type(outcome) is Stream:
            await self._watch(outcome, received, receive_part, send)
            return
        else:
            assert type(outcome) is Connect
            if self.connect is None:
                response = Response(503, status.unavailable("the nodes have not started yet"))
            else:
                ended = await self.connect(outcome, scope, receive_part, send)
                if ended is None:
                    return  # It was a stream, and is over.
                response = ended
        reply = reply_to(received, response, api.clock.now())
        if request.verb == "list" and (text := keep(received, response, reply, api.engine)) is not None:
            self._lists[place] = text
            if len(self._lists) > LISTS_MAX:
                del self._lists[next(iter(self._lists))]  # the one that was first kept
        await _send(send, reply, method_of(scope))

    async def _watch(self, stream: Stream, received: Received, receive_part: Receive, send: Send) -> None:
        """Lines as things happen, until the client leaves, the time is over, or the server stops."""
        api, form, resource = self.api, received.form, received.request.resource
        waiting: list[WatchEvent] = []
        news = asyncio.Event()
        ended: list[int] = []

        def deliver(events: tuple[WatchEvent, ...]) -> None:
            waiting.extend(events)
            news.set()

        def end(code: int) -> None:
            ended.append(code)
            news.set()

        close = api.open(stream, deliver, end)
        gone = asyncio.ensure_future(_until_gone(receive_part, news))
        columns = True
        headers = Reply(200, b"", warnings=received.warnings).headers()
        try:
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": b"", "more_body": True})
            while not gone.done():
                if not waiting and not ended:
                    await news.wait()
                news.clear()
                if len(waiting) > WATCH_BACKLOG_MAX:
                    break  # too slow: the client lists again, as it must be able to
                if waiting:
                    events, waiting[:] = tuple(waiting), ()
                    include = received.target.include_object
                    lines = write_events(events, form, resource, api.clock.now(), include_object=include, columns=columns)
                    columns = False
                    await send({"type": "http.response.body", "body": lines, "more_body": True})
                elif ended:
                    if ended[0] == 410:
                        said = write_error(status.expired("the revision that this watch stood at is compacted"))
                        await send({"type": "http.response.body", "body": said, "more_body": True})
                    break
            await send({"type": "http.response.body", "body": b""})
        finally:
            close()
            gone.cancel()


class _Protocol(HttpToolsProtocol):
    """What is no HTTP (an unknown method, a broken header) is answered in the API's own form too."""

    def send_400_response(self, msg: str) -> None:
        content = encode(status.bad_request("the request is no HTTP/1.1 that this server understands"))
        head = f"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: {len(content)}\r\nconnection: close\r\n\r\n"
        self.transport.write(head.encode() + content)
        self.transport.close()

    def on_headers_complete(self) -> None:
        """A connection that asks to become SPDY can be taken over by whoever answers; without that, it ends with its answer (STREAM-4)."""
        upgrades = self.parser.should_upgrade()
        if upgrades:
            self.scope["extensions"] = {EXTENSION: partial(take_over, self)}
        super().on_headers_complete()
        if upgrades and self.cycle is not None:
            self.cycle.keep_alive = False

    def _unsupported_upgrade_warning(self) -> None:
        """Nothing is wrong: the request is answered as if it had not asked."""


class _Server(uvicorn.Server):
    """uvicorn without its own handling of signals: the order of stopping is ours (run.py)."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.accepting = asyncio.Event()

    async def run_on(self, listener: socket.socket) -> None:
        self.lifespan = self.config.lifespan_class(self.config)
        await self.startup(sockets=[listener])
        self.accepting.set()
        await self.main_loop()
        await self.shutdown(sockets=[listener])

    async def listen_also(self, listener: socket.socket) -> asyncio.Server:
        """As `startup` does with the first."""
        config = self.config

        def protocol() -> asyncio.Protocol:
            return config.http_protocol_class(  # type: ignore[call-arg]
                config=config, server_state=self.server_state, app_state=self.lifespan.state, _loop=None
            )

        server = await asyncio.get_running_loop().create_server(protocol, sock=listener, ssl=config.ssl, backlog=config.backlog)
        self.servers.append(server)
        return server


_INTERNAL = (
    b'{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"Internal error occurred: the server has logged it",'
    b'"reason":"InternalError","code":500}'
)


def _read_yaml(data: bytes) -> YamlDocument:
    # Imported here: few clusters are ever sent YAML.
    from refk8s.components.yaml_reader import read_yaml

    return read_yaml(data)


def method_of(scope: Scope) -> str:
    """The method of a request; who asks for a WebSocket has said GET."""
    return str(scope.get("method", "GET"))


async def _read_body(receive_part: Receive) -> bytes:
    """The whole body; of one that is too large, one byte too many and no more."""
    message = await receive_part()
    body: bytes = message.get("body", b"")
    if not message.get("more_body"):
        return body
    parts, length = [body], len(body)
    while message.get("more_body"):
        message = await receive_part()
        part = message.get("body", b"")
        if length <= BODY_BYTES_MAX:
            parts.append(part)
        length += len(part)
    return b"".join(parts)


async def _until_gone(receive_part: Receive, news: asyncio.Event) -> None:
    while (await receive_part())["type"] != "http.disconnect":
        pass
    news.set()


async def _send(send: Send, reply: Reply, method: str) -> None:
    headers = reply.headers()
    headers.append((b"content-length", str(reply.length).encode()))
    await send({"type": "http.response.start", "status": reply.code, "headers": headers})
    if method == "HEAD":
        await send({"type": "http.response.body", "body": b""})
        return
    await send({"type": "http.response.body", "body": reply.content, "more_body": bool(reply.more)})
    for number, piece in enumerate(reply.more, 1):
        await send({"type": "http.response.body", "body": piece, "more_body": number < len(reply.more)})
