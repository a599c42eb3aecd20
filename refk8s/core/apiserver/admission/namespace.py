"""No object is created in a namespace that does not exist or is terminating. Rule ADM-2
(spec/admission.md).

Source: Kubernetes documentation, "Admission Control in Kubernetes" (NamespaceLifecycle),
"Namespaces". Left out: the namespaces that cannot be deleted (DEL-8), which delete.py checks.
"""

from typing import Any

from refk8s.core.api import resources, status
from refk8s.core.api.meta_v1 import StatusCause
from refk8s.core.api.request import Request
from refk8s.core.api.resources import Resource
from refk8s.core.api.status import ApiError
from refk8s.core.apiserver.outcome import Reader
from refk8s.core.store import Compare

_PREFIX = resources.NAMESPACES.prefix


def check_namespace(
    request: Request, resource: Resource, new: Any, store: Reader
) -> tuple[Compare, ...]:
    """ADM-2. Raises ApiError 404 if the namespace does not exist, 403 if it is terminating. Returns
    the condition that it has not changed since it was read."""
    name = request.namespace
    key = _PREFIX + name
    record = store.get(key)
    if record is None:
        raise ApiError(status.not_found(resources.NAMESPACES, name))
    namespace = record.value
    if namespace.metadata.deletion_timestamp is not None or namespace.status.phase == "Terminating":
        cause = StatusCause(
            reason="NamespaceTerminating",
            message=f"namespace {name} is being terminated",
            field="metadata.namespace",
        )
        why = f"unable to create new content in namespace {name} because it is being terminated"
        raise ApiError(status.forbidden(resource, new.metadata.name or "", why, (cause,)))
    return (Compare(key, record.mod_revision),)
