"""The stages of a write that differ for custom objects. Rules CRD-4, CRD-8, CRD-12 to CRD-14
(spec/custom_resources.md).

    decoded      the object of a JSON tree, and its unknown fields
    begin        without a status, if only its subresource may write it
    propose      the part of the object that the path changes
    defaulted    pruned, with the defaults of the schema
    causes       of the metadata and of the schema

Source: Kubernetes documentation, "Extend the Kubernetes API with CustomResourceDefinitions".
"""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from refk8s.core.api import codec, status
from refk8s.core.api.codec import DecodeError
from refk8s.core.api.custom import SHARED_KEYS, TERMINATING, CustomObject, has_condition, make
from refk8s.core.api.json_text import Repeated
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.resources import Resource
from refk8s.core.api.status import INVALID, REQUIRED, ApiError, Cause
from refk8s.core.apiserver.custom.prune import prune, unknown_fields
from refk8s.core.apiserver.custom.schema import Schema, schema_of
from refk8s.core.apiserver.custom.validate import ABSENT, duplicates, validate, validate_content
from refk8s.core.apiserver.validation.metadata import check_metadata, validate_metadata_update
from refk8s.core.apiserver.validation.names import dns_subdomain
from refk8s.core.store import Compare, Record

Tree = dict[str, Any]
_STATUS = "status"


def decoded(resource: Resource, tree: Tree) -> tuple[CustomObject, tuple[str, ...]]:
    """The object of a JSON tree, not pruned, and a warning for every repeated or unknown field
    (CRD-10). Raises DecodeError if its metadata is not one."""
    metadata_tree = tree.get("metadata")
    if metadata_tree is None:
        metadata_tree = {}
    if not isinstance(metadata_tree, dict):
        raise DecodeError(
            "json: cannot unmarshal "
            f"{_go_type(metadata_tree)} into Go struct field .metadata of type v1.ObjectMeta"
        )
    metadata, problems = codec.decode_tolerant(ObjectMeta, metadata_tree)
    content = {key: value for key, value in tree.items() if key not in SHARED_KEYS}
    repeated: list[str] = []
    _find_repeated(tree, "", repeated)
    unknown = [
        *[_within(problem) for problem in problems if not problem.startswith("duplicate")],
        *[
            f'unknown field "{path}"'
            for path in unknown_fields(schema_of(resource.definition), content)
        ],
    ]
    return make(resource, metadata, content), (*repeated, *sorted(unknown))


def _within(problem: str) -> str:
    """A problem of the metadata as one of the object."""
    return problem.replace('unknown field "', 'unknown field "metadata.', 1)


def _go_type(value: Any) -> str:
    names = {list: "array", str: "string", bool: "bool"}
    return names.get(type(value), "number")


def _find_repeated(value: Any, path: str, found: list[str]) -> None:
    if isinstance(value, dict):
        if isinstance(value, Repeated):
            found += [
                f'duplicate field "{path}.{key}"' if path else f'duplicate field "{key}"'
                for key in value.keys_repeated
            ]
        for key, item in value.items():
            if isinstance(item, dict | list):
                _find_repeated(item, f"{path}.{key}" if path else key, found)
    elif isinstance(value, list):
        for place, item in enumerate(value):
            if isinstance(item, dict | list):
                _find_repeated(item, f"{path}[{place}]", found)


def has_status(resource: Resource) -> bool:
    """Whether only the status subresource writes the status."""
    return resource.subresource(_STATUS) is not None


def begin(resource: Resource, obj: CustomObject, metadata: ObjectMeta) -> CustomObject:
    """A new object: without the status, if only the status subresource writes it (CRD-12)."""
    content = obj.content
    if has_status(resource) and _STATUS in content:
        content = {key: value for key, value in content.items() if key != _STATUS}
    return replace(obj, metadata=metadata, content=content)


def propose(resource: Resource, subresource: str, old: CustomObject, body: CustomObject) -> Any:
    """The requested object, with only the changes that this path allows (CRD-12)."""
    if subresource == _STATUS:
        content = _with_status(old.content, body.content)
        return replace(old, content=content)
    if has_status(resource):
        return replace(body, content=_with_status(body.content, old.content))
    return body


def _with_status(content: Tree, source: Tree) -> Tree:
    """The content with the status of another one."""
    if content.get(_STATUS, ABSENT) is source.get(_STATUS, ABSENT):
        return content
    made = {key: value for key, value in content.items() if key != _STATUS}
    if _STATUS in source:
        made[_STATUS] = source[_STATUS]
    return made


