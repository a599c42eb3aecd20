"""Reads RFC 3339 as upstream does: to the canonical text of a time, or an error with upstream's
message.

Rule OBJ-8 (spec/object_model.md). A time is kept in UTC; `Time` in whole seconds (a fraction is cut
off), `MicroTime` in exactly six decimals. Source: Kubernetes documentation, API reference, "Time"
and "MicroTime"; RFC 3339.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Final

LAYOUT: Final = "2006-01-02T15:04:05Z07:00"
MICRO_LAYOUT: Final = "2006-01-02T15:04:05.000000Z07:00"

# The parts of a time in the order in which they are read: a pattern, the part's name in the layout,
# and its greatest value.
_PARTS: Final = (
    (r"\d{4}", "2006"),
    ("-", "-"),
    (r"\d{2}", "01"),
    ("-", "-"),
    (r"\d{2}", "02"),
    ("T", "T"),
    (r"\d{2}", "15"),
    (":", ":"),
    (r"\d{2}", "04"),
    (":", ":"),
    (r"\d{2}", "05"),
)
_READERS: Final = tuple((re.compile(pattern, re.ASCII), name) for pattern, name in _PARTS)
_RANGES: Final = {
    "01": (1, 12, "month"),
    "15": (0, 23, "hour"),
    "04": (0, 59, "minute"),
    "05": (0, 59, "second"),
}
_FRACTION: Final = re.compile(r"[.,]\d+", re.ASCII)
_MICRO_FRACTION: Final = re.compile(r"\.\d{6}", re.ASCII)
_ZONE: Final = re.compile(r"Z|([+-])(\d{2}):(\d{2})", re.ASCII)


# Nearly every time is canonical already: one match and one call in C.
_CANONICAL: Final = re.compile(r"\d{4}-\d\d-\d\dT(?:[01]\d|2[0-3]):\d\d:\d\dZ", re.ASCII).fullmatch
_CANONICAL_MICRO: Final = re.compile(
    r"\d{4}-\d\d-\d\dT(?:[01]\d|2[0-3]):\d\d:\d\d\.\d{6}Z", re.ASCII
).fullmatch
ZERO: Final = "0001-01-01T00:00:00Z"
MICRO_ZERO: Final = "0001-01-01T00:00:00.000000Z"


class TimeError(ValueError):
    """The text is not a time. The message is upstream's."""


def canonical_time(text: str) -> str | None:
    """The time in UTC and whole seconds; None for the zero time, which is written as null. Raises
    TimeError for any other text."""
    if _CANONICAL(text) and _is_date(text):
        return text if text != ZERO else None
    moment = _parse(text, LAYOUT, micro=False)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ").zfill(20) if moment is not None else None


def canonical_micro_time(text: str) -> str | None:
    """The time in UTC with six decimals; None for the zero time. Raises TimeError for any other
    text."""
    if _CANONICAL_MICRO(text) and _is_date(text):
        return text if text != MICRO_ZERO else None
    moment = _parse(text, MICRO_LAYOUT, micro=True)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ").zfill(27) if moment is not None else None


def _is_date(text: str) -> bool:
    """Whether every part of a canonical text is in its range."""
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def _parse(text: str, layout: str, *, micro: bool) -> datetime | None:
    rest = text
    numbers: dict[str, int] = {}

    def fail(part: str) -> TimeError:
        return TimeError(
            f"parsing time {_quoted(text)} as {_quoted(layout)}: "
            f"cannot parse {_quoted(rest)} as {_quoted(part)}"
        )

    for reader, name in _READERS:
        found = reader.match(rest)
        if found is None:
            raise fail(name)
        rest = rest[found.end() :]
        if found[0].isdigit():
            numbers[name] = int(found[0])
            low, high, word = _RANGES.get(name, (0, 9999, ""))
            if not low <= numbers[name] <= high:
                raise TimeError(f"parsing time {_quoted(text)}: {word} out of range")
    fraction = (_MICRO_FRACTION if micro else _FRACTION).match(rest)
    if fraction is None and micro:
        raise fail(".000000")
    rest = rest[fraction.end() :] if fraction else rest
    zone = _ZONE.match(rest)
    if zone is None:
        raise fail("Z07:00")
    rest = rest[zone.end() :]
    if rest:
        raise TimeError(f"parsing time {_quoted(text)}: extra text: {_quoted(rest)}")
    offset = timedelta()
    if zone[1]:
        hours, minutes = int(zone[2]), int(zone[3])
        if hours > 24 or minutes > 60:
            raise TimeError(
                f"parsing time {_quoted(text)}: time zone offset "
                f"{'hour' if hours > 24 else 'minute'} out of range"
            )
        offset = timedelta(hours=hours, minutes=minutes) * (1 if zone[1] == "+" else -1)
    micros = int(fraction[0][1:7].ljust(6, "0")) if fraction and micro else 0
    try:
        moment = datetime(
            numbers["2006"],
            numbers["01"],
            numbers["02"],
            numbers["15"],
            numbers["04"],
            numbers["05"],
            micros,
            timezone(timedelta()),
        )
        moment = (moment - offset).astimezone(UTC)
    except (ValueError, OverflowError):
        raise TimeError(f"parsing time {_quoted(text)}: day out of range") from None
    return None if moment == datetime(1, 1, 1, tzinfo=UTC) else moment


def _quoted(text: str) -> str:
    """The text in double quotes, as in upstream's message."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
