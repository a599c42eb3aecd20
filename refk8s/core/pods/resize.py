"""The in-place resize of a pod's containers: what changes, and what counts meanwhile. Rules
RESIZE-3, RESIZE-6 (spec/resize.md).

    spec.containers[].resources                     what is desired
    status.containerStatuses[].allocatedResources   the requests that the kubelet has granted
    status.containerStatuses[].resources            what the running container has

Source: Kubernetes documentation, "Resize CPU and Memory Resources assigned to Containers"; KEP-1287
(in-place update of pod resources).
"""

from collections.abc import Mapping

from msgspec.structs import replace

from refk8s.core.api.core_v1 import Container, Pod, PodSpec, ResourceRequirements
from refk8s.core.api.quantity import parse
from refk8s.core.pods.containers import is_sidecar

RESIZED = ("cpu", "memory")
"""The resources that can change while a container runs."""

PENDING_CONDITION, IN_PROGRESS = "PodResizePending", "PodResizeInProgress"
DEFERRED, INFEASIBLE = "Deferred", "Infeasible"

Allocated = Mapping[str, ResourceRequirements]
"""Resources by the name of a container."""

NOTHING: Mapping[str, Mapping[str, str]] = {}


def resizable(spec: PodSpec) -> tuple[Container, ...]:
    """The containers whose resources can change: the regular ones and the sidecars."""
    if not spec.init_containers:
        return spec.containers
    sidecars = [one for one in spec.init_containers or () if is_sidecar(one)]
    return (*spec.containers, *sidecars)


def desired(spec: PodSpec) -> dict[str, ResourceRequirements]:
    """The resources of the spec."""
    return {one.name: one.resources for one in resizable(spec)}


def reported(pod: Pod) -> dict[str, ResourceRequirements]:
    """The resources that the status reports, else those of the spec: what a kubelet that has
    restarted takes as granted."""
    found = desired(pod.spec)
    status = pod.status
    for one in (*(status.container_statuses or ()), *(status.init_container_statuses or ())):
        if one.resources is not None and one.name in found:
            found[one.name] = one.resources
    return found


def changed(one: ResourceRequirements, other: ResourceRequirements) -> tuple[str, ...]:
    """Which of CPU and memory differ, in a request or a limit."""
    if one is other or one == other:  # before amounts are parsed: nearly always
        return ()
    return tuple(
        name
        for name in RESIZED
        if _amount(one.requests, name) != _amount(other.requests, name)
        or _amount(one.limits, name) != _amount(other.limits, name)
    )


def _amount(texts: Mapping[str, str] | None, name: str) -> int | None:
    return parse(texts[name]).nano if texts and name in texts else None


def is_desired(spec: PodSpec, allocated: Allocated) -> bool:
    """Whether everything that the spec desires is allocated."""
    for one in resizable(spec):
        if changed(one.resources, allocated.get(one.name, one.resources)):
            return False
    return True


def with_allocated(spec: PodSpec, allocated: Allocated) -> PodSpec:
    """The spec with the allocated resources of its containers."""

    def given(container: Container) -> Container:
        resources = allocated.get(container.name)
        return container if resources is None else replace(container, resources=resources)

    containers = tuple([given(one) for one in spec.containers])
    first = tuple([given(one) for one in spec.init_containers or ()])
    return replace(spec, containers=containers, init_containers=first or None)


def restarts(container: Container, names: tuple[str, ...]) -> bool:
    """Whether a change of these resources restarts the container."""
    return any(
        policy.resource_name in names and policy.restart_policy == "RestartContainer"
        for policy in container.resize_policy or ()
    )


# --- what counts while a resize is under way


def requests_in_use(pod: Pod) -> Mapping[str, Mapping[str, str]]:
    """RESIZE-6: the requests that count, by container, where they differ from the spec's."""
    return _in_use(pod, "requests") if (pod.metadata.generation or 0) > 1 else NOTHING


def limits_in_use(pod: Pod) -> Mapping[str, Mapping[str, str]]:
    """RESIZE-6: the limits that count, by container, where they differ from the spec's."""
    return _in_use(pod, "limits") if (pod.metadata.generation or 0) > 1 else NOTHING


def _in_use(pod: Pod, part: str) -> Mapping[str, Mapping[str, str]]:
    """The larger of what is desired and what the status reports. A desired amount that the node
    can never give does not count."""
    status = pod.status
    statuses = (*(status.container_statuses or ()), *(status.init_container_statuses or ()))
    if not statuses:
        return NOTHING
    known = {one.name: one for one in statuses}
    is_infeasible = any(
        one.type == PENDING_CONDITION and one.reason == INFEASIBLE
        for one in pod.status.conditions or ()
    )
    found: dict[str, Mapping[str, str]] = {}
    for container in resizable(pod.spec):
        now = known.get(container.name)
        if now is None or now.resources is None:
            continue
        wanted: Mapping[str, str] = getattr(container.resources, part) or {}
        actual: Mapping[str, str] = getattr(now.resources, part) or {}
        allocated = (now.allocated_resources or {}) if part == "requests" else {}
        counted = dict(wanted)
        for name in RESIZED:
            texts = [one[name] for one in (actual, allocated) if name in one]
            if name in wanted and not (is_infeasible and texts):
                texts.append(wanted[name])
            if texts:
                counted[name] = max(texts, key=lambda text: parse(text).nano)
        if counted != wanted:
            found[container.name] = counted
    return found
