"""Causes with Kubernetes' messages: one constructor for each reason. Rule VAL-2
(spec/validation.md)."""

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from refk8s.core.api.status import (
    DUPLICATE,
    FORBIDDEN,
    INTERNAL,
    INVALID,
    NOT_FOUND,
    NOT_SUPPORTED,
    REQUIRED,
    TOO_LONG,
    TOO_MANY,
    Cause,
)

Causes: TypeAlias = list[Cause]

IMMUTABLE = "field is immutable"
NOT_NEGATIVE = "must be greater than or equal to 0"
POSITIVE = "must be greater than 0"
PORT_RANGE = "must be between 1 and 65535, inclusive"
WHOLE = "[]"
"""The path of a whole object, as upstream writes it."""


def required(field: str, detail: str = "") -> Cause:
    return Cause(REQUIRED, field, detail)


def invalid(field: str, value: Any, detail: str) -> Cause:
    return Cause(INVALID, field, detail, value)


def forbidden(field: str, detail: str) -> Cause:
    return Cause(FORBIDDEN, field, detail)


def duplicate(field: str, value: Any) -> Cause:
    return Cause(DUPLICATE, field, "", value)


def not_found(field: str, value: Any) -> Cause:
    return Cause(NOT_FOUND, field, "", value)


def internal(field: str, detail: str) -> Cause:
    """A value that upstream's own check cannot read; the answer is 422 all the same."""
    return Cause(INTERNAL, field, detail)


def too_long(field: str, bytes_max: int) -> Cause:
    return Cause(TOO_LONG, field, f"may not be more than {bytes_max} bytes")


def too_many(field: str, count: int, count_max: int) -> Cause:
    return Cause(TOO_MANY, field, f"{count}: must have at most {count_max} items")


def not_supported(field: str, value: Any, supported: Iterable[str]) -> Cause:
    words = ", ".join([f'"{word}"' for word in supported])
    return Cause(NOT_SUPPORTED, field, f"supported values: {words}", value)


def malformed(field: str, value: Any, check: Callable[[Any], Iterable[str]]) -> Causes:
    """The causes for a value whose format is wrong; `check` is a function of names.py."""
    return [invalid(field, value, detail) for detail in check(value)]


def not_negative(field: str, value: int | None) -> Causes:
    """No cause if the number is absent or at least 0."""
    return [] if value is None or value >= 0 else [invalid(field, value, NOT_NEGATIVE)]


def unchanged(field: str, new: Any, old: Any) -> Causes:
    """A cause if an immutable field has changed (VAL-5)."""
    return [] if new == old else [invalid(field, new, IMMUTABLE)]
