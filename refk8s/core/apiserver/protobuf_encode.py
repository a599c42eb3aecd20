"""Encodes JSON trees as protobuf, the inverse of protobuf.py. Rules PROTO-2, PROTO-5, PROTO-8,
PROTO-9 (spec/protobuf.md).

Fields are in the order of their numbers and the entries of a map in the order of their keys, so
that equal objects have equal bytes. A message has one table of writers, made at its first use: the
name in JSON to the number and a function that writes tag and value. Source: as protobuf.py. Left
out: fields that are newer than the field numbers (spec/divergences.md).
"""

import base64
import struct
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, TypeAlias

import msgspec

from refk8s.core.apiserver.protobuf import (
    MAGIC,
    NUMBERS,
    SCHEMA,
    Field,
    NoFieldNumber,
    Tree,
    fields_of,
    message_of,
)
from refk8s.core.apiserver.protobuf_wire import (
    FIXED64,
    LENGTH,
    VARINT,
    bytes_field,
    varint,
    varint_field,
)
from refk8s.core.context import SECOND, parse_timestamp

Write: TypeAlias = Callable[[Any], bytes]
"""Writes a value of a field, with its tag."""

_SHORT = 64
_VARINTS = [varint(value) for value in range(2_048)]  # most lengths and numbers
_EMPTY_STRINGS = bytes_field(3, b"") + bytes_field(4, b"")  # contentEncoding, contentType


def encode(tree: Tree) -> bytes:
    """The protobuf body of a JSON tree (PROTO-1). Raises NoFieldNumber for a kind without a
    message, and for a value of another shape."""
    api_version, kind = tree["apiVersion"], tree["kind"]
    return envelope(api_version, kind, encode_message(message_of(api_version, kind), tree))


def envelope(api_version: str, kind: str, message: bytes) -> bytes:
    """A body around the message of an object of this kind (PROTO-1)."""
    type_meta = bytes_field(1, api_version.encode()) + bytes_field(2, kind.encode())
    return MAGIC + bytes_field(1, type_meta) + bytes_field(2, message) + _EMPTY_STRINGS


ITEMS_A_PIECE = 64


def encode_list(api_version: str, kind: str, metadata: Tree, items: Sequence[bytes]) -> list[bytes]:
    """The body of a list of these messages, in pieces that need not be joined."""
    parts = [bytes_field(1, encode_message("meta.v1.ListMeta", metadata))]
    parts += [bytes_field(2, item) for item in items]
    type_meta = bytes_field(1, api_version.encode()) + bytes_field(2, kind.encode())
    tag = varint(2 << 3 | LENGTH) + varint(sum(map(len, parts)))
    pieces = [
        b"".join(parts[start : start + ITEMS_A_PIECE])
        for start in range(0, len(parts), ITEMS_A_PIECE)
    ]
    return [MAGIC + bytes_field(1, type_meta) + tag, *pieces, _EMPTY_STRINGS]


def encode_message(message: str, tree: Tree) -> bytes:
    """The fields of a tree as this message. Raises NoFieldNumber for a value of another shape."""
    try:
        return _encode(message, tree)
    except (TypeError, ValueError, AttributeError, OverflowError, struct.error) as error:
        raise NoFieldNumber(str(error)) from None


def write_event(type_: str, body: bytes) -> bytes:
    """An event of a watch around the body of its object, after its length in four bytes
    (PROTO-10)."""
    event = bytes_field(1, type_.encode()) + bytes_field(2, bytes_field(1, body))
    return len(event).to_bytes(4, "big") + event


# --- messages -------------------------------------------------------------------------------------


class _Table(msgspec.Struct, frozen=True):
    """How the fields of a message are written."""

    writers: dict[str, tuple[int, Write]]
    embedded: tuple[tuple[int, str, frozenset[str]], ...]
    always: tuple[tuple[int, str, bytes], ...]


@cache
def _table(message: str) -> _Table:
    writers: dict[str, tuple[int, Write]] = {}
    embedded, always = [], []
    for field in fields_of(message):
        if field.shape == "^":
            embedded.append((field.number, field.type, _names(field.type)))
            continue
        writers[field.name] = (field.number, _writer(field))
        if field.is_always_written:
            always.append((field.number, field.name, _zero(field)))
    return _Table(writers, tuple(embedded), tuple(always))


def _names(message: str) -> frozenset[str]:
    """The names in JSON of the fields of a message, those of embedded ones included."""
    found: set[str] = set()
    for field in fields_of(message):
        found |= _names(field.type) if field.shape == "^" else {field.name}
    return frozenset(found)


