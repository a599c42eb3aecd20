"""The kubelet's memory after the result of an operation, and after a list of the runtime. Rules
KUBELET-40 ... KUBELET-44 (spec/kubelet.md).

One function per operation, in a table. They plan no operation: they update the state of the runtime
as the kubelet has it, and set the time of the next attempt. A list of the runtime is complete: what
it does not contain is gone.
"""

from collections.abc import Callable, Iterable
from typing import Any

from msgspec.structs import replace

from refk8s.core.api.core_v1 import Pod
from refk8s.core.context import Instant, parse_timestamp
from refk8s.core.kubelet.backoff import pull_failed
from refk8s.core.kubelet.memory import (
    HOOK,
    LOST_EXIT_CODE,
    LOST_MESSAGE,
    LOST_REASON,
    NEVER,
    NO_CONTAINER,
    POST_START,
    PRE_STOP,
    PULL,
    SANDBOX,
    ContainerMemory,
    Note,
    PodMemory,
)
from refk8s.core.pods.containers import every_container, field_path
from refk8s.core.ports import (
    EXITED,
    RUNNING,
    ContainerCreated,
    ContainerStatus,
    CreateContainer,
    Done,
    Failed,
    ImagePulled,
    Operation,
    Probed,
    PullImage,
    RemoveContainer,
    RemovePodSandbox,
    Result,
    RunHook,
    RunPodSandbox,
    SandboxStarted,
    SandboxStatus,
    StartContainer,
    StopContainer,
    StopPodSandbox,
    WriteVolume,
)
from refk8s.core.value import evolve

START_FAILED_EXIT_CODE = 128


def took(
    memory: PodMemory, operation: Operation, result: Result, now: Instant, retry_after: Instant
) -> PodMemory:
    """The memory after this result of an operation of this pod. O(containers)."""
    taker = _TAKERS.get(type(operation))
    return taker(memory, operation, result, now, retry_after) if taker is not None else memory


# --- sandboxes ------------------------------------------------------------------------------------


def _ran_sandbox(
    memory: PodMemory, operation: RunPodSandbox, result: Result, now: Instant, retry_after: Instant
) -> PodMemory:
    if isinstance(result, SandboxStarted):
        return replace(
            memory,
            sandbox=result.status,
            sandbox_doing="",
            sandbox_attempt=operation.config.attempt + 1,
        )
    note = Note(
        "FailedCreatePodSandBox", f"Failed to create pod sandbox: {_words(result)}", "Warning"
    )
    return replace(
        memory, sandbox_doing="", sandbox_retry_at=now + retry_after, notes=(*memory.notes, note)
    )


def _stopped_sandbox(
    memory: PodMemory, operation: StopPodSandbox, result: Result, now: Instant, retry_after: Instant
) -> PodMemory:
    if isinstance(result, Failed):
        note = Note("FailedKillPod", f"error killing pod: {result.message}", "Warning")
        return replace(
            memory, sandbox_doing="", end_retry_at=now + retry_after, notes=(*memory.notes, note)
        )
    sandbox = memory.sandbox
    memory = replace(memory, sandbox_doing="")
    if sandbox is not None and sandbox.id == operation.sandbox_id:
        memory = replace(
            memory,
            sandbox=None,
            dead_sandboxes=(*memory.dead_sandboxes, evolve(sandbox, ready=False)),
        )
    for name, container in memory.containers.items():  # Its running containers were killed.
        if (
            container.running
            and container.current is not None
            and container.current.sandbox_id == operation.sandbox_id
        ):
            memory = memory.with_container(
                name, replace(_ended(container, _lost(container.current, now)), doomed=SANDBOX)
            )
    return memory


def _removed_sandbox(
    memory: PodMemory,
    operation: RemovePodSandbox,
    result: Result,
    now: Instant,
    retry_after: Instant,
) -> PodMemory:
    if isinstance(result, Failed):
        return replace(memory, sandbox_doing="", end_retry_at=now + retry_after)
    left = tuple(
        [sandbox for sandbox in memory.dead_sandboxes if sandbox.id != operation.sandbox_id]
    )
    volumes = memory.volumes if left or memory.sandbox is not None else {}
    return replace(memory, sandbox_doing="", dead_sandboxes=left, volumes=volumes)


