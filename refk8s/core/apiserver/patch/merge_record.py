"""A merge patch of texts, applied to a record without making a tree of it: a heartbeat. Rule
PATCH-7 (spec/patch.md).

The plain way is `merge` on the tree of the record, which is then decoded. It gives the same, and a
property compares both.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec
from msgspec.structs import replace


def merge_record(record: Any, change: dict[str, Any]) -> Any | None:
    """The record after a merge patch. None if only the plain way can tell: the patch has values
    other than texts, or changes what is not there."""
    class_: Any = type(record)
    fields = _fields(class_)
    changes: dict[str, Any] = {}
    for key, value in change.items():
        if (field := fields.get(key)) is None:
            return None
        attribute, type_ = field
        if type(value) is str:
            try:
                changes[attribute] = msgspec.convert(value, type_)
            except msgspec.ValidationError:
                return None
        elif type(value) is dict and isinstance(old := getattr(record, attribute), msgspec.Struct):
            new = changes[attribute] = merge_record(old, value)
            if new is None:
                return None
        else:
            return None
    return replace(record, **changes)


@cache
def _fields(record: Any) -> dict[str, tuple[str, Any]]:
    """By name on the wire: the attribute and its type."""
    return {
        one.encode_name: (one.name, one.type)
        for one in msgspec.structs.fields(record)
        if one.encode_name not in ("kind", "apiVersion", "metadata")
    }
