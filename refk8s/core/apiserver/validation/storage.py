"""Persistent volumes, claims and storage classes. Rule VAL-29 (spec/validation.md).

Source: Kubernetes documentation, "Persistent Volumes" (access modes, reclaiming, expanding),
"Storage Classes".
"""

from typing import Any

from msgspec.structs import replace

from refk8s.core.api.core_v1 import (
    PersistentVolume,
    PersistentVolumeClaim,
    PersistentVolumeClaimSpec,
    PersistentVolumeSpec,
    TypedLocalObjectReference,
    TypedObjectReference,
)
from refk8s.core.api.quantity import ZERO
from refk8s.core.api.storage_v1 import StorageClass
from refk8s.core.apiserver.validation.field import (
    Causes,
    duplicate,
    forbidden,
    invalid,
    malformed,
    not_supported,
    required,
    too_long,
    unchanged,
)
from refk8s.core.apiserver.validation.names import dns_label, dns_subdomain, qualified_name
from refk8s.core.apiserver.validation.resources import amount, validate_quantity
from refk8s.core.apiserver.validation.selectors import validate_node_selector, validate_selector
from refk8s.core.apiserver.validation.volume_sources import (
    SOURCES,
    validate_iscsi_name,
    validate_source,
)
from refk8s.core.pods.resources import is_native

ACCESS_MODES = ("ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod")
RECLAIM_POLICIES = ("Delete", "Recycle", "Retain")
VOLUME_MODES = ("Block", "Filesystem")
BINDING_MODES = ("Immediate", "WaitForFirstConsumer")
RESIZE_STATES = (
    "ControllerResizeInProgress",
    "ControllerResizeInfeasible",
    "NodeResizeInProgress",
    "NodeResizeInfeasible",
    "NodeResizePending",
)

PARAMETERS_MAX, PARAMETERS_BYTES_MAX = 512, 256 * 1024
"""The most parameters of a class, and their greatest total length with their keys."""


def _validate_modes(modes: tuple[str, ...], at: str) -> Causes:
    causes = [not_supported(at, mode, ACCESS_MODES) for mode in modes if mode not in ACCESS_MODES]
    if "ReadWriteOncePod" in modes and len(modes) > 1:
        causes.append(forbidden(at, "may not use ReadWriteOncePod with other access modes"))
    return causes


def validate_persistent_volume(volume: PersistentVolume) -> Causes:
    """VAL-29."""
    causes = validate_volume_spec(volume.spec, "spec")
    name, iscsi = volume.metadata.name or "", volume.spec.iscsi
    if iscsi is not None and iscsi.initiator_name is not None:
        causes += validate_iscsi_name(name, iscsi.target_portal, "spec.metadata.name")
    return causes


def validate_volume_spec(spec: PersistentVolumeSpec, at: str, inline: bool = False) -> Causes:
    """VAL-29: access modes, a capacity for storage, and one source. `inline`: the spec is part of a
    VolumeAttachment, and may have fewer fields."""
    causes = _validate_inline(spec, at) if inline else []
    if not spec.access_modes:
        causes.append(required(f"{at}.accessModes"))
    causes += _validate_modes(spec.access_modes or (), f"{at}.accessModes")
    if not inline:
        causes += _validate_capacity(spec, at)
        policy = spec.persistent_volume_reclaim_policy
        if policy and policy not in RECLAIM_POLICIES:
            causes.append(
                not_supported(f"{at}.persistentVolumeReclaimPolicy", policy, RECLAIM_POLICIES)
            )
        if spec.node_affinity is not None and spec.node_affinity.required is None:
            causes.append(
                required(f"{at}.nodeAffinity.required", "must specify required node constraints")
            )
        elif spec.node_affinity is not None and spec.node_affinity.required is not None:
            causes += validate_node_selector(
                spec.node_affinity.required, f"{at}.nodeAffinity.required"
            )
    causes += validate_source(spec, at)
    if (
        spec.host_path is not None
        and _is_root(spec.host_path.path)
        and spec.persistent_volume_reclaim_policy == "Recycle"
    ):
        words = "may not be 'recycle' for a hostPath mount of '/'"
        causes.append(forbidden(f"{at}.persistentVolumeReclaimPolicy", words))
    if spec.storage_class_name and not inline:
        causes += validate_class_name(spec.storage_class_name, f"{at}.storageClassName")
    if spec.volume_mode is not None and not inline and spec.volume_mode not in VOLUME_MODES:
        causes.append(not_supported(f"{at}.volumeMode", spec.volume_mode, VOLUME_MODES))
    if spec.volume_attributes_class_name is not None and not inline:
        causes += _validate_attributes_class(spec, at)
    return causes


