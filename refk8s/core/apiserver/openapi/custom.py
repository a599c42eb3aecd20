"""The schemas of custom resources in OpenAPI documents. Rule CRD-21 (spec/custom_resources.md).

Version 3 has the schema of the definition. Version 2 has fewer keywords, so what it cannot express
is left out, and such a place allows more. Source: Kubernetes documentation, "Extend the Kubernetes
API with CustomResourceDefinitions" (Publish Validation Schema in OpenAPI).
"""

from typing import Any, TypeAlias

from refk8s.core.api.meta_v1 import ListMeta, ObjectMeta
from refk8s.core.api.resources import Resource
from refk8s.core.apiserver.custom.schema import tree_of
from refk8s.core.apiserver.openapi.descriptions import (
    LIST_METADATA,
    OBJECT_METADATA,
    OF_KINDS,
    with_siblings,
)

Tree: TypeAlias = dict[str, Any]

_ONLY_IN_VERSION_3 = ("allOf", "anyOf", "oneOf", "not", "nullable")
_PRESERVE, _INT_OR_STRING = "x-kubernetes-preserve-unknown-fields", "x-kubernetes-int-or-string"
_EMBEDDED = "x-kubernetes-embedded-resource"


def custom_name(resource: Resource, *, is_list: bool = False) -> str:
    """The name of the schema: `com.example.stable.v1.CronTab`."""
    package = ".".join(reversed(resource.group.split(".")))
    return f"{package}.{resource.version}.{resource.list_kind if is_list else resource.kind}"


def custom_schemas(resource: Resource, number: int, prefix: str, names: Any) -> dict[str, Tree]:
    """The schemas of a custom resource and of its list, by name. `names` returns the name of a
    record's schema, to which `prefix` refers."""
    kind = {"group": resource.group, "kind": resource.kind, "version": resource.version}

    def refers(record: Any, description: str) -> Tree:
        target: Tree = {"$ref": prefix + names(record)}
        return with_siblings(target, {"description": description}, number)

    tree = tree_of(resource.definition) or {"type": "object", _PRESERVE: True}
    schema = tree if number == 3 else _version_2(tree)
    shared: Tree = {
        field: {"type": "string", "description": text} for field, text in OF_KINDS.items()
    }
    own_fields = {**shared, "metadata": refers(ObjectMeta, OBJECT_METADATA)}
    schema = {**schema, "properties": {**schema.get("properties", {}), **own_fields}}
    schema["x-kubernetes-group-version-kind"] = [kind]
    own, listed = custom_name(resource), custom_name(resource, is_list=True)
    list_schema: Tree = {
        "type": "object",
        "required": ["items"],
        "properties": {
            **shared,
            "items": {"type": "array", "items": {"$ref": prefix + own}},
            "metadata": refers(ListMeta, LIST_METADATA),
        },
        "x-kubernetes-group-version-kind": [{**kind, "kind": resource.list_kind}],
    }
    return {own: schema, listed: list_schema}


def _version_2(tree: Tree) -> Tree:
    """The schema without what version 2 cannot express."""
    found = {key: value for key, value in tree.items() if key not in _ONLY_IN_VERSION_3}
    if tree.get("nullable") or tree.get(_INT_OR_STRING):
        # clients of version 2 would refuse a null, and one of the two types
        for key in ("type", "items", "properties", "additionalProperties"):
            found.pop(key, None)
        return found
    if isinstance(found.get("items"), dict):
        found["items"] = _version_2(found["items"])
    if isinstance(found.get("additionalProperties"), dict):
        found["additionalProperties"] = _version_2(found["additionalProperties"])
    if "properties" in found:
        found["properties"] = {key: _version_2(one) for key, one in found["properties"].items()}
    if tree.get(_PRESERVE):
        # clients drop fields that are not declared
        found = {
            key: value
            for key, value in found.items()
            if key not in ("items", "properties", "additionalProperties", "type")
        } | ({"type": "object"} if tree.get("type") == "object" else {})
    if tree.get(_EMBEDDED):
        found.setdefault("type", "object")
    return found
