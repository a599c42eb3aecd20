"""Decodes JSON to records, and encodes records. Rules OBJ-1 to OBJ-4, OBJ-7, OBJ-8 and OBJ-10
(spec/object_model.md).

There are two decoders. The fast one accepts only canonical input: known fields, no null, times in
UTC, quantities as they would be written, no optional zero that means absent. Any other input is
decoded by the slow one, field by field (`convert.py`). It converts everything that upstream accepts
to the canonical form, reports the fields that upstream ignores, and rejects the rest with
upstream's messages. The fast decoder is only an optimisation: the slow one makes the same record of
everything that the fast one accepts (OBJ-4). Source: Kubernetes documentation, "Kubernetes API
Concepts", "Field validation"; API conventions.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

import msgspec

from refk8s.core.api.convert import (
    Unmarshal,
    converter_of,
    plain_booleans,
    with_fitting_numbers,
)
from refk8s.core.api.custom import SHARED_KEYS, CustomList, CustomObject, shallow_tree
from refk8s.core.api.json_text import MalformedJson, check_depth, parse
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.value import Value

__all__ = [
    "DecodeError",
    "Decoded",
    "MalformedJson",
    "decode",
    "decode_answer",
    "decode_merged",
    "decode_request",
    "decode_tolerant",
    "decode_tree",
    "encode",
    "from_tree",
    "parse",
    "to_tree",
]

T = TypeVar("T")

# The errors of msgspec for input that does not match the type; it is then decoded slowly.
_REFUSED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

_encoder = msgspec.json.Encoder()


class DecodeError(ValueError):
    """The input is not a value of the type.

    `str` is upstream's message without the part that names the kind. `malformed`: the bytes are not
    JSON. `full(kind, version)`: the complete message of a 400 answer.
    """

    def __init__(self, message: str, *, malformed: bool = False) -> None:
        super().__init__(message)
        self.malformed = malformed

    def full(self, kind: str, version: str) -> str:
        return f'{kind} in version "{version}" cannot be handled as a {kind}: {self}'


class Decoded(Value, frozen=True):
    """A record, and the problems of its input that are not errors.

    `warnings` are messages such as `unknown field "spec.foo"` and `duplicate field
    "spec.replicas"`, in order of appearance: with fieldValidation Warn they are warnings, with
    Strict errors.
    """

    object: Any
    warnings: tuple[str, ...] = ()

    @property
    def strict_error(self) -> str:
        """The message of the rejection with Strict; empty if there is no problem."""
        return "strict decoding error: " + ", ".join(self.warnings) if self.warnings else ""


# One decoder per type, created at the first use: that takes half a millisecond for a pod.
_decoder: Callable[[Any], msgspec.json.Decoder[Any]] = cache(msgspec.json.Decoder)


def encode(value: Any) -> bytes:
    """The JSON of a record or tree: compact, fields in the order of their definition, maps in the
    order of insertion."""
    kind = type(value)
    if kind is CustomObject or kind is CustomList:
        value = shallow_tree(value)
    return _encoder.encode(value)


def decode(type_: type[T], data: bytes) -> T:
    """The record of JSON that this project or another API server wrote. Raises DecodeError for
    other bytes, and for unknown fields."""
    try:
        made: T = _decoder(type_).decode(data)
    except _REFUSED:
        decoded = _slowly(type_, data)
        if decoded.warnings:
            raise DecodeError(decoded.strict_error) from None
        made = decoded.object
    return made


def decode_answer(type_: type[T], data: bytes) -> T:
    """The record of JSON in the answer of an API server, normalised; fields that it does not have
    are dropped, since the server may be newer (CLIENT-2). DecodeError as in `decode`."""
    try:
        made: T = _decoder(type_).decode(data)
    except _REFUSED:
        made = _slowly(type_, data).object
    return made


def decode_request(type_: type, data: bytes, *, field_validation: bool = True) -> Decoded:
    """The record of a request body, normalised (OBJ-4), with its unknown and repeated fields
    (OBJ-7). Raises DecodeError as `decode`.

    With `field_validation` off (fieldValidation=Ignore), repeated fields are not searched for.
    """
    if not (b"false" in data and _may_drop_false(type_, data)):
        try:
            made = _decoder(type_).decode(data)
            if not field_validation or _has_no_repetition(data, made):
                check_depth(data)
                return Decoded(made)
        except (*_REFUSED, MalformedJson):
            pass
    return _slowly(type_, data)


def decode_tree(type_: type, tree: Any) -> Decoded:
    """As `decode_request`, for a JSON tree that was read from another format: the record and the
    problems are those of the tree written as JSON."""
    if not (_holds_false(tree) and plain_booleans(type_)):
        try:
            return Decoded(msgspec.convert(tree, type_))
        except (msgspec.ValidationError, RecursionError):
            pass
    return _convert(type_, tree)


def _may_drop_false(type_: type, data: bytes) -> bool:
    """Whether a `false` in the text may be that of a field whose false means absent. The types
    alone cannot make the fast decoder reject it. A pod that is not ready has a `false` that stays.

    The name before it is read only as we write it: `"name":false`. Within a string a quote has a
    backslash, so what is found there is no name of letters, or is part of a key with a quote, which
    no field has.
    """
    names = []
    for before in data.split(b"false")[:-1]:
        name = before[before.rfind(b'"', 0, -2) + 1 : -2]
        if not (before.endswith(b'":') and name.isalpha()):
            return True
        names.append(name)
    return not plain_booleans(type_).isdisjoint(names)


def _holds_false(tree: Any) -> bool:
    if type(tree) is dict:
        return any(map(_holds_false, tree.values()))
    if type(tree) is list:
        return any(map(_holds_false, tree))
    return tree is False


def decode_tolerant(type_: type[T], tree: Any) -> tuple[T, tuple[str, ...]]:
    """The record of a JSON tree, and `unknown field "..."` for each field that the type does not
    have. Raises DecodeError as `decode`."""
    decoded = _convert(type_, tree)
    return decoded.object, decoded.warnings


def decode_merged(type_: type, tree: Any) -> Decoded:
    """As `decode_tree`, for the result of an apply or a strategic merge patch: a number is made to
    fit its field (OBJ-12)."""
    try:
        return decode_tree(type_, tree)
    except DecodeError:
        return decode_tree(type_, with_fitting_numbers(type_, tree))


def custom_object(tree: Any) -> CustomObject:
    """The custom object of a JSON tree, whatever its definition says. Raises DecodeError."""
    if not isinstance(tree, dict):
        raise DecodeError("it is not an object")
    kind, api_version = tree.get("kind"), tree.get("apiVersion")
    if not isinstance(kind, str) or not isinstance(api_version, str):
        raise DecodeError("it has no kind and apiVersion")
    metadata = decode_tolerant(ObjectMeta, tree.get("metadata") or {})[0]
    content = {key: value for key, value in tree.items() if key not in SHARED_KEYS}
    return CustomObject(kind=kind, api_version=api_version, metadata=metadata, content=content)


def to_tree(value: Any) -> Any:
    """The JSON tree (dicts, lists, scalars) of a record, for patches. The caller may change the
    tree."""
    # Through its text, which is twice as fast as a walk over the record, and makes lists of tuples.
    return msgspec.json.decode(encode(value))


def from_tree(type_: type[T], tree: Any) -> T:
    """The normalised record of a tree. Raises DecodeError for an invalid tree, and for unknown
    fields."""
    record, unknown = decode_tolerant(type_, tree)
    if unknown:
        raise DecodeError("strict decoding error: " + ", ".join(unknown))
    return record


def _has_no_repetition(data: bytes, made: Any) -> bool:
    """True only if no object has a repeated key: encoding the decoded value gives the same bytes.
    False is no statement.

    The record that was made of the text is enough if it was written from one, in the order of its
    fields; but it has the fields of managers as they are in the text. For others, a tree is made.
    """
    if data.startswith(b'{"kind":') and b'"fieldsV1"' not in data and encode(made) == data:
        return True
    return _encoder.encode(msgspec.json.decode(data)) == data


def _slowly(type_: type, data: bytes) -> Decoded:
    try:
        tree = parse(data)
    except MalformedJson as error:
        raise DecodeError(str(error), malformed=True) from None
    return _convert(type_, tree)


def _convert(type_: type, tree: Any) -> Decoded:
    problems: list[str] = []
    try:
        made = converter_of(type_)(tree, None, problems)
    except Unmarshal as error:
        raise DecodeError(str(error)) from None
    except RecursionError:
        raise DecodeError("exceeded max depth", malformed=True) from None
    return Decoded(made, tuple(problems))
