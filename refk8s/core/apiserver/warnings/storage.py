"""Warnings about volumes, claims, storage classes and CSI drivers. Rule WARN-2
(spec/validation.md).

Source: Kubernetes documentation, "Persistent Volumes" (deprecated types and annotations), "Storage
Classes".
"""

from refk8s.core.api.core_v1 import PersistentVolume, PersistentVolumeClaim
from refk8s.core.api.storage_v1 import CSIDriver, CSIStorageCapacity, StorageClass
from refk8s.core.apiserver.validation.resources import amount

OLD_CLASS = "volume.beta.kubernetes.io/storage-class"
OLD_OPTIONS = "volume.beta.kubernetes.io/mount-options"
_RECYCLE = (
    "The Recycle reclaim policy is deprecated. Instead, "
    "the recommended approach is to use dynamic provisioning."
)
_OLD_LABELS = {
    "beta.kubernetes.io/arch": ("v1.14", "kubernetes.io/arch"),
    "beta.kubernetes.io/os": ("v1.14", "kubernetes.io/os"),
    "failure-domain.beta.kubernetes.io/region": ("v1.17", "topology.kubernetes.io/region"),
    "failure-domain.beta.kubernetes.io/zone": ("v1.17", "topology.kubernetes.io/zone"),
    "beta.kubernetes.io/instance-type": ("v1.17", "node.kubernetes.io/instance-type"),
}
# Sources without a driver, by attribute: (name in paths, message).
_OLD_SOURCES = {
    "photon_persistent_disk": (
        "photonPersistentDisk",
        "deprecated in v1.11, non-functional in v1.16+",
    ),
    "scale_io": ("scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    "storageos": ("storageOS", "deprecated in v1.22, non-functional in v1.25+"),
    "glusterfs": ("glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    "cephfs": ("cephFS", "deprecated in v1.28, non-functional in v1.31+"),
    "rbd": ("rbd", "deprecated in v1.28, non-functional in v1.31+"),
    "flocker": ("flocker", "deprecated in v1.22, non-functional in v1.25+"),
    "quobyte": ("quobyte", "deprecated in v1.22, non-functional in v1.25+"),
}


def _fractions(amounts: dict[str, str] | None, at: str) -> list[str]:
    """Fractions of a byte."""
    text = (amounts or {}).get("storage")
    number = amount(text) if text is not None else None
    if number is None or number.nano % 10**9 == 0:
        return []
    return [f'{at}[storage]: fractional byte value "{text}" is invalid, must be an integer']


def _old_label(key: str, at: str) -> list[str]:
    if key not in _OLD_LABELS:
        return []
    since, instead = _OLD_LABELS[key]
    return [f'{at}: {key} is deprecated since {since}; use "{instead}" instead']


def warn_volume(new: PersistentVolume, old: PersistentVolume | None) -> list[str]:
    """WARN-2: fields and annotations that have been replaced."""
    spec, annotations = new.spec, new.metadata.annotations or {}
    found: list[str] = []
    for name, since, instead in (
        (OLD_CLASS, "v1.8", "storageClassName"),
        (OLD_OPTIONS, "v1.31", "mountOptions"),
    ):
        if name in annotations:
            found.append(
                f"metadata.annotations[{name}]: deprecated since {since}; "
                f'use "{instead}" attribute instead'
            )
    if spec.persistent_volume_reclaim_policy == "Recycle":
        found.append(f"spec.persistentVolumeReclaimPolicy: {_RECYCLE}")
    required = spec.node_affinity.required if spec.node_affinity is not None else None
    for position, term in enumerate(required.node_selector_terms if required is not None else ()):
        for number, expression in enumerate(term.match_expressions or ()):
            at = f"spec.nodeAffinity.required.nodeSelectorTerms[{position}].matchExpressions[{number}].key"
            found += _old_label(expression.key, at)
    found += [
        f"spec.{name}: {words}"
        for attribute, (name, words) in _OLD_SOURCES.items()
        if getattr(spec, attribute) is not None
    ]
    return found + _fractions(spec.capacity, "spec.capacity")


def warn_claim(new: PersistentVolumeClaim, old: PersistentVolumeClaim | None) -> list[str]:
    """WARN-2: an annotation that has been replaced, and fractions of a byte."""
    found: list[str] = []
    if OLD_CLASS in (new.metadata.annotations or {}):
        found.append(
            f"metadata.annotations[{OLD_CLASS}]: deprecated since v1.8; "
            'use "storageClassName" attribute instead'
        )
    found += _fractions(new.spec.resources.requests, "spec.resources.requests")
    return found + _fractions(new.spec.resources.limits, "spec.resources.limits")


def warn_storage_class(new: StorageClass, old: StorageClass | None) -> list[str]:
    """WARN-2: labels of nodes that have been renamed."""
    found: list[str] = []
    for position, term in enumerate(new.allowed_topologies or ()):
        for number, expression in enumerate(term.match_label_expressions or ()):
            found += _old_label(
                expression.key, f"allowedTopologies[{position}].matchLabelExpressions[{number}].key"
            )
    return found


def warn_capacity(new: CSIStorageCapacity, old: CSIStorageCapacity | None) -> list[str]:
    """WARN-2: labels of nodes that have been renamed."""
    topology = new.node_topology
    if topology is None:
        return []
    found: list[str] = []
    for position, expression in enumerate(topology.match_expressions or ()):
        found += _old_label(expression.key, f"nodeTopology.matchExpressions[{position}]")
    for key in topology.match_labels or ():
        if key in _OLD_LABELS:
            since, instead = _OLD_LABELS[key]
            found.append(
                f'nodeTopology.matchLabels.{key}: deprecated since {since}; use "{instead}" instead'
            )
    return found


def warn_csi_driver(new: CSIDriver, old: CSIDriver | None) -> list[str]:
    """WARN-2: tokens that a driver gets in its volume context, which drivers write to their
    logs."""
    if new.spec.token_requests and new.spec.service_account_token_in_secrets is None:
        return [
            "spec.serviceAccountTokenInSecrets is unset; if supported by this CSI driver, "
            "set to true to prevent "
            "possible logging of tokens in volume attributes"
        ]
    return []
