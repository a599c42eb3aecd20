"""Volumes of a pod. Rule VAL-15 (spec/validation.md).

Source: Kubernetes documentation, "Volumes", "Projected Volumes", "Ephemeral Volumes". The sources
that persistent volumes also have are in `volume_sources.py`.
"""

from msgspec.structs import astuple, fields

from refk8s.core.api.core_v1 import CSIVolumeSource, PersistentVolumeClaimTemplate, Volume
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.status import show
from refk8s.core.apiserver.validation.field import (
    Causes,
    duplicate,
    forbidden,
    invalid,
    malformed,
    not_supported,
    required,
)
from refk8s.core.apiserver.validation.metadata import validate_annotations, validate_labels
from refk8s.core.apiserver.validation.mounts import (
    Volumes,
    validate_descending_path,
    validate_host_path,
)
from refk8s.core.apiserver.validation.names import dns_label, dns_subdomain
from refk8s.core.apiserver.validation.projected import (
    validate_files,
    validate_items,
    validate_mode,
    validate_projected,
)
from refk8s.core.apiserver.validation.resources import amount
from refk8s.core.apiserver.validation.storage import validate_claim_spec
from refk8s.core.apiserver.validation.volume_sources import (
    validate_driver_name,
    validate_fields,
    validate_iscsi_name,
)

# Every source with its name in paths, in the order in which they are checked. Some of upstream's
# paths differ from the names on the wire.
SOURCES = (
    ("empty_dir", "emptyDir"), ("host_path", "hostPath"), ("git_repo", "gitRepo"), ("gce_persistent_disk", "gcePersistentDisk"),
    ("aws_elastic_block_store", "awsElasticBlockStore"), ("secret", "secret"), ("nfs", "nfs"), ("iscsi", "iscsi"),
    ("glusterfs", "glusterfs"), ("flocker", "flocker"), ("persistent_volume_claim", "persistentVolumeClaim"), ("rbd", "rbd"),
    ("cinder", "cinder"), ("cephfs", "cephFS"), ("quobyte", "quobyte"), ("downward_api", "downwarAPI"), ("fc", "fc"),
    ("flex_volume", "flexVolume"), ("config_map", "configMap"), ("azure_file", "azureFile"), ("vsphere_volume", "vsphereVolume"),
    ("photon_persistent_disk", "photonPersistentDisk"), ("portworx_volume", "portworxVolume"), ("azure_disk", "azureDisk"),
    ("storageos", "storageos"), ("projected", "projected"), ("scale_io", "scaleIO"), ("csi", "csi"), ("ephemeral", "ephemeral"),
    ("image", "image"),
)  # fmt: skip
_OWN_NAMES = {
    "gce_persistent_disk": "persistentDisk",
    "cephfs": "cephfs",
    "downward_api": "downwardAPI",
}
"""The names of sources in the paths of their own fields, if they differ."""
_OTHERS = len(SOURCES) - 1
PULL_POLICIES = ("Always", "IfNotPresent", "Never")


def validate_volumes(
    volumes: tuple[Volume, ...], at: str, pod: str = "", in_pod: bool = False
) -> tuple[Causes, Volumes]:
    """VAL-15: unique names, and one source each. Returns the causes, and the valid volumes by name.
    `pod`: the name of the pod, if there is one; the claims of its ephemeral volumes are named after
    it."""
    causes: Causes = []
    right: Volumes = {}
    made = (
        {f"{pod}-{volume.name}" for volume in volumes if volume.ephemeral is not None}
        if pod
        else ()
    )
    for position, volume in enumerate(volumes):
        here = f"{at}[{position}]"
        wrong = _validate_source(volume, here, pod, in_pod)
        if not volume.name:
            wrong.append(required(f"{here}.name"))
        else:
            wrong += malformed(f"{here}.name", volume.name, dns_label)
        if volume.name in right:
            wrong.append(duplicate(f"{here}.name", volume.name))
        if not wrong:
            right[volume.name] = volume
        causes += wrong
        claim = volume.persistent_volume_claim
        if claim is not None and claim.claim_name in made:
            words = "must not reference a PVC that gets created for an ephemeral volume"
            causes.append(
                invalid(f"{here}.persistentVolumeClaim.claimName", claim.claim_name, words)
            )
    return causes, right


