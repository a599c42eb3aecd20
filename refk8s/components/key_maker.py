"""Makes keys and certificates in a child process. Rule HOST-6 (spec/host.md).

A first start needs the cryptography package before it can serve, and importing it takes 50 ms. The
child does that while this process imports the API server. A later start has its keys, so it has no
child.

The child gets the name of a function of `certificates` and its arguments, and sends back what it
returns. It reads and writes no file: which keys are made, and when they are written, is decided in
`credentials`.
"""

import os
import signal
import socket
import struct
import threading
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec

from refk8s.components import certificates

ANSWER_SECONDS_MAX = 10.0
"""How long an answer is waited for. It takes milliseconds, once the child has its modules."""
MESSAGE_BYTES_MAX = 1 << 20
_LENGTH = struct.Struct("!I")
_FUNCTIONS: Final = ("make_key", "make_self_signed", "make_server", "make_client")


class KeyMaker(Protocol):
    """What makes keys and certificates: the module `certificates`, or a child process."""

    def make_key(self) -> bytes:
        """As `certificates.make_key`."""

    def make_self_signed(self, key: bytes, name: str, now: datetime) -> bytes:
        """As `certificates.make_self_signed`."""

    def make_server(
        self, key: bytes, authority_key: bytes, hosts: Iterable[str], now: datetime
    ) -> bytes:
        """As `certificates.make_server`."""

    def make_client(
        self, key: bytes, authority_key: bytes, name: str, group: str, now: datetime
    ) -> bytes:
        """As `certificates.make_client`."""


class KeyMakerProcess:
    """A child process that makes keys and certificates, until `close`.

    If it does not answer, this process makes them itself. To be created while this process has one
    thread, since a copy of it with others could wait for locks that they hold.
    """

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        self._child = os.fork()
        if self._child == 0:
            ours.close()
            _run(theirs)
        theirs.close()
        ours.settimeout(ANSWER_SECONDS_MAX)
        self._socket: socket.socket | None = ours

    def make_key(self) -> bytes:
        return self._make("make_key")

    def make_self_signed(self, key: bytes, name: str, now: datetime) -> bytes:
        return self._make("make_self_signed", key, name, now)

    def make_server(
        self, key: bytes, authority_key: bytes, hosts: Iterable[str], now: datetime
    ) -> bytes:
        return self._make("make_server", key, authority_key, tuple(hosts), now)

    def make_client(
        self, key: bytes, authority_key: bytes, name: str, group: str, now: datetime
    ) -> bytes:
        return self._make("make_client", key, authority_key, name, group, now)

    def close(self) -> None:
        """End the child, without waiting for its end."""
        if self._socket is None:
            return
        self._socket.close()
        self._socket = None
        threading.Thread(target=os.waitpid, args=(self._child, 0), daemon=True).start()

    def _make(self, function: str, *arguments: Any) -> bytes:
        if self._socket is not None:
            try:
                _send(self._socket, msgspec.msgpack.encode((function, arguments)))
                if answer := _receive(self._socket):
                    return answer
            except OSError:
                self.close()
        # the child has ended, or the function raises an error, here as there
        made: bytes = getattr(certificates, function)(*arguments)
        return made


def start_key_maker(directory: Path) -> KeyMakerProcess | None:
    """A key maker for this directory of keys; None if it has its keys, or there can be no child."""
    if os.path.exists(directory / "ca.crt"):
        return None
    try:
        return KeyMakerProcess()
    except OSError:
        return None


def _run(requests: socket.socket) -> None:
    """The child: answer requests until the other end is closed. An empty answer: an error."""
    try:
        # Ctrl-C reaches all processes of a terminal; this one ends with the other
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        # the library is loaded with the first certificate, before one is asked for
        certificates.make_self_signed(certificates.make_key(), "refk8s", datetime.now(UTC))
        while message := _receive(requests):
            function, arguments = msgspec.msgpack.decode(message)
            answer = b""
            if function in _FUNCTIONS:
                try:
                    answer = getattr(certificates, function)(*arguments)
                except (ValueError, TypeError):
                    answer = b""
            _send(requests, answer)
    finally:
        os._exit(0)  # nothing of the copied process is to run


def _send(to: socket.socket, message: bytes) -> None:
    to.sendall(_LENGTH.pack(len(message)) + message)


def _receive(of: socket.socket) -> bytes:
    """The next message; empty at the end. Raises OSError."""
    if len(head := _read(of, _LENGTH.size)) < _LENGTH.size:
        return b""
    (length,) = _LENGTH.unpack(head)
    if length > MESSAGE_BYTES_MAX:
        raise OSError("a message is too long")
    message = _read(of, length)
    return message if len(message) == length else b""


def _read(of: socket.socket, length: int) -> bytes:
    """This many bytes; fewer at the end of the stream."""
    read = b""
    while len(read) < length and (more := of.recv(length - len(read))):
        read += more
    return read
