"""The environment of a running program: its stdin, its end, and the targets of its output. Rule
SHELL-1."""

from collections.abc import Callable, Generator, Mapping
from typing import Any

from refk8s.adapters.fake.files import FileProblem
from refk8s.adapters.fake.shell.syntax import Script, Simple, Text, Word
from refk8s.adapters.fake.shell.system_calls import (
    STDERR,
    Program,
    Read,
    SystemCall,
    Tick,
    Unsimulated,
    Write,
    cost_of,
)

BROKEN_PIPE = 141
PIPE_BYTES_MAX = 1 << 20

Steps = Generator[SystemCall, Any, Any]


class Exit(Exception):
    """The shell ends with this code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code & 255


class Return(Exit):
    """The function ends with this code; outside of functions, the shell does."""


class Interrupted(Exception):
    """^C at a terminal; it is raised in the program where that waits."""


class Leave(Exception):
    """break and continue."""

    def __init__(self, levels: int, again: bool) -> None:
        super().__init__()
        self.levels = levels
        self.again = again


class Stdin:
    """The rest of the input. `ended`: no more input arrives."""

    def __init__(self, data: bytes = b"", ended: bool = False) -> None:
        self.rest = data
        self.ended = ended

    def some(self) -> Generator[SystemCall, Any, bytes]:
        """The input that is there or arrives next; empty at the end."""
        if not self.rest and not self.ended:
            data = yield Read()
            self.ended = data is None
            self.rest = data or b""
        data, self.rest = self.rest, b""
        return data

    def line(self) -> Generator[SystemCall, Any, bytes]:
        """The next line with its line end; the last one may have none."""
        while b"\n" not in self.rest and not self.ended and len(self.rest) < PIPE_BYTES_MAX:
            kept, self.rest = self.rest, b""
            more = yield from self.some()
            self.rest = kept + more
        line, separator, self.rest = self.rest.partition(b"\n")
        return line + separator

    def all(self) -> Generator[SystemCall, Any, bytes]:
        """All input to its end, up to the bound."""
        data = b""
        while more := (yield from self.some()):
            data = (data + more)[:PIPE_BYTES_MAX]
        return data


def routed(program: Steps, routes: Mapping[int, Any], is_read: bool = False) -> Steps:
    """Run the program with other targets of its descriptors: another descriptor, or a function of
    the bytes. `is_read`: the script reads the output."""
    answer: Any = None
    try:
        while True:
            call = program.send(answer)
            answer = None
            if isinstance(call, Unsimulated):
                yield Unsimulated(call.is_read or is_read)
            elif not isinstance(call, Write) or (target := routes.get(call.stream)) is None:
                answer = yield call
            elif isinstance(target, int):
                yield Write(target, call.data)
            else:
                yield Tick(cost_of(len(call.data)))
                try:
                    target(call.data)
                except FileProblem as problem:
                    yield Write(STDERR, f"sh: write error: {problem.words}\n".encode())
    except StopIteration as stop:
        return stop.value
    finally:
        program.close()


def caught(program: Steps, size: Callable[[], int] = lambda: 0) -> Program:
    """Run the program; too much output ends it, as a broken pipe does."""
    answer: Any = None
    try:
        while True:
            call = program.send(answer)
            if size() > PIPE_BYTES_MAX:
                return BROKEN_PIPE
            answer = yield call
    except StopIteration as stop:
        return int(stop.value or 0)
    finally:
        program.close()


_ENDS = ("break", "exit", "return", "exec", "set", "kill")


def is_endless(condition: Script, body: Script, until: bool) -> bool:
    """Whether a loop never ends: its condition is constant, and no command leaves it. False if that
    is not certain."""
    if len(condition) != 1 or len(condition[0].pipeline.commands) != 1:
        return False
    what = condition[0].pipeline.commands[0].what
    words = [_plain(word) for word in what.words] if isinstance(what, Simple) else []
    constant = {"true": True, ":": True, "[ 1 ]": True, "[ true ]": True, "false": False}.get(
        " ".join(words)
    )
    return constant is (not until) and not any(name in repr(body) for name in _ENDS)


def _plain(word: Word) -> str:
    return word[0].text if len(word) == 1 and isinstance(word[0], Text) else ""
