"""Volumes and claims: which claims a pod uses, and which volumes a claim can be bound to. Rules
VOL-1 to VOL-3 (spec/workloads/volume_binding.md).

Source: Kubernetes documentation, "Persistent Volumes" (Binding), "Storage Classes".
"""

from collections.abc import Iterable, Mapping
from typing import Any

from refk8s.core.api.core_v1 import PersistentVolume, PersistentVolumeClaim, Pod
from refk8s.core.api.quantity import parse
from refk8s.core.api.selector import SelectorError, from_label_selector
from refk8s.core.api.storage_v1 import StorageClass
from refk8s.core.pods.node_affinity import term_matches

BIND_COMPLETED = "pv.kubernetes.io/bind-completed"
BOUND_BY_CONTROLLER = "pv.kubernetes.io/bound-by-controller"
PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"
SELECTED_NODE = "volume.kubernetes.io/selected-node"
CLASS_ANNOTATION = "volume.beta.kubernetes.io/storage-class"
DEFAULT_CLASS_ANNOTATIONS = (
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
)
WAIT_FOR_FIRST_CONSUMER = "WaitForFirstConsumer"
LOCAL_PROVISIONER = "refk8s.io/local-path"
"""The provisioner of this project: directories of the node on which the first pod runs (VOL-10)."""
NO_PROVISIONER = "kubernetes.io/no-provisioner"
AVAILABLE, BOUND, RELEASED, FAILED = "Available", "Bound", "Released", "Failed"
PENDING, LOST = "Pending", "Lost"


def claims_of(pod: Pod) -> tuple[str, ...]:
    """The keys of the claims that a pod names, and of those of its ephemeral volumes."""
    claims: tuple[str, ...] = ()
    for volume in pod.spec.volumes or ():
        if volume.persistent_volume_claim is not None:
            claims += (f"{pod.metadata.namespace}/{volume.persistent_volume_claim.claim_name}",)
        elif volume.ephemeral is not None:
            claims += (f"{pod.metadata.namespace}/{pod.metadata.name}-{volume.name}",)
    return claims


def class_of(obj: PersistentVolumeClaim | PersistentVolume) -> str:
    """The name of the StorageClass of a claim or volume; empty without one."""
    annotation = (obj.metadata.annotations or {}).get(CLASS_ANNOTATION)
    return annotation or obj.spec.storage_class_name or ""


def has_class(claim: PersistentVolumeClaim) -> bool:
    """Whether the claim names a class, which may be the empty one."""
    return claim.spec.storage_class_name is not None or CLASS_ANNOTATION in (
        claim.metadata.annotations or {}
    )


def waits_for_consumer(one: StorageClass | None) -> bool:
    """Whether claims of this class are bound when a pod uses them."""
    return one is not None and one.volume_binding_mode == WAIT_FOR_FIRST_CONSUMER


def storage(amounts: Mapping[str, str] | None) -> int:
    """The amount of storage, in thousand millionths of a byte; 0 without one."""
    try:
        return parse((amounts or {}).get("storage", "0")).nano
    except ValueError:  # LOOP-12: validation rejects it, but an older version may have stored it.
        return 0


def key_of_claim_ref(volume: PersistentVolume) -> str:
    """The key of the claim for which the volume is reserved; empty without one."""
    reference = volume.spec.claim_ref
    return f"{reference.namespace}/{reference.name}" if reference is not None else ""


def is_reserved_for(volume: PersistentVolume, claim: PersistentVolumeClaim) -> bool:
    """Whether the volume's claimRef is this claim: by name, and by uid if it has one."""
    reference, metadata = volume.spec.claim_ref, claim.metadata
    return (
        reference is not None
        and (reference.namespace, reference.name) == (metadata.namespace, metadata.name)
        and (not reference.uid or reference.uid == metadata.uid)
    )


def why_not_bound(volume: PersistentVolume, claim: PersistentVolumeClaim) -> str:
    """Why the claim cannot be bound to this volume, in upstream's words (VOL-2); empty if it
    can."""
    if volume.metadata.deletion_timestamp is not None:
        return f'the volume is marked for deletion "{volume.metadata.name}"'
    if storage(volume.spec.capacity) < storage(claim.spec.resources.requests):
        return "requested PV is too small"
    if class_of(volume) != class_of(claim):
        return "storageClassName does not match"
    if (volume.spec.volume_mode or "Filesystem") != (claim.spec.volume_mode or "Filesystem"):
        return "incompatible volumeMode"
    if not set(claim.spec.access_modes or ()) <= set(volume.spec.access_modes or ()):
        return "incompatible accessMode"
    return ""


def is_selected(volume: PersistentVolume, claim: PersistentVolumeClaim) -> bool:
    """Whether the claim's selector, if it has one, matches the volume."""
    if claim.spec.selector is None:
        return True
    try:
        return from_label_selector(claim.spec.selector).matches(volume.metadata.labels or {})
    except SelectorError:
        return False


def reaches(volume: PersistentVolume, node: str, labels: Mapping[str, str]) -> bool:
    """Whether the volume can be used on a node with this name and these labels."""
    affinity = volume.spec.node_affinity
    required = affinity.required if affinity is not None else None
    if required is None:
        return True
    return any(term_matches(term, labels, node) for term in required.node_selector_terms or ())


def best_volume(
    claim: PersistentVolumeClaim, volumes: Iterable[PersistentVolume]
) -> PersistentVolume | None:
    """The volume that the claim is bound to (VOL-3): one that is reserved for it, else the smallest
    that is Available; of equal ones the first by name. O(volumes)."""
    best: tuple[bool, int, str] | None = None
    found: PersistentVolume | None = None
    for volume in volumes:
        is_reserved = is_reserved_for(volume, claim)
        if not is_reserved and (
            volume.spec.claim_ref is not None
            or volume.status.phase != AVAILABLE
            or not is_selected(volume, claim)
        ):
            continue
        if why_not_bound(volume, claim):
            continue
        rank = (not is_reserved, storage(volume.spec.capacity), volume.metadata.name or "")
        if best is None or rank < best:
            best, found = rank, volume
    return found


def unclaimed(volume: PersistentVolume) -> list[Any]:
    """The entries of an index of volumes by the class of those that no claim has, and by the claim
    for which the others are reserved."""
    if volume.spec.claim_ref is not None:
        return [f"claim/{key_of_claim_ref(volume)}"]
    return [f"class/{class_of(volume)}"] if volume.status.phase == AVAILABLE else []
