"""Durations as people read them: two units at most, the coarser the longer. Rule TABLE-6
(spec/table.md)."""

from refk8s.core.context import SECOND, Instant, parse_timestamp

UNKNOWN = "<unknown>"
MINUTE, HOUR, DAY, YEAR = 60, 3_600, 86_400, 365 * 86_400
"""In seconds."""


def human_duration(microseconds: int) -> str:
    """`90s`, `5m10s`, `30m`, `5h20m`, `30h`, `3d4h`, `100d`, `3y20d` (TABLE-6). Clocks that differ
    by less than two seconds agree: `0s`."""
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
    """So many of the large unit and of the small one; the small one is left out when there is none
    of it."""
    rest = seconds % large // small
    return f"{seconds // large}{large_name}" + (f"{rest}{small_name}" if rest else "")


def age(timestamp: object, now: Instant) -> str:
    """How long ago that was; `<unknown>` for no time, or for what is none (a custom resource may
    hold anything)."""
    if not isinstance(timestamp, str) or not timestamp:
        return UNKNOWN
    try:
        return human_duration(now - parse_timestamp(timestamp))
    except (ValueError, OverflowError):
        return UNKNOWN
