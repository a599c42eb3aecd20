"""Durations as text: at most two units, coarser for longer durations. Rule TABLE-6
(spec/table.md)."""

from refk8s.core.context import SECOND, Instant, parse_timestamp

UNKNOWN = "<unknown>"
MINUTE, HOUR, DAY, YEAR = 60, 3_600, 86_400, 365 * 86_400
"""In seconds."""


def human_duration(microseconds: int) -> str:
    """`90s`, `5m10s`, `30m`, `5h20m`, `30h`, `3d4h`, `100d`, `3y20d` (TABLE-6). A time up to two
    seconds in the future, from a clock that differs, is `0s`."""
    if microseconds <= -2 * SECOND:
        return "<invalid>"
    seconds = max(microseconds, 0) // SECOND
    if seconds < 2 * MINUTE:
        return f"{seconds}s"
    if seconds < 10 * MINUTE:
        return _two(seconds, MINUTE, "m", 1, "s")
    if seconds < 3 * HOUR:
        return f"{seconds // MINUTE}m"
    if seconds < 8 * HOUR:
        return _two(seconds, HOUR, "h", MINUTE, "m")
    if seconds < 2 * DAY:
        return f"{seconds // HOUR}h"
    if seconds < 8 * DAY:
        return _two(seconds, DAY, "d", HOUR, "h")
    if seconds < 2 * YEAR:
        return f"{seconds // DAY}d"
    if seconds < 8 * YEAR:
        return _two(seconds, YEAR, "y", DAY, "d")
    return f"{seconds // YEAR}y"


def _two(seconds: int, large: int, large_name: str, small: int, small_name: str) -> str:
    """The number of the large unit and of the small one; a small one of zero is left out."""
    rest = seconds % large // small
    return f"{seconds // large}{large_name}" + (f"{rest}{small_name}" if rest else "")


def age(timestamp: object, now: Instant) -> str:
    """The age of a time; `<unknown>` if it is absent or not a time (a custom resource may have any
    text)."""
    if not isinstance(timestamp, str) or not timestamp:
        return UNKNOWN
    try:
        return human_duration(now - parse_timestamp(timestamp))
    except (ValueError, OverflowError):
        return UNKNOWN
