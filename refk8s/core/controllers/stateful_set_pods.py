"""The pods of a StatefulSet: their ordinals, identity and volumes. Rules STS-2, STS-3
(spec/workloads/stateful_set.md).

    pod        name of the set - ordinal      hostname: its name; subdomain: spec.serviceName
    claim      name of the claim template - name of the pod

Source: Kubernetes documentation, "StatefulSets" (Pod Identity).
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from msgspec.structs import replace

from refk8s.core.api.apps_v1 import StatefulSet
from refk8s.core.api.core_v1 import (
    PersistentVolumeClaimVolumeSource,
    Pod,
    PodTemplateSpec,
    Volume,
)
from refk8s.core.context import SECOND, Instant, parse_timestamp
from refk8s.core.controllers.controller_revisions import REVISION_HASH
from refk8s.core.controllers.owners import controller_reference
from refk8s.core.pods.status import RUNNING, available_at, ready_condition
from refk8s.core.pods.template import pod_from_template
from refk8s.core.value import Value

POD_NAME = "statefulset.kubernetes.io/pod-name"
POD_INDEX = "apps.kubernetes.io/pod-index"
ORDINAL_MAX = 2**31 - 1
_DIGITS_MAX = len(str(ORDINAL_MAX))


def ordinal_of(stateful_set: str, pod: str) -> int | None:
    """The ordinal in the name of a pod; None if the set gives no pod this name (STS-2)."""
    prefix, _, digits = pod.rpartition("-")
    if prefix != stateful_set or not (digits.isascii() and digits.isdecimal()):
        return None
    if len(digits) > _DIGITS_MAX:
        return None
    ordinal = int(digits)
    return ordinal if ordinal <= ORDINAL_MAX and str(ordinal) == digits else None


def is_member_of(stateful_set: StatefulSet) -> Callable[[Any], bool]:
    """Whether a pod has a name of the set."""
    name = stateful_set.metadata.name or ""
    return lambda pod: ordinal_of(name, pod.metadata.name or "") is not None


def first_ordinal(stateful_set: StatefulSet) -> int:
    ordinals = stateful_set.spec.ordinals
    return ordinals.start if ordinals is not None else 0


def replicas_of(stateful_set: StatefulSet) -> int:
    return 1 if stateful_set.spec.replicas is None else stateful_set.spec.replicas


class Layout(Value, frozen=True, eq=False):
    """The pods of a set: by ordinal, if the set wants the ordinal, and the others, highest
    first."""

    start: int
    replicas: int
    wanted: dict[int, Pod]
    condemned: list[Pod]

    def ordinals(self) -> Iterator[int]:
        return iter(range(self.start, self.start + self.replicas))

    def everyone(self) -> list[Pod]:
        return [*self.wanted.values(), *self.condemned]


def compute_layout(stateful_set: StatefulSet, pods: Iterable[Pod]) -> Layout:
    """Sort the pods of the set. O(n log n)."""
    name = stateful_set.metadata.name or ""
    start, replicas = first_ordinal(stateful_set), replicas_of(stateful_set)
    by_ordinal = {ordinal_of(name, pod.metadata.name or "") or 0: pod for pod in pods}
    numbered = sorted(by_ordinal.items())  # no two pods have one name
    wanted = {n: pod for n, pod in numbered if start <= n < start + replicas}
    condemned = [pod for n, pod in reversed(numbered) if n not in wanted]
    return Layout(start, replicas, wanted, condemned)


# --- states ---------------------------------------------------------------------------------------


def is_terminating(pod: Pod) -> bool:
    return pod.metadata.deletion_timestamp is not None


def is_running_and_ready(pod: Pod) -> bool:
    return pod.status.phase == RUNNING and ready_condition(pod) is not None


def becomes_available_at(pod: Pod, min_ready_seconds: int) -> Instant | None:
    """When a running pod that is ready becomes available (STS-11); None: it is not ready."""
    condition = ready_condition(pod) if pod.status.phase == RUNNING else None
    return None if condition is None else available_at(condition, min_ready_seconds)


def is_healthy(pod: Pod, min_ready_seconds: int, now: Instant) -> bool:
    """Whether it is available and not being deleted."""
    at = becomes_available_at(pod, min_ready_seconds)
    return at is not None and at <= now and not is_terminating(pod)


def replaced_at(pod: Pod, now: Instant) -> Instant:
    """When a pod that has finished may be deleted (STS-14): a second after its creation, so that a
    node which rejects every pod gets one a second. `now`, if the time of the creation is later."""
    created = pod.metadata.creation_timestamp
    at = parse_timestamp(created) if created else now
    return at + SECOND if at <= now else now


def revision_of(pod: Pod) -> str | None:
    """The name of the revision from which the pod was created; None if it is not known."""
    return (pod.metadata.labels or {}).get(REVISION_HASH)


# --- identity -------------------------------------------------------------------------------------


def claim_name(template: str, pod: str) -> str:
    return f"{template}-{pod}"


def compute_volumes(stateful_set: StatefulSet, pod: str, volumes: Any) -> tuple[Volume, ...] | None:
    """The volumes of this pod: its claims, in place of volumes of the same name, and the others."""
    templates = stateful_set.spec.volume_claim_templates
    if not templates:
        return volumes  # type: ignore[no-any-return]
    names = dict.fromkeys([each.metadata.name or "" for each in templates])
    claimed = [
        Volume(
            name=name,
            persistent_volume_claim=PersistentVolumeClaimVolumeSource(
                claim_name=claim_name(name, pod)
            ),
        )
        for name in names
    ]
    return (*claimed, *[volume for volume in volumes or () if volume.name not in names])


def new_pod(
    stateful_set: StatefulSet, template: PodTemplateSpec, revision: str, ordinal: int
) -> Pod:
    """The pod with this ordinal, from the template of a revision (STS-2, STS-3)."""
    name = f"{stateful_set.metadata.name}-{ordinal}"
    pod = pod_from_template(template, controller_reference(stateful_set))
    labels = {
        **(pod.metadata.labels or {}),
        POD_NAME: name,
        POD_INDEX: str(ordinal),
        REVISION_HASH: revision,
    }
    spec = replace(
        pod.spec,
        hostname=name,
        subdomain=stateful_set.spec.service_name or None,
        volumes=compute_volumes(stateful_set, name, pod.spec.volumes),
    )
    return replace(pod, metadata=replace(pod.metadata, name=name, labels=labels), spec=spec)


def corrected(stateful_set: StatefulSet, pod: Pod) -> Pod | None:
    """The pod with its identity and volumes restored (STS-3); None if they are right. An adopted
    pod may lack them."""
    name = pod.metadata.name or ""
    labels = pod.metadata.labels or {}
    found = {volume.name: volume.persistent_volume_claim for volume in pod.spec.volumes or ()}
    has_volumes = all(
        (source := found.get(each.metadata.name or "")) is not None
        and source.claim_name == claim_name(each.metadata.name or "", name)
        for each in stateful_set.spec.volume_claim_templates or ()
    )
    if labels.get(POD_NAME) == name and has_volumes:
        return None
    ordinal = ordinal_of(stateful_set.metadata.name or "", name)
    metadata = replace(pod.metadata, labels={**labels, POD_NAME: name, POD_INDEX: str(ordinal)})
    if has_volumes:
        return replace(pod, metadata=metadata)
    volumes = compute_volumes(stateful_set, name, pod.spec.volumes)
    return replace(pod, metadata=metadata, spec=replace(pod.spec, volumes=volumes))
