"""Volumes of a pod. Rule VAL-15 (spec/validation.md).

Source: Kubernetes documentation, "Volumes", "Projected Volumes", "Ephemeral Volumes".
Left out: the fields of storage systems that have no driver here; such a volume is accepted as it is given.
"""

from msgspec.structs import astuple

from refk8s.core.api.core_v1 import (
    DownwardAPIVolumeFile,
    KeyToPath,
    ProjectedVolumeSource,
    ServiceAccountTokenProjection,
    Volume,
    VolumeProjection,
)
from refk8s.core.apiserver.validation.env import validate_field_selector, validate_resource_selector
from refk8s.core.apiserver.validation.field import Causes, duplicate, forbidden, invalid, not_supported, required
from refk8s.core.apiserver.validation.mounts import is_inside, validate_descending_path
from refk8s.core.apiserver.validation.names import dns_label
from refk8s.core.apiserver.validation.resources import amount

# Every source with its name on the wire, in the order in which they are looked at.
SOURCES = (
    ("empty_dir", "emptyDir"), ("host_path", "hostPath"), ("git_repo", "gitRepo"), ("gce_persistent_disk", "gcePersistentDisk"),
    ("aws_elastic_block_store", "awsElasticBlockStore"), ("secret", "secret"), ("nfs", "nfs"), ("iscsi", "iscsi"),
    ("glusterfs", "glusterfs"), ("flocker", "flocker"), ("persistent_volume_claim", "persistentVolumeClaim"), ("rbd", "rbd"),
    ("cinder", "cinder"), ("cephfs", "cephfs"), ("quobyte", "quobyte"), ("downward_api", "downwardAPI"), ("fc", "fc"),
    ("flex_volume", "flexVolume"), ("config_map", "configMap"), ("azure_file", "azureFile"), ("vsphere_volume", "vsphereVolume"),
    ("photon_persistent_disk", "photonPersistentDisk"), ("portworx_volume", "portworxVolume"), ("azure_disk", "azureDisk"),
    ("storageos", "storageos"), ("projected", "projected"), ("scale_io", "scaleIO"), ("csi", "csi"), ("ephemeral", "ephemeral"),
    ("image", "image"),
)  # fmt: skip
HOST_PATH_TYPES = (
    "", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket",
)  # fmt: skip
FILE_FIELDS = ("metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid")
_OTHERS = len(SOURCES) - 1
_KINDS_OF_PROJECTION = len(VolumeProjection.__struct_fields__)
MODE_MAX = 0o777
TOKEN_SECONDS_MIN, TOKEN_SECONDS_MAX = 600, 2**32
_MODE_WORDS = "must be a number between 0 and 0777 (octal), both inclusive"


def validate_volumes(volumes: tuple[Volume, ...], at: str) -> Causes:
    """VAL-15: names that differ, and one source each."""
    causes: Causes = []
    seen: set[str] = set()
    for position, volume in enumerate(volumes):
        here = f"{at}[{position}]"
        causes += _validate_source(volume, here)
        if not volume.name:
            causes.append(required(f"{here}.name"))
        else:
            words = dns_label(volume.name)
            if words:
                causes += [invalid(f"{here}.name", volume.name, word) for word in words]
            if volume.name in seen:
                causes.append(duplicate(f"{here}.name", volume.name))
            seen.add(volume.name)
    return causes


def _validate_source(volume: Volume, at: str) -> Causes:
    if volume.projected is not None and astuple(volume).count(None) == _OTHERS:  # the commonest: every pod has a token
        return _validate_projected(volume.projected, f"{at}.projected")
    given = [(attribute, name) for attribute, name in SOURCES if getattr(volume, attribute) is not None]
    if not given:
        return [required(at, "must specify a volume type")]
    causes = [forbidden(f"{at}.{name}", "may not specify more than 1 volume type") for _, name in given[1:]]
    attribute, name = given[0]
    return _validate_one(volume, attribute, f"{at}.{name}") + causes


def _validate_one(volume: Volume, attribute: str, at: str) -> Causes:
    match attribute:
        case "empty_dir" if volume.empty_dir is not None:
            size = volume.empty_dir.size_limit
            number = None if size is None else amount(size)
            if size is not None and (number is None or number.nano < 0):
                return [forbidden(f"{at}.sizeLimit", "SizeLimit field must be a valid resource quantity")]
        case "host_path" if volume.host_path is not None:
            return validate_host_path(volume.host_path.path, volume.host_path.type, at)
        case "secret" if volume.secret is not None:
            causes = [] if volume.secret.secret_name else [required(f"{at}.secretName")]
            return causes + _validate_mode(volume.secret.default_mode, f"{at}.defaultMode") + _validate_items(volume.secret.items, at)
        case "config_map" if volume.config_map is not None:
            causes = [] if volume.config_map.name else [required(f"{at}.name")]
            causes += _validate_mode(volume.config_map.default_mode, f"{at}.defaultMode")
            return causes + _validate_items(volume.config_map.items, at)
        case "downward_api" if volume.downward_api is not None:
            return _validate_mode(volume.downward_api.default_mode, f"{at}.defaultMode") + _validate_files(volume.downward_api.items, at)
        case "projected" if volume.projected is not None:
            return _validate_projected(volume.projected, at)
        case "persistent_volume_claim" if volume.persistent_volume_claim is not None:
            return [] if volume.persistent_volume_claim.claim_name else [required(f"{at}.claimName")]
        case "ephemeral" if volume.ephemeral is not None:
            return [] if volume.ephemeral.volume_claim_template is not None else [required(f"{at}.volumeClaimTemplate")]
        case "nfs" if volume.nfs is not None:
            causes = [] if volume.nfs.server else [required(f"{at}.server")]
            if not volume.nfs.path:
                causes.append(required(f"{at}.path"))
            elif not volume.nfs.path.startswith("/"):
                causes.append(invalid(f"{at}.path", volume.nfs.path, "must be an absolute path"))
            return causes
        case "csi" if volume.csi is not None:
            return [] if volume.csi.driver else [required(f"{at}.driver")]
    return []


