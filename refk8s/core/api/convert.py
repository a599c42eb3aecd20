"""Converts a JSON tree to a record, field by field, as upstream's decoder does: the slow decoder of
`codec.py`.

Rules OBJ-4, OBJ-7, OBJ-8 and OBJ-10 (spec/object_model.md). A converter is made once per type from
the record's annotations. Null is absent. An optional zero that is not a pointer upstream is absent.
A number is accepted as a quantity. The first value of a wrong type ends the conversion with
upstream's message. Source: Kubernetes documentation, "Kubernetes API Concepts", "Field validation";
API conventions.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from functools import cache
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import msgspec

from refk8s.core.api import base
from refk8s.core.api.go_types import embedded_in, type_name
from refk8s.core.api.json_text import Repeated
from refk8s.core.api.moment import TimeError, canonical_micro_time, canonical_time
from refk8s.core.api.quantity import QuantityError, canonical

Path = tuple[Any, str | int, str] | None
"""The position of a value: that of the value around it; its field, key or index; and the record
that has the field ("" for a key or an index)."""

Converter = Callable[[Any, Path, list[str]], Any]
"""(value, position, unknown and repeated fields so far) -> the converted value. The value is never
null."""

_NOT_BASE64 = re.compile(r"[^A-Za-z0-9+/]", re.ASCII)


class Unmarshal(ValueError):
    """A value of the wrong type. The message is upstream's."""


@cache
def converter_of(type_: Any) -> Converter:
    """The converter for a record class."""
    return _record(type_)


@cache
def plain_booleans(type_: Any) -> frozenset[bytes]:
    """The names of the fields, at any depth of a record, whose false means absent."""
    names: set[str] = set()
    _collect_flags(type_, "", names, set())
    return frozenset(name.encode() for name in names)


def _collect_flags(annotation: Any, name: str, names: set[str], seen: set[type]) -> None:
    if annotation is base.Flag:
        names.add(name)
    elif isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        if annotation not in seen:
            seen.add(annotation)
            for part in msgspec.structs.fields(annotation):
                _collect_flags(part.type, part.encode_name, names, seen)
    else:
        for part in get_args(annotation):
            _collect_flags(part, name, names, seen)


# Each kind of type


def _converter(annotation: Any) -> tuple[Converter, Any, str]:
    """For a type without `None`: its converter, its zero value (which replaces null in a list or
    map), and its name upstream."""
    if annotation in _SCALARS:
        return _SCALARS[annotation]
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        # Looked up at the first use, because a record may contain itself.
        return (
            lambda value, path, problems: converter_of(annotation)(value, path, problems),
            annotation(),
            go_name(annotation),
        )
    origin = get_origin(annotation)
    if origin is Annotated:
        return _converter(get_args(annotation)[0])
    if origin is tuple:
        return _list(get_args(annotation)[0])
    if origin is dict:
        return _map(get_args(annotation)[1])
    raise AssertionError(f"no converter for {annotation}")


def go_name(type_: type) -> str:
    """The record's name in upstream's messages: v1.PodSpec."""
    return f"{type_.__module__.rsplit('_', 1)[1]}.{type_.__name__}"


def _record(type_: Any) -> Converter:
    fields: dict[str, tuple[str, Converter, bool]] = {}
    for part in msgspec.structs.fields(type_):
        annotation = _without_none(part.type)
        named = type_name(type_.__name__, part.encode_name)
        fields[part.encode_name] = (
            part.name,
            _named(annotation, named) if named else _converter(annotation)[0],
            _is_absent_when_zero(annotation) and not part.required,
        )
    name, full_name = type_.__name__, go_name(type_)

    def convert(value: Any, path: Path, problems: list[str]) -> Any:
        if not isinstance(value, dict):
            raise mismatch(value, path, full_name)
        arguments = {}
        for wire, item in value.items():
            found = fields.get(wire)
            if found is None:
                problems.append(f'unknown field "{text_of((path, wire, name))}"')
                continue
            attribute, convert_item, drops_zero = found
            if item is None:
                continue
            made = convert_item(item, (path, wire, name), problems)
            if made is None or (drops_zero and not made):
                continue
            arguments[attribute] = made
        if isinstance(value, Repeated):
            problems.extend(
                f'duplicate field "{text_of((path, wire, name))}"'
                for wire in value.keys_repeated
                if wire in fields
            )
        return type_(**arguments)

    return convert


def _named(annotation: Any, name: str) -> Converter:
    """The converter of a text, or of a list of texts, whose type has a name of its own."""
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]

    def convert(value: Any, path: Path, _problems: list[str]) -> str:
        if not isinstance(value, str):
            raise mismatch(value, path, name)
        return value

    if get_origin(annotation) is tuple:
        return _list_of((convert, "", name))[0]
    return convert


