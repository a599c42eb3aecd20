"""The ground all API records stand on: the record base classes and the scalar types of the wire.

Rules OBJ-1 to OBJ-4 (spec/object_model.md). The modules named like `core_v1` are generated from the published
definitions by `tools/generate_api.py`; this file is written by hand and holds what they share.

The types here describe the *canonical* form of a value: a time in UTC and whole seconds, a quantity without a form that
would be written differently. What is right but not canonical is refused by the fast decoder and then turned into the
canonical form by the slow one (`codec.py`), so that typed code meets one form only (OBJ-4).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from msgspec import Meta, Struct, field

__all__ = [
    "Base64", "Float", "Int32", "Int64", "IntOrString", "Json", "MicroTime", "Quantity", "Record", "Time",
    "constant", "empty_map", "empty_tuple", "field", "null", "zero_quantity",
]


class Record(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, rename="camel", gc=False):
    """A JSON object of the Kubernetes API as an immutable value (OBJ-1).

    Attributes are the wire's names in snake_case; an absent optional field is None and is not written (OBJ-2); a required
    field is always there and always written (OBJ-3). Lists are tuples; maps are dicts that nobody may change.
    """


Int32 = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]
Int64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Float = float
IntOrString = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)] | str

Time = Annotated[str, Meta(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\Z")]
"""An instant in UTC, whole seconds: `2026-01-31T23:59:59Z`."""

MicroTime = Annotated[str, Meta(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z\Z")]
"""An instant in UTC, exactly six decimals: `2026-01-31T23:59:59.000000Z`."""

Quantity = str
"""A number with a unit, in canonical form: `500m`, `1Gi` (see `quantity.py`)."""

Base64 = str
"""Bytes in standard base64 with padding."""

Json = Any
"""Any JSON tree. Lists stay lists; nobody may change it."""


def empty_tuple() -> tuple[Any, ...]:
    """The default of a required list. A plain `tuple` or `list` default would not be written; see OBJ-3."""
    return ()


def empty_map() -> dict[str, Any]:
    """The default of a required map: a new one each time, since a dict could be changed by mistake."""
    return {}


def null() -> Any:
    """The default of a required time or JSON value: Go writes its zero value as null."""
    return None


def zero_quantity() -> str:
    """The default of a required quantity."""
    return "0"


def constant(value: str) -> Callable[[], str]:
    """A default that is always written, unlike a plain default value: for `kind` and `apiVersion`."""
    return lambda: value
