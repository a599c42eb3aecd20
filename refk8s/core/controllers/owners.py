"""Owners: what a controller may act on, and how it comes to own something. Rules OWN-1 to OWN-7
(spec/workloads/owners.md).

    dependent                              owner alive        owner being deleted
    controlled by it, selected             owned              owned
    controlled by it, not selected         release            left alone
    controlled by another                  left alone         left alone
    controlled by nobody, selected         adopt              left alone
    controlled by nobody, being deleted    left alone         left alone

Source: design proposal "Controller reference"; Kubernetes documentation, "Owners and Dependents".
Left out: nothing.
"""

from collections.abc import Callable, Iterable, Mapping
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
    """The reference by which an object says that this owner controls it; it holds back the owner's
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
    """The selector as a predicate on labels. One without a requirement selects nothing here: no
    controller may claim a whole namespace."""
    if selector is None:
        return lambda labels: False
    required = (selector.match_labels or _NO_LABELS).items()
    if selector.match_expressions:
        try:
            return from_label_selector(selector).matches
        except SelectorError:
            # Validation lets none through; whoever has one all the same owns nothing.
            return lambda labels: False
    if not required:
        return lambda labels: False
    return lambda labels: required <= labels.items()


NOT_SELECTED = "the selector does not select the labels of the template"


def why_not_created(selected: Selects, labels: Labels | None) -> str | None:
    """Why an owner makes nothing with these labels: it would not count what it makes, and would
    make it again without end (OWN-8)."""
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
    """Objects that nobody controls, by namespace and by each of their labels, so that looking for
    them scans nothing else."""
    return Index("orphan", resource, _orphan_entries)


def list_orphans(
    view: View, resource: Resource, namespace: str, selector: LabelSelector | None
) -> list[Any]:
    """Objects of the namespace that nobody controls and that may match the selector. O(orphans with
    one of its labels)."""
    if selector is None:
        return []
    for name, value in sorted((selector.match_labels or _NO_LABELS).items()):
        return view.indexed(resource, "orphan", f"{namespace}/{name}={value}")
    return view.indexed(resource, "orphan", namespace) if selector.match_expressions else []


# --- claiming -------------------------------------------------------------------------------------


class Claim(Value, frozen=True, eq=False):
    """What an owner owns (OWN-1), and what is to be adopted (OWN-2) and released (OWN-3).

    Only a reference with controller=true and the owner's own uid counts: its name may have belonged
    to another. And only in its own namespace, under its own kind and name: a uid can be copied
    together with an object.
    """

    owned: list[Any]
    adopt: list[Any]
    release: list[Any]

    @property
    def is_settled(self) -> bool:
        return not self.adopt and not self.release


def claim(
    owner: Any, controlled: Iterable[Any], orphans: Iterable[Any], selected: Selects
) -> Claim:
    """Sort dependents by the table above. An owner that is being deleted neither adopts nor
    releases (OWN-4)."""
    is_dying = owner.metadata.deletion_timestamp is not None
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
                if is_selected:
                    own(obj)
                elif not is_dying:
                    release(obj)
    if not is_dying:
        for obj in orphans:
            metadata = obj.metadata
            if (
                metadata.deletion_timestamp is None
                and controller_of(obj) is None
                and selected(metadata.labels or _NO_LABELS)
            ):
                result.adopt.append(obj)
    return result


def claim_waves(
    owner: Any, owner_resource: Resource, resource: Resource, claimed: Claim
) -> tuple[tuple[Request, ...], ...]:
    """The requests that make a claim true. An owner that claims does nothing else in that turn: it
    acts on what the view shows as its own.

    Before anything is adopted the owner's unchanged status is written. That changes nothing, but it
    is refused where the view of the owner is old; so an owner that has been deleted meanwhile, its
    dependents just orphaned, does not take them back (OWN-5).
    """
    metadata = owner.metadata
    namespace = metadata.namespace or ""
    waves: list[tuple[Request, ...]] = []
    if claimed.adopt:
        because = f"make sure that {owner.kind} {metadata.name} is not being deleted"
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
    changes = [_adoption(owner, resource, namespace, obj) for obj in claimed.adopt]
    changes += [_release(owner, resource, namespace, obj) for obj in claimed.release]
    waves.append(tuple(changes))
    return tuple(waves)


def _adoption(owner: Any, resource: Resource, namespace: str, obj: Any) -> Request:
    # The uid makes this a patch of the object that was seen, not of a later one with its name
    # (OWN-6).
    reference = {
        "apiVersion": owner.api_version,
        "kind": owner.kind,
        "name": owner.metadata.name,
        "uid": owner.metadata.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }
    document = {"metadata": {"uid": obj.metadata.uid, "ownerReferences": [reference]}}
    because = f"{owner.kind} {owner.metadata.name} selects it and nobody controls it"
    return Request(
        "patch",
        resource,
        namespace,
        obj.metadata.name,
        body=Patch(STRATEGIC_MERGE, document),
        because=because,
    )


def _release(owner: Any, resource: Resource, namespace: str, obj: Any) -> Request:
    document = {
        "metadata": {
            "uid": obj.metadata.uid,
            "ownerReferences": [{"$patch": "delete", "uid": owner.metadata.uid}],
        }
    }
    because = f"{owner.kind} {owner.metadata.name} does not select it any more"
    return Request(
        "patch",
        resource,
        namespace,
        obj.metadata.name,
        body=Patch(STRATEGIC_MERGE, document),
        because=because,
    )


def deletion(resource: Resource, obj: Any, because: str, note: Any = None) -> Request:
    """Delete this very object: one that was made anew under its name stays (OWN-6)."""
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


# --- hearing of dependents ------------------------------------------------------------------------


def dependent_keys(
    kind: str, owners: Resource, selector_of: Callable[[Any], LabelSelector | None]
) -> KeysOf:
    """Which owners of this kind a changed dependent concerns (OWN-7): its controller, before and
    after; without one, all who select it.

    Wants the index "namespace" of the owners. O(1), or O(owners in the namespace) for an orphan
    whose labels or controller changed.
    """

    def keys(view: View, old: Any | None, new: Any | None) -> list[Key]:
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
