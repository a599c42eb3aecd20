"""Values that a new pod gets: a service account, tolerations and an initial status. Rules ADM-3 to
ADM-7 (spec/admission.md).

Source: Kubernetes documentation, "Managing Service Accounts" (bound service account token volume),
"Configure Service Accounts for Pods", "Taints and Tolerations", "Pod Quality of Service Classes".
Left out: mirror pods; `secrets` of a service account that restrict the mounts of its pods.
"""

from hashlib import blake2b
from typing import Any

from msgspec.structs import replace

from refk8s.core.api import resources, status
from refk8s.core.api.codec import encode
from refk8s.core.api.core_v1 import (
    Container,
    Pod,
    PodCondition,
    PodSpec,
    PodStatus,
    ServiceAccount,
    Toleration,
    Volume,
    VolumeMount,
)
from refk8s.core.api.request import Request
from refk8s.core.api.scheduling_v1 import PriorityClass
from refk8s.core.api.status import ApiError
from refk8s.core.apiserver.admission import label_keys, priority, runtime_class
from refk8s.core.apiserver.outcome import Reader
from refk8s.core.apiserver.token_source import TOKEN_SOURCE
from refk8s.core.context import SUFFIX_LENGTH, Context, format_suffix, timestamp
from refk8s.core.memo import remember_identical
from refk8s.core.pods.containers import every_container
from refk8s.core.pods.qos import compute_qos_class
from refk8s.core.pods.references import MIRROR_ANNOTATION, references
from refk8s.core.pods.tolerations import EXISTS, NO_EXECUTE

NOT_READY, UNREACHABLE = "node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"
TOLERATION_SECONDS = 300
TOPOLOGY = ("topology.kubernetes.io/region", "topology.kubernetes.io/zone")
TOKEN_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"
TOKEN_VOLUME = "kube-api-access-"

_DEFAULT_TOLERATIONS = {
    key: Toleration(
        key=key, operator=EXISTS, effect=NO_EXECUTE, toleration_seconds=TOLERATION_SECONDS
    )
    for key in (NOT_READY, UNREACHABLE)
}
_BOTH = tuple(_DEFAULT_TOLERATIONS.values())
_DEFAULT_ACCOUNT = ServiceAccount()


def admit_account(request: Request, new: Pod, old: Any, store: Reader, context: Context) -> Pod:
    """ADM-3, ADM-4: the account of a new pod, and a volume with its token."""
    account = None if old is not None else _account_of(request, new, store)
    return new if account is None else replace(new, spec=_with_account(new.spec, account))


def admit_priority(request: Request, new: Pod, old: Any, store: Reader, context: Context) -> Pod:
    """ADM-7: the values of the priority class of a new pod. An update that omits them keeps them,
    because older clients drop fields that they do not know."""
    if old is None:
        return replace(new, spec=_with_priority(new.spec, priority.class_of_new(new, store)))
    changed = priority.of_changed(new, old)
    return replace(new, spec=replace(new.spec, **changed)) if changed else new


def admit_tolerations(request: Request, new: Pod, old: Any, store: Reader, context: Context) -> Pod:
    """ADM-5, also of an update that omits the tolerations."""
    if old is not None and new.spec is old.spec:
        return new
    spec = _with_tolerations(new.spec)
    return new if spec is new.spec else replace(new, spec=spec)


def admit_runtime_class(
    request: Request, new: Pod, old: Any, store: Reader, context: Context
) -> Pod:
    """ADM-31: the values of the RuntimeClass of a new pod."""
    if old is not None or new.spec.runtime_class_name is None:
        return new
    return replace(new, spec=replace(new.spec, **runtime_class.of_new(new, store)))


def admit_topology(request: Request, new: Pod, old: Any, store: Reader, context: Context) -> Pod:
    """ADM-42: the labels of the node of a new pod."""
    if old is not None or not new.spec.node_name:
        return new
    places = topology_labels(new.spec.node_name, store)
    if not places:
        return new
    labels = {**(new.metadata.labels or {}), **places}
    return replace(new, metadata=replace(new.metadata, labels=labels))


