"""A real API server on a loopback port, and a proxy before it that cuts connections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from attrs import define, field

from refk8s.components.apiserver import ApiServer
from refk8s.components.client.http_api import HttpApi
from refk8s.components.clock import Clock
from refk8s.components.credentials import Credentials, load_credentials
from refk8s.components.http import Front
from refk8s.components.listening import listen
from refk8s.core.api import resources
from refk8s.core.api.core_v1 import Namespace
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.request import Request, Response
from refk8s.core.api.user import ADMIN
from refk8s.core.apiserver.config import Config
from refk8s.core.apiserver.lifecycle import stamp
from refk8s.core.client.kubeconfig import Access, Pem
from refk8s.core.context import SECOND, Context, Instant, SeededChance
from refk8s.store.local import LocalStore
from refk8s.store.memory import MemoryEngine

START = 1_700_000_000 * SECOND


@cache
def credentials() -> Credentials:
    """Made once for all tests of a process."""
    return load_credentials(Path(mkdtemp(prefix="refk8s-test-")) / "pki", ("127.0.0.1",))


class SteadyApiServer(ApiServer):
    """An API server whose decisions depend on the state alone, so that two of them can be
    compared."""

    def context(self, now: Instant | None = None) -> Context:
        revision = self.store.revision
        return Context(START + revision * SECOND, SeededChance(revision.to_bytes(8, "big")))


async def a_steady_server() -> ApiServer:
    """With the namespaces that the steps of api_world need."""
    config = Config(users={credentials().admin_token: ADMIN})
    api = SteadyApiServer(LocalStore(MemoryEngine(stamp)), Clock(), config)
    for name in ("default", "other"):
        body = Namespace(metadata=ObjectMeta(name=name))
        await asked(api, Request("create", resources.NAMESPACES, body=body, user=ADMIN))
    return api


async def asked(api: Any, request: Request, seconds: float = 20) -> Response | None:
    """The response; a test fails if there is none in time."""
    answered: asyncio.Future[Response | None] = asyncio.get_running_loop().create_future()
    api.submit(request, answered.set_result)
    return await asyncio.wait_for(answered, seconds)


@define
class Cut:
    """After how many bytes a connection ends; None: never. `late`: of the answer, only those count
    that come when a request has been sent."""

    sent: int | None = None
    answered: int | None = None
    late: bool = False


REQUEST_BYTES = 800
"""More than a client sends in a TLS handshake, and less than with a request."""


@define(slots=False)
class Cutter:
    """Passes connections on to a server. The next ones are cut as `cuts` says."""

    port: int
    cuts: list[Cut] = field(factory=list)
    open: int = 0
    open_max: int = 0

    async def listen(self) -> int:
        self._server = await asyncio.start_server(self._pass, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    def close(self) -> None:
        self._server.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        cut = self.cuts.pop(0) if self.cuts else Cut()
        self.open += 1
        self.open_max = max(self.open, self.open_max)
        sent = 0
        there = await asyncio.open_connection("127.0.0.1", self.port)

        async def copy(
            source: asyncio.StreamReader, to: asyncio.StreamWriter, limit: int | None, counts: bool
        ) -> None:
            passed = 0
            nonlocal sent
            while limit is None or passed < limit:
                data = await source.read(1 << 16)
                if not data:
                    return
                if counts and cut.late and sent < REQUEST_BYTES:
                    to.write(data)
                    continue
                data = data if limit is None else data[: limit - passed]
                passed += len(data)
                to.write(data)
                if not counts:
                    sent = passed
                await to.drain()

        copies = [
            asyncio.ensure_future(copy(reader, there[1], cut.sent, False)),
            asyncio.ensure_future(copy(there[0], writer, cut.answered, True)),
        ]
        try:
            await asyncio.wait(copies, return_when=asyncio.FIRST_COMPLETED)
            if copies[0].done() and cut.sent is not None:
                await asyncio.sleep(0.005)  # the server handles what it has got
        finally:
            for each in copies:
                each.cancel()
            await asyncio.gather(*copies, return_exceptions=True)
            self.open -= 1
            for end in (writer, there[1]):
                end.transport.abort()


def access(port: int, **more: Any) -> Access:
    """The administrator's, at this port."""
    return Access(
        **{
            "server": f"https://127.0.0.1:{port}",
            "authority": Pem(str(credentials().authority)),
            "token": credentials().admin_token,
            **more,
        }
    )


@define
class Loopback:
    """An API server, the client of it, and what is between them."""

    api: ApiServer
    client: HttpApi
    cutter: Cutter
    front: Front


@asynccontextmanager
async def loopback(api: ApiServer, **more: Any) -> AsyncIterator[Loopback]:
    """Serve the API, and connect to it."""
    front = Front(api)
    socket = listen("127.0.0.1", 0)
    await front.serve(socket, credentials())
    cutter = Cutter(socket.getsockname()[1])
    port = await cutter.listen()
    client = HttpApi(access(port, **more), "tester/v1", Clock())
    try:
        yield Loopback(api, client, cutter, front)
    finally:
        client.close()
        cutter.close()
        api.stop()
        await front.close()


@define(slots=False)
class Scripted:
    """A server without TLS that answers each request with the next text of a script: an answer as
    bytes, None to say nothing, or bytes in a tuple after which the connection is closed."""

    script: list[Any]
    requests: list[bytes] = field(factory=list)
    connections: int = 0
    open: int = 0

    async def listen(self) -> str:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def close(self) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    (
                        int(line.partition(b":")[2])
                        for line in head.split(b"\r\n")
                        if line.lower().startswith(b"content-length")
                    ),
                    0,
                )
                self.requests.append(head + await reader.readexactly(length))
                said = self.script.pop(0)
                if isinstance(said, tuple):
                    writer.write(said[0])
                    await writer.drain()
                    break
                if said is not None:
                    writer.write(said)
        except (asyncio.IncompleteReadError, ConnectionError, IndexError, asyncio.CancelledError):
            pass
        self.open -= 1
        writer.close()


def an_answer(code: int, body: bytes = b"{}", *headers: str) -> bytes:
    """An answer of HTTP/1.1 as bytes."""
    lines = [f"HTTP/1.1 {code} X", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@asynccontextmanager
async def scripted(*script: Any, **more: Any) -> AsyncIterator[tuple[Scripted, HttpApi]]:
    """A server with this script, and a client of it."""
    server = Scripted(list(script))
    client = HttpApi(Access(await server.listen(), **more), "tester/v1", Clock())
    try:
        yield server, client
    finally:
        client.close()
        server.close()
