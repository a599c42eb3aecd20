"""PersistentVolumeClaims: each is bound to one volume. Rules VOL-1 to VOL-6
(spec/workloads/volume_binding.md).

    claim                         volume                          next write
    Pending, without volumeName   fits                            the volume's claimRef
    Pending, without volumeName   has the claim's uid             the claim's volumeName
    with volumeName               has the claim's uid             the claim's status: Bound
    bound                         missing, or of another claim    the claim's status: Lost

A volume is bound when both sides name each other. Each plan writes one of them; the next plan sees
it. `volume_phase.py` has the phases of volumes. Source: Kubernetes documentation, "Persistent
Volumes", "Storage Classes".
"""

from collections.abc import Iterable
from typing import Any

from msgspec.structs import replace

from refk8s.core.api.core_v1 import (
    PersistentVolume,
    PersistentVolumeClaim,
    PersistentVolumeClaimStatus,
)
from refk8s.core.api.default_class import default_class
from refk8s.core.api.object_reference import object_reference
from refk8s.core.api.request import Request, update_of
from refk8s.core.api.resources import (
    PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    STORAGE_CLASSES,
    Resource,
)
from refk8s.core.api.storage_v1 import StorageClass
from refk8s.core.context import Instant
from refk8s.core.controllers.local_provisioner import (
    enlarged,
    is_ours,
    is_too_small,
    new_volume,
)
from refk8s.core.loop.plan import NOTHING, Key, Local, Note, Plan
from refk8s.core.loop.reconciler import Interest, Reconciler, own_key
from refk8s.core.loop.view import Index, View, key_of
from refk8s.core.pods.volumes import (
    BIND_COMPLETED,
    BOUND,
    BOUND_BY_CONTROLLER,
    DEFAULT_CLASS_ANNOTATIONS,
    LOCAL_PROVISIONER,
    LOST,
    PENDING,
    SELECTED_NODE,
    best_volume,
    class_of,
    has_class,
    is_reserved_for,
    key_of_claim_ref,
    storage,
    unclaimed,
    waits_for_consumer,
    why_not_bound,
)

PROVISIONER = "volume.kubernetes.io/storage-provisioner"
OLD_PROVISIONER = "volume.beta.kubernetes.io/storage-provisioner"
BUILT_IN = "kubernetes.io/"


def _waiting(claim: PersistentVolumeClaim) -> list[str]:
    """The entries of the index of claims that wait for a volume, by class."""
    if claim.spec.volume_name or BIND_COMPLETED in (claim.metadata.annotations or {}):
        return [f"volume/{claim.spec.volume_name}"] if claim.spec.volume_name else []
    return [f"class/{class_of(claim)}", *(() if has_class(claim) else ("default",))]


def _of_volume(
    view: View, old: PersistentVolume | None, new: PersistentVolume | None
) -> Iterable[Key]:
    """The claims that name this volume or for which it is reserved; those that wait for a volume of
    its class, if it has become available."""
    found: dict[Key, None] = {}
    for volume in (old, new):
        if volume is not None:
            found[key_of_claim_ref(volume)] = None
    one = new if new is not None else old
    if one is not None:
        keys = view.indexed_keys(PERSISTENT_VOLUME_CLAIMS, "volume", f"volume/{one.metadata.name}")
        found.update(dict.fromkeys(keys))
    if (
        new is not None
        and (entries := unclaimed(new))
        and (old is None or unclaimed(old) != entries or old.spec is not new.spec)
    ):
        for entry in entries:
            found.update(
                dict.fromkeys(view.indexed_keys(PERSISTENT_VOLUME_CLAIMS, "volume", entry))
            )
    found.pop("", None)
    return found


def _of_class(view: View, old: StorageClass | None, new: StorageClass | None) -> Iterable[Key]:
    """The claims that wait for a volume of this class, and those without a class."""
    one = new if new is not None else old
    name = one.metadata.name if one is not None else ""
    waiting = view.indexed_keys(PERSISTENT_VOLUME_CLAIMS, "volume", f"class/{name}")
    return [*waiting, *view.indexed_keys(PERSISTENT_VOLUME_CLAIMS, "volume", "default")]


class ClaimBinder(Reconciler):
    """Binds one claim."""

    name = "persistent-volume-binder"
    component = "persistentvolume-controller"
    interests = (
        Interest(PERSISTENT_VOLUME_CLAIMS, own_key),
        Interest(PERSISTENT_VOLUMES, _of_volume),
        Interest(STORAGE_CLASSES, _of_class),
    )
    indexes = (
        Index("volume", PERSISTENT_VOLUME_CLAIMS, _waiting),
        Index("unclaimed", PERSISTENT_VOLUMES, unclaimed),
    )

    def reconcile(self, view: View, key: Key, now: Instant, local: Local) -> Plan:
        """The next write that binds the claim. O(volumes of its class)."""
        # Observe
        claim: PersistentVolumeClaim | None = view.get(PERSISTENT_VOLUME_CLAIMS, key)
        if claim is None:
            return NOTHING
        name = claim.spec.volume_name or ""
        volume: PersistentVolume | None = view.get(PERSISTENT_VOLUMES, name) if name else None
        is_bound = BIND_COMPLETED in (claim.metadata.annotations or {})

        # Decide
        if is_bound:
            return of_bound(claim, volume)
        if claim.metadata.deletion_timestamp is not None:
            return NOTHING
        if not name:
            return of_unbound(view, claim)
        if volume is None:
            return with_phase(claim, PENDING)
        return of_named(claim, volume)


