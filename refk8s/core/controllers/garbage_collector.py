"""Garbage collection: an object is deleted when all its owners are gone. Rules GC-1 to GC-11
(spec/workloads/garbage_collector.md).

The graph of owners and dependents is a fold over every resource. It may be behind the store, so
the collector reads an owner that the graph does not contain before it deletes anything (GC-2). A
uid is never reused, so the result "absent" is kept. It is kept for the whole reference, because
another reference may name the same uid with the right kind, namespace and name.

| the object | what the collector does |
|---|---|
| terminating, with the finalizer foregroundDeletion (*waiting*) | deletes its dependents; removes the finalizer when no dependent is blocking |
| terminating, with the finalizer orphan | removes the reference from its dependents, then the finalizer |
| terminating otherwise | nothing |
| has owners, one of them present and not waiting (*solid*) | removes references to absent and waiting owners |
| has owners, none solid, one waiting, and dependents of its own | deletes it in the foreground |
| has owners, none solid | deletes it |

Source: Kubernetes documentation, "Garbage Collection" and "Owners and Dependents"; design proposal
"Garbage collection". Custom resources are watched as their definitions say (LOOP-15).
"""

from collections.abc import Iterable
from typing import Any

from immutables import Map

from refk8s.core.api.meta_v1 import DeleteOptions, OwnerReference, Preconditions
from refk8s.core.api.request import Options, Patch, Request, Response
from refk8s.core.api.resources import ALL, EVENTS, EVENTS_V1, Resource, by_kind
from refk8s.core.context import SECOND, Instant
from refk8s.core.loop.custom import by_group, custom_by_kind, newest
from refk8s.core.loop.plan import NOTHING, Key, Local, Note, Plan
from refk8s.core.loop.reconciler import Interest, Reconciler
from refk8s.core.loop.view import Fold, View, key_of, split_key
from refk8s.core.value import Value, evolve, field

FOREGROUND, ORPHAN = "foregroundDeletion", "orphan"
MERGE_PATCH = "application/merge-patch+json"
RETRY: Instant = 1 * SECOND
REMEMBERED_MAX = 10_000

COLLECTED: tuple[Resource, ...] = tuple(
    resource
    for resource in ALL
    if {"list", "watch", "delete"} <= set(resource.verbs)
    and resource not in (EVENTS, EVENTS_V1)
    and not resource.storage_api_version
)
"""Every resource whose objects may be owners or dependents, each in its storage version."""


class Graph(Value, frozen=True, eq=False):
    """By uid: the resource and key of the object, and the uids of its dependents."""

    objects: Map[str, tuple[Resource, Key]] = field(default_factory=Map)
    dependents: Map[str, Map[str, None]] = field(default_factory=Map)


def _uids(obj: Any) -> tuple[str, ...]:
    return (
        tuple(reference.uid for reference in obj.metadata.owner_references or ())
        if obj is not None
        else ()
    )


def fold_graph(graph: Graph, resource: Resource, old: Any | None, new: Any | None) -> Graph:
    """The graph after one change. O(owners)."""
    if old is not None and new is not None:
        was, now = old.metadata, new.metadata
        if was.uid == now.uid and was.owner_references is now.owner_references:
            return graph
    before, after = _uids(old), _uids(new)
    present: Any = new if new is not None else old
    uid, former = present.metadata.uid, old.metadata.uid if old is not None else None
    if former is not None and (new is None or former != uid):
        graph = evolve(
            graph,
            objects=graph.objects.delete(former),
            dependents=_unlink(graph.dependents, former, before),
        )
        before = ()
    if new is None:
        return graph
    if old is None or former != uid:
        graph = evolve(graph, objects=graph.objects.set(uid, (resource, key_of(new))))
    if before != after:
        dependents = _unlink(graph.dependents, uid, before)
        for owner in after:
            dependents = dependents.set(owner, dependents.get(owner, Map()).set(uid, None))
        graph = evolve(graph, dependents=dependents)
    return graph


def _unlink(
    dependents: Map[str, Map[str, None]], uid: str, owners: Iterable[str]
) -> Map[str, Map[str, None]]:
    for owner in owners:
        if owner in dependents and uid in dependents[owner]:
            rest = dependents[owner].delete(uid)
            dependents = dependents.set(owner, rest) if rest else dependents.delete(owner)
    return dependents


