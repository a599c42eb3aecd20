"""The functions of expressions: the standard ones, and those that Kubernetes adds. Rule CEL-3
(spec/cel.md).

A function gets its receiver as first argument. TypeError means that it is not defined for these
types. Source: Common Expression Language specification, "List of Standard Definitions"; Kubernetes
documentation, "Common Expression Language in Kubernetes" (CEL libraries).
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from ipaddress import IPv4Address, ip_address, ip_network
from itertools import pairwise
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from refk8s.core.api.quantity import QuantityError, parse
from refk8s.core.cel import authorizer
from refk8s.core.cel.patterns import compile_pattern
from refk8s.core.cel.values import (
    INT_MAX,
    INT_MIN,
    NONE,
    CelError,
    Cidr,
    Duration,
    Ip,
    Optional,
    Quantity,
    Semver,
    Timestamp,
    TypeValue,
    UInt,
    Url,
    duration_text,
    parse_duration,
    parse_semver,
    parse_time,
    time_text,
    type_name,
    unsigned,
    whole,
)

TEXT_LENGTH_MAX: Final = 1 << 20
FOUND_MAX: Final = 10_000


def _need(condition: bool) -> None:
    if not condition:
        raise TypeError


def _text(value: Any) -> str:
    _need(isinstance(value, str))
    return str(value)


def _list(value: Any) -> list[Any]:
    _need(isinstance(value, list))
    found: list[Any] = value
    return found


def _number(value: Any) -> int:
    _need(type(value) is int)
    return int(value)


# --- conversions


def _to_int(value: Any) -> int:
    match value:
        case bool():
            raise TypeError
        case int():
            return whole(int(value))
        case float():
            if math.isnan(value) or not INT_MIN <= value <= INT_MAX:
                raise CelError("integer overflow")
            return int(value)
        case str():
            return whole(int(value))
        case Timestamp(moment=moment):
            return int(moment.timestamp())
    raise TypeError


def _to_uint(value: Any) -> UInt:
    _need(isinstance(value, int | float | str) and not isinstance(value, bool))
    return unsigned(int(value))


def _to_double(value: Any) -> float:
    _need(isinstance(value, int | float | str) and not isinstance(value, bool))
    return float(value)


def _to_string(value: Any) -> str:
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case int():
            return str(int(value))
        case float():
            return str(int(value)) if value.is_integer() and abs(value) < 1e21 else repr(value)
        case bytes():
            return value.decode()
        case Timestamp():
            return time_text(value)
        case Duration():
            return duration_text(value)
        case Ip(address=address):
            return str(address)
        case Cidr(network=network, address=address):
            return f"{address}/{network.prefixlen}"
    raise TypeError


def _to_bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    words = {"true": True, "True": True, "1": True, "t": True, "T": True, "TRUE": True}
    words |= dict.fromkeys(("false", "False", "0", "f", "F", "FALSE"), False)
    if _text(value) not in words:
        raise CelError("type conversion error from 'string' to 'bool'")
    return words[value]


def _size(value: Any) -> int:
    _need(isinstance(value, str | bytes | list | dict))
    return len(value)


# --- texts


def _matches(text: str, pattern: str) -> bool:
    return compile_pattern(_text(pattern)).matches(_text(text))


def _find(text: str, pattern: str) -> str:
    found = _find_all(text, pattern, 1)
    return found[0] if found else ""


def _find_all(text: str, pattern: str, limit: int = -1) -> list[str]:
    most = FOUND_MAX if _number(limit) < 0 else min(limit, FOUND_MAX)
    return compile_pattern(_text(pattern)).find_all(_text(text), most)


def _index_of(value: Any, item: Any, start: int = 0) -> int:
    from refk8s.core.cel.evaluate import equals

    if isinstance(value, str):
        _check_range(_number(start), len(value))
        return value.find(_text(item), start)
    return next((place for place, one in enumerate(_list(value)) if equals(one, item)), -1)


def _last_index_of(value: Any, item: Any, end: int | None = None) -> int:
    from refk8s.core.cel.evaluate import equals

    if isinstance(value, str):
        if end is None:
            return value.rfind(_text(item))
        _check_range(_number(end), len(value))
        return value.rfind(_text(item), 0, end + len(item))
    places = [place for place, one in enumerate(_list(value)) if equals(one, item)]
    return places[-1] if places else -1


def _check_range(place: int, length: int) -> None:
    if not 0 <= place <= length:
        raise CelError(f"index out of range: {place}")


def _char_at(text: str, place: int) -> str:
    _check_range(_number(place), len(_text(text)))
    return text[place : place + 1]


def _substring(text: str, start: int, end: int | None = None) -> str:
    stop = len(_text(text)) if end is None else _number(end)
    _check_range(_number(start), len(text))
    _check_range(stop, len(text))
    if start > stop:
        raise CelError(f"invalid substring range. start: {start}, end: {stop}")
    return text[start:stop]


def _replace(text: str, old: str, new: str, limit: int = -1) -> str:
    count = _text(text).count(_text(old)) if old else len(text) + 1
    count = count if _number(limit) < 0 else min(count, limit)
    if len(text) + count * len(_text(new)) > TEXT_LENGTH_MAX:
        raise CelError("the text becomes too long")
    return text.replace(old, new, count)


def _split(text: str, separator: str, limit: int = -1) -> list[str]:
    if _number(limit) == 0:
        return []
    if not _text(separator):
        parts = list(_text(text))
        if 0 < limit < len(parts):
            return [*parts[: limit - 1], "".join(parts[limit - 1 :])]
        return parts
    return _text(text).split(separator, -1 if limit < 0 else limit - 1)


def _join(values: list[str], separator: str = "") -> str:
    return _text(separator).join([_text(one) for one in _list(values)])


_LOWER = {code: code + 32 for code in range(65, 91)}
_UPPER = {code: code - 32 for code in range(97, 123)}


def _format(text: str, values: list[Any]) -> str:
    """The text with its clauses (%s, %d, %.2f ...) replaced by the values, in order."""
    made, left, at = [], list(_list(values)), 0
    text = _text(text)
    while (percent := text.find("%", at)) >= 0:
        made.append(text[at:percent])
        at = percent + 1
        if text[at : at + 1] == "%":
            made.append("%")
            at += 1
            continue
        precision = 6
        if text[at : at + 1] == ".":
            digits = ""
            at += 1
            while text[at : at + 1].isdigit() and len(digits) < 3:
                digits += text[at]
                at += 1
            precision = min(int(digits or "0"), 100)
        if not left:
            raise CelError("index 0 out of range")
        made.append(_clause(text[at : at + 1], left.pop(0), precision))
        at += 1
    return "".join(made) + text[at:]


def _clause(kind: str, value: Any, precision: int) -> str:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    match kind:
        case "s":
            return _shown(value)
        case "d":
            _need(isinstance(value, int) and not isinstance(value, bool))
            return str(int(value))
        case "f" | "e":
            _need(is_number)
            return f"{float(value):.{precision}{kind}}"
        case "b":
            _need(isinstance(value, int))
            return f"{int(value):b}"
        case "o":
            _need(isinstance(value, int))
            return f"{int(value):o}"
        case "x" | "X":
            raw = value.encode() if isinstance(value, str) else value
            shown = raw.hex() if isinstance(raw, bytes) else f"{int(raw):x}"
            return shown if kind == "x" else shown.upper()
    raise CelError(f"could not parse formatting clause: unrecognized formatting clause {kind!r}")


def _shown(value: Any) -> str:
    match value:
        case None:
            return "null"
        case list():
            return "[" + ", ".join(_shown(one) for one in value) + "]"
        case dict():
            pairs = sorted((_shown(key), _shown(one)) for key, one in value.items())
            return "{" + ", ".join(f"{key}: {one}" for key, one in pairs) + "}"
        case TypeValue(name=name):
            return name
    return _to_string(value)


# --- lists


def _key(values: list[Any]) -> list[Any]:
    kinds = {type_name(one) for one in _list(values)}
    _need(len(kinds) <= 1 and not kinds & {"list", "map", "null_type"})
    return values


def _is_sorted(values: list[Any]) -> bool:
    return all(one <= other for one, other in pairwise(_key(values)))


def _sum(values: list[Any]) -> Any:
    from refk8s.core.cel.evaluate import add

    total: Any = None
    for one in _list(values):
        total = one if total is None else add(total, one)
    return 0 if total is None else total


def _least(values: list[Any]) -> Any:
    if not _key(values):
        raise CelError("min called on empty list")
    return min(values)


def _greatest(values: list[Any]) -> Any:
    if not _key(values):
        raise CelError("max called on empty list")
    return max(values)


def _numbers(*values: Any) -> list[Any]:
    found = values[0] if len(values) == 1 and isinstance(values[0], list) else list(values)
    _need(all(isinstance(one, int | float) and not isinstance(one, bool) for one in found))
    if not found:
        raise CelError("argument must not be empty")
    return found


def _slice(values: list[Any], start: int, end: int) -> list[Any]:
    _check_range(_number(start), len(_list(values)))
    _check_range(_number(end), len(values))
    if start > end:
        raise CelError(
            f"cannot slice({start}, {end}), start index must be less than or equal to end index"
        )
    return values[start:end]


def _flatten(values: list[Any], depth: int = 1) -> list[Any]:
    found: list[Any] = []
    for one in _list(values):
        if isinstance(one, list):
            found += _flatten(one, depth - 1) if depth > 1 else one
        else:
            found.append(one)
    return found


def _distinct(values: list[Any]) -> list[Any]:
    from refk8s.core.cel.evaluate import equals

    if len(_list(values)) > 1_000:
        raise CelError("distinct() of more than 1000 items")
    found: list[Any] = []
    for one in values:
        if not any(equals(one, other) for other in found):
            found.append(one)
    return found


def _subset(part: list[Any], whole_list: list[Any]) -> bool:
    from refk8s.core.cel.evaluate import equals

    if len(_list(part)) * len(_list(whole_list)) > 1_000_000:
        raise CelError("sets are too large")
    return all(any(equals(one, other) for other in whole_list) for one in part)


def _intersects(one: list[Any], other: list[Any]) -> bool:
    return any(_subset([item], other) for item in _list(one))


# --- what Kubernetes adds


def quantity(text: str) -> Quantity:
    try:
        return Quantity(Decimal(parse(_text(text)).nano).scaleb(-9))
    except QuantityError as error:
        raise CelError(str(error)) from None


def _is_valid(make: Callable[[Any], Any]) -> Callable[[Any], bool]:
    def check(value: Any) -> bool:
        try:
            make(value)
        except (CelError, ValueError):
            return False
        return True

    return check


def _compare(one: Any, other: Any) -> int:
    _need(type(one) is type(other) and isinstance(one, Quantity | Semver))
    return int(one > other) - int(one < other)


def _sign(value: Quantity) -> int:
    return (value.number > 0) - (value.number < 0)


def _combine(one: Quantity, other: Any, sign: int) -> Quantity:
    number = other.number if isinstance(other, Quantity) else Decimal(_number(other))
    return Quantity(one.number + sign * number)


def _as_integer(value: Quantity) -> int:
    if value.number != value.number.to_integral_value():
        raise CelError("cannot convert value to integer")
    return whole(int(value.number))


def _url(text: str) -> Url:
    parts = urlsplit(_text(text))
    if not (parts.scheme and parts.netloc) and not text.startswith("/"):
        raise CelError(f"URL parse error during conversion from string: {text[:40]!r}")
    return Url(text, parts)


def _host(url: Url) -> str:
    return url.parts.netloc.rpartition("@")[2]


def _hostname(url: Url) -> str:
    return url.parts.hostname or ""


def _port(url: Url) -> str:
    return "" if url.parts.port is None else str(url.parts.port)


def _ip(text: str) -> Ip:
    address = ip_address(_text(text))
    if "%" in text or getattr(address, "ipv4_mapped", None) is not None:
        raise CelError(f"IP Address {text[:60]!r} parse error")
    return Ip(address)


def _cidr(text: str) -> Cidr:
    if "/" not in _text(text):
        raise CelError(f"network address parse error: {text[:60]!r}")
    network = ip_network(text, strict=False)
    return Cidr(network, ip_address(text.partition("/")[0]))


def _contains_ip(cidr: Cidr, value: Any) -> bool:
    found = value if isinstance(value, Ip) else _ip(value)
    return found.address.version == cidr.network.version and found.address in cidr.network


def _contains_cidr(cidr: Cidr, value: Any) -> bool:
    inner: Any = (value if isinstance(value, Cidr) else _cidr(value)).network
    return inner.version == cidr.network.version and bool(inner.subnet_of(cidr.network))


def _contains(text: Any, part: Any) -> bool:
    return _text(part) in _text(text)


def _value(optional: Optional) -> Any:
    _need(isinstance(optional, Optional))
    if not optional.is_present:
        raise CelError("optional.none() dereference")
    return optional.value


def _of_non_zero(value: Any) -> Optional:
    is_zero = value is None or value in (0, "", b"", [], {}) or value is False
    return NONE if is_zero else Optional(value, True)


# --- parts of times


def _in_zone(value: Any, zone: str = "UTC") -> datetime:
    _need(isinstance(value, Timestamp))
    moment: datetime = value.moment
    if zone == "UTC":
        return moment
    if zone[:1] in ("+", "-") or zone[:1].isdigit():
        hours, _, minutes = zone.lstrip("+-").partition(":")
        span = timedelta(hours=int(hours), minutes=int(minutes or 0))
        return moment.astimezone(timezone(-span if zone[0] == "-" else span))
    # imported here: few rules name a zone
    from refk8s.core.api.cron_schedule import ScheduleError, load_zone

    try:
        return moment.astimezone(load_zone(zone) or UTC)
    except ScheduleError as error:
        raise CelError(str(error)) from None


def _timed(part: Callable[[datetime], int], unit: float = 0) -> Callable[..., int]:
    def get(value: Any, zone: str = "UTC") -> int:
        if isinstance(value, Duration) and unit:
            return int(value.span.total_seconds() / unit)
        return part(_in_zone(value, zone))

    return get


def _of_duration(value: Any, zone: str = "UTC") -> int:
    if isinstance(value, Duration):
        return int(value.span / timedelta(milliseconds=1)) % 1000
    return _in_zone(value, zone).microsecond // 1000


FUNCTIONS: Final[Mapping[str, Callable[..., Any]]] = {
    **authorizer.FUNCTIONS,
    "jsonpatch.escapeKey": lambda text: _text(text).replace("~", "~0").replace("/", "~1"),
    "int": _to_int, "uint": _to_uint, "double": _to_double, "string": _to_string,
    "bool": _to_bool, "bytes": lambda v: v if isinstance(v, bytes) else _text(v).encode(),
    "dyn": lambda v: v, "type": lambda v: TypeValue(type_name(v)), "size": _size,
    "timestamp": lambda v: v if isinstance(v, Timestamp) else parse_time(_text(v)),
    "duration": lambda v: v if isinstance(v, Duration) else parse_duration(_text(v)),
    "contains": _contains,
    "startsWith": lambda text, part: _text(text).startswith(_text(part)),
    "endsWith": lambda text, part: _text(text).endswith(_text(part)),
    "matches": _matches, "find": _find, "findAll": _find_all, "charAt": _char_at,
    "indexOf": _index_of, "lastIndexOf": _last_index_of, "substring": _substring,
    "replace": _replace, "split": _split, "join": _join, "format": _format,
    "lowerAscii": lambda text: _text(text).translate(_LOWER),
    "upperAscii": lambda text: _text(text).translate(_UPPER),
    "trim": lambda text: _text(text).strip(),
    "reverse": lambda v: v[::-1] if isinstance(v, str | list) else _need(False),
    "isSorted": _is_sorted, "sum": _sum, "min": _least, "max": _greatest,
    "slice": _slice, "flatten": _flatten, "distinct": _distinct,
    "sort": lambda values: sorted(_key(values)),
    "first": lambda v: Optional(v[0], True) if _list(v) else NONE,
    "last": lambda v: Optional(v[-1], True) if _list(v) else NONE,
    "sets.contains": lambda one, other: _subset(other, one),
    "sets.equivalent": lambda one, other: _subset(one, other) and _subset(other, one),
    "sets.intersects": _intersects,
    "math.greatest": lambda *v: max(_numbers(*v)), "math.least": lambda *v: min(_numbers(*v)),
    "math.abs": lambda v: abs(_numbers(v)[0]), "math.sign": lambda v: (_numbers(v)[0] > 0) - (v < 0),
    "math.ceil": lambda v: float(math.ceil(v)), "math.floor": lambda v: float(math.floor(v)),
    "math.trunc": lambda v: float(math.trunc(v)), "math.round": lambda v: float(math.floor(v + 0.5)),
    "math.isNaN": lambda v: math.isnan(v), "math.isInf": lambda v: math.isinf(v),
    "math.isFinite": lambda v: math.isfinite(v),
    "base64.encode": lambda v: base64.b64encode(v).decode(),
    "base64.decode": lambda v: base64.b64decode(_text(v)),
    "optional.of": lambda v: Optional(v, True), "optional.none": lambda: NONE,
    "optional.ofNonZeroValue": _of_non_zero, "hasValue": lambda v: bool(v.is_present),
    "value": _value,
    "quantity": quantity, "isQuantity": _is_valid(quantity), "sign": _sign,
    "isInteger": lambda q: q.number == q.number.to_integral_value(),
    "asInteger": _as_integer, "asApproximateFloat": lambda q: float(q.number),
    "add": lambda one, other: _combine(one, other, 1),
    "sub": lambda one, other: _combine(one, other, -1),
    "compareTo": _compare, "isGreaterThan": lambda one, other: _compare(one, other) > 0,
    "isLessThan": lambda one, other: _compare(one, other) < 0,
    "url": _url, "isURL": _is_valid(_url), "getScheme": lambda url: url.parts.scheme,
    "getHost": _host, "getHostname": _hostname, "getPort": _port,
    "getEscapedPath": lambda url: url.parts.path,
    "getQuery": lambda url: parse_qs(url.parts.query, keep_blank_values=True),
    "ip": lambda v: Ip(v.address) if isinstance(v, Cidr) else _ip(v), "isIP": _is_valid(_ip),
    "ip.isCanonical": lambda text: str(_ip(text).address) == text,
    "family": lambda v: v.address.version,
    "isUnspecified": lambda v: v.address.is_unspecified,
    "isLoopback": lambda v: v.address.is_loopback,
    "isLinkLocalMulticast": lambda v: v.address.is_multicast and (
        v.address in ip_network("224.0.0.0/24") if isinstance(v.address, IPv4Address)
        else v.address in ip_network("ff02::/16")),
    "isLinkLocalUnicast": lambda v: v.address.is_link_local,
    "isGlobalUnicast": lambda v: not (
        v.address.is_unspecified or v.address.is_loopback or v.address.is_multicast
        or v.address.is_link_local),
    "cidr": _cidr, "isCIDR": _is_valid(_cidr), "containsIP": _contains_ip,
    "containsCIDR": _contains_cidr, "masked": lambda c: Cidr(c.network, c.network.network_address),
    "prefixLength": lambda c: c.network.prefixlen,
    "semver": lambda text, normalize=False: parse_semver(_text(text), normalize=normalize),
    "isSemver": lambda text, normalize=False: _is_valid(
        lambda one: parse_semver(_text(one), normalize=normalize))(text),
    "major": lambda v: v.order[0], "minor": lambda v: v.order[1], "patch": lambda v: v.order[2],
    "getFullYear": _timed(lambda m: m.year), "getMonth": _timed(lambda m: m.month - 1),
    "getDate": _timed(lambda m: m.day), "getDayOfMonth": _timed(lambda m: m.day - 1),
    "getDayOfWeek": _timed(lambda m: m.isoweekday() % 7),
    "getDayOfYear": _timed(lambda m: m.timetuple().tm_yday - 1),
    "getHours": _timed(lambda m: m.hour, 3600), "getMinutes": _timed(lambda m: m.minute, 60),
    "getSeconds": _timed(lambda m: m.second, 1), "getMilliseconds": _of_duration,
}  # fmt: skip
"""By name; methods and functions alike."""
