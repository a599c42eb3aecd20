"""Joins the writes of one turn of the event loop to a connection. Rule HTTP-24.

uvicorn writes the head of an answer and each part of its body separately, and every write costs a
TLS record, a system call and a packet. Together they cost one.
"""

import asyncio
from typing import Any

HELD_BYTES_MAX = 64 << 10  # longer data is written at once


class JoinedWrites:
    """A transport that buffers writes for the transport below it.

    It writes the buffer on `flush`, in the next turn of the loop, before the connection is closed,
    or when the buffer would exceed HELD_BYTES_MAX. The transport below pauses and resumes its
    protocol as without the buffer.
    """

    __slots__ = ("_bytes", "_held", "_is_due", "_loop", "below")

    def __init__(self, below: asyncio.Transport) -> None:
        self.below = below
        self._loop = asyncio.get_running_loop()
        self._held: list[bytes] = []
        self._bytes = 0
        self._is_due = False  # whether the next turn of the loop flushes

    def __getattr__(self, name: str) -> Any:
        return getattr(self.below, name)  # reading, addresses, the protocol: the transport's own

    def is_closing(self) -> bool:
        return self.below.is_closing()

    def write(self, data: bytes) -> None:
        self._held.append(data)
        self._bytes += len(data)
        if self._bytes > HELD_BYTES_MAX:
            # The long part is not copied.
            *held, data = self._held
            self.drop()
            self.below.writelines((b"".join(held), data) if held else (data,))
        elif not self._is_due:
            self._is_due = True
            self._loop.call_soon(self._next_turn)

    def write_now(self, data: bytes) -> None:
        """Write the buffer and this data: one write, and no call in the next turn."""
        if self._held:
            self.write(data)
            self.flush()
        elif not self.below.is_closing():
            self.below.write(data)

    def flush(self) -> None:
        """Write the buffer to the transport below."""
        if self._held:
            data = b"".join(self._held)
            self.drop()
            if not self.below.is_closing():  # aborted: the client gets nothing more
                self.below.write(data)

    def drop(self) -> None:
        """Discard the buffer."""
        self._held.clear()
        self._bytes = 0

    def close(self) -> None:
        self.flush()
        self.below.close()

    def _next_turn(self) -> None:
        self._is_due = False
        self.flush()