def of_bound(claim: PersistentVolumeClaim, volume: PersistentVolume | None) -> Plan:
    """VOL-6: a bound claim is Lost when its volume is gone or has another claim."""
    if not claim.spec.volume_name:
        words = "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!"
        return lost(claim, "ClaimLost", words)
    if volume is None:
        words = "Bound claim has lost its PersistentVolume. Data on the volume is lost!"
        return lost(claim, "ClaimLost", words)
    reference = volume.spec.claim_ref
    if reference is None:
        return reserve(claim, volume)
    if reference.uid == claim.metadata.uid:
        plan = with_status(claim, bound_status(claim, volume))
        return of_enlarged(claim, volume) if plan is NOTHING else plan
    words = "Two claims are bound to the same volume, this one is bound incorrectly"
    return lost(claim, "ClaimMisbound", words)


def of_enlarged(claim: PersistentVolumeClaim, volume: PersistentVolume) -> Plan:
    """VOL-11: a volume of this project grows with its claim; of others the driver enlarges it."""
    if storage(claim.spec.resources.requests) <= storage(claim.status.capacity):
        return NOTHING
    if not is_ours(volume):
        words = "waiting for an external controller to expand this PVC"
        return Plan(notes=(Note(claim, "ExternalExpanding", words),))
    if is_too_small(volume, claim):
        return write(PERSISTENT_VOLUMES, enlarged(volume, claim), "its claim is larger")
    capacity = {
        **(claim.status.capacity or {}),
        "storage": (volume.spec.capacity or {})["storage"],
    }
    return with_status(claim, replace(claim.status, capacity=capacity))


def of_unbound(view: View, claim: PersistentVolumeClaim) -> Plan:
    """VOL-3 to VOL-5: reserve the best volume, else say what the claim waits for."""
    if not has_class(claim):
        name = default_class(view.list(STORAGE_CLASSES), DEFAULT_CLASS_ANNOTATIONS)
        if name:  # VOL-5
            body = replace(claim, spec=replace(claim.spec, storage_class_name=name))
            return write(PERSISTENT_VOLUME_CLAIMS, body, "it gets the default class")
    storage_class: StorageClass | None = view.get(STORAGE_CLASSES, class_of(claim))
    is_chosen = SELECTED_NODE in (claim.metadata.annotations or {})
    is_delayed = waits_for_consumer(storage_class) and not is_chosen
    candidates = view.indexed(PERSISTENT_VOLUMES, "unclaimed", f"claim/{key_of(claim)}")
    if not is_delayed:
        candidates += view.indexed(PERSISTENT_VOLUMES, "unclaimed", f"class/{class_of(claim)}")
    volume = best_volume(claim, candidates)
    if volume is not None:
        is_reserved = volume.spec.claim_ref is not None and bool(volume.spec.claim_ref.uid)
        return name_volume(claim, volume) if is_reserved else reserve(claim, volume)
    plan = with_phase(claim, PENDING)
    if (
        storage_class is not None
        and storage_class.provisioner == LOCAL_PROVISIONER
        and is_chosen
        and plan is NOTHING
    ):
        return provision(view, claim, storage_class)
    notes = (waiting_note(claim, storage_class, is_delayed),)
    if plan is NOTHING and storage_class is not None and not is_delayed:
        plan = ask_provisioner(claim, storage_class)
    return replace(plan, notes=notes)


def waiting_note(
    claim: PersistentVolumeClaim, storage_class: StorageClass | None, is_delayed: bool
) -> Note:
    """The Event that says what the claim waits for (VOL-4)."""
    if is_delayed:
        words = "waiting for first consumer to be created before binding"
        return Note(claim, "WaitForFirstConsumer", words)
    name = class_of(claim)
    if not name:
        words = "no persistent volumes available for this claim and no storage class is set"
        return Note(claim, "FailedBinding", words)
    if storage_class is None:
        words = f'storageclass.storage.k8s.io "{name}" not found'
        return Note(claim, "ProvisioningFailed", words, "Warning")
    provisioner = storage_class.provisioner
    if provisioner == LOCAL_PROVISIONER:
        words = f"{provisioner} needs a class with volumeBindingMode: WaitForFirstConsumer"
        return Note(claim, "ProvisioningFailed", words, "Warning")
    if provisioner.startswith(BUILT_IN):
        words = f"no volume plugin matched name: {provisioner}"
        return Note(claim, "ProvisioningFailed", words, "Warning")
    words = (
        f"Waiting for a volume to be created either by the external provisioner '{provisioner}' "
        "or manually by the system "
        "administrator. If volume creation is delayed, "
        "please verify that the provisioner is running and correctly registered."
    )
    return Note(claim, "ExternalProvisioning", words)


