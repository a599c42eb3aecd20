"""Protobuf bodies, decoded to JSON trees. Rules PROTO-1 ... PROTO-8 (spec/protobuf.md).

`kubectl create` and upstream's components send them. A body is decoded to the JSON tree of the same
object, which is then handled like any other. The tree has the zeros that JSON would omit; the codec
drops them, as it does for JSON (PROTO-6). `protobuf_encode.py` is the inverse. Source: Kubernetes
documentation, "Kubernetes API Concepts" (Kubernetes Protobuf encoding). Left out: field numbers
that are newer than the table (spec/divergences.md): such a field is skipped as unknown, and such a
kind is rejected.
"""

import base64
import math
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
    read_double,
    read_fields,
    read_varint,
    signed,
)
from refk8s.core.context import SECOND, micro_timestamp, timestamp
from refk8s.core.value import Value

Tree: TypeAlias = dict[str, Any]

MEDIA_TYPE = "application/vnd.kubernetes.protobuf"
MAGIC = b"k8s\0"
DEPTH_MAX = 100
"""Levels of nested messages, embedded ones included."""

SCHEMA = "apiextensions.v1.JSONSchemaProps"
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
    or "^" (its fields are the object's). `is_always_written`: also if it is empty or zero."""

    number: int
    name: str
    shape: str
    type: str
    is_always_written: bool = False


# --- the envelope ---------------------------------------------------------------------------------


def decode(data: bytes) -> Tree:
    """The JSON tree of a protobuf body, with apiVersion and kind (PROTO-1). Raises ApiError 400 for
    any other bytes (PROTO-4)."""
    try:
        return _decode_enveloped(memoryview(data), 0)
    except (Malformed, NoFieldNumber) as error:
        raise ApiError(bad_request(f"error decoding protobuf: {error}")) from None


def message_of(api_version: str, kind: str) -> str:
    """The message of a kind: `apps.v1.Deployment`. Kinds of the meta group are in every group
    (PROTO-7)."""
    group, _, version = api_version.rpartition("/")
    if "." in group and not group.endswith(".k8s.io"):
        version = ""  # the group of a definition may begin like another one
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


@cache
def has_message(api_version: str, kind: str) -> bool:
    """Whether objects of this kind can be encoded."""
    try:
        message_of(api_version, kind)
    except NoFieldNumber:
        return False
    return True


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
        type_ = kind.removeprefix(shape)
        found.append(Field(int(number), name, shape, type_.removeprefix("+"), type_[0] == "+"))
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
    # A schema is kept as JSON, so the codec does not drop its zeros (PROTO-6).
    return _without_zeros(tree, known) if message == SCHEMA else tree


def _without_zeros(tree: Tree, known: dict[int, Field]) -> Tree:
    zeros = {field.name for field in known.values() if field.is_always_written}
    return {name: value for name, value in tree.items() if value or name not in zeros}


def _decode_repeated(kind: str, wire: int, value: int | memoryview, depth: int) -> Iterator[Any]:
    """One element, or several numbers packed into one field."""
    if kind in NUMBERS and wire == LENGTH:
        packed, position = _bytes(wire, value), 0
        while position < len(packed):
            number, position = read_varint(packed, position)
            yield NUMBERS[kind](number)
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


NUMBERS: dict[str, Callable[[int], Any]] = {
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
    if kind in NUMBERS:
        if wire != VARINT or not isinstance(value, int):
            raise Malformed(f"a {kind} of wire type {wire}")
        return NUMBERS[kind](value)
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
    "SchemaOrArray": _own(schema=(1, "", SCHEMA), schemas=(2, "*", SCHEMA)),
    "SchemaOrBool": _own(allows=(1, "", "bool"), schema=(2, "", SCHEMA)),
    "SchemaOrStrings": _own(schema=(1, "", SCHEMA), strings=(2, "*", "string")),
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
