"""Values as small numbers: equal values get one number, so a state of a whole cluster is a short
tuple of integers. Rule EXPLORE-3 (spec/explorer.md).

Numbers are given by exact comparison of contents, level by level (hash-consing), so a collision of
hashes does no harm. Values that differ only in what no machine can observe get one number: the
encoded form of a record, the indexes of a table (they follow from its objects), and the Events that
a machine has recorded.
"""

from typing import Any

import attrs
from immutables import Map
from msgspec import Struct

from refk8s.core.api.request import Response, WatchEvent
from refk8s.core.loop.state import LoopState
from refk8s.core.loop.view import Table
from refk8s.core.store import Record

IGNORED: dict[type, tuple[str, ...]] = {
    Record: ("create_revision", "version", "wire"),
    Response: ("records", "warnings"),
    WatchEvent: ("record",),
    Table: ("indexes",),
    LoopState: ("recorder",),
}
"""Fields that do not count: caches, what follows from other fields, and what only Events show."""

_PLAIN = frozenset((str, int, bool, float, bytes, type(None)))


class Interner:
    """Gives numbers to values. Keeps every value that it has numbered alive."""

    def __init__(self) -> None:
        self._numbers: dict[Any, int] = {}
        # by identity, so that what is shared is looked through once
        self._known: dict[int, tuple[Any, int]] = {}
        self._fields: dict[type, tuple[str, ...] | None] = {}

    def __len__(self) -> int:
        return len(self._numbers)

    def number(self, value: Any) -> int:
        """The number of a value: the same for equal ones. O(size of what was not seen before)."""
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
            # a function, say: equal only to itself, and kept alive by `_known`
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
