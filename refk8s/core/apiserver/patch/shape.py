"""The merge facts (OBJ-9) of the fields of an object, for strategic merge patch."""

from functools import cache
from typing import Any

from refk8s.core.api.schema import field_facts
from refk8s.core.value import Value


class Shape(Value, frozen=True):
    """The type of a value: an object of this record class, or a map of them. None: nothing is
    declared about its content."""

    record: type[Any] | None = None
    is_map: bool = False


UNDECLARED = Shape()


class Field(Value, frozen=True):
    """A field as a patch handles it. `merge`: lists are merged and not replaced, by this key of
    their elements, or by value without a key."""

    shape: Shape = UNDECLARED
    merge: bool = False
    replace: bool = False
    merge_key: str = ""


_UNKNOWN = Field()


@cache
def _field(record: Any, key: str) -> Field:
    facts = field_facts(record, key)
    assert facts is not None
    strategies = facts.patch_strategy
    return Field(
        Shape(facts.element, facts.is_map),
        "merge" in strategies,
        "replace" in strategies,
        facts.patch_merge_key,
    )


def field_of(shape: Shape, key: str) -> Field:
    """The field `key` of a value of this shape. Values of a map have no strategy. An undeclared
    field is replaced."""
    if shape.record is None:
        return _UNKNOWN
    if shape.is_map:
        return Field(Shape(shape.record))
    record: Any = shape.record
    return _UNKNOWN if field_facts(record, key) is None else _field(record, key)
