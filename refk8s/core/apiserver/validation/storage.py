"""Persistent volumes, claims and storage classes. Rule VAL-29 (spec/validation.md).

Source: Kubernetes documentation, "Persistent Volumes" (access modes, reclaiming, expanding), "Storage Classes".
Left out: the fields of storage systems that have no driver here.
"""

from typing import Any

from msgspec.structs import replace

from refk8s.core.api.core_v1 import PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimSpec
from refk8s.core.api.storage_v1 import CSIDriver, StorageClass
from refk8s.core.apiserver.validation.field import Causes, forbidden, invalid, not_supported, required, unchanged
from refk8s.core.apiserver.validation.names import dns_subdomain, qualified_name
from refk8s.core.apiserver.validation.resources import amount, validate_quantity
from refk8s.core.apiserver.validation.selectors import validate_node_selector, validate_selector
from refk8s.core.apiserver.validation.volume import validate_host_path

ACCESS_MODES = ("ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod")
RECLAIM_POLICIES = ("Delete", "Recycle", "Retain")
VOLUME_MODES = ("Block", "Filesystem")
BINDING_MODES = ("Immediate", "WaitForFirstConsumer")

# A volume's sources, by attribute and name on the wire.
SOURCES = (
    ("host_path", "hostPath"), ("gce_persistent_disk", "gcePersistentDisk"), ("aws_elastic_block_store", "awsElasticBlockStore"),
    ("glusterfs", "glusterfs"), ("flocker", "flocker"), ("nfs", "nfs"), ("rbd", "rbd"), ("quobyte", "quobyte"), ("cephfs", "cephfs"),
    ("iscsi", "iscsi"), ("cinder", "cinder"), ("fc", "fc"), ("flex_volume", "flexVolume"), ("azure_file", "azureFile"),
    ("vsphere_volume", "vsphereVolume"), ("photon_persistent_disk", "photonPersistentDisk"), ("portworx_volume", "portworxVolume"),
    ("azure_disk", "azureDisk"), ("scale_io", "scaleIO"), ("local", "local"), ("storageos", "storageos"), ("csi", "csi"),
)  # fmt: skip


def _validate_modes(modes: tuple[str, ...], at: str) -> Causes:
    causes = [not_supported(at, mode, ACCESS_MODES) for mode in modes if mode not in ACCESS_MODES]
    if "ReadWriteOncePod" in modes and len(modes) > 1:
        causes.append(forbidden(at, "may not use ReadWriteOncePod with other access modes"))
    return causes


def validate_persistent_volume(volume: PersistentVolume) -> Causes:
    """VAL-29: modes, a capacity of storage, and one source."""
    spec = volume.spec
    causes: Causes = []
    if not spec.access_modes:
        causes.append(required("spec.accessModes"))
    causes += _validate_modes(spec.access_modes or (), "spec.accessModes")
    if not spec.capacity:
        causes.append(required("spec.capacity"))
    elif "storage" not in spec.capacity or len(spec.capacity) > 1:
        causes.append(not_supported("spec.capacity", spec.capacity, ("storage",)))
    for name, text in (spec.capacity or {}).items():
        causes += validate_quantity(text, f"spec.capacity[{name}]")
        number = amount(text)
        if number is not None and number.nano == 0:
            causes.append(invalid(f"spec.capacity[{name}]", text, "must be greater than zero"))
    policy = spec.persistent_volume_reclaim_policy
    if policy and policy not in RECLAIM_POLICIES:
        causes.append(not_supported("spec.persistentVolumeReclaimPolicy", policy, RECLAIM_POLICIES))
    if spec.node_affinity is not None:
        if spec.node_affinity.required is None:
            causes.append(required("spec.nodeAffinity.required", "must specify required node constraints"))
        else:
            causes += validate_node_selector(spec.node_affinity.required, "spec.nodeAffinity.required")
    given = [name for attribute, name in SOURCES if getattr(spec, attribute) is not None]
    if not given:
        causes.append(required("spec", "must specify a volume type"))
    causes += [forbidden(f"spec.{name}", "may not specify more than 1 volume type") for name in given[1:]]
    if spec.host_path is not None and given[0] == "hostPath":
        causes += validate_host_path(spec.host_path.path, spec.host_path.type, "spec.hostPath")
        if spec.host_path.path == "/" and policy == "Recycle":
            causes.append(forbidden("spec.persistentVolumeReclaimPolicy", "may not be 'recycle' for a hostPath mount of '/'"))
    if spec.local is not None:
        if not spec.local.path:
            causes.append(required("spec.local.path"))
        if spec.node_affinity is None:
            causes.append(required("spec.nodeAffinity", "Local volume requires node affinity"))
    if spec.storage_class_name:
        causes += [invalid("spec.storageClassName", spec.storage_class_name, word) for word in dns_subdomain(spec.storage_class_name)]
    if spec.volume_mode is not None and spec.volume_mode not in VOLUME_MODES:
        causes.append(not_supported("spec.volumeMode", spec.volume_mode, VOLUME_MODES))
    return causes


