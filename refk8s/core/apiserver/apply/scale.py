"""Ownership of the replicas through the scale subresource. Rule APPLY-18 (spec/apply.md).

A Scale has no managedFields of its own: its only field is the replicas of the object. So a write of
a Scale is an apply or update of the object's entries that own this field.

    entries of the object -> managers of the Scale -> apply -> entries of the object

Source: Kubernetes documentation, "Server-Side Apply"; API reference, "Scale".
"""

from typing import Any

from msgspec.structs import replace

from refk8s.core.api.autoscaling_v1 import Scale
from refk8s.core.api.custom import stored_resources
from refk8s.core.api.request import Request
from refk8s.core.api.resources import Resource
from refk8s.core.apiserver.apply import managers
from refk8s.core.apiserver.apply.apply import apply, read_configuration
from refk8s.core.apiserver.apply.field_set import contains, difference, of_paths
from refk8s.core.apiserver.apply.managers import UPDATE, Managed, Owned, Owner
from refk8s.core.apiserver.custom.paths import keys_of
from refk8s.core.context import Context

SCALES = Resource("autoscaling", "v1", "scales", "scale", "Scale", True, module="autoscaling_v1")
_PATH = ("f:spec", "f:replicas")
_REPLICAS = of_paths(_PATH)


def applied_scale(
    request: Request, obj: Any, scale: Scale, context: Context
) -> tuple[Scale, tuple[Any, ...] | None]:
    """The scale after the apply of the request, and the managedFields of the object. Raises
    ApiError as `apply`."""
    resource = request.resource
    parent = managers.decode_or_nobody(obj.metadata.managed_fields)
    entries = managers.encode(_of_scale(resource, parent))
    live = replace(scale, metadata=replace(scale.metadata, managed_fields=entries))
    config = read_configuration(SCALES, request.body.document)
    applied = apply(request, SCALES, live, config, context)
    after = managers.decode(applied.metadata.managed_fields)
    return applied, managers.encode(_of_object(resource, parent, after))


def _path_in(resource: Resource, api_version: str) -> tuple[str, ...] | None:
    """The path of the replicas in a version of the object; None if it is not served."""
    if not resource.is_custom:
        return _PATH if api_version == resource.api_version else None
    for one in stored_resources(resource.definition.crd):
        parts = one.definition.version.subresources
        if one.api_version == api_version and parts is not None and parts.scale is not None:
            return tuple("f:" + key for key in keys_of(parts.scale.spec_replicas_path))
    return None


def _of_scale(resource: Resource, parent: Managed) -> Managed:
    """The managers of the scale: those that own the replicas of the object."""
    found: dict[Owner, Owned] = {}
    for who, owned in parent.items():
        path = _path_in(resource, owned.api_version)
        if path is not None and contains(owned.fields, path):
            found[_in_version(who, SCALES.api_version)] = Owned(
                _REPLICAS, SCALES.api_version, owned.time
            )
    return found


def _in_version(who: Owner, api_version: str) -> Owner:
    version = api_version if who.operation == UPDATE else ""
    return Owner(who.manager, who.operation, version, who.subresource)


def _of_object(resource: Resource, parent: Managed, scale: Managed) -> Managed:
    """The managers of the object: who has lost the replicas of the scale has lost them here too,
    and who has got them has an entry."""
    left = dict(scale)
    found: dict[Owner, Owned] = {}
    for who, owned in parent.items():
        path = _path_in(resource, owned.api_version)
        if (
            path is None
            or not contains(owned.fields, path)
            or left.pop(_in_version(who, SCALES.api_version), None) is not None
        ):
            found[who] = owned
        elif fields := difference(owned.fields, of_paths(path)):
            found[who] = Owned(fields, owned.api_version, owned.time)
    path = _path_in(resource, resource.api_version) or _PATH
    for who, owned in left.items():
        if contains(owned.fields, _PATH):
            found[_in_version(who, resource.api_version)] = Owned(
                of_paths(path), resource.api_version, owned.time
            )
    return found