def _wrote_volume(
    memory: PodMemory, operation: WriteVolume, result: Result, now: Instant, retry_after: Instant
) -> PodMemory:
    memory = replace(memory, volumes_doing=memory.volumes_doing - 1)
    if not isinstance(result, Failed):
        return memory
    note = Note(
        "FailedMount",
        f'MountVolume.SetUp failed for volume "{operation.volume}" : {result.message}',
        "Warning",
    )
    volumes = {
        name: fingerprint
        for name, fingerprint in memory.volumes.items()
        if name != operation.volume
    }
    return replace(
        memory,
        volumes=volumes,
        volumes_due=0,
        volumes_retry_at=now + retry_after,
        notes=(*memory.notes, note),
    )


# --- containers -----------------------------------------------------------------------------------


def _pulled(
    memory: PodMemory, operation: PullImage, result: Result, now: Instant, retry_after: Instant
) -> PodMemory:
    image = operation.image
    for name, container in memory.containers.items():
        if container.doing != PULL or not _is_pulling(memory, name, image):
            continue
        if isinstance(result, ImagePulled):
            memory = memory.with_container(
                name,
                replace(
                    container,
                    doing="",
                    image_id=result.image_id or image,
                    image_user=result.user,
                    pull_backoff=None,
                ),
            )
            path = field_path(memory.pod.spec if memory.pod is not None else None, name)
            if result.pulled:
                told = (
                    f'Successfully pulled image "{image}". Image size: {result.size_bytes} bytes.'
                )
                begun = Note("Pulling", f'Pulling image "{image}"', container=path)
                return replace(
                    memory, notes=(*memory.notes, begun, Note("Pulled", told, container=path))
                )
            note = Note(
                "Pulled", f'Container image "{image}" already present on machine', container=path
            )
            return replace(memory, notes=(*memory.notes, note))
        reason = result.reason if isinstance(result, Failed) and result.reason else "ErrImagePull"
        failed = replace(
            container,
            doing="",
            reason=reason,
            message=_words(result),
            pull_backoff=pull_failed(container.pull_backoff, now),
        )
        failure = Note(
            "Failed",
            f'Failed to pull image "{image}": {_words(result)}',
            "Warning",
            field_path(memory.pod.spec if memory.pod is not None else None, name),
        )
        error = Note(
            "Failed",
            f"Error: {reason}",
            "Warning",
            field_path(memory.pod.spec if memory.pod is not None else None, name),
        )
        return replace(memory.with_container(name, failed), notes=(*memory.notes, failure, error))
    return memory


def _is_pulling(memory: PodMemory, name: str, image: str) -> bool:
    if memory.pod is None:
        return False
    return any(c.name == name and c.image == image for c in every_container(memory.pod.spec))


def _created(
    memory: PodMemory,
    operation: CreateContainer,
    result: Result,
    now: Instant,
    retry_after: Instant,
) -> PodMemory:
    name = operation.config.name
    container = memory.container(name)
    if isinstance(result, ContainerCreated):
        stale = (
            (*container.stale, container.last.id)
            if container.last is not None and container.current is not None
            else container.stale
        )
        container = replace(
            container,
            current=result.status,
            last=container.current if container.current is not None else container.last,
            stale=stale,
            doing="",
            grace_until=NEVER,
            hooked=False,
        )
        note = Note(
            "Created",
            "Container created",
            container=field_path(memory.pod.spec if memory.pod is not None else None, name),
        )
        return replace(memory.with_container(name, container), notes=(*memory.notes, note))
    reason = (
        result.reason if isinstance(result, Failed) and result.reason else "CreateContainerError"
    )
    container = replace(
        container,
        doing="",
        reason=reason,
        message=_words(result),
        retry_at=now + retry_after,
        image_id="",
    )
    note = Note(
        "Failed",
        f"Error: {_words(result)}",
        "Warning",
        field_path(memory.pod.spec if memory.pod is not None else None, name),
    )
    return replace(memory.with_container(name, container), notes=(*memory.notes, note))


def _started(
    memory: PodMemory, operation: StartContainer, result: Result, now: Instant, retry_after: Instant
) -> PodMemory:
    name, container = _by_id(memory, operation.container_id)
    current = container.current if container is not None else None
    if container is None or current is None:
        return memory
    path = field_path(memory.pod.spec if memory.pod is not None else None, name)
    if isinstance(result, Failed):  # KUBELET-43: a container that could not start counts as exited.
        failed = evolve(
            current,
            state=EXITED,
            exit_code=START_FAILED_EXIT_CODE,
            reason="StartError",
            message=result.message,
            started_at=0,
            finished_at=now,
        )
        container = replace(
            _ended(container, failed),
            reason=result.reason or "RunContainerError",
            message=result.message,
        )
        note = Note("Failed", f"Error: {result.message}", "Warning", path)
        return replace(memory.with_container(name, container), notes=(*memory.notes, note))
    told = result.status if isinstance(result, Done) else None
    status = told if told is not None else evolve(current, state=RUNNING, started_at=now)
    container = replace(container, current=status, doing="", image_id="", reason="", message="")
    if status.state == EXITED:
        container = _ended(container, status)
    note = Note("Started", "Container started", container=path)
    return replace(memory.with_container(name, container), notes=(*memory.notes, note))


