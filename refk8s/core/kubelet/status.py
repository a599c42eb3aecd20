"""The status of a pod as its kubelet computes it: container states, phase, conditions. Rules POD-10
... POD-18, POD-25 (spec/pod.md).

The phase is a table of the states of the containers (`PHASES`), read from the top:

| failed init, policy Never | waiting | running | exited | policy | phase |
|---|---|---|---|---|---|
| yes | | | | | Failed |
| | yes | | | | Pending |
| | | yes | | | Running |
| | | no | all with code 0 | any but Always, or the pod ends | Succeeded |
| | | no | some failed | Never, or the pod ends | Failed |
| | | no | some | else: they will be restarted | Running |

While an init container runs, the regular ones have never run, so they wait.
A phase never changes to an earlier one (POD-10), and it is not final while a container may still
run (POD-11). Source: Kubernetes documentation, "Pod Lifecycle" (phase, container states,
conditions), "Pod Readiness Gates" in the same; "Volumes" (recursive read-only mounts). Left out:
resource health in container statuses (D-71).
"""

from msgspec.structs import replace

from refk8s.core import ports
from refk8s.core.api.core_v1 import (
    Container,
    ContainerState,
    ContainerStateRunning,
    ContainerStateTerminated,
    ContainerStateWaiting,
    ContainerStatus,
    HostIP,
    Pod,
    PodIP,
    PodStatus,
    VolumeMountStatus,
)
from refk8s.core.context import Instant, timestamp
from refk8s.core.kubelet import probes, resize
from refk8s.core.kubelet.conditions import compute_conditions
from refk8s.core.kubelet.draft import Facts
from refk8s.core.kubelet.memory import (
    LOST_EXIT_CODE,
    LOST_MESSAGE,
    LOST_REASON,
    ContainerMemory,
    PodMemory,
)
from refk8s.core.kubelet.node_addresses import node_ips
from refk8s.core.kubelet.sync_pod import restarts
from refk8s.core.pods.containers import ephemeral_containers, is_init, is_sidecar
from refk8s.core.pods.status import FAILED, PENDING, RUNNING, SUCCEEDED
from refk8s.core.value import Value

ENABLED, DISABLED = "Enabled", "Disabled"

RANK = {PENDING: 0, RUNNING: 1, SUCCEEDED: 2, FAILED: 2}
"""The order of the phases.

Any other value, which a client can write into the status, is replaced like Pending.
"""
DEADLINE_MESSAGE = "Pod was active on the node longer than the specified deadline"


def compute_pod_status(facts: Facts, pod: Pod, memory: PodMemory, now: Instant) -> PodStatus:
    """The status for the API, from the containers and the present status. O(containers)."""
    old = pod.status
    if memory.rejected is not None:
        why, words = memory.rejected
        return replace(
            old,
            phase=FAILED,
            reason=why,
            message=words,
            observed_generation=pod.metadata.generation,
        )
    over, spec = memory.ended, pod.spec
    statuses = [
        _container(facts, pod, c, memory, old.container_statuses, over) for c in spec.containers
    ]
    initialized = True
    init_statuses: list[ContainerStatus] = []
    ephemeral: list[ContainerStatus] = []
    if spec.init_containers:
        initialized = is_initialized(pod, memory)
        init_statuses = [
            _container(facts, pod, c, memory, old.init_container_statuses, over)
            for c in spec.init_containers
        ]
    if spec.ephemeral_containers:
        ephemeral = [
            replace(
                _container(facts, pod, c, memory, old.ephemeral_container_statuses, over),
                ready=False,
                started=None,
            )
            for c in ephemeral_containers(spec)
        ]
    counts = _count(pod, memory, init_statuses, statuses)
    phase = compute_phase(counts, pod.spec.restart_policy or "Always", over)
    reason, message = old.reason, old.message
    if memory.ending == "deadline" and over:
        phase = FAILED
    before = old.phase if old.phase in RANK else PENDING
    if RANK[phase] == 2 and not over:  # POD-11
        phase = RUNNING if counts.running else before
    if RANK[before] > RANK[phase] or RANK[before] == 2:  # POD-10
        phase = before
    if phase == FAILED and old.phase != FAILED and memory.ending == "deadline":
        reason, message = "DeadlineExceeded", DEADLINE_MESSAGE
    sandbox = memory.sandbox
    host_ips = node_ips(facts.config, facts.node)
    if pod.spec.host_network:
        ips: tuple[str, ...] = host_ips if sandbox is not None or old.pod_ip else ()
    else:
        ips = sandbox.ips if sandbox is not None else tuple(entry.ip for entry in old.pod_ips or ())
    status = replace(
        old,
        phase=phase,
        reason=reason,
        message=message,
        host_ip=host_ips[0],
        host_ips=tuple([HostIP(ip=ip) for ip in host_ips]),
        pod_ip=ips[0] if ips else None,
        pod_ips=tuple([PodIP(ip=ip) for ip in ips]) or None,
        start_time=old.start_time or timestamp(memory.started_at),
        observed_generation=pod.metadata.generation,
        init_container_statuses=tuple(init_statuses) or None,
        container_statuses=tuple(statuses) or None,
        ephemeral_container_statuses=tuple(ephemeral) or None,
    )
    found = compute_conditions(
        pod, status, sandbox is not None and sandbox.ready and not over, initialized, now
    )
    return replace(status, conditions=resize.conditions(pod, memory, found, now))


