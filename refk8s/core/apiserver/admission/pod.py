"""What a pod is given on its way in: an identity, patience with its node, a first status. Rules
ADM-3 ... ADM-6 (spec/admission.md).

Source: Kubernetes documentation, "Managing Service Accounts" (bound service account token volume),
"Configure Service Accounts for Pods", "Taints and Tolerations", "Pod Quality of Service Classes".
Left out: mirror pods of a node agent without an API server; secrets that a service account forbids
to mount.
"""

from typing import Any

from msgspec.structs import replace

from refk8s.core.api import resources, status
from refk8s.core.api.core_v1 import (
    Container,
    Pod,
    PodCondition,
    PodStatus,
    ResourceRequirements,
    ServiceAccount,
    Toleration,
    Volume,
    VolumeMount,
)
from refk8s.core.api.quantity import QuantityError, parse
from refk8s.core.api.request import Request
from refk8s.core.api.status import ApiError
from refk8s.core.apiserver.admission import label_keys, priority, runtime_class
from refk8s.core.apiserver.outcome import Reader
from refk8s.core.apiserver.token_source import TOKEN_SOURCE
from refk8s.core.context import Context, timestamp
from refk8s.core.pods.containers import every_container
from refk8s.core.pods.tolerations import EXISTS, NO_EXECUTE

NOT_READY, UNREACHABLE = "node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"
TOLERATION_SECONDS = 300
TOKEN_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"
TOKEN_VOLUME = "kube-api-access-"
MIRROR = "kubernetes.io/config.mirror"

_PATIENCE = {
    key: Toleration(
        key=key, operator=EXISTS, effect=NO_EXECUTE, toleration_seconds=TOLERATION_SECONDS
    )
    for key in (NOT_READY, UNREACHABLE)
}
_BOTH = tuple(_PATIENCE.values())
_DEFAULT_ACCOUNT = ServiceAccount()


def admit_new(request: Request, new: Pod, old: Any, store: Reader, context: Context) -> Pod:
    """Everything that a new pod is given, written down at once: copying a pod's spec for each would
    cost more than deciding it."""
    if old is not None:
        return new
    changed = identity(request, new, store, context)
    changed.update(patience(new))
    changed.update(priority.of_new(new, store))
    if new.spec.affinity is not None or new.spec.topology_spread_constraints:
        changed.update(label_keys.merged(new))
    pod = replace(new, spec=replace(new.spec, **changed))
    if pod.spec.runtime_class_name is not None:
        pod = replace(pod, spec=replace(pod.spec, **runtime_class.of_new(pod, store)))
    conditions = (_gated(context),) if pod.spec.scheduling_gates else None
    # ADM-6
    return replace(
        pod,
        status=PodStatus(phase="Pending", qos_class=compute_qos_class(pod), conditions=conditions),
    )


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


def admit_changed(request: Request, new: Pod, old: Any, store: Reader, context: Context) -> Pod:
    """An older client drops the fields that it does not know; what admission once gave is kept
    (ADM-5, ADM-7)."""
    if old is None or new.spec is old.spec:
        return new
    changed = patience(new)
    changed.update(priority.of_changed(new, old))
    return replace(new, spec=replace(new.spec, **changed)) if changed else new


def identity(request: Request, pod: Pod, store: Reader, context: Context) -> dict[str, Any]:
    """ADM-3: a pod acts as a service account, `default` if it names none, and finds that account's
    token in a volume (ADM-4).

    An account that is not there is refused with 403, except `default`: upstream waits up to a
    second and a half for the controller that makes it in every new namespace; a pure function
    cannot wait, and takes it as about to be.
    """
    if pod.metadata.annotations and MIRROR in pod.metadata.annotations:
        return {}
    spec = pod.spec
    name = spec.service_account_name or "default"
    namespace = pod.metadata.namespace or request.namespace
    record = store.get(resources.SERVICE_ACCOUNTS.key(namespace, name))
    if record is None and name != "default":
        why = f'error looking up service account {namespace}/{name}: serviceaccount "{name}" not found'
        raise ApiError(status.forbidden(resources.PODS, pod.metadata.name or "", why))
    account: ServiceAccount = _DEFAULT_ACCOUNT if record is None else record.value
    changed: dict[str, Any] = {"service_account_name": name, "service_account": name}
    if not spec.image_pull_secrets and account.image_pull_secrets:
        changed["image_pull_secrets"] = account.image_pull_secrets
    automount = spec.automount_service_account_token
    if automount is None:
        automount = account.automount_service_account_token
    if automount is not False:
        changed.update(_mount_token(pod, context))
    return changed


def _mount_token(pod: Pod, context: Context) -> dict[str, Any]:
    """ADM-4: every container that has nothing at the token's place gets the volume there; the
    volume is added if one does."""
    spec = pod.spec
    present = next(
        (volume.name for volume in spec.volumes or () if volume.name.startswith(TOKEN_VOLUME)), ""
    )
    name = present or TOKEN_VOLUME + context.suffix()
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


def patience(pod: Pod) -> dict[str, Any]:
    """ADM-5: a pod outlives five minutes on a node that is not ready or unreachable, unless it says
    how long."""
    tolerations = pod.spec.tolerations
    if not tolerations:
        return {"tolerations": _BOTH}
    added = tuple(
        [
            _PATIENCE[key]
            for key in (NOT_READY, UNREACHABLE)
            if not any(_names(one, key) for one in tolerations)
        ]
    )
    return {"tolerations": tolerations + added} if added else {}


def _names(toleration: Toleration, key: str) -> bool:
    """The toleration is about NoExecute taints of this key. Its operator and value do not count, so
    this is not whether it matches the taint (POD-20)."""
    return (toleration.key == key or not toleration.key) and (
        toleration.effect == NO_EXECUTE or not toleration.effect
    )


def compute_qos_class(pod: Pod) -> str:
    """ADM-6: BestEffort where nobody asks for CPU or memory, Guaranteed where all limit both at
    what they request, else Burstable.

    What a pod has as a whole counts instead of what its containers have, even where it is empty.
    """
    spec = pod.spec
    if spec.resources is not None:
        return _class_of((spec.resources,))
    return _class_of(tuple([container.resources for container in every_container(spec)]))


def _class_of(requirements: tuple[ResourceRequirements, ...]) -> str:
    if not any(one.limits or one.requests for one in requirements):
        return "BestEffort"
    asked, guaranteed = False, True
    for resources_of in requirements:
        limits, requests = resources_of.limits, resources_of.requests
        for name in ("cpu", "memory"):
            limit, request = _some(limits, name), _some(requests, name)
            asked = asked or limit != 0 or request != 0
            guaranteed = guaranteed and limit != 0 and limit == request
    return "BestEffort" if not asked else "Guaranteed" if guaranteed else "Burstable"


def _some(amounts: dict[str, str] | None, name: str) -> int:
    if not amounts or name not in amounts:
        return 0
    try:
        return parse(amounts[name]).nano
    except QuantityError:
        return 0  # validation will refuse it
