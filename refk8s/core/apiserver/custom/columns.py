"""The table of a custom resource: its name, and the printer columns of its definition. Rule CRD-16
(spec/custom_resources.md).

Source: Kubernetes documentation, "Extend the Kubernetes API with CustomResourceDefinitions"
(Additional printer columns).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from refk8s.core.api import codec
from refk8s.core.api.custom import CustomObject
from refk8s.core.api.resources import Resource
from refk8s.core.apiserver.custom.paths import InvalidPath, Step, find, parse_path
from refk8s.core.apiserver.table.duration import age
from refk8s.core.apiserver.table.layout import CUSTOM, NAME, Column, Layout
from refk8s.core.context import Instant, parse_timestamp

INVALID = "<invalid>"


@lru_cache(maxsize=512)
def layout_of_custom(resource: Resource) -> Layout:
    """The layout; name and age if the definition has no columns. A column whose path is not
    supported here has empty cells."""
    declared = resource.definition.version.additional_printer_columns
    if not declared:
        return CUSTOM
    columns = tuple(
        Column(
            one.name,
            one.description
            or f"Custom resource definition column (in JSONPath format): {one.json_path}",
            type=one.type,
            priority=one.priority or 0,
            format=one.format or "",
        )
        for one in declared
    )
    paths: list[tuple[str, tuple[Step, ...] | None]] = []
    for one in declared:
        try:
            paths.append((one.type, parse_path(one.json_path)))
        except InvalidPath:
            paths.append((one.type, None))

    def cells(obj: Any, now: Instant) -> tuple[Any, ...]:
        tree = _tree_of(obj)
        found = [
            None if steps is None else _cell(kind, find(steps, tree), now) for kind, steps in paths
        ]
        return (obj.metadata.name or "", *found)

    return Layout((NAME, *columns), cells)


def _tree_of(obj: CustomObject) -> dict[str, Any]:
    """The object as a tree; only its metadata is converted."""
    return {
        "kind": obj.kind,
        "apiVersion": obj.api_version,
        "metadata": codec.to_tree(obj.metadata),
        **obj.content,
    }


def _cell(kind: str, found: list[Any], now: Instant) -> Any:
    """The cell of the first value that a path found; None if it has another type than the
    column."""
    if not found or found[0] is None:
        return None
    value = found[0]
    match kind:
        case "string":
            return value if isinstance(value, str) else codec.encode(value).decode()
        case "boolean":
            return value if isinstance(value, bool) else None
        case "date":
            return _age(value, now) if isinstance(value, str) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if kind == "integer" else value


def _age(text: str, now: Instant) -> str:
    if text not in ("", "null"):
        try:
            parse_timestamp(text)
        except (ValueError, OverflowError):
            return INVALID
    return age(text or None, now)
