"""The status of a CustomResourceDefinition that the API server itself writes. Rules CRD-1, CRD-15
(spec/custom_resources.md).

Source: Kubernetes documentation, "Versions in CustomResourceDefinitions" (Upgrade existing objects
to a new stored version), "Extend the Kubernetes API with CustomResourceDefinitions" (Finalizers).
"""

from typing import Any

from msgspec.structs import replace

from refk8s.core.api.apiextensions_v1 import (
    CustomResourceDefinition,
    CustomResourceDefinitionCondition,
)
from refk8s.core.api.conditions import remove_condition
from refk8s.core.api.custom import CLEANUP_FINALIZER, TERMINATING
from refk8s.core.api.request import Request
from refk8s.core.apiserver.outcome import Reader
from refk8s.core.context import Context, timestamp


def admit_definition(
    request: Request, new: CustomResourceDefinition, old: Any, store: Reader, context: Context
) -> Any:
    """A version in which objects may be stored from now on is added to `storedVersions`."""
    stored = next((version.name for version in new.spec.versions if version.storage), None)
    known = new.status.stored_versions or ()
    if stored is None or stored in known:
        return new
    return replace(new, status=replace(new.status, stored_versions=(*known, stored)))


def marked_for_deletion(
    obj: CustomResourceDefinition, context: Context
) -> CustomResourceDefinition:
    """The definition after the first request to delete it: it remains until its objects are
    deleted (CRD-15)."""
    now = timestamp(context.now)
    finalizers = tuple(obj.metadata.finalizers or ())
    if CLEANUP_FINALIZER not in finalizers:
        finalizers = (*finalizers, CLEANUP_FINALIZER)
    condition = CustomResourceDefinitionCondition(
        type=TERMINATING,
        status="True",
        reason="InstanceDeletionPending",
        message="CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon",
        last_transition_time=now,
    )
    conditions = (*remove_condition(obj.status.conditions, TERMINATING), condition)
    metadata = replace(obj.metadata, deletion_timestamp=now, finalizers=finalizers)
    return replace(obj, metadata=metadata, status=replace(obj.status, conditions=conditions))
