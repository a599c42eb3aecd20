"""What kinds and fields mean; here those that every object has. Rule DISC-18 (spec/discovery.md).

`kubectl explain` prints these texts. Source: Kubernetes documentation, "Objects In Kubernetes",
"Labels and Selectors", "Annotations", "Finalizers", "Owners and Dependents", "Server-Side Apply",
"Kubernetes API Concepts" (Resource versions, Retrieving large results sets in chunks).
"""

from typing import Any

from refk8s.core.api.meta_v1 import ListMeta, ListObject, Object, ObjectMeta
from refk8s.core.apiserver.openapi.field_descriptions import COMMON, FIELDS, KINDS

OF_KINDS = {
    "apiVersion": "APIVersion defines the group and the version of the API in which the object is "
    "written.",
    "kind": "Kind is the name of the object's type, in CamelCase.",
}
"""The fields that every object and every list has."""

_NONE: dict[str, str] = {}
OBJECT_METADATA = "Standard object's metadata."
LIST_METADATA = "Standard list metadata."

_OBJECT_META = {
    "annotations": "Annotations are arbitrary values for tools and users. No selector reads them.",
    "creationTimestamp": "CreationTimestamp is a timestamp that the API server sets when it creates"
    " the object.",
    "deletionGracePeriodSeconds": "DeletionGracePeriodSeconds is the number of seconds that the "
    "object has to terminate. It is set together with deletionTimestamp.",
    "deletionTimestamp": "DeletionTimestamp is the time after which the object may be removed. The "
    "API server sets it when the deletion of the object is requested.",
    "finalizers": "Finalizers keep an object that is being deleted until each of them has been "
    "removed.",
    "generateName": "GenerateName is the beginning of a name that the API server completes, if name"
    " is not set.",
    "generation": "Generation is a number that changes when the desired state changes.",
    "labels": "Labels are keys and values by which selectors find objects.",
    "managedFields": "ManagedFields records which manager has set which fields of the object.",
    "name": "Name is unique among the objects of a resource in a namespace. It cannot be changed.",
    "namespace": "Namespace is the space in which the name is unique. It cannot be changed.",
    "ownerReferences": "OwnerReferences are the objects on which this one depends. When all of them"
    " are gone, it is deleted too.",
    "resourceVersion": "ResourceVersion identifies this state of the object. A write that names an "
    "older one is rejected.",
    "selfLink": "SelfLink is no longer set.",
    "uid": "UID is unique in time: an object that is created again with the same name has another.",
}
_LIST_META = {
    "continue": "Continue is the token with which the next part of the list is requested.",
    "remainingItemCount": "RemainingItemCount is the number of objects in the further parts.",
    "resourceVersion": "ResourceVersion identifies the state that the list shows. A watch can begin"
    " there.",
    "selfLink": "SelfLink is no longer set.",
}


def description_of(record: Any, field: str, element: Any) -> str:
    """What the field of a record class means, by its wire name; empty if no text is there.
    `element`: the record class of its value."""
    if record is ObjectMeta or record is ListMeta:
        return (_OBJECT_META if record is ObjectMeta else _LIST_META).get(field, "")
    if field == "metadata" and element is ObjectMeta:
        return OBJECT_METADATA
    if field == "metadata" and element is ListMeta:
        return LIST_METADATA
    if known := FIELDS.get(record.__name__, _NONE).get(field):
        return known
    if issubclass(record, Object):
        return OF_KINDS.get(field) or COMMON.get(field, "")
    return OF_KINDS.get(field, "") if issubclass(record, ListObject) else ""


def description_of_kind(record: Any) -> str:
    """What the kind of a record class is; empty if it is none, or no text is there."""
    name = str(record.__name__)
    if issubclass(record, ListObject):
        kind = name.removesuffix("List")
        return f"{name} is a list of {kind} objects." if kind in KINDS else ""
    return KINDS.get(name, "") if issubclass(record, Object) else ""


def with_siblings(schema: dict[str, Any], siblings: dict[str, Any], number: int) -> dict[str, Any]:
    """The schema with further keywords. In version 3 of OpenAPI, those beside a reference are
    ignored, so the reference goes into allOf."""
    if not siblings:
        return schema
    if "$ref" in schema and number == 3:
        schema = {"allOf": [schema]}
    return schema | siblings
