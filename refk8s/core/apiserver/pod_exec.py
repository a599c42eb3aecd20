"""exec and attach: their options, and the messages of each protocol. Rules RT-14, STREAM-4,
STREAM-5.

Over a WebSocket every message begins with its channel. Over SPDY each channel is a separate stream
with a `streamtype`:

| channel | stream | from the client | to the client |
|---|---|---|---|
| 0 | stdin | stdin | - |
| 1, 2 | stdout, stderr | - | stdout, stderr |
| 3 | error | - | at the end: how the command ended, as a Status (v4 and later) or as text |
| 4 | resize | the terminal's new size as JSON | - |
| 255 | - | v5: the channel named by the next byte is at its end | - |

Source: Kubernetes API reference, "connect GET requests to exec of Pod"; KEP-4006 "Transition from
SPDY to WebSockets".
"""

import base64
import binascii
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from refk8s.core.api import codec, status
from refk8s.core.api.meta_v1 import Status, StatusCause, StatusDetails
from refk8s.core.api.status import ApiError
from refk8s.core.apiserver.parameters import is_true
from refk8s.core.ports import ExecOptions
from refk8s.core.value import Value

STDIN, STDOUT, STDERR, ERROR, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255
CHANNELS = {"stdin": STDIN, "stdout": STDOUT, "stderr": STDERR, "error": ERROR, "resize": RESIZE}
"""The streams of SPDY by their type."""
SIZE_BYTES_MAX = 256


class Version(Value, frozen=True):
    """A protocol of exec and attach (STREAM-4). `is_text`: messages are text with the payload in
    base64."""

    name: str
    is_text: bool = False
    ends_with_status: bool = True
    closes_stdin: bool = False


V5 = Version("v5.channel.k8s.io", closes_stdin=True)
WEBSOCKET = {
    version.name: version
    for version in (
        V5,
        Version("v4.channel.k8s.io"),
        Version("v4.base64.channel.k8s.io", is_text=True),
        Version("channel.k8s.io", ends_with_status=False),
        Version("base64.channel.k8s.io", is_text=True, ends_with_status=False),
        Version("", ends_with_status=False),
    )
}
"""The versions over WebSockets. The one without a name is for clients that offer none."""
SPDY = {
    version.name: version
    for version in (
        Version("v4.channel.k8s.io"),
        Version("v3.channel.k8s.io", ends_with_status=False),
        Version("v2.channel.k8s.io", ends_with_status=False),
        Version("channel.k8s.io", ends_with_status=False),
    )
}
"""The versions over SPDY, in the server's order of preference."""
WITHOUT_RESIZE = ("v2.channel.k8s.io", "channel.k8s.io")


def compute_exec_options(parameters: Iterable[tuple[str, str]], subresource: str) -> ExecOptions:
    """The options of a request to exec or attach. Raises ApiError 400 if it has no command or
    requests no stream."""
    values = list(parameters)
    flags = {
        name: is_true(value)
        for name, value in values
        if name in ("stdin", "stdout", "stderr", "tty")
    }
    command = tuple([value for name, value in values if name == "command"])
    if subresource == "exec" and not command:
        raise ApiError(
            status.bad_request("you must specify at least one command for the container")
        )
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


def choose_websocket(offered: Sequence[str]) -> Version:
    """The version: v5 if it is offered, else the first supported one. Raises ApiError 403 if none
    is supported (STREAM-4)."""
    if V5.name in offered:
        return V5
    return WEBSOCKET[choose_protocol(offered, tuple(WEBSOCKET))]


def choose_spdy(offered: Sequence[str]) -> Version:
    """The first supported version that is offered; the oldest for a client that offers none
    (STREAM-4)."""
    return SPDY[choose_protocol(offered, tuple(SPDY)) or "channel.k8s.io"]


def choose_protocol(offered: Sequence[str], known: Sequence[str]) -> str:
    """The first supported name that is offered; empty if none is offered. Raises ApiError 403 if
    none is supported."""
    found = next((name for name in offered if name in known), "")
    if offered and not found:
        words = (
            f"client supports [{' '.join(offered)}], "
            f"server accepts [{' '.join(name for name in known if name)}]"
        )
        raise ApiError(
            status.failure(
                403, "Forbidden", f"unable to upgrade: unable to negotiate protocol: {words}"
            )
        )
    return found


class Input(Value, frozen=True):
    """The content of a client's message: bytes for stdin, the end of stdin, or a size (columns,
    rows). All are empty if the message is malformed."""

    data: bytes = b""
    is_end: bool = False
    size: tuple[int, int] | None = None


def read_message(version: Version, message: bytes) -> Input:
    """The content of a client's message over a WebSocket (STREAM-5). A malformed one is an empty
    `Input`."""
    channel, rest = read_channel(version, message)
    if channel == STDIN:
        return Input(data=rest)
    if channel == CLOSE and rest == bytes([STDIN]) and version.closes_stdin:
        return Input(is_end=True)
    return Input(size=read_size(rest)) if channel == RESIZE else Input()


def read_channel(version: Version, message: bytes) -> tuple[int, bytes]:
    """The channel of a message and its payload; channel -1 for a malformed message."""
    if not message:
        return -1, b""
    if not version.is_text:
        return message[0], message[1:]
    try:
        return message[0] - ord("0"), base64.b64decode(message[1:], validate=True)
    except (ValueError, binascii.Error):
        return -1, b""


def read_size(text: bytes) -> tuple[int, int] | None:
    """A terminal's size (columns, rows); None for any other text."""
    try:
        size: Any = msgspec.json.decode(text) if len(text) <= SIZE_BYTES_MAX else None
        return _side(size["Width"]), _side(size["Height"])
    except (msgspec.DecodeError, ValueError, KeyError, TypeError):
        return None


def _side(number: Any) -> int:
    if type(number) is not int or not 0 < number < 1 << 16:
        raise ValueError(f"{number!r} is no side of a terminal")
    return number


def write_message(version: Version, channel: int, data: bytes) -> bytes | str:
    """A message to the client: text if the version requires it, else bytes."""
    if version.is_text:
        return f"{chr(ord('0') + channel)}{base64.b64encode(data).decode()}"
    return bytes([channel]) + data


def first_channel(options: ExecOptions) -> int:
    """The channel of the first message to a client over a WebSocket, which has no data and shows
    that the stream is open."""
    return STDOUT if options.stdout else STDERR if options.stderr else ERROR


def compute_end(command: tuple[str, ...], exit_code: int) -> Status:
    """The Status for the end of the command (RT-14)."""
    if exit_code == 0:
        return Status(status="Success")
    words = (
        "command terminated with non-zero exit code: "
        f"error executing command [{' '.join(command)}], exit code {exit_code}"
    )
    cause = StatusCause(reason="ExitCode", message=str(exit_code))
    return Status(
        status="Failure",
        reason="NonZeroExitCode",
        message=words,
        details=StatusDetails(causes=(cause,)),
    )


def compute_failure(words: str) -> Status:
    """The Status for a command that could not be run, or whose end is unknown."""
    return status.internal_error(words)


def write_end(version: Version, end: Status) -> bytes:
    """The last message of the error channel: the Status; before v4 its message, and nothing on
    success."""
    if version.ends_with_status:
        return codec.encode(end)
    return (end.message or "").encode() if end.status != "Success" else b""
