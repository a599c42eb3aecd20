"""A request that has arrived as far as its headers, and one that is answered without uvicorn's
cycle. Rules HTTP-1, HTTP-26 (spec/http.md)."""

import asyncio
from typing import Any
from urllib.parse import unquote

import httptools
from msgspec import Struct

from refk8s.core.api.codec import encode
from refk8s.core.api.meta_v1 import Status


class Head(Struct):
    """A request line and headers, and as much of the body as came with them."""

    method: str
    url: bytes
    headers: list[tuple[bytes, bytes]]
    keep_alive: bool
    version: str
    expects_continue: bool
    body: bytes = b""
    is_whole: bool = False


class Answering:
    """A request that is answered without uvicorn's cycle: what a connection asks of its cycle."""

    __slots__ = ("_turn", "data", "disconnected", "keep_alive", "response_complete")
    response_started = False

    def __init__(self, *, is_complete: bool = False) -> None:
        self.disconnected = False
        self.keep_alive = True
        self.response_complete = is_complete
        self.data = b""  # of a complete answer that waits for the answers before it
        self._turn: asyncio.Future[None] | None = None

    async def woken(self) -> None:
        """Wait for `wake`."""
        self._turn = asyncio.get_running_loop().create_future()
        await self._turn

    def wake(self) -> None:
        """Its turn may have come (HTTP-28)."""
        if self._turn is not None and not self._turn.done():
            self._turn.set_result(None)

    @property
    def message_event(self) -> "Answering":
        """Nothing waits for more of this request."""
        return self

    def set(self) -> None:
        """Nothing waits, as an event."""


ANSWERED: Any = Answering(is_complete=True)


def scope_of(connection: Any, head: Head) -> Any:
    """The scope of the request. Raises HttpParserError or ValueError for an invalid URL."""
    url, scope = httptools.parse_url(head.url), dict[str, Any]()
    if url.path is None:
        raise ValueError("a URL without a path")
    path = url.path.decode("ascii")
    scope["type"], scope["http_version"] = "http", head.version
    scope["asgi"] = {"version": connection.asgi_version, "spec_version": "2.3"}
    scope["server"], scope["client"], scope["scheme"] = (
        connection.server,
        connection.client,
        connection.scheme,
    )
    scope["root_path"], scope["state"] = "", {}
    scope["method"], scope["headers"] = head.method, head.headers
    scope["path"] = unquote(path) if "%" in path else path
    scope["raw_path"], scope["query_string"] = url.path, url.query or b""
    scope["connection"] = connection
    return scope


def refusal(said: Status) -> bytes:
    """An answer that ends the connection, as bytes."""
    content = encode(said) + b"\n"
    code = said.code or 500
    head = (
        f"HTTP/1.1 {code} {said.reason}\r\ncontent-type: application/json\r\ncontent-length: "
        f"{len(content)}\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + content
