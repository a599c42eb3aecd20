"""Compares two objects, field by field; the fields of an object. Rules APPLY-6, APPLY-7
(spec/apply.md).

Objects are JSON trees. Source: Kubernetes documentation, "Server-Side Apply"; KEP-555 "Server-side
Apply".
"""

from collections.abc import Mapping
from typing import Any

from refk8s.core.apiserver.apply.field_set import (
    EMPTY,
    MEMBER,
    SELF,
    FieldSet,
    key_element,
    recursive_difference,
    union,
    value_element,
)
from refk8s.core.apiserver.apply.types import DEDUCED, UNTYPED, Type
from refk8s.core.value import Value


class Comparison(Value, frozen=True, eq=False):
    """The fields that only the new object has, those with another value, and those that only the
    old one has."""

    added: FieldSet = EMPTY
    modified: FieldSet = EMPTY
    removed: FieldSet = EMPTY

    @property
    def changed(self) -> FieldSet:
        """The fields that were added or modified."""
        return union(self.added, self.modified)

    def without(self, fields: FieldSet) -> "Comparison":
        """The same without these fields and all below them."""
        return Comparison(
            recursive_difference(self.added, fields),
            recursive_difference(self.modified, fields),
            recursive_difference(self.removed, fields),
        )

    @property
    def is_empty(self) -> bool:
        return not (self.added or self.modified or self.removed)


class KeyProblem(ValueError):
    """An item of a list that has no element: it omits a key, or is no map or scalar."""


def compare(type_: Type, old: Any, new: Any) -> Comparison:
    """What differs between two objects of a type. O(what differs, and what contains it)."""
    added: FieldSet = {}
    modified: FieldSet = {}
    removed: FieldSet = {}
    if type_.is_map and isinstance(old, dict) and isinstance(new, dict):
        _compare_fields(type_, old, new, added, modified, removed)
    return Comparison(added, modified, removed)


def compare_parts(types: Mapping[str, Type], parts: list[tuple[str, Any, Any]]) -> Comparison:
    """What differs between two objects, given the fields that may: (name, old, new), where ABSENT
    stands for no value, and the types of the fields."""
    added: FieldSet = {}
    modified: FieldSet = {}
    removed: FieldSet = {}
    for name, old, new in parts:
        if old is ABSENT:
            added["f:" + name] = every_path(types[name], new)
        elif new is ABSENT:
            removed["f:" + name] = every_path(types[name], old)
        else:
            _compare(types[name], old, new, "f:" + name, added, modified, removed)
    return Comparison(added, modified, removed)


class _Absent:
    """No value, other than null."""


ABSENT: Any = _Absent()


def _compare(
    type_: Type,
    old: Any,
    new: Any,
    element: str,
    added: FieldSet,
    modified: FieldSet,
    removed: FieldSet,
) -> None:
    """What differs between two values, below their element."""
    if old is new:
        return
    before, after = _kind(type_, old), _kind(type_, new)
    if before == "scalar" and after == "scalar":
        if is_equal(old, new):
            return
        modified[element] = MEMBER
        return
    if before == after == "null":
        return
    if (type_.is_atomic_map and "map" in (before, after)) or (
        not type_.is_list_set and "list" in (before, after) and "map" not in (before, after)
    ):
        if not is_equal(old, new):
            modified[element] = MEMBER
        return
    below: tuple[FieldSet, FieldSet, FieldSet] = ({}, {}, {})
    is_leaf = False
    for kind in {before, after} - {"null"}:
        one = old if before == kind else None
        other = new if after == kind else None
        if kind == "scalar" or not (one or other):
            is_leaf = is_leaf or not is_equal(old, new)
        elif kind == "map":
            _compare_fields(type_, one or {}, other or {}, *below)
        elif type_.is_list_set:
            _compare_items(type_, one or [], other or [], *below)
        else:
            is_leaf = True
    if below[0]:
        added[element] = below[0]
    if is_leaf:
        modified[element] = {SELF: MEMBER, **below[1]} if below[1] else MEMBER
    elif below[1]:
        modified[element] = below[1]
    if below[2]:
        removed[element] = below[2]


def _kind(type_: Type, value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, dict):
        return "map" if type_.is_map else "scalar"
    if isinstance(value, list | tuple):
        return "list" if type_.is_list else "scalar"
    return "scalar"


def _compare_fields(
    type_: Type,
    old: dict[str, Any],
    new: dict[str, Any],
    added: FieldSet,
    modified: FieldSet,
    removed: FieldSet,
) -> None:
    for name, value in new.items():
        if name in old:
            before = old[name]
            if before is not value:
                _compare(type_.child(name), before, value, "f:" + name, added, modified, removed)
        else:
            added["f:" + name] = every_path(type_.child(name), value)
    for name, value in old.items():
        if name not in new:
            removed["f:" + name] = every_path(type_.child(name), value)


def _compare_items(
    type_: Type,
    old: list[Any],
    new: list[Any],
    added: FieldSet,
    modified: FieldSet,
    removed: FieldSet,
) -> None:
    """The items of a list of type set or map. Items with the same keys are compared as one
    value."""
    before, after = items_by_element(type_, old), items_by_element(type_, new)
    item_type = type_.item or DEDUCED
    for element, values in after.items():
        there = before.get(element, [])
        if len(there) > 1 or len(values) > 1:
            _compare_repeated(item_type, element, there, values, (added, modified, removed))
        elif there:
            _compare(item_type, there[0], values[0], element, added, modified, removed)
        else:
            added[element] = every_path(item_type, values[0])
    for element, there in before.items():
        if element not in after:
            removed[element] = every_path(item_type, there[0]) if len(there) == 1 else MEMBER


