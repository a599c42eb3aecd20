"""What is asked of the containers of a pod besides operations: parts of their logs."""

from refk8s.core.context import Instant
from refk8s.core.value import Value


class LogOptions(Value, frozen=True):
    """Which part of a log: everything, where nothing else is said. `since` is an instant,
    `tail_lines` and `limit_bytes` -1 mean all."""

    container: str = ""
    follow: bool = False
    previous: bool = False
    timestamps: bool = False
    since: Instant = 0
    tail_lines: int = -1
    limit_bytes: int = -1
    stdout: bool = True
    stderr: bool = True