def validate_host_path(path: str, kind: str | None, at: str) -> Causes:
    if not path:
        return [required(f"{at}.path")]
    causes: Causes = []
    if ".." in path.split("/"):
        causes.append(invalid(f"{at}.path", path, "must not contain '..'"))
    if kind is not None and kind not in HOST_PATH_TYPES:
        causes.append(not_supported(f"{at}.type", kind, HOST_PATH_TYPES))
    return causes


def _validate_mode(mode: int | None, at: str) -> Causes:
    return [] if mode is None or 0 <= mode <= MODE_MAX else [invalid(at, mode, _MODE_WORDS)]


def _validate_items(items: tuple[KeyToPath, ...] | None, at: str) -> Causes:
    causes: Causes = []
    for position, item in enumerate(items or ()):
        if item.key and item.path and item.mode is None and is_inside(item.path):
            continue
        here = f"{at}.items[{position}]"
        if not item.key:
            causes.append(required(f"{here}.key"))
        if not item.path:
            causes.append(required(f"{here}.path"))
        else:
            causes += _validate_relative(item.path, f"{here}.path")
        causes += _validate_mode(item.mode, f"{here}.mode")
    return causes


def _validate_relative(path: str, at: str) -> Causes:
    """A file's place inside the volume."""
    if is_inside(path):
        return []
    return validate_descending_path(path, at) or [invalid(at, path, "must not start with '..'")]


def _validate_files(items: tuple[DownwardAPIVolumeFile, ...] | None, at: str) -> Causes:
    causes: Causes = []
    for position, file in enumerate(items or ()):
        here = f"{at}.items[{position}]" if not at.endswith("]") else f"{at}[{position}]"
        causes += [required(f"{here}.path")] if not file.path else _validate_relative(file.path, f"{here}.path")
        if file.field_ref is not None:
            causes += validate_field_selector(file.field_ref, FILE_FIELDS, f"{here}.fieldRef")
            if file.resource_field_ref is not None:
                causes.append(invalid(f"{here}", "resource", "fieldRef and resourceFieldRef can not be specified simultaneously"))
        elif file.resource_field_ref is not None:
            causes += validate_resource_selector(file.resource_field_ref, f"{here}.resourceFieldRef", True)
        else:
            causes.append(required(here, "one of fieldRef and resourceFieldRef is required"))
        causes += _validate_mode(file.mode, f"{here}.mode")
    return causes


def _validate_projected(projected: ProjectedVolumeSource, at: str) -> Causes:
    """VAL-15: every source is one thing, and no two of them write the same file."""
    causes = _validate_mode(projected.default_mode, f"{at}.defaultMode")
    paths: set[str] = set()
    for position, source in enumerate(projected.sources or ()):
        causes += _validate_projection(source, f"{at}.sources[{position}]")
        for path in _paths(source):
            if path in paths:
                causes.append(invalid(f"{at}.sources[{position}]", path, "conflicting duplicate paths"))
            paths.add(path)
    return causes


def _paths(source: VolumeProjection) -> list[str]:
    if source.secret is not None:
        return [item.path for item in source.secret.items or ()]
    if source.config_map is not None:
        return [item.path for item in source.config_map.items or ()]
    if source.downward_api is not None:
        return [file.path for file in source.downward_api.items or ()]
    return [source.service_account_token.path] if source.service_account_token is not None else []


def _validate_projection(source: VolumeProjection, at: str) -> Causes:
    """One thing at most; an empty source projects nothing, and upstream takes it."""
    if source.config_map is not None:
        causes = [] if source.config_map.name else [required(f"{at}.configMap.name")]
        causes += _validate_items(source.config_map.items, f"{at}.configMap")
    elif source.downward_api is not None:
        causes = _validate_files(source.downward_api.items, f"{at}.downwardAPI")
    elif source.secret is not None:
        causes = [] if source.secret.name else [required(f"{at}.secret.name")]
        causes += _validate_items(source.secret.items, f"{at}.secret")
    elif source.service_account_token is not None:
        causes = _validate_token(source.service_account_token, f"{at}.serviceAccountToken")
    else:
        return []
    more = _KINDS_OF_PROJECTION - 1 - astuple(source).count(None)
    if more:
        causes += [forbidden(at, "may not specify more than 1 volume type")] * more
    return causes


def _validate_token(token: ServiceAccountTokenProjection, at: str) -> Causes:
    """VAL-15: a token lives between ten minutes and 2^32 seconds."""
    seconds = token.expiration_seconds
    causes: Causes = []
    if seconds is not None and seconds < TOKEN_SECONDS_MIN:
        causes.append(invalid(f"{at}.expirationSeconds", seconds, "may not specify a duration less than 10 minutes"))
    if seconds is not None and seconds > TOKEN_SECONDS_MAX:
        causes.append(invalid(f"{at}.expirationSeconds", seconds, "may not specify a duration larger than 2^32 seconds"))
    if not token.path:
        causes.append(required(f"{at}.path"))
        return causes
    return causes + _validate_relative(token.path, f"{at}.path")
