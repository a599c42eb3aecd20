"""Sets of fields of an object, in the form of fieldsV1. Rules APPLY-1, APPLY-2 (spec/apply.md).

A set is a tree of dicts: from an *element* to what is below it. The elements of a path are the keys
of fieldsV1:

    f:spec                                   a field of a struct, or a key of a map
    k:{"containerPort":80,"protocol":"TCP"}  an item of a list of type map, by its keys
    v:"example.com/one"                      an item of a list of type set, by its value
    i:0                                      an item by its index

    {"f:data": {}}                           contains the path data
    {"f:data": {"f:k": {}}}                  contains data.k, and not data
    {"f:data": {".": {}, "f:k": {}}}         contains both

Sets are values: no function changes its arguments, and results share parts with them. An operation
that changes nothing returns its first argument itself. Source: Kubernetes documentation,
"Server-Side Apply", "Field management"; API reference, "FieldsV1".
"""

from collections.abc import Iterator
from typing import Any, TypeAlias

import msgspec

from refk8s.core.api.base import FieldsV1

FieldSet: TypeAlias = dict[str, Any]
"""Not to be changed."""

MEMBER: FieldSet = {}
"""What is below an element that is a member and has no children."""
EMPTY: FieldSet = {}
SELF = "."

DEPTH_MAX = 200
"""The most levels of a set in a request: many more than any object has."""

_encoder = msgspec.json.Encoder(order="sorted")
_decoder = msgspec.json.Decoder()


class InvalidFields(ValueError):
    """Bytes that are not a set of fields."""


def is_member(below: FieldSet) -> bool:
    """Whether the element with this below it is a member of the set."""
    return not below or SELF in below


def union(one: FieldSet, other: FieldSet) -> FieldSet:
    """The paths in one set or the other."""
    if one is other or not other:
        return one
    if not one:
        return other
    result: FieldSet | None = None
    for element, below in other.items():
        mine = one.get(element)
        if mine is below:
            continue
        joined = below if mine is None else _union_below(mine, below)
        if joined is not mine:
            if result is None:
                result = dict(one)
            result[element] = joined
    return one if result is None else result


def _union_below(mine: FieldSet, below: FieldSet) -> FieldSet:
    if not below:
        return mine if is_member(mine) else {SELF: MEMBER, **mine}
    if not mine:
        return below if SELF in below else {SELF: MEMBER, **below}
    return union(mine, below)


def difference(one: FieldSet, other: FieldSet) -> FieldSet:
    """The paths of the one set that are not in the other. A path is removed alone, without those
    below it."""
    result: FieldSet | None = None
    elements = one if len(one) < len(other) else other
    for element in elements:
        mine, below = one.get(element), other.get(element)
        if mine is None or below is None:
            continue
        left = _difference_below(mine, below)
        if left is mine:
            continue
        if result is None:
            result = dict(one)
        if left is None:
            del result[element]
        else:
            result[element] = left
    return one if result is None else result


def _difference_below(mine: FieldSet, below: FieldSet) -> FieldSet | None:
    """What is left below an element; None: nothing."""
    if not mine:
        return None if is_member(below) else mine
    if not below:
        below = _ONLY_SELF
    left = difference(mine, below)
    if left is mine:
        return mine
    if len(left) == 1 and SELF in left:
        return MEMBER
    return left or None


_ONLY_SELF: FieldSet = {SELF: MEMBER}


def recursive_difference(one: FieldSet, other: FieldSet) -> FieldSet:
    """The paths of the one set that are not in the other and not below a path of it."""
    result: FieldSet | None = None
    for element, below in other.items():
        mine = one.get(element)
        if mine is None:
            continue
        left: FieldSet | None = None
        if not is_member(below):
            left = recursive_difference(mine, below) if mine else mine
            if left is mine:
                continue
        if result is None:
            result = dict(one)
        if not left:
            del result[element]
        else:
            result[element] = MEMBER if len(left) == 1 and SELF in left else left
    return one if result is None else result


def intersection(one: FieldSet, other: FieldSet) -> FieldSet:
    """The paths in both sets."""
    result: FieldSet = {}
    if len(other) < len(one):
        one, other = other, one
    for element, mine in one.items():
        below = other.get(element)
        if below is None:
            continue
        if not mine or not below:
            if is_member(mine) and is_member(below):
                result[element] = MEMBER
            continue
        both = intersection(mine, below)
        if both:
            result[element] = MEMBER if len(both) == 1 and SELF in both else both
    return result


