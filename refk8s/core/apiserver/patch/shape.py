"""Where a strategic merge patch learns what a field is: its type, its patch strategy and its merge key.

Both come from the generated records: types from the classes, strategy and key from the FACTS table beside them. A shape is a type
annotation (a record class, `tuple[X, ...]`, `dict[str, X]`) or None for what has no declared form.
"""

import sys
import types
from functools import cache
from typing import Annotated, Any, Union, get_args, get_origin

from attrs import frozen
from msgspec import Struct
from msgspec.structs import fields


@frozen
class Field:
    """A field as a patch sees it. `merge`: lists are merged and not replaced; `merge_key`: by this key of their elements, else by value."""

    shape: Any = None
    merge: bool = False
    replace: bool = False
    merge_key: str = ""


UNDECLARED = Field()


def field_of(shape: Any, key: str) -> Field:
    """The field `key` of a value of this shape. A map's values have its value type and no strategy; what is not declared is replaced."""
    if isinstance(shape, type) and issubclass(shape, Struct):
        return _fields(shape).get(key, UNDECLARED)
    if get_origin(shape) is dict:
        return Field(_plain(get_args(shape)[1]))
    return UNDECLARED


def element_of(shape: Any) -> Any:
    """The shape of the elements of a list of this shape."""
    return _plain(get_args(shape)[0]) if get_origin(shape) is tuple else None


@cache
def _fields(record: type[Struct]) -> dict[str, Field]:
    facts = getattr(sys.modules[record.__module__], "FACTS", {}).get(record.__name__, {})
    found = {}
    for one in fields(record):
        known = facts.get(one.encode_name, {})
        strategies = known.get("patch-strategy", "").split(",")
        found[one.encode_name] = Field(
            _plain(one.type), "merge" in strategies, "replace" in strategies, known.get("patch-merge-key", "")
        )
    return found


def _plain(annotation: Any) -> Any:
    """The annotation without None and without constraints."""
    if get_origin(annotation) is Annotated:
        return _plain(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        rest = [one for one in get_args(annotation) if one is not type(None)]
        return _plain(rest[0]) if len(rest) == 1 else None
    return annotation
