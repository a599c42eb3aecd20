"""Rules of the ownership of fields as predicates. Source: spec/apply.md.

They read `managedFields` by themselves, without the code of apply.
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any

from refk8s.core.api.codec import to_tree
from refk8s.core.api.meta_v1 import ManagedFieldsEntry
from refk8s.core.api.request import Request
from refk8s.core.store import Change

Place = tuple[str, ...]
"""The steps from an object to a value that is owned: `f:NAME`, and `k:KEYS` of an item."""

ABSENT: Any = object()


def apply_7_the_main_path_owns_no_status(request: Request, change: Change[Any]) -> Iterator[str]:
    """APPLY-7: who applies an object on its main path owns nothing of its status."""
    for entry in _entries(change.record):
        is_its = (entry.manager, entry.operation) == (request.options.field_manager, "Apply")
        if is_its and not entry.subresource and any(p[0] == "f:status" for p in places_of(entry)):
            yield f"{entry.manager} applied {change.key} on the main path and owns its status"


def apply_12_a_changed_value_has_one_owner(change: Change[Any]) -> Iterator[str]:
    """APPLY-12, APPLY-15: the manager that changes a value is its only owner afterwards."""
    assert change.record is not None and change.previous is not None
    old, new = to_tree(change.previous.value), to_tree(change.record.value)
    owners: dict[Place, int] = {}
    for entry in _entries(change.record):
        for place in places_of(entry):
            owners[place] = owners.get(place, 0) + 1
    for place, count in owners.items():
        before, after = value_at(old, place), value_at(new, place)
        if count > 1 and ABSENT not in (before, after) and before != after:
            yield f"{'.'.join(place)} of {change.key} was changed and has {count} owners"


def apply_15_others_keep_their_fields(request: Request, change: Change[Any]) -> Iterator[str]:
    """APPLY-15: an apply without force takes no field and no value from another manager."""
    assert change.record is not None and change.previous is not None
    mine = (request.options.field_manager, "Apply", request.subresource)
    kept = {_owner(entry): set(places_of(entry)) for entry in _entries(change.record)}
    old, new = to_tree(change.previous.value), to_tree(change.record.value)
    for entry in _entries(change.previous):
        if _owner(entry) == mine:
            continue
        for place in places_of(entry):
            words = f"{'.'.join(place)} of {change.key}, which {entry.manager} owned,"
            if place not in kept.get(_owner(entry), ()):
                yield f"{words} was taken by {mine[0]} without force"
            elif value_at(old, place) != value_at(new, place):
                yield f"{words} was changed by {mine[0]} without force"


def is_applied(obj: Any) -> bool:
    """Whether a manager has applied the object."""
    return any(one.operation == "Apply" for one in obj.metadata.managed_fields or ())


def _entries(record: Any) -> Iterable[ManagedFieldsEntry]:
    return (record.value.metadata.managed_fields or ()) if record is not None else ()


def _owner(entry: ManagedFieldsEntry) -> tuple[str, str, str]:
    return entry.manager or "", entry.operation or "", entry.subresource or ""


def places_of(entry: ManagedFieldsEntry) -> list[Place]:
    """The places of the values that an entry owns. O(fields)."""
    return list(_leaves(json.loads(bytes(entry.fields_v1) or b"{}"), ()))


def _leaves(tree: dict[str, Any], at: Place) -> Iterator[Place]:
    for step, inner in tree.items():
        if step.startswith(("f:", "k:")):
            yield from _leaves(inner, (*at, step)) if inner else ((*at, step),)


def value_at(tree: Any, place: Place) -> Any:
    """The value at a place; ABSENT if there is none."""
    for step in place:
        if step.startswith("f:"):
            tree = tree.get(step[2:], ABSENT) if isinstance(tree, dict) else ABSENT
        else:
            keys = json.loads(step[2:]).items()
            items = tree if isinstance(tree, list) else ()
            tree = next((one for one in items if keys <= one.items()), ABSENT)
        if tree is ABSENT:
            return ABSENT
    return tree
