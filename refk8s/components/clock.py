"""The system clock and the system's random bytes; no other module reads them."""

import os
import time

from refk8s.core.context import Instant


class SystemChance:
    """Random bytes of the operating system, read a page at a time to save system calls."""

    __slots__ = ("_pool", "_position")

    def __init__(self) -> None:
        self._pool = b""
        self._position = 0

    def draw(self, count: int) -> bytes:
        if self._position + count > len(self._pool):
            self._pool, self._position = os.urandom(max(4096, count)), 0
        start, self._position = self._position, self._position + count
        return self._pool[start : self._position]


class Clock:
    """Wall time that never goes back within this process."""

    __slots__ = ("_last",)

    def __init__(self) -> None:
        self._last: Instant = 0

    def now(self) -> Instant:
        """Microseconds since the Unix epoch."""
        now = time.time_ns() // 1000
        if now > self._last:
            self._last = now
        return self._last


CHANCE = SystemChance()
