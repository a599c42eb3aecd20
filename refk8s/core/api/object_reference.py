"""References to objects, as Events, volumes and statuses have them.

Source: Kubernetes API reference, "ObjectReference".
"""

from typing import Any

from refk8s.core.api.core_v1 import ObjectReference


def object_reference(obj: Any, field_path: str = "") -> ObjectReference:
    """The reference to this object as it is now, or to a field of it."""
    metadata = obj.metadata
    return ObjectReference(
        api_version=obj.api_version,
        kind=obj.kind,
        namespace=metadata.namespace,
        name=metadata.name,
        uid=metadata.uid,
        resource_version=metadata.resource_version,
        field_path=field_path or None,
    )
