"""The objects that a pod refers to: secrets, config maps, claims, its service account. Rule NAUTH-2
(spec/authorization.md).

Source: Kubernetes documentation, "Using Node Authorization", "Volumes".
"""

from collections.abc import Iterator
from typing import Final

from refk8s.core.api.core_v1 import Container, EphemeralContainer, Pod, Volume

Reference = tuple[str, str]
"""The plural of the resource, and the name of an object in the namespace of the pod."""

MIRROR_ANNOTATION: Final = "kubernetes.io/config.mirror"
"""A pod with it shows a pod that the kubelet runs from a file; it is no reason to read others."""


def references(pod: Pod) -> Iterator[Reference]:
    """Every reference of the pod; an object may come more than once. O(size of the pod)."""
    spec = pod.spec
    if spec is None:
        return
    if spec.service_account_name:
        yield "serviceaccounts", spec.service_account_name
    for secret in spec.image_pull_secrets or ():
        if secret.name:
            yield "secrets", secret.name
    for containers in (spec.init_containers, spec.containers, spec.ephemeral_containers):
        for container in containers or ():
            yield from _of_environment(container)
    for volume in spec.volumes or ():
        yield from _of_volume(volume, pod.metadata.name or "")
    generated = {
        one.name: one.resource_claim_name
        for one in (pod.status.resource_claim_statuses or () if pod.status is not None else ())
    }
    for claim in spec.resource_claims or ():
        name = claim.resource_claim_name or generated.get(claim.name)
        if name:
            yield "resourceclaims", name


def _of_environment(container: Container | EphemeralContainer) -> Iterator[Reference]:
    for source in container.env_from or ():
        if source.secret_ref is not None and source.secret_ref.name:
            yield "secrets", source.secret_ref.name
        if source.config_map_ref is not None and source.config_map_ref.name:
            yield "configmaps", source.config_map_ref.name
    for variable in container.env or ():
        value = variable.value_from
        if value is None:
            continue
        if value.secret_key_ref is not None and value.secret_key_ref.name:
            yield "secrets", value.secret_key_ref.name
        if value.config_map_key_ref is not None and value.config_map_key_ref.name:
            yield "configmaps", value.config_map_key_ref.name


def _of_volume(volume: Volume, pod_name: str) -> Iterator[Reference]:
    if volume.secret is not None and volume.secret.secret_name:
        yield "secrets", volume.secret.secret_name
    if volume.config_map is not None and volume.config_map.name:
        yield "configmaps", volume.config_map.name
    if volume.persistent_volume_claim is not None:
        yield "persistentvolumeclaims", volume.persistent_volume_claim.claim_name
    if volume.ephemeral is not None:
        yield "persistentvolumeclaims", f"{pod_name}-{volume.name}"
    for source in volume.projected.sources or () if volume.projected is not None else ():
        if source.secret is not None and source.secret.name:
            yield "secrets", source.secret.name
        if source.config_map is not None and source.config_map.name:
            yield "configmaps", source.config_map.name
    if volume.azure_file is not None and volume.azure_file.secret_name:
        yield "secrets", volume.azure_file.secret_name
    for other in (
        volume.cephfs, volume.cinder, volume.flex_volume, volume.iscsi, volume.rbd,
        volume.scale_io, volume.storageos,
    ):  # fmt: skip
        if other is not None and other.secret_ref is not None and other.secret_ref.name:
            yield "secrets", other.secret_ref.name
    if volume.csi is not None:
        secret = volume.csi.node_publish_secret_ref
        if secret is not None and secret.name:
            yield "secrets", secret.name