def _encode(message: str, tree: Tree) -> bytes:
    """The fields of an object in the order of their numbers. O(fields that it has).

    Kind and apiVersion of items of a list and of templates are left out: they have no field.
    """
    table = _table(message)
    writers = table.writers
    parts: list[tuple[int, bytes]] = []
    for name, value in tree.items():
        if value is not None and (found := writers.get(name)) is not None:
            parts.append((found[0], found[1](value)))
    for number, kind, names in table.embedded:
        own = {name: tree[name] for name in names & tree.keys()}
        parts.append((number, bytes_field(number, _encode(kind, own))))
    for number, name, zero in table.always:
        if tree.get(name) is None:
            parts.append((number, zero))
    parts.sort()
    return b"".join([data for _, data in parts])


def _zero(field: Field) -> bytes:
    """An empty value of a field."""
    if field.type == "string":
        return bytes_field(field.number, b"")
    if field.type in NUMBERS:
        return varint_field(field.number, 0)
    return bytes_field(field.number, _encode(field.type, {}) if "." in field.type else b"")


# --- fields ---------------------------------------------------------------------------------------


def _writer(field: Field) -> Write:
    number = field.number
    if field.shape == "*":
        one = _value_writer(number, field.type)
        return lambda values: b"".join([one(value) for value in values])
    if field.shape == "%":
        tag = varint(number << 3 | LENGTH)
        write_key, entry = _value_writer(1, "string"), _value_writer(2, field.type)
        return lambda values: b"".join(
            [
                _with_length(tag, write_key(key) + entry(value))
                for key, value in sorted(values.items())
            ]
        )
    return _value_writer(number, field.type)


def _value_writer(number: int, kind: str) -> Write:
    tag = varint(number << 3 | LENGTH)
    if kind == "string":
        return _string_writer(tag)
    if kind in NUMBERS:
        number_tag = varint(number << 3 | VARINT)
        return lambda value: number_tag + _varint(int(value))
    if kind == "double":
        double_tag = varint(number << 3 | FIXED64)
        return lambda value: double_tag + struct.pack("<d", value)
    if kind == "bytes":
        return lambda value: _with_length(tag, base64.b64decode(value, validate=True))
    form = _FORMS.get(kind)
    if form is None:
        return lambda value: _with_length(tag, _encode(kind, value))
    return lambda value: _with_length(tag, form(value))


def _string_writer(tag: bytes) -> Write:
    short = [tag + varint(length) for length in range(_SHORT)]

    def write(value: str) -> bytes:
        data = value.encode()
        size = len(data)
        return short[size] + data if size < _SHORT else _with_length(tag, data)

    return write


def _with_length(tag: bytes, data: bytes) -> bytes:
    return tag + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    return _VARINTS[value] if 0 <= value < len(_VARINTS) else varint(value)


# --- messages whose JSON form is not their fields (PROTO-5) ---------------------------------------


def _time(value: str) -> bytes:
    seconds, micros = divmod(parse_timestamp(value), SECOND)
    return varint_field(1, seconds) + varint_field(2, micros * 1000)


def _int_or_string(value: int | str) -> bytes:
    is_text = isinstance(value, str)
    return (
        varint_field(1, is_text)
        + varint_field(2, 0 if is_text else int(value))
        + bytes_field(3, str(value).encode() if is_text else b"")
    )


def _schema_or(value: Any) -> bytes:
    """An object is a schema; a list is one of schemas or of names."""
    if isinstance(value, dict):
        return bytes_field(1, _encode(SCHEMA, value))
    return b"".join(
        [
            bytes_field(2, one.encode() if isinstance(one, str) else _encode(SCHEMA, one))
            for one in value
        ]
    )


def _schema_or_bool(value: Any) -> bytes:
    """A boolean says whether anything is allowed."""
    if isinstance(value, bool):
        return varint_field(1, value)
    return varint_field(1, True) + bytes_field(2, _encode(SCHEMA, value))


_FORMS: dict[str, Callable[[Any], bytes]] = {
    "Time": _time,
    "MicroTime": _time,
    "Quantity": lambda value: bytes_field(1, value.encode()),
    "IntOrString": _int_or_string,
    "Raw": lambda value: bytes_field(1, msgspec.json.encode(value)),
    "Strings": lambda value: b"".join([bytes_field(1, one.encode()) for one in value]),
    "SchemaOrArray": _schema_or,
    "SchemaOrBool": _schema_or_bool,
    "SchemaOrStrings": _schema_or,
}
