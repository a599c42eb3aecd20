"""Streams of the engine in the event loop: logs, exec and attach, without a thread for each.

The client library's streams block a thread each, and can lose data that arrives with the headers.
So this module is its own HTTP client. httptools parses the answers; after "101 Switching Protocols"
a connection has raw bytes in both directions. Rule STREAM-2: the variable parts of a path are ids
of hexadecimal digits or are percent-encoded, so they cannot change the path.

Source: Docker Engine API, "Attach to a container" (hijacking, stream format).
"""

import asyncio
import contextlib
import json
import os
import re
import ssl
import struct
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any

import httptools

from refk8s.adapters.docker.engine.location import engine_host

STDOUT, STDERR = 1, 2
CHUNK_BYTES = 1 << 16
ANSWER_BYTES_MAX = 1 << 24
"""The longest JSON answer or error message."""


class StreamRefused(Exception):
    """The engine rejected a stream."""

    def __init__(self, code: int, words: str) -> None:
        super().__init__(words)
        self.code = code
        self.words = words


_ID = re.compile(r"[0-9a-f]{12,64}")
_PATH = re.compile(r"/[A-Za-z0-9_~%./-]*(\?[A-Za-z0-9_~%.,:=&+*-]*)?")


def engine_id(id: str) -> str:
    """An id of the engine, which is safe in a path (STREAM-2). Raises StreamRefused otherwise."""
    if not _ID.fullmatch(id):
        raise StreamRefused(400, "the id is not one of the container engine's")
    return id


def _checked(path: str) -> str:
    if not _PATH.fullmatch(path) or ".." in path:
        raise StreamRefused(400, "the path is not one of the container engine's")
    return path


class EngineSilent(OSError):
    """The engine does not accept connections. Differs from a pod's port that refuses one."""


class _Answer:
    """Receives the parts of an answer from httptools."""

    def __init__(self) -> None:
        self.parser = httptools.HttpResponseParser(self)
        self.code = 0
        self.body: list[bytes] = []
        self.version = ""
        self.has_headers = False
        self.complete = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"api-version":
            self.version = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self.code = self.parser.get_status_code()
        self.has_headers = True

    def on_body(self, body: bytes) -> None:
        self.body.append(body)

    def on_message_complete(self) -> None:
        self.complete = True

    def take(self) -> bytes:
        data, self.body = b"".join(self.body), []
        return data


class Streams:
    """Opens streams of one engine."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self._environment = os.environ if environment is None else environment
        self._host = engine_host(self._environment)
        self._prefix: str | None = None  # the API version, such as "/v1.41"

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        kind, _, place = self._host.partition("://")
        try:
            if kind == "unix":
                return await asyncio.open_unix_connection(place)
            host, _, port = place.rstrip("/").rpartition(":")
            return await asyncio.open_connection(host.strip("[]"), int(port), ssl=self._tls())
        except OSError as error:
            raise EngineSilent(str(error)) from None

    def _tls(self) -> ssl.SSLContext | None:
        if not self._environment.get("DOCKER_TLS_VERIFY") and not self._host.startswith("https"):
            return None
        folder = self._environment.get("DOCKER_CERT_PATH") or os.path.expanduser("~/.docker")
        context = ssl.create_default_context(cafile=os.path.join(folder, "ca.pem"))
        with contextlib.suppress(FileNotFoundError):
            context.load_cert_chain(
                os.path.join(folder, "cert.pem"), os.path.join(folder, "key.pem")
            )
        return context

    async def _version(self) -> str:
        """The API version as the prefix of every path.

        An engine rejects versions that are too old, so its own version is requested once.
        """
        if self._prefix is None:
            reader, writer = await self._connect()
            try:
                writer.write(b"GET /_ping HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n")
                answer = _Answer()
                while not answer.complete and (data := await reader.read(CHUNK_BYTES)):
                    answer.parser.feed_data(data)
            finally:
                writer.close()
            self._prefix = f"/v{answer.version}" if answer.version else ""
        return self._prefix

    @staticmethod
    def _head(method: str, path: str, body: bytes, upgrade: bool) -> bytes:
        lines = [
            f"{method} {_checked(path)} HTTP/1.1",
            "Host: docker",
            f"Content-Length: {len(body)}",
            "Content-Type: application/json",
        ]
        lines += ["Connection: Upgrade", "Upgrade: tcp"] if upgrade else ["Connection: close"]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body

    async def ask(self, method: str, path: str, body: Any = None) -> Any:
        """One request with a JSON answer. Raises StreamRefused with the engine's message."""
        data = b""
        async with contextlib.aclosing(await self.read(method, path, body)) as parts:
            async for part in parts:
                data += part
                if len(data) > ANSWER_BYTES_MAX:
                    raise StreamRefused(0, "the engine's answer is too long")
        return json.loads(data) if data else None

    async def read(self, method: str, path: str, body: Any = None) -> AsyncGenerator[bytes, None]:
        """The body of an answer; this returns when the body has begun. Raises StreamRefused if the
        engine rejects the request. The caller closes a body that it does not read to its end."""
        path = _checked(await self._version() + path)
        reader, writer = await self._connect()
        try:
            writer.write(
                self._head(method, path, b"" if body is None else json.dumps(body).encode(), False)
            )
            answer = _Answer()
            refusal = b""
            while not answer.complete and not (answer.has_headers and answer.code < 400):
                data = await reader.read(CHUNK_BYTES)
                if not data:
                    break
                answer.parser.feed_data(data)
                refusal += answer.take() if answer.code >= 400 else b""
                if len(refusal) > CHUNK_BYTES:
                    break
            if answer.code >= 400 or not answer.has_headers:
                raise StreamRefused(answer.code, words_of(refusal))
        except BaseException:
            writer.close()
            raise
        return _body(reader, writer, answer)

    async def open(self, path: str, body: Any = None) -> "Conversation":
        """A connection that the engine hands over. Raises StreamRefused with its message."""
        path = _checked(await self._version() + path)
        reader, writer = await self._connect()
        try:
            writer.write(
                self._head("POST", path, b"" if body is None else json.dumps(body).encode(), True)
            )
            head = await reader.readuntil(b"\r\n\r\n")
            code = int(head.split(b" ", 2)[1])
            if code not in (101, 200):
                raise StreamRefused(code, words_of(await reader.read(CHUNK_BYTES)))
            return Conversation(reader, writer)
        except BaseException:
            writer.close()
            raise


