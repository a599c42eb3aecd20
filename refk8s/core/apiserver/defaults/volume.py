"""Defaults of volumes. Rule DEF-8 (spec/defaults.md).

Source: Kubernetes API reference, "Volume"; documentation, "Projected Volumes". Left out: most
volumes of storage systems without an in-tree driver (their fields stay as given). The API still
sets defaults for a few of them.
"""

from typing import Any

from msgspec.structs import replace

from refk8s.core.api.core_v1 import (
    DownwardAPIVolumeFile,
    EmptyDirVolumeSource,
    PersistentVolumeClaimSpec,
    PersistentVolumeSpec,
    ProjectedVolumeSource,
    Volume,
    VolumeProjection,
)

DEFAULT_MODE = 0o644
TOKEN_SECONDS = 3600
CERTIFICATE_SECONDS = 86_400
SOURCES = tuple(name for name in Volume.__struct_fields__ if name != "name")
_EMPTY_DIR = EmptyDirVolumeSource()


def default_volume(volume: Volume) -> Volume:
    """DEF-8: a volume without a source is an emptyDir; files have mode 0644; a token lasts an
    hour."""
    if volume.empty_dir is not None or volume.persistent_volume_claim is not None:
        return volume
    changed: dict[str, Any] = {}
    if volume.config_map is not None:
        if volume.config_map.default_mode is None:
            changed["config_map"] = replace(volume.config_map, default_mode=DEFAULT_MODE)
    elif volume.secret is not None:
        if volume.secret.default_mode is None:
            changed["secret"] = replace(volume.secret, default_mode=DEFAULT_MODE)
    elif volume.projected is not None:
        projected = _default_projected(volume.projected)
        if projected is not volume.projected:
            changed["projected"] = projected
    elif volume.host_path is not None:
        if volume.host_path.type is None:
            changed["host_path"] = replace(volume.host_path, type="")
    elif volume.downward_api is not None:
        files = volume.downward_api.items and tuple(
            [_default_file(file) for file in volume.downward_api.items]
        )
        mode = (
            DEFAULT_MODE
            if volume.downward_api.default_mode is None
            else volume.downward_api.default_mode
        )
        downward_api = replace(volume.downward_api, items=files, default_mode=mode)
        if downward_api != volume.downward_api:
            changed["downward_api"] = downward_api
    elif volume.ephemeral is not None and volume.ephemeral.volume_claim_template is not None:
        template = volume.ephemeral.volume_claim_template
        spec = default_claim_spec(template.spec)
        if spec is not template.spec:
            changed["ephemeral"] = replace(
                volume.ephemeral, volume_claim_template=replace(template, spec=spec)
            )
    elif all(getattr(volume, source) is None for source in SOURCES):
        changed["empty_dir"] = _EMPTY_DIR
    else:
        changed = _rare(volume)
    return replace(volume, **changed) if changed else volume


def default_claim_spec(spec: PersistentVolumeClaimSpec) -> PersistentVolumeClaimSpec:
    """DEF-8: mode Filesystem."""
    return replace(spec, volume_mode="Filesystem") if spec.volume_mode is None else spec


def _rare(volume: Volume) -> dict[str, Any]:
    """Rarely used sources; each is checked only if no common one is set."""
    # by the image's tag, as for containers
    from refk8s.core.apiserver.defaults.pod import pull_policy

    if volume.image is not None and not volume.image.pull_policy:
        return {
            "image": replace(volume.image, pull_policy=pull_policy(volume.image.reference or ""))
        }
    return default_rare_source(volume)


def default_rare_source(volume: Volume | PersistentVolumeSpec) -> dict[str, Any]:
    """DEF-8, DEF-17: the defaults of the sources that pods and persistent volumes have in common,
    by attribute; empty if nothing is missing."""
    changed: dict[str, Any] = {}
    if volume.iscsi is not None and not volume.iscsi.iscsi_interface:
        changed["iscsi"] = replace(volume.iscsi, iscsi_interface="default")
    if volume.rbd is not None:
        rbd = volume.rbd
        changed["rbd"] = replace(
            rbd,
            pool=rbd.pool or "rbd",
            user=rbd.user or "admin",
            keyring=rbd.keyring or "/etc/ceph/keyring",
        )
    if volume.azure_disk is not None:
        disk = volume.azure_disk
        changed["azure_disk"] = replace(
            disk,
            caching_mode="ReadWrite" if disk.caching_mode is None else disk.caching_mode,
            kind="Shared" if disk.kind is None else disk.kind,
            fs_type="ext4" if disk.fs_type is None else disk.fs_type,
            read_only=bool(disk.read_only),
        )
    if volume.scale_io is not None:
        scale = volume.scale_io
        changed["scale_io"] = replace(
            scale,
            storage_mode=scale.storage_mode or "ThinProvisioned",
            fs_type=scale.fs_type or "xfs",
        )
    return {
        attribute: fresh
        for attribute, fresh in changed.items()
        if fresh != getattr(volume, attribute)
    }


def _default_projected(projected: ProjectedVolumeSource) -> ProjectedVolumeSource:
    sources = projected.sources
    if sources:
        fresh = tuple([_default_projection(source) for source in sources])
        if fresh != sources:
            sources = fresh
    if sources is projected.sources and projected.default_mode is not None:
        return projected
    mode = DEFAULT_MODE if projected.default_mode is None else projected.default_mode
    return replace(projected, sources=sources, default_mode=mode)


def _default_projection(source: VolumeProjection) -> VolumeProjection:
    token, downward_api, certificate = (
        source.service_account_token,
        source.downward_api,
        source.pod_certificate,
    )
    if token is not None and token.expiration_seconds is None:
        source = replace(
            source, service_account_token=replace(token, expiration_seconds=TOKEN_SECONDS)
        )
    if downward_api is not None and downward_api.items:
        source = replace(
            source,
            downward_api=replace(
                downward_api, items=tuple([_default_file(file) for file in downward_api.items])
            ),
        )
    if certificate is not None and certificate.max_expiration_seconds is None:
        source = replace(
            source, pod_certificate=replace(certificate, max_expiration_seconds=CERTIFICATE_SECONDS)
        )
    return source


def _default_file(file: DownwardAPIVolumeFile) -> DownwardAPIVolumeFile:
    if file.field_ref is None or file.field_ref.api_version:
        return file
    return replace(file, field_ref=replace(file.field_ref, api_version="v1"))
