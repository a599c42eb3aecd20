"""One object in the versions in which managers know it. Rule APPLY-19 (spec/apply.md).

A manager owns fields in terms of the version that it used. So a write is compared in each version
that has an owner: both objects are converted to it. Versions that are not served have no owners.
Source: Kubernetes documentation, "Server-Side Apply"; "Versions in CustomResourceDefinitions".
"""

from typing import Any

from msgspec.structs import replace

from refk8s.core.api import codec
from refk8s.core.api.codec import DecodeError
from refk8s.core.api.custom import stored_resources
from refk8s.core.api.resources import Resource, by_kind
from refk8s.core.apiserver import versions

Tree = dict[str, Any]


def in_version(resource: Resource, api_version: str) -> Resource | None:
    """The resource in another version of its kind; None if there is no such version."""
    if api_version == resource.api_version:
        return resource
    if resource.is_custom:
        every = stored_resources(resource.definition.crd)
        return next((one for one in every if one.api_version == api_version), None)
    found = by_kind(api_version, resource.kind)
    if found is None or versions.stored_resource(found) != versions.stored_resource(resource):
        return None
    return found


def converted(resource: Resource, target: Resource, obj: Any) -> Any:
    """An object of a version in another version of its kind."""
    if resource == target:
        return obj
    if resource.is_custom:
        return replace(obj, api_version=target.api_version)
    if resource.storage_api_version:
        obj = versions.to_stored(resource, obj, None)
    return versions.from_stored(target, obj) if target.storage_api_version else obj


def converted_tree(resource: Resource, target: Resource, tree: Tree) -> Tree:
    """The tree of an object of a version in another version of its kind. A tree that is no object
    is left as it is."""
    if resource == target:
        return tree
    head = {"kind": target.kind, "apiVersion": target.api_version}
    if resource.is_custom:
        return {**tree, **head}
    try:
        obj = codec.decode_tolerant(resource.type, {**tree, "apiVersion": resource.api_version})[0]
    except DecodeError:
        return {**tree, **head}
    found: Tree = codec.to_tree(converted(resource, target, obj))
    return found
