"""Compares two records without making trees of them: the fast way of `compare`. Rule APPLY-6
(spec/apply.md).

What differs is found by comparing attributes, so the cost depends on the size of the difference.
Only what is added or removed is read as a tree. The plain way is `compare` on the trees of both
records, which gives the same (a property).
"""

from collections.abc import Callable
from functools import cache, lru_cache
from operator import itemgetter, ne
from typing import Any

import msgspec
from msgspec.structs import astuple

from refk8s.core.api.base import NO_FIELDS
from refk8s.core.api.codec import encode, to_tree
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.apiserver.apply import field_set
from refk8s.core.apiserver.apply.compare import ABSENT, Comparison, compare_parts, every_path
from refk8s.core.apiserver.apply.field_set import (
    MEMBER,
    NEVER_OWNED,
    SELF,
    FieldSet,
    key_element,
)
from refk8s.core.apiserver.apply.types import Type, record_type
from refk8s.core.memo import remember_identical, remember_within

PARTS_BYTES_MAX = 16 * 1024 * 1024
"""The bytes of the parts of new objects whose fields are kept."""

_PLAIN = (str, int, float, bool)


class _Field:
    """How one attribute of a record class is compared. `is_always_written`: also null is."""

    __slots__ = ("attribute", "element", "is_always_written", "is_ownable", "type", "wire")

    def __init__(self, record: Any, part: Any, is_ownable: bool) -> None:
        self.attribute: str = part.name
        self.wire: str = part.encode_name
        self.element = "f:" + self.wire
        self.type: Type = record_type(record).fields[self.wire]
        self.is_always_written = part.default is msgspec.NODEFAULT
        self.is_ownable = is_ownable


@cache
def _fields(record: Any) -> tuple[_Field, ...]:
    return tuple(_Field(record, part, True) for part in msgspec.structs.fields(record))


@cache
def _object_fields(record: Any) -> tuple[_Field, ...]:
    """The fields of a kind. Its kind, apiVersion and metadata are not compared like the others."""
    shared = ("kind", "apiVersion", "metadata")
    return tuple(
        _Field(record, part, part.encode_name not in shared)
        for part in msgspec.structs.fields(record)
    )


@cache
def _metadata_fields() -> tuple[_Field, ...]:
    """The metadata, of which managers can own some."""
    never = NEVER_OWNED["f:metadata"]
    return tuple(
        _Field(ObjectMeta, part, "f:" + part.encode_name not in never)
        for part in msgspec.structs.fields(ObjectMeta)
    )


_Below = tuple[FieldSet, FieldSet, FieldSet]
"""What was added, modified and removed below an element."""


@cache
def _keys(item: Any, type_: Type) -> tuple[tuple[str, str, Any], ...]:
    """(attribute, wire name, default) of the keys of a list of records."""
    names = {part.encode_name: part.name for part in msgspec.structs.fields(item)}
    return tuple((names[key], key, type_.defaults.get(key)) for key in type_.keys)


def compare_records(old: Any, new: Any) -> Comparison:
    """What differs between two objects of one kind, as far as it can be owned (APPLY-11)."""
    metadata: _Below = ({}, {}, {})
    below: _Below = ({}, {}, {})
    _compare(_metadata_fields(), old.metadata, new.metadata, metadata)
    _compare(_object_fields(_class_of(new)), old, new, below)
    for one, other in zip(metadata, below, strict=True):
        if one:
            other["f:metadata"] = one
    return Comparison(*below)


def compare_new(new: Any) -> Comparison:
    """What a new object has and an empty one of its kind has not (APPLY-6). What its spec has is
    kept by the bytes of the spec: pods of one template have the same."""
    metadata: _Below = ({}, {}, {})
    below: _Below = ({}, {}, {})
    record = _class_of(new)
    empty = _empty(record)
    _compare(_metadata_fields(), empty.metadata, new.metadata, metadata)
    for field, before, after in zip(
        _object_fields(record), astuple(empty), astuple(new), strict=True
    ):
        if before is after or not field.is_ownable or before == after:
            continue
        if not isinstance(after, _COMPOSED) or _is_atomic(field.type):
            _compare_field(field, before, after, below)
            continue
        for one, more in zip(below, _new_part(record, field.wire, encode(after)), strict=True):
            one.update(more)
    if metadata[0]:
        below[0]["f:metadata"] = metadata[0]
    return Comparison(*below)


def _class_of(value: Any) -> Any:
    return type(value)


# --- the shape of a new object


def fields_of_new(new: Any) -> bytes:
    """The fields of a new object, as JSON text. They are kept by the shape of the object: which
    fields it has, the keys of its maps, and the JSON of its structs and lists. Events, and pods of
    one template, have the same shape."""
    global _texts_bytes
    size, shape = _shape_of(new)
    found = _texts.get(shape)
    if found is not None:
        return found
    text = field_set.encode(compare_new(new).changed)
    size += len(text)
    if size <= SHAPE_BYTES_MAX:
        _texts_bytes += size
        if _texts_bytes > SHAPES_BYTES_MAX:
            _texts.clear()
            _texts_bytes = size
        _texts[shape] = text
    return text


