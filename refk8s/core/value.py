"""Values: the records of the machines' own domain (states, events, effects, requests, rules),
frozen and cheap.

They are msgspec structs: a step of a machine makes many of them, at a tenth of the cost of an
ordinary class, and the collector need not look at them, because values are trees. `evolve` makes a
changed copy.
"""

from typing import Any, TypeVar

import attrs
from msgspec import Struct, field
from msgspec.structs import replace

T = TypeVar("T")


class Value(Struct, frozen=True, gc=False):
    """A frozen record. Equal when all its fields are."""


def evolve(value: T, **changes: Any) -> T:
    """The value with these fields changed."""
    if isinstance(value, Struct):
        return replace(value, **changes)
    return attrs.evolve(value, **changes)  # type: ignore[misc]


__all__ = ["Value", "evolve", "field"]
