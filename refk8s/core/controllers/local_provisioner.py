"""Volumes that this project provisions: directories of a node. Rules VOL-10, VOL-11
(spec/workloads/volume_binding.md).

Source: Kubernetes documentation, "Dynamic Volume Provisioning", "Storage Classes" (Local).
"""

from msgspec.structs import replace

from refk8s.core.api.core_v1 import (
    HostPathVolumeSource,
    NodeSelector,
    NodeSelectorRequirement,
    NodeSelectorTerm,
    ObjectReference,
    PersistentVolume,
    PersistentVolumeClaim,
    PersistentVolumeSpec,
    VolumeNodeAffinity,
)
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.storage_v1 import StorageClass
from refk8s.core.pods.volumes import LOCAL_PROVISIONER, PROVISIONED_BY, SELECTED_NODE, storage

PATH = "path"  # the parameter of the class
PATH_DEFAULT = "/var/lib/refk8s/volumes"
HOSTNAME = "kubernetes.io/hostname"


def new_volume(
    claim: PersistentVolumeClaim, storage_class: StorageClass, reference: ObjectReference
) -> PersistentVolume:
    """The volume for the claim, on its selected node: a directory that is created when a pod mounts
    it. `reference`: the claimRef (VOL-10)."""
    name = f"pvc-{claim.metadata.uid}"
    node = (claim.metadata.annotations or {})[SELECTED_NODE]
    parent = (storage_class.parameters or {}).get(PATH, PATH_DEFAULT).rstrip("/")
    here = NodeSelectorRequirement(key=HOSTNAME, operator="In", values=(node,))
    terms = (NodeSelectorTerm(match_expressions=(here,)),)
    spec = PersistentVolumeSpec(
        capacity={"storage": (claim.spec.resources.requests or {}).get("storage", "0")},
        access_modes=claim.spec.access_modes,
        claim_ref=reference,
        persistent_volume_reclaim_policy=storage_class.reclaim_policy,
        storage_class_name=storage_class.metadata.name,
        volume_mode=claim.spec.volume_mode,
        host_path=HostPathVolumeSource(path=f"{parent}/{name}", type="DirectoryOrCreate"),
        node_affinity=VolumeNodeAffinity(required=NodeSelector(node_selector_terms=terms)),
    )
    metadata = ObjectMeta(name=name, annotations={PROVISIONED_BY: LOCAL_PROVISIONER})
    return PersistentVolume(metadata=metadata, spec=spec)


def is_ours(volume: PersistentVolume) -> bool:
    """Whether this provisioner has made the volume."""
    return (volume.metadata.annotations or {}).get(PROVISIONED_BY) == LOCAL_PROVISIONER


def is_too_small(volume: PersistentVolume, claim: PersistentVolumeClaim) -> bool:
    """Whether the claim has been enlarged beyond the capacity of its volume."""
    return storage(claim.spec.resources.requests) > storage(volume.spec.capacity)


def enlarged(volume: PersistentVolume, claim: PersistentVolumeClaim) -> PersistentVolume:
    """The volume with the capacity that the claim requests (VOL-11)."""
    wanted = (claim.spec.resources.requests or {})["storage"]
    capacity = {**(volume.spec.capacity or {}), "storage": wanted}
    return replace(volume, spec=replace(volume.spec, capacity=capacity))