def _list(item_type: Any) -> tuple[Converter, Any, str]:
    return _list_of(_converter(item_type))


def _list_of(item: tuple[Converter, Any, str]) -> tuple[Converter, Any, str]:
    convert_item, zero, item_name = item
    full_name = "[]" + item_name

    def convert(value: Any, path: Path, problems: list[str]) -> Any:
        if not isinstance(value, list):
            raise mismatch(value, path, full_name)
        return tuple(
            [
                zero if item is None else convert_item(item, (path, index, ""), problems)
                for index, item in enumerate(value)
            ]
        )

    return convert, (), full_name


def _map(item_type: Any) -> tuple[Converter, Any, str]:
    convert_item, zero, item_name = _converter(item_type)
    full_name = "v1.ResourceList" if item_type is base.Quantity else "map[string]" + item_name

    def convert(value: Any, path: Path, problems: list[str]) -> Any:
        if not isinstance(value, dict):
            raise mismatch(value, path, full_name)
        if isinstance(value, Repeated):
            problems.extend(
                f'duplicate field "{text_of((path, key, ""))}"' for key in value.keys_repeated
            )
        return {
            key: zero if item is None else convert_item(item, (path, key, ""), problems)
            for key, item in value.items()
        }

    return convert, {}, full_name


# Scalars


def _string(value: Any, path: Path, _problems: list[str]) -> str:
    if not isinstance(value, str):
        raise mismatch(value, path, "string")
    return value


def _boolean(value: Any, path: Path, _problems: list[str]) -> bool:
    if not isinstance(value, bool):
        raise mismatch(value, path, "bool")
    return value


def _integer(name: str, low: int, high: int) -> Converter:
    def convert(value: Any, path: Path, _problems: list[str]) -> int:
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise mismatch(value, path, name)
        if isinstance(value, float) or not low <= value <= high:
            raise mismatch(value, path, name, f"number {_number_text(value)}")
        return value

    return convert


def _float(value: Any, path: Path, _problems: list[str]) -> int | float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise mismatch(value, path, "float64")
    try:
        number = float(value)
    except OverflowError:
        raise mismatch(value, path, "float64", f"number {value}") from None
    # Written without a fraction, as upstream writes it: 9, not 9.0.
    return int(number) if number.is_integer() and abs(number) < 2**53 else number


def _int_or_string(value: Any, _path: Path, _problems: list[str]) -> int | str:
    if isinstance(value, str):
        return value
    convert = _integer("int32", -(2**31), 2**31 - 1)
    return int(convert(value, None, _problems))


def _quantity(value: Any, _path: Path, _problems: list[str]) -> str:
    if isinstance(value, bool):
        value = "true" if value else "false"
    elif isinstance(value, int | float):
        value = _number_text(value)
    elif not isinstance(value, str):
        value = "?"
    try:
        return canonical(value.strip())
    except QuantityError as error:
        raise Unmarshal(str(error)) from None


def _time(canonical_text: Callable[[str], str | None]) -> Converter:
    def convert(value: Any, _path: Path, _problems: list[str]) -> str | None:
        if not isinstance(value, str):
            raise mismatch(value, None, "string")
        try:
            return canonical_text(value)
        except TimeError as error:
            raise Unmarshal(str(error)) from None

    return convert


def _base64(value: Any, path: Path, _problems: list[str]) -> str:
    if not isinstance(value, str):
        raise mismatch(value, path, "[]uint8")
    text = value.replace("\n", "").replace("\r", "")
    body = text.rstrip("=")
    wrong = _NOT_BASE64.search(body)
    if wrong is not None:
        raise Unmarshal(f"illegal base64 data at input byte {_index_in(value, wrong.start())}")
    if len(text) % 4 or len(text) - len(body) > 2:
        raise Unmarshal(
            f"illegal base64 data at input byte {_index_in(value, len(body) - len(body) % 4)}"
        )
    try:
        return base64.b64encode(base64.b64decode(text, validate=True)).decode("ascii")
    except binascii.Error:
        raise Unmarshal(
            f"illegal base64 data at input byte {_index_in(value, len(body))}"
        ) from None


def _index_in(value: str, index: int) -> int:
    """The index, in a text with line breaks, of the character that has this index without them."""
    for position, character in enumerate(value):
        if character not in "\r\n":
            if index == 0:
                return position
            index -= 1
    return len(value)


def _json(value: Any, _path: Path, _problems: list[str]) -> Any:
    return value


def _fields(value: Any, _path: Path, _problems: list[str]) -> base.FieldsV1:
    return base.FieldsV1(msgspec.json.encode(value))


