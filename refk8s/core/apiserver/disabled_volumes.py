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
    if not volumes:
        return volumes
    plain = tuple([_plain_volume(volume) for volume in volumes])
    same = all(new is old for new, old in zip(plain, volumes, strict=True))
    return volumes if same else plain


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
