"""The volumes of a pod: created before its containers, and updated when their source changes.

Rules KUBELET-56 ... KUBELET-58, KUBELET-90, KUBELET-110, KUBELET-132.

| volume | operation of the runtime |
|---|---|
| emptyDir | an empty directory, once per pod; with medium Memory in memory |
| hostPath | a path of the node |
| claim whose volume is hostPath or local | that path of the node |
| image | the files of an image, which is pulled first |
| configMap, secret, downwardAPI, projected | files, again when their content changes; secrets and tokens in memory |
| any other | none: the pod waits, and an Event has the reason |

Source: Kubernetes documentation, "Volumes", "Projected Volumes", "Configure a Pod to Use a
Projected Volume for Storage", "Persistent Volumes". Left out: all kinds that need drivers.
"""

from base64 import b64decode
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

from refk8s.core.api import quantity
from refk8s.core.api.core_v1 import (
    ConfigMap,
    Container,
    DownwardAPIVolumeFile,
    KeyToPath,
    PersistentVolume,
    PersistentVolumeClaim,
    Pod,
    PodSecurityContext,
    Volume,
    VolumeProjection,
)
from refk8s.core.kubelet.draft import Draft
from refk8s.core.kubelet.environment import field_value, resource_value
from refk8s.core.kubelet.memory import NEVER, PULL, live_sandbox
from refk8s.core.kubelet.node_addresses import node_ips
from refk8s.core.kubelet.objects import (
    TOKEN_SECONDS,
    NotYet,
    claim_key,
    config_map_key,
    secret_key,
    token_key,
    volume_key,
)
from refk8s.core.kubelet.problems import BadConfig
from refk8s.core.kubelet.pull_secrets import pull_credentials
from refk8s.core.kubelet.security import compute_confinement
from refk8s.core.kubelet.trust import trust_anchors
from refk8s.core.loop.view import controller_of
from refk8s.core.memo import remember_identical
from refk8s.core.pods.devices import parts_of
from refk8s.core.pods.volumes import BOUND
from refk8s.core.ports import PullImage, WriteVolume
from refk8s.core.value import Value

DEFAULT_MODE = 0o644
TOKEN_MODE = 0o600
MEMORY = "Memory"
PRESENT = "present"


def plan_volumes(draft: Draft, pod: Pod) -> bool:
    """Write missing and changed volumes; whether all of them exist (KUBELET-56), and no device is
    missing (DRA-16)."""
    if parts_of(pod) and not draft.facts.config.simulates_devices:
        _record_missing_driver(draft)
        return False
    volumes = pod.spec.volumes
    if not volumes:
        return True
    if draft.memory.volume_writes_running:
        return False
    if draft.now < draft.memory.volumes_due:
        draft.wake(draft.memory.volumes_due)
        return True
    if draft.now < draft.memory.volumes_retry_at:
        draft.wake(draft.memory.volumes_retry_at)
        return all(volume.name in draft.memory.volumes for volume in volumes)
    made_before = any(
        c.current is not None or c.last is not None for c in draft.memory.containers.values()
    )
    held = dict(draft.memory.volumes)
    complete = settled = True
    writes = 0
    for volume in volumes:
        # A restart of the machine removed it.
        in_memory = volume.empty_dir is not None and volume.empty_dir.medium == MEMORY
        # KUBELET-57: an emptyDir of an earlier kubelet is not created again.
        if is_lasting(volume) and (volume.name in held or (made_before and not in_memory)):
            held.setdefault(volume.name, PRESENT)
            continue
        try:
            operation, fingerprint = compute_volume(draft, pod, volume)
        except NotYet:
            settled = False
            complete = complete and volume.name in held
            continue
        except BadConfig as problem:
            settled = False
            complete = complete and volume.name in held
            _record_failure(draft, volume, str(problem))
            continue
        if held.get(volume.name) != fingerprint:
            complete = complete and volume.name in held
            held[volume.name] = fingerprint
            draft.operations.append(operation)
            writes += 1
    # Without a change only the renewal of a token needs another check. A write that fails sets the
    # instant to 0, and so does an object that has changed when it is read again.
    due = draft.library.wake_at or NEVER if settled else 0
    draft.remember(volumes=held, volume_writes_running=writes, volumes_due=due)
    if due:
        draft.wake(due)  # With NEVER there is none.
    return complete