def ask_provisioner(claim: PersistentVolumeClaim, storage_class: StorageClass) -> Plan:
    """VOL-4: the claim's annotations ask an external program for a volume."""
    provisioner = storage_class.provisioner
    annotations = claim.metadata.annotations or {}
    if (
        provisioner == LOCAL_PROVISIONER
        or provisioner.startswith(BUILT_IN)
        or annotations.get(PROVISIONER) == provisioner
    ):
        return NOTHING
    marks = {PROVISIONER: provisioner, OLD_PROVISIONER: provisioner}
    metadata = replace(claim.metadata, annotations={**annotations, **marks})
    body = replace(claim, metadata=metadata)
    return write(PERSISTENT_VOLUME_CLAIMS, body, f"{provisioner} makes its volume")


def provision(view: View, claim: PersistentVolumeClaim, storage_class: StorageClass) -> Plan:
    """VOL-10: create the volume, reserved for the claim, unless it is there."""
    volume = new_volume(claim, storage_class, object_reference(claim))
    name = volume.metadata.name or ""
    if view.get(PERSISTENT_VOLUMES, name) is not None:
        return NOTHING
    note = Note(claim, "ProvisioningSucceeded", f"Successfully provisioned volume {name}")
    because = f"claim {key_of(claim)} needs it"
    request = Request("create", PERSISTENT_VOLUMES, body=volume, because=because, note=note)
    return Plan(((request,),))


def of_named(claim: PersistentVolumeClaim, volume: PersistentVolume) -> Plan:
    """A claim that names its volume gets it, if that fits and has no other claim."""
    if volume.spec.claim_ref is not None and is_reserved_for(volume, claim):
        if not volume.spec.claim_ref.uid:
            return reserve(claim, volume)
        return name_volume(claim, volume)
    if volume.spec.claim_ref is not None:
        return with_phase(claim, PENDING)
    mismatch = why_not_bound(volume, claim)
    if not mismatch:
        return reserve(claim, volume)
    words = f'Cannot bind to requested volume "{volume.metadata.name}": {mismatch}'
    note = Note(claim, "VolumeMismatch", words, "Warning")
    return replace(with_phase(claim, PENDING), notes=(note,))


# --- writes ---------------------------------------------------------------------------------------


def reserve(claim: PersistentVolumeClaim, volume: PersistentVolume) -> Plan:
    """Write the volume's claimRef. The annotation tells that nobody else reserved it."""
    metadata = volume.metadata
    if volume.spec.claim_ref is None:
        annotations = {**(metadata.annotations or {}), BOUND_BY_CONTROLLER: "yes"}
        metadata = replace(metadata, annotations=annotations)
    spec = replace(volume.spec, claim_ref=object_reference(claim))
    body = replace(volume, metadata=metadata, spec=spec)
    return write(PERSISTENT_VOLUMES, body, f"claim {key_of(claim)} gets it")


def name_volume(claim: PersistentVolumeClaim, volume: PersistentVolume) -> Plan:
    """Write the claim's volumeName, which completes the binding."""
    marks = {BIND_COMPLETED: "yes"}
    if not claim.spec.volume_name:
        marks[BOUND_BY_CONTROLLER] = "yes"
    annotations = {**(claim.metadata.annotations or {}), **marks}
    body = replace(
        claim,
        metadata=replace(claim.metadata, annotations=annotations),
        spec=replace(claim.spec, volume_name=volume.metadata.name),
    )
    return write(
        PERSISTENT_VOLUME_CLAIMS, body, f"volume {volume.metadata.name} is reserved for it"
    )


def bound_status(
    claim: PersistentVolumeClaim, volume: PersistentVolume
) -> PersistentVolumeClaimStatus:
    """Bound, with the access modes of the volume, and its capacity unless one is known already."""
    status = claim.status
    capacity = status.capacity or {}
    if "storage" not in capacity and "storage" in (volume.spec.capacity or {}):
        capacity = {**capacity, "storage": (volume.spec.capacity or {})["storage"]}
    return replace(
        status, phase=BOUND, access_modes=volume.spec.access_modes, capacity=capacity or None
    )


def lost(claim: PersistentVolumeClaim, reason: str, words: str) -> Plan:
    """The phase Lost, with its Event when it is new."""
    status = replace(claim.status, phase=LOST, access_modes=None, capacity=None)
    plan = with_status(claim, status)
    return replace(plan, notes=(Note(claim, reason, words, "Warning"),)) if plan.waves else plan


def with_phase(claim: PersistentVolumeClaim, phase: str) -> Plan:
    return with_status(claim, replace(claim.status, phase=phase))


def with_status(claim: PersistentVolumeClaim, status: PersistentVolumeClaimStatus) -> Plan:
    """Write the claim's status if it differs."""
    if status == claim.status:
        return NOTHING
    because = f"it is {status.phase}"
    return write(PERSISTENT_VOLUME_CLAIMS, replace(claim, status=status), because, "status")


def write(resource: Resource, body: Any, because: str, subresource: str = "") -> Plan:
    return Plan(((update_of(resource, body, because, subresource),),))
