"""Protobuf bodies, decoded to JSON trees. Rules PROTO-1 ... PROTO-8 (spec/protobuf.md).

`kubectl create` and upstream's components send them. A body is decoded to the JSON tree of the same
object, which is then handled like any other. The tree has the zeros that JSON would omit; the codec
drops them, as it does for JSON (PROTO-6). `encode` is the inverse. Source: Kubernetes
documentation, "Kubernetes API Concepts" (Kubernetes Protobuf encoding). Left out: field numbers
newer than v1.36 (spec/divergences.md): such a field is skipped as unknown, and such a kind is
rejected.
"""

import base64
import math
import struct
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, TypeAlias

import msgspec

from refk8s.core.api.status import ApiError, bad_request
from refk8s.core.apiserver.protobuf_wire import (
    FIXED64,
    LENGTH,
    VARINT,
    Malformed,
    bytes_field,
    double_field,
    read_double,
    read_fields,
    read_varint,
    signed,
    varint_field,
)
from refk8s.core.context import SECOND, micro_timestamp, parse_timestamp, timestamp
from refk8s.core.value import Value

Tree: TypeAlias = dict[str, Any]

MEDIA_TYPE = "application/vnd.kubernetes.protobuf"
MAGIC = b"k8s\0"
DEPTH_MAX = 100
"""Levels of nested messages, embedded ones included."""

_SCHEMA = "apiextensions.v1.JSONSchemaProps"
_META_KINDS = (
    "Status",
    "DeleteOptions",
    "PartialObjectMetadata",
    "PartialObjectMetadataList",
    "WatchEvent",
)
_SECONDS_MIN, _SECONDS_MAX = -62_135_596_800, 253_402_300_799  # the years 1 to 9999


class NoFieldNumber(ValueError):
    """A kind or field without a field number."""


class Field(Value, frozen=True):
    """A field of a message. `shape` is "" (one value), "*" (repeated), "%" (map with string keys)
    or "^" (its fields are the object's)."""

    number: int
    name: str
    shape: str
    type: str


# --- the envelope ---------------------------------------------------------------------------------


def decode(data: bytes) -> Tree:
    """The JSON tree of a protobuf body, with apiVersion and kind (PROTO-1). Raises ApiError 400 for
    any other bytes (PROTO-4)."""
    try:
        return _decode_enveloped(memoryview(data), 0)
    except (Malformed, NoFieldNumber) as error:
        raise ApiError(bad_request(f"error decoding protobuf: {error}")) from None


def encode(tree: Tree) -> bytes:
    """The protobuf body of a JSON tree (PROTO-8). Raises NoProtobuf for a kind or field without a
    number, or of another shape."""
    api_version, kind = tree["apiVersion"], tree["kind"]
    type_meta = _string(1, api_version) + _string(2, kind)
    message = message_of(api_version, kind)
    try:
        raw = _encode_message(message, tree)
    except (TypeError, ValueError, AttributeError, OverflowError, struct.error) as error:
        raise NoFieldNumber(str(error)) from None
    return MAGIC + bytes_field(1, type_meta) + bytes_field(2, raw) + _string(3, "") + _string(4, "")


def message_of(api_version: str, kind: str) -> str:
    """The message of a kind: `apps.v1.Deployment`. Kinds of the meta group are in every group
    (PROTO-7)."""
    group, _, version = api_version.rpartition("/")
    name = (
        f"meta.v1.{kind}"
        if kind in _META_KINDS
        else f"{group.split('.')[0] or 'core'}.{version}.{kind}"
    )
    if name not in _messages():
        raise NoFieldNumber(
            f'no kind "{kind[:100]}" of version "{api_version[:100]}" is known in protobuf'
        )
    return name