# --- phase ----------------------------------------------------------------------------------------


class Counts(Value, frozen=True):
    """The states of a pod's containers."""

    init_failed: bool = False  # and not restarted
    waiting: int = 0
    running: int = 0
    succeeded: int = 0
    failed: int = 0


def compute_phase(counts: Counts, restart_policy: str, over: bool) -> str:
    """The phase by the table above (POD-12). `over`: the pod has ended, without restarts."""
    ended = counts.succeeded + counts.failed
    if counts.init_failed:
        return FAILED
    if over and counts.waiting:
        return FAILED
    if counts.waiting:
        return PENDING
    if counts.running:
        return RUNNING
    if not ended:
        return PENDING
    if counts.failed == 0 and (over or restart_policy != "Always"):
        return SUCCEEDED
    if counts.failed and (over or restart_policy == "Never"):
        return FAILED
    return RUNNING


def _count(
    pod: Pod, memory: PodMemory, inits: list[ContainerStatus], statuses: list[ContainerStatus]
) -> Counts:
    init_failed = False
    for container, status in zip(pod.spec.init_containers or (), inits, strict=True):
        ended = status.state.terminated
        if (
            ended is not None
            and ended.exit_code != 0
            and not is_sidecar(container)
            and not restarts(pod, container, memory.container(container.name))
        ):
            init_failed = True
    waiting = running = succeeded = failed = 0
    for status in statuses:
        ended = status.state.terminated
        if status.state.running is not None:
            running += 1
        elif ended is None and status.last_state.terminated is not None:
            failed += 1  # It waits for its restart.
        elif ended is None:
            waiting += 1
        elif ended.exit_code == 0:
            succeeded += 1
        else:
            failed += 1
    return Counts(init_failed, waiting, running, succeeded, failed)


def is_initialized(pod: Pod, memory: PodMemory) -> bool:
    """Whether all init containers have exited with code 0 or, as sidecars, have started."""
    inits = pod.spec.init_containers
    if not inits:
        return True
    sandbox = memory.sandbox
    for container in pod.spec.containers:
        current = memory.container(container.name).current
        if current is not None and (sandbox is None or current.sandbox_id == sandbox.id):
            return True
    for container in inits:
        held = memory.container(container.name)
        if is_sidecar(container):
            if not probes.is_started(container, held):
                return False
        elif (
            held.current is None
            or held.current.state != ports.EXITED
            or held.current.exit_code != 0
        ):
            return False
    return True


# --- one container --------------------------------------------------------------------------------