def _stopped(
    memory: PodMemory, operation: StopContainer, result: Result, now: Instant, retry_after: Instant
) -> PodMemory:
    name, container = _by_id(memory, operation.container_id)
    if container is None or container.current is None or container.current.state == EXITED:
        return memory  # A second stop (with a shorter grace period) gives a second result.
    if isinstance(result, Failed):
        return memory.with_container(name, replace(container, doing="", retry_at=now + retry_after))
    status = result.status if isinstance(result, Done) and result.status is not None else None
    if status is None or status.state != EXITED:
        status = _lost(container.current, now)
    return memory.with_container(name, _ended(container, status))


def _removed(
    memory: PodMemory,
    operation: RemoveContainer,
    result: Result,
    now: Instant,
    retry_after: Instant,
) -> PodMemory:
    for name, container in memory.containers.items():
        if operation.container_id in container.stale:
            if isinstance(result, Failed):
                container = replace(container, removing=False, retry_at=now + retry_after)
            else:
                stale = tuple([id for id in container.stale if id != operation.container_id])
                container = replace(container, removing=False, stale=stale)
            return memory.with_container(name, container)
    return memory


def _hooked(
    memory: PodMemory, operation: RunHook, result: Result, now: Instant, retry_after: Instant
) -> PodMemory:
    name, container = _by_id(memory, operation.container_id)
    if container is None or container.doing not in (PRE_STOP, POST_START):
        return memory
    worked = isinstance(result, Probed) and result.success
    path = field_path(memory.pod.spec if memory.pod is not None else None, name)
    if container.doing == PRE_STOP:
        memory = memory.with_container(name, replace(container, doing="", hooked=True))
        note = Note("FailedPreStopHook", "PreStopHook failed", "Warning", path)
        return memory if worked else replace(memory, notes=(*memory.notes, note))
    if worked:
        return memory.with_container(name, replace(container, doing=""))
    # KUBELET-17: a container whose postStart hook failed is stopped and restarted.
    memory = memory.with_container(name, replace(container, doing="", doomed=HOOK, hooked=True))
    return replace(
        memory,
        notes=(*memory.notes, Note("FailedPostStartHook", "PostStartHook failed", "Warning", path)),
    )


def _by_id(memory: PodMemory, id: str) -> tuple[str, ContainerMemory | None]:
    for name, container in memory.containers.items():
        if container.current is not None and container.current.id == id:
            return name, container
    return "", None


def _ended(container: ContainerMemory, status: ContainerStatus) -> ContainerMemory:
    """The container after its newest attempt has exited, with no operation running on it."""
    doing = container.doing if container.doing == PULL else ""
    return replace(
        container,
        current=status,
        doing=doing,
        image_id="",
        reason="",
        message="",
        hook=False,
        hooked=False,
        grace_until=NEVER,
        probes={},
    )


def _lost(status: ContainerStatus, now: Instant) -> ContainerStatus:
    """An attempt that the runtime has lost: its exit code is unknown."""
    return evolve(
        status,
        state=EXITED,
        exit_code=LOST_EXIT_CODE,
        reason=LOST_REASON,
        message=LOST_MESSAGE,
        finished_at=now,
    )


def _words(result: Result) -> str:
    return (
        result.message
        if isinstance(result, Failed)
        else f"unexpected result {type(result).__name__}"
    )


# --- listing --------------------------------------------------------------------------------------


