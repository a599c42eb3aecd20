"""SPDY/3.1, as far as exec, attach and port-forward need it: frames to events, and calls to bytes.
Rule RT-15.

Without sockets and clocks: a `Spdy` is one side of a connection that accepts streams. It has no
flow control, and neither have the clients. Source: "SPDY Protocol - Draft 3.1" (framing, name/value
header block); KEP-4006 "Transition from SPDY to WebSockets" (tunnelling).
"""

import struct
import zlib
from typing import TypeAlias

from refk8s.core.value import Value

SYN_STREAM, SYN_REPLY, RST_STREAM, PING, GOAWAY = 1, 2, 3, 6, 7
VERSION = 3
FLAG_FIN = 1
FRAME_BYTES_MAX = 1 << 20
HEADER_BYTES_MAX = 1 << 16
DATA_BYTES_MAX = 1 << 15
REFUSED_STREAM = 3

_WORDS = (
    "options", "head", "post", "put", "delete", "trace", "accept", "accept-charset", "accept-encoding", "accept-language", "accept-ranges",
    "age", "allow", "authorization", "cache-control", "connection", "content-base", "content-encoding", "content-language",
    "content-length", "content-location", "content-md5", "content-range", "content-type", "date", "etag", "expect", "expires", "from",
    "host", "if-match", "if-modified-since", "if-none-match", "if-range", "if-unmodified-since", "last-modified", "location",
    "max-forwards", "pragma", "proxy-authenticate", "proxy-authorization", "range", "referer", "retry-after", "server", "te", "trailer",
    "transfer-encoding", "upgrade", "user-agent", "vary", "via", "warning", "www-authenticate", "method", "get", "status", "200 OK",
    "version", "HTTP/1.1", "url", "public", "set-cookie", "keep-alive", "origin",
)  # fmt: skip
_TAIL = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505203 Non-Authoritative Information204 No "
    "Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 "
    "Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,"
    "image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,deflate,"
    "sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)
DICTIONARY = (
    b"".join([struct.pack(">I", len(word)) + word.encode() for word in _WORDS]) + _TAIL.encode()
)
"""The dictionary of the header compression, which is part of the protocol. Its checksum occurs in
every connection: 0xe3c6a7c2."""


class Opened(Value, frozen=True):
    """The other side opens a stream; `ended`: it will send no data on it."""

    stream: int
    headers: dict[str, str]
    ended: bool


class Data(Value, frozen=True):
    """Bytes of a stream; `ended`: they are the last."""

    stream: int
    data: bytes
    ended: bool


class Reset(Value, frozen=True):
    """The other side has cancelled this stream."""

    stream: int


class Pinged(Value, frozen=True):
    """A ping of the other side, which must be returned."""

    reply: bytes


class Gone(Value, frozen=True):
    """The other side opens no more streams."""


Happened: TypeAlias = Opened | Data | Reset | Pinged | Gone


class NotSpdy(Exception):
    """The bytes violate the protocol."""