def prepare(request: Request, new: Pod, old: Any, store: Reader, context: Context) -> Pod:
    """ADM-6, ADM-30: the first status of a pod, and the labels that its selectors name."""
    if old is not None:
        return new
    spec = new.spec
    if spec.affinity is not None or spec.topology_spread_constraints:
        spec = replace(spec, **label_keys.merged(new))
    conditions = (_gated(context),) if spec.scheduling_gates else None
    began = PodStatus(phase="Pending", qos_class=compute_qos_class(spec), conditions=conditions)
    return replace(new, spec=spec, status=began)


def keep_of_status(request: Request, new: Pod, old: Pod, store: Reader, context: Context) -> Pod:
    """ADM-6: a status that is written without a QoS class or observedGeneration, and a condition
    without observedGeneration, keep the stored ones."""
    status, before = new.status, old.status
    changed: dict[str, Any] = {}
    if not status.qos_class:
        changed["qos_class"] = before.qos_class
    if not status.observed_generation and before.observed_generation:
        changed["observed_generation"] = before.observed_generation
    known = any(one.observed_generation for one in before.conditions or ())
    if known and not all(one.observed_generation for one in status.conditions or ()):
        changed["conditions"] = _observed(status.conditions or (), before.conditions or ())
    return replace(new, status=replace(status, **changed)) if changed else new


def _observed(
    conditions: tuple[PodCondition, ...], before: tuple[PodCondition, ...]
) -> tuple[PodCondition, ...]:
    """Conditions of one type are taken in their order."""
    left: dict[str, list[int | None]] = {}
    for one in reversed(before):
        left.setdefault(one.type, []).append(one.observed_generation)
    kept = []
    for one in conditions:
        generations = left.get(one.type)
        generation = generations.pop() if generations else None
        if generation and not one.observed_generation:
            one = replace(one, observed_generation=generation)
        kept.append(one)
    return tuple(kept)


# The specs of pods of one template have one identity, after each of these stages too.


@remember_identical(16)
def _with_account(spec: PodSpec, account: ServiceAccount) -> PodSpec:
    return replace(spec, **service_account(spec, account))


@remember_identical(16)
def _with_priority(spec: PodSpec, priority_class: PriorityClass | None) -> PodSpec:
    return replace(spec, **priority.of_new(spec, priority_class))


@remember_identical(16)
def _with_tolerations(spec: PodSpec) -> PodSpec:
    changed = default_tolerations(spec)
    return replace(spec, **changed) if changed else spec


def topology_labels(node_name: str, store: Reader) -> dict[str, str]:
    """ADM-42: the labels of the node's zone and region, which its pods get too."""
    record = store.get(resources.NODES.key("", node_name))
    labels = record.value.metadata.labels if record is not None else None
    return {key: labels[key] for key in TOPOLOGY if key in labels} if labels else {}


def _gated(context: Context) -> PodCondition:
    words = "Scheduling is blocked due to non-empty scheduling gates"
    since = timestamp(context.now)
    return PodCondition(
        type="PodScheduled",
        status="False",
        reason="SchedulingGated",
        message=words,
        last_transition_time=since,
    )


def _account_of(request: Request, pod: Pod, store: Reader) -> ServiceAccount | None:
    """ADM-3: the account of a new pod; `default`, if it names none. None for a mirror pod.

    An account that does not exist is rejected with 403, except `default`. Upstream waits up to 1.5
    s for the controller that creates it in every new namespace. A pure function cannot wait, so it
    assumes that the account will be created.
    """
    if pod.metadata.annotations and MIRROR_ANNOTATION in pod.metadata.annotations:
        _check_mirror_pod(pod)
        return None
    name = pod.spec.service_account_name or "default"
    namespace = pod.metadata.namespace or request.namespace
    record = store.get(resources.SERVICE_ACCOUNTS.key(namespace, name))
    if record is None and name != "default":
        why = (
            f"error looking up service account {namespace}/{name}: "
            f'serviceaccount "{name}" not found'
        )
        raise ApiError(status.forbidden(resources.PODS, pod.metadata.name or "", why))
    account: ServiceAccount = _DEFAULT_ACCOUNT if record is None else record.value
    return account