def _record_missing_driver(draft: Draft) -> None:
    """DRA-16: no driver of devices can register here."""
    if draft.now >= draft.memory.complained_at + draft.facts.config.retry_after:
        draft.remember(complained_at=draft.now)
        words = "Failed to prepare dynamic resources: no DRA driver is registered"
        draft.note("FailedPrepareDynamicResources", words, "Warning")


def _record_failure(draft: Draft, volume: Volume, message: str) -> None:
    """Record the Event once in a while; reconcile again when the retry is due."""
    if draft.now >= draft.memory.complained_at + draft.facts.config.retry_after:
        draft.remember(complained_at=draft.now)
        draft.note(
            "FailedMount",
            f'MountVolume.SetUp failed for volume "{volume.name}" : {message}',
            "Warning",
        )


def _image_of(draft: Draft, volume: Volume) -> str:
    """The id of the volume's image. While it is not on the node, it is pulled (KUBELET-110)."""
    source = volume.image
    reference = source.reference if source is not None else None
    if source is None or not reference:
        raise BadConfig("the image volume names no image")
    found = draft.memory.volume_images.get(reference, "")
    if not found:
        credentials = pull_credentials(draft, reference)
        draft.remember(volume_images={**draft.memory.volume_images, reference: PULL})
        policy = source.pull_policy or "IfNotPresent"
        draft.operations.append(PullImage(draft.memory.uid, reference, policy, credentials))
    if found in ("", PULL):
        raise NotYet(f'image "{reference}" is pulled')
    return found


def compute_volume(draft: Draft, pod: Pod, volume: Volume) -> tuple[WriteVolume, str]:
    """The operation that writes the volume, and a fingerprint of its content."""
    uid, name, group = draft.memory.uid, volume.name, fs_group(pod)
    if (empty := volume.empty_dir) is not None:
        in_memory = empty.medium == MEMORY
        if empty.medium and not in_memory:
            raise BadConfig(f'medium "{empty.medium}" is not supported')
        limit = quantity.value(empty.size_limit) if in_memory and empty.size_limit else 0
        return WriteVolume(
            uid, name, mode=0o777, medium=empty.medium or "", fs_group=group, size_limit_bytes=limit
        ), PRESENT
    if (host := volume.host_path) is not None:
        return WriteVolume(uid, name, host_path=host.path, host_path_type=host.type or ""), PRESENT
    if volume.image is not None:
        return WriteVolume(uid, name, mode=0o755, image_id=_image_of(draft, volume)), PRESENT
    if claim_of(pod, volume):
        path, kind = compute_claimed(draft, pod, volume)
        return WriteVolume(uid, name, host_path=path, host_path_type=kind), PRESENT
    files, mode = compute_files(draft, pod, volume)
    digest = blake2b(digest_size=16)
    for path, file in sorted(files.items()):
        digest.update(
            b"%d %d %o %d " % (len(path), len(file.content), file.mode or 0, file.user)
            + path.encode()
            + file.content
        )
    return WriteVolume(
        uid,
        name,
        {path: file.content for path, file in files.items()},
        DEFAULT_MODE if mode is None else mode,
        medium=MEMORY if is_secret(volume) else "",
        modes={path: file.mode for path, file in files.items() if file.mode is not None},
        users={path: file.user for path, file in files.items() if file.user >= 0},
        fs_group=group,
    ), digest.hexdigest()


def claim_of(pod: Pod, volume: Volume) -> str:
    """The name of the claim that the volume mounts; empty if it mounts none."""
    if volume.persistent_volume_claim is not None:
        return volume.persistent_volume_claim.claim_name
    return f"{pod.metadata.name}-{volume.name}" if volume.ephemeral is not None else ""


