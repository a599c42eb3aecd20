"""The patches of mutations. Rule POL-13 (spec/admission_policies.md).

    JSONPatch            operations; if a test among them fails, none is applied
    ApplyConfiguration   fields that are merged by the types of lists and maps

Source: Kubernetes documentation, "Mutating Admission Policy" (Patch types); RFC 6902.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from refk8s.core.api.resources import Resource, type_of_kind
from refk8s.core.api.status import ApiError
from refk8s.core.apiserver.admission.policies.expressions import Evaluation
from refk8s.core.apiserver.apply.check import message_of, problems
from refk8s.core.apiserver.apply.merge import merge
from refk8s.core.apiserver.apply.types import Type, record_type, type_of
from refk8s.core.apiserver.patch.json_patch import UnmetTest, apply_json_patch
from refk8s.core.cel.admission import compile_apply_configuration, compile_json_patch
from refk8s.core.cel.values import (
    Duration,
    MessageValue,
    Quantity,
    Timestamp,
    duration_text,
    time_text,
)

_OPERATIONS: Final = ("add", "remove", "replace", "move", "copy", "test")


class PatchFailed(Exception):
    """The patch cannot be made or applied. The message says why."""


def patched(
    mutation: Any, evaluation: Evaluation, tree: dict[str, Any], resource: Resource
) -> dict[str, Any]:
    """The object after a mutation. Raises PatchFailed, ExpressionFailed and OutOfBudget."""
    if mutation.patch_type == "JSONPatch":
        value = evaluation.value(mutation.json_patch.expression or "", compile_json_patch)
        return _patched_by_operations(value, tree)
    text = mutation.apply_configuration.expression or ""
    value = evaluation.value(text, compile_apply_configuration)
    _check_names(value, "Object")
    return _merged(plain(value), tree, resource)


def _check_names(value: Any, name: str) -> None:
    """Raise PatchFailed if the type of a message is not named by its path."""
    if isinstance(value, MessageValue):
        if value.name != name:
            words = f'unexpected type name "{value.name}", expected "{name}"'
            ending = "which matches field name path from root Object type"
            raise PatchFailed(f"type mismatch: {words}, {ending}")
        for key, one in value.items():
            _check_names(one, f"{name}.{key}")
    elif isinstance(value, dict):
        for one in value.values():
            _check_names(one, name)
    elif isinstance(value, list):
        for one in value:
            _check_names(one, name)


def _merged(configuration: Any, tree: dict[str, Any], resource: Resource) -> dict[str, Any]:
    """The object with the fields of an apply configuration, merged by their types. Lists and maps
    that are atomic may not be set: the policy would remove what it does not name."""
    kind = {"apiVersion": tree.get("apiVersion"), "kind": tree.get("kind")}
    whole = {**configuration, **kind}
    type_ = _type_of(tree, resource)
    if found := problems(type_, whole):
        words = "failed to convert patch object to typed object: " + message_of(found)
        raise PatchFailed(f"error applying patch: {words}")
    if atomics := [*_atomics(type_, whole, "")]:
        words = f"may not mutate atomic arrays, maps or structs: {', '.join(atomics)}"
        raise PatchFailed(f"error applying patch: invalid ApplyConfiguration: {words}")
    merged: dict[str, Any] = merge(type_, tree, whole)
    return merged


def _type_of(tree: dict[str, Any], resource: Resource) -> Type:
    """The type of an object: of its kind, which for a subresource is not that of the resource."""
    record = type_of_kind(tree.get("apiVersion") or "", tree.get("kind") or "")
    return type_of(resource) if record is None else record_type(record)


def _atomics(type_: Type, value: Any, path: str) -> Iterator[str]:
    """The paths of atomic lists, maps and structs in a value."""
    if isinstance(value, dict) and type_.is_map:
        if type_.is_atomic_map:
            yield path
        for name, one in value.items():
            if name in type_.fields:
                yield from _atomics(type_.fields[name], one, f"{path}.{name}")
            elif type_.element is not None:
                yield from _atomics(type_.element, one, f"{path}.{name}")
    elif isinstance(value, list) and type_.item is not None:
        if not type_.is_list_set:
            yield path
        for place, one in enumerate(value):
            yield from _atomics(type_.item, one, f"{path}[{place}]")


def _patched_by_operations(value: Any, tree: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(value, list):
        raise PatchFailed("type mismatch: JSONPatchType.expression should evaluate to array")
    operations = [_operation(one) for one in value]
    if not operations:
        return tree
    try:
        return apply_json_patch(tree, operations)
    except UnmetTest:
        return tree
    except ApiError as error:
        raise PatchFailed(f"JSONPath: {error}") from None


def _operation(value: Any) -> dict[str, Any]:
    if not isinstance(value, MessageValue) or value.name != "JSONPatch":
        raise PatchFailed(
            "type mismatch: JSONPatchType.expression elements should evaluate to JSONPatch"
        )
    inner = value.get("value")
    if isinstance(inner, MessageValue):
        _check_names(inner, inner.name)
    operation = {key: plain(one) for key, one in value.items()}
    if operation.get("op") not in _OPERATIONS:
        raise PatchFailed(f"invalid JSONPatch operation: {operation.get('op', '')!r}")
    return operation


def plain(value: Any) -> Any:
    """The value of an expression as JSON. Raises PatchFailed for one that JSON does not have."""
    match value:
        case dict():
            return {_key(key): plain(one) for key, one in value.items()}
        case list():
            return [plain(one) for one in value]
        case None | bool() | str() | float():
            return value
        case int():
            return int(value)
        case Timestamp():
            return time_text(value)
        case Duration():
            return duration_text(value)
        case Quantity():
            return str(value.number)
    raise PatchFailed(f"a value of type {type(value).__name__} is not JSON")


def _key(key: Any) -> str:
    if not isinstance(key, str):
        raise PatchFailed("keys of an object are strings")
    return key