def _concerned(view: View, old: Any | None, new: Any | None) -> list[Key]:
    """Uids to reconcile after a change: the object, its owners (they may wait for it), and its
    dependents once it is terminating or removed."""
    graph: Graph = view.fold("graph")
    found: dict[str, None] = {}
    if new is None or (old is not None and old.metadata.uid != new.metadata.uid):
        assert old is not None
        found.update(dict.fromkeys(_uids(old)))
        found.update(dict.fromkeys(sorted(graph.dependents.get(old.metadata.uid, ()))))
    if new is not None:
        metadata, was = new.metadata, old.metadata if old is not None else None
        # The name was reused between two lists: this is a new object.
        if was is not None and was.uid != metadata.uid:
            was = None
        marked = metadata.deletion_timestamp is not None
        if metadata.owner_references or marked:
            news = was is None or (was.owner_references, was.finalizers, was.deletion_timestamp) != (
                metadata.owner_references, metadata.finalizers, metadata.deletion_timestamp,
            )  # fmt: skip
            if news and not (old is None and not marked and _is_owned(view, graph, new)):
                found[metadata.uid] = None
        if old is not None and old.metadata.owner_references != metadata.owner_references:
            # The owner may have waited for this reference only.
            found.update(dict.fromkeys(_uids(old)))
        if was is None:
            # They may be in another namespace, which is reported (GC-11).
            found.update(dict.fromkeys(sorted(graph.dependents.get(metadata.uid, ()))))
        if marked and (was is None or was.deletion_timestamp is None):
            found.update(dict.fromkeys(_uids(new)))
            found.update(dict.fromkeys(sorted(graph.dependents.get(metadata.uid, ()))))
    return list(found)


class GarbageCollector(Reconciler):
    """Reconciles one object. The key is its uid."""

    name = "generic-garbage-collector"
    component = "garbage-collector-controller"
    interests = tuple(Interest(resource, _concerned) for resource in COLLECTED)
    indexes = (by_group(),)
    folds = (Fold("graph", COLLECTED, Graph(), fold_graph, custom=True),)
    custom_keys = staticmethod(_concerned)

    def start_memory(self, now: Instant) -> Map[str, bool]:
        """Results of reading owners, by `_wanted`: False if absent (for ever), True if present
        although the graph does not contain it."""
        return Map()

    def reconcile(self, view: View, key: Key, now: Instant, local: Local) -> Plan:
        """Decide by the table above."""
        # Observe
        graph: Graph = view.fold("graph")
        looked_up: Map[str, bool] = local.memory
        place = graph.objects.get(key)
        obj = view.get(*place) if place is not None else None
        if place is None or obj is None:
            return NOTHING
        resource, metadata = _newest(view, place[0]), obj.metadata
        if metadata.deletion_timestamp is not None:
            if FOREGROUND in (metadata.finalizers or ()):
                return _wait_for_dependents(view, graph, resource, obj)
            if ORPHAN in (metadata.finalizers or ()):
                return _orphan_dependents(view, graph, resource, obj)
            return NOTHING
        if not metadata.owner_references:
            return NOTHING

        # Decide
        solid: list[OwnerReference] = []
        waiting: list[OwnerReference] = []
        absent: list[OwnerReference] = []
        questions: list[Request] = []
        for reference in metadata.owner_references:
            owner = _owner(view, graph, obj, reference)
            if owner is not None:
                (waiting if _is_waiting(owner) else solid).append(reference)
            elif (question := _query(view, resource, obj, reference)) is None:
                solid.append(reference)
            elif looked_up.get(_wanted(question)) is False:
                absent.append(reference)
            elif looked_up.get(_wanted(question)):
                solid.append(reference)
            else:
                questions.append(question)
        notes = _misplaced(graph, obj)
        if questions:  # GC-2
            return Plan(queries=tuple(questions), wake_at=now + RETRY, notes=notes)

        # Act
        if solid:
            if not absent and not waiting:
                return Plan(memory=_without_present(view, looked_up, resource, obj), notes=notes)
            # GC-3
            return Plan(
                (
                    (
                        _without_references(
                            resource, obj, (*absent, *waiting), "one of its owners is gone"
                        ),
                    ),
                )
            )
        has_dependents = key in graph.dependents
        policy = "Foreground" if waiting and has_dependents else None  # GC-6
        because = "its owner waits for its deletion" if waiting else "its owner is gone"
        return Plan(((_deletion(resource, obj, policy, because),),))  # GC-4

    def answered(
        self,
        memory: Map[str, bool],
        key: Key,
        request: Request,
        response: Response | None,
        now: Instant,
    ) -> tuple[Map[str, bool], Iterable[Key]]:
        """Keep the result of reading an owner. Any other answer is no result, and the owner is
        read again (GC-2)."""
        uid, wanted = request.options.field_manager, _wanted(request)
        if len(memory) >= REMEMBERED_MAX:  # Each forgotten result costs one more GET.
            memory = Map()
        if response is not None and response.code == 404:
            return memory.set(wanted, False), (key,)
        if response is not None and response.ok:
            return memory.set(wanted, response.body.metadata.uid == uid), (key,)
        return memory, ()


