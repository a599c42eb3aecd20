"""The JSON paths of CustomResourceDefinitions: printer columns, scale and selectable fields. Rules
CRD-16 to CRD-18 (spec/custom_resources.md).

Source: Kubernetes documentation, "JSONPath Support", "Extend the Kubernetes API with
CustomResourceDefinitions" (Additional printer columns, Scale subresource, Field selectors for
custom resources).
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import Any, Final

from refk8s.core.api.json_text import equal
from refk8s.core.value import Value

PATH_LENGTH_MAX: Final = 1_024
FOUND_MAX: Final = 1_000
"""The most values that a path finds in one object."""


class InvalidPath(ValueError):
    """The text is not a path that is supported here. The message says why."""


class Step(Value, frozen=True):
    """One step. `kind`: key, index, slice, wildcard, descent or filter."""

    kind: str
    key: str = ""
    numbers: tuple[int | None, ...] = ()
    filter: tuple[tuple[Step, ...], str, Any] | None = None


FIELD_STEP = re.compile(r"\.([A-Za-z_][A-Za-z0-9_]*)|\['([^']*)'\]")
"""A step of the fieldPath of a validation rule."""

_PLAIN = re.compile(r"\.((?:[^.\[\]'\"\s()@?*\\]|\\.)+)")
_QUOTED = re.compile(r"\[\s*(?:'((?:[^'\\]|\\.)*+)'|\"((?:[^\"\\]|\\.)*+)\")\s*\]")
_NUMBERS = re.compile(r"\[\s*(-?\d{0,9})\s*(:?)\s*(-?\d{0,9})\s*(?::\s*(-?\d{0,9})\s*)?\]")
_FILTER = re.compile(
    r"\[\?\(\s*@([^=!<>()]*?)\s*(?:(==|!=|<=|>=|<|>)\s*"
    r"('(?:[^'\\]|\\.)*+'|\"(?:[^\"\\]|\\.)*+\"|[^()\s'\"]+)\s*)?\)\]"
)


@lru_cache(maxsize=1024)
def parse_path(text: str) -> tuple[Step, ...]:
    """The steps of a path such as `.status.conditions[?(@.type=="Ready")].status`. Raises
    InvalidPath."""
    if len(text) > PATH_LENGTH_MAX:
        raise InvalidPath(f"a path has at most {PATH_LENGTH_MAX} characters")
    steps: list[Step] = []
    at = 0
    while at < len(text):
        step, at = _step(text, at)
        steps.append(step)
    return tuple(steps)


def _step(text: str, at: int) -> tuple[Step, int]:
    if text.startswith("..", at):
        return Step("descent"), at + 1
    if text.startswith(".*", at):
        return Step("wildcard"), at + 2
    if text.startswith("[*]", at):
        return Step("wildcard"), at + 3
    if match := _PLAIN.match(text, at):
        return Step("key", match[1].replace("\\", "")), match.end()
    if text.startswith(".[", at):
        at += 1
    if match := _QUOTED.match(text, at):
        return Step("key", _unquoted(match[1] if match[1] is not None else match[2])), match.end()
    if match := _FILTER.match(text, at):
        return Step("filter", filter=_filter(match)), match.end()
    if (match := _NUMBERS.match(text, at)) and match[0].strip("[] "):
        return _numbers(match), match.end()
    raise InvalidPath(f"unexpected {text[at : at + 20]!r}")


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)


def _numbers(match: re.Match[str]) -> Step:
    first, colon, second, third = match.groups()
    if not colon:
        if first in ("", "-"):
            raise InvalidPath("an index is a number")
        return Step("index", numbers=(int(first),))
    numbers = [int(one) if one not in (None, "", "-") else None for one in (first, second, third)]
    if numbers[2] is not None and numbers[2] <= 0:
        raise InvalidPath("the step of a slice must be positive")
    return Step("slice", numbers=tuple(numbers))


def _filter(match: re.Match[str]) -> tuple[tuple[Step, ...], str, Any]:
    path, operator, literal = match.groups()
    if operator is None:
        return parse_path(path), "", None
    if literal[0] in "'\"":
        return parse_path(path), operator, _unquoted(literal[1:-1])
    try:
        return parse_path(path), operator, json.loads(literal)
    except ValueError:
        raise InvalidPath(f"unrecognized literal {literal[:20]!r}") from None


def find(steps: tuple[Step, ...], value: Any) -> list[Any]:
    """The values at a path, in order; at most FOUND_MAX. O(size) for a path without descents."""
    found = [value]
    for step in steps:
        found = [one for item in found for one in _follow(step, item)][:FOUND_MAX]
        if not found:
            break
    return found


def _follow(step: Step, value: Any) -> list[Any]:
    match step.kind:
        case "key":
            return [value[step.key]] if isinstance(value, dict) and step.key in value else []
        case "index":
            place = step.numbers[0] or 0
            is_there = isinstance(value, list) and -len(value) <= place < len(value)
            return [value[place]] if is_there else []
        case "slice":
            return value[slice(*step.numbers)] if isinstance(value, list) else []
        case "wildcard":
            return _children(value)
        case "descent":
            return _descendants(value)
    assert step.filter is not None
    items = value if isinstance(value, list) else _children(value)
    return [item for item in items if _holds(step.filter, item)]


def _children(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [value[key] for key in sorted(value)]
    return list(value) if isinstance(value, list) else []


def _descendants(value: Any) -> list[Any]:
    found: list[Any] = []
    waiting = [value]
    while waiting and len(found) < FOUND_MAX:
        one = waiting.pop()
        found.append(one)
        waiting.extend(reversed(_children(one)))
    return found


def _holds(condition: tuple[tuple[Step, ...], str, Any], item: Any) -> bool:
    steps, operator, literal = condition
    found = find(steps, item)
    if not operator:
        return bool(found)
    return any(_compare(one, operator, literal) for one in found)


def _compare(one: Any, operator: str, other: Any) -> bool:
    if operator in ("==", "!="):
        return equal(one, other) is (operator == "==")
    if isinstance(one, str) is not isinstance(other, str) or isinstance(one, bool | dict | list):
        return False
    if one is None or other is None or isinstance(other, bool | dict | list):
        return False
    less, more = one < other, one > other
    return bool({"<": less, ">": more, "<=": not more, ">=": not less}[operator])


# --- simple paths, which name one field


_SIMPLE = re.compile(r"(?:\.[^.\[\]\s]+)+")
_SELECTABLE_STEP = re.compile(r"\.([A-Za-z_][A-Za-z0-9_-]*)|\['([^']+)'\]|\[\"([^\"]+)\"\]")


def keys_of(path: str) -> tuple[str, ...]:
    """The keys of a path such as `.spec.replicas`."""
    return tuple(path.removeprefix(".").split("."))


def get_at(content: Any, keys: tuple[str, ...]) -> Any:
    """The value at these keys; None if there is none."""
    for key in keys:
        if not isinstance(content, dict):
            return None
        content = content.get(key)
    return content


def set_at(content: dict[str, Any], keys: tuple[str, ...], value: Any) -> dict[str, Any]:
    """A copy with another value at these keys; what is between is made if it is absent."""
    key, *rest = keys
    if not rest:
        return {**content, key: value}
    inner = content.get(key)
    return {**content, key: set_at(inner if isinstance(inner, dict) else {}, tuple(rest), value)}


def selectable_keys(path: str) -> tuple[str, ...]:
    """The keys of the path of a selectable field. Raises InvalidPath."""
    keys: list[str] = []
    at = 0
    if not path:
        raise InvalidPath("must not be empty")
    while at < len(path):
        match = _SELECTABLE_STEP.match(path, at)
        if match is None:
            rest = path[at:]
            word = re.match(r"[\w-]+", rest)
            raise InvalidPath(f"expected [ or . but got: {word[0] if word else rest[:1]}")
        keys.append(next(one for one in match.groups() if one is not None))
        at = match.end()
    return tuple(keys)