def service_account(spec: PodSpec, account: ServiceAccount) -> dict[str, Any]:
    """ADM-3: the name of the account, and a volume with its token (ADM-4)."""
    name = spec.service_account_name or "default"
    changed: dict[str, Any] = {"service_account_name": name, "service_account": name}
    if not spec.image_pull_secrets and account.image_pull_secrets:
        changed["image_pull_secrets"] = account.image_pull_secrets
    automount = spec.automount_service_account_token
    if automount is None:
        automount = account.automount_service_account_token
    if automount is not False:
        changed.update(_mount_token(spec))
    return changed


def _check_mirror_pod(pod: Pod) -> None:
    """Raise ApiError 403 if a mirror pod refers to a service account or a secret (ADM-3)."""
    spec = pod.spec
    projections = [
        source
        for volume in spec.volumes or ()
        for source in (volume.projected.sources or () if volume.projected is not None else ())
    ]
    if spec.service_account_name:
        why = "a mirror pod may not reference service accounts"
    elif any(plural == "secrets" for plural, _ in references(pod)):
        why = "a mirror pod may not reference secrets"
    elif any(source.service_account_token is not None for source in projections):
        why = "a mirror pod may not use ServiceAccountToken volume projections"
    else:
        return
    raise ApiError(status.forbidden(resources.PODS, pod.metadata.name or "", why))


def _mount_token(spec: PodSpec) -> dict[str, Any]:
    """ADM-4: the volume is mounted in every container without another mount at the token's path,
    and added if one mounts it. Its name follows from the spec, so that pods of one template have
    equal specs (D-180): what follows from a spec is computed once for all of them."""
    present = next(
        (volume.name for volume in spec.volumes or () if volume.name.startswith(TOKEN_VOLUME)), ""
    )
    suffix = format_suffix(blake2b(encode(spec), digest_size=SUFFIX_LENGTH).digest())
    name = present or TOKEN_VOLUME + suffix
    mount = VolumeMount(name=name, read_only=True, mount_path=TOKEN_PATH)
    everyone = every_container(spec)
    if not everyone or all(_is_mounted(container) for container in everyone):
        return {}
    changed: dict[str, Any] = {
        "containers": tuple([_mounted(container, mount) for container in spec.containers])
    }
    if spec.init_containers:
        changed["init_containers"] = tuple(
            [_mounted(container, mount) for container in spec.init_containers]
        )
    if not present:
        changed["volumes"] = (*(spec.volumes or ()), Volume(name=name, projected=TOKEN_SOURCE))
    return changed


def _is_mounted(container: Container) -> bool:
    mounts = container.volume_mounts
    return mounts is not None and any(mount.mount_path == TOKEN_PATH for mount in mounts)


def _mounted(container: Container, mount: VolumeMount) -> Container:
    return (
        container
        if _is_mounted(container)
        else replace(container, volume_mounts=(*(container.volume_mounts or ()), mount))
    )


def default_tolerations(spec: PodSpec) -> dict[str, Any]:
    """ADM-5: a pod tolerates a node that is not ready or unreachable for 300 seconds, unless it has
    a toleration for that."""
    tolerations = spec.tolerations
    if not tolerations:
        return {"tolerations": _BOTH}
    added = tuple(
        [
            _DEFAULT_TOLERATIONS[key]
            for key in (NOT_READY, UNREACHABLE)
            if not any(_concerns(one, key) for one in tolerations)
        ]
    )
    return {"tolerations": tolerations + added} if added else {}


def _concerns(toleration: Toleration, key: str) -> bool:
    """Whether the toleration concerns NoExecute taints with this key. Its operator and value do not
    count, so this is not whether it matches the taint (POD-20)."""
    return (toleration.key == key or not toleration.key) and (
        toleration.effect == NO_EXECUTE or not toleration.effect
    )
