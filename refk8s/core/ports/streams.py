"""The options of a stream to a container."""

from refk8s.core.context import Instant
from refk8s.core.value import Value


class LogOptions(Value, frozen=True):
    """The requested part of a log; by default all of it. `since` is an instant; -1 for `tail_lines`
    or `limit_bytes` means no limit."""

    container: str = ""
    follow: bool = False
    previous: bool = False
    timestamps: bool = False
    since: Instant = 0
    tail_lines: int = -1
    limit_bytes: int = -1
    stdout: bool = True
    stderr: bool = True


class ExecOptions(Value, frozen=True):
    """The requested streams of exec or attach. With a terminal there is no separate stderr."""

    container: str = ""
    command: tuple[str, ...] = ()
    stdin: bool = False
    stdout: bool = False
    stderr: bool = False
    tty: bool = False
