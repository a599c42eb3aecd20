"""The proxy subresources of pods, services and nodes: passes a request on and its answer back.
Rules STREAM-11 ... STREAM-16.

core/apiserver/proxy.py chooses the destination and computes the headers. A connection to a pod is
made by the kubelet of its node to the address that the runtime has for it, so no API object can
lead it elsewhere (STREAM-14).
"""

import asyncio
import contextlib
import ssl
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any

from refk8s.components.apiserver import ApiServer
from refk8s.components.asgi import Receive, Scope, Send
from refk8s.components.client.exchange import CHUNK_BYTES, Answer, BadAnswer, ask
from refk8s.components.destinations import Destination, Destinations
from refk8s.components.upgrade import EXTENSION
from refk8s.core.api import status
from refk8s.core.api.core_v1 import Node, Pod
from refk8s.core.api.request import Request, Response
from refk8s.core.api.resources import NODES, PODS
from refk8s.core.api.status import ApiError
from refk8s.core.apiserver.proxy import (
    Named,
    Origin,
    compute_headers,
    compute_request,
    rest_of,
    split_name,
)
from refk8s.core.apiserver.proxy_links import Place, rewrite_html, rewrite_url
from refk8s.core.client.kubelet import DEFAULT_PORT
from refk8s.core.ports import Kubelet, StreamFailed

if TYPE_CHECKING:
    from refk8s.components.kubelet.remote import RemoteKubelet
    from refk8s.components.kubelet.server import KubeletServer

PROXIED_MAX = 512
"""The most requests that one API server passes on at a time."""
HTML_BYTES_MAX = 1 << 20
"""The longest document whose links are rewritten."""
HTML_BYTES_INLINE = 1 << 14
TLS_SECONDS = 10.0