SHAPE_BYTES_MAX = 64 * 1024
SHAPES_BYTES_MAX = 8 * 1024 * 1024
"""The bytes of the kept shapes and fields."""
_texts: dict[Any, bytes] = {}
_texts_bytes = 0


class _Ownable:
    """The fields of a kind that can be owned.

    Of a scalar or atomic field it only matters whether it differs from that of an empty object:
    `plain` takes their values from those of an object, and `defaults` are those of an empty one.
    `others`: position, field and value in an empty object of each other field.
    """

    __slots__ = ("defaults", "others", "plain")

    def __init__(self, record: Any) -> None:
        positions: list[int] = []
        defaults: list[Any] = []
        self.others: list[tuple[int, _Field, Any]] = []
        for position, (field, before) in enumerate(
            zip(_object_fields(record), astuple(_empty(record)), strict=True)
        ):
            if not field.is_ownable:
                continue
            if _is_atomic(field.type) or not (field.type.is_map or field.type.is_list):
                positions.append(position)
                defaults.append(before)
            else:
                self.others.append((position, field, before))
        # the empty slice, because an itemgetter of one position would give no tuple
        self.plain = itemgetter(slice(0, 0), *positions)
        self.defaults = ((), *defaults)


@cache
def _ownable(record: Any) -> _Ownable:
    return _Ownable(record)


def _shape_of(new: Any) -> tuple[int, Any]:
    """About how many bytes the shape has, and the shape."""
    metadata = new.metadata
    record = _class_of(new)
    owners = metadata.owner_references
    parts: list[Any] = [
        record,
        metadata.generate_name is None,
        metadata.labels and tuple(metadata.labels),
        metadata.annotations and tuple(metadata.annotations),
        owners and tuple([one.uid for one in owners]),
        metadata.finalizers,
        metadata.deletion_timestamp is None,
        metadata.deletion_grace_period_seconds is None,
    ]
    size = 512
    values = astuple(new)
    ownable = _ownable(record)
    parts.append(tuple(map(ne, ownable.plain(values), ownable.defaults)))
    for position, field, before in ownable.others:
        after = values[position]
        if before is after or before == after:
            continue
        parts.append(field.element)
        if isinstance(after, _PLAIN):
            continue
        if type(after) is dict and field.type.element is not None and field.type.element.scalar:
            parts.append(tuple(after))
            size += sum(map(len, after))
        else:
            text = _text_of_spec(after) if field.wire == "spec" else encode(after)
            parts.append(text)
            size += len(text)
    return size, tuple(parts)


@remember_identical(16)
def _text_of_spec(spec: Any) -> bytes:
    """The JSON of a spec. New pods of one template have the same spec."""
    return encode(spec)


_COMPOSED = (msgspec.Struct, tuple)


@cache
def _empty(record: Callable[[], Any]) -> Any:
    return record()


def _size_of_part(record: Any, wire: str, text: bytes) -> int:
    return len(text)


@remember_within(PARTS_BYTES_MAX, _size_of_part)
def _new_part(record: Any, wire: str, text: bytes) -> _Below:
    """What a field of a new object has, given its JSON, and the same field of an empty object has
    not."""
    field = next(one for one in _object_fields(record) if one.wire == wire)
    default = tree_of(getattr(_empty(record), field.attribute))
    new = msgspec.json.decode(text)
    found = compare_parts({wire: field.type}, [(wire, default, new)])
    return found.added, found.modified, found.removed


def _compare(fields: tuple[_Field, ...], old: Any, new: Any, below: _Below) -> None:
    added, modified, _ = below
    for field, before, after in zip(fields, astuple(old), astuple(new), strict=True):
        if before is after or not field.is_ownable:
            continue
        if type(after) is str and not field.is_always_written:  # most fields
            if before is None:
                added[field.element] = MEMBER
            elif before != after:
                modified[field.element] = MEMBER
        elif before != after:
            _compare_field(field, before, after, below)


def _compare_field(field: _Field, old: Any, new: Any, below: _Below) -> None:
    """The same for one field with different values."""
    if (old is None or new is None) and field.is_always_written:  # written as null
        _compare_trees(field, old, new, below)
    elif old is None:
        below[0][field.element] = _every_path(field.type, new)
    elif new is None:
        below[2][field.element] = _every_path(field.type, old)
    elif isinstance(new, _PLAIN) or _is_atomic(field.type):
        below[1][field.element] = MEMBER
    else:
        inner: _Below = ({}, {}, {})
        if not _compare_values(field.type, old, new, inner):
            _compare_trees(field, old, new, below)
            return
        for outer, one in zip(below, inner, strict=True):
            if one:
                outer[field.element] = one


