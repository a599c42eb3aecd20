"""Checks that an applied configuration has the type of its kind. Rule APPLY-10 (spec/apply.md).

The messages are upstream's, and so is their status 500. Source: Kubernetes documentation,
"Server-Side Apply".
"""

import math
from typing import Any

from refk8s.core.apiserver.apply.compare import KeyProblem, element_of
from refk8s.core.apiserver.apply.field_set import shown
from refk8s.core.apiserver.apply.types import BOOLEAN, DEDUCED, NUMERIC, STRING, UNTYPED, Type

ERRORS_MAX = 100
"""How many problems are listed."""


def problems(type_: Type, value: Any) -> list[str]:
    """Why the value is not of its type: path and message. Empty if it is."""
    found: list[str] = []
    _check(type_, value, "", found)
    return found[:ERRORS_MAX]


def message_of(found: list[str]) -> str:
    """The problems as one message."""
    if len(found) == 1:
        return found[0]
    return "\n".join(["errors:", *[f"  {one}" for one in found]])


def _check(type_: Type, value: Any, path: str, found: list[str]) -> None:
    if value is None or len(found) > ERRORS_MAX:
        return
    if type_.is_map and (isinstance(value, dict) or not _may_be_other(type_, value)):
        if not isinstance(value, dict):
            found.append(_at(path, f"expected map, got &{{{go_text(value)}}}"))
            return
        _check_fields(type_, value, path, found)
    elif type_.scalar and (not isinstance(value, list) or not type_.is_list):
        problem = _scalar_problem(type_.scalar, value)
        if problem:
            found.append(_at(path, problem))
    elif not isinstance(value, list):
        found.append(_at(path, f"expected list, got &{{{go_text(value)}}}"))
    else:
        _check_items(type_, value, path, found)


def _may_be_other(type_: Type, value: Any) -> bool:
    """Whether the value has another of the type's forms than a map."""
    if isinstance(value, list):
        return type_.is_list
    return type_.scalar != ""


def _at(path: str, message: str) -> str:
    return f"{path}: {message}" if path else message


def _check_fields(type_: Type, value: dict[str, Any], path: str, found: list[str]) -> None:
    for name, child in value.items():
        if not type_.declares(name):
            found.append(_at(f"{path}.{name}", "field not declared in schema"))
            return
        _check(type_.child(name), child, f"{path}.{name}", found)


def _check_items(type_: Type, value: list[Any], path: str, found: list[str]) -> None:
    seen: set[str] = set()
    for index, item in enumerate(value):
        name = f"[{index}]"
        if type_.is_list_set:
            try:
                element = element_of(type_, item)
            except KeyProblem as problem:
                found.append(_at(path, f"element {index}: {problem}"))
                return
            name = shown(element)
            if element in seen:
                found.append(_at(path, f"duplicate entries for key {name}"))
            seen.add(element)
        _check(type_.item or DEDUCED, item, path + name, found)


def _scalar_problem(scalar: str, value: Any) -> str:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if scalar == NUMERIC and not is_number:
        return f"expected numeric (int or float), got {_go_type(value)}"
    if scalar == STRING and not isinstance(value, str):
        return f"expected string, got &value.valueUnstructured{{Value:{go_syntax(value)}}}"
    if scalar == BOOLEAN and not isinstance(value, bool):
        return f"expected boolean, got &{{{go_text(value)}}}"
    if scalar == UNTYPED and isinstance(value, dict | list):
        return f"expected any scalar, got &{{{go_text(value)}}}"
    return ""


# --- values as Go prints them


def go_text(value: Any) -> str:
    """A value as upstream's messages show it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "map[" + " ".join(f"{key}:{go_text(value[key])}" for key in sorted(value)) + "]"
    if isinstance(value, list):
        return "[" + " ".join(map(go_text, value)) + "]"
    return "<nil>" if value is None else _number_or_text(value)


def go_syntax(value: Any) -> str:
    """A value in Go's syntax, as upstream's messages show it."""
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
    if isinstance(value, dict):
        inner = ", ".join(f"{go_syntax(key)}:{go_syntax(value[key])}" for key in sorted(value))
        return f"map[string]interface {{}}{{{inner}}}"
    if isinstance(value, list):
        return "[]interface {}{" + ", ".join(map(go_syntax, value)) + "}"
    if value is None:
        return "interface {}(nil)"
    return go_text(value)


def _number_or_text(value: Any) -> str:
    if isinstance(value, float) and not math.isinf(value):
        return f"{value:.0e}" if value.is_integer() and abs(value) >= 1e21 else repr(value)
    return str(value)


def _go_type(value: Any) -> str:
    names = {bool: "bool", str: "string", list: "[]interface {}", dict: "map[string]interface {}"}
    return names.get(type(value), "int64")