def compute_claimed(draft: Draft, pod: Pod, volume: Volume) -> tuple[str, str]:
    """(path, type) of the claim's volume on this node (KUBELET-97).

    Claim and volume must name each other, so that a pod gets no volume that belongs to another
    claim.
    """
    name, namespace = claim_of(pod, volume), pod.metadata.namespace or ""
    claim: PersistentVolumeClaim | None = draft.library.show(claim_key(namespace, name))
    if claim is None:
        raise BadConfig(f'persistentvolumeclaim "{name}" not found')
    if volume.ephemeral is not None and not _is_owned_by(claim, pod):
        raise BadConfig(
            f"PVC {namespace}/{name} was not created for pod {namespace}/{pod.metadata.name} (pod is not owner)"
        )
    if claim.status.phase != BOUND or not claim.spec.volume_name:
        raise BadConfig(f'persistentvolumeclaim "{name}" is not bound')
    found: PersistentVolume | None = draft.library.show(volume_key(claim.spec.volume_name))
    if found is None:
        raise BadConfig(f'persistentvolume "{claim.spec.volume_name}" not found')
    reference = found.spec.claim_ref
    if reference is None or reference.uid != claim.metadata.uid:
        raise BadConfig(f'persistentvolume "{found.metadata.name}" is not bound to claim "{name}"')
    if found.spec.volume_mode == "Block":
        raise BadConfig("volumes of mode Block are not supported")
    if found.spec.host_path is not None:
        return found.spec.host_path.path, found.spec.host_path.type or ""
    if found.spec.local is not None:
        return found.spec.local.path, "Directory"
    raise BadConfig("this kind of volume is not supported")


def _is_owned_by(claim: PersistentVolumeClaim, pod: Pod) -> bool:
    owner = controller_of(claim)
    return owner is not None and owner.uid == pod.metadata.uid


def is_lasting(volume: Volume) -> bool:
    """Whether it is created once, and others than the kubelet choose its files."""
    return (
        volume.empty_dir is not None
        or volume.image is not None
        or volume.host_path is not None
        or volume.persistent_volume_claim is not None
        or volume.ephemeral is not None
    )


def is_read_only(volume: Volume) -> bool:
    """Whether containers mount it read-only, whatever they say: an image, or a claim of which the
    pod says so (KUBELET-97, KUBELET-110)."""
    claim = volume.persistent_volume_claim
    return volume.image is not None or (claim is not None and bool(claim.read_only))


def is_secret(volume: Volume) -> bool:
    """Whether it shows secrets or tokens, which are kept in memory (KUBELET-90)."""
    sources = (volume.projected.sources if volume.projected is not None else None) or ()
    return volume.secret is not None or any(
        s.secret is not None or s.service_account_token is not None for s in sources
    )


def fs_group(pod: Pod) -> int:
    """The group that owns the pod's volumes; -1 if the pod has none."""
    context = pod.spec.security_context
    return context.fs_group if context is not None and context.fs_group is not None else -1


class File(Value, frozen=True):
    """A file of a volume. `mode` None: the volume's; `user` -1: the kubelet's own."""

    content: bytes
    mode: int | None = None
    user: int = -1


Files = dict[str, File]


def compute_files(draft: Draft, pod: Pod, volume: Volume) -> tuple[Files, int | None]:
    """(path -> file, mode) of a volume made of files."""
    if (config_map := volume.config_map) is not None:
        return _config_map(
            draft, pod, config_map.name or "", config_map.items, config_map.optional
        ), config_map.default_mode
    if (secret := volume.secret) is not None:
        return _secret(
            draft, pod, secret.secret_name or "", secret.items, secret.optional
        ), secret.default_mode
    if (downward := volume.downward_api) is not None:
        return _downward(draft, pod, downward.items), downward.default_mode
    if (projected := volume.projected) is not None:
        files: Files = {}
        # The exception itself is not kept: it would refer to this frame, and the frame to it, so
        # that only the interpreter's collector could free both and the whole step.
        missing = ""
        for source in projected.sources or ():
            try:
                files.update(_projected(draft, pod, source))
            except NotYet as waits:
                missing = str(waits)  # the other sources are requested at the same time
        if missing:
            raise NotYet(missing)
        return files, projected.default_mode
    raise BadConfig("this kind of volume is not supported")


