"""Merges an applied configuration into an object, and removes fields. Rules APPLY-8, APPLY-9
(spec/apply.md).

Objects are JSON trees, which are never changed. Source: Kubernetes documentation, "Server-Side
Apply", "Merge strategy"; KEP-555 "Server-side Apply".
"""

from typing import Any

from refk8s.core.apiserver.apply.compare import (
    ABSENT,
    KeyProblem,
    applied_paths,
    element_of,
    items_by_element,
)
from refk8s.core.apiserver.apply.field_set import (
    MEMBER,
    SELF,
    FieldSet,
    difference,
    intersection,
    is_member,
    union,
)
from refk8s.core.apiserver.apply.types import DEDUCED, Type


def merge(type_: Type, live: Any, config: Any) -> Any:
    """The object with the fields of the configuration (APPLY-8). Null in the configuration is a
    value."""
    if config is ABSENT:
        return live
    if live is ABSENT or live is None:
        return config
    if isinstance(config, dict) or (config is None and isinstance(live, dict)):
        if not type_.is_map or type_.is_atomic_map or not isinstance(live, dict):
            return config
        if not live and not config:
            return config
        return _merge_fields(type_, live, config or {})
    if isinstance(config, list) or (config is None and isinstance(live, list)):
        if not type_.is_list_set or not isinstance(live, list):
            return config
        if not live and not config:
            return config
        return _merge_items(type_, live, config or [])
    return config


def _merge_fields(type_: Type, live: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    merged = dict(live)
    for name, value in config.items():
        merged[name] = merge(type_.child(name), live.get(name, ABSENT), value)
    return merged


def _merge_items(type_: Type, live: list[Any], config: list[Any]) -> list[Any]:
    """The items of both lists. Those of the configuration are in its order; an item that only the
    object has stays behind the item that it followed, as far as that is possible."""
    item_type = type_.item or DEDUCED
    ours = items_by_element(type_, config)
    theirs = items_by_element(type_, live)
    left = [_element_or_none(type_, item) for item in live]
    right = list(ours)
    shared = [element for element in right if element in theirs]
    merged: list[Any] = []
    done: set[str] = set()
    next_shared = 0
    i = j = 0

    def take_right(element: str) -> None:
        done.add(element)
        there = theirs.get(element, ())
        before = there[0] if len(there) == 1 else ABSENT
        merged.append(merge(item_type, before, ours[element][0]))

    while i < len(left) or j < len(right):
        if i < len(left) and j < len(right):
            element = left[i]
            if element == right[j]:
                take_right(right[j])
                i, j, next_shared = i + 1, j + 1, next_shared + 1
                continue
            if element in ours and next_shared < len(shared) and shared[next_shared] != element:
                i += 1  # a shared item, but not the next one
                continue
        if i < len(left):
            element = left[i]
            if element is None or element not in ours:
                merged.append(live[i])
                i += 1
                continue
            if element in done:
                i += 1
                continue
        if j < len(right):
            element = right[j]
            if next_shared < len(shared) and shared[next_shared] == element:
                next_shared += 1
            take_right(element)
            j += 1
    return merged


def _element_or_none(type_: Type, item: Any) -> str | None:
    try:
        return element_of(type_, item)
    except KeyProblem:
        return None


# --- removal


def without(type_: Type, value: Any, fields: FieldSet) -> Any:
    """The value without these fields and items (APPLY-9). What is left of a map or list without
    content is null."""
    if isinstance(value, dict) and type_.is_map:
        if type_.is_atomic_map or not value:
            return None
        kept: dict[str, Any] = {}
        for name, child in value.items():
            below = fields.get("f:" + name)
            if below is None:
                kept[name] = child
            elif not is_member(below):
                kept[name] = without(type_.child(name), child, below)
        return kept or None
    if isinstance(value, list) and type_.is_list:
        if not type_.is_list_set or not value:
            return None
        items = []
        for item in value:
            element = _element_or_none(type_, item)
            below = None if element is None else fields.get(element)
            if below is None:
                items.append(item)
            elif not is_member(below):
                items.append(without(type_.item or DEDUCED, item, below))
        return items or None
    return value


def with_named_fields(type_: Type, fields: FieldSet) -> FieldSet:
    """The set with every declared field that contains a member: removing the last value of a
    struct removes the struct."""
    result: FieldSet = {}
    declared = type_.fields
    for element, below in fields.items():
        if not below:
            result[element] = below
            continue
        if element[:2] == "f:":
            child = declared.get(element[2:]) or type_.element or DEDUCED
            found = with_named_fields(child, below)
            if element[2:] in declared and SELF not in found:
                found = {SELF: MEMBER, **found}
        else:
            item = type_.item if element[:2] == "k:" else None
            found = with_named_fields(item or _UNKNOWN, below)
        result[element] = found
    return result


_UNKNOWN = Type()


# --- what is dropped from a configuration (APPLY-9)


def without_last(type_: Type, merged: Any, last: FieldSet) -> Any:
    """The object without all that the manager applied last time."""
    return without(type_, merged, with_named_fields(type_, last)) or {}


def with_owned(type_: Type, merged: Any, pruned: Any, owned: FieldSet) -> Any:
    """The pruned object with the fields of the merged one that have an owner."""
    every = with_named_fields(type_, applied_paths(type_, merged))
    left = with_named_fields(type_, applied_paths(type_, pruned))
    kept = union(left, with_named_fields(type_, owned))
    return without(type_, merged, difference(every, kept)) or {}


def dropped(type_: Type, merged: Any, pruned: Any, last: FieldSet) -> Any:
    """The merged object without what the pruned one has not and the manager applied last time:
    what it never applied stays, whether it has an owner or not."""
    every = with_named_fields(type_, applied_paths(type_, merged))
    left = with_named_fields(type_, applied_paths(type_, pruned))
    gone = intersection(difference(every, left), with_named_fields(type_, last))
    return without(type_, merged, gone) or {}
