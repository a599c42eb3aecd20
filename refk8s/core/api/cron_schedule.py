"""Schedules of CronJobs: their syntax, and the times at which they are due. Rules CRON-1, CRON-2
(spec/workloads/cron_job.md).

A field is reduced to a list of numbers, so that upstream's syntax is read here, and the search in
the calendar is cronsim's. cronsim gets local times without a zone; their instants are computed
here. A local time that a clock change leaves out is never due, and one that it repeats is due
twice, as upstream.

Source: Kubernetes documentation, "CronJob" (schedule syntax, time zones); the messages are those
that clients see.
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING

from refk8s.core.context import SECOND, Instant
from refk8s.core.value import Value

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_MACROS = {
    "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *", "@monthly": "0 0 1 * *", "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@hourly": "0 * * * *",
}  # fmt: skip
_EVERY = "@every "
_EPOCH = datetime(1970, 1, 1)
_FOLD_MAX = timedelta(hours=3)
"""The longest time that a clock change repeats."""
CANDIDATES_MAX = 1_000
INT_MAX = 2**63 - 1
_UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}  # fmt: skip
"""In nanoseconds."""
_DURATION_MAX = INT_MAX


class ScheduleError(Exception):
    """The schedule is invalid; the message is upstream's."""


class _Bounds(Value, frozen=True):
    low: int
    high: int
    names: tuple[str, ...] = ()
    first: int = 0


_FIELDS = (_Bounds(0, 59), _Bounds(0, 23), _Bounds(1, 31), _Bounds(1, 12, _MONTHS, 1), _Bounds(0, 6, _DAYS))  # fmt: skip


class Schedule(Value, frozen=True):
    """A valid schedule: `every` so many microseconds, or five fields of numbers; None: never."""

    every: Instant = 0
    fields: str | None = None


