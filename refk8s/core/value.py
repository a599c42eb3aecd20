"""Values: immutable records for states, events, effects, requests and rules.

They are msgspec structs. A step of a machine creates many of them, at a tenth of the cost of an
ordinary class. The garbage collector does not track them, because values have no cycles.
`evolve(value, **changes)` returns a changed copy.
"""

from msgspec import Struct, field
from msgspec.structs import replace as evolve


class Value(Struct, frozen=True, gc=False):
    """A frozen record. Equal when all its fields are."""


__all__ = ["Value", "evolve", "field"]
