"""Volumes, claims and attributes classes in use are not removed. Rules PROT-1 to PROT-3, PROT-6
(spec/workloads/protection.md).

    object                  finalizer                      kept while
    PersistentVolumeClaim   kubernetes.io/pvc-protection   a pod with a node uses it
    PersistentVolume        kubernetes.io/pv-protection    its phase is Bound
    VolumeAttributesClass   kubernetes.io/vac-protection   a claim or volume names it

Admission sets the finalizers (ADM-21). These controllers remove them from objects that are being
deleted and not used, and set missing ones. Source: Kubernetes documentation, "Persistent Volumes"
(storage object in use protection).
"""

from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import Any, Final, TypeAlias

from immutables import Map
from msgspec.structs import replace

from refk8s.core.api.attributes_classes import classes_of_claim, classes_of_volume
from refk8s.core.api.core_v1 import PersistentVolume, PersistentVolumeClaim, Pod
from refk8s.core.api.finalizers import (
    ATTRIBUTES_CLASS_PROTECTION,
    CLAIM_PROTECTION,
    VOLUME_PROTECTION,
)
from refk8s.core.api.request import Request, Response, update_of
from refk8s.core.api.resources import (
    PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    PODS,
    VOLUME_ATTRIBUTES_CLASSES,
    Resource,
)
from refk8s.core.api.storage_v1 import VolumeAttributesClass
from refk8s.core.context import SECOND, Instant
from refk8s.core.loop.plan import NOTHING, Key, Local, Plan
from refk8s.core.loop.reconciler import Interest, Reconciler, own_key
from refk8s.core.loop.view import Index, View
from refk8s.core.pods.volumes import claims_of

RETRY: Instant = 10 * SECOND
Memory: TypeAlias = Map[Key, tuple[str, bool]]


def uses(pod: Pod, claim: Key) -> bool:
    """PROT-1: a pod with a node uses its claims until it is removed, even when it has finished."""
    return bool(pod.spec.node_name) and claim in claims_of(pod)


def _of_pod(view: View, old: Pod | None, new: Pod | None) -> set[Key]:
    if old is None or new is None:
        return {key for pod in (old, new) if pod is not None for key in claims_of(pod)}
    return {*claims_of(new), *(claims_of(old) if old.spec is not new.spec else ())}


class ClaimProtection(Reconciler):
    """PROT-1: sets or removes the finalizer of one claim.

    The view may be behind, so the controller lists the pods from the API server before it removes a
    finalizer. The memory has the claims of these lists: their uid, and whether no pod uses them.
    """

    name = "pvc-protection-controller"
    interests = (Interest(PERSISTENT_VOLUME_CLAIMS, own_key), Interest(PODS, _of_pod))
    indexes = (Index("claim", PODS, claims_of, attrgetter("spec.volumes")),)

    def start_memory(self, now: Instant) -> Memory:
        return Map()

    def reconcile(self, view: View, key: Key, now: Instant, local: Local) -> Plan:
        # Observe
        claim: PersistentVolumeClaim | None = view.get(PERSISTENT_VOLUME_CLAIMS, key)
        memory: Memory = local.memory
        if claim is None:
            return Plan(memory=memory.delete(key)) if key in memory else NOTHING
        if claim.metadata.deletion_timestamp is None:
            return _set(PERSISTENT_VOLUME_CLAIMS, claim, CLAIM_PROTECTION)

        # Decide
        if CLAIM_PROTECTION not in (claim.metadata.finalizers or ()):
            return NOTHING
        if any(uses(pod, key) for pod in view.indexed(PODS, "claim", key)):
            return Plan(memory=memory.delete(key)) if key in memory else NOTHING
        uid = claim.metadata.uid or ""
        if memory.get(key) != (uid, True):
            question = Request(
                "list",
                PODS,
                claim.metadata.namespace or "",
                because=f"claim {key} is being deleted",
            )
            return Plan(
                queries=(question,), memory=memory.set(key, (uid, False)), wake_at=now + RETRY
            )

        # Act
        return _remove(PERSISTENT_VOLUME_CLAIMS, claim, CLAIM_PROTECTION, "no pod uses it")

    def answered(
        self, memory: Memory, key: Key, request: Request, response: Response | None, now: Instant
    ) -> tuple[Memory, Iterable[Key]]:
        """Keep whether a pod uses the claim."""
        if response is None or not response.ok or key not in memory:
            return memory, ()
        if any(uses(pod, key) for pod in response.body.items):
            return memory, ()
        uid, _ = memory[key]
        return memory.set(key, (uid, True)), (key,)