def listed(
    memory: PodMemory,
    sandboxes: Iterable[SandboxStatus],
    containers: Iterable[ContainerStatus],
    now: Instant,
) -> PodMemory:
    """The memory after a list of all sandboxes and containers of this pod (KUBELET-40).

    O(listed sandboxes and containers).
    """
    by_attempt = sorted(
        sandboxes, key=lambda sandbox: (sandbox.attempt, sandbox.created_at, sandbox.id)
    )
    alive = [sandbox for sandbox in by_attempt if sandbox.ready]
    newest = alive[-1] if alive else by_attempt[-1] if by_attempt else None
    ending = memory.ended or memory.ending
    if (
        newest is not None
        and not newest.ready
        and (memory.ended or any(s.id == newest.id for s in memory.dead_sandboxes))
    ):
        newest = None  # The kubelet had stopped it.
    notes = memory.notes
    before = memory.sandbox
    if (
        not ending
        and before is not None
        and before.ready
        and (newest is None or newest.id != before.id or not newest.ready)
    ):
        notes = (
            *notes,
            Note("SandboxChanged", "Pod sandbox changed, it will be killed and re-created."),
        )
    dead = tuple([sandbox for sandbox in by_attempt if newest is None or sandbox.id != newest.id])
    attempt = max([memory.sandbox_attempt, *[sandbox.attempt + 1 for sandbox in by_attempt]])
    memory = replace(
        memory,
        sandbox=newest,
        dead_sandboxes=dead,
        sandbox_attempt=attempt,
        notes=notes,
        listing=False,
    )
    told: dict[str, list[ContainerStatus]] = {}
    for status in containers:
        told.setdefault(status.name, []).append(status)
    for name in sorted({*told, *memory.containers}):
        memory = memory.with_container(
            name, _seen(memory.containers.get(name, NO_CONTAINER), told.get(name, []), now)
        )
    return memory


def recalled(memory: PodMemory, pod: Pod, now: Instant) -> PodMemory:
    """The memory with the facts that only the API server has.

    These are the start time of the pod (POD-18), and containers that the runtime has lost (POD-14).
    """
    if pod.status.start_time:
        memory = replace(memory, started_at=instant(pod.status.start_time))
    for status in (
        *(pod.status.init_container_statuses or ()),
        *(pod.status.container_statuses or ()),
    ):
        held = memory.container(status.name)
        if not status.container_id or held.current is not None:
            continue
        running = status.state.running
        ended = status.state.terminated or (
            status.last_state.terminated if running is None else None
        )
        current = ContainerStatus(
            id=status.container_id.partition("://")[2],
            sandbox_id="",
            pod_uid=memory.uid,
            name=status.name,
            attempt=status.restart_count,
            state=EXITED,
            image=status.image,
            image_id=status.image_id,
            exit_code=ended.exit_code if ended is not None else LOST_EXIT_CODE,
            reason=(ended.reason if ended is not None else LOST_REASON) or "",
            message=(ended.message if ended is not None else LOST_MESSAGE) or "",
            started_at=instant(
                ended.started_at
                if ended is not None
                else running.started_at
                if running is not None
                else None
            ),
            finished_at=instant(ended.finished_at if ended is not None else None) or now,
        )
        memory = memory.with_container(status.name, replace(held, current=current))
    return memory


def instant(text: str | None) -> Instant:
    """The instant of a wire time; 0 for none."""
    return parse_timestamp(text) if text else 0


def _seen(container: ContainerMemory, told: list[ContainerStatus], now: Instant) -> ContainerMemory:
    """One container after a list of the runtime, with its attempts sorted by age.

    The newest one is current, the one before it is kept, and older ones are removed.
    """
    attempts = sorted(told, key=lambda status: (status.attempt, status.created_at, status.id))
    known = {status.id for status in attempts}
    current = attempts[-1] if attempts else None
    remembered = container.current
    if (
        remembered is not None
        and remembered.id not in known
        and (current is None or current.attempt <= remembered.attempt)
    ):
        # The runtime has lost the newest attempt: it counts as exited.
        ended = remembered if remembered.state == EXITED else _lost(remembered, now)
        return replace(
            _ended(container, ended) if remembered.state != EXITED else container,
            stale=tuple(sorted(known)),
        )
    if current is None:
        return replace(container, stale=())
    if remembered is not None and remembered.id == current.id:
        if remembered.state == EXITED and current.state != RUNNING:
            current = remembered  # A failed start leaves it "created" in the runtime.
        last = container.last
    else:
        last = attempts[-2] if len(attempts) > 1 else (remembered or container.last)
    stale = tuple(
        [
            status.id
            for status in attempts
            if status.id != current.id and (last is None or status.id != last.id)
        ]
    )
    following = replace(container, current=current, last=last, stale=stale, removing=False)
    if current.state == EXITED and not (
        remembered is not None and remembered.id == current.id and remembered.state == EXITED
    ):
        return _ended(following, current)
    return following


_Taker = Callable[[PodMemory, Any, Result, Instant, Instant], PodMemory]

_TAKERS: dict[type, _Taker] = {
    RunPodSandbox: _ran_sandbox,
    StopPodSandbox: _stopped_sandbox,
    RemovePodSandbox: _removed_sandbox,
    PullImage: _pulled,
    CreateContainer: _created,
    StartContainer: _started,
    StopContainer: _stopped,
    RemoveContainer: _removed,
    RunHook: _hooked,
    WriteVolume: _wrote_volume,
}
