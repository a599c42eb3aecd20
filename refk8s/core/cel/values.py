"""The values of expressions that JSON does not have. Rule CEL-3 (spec/cel.md).

Source: Common Expression Language specification, "Values"; Kubernetes documentation, "Common
Expression Language in Kubernetes".
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any, Final
from urllib.parse import SplitResult

from attrs import frozen

INT_MIN, INT_MAX, UINT_MAX = -(2**63), 2**63 - 1, 2**64 - 1


class CelError(Exception):
    """The evaluation has no value. The message says why."""


class BudgetExceeded(Exception):
    """The evaluation costs more than it may. Unlike a CelError, `||` does not absorb it."""


class UInt(int):
    """An unsigned integer."""


class Unordered(list[Any]):
    """A list of type set or map: two are equal in any order of their items. `keys`: the fields that
    identify an item of a map; None for a set, whose items identify themselves."""

    def __init__(self, items: Iterable[Any], keys: tuple[str, ...] | None = None) -> None:
        super().__init__(items)
        self.keys = keys


class MessageValue(dict[str, Any]):
    """A message: its fields, and the name of its type."""

    def __init__(self, name: str, fields: dict[str, Any]) -> None:
        super().__init__(fields)
        self.name = name


@frozen
class TypeValue:
    """A type as a value: what type() returns."""

    name: str


@frozen
class Optional:
    """A value that may be absent."""

    value: Any = None
    is_present: bool = False


NONE: Final = Optional()


@frozen(order=True)
class Timestamp:
    moment: datetime


@frozen(order=True)
class Duration:
    span: timedelta


@frozen(order=True)
class Quantity:
    number: Decimal


@frozen
class Url:
    text: str
    parts: SplitResult


@frozen
class Ip:
    address: IPv4Address | IPv6Address


@frozen
class Cidr:
    network: IPv4Network | IPv6Network
    address: IPv4Address | IPv6Address


@frozen(order=True)
class Semver:
    """A semantic version; `order` is its sort key."""

    order: tuple[Any, ...]
    text: str


_NAMES: Final[dict[type, str]] = {
    bool: "bool", int: "int", UInt: "uint", float: "double", str: "string", bytes: "bytes",
    type(None): "null_type", list: "list", Unordered: "list", dict: "map", Timestamp: "google.protobuf.Timestamp",
    Duration: "google.protobuf.Duration", Optional: "optional_type", TypeValue: "type",
    Quantity: "kubernetes.Quantity", Url: "kubernetes.URL", Ip: "net.IP", Cidr: "net.CIDR",
    Semver: "kubernetes.Semver",
}  # fmt: skip


def type_name(value: Any) -> str:
    """The name of the type of a value."""
    if isinstance(value, MessageValue):
        return value.name
    return _NAMES.get(type(value), "dyn")


def whole(value: int) -> int:
    """An integer of 64 bits. Raises CelError for any other."""
    if not INT_MIN <= value <= INT_MAX:
        raise CelError("integer overflow")
    return value


def unsigned(value: int) -> UInt:
    if not 0 <= value <= UINT_MAX:
        raise CelError("unsigned integer overflow")
    return UInt(value)


# --- times


_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)")
_MICROSECONDS = {"ns": 0.001, "us": 1, "µs": 1, "μs": 1, "ms": 1e3, "s": 1e6, "m": 6e7, "h": 3.6e9}


def parse_duration(text: str) -> Duration:
    """The duration of a text such as `1h30m`. Raises CelError."""
    sign, rest = (-1, text[1:]) if text[:1] == "-" else (1, text.removeprefix("+"))
    total, at = 0.0, 0
    while match := _PART.match(rest, at):
        total += float(match[1]) * _MICROSECONDS[match[2]]
        at = match.end()
    if (not at or at != len(rest)) and rest != "0":
        raise CelError(f"invalid duration: {text[:40]!r}")
    try:
        return Duration(timedelta(microseconds=sign * total))
    except OverflowError:
        raise CelError("duration out of range") from None


def parse_time(text: str) -> Timestamp:
    """The instant of an RFC 3339 text, or of a date. Raises CelError."""
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            if len(text) != 10:
                raise ValueError
            moment = moment.replace(tzinfo=UTC)
        return Timestamp(moment.astimezone(UTC))
    except (ValueError, OverflowError):
        raise CelError(f"invalid timestamp: {text[:40]!r}") from None


def duration_text(duration: Duration) -> str:
    seconds = duration.span.total_seconds()
    return f"{int(seconds)}s" if seconds.is_integer() else f"{seconds}s"


def time_text(time: Timestamp) -> str:
    return time.moment.isoformat().replace("+00:00", "Z")


# --- semantic versions


_SEMVER = re.compile(
    r"(0|[1-9]\d{0,15})\.(0|[1-9]\d{0,15})\.(0|[1-9]\d{0,15})(?:-([0-9A-Za-z.-]+))?(?:\+[0-9A-Za-z.-]+)?"
)


def parse_semver(text: str, *, normalize: bool = False) -> Semver:
    """The semantic version of a text. Raises CelError."""
    original = text
    if normalize:
        core, dash, rest = text.removeprefix("v").partition("-")
        numbers = [part.lstrip("0") or "0" for part in core.split(".")]
        text = ".".join([*numbers, "0", "0"][: max(3, len(numbers))]) + dash + rest
    match = _SEMVER.fullmatch(text)
    if match is None:
        raise CelError(f"invalid semantic version: {original[:40]!r}")
    major, minor, patch, before = match.groups()
    parts: tuple[Any, ...] = (1,)
    if before is not None:
        parts = (0, tuple((0, int(p), "") if p.isdigit() else (1, 0, p) for p in before.split(".")))
    return Semver((int(major), int(minor), int(patch), parts), text)