async def _body(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: _Answer
) -> AsyncGenerator[bytes, None]:
    """The rest of an answer. It is read from the engine only as fast as the caller reads it."""
    try:
        while True:
            if answer.body:
                yield answer.take()
            if answer.complete or not (data := await reader.read(CHUNK_BYTES)):
                return
            answer.parser.feed_data(data)
    finally:
        writer.close()


def words_of(data: bytes) -> str:
    """The message in the body of an error."""
    try:
        return str(json.loads(data)["message"])
    except (ValueError, KeyError, TypeError):
        return data.decode("utf-8", "replace").strip() or "the engine ended the connection"


class Conversation:
    """Bytes to and from a program in a container. Without a terminal its output comes in frames,
    which distinguish stdout and stderr."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def output(self, terminal: bool) -> AsyncIterator[tuple[int, bytes]]:
        """(STDOUT or STDERR, bytes) until it ends; a terminal has only one stream."""
        while True:
            if terminal:
                data = await self._reader.read(CHUNK_BYTES)
                if not data:
                    return
                yield STDOUT, data
                continue
            try:
                header = await self._reader.readexactly(8)
                kind, length = struct.unpack(">BxxxI", header)
                while length:
                    data = await self._reader.read(min(length, CHUNK_BYTES))
                    if not data:
                        return
                    length -= len(data)
                    yield (STDERR if kind == STDERR else STDOUT), data
            except (asyncio.IncompleteReadError, ConnectionError):
                return

    async def write(self, data: bytes) -> None:
        """Write to its stdin."""
        self._writer.write(data)
        await self._writer.drain()

    def end_input(self) -> None:
        """Close the input."""
        if self._writer.can_write_eof():
            with contextlib.suppress(OSError):
                self._writer.write_eof()

    def close(self) -> None:
        self._writer.close()


# --- frames of a log ------------------------------------------------------------------------------


class Frames:
    """Parses the frames of a stream that arrives in pieces of any size. Keeps less than one header,
    whatever the length of a frame."""

    def __init__(self) -> None:
        self._header = b""
        self._kind = STDOUT
        self._left = 0  # bytes of the frame that are still to come

    def take(self, data: bytes) -> list[tuple[int, bytes]]:
        """The (stream, bytes) in this piece; a long frame comes in several parts."""
        found, at = [], 0
        while at < len(data):
            if not self._left:
                missing = 8 - len(self._header)
                self._header += data[at : at + missing]
                at += missing
                if len(self._header) == 8:
                    self._kind, self._left = struct.unpack(">BxxxI", self._header)
                    self._header = b""
                continue
            part = data[at : at + self._left]
            found.append((self._kind, part))
            self._left -= len(part)
            at += len(part)
        return found
