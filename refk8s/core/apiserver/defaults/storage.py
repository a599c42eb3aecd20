"""Defaults of volumes, claims and storage classes. Rule DEF-17 (spec/defaults.md).

Source: Kubernetes documentation, "Persistent Volumes", "Storage Classes"; API reference,
"CSIDriver".
"""

from typing import Any

from msgspec.structs import replace

from refk8s.core.api.core_v1 import (
    PersistentVolume,
    PersistentVolumeClaim,
    PersistentVolumeSpec,
)
from refk8s.core.api.storage_v1 import CSIDriver, StorageClass, VolumeAttachment
from refk8s.core.apiserver.defaults.volume import default_claim_spec, default_rare_source


def default_persistent_volume(volume: PersistentVolume) -> PersistentVolume:
    """DEF-17: phase Pending, mode Filesystem, reclaim policy Retain."""
    spec, status = volume.spec, volume.status
    changed: dict[str, Any] = {}
    if not spec.persistent_volume_reclaim_policy:
        changed["persistent_volume_reclaim_policy"] = "Retain"
    if spec.volume_mode is None:
        changed["volume_mode"] = "Filesystem"
    changed |= _default_source(spec)
    if changed:
        spec = replace(spec, **changed)
    if not status.phase:
        status = replace(status, phase="Pending")
    return (
        volume
        if spec is volume.spec and status is volume.status
        else replace(volume, spec=spec, status=status)
    )


def _default_source(spec: PersistentVolumeSpec) -> dict[str, Any]:
    """The changed attributes of the source of a volume."""
    changed = default_rare_source(spec)
    if spec.host_path is not None and spec.host_path.type is None:
        changed["host_path"] = replace(spec.host_path, type="")
    return changed


def default_volume_attachment(attachment: VolumeAttachment) -> VolumeAttachment:
    """DEF-17: of an inline volume only the source has defaults."""
    source = attachment.spec.source
    inline = source.inline_volume_spec
    changed = _default_source(inline) if inline is not None else None
    if inline is None or not changed:
        return attachment
    source = replace(source, inline_volume_spec=replace(inline, **changed))
    return replace(attachment, spec=replace(attachment.spec, source=source))


def default_persistent_volume_claim(claim: PersistentVolumeClaim) -> PersistentVolumeClaim:
    """DEF-17: phase Pending, mode Filesystem."""
    spec = default_claim_spec(claim.spec)
    if spec is claim.spec and claim.status.phase:
        return claim
    return replace(
        claim,
        spec=spec,
        status=claim.status if claim.status.phase else replace(claim.status, phase="Pending"),
    )


def default_storage_class(storage_class: StorageClass) -> StorageClass:
    """DEF-17: binding mode Immediate, reclaim policy Delete."""
    if storage_class.reclaim_policy is not None and storage_class.volume_binding_mode is not None:
        return storage_class
    return replace(
        storage_class,
        reclaim_policy="Delete"
        if storage_class.reclaim_policy is None
        else storage_class.reclaim_policy,
        volume_binding_mode="Immediate"
        if storage_class.volume_binding_mode is None
        else storage_class.volume_binding_mode,
    )


def default_csi_driver(driver: CSIDriver) -> CSIDriver:
    """DEF-17: attachment is required, no pod info on mount, lifecycle mode Persistent."""
    spec = driver.spec
    plain = {
        "attach_required": True, "pod_info_on_mount": False, "storage_capacity": False, "requires_republish": False,
        "se_linux_mount": False, "fs_group_policy": "ReadWriteOnceWithFSType",
    }  # fmt: skip
    changed: dict[str, Any] = {
        name: value for name, value in plain.items() if getattr(spec, name) is None
    }
    if not spec.volume_lifecycle_modes:
        changed["volume_lifecycle_modes"] = ("Persistent",)
    return replace(driver, spec=replace(spec, **changed)) if changed else driver
