"""The facts about a field besides its type: merge keys, list types, required marks. Rule OBJ-9
(spec/object_model.md).

Strategic merge patch, server-side apply and OpenAPI use these facts. They are constants in the
generated modules and not in the classes, so that importing the classes stays cheap. Source:
Kubernetes documentation, "Update API Objects in Place Using kubectl patch" and "Server-Side Apply",
section "Merge strategy".
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import msgspec

from refk8s.core.value import Value


class Facts(Value, frozen=True):
    """The facts about one field of one record.

    `element` is the record class of the value, of the list's items or of the map's values; None if
    those are not records. `patch_strategy` is `merge`, `replace`, `retainKeys` or several of them,
    for strategic merge patch; empty means replace. `list_type` is atomic, set, map or empty;
    `map_type` is atomic, granular or empty.
    """

    wire_name: str
    attribute: str
    element: type[msgspec.Struct] | None = None
    is_list: bool = False
    is_map: bool = False
    patch_strategy: tuple[str, ...] = ()
    patch_merge_key: str = ""
    list_type: str = ""
    list_map_keys: tuple[str, ...] = ()
    map_type: str = ""
    required: bool = False


@cache
def fields_of(type_: Any) -> dict[str, Facts]:
    """The facts of every field of a record class, by wire name."""
    given = _facts_of(type_)
    found = {}
    for part in msgspec.structs.fields(type_):
        known: dict[str, Any] = given.get(part.encode_name, {})
        element, shape = _element(part.type)
        own = own_map_type(element)
        found[part.encode_name] = Facts(
            wire_name=part.encode_name,
            attribute=part.name,
            element=element,
            is_list=shape is tuple,
            is_map=shape is dict,
            patch_strategy=tuple(known.get("patch-strategy", "").split(","))
            if known.get("patch-strategy")
            else (),
            patch_merge_key=known.get("patch-merge-key", ""),
            list_type=known.get("list-type", ""),
            list_map_keys=tuple(known.get("list-map-keys", ())),
            map_type=known.get("map-type", "") or (own if shape is None else ""),
            required=known.get("required", False),
        )
    return found


def field_facts(type_: Any, wire_name: str) -> Facts | None:
    """The facts of one field; None if the record has no such field."""
    return fields_of(type_).get(wire_name)


def _facts_of(type_: type[msgspec.Struct]) -> dict[str, dict[str, Any]]:
    """The facts in the generated module about a record class: by wire name, and under "" about the
    class."""
    every: dict[str, dict[str, dict[str, Any]]] = getattr(
        import_module(type_.__module__), "FACTS", {}
    )
    return every.get(type_.__name__, {})


def own_map_type(element: type[msgspec.Struct] | None) -> str:
    """The map type that a record class has in every field: a reference is atomic."""
    if element is None:
        return ""
    return str(_facts_of(element).get("", {}).get("map-type", ""))


def _element(annotation: Any) -> tuple[type[msgspec.Struct] | None, type | None]:
    """The record class inside a field's type, and whether it is inside a tuple or a dict."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _element(get_args(annotation)[0])
    if origin in (Union, UnionType):
        parts = [_element(part) for part in get_args(annotation) if part is not type(None)]
        return next(
            (part for part in parts if part[0] is not None or part[1] is not None), (None, None)
        )
    if origin is tuple:
        return _element(get_args(annotation)[0])[0], tuple
    if origin is dict:
        return _element(get_args(annotation)[1])[0], dict
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        return annotation, None
    return None, None
