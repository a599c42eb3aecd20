"""The sources of volumes, and their required fields. Rules VAL-15, VAL-29 (spec/validation.md).

Source: Kubernetes API reference, "PersistentVolume".
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from refk8s.core.api.core_v1 import LocalObjectReference, PersistentVolumeSpec, SecretReference
from refk8s.core.apiserver.validation.field import (
    Causes,
    forbidden,
    invalid,
    malformed,
    not_supported,
    required,
    too_long,
)
from refk8s.core.apiserver.validation.mounts import validate_host_path
from refk8s.core.apiserver.validation.names import dns_label, dns_subdomain

DRIVER_NAME_BYTES_MAX = 63
NUMBER_MAX = 255
ISCSI_NAMES_MAX = 64
CACHING_MODES = ("None", "ReadOnly", "ReadWrite")
DISK_KINDS = ("Dedicated", "Managed", "Shared")
_DISK_FORMS = {
    True: (
        "/subscriptions/",
        "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}",
    ),
    False: (
        "https://",
        "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd",
    ),
}
"""How the URI of a disk begins, and its form in messages: whether the disk is managed or not."""
_RANGE = "must be between 0 and 255, inclusive"
_PAIRS = "must be a host:port pair or multiple pairs separated by commas"
_is_iqn = re.compile(
    r".*iqn\.[0-9]{4}-[0-9]{2}\.[-.a-zA-Z0-9]+:[^,;*&$|\s]+", re.ASCII | re.DOTALL
).fullmatch
_is_eui = re.compile(r"eui.[0-9A-Za-z]{16}", re.ASCII).fullmatch
_is_naa = re.compile(r"naa.[0-9A-Za-z]{32}", re.ASCII).fullmatch

# A volume's sources in the order in which they are checked, by attribute and name in paths.
SOURCES = (
    ("host_path", "hostPath"), ("gce_persistent_disk", "gcePersistentDisk"),
    ("aws_elastic_block_store", "awsElasticBlockStore"), ("glusterfs", "glusterfs"), ("flocker", "flocker"),
    ("nfs", "nfs"), ("rbd", "rbd"), ("quobyte", "quobyte"), ("cephfs", "cephFS"), ("iscsi", "iscsi"),
    ("cinder", "cinder"), ("fc", "fc"), ("flex_volume", "flexVolume"), ("azure_file", "azureFile"),
    ("vsphere_volume", "vsphereVolume"), ("photon_persistent_disk", "photonPersistentDisk"),
    ("portworx_volume", "portworxVolume"), ("azure_disk", "azureDisk"), ("scale_io", "scaleIO"), ("local", "local"),
    ("storageos", "storageos"), ("csi", "csi"),
)  # fmt: skip


def validate_source(spec: PersistentVolumeSpec, at: str) -> Causes:
    """VAL-29: one source. The first one is checked, others are forbidden."""
    given = [
        (attribute, name) for attribute, name in SOURCES if getattr(spec, attribute) is not None
    ]
    if not given:
        return [required(at, "must specify a volume type")]
    causes: Causes = []
    for position, (attribute, name) in enumerate(given):
        if position and attribute != "flex_volume":  # upstream counts it and does not forbid it
            causes.append(forbidden(f"{at}.{name}", "may not specify more than 1 volume type"))
            continue
        here = f"{at}.{_OWN_NAMES.get(attribute, name)}"
        causes += validate_fields(attribute, getattr(spec, attribute), here)
        if attribute == "local" and spec.node_affinity is None:
            causes.append(required(f"{at}.nodeAffinity", "Local volume requires node affinity"))
    return causes


_OWN_NAMES = {"gce_persistent_disk": "persistentDisk", "cephfs": "cephfs"}
"""The names of sources in the paths of their own fields, if they differ."""


def validate_fields(attribute: str, source: Any, at: str) -> Causes:
    """The fields of a source: of a persistent volume, and of a pod's volume if both have it
    (VAL-15)."""
    causes = [
        required(f"{at}.{part}")
        for owned, part in _REQUIRED.get(attribute, ())
        if not getattr(source, owned)
    ]
    more = _MORE.get(attribute)
    return causes if more is None else causes + more(source, at)


def validate_driver_name(name: str, at: str) -> Causes:
    """A CSI driver's name is a DNS subdomain of at most 63 bytes, in any case."""
    if not name:
        return [required(at)]
    causes = [too_long(at, DRIVER_NAME_BYTES_MAX)] if len(name) > DRIVER_NAME_BYTES_MAX else []
    return causes + [invalid(at, name, word) for word in dns_subdomain(name.lower())]