def _compare_repeated(
    item_type: Type,
    element: str,
    old: list[Any],
    new: list[Any],
    result: tuple[FieldSet, FieldSet, FieldSet],
) -> None:
    """Several items with the same keys are owned as one, without their fields."""
    added, modified, removed = result
    if len(old) > 1 and len(new) > 1:
        if not is_equal(old, new):
            modified[element] = MEMBER
    elif len(old) > 1:
        if new:
            added[element] = every_path(item_type, new[0])
        removed[element] = MEMBER
    else:
        if old:
            removed[element] = every_path(item_type, old[0])
        added[element] = MEMBER


def items_by_element(type_: Type, items: Any) -> dict[str, list[Any]]:
    """The items of a list by their element; items without one are left out."""
    found: dict[str, list[Any]] = {}
    for item in items:
        try:
            element = element_of(type_, item)
        except KeyProblem:
            continue
        found.setdefault(element, []).append(item)
    return found


def element_of(type_: Type, item: Any) -> str:
    """The element of an item of a list of type set or map (APPLY-2). Raises KeyProblem."""
    if not type_.keys:
        if isinstance(item, dict):
            raise KeyProblem("associative list without keys has an element that's a map type")
        if isinstance(item, list):
            raise KeyProblem("not supported: associative list with lists as elements")
        if item is None:
            raise KeyProblem("associative list without keys has an element that's an explicit null")
        return value_element(item)
    if item is None:
        raise KeyProblem("associative list with keys may not have a null element")
    if not isinstance(item, dict):
        raise KeyProblem("associative list with keys may not have non-map elements")
    keys = {}
    for key in type_.keys:
        if key in item:
            keys[key] = item[key]
        elif key in type_.defaults:
            keys[key] = type_.defaults[key]
        else:
            raise KeyProblem(
                "associative list with keys has an element that omits key field "
                f'"{key}" (and doesn\'t have default value)'
            )
    return key_element(keys)


def is_equal(one: Any, other: Any) -> bool:
    """Whether two values are equal; 1 equals 1.0, and not true."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(is_equal(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(is_equal, one, other))
    return bool(one == other)


# --- the fields of an object


def every_path(type_: Type, value: Any) -> FieldSet:
    """What is below the element of a value that is new: the value itself, and all that it
    contains (APPLY-6)."""
    if not value:  # null, empty, or a scalar
        return MEMBER
    if type(value) is dict and type_.is_map:
        if type_.is_atomic_map:
            return MEMBER
        below: FieldSet = {SELF: MEMBER}
        fields = type_.fields
        for name, child in value.items():
            child_type = fields.get(name) or type_.element or DEDUCED
            below["f:" + name] = (
                MEMBER if type(child) is str or not child else every_path(child_type, child)
            )
        return below
    if type(value) is list and type_.is_list_set:
        item_type = type_.item or DEDUCED
        below = {SELF: MEMBER}
        for item in value:
            try:
                element = element_of(type_, item)
            except KeyProblem:
                continue
            below[element] = MEMBER if element in below else every_path(item_type, item)
        return below if len(below) > 1 else MEMBER
    return MEMBER


def applied_paths(type_: Type, value: Any) -> FieldSet:
    """The fields that an applied configuration owns (APPLY-7): its scalars, atomic values and
    list items, and not the structs and maps that contain them."""
    if not isinstance(value, dict):
        return EMPTY
    return _applied_fields(type_, value)


def _applied_fields(type_: Type, value: dict[str, Any]) -> FieldSet:
    found: FieldSet = {}
    for name, child in value.items():
        child_type = type_.child(name)
        below, is_owned = _applied(child_type, child)
        if child is None or (isinstance(child, dict) and not child) or name not in type_.fields:
            is_owned = True
        _put(found, "f:" + name, below, is_owned)
    return found


def _applied(type_: Type, value: Any) -> tuple[FieldSet, bool]:
    """What is below a value, and whether the value itself is owned."""
    if isinstance(value, dict) and type_.is_map:
        if type_.is_atomic_map:
            return EMPTY, True
        return _applied_fields(type_, value), False
    if isinstance(value, list) and type_.is_list:
        if not type_.is_list_set:
            return EMPTY, True
        return _applied_items(type_, value), False
    return EMPTY, type_.scalar != "" or type_.is_atomic_map or (
        type_.is_list and not type_.is_list_set
    )


def _applied_items(type_: Type, value: list[Any]) -> FieldSet:
    found: FieldSet = {}
    item_type = type_.item or DEDUCED
    for element, items in items_by_element(type_, value).items():
        below = EMPTY if len(items) > 1 else _applied(item_type, items[0])[0]
        _put(found, element, below, True)
    return found


def _put(found: FieldSet, element: str, below: FieldSet, is_owned: bool) -> None:
    if is_owned:
        found[element] = {SELF: MEMBER, **below} if below else MEMBER
    elif below:
        found[element] = below


__all__ = [
    "ABSENT",
    "UNTYPED",
    "Comparison",
    "KeyProblem",
    "applied_paths",
    "compare",
    "compare_parts",
    "element_of",
    "every_path",
    "is_equal",
    "items_by_element",
]
