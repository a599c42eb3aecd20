"""Fields of volumes that belong to features that are off by default: the owners of files, and the
mode of an emptyDir. Rule DEF-22 (spec/defaults.md).

Source: Kubernetes documentation, "Feature Gates" (AtomicWriteVolumeUserFields, EmptyDirVolumeMode).
"""

from typing import Any

from msgspec.structs import replace

from refk8s.core.api.core_v1 import PodSpec, Volume

_FILES = ("config_map", "secret", "downward_api", "projected")
_PARTS = (
    "config_map", "secret", "downward_api", "service_account_token", "cluster_trust_bundle",
    "pod_certificate",
)  # fmt: skip


def plain_volumes(spec: PodSpec) -> tuple[Volume, ...] | None:
    """The volumes without these fields; the same tuple if none is set."""
    volumes = spec.volumes
    for volume in volumes or ():
        if not _is_plain(volume):
            return tuple([_plain_volume(one) for one in volumes or ()])
    return volumes


def _is_plain(volume: Volume) -> bool:
    """Whether the volume has none of these fields. Nearly every volume is plain, and this runs at
    every write of a pod."""
    if (directory := volume.empty_dir) is not None and directory.mode is not None:
        return False
    if (projected := volume.projected) is not None:
        if projected.default_user is not None:
            return False
        for one in projected.sources or ():
            if (token := one.service_account_token) is not None:
                if token.user is not None:
                    return False
            elif (config := one.config_map) is not None:
                if _has_users(config.items):
                    return False
            elif (downward := one.downward_api) is not None:
                if _has_users(downward.items):
                    return False
            elif _plain_projection(one) is not one:
                return False
        return True
    for source in (volume.config_map, volume.secret, volume.downward_api):
        if source is not None:
            return source.default_user is None and not _has_users(source.items)
    return True


def _has_users(items: tuple[Any, ...] | None) -> bool:
    # a generator would cost three times as much
    for item in items or ():  # noqa: SIM110
        if item.user is not None:
            return True
    return False


def _plain_volume(volume: Volume) -> Volume:
    changed: dict[str, Any] = {}
    if volume.empty_dir is not None and volume.empty_dir.mode is not None:
        changed["empty_dir"] = replace(volume.empty_dir, mode=None)
    for attribute in _FILES:
        source = getattr(volume, attribute)
        if source is not None and (plain := _plain_source(source)) is not source:
            changed[attribute] = plain
    return replace(volume, **changed) if changed else volume


def _plain_source(source: Any) -> Any:
    """A source of files, or a part of a projected volume."""
    changed: dict[str, Any] = {
        name: None for name in ("default_user", "user") if getattr(source, name, None) is not None
    }
    items = getattr(source, "items", None)
    if items and any(item.user is not None for item in items):
        changed["items"] = tuple([replace(item, user=None) for item in items])
    parts = getattr(source, "sources", None)
    if parts:
        plain = tuple([_plain_projection(part) for part in parts])
        if any(new is not old for new, old in zip(plain, parts, strict=True)):
            changed["sources"] = plain
    return replace(source, **changed) if changed else source


def _plain_projection(projection: Any) -> Any:
    changed = {}
    for attribute in _PARTS:
        part = getattr(projection, attribute)
        if part is not None and (plain := _plain_source(part)) is not part:
            changed[attribute] = plain
    return replace(projection, **changed) if changed else projection
