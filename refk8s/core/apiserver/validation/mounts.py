"""The mounts of volumes in a container. Rule VAL-11 (spec/validation.md).

Source: Kubernetes documentation, "Volumes" (subPath, mount propagation, recursive read-only
mounts), "Raw Block Volume Support".
"""

from refk8s.core.api.core_v1 import Container, EphemeralContainer, Volume, VolumeDevice, VolumeMount
from refk8s.core.apiserver.validation.field import (
    Causes,
    forbidden,
    invalid,
    not_found,
    not_supported,
    required,
)
from refk8s.core.memo import remember

HOST_PATH_TYPES = (
    "", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket",
)  # fmt: skip
PROPAGATIONS = ("Bidirectional", "HostToContainer", "None")

Volumes = dict[str, Volume]
AnyContainer = Container | EphemeralContainer


def validate_mounts(
    container: AnyContainer, mounts: tuple[VolumeMount, ...], volumes: Volumes, at: str
) -> Causes:
    """VAL-11: each mount names a volume of the pod and has a unique path."""
    causes: Causes = []
    paths: set[str] = set()
    devices = {device.name: device.device_path for device in container.volume_devices or ()}
    for position, mount in enumerate(mounts):
        here = f"{at}[{position}]"
        if not mount.name:
            causes.append(required(f"{here}.name"))
        volume = volumes.get(mount.name)
        if volume is None:
            causes.append(not_found(f"{here}.name", mount.name))
        if not mount.mount_path:
            causes.append(required(f"{here}.mountPath"))
        if mount.mount_path in paths:
            causes.append(invalid(f"{here}.mountPath", mount.mount_path, "must be unique"))
        paths.add(mount.mount_path)
        where = (f"{here}.name", f"{here}.mountPath")
        causes += _taken(where, mount.name, mount.mount_path, devices, "volumeDevices")
        if mount.sub_path:
            causes += validate_descending_path(mount.sub_path, f"{at}.subPath")
        if mount.sub_path_expr:
            if mount.sub_path:
                causes.append(
                    invalid(
                        f"{here}.subPathExpr",
                        mount.sub_path_expr,
                        "subPathExpr and subPath are mutually exclusive",
                    )
                )
            causes += validate_descending_path(mount.sub_path_expr, f"{at}.subPathExpr")
        propagation = mount.mount_propagation
        if propagation is not None:
            if propagation not in PROPAGATIONS:
                causes.append(not_supported(f"{at}.mountPropagation", propagation, PROPAGATIONS))
            elif propagation == "Bidirectional" and not (
                container.security_context and container.security_context.privileged
            ):
                words = "Bidirectional mount propagation is available only to privileged containers"
                causes.append(forbidden(f"{at}.mountPropagation", words))
        if mount.recursive_read_only is not None:
            causes += _validate_recursive(mount, f"{at}.recursiveReadOnly")
    return causes


def _validate_recursive(mount: VolumeMount, at: str) -> Causes:
    value = mount.recursive_read_only
    if value == "Disabled":
        return []
    if value not in ("Enabled", "IfPossible"):
        return [not_supported(at, value, ("Disabled", "Enabled", "IfPossible"))]
    causes: Causes = []
    if not mount.read_only:
        causes.append(forbidden(at, "may only be specified when readOnly is true"))
    if mount.mount_propagation not in (None, "None"):
        causes.append(
            forbidden(at, "may only be specified when mountPropagation is None or not specified")
        )
    return causes


def validate_devices(
    container: AnyContainer, devices: tuple[VolumeDevice, ...], volumes: Volumes, at: str
) -> Causes:
    causes: Causes = []
    names: set[str] = set()
    paths: set[str] = set()
    mounts = {mount.name: mount.mount_path for mount in container.volume_mounts or ()}
    for position, device in enumerate(devices):
        here = f"{at}[{position}]"
        if not device.name:
            causes.append(required(f"{here}.name"))
        if device.name in names:
            causes.append(invalid(f"{here}.name", device.name, "must be unique"))
        volume = volumes.get(device.name)
        if volume is None:
            causes.append(not_found(f"{here}.name", device.name))
        elif volume.persistent_volume_claim is None and volume.ephemeral is None:
            words = (
                "can only use volume source type of PersistentVolumeClaim or Ephemeral "
                "for block mode"
            )
            causes.append(invalid(f"{here}.name", device.name, words))
        if not device.device_path:
            causes.append(required(f"{here}.devicePath"))
        if device.device_path in paths:
            causes.append(invalid(f"{here}.devicePath", device.device_path, "must be unique"))
        if ".." in device.device_path.split("/"):
            causes.append(
                invalid(
                    f"{here}.devicePath", device.device_path, "can not contain backsteps ('..')"
                )
            )
        else:
            paths.add(device.device_path)
        where = (f"{here}.name", f"{here}.devicePath")
        causes += _taken(where, device.name, device.device_path, mounts, "volumeMounts")
        if device.name:
            names.add(device.name)
    return causes


def _taken(
    where: tuple[str, str], name: str, path: str, others: dict[str, str], others_field: str
) -> Causes:
    """A volume is mounted or is a block device of the container, and so is a path."""
    causes: Causes = []
    if name in others:
        causes.append(invalid(where[0], name, f"must not already exist in {others_field}"))
    if path in others.values():
        causes.append(
            invalid(where[1], path, f"must not already exist as a path in {others_field}")
        )
    return causes


def validate_relative_path(path: str, at: str) -> Causes:
    """A path of a file inside its volume. It does not begin with two dots, which the kubelet's own
    directories do."""
    causes = validate_descending_path(path, at)
    if path.startswith("..") and not path.startswith("../"):
        causes.append(invalid(at, path, "must not start with '..'"))
    return causes


def validate_descending_path(path: str, at: str) -> Causes:
    """A path that does not leave its starting point."""
    causes: Causes = []
    if path.startswith("/"):
        causes.append(invalid(at, path, "must be a relative path"))
    if ".." in path.split("/"):
        causes.append(invalid(at, path, "must not contain '..'"))
    return causes


def validate_host_path(path: str, kind: str | None, at: str) -> Causes:
    if not path:
        return [required(f"{at}.path")]
    causes: Causes = []
    if ".." in path.split("/"):
        causes.append(invalid(f"{at}.path", path, "must not contain '..'"))
    if kind is not None and kind not in HOST_PATH_TYPES:
        causes.append(not_supported(f"{at}.type", kind, HOST_PATH_TYPES))
    return causes


@remember(1024)
def is_inside(path: str) -> bool:
    """Whether a file's path is within its volume and does not begin with two dots, which the
    kubelet's own directories do."""
    return not path.startswith(("/", "..")) and ".." not in path.split("/")
