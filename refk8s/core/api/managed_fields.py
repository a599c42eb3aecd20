"""The entries of managedFields as shared values. Rule APPLY-3 (spec/apply.md).

Objects of one shape that were written in the same second have equal entries. They are one value in
memory, and their fields do not refer to the text from which they were decoded: an object would
keep the whole answer that it came with.
"""

from functools import lru_cache
from typing import Any, TypeVar

from msgspec.structs import replace

from refk8s.core.api.base import NO_FIELDS, FieldsV1
from refk8s.core.api.meta_v1 import ManagedFieldsEntry
from refk8s.core.memo import remember_within

FIELDS_TYPE = "FieldsV1"
ENTRIES_MAX = 4096
FIELDS_BYTES_MAX = 1024 * 1024
"""The bytes of kept sets of fields."""

T = TypeVar("T")


@remember_within(FIELDS_BYTES_MAX, len)
def _shared_fields(text: bytes) -> FieldsV1:
    return FieldsV1(text)


@lru_cache(maxsize=ENTRIES_MAX)
def shared_entry(
    manager: str, operation: str, api_version: str, subresource: str, time: str | None, text: bytes
) -> ManagedFieldsEntry:
    """The entry of these fields, given as JSON text."""
    return ManagedFieldsEntry(
        manager=manager or None,
        operation=operation or None,
        api_version=api_version or None,
        time=time,
        fields_type=FIELDS_TYPE,
        fields_v1=_shared_fields(text),
        subresource=subresource or None,
    )


def with_shared_entries(obj: T) -> T:
    """The object with shared entries instead of those that were decoded with it."""
    metadata: Any = getattr(obj, "metadata", None)
    entries = getattr(metadata, "managed_fields", None)
    if not entries:
        return obj
    shared = tuple([_shared(entry) for entry in entries])
    changed: T = replace(obj, metadata=replace(metadata, managed_fields=shared))  # type: ignore[type-var]
    return changed


def _shared(entry: ManagedFieldsEntry) -> ManagedFieldsEntry:
    if entry.fields_v1 is NO_FIELDS:
        return entry
    if entry.fields_type != FIELDS_TYPE:
        return replace(entry, fields_v1=FieldsV1(bytes(entry.fields_v1)))
    return shared_entry(
        entry.manager or "",
        entry.operation or "",
        entry.api_version or "",
        entry.subresource or "",
        entry.time,
        bytes(entry.fields_v1),
    )
