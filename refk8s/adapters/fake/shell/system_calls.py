"""The system calls of a simulated program. A program is a generator of these that returns its exit
code. Rule SHELL-1.

The program itself reads no clock and does no I/O: the same answers give the same calls. So one
program runs in virtual time when a container starts, and in real time when a client executes it.
"""

from collections.abc import Generator
from typing import Any, TypeAlias

from refk8s.core.value import Value

STDOUT, STDERR = 1, 2


class Write(Value, frozen=True):
    """Write bytes to stdout or stderr."""

    stream: int
    data: bytes


class Read(Value, frozen=True):
    """Read from stdin. The answer is some bytes, or None at its end."""


class Pause(Value, frozen=True):
    """Sleep for so many microseconds."""

    microseconds: int


class Now(Value, frozen=True):
    """The answer is the present instant."""


class Tick(Value, frozen=True):
    """Some work is done: that of a command, or of some bytes. The program may be stopped here."""

    cost: int = 1


class Forever(Value, frozen=True):
    """The program never ends: it has an endless loop, or it is not simulated."""


class Unsimulated(Value, frozen=True):
    """A program that is not simulated runs. `is_read`: its output, which is empty, is read by the
    script, so what the script decides with it means nothing (SHELL-13)."""

    is_read: bool = False


def cost_of(size: int) -> int:
    """The cost of passing on so many bytes, in commands."""
    return size >> 12


SystemCall: TypeAlias = Write | Read | Pause | Now | Tick | Forever | Unsimulated
Program: TypeAlias = Generator[SystemCall, Any, int]
