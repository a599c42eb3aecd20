"""PersistentVolumes: their phase, and what becomes of them when their claim is gone. Rules VOL-7,
VOL-8 (spec/workloads/volume_binding.md).

    claimRef                     claim                    phase
    none, or without uid                                  Available
    of a claim                   names this volume        Bound
    of a claim                   names none yet           unchanged: claim_binding.py goes on
    of a claim                   is gone                  Released
    of a claim                   names another volume     the claimRef is removed

Source: Kubernetes documentation, "Persistent Volumes" (Phase, Reclaiming).
"""

from collections.abc import Iterable
from typing import TypeAlias

from immutables import Map
from msgspec.structs import replace

from refk8s.core.api.core_v1 import PersistentVolume, PersistentVolumeClaim
from refk8s.core.api.request import Request, Response
from refk8s.core.api.resources import PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES
from refk8s.core.api.user import service_account_user
from refk8s.core.context import SECOND, Instant
from refk8s.core.controllers.claim_binding import write
from refk8s.core.controllers.local_provisioner import is_ours
from refk8s.core.controllers.owners import deletion
from refk8s.core.loop.plan import NOTHING, Key, Local, Plan
from refk8s.core.loop.reconciler import Interest, Reconciler, own_key
from refk8s.core.loop.view import Index, View, key_of
from refk8s.core.pods.volumes import (
    AVAILABLE,
    BOUND,
    BOUND_BY_CONTROLLER,
    FAILED,
    RELEASED,
    key_of_claim_ref,
)

RETRY: Instant = 10 * SECOND
Memory: TypeAlias = Map[Key, tuple[str, bool]]


def _by_claim(volume: PersistentVolume) -> list[str]:
    key = key_of_claim_ref(volume)
    return [key] if key else []


def _of_claim(
    view: View, old: PersistentVolumeClaim | None, new: PersistentVolumeClaim | None
) -> Iterable[Key]:
    """The volumes that are reserved for this claim, or that it names."""
    found: dict[Key, None] = {}
    for claim in (old, new):
        if claim is not None and claim.spec.volume_name:
            found[claim.spec.volume_name] = None
    one = new if new is not None else old
    if one is not None:
        found.update(dict.fromkeys(view.indexed_keys(PERSISTENT_VOLUMES, "reserved", key_of(one))))
    return found


class VolumePhase(Reconciler):
    """Writes the phase of one volume. The view of claims may be behind that of volumes, so the
    claim of a volume is read from the API server before it counts as gone. The memory has the uid
    of the claim that was asked for, and whether it is gone."""

    name = "persistent-volume-releaser"
    user = service_account_user("kube-system", "persistent-volume-binder")
    component = "persistentvolume-controller"
    interests = (
        Interest(PERSISTENT_VOLUMES, own_key),
        Interest(PERSISTENT_VOLUME_CLAIMS, _of_claim),
    )
    indexes = (Index("reserved", PERSISTENT_VOLUMES, _by_claim),)

    def start_memory(self, now: Instant) -> Memory:
        return Map()

    def reconcile(self, view: View, key: Key, now: Instant, local: Local) -> Plan:
        # Observe
        memory: Memory = local.memory
        volume: PersistentVolume | None = view.get(PERSISTENT_VOLUMES, key)
        if volume is None:
            return Plan(memory=memory.delete(key)) if key in memory else NOTHING
        reference = volume.spec.claim_ref
        if reference is None or not reference.uid:
            return with_phase(volume, AVAILABLE)
        claim: PersistentVolumeClaim | None = view.get(
            PERSISTENT_VOLUME_CLAIMS, key_of_claim_ref(volume)
        )

        # Decide
        if claim is not None and claim.metadata.uid == reference.uid:
            if claim.spec.volume_name == key:
                return with_phase(volume, BOUND)
            return give_up(volume) if claim.spec.volume_name else NOTHING
        if volume.status.phase in (RELEASED, FAILED):
            return reclaim(volume)
        if memory.get(key) == (reference.uid, True):
            return replace(with_phase(volume, RELEASED), memory=memory.delete(key))
        question = Request(
            "get",
            PERSISTENT_VOLUME_CLAIMS,
            reference.namespace or "",
            reference.name or "",
            because=f"volume {key} is reserved for it",
        )
        asked = memory.set(key, (reference.uid, False))
        return Plan(queries=(question,), memory=asked, wake_at=now + RETRY)

    def answered(
        self, memory: Memory, key: Key, request: Request, response: Response | None, now: Instant
    ) -> tuple[Memory, Iterable[Key]]:
        """Keep whether the claim is gone."""
        if response is None or key not in memory or (response.code != 404 and not response.ok):
            return memory, ()
        uid, _ = memory[key]
        if response.ok and response.body.metadata.uid == uid:
            return memory, ()  # the view will show it
        return memory.set(key, (uid, True)), (key,)


def reclaim(volume: PersistentVolume) -> Plan:
    """VOL-10: a Released volume of this project is deleted, if its reclaim policy says so."""
    is_deleted = volume.spec.persistent_volume_reclaim_policy == "Delete" and is_ours(volume)
    if not is_deleted or volume.metadata.deletion_timestamp is not None:
        return NOTHING
    return Plan(((deletion(PERSISTENT_VOLUMES, volume, "its claim is gone"),),))


def give_up(volume: PersistentVolume) -> Plan:
    """VOL-8: the claim has another volume. What this controller reserved becomes free; a
    reservation of a user stays, without the uid."""
    annotations = dict(volume.metadata.annotations or {})
    if annotations.pop(BOUND_BY_CONTROLLER, None) is None:
        assert volume.spec.claim_ref is not None
        reference = replace(volume.spec.claim_ref, uid=None, resource_version=None)
        body = replace(volume, spec=replace(volume.spec, claim_ref=reference))
        return write(PERSISTENT_VOLUMES, body, "its claim has another volume")
    body = replace(
        volume,
        metadata=replace(volume.metadata, annotations=annotations or None),
        spec=replace(volume.spec, claim_ref=None),
    )
    return write(PERSISTENT_VOLUMES, body, "its claim has another volume")


def with_phase(volume: PersistentVolume, phase: str) -> Plan:
    """Write the phase if it differs."""
    if volume.status.phase == phase:
        return NOTHING
    status = replace(volume.status, phase=phase, message=None, reason=None)
    because = f"it is {phase}"
    return write(PERSISTENT_VOLUMES, replace(volume, status=status), because, "status")