@lru_cache(maxsize=4096)
def parse_schedule(text: str) -> Schedule:
    """The schedule. Raises ScheduleError (CRON-1)."""
    if not text:
        raise ScheduleError("empty spec string")
    if text.startswith("@"):
        if text.startswith(_EVERY):
            return Schedule(max(_parse_every(text) // SECOND, 1) * SECOND)
        if text not in _MACROS:
            raise ScheduleError(f"unrecognized descriptor: {text}")
        text = _MACROS[text]
    fields = text.split()
    if len(fields) != len(_FIELDS):
        found = f"found {len(fields)}: [{' '.join(fields)}]"
        raise ScheduleError(f"expected exactly {len(_FIELDS)} fields, {found}")
    canonical = [_parse_field(field, bounds) for field, bounds in zip(fields, _FIELDS, strict=True)]
    return Schedule(fields=" ".join(canonical) if all(canonical) else None)


def _parse_field(text: str, bounds: _Bounds) -> str:
    """The numbers of a field, or `*` if the field restricts nothing; empty: no number."""
    numbers: set[int] = set()
    is_star = False
    for part in text.split(","):
        if part:
            found, star = _parse_range(part, bounds)
            numbers.update(found)
            is_star = is_star or star
    return "*" if is_star else ",".join(map(str, sorted(numbers)))


def _parse_range(text: str, bounds: _Bounds) -> tuple[range, bool]:
    """The numbers of a range with its step, and whether it is a star (also with the step 1)."""
    span, *steps = text.split("/")
    first, *ends = span.split("-")
    is_star = first in ("*", "?")
    start, end = bounds.low, bounds.high
    if not is_star:
        start = _parse_number(first, bounds)
        if len(ends) > 1:
            raise ScheduleError(f"too many hyphens: {text}")
        end = _parse_number(ends[0], bounds) if ends else start
    step = 1
    if len(steps) > 1:
        raise ScheduleError(f"too many slashes: {text}")
    if steps:
        step = _parse_int(steps[0])
        if not ends:
            end = bounds.high
        is_star = is_star and step <= 1
    if start < bounds.low:
        raise ScheduleError(f"beginning of range ({start}) below minimum ({bounds.low}): {text}")
    if end > bounds.high:
        raise ScheduleError(f"end of range ({end}) above maximum ({bounds.high}): {text}")
    if start > end:
        raise ScheduleError(f"beginning of range ({start}) beyond end of range ({end}): {text}")
    if not step:
        raise ScheduleError(f"step of range should be a positive number: {text}")
    return range(start, end + 1, step), is_star


def _parse_number(text: str, bounds: _Bounds) -> int:
    name = text.lower()
    return bounds.names.index(name) + bounds.first if name in bounds.names else _parse_int(text)


def _parse_int(text: str) -> int:
    if not re.fullmatch(r"[+-]?[0-9]+", text):
        problem = "invalid syntax"
    elif len(text) <= 40 and -INT_MAX - 1 <= (number := int(text)) <= INT_MAX:
        if number < 0:
            raise ScheduleError(f"negative number ({number}) not allowed: {text}")
        return number
    else:
        problem = "value out of range"
    raise ScheduleError(
        f'failed to parse int from {text}: strconv.Atoi: parsing "{text}": {problem}'
    )


def _parse_every(text: str) -> Instant:
    duration = text.removeprefix(_EVERY)
    try:
        return parse_duration(duration)
    except ScheduleError as error:
        raise ScheduleError(f"failed to parse duration {text}: {error}") from None


def parse_duration(text: str) -> Instant:
    """A duration such as `1h30m`, in microseconds. Raises ScheduleError."""
    invalid = ScheduleError(f'time: invalid duration "{text}"')
    rest = text.removeprefix("-") if text.startswith("-") else text.removeprefix("+")
    if rest == "0":
        return 0
    total = 0
    if not rest:
        raise invalid
    while rest:
        number = re.match(r"[0-9]*(\.[0-9]*)?", rest)
        digits = number.group() if number is not None else ""
        if digits in ("", ".") or len(digits) > 40:
            raise invalid
        rest = rest[len(digits) :]
        unit = re.match(r"[^0-9.]*", rest)
        name = unit.group() if unit is not None else ""
        if not name:
            raise ScheduleError(f'time: missing unit in duration "{text}"')
        if name not in _UNITS:
            raise ScheduleError(f'time: unknown unit "{name}" in duration "{text}"')
        whole, _, part = digits.partition(".")
        total += int(whole or 0) * _UNITS[name] + int(part or 0) * _UNITS[name] // 10 ** len(part)
        if total > _DURATION_MAX:
            raise invalid
        rest = rest[len(name) :]
    microseconds = total // 1000
    return -microseconds if text.startswith("-") else microseconds


# --- times ----------------------------------------------------------------------------------------


@lru_cache(maxsize=1024)
def load_zone(name: str | None) -> "ZoneInfo | None":
    """The rules of a time zone; None for UTC, which is the default. Raises ScheduleError for a name
    that has none."""
    if name is None or name == "UTC":
        return None
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(name)
    except (OSError, ValueError, KeyError):
        raise ScheduleError(f"unknown time zone {name}") from None


def next_time(schedule: Schedule, zone: "ZoneInfo | None", after: Instant) -> Instant | None:
    """The first time after this instant at which the schedule is due (CRON-2); None: never."""
    if schedule.every:
        return after // SECOND * SECOND + schedule.every
    local = _to_local(after, zone)
    window = timedelta()
    if zone is not None and _offset(after, zone) > _offset(after + _micros(_FOLD_MAX), zone):
        window = _FOLD_MAX  # a clock change repeats local times
    best: Instant | None = None
    for number, candidate in enumerate(_candidates(schedule, local - window)):
        for at in _instants(candidate, zone):
            if at > after and (best is None or at < best):
                best = at
        if number >= CANDIDATES_MAX or (best is not None and candidate > local + window):
            break
    return best


def last_time(
    schedule: Schedule, zone: "ZoneInfo | None", earliest: Instant, now: Instant
) -> Instant | None:
    """The last time after `earliest` and not after `now` at which the schedule is due (CRON-2)."""
    if schedule.every:
        start = earliest // SECOND * SECOND
        count = (now - start) // schedule.every
        return start + count * schedule.every if count > 0 else None
    local = _to_local(now, zone)
    window = timedelta()
    if zone is not None and _offset(now, zone) < _offset(now - _micros(_FOLD_MAX), zone):
        window = _FOLD_MAX
    best: Instant | None = None
    start_at = local + window + timedelta(seconds=1)
    for number, candidate in enumerate(_candidates(schedule, start_at, reverse=True)):
        found = _instants(candidate, zone)
        for at in found:
            if at <= now and (best is None or at > best):
                best = at
        is_past = bool(found) and found[-1] <= earliest
        if number >= CANDIDATES_MAX or is_past or (best is not None and candidate < local - window):
            break
    return best if best is not None and best > earliest else None


def count_times(
    schedule: Schedule, zone: "ZoneInfo | None", earliest: Instant, now: Instant, most: int
) -> int:
    """How often the schedule was due after `earliest` and not after `now`, at most `most`.
    O(most)."""
    count = 0
    at = next_time(schedule, zone, earliest)
    while at is not None and at <= now and count < most:
        count += 1
        at = next_time(schedule, zone, at)
    return count


def _candidates(schedule: Schedule, start: datetime, reverse: bool = False) -> Iterator[datetime]:
    """Local times of the schedule after `start` (before it, if reversed)."""
    if schedule.fields is None:
        return
    from cronsim import CronSim, CronSimError

    try:
        yield from CronSim(schedule.fields, start, reverse)
    except (CronSimError, OverflowError):
        return  # such as 30 February


def _to_local(at: Instant, zone: "ZoneInfo | None") -> datetime:
    naive = _EPOCH + timedelta(microseconds=at)
    return (
        naive if zone is None else naive.replace(tzinfo=UTC).astimezone(zone).replace(tzinfo=None)
    )


def _offset(at: Instant, zone: "ZoneInfo") -> timedelta:
    return _to_local(at, zone) - _to_local(at, None)


def _instants(local: datetime, zone: "ZoneInfo | None") -> list[Instant]:
    """The instants at which clocks show this local time: one, none (left out by a clock change) or
    two (repeated)."""
    if zone is None:
        return [_micros(local - _EPOCH)]
    found: list[Instant] = []
    for fold in (0, 1):
        aware = local.replace(tzinfo=zone, fold=fold).astimezone(UTC).replace(tzinfo=None)
        at = _micros(aware - _EPOCH)
        if at not in found and _to_local(at, zone) == local:
            found.append(at)
    return sorted(found)


def _micros(span: timedelta) -> int:
    return span // timedelta(microseconds=1)


def format_local(at: Instant, zone: "ZoneInfo | None") -> str:
    """The time with the offset of the zone: `2024-02-29T01:00:00+01:00`."""
    local = _to_local(at, zone).replace(microsecond=0)
    seconds = int(_offset(at, zone).total_seconds()) if zone is not None else 0
    if not seconds:
        return f"{local.isoformat()}Z"
    sign, minutes = "-" if seconds < 0 else "+", abs(seconds) // 60
    return f"{local.isoformat()}{sign}{minutes // 60:02}:{minutes % 60:02}"
