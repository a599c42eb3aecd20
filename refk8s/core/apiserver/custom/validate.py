"""Validation of custom objects by their schema. Rules CRD-9 and CRD-11 (spec/custom_resources.md).

The causes have upstream's fields, reasons and words. On an update a value that has not changed is
not checked again (ratcheting). Source: Kubernetes documentation, "Extend the Kubernetes API with
CustomResourceDefinitions" (Validation, Validation ratcheting); OpenAPI Specification 3.0.0.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Final

from refk8s.core.api.json_text import equal
from refk8s.core.api.status import (
    DUPLICATE,
    INVALID,
    NOT_SUPPORTED,
    REQUIRED,
    TOO_LONG,
    TOO_MANY,
    TYPE_INVALID,
    Cause,
    show,
)
from refk8s.core.apiserver.custom.schema import Schema

ABSENT: Final = object()
"""As the old value: there is none to compare with."""

CAUSES_MAX: Final = 200
"""After so many causes the check of an object ends; the answer has those found."""

_NO_FIELD = "<nil>"
_INTEGERS = {"int32": (-(2**31), 2**31 - 1), "int64": (-(2**63), 2**63 - 1)}


def validate(schema: Schema, value: Any, path: str, old: Any = ABSENT) -> list[Cause]:
    """The causes of a value. `old`: the value before an update. O(schema x value)."""
    found: list[Cause] = []
    _check(schema, value, path, old, found)
    return found


def validate_content(schema: Schema, content: dict[str, Any], old: Any = ABSENT) -> list[Cause]:
    """The causes of a whole object without its kind, apiVersion and metadata."""
    causes = validate(schema, content, "", old)
    causes += duplicates(schema, content, "", old)
    return causes


def _check(schema: Schema, value: Any, path: str, old: Any, found: list[Cause]) -> None:
    if len(found) >= CAUSES_MAX or (old is not ABSENT and equal(value, old)):  # CRD-11
        return
    if value is None:
        if not schema.nullable and (types := _types(schema)):
            found.append(_wrong_type(path, types, "null"))
        _check_enum(schema, value, path, found)
        return
    if not _check_type(schema, value, path, found):
        return
    _check_junctors(schema, value, path, found)
    if isinstance(value, str):
        _check_text(schema, value, path, found)
    elif isinstance(value, bool):
        pass
    elif isinstance(value, int | float):
        _check_number(schema, value, path, found)
    elif isinstance(value, list):
        _check_list(schema, value, path, old, found)
    _check_enum(schema, value, path, found)
    if isinstance(value, dict):
        _check_map(schema, value, path, old, found)


def _types(schema: Schema) -> tuple[str, ...]:
    if schema.is_int_or_string:
        return ("integer", "string")
    return (schema.type,) if schema.type else ()


def type_of(value: Any) -> str:
    """The OpenAPI type of a JSON value."""
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
    return "object"


def _check_type(schema: Schema, value: Any, path: str, found: list[Cause]) -> bool:
    types = _types(schema)
    actual = type_of(value)
    if not types or actual in types or (actual == "integer" and "number" in types):
        return True
    if actual == "number" and "integer" in types and float(value).is_integer():
        return True
    found.append(_wrong_type(path, types, actual))
    return False


def _wrong_type(path: str, types: Iterable[str], actual: str) -> Cause:
    words = f'{_named(path)} must be of type {",".join(types)}: "{actual}"'
    return Cause(TYPE_INVALID, _field(path), words, actual)


def _named(path: str) -> str:
    return f"{path} in body" if path else "in body"


def _field(path: str) -> str:
    return path or _NO_FIELD


def _child(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _check_enum(schema: Schema, value: Any, path: str, found: list[Cause]) -> None:
    enum = schema.enum
    if enum is None or any(equal(value, one) for one in enum):
        return
    listed = ", ".join(show(one) for one in enum)
    found.append(Cause(NOT_SUPPORTED, _field(path), f"supported values: {listed}", value))


def _check_text(schema: Schema, value: str, path: str, found: list[Cause]) -> None:
    at, named = _field(path), _named(path)
    if schema.max_length is not None and len(value) > schema.max_length:
        words = f"may not be more than {schema.max_length} bytes"
        found.append(Cause(TOO_LONG, at, words))
    if schema.min_length is not None and len(value) < schema.min_length:
        words = f"{named} should be at least {schema.min_length} chars long"
        found.append(Cause(INVALID, at, words, value))
    if schema.pattern is not None and not schema.pattern.matches(value):
        words = f"{named} should match '{schema.pattern.text}'"
        found.append(Cause(INVALID, at, words, value))
    if schema.format:
        # imported here, because many patterns are compiled, and a start has no custom objects
        from refk8s.core.apiserver.custom.formats import has_format

        if not has_format(schema.format, value):
            words = f'{named} must be of type {schema.format}: "{value}"'
            found.append(Cause(TYPE_INVALID, at, words, value))


def _check_number(schema: Schema, value: float, path: str, found: list[Cause]) -> None:
    at, named = _field(path), _named(path)
    bounds = _INTEGERS.get(schema.format)
    if bounds is not None and schema.type == "integer" and not bounds[0] <= value <= bounds[1]:
        words = f"Checked value must be of type integer with format {schema.format} in {path}"
        found.append(Cause(INVALID, _NO_FIELD, words, ""))
        return
    if (factor := schema.multiple_of) is not None and factor <= 0:
        words = f"factor MultipleOf declared for {path} must be positive: {show(factor)}"
        found.append(Cause(INVALID, at, words, factor))
    elif schema.multiple_of and not _is_multiple(value, schema.multiple_of):
        words = f"{named} should be a multiple of {show(schema.multiple_of)}"
        found.append(Cause(INVALID, at, words, value))
    if (limit := schema.maximum) is not None:
        is_below = value < limit if schema.exclusive_maximum else value <= limit
        if not is_below:
            than = "less than" if schema.exclusive_maximum else "less than or equal to"
            found.append(Cause(INVALID, at, f"{named} should be {than} {show(limit)}", value))
    if (limit := schema.minimum) is not None:
        is_above = value > limit if schema.exclusive_minimum else value >= limit
        if not is_above:
            than = "greater than" if schema.exclusive_minimum else "greater than or equal to"
            found.append(Cause(INVALID, at, f"{named} should be {than} {show(limit)}", value))


def _is_multiple(value: float, factor: float) -> bool:
    if isinstance(value, int) and isinstance(factor, int):
        return value % factor == 0
    quotient = value / factor
    return not math.isinf(quotient) and float(quotient).is_integer()


def _check_list(schema: Schema, value: list[Any], path: str, old: Any, found: list[Cause]) -> None:
    _check_size(len(value), schema.min_items, schema.max_items, "items", path, found)
    if schema.items is None:
        return
    before = by_keys(schema, old)
    for place, item in enumerate(value):
        known = ABSENT if before is None else before.get(key_of(schema, item), ABSENT)
        _check(schema.items, item, f"{path}[{place}]", known, found)


def _check_size(
    size: int, least: int | None, most: int | None, what: str, path: str, found: list[Cause]
) -> None:
    """Upstream calls what is too many items, also in a map."""
    if least is not None and size < least:
        words = f"{_named(path)} should have at least {least} {what}"
        found.append(Cause(INVALID, _field(path), words, size))
    if most is not None and size > most:
        words = f"{size}: must have at most {most} items"
        found.append(Cause(TOO_MANY, _field(path), words))


def by_keys(schema: Schema, old: Any) -> dict[Any, Any] | None:
    """The items of an old list of type map by their keys, the first of each; None for any other
    value, whose items have no identity."""
    if schema.list_type != "map" or not isinstance(old, list):
        return None
    found: dict[Any, Any] = {}
    for item in old:
        found.setdefault(key_of(schema, item), item)
    return found


def key_of(schema: Schema, item: Any) -> Any:
    """The identity of an item of a list of type map: the values of its keys, or their defaults."""
    if not isinstance(item, dict):
        return None
    values = []
    for key in schema.list_map_keys:
        value = item.get(key)
        if value is None and schema.items is not None and key in schema.items.properties:
            value = schema.items.properties[key].default
        values.append((type(value).__name__, value if not isinstance(value, dict | list) else None))
    return tuple(values)


def _check_map(
    schema: Schema, value: dict[str, Any], path: str, old: Any, found: list[Cause]
) -> None:
    bounds = schema.min_properties, schema.max_properties
    _check_size(len(value), *bounds, "properties", path, found)
    for key in schema.required:
        if key not in value:
            found.append(Cause(REQUIRED, _child(path, key)))
    before = old if isinstance(old, dict) else {}
    for key, item in value.items():
        child = schema.properties.get(key)
        if child is None and isinstance(schema.additional, Schema):
            child = schema.additional
        if child is not None:
            _check(child, item, _child(path, key), before.get(key, ABSENT), found)


def _check_junctors(schema: Schema, value: Any, path: str, found: list[Cause]) -> None:
    if schema.any_of:
        failures = [validate(one, value, path) for one in schema.any_of]
        if all(failures):
            found.append(_junctor(path, "must validate at least one schema (anyOf)"))
            found += _best(failures)
    if schema.one_of:
        failures = [validate(one, value, path) for one in schema.one_of]
        valid = sum(not causes for causes in failures)
        if valid != 1:
            which = f"Found {valid} valid alternatives" if valid else "Found none valid"
            found.append(_junctor(path, f"must validate one and only one schema (oneOf). {which}"))
            if not valid:
                found += _best(failures)
    if schema.all_of:
        failures = [validate(one, value, path) for one in schema.all_of]
        if any(failures):
            for causes in failures:
                found += causes
            found.append(_junctor(path, "must validate all the schemas (allOf)"))
    if schema.not_ is not None and not validate(schema.not_, value, path):
        found.append(_junctor(path, "must not validate the schema (not)"))


def _best(failures: list[list[Cause]]) -> list[Cause]:
    """The causes of the alternative that fits best: the first of those with the fewest."""
    return min(failures, key=len)


def _junctor(path: str, words: str) -> Cause:
    return Cause(INVALID, _NO_FIELD, f'"{path}" {words}', "")


# --- lists whose items are unique


def duplicates(schema: Schema, value: Any, path: str, old: Any = ABSENT) -> list[Cause]:
    """The causes of repeated items of sets, and of repeated keys of lists of type map (CRD-9)."""
    found: list[Cause] = []
    _duplicates(schema, value, path, old, found)
    return found


def _duplicates(schema: Schema, value: Any, path: str, old: Any, found: list[Cause]) -> None:
    if old is not ABSENT and equal(value, old):
        return
    if isinstance(value, dict):
        before = old if isinstance(old, dict) else {}
        for key, item in value.items():
            child = schema.properties.get(key)
            if child is None and isinstance(schema.additional, Schema):
                child = schema.additional
            if child is not None:
                _duplicates(child, item, _child(path, key), before.get(key, ABSENT), found)
    elif isinstance(value, list) and schema.items is not None:
        if schema.list_type in ("set", "map"):
            _repeated(schema, value, path, found)
        for place, item in enumerate(value):
            _duplicates(schema.items, item, f"{path}[{place}]", ABSENT, found)


def _repeated(schema: Schema, value: list[Any], path: str, found: list[Cause]) -> None:
    seen: dict[Any, None] = {}
    for place, item in enumerate(value):
        if len(found) >= CAUSES_MAX:
            return
        is_map = schema.list_type == "map"
        key = key_of(schema, item) if is_map else _identity(item)
        if key in seen:
            shown = (
                {name: item[name] for name in sorted(schema.list_map_keys) if name in item}
                if is_map and isinstance(item, dict)
                else item
            )
            found.append(Cause(DUPLICATE, f"{path}[{place}]", "", shown))
        seen[key] = None


def _identity(item: Any) -> Any:
    """A key that is equal for equal JSON values only."""
    if isinstance(item, dict):
        return ("object", tuple(sorted((key, _identity(one)) for key, one in item.items())))
    if isinstance(item, list):
        return ("array", tuple(map(_identity, item)))
    return ("boolean" if isinstance(item, bool) else "value", item)
