"""Stands in for admission and validation until they are there."""

from typing import Any

from attrs import frozen

from refk8s.core.api import resources, status
from refk8s.core.api.meta_v1 import StatusCause
from refk8s.core.api.status import ApiError
from refk8s.core.apiserver.validation.metadata import validate_metadata, validate_metadata_update

try:
    from refk8s.core.apiserver.admission import Admission, admit  # type: ignore
except ImportError:

    @frozen
    class Admission:  # type: ignore
        object: Any
        compares: tuple[Any, ...] = ()
        writes: tuple[Any, ...] = ()

    def admit(request, resource, new, old, store, context):  # type: ignore
        if old is None and resource.namespaced:
            namespace = store.get(resources.NAMESPACES.key("", request.namespace))
            if namespace is None:
                raise ApiError(status.not_found(resources.NAMESPACES, request.namespace))
            if namespace.value.metadata.deletion_timestamp is not None:
                words = f"unable to create new content in namespace {request.namespace} because it is being terminated"
                said = f"namespace {request.namespace} is being terminated"
                cause = StatusCause(reason="NamespaceTerminating", message=said, field="metadata.namespace")
                raise ApiError(status.forbidden(resource, new.metadata.name, words, (cause,)))
        return Admission(new)


try:
    from refk8s.core.apiserver.validation import validate_create, validate_status_update, validate_update  # type: ignore
except ImportError:

    def validate_create(resource, obj):  # type: ignore
        return tuple(validate_metadata(resource, obj.metadata))

    def validate_update(resource, new, old):  # type: ignore
        return tuple(validate_metadata_update(new.metadata, old.metadata))

    validate_status_update = validate_update

__all__ = ["Admission", "admit", "validate_create", "validate_status_update", "validate_update"]