def _decode_enveloped(data: memoryview, depth: int) -> Tree:
    if data[:4] != MAGIC:
        raise Malformed("it does not begin with k8s and a zero byte")
    api_version = kind = content_type = ""
    raw: memoryview | None = None
    for number, wire, value in read_fields(data[4:]):
        if number > 4:
            continue
        body = _bytes(wire, value)
        if number == 1:
            for part, part_wire, text in read_fields(body):
                if part == 1:
                    api_version = _text(part_wire, text)
                elif part == 2:
                    kind = _text(part_wire, text)
        elif number == 2:
            raw = body
        elif len(body):
            content_type = _text(wire, body)
    if content_type not in ("", MEDIA_TYPE):
        raise Malformed(f"content of the type or encoding {content_type[:100]!r}")
    message = message_of(api_version, kind)
    if raw is None:
        # An empty object is encoded as no bytes, so it must be distinguished from a body that was
        # cut off.
        raise Malformed("there is no object in it")
    tree = _decode_message(message, raw, depth + 1)
    return {"apiVersion": api_version, "kind": kind, **tree}


# --- the table ------------------------------------------------------------------------------------


@cache
def _messages() -> dict[str, str]:
    """The table, loaded at the first use, because few clusters need it."""
    from refk8s.core.apiserver.protobuf_fields import MESSAGES

    return MESSAGES


@cache
def fields_of(message: str) -> tuple[Field, ...]:
    """The fields of a message in the order of their numbers (PROTO-2). Raises KeyError for an
    unknown message."""
    found = []
    for text in _messages()[message].split():
        number, _, rest = text.partition("=")
        name, _, kind = rest.rpartition(":")
        shape = kind[0] if kind[0] in "*%^" else ""
        found.append(Field(int(number), name, shape, kind.removeprefix(shape)))
    return tuple(found)


@cache
def _by_number(message: str) -> dict[int, Field]:
    return {field.number: field for field in fields_of(message)}


# --- reading --------------------------------------------------------------------------------------


def _decode_message(message: str, data: memoryview, depth: int) -> Tree:
    if depth > DEPTH_MAX:
        raise Malformed(f"nested deeper than {DEPTH_MAX} messages")
    known = _by_number(message)
    tree: Tree = {}
    for number, wire, value in read_fields(data):
        field = known.get(number)
        if field is None:
            continue  # PROTO-3: written by a newer client
        match field.shape:
            case "":
                tree[field.name] = _decode_value(field.type, wire, value, depth)
            case "*":
                tree.setdefault(field.name, []).extend(
                    _decode_repeated(field.type, wire, value, depth)
                )
            case "%":
                key, entry = _decode_entry(field.type, _bytes(wire, value), depth)
                tree.setdefault(field.name, {})[key] = entry
            case _:
                tree.update(_decode_message(field.type, _bytes(wire, value), depth + 1))
    return tree


def _decode_repeated(kind: str, wire: int, value: int | memoryview, depth: int) -> Iterator[Any]:
    """One element, or several numbers packed into one field."""
    if kind in _NUMBERS and wire == LENGTH:
        packed, position = _bytes(wire, value), 0
        while position < len(packed):
            number, position = read_varint(packed, position)
            yield _NUMBERS[kind](number)
    else:
        yield _decode_value(kind, wire, value, depth)


def _decode_entry(kind: str, data: memoryview, depth: int) -> tuple[str, Any]:
    """One entry of a map; an absent part is empty."""
    key, entry = "", _decode_value(kind, *_EMPTY.get(kind, (LENGTH, memoryview(b""))), depth)
    for number, wire, value in read_fields(data):
        if number == 1:
            key = _text(wire, value)
        elif number == 2:
            entry = _decode_value(kind, wire, value, depth)
    return key, entry


_NUMBERS: dict[str, Callable[[int], Any]] = {
    "bool": bool,
    "int32": lambda value: signed(value, 32),
    "int64": lambda value: signed(value, 64),
}
_EMPTY: dict[str, tuple[int, int | memoryview]] = {
    "bool": (VARINT, 0),
    "int32": (VARINT, 0),
    "int64": (VARINT, 0),
}


def _decode_value(kind: str, wire: int, value: int | memoryview, depth: int) -> Any:
    if kind == "string":
        return _text(wire, value)
    if kind in _NUMBERS:
        if wire != VARINT or not isinstance(value, int):
            raise Malformed(f"a {kind} of wire type {wire}")
        return _NUMBERS[kind](value)
    if kind == "double":
        if wire != FIXED64 or isinstance(value, int):
            raise Malformed(f"a double of wire type {wire}")
        return _number(read_double(value))
    data = _bytes(wire, value)
    if kind == "bytes":
        return base64.b64encode(data).decode()
    form = _FORMS.get(kind)
    return _decode_message(kind, data, depth + 1) if form is None else form(data, depth + 1)


