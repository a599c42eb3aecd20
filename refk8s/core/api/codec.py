"""JSON to records and back. Rules OBJ-1 to OBJ-4, OBJ-7, OBJ-8 and OBJ-10 (spec/object_model.md).

Two ways lead from JSON to a record. The fast one takes canonical input and nothing else: a known
field, no null, a time in UTC, a quantity as it would be written, no optional zero that means
"absent". All else goes the slow way, field by field (`convert.py`), which turns into the canonical
form what upstream accepts, names what upstream ignores, and words what upstream refuses. So the
fast way is an optimisation only: whatever it accepts, the slow way makes the same record of
(OBJ-4). Source: Kubernetes documentation, "Kubernetes API Concepts", "Field validation"; API
conventions.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

import msgspec
from attrs import frozen

from refk8s.core.api.convert import Unmarshal, converter_of, has_plain_booleans
from refk8s.core.api.json_text import MalformedJson, check_depth, parse

__all__ = [
    "DecodeError",
    "Decoded",
    "MalformedJson",
    "decode",
    "decode_request",
    "decode_tolerant",
    "decode_tree",
    "encode",
    "from_tree",
    "parse",
    "to_tree",
]

T = TypeVar("T")

# What msgspec raises for input that is not what the type says; the slow way then finds out what to
# think of it.
_REFUSED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

_encoder = msgspec.json.Encoder()


class DecodeError(ValueError):
    """The input is no value of the type. `str` is upstream's message without the part that names
    the kind.

    `malformed` is whether the bytes were no JSON at all. `full(kind, version)` is the whole message
    of a 400 answer.
    """

    def __init__(self, message: str, *, malformed: bool = False) -> None:
        super().__init__(message)
        self.malformed = malformed

    def full(self, kind: str, version: str) -> str:
        return f'{kind} in version "{version}" cannot be handled as a {kind}: {self}'


@frozen
class Decoded:
    """A record, and what the input had besides it.

    `warnings` are messages such as `unknown field "spec.foo"` and `duplicate field
    "spec.replicas"`, in order of appearance: what fieldValidation Warn tells and Strict refuses.
    """

    object: Any
    warnings: tuple[str, ...] = ()

    @property
    def strict_error(self) -> str:
        """The message with which Strict refuses; empty when there is nothing to refuse."""
        return "strict decoding error: " + ", ".join(self.warnings) if self.warnings else ""


# One decoder per type, made at the first use: that takes half a millisecond for a pod.
_decoder: Callable[[Any], msgspec.json.Decoder[Any]] = cache(msgspec.json.Decoder)


def encode(value: Any) -> bytes:
    """The JSON of a record or tree: compact, fields in the order of their definition, maps in the
    order of insertion."""
    return _encoder.encode(value)


def decode(type_: type[T], data: bytes) -> T:
    """The record of JSON that one of us or another API server wrote. DecodeError for what is none,
    unknown fields included."""
    try:
        made: T = _decoder(type_).decode(data)
    except _REFUSED:
        decoded = _slowly(type_, data)
        if decoded.warnings:
            raise DecodeError(decoded.strict_error) from None
        made = decoded.object
    return made


def decode_request(type_: type, data: bytes, *, field_validation: bool = True) -> Decoded:
    """The record of a request body, normalised (OBJ-4), with its unknown and repeated fields
    (OBJ-7). DecodeError as in `decode`.

    With `field_validation` off (fieldValidation=Ignore) repeated fields are not looked for.
    """
    # `false` in the text may be a plain boolean that must become absent; the types alone cannot
    # keep that out of the fast way.
    if not (b"false" in data and has_plain_booleans(type_)):
        try:
            made = _decoder(type_).decode(data)
            if not field_validation or _has_no_repetition(data):
                check_depth(data)
                return Decoded(made)
        except (*_REFUSED, MalformedJson):
            pass
    return _slowly(type_, data)


def decode_tree(type_: type, tree: Any) -> Decoded:
    """As `decode_request`, of a JSON tree that has been read from another text: the same record and
    the same problems as of the tree written as JSON."""
    if not (_holds_false(tree) and has_plain_booleans(type_)):
        try:
            return Decoded(msgspec.convert(tree, type_))
        except (msgspec.ValidationError, RecursionError):
            pass
    return _convert(type_, tree)


def _holds_false(tree: Any) -> bool:
    if type(tree) is dict:
        return any(map(_holds_false, tree.values()))
    if type(tree) is list:
        return any(map(_holds_false, tree))
    return tree is False


def decode_tolerant(type_: type[T], tree: Any) -> tuple[T, tuple[str, ...]]:
    """The record of a JSON tree, and `unknown field "..."` for each field that the type does not
    have. DecodeError as in `decode`."""
    decoded = _convert(type_, tree)
    return decoded.object, decoded.warnings


def to_tree(value: Any) -> Any:
    """The JSON tree (dicts, lists, scalars) of a record: what patches work on. The tree is the
    caller's to change."""
    # By way of the text: twice as fast as walking the record, and a tuple becomes the list that it
    # is in JSON.
    return msgspec.json.decode(_encoder.encode(value))


def from_tree(type_: type[T], tree: Any) -> T:
    """The normalised record of a tree. DecodeError for what is none, unknown fields included."""
    record, unknown = decode_tolerant(type_, tree)
    if unknown:
        raise DecodeError("strict decoding error: " + ", ".join(unknown))
    return record


def _has_no_repetition(data: bytes) -> bool:
    """Whether surely no object has a key twice: writing what was read gives the same bytes. False
    says nothing."""
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
