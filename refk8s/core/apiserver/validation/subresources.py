"""Validation of the subresources, printer columns and selectable fields of
CustomResourceDefinitions. Rules CRD-16 to CRD-18 (spec/custom_resources.md)."""

from typing import Any

from refk8s.core.api import codec
from refk8s.core.api.apiextensions_v1 import (
    CustomResourceColumnDefinition,
    CustomResourceDefinitionVersion,
    CustomResourceSubresources,
)
from refk8s.core.apiserver.custom.paths import InvalidPath, parse_path, selectable_keys
from refk8s.core.apiserver.custom.schema import schema_tree
from refk8s.core.apiserver.validation.field import (
    Causes,
    duplicate,
    invalid,
    required,
    too_many,
)
from refk8s.core.apiserver.validation.schemas import unreadable_part

COLUMN_TYPES = ("boolean", "date", "integer", "number", "string")
COLUMN_FORMATS = (
    "byte", "date", "date-time", "double", "float", "int32", "int64", "name", "password",
)  # fmt: skip
SELECTABLE_MAX = 8
COLUMNS_MAX = 100
"""The most printer columns of a version. Upstream has no bound besides the size of the object."""


def validate_subresources(subresources: CustomResourceSubresources | None, at: str) -> Causes:
    """The causes of the paths of a scale subresource."""
    scale = subresources.scale if subresources is not None else None
    if scale is None:
        return []
    causes: Causes = []
    for key, path, root in (
        ("specReplicasPath", scale.spec_replicas_path, (".spec.",)),
        ("statusReplicasPath", scale.status_replicas_path, (".status.",)),
        ("labelSelectorPath", scale.label_selector_path, (".spec.", ".status.")),
    ):
        place = f"{at}.scale.{key}"
        if not path:
            if key != "labelSelectorPath":
                causes.append(required(place))
            continue
        if ("[" in path and key == "labelSelectorPath") or not path.startswith("."):
            causes.append(invalid(place, path, "must be a simple json path starting with ."))
        elif not path.startswith(root):
            where = " or ".join(one.rstrip(".") for one in root)
            where = "either .spec or .status" if len(root) > 1 else where
            causes.append(invalid(place, path, f"should be a json path under {where}"))
    return causes


def validate_columns(columns: tuple[CustomResourceColumnDefinition, ...], at: str) -> Causes:
    """The causes of printer columns."""
    if len(columns) > COLUMNS_MAX:
        return [too_many(at, len(columns), COLUMNS_MAX)]
    causes: Causes = []
    for place, column in enumerate(columns):
        where = f"{at}[{place}]"
        if not column.name:
            causes.append(required(f"{where}.name"))
        if not column.type:
            listed = ",".join(COLUMN_TYPES)
            causes.append(required(f"{where}.type", f"must be one of {listed}"))
        elif column.type not in COLUMN_TYPES:
            words = f"must be one of {','.join(COLUMN_TYPES)}"
            causes.append(invalid(f"{where}.type", column.type, words))
        if column.format and column.format not in COLUMN_FORMATS:
            words = f"must be one of {','.join(COLUMN_FORMATS)}"
            causes.append(invalid(f"{where}.format", column.format, words))
        if not column.json_path:
            causes.append(required(f"{where}.JSONPath"))
        else:
            causes += _column_path(column.json_path, f"{where}.JSONPath")
    return causes


def _column_path(path: str, at: str) -> Causes:
    if not path.startswith("."):
        return [invalid(at, path, "must be a simple json path starting with .")]
    try:
        parse_path(path)
    except InvalidPath as error:
        return [invalid(at, path, f"is an invalid path: {error}")]
    return []


def validate_selectable_fields(version: CustomResourceDefinitionVersion, at: str) -> Causes:
    """The causes of selectable fields: each is the path of a scalar in the schema."""
    fields = version.selectable_fields or ()
    if not fields:
        return []
    schema = version.schema.open_api_v3_schema if version.schema is not None else None
    if schema is None:
        return [invalid(at, "", "may only be set when validations.schema is included")]
    causes: Causes = []
    try:
        tree = schema_tree(schema)
    except codec.DecodeError:
        return []  # the schema has a cause of its own
    if words := unreadable_part(tree):
        where = at.removesuffix("selectableFields") + "schema.openAPIV3Schema"
        causes.append(invalid(where, "", words))
    seen: dict[tuple[str, ...], None] = {}
    for place, one in enumerate(fields):
        where, path = f"{at}[{place}].jsonPath", one.json_path
        if not path:
            causes.append(required(where))
            continue
        try:
            keys = selectable_keys(path)
        except InvalidPath as error:
            causes.append(invalid(where, path, f"is an invalid path: {error}"))
            continue
        found = _schema_at(tree, keys)
        if found is None:
            words = "is an invalid path: does not refer to a valid field"
            causes.append(invalid(where, path, words))
            continue
        if keys[0] == "metadata":
            causes.append(invalid(where, path, "must not point to fields in metadata"))
        if found.get("type") not in ("string", "boolean", "integer"):
            words = (
                "must point to a field of type string, boolean or integer. Enum string fields and "
                "strings with formats are allowed."
            )
            causes.append(invalid(where, path, words))
        if keys in seen:
            causes.append(duplicate(where, path))
        seen[keys] = None
    if len(seen) > SELECTABLE_MAX:
        causes.append(too_many(at, len(seen), SELECTABLE_MAX))
    return causes


def _schema_at(tree: dict[str, Any], keys: tuple[str, ...]) -> dict[str, Any] | None:
    for key in keys:
        child = tree.get("properties", {}).get(key)
        if child is None and isinstance(tree.get("additionalProperties"), dict):
            child = tree["additionalProperties"]
        if child is None:
            return None
        tree = child
    return tree
