"""The scale subresource of custom resources: replicas at the paths of the definition. Rule CRD-17
(spec/custom_resources.md).

Source: Kubernetes documentation, "Extend the Kubernetes API with CustomResourceDefinitions" (Scale
subresource).
"""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from refk8s.core.api import status
from refk8s.core.api.autoscaling_v1 import Scale, ScaleSpec, ScaleStatus
from refk8s.core.api.custom import CustomObject
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.resources import Resource
from refk8s.core.api.status import ApiError
from refk8s.core.apiserver.custom.paths import get_at, keys_of, set_at

REPLICAS_MAX = 2**31 - 1


def _paths(resource: Resource) -> Any:
    subresources = resource.definition.version.subresources
    if subresources is None or subresources.scale is None:
        raise ApiError(status.path_not_found())
    return subresources.scale


def _count(value: Any) -> int | None:
    """A number of replicas; None for any other value."""
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 <= value <= REPLICAS_MAX else None


def scale_metadata(metadata: ObjectMeta) -> ObjectMeta:
    """The metadata of the scale of an object with this metadata."""
    return ObjectMeta(
        name=metadata.name,
        namespace=metadata.namespace,
        uid=metadata.uid,
        resource_version=metadata.resource_version,
        creation_timestamp=metadata.creation_timestamp,
    )


def scale_of(resource: Resource, obj: CustomObject) -> Scale:
    """The scale of an object. Raises ApiError 500, as upstream, if it has no number of desired
    replicas."""
    paths = _paths(resource)
    wanted = _count(get_at(obj.content, keys_of(paths.spec_replicas_path)))
    if wanted is None:
        words = f"the spec replicas field {status.show(paths.spec_replicas_path)} does not exist"
        raise ApiError(status.internal_error(words))
    selector: Any = None
    if paths.label_selector_path:
        selector = get_at(obj.content, keys_of(paths.label_selector_path))
    current = _count(get_at(obj.content, keys_of(paths.status_replicas_path)))
    return Scale(
        metadata=scale_metadata(obj.metadata),
        spec=ScaleSpec(replicas=wanted or None),
        status=ScaleStatus(
            replicas=current or 0, selector=selector if isinstance(selector, str) else None
        ),
    )


def scaled(resource: Resource, obj: CustomObject, replicas: int) -> CustomObject:
    """The object with this number of desired replicas."""
    keys = keys_of(_paths(resource).spec_replicas_path)
    return replace(obj, content=set_at(obj.content, keys, replicas))
