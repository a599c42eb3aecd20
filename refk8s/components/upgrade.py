"""A connection that leaves HTTP for SPDY: the transport is taken over from uvicorn as a pair of
streams. Rule STREAM-4.

Reading and writing wait for the other side, as asyncio's streams do, so nothing gathers without
bound.
"""

import asyncio
from typing import Any

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]

EXTENSION = "refk8s.upgrade"
"""In the extensions of a request that asks for an upgrade: `await take_over(header_lines)`."""
READ_BYTES_MAX = 1 << 16


def wanted_upgrade(scope: dict[str, Any]) -> str:
    """What the request wants the connection to become, in lower case; empty for nothing that can be
    had."""
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
    """The versions of the protocol inside SPDY that a client offers, in its order."""
    values = [
        value.decode("latin-1")
        for name, value in scope["headers"]
        if name == b"x-stream-protocol-version"
    ]
    return tuple(
        [version.strip() for value in values for version in value.split(",") if version.strip()]
    )


def take_over(protocol: Any, version: str) -> Streams:
    """Answer 101 with this version of the protocol inside SPDY (empty: none named), and have the
    connection as streams."""
    transport = protocol.transport
    loop = asyncio.get_running_loop()
    lines = ["HTTP/1.1 101 Switching Protocols", "Connection: Upgrade", "Upgrade: SPDY/3.1"]
    lines += [f"X-Stream-Protocol-Version: {version}"] if version else []
    reader = asyncio.StreamReader(limit=READ_BYTES_MAX, loop=loop)
    streams = asyncio.StreamReaderProtocol(reader, loop=loop)
    protocol.connections.discard(protocol)
    protocol.cycle.disconnected = True  # uvicorn sends nothing on it any more.
    streams.connection_made(transport)
    transport.write(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
    transport.set_protocol(streams)
    protocol.flow.resume_reading()
    if transport.is_closing():
        reader.feed_eof()
    return reader, asyncio.StreamWriter(transport, streams, reader, loop)
