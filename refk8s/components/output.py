"""Standard output, written by its own thread. Rule HOST-9.

A slow or closed reader never blocks the server. Lines wait in a queue of a fixed size. When the
queue is full, further lines are dropped, and the next line that is written gives their number.
After EPIPE (the reader has closed its end) or a full disk, lines are discarded.
"""

import os
import threading
from collections import deque
from contextlib import suppress

LINES_MAX = 10_000
BYTES_MAX = 4 << 20
"""The size of the queue, in lines and in bytes."""
WRITE_BYTES = 1 << 16
CLOSE_SECONDS = 2.0
"""How long the process waits at its end until the queue is written."""


class Output:
    """Writes lines to one file descriptor.

    `write_line` never blocks and never raises; any thread may call it.
    """

    def __init__(
        self, descriptor: int, lines_max: int = LINES_MAX, bytes_max: int = BYTES_MAX
    ) -> None:
        self._descriptor = descriptor
        self._lines_max = lines_max
        self._bytes_max = bytes_max
        # a line, or the number of lines that were dropped there
        self._waiting: deque[bytes | int] = deque()
        self._bytes = 0
        self._changed = threading.Condition()
        self._is_closed = descriptor < 0
        self._is_ending = False
        self._writer: threading.Thread | None = None

    def write_line(self, line: str) -> None:
        """Queue this line; it is dropped if the queue is full."""
        data = line.encode("utf-8", "backslashreplace") + b"\n"
        with self._changed:
            if self._is_closed or self._is_ending:
                return
            if len(self._waiting) < self._lines_max and self._bytes + len(data) <= self._bytes_max:
                self._waiting.append(data)
                self._bytes += len(data)
            elif self._waiting and isinstance(self._waiting[-1], int):
                self._waiting[-1] += 1
            else:
                self._waiting.append(1)
            if self._writer is None:
                self._writer = threading.Thread(
                    target=self._write, name="refk8s-output", daemon=True
                )
                self._writer.start()
            self._changed.notify()

    def write(self, text: str) -> None:
        """Queue a message, as a stream of the logging module."""
        self.write_line(text.removesuffix("\n"))

    def flush(self) -> None:
        """Do nothing: the thread writes each line at once."""

    def close(self, seconds: float = CLOSE_SECONDS) -> None:
        """Wait until the queue is written, at most this long; later lines are discarded."""
        with self._changed:
            self._is_ending = True
            self._changed.notify()
            writer = self._writer
        if writer is not None:
            writer.join(seconds)

    def _write(self) -> None:
        while (data := self._take()) is not None:
            try:
                while data:
                    data = data[os.write(self._descriptor, data) :]
            except OSError:  # EPIPE, EIO or a full disk: the line cannot be written anywhere
                with self._changed:
                    self._is_closed = True
                    self._waiting.clear()
                return

    def _take(self) -> bytes | None:
        """Wait for queued lines and return some of them; None at the end."""
        with self._changed:
            while not self._waiting:
                if self._is_ending:
                    return None
                self._changed.wait()
            parts, size = [], 0
            while self._waiting and size < WRITE_BYTES:
                part = self._waiting.popleft()
                if isinstance(part, int):
                    part = f"... ({part} lines left out: the reader of this output is too slow)\n".encode()
                else:
                    self._bytes -= len(part)
                parts.append(part)
                size += len(part)
            return b"".join(parts)


def descriptor_of(stream: object) -> int:
    """The file descriptor of a standard stream; -1 if it is closed."""
    with suppress(AttributeError, OSError, ValueError):
        found: int = stream.fileno()  # type: ignore[attr-defined]
        return found
    return -1