class VolumeProtection(Reconciler):
    """PROT-2: sets or removes the finalizer of one volume."""

    name = "pv-protection-controller"
    interests = (Interest(PERSISTENT_VOLUMES, own_key),)

    def reconcile(self, view: View, key: Key, now: Instant, local: Local) -> Plan:
        # Observe
        volume: PersistentVolume | None = view.get(PERSISTENT_VOLUMES, key)
        if volume is None:
            return NOTHING
        if volume.metadata.deletion_timestamp is None:
            return _set(PERSISTENT_VOLUMES, volume, VOLUME_PROTECTION)

        # Decide
        held = VOLUME_PROTECTION in (volume.metadata.finalizers or ())
        if not held or volume.status.phase == "Bound":
            return NOTHING

        # Act
        return _remove(PERSISTENT_VOLUMES, volume, VOLUME_PROTECTION, "no claim is bound to it")


def _of_claim(view: View, old: Any | None, new: Any | None) -> set[Key]:
    return {key for one in (old, new) if one is not None for key in classes_of_claim(one)}


def _of_volume(view: View, old: Any | None, new: Any | None) -> set[Key]:
    return {key for one in (old, new) if one is not None for key in classes_of_volume(one)}


Unused: TypeAlias = Map[Key, tuple[str, frozenset[str]]]
"""Of each class its uid, and the resources of which a list has shown none that uses it."""


class AttributesClassProtection(Reconciler):
    """PROT-6: sets or removes the finalizer of one VolumeAttributesClass.

    As for claims, claims and volumes are listed from the API server before it is removed.
    """

    name = "volumeattributesclass-protection-controller"
    interests = (
        Interest(VOLUME_ATTRIBUTES_CLASSES, own_key),
        Interest(PERSISTENT_VOLUME_CLAIMS, _of_claim),
        Interest(PERSISTENT_VOLUMES, _of_volume),
    )
    indexes = (
        Index("attributes-class", PERSISTENT_VOLUME_CLAIMS, classes_of_claim),
        Index("attributes-class", PERSISTENT_VOLUMES, classes_of_volume),
    )

    def start_memory(self, now: Instant) -> Unused:
        return Map()

    def reconcile(self, view: View, key: Key, now: Instant, local: Local) -> Plan:
        # Observe
        found: VolumeAttributesClass | None = view.get(VOLUME_ATTRIBUTES_CLASSES, key)
        memory: Unused = local.memory
        if found is None:
            return Plan(memory=memory.delete(key)) if key in memory else NOTHING
        if found.metadata.deletion_timestamp is None:
            return _set(VOLUME_ATTRIBUTES_CLASSES, found, ATTRIBUTES_CLASS_PROTECTION)

        # Decide
        if ATTRIBUTES_CLASS_PROTECTION not in (found.metadata.finalizers or ()):
            return NOTHING
        if any(view.indexed(one, "attributes-class", key) for one in _USERS):
            return Plan(memory=memory.delete(key)) if key in memory else NOTHING
        uid = found.metadata.uid or ""
        known, unused = memory.get(key, ("", frozenset()))
        if known != uid or len(unused) < len(_USERS):
            because = f"attributes class {key} is being deleted"
            questions = tuple([Request("list", one, because=because) for one in _USERS])
            memory = memory.set(key, (uid, frozenset()))
            return Plan(queries=questions, memory=memory, wake_at=now + RETRY)

        # Act
        because = "no claim or volume uses it"
        return _remove(VOLUME_ATTRIBUTES_CLASSES, found, ATTRIBUTES_CLASS_PROTECTION, because)

    def answered(
        self, memory: Unused, key: Key, request: Request, response: Response | None, now: Instant
    ) -> tuple[Unused, Iterable[Key]]:
        """Keep that no object of this list uses the class."""
        if response is None or not response.ok or key not in memory:
            return memory, ()
        names = _USERS[request.resource]
        if any(key in names(one) for one in response.body.items):
            return memory, ()
        uid, unused = memory[key]
        unused |= {request.resource.plural}
        return memory.set(key, (uid, unused)), (key,) if len(unused) == len(_USERS) else ()


_USERS: Final[dict[Resource, Callable[[Any], tuple[str, ...]]]] = {
    PERSISTENT_VOLUME_CLAIMS: classes_of_claim,
    PERSISTENT_VOLUMES: classes_of_volume,
}


def _set(resource: Resource, obj: Any, finalizer: str) -> Plan:
    """PROT-3: set a finalizer that was removed from an object that is not being deleted."""
    finalizers = obj.metadata.finalizers or ()
    if finalizer in finalizers:
        return NOTHING
    return _with(resource, obj, (*finalizers, finalizer), "it must not be removed while in use")


def _remove(resource: Resource, obj: Any, finalizer: str, because: str) -> Plan:
    return _with(
        resource, obj, tuple([one for one in obj.metadata.finalizers if one != finalizer]), because
    )


def _with(resource: Resource, obj: Any, finalizers: tuple[str, ...], because: str) -> Plan:
    body = replace(obj, metadata=replace(obj.metadata, finalizers=finalizers or None))
    return Plan(((update_of(resource, body, because),),))
