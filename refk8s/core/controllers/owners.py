"""Owners: which objects a controller owns, adopts and releases. Rules OWN-1 to OWN-8
(spec/workloads/owners.md).

    dependent                              owner              owner being deleted
    controlled by it, selected             owns               owns
    controlled by it, not selected         releases           -
    controlled by another                  -                  -
    without a controller, selected         adopts             -
    without a controller, being deleted    -                  -

Source: design proposal "Controller reference"; Kubernetes documentation, "Owners and Dependents".
Left out: nothing.
"""

from collections.abc import Callable, Iterable, Mapping
from operator import attrgetter
from typing import Any

from refk8s.core.api.meta_v1 import DeleteOptions, LabelSelector, OwnerReference, Preconditions
from refk8s.core.api.request import Patch, Request
from refk8s.core.api.resources import Resource
from refk8s.core.api.selector import SelectorError, from_label_selector
from refk8s.core.loop.plan import Key
from refk8s.core.loop.reconciler import KeysOf
from refk8s.core.loop.view import Index, View, controller_of, key_of
from refk8s.core.value import Value

Labels = Mapping[str, str]
Selects = Callable[[Labels], bool]

STRATEGIC_MERGE = "application/strategic-merge-patch+json"

_NO_LABELS: dict[str, str] = {}


def controller_reference(owner: Any) -> OwnerReference:
    """The reference that makes this owner the controller of an object. It blocks the owner's
    foreground deletion."""
    metadata = owner.metadata
    return OwnerReference(
        api_version=owner.api_version,
        kind=owner.kind,
        name=metadata.name,
        uid=metadata.uid,
        controller=True,
        block_owner_deletion=True,
    )


def selects(selector: LabelSelector | None) -> Selects:
    """The selector as a predicate on labels. A selector without requirements selects nothing, so
    that no controller claims a whole namespace."""
    if selector is None:
        return lambda labels: False
    required = (selector.match_labels or _NO_LABELS).items()
    if selector.match_expressions:
        try:
            return from_label_selector(selector).matches
        except SelectorError:
            # LOOP-12: validation rejects it, but an older version may have stored it.
            return lambda labels: False
    if not required:
        return lambda labels: False
    return lambda labels: required <= labels.items()


NOT_SELECTED = "the selector does not select the labels of the template"


def why_not_created(selected: Selects, labels: Labels | None) -> str | None:
    """Why an owner creates no object with these labels; None if it may. It would not own the
    object, and would create another without end (OWN-8)."""
    return None if selected(labels or _NO_LABELS) else NOT_SELECTED


# --- finding dependents ---------------------------------------------------------------------------


def _orphan_entries(obj: Any) -> list[str]:
    metadata = obj.metadata
    if controller_of(obj) is not None:
        return []
    namespace = metadata.namespace or ""
    return [
        namespace,
        *(f"{namespace}/{name}={value}" for name, value in (metadata.labels or _NO_LABELS).items()),
    ]


def orphan_index(resource: Resource) -> Index:
    """Objects without a controller, by namespace and by each of their labels."""
    part = attrgetter("metadata.owner_references", "metadata.labels")
    return Index("orphan", resource, _orphan_entries, part)


def list_orphans(
    view: View, resource: Resource, namespace: str, selector: LabelSelector | None
) -> list[Any]:
    """Objects of the namespace without a controller that may match the selector. O(orphans with one
    of its labels)."""
    if selector is None:
        return []
    for name, value in sorted((selector.match_labels or _NO_LABELS).items()):
        return view.indexed(resource, "orphan", f"{namespace}/{name}={value}")
    return view.indexed(resource, "orphan", namespace) if selector.match_expressions else []


# --- claiming -------------------------------------------------------------------------------------


class Claim(Value, frozen=True, eq=False):
    """What an owner owns (OWN-1), adopts (OWN-2) and releases (OWN-3).

    Only a reference with controller=true and the owner's uid counts, because names are reused. It
    must also have the owner's namespace, kind and name, because a uid can be copied with an object.
    """

    owned: list[Any]
    adopt: list[Any]
    release: list[Any]

    @property
    def is_settled(self) -> bool:
        return not self.adopt and not self.release


def claim(
    owner: Any,
    controlled: Iterable[Any],
    orphans: Iterable[Any],
    selected: Selects,
    is_member: Callable[[Any], bool] | None = None,
) -> Claim:
    """Sort dependents by the table above. An owner that is being deleted neither adopts nor
    releases (OWN-4). With `is_member`, an object that is not a member counts as not selected: pods
    of a StatefulSet also need a name of the set."""
    is_terminating = owner.metadata.deletion_timestamp is not None
    uid, name, namespace = owner.metadata.uid, owner.metadata.name, owner.metadata.namespace
    result = Claim([], [], [])
    own, release = result.owned.append, result.release.append
    labels, is_selected = None, False
    for obj in controlled:
        metadata = obj.metadata
        for reference in metadata.owner_references or ():
            if (
                reference.uid == uid
                and reference.controller
                and (reference.name, metadata.namespace) == (name, namespace)
            ):
                # Pods of one template often share one map.
                if metadata.labels is not labels or labels is None:
                    labels = metadata.labels
                    is_selected = selected(labels or _NO_LABELS)
                if is_selected and (is_member is None or is_member(obj)):
                    own(obj)
                elif not is_terminating:
                    release(obj)
    if not is_terminating:
        for obj in orphans:
            metadata = obj.metadata
            if (
                metadata.deletion_timestamp is None
                and controller_of(obj) is None
                and selected(metadata.labels or _NO_LABELS)
                and (is_member is None or is_member(obj))
            ):
                result.adopt.append(obj)
    return result


