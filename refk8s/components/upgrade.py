"""Upgrades a connection from HTTP to another protocol: takes the transport from uvicorn as a pair
of streams.

Rule STREAM-4. Reads and writes have back-pressure, as asyncio's streams do, so buffers are bounded.
"""

import asyncio
from typing import Any

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]

EXTENSION = "refk8s.upgrade"
"""In the extensions of an upgrade request: a function that answers with a head and returns the
streams."""
READ_BYTES_MAX = 1 << 16


def wanted_upgrade(scope: dict[str, Any]) -> str:
    """The protocol that the request upgrades to, in lower case; empty if unsupported."""
    if EXTENSION not in (scope.get("extensions") or {}):
        return ""
    return next(
        (
            value.decode("latin-1").strip().lower()
            for name, value in scope["headers"]
            if name == b"upgrade"
        ),
        "",
    )


def offered_versions(scope: dict[str, Any]) -> tuple[str, ...]:
    """The versions of the subprotocol in SPDY that the client offers, in its order."""
    values = [
        value.decode("latin-1")
        for name, value in scope["headers"]
        if name == b"x-stream-protocol-version"
    ]
    return tuple(
        [version.strip() for value in values for version in value.split(",") if version.strip()]
    )


def spdy_head(version: str) -> bytes:
    """The answer that upgrades to SPDY with this version of the subprotocol (empty: none)."""
    lines = ["HTTP/1.1 101 Switching Protocols", "Connection: Upgrade", "Upgrade: SPDY/3.1"]
    lines += [f"X-Stream-Protocol-Version: {version}"] if version else []
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def take_over(protocol: Any, head: bytes) -> Streams:
    """Answer with this head; returns the streams."""
    transport = protocol.transport
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=READ_BYTES_MAX, loop=loop)
    streams = asyncio.StreamReaderProtocol(reader, loop=loop)
    protocol.connections.discard(protocol)
    protocol.cycle.disconnected = True  # uvicorn sends nothing on it any more.
    streams.connection_made(transport)
    transport.write(head)
    transport.set_protocol(streams)
    protocol.flow.resume_reading()
    if transport.is_closing():
        reader.feed_eof()
    return reader, asyncio.StreamWriter(transport, streams, reader, loop)