# The required fields of each source, by attribute and name on the wire.
_REQUIRED: Mapping[str, tuple[tuple[str, str], ...]] = {
    "gce_persistent_disk": (("pd_name", "pdName"),),
    "aws_elastic_block_store": (("volume_id", "volumeID"),),
    "glusterfs": (("endpoints", "endpoints"), ("path", "path")),
    "nfs": (("server", "server"), ("path", "path")),
    "rbd": (("monitors", "monitors"), ("image", "image")),
    "quobyte": (("registry", "registry"), ("volume", "volume")),
    "cephfs": (("monitors", "monitors"),),
    "iscsi": (("target_portal", "targetPortal"), ("iqn", "iqn")),
    "cinder": (("volume_id", "volumeID"),),
    "flex_volume": (("driver", "driver"),),
    "azure_file": (("secret_name", "secretName"), ("share_name", "shareName")),
    "vsphere_volume": (("volume_path", "volumePath"),),
    "photon_persistent_disk": (("pd_id", "pdID"),),
    "portworx_volume": (("volume_id", "volumeID"),),
    "azure_disk": (("disk_name", "diskName"), ("disk_uri", "diskURI")),
    "scale_io": (("gateway", "gateway"), ("system", "system"), ("volume_name", "volumeName")),
    "local": (("path", "path"),),
    "storageos": (("volume_name", "volumeName"),),
    "csi": (("volume_handle", "volumeHandle"),),
}


def _number(value: int | None, at: str) -> Causes:
    return [] if value is None or 0 <= value <= NUMBER_MAX else [invalid(at, value, _RANGE)]


def _secret(secret: SecretReference | None, at: str) -> Causes:
    """A secret outside of a pod, with its namespace."""
    if secret is None:
        return []
    causes: Causes = []
    for text, name, check in (
        (secret.name, "name", dns_subdomain),
        (secret.namespace, "namespace", dns_label),
    ):
        if not text:
            causes.append(required(f"{at}.{name}"))
        else:
            causes += malformed(f"{at}.{name}", text, check)
    return causes


def _host_path(source: Any, at: str) -> Causes:
    return validate_host_path(source.path, source.type, at)


def _partition(source: Any, at: str) -> Causes:
    return _number(source.partition, f"{at}.partition")


def _glusterfs(source: Any, at: str) -> Causes:
    namespace = getattr(source, "endpoints_namespace", None)  # a pod's has none
    if namespace is None:
        return []
    if not namespace:
        words = "if the endpointnamespace is set, it must be a valid namespace name"
        return [invalid(f"{at}.endpointsNamespace", namespace, words)]
    return malformed(f"{at}.endpointsNamespace", namespace, dns_label)


def _flocker(source: Any, at: str) -> Causes:
    if not source.dataset_name and not source.dataset_uuid:
        return [required(at, "one of datasetName and datasetUUID is required")]
    causes: Causes = []
    if source.dataset_name and source.dataset_uuid:
        causes.append(
            invalid(
                at, "resource", "datasetName and datasetUUID can not be specified simultaneously"
            )
        )
    if "/" in (source.dataset_name or ""):
        causes.append(invalid(f"{at}.datasetName", source.dataset_name, "must not contain '/'"))
    return causes


def _nfs(source: Any, at: str) -> Causes:
    return (
        []
        if source.path.startswith("/")
        else [invalid(f"{at}.path", source.path, "must be an absolute path")]
    )


def _quobyte(source: Any, at: str) -> Causes:
    causes: Causes = []
    if source.registry and any(not _is_pair(pair) for pair in source.registry.split(",")):
        causes.append(invalid(f"{at}.registry", source.registry, _PAIRS))
    if len(source.tenant or "") >= 65:
        causes.append(required(f"{at}.tenant", "must be less than 65 characters"))
    return causes


def _is_pair(text: str) -> bool:
    host, colon, _ = text.rpartition(":")
    return bool(colon) and (":" not in host or (host.startswith("[") and host.endswith("]")))


def _iscsi(source: Any, at: str) -> Causes:
    causes = _initiator(source.iqn, f"{at}.iqn") if source.iqn else []
    causes += _number(source.lun, f"{at}.lun")
    if (source.chap_auth_discovery or source.chap_auth_session) and source.secret_ref is None:
        causes.append(required(f"{at}.secretRef"))
    if isinstance(source.secret_ref, SecretReference) and not source.secret_ref.name:
        causes.append(required(f"{at}.secretRef.name"))
    if source.initiator_name is not None:
        causes += _initiator(source.initiator_name, f"{at}.initiatorname")
    return causes


