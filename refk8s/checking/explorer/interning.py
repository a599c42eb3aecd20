"""Values as small numbers: equal values have the same number, so the state of a cluster is a short
tuple of integers. Rule EXPLORE-3 (spec/explorer.md).

Contents are compared exactly, level by level (hash-consing), so a collision of hashes has no
effect. Values that differ only in what no machine can observe have the same number: the encoded
form of a record, the indexes of a table (they follow from its objects), and the Events that a
machine has recorded.
"""

from typing import Any

import attrs
from immutables import Map
from msgspec import Struct

from refk8s.core.api.request import Response, WatchEvent
from refk8s.core.loop.elector import ElectorState
from refk8s.core.loop.state import LoopState
from refk8s.core.loop.view import Table
from refk8s.core.store import Record

IGNORED: dict[type, tuple[str, ...]] = {
    Record: ("create_revision", "version", "wire"),
    Response: ("records", "warnings"),
    WatchEvent: ("record",),
    Table: ("indexes",),
    LoopState: ("recorder",),
    ElectorState: ("recorder",),
}
"""Fields that are not compared: caches, values derived from other fields, and the state of
Events."""

_PLAIN = frozenset((str, int, bool, float, bytes, type(None)))


class Interner:
    """Numbers values. It holds a reference to every numbered value."""

    def __init__(self) -> None:
        self._numbers: dict[Any, int] = {}
        # by identity, so that a shared value is read once
        self._known: dict[int, tuple[Any, int]] = {}
        self._fields: dict[type, tuple[str, ...] | None] = {}

    def __len__(self) -> int:
        return len(self._numbers)

    def number(self, value: Any) -> int:
        """The number of a value; equal values have the same one. O(size of the new parts)."""
        cls, numbers = value.__class__, self._numbers
        if cls in _PLAIN:
            return numbers.setdefault((cls, value), len(numbers))
        if cls is tuple or cls is list:
            key = (tuple, *[self.number(each) for each in value])
            return numbers.setdefault(key, len(numbers))
        known = self._known.get(id(value))
        if known is not None:
            return known[1]
        key = self._look_into(cls, value)
        number = numbers.setdefault(key, len(numbers))
        self._known[id(value)] = (value, number)
        return number

    def _look_into(self, cls: type, value: Any) -> Any:
        if cls is Map or cls is dict:
            return (
                dict,
                *sorted([(self.number(key), self.number(each)) for key, each in value.items()]),
            )
        if cls is set or cls is frozenset:
            return (frozenset, *sorted([self.number(each) for each in value]))
        fields = self._fields_of(cls)
        if fields is None:
            # for example a function: equal only to itself
            return (cls, id(value))
        return (cls, *[self.number(getattr(value, name)) for name in fields])

    def _fields_of(self, cls: type) -> tuple[str, ...] | None:
        if cls not in self._fields:
            names: tuple[str, ...] | None = None
            if issubclass(cls, Struct):
                names = cls.__struct_fields__
            elif attrs.has(cls):
                names = tuple([each.name for each in attrs.fields(cls)])
            if names is not None:
                names = tuple([name for name in names if name not in IGNORED.get(cls, ())])
            self._fields[cls] = names
        return self._fields[cls]