def desires_else(resource: Resource, old: CustomObject, new: CustomObject) -> bool:
    """Whether the desired state has changed: anything but the metadata, and but the status if it
    has a subresource (CRD-12)."""
    one, other = old.content, new.content
    if has_status(resource):
        one, other = _with_status(one, {}), _with_status(other, {})
    return replace(old, content=one) != replace(old, content=other)


def defaulted(resource: Resource, obj: CustomObject) -> CustomObject:
    """The object as the schema wants it: pruned, with its defaults (CRD-7, CRD-8)."""
    content = prune(schema_of(resource.definition), obj.content)
    return obj if content is obj.content else replace(obj, content=content)


def guard_definition(
    resource: Resource, name: str, record: Record[Any] | None, *, is_new: bool
) -> tuple[Compare, ...]:
    """The condition that the definition does not change before the write takes effect, so what is
    stored is always valid by the definition of that moment, and none of its objects is created
    after their deletion (CRD-13). Raises ApiError 403 for a new object of a definition that is
    being deleted."""
    if record is None:
        raise ApiError(status.path_not_found())
    if is_new and has_condition(record.value, TERMINATING):
        why = "create not allowed while custom resource definition is terminating"
        raise ApiError(status.forbidden(resource, name, why))
    return (Compare(record.key, record.mod_revision),)


# --- causes


def causes_of(
    resource: Resource, new: CustomObject, old: CustomObject | None, subresource: str = ""
) -> tuple[Cause, ...]:
    """The causes of a new object, or of a changed one (CRD-9)."""
    schema = schema_of(resource.definition)
    causes: list[Cause] = []
    if old is None or new.metadata != old.metadata:
        causes += check_metadata(
            new.metadata, dns_subdomain, resource.namespaced, any_finalizer=True
        )
    if old is not None:
        causes += validate_metadata_update(new.metadata, old.metadata)
    before: Any = ABSENT if old is None else old.content
    if subresource == _STATUS:
        part = schema.properties.get(_STATUS)
        if part is not None and _STATUS in new.content:
            known = ABSENT if old is None else old.content.get(_STATUS, ABSENT)
            value = new.content[_STATUS]
            causes += validate(part, value, _STATUS, known)
            causes += duplicates(part, value, _STATUS, known)
    else:
        causes += validate_content(schema, new.content, before)
    causes += embedded_causes(schema, new.content, "")
    if schema.has_rules and not causes:  # rules are about objects that the schema allows
        # imported here: a start without such a schema loads no expressions
        from refk8s.core.apiserver.custom.rules import rule_causes

        causes += rule_causes(schema, new, old)
    return tuple(causes)


def embedded_causes(schema: Schema, value: Any, path: str) -> list[Cause]:
    """The causes of embedded resources, each of which has a kind, an apiVersion and metadata."""
    found: list[Cause] = []
    _embedded(schema, value, path, found)
    return found


def _embedded(schema: Schema, value: Any, path: str, found: list[Cause]) -> None:
    if isinstance(value, dict):
        if schema.is_embedded:
            _check_embedded(value, path, found)
        for key, item in value.items():
            child = schema.properties.get(key)
            if child is None and isinstance(schema.additional, Schema):
                child = schema.additional
            if child is not None:
                _embedded(child, item, f"{path}.{key}" if path else key, found)
    elif isinstance(value, list) and schema.items is not None:
        for place, item in enumerate(value):
            _embedded(schema.items, item, f"{path}[{place}]", found)


def _check_embedded(value: Tree, path: str, found: list[Cause]) -> None:
    for key in ("apiVersion", "kind"):
        text = value.get(key)
        if text is None or text == "":
            found.append(Cause(REQUIRED, f"{path}.{key}", "must not be empty"))
        elif not isinstance(text, str):
            found.append(Cause(INVALID, f"{path}.{key}", "must be a string", text))
    tree = value.get("metadata")
    if tree is None:
        return
    try:
        if not isinstance(tree, dict):
            raise DecodeError("must be an object")
        metadata, _ = codec.decode_tolerant(ObjectMeta, tree)
    except DecodeError as error:
        found.append(Cause(INVALID, f"{path}.metadata", str(error), tree))
        return
    found += [
        cause
        for cause in check_metadata(
            metadata, dns_subdomain, True, f"{path}.metadata", any_finalizer=True
        )
        if cause.reason != REQUIRED  # it need not have a name
    ]