def validate_persistent_volume_update(new: PersistentVolume, old: PersistentVolume) -> Causes:
    """VAL-29: where the data lies does not change."""
    causes = validate_persistent_volume(new)
    if any(getattr(new.spec, attribute) != getattr(old.spec, attribute) for attribute, _ in SOURCES):
        causes.append(forbidden("spec.persistentvolumesource", "spec.persistentvolumesource is immutable after creation"))
    causes += unchanged("spec.volumeMode", new.spec.volume_mode, old.spec.volume_mode)
    if old.spec.node_affinity is not None:
        causes += unchanged("spec.nodeAffinity", new.spec.node_affinity, old.spec.node_affinity)
    return causes


def validate_persistent_volume_claim(claim: PersistentVolumeClaim) -> Causes:
    return _validate_claim_spec(claim.spec, "spec")


def _validate_claim_spec(spec: PersistentVolumeClaimSpec, at: str) -> Causes:
    """VAL-29: modes, and how much."""
    causes: Causes = []
    if not spec.access_modes:
        causes.append(required(f"{at}.accessModes", "at least 1 access mode is required"))
    causes += validate_selector(spec.selector, f"{at}.selector")
    causes += _validate_modes(spec.access_modes or (), f"{at}.accessModes")
    size = (spec.resources.requests or {}).get("storage")
    if size is None:
        causes.append(required(f"{at}.resources[storage]"))
    else:
        number = amount(size)
        if number is None or number.nano <= 0:
            causes.append(invalid(f"{at}.resources[storage]", size, "must be greater than zero"))
    if spec.storage_class_name:
        causes += [invalid(f"{at}.storageClassName", spec.storage_class_name, word) for word in dns_subdomain(spec.storage_class_name)]
    if spec.volume_mode is not None and spec.volume_mode not in VOLUME_MODES:
        causes.append(not_supported(f"{at}.volumeMode", spec.volume_mode, VOLUME_MODES))
    return causes


def validate_persistent_volume_claim_update(new: PersistentVolumeClaim, old: PersistentVolumeClaim) -> Causes:
    """VAL-29: a claim gets a volume once, may then grow and take another attributes class, and is else as it was."""
    before, after = old.spec, new.spec
    if after == before:
        return []
    causes = _validate_claim_spec(after, "spec")
    bound = old.status.phase == "Bound"
    changed: dict[str, Any] = {}
    if not before.volume_name:
        changed["volume_name"] = before.volume_name
        if before.storage_class_name is None:
            changed["storage_class_name"] = None  # a default class that came later
    if bound:
        changed["volume_attributes_class_name"] = before.volume_attributes_class_name
        size = (after.resources.requests or {}).get("storage")
        previous = (before.resources.requests or {}).get("storage")
        if size is not None and previous is not None:
            requests = {**(after.resources.requests or {}), "storage": previous}
            changed["resources"] = replace(after.resources, requests=requests)
            wanted, had = amount(size), amount(previous)
            if wanted is not None and had is not None and wanted.nano < had.nano:
                causes.append(forbidden("spec.resources.requests.storage", "field can not be less than previous value"))
    if replace(after, **changed) != before:
        words = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims"
        causes.append(forbidden("spec", words))
    return causes


def validate_storage_class(storage_class: StorageClass) -> Causes:
    causes: Causes = []
    if not storage_class.provisioner:
        causes.append(required("provisioner", storage_class.provisioner))
    else:
        causes += [invalid("provisioner", storage_class.provisioner, word) for word in qualified_name(storage_class.provisioner.lower())]
    for key in storage_class.parameters or {}:
        if not key:
            causes.append(invalid("parameters", key, "field can not be empty."))
    policy = storage_class.reclaim_policy
    if policy and policy not in ("Delete", "Retain"):
        causes.append(not_supported("reclaimPolicy", policy, ("Delete", "Retain")))
    mode = storage_class.volume_binding_mode
    if mode is None:
        causes.append(required("volumeBindingMode"))
    elif mode not in BINDING_MODES:
        causes.append(not_supported("volumeBindingMode", mode, BINDING_MODES))
    return causes


def validate_storage_class_update(new: StorageClass, old: StorageClass) -> Causes:
    """VAL-29: what a class makes its volumes of does not change."""
    causes: Causes = []
    if (new.parameters or {}) != (old.parameters or {}):
        causes.append(forbidden("parameters", "updates to parameters are forbidden."))
    if new.provisioner != old.provisioner:
        causes.append(forbidden("provisioner", "updates to provisioner are forbidden."))
    if new.reclaim_policy != old.reclaim_policy:
        causes.append(forbidden("reclaimPolicy", "updates to reclaimPolicy are forbidden."))
    return causes + unchanged("volumeBindingMode", new.volume_binding_mode, old.volume_binding_mode)


def validate_csi_driver(driver: CSIDriver) -> Causes:
    causes: Causes = []
    name = driver.metadata.name or ""
    if len(name) > 63:
        causes.append(invalid("metadata.name", name, "must be no more than 63 bytes"))
    for mode in driver.spec.volume_lifecycle_modes or ():
        if mode not in ("Persistent", "Ephemeral"):
            causes.append(not_supported("spec.volumeLifecycleModes", mode, ("Ephemeral", "Persistent")))
    return causes