def validate_iscsi_name(name: str, portal: str, at: str) -> Causes:
    """A volume with an initiator name has a name of its own, which must not be too long."""
    if len(f"{name}:{portal}") <= ISCSI_NAMES_MAX:
        return []
    words = (
        "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if "
        "iscsi.initiatorName is specified."
    )
    return [invalid(at, name, words)]


def _initiator(name: str, at: str) -> Causes:
    for prefix, check in (("iqn", _is_iqn), ("eui", _is_eui), ("naa", _is_naa)):
        if name.startswith(prefix):
            return [] if check(name) else [invalid(at, name, "must be valid format")]
    return [invalid(at, name, "must be valid format starting with iqn, eui, or naa")]


def _cinder(source: Any, at: str) -> Causes:
    secret = source.secret_ref
    return [] if secret is None else _named(secret, f"{at}.secretRef")


def _fc(source: Any, at: str) -> Causes:
    if not source.target_wwns:
        words = "must specify either targetWWNs or wwids, but not both"
        return [] if source.wwids else [required(f"{at}.targetWWNs", words)]
    causes: Causes = []
    if source.wwids:
        words = "targetWWNs and wwids can not be specified simultaneously"
        causes.append(invalid(f"{at}.targetWWNs", source.target_wwns, words))
    if source.lun is None:
        causes.append(required(f"{at}.lun", "lun is required if targetWWNs is specified"))
    return causes + _number(source.lun, f"{at}.lun")


def _flex_volume(source: Any, at: str) -> Causes:
    causes: Causes = []
    for key in source.options or {}:
        owner = "." + key.partition("/")[0].lower()
        if owner.endswith((".kubernetes.io", ".k8s.io")):
            words = "kubernetes.io and k8s.io namespaces are reserved"
            causes.append(invalid(f"{at}.options[{key}]", key, words))
    return causes


def _azure_file(source: Any, at: str) -> Causes:
    if getattr(source, "secret_namespace", None) == "":
        return [required(f"{at}.secretNamespace")]
    return []


def _azure_disk(source: Any, at: str) -> Causes:
    causes: Causes = []
    if source.caching_mode is not None and source.caching_mode not in CACHING_MODES:
        causes.append(not_supported(f"{at}.cachingMode", source.caching_mode, CACHING_MODES))
    if source.kind is not None and source.kind not in DISK_KINDS:
        causes.append(not_supported(f"{at}.kind", source.kind, DISK_KINDS))
    if source.kind is not None:
        start, form = _DISK_FORMS[source.kind == "Managed"]
        if not source.disk_uri.startswith(start):
            causes.append(not_supported(f"{at}.diskURI", source.disk_uri, (form,)))
    return causes


def _local(source: Any, at: str) -> Causes:
    return (
        [invalid(f"{at}.path", source.path, "must not contain '..'")]
        if ".." in source.path.split("/")
        else []
    )


def _storageos(source: Any, at: str) -> Causes:
    causes: Causes = []
    for text, name in (
        (source.volume_name, "volumeName"),
        (source.volume_namespace, "volumeNamespace"),
    ):
        causes += malformed(f"{at}.{name}", text, dns_label) if text else []
    return (
        causes
        if source.secret_ref is None
        else causes + _named(source.secret_ref, f"{at}.secretRef")
    )


def _named(secret: Any, at: str) -> Causes:
    """A secret of a volume: its name, and its namespace if it can have one (for a pod it is the
    pod's)."""
    causes: Causes = [] if secret.name else [required(f"{at}.name")]
    if not isinstance(secret, LocalObjectReference) and not secret.namespace:
        causes.append(required(f"{at}.namespace"))
    return causes


def _csi(source: Any, at: str) -> Causes:
    causes = validate_driver_name(source.driver, f"{at}.driver")
    for attribute, name in (
        ("controller_publish_secret_ref", "controllerPublishSecretRef"),
        ("controller_expand_secret_ref", "controllerExpandSecretRef"),
        ("node_publish_secret_ref", "nodePublishSecretRef"),
        ("node_expand_secret_ref", "nodeExpandSecretRef"),
    ):
        causes += _secret(getattr(source, attribute), f"{at}.{name}")
    return causes


_MORE: Mapping[str, Callable[[Any, str], Causes]] = {
    "host_path": _host_path, "gce_persistent_disk": _partition, "aws_elastic_block_store": _partition,
    "glusterfs": _glusterfs, "flocker": _flocker, "nfs": _nfs, "quobyte": _quobyte, "iscsi": _iscsi,
    "cinder": _cinder, "fc": _fc, "flex_volume": _flex_volume, "azure_file": _azure_file,
    "azure_disk": _azure_disk, "local": _local, "storageos": _storageos, "csi": _csi,
}  # fmt: skip
