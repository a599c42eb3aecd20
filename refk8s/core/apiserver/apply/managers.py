"""The managers of the fields of an object, as metadata.managedFields has them. Rules APPLY-3,
APPLY-11 to APPLY-14 (spec/apply.md).

    decode    entries -> Managed
    encode    Managed -> entries, in upstream's order
    updated   Managed after an update, from what it changed
    capped    at most ten entries of updates

Source: Kubernetes documentation, "Server-Side Apply", "Field management"; API reference,
"ManagedFieldsEntry".
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import TypeAlias

from refk8s.core.api.managed_fields import FIELDS_TYPE, shared_entry
from refk8s.core.api.meta_v1 import ManagedFieldsEntry
from refk8s.core.apiserver.apply import field_set
from refk8s.core.apiserver.apply.compare import Comparison
from refk8s.core.apiserver.apply.field_set import (
    NEVER_OWNED,
    FieldSet,
    InvalidFields,
    difference,
    intersection,
    union,
)
from refk8s.core.memo import remember, remember_within
from refk8s.core.value import Value

APPLY, UPDATE = "Apply", "Update"
UPDATERS_MAX = 10
MANAGER_BYTES_MAX = 128
ANCIENT_CHANGES = "ancient-changes"
BEFORE_FIRST_APPLY = "before-first-apply"
UNKNOWN_MANAGER = "unknown"
ENTRIES_MAX = 2048
FIELDS_BYTES_MAX = 1024 * 1024
"""The bytes of kept sets: objects of the same shape share theirs."""


class InvalidEntry(ValueError):
    """An entry of managedFields that upstream does not accept."""


class Owner(Value, frozen=True):
    """Who owns fields. An applier is the same in every version of the kind, so `api_version` is
    empty for it."""

    manager: str
    operation: str
    api_version: str = ""
    subresource: str = ""


class Owned(Value, frozen=True, eq=False):
    """The fields of an owner, in terms of a version of the kind, and the time of its last change.
    `entry`: the entry that says the same, if there is one."""

    fields: FieldSet
    api_version: str
    time: str | None = None
    entry: ManagedFieldsEntry | None = None


Managed: TypeAlias = Mapping[Owner, Owned]
"""Not to be changed."""
NOBODY: Managed = {}


@lru_cache(maxsize=4096)
def owner(manager: str, operation: str, api_version: str, subresource: str) -> Owner:
    """The owner for a request."""
    version = api_version if operation == UPDATE else ""
    return Owner(manager or UNKNOWN_MANAGER, operation, version, subresource)


@remember(1024)
def program_of(user_agent: str) -> str:
    """The manager of a request without fieldManager: the user agent up to its first slash, without
    characters that cannot be printed (APPLY-11)."""
    name = "".join(one for one in user_agent.partition("/")[0] if one.isprintable())
    kept = name.encode()[:MANAGER_BYTES_MAX].decode(errors="ignore")
    return kept or UNKNOWN_MANAGER


# --- entries


@remember_within(FIELDS_BYTES_MAX, len)
def fields_of(text: bytes) -> FieldSet:
    """The set of its bytes. Raises InvalidFields."""
    return field_set.decode(text)


def decode(entries: Sequence[ManagedFieldsEntry] | None) -> Managed:
    """The owners of these entries. Raises InvalidEntry."""
    found: dict[Owner, Owned] = {}
    for index, entry in enumerate(entries or ()):
        kept = _decoded.get(id(entry))
        if kept is not None and kept[1].entry is entry:
            found[kept[0]] = kept[1]
            continue
        operation, version = entry.operation or "", entry.api_version or ""
        if operation not in (APPLY, UPDATE):
            raise InvalidEntry("operation must be `Apply` or `Update`")
        if not version:
            raise InvalidEntry("apiVersion must not be empty")
        if entry.fields_type != FIELDS_TYPE:
            words = "missing fieldsType" if not entry.fields_type else "invalid fieldsType"
            raise InvalidEntry(f"{words} in managed fields entry {index}")
        try:
            fields = fields_of(bytes(entry.fields_v1) or b"{}")
        except InvalidFields as error:
            raise InvalidEntry(str(error)) from None
        key_version = version if operation == UPDATE else ""
        key = Owner(entry.manager or "", operation, key_version, entry.subresource or "")
        found[key] = Owned(fields, version, entry.time)
        found[key] = Owned(fields, version, entry.time, _entry_of(key, found[key]))
    return found


def _keep(who: Owner, owned: Owned) -> None:
    """The owned fields, which are found again by their entry."""
    if len(_decoded) >= ENTRIES_MAX:
        _decoded.clear()
    _decoded[id(owned.entry)] = (who, owned)


_decoded: dict[int, tuple[Owner, Owned]] = {}
"""The decoded entries by their identity, which does not change while they are kept here."""


def decode_or_nobody(entries: Sequence[ManagedFieldsEntry] | None) -> Managed:
    """The owners of these entries; nobody if they are invalid."""
    try:
        return decode(entries)
    except InvalidEntry:
        return NOBODY


def is_reset(entries: Sequence[ManagedFieldsEntry] | None) -> bool:
    """Whether a request removes all ownership: an empty list, or one empty entry (APPLY-14)."""
    return entries is not None and (not entries or tuple(entries) == (_NO_ENTRY,))


_NO_ENTRY = ManagedFieldsEntry()


def encode(managed: Managed) -> tuple[ManagedFieldsEntry, ...] | None:
    """The entries: first those of applies, then by time, manager, version and subresource."""
    if not managed:
        return None
    items = sorted(managed.items(), key=_order) if len(managed) > 1 else managed.items()
    return tuple([owned.entry or _entry_of(who, owned) for who, owned in items])


def _entry_of(who: Owner, owned: Owned) -> ManagedFieldsEntry:
    text = field_set.encode(owned.fields)
    version, time = owned.api_version, owned.time
    entry = shared_entry(who.manager, who.operation, version, who.subresource, time, text)
    if id(entry) not in _decoded:
        _keep(who, Owned(owned.fields, version, time, entry))
    return entry


def first_entry(
    who: Owner, api_version: str, now: str, text: bytes
) -> tuple[ManagedFieldsEntry, ...] | None:
    """The entries of a new object with these fields."""
    if text == b"{}":
        return None
    return (shared_entry(who.manager, who.operation, api_version, who.subresource, now, text),)


def _order(item: tuple[Owner, Owned]) -> tuple[str, str, str, str, str]:
    who, owned = item
    # times in UTC with whole seconds are in the order of their texts
    return (who.operation, owned.time or "", who.manager, owned.api_version, who.subresource)


# --- updates


Compared: TypeAlias = Callable[[str], Comparison | None]
"""What a write changed, in terms of a version of the kind; None if that version is not served."""


def updated(
    managed: Managed, who: Owner, api_version: str, compared: Compared, now: str
) -> Managed:
    """The owners after an update (APPLY-12): what it added or modified belongs to `who`, and what
    it removed to nobody."""
    change = compared(api_version)
    assert change is not None, "the version of a request is served"
    if change.is_empty and all(
        one.fields and compared(one.api_version) for one in managed.values()
    ):
        return managed
    mine = difference(change.changed, NEVER_OWNED)
    left = dict(after_change(managed, compared, who))
    before = left.get(who)
    if before is not None and (change.removed or not before.fields):
        fields = difference(before.fields, change.removed)
        if not fields:
            del left[who]
        elif fields is not before.fields:
            left[who] = Owned(fields, api_version, before.time)
        before = left.get(who)
    if mine:
        fields = mine if before is None else union(before.fields, mine)
        left[who] = Owned(fields, api_version, now)
    return capped(left)


def after_change(managed: Managed, compared: Compared, but: Owner | None) -> Managed:
    """The owners without the fields that a write added, modified or removed; those of `but` stay.
    Owners in versions that are no longer served are dropped, and so is who owns nothing."""
    result: dict[Owner, Owned] = {}
    for who, owned in managed.items():
        if who == but:
            result[who] = owned
            continue
        change = compared(owned.api_version)
        if change is None:
            continue
        fields = owned.fields
        for part in (change.added, change.modified, change.removed):
            if part:
                fields = difference(fields, part)
        if not fields:
            continue
        if fields is owned.fields:
            result[who] = owned
        else:
            result[who] = Owned(fields, owned.api_version, owned.time)
    return result


def conflicts(managed: Managed, compared: Compared, but: Owner) -> dict[Owner, FieldSet]:
    """The fields of other owners that a write changes (APPLY-15)."""
    found = {}
    for who, owned in managed.items():
        change = None if who == but else compared(owned.api_version)
        if change is not None and (both := intersection(owned.fields, change.changed)):
            found[who] = both
    return found


def capped(managed: Managed) -> Managed:
    """At most ten entries of updates: the oldest are merged to one entry for each version
    (APPLY-13)."""
    updaters = [who for who in managed if who.operation == UPDATE]
    if len(updaters) <= UPDATERS_MAX:
        return managed
    result = dict(managed)
    updaters.sort(key=lambda who: (result[who].time or "", who.manager, who.api_version))
    first_of: dict[str, Owner] = {}
    count = len(updaters)
    for who in updaters:
        if count <= UPDATERS_MAX:
            break
        owned = result[who]
        first = first_of.setdefault(owned.api_version, who)
        if first is who:
            continue
        bucket = Owner(ANCIENT_CHANGES, UPDATE, owned.api_version)
        if bucket not in result:
            result[bucket] = result.pop(first)
        fields = union(result[bucket].fields, owned.fields)
        if who != bucket:
            del result[who]
        count -= 1
        result[bucket] = Owned(fields, owned.api_version, owned.time)
    return result


__all__ = [
    "APPLY",
    "NOBODY",
    "UPDATE",
    "Compared",
    "InvalidEntry",
    "Managed",
    "Owned",
    "Owner",
    "after_change",
    "capped",
    "conflicts",
    "decode",
    "decode_or_nobody",
    "encode",
    "is_reset",
    "owner",
    "updated",
]