def _container(
    facts: Facts,
    pod: Pod,
    container: Container,
    memory: PodMemory,
    old: tuple[ContainerStatus, ...] | None,
    over: bool,
) -> ContainerStatus:
    """The status of one container (POD-13, POD-14)."""
    held = memory.container(container.name)
    current = held.current
    before = next((one for one in old if one.name == container.name), None) if old else None
    runtime = facts.node.container_runtime_version.partition(":")[0] or "container"
    started = probes.is_started(container, held)
    ready = (
        started and probes.is_ready(container, held)
        if is_sidecar(container) or not is_init(pod.spec, container)
        else False
    )
    last_state = (
        ContainerState(terminated=_terminated(runtime, held.last))
        if held.last is not None
        else ContainerState()
    )
    if before is not None:
        same = current is None or before.container_id in (None, f"{runtime}://{current.id}")
        if (
            same
            and current is not None
            and current.state == ports.CREATED
            and before.state.terminated is not None
        ):
            last_state = before.state  # It could not start, as an earlier kubelet reported.
        elif held.last is None:
            last_state = before.last_state if same else _previous(before)
    mounts = mount_statuses(container)
    if current is None:
        state = ContainerState(waiting=_waiting(pod, held))
        return ContainerStatus(
            name=container.name,
            image=container.image or "",
            last_state=last_state,
            started=False,
            state=state,
            restart_count=before.restart_count if before is not None else 0,
            volume_mounts=mounts,
        )
    if current.state == ports.RUNNING:
        state = ContainerState(
            running=ContainerStateRunning(started_at=timestamp(current.started_at))
        )
    elif current.state == ports.EXITED and (held.reason == "" or over or memory.ending):
        state = ContainerState(terminated=_terminated(runtime, current))
        if is_init(pod.spec, container) and not is_sidecar(container) and current.exit_code == 0:
            ready = True  # An init container is ready after it has exited with code 0.
    else:
        if current.state == ports.EXITED:
            last_state = ContainerState(terminated=_terminated(runtime, current))
        state = ContainerState(waiting=_waiting(pod, held))
    allocated = memory.allocated.get(container.name, container.resources)
    return ContainerStatus(
        name=container.name,
        image=current.image or container.image or "",
        image_id=current.image_id,
        container_id=f"{runtime}://{current.id}",
        last_state=last_state,
        ready=ready,
        restart_count=max(current.attempt, before.restart_count if before is not None else 0),
        started=started,
        state=state,
        resources=held.applied,
        allocated_resources=allocated.requests,
        volume_mounts=mounts,
    )


def mount_statuses(container: Container) -> tuple[VolumeMountStatus, ...] | None:
    """POD-25: the mounts of the container, and of a read-only one whether what is mounted below it
    is read-only too. O(mounts)."""
    if not container.volume_mounts:
        return None
    return tuple([
        VolumeMountStatus(
            name=one.name,
            mount_path=one.mount_path,
            read_only=one.read_only,
            recursive_read_only=(ENABLED if one.recursive_read_only == ENABLED else DISABLED)
            if one.read_only
            else None,
        )
        for one in container.volume_mounts
    ])  # fmt: skip


def _waiting(pod: Pod, held: ContainerMemory) -> ContainerStateWaiting:
    if held.reason:
        return ContainerStateWaiting(reason=held.reason, message=held.message or None)
    return ContainerStateWaiting(
        reason="PodInitializing" if pod.spec.init_containers else "ContainerCreating"
    )


def _terminated(runtime: str, status: ports.ContainerStatus) -> ContainerStateTerminated:
    """How an attempt exited: the runtime's reason, or Completed and Error by the exit code."""
    return ContainerStateTerminated(
        container_id=f"{runtime}://{status.id}",
        exit_code=status.exit_code,
        reason=status.reason or ("Completed" if status.exit_code == 0 else "Error"),
        message=status.message or None,
        started_at=timestamp(status.started_at) if status.started_at else None,
        finished_at=timestamp(status.finished_at) if status.finished_at else None,
    )


def _previous(before: ContainerStatus) -> ContainerState:
    """How the attempt in the API's present status has exited, as far as it is known."""
    if before.state.terminated is not None:
        return before.state
    if before.state.running is None:
        return before.last_state
    ended = ContainerStateTerminated(
        container_id=before.container_id,
        exit_code=LOST_EXIT_CODE,
        reason=LOST_REASON,
        message=LOST_MESSAGE,
        started_at=before.state.running.started_at,
    )
    return ContainerState(terminated=ended)
