"""The base class of all API records, and the scalar types of the wire.

Rules OBJ-1 to OBJ-4 (spec/object_model.md). The modules named like `core_v1` are generated from the
published definitions by `tools/generate_api.py`; this file is written by hand and has the types
that they share.

The types accept only the *canonical* form of a value: a time in UTC and whole seconds, a quantity
as it would be written. The fast decoder rejects a valid value in another form, and the slow one
(`codec.py`) converts it. So typed code handles one form only (OBJ-4).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from msgspec import Meta, Raw, Struct, field

__all__ = [
    "NO_FIELDS",
    "SOME",
    "ZERO_IS_ABSENT",
    "Base64",
    "Bytes",
    "Count32",
    "Count64",
    "FieldsV1",
    "Flag",
    "Float",
    "Int32",
    "Int64",
    "IntOrString",
    "Json",
    "MicroTime",
    "Quantity",
    "Record",
    "Text",
    "Time",
    "constant",
    "empty_map",
    "empty_tuple",
    "field",
    "null",
    "zero_quantity",
]


class Record(
    Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    forbid_unknown_fields=True,
    rename="camel",
    gc=False,
):
    """A JSON object of the Kubernetes API as an immutable value (OBJ-1).

    Attributes are the wire's names in snake_case. An absent optional field is None and is not
    written (OBJ-2). A required field is always present and always written (OBJ-3). Lists are
    tuples; maps are dicts that must not be changed.
    """


Int32 = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]
Int64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Float = int | float
"""A number. A whole one is an int, so that 9 is written as 9 and not as 9.0."""

IntOrString = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)] | str

# Optional fields whose zero value means absent (OBJ-4). The bounds make the fast decoder reject a
# zero, and the slow one drops it. A negative number is valid but rare, and is decoded slowly too.
ZERO_IS_ABSENT = "zero is absent"
SOME = Meta(min_length=1)
Text = Annotated[str, SOME]
Count32 = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Count64 = Annotated[int, Meta(ge=1, le=2**63 - 1)]
Flag = Annotated[bool, Meta(extra={ZERO_IS_ABSENT: True})]

_DAY = r"(?:(?:0[13-9]|1[0-2])-(?:0[1-9]|[12]\d|30)|(?:0[13578]|1[02])-31|02-(?:0[1-9]|1\d|2[0-8]))"
_SECOND = r"\A(?!0000|0001-01-01)\d{4}-" + _DAY + r"T(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d"
Time = Annotated[str, Meta(pattern=_SECOND + r"Z\Z")]
"""An instant in UTC, whole seconds: `2026-01-31T23:59:59Z`."""

MicroTime = Annotated[str, Meta(pattern=_SECOND + r"\.\d{6}Z\Z")]
"""An instant in UTC, exactly six decimals: `2026-01-31T23:59:59.000000Z`."""

# Mantissas that cannot be written with the next larger unit: without three zeros at the end; not
# divisible by four.
_DECIMAL = r"-?[1-9]\d{0,12}(?<!000)[num]?|-?[1-9]\d{0,2}[kMGTP]"
_BINARY = r"-?[1-9]\d{0,2}[KMGTP]i|-?[1-9]\d{0,7}(?:\d[13579]|[02468][26]|[13579][048])[KMG]i"
Quantity = Annotated[str, Meta(pattern=rf"\A(?:0|{_DECIMAL}|{_BINARY})\Z")]
"""A number with a unit, in canonical form: `500m`, `1Gi` (see `quantity.py`). The pattern accepts
the common canonical forms; the others are decoded slowly, with the same result."""

_BASE64 = r"\A(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/][AQgw]==|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=)?\Z"
Base64 = Annotated[str, Meta(pattern=_BASE64)]
"""Bytes in standard base64 with padding."""

Bytes = Annotated[str, Meta(pattern=_BASE64, min_length=1)]
"""Bytes as above; empty bytes mean absent."""

Json = Any
"""Any JSON tree. Lists are lists; nothing in it may be changed."""

FieldsV1 = Raw
"""The fields of one manager as JSON text. Objects of the same shape share it, and it is written
without being read (APPLY-3)."""
NO_FIELDS = FieldsV1()


def empty_tuple() -> tuple[Any, ...]:
    """The default of a required list. A plain `tuple` or `list` as default would not be written
    (OBJ-3)."""
    return ()


def empty_map() -> dict[str, Any]:
    """The default of a required map: a new one each time, so that a mistaken change has no further
    effect."""
    return {}


def null() -> Any:
    """The default of a required time or JSON value, whose zero value Go writes as null."""
    return None


def zero_quantity() -> str:
    """The default of a required quantity."""
    return "0"


def constant(value: str) -> Callable[[], str]:
    """A default that is always written, unlike a plain default value: for `kind` and
    `apiVersion`."""
    return lambda: value