_SCALARS: dict[Any, tuple[Converter, Any, str]] = {
    str: (_string, "", "string"),
    bool: (_boolean, False, "bool"),
    base.Text: (_string, "", "string"),
    base.Flag: (_boolean, False, "bool"),
    base.Int32: (_integer("int32", -(2**31), 2**31 - 1), 0, "int32"),
    base.Int64: (_integer("int64", -(2**63), 2**63 - 1), 0, "int64"),
    base.Count32: (_integer("int32", -(2**31), 2**31 - 1), 0, "int32"),
    base.Count64: (_integer("int64", -(2**63), 2**63 - 1), 0, "int64"),
    base.Float: (_float, 0, "float64"),
    base.IntOrString: (_int_or_string, 0, "intstr.IntOrString"),
    base.Quantity: (_quantity, "0", "resource.Quantity"),
    base.Time: (_time(canonical_time), None, "v1.Time"),
    base.MicroTime: (_time(canonical_micro_time), None, "v1.MicroTime"),
    base.Base64: (_base64, "", "[]uint8"),
    base.Bytes: (_base64, "", "[]uint8"),
    base.FieldsV1: (_fields, base.NO_FIELDS, "v1.FieldsV1"),
    Any: (_json, None, "interface {}"),
}


# Annotations


def _without_none(annotation: Any) -> Any:
    """`T` of `T | None`. IntOrString is a union too and stays one."""
    if get_origin(annotation) not in (Union, UnionType) or annotation in _SCALARS:
        return annotation
    rest = tuple(part for part in get_args(annotation) if part is not type(None))
    return rest[0] if len(rest) == 1 else Union[rest]  # noqa: UP007


def _is_absent_when_zero(annotation: Any) -> bool:
    if annotation in (base.Text, base.Flag, base.Count32, base.Count64, base.Bytes):
        return True
    return get_origin(annotation) is Annotated and base.SOME in get_args(annotation)[1:]


# Numbers of the result of a merge


def with_fitting_numbers(type_: Any, value: Any) -> Any:
    """The JSON tree of a record with each number as upstream fits it to its field (OBJ-12). Other
    values are as they were."""
    annotation = _without_none(type_)
    if (bits := _BITS.get(annotation)) is not None:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return _fitting(value, bits) if is_number else value
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if isinstance(value, dict):
        if get_origin(annotation) is dict:
            item = get_args(annotation)[1]
            return {key: with_fitting_numbers(item, one) for key, one in value.items()}
        if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
            types = _types_of(annotation)
            return {
                key: with_fitting_numbers(types[key], one) if key in types else one
                for key, one in value.items()
            }
    if isinstance(value, list) and get_origin(annotation) is tuple:
        return [with_fitting_numbers(get_args(annotation)[0], one) for one in value]
    return value


@cache
def _types_of(record: Any) -> dict[str, Any]:
    return {part.encode_name: part.type for part in msgspec.structs.fields(record)}


def _fitting(number: float, bits: int) -> int | float:
    """The number in this many bits. A number that is not whole stays, and is refused later. One
    that does not even fit in 64 bits is the lowest of 64 bits first, as on most processors."""
    if isinstance(number, float) and not number.is_integer():
        return number
    whole = int(number)
    if not -(2**63) <= whole < 2**63:
        whole = -(2**63)
    half: int = 2 ** (bits - 1)
    return (whole + half) % (2 * half) - half


_BITS: dict[Any, int] = {
    base.Int32: 32, base.Count32: 32, base.Int64: 64, base.Count64: 64,
}  # fmt: skip
"""The sizes of whole numbers."""


# Messages


def mismatch(value: Any, path: Path, type_name: str, found: str = "") -> Unmarshal:
    """Upstream's message for a value of the wrong type: the record, the fields down to the value,
    and the expected type."""
    found = found or _kind_of(value)
    fields: list[str] = []
    owner = ""
    while path is not None:
        path, part, record = path
        if record:
            fields.append(str(part))
            if embedded := embedded_in(record, str(part)):
                fields.append(embedded)
            owner = owner or record
    if not owner:
        return Unmarshal(f"json: cannot unmarshal {found} into Go value of type {type_name}")
    return Unmarshal(
        f"json: cannot unmarshal {found} into Go struct field "
        f"{owner}.{'.'.join(reversed(fields))} of type {type_name}"
    )


def text_of(path: Path) -> str:
    """A position as field validation names it: spec.containers[0].image."""
    parts: list[str] = []
    while path is not None:
        path, part, _ = path
        parts.append(f"[{part}]" if isinstance(part, int) else f".{part}")
    return "".join(reversed(parts)).removeprefix(".")


def _kind_of(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, str):
        return "string"
    if isinstance(value, dict):
        return "object"
    return "array" if isinstance(value, list) else "number"


def _number_text(value: float) -> str:
    """A number in positional notation if it has few digits, so that a quantity given as a number
    keeps the decimal style."""
    return (
        f"{value:.12f}".rstrip("0").rstrip(".")
        if isinstance(value, float) and 1e-12 < abs(value) < 1e16
        else str(value)
    )
