"""The annotation of `kubectl apply` without --server-side, and server-side apply. Rule APPLY-17
(spec/apply.md).

Source: Kubernetes documentation, "Server-Side Apply", "Migration between client-side and
server-side apply"; "Declarative Management of Kubernetes Objects Using Configuration Files".
"""

from typing import Any

import msgspec
from msgspec.structs import replace

from refk8s.core.api import codec
from refk8s.core.api.json_text import MalformedJson
from refk8s.core.api.resources import Resource
from refk8s.core.apiserver.apply.check import problems
from refk8s.core.apiserver.apply.compare import applied_paths, compare
from refk8s.core.apiserver.apply.field_set import EMPTY, FieldSet, difference
from refk8s.core.apiserver.apply.types import Type

KUBECTL = "kubectl"
ANNOTATION = "kubectl.kubernetes.io/last-applied-configuration"
ANNOTATIONS_BYTES_MAX = 256 * 1024

Tree = dict[str, Any]
_encoder = msgspec.json.Encoder(order="sorted")


def taken_over(type_: Type, live_tree: Tree, resource: Resource, live: Any) -> FieldSet:
    """The fields that kubectl has applied on the client's side, and whose values are still the
    same. Empty if there is no such configuration, or one of another version."""
    text = (live.metadata.annotations or {}).get(ANNOTATION)
    if not text:
        return EMPTY
    try:
        applied = codec.parse(text.encode())
    except MalformedJson:
        return EMPTY
    if not isinstance(applied, dict) or applied.get("apiVersion") != resource.api_version:
        return EMPTY
    if problems(type_, applied):
        return EMPTY
    change = compare(type_, applied, live_tree)
    fields = applied_paths(type_, applied)
    for part in (change.modified, change.added, change.removed):
        fields = difference(fields, part)
    return fields


def kept_up(manager: str, obj: Any, config: Tree) -> Any:
    """The object with the applied configuration in the annotation, if it has the annotation and
    kubectl applies. Without the annotation if that would be too large."""
    annotations = obj.metadata.annotations or {}
    if manager != KUBECTL or not annotations.get(ANNOTATION):
        return obj
    changed = {**annotations, ANNOTATION: _text_of(config)}
    size = sum(len(key.encode()) + len(value.encode()) for key, value in changed.items())
    if size > ANNOTATIONS_BYTES_MAX:
        del changed[ANNOTATION]
    return replace(obj, metadata=replace(obj.metadata, annotations=changed or None))


def _text_of(config: Tree) -> str:
    """The configuration as the annotation has it: without the annotation itself, and with the
    other annotations, also if there are none."""
    metadata = config.get("metadata")
    if isinstance(metadata, dict):
        annotations = metadata.get("annotations") or {}
        kept = {key: value for key, value in annotations.items() if key != ANNOTATION}
        config = {**config, "metadata": {**metadata, "annotations": kept}}
    return _encoder.encode(config).decode() + "\n"
