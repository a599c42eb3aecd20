"""The types of values, as far as field ownership depends on them. Rules APPLY-4, APPLY-5
(spec/apply.md).

A list is atomic (owned as a whole), a set (items by value) or a map (items by keys). A map or
struct is granular or atomic. The types of built-in kinds follow from the generated records and
their facts (OBJ-9), those of custom kinds from the schema of their definition. Where nothing is
declared, the type is deduced from the value: maps are granular, lists atomic. Source: Kubernetes
documentation, "Server-Side Apply", "Merge strategy".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, lru_cache
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Union, get_args, get_origin

import msgspec

from refk8s.core.api import base
from refk8s.core.api.custom import Definition
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.resources import Resource
from refk8s.core.api.schema import Facts, fields_of
from refk8s.core.apiserver.custom.schema import SCHEMAS_MAX, schema_of

if TYPE_CHECKING:
    from refk8s.core.apiserver.custom.schema import Schema

STRING, NUMERIC, BOOLEAN, UNTYPED = "string", "numeric", "boolean", "untyped"

Fields = Mapping[str, "Type"]


class Type:
    """The type of a value: which of scalar, list and map it may be, and how each is owned.

    `is_list_set`: a list whose items are owned one by one, by `keys` or by value without keys.
    `defaults`: the values of keys that an item omits. `fields`: the declared fields of a map;
    `element`: the type of its other values, None if it has none.
    """

    __slots__ = (
        "_fields",
        "defaults",
        "element",
        "is_atomic_map",
        "is_list",
        "is_list_set",
        "is_map",
        "item",
        "keys",
        "scalar",
    )

    def __init__(
        self,
        scalar: str = "",
        *,
        item: Type | None = None,
        keys: tuple[str, ...] = (),
        defaults: Mapping[str, Any] | None = None,
        is_list_set: bool = False,
        fields: Fields | Callable[[], Fields] | None = None,
        element: Type | None = None,
        is_atomic_map: bool = False,
    ) -> None:
        self.scalar = scalar
        self.item = item
        self.is_list = item is not None
        self.is_list_set = is_list_set
        self.keys = keys
        self.defaults = defaults or {}
        self._fields = fields
        self.element = element
        self.is_map = fields is not None or element is not None
        self.is_atomic_map = is_atomic_map

    @property
    def fields(self) -> Fields:
        """The declared fields. They are computed at the first use, since a record may contain
        itself."""
        found = self._fields
        if callable(found):
            found = self._fields = found()
        return found or {}

    def child(self, name: str) -> Type:
        """The type of a field or of a value of the map."""
        found = self.fields.get(name)
        return found or self.element or DEDUCED

    def declares(self, name: str) -> bool:
        """Whether the field is declared, or the map may have any key."""
        return name in self.fields or self.element is not None

    def atomic(self) -> Type:
        """The same map, owned as a whole."""
        return Type(fields=self._fields, element=self.element, is_atomic_map=True)


def _untyped(*, is_atomic: bool) -> Type:
    """A value that may be a scalar, a list or a map of values that are untyped themselves. What is
    in a list is owned with the list, however deep."""
    found = Type(UNTYPED, is_atomic_map=is_atomic)
    found.item = found if is_atomic else _untyped(is_atomic=True)
    found.element = found
    found.is_list = found.is_map = True
    return found


DEDUCED = _untyped(is_atomic=False)
"""A value about which nothing is declared."""

_SCALARS: dict[Any, Type] = {
    **dict.fromkeys((str, base.Text, base.Base64, base.Bytes), Type(STRING)),
    **dict.fromkeys((bool, base.Flag), Type(BOOLEAN)),
    **dict.fromkeys(
        (int, float, base.Int32, base.Int64, base.Count32, base.Count64, base.Float), Type(NUMERIC)
    ),
    **dict.fromkeys((base.IntOrString, base.Quantity, base.Time, base.MicroTime), Type(UNTYPED)),
    base.FieldsV1: Type(element=DEDUCED),
}

_RAW_EXTENSION = Type(UNTYPED, item=DEDUCED, element=DEDUCED, is_atomic_map=True)
_ANY_VALUE_MODULE = "refk8s.core.api.apiextensions_v1"
"""Its JSON values are granular; those of the other modules are owned as a whole."""

_DEFAULTS = {
    "ContainerPort": {"protocol": "TCP"},
    "ServicePort": {"protocol": "TCP"},
    "LocalObjectReference": {"name": ""},
}
"""The defaults of optional keys. A required key that is omitted counts as empty or 0. Source: API
reference, "Container", "Service", "PodSpec" (imagePullSecrets)."""


_ZEROS: Mapping[str, Any] = {STRING: "", NUMERIC: 0, BOOLEAN: False}


def type_of(resource: Resource) -> Type:
    """The type of the objects of a resource."""
    if resource.is_custom:
        return _custom_type(resource.definition)
    return record_type(resource.type)


@cache
def record_type(record: Any) -> Type:
    """The type of a record class, with its own map type (OBJ-9)."""
    own = fields_of_class(record)
    return Type(fields=lambda: _record_fields(record), is_atomic_map=own == "atomic")


def fields_of_class(record: Any) -> str:
    """The map type that a record class has in every field."""
    module = __import__(record.__module__, fromlist=["FACTS"])
    facts = getattr(module, "FACTS", {}).get(record.__name__, {})
    return str(facts.get("", {}).get("map-type", ""))


def _record_fields(record: Any) -> Fields:
    facts = fields_of(record)
    return {
        part.encode_name: _field_type(record, part.type, facts[part.encode_name])
        for part in msgspec.structs.fields(record)
    }


def _field_type(record: Any, annotation: Any, facts: Facts) -> Type:
    annotation = _plain(annotation)
    found = _SCALARS.get(annotation)
    if found is not None:
        return found
    if annotation is Any:
        return DEDUCED if record.__module__ == _ANY_VALUE_MODULE else _RAW_EXTENSION
    origin = get_origin(annotation)
    if origin is tuple:
        item = _field_type(record, get_args(annotation)[0], _NO_FACTS)
        is_set = facts.list_type in ("set", "map") or (
            not facts.list_type and "merge" in facts.patch_strategy
        )
        keys = facts.list_map_keys or ((facts.patch_merge_key,) if facts.patch_merge_key else ())
        if not is_set:
            return Type(item=item)
        if facts.list_type == "set":
            keys = ()
        return Type(item=item, is_list_set=True, keys=keys, defaults=_key_defaults(facts.element))
    if origin is dict:
        element = _field_type(record, get_args(annotation)[1], _NO_FACTS)
        return Type(element=element, is_atomic_map=facts.map_type == "atomic")
    made = record_type(annotation)
    if facts.map_type == "granular" and made.is_atomic_map:
        return Type(fields=lambda: made.fields)
    return made.atomic() if facts.map_type == "atomic" and not made.is_atomic_map else made


_NO_FACTS = Facts("", "")


def _plain(annotation: Any) -> Any:
    """The type without `None` and without the mark of a value that may not be empty."""
    if isinstance(annotation, str) or annotation in _SCALARS:
        return annotation
    origin = get_origin(annotation)
    if origin in (Union, UnionType):
        rest = [part for part in get_args(annotation) if part is not type(None)]
        return _plain(rest[0]) if len(rest) == 1 else base.IntOrString
    if origin is Annotated:
        return _plain(get_args(annotation)[0])
    return annotation


def _key_defaults(record: Any) -> Mapping[str, Any]:
    """The values of keys that an item omits."""
    if record is None:
        return {}
    found: dict[str, Any] = dict(_DEFAULTS.get(record.__name__, {}))
    for part in msgspec.structs.fields(record):
        if fields_of(record)[part.encode_name].required:
            made = record_type(record).fields[part.encode_name]
            if made.scalar in _ZEROS:
                found[part.encode_name] = _ZEROS[made.scalar]
    return found


# --- custom kinds


@lru_cache(maxsize=SCHEMAS_MAX)
def _custom_type(definition: Definition) -> Type:
    """The type of the objects of a definition."""
    made = _schema_type(schema_of(definition))
    fields = {**made.fields, **_shared_fields()}
    return Type(fields=fields, element=made.element)


@cache
def _shared_fields() -> Fields:
    return {
        "apiVersion": Type(STRING),
        "kind": Type(STRING),
        "metadata": record_type(ObjectMeta),
    }


def _schema_type(schema: Schema) -> Type:
    """The type of a structural schema."""
    if schema.is_int_or_string:
        return Type(UNTYPED)
    if schema.type == "object":
        return _object_type(schema)
    if schema.type == "array":
        item = DEDUCED if schema.items is None else _schema_type(schema.items)
        if schema.list_type not in ("set", "map"):
            return Type(item=item)
        keys = schema.list_map_keys if schema.list_type == "map" else ()
        declared = {} if schema.items is None else schema.items.properties
        defaults = {
            key: declared[key].default
            for key in keys
            if key in declared and declared[key].default is not None
        }
        return Type(item=item, is_list_set=True, keys=keys, defaults=defaults)
    if not schema.type:
        return DEDUCED
    scalar = {"integer": NUMERIC, "number": NUMERIC, "boolean": BOOLEAN, "string": STRING}
    found = scalar.get(schema.type, UNTYPED)
    if found == STRING and schema.format not in ("", "byte"):
        found = UNTYPED
    return Type(found)


def _object_type(schema: Schema) -> Type:
    is_atomic = schema.map_type == "atomic"
    fields = {name: _schema_type(one) for name, one in schema.properties.items()}
    if schema.is_embedded:
        fields = {**fields, **_shared_fields()}
    element: Type | None = None
    if schema.preserves_unknown or schema.additional is True:
        element = DEDUCED
    elif schema.additional is not None and schema.additional is not False:
        element = _schema_type(schema.additional)
    elif not fields:
        element = DEDUCED
    return Type(fields=fields, element=element, is_atomic_map=is_atomic)
