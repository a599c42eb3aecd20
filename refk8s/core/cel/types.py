"""The types of expressions, with the most that their values can hold. Rule CEL-4 (spec/cel.md)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from attrs import field, frozen

REQUEST_BYTES_MAX: Final = 3 << 20
"""No value is longer than the request that contained it."""


@frozen
class Type:
    """A type. `size`: the most characters, items or entries of a value. `items`: of a list its item
    type, of a map those of key and value, of an optional that of its value. `fields`: of an
    object."""

    name: str
    items: tuple[Type, ...] = ()
    fields: Mapping[str, Type] | None = field(default=None, eq=False)
    size: int = field(default=REQUEST_BYTES_MAX, eq=False)

    @property
    def is_dyn(self) -> bool:
        return self.name == "dyn"

    def __str__(self) -> str:
        if self.name in ("list", "map", "optional_type") and self.items:
            return f"{self.name}({', '.join(map(str, self.items))})"
        return self.name


DYN = Type("dyn")
BOOL, INT, UINT, DOUBLE = Type("bool"), Type("int"), Type("uint"), Type("double")
STRING, BYTES, NULL = Type("string"), Type("bytes"), Type("null_type")
TIMESTAMP, DURATION = Type("google.protobuf.Timestamp"), Type("google.protobuf.Duration")
SCALARS: Final = {one.name: one for one in (DYN, BOOL, INT, UINT, DOUBLE, STRING, BYTES, NULL)} | {
    "timestamp": TIMESTAMP,
    "duration": DURATION,
    "quantity": Type("kubernetes.Quantity"),
    "url": Type("kubernetes.URL"),
    "ip": Type("net.IP"),
    "cidr": Type("net.CIDR"),
    "semver": Type("kubernetes.Semver"),
    "type": Type("type"),
    "authorizer": Type("kubernetes.authorization.Authorizer"),
    "path_check": Type("kubernetes.authorization.PathCheck"),
    "group_check": Type("kubernetes.authorization.GroupCheck"),
    "resource_check": Type("kubernetes.authorization.ResourceCheck"),
    "decision": Type("kubernetes.authorization.Decision"),
    "list": Type("list"),
    "map": Type("map"),
    "optional": Type("optional_type"),
}


def list_of(item: Type, size: int = REQUEST_BYTES_MAX) -> Type:
    return Type("list", (item,), size=size)


def map_of(key: Type, value: Type, size: int = REQUEST_BYTES_MAX) -> Type:
    return Type("map", (key, value), size=size)


def object_of(fields: Mapping[str, Type]) -> Type:
    return Type("object", fields=fields, size=len(fields))


def optional_of(value: Type) -> Type:
    return Type("optional_type", (value,))


def fits(one: Type, other: Type) -> bool:
    """Whether a value of one type can be used where the other is expected."""
    if one.is_dyn or other.is_dyn:
        return True
    if one.name != other.name:
        return {one.name, other.name} == {"object", "map"} and (not one.fields or not other.fields)
    if one.name == "object":
        return one.fields is other.fields or one.fields == other.fields
    return all(fits(a, b) for a, b in zip(one.items, other.items, strict=False))