def _bytes(wire: int, value: int | memoryview) -> memoryview:
    if wire != LENGTH or isinstance(value, int):
        raise Malformed(f"bytes of wire type {wire}")
    return value


def _text(wire: int, value: int | memoryview) -> str:
    try:
        return str(_bytes(wire, value), "utf-8")
    except UnicodeDecodeError:
        raise Malformed("a string that is not UTF-8") from None


def _number(value: float) -> int | float:
    """A JSON number: whole ones without a point."""
    if not math.isfinite(value):
        raise Malformed("a number that is not finite")
    return int(value) if value.is_integer() and abs(value) < 2**53 else value


# --- messages whose JSON form is not their fields (PROTO-5, PROTO-6) ------------------------------


def _plain(message: str, data: memoryview, depth: int) -> Tree:
    """A message defined in this file, decoded by its fields; unnamed ones are left out."""
    if depth > DEPTH_MAX:
        raise Malformed(f"nested deeper than {DEPTH_MAX} messages")
    tree: Tree = {}
    for number, wire, value in read_fields(data):
        if (field := _OWN[message].get(number)) is not None:
            if field.shape:
                tree.setdefault(field.name, []).extend(
                    _decode_repeated(field.type, wire, value, depth)
                )
            else:
                tree[field.name] = _decode_value(field.type, wire, value, depth)
    return tree


def _own(**rows: tuple[int, str, str]) -> dict[int, Field]:
    return {
        number: Field(number, name, shape, kind) for name, (number, shape, kind) in rows.items()
    }


_OWN: dict[str, dict[int, Field]] = {
    "Time": _own(seconds=(1, "", "int64"), nanos=(2, "", "int32")),
    "Quantity": _own(string=(1, "", "string")),
    "IntOrString": _own(type=(1, "", "int64"), int=(2, "", "int32"), string=(3, "", "string")),
    "Raw": _own(raw=(1, "", "Bytes")),
    "Strings": _own(items=(1, "*", "string")),
    "SchemaOrArray": _own(schema=(1, "", _SCHEMA), schemas=(2, "*", _SCHEMA)),
    "SchemaOrBool": _own(allows=(1, "", "bool"), schema=(2, "", _SCHEMA)),
    "SchemaOrStrings": _own(schema=(1, "", _SCHEMA), strings=(2, "*", "string")),
}


def _time(data: memoryview, depth: int) -> str | None:
    """An empty message is no time; one with zeros is the epoch."""
    # with four digits, also for years before 1000
    return None if not len(data) else timestamp(_instant(data, depth)).zfill(20)


def _micro_time(data: memoryview, depth: int) -> str | None:
    return None if not len(data) else micro_timestamp(_instant(data, depth)).zfill(27)


def _instant(data: memoryview, depth: int) -> int:
    parts = _plain("Time", data, depth)
    seconds: int = parts.get("seconds", 0)
    nanos: int = parts.get("nanos", 0)
    if not _SECONDS_MIN <= seconds <= _SECONDS_MAX or not 0 <= nanos < 10**9:
        raise Malformed("a time out of range")
    return seconds * SECOND + nanos // 1000


def _int_or_string(data: memoryview, depth: int) -> int | str:
    parts = _plain("IntOrString", data, depth)
    chosen: int | str = parts.get("string", "") if parts.get("type", 0) else parts.get("int", 0)
    return chosen


def _raw(data: memoryview, depth: int) -> Any:
    """Bytes that are JSON, or another protobuf body."""
    body: memoryview = _plain("Raw", data, depth).get("raw", memoryview(b""))
    if not len(body):
        return None
    if body[:4] == MAGIC:
        return _decode_enveloped(body, depth)
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Malformed("raw bytes that are no JSON") from None


def _schema_or(name: str, other: str, empty: Any) -> Callable[[memoryview, int], Any]:
    def decode_one(data: memoryview, depth: int) -> Any:
        parts = _plain(name, data, depth)
        return parts["schema"] if "schema" in parts else parts.get(other, empty)

    return decode_one


