"""The types of built-in kinds, as expressions see them. Rule CEL-9 (spec/cel.md).

Source: Kubernetes documentation, "Common Expression Language in Kubernetes" (Type system
integration).
"""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Annotated, Any, Final, Union, get_args, get_origin

import msgspec

from refk8s.core.api import base
from refk8s.core.cel.types import (
    BOOL,
    BYTES,
    DOUBLE,
    DYN,
    INT,
    STRING,
    TIMESTAMP,
    Type,
    list_of,
    map_of,
)

_PLAIN: Final[dict[Any, Type]] = {
    str: STRING,
    base.Text: STRING,
    bool: BOOL,
    base.Flag: BOOL,
    base.Int32: INT,
    base.Count32: INT,
    base.Int64: INT,
    base.Count64: INT,
    base.Float: DOUBLE,
    base.Base64: BYTES,
    base.Bytes: BYTES,
    base.Time: TIMESTAMP,
    base.MicroTime: TIMESTAMP,
}


class _Fields(Mapping[str, Type]):
    """The fields of a record by their wire names, found when they are read: kinds may contain
    themselves."""

    def __init__(self, record: Any) -> None:
        self._fields = {one.encode_name: one.type for one in msgspec.structs.fields(record)}

    def __getitem__(self, name: str) -> Type:
        return _type_of(self._fields[name])

    def __contains__(self, name: object) -> bool:
        return name in self._fields

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)


@lru_cache(maxsize=1024)
def record_type(record: Any) -> Type:
    """The type of a record class."""
    return Type(record.__name__, fields=_Fields(record))


def _type_of(annotation: Any) -> Type:
    """The type of a field; dyn for values of several types."""
    if annotation in _PLAIN:
        return _PLAIN[annotation]
    origin = get_origin(annotation)
    if origin is Annotated:
        return _type_of(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        rest = [one for one in get_args(annotation) if one is not type(None)]
        return _type_of(rest[0]) if len(rest) == 1 else DYN
    if origin is tuple:
        return list_of(_type_of(get_args(annotation)[0]))
    if origin is dict:
        return map_of(STRING, _type_of(get_args(annotation)[1]))
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        return record_type(annotation)
    return DYN
