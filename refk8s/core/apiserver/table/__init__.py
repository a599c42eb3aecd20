"""Tables: the output of `kubectl get`, computed by the server. Rules TABLE-1 to TABLE-12
(spec/table.md).

A client that requests `as=Table` gets columns and rows instead of objects, and kubectl prints them
unchanged. Each kind has a layout (`core.py`, `workloads.py`, `others.py`): its columns, and a
function from object and instant to cells. Source: Kubernetes documentation, "Kubernetes API
Concepts" (Receiving resources as Tables). The columns of custom resources are those of their
definitions (custom/columns.py).
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

from refk8s.core.api.custom import CustomObject, shallow_tree
from refk8s.core.api.meta_v1 import (
    ListMeta,
    Object,
    ObjectMeta,
    PartialObjectMetadata,
    TableColumnDefinition,
)
from refk8s.core.api.resources import Resource
from refk8s.core.api.status import ApiError, bad_request
from refk8s.core.apiserver.table import core, metrics, others, workloads
from refk8s.core.apiserver.table.duration import age
from refk8s.core.apiserver.table.layout import CUSTOM, DEFAULT, Layout
from refk8s.core.context import Instant

__all__ = ["INCLUDE", "layout_of", "to_table"]

Tree: TypeAlias = dict[str, Any]

INCLUDE = ("None", "Metadata", "Object")
"""The object in a row, by the query parameter includeObject; the default is Metadata (TABLE-3)."""

LAYOUTS: dict[tuple[str, str], Layout] = {
    **core.LAYOUTS,
    **workloads.LAYOUTS,
    **others.LAYOUTS,
    **metrics.LAYOUTS,
}
"""By group and kind. Versions of one group share a layout."""


def layout_of(group: str, kind: str, custom: bool = False) -> Layout:
    """The columns of a kind; name and creation time if it has none (TABLE-2)."""
    return LAYOUTS.get((group, kind), CUSTOM if custom else DEFAULT)


def to_table(
    resource: Resource,
    objects: Sequence[Object | Tree],
    now: Instant,
    *,
    include_object: str = "",
    list_metadata: ListMeta | None = None,
    columns: bool = True,
) -> Tree:
    """The objects as a Table (a JSON tree whose leaves may be records; it must not be changed).
    O(objects).

    `list_metadata` is the list's metadata; without it, the table is for one object and has its
    resourceVersion (TABLE-4). A watch sends `columns` only with its first event (TABLE-5). Objects
    of a subresource, such as a Scale, are shown as their own kind. Raises ApiError 400 for an
    unknown `include_object`.
    """
    include = include_object or "Metadata"
    if include not in INCLUDE:
        raise ApiError(bad_request(f"unrecognized includeObject value: {show(include_object)}"))
    group, kind = _kind_of(resource, objects)
    if resource.is_custom and kind == resource.kind:
        from refk8s.core.apiserver.custom.columns import layout_of_custom

        layout = layout_of_custom(resource)
    else:
        layout = layout_of(group, kind, not resource.module)
    metadata = list_metadata if list_metadata is not None else _table_metadata(objects)
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata,
        "columnDefinitions": definitions(layout) if columns else None,
        "rows": [_row(layout, one, now, include) for one in objects],
    }


def show(text: str) -> str:
    """A value of the client in quotes, cut if it is long."""
    return '"' + text[:100].replace('"', "'") + '"'


def definitions(layout: Layout) -> list[TableColumnDefinition]:
    """The columns as in a Table."""
    return [
        TableColumnDefinition(
            name=column.name,
            type=column.type,
            format=column.format,
            description=column.description,
            priority=column.priority,
        )
        for column in layout.columns
    ]


def _kind_of(resource: Resource, objects: Sequence[Object | Tree]) -> tuple[str, str]:
    """Group and kind of the shown objects; for a subresource, those of its body (TABLE-12)."""
    for one in objects:
        if isinstance(one, Object) and one.kind != resource.kind:
            return one.api_version.rpartition("/")[0], one.kind
        break
    return resource.group, resource.kind


def _table_metadata(objects: Sequence[Object | Tree]) -> ListMeta:
    version = next((_metadata_field(one, "resourceVersion") for one in objects), None)
    return ListMeta(resource_version=version)


def _metadata_field(one: Object | Tree, name: str) -> str | None:
    if isinstance(one, Object):
        return one.metadata.resource_version
    found = one.get("metadata", {}).get(name)
    return found if isinstance(found, str) and found else None


def _row(layout: Layout, one: Object | Tree, now: Instant, include: str) -> Tree:
    if isinstance(one, Object):
        row: Tree = {"cells": layout.cells(one, now)}
        if layout.conditions is not None and (conditions := layout.conditions(one)):
            row["conditions"] = conditions
    else:
        metadata = one.get("metadata", {})
        row = {"cells": [metadata.get("name", ""), age(metadata.get("creationTimestamp"), now)]}
    row["object"] = _shown(one, include)
    return row


def _shown(one: Object | Tree, include: str) -> Any:
    if include == "None":
        return None
    if include == "Object":
        return shallow_tree(one) if isinstance(one, CustomObject) else one
    if isinstance(one, Object):
        return PartialObjectMetadata(metadata=one.metadata)
    return {
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": one.get("metadata") or ObjectMeta(),
    }
