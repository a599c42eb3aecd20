"""Query parameters as Kubernetes reads them: flags and numbers. Rules API-14, RT-13 (spec/api.md,
spec/runtime.md)."""

from collections.abc import Mapping

from refk8s.core.api import status
from refk8s.core.api.integer import parse_int64
from refk8s.core.api.status import ApiError


def is_true(value: str | None) -> bool:
    """Whether a flag is set: it is given, and is neither "false" nor "0"."""
    return value is not None and value.lower() not in ("false", "0")


def get_number(values: Mapping[str, str], name: str) -> int | None:
    """A 64-bit number; None if it is absent or empty. Raises ApiError 400 for any other text."""
    text = values.get(name, "")
    try:
        return parse_int64(text) if text else None
    except ValueError as error:
        raise ApiError(status.bad_request(str(error))) from None
