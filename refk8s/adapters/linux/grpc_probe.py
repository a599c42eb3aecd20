"""gRPC probes: the health checking protocol over a minimal HTTP/2 client. Rule RT-10.

A connection has one call. The headers of the answer are compressed and not needed: a message with
the status SERVING is success, and any other answer, or none, is failure. Source: "GRPC Health
Checking Protocol"; RFC 9113 "HTTP/2"; RFC 7541 "HPACK" (literal header fields without indexing).
"""

import asyncio
import contextlib
import struct

from refk8s.core.ports import Probed

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY = 0, 1, 3, 4, 6, 7
_END_STREAM, _END_HEADERS, _ACK, _PADDED = 1, 4, 1, 8
_FRAME_BYTES_MAX = 1 << 16
STATES = {0: "UNKNOWN", 1: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}
SERVING = 1


async def probe_grpc(host: str, port: int, service: str) -> Probed:
    """Whether this service (empty: the whole server) has the status SERVING.

    The caller limits the time. Raises OSError if there is no connection.
    """
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(_request(host, port, service))
        state = await _answer(reader, writer)
    except (OSError, asyncio.IncompleteReadError, ValueError):
        return Probed(False, "error: health rpc probe failed: the server does not speak gRPC")
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    if state is None:
        return Probed(
            False,
            "error: health rpc probe failed: the server does not implement the health protocol, "
            "or not for this service",
        )
    if state == SERVING:
        return Probed(True, "service healthy")
    return Probed(False, f"service unhealthy (responded with {STATES.get(state, str(state))!r})")


def _frame(kind: int, flags: int, stream: int, body: bytes) -> bytes:
    return (
        struct.pack(">I", len(body))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + body
    )


def _literal(name: str, value: str) -> bytes:
    """A header as it is, neither indexed nor compressed. Names and values below 127 bytes."""
    return b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


def _request(host: str, port: int, service: str) -> bytes:
    name = service.encode()[:1000]
    message = b"\x0a" + _varint(len(name)) + name if name else b""
    headers = b"".join(
        _literal(name, value)
        for name, value in (
            (":method", "POST"), (":scheme", "http"), (":path", "/grpc.health.v1.Health/Check"), (":authority", f"{host}:{port}"[:120]),
            ("content-type", "application/grpc"), ("te", "trailers"), ("user-agent", "kube-probe/1.37"),
        )
    )  # fmt: skip
    call = b"\0" + struct.pack(">I", len(message)) + message
    return (
        _PREFACE
        + _frame(_SETTINGS, 0, 0, b"")
        + _frame(_HEADERS, _END_HEADERS, 1, headers)
        + _frame(_DATA, _END_STREAM, 1, call)
    )


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int | None:
    """The status in the answer's message; None if the call ends without a message."""
    message = b""
    while True:
        head = await reader.readexactly(9)
        length, kind, flags = int.from_bytes(head[:3], "big"), head[3], head[4]
        if length > _FRAME_BYTES_MAX:
            raise ValueError("no frame")
        body = await reader.readexactly(length)
        if kind == _SETTINGS and not flags & _ACK:
            writer.write(_frame(_SETTINGS, _ACK, 0, b""))
        elif kind == _PING and not flags & _ACK:
            writer.write(_frame(_PING, _ACK, 0, body))
        elif kind == _DATA:
            message += body[1 : len(body) - body[0]] if flags & _PADDED and body else body
            if (found := _state(message)) is not None:
                return found
        if kind in (_RST_STREAM, _GOAWAY) or (kind in (_DATA, _HEADERS) and flags & _END_STREAM):
            return None


def _state(message: bytes) -> int | None:
    """The field `status` of a HealthCheckResponse (0 if absent); None while it is incomplete."""
    if len(message) < 5 or len(message) < 5 + int.from_bytes(message[1:5], "big"):
        return None
    body = message[5 : 5 + int.from_bytes(message[1:5], "big")]
    return body[1] if len(body) >= 2 and body[0] == 0x08 else 0


def _varint(number: int) -> bytes:
    out = b""
    while number > 0x7F:
        out, number = out + bytes([number & 0x7F | 0x80]), number >> 7
    return out + bytes([number])
