"""The schemas of records, as OpenAPI describes them. Rules DISC-10, DISC-11 (spec/discovery.md).

A schema has the facts that clients use: types, required fields, how lists and maps merge, and the
kind.
"""

import types
from collections.abc import Iterable
from functools import cache, lru_cache
from typing import Annotated, Any, TypeAlias, Union, get_args, get_origin

import msgspec

from refk8s.core.api import base
from refk8s.core.api.apiextensions_v1 import JSONSchemaProps
from refk8s.core.api.meta_v1 import DeleteOptions, ListMeta, Object, ObjectMeta, Status
from refk8s.core.api.resources import Resource, Subresource, type_of_kind
from refk8s.core.api.schema import fields_of, own_map_type
from refk8s.core.apiserver.openapi.custom import custom_schemas
from refk8s.core.apiserver.openapi.descriptions import (
    description_of,
    description_of_kind,
    with_siblings,
)
from refk8s.core.value import Value

Tree: TypeAlias = dict[str, Any]
Record: TypeAlias = Any
"""A record class."""


class Flavour(Value, frozen=True):
    """A version of OpenAPI: the place of schemas in a document. In version 3, a reference with
    siblings is inside allOf."""

    number: int
    prefix: str


VERSION_2 = Flavour(2, "#/definitions/")
VERSION_3 = Flavour(3, "#/components/schemas/")

_PACKAGES = {
    "meta_v1": "io.k8s.apimachinery.pkg.apis.meta.v1",
    "apiextensions_v1": "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1",
    "apiregistration_v1": "io.k8s.kube-aggregator.pkg.apis.apiregistration.v1",
}
QUANTITY = "io.k8s.apimachinery.pkg.api.resource.Quantity"
INT_OR_STRING = "io.k8s.apimachinery.pkg.util.intstr.IntOrString"
TIME = _PACKAGES["meta_v1"] + ".Time"
MICRO_TIME = _PACKAGES["meta_v1"] + ".MicroTime"

# Values that are not records but have a name.
_NAMED: dict[Any, str] = {
    base.Quantity: QUANTITY,
    base.IntOrString: INT_OR_STRING,
    base.Time: TIME,
    base.MicroTime: MICRO_TIME,
}
_PLAIN: dict[Any, Tree] = {
    str: {"type": "string"},
    base.Text: {"type": "string"},
    bool: {"type": "boolean"},
    base.Flag: {"type": "boolean"},
    base.Int32: {"type": "integer", "format": "int32"},
    base.Count32: {"type": "integer", "format": "int32"},
    base.Int64: {"type": "integer", "format": "int64"},
    base.Count64: {"type": "integer", "format": "int64"},
    base.Float: {"type": "number", "format": "double"},
    base.Base64: {"type": "string", "format": "byte"},
    base.Bytes: {"type": "string", "format": "byte"},
    base.Json: {"type": "object"},
    base.FieldsV1: {"type": "object"},
}


def schemas_of(resources: tuple[Resource, ...], flavour: Flavour) -> Tree:
    """The schemas of these resources, of the bodies of their subresources, and of everything that
    they refer to, by name."""
    found: Tree = {}
    waiting: list[Record] = [DeleteOptions, Status] if resources else []
    for resource in resources:
        if resource.is_custom:
            found |= custom_schemas(resource, flavour.number, flavour.prefix, name_of)
            waiting += [ObjectMeta, ListMeta]
            if resource.subresource("scale") is not None:
                waiting.append(type_of_kind("autoscaling/v1", "Scale"))
            continue
        waiting.append(resource.type)
        if "list" in resource.verbs:
            waiting.append(resource.list_type)
        waiting += [
            body
            for part in resource.subresources
            if (body := body_type(resource, part)) is not None
        ]
    found |= closure(waiting, flavour)
    found |= {name: scalar_schema(name, flavour) for name in sorted(_NAMED.values())}
    return dict(sorted(found.items()))


def closure(records: Iterable[Record], flavour: Flavour) -> Tree:
    """The schemas of these records and of everything that they refer to, by name."""
    found: Tree = {}
    waiting = list(records)
    while waiting:
        record = waiting.pop()
        name = name_of(record)
        if name not in found:
            found[name] = schema_of(record, flavour)
            waiting += [
                facts.element for facts in fields_of(record).values() if facts.element is not None
            ]
    return found


def body_type(resource: Resource, part: Subresource) -> Record | None:
    """The record class of a subresource's body; None if the body is not an object (the options of a
    stream)."""
    if part.version:
        return type_of_kind(f"{part.group}/{part.version}", part.kind)
    return (
        resource.type
        if part.kind == resource.kind
        else type_of_kind(resource.api_version, part.kind)
    )


