"""Query parameters as Kubernetes reads them: flags and numbers. Rules API-14, RT-13 (spec/api.md,
spec/runtime.md)."""

import math
import re
from collections.abc import Mapping

from refk8s.core.api import status
from refk8s.core.api.integer import parse_int64
from refk8s.core.api.status import ApiError


def is_true(value: str | None) -> bool:
    """Whether a flag is set: it is given, and is neither "false" nor "0"."""
    return value is not None and value.lower() not in ("false", "0")


def get_number(values: Mapping[str, str], name: str) -> int | None:
    """A 64-bit number; None if it is absent. Raises ApiError 400 for any other text, and for none."""
    text = values.get(name)
    try:
        return None if text is None else parse_int64(text)
    except ValueError as error:
        raise ApiError(status.bad_request(str(error))) from None


_DURATION = re.compile(r"(?:[0-9]{1,6}(?:\.[0-9]{1,9})?(?:ms|s|m|h))+", re.ASCII)
_PART = re.compile(r"([0-9.]+)(ms|s|m|h)", re.ASCII)
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def get_seconds(values: Mapping[str, str], name: str) -> int | None:
    """A duration in whole seconds, rounded up; None if it is absent or zero. Raises ApiError 400
    for any other text."""
    text = values.get(name, "")
    if not text or text == "0":
        return None
    if _DURATION.fullmatch(text) is None:
        shown = status.show(text)
        words = f"invalid timeout specified in the request URL - time: invalid duration {shown}"
        raise ApiError(status.bad_request(words))
    seconds = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))
    return math.ceil(seconds) or None
