"""Pruning and defaulting of custom objects. Rules CRD-7 and CRD-8 (spec/custom_resources.md).

Fields that the schema does not declare are dropped, unless the schema preserves unknown fields at
that place. A null is dropped where the schema does not allow it, and then absent fields get their
default values. Source: Kubernetes documentation, "Extend the Kubernetes API with
CustomResourceDefinitions" (Field pruning, Defaulting, Defaulting and Nullable).
"""

from __future__ import annotations

from typing import Any

from refk8s.core.api.custom import SHARED_KEYS
from refk8s.core.apiserver.custom.schema import Schema

Tree = dict[str, Any]


def prune(schema: Schema, content: Tree, *, defaults: bool = True) -> Tree:
    """The content without unknown fields, and with defaults if wanted; the same object if nothing
    changes. Applying it twice is the same as applying it once (CRD-7). O(size)."""
    content = _pruned(schema, content, False)
    return _defaulted(schema, content) if defaults else content


def unknown_fields(schema: Schema, content: Tree) -> list[str]:
    """The paths of the fields that pruning drops, sorted (CRD-10)."""
    found: list[str] = []
    _unknown(schema, content, "", False, found)
    return sorted(found)


# --- pruning


def _pruned(schema: Schema | None, value: Any, shared: bool) -> Any:
    """`shared`: the value is an embedded resource, whose kind, apiVersion and metadata are kept."""
    if isinstance(value, dict):
        return _pruned_map(schema, value, shared)
    if isinstance(value, list):
        items = schema.items if schema is not None else None
        if schema is not None and schema.preserves_unknown and items is None:
            return value
        return _each(value, lambda item: _pruned(items, item, _is_embedded(items)))
    return value


def _pruned_map(schema: Schema | None, value: Tree, shared: bool) -> Tree:
    made: Tree | None = None
    for key, item in value.items():
        child, keeps = _child(schema, key, shared)
        if not keeps:
            made = dict(value) if made is None else made
            del made[key]
            continue
        if child is _ANY:
            continue
        new = _pruned(child, item, _is_embedded(child))
        if new is not item:
            made = dict(value) if made is None else made
            made[key] = new
    return value if made is None else made


_ANY = Schema(preserves_unknown=True)
"""The schema of a value whose content is not declared and kept as it is."""


def _child(schema: Schema | None, key: str, shared: bool) -> tuple[Schema | None, bool]:
    """The schema of a field, and whether the field is kept."""
    if shared and key in SHARED_KEYS:
        return _ANY, True
    if schema is None:
        return None, False
    declared = schema.properties.get(key)
    if declared is not None:
        return declared, True
    if schema.preserves_unknown:
        return (schema.additional if isinstance(schema.additional, Schema) else _ANY), True
    if schema.additional is None or schema.additional is False:
        return None, False
    return (schema.additional if isinstance(schema.additional, Schema) else None), True


def _is_embedded(schema: Schema | None) -> bool:
    return schema is not None and schema.is_embedded


def _each(values: list[Any], change: Any) -> list[Any]:
    made: list[Any] | None = None
    for place, item in enumerate(values):
        new = change(item)
        if new is not item:
            made = list(values) if made is None else made
            made[place] = new
    return values if made is None else made


def _unknown(schema: Schema | None, value: Any, path: str, shared: bool, found: list[str]) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            at = f"{path}.{key}" if path else key
            child, keeps = _child(schema, key, shared)
            if not keeps:
                found.append(at)
            elif child is not _ANY:
                _unknown(child, item, at, _is_embedded(child), found)
    elif isinstance(value, list):
        items = schema.items if schema is not None else None
        if schema is not None and schema.preserves_unknown and items is None:
            return
        for place, item in enumerate(value):
            _unknown(items, item, f"{path}[{place}]", _is_embedded(items), found)


# --- defaulting


def _defaulted(schema: Schema, value: Any) -> Any:
    if isinstance(value, dict):
        return _defaulted_map(schema, value)
    if isinstance(value, list) and schema.items is not None:
        items = schema.items
        return _each(value, lambda item: _defaulted_item(items, item))
    return value


def _defaulted_item(schema: Schema, item: Any) -> Any:
    """An item of a list or a value of a map: a forbidden null gets the default, if there is one."""
    if item is None and not schema.nullable and schema.default is not None:
        item = schema.default
    return _defaulted(schema, item)


def _defaulted_map(schema: Schema, value: Tree) -> Tree:
    made: Tree | None = None
    properties, additional = schema.properties, schema.additional
    for key, item in value.items():
        child = properties.get(key)
        if child is not None:
            if item is None and not child.nullable:
                made = dict(value) if made is None else made
                del made[key]
                continue
            new = _defaulted(child, item)
        elif isinstance(additional, Schema):
            new = _defaulted_item(additional, item)
        else:
            continue
        if new is not item:
            made = dict(value) if made is None else made
            made[key] = new
    for key, child in properties.items():
        if child.default is not None and key not in (value if made is None else made):
            made = dict(value) if made is None else made
            made[key] = _defaulted(child, child.default)
    return value if made is None else made
