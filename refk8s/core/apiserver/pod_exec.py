"""Commands in containers over a WebSocket: what is asked for, and what the frames mean. Rule RT-14 (spec/runtime.md).

Every message is binary; its first byte is the channel:

| channel | from the client | to the client |
|---|---|---|
| 0 | stdin | - |
| 1, 2 | - | stdout, stderr |
| 3 | - | a Status, at the end: how the command ended |
| 4 | the terminal's new size as JSON | - |
| 255 | version 5: the channel named by the next byte is at its end | - |

Source: Kubernetes API reference, "connect GET requests to exec of Pod"; KEP-4006 "Transition from SPDY to WebSockets".
"""

from collections.abc import Iterable
from typing import Any

import msgspec

from refk8s.core.api import codec, status
from refk8s.core.api.meta_v1 import Status, StatusCause, StatusDetails
from refk8s.core.api.status import ApiError
from refk8s.core.value import Value

STDIN, STDOUT, STDERR, ERROR, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255
PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")
"""The versions that are spoken, the best first."""


class ExecOptions(Value, frozen=True):
    """What is asked for. With a terminal there is no stderr of its own."""

    container: str = ""
    command: tuple[str, ...] = ()
    stdin: bool = False
    stdout: bool = False
    stderr: bool = False
    tty: bool = False


def compute_exec_options(parameters: Iterable[tuple[str, str]], subresource: str) -> ExecOptions:
    """The options of a request to exec or attach; ApiError 400 where there would be nothing to do or to see."""
    values = list(parameters)
    flags = {name: value.lower() not in ("0", "false") for name, value in values if name in ("stdin", "stdout", "stderr", "tty")}
    command = tuple([value for name, value in values if name == "command"])
    if subresource == "exec" and not command:
        raise ApiError(status.bad_request("you must specify at least one command for the container"))
    tty = flags.get("tty", False)
    options = ExecOptions(
        container=next((value for name, value in values if name == "container"), ""),
        command=command,
        stdin=flags.get("stdin", False),
        stdout=flags.get("stdout", False),
        stderr=flags.get("stderr", False) and not tty,
        tty=tty,
    )
    if not (options.stdin or options.stdout or options.stderr):
        raise ApiError(status.bad_request("you must specify at least 1 of stdin, stdout, stderr"))
    return options


def choose_protocol(offered: Iterable[str]) -> str:
    """The best version that the client offers too; empty where there is none."""
    known = set(offered)
    return next((protocol for protocol in PROTOCOLS if protocol in known), "")


class Input(Value, frozen=True):
    """What a client's message says: bytes for stdin, its end, or a size (columns, rows). All empty: nothing that is understood."""

    data: bytes = b""
    is_end: bool = False
    size: tuple[int, int] | None = None


def read_message(message: bytes) -> Input:
    """A client's message. Whatever it is, there is an answer."""
    channel, rest = message[:1], message[1:]
    if channel == bytes([STDIN]):
        return Input(data=rest)
    if channel == bytes([CLOSE]) and rest == bytes([STDIN]):
        return Input(is_end=True)
    if channel == bytes([RESIZE]):
        try:
            size: Any = msgspec.json.decode(rest)
            return Input(size=(_side(size["Width"]), _side(size["Height"])))
        except (msgspec.DecodeError, ValueError, KeyError, TypeError):
            return Input()
    return Input()


def _side(number: Any) -> int:
    if type(number) is not int or not 0 < number < 1 << 16:
        raise ValueError(f"{number!r} is no side of a terminal")
    return number


def write_message(channel: int, data: bytes) -> bytes:
    """A message to the client."""
    return bytes([channel]) + data


def compute_end(command: tuple[str, ...], exit_code: int) -> Status:
    """How the command ended, as clients understand it (RT-14)."""
    if exit_code == 0:
        return Status(status="Success")
    words = f"command terminated with non-zero exit code: error executing command [{' '.join(command)}], exit code {exit_code}"
    cause = StatusCause(reason="ExitCode", message=str(exit_code))
    return Status(status="Failure", reason="NonZeroExitCode", message=words, details=StatusDetails(causes=(cause,)))


def compute_failure(words: str) -> Status:
    """The command could not be run, or nobody knows how it ended."""
    return Status(status="Failure", reason="InternalError", message=words, code=500)


def end_message(end: Status) -> bytes:
    """The last message of a stream."""
    return write_message(ERROR, codec.encode(end))