def _projected(draft: Draft, pod: Pod, source: VolumeProjection) -> Files:
    if (config_map := source.config_map) is not None:
        return _config_map(draft, pod, config_map.name or "", config_map.items, config_map.optional)
    if (secret := source.secret) is not None:
        return _secret(draft, pod, secret.name or "", secret.items, secret.optional)
    if (downward := source.downward_api) is not None:
        return _downward(draft, pod, downward.items)
    if (token := source.service_account_token) is not None:
        held = draft.library.show(
            token_key(pod, token.audience or "", token.expiration_seconds or TOKEN_SECONDS)
        )
        if held is None:
            raise BadConfig(
                f'serviceaccount "{pod.spec.service_account_name or "default"}" not found'
            )
        return {token.path: _private(pod, (held.status.token or "").encode())}
    if (trust := source.cluster_trust_bundle) is not None:
        return {trust.path: _private(pod, trust_anchors(draft.library, trust))}
    raise BadConfig("this kind of projected source is not supported")


def _private(pod: Pod, content: bytes) -> File:
    """A file of the user that all containers have (KUBELET-90)."""
    user = common_user(pod)
    return File(content, TOKEN_MODE if user >= 0 or fs_group(pod) >= 0 else None, user)


def common_user(pod: Pod) -> int:
    """The user of all containers of the pod; -1 if they differ or one has the image's."""
    spec = pod.spec
    return _common_user(spec.containers, spec.init_containers, spec.security_context)


@remember_identical(16)
def _common_user(
    containers: tuple[Container, ...],
    init_containers: tuple[Container, ...] | None,
    context: PodSecurityContext | None,
) -> int:
    found = {
        compute_confinement(context, container.security_context).run_as_user
        for container in (*containers, *(init_containers or ()))
    }
    user = found.pop() if len(found) == 1 else None
    return -1 if user is None else user


def _config_map(
    draft: Draft, pod: Pod, name: str, items: tuple[KeyToPath, ...] | None, optional: bool | None
) -> Files:
    found: Any = draft.library.show(config_map_key(pod.metadata.namespace or "", name))
    if found is None:
        if optional:
            return {}
        raise BadConfig(f'configmap "{name}" not found')
    return _chosen(_data_of(found), items, optional)


@remember_identical(16)
def _data_of(config_map: ConfigMap) -> dict[str, bytes]:
    """Its content; every pod of a namespace mounts the one with the cluster's certificate."""
    data = {key: text.encode() for key, text in (config_map.data or {}).items()}
    return data | {key: b64decode(text) for key, text in (config_map.binary_data or {}).items()}


def _secret(
    draft: Draft, pod: Pod, name: str, items: tuple[KeyToPath, ...] | None, optional: bool | None
) -> Files:
    found: Any = draft.library.show(secret_key(pod.metadata.namespace or "", name))
    if found is None:
        if optional:
            return {}
        raise BadConfig(f'secret "{name}" not found')
    return _chosen(
        {key: b64decode(text) for key, text in (found.data or {}).items()}, items, optional
    )


def _chosen(
    data: Mapping[str, bytes], items: tuple[KeyToPath, ...] | None, optional: bool | None
) -> Files:
    """The selected keys under their paths; all keys under their own names without a selection."""
    if not items:
        return {key: File(content) for key, content in data.items()}
    missing = [item.key for item in items if item.key not in data]
    if missing and not optional:
        raise BadConfig(f"references non-existent config key: {missing[0]}")
    return {item.path: File(data[item.key], item.mode) for item in items if item.key in data}


def _downward(draft: Draft, pod: Pod, items: tuple[DownwardAPIVolumeFile, ...] | None) -> Files:
    files: Files = {}
    sandbox = live_sandbox(draft.memory)
    host_ips = node_ips(draft.facts.config, draft.facts.node)
    for item in items or ():
        if item.field_ref is not None:
            text = field_value(
                pod, item.field_ref.field_path, host_ips, sandbox.ips if sandbox is not None else ()
            )
        elif item.resource_field_ref is not None:
            named = next(
                (
                    c
                    for c in pod.spec.containers
                    if c.name == item.resource_field_ref.container_name
                ),
                pod.spec.containers[0],
            )
            text = resource_value(pod, named, item.resource_field_ref, draft.facts.node)
        else:
            continue
        files[item.path] = File(text.encode(), item.mode)
    return files
