"""The system clock and the system's random bytes; no other module reads them."""

import os
import time
from collections.abc import Callable
from functools import partial

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


_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
_since_boot: Callable[[], int] = partial(time.clock_gettime_ns, _CLOCK)
"""Nanoseconds since the machine was started, also while it was suspended."""


class Clock:
    """Wall time that never goes back and never stands still within this process (HOST-15).

    After the system clock was set back, this clock runs at nine tenths of its rate until the system
    clock has caught up.
    """

    __slots__ = ("_elapsed", "_from", "_shown", "_wall")

    def __init__(
        self, wall: Callable[[], int] = time.time_ns, elapsed: Callable[[], int] = _since_boot
    ) -> None:
        self._wall = wall
        self._elapsed = elapsed
        self._shown = 0  # when it last showed the system's time
        self._from = elapsed() // 1000

    def now(self) -> Instant:
        """Microseconds since the Unix epoch."""
        elapsed = self._elapsed() // 1000
        least = self._shown + (elapsed - self._from) * 9 // 10
        now = self._wall() // 1000
        if now < least:
            return least
        self._shown, self._from = now, elapsed
        return now


CHANCE = SystemChance()