def contains(one: FieldSet, path: tuple[str, ...]) -> bool:
    """Whether a path is in the set."""
    below = one
    for element in path:
        found = below.get(element)
        if found is None:
            return False
        below = found
    return is_member(below)


def of_paths(*paths: tuple[str, ...]) -> FieldSet:
    """The set of these paths."""
    result = EMPTY
    for path in paths:
        one: FieldSet = MEMBER
        for element in reversed(path):
            one = {element: one}
        result = union(result, one)
    return result


NEVER_OWNED = of_paths(
    ("f:apiVersion",),
    ("f:kind",),
    ("f:metadata",),
    *[
        ("f:metadata", "f:" + name)
        for name in (
            "name",
            "namespace",
            "creationTimestamp",
            "selfLink",
            "uid",
            "clusterName",
            "generation",
            "managedFields",
            "resourceVersion",
        )
    ],
)
"""The fields that belong to no manager (APPLY-11)."""


def paths(one: FieldSet, before: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every path of the set: of each level first its members, then what is below them, sorted."""
    elements = sorted(element for element in one if element != SELF)
    for element in elements:
        if is_member(one[element]):
            yield (*before, element)
    for element in elements:
        if one[element]:
            yield from paths(one[element], (*before, element))


# --- bytes


def encode(one: FieldSet) -> bytes:
    """The set as JSON, with sorted keys: equal sets have equal bytes."""
    return _encoder.encode(one)


def decode(text: bytes) -> FieldSet:
    """The set of JSON text. An element of an unknown kind is left out, since a newer server may
    have written it. Raises InvalidFields."""
    try:
        return _canonical(_decoder.decode(text), DEPTH_MAX)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidFields(str(error)) from None


def _canonical(tree: Any, levels: int) -> FieldSet:
    if not isinstance(tree, dict):
        raise InvalidFields("a set of fields is an object")
    if levels == 0:
        raise InvalidFields(f"it is nested deeper than {DEPTH_MAX} levels")
    result: FieldSet = {}
    for element, below in tree.items():
        if element == SELF:
            result[SELF] = MEMBER
            continue
        kind = element[:2]
        if kind not in ("f:", "k:", "v:", "i:"):
            if element[1:2] != ":":
                raise InvalidFields("missing colon")
            continue
        if kind in ("k:", "v:"):
            element = kind + _canonical_json(element[2:], is_key=kind == "k:")
        elif kind == "i:" and not element[2:].lstrip("-").isdigit():
            raise InvalidFields(f"{element} has no index")
        canonical = _canonical(below, levels - 1)
        result[element] = MEMBER if len(canonical) == 1 and SELF in canonical else canonical
    return result


def _canonical_json(text: str, *, is_key: bool) -> str:
    value = _decoder.decode(text)
    if is_key and not isinstance(value, dict):
        raise InvalidFields(f"k:{text} is not an object")
    return _encoder.encode(value).decode()


# --- elements


def key_element(keys: dict[str, Any]) -> str:
    """The element of a list item with these keys."""
    return "k:" + _encoder.encode(keys).decode()


def value_element(value: Any) -> str:
    """The element of an item of a set."""
    return "v:" + _encoder.encode(value).decode()


def text_of(path: tuple[str, ...]) -> str:
    """A path as it is shown to users: .spec.containers[name="c"].image."""
    return "".join([shown(element) for element in path])


def shown(element: str) -> str:
    """An element as it is shown to users."""
    kind, rest = element[:2], element[2:]
    if kind == "f:":
        return "." + rest
    if kind == "k:":
        keys: dict[str, Any] = _decoder.decode(rest)
        return "[" + ",".join(f"{key}={_value_text(keys[key])}" for key in sorted(keys)) + "]"
    if kind == "v:":
        return f"[={_value_text(_decoder.decode(rest))}]"
    return f"[{rest}]"


def _value_text(value: Any) -> str:
    """A value in a path: text in quotes."""
    return msgspec.json.encode(value).decode()


def raw(one: FieldSet) -> FieldsV1:
    """The set as it is written in managedFields."""
    return FieldsV1(encode(one))