def _validate_source(volume: Volume, at: str, pod: str, in_pod: bool) -> Causes:
    # the most common one: every pod has a token
    if volume.projected is not None and astuple(volume).count(None) == _OTHERS:
        return validate_projected(volume.projected, f"{at}.projected")
    given = [
        (attribute, name) for attribute, name in SOURCES if getattr(volume, attribute) is not None
    ]
    if not given:
        return [required(at, "must specify a volume type")]
    causes = [
        forbidden(f"{at}.{name}", "may not specify more than 1 volume type")
        for _, name in given[1:]
    ]
    attribute, name = given[0]
    causes = (
        _validate_one(volume, attribute, f"{at}.{_OWN_NAMES.get(attribute, name)}", in_pod) + causes
    )
    if attribute == "ephemeral" and pod and volume.name:
        claim = f"{pod}-{volume.name}"
        causes += [
            invalid(f"{at}.name", volume.name, f"PVC name {show(claim)}: {word}")
            for word in dns_subdomain(claim)
        ]
    iscsi = volume.iscsi
    if iscsi is not None and iscsi.initiator_name is not None:
        causes += validate_iscsi_name(volume.name, iscsi.target_portal, f"{at}.name")
    return causes


def _validate_one(volume: Volume, attribute: str, at: str, in_pod: bool) -> Causes:
    match attribute:
        case "empty_dir" if volume.empty_dir is not None:
            size = volume.empty_dir.size_limit
            number = None if size is None else amount(size)
            if size is not None and (number is None or number.nano < 0):
                return [
                    forbidden(
                        f"{at}.sizeLimit", "SizeLimit field must be a valid resource quantity"
                    )
                ]
            return []
        case "host_path" if volume.host_path is not None:
            return validate_host_path(volume.host_path.path, volume.host_path.type, at)
        case "git_repo" if volume.git_repo is not None:
            causes = [] if volume.git_repo.repository else [required(f"{at}.repository")]
            return causes + validate_descending_path(
                volume.git_repo.directory or "", f"{at}.directory"
            )
        case "secret" if volume.secret is not None:
            causes = [] if volume.secret.secret_name else [required(f"{at}.secretName")]
            return (
                causes
                + validate_mode(volume.secret.default_mode, f"{at}.defaultMode")
                + validate_items(volume.secret.items, at)
            )
        case "config_map" if volume.config_map is not None:
            causes = [] if volume.config_map.name else [required(f"{at}.name")]
            causes += validate_mode(volume.config_map.default_mode, f"{at}.defaultMode")
            return causes + validate_items(volume.config_map.items, at)
        case "downward_api" if volume.downward_api is not None:
            return validate_mode(
                volume.downward_api.default_mode, f"{at}.defaultMode"
            ) + validate_files(volume.downward_api.items, at)
        case "projected" if volume.projected is not None:
            return validate_projected(volume.projected, at)
        case "persistent_volume_claim" if volume.persistent_volume_claim is not None:
            return (
                [] if volume.persistent_volume_claim.claim_name else [required(f"{at}.claimName")]
            )
        case "ephemeral" if volume.ephemeral is not None:
            return _validate_claim_template(
                volume.ephemeral.volume_claim_template, f"{at}.volumeClaimTemplate"
            )
        case "csi" if volume.csi is not None:
            return _validate_csi(volume.csi, at)
        case "image" if volume.image is not None:
            causes = [required(f"{at}.reference")] if in_pod and not volume.image.reference else []
            return causes + validate_pull_policy(volume.image.pull_policy, f"{at}.pullPolicy")
    return validate_fields(attribute, getattr(volume, attribute), at)


def _validate_claim_template(template: PersistentVolumeClaimTemplate | None, at: str) -> Causes:
    """VAL-15: the claim has only labels, annotations and a spec."""
    if template is None:
        return [required(at)]
    metadata = template.metadata
    causes = validate_annotations(metadata.annotations or {}, f"{at}.metadata.annotations")
    causes += validate_labels(metadata.labels or {}, f"{at}.metadata.labels")
    for part in fields(ObjectMeta):
        if part.name not in ("annotations", "labels") and getattr(metadata, part.name):
            causes.append(forbidden(f"{at}.metadata.{part.encode_name}", "cannot be set"))
    return causes + validate_claim_spec(template.spec, f"{at}.spec")


def _validate_csi(source: CSIVolumeSource, at: str) -> Causes:
    """VAL-15: the driver's name is a subdomain of at most 63 bytes, in any case."""
    causes, secret = (
        validate_driver_name(source.driver, f"{at}.driver"),
        source.node_publish_secret_ref,
    )
    if secret is not None:
        if not secret.name:
            causes.append(required(f"{at}.nodePublishSecretRef .name"))  # upstream's blank
        else:
            causes += malformed(f"{at}.name", secret.name, dns_subdomain)
    return causes


def validate_pull_policy(policy: str | None, at: str) -> Causes:
    if policy in PULL_POLICIES:
        return []
    return [not_supported(at, policy, PULL_POLICIES) if policy else required(at)]