class Spdy:
    """One side of a connection: the incomplete frame and the two header compressions."""

    def __init__(self) -> None:
        self._rest = b""
        self._inflate = zlib.decompressobj(zdict=DICTIONARY)
        self._deflate = zlib.compressobj(zdict=DICTIONARY)

    def take(self, data: bytes) -> list[Happened]:
        """The events in these bytes, in order; an incomplete frame is kept until the rest arrives.
        Raises NotSpdy for invalid bytes."""
        self._rest += data
        found: list[Happened] = []
        while len(self._rest) >= 8:
            first, second = struct.unpack_from(">II", self._rest)
            flags, length = second >> 24, second & 0xFFFFFF
            if length > FRAME_BYTES_MAX:
                raise NotSpdy(f"a frame of {length} bytes")
            if len(self._rest) < 8 + length:
                break
            body = self._rest[8 : 8 + length]
            self._rest = self._rest[8 + length :]
            if not first >> 31:
                found.append(Data(first & 0x7FFFFFFF, body, bool(flags & FLAG_FIN)))
                continue
            if first >> 16 & 0x7FFF != VERSION:
                raise NotSpdy(f"version {first >> 16 & 0x7FFF}")
            happened = self._control(first & 0xFFFF, flags, body)
            if happened is not None:
                found.append(happened)
        return found

    def _control(self, kind: int, flags: int, body: bytes) -> Happened | None:
        least = {SYN_STREAM: 10, RST_STREAM: 8, PING: 4}.get(kind, 0)
        if len(body) < least:
            raise NotSpdy(f"a control frame of kind {kind} with {len(body)} bytes")
        if kind == SYN_STREAM:
            return Opened(_stream(body), self._headers(body[10:]), bool(flags & FLAG_FIN))
        if kind == RST_STREAM:
            return Reset(_stream(body))
        if kind == PING:
            return Pinged(_frame(PING, 0, body[:4]))
        return Gone() if kind == GOAWAY else None  # no effect of settings, windows

    def _headers(self, block: bytes) -> dict[str, str]:
        try:
            plain = self._inflate.decompress(block, HEADER_BYTES_MAX)
        except zlib.error as error:
            raise NotSpdy(f"headers: {error}") from None
        if self._inflate.unconsumed_tail:
            raise NotSpdy("too many headers")
        return _read_headers(plain)

    def accept(self, stream: int) -> bytes:
        """Accept a stream."""
        block = self._deflate.compress(struct.pack(">I", 0)) + self._deflate.flush(
            zlib.Z_SYNC_FLUSH
        )
        return _frame(SYN_REPLY, 0, struct.pack(">I", stream) + block)

    def open(self, stream: int, headers: dict[str, str], ended: bool = False) -> bytes:
        """Open a stream, as a client."""
        plain = struct.pack(">I", len(headers))
        for name, value in headers.items():
            for text in (name.encode(), value.encode()):
                plain += struct.pack(">I", len(text)) + text
        block = self._deflate.compress(plain) + self._deflate.flush(zlib.Z_SYNC_FLUSH)
        return _frame(
            SYN_STREAM, FLAG_FIN if ended else 0, struct.pack(">IIH", stream, 0, 0) + block
        )

    @staticmethod
    def send(stream: int, data: bytes, ended: bool = False) -> bytes:
        """Bytes on a stream, in as many frames as necessary."""
        pieces = [data[at : at + DATA_BYTES_MAX] for at in range(0, len(data), DATA_BYTES_MAX)] or [
            b""
        ]
        last = len(pieces) - 1
        flags = [FLAG_FIN if ended and number == last else 0 for number in range(len(pieces))]
        return b"".join(
            [
                struct.pack(">II", stream, flag << 24 | len(piece)) + piece
                for piece, flag in zip(pieces, flags, strict=True)
            ]
        )

    @staticmethod
    def refuse(stream: int) -> bytes:
        """Refuse a stream."""
        return _frame(RST_STREAM, 0, struct.pack(">II", stream, REFUSED_STREAM))


def _frame(kind: int, flags: int, body: bytes) -> bytes:
    return struct.pack(">HHI", 0x8000 | VERSION, kind, flags << 24 | len(body)) + body


def _stream(body: bytes) -> int:
    number: int = struct.unpack_from(">I", body)[0]
    return number & 0x7FFFFFFF


def _read_headers(plain: bytes) -> dict[str, str]:
    """The pairs of a block; names in lower case."""
    texts: list[str] = []
    try:
        (count,) = struct.unpack_from(">I", plain)
        at = 4
        for _ in range(2 * count):
            (length,) = struct.unpack_from(">I", plain, at)
            at += 4 + length
            if at > len(plain):
                raise NotSpdy("headers are cut")
            texts.append(plain[at - length : at].decode("utf-8", "replace"))
    except struct.error:
        raise NotSpdy("headers are cut") from None
    return dict(zip([name.lower() for name in texts[::2]], texts[1::2], strict=True))