def _is_root(path: str) -> bool:
    """Whether an absolute path leads to the root."""
    depth = 0
    for part in path.split("/"):
        if part == "..":
            depth = max(0, depth - 1)
        elif part not in ("", "."):
            depth += 1
    return path.startswith("/") and depth == 0


def _validate_inline(spec: PersistentVolumeSpec, at: str) -> Causes:
    """VAL-50: an inline volume is a CSI volume, without the fields that belong to a
    PersistentVolume object."""
    causes: Causes = []
    words = "may not be specified in the context of inline volumes"
    for value, name in (
        (spec.claim_ref, "claimRef"), (spec.capacity, "capacity"), (spec.node_affinity, "nodeAffinity"),
        (spec.storage_class_name, "storageClassName"),
    ):  # fmt: skip
        if value:
            causes.append(forbidden(f"{at}.{name}", words))
    if spec.csi is None:
        causes.append(required(f"{at}.csi", "has to be specified in the context of inline volumes"))
    if (spec.persistent_volume_reclaim_policy or "Retain") != "Retain":
        words = "may only be Retain in the context of inline volumes"
        causes.append(forbidden(f"{at}.persistentVolumeReclaimPolicy", words))
    if (spec.volume_mode or "Filesystem") != "Filesystem":
        words = "may not specify volumeMode other than Filesystem in the context of inline volumes"
        causes.append(forbidden(f"{at}.volumeMode", words))
    return causes


def _validate_capacity(spec: PersistentVolumeSpec, at: str) -> Causes:
    capacity = spec.capacity or {}
    causes: Causes = []
    if not capacity:
        causes.append(required(f"{at}.capacity"))
    if "storage" not in capacity or len(capacity) > 1:
        causes.append(not_supported(f"{at}.capacity", spec.capacity, ("storage",)))
    for name, text in capacity.items():
        causes += validate_quantity(text, f"{at}.capacity[{name}]")
        number = amount(text)
        if number is not None and number.nano <= 0:
            causes.append(invalid(f"{at}.capacity[{name}]", text, "must be greater than zero"))
    return causes


def _validate_attributes_class(spec: PersistentVolumeSpec, at: str) -> Causes:
    name, where = spec.volume_attributes_class_name, f"{at}.volumeAttributesClassName"
    causes = (
        validate_class_name(name, where)
        if name
        else [required(where, "an empty string is disallowed")]
    )
    if spec.csi is None:
        causes.append(
            required(f"{at}.csi", "has to be specified when using volumeAttributesClassName")
        )
    return causes


def validate_class_name(name: str, at: str) -> Causes:
    return malformed(at, name, dns_subdomain)


def validate_persistent_volume_update(new: PersistentVolume, old: PersistentVolume) -> Causes:
    """VAL-29: the source is immutable."""
    causes = validate_persistent_volume(new)
    after, before = new.spec.csi, old.spec.csi
    if after is not None and before is not None and before.controller_expand_secret_ref is None:
        after = replace(after, controller_expand_secret_ref=None)  # it may be added later
    if after != before or any(
        getattr(new.spec, attribute) != getattr(old.spec, attribute)
        for attribute, _ in SOURCES
        if attribute != "csi"
    ):
        words = "spec.persistentvolumesource is immutable after creation"
        causes.append(forbidden("spec.persistentvolumesource", words))
    causes += unchanged("volumeMode", new.spec.volume_mode, old.spec.volume_mode)
    if old.spec.node_affinity is not None:
        causes += unchanged("nodeAffinity", new.spec.node_affinity, old.spec.node_affinity)
    had_class = old.spec.volume_attributes_class_name is not None
    if had_class and new.spec.volume_attributes_class_name is None:
        words = "update from non-nil value to nil is forbidden"
        causes.append(forbidden("spec.volumeAttributesClassName", words))
    return causes


def validate_persistent_volume_claim(claim: PersistentVolumeClaim) -> Causes:
    return validate_claim_spec(claim.spec, "spec")


