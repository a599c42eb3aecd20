"""Patch: a change to an object, described by a document. Rules PATCH-1 ... PATCH-14
(spec/patch.md).

`apply` returns an object (as a JSON tree) after a patch of one of three media types. It never
changes its arguments, so the same patch can be applied again to a newer state of the object.
Decoding and validation check the result later. Source: Kubernetes documentation, "Kubernetes API
Concepts" and "Update API Objects in Place Using kubectl patch". Server-side apply is in
core/apiserver/apply.
"""

from refk8s.core.api.request import Patch
from refk8s.core.api.status import ApiError, unsupported_media_type
from refk8s.core.apiserver.patch.document import Tree, as_object, parse, repeated_keys
from refk8s.core.apiserver.patch.json_patch import apply_json_patch
from refk8s.core.apiserver.patch.merge_patch import merge
from refk8s.core.apiserver.patch.merge_record import merge_record
from refk8s.core.apiserver.patch.strategic import merge_strategically

__all__ = [
    "APPLY_PATCH",
    "JSON_PATCH",
    "MERGE_PATCH",
    "STRATEGIC_MERGE_PATCH",
    "accepted_media_types",
    "apply",
    "merge_record",
    "repeated_keys",
]

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_MERGE_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
"""Server-side apply, which is in core/apiserver/apply."""


def accepted_media_types(record: type | None) -> tuple[str, ...]:
    """The media types that PATCH accepts. A custom resource (no record) has no declared merge keys,
    so no strategic merge patch (PATCH-2)."""
    return (
        (JSON_PATCH, MERGE_PATCH, APPLY_PATCH)
        if record is None
        else (JSON_PATCH, MERGE_PATCH, STRATEGIC_MERGE_PATCH, APPLY_PATCH)
    )


def apply(record: type | None, tree: Tree, patch: Patch) -> Tree:
    """The object `tree` after `patch`, as a new tree that shares the unchanged parts (PATCH-1).

    `record` is the class of the object's kind, None for a custom resource. Raises ApiError: 415 for
    an unsupported media type (PATCH-2), 400 for a document that is not a patch (PATCH-3), 413 for
    too many operations, 422 for a patch that does not apply (PATCH-5).
    """
    if patch.media_type == APPLY_PATCH or patch.media_type not in accepted_media_types(record):
        accepted = ", ".join(accepted_media_types(record))
        raise ApiError(
            unsupported_media_type(
                "the body of the request was in an unknown format - accepted media types "
                f"include: {accepted}"
            )
        )
    document = parse(patch.document)
    if patch.media_type == JSON_PATCH:
        return apply_json_patch(tree, document)
    if document is None and patch.media_type == STRATEGIC_MERGE_PATCH:
        return tree  # as upstream: null changes nothing
    change = as_object(document)
    if patch.media_type == MERGE_PATCH:
        merged = merge(tree, change)
        assert isinstance(merged, dict)  # a merge of an object is always an object
        return merged
    return merge_strategically(record, tree, change)