@lru_cache(maxsize=4096)
def name_of(record: Record) -> str:
    """The name of a record in OpenAPI: `io.k8s.api.core.v1.Pod`. A name is its own."""
    if isinstance(record, str):
        return record
    module = record.__module__.rpartition(".")[2]
    package = _PACKAGES.get(module) or "io.k8s.api." + module.replace("_v", ".v")
    return f"{package}.{record.__name__}"


def reference(name: str, flavour: Flavour) -> Tree:
    return {"$ref": flavour.prefix + name}


def scalar_schema(name: str, flavour: Flavour) -> Tree:
    """The schema of a named value that is not a record."""
    if name == INT_OR_STRING:
        if flavour.number == 2:
            return {"type": "string", "format": "int-or-string"}
        return {"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]}
    if name == QUANTITY:
        return (
            {"type": "string"}
            if flavour.number == 2
            else {"oneOf": [{"type": "string"}, {"type": "number"}]}
        )
    return {"type": "string", "format": "date-time"}


def schema_of(record: Record, flavour: Flavour) -> Tree:
    """The schema of a record class: its fields by their wire names (DISC-10)."""
    properties: Tree = {}
    required = []
    known = fields_of(record)
    for part in msgspec.structs.fields(record):
        facts = known[part.encode_name]
        described = description_of(record, part.encode_name, facts.element)
        shape = _schema(part.type, flavour)
        if record is JSONSchemaProps:
            shape = _of_any_type(shape)
        field = _with_facts(shape, facts, flavour)
        properties[part.encode_name] = with_siblings(
            field, {"description": described} if described else {}, flavour.number
        )
        if facts.required:
            required.append(part.encode_name)
    schema: Tree = {"type": "object", "properties": dict(sorted(properties.items()))}
    if described := description_of_kind(record):
        schema["description"] = described
    if required:
        schema["required"] = sorted(required)
    if map_type := own_map_type(record):
        schema["x-kubernetes-map-type"] = map_type
    if (kinds := _kinds(record)) is not None:
        schema["x-kubernetes-group-version-kind"] = kinds
    return schema


def _of_any_type(schema: Tree) -> Tree:
    """The same, with no type where any JSON value may be; in other records such a field has an
    object."""
    if schema == _PLAIN[base.Json]:
        return {}
    return {
        key: _of_any_type(value) if key in ("items", "additionalProperties") else value
        for key, value in schema.items()
    }


def _with_facts(schema: Tree, facts: Any, flavour: Flavour) -> Tree:
    """The schema of a field with its merge facts (DISC-11)."""
    published = {
        "x-kubernetes-patch-strategy": ",".join(facts.patch_strategy),
        "x-kubernetes-patch-merge-key": facts.patch_merge_key,
        "x-kubernetes-list-type": facts.list_type,
        "x-kubernetes-list-map-keys": list(facts.list_map_keys),
        "x-kubernetes-map-type": facts.map_type,
    }
    if facts.map_type and facts.map_type == own_map_type(facts.element):
        del published["x-kubernetes-map-type"]  # it is in the schema of the record
    extensions = {key: value for key, value in published.items() if value}
    return with_siblings(schema, extensions, flavour.number)


def _schema(annotation: Any, flavour: Flavour) -> Tree:
    if annotation in _NAMED:
        return reference(_NAMED[annotation], flavour)
    if annotation in _PLAIN:
        return _PLAIN[annotation]
    origin = get_origin(annotation)
    if origin is Annotated:
        return _schema(get_args(annotation)[0], flavour)
    if origin in (Union, types.UnionType):
        rest = tuple(one for one in get_args(annotation) if one is not type(None))
        return _schema(rest[0] if len(rest) == 1 else Union[rest], flavour)  # noqa: UP007
    if origin is tuple:
        return {"type": "array", "items": _schema(get_args(annotation)[0], flavour)}
    if origin is dict:
        return {"type": "object", "additionalProperties": _schema(get_args(annotation)[1], flavour)}
    return reference(name_of(annotation), flavour)


@cache
def _kinds(record: Record) -> list[Tree] | None:
    """The kinds of a record; None for a record that is only a part of others. DeleteOptions and
    Status are in every group; clients search for v1."""
    if record is DeleteOptions:
        return [{"group": "", "kind": "DeleteOptions", "version": "v1"}]
    made = record()
    if not isinstance(made, Object | Status) and not hasattr(made, "items"):
        return None
    kind, api_version = getattr(made, "kind", ""), getattr(made, "api_version", "")
    if not kind or not api_version:
        return None
    group, _, version = api_version.rpartition("/")
    return [{"group": group, "kind": kind, "version": version}]