def validate_claim_spec(spec: PersistentVolumeClaimSpec, at: str) -> Causes:
    """VAL-29: access modes and a requested size."""
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
        causes += validate_class_name(spec.storage_class_name, f"{at}.storageClassName")
    if spec.volume_mode is not None and spec.volume_mode not in VOLUME_MODES:
        causes.append(not_supported(f"{at}.volumeMode", spec.volume_mode, VOLUME_MODES))
    for source, name in ((spec.data_source, "dataSource"), (spec.data_source_ref, "dataSourceRef")):
        if source is not None:
            causes += _validate_data_source(source, f"{at}.{name}")
    if spec.data_source is not None and spec.data_source_ref is not None:
        one, other = spec.data_source, spec.data_source_ref
        if (one.api_group, one.kind, one.name) != (other.api_group, other.kind, other.name):
            causes.append(invalid(at, f"{at}.dataSource", "must match dataSourceRef"))
    if spec.volume_attributes_class_name:
        causes += validate_class_name(
            spec.volume_attributes_class_name, f"{at}.volumeAttributesClassName"
        )
    return causes


def _validate_data_source(
    source: TypedLocalObjectReference | TypedObjectReference, at: str
) -> Causes:
    """VAL-29: the source of the volume's data: a claim, or an object of another API group."""
    causes: Causes = []
    if not source.name:
        causes.append(required(f"{at}.name"))
    if not source.kind:
        causes.append(required(f"{at}.kind"))
    group = source.api_group or ""
    if not group and source.kind != "PersistentVolumeClaim":
        words = "must be 'PersistentVolumeClaim' when referencing the default apiGroup"
        causes.append(invalid(at, source.kind, words))
    if group:
        causes += malformed(f"{at}.apiGroup", group, dns_subdomain)
    if isinstance(source, TypedObjectReference) and source.namespace:
        causes += malformed(f"{at}.namespace", source.namespace, dns_label)
    return causes


def validate_persistent_volume_claim_update(
    new: PersistentVolumeClaim, old: PersistentVolumeClaim
) -> Causes:
    """VAL-29: a claim is bound to a volume once; then it may grow and get another attributes class;
    the rest is immutable."""
    before, after = old.spec, new.spec
    causes = validate_claim_spec(after, "spec")
    if after == before:
        return causes
    changed: dict[str, Any] = {}
    if not before.volume_name:
        changed["volume_name"] = before.volume_name
        if before.storage_class_name is None:
            changed["storage_class_name"] = None  # the default class, which may be set later
    if old.status.phase == "Bound":
        changed["volume_attributes_class_name"] = before.volume_attributes_class_name
        if after.resources.requests:
            requests = {
                **after.resources.requests,
                "storage": (before.resources.requests or {}).get("storage", "0"),
            }
            changed["resources"] = replace(after.resources, requests=requests)
    if replace(after, **changed) != before:
        words = (
            "spec is immutable after creation except resources.requests and "
            "volumeAttributesClassName for bound claims"
        )
        causes.append(forbidden("spec", words))
    if _shrinks(new, old):
        causes.append(
            forbidden(
                "spec.resources.requests.storage", "field can not be less than status.capacity"
            )
        )
    causes += unchanged("volumeMode", after.volume_mode, before.volume_mode)
    name, had = after.volume_attributes_class_name, before.volume_attributes_class_name
    if name != had and not name and old.status.current_volume_attributes_class_name is not None:
        what = "nil" if name is None else "empty string"
        words = (
            f"update to {what} is forbidden when status.currentVolumeAttributesClassName is not nil"
        )
        causes.append(forbidden("spec.volumeAttributesClassName", words))
    return causes


def validate_persistent_volume_claim_status(
    new: PersistentVolumeClaim, old: PersistentVolumeClaim
) -> Causes:
    """VAL-29: amounts are quantities of resources, and what a resize does has a known name."""
    status = new.status
    causes: Causes = []
    for name, text in (status.capacity or {}).items():
        causes += validate_quantity(text, f"status.capacity[{name}]")
    at = "status.allocatedResourceStatus"  # upstream's path
    for name, state in (status.allocated_resource_statuses or {}).items():
        causes += _validate_allocated(name, at)
        if state not in RESIZE_STATES:
            causes.append(not_supported(at, name, RESIZE_STATES))
    for name, text in (status.allocated_resources or {}).items():
        wrong = _validate_allocated(name, "status.allocatedResources")
        causes += wrong or validate_quantity(text, f"status.allocatedResources[{name}]")
    return causes


