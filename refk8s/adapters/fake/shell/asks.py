"""The requests of a simulated program to its runner. A program is a generator of these that returns
its exit code. Rule SHELL-1.

The program itself reads no clock and does no I/O: the same answers give the same requests. So one
program runs in virtual time when a container starts, and in real time when a client executes it.
"""

from collections.abc import Generator
from typing import Any, TypeAlias

from refk8s.core.value import Value

STDOUT, STDERR = 1, 2


class Write(Value, frozen=True):
    """Bytes for stdout or stderr."""

    stream: int
    data: bytes


class Read(Value, frozen=True):
    """Some bytes of stdin; answered by bytes, or None at its end."""


class Pause(Value, frozen=True):
    """Nothing for so many microseconds."""

    microseconds: int


class Now(Value, frozen=True):
    """Answered by the instant."""


class Tick(Value, frozen=True):
    """Work is done, a command's or that of so many bytes: the runner may stop the program here."""

    cost: int = 1


class Forever(Value, frozen=True):
    """What follows has no end: a loop without one, or a program that is not simulated."""


def cost_of(size: int) -> int:
    """What it costs to pass on so many bytes, in commands."""
    return size >> 12


Ask: TypeAlias = Write | Read | Pause | Now | Tick | Forever
Program: TypeAlias = Generator[Ask, Any, int]