def _get(view: View, graph: Graph, uid: str) -> Any | None:
    place = graph.objects.get(uid)
    return view.get(*place) if place is not None else None


def _owner(view: View, graph: Graph, obj: Any, reference: OwnerReference) -> Any | None:
    """The owner in the graph; None unless its kind, namespace and name are those of the reference
    (GC-2)."""
    place = graph.objects.get(reference.uid)
    owner = view.get(*place) if place is not None else None
    kind = _kind_of(view, reference)
    if (
        place is None
        or owner is None
        or kind is None
        or kind.prefix != place[0].prefix
        or owner.metadata.name != reference.name
    ):
        return None
    return (
        owner
        if not owner.metadata.namespace or owner.metadata.namespace == obj.metadata.namespace
        else None
    )


def _is_owned(view: View, graph: Graph, obj: Any) -> bool:
    """Whether all owners are there, and none is terminating: there is nothing to do about the
    object before one of them changes."""
    for reference in obj.metadata.owner_references or ():
        owner = _owner(view, graph, obj, reference)
        if owner is None or owner.metadata.deletion_timestamp is not None:
            return False
    return True


def _is_waiting(owner: Any) -> bool:
    return owner.metadata.deletion_timestamp is not None and FOREGROUND in (
        owner.metadata.finalizers or ()
    )


def _kind_of(view: View, reference: OwnerReference) -> Resource | None:
    """The resource of an owner; None if its kind is not known."""
    return by_kind(reference.api_version, reference.kind) or custom_by_kind(
        view, reference.api_version, reference.kind
    )


def _newest(view: View, resource: Resource) -> Resource:
    return newest(view, resource) if resource.is_custom else resource


def _query(view: View, resource: Resource, obj: Any, reference: OwnerReference) -> Request | None:
    """The request that reads the owner; None if its kind is not known."""
    kind = _kind_of(view, reference)
    if kind is None or "get" not in kind.verbs:
        return None
    if kind.namespaced and not resource.namespaced:
        # GC-9: no such owner can exist, and nothing is deleted because of an invalid reference
        return None
    namespace = obj.metadata.namespace or "" if kind.namespaced else ""
    options = Options(field_manager=reference.uid)  # read by `answered`
    because = "the view does not show this owner"
    return Request("get", kind, namespace, reference.name, options=options, because=because)


def _misplaced(graph: Graph, obj: Any) -> tuple[Note, ...]:
    """A warning Event for each owner in another namespace than its dependent (GC-11)."""
    notes = []
    namespace = obj.metadata.namespace or ""
    for reference in obj.metadata.owner_references or ():
        place = graph.objects.get(reference.uid)
        if place is not None and place[0].namespaced and split_key(place[1])[0] != namespace:
            named = f"[{reference.api_version}/{reference.kind}, namespace: {namespace}, name: {reference.name}, uid: {reference.uid}]"
            words = f'ownerRef {named} does not exist in namespace "{namespace}"'
            notes.append(Note(obj, "OwnerRefInvalidNamespace", words, "Warning"))
    return tuple(notes)


def _wanted(question: Request) -> str:
    """The uid with its kind, namespace and name. A uid that is absent under one name may be
    present under another."""
    return f"{question.options.field_manager} {question.resource.prefix}{question.namespace}/{question.name}"


def _without_present(
    view: View, looked_up: Map[str, bool], resource: Resource, obj: Any
) -> Map[str, bool]:
    """Discard the results "present": the graph will contain these owners."""
    if not len(looked_up):
        return looked_up
    for reference in obj.metadata.owner_references or ():
        question = _query(view, resource, obj, reference)
        if question is not None and looked_up.get(_wanted(question)):
            looked_up = looked_up.delete(_wanted(question))
    return looked_up


def _wait_for_dependents(view: View, graph: Graph, resource: Resource, owner: Any) -> Plan:
    """Foreground: every dependent is reconciled, and so deleted. The finalizer is removed when no
    blocking dependent is left (GC-5)."""
    uid = owner.metadata.uid
    dependents = [
        (child, _get(view, graph, child)) for child in sorted(graph.dependents.get(uid, ()))
    ]
    if not _blocking(view, graph, uid):
        return Plan(
            ((_without_finalizer(resource, owner, FOREGROUND, "no blocking dependent is left"),),)
        )
    if _waits_for_itself(view, graph, uid):
        because = "it waits for itself through its dependents"
        return Plan(((_without_finalizer(resource, owner, FOREGROUND, because),),))
    enqueue = tuple(
        (GarbageCollector.name, child) for child, dependent in dependents
        if dependent is not None and dependent.metadata.deletion_timestamp is None
    )  # fmt: skip
    return Plan(enqueue=enqueue)