def claim_waves(
    owner: Any,
    owner_resource: Resource,
    resource: Resource,
    claimed: Claim,
    finalizer: str = "",
    gets_finalizer: Callable[[Any], bool] = bool,
) -> tuple[tuple[Request, ...], ...]:
    """The requests that adopt and release. The plan of an owner that sends them has no others: it
    acts only on what the view shows as owned.

    Before an adoption the owner's unchanged status is written. The write changes nothing, but the
    API server refuses it if the view of the owner is old. So an owner that was deleted meanwhile
    does not adopt the dependents that its deletion orphaned (OWN-5). A `finalizer` is added to what
    is adopted, where it `gets_finalizer`, and removed from what is released.
    """
    metadata = owner.metadata
    namespace = metadata.namespace or ""
    waves: list[tuple[Request, ...]] = []
    if claimed.adopt:
        because = f"check that {owner.kind} {metadata.name} is not being deleted"
        waves.append(
            (
                Request(
                    "update",
                    owner_resource,
                    namespace,
                    metadata.name,
                    "status",
                    body=owner,
                    because=because,
                ),
            )
        )
    added = {"finalizers": [finalizer]} if finalizer else {}
    removed = {"$deleteFromPrimitiveList/finalizers": [finalizer]} if finalizer else {}
    changes = [
        _adoption(owner, resource, namespace, obj, added if gets_finalizer(obj) else {})
        for obj in claimed.adopt
    ]
    changes += [_release(owner, resource, namespace, obj, removed) for obj in claimed.release]
    waves.append(tuple(changes))
    return tuple(waves)


def _adoption(
    owner: Any, resource: Resource, namespace: str, obj: Any, more: dict[str, Any]
) -> Request:
    reference = {
        "apiVersion": owner.api_version,
        "kind": owner.kind,
        "name": owner.metadata.name,
        "uid": owner.metadata.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }
    because = f"{owner.kind} {owner.metadata.name} selects it and it has no controller"
    return _patch(resource, namespace, obj, {"ownerReferences": [reference], **more}, because)


def _release(
    owner: Any, resource: Resource, namespace: str, obj: Any, more: dict[str, Any]
) -> Request:
    reference = {"$patch": "delete", "uid": owner.metadata.uid}
    because = f"{owner.kind} {owner.metadata.name} no longer selects it"
    return _patch(resource, namespace, obj, {"ownerReferences": [reference], **more}, because)


def _patch(
    resource: Resource, namespace: str, obj: Any, changes: dict[str, Any], because: str
) -> Request:
    # The uid is a precondition: a later object with the same name is not patched (OWN-6).
    document = {"metadata": {"uid": obj.metadata.uid, **changes}}
    return Request(
        "patch",
        resource,
        namespace,
        obj.metadata.name,
        body=Patch(STRATEGIC_MERGE, document),
        because=because,
    )


def deletion(resource: Resource, obj: Any, because: str, note: Any = None) -> Request:
    """Delete this object, and no later one with the same name (OWN-6)."""
    metadata = obj.metadata
    options = DeleteOptions(preconditions=Preconditions(uid=metadata.uid))
    return Request(
        "delete",
        resource,
        metadata.namespace or "",
        metadata.name,
        body=options,
        because=because,
        note=note,
    )


# --- changes of dependents ------------------------------------------------------------------------


def dependent_keys(
    kind: str, owners: Resource, selector_of: Callable[[Any], LabelSelector | None]
) -> KeysOf:
    """The owners of this kind that a change of a dependent concerns (OWN-7): its controller, before
    and after; without one, all owners that select it.

    Needs the index "namespace" of the owners. O(1), or O(owners in the namespace) for an orphan
    whose labels or controller changed.
    """

    def keys(view: View, old: Any | None, new: Any | None) -> list[Key]:
        if new is not None and old is not None:
            references = new.metadata.owner_references
            if references and old.metadata.owner_references is references:
                # nearly every change, and nearly every dependent is of another kind
                for after in references:
                    if after.controller:
                        if after.kind != kind:
                            return []
                        return [f"{new.metadata.namespace}/{after.name}"]
        before = controller_of(old) if old is not None else None
        after = controller_of(new) if new is not None else None
        found: list[Key] = []
        if after is not None and after.kind == kind:
            found.append(f"{new.metadata.namespace}/{after.name}")  # type: ignore[union-attr]
        if (
            before is not None
            and before.kind == kind
            and (after is None or after.name != before.name)
        ):
            found.append(f"{old.metadata.namespace}/{before.name}")  # type: ignore[union-attr]
        if (
            new is not None
            and after is None
            and (old is None or before is not None or old.metadata.labels != new.metadata.labels)
        ):
            labels = new.metadata.labels or _NO_LABELS
            for owner in view.indexed(owners, "namespace", new.metadata.namespace or ""):
                key = key_of(owner)
                if key not in found and selects(selector_of(owner))(labels):
                    found.append(key)
        return found

    return keys