_FORMS: dict[str, Callable[[memoryview, int], Any]] = {
    "Time": _time,
    "MicroTime": _micro_time,
    "Quantity": lambda data, depth: _plain("Quantity", data, depth).get("string", "0"),
    "IntOrString": _int_or_string,
    "Raw": _raw,
    "Bytes": lambda data, depth: data,
    "Strings": lambda data, depth: _plain("Strings", data, depth).get("items", []),
    "SchemaOrArray": _schema_or("SchemaOrArray", "schemas", []),
    "SchemaOrBool": _schema_or("SchemaOrBool", "allows", False),
    "SchemaOrStrings": _schema_or("SchemaOrStrings", "strings", []),
}


# --- writing --------------------------------------------------------------------------------------


def _string(number: int, text: str) -> bytes:
    return bytes_field(number, text.encode())


def _encode_message(message: str, tree: Tree) -> bytes:
    """The fields of an object in the order of their numbers, those of embedded messages in theirs.

    Kind and apiVersion of items of a list and of templates are not encoded: they have no field for
    them. A field that is newer than the table is rejected, unless it is an empty object.
    """
    left = dict(tree)
    data = _encode_fields(message, left)
    lost = [key for key, value in left.items() if key not in ("apiVersion", "kind") and value != {}]
    if lost:
        raise NoFieldNumber(f"{message} has no field {lost[0]!r} in protobuf")
    return data


def _encode_fields(message: str, left: Tree) -> bytes:
    """Encode the fields of this message that are in `left`, and remove them from it."""
    out = []
    for field in fields_of(message):
        if field.shape == "^":
            out.append(bytes_field(field.number, _encode_fields(field.type, left)))
            continue
        value = left.pop(field.name, None)
        if value is None:
            continue
        if field.shape == "*":
            out.extend(_encode_value(field.number, field.type, one) for one in value)
        elif field.shape == "%":
            out.extend(
                bytes_field(field.number, _string(1, key) + _encode_value(2, field.type, one))
                for key, one in sorted(value.items())
            )
        else:
            out.append(_encode_value(field.number, field.type, value))
    return b"".join(out)


def _encode_value(number: int, kind: str, value: Any) -> bytes:
    if kind == "string":
        return _string(number, value)
    if kind in _NUMBERS:
        return varint_field(number, int(value))
    if kind == "double":
        return double_field(number, value)
    if kind == "bytes":
        return bytes_field(number, base64.b64decode(value, validate=True))
    form = _WRITERS.get(kind)
    return bytes_field(number, _encode_message(kind, value) if form is None else form(value))


def _write_time(value: str | None) -> bytes:
    if value is None:
        return b""
    seconds, micros = divmod(parse_timestamp(value), SECOND)
    return varint_field(1, seconds) + varint_field(2, micros * 1000)


def _write_int_or_string(value: int | str) -> bytes:
    is_text = isinstance(value, str)
    return (
        varint_field(1, is_text)
        + varint_field(2, 0 if is_text else int(value))
        + _string(3, str(value) if is_text else "")
    )


def _write_schema_or(value: Any) -> bytes:
    """An object is a schema; a list is one of schemas or of names; a boolean says whether anything
    is allowed."""
    if isinstance(value, bool):
        return varint_field(1, value)
    if isinstance(value, dict):
        return bytes_field(1, _encode_message(_SCHEMA, value))
    return b"".join(
        _string(2, one) if isinstance(one, str) else bytes_field(2, _encode_message(_SCHEMA, one))
        for one in value
    )


def _write_schema_or_bool(value: Any) -> bytes:
    if isinstance(value, bool):
        return varint_field(1, value)
    return varint_field(1, True) + bytes_field(2, _encode_message(_SCHEMA, value))


_WRITERS: dict[str, Callable[[Any], bytes]] = {
    "Time": _write_time,
    "MicroTime": _write_time,
    "Quantity": lambda value: _string(1, value),
    "IntOrString": _write_int_or_string,
    "Raw": lambda value: bytes_field(1, msgspec.json.encode(value)),
    "Strings": lambda value: b"".join(_string(1, one) for one in value),
    "SchemaOrArray": _write_schema_or,
    "SchemaOrBool": _write_schema_or_bool,
    "SchemaOrStrings": _write_schema_or,
}