def _blocking(view: View, graph: Graph, uid: str) -> list[str]:
    """The uids of the owner's blocking dependents (GC-5)."""
    found = [(child, _get(view, graph, child)) for child in sorted(graph.dependents.get(uid, ()))]
    return [
        child
        for child, dependent in found
        if dependent is not None
        and any(
            r.uid == uid and r.block_owner_deletion
            for r in dependent.metadata.owner_references or ()
        )
    ]


def _waits_for_itself(view: View, graph: Graph, uid: str) -> bool:
    """Whether the owner is in a cycle, and everything it waits for waits for a dependent too
    (GC-10). O(objects that it waits for)."""
    seen: dict[str, None] = {}
    left = [uid]
    in_circle = False
    while left:
        one = left.pop()
        obj, blocking = _get(view, graph, one), _blocking(view, graph, one)
        if obj is None or not _is_waiting(obj) or not blocking:
            # It is deleted later or in the background, or it waits for nothing and is removed next.
            return False
        in_circle = in_circle or uid in blocking
        left += [child for child in blocking if child not in seen]
        seen.update(dict.fromkeys(blocking))
    return in_circle


def _orphan_dependents(view: View, graph: Graph, resource: Resource, owner: Any) -> Plan:
    """Orphan: the reference is removed from the dependents first, then the finalizer (GC-7)."""
    uid = owner.metadata.uid
    releases = []
    for child in sorted(graph.dependents.get(uid, ())):
        place, dependent = graph.objects.get(child), _get(view, graph, child)
        if place is not None and dependent is not None:
            gone = [
                reference
                for reference in dependent.metadata.owner_references or ()
                if reference.uid == uid
            ]
            if gone:
                releases.append(
                    _without_references(
                        _newest(view, place[0]), dependent, gone, "its owner orphans it"
                    )
                )
    return Plan(
        (
            tuple(releases),
            (_without_finalizer(resource, owner, ORPHAN, "its dependents are orphaned"),),
        )
    )


def _named(verb: str, resource: Resource, obj: Any, body: Any, because: str) -> Request:
    return Request(
        verb,
        resource,
        obj.metadata.namespace or "",
        obj.metadata.name or "",
        body=body,
        because=because,
    )


def _deletion(resource: Resource, obj: Any, policy: str | None, because: str) -> Request:
    """GC-1: only this object, at the resourceVersion of the view."""
    metadata = obj.metadata
    preconditions = Preconditions(uid=metadata.uid, resource_version=metadata.resource_version)
    options = DeleteOptions(
        preconditions=preconditions, propagation_policy=policy or _own_policy(obj)
    )
    return _named("delete", resource, obj, options, because)


def _own_policy(obj: Any) -> str:
    """The policy that the object's finalizers require, else Background (GC-8)."""
    finalizers = obj.metadata.finalizers or ()
    return (
        "Orphan"
        if ORPHAN in finalizers
        else "Foreground"
        if FOREGROUND in finalizers
        else "Background"
    )


def _without_references(
    resource: Resource, obj: Any, gone: Iterable[OwnerReference], because: str
) -> Request:
    uids = {reference.uid for reference in gone}
    kept = [
        reference for reference in obj.metadata.owner_references or () if reference.uid not in uids
    ]
    return _metadata_patch(
        resource, obj, "ownerReferences", [_tree(reference) for reference in kept] or None, because
    )


def _without_finalizer(resource: Resource, obj: Any, name: str, because: str) -> Request:
    kept = [finalizer for finalizer in obj.metadata.finalizers or () if finalizer != name]
    return _metadata_patch(resource, obj, "finalizers", kept or None, because)


def _metadata_patch(
    resource: Resource, obj: Any, field_name: str, value: Any, because: str
) -> Request:
    """Set one list of the metadata. The whole list is replaced, so uid and resourceVersion are
    preconditions."""
    metadata = {
        "uid": obj.metadata.uid,
        "resourceVersion": obj.metadata.resource_version,
        field_name: value,
    }
    return _named("patch", resource, obj, Patch(MERGE_PATCH, {"metadata": metadata}), because)


def _tree(reference: OwnerReference) -> dict[str, Any]:
    tree: dict[str, Any] = {
        "apiVersion": reference.api_version, "kind": reference.kind, "name": reference.name, "uid": reference.uid,
    }  # fmt: skip
    if reference.controller is not None:
        tree["controller"] = reference.controller
    if reference.block_owner_deletion is not None:
        tree["blockOwnerDeletion"] = reference.block_owner_deletion
    return tree