def _is_atomic(type_: Type) -> bool:
    return type_.is_atomic_map or (type_.is_list and not type_.is_list_set)


def _compare_values(type_: Type, old: Any, new: Any, below: _Below) -> bool:
    """Compare two different values that are records, or lists of records with keys. False: this
    has to be done with their trees."""
    if isinstance(new, msgspec.Struct):
        _compare(_fields(_class_of(new)), old, new, below)
        return True
    if type(new) is not tuple or not type_.keys or not (old and new):
        return False
    if not type_.item or type_.item.is_atomic_map:
        return False
    keys = _keys(_class_of(new[0]), type_)
    before, after = _by_key(keys, old), _by_key(keys, new)
    if before is None or after is None:
        return False
    added, _, removed = below
    for key, item in after.items():
        there = before.get(key)
        if there is item or there == item:
            continue
        element = _element_of(keys, key)
        if there is None:
            added[element] = _every_path(type_.item, item)
            continue
        inner: _Below = ({}, {}, {})
        _compare(_fields(_class_of(item)), there, item, inner)
        for outer, one in zip(below, inner, strict=True):
            if one:
                outer[element] = one
    for key, there in before.items():
        if key not in after:
            removed[_element_of(keys, key)] = _every_path(type_.item, there)
    return True


_Keys = tuple[tuple[str, str, Any], ...]


def _by_key(keys: _Keys, items: Any) -> dict[Any, Any] | None:
    """The items by their key, or by the tuple of their keys; None if two have the same, or one has
    none."""
    found: dict[Any, Any] = {}
    if len(keys) == 1:
        attribute = keys[0][0]
        for item in items:
            value = getattr(item, attribute)
            if type(value) is not str:
                return None
            found[value] = item
    else:
        for item in items:
            values = []
            for attribute, _, default in keys:
                value = getattr(item, attribute)
                values.append(default if value is None else value)
            if None in values:
                return None
            found[tuple(values)] = item
    return found if len(found) == len(items) else None


def _element_of(keys: _Keys, key: Any) -> str:
    """The element of the item with this key."""
    if len(keys) == 1:
        return _element_of_text(keys[0][1], key)
    return key_element({wire: value for (_, wire, _), value in zip(keys, key, strict=True)})


@lru_cache(maxsize=4096)
def _element_of_text(key: str, value: str) -> str:
    return key_element({key: value})


def _compare_trees(field: _Field, old: Any, new: Any, below: _Below) -> None:
    trees = [None if value is None else tree_of(value) for value in (old, new)]
    found = compare_parts({field.wire: field.type}, [(field.wire, trees[0], trees[1])])
    for one, more in zip(below, (found.added, found.modified, found.removed), strict=True):
        one.update(more)


def _every_path(type_: Type, value: Any) -> FieldSet:
    """As `every_path`, for a value of a record."""
    if type(value) is str or isinstance(value, _PLAIN) or _is_atomic(type_):
        return MEMBER
    if isinstance(value, msgspec.Struct):
        return _record_path(value)
    if type(value) is tuple and value and isinstance(value[0], msgspec.Struct) and type_.keys:
        keys = _keys(_class_of(value[0]), type_)
        items = _by_key(keys, value)
        if items is not None and type_.item is not None:
            found: FieldSet = {SELF: MEMBER}
            for key, item in items.items():
                found[_element_of(keys, key)] = _every_path(type_.item, item)
            return found
    return every_path(type_, tree_of(value))


@cache
def _is_flat(record: Any) -> bool:
    """Whether no field of the record contains paths, so that they depend on its presence alone."""
    return all(
        _is_atomic(field.type) or not (field.type.is_map or field.type.is_list)
        for field in _fields(record)
    )


@lru_cache(maxsize=4096)
def _flat_path(record: Any, is_absent: tuple[bool, ...]) -> FieldSet:
    below: FieldSet = {SELF: MEMBER}
    for field, absent in zip(_fields(record), is_absent, strict=True):
        if not absent or field.is_always_written:
            below[field.element] = MEMBER
    return below if len(below) > 1 else MEMBER


def _record_path(value: msgspec.Struct) -> FieldSet:
    record = _class_of(value)
    if _is_flat(record):
        return _flat_path(record, tuple([one is None for one in astuple(value)]))
    below: FieldSet = {SELF: MEMBER}
    for field, one in zip(_fields(record), astuple(value), strict=True):
        if one is None:
            if field.is_always_written:
                below[field.element] = MEMBER
        elif isinstance(one, str):
            below[field.element] = MEMBER
        elif one is not NO_FIELDS:
            below[field.element] = _every_path(field.type, one)
    return below if len(below) > 1 else MEMBER


def tree_of(value: Any) -> Any:
    """A value as a JSON tree. A map of texts is one already."""
    if value is None:
        return ABSENT
    if isinstance(value, _PLAIN):
        return value
    if type(value) is dict and all(type(one) is str for one in value.values()):
        return value
    return to_tree(value)