class Proxy:
    """Handles the requests for the subresource `proxy`."""

    def __init__(
        self,
        api: ApiServer,
        kubelet_of: Callable[[Pod], Awaitable[Kubelet]],
        find_remote: "Callable[[Node], Awaitable[RemoteKubelet]] | None",
    ) -> None:
        self._destinations = Destinations(api, kubelet_of)
        self._find_remote = find_remote
        self.local: KubeletServer | None = None
        """The nodes of this process."""
        self._open = 0
        self._unverified = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._unverified.check_hostname = False
        self._unverified.verify_mode = ssl.CERT_NONE

    async def __call__(
        self, request: Request, scope: Scope, receive: Receive, send: Send
    ) -> Response | None:
        """Pass the request on. An answer that is the API server's own is returned."""
        connection = scope.get("connection")
        if connection is not None:
            connection.deadline = None  # a body may take as long as the destination reads it
        kind = request.resource.singular
        named = split_name(request.name, kind)
        rest = rest_of(scope["raw_path"])
        if rest is None:
            raise ApiError(status.path_not_found())
        upgrade = wanted(scope)
        query = scope["query_string"].decode("latin-1")
        if not rest and scope["method"] in ("GET", "HEAD") and not upgrade:
            await _redirect(scope, query, send)
            return None
        if self._open >= PROXIED_MAX:
            raise ApiError(status.too_many_requests("too many requests are being passed on"))
        self._open += 1
        try:
            path = rest or "/"
            if request.resource == NODES:
                found = await self._node(named, path, scope, receive, send)
                if found is None:
                    return None
            elif request.resource == PODS:
                found = await self._destinations.of_pod(request.namespace, named)
            else:
                found = await self._destinations.of_service(request.namespace, named)
            target = f"{path}?{query}" if query else path
            await self._pass(found, target, upgrade, scope, receive, send)
        finally:
            self._open -= 1
        return None

    # --- the destination

    async def _node(
        self, named: Named, path: str, scope: Scope, receive: Receive, send: Send
    ) -> Destination | None:
        """The kubelet of the node; None if it is in this process and has answered."""
        node: Node = self._destinations.get(NODES, "", named.name)
        endpoints = node.status.daemon_endpoints if node.status is not None else None
        reported = endpoints.kubelet_endpoint if endpoints is not None else None
        if named.port not in ("", str(DEFAULT_PORT), str(reported.port if reported else 0)):
            words = f"port {status.show(named.port)} of a node is not that of its kubelet"
            raise ApiError(status.bad_request(words))
        if self.local is not None and self.local.has(named.name):
            await self.local.serve_local(named.name, path, scope, receive, send)
            return None
        if self._find_remote is None:
            raise StreamFailed(f"this server reaches no kubelet of another process: {named.name}")
        kubelet = await self._find_remote(node)
        return Destination(kubelet.dial_port, kubelet.host, has_own_host=True)

    # --- the request and its answer

    async def _pass(
        self,
        to: Destination,
        target: str,
        upgrade: bytes,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        body = ClientBody(receive, is_chunked(scope))
        await while_present(self._exchange(to, target, upgrade, scope, body, send), body)

    async def _exchange(
        self,
        to: Destination,
        target: str,
        upgrade: bytes,
        scope: Scope,
        body: "ClientBody",
        send: Send,
    ) -> None:
        headers = list(scope["headers"])
        if to.has_own_host:
            headers = [(name, value) for name, value in headers if name != b"host"]
            headers.append((b"host", to.host.encode("latin-1")))
        place = _place(to, scope)
        client = (scope.get("client") or ("",))[0]
        origin = Origin(client, place.host, place.prefix)
        head = compute_request(scope["method"], target, headers, origin, upgrade)
        try:
            streams = await to.connect()
            if to.is_tls:
                await _start_tls(streams[1], self._unverified)
            answer = await ask(streams, head, None if upgrade else body.parts())
        except (OSError, StreamFailed) as error:
            why = (getattr(error, "strerror", None) or str(error)).lower()
            raise ApiError(status.unavailable(f"error trying to reach service: {why}")) from None
        try:
            if answer.code == 101 and upgrade:
                await splice(answer, scope)
            else:
                await relay(answer, scope, send, place)
        finally:
            answer.close()


async def while_present(passing: Coroutine[Any, Any, None], body: "ClientBody") -> None:
    """Pass a request on until it is answered or its client has left."""
    exchange = asyncio.ensure_future(passing)
    leaving = asyncio.ensure_future(body.left())
    try:
        await asyncio.wait((exchange, leaving), return_when=asyncio.FIRST_COMPLETED)
        if exchange.done():
            exchange.result()
    finally:
        for task in (exchange, leaving):
            task.cancel()
        await asyncio.gather(exchange, leaving, return_exceptions=True)


class ClientBody:
    """The body of a client's request, as it arrives."""

    def __init__(self, receive: Receive, is_chunked: bool) -> None:
        self._receive = receive
        self._is_chunked = is_chunked
        self._has_ended = asyncio.Event()
        self._has_left = False

    async def parts(self) -> AsyncGenerator[bytes, None]:
        """The parts to send. Ends early if the client has left."""
        try:
            while True:
                message = await self._receive()
                if message["type"] != "http.request":
                    self._has_left = True
                    return
                if part := message.get("body", b""):
                    yield b"%x\r\n%b\r\n" % (len(part), part) if self._is_chunked else part
                if not message.get("more_body", False):
                    break
            if self._is_chunked:
                yield b"0\r\n\r\n"
        finally:
            self._has_ended.set()

    async def left(self) -> None:
        """Wait until the client has left."""
        await self._has_ended.wait()
        while not self._has_left:
            self._has_left = (await self._receive())["type"] != "http.request"


def is_chunked(scope: Scope) -> bool:
    return any(name == b"transfer-encoding" for name, _ in scope["headers"])


def wanted(scope: Scope) -> bytes:
    """The protocol that the client wants to change to; empty if it does not."""
    if EXTENSION not in (scope.get("extensions") or {}):
        return b""
    return next((value for name, value in scope["headers"] if name == b"upgrade"), b"")


def _place(to: Destination, scope: Scope) -> Place:
    host = next((value for name, value in scope["headers"] if name == b"host"), b"")
    path = scope["raw_path"].decode("latin-1")
    rest = rest_of(scope["raw_path"]) or ""
    return Place(path.removesuffix(rest), host.decode("latin-1"), to.host)


async def _start_tls(writer: asyncio.StreamWriter, context: ssl.SSLContext) -> None:
    """TLS without verification, as upstream: the pod has no certificate of the cluster."""
    try:
        async with asyncio.timeout(TLS_SECONDS):
            await writer.start_tls(context)
    except BaseException as error:
        writer.transport.abort()
        if isinstance(error, TimeoutError):
            raise OSError("no TLS handshake in time") from None
        raise


async def _redirect(scope: Scope, query: str, send: Send) -> None:
    """The root of a destination ends with a slash, for relative links (STREAM-11)."""
    location = scope["raw_path"] + b"/" + (f"?{query}".encode("latin-1") if query else b"")
    headers = [(b"location", location), (b"content-length", b"0")]
    await send({"type": "http.response.start", "status": 301, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


async def relay(answer: Answer, scope: Scope, send: Send, place: Place | None = None) -> None:
    """Send the answer to the client. One that breaks off breaks off for the client too. `place`:
    links in the answer that lead to the destination are to lead there."""
    if not 200 <= answer.code < 600:
        words = f"error trying to reach service: it answers {answer.code}"
        raise ApiError(status.unavailable(words))
    headers = compute_headers(answer.headers)
    location = answer.header(b"location")
    if location and place is not None:
        moved = rewrite_url(location.decode("latin-1"), place).encode("latin-1", "replace")
        headers = [(name, moved if name == b"location" else value) for name, value in headers]
    has_begun = False

    async def begin(length: int | None = None) -> None:
        nonlocal has_begun
        has_begun = True
        own = headers
        if length is not None:
            own = [pair for pair in headers if pair[0] not in (b"content-length", b"etag")]
            own.append((b"content-length", str(length).encode()))
        await send({"type": "http.response.start", "status": answer.code, "headers": own})

    async def more(part: bytes) -> None:
        await send({"type": "http.response.body", "body": part, "more_body": True})

    try:
        async with contextlib.aclosing(answer.body()) as parts:
            has_document = not location and scope["method"] != "HEAD"
            if place is not None and has_document and _is_html(answer):
                await _relay_html(answer, parts, place, begin, more)
            else:
                await begin()
                async for part in parts:
                    await more(part)
        await send({"type": "http.response.body", "body": b""})
    except (BadAnswer, RuntimeError) as error:
        if not has_begun:
            words = f"error trying to reach service: {error}"
            raise ApiError(status.unavailable(words)) from None
        scope["connection"].transport.abort()


def _is_html(answer: Answer) -> bool:
    kind = answer.header(b"content-type").partition(b";")[0].strip().lower()
    encoding = answer.header(b"content-encoding").strip().lower()
    return kind == b"text/html" and encoding in (b"", b"identity", b"gzip")


async def _relay_html(
    answer: Answer,
    parts: AsyncIterator[bytes],
    place: Place,
    begin: Callable[[int | None], Awaitable[None]],
    more: Callable[[bytes], Awaitable[None]],
) -> None:
    """Rewrite the links of a document up to a length; a longer one is passed on as it is."""
    data = b""
    async for part in parts:
        data += part
        if len(data) > HTML_BYTES_MAX:
            await begin(None)
            await more(data)
            async for rest in parts:
                await more(rest)
            return
    is_gzip = answer.header(b"content-encoding").strip().lower() == b"gzip"
    if len(data) > HTML_BYTES_INLINE:
        changed = await asyncio.to_thread(_rewrite, data, is_gzip, place)
    else:
        changed = _rewrite(data, is_gzip, place)
    await begin(len(changed))
    await more(changed)


def _rewrite(data: bytes, is_gzip: bool, place: Place) -> bytes:
    text = data
    if is_gzip:
        try:
            reading = zlib.decompressobj(31)
            text = reading.decompress(data, HTML_BYTES_MAX)
            if not reading.eof:
                return data
        except zlib.error:
            return data
    # as surrogates, bytes in any encoding stay what they are
    changed = rewrite_html(text.decode("utf-8", "surrogateescape"), place)
    result = changed.encode("utf-8", "surrogateescape")
    if not is_gzip:
        return result
    writing = zlib.compressobj(wbits=31)
    return writing.compress(result) + writing.flush()


async def splice(answer: Answer, scope: Scope) -> None:
    """Copy both directions of a changed protocol until one side ends."""
    lines = [b"HTTP/1.1 101 Switching Protocols", b"connection: Upgrade"]
    lines.append(b"upgrade: " + answer.header(b"upgrade"))
    lines += [name + b": " + value for name, value in compute_headers(answer.headers)]
    reader, writer = scope["extensions"][EXTENSION](b"\r\n".join(lines) + b"\r\n\r\n")

    async def outward() -> None:
        while data := await reader.read(CHUNK_BYTES):
            answer.writer.write(data)
            await answer.writer.drain()

    async def inward() -> None:
        async for data in answer.after_upgrade():
            writer.write(data)
            await writer.drain()

    tasks = [asyncio.ensure_future(outward()), asyncio.ensure_future(inward())]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        writer.close()
