"""The formats of texts that a schema can demand. Rule CRD-9 (spec/custom_resources.md).

A format that is not in the table lets every text pass, as upstream. Source: Kubernetes
documentation, "Extend the Kubernetes API with CustomResourceDefinitions" (Validation), which names
the formats; RFC 3339, RFC 4122, RFC 4648.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import Final
from urllib.parse import urlsplit

from refk8s.core.context import parse_timestamp

TEXT_LENGTH_MAX: Final = 4_096
"""No text of these formats is longer, except for bytes."""

_HEX = "[0-9a-fA-F]"
_UUID = f"{_HEX}{{8}}-?{_HEX}{{4}}-?%s{_HEX}{{3}}-?%s{_HEX}{{3}}-?{_HEX}{{12}}"
_HOST_LABEL = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?", re.ASCII)
_DATE = re.compile(r"\d{4}-(\d\d)-(\d\d)", re.ASCII)
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d+)?(?:[Zz]|[+-]\d\d:\d\d)", re.ASCII)
_DURATION_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)", re.ASCII)
_WORDED = re.compile(
    r"\s*\d+\s*(?:ns|nanos?|us|micros?|µs|ms|millis?|s|secs?|seconds?|m|mins?|minutes?|"
    r"h|hrs?|hours?|d|days?|w|wks?|weeks?)\s*",
    re.ASCII,
)
_MAC = re.compile(rf"{_HEX}{{2}}(?:[:-]{_HEX}{{2}}){{5}}|{_HEX}{{4}}(?:\.{_HEX}{{4}}){{2}}")
_COLOUR = re.compile(rf"#?(?:{_HEX}{{3}}|{_HEX}{{6}})")
_RGB = re.compile(r"rgb\(\s*(\d{1,3})\s*,\s*(\d{1,3})\s*,\s*(\d{1,3})\s*\)", re.ASCII)
_EMAIL = re.compile(r"[^@\s<>\"(),:;]+@[^@\s<>\"(),:;]+")
_ISBN10, _ISBN13 = re.compile(r"\d{9}[\dX]", re.ASCII), re.compile(r"\d{13}", re.ASCII)
_CARD = re.compile(r"\d{13,19}", re.ASCII)
_SSN = re.compile(r"\d{3}[- ]?\d{2}[- ]?\d{4}", re.ASCII)


def _pattern(pattern: re.Pattern[str]) -> Callable[[str], bool]:
    return lambda text: pattern.fullmatch(text) is not None


_UUID_DIGITS = {3: ("3",), 4: ("4", "[89abAB]"), 5: ("5", "[89abAB]")}
"""Of each version of a UUID: its digits for the version and the variant."""


def _uuid(version: str = _HEX, variant: str = _HEX) -> Callable[[str], bool]:
    return _pattern(re.compile(_UUID % (version, variant)))


def _parses(parse: Callable[[str], object]) -> Callable[[str], bool]:
    def check(text: str) -> bool:
        try:
            parse(text)
        except ValueError:
            return False
        return True

    return check


def _is_date(text: str) -> bool:
    return _DATE.fullmatch(text) is not None and _parses(parse_timestamp)(f"{text}T00:00:00Z")


def _is_date_time(text: str) -> bool:
    return _TIME.fullmatch(text) is not None and _parses(parse_timestamp)(
        f"{text[:10]}T{text[11:19]}Z"
    )


def is_duration(text: str) -> bool:
    """Whether the text is a duration such as `1h30m`, or `3 days`."""
    rest = text[1:] if text[:1] in ("+", "-") else text
    if rest == "0":
        return True
    at = 0
    while match := _DURATION_PART.match(rest, at):
        at = match.end()
    return (at > 0 and at == len(rest)) or _WORDED.fullmatch(text) is not None


def _is_host(text: str) -> bool:
    name = text.removesuffix(".")
    return (
        0 < len(name) <= 253
        and all(_HOST_LABEL.fullmatch(label) for label in name.split("."))
        and not name.rpartition(".")[2].isdigit()
    )


def _is_uri(text: str) -> bool:
    if not text or any(character.isspace() or ord(character) < 32 for character in text):
        return False
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return bool(parts.scheme) or text.startswith("/")


def _is_bytes(text: str) -> bool:
    try:
        base64.b64decode(text.encode("ascii"), validate=True)
    except (ValueError, binascii.Error):
        return False
    return True


def _is_card(text: str) -> bool:
    digits = text.replace(" ", "").replace("-", "")
    if _CARD.fullmatch(digits) is None:
        return False
    total = 0
    for place, digit in enumerate(reversed(digits)):
        number = int(digit) * (1 + place % 2)
        total += number - 9 if number > 9 else number
    return total % 10 == 0


def _is_isbn10(text: str) -> bool:
    digits = text.replace("-", "").replace(" ", "")
    if _ISBN10.fullmatch(digits) is None:
        return False
    values = [10 if digit == "X" else int(digit) for digit in digits]
    return sum((place + 1) * value for place, value in enumerate(values)) % 11 == 0


def _is_isbn13(text: str) -> bool:
    digits = text.replace("-", "").replace(" ", "")
    if _ISBN13.fullmatch(digits) is None:
        return False
    return sum(int(digit) * (3 if place % 2 else 1) for place, digit in enumerate(digits)) % 10 == 0


def _is_rgb(text: str) -> bool:
    match = _RGB.fullmatch(text)
    return match is not None and all(int(value) <= 255 for value in match.groups())


_FORMATS: Final[Mapping[str, Callable[[str], bool]]] = {
    "bsonobjectid": _pattern(re.compile(f"{_HEX}{{24}}")),
    "uri": _is_uri,
    "email": _pattern(_EMAIL),
    "hostname": _is_host,
    "ipv4": _parses(IPv4Address),
    "ipv6": _parses(IPv6Address),
    "cidr": lambda text: "/" in text and _parses(lambda one: ip_network(one, strict=False))(text),
    "mac": _pattern(_MAC),
    "uuid": _uuid(),
    **{f"uuid{version}": _uuid(*digits) for version, digits in _UUID_DIGITS.items()},
    "isbn": lambda text: _is_isbn10(text) or _is_isbn13(text),
    "isbn10": _is_isbn10,
    "isbn13": _is_isbn13,
    "creditcard": _is_card,
    "ssn": _pattern(_SSN),
    "hexcolor": _pattern(_COLOUR),
    "rgbcolor": _is_rgb,
    "date": _is_date,
    "duration": is_duration,
    "datetime": _is_date_time,
    "date-time": _is_date_time,
}


def has_format(name: str, text: str) -> bool:
    """Whether the text has the format; true for a format that is not known. O(length)."""
    if name == "byte":
        return _is_bytes(text)
    check = _FORMATS.get(name)
    return check is None or (len(text) <= TEXT_LENGTH_MAX and check(text))
