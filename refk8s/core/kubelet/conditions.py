"""The conditions of a pod. Rules POD-15 ... POD-17 (spec/pod.md).

| condition | True when |
|---|---|
| PodReadyToStartContainers | its sandbox runs |
| Initialized | its init containers are complete |
| ContainersReady | every container and sidecar is ready |
| Ready | ContainersReady and every readiness gate are True |
| PodScheduled | it has a node |

`lastTransitionTime` changes only with the status of the condition. Conditions of others are kept.
Source: Kubernetes documentation, "Pod Lifecycle" (pod conditions, pod readiness).
"""

from refk8s.core.api.conditions import transition_time
from refk8s.core.api.core_v1 import ContainerStatus, Pod, PodCondition, PodStatus
from refk8s.core.context import Instant, timestamp
from refk8s.core.pods.containers import is_sidecar, sidecars
from refk8s.core.pods.status import FAILED, SUCCEEDED

OWN = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")


def compute_conditions(
    pod: Pod, status: PodStatus, has_network: bool, initialized: bool, now: Instant
) -> tuple[PodCondition, ...]:
    """The conditions of this new status, in the usual order, then others. O(containers)."""
    final = {SUCCEEDED: "PodCompleted", FAILED: "PodFailed"}.get(status.phase or "", "")
    containers = _containers_ready(pod, status, final)
    verdicts = {
        "PodReadyToStartContainers": (has_network, "", ""),
        "Initialized": _initialized(pod, status, initialized, final),
        "Ready": _ready(pod, containers),
        "ContainersReady": containers,
        "PodScheduled": (True, "", ""),
    }
    old: dict[str, PodCondition] = {}
    others: list[PodCondition] = []
    for one in pod.status.conditions or ():
        old[one.type] = one
        if one.type not in verdicts:
            others.append(one)
    at, generation = timestamp(now), pod.metadata.generation
    own = [_condition(old.get(type), type, *verdicts[type], generation, at) for type in OWN]
    return (*own, *others)


def _condition(
    old: PodCondition | None,
    type: str,
    holds: bool,
    reason: str,
    message: str,
    generation: int | None,
    now: str,
) -> PodCondition:
    status = "True" if holds else "False"
    if (
        old is not None
        and old.status == status
        and (old.reason or "") == reason
        and (old.message or "") == message
        and old.observed_generation == generation
        and old.last_probe_time is None
    ):
        return old  # most conditions of most statuses: equal objects are compared faster
    since = transition_time(old, status, now)
    return PodCondition(
        type=type,
        status=status,
        reason=reason or None,
        message=message or None,
        last_transition_time=since,
        observed_generation=generation,
    )


def _containers_ready(pod: Pod, status: PodStatus, final: str) -> tuple[bool, str, str]:
    if final:
        return False, final, ""
    if not pod.spec.init_containers and _are_all_ready(pod, status.container_statuses or ()):
        return True, "", ""
    by_name: dict[str, ContainerStatus] = {
        s.name: s
        for s in (*(status.init_container_statuses or ()), *(status.container_statuses or ()))
    }
    counted = [c.name for c in (*sidecars(pod.spec), *pod.spec.containers)]
    unknown = [name for name in counted if name not in by_name]
    unready = [name for name in counted if name in by_name and not by_name[name].ready]
    words = []
    if unknown:
        words.append(f"containers with unknown status: [{' '.join(unknown)}]")
    if unready:
        words.append(f"containers with unready status: [{' '.join(unready)}]")
    return (False, "ContainersNotReady", ", ".join(words)) if words else (True, "", "")


def _are_all_ready(pod: Pod, statuses: tuple[ContainerStatus, ...]) -> bool:
    """Whether each container has its status at its place, and is ready."""
    containers = pod.spec.containers
    if len(statuses) != len(containers):
        return False
    for container, one in zip(containers, statuses, strict=True):
        if container.name != one.name or not one.ready:
            return False
    return True


def _ready(pod: Pod, containers: tuple[bool, str, str]) -> tuple[bool, str, str]:
    """Ready: the containers are ready, and every readiness gate is True (POD-16)."""
    if not containers[0]:
        return containers
    if not pod.spec.readiness_gates:
        return True, "", ""
    held = {condition.type: condition.status for condition in pod.status.conditions or ()}
    words = []
    for gate in pod.spec.readiness_gates:
        if gate.condition_type not in held:
            words.append(
                f'corresponding condition of pod readiness gate "{gate.condition_type}" '
                "does not exist."
            )
        elif held[gate.condition_type] != "True":
            words.append(
                f'the status of pod readiness gate "{gate.condition_type}" is not "True", '
                f"but {held[gate.condition_type]}"
            )
    return (False, "ReadinessGatesNotReady", ", ".join(words)) if words else (True, "", "")


def _initialized(
    pod: Pod, status: PodStatus, initialized: bool, final: str
) -> tuple[bool, str, str]:
    if final == "PodCompleted":
        return True, final, ""
    if initialized:
        return True, "", ""
    # A failed pod too says which init containers are incomplete: PodFailed would not.
    done = {s.name: s for s in status.init_container_statuses or ()}
    open_ = [
        c.name
        for c in pod.spec.init_containers or ()
        if c.name not in done or not (done[c.name].started if is_sidecar(c) else done[c.name].ready)
    ]
    return (
        False,
        "ContainersNotInitialized",
        f"containers with incomplete status: [{' '.join(open_)}]",
    )
