"""Predicates of the garbage collector. Rules GC-1, GC-2, GC-4, GC-5, GC-7
(spec/workloads/garbage_collector.md).

    request   GC-1          a request, when it takes effect
    store     GC-2, GC-4    an object and its owners, as they are stored
    plan      GC-2, GC-5, GC-7    one decision: a view, and the plan made from it
"""

from collections.abc import Iterator
from typing import Any

from refk8s.core.api.meta_v1 import OwnerReference
from refk8s.core.api.request import Patch, Request
from refk8s.core.api.resources import by_kind
from refk8s.core.loop.plan import Plan
from refk8s.core.loop.view import View, key_of
from refk8s.core.store import History

FOREGROUND, ORPHAN = "foregroundDeletion", "orphan"


def gc_1_the_delete_names_one_state(request: Request) -> Iterator[str]:
    """GC-1: a delete of the collector has preconditions on uid and resourceVersion."""
    wanted = request.body.preconditions if request.body is not None else None
    if wanted is None or not wanted.uid or not wanted.resource_version:
        yield f"the deletion of {request.key} has no precondition on uid or resourceVersion"


def gc_2_no_owner_is_stored(history: History[Any], key: str, obj: Any) -> Iterator[str]:
    """GC-2: an object that the collector deletes had owners, and every owner that is still stored
    is being deleted."""
    if not obj.metadata.owner_references:
        yield f"{key} was deleted without ever having an owner"
    for reference in obj.metadata.owner_references or ():
        owner = owner_of(history, obj, reference)
        if owner is not None and not _is_terminating(owner):
            yield f"{key} was deleted, and its owner {reference.name} exists"


def gc_2_no_owner_is_in_view(view: View, plan: Plan) -> list[str] | None:
    """GC-2: an owner in view of an object that is to be deleted waits for its dependents. None if
    the plan deletes nothing in view."""
    found: list[str] | None = None
    for request in plan.requests:
        obj = view.get(request.resource, request.key) if request.verb == "delete" else None
        if obj is None:
            continue
        found = found or []
        for reference in obj.metadata.owner_references or ():
            kind = by_kind(reference.api_version, reference.kind)
            namespace = f"{obj.metadata.namespace}/" if kind is not None and kind.namespaced else ""
            owner = view.get(kind, f"{namespace}{reference.name}") if kind is not None else None
            if owner is not None and owner.metadata.uid == reference.uid and not _waits(owner):
                found.append(
                    f"{request.key} is to be deleted, and its owner {reference.name} is in view"
                )
    return found


def gc_4_an_owner_is_left(history: History[Any], obj: Any) -> Iterator[str]:
    """GC-4, for a settled cluster: an object with owner references is being deleted, or one of its
    owners is stored, or the collector must leave it alone (GC-9)."""
    if obj.metadata.deletion_timestamp is not None:
        return
    references = obj.metadata.owner_references
    kinds = [by_kind(reference.api_version, reference.kind) for reference in references]
    if any(kind is None or (kind.namespaced and not obj.metadata.namespace) for kind in kinds):
        return
    if all(owner_of(history, obj, reference) is None for reference in references):
        yield f"{obj.kind} {obj.metadata.name} has no owner left and is not deleted"


def owner_of(history: History[Any], obj: Any, reference: OwnerReference) -> Any | None:
    """The stored owner that the reference names, or None."""
    kind = by_kind(reference.api_version, reference.kind)
    if kind is None:
        return None
    namespace = f"{obj.metadata.namespace or ''}/" if kind.namespaced else ""
    record = history.get(f"{kind.prefix}{namespace}{reference.name}")
    return (
        record.value if record is not None and record.value.metadata.uid == reference.uid else None
    )


def _is_terminating(owner: Any) -> bool:
    return owner.metadata.deletion_timestamp is not None


def _waits(owner: Any) -> bool:
    return _is_terminating(owner) and FOREGROUND in (owner.metadata.finalizers or ())


def gc_5_no_blocking_dependent_is_left(view: View, plan: Plan) -> list[str] | None:
    """GC-5: the collector removes the finalizer of an owner if its view shows no blocking
    dependent, or if all of them wait for the owner (GC-10). None if the plan removes none."""
    circle = {
        place
        for request in plan.requests
        for place in _circle(view, view.get(request.resource, request.key))
    }
    return _released(view, plan, FOREGROUND, _blocks, circle)


def gc_7_no_dependent_has_the_reference(view: View, plan: Plan) -> list[str] | None:
    """GC-7: the finalizer is removed last, after the owner reference of every dependent in view.
    None if the plan removes none."""
    earlier = {
        (request.resource.prefix, request.key) for wave in plan.waves[:-1] for request in wave
    }
    return _released(view, plan, ORPHAN, lambda reference: True, earlier)


def _blocks(reference: OwnerReference) -> bool:
    return bool(reference.block_owner_deletion)


def _circle(view: View, owner: Any | None) -> list[tuple[str, str]]:
    """The dependents that the owner waits for, directly or not, if all of them wait in turn and the
    owner is one of them; else none."""
    found: dict[tuple[str, str], Any] = {}
    left = [owner] if owner is not None and _waits(owner) else []
    while left:
        for prefix, obj in _dependents(view, left.pop().metadata.uid, _blocks):
            if not _waits(obj):
                return []
            if (prefix, key_of(obj)) not in found:
                found[prefix, key_of(obj)] = obj
                left.append(obj)
    return (
        list(found)
        if owner is not None
        and any(obj.metadata.uid == owner.metadata.uid for obj in found.values())
        else []
    )


def _released(
    view: View, plan: Plan, finalizer: str, counts: Any, settled: set[tuple[str, str]]
) -> list[str] | None:
    for request in plan.requests:
        owner = view.get(request.resource, request.key)
        has = owner is not None and finalizer in (owner.metadata.finalizers or ())
        if owner is None or not has or finalizer in _patched(request, "finalizers", (finalizer,)):
            continue
        held = [
            (prefix, key_of(obj)) for prefix, obj in _dependents(view, owner.metadata.uid, counts)
        ]
        words = f"{owner.kind} {request.key} loses {finalizer}, and its own is still"
        return [f"{words} {prefix}{key}" for prefix, key in held if (prefix, key) not in settled]
    return None


def _patched(request: Request, field: str, otherwise: Any) -> Any:
    """The value of a list of the metadata after a patch; `otherwise` if the patch has none."""
    document = (
        request.body.document if request.verb == "patch" and isinstance(request.body, Patch) else {}
    )
    metadata = document.get("metadata") or {}
    return (metadata[field] or ()) if field in metadata else otherwise


def _dependents(view: View, uid: str, counts: Any) -> Iterator[tuple[str, Any]]:
    for prefix in sorted(view.tables):
        objects = view.tables[prefix].objects
        for key in sorted(objects):
            if any(
                reference.uid == uid and counts(reference)
                for reference in objects[key].metadata.owner_references or ()
            ):
                yield prefix, objects[key]
