"""Where a strategic merge patch learns what a field is: the facts of the records (OBJ-9), seen from
a place inside an object."""

from functools import cache
from typing import Any

from refk8s.core.api.schema import field_facts
from refk8s.core.value import Value


class Shape(Value, frozen=True):
    """What a value is: an object of this record class, or a map of them. None: nothing is declared
    about what lies in it."""

    record: type[Any] | None = None
    is_map: bool = False


UNDECLARED = Shape()


class Field(Value, frozen=True):
    """A field as a patch sees it. `merge`: lists are merged and not replaced, by this key of their
    elements, or by value without one."""

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
    """The field `key` of a value of this shape. A map's values have no strategy; what is not
    declared is replaced."""
    if shape.record is None:
        return _UNKNOWN
    if shape.is_map:
        return Field(Shape(shape.record))
    record: Any = shape.record
    return _UNKNOWN if field_facts(record, key) is None else _field(record, key)