def _validate_allocated(name: str, at: str) -> Causes:
    """VAL-29: of the resources of Kubernetes itself, a claim has only storage."""
    if causes := malformed(at, name, qualified_name):
        return causes
    is_other = is_native(name) and name != "storage"
    return [not_supported(at, name, ("storage",))] if is_other else []


def _shrinks(new: PersistentVolumeClaim, old: PersistentVolumeClaim) -> bool:
    """VAL-29: whether the request becomes smaller than before, but not smaller than the volume.
    After a failed expansion a smaller request is allowed, but a volume never shrinks."""
    wanted, had, has = [
        amount(sizes.get("storage", "0")) or ZERO
        for sizes in (
            new.spec.resources.requests or {},
            old.spec.resources.requests or {},
            old.status.capacity or {},
        )
    ]
    return wanted.nano < had.nano and (has.nano == 0 or wanted.nano <= has.nano)


def validate_provisioner(name: str, at: str) -> Causes:
    """VAL-29: the name of what makes or changes volumes: a qualified name, in any case."""
    if not name:
        return [required(at, name)]
    return [invalid(at, name, word) for word in qualified_name(name.lower())]


def validate_storage_class(storage_class: StorageClass) -> Causes:
    causes = validate_provisioner(storage_class.provisioner, "provisioner")
    causes += validate_parameters(storage_class.parameters or {}, "parameters")
    policy = storage_class.reclaim_policy
    if policy and policy not in ("Delete", "Retain"):
        causes.append(not_supported("reclaimPolicy", policy, ("Delete", "Retain")))
    mode = storage_class.volume_binding_mode
    if mode is None:
        causes.append(required("volumeBindingMode"))
    elif mode not in BINDING_MODES:
        causes.append(not_supported("volumeBindingMode", mode, BINDING_MODES))
    return causes + _validate_topologies(storage_class)


def validate_parameters(parameters: dict[str, str], at: str) -> Causes:
    """VAL-29: the number and length of the parameters for the driver are bounded."""
    if len(parameters) > PARAMETERS_MAX:
        return [too_long(at, PARAMETERS_MAX)]
    causes: Causes = [invalid(at, key, "field can not be empty.") for key in parameters if not key]
    if (
        sum(
            [
                len(part.encode("utf-8", "surrogatepass"))
                for item in parameters.items()
                for part in item
            ]
        )
        > PARAMETERS_BYTES_MAX
    ):
        causes.append(too_long(at, PARAMETERS_BYTES_MAX))
    return causes


def validate_storage_class_update(new: StorageClass, old: StorageClass) -> Causes:
    """VAL-29: provisioner, parameters, reclaim policy and binding mode are immutable."""
    causes = validate_storage_class(new)
    causes += unchanged("parameters", new.parameters or {}, old.parameters or {})
    causes += unchanged("provisioner", new.provisioner, old.provisioner)
    causes += unchanged("reclaimPolicy", new.reclaim_policy, old.reclaim_policy)
    return causes + unchanged("volumeBindingMode", new.volume_binding_mode, old.volume_binding_mode)


def _validate_topologies(storage_class: StorageClass) -> Causes:
    """VAL-29: each key once in a term, with values, and no term twice. Upstream begins with an
    empty term for each of the list, so that an empty term is a duplicate."""
    causes: Causes = []
    topologies = storage_class.allowed_topologies or ()
    seen: list[dict[str, frozenset[str]]] = [{} for _ in topologies]
    for position, term in enumerate(topologies):
        here = f"allowedTopologies[{position}]"
        keys: dict[str, frozenset[str]] = {}
        for number, wanted in enumerate(term.match_label_expressions or ()):
            where = f"{here}.matchLabelExpressions[{number}]"
            if not wanted.values:
                causes.append(required(f"{where}.values"))
            for place, value in enumerate(wanted.values):
                if value in wanted.values[:place]:
                    causes.append(duplicate(f"{where}.values[{place}]", value))
            causes += malformed(f"{where}.key", wanted.key, qualified_name)
            if wanted.key in keys:
                causes.append(duplicate(f"{where}.key", wanted.key))
            keys[wanted.key] = frozenset(wanted.values)
        causes += [duplicate(f"{here}.matchLabelExpressions", "")] * seen.count(keys)
        seen.append(keys)
    return causes
