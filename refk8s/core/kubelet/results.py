"""The kubelet's memory after the result of an operation. Rules KUBELET-17, KUBELET-43
(spec/kubelet.md).

One function per operation, in a table. They plan no operation: they update the state of the runtime
as the kubelet has it, and set the time of the next attempt.
"""

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from refk8s.core.context import Instant
from refk8s.core.kubelet.backoff import pull_failed
from refk8s.core.kubelet.memory import (
    HOOK,
    NEVER,
    POST_START,
    PRE_STOP,
    PULL,
    SANDBOX,
    UPDATE,
    ContainerMemory,
    Note,
    PodMemory,
    lost_status,
)
from refk8s.core.ports import (
    EXITED,
    RUNNING,
    ContainerCreated,
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
    StartContainer,
    StopContainer,
    StopPodSandbox,
    UpdateContainerResources,
    WriteVolume,
)
from refk8s.core.value import evolve

START_FAILED_EXIT_CODE = 128


def after_result(
    memory: PodMemory, operation: Operation, result: Result, now: Instant, retry_after: Instant
) -> PodMemory:
    """The memory after this result of an operation of this pod. O(containers)."""
    handler = _HANDLERS.get(type(operation))
    return handler(memory, operation, result, now, retry_after) if handler is not None else memory


# --- sandboxes ------------------------------------------------------------------------------------


def _ran_sandbox(
    memory: PodMemory, operation: RunPodSandbox, result: Result, now: Instant, retry_after: Instant
) -> PodMemory:
    if isinstance(result, SandboxStarted):
        return replace(
            memory,
            sandbox=result.status,
            sandbox_operation="",
            sandbox_attempt=operation.config.attempt + 1,
        )
    note = Note(
        "FailedCreatePodSandBox", f"Failed to create pod sandbox: {_failure_of(result)}", "Warning"
    )
    return replace(memory, sandbox_operation="", sandbox_retry_at=now + retry_after).with_notes(
        note
    )


def _stopped_sandbox(
    memory: PodMemory, operation: StopPodSandbox, result: Result, now: Instant, retry_after: Instant
) -> PodMemory:
    if isinstance(result, Failed):
        note = Note("FailedKillPod", f"error killing pod: {result.message}", "Warning")
        return replace(memory, sandbox_operation="", end_retry_at=now + retry_after).with_notes(
            note
        )
    sandbox = memory.sandbox
    memory = replace(memory, sandbox_operation="")
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
                name,
                replace(
                    container.after_exit(lost_status(container.current, now)), stop_reason=SANDBOX
                ),
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
        return replace(memory, sandbox_operation="", end_retry_at=now + retry_after)
    left = tuple(
        [sandbox for sandbox in memory.dead_sandboxes if sandbox.id != operation.sandbox_id]
    )
    volumes = memory.volumes if left or memory.sandbox is not None else {}
    return replace(memory, sandbox_operation="", dead_sandboxes=left, volumes=volumes)


def _wrote_volume(
    memory: PodMemory, operation: WriteVolume, result: Result, now: Instant, retry_after: Instant
) -> PodMemory:
    memory = replace(memory, volume_writes_running=memory.volume_writes_running - 1)
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
        # The image may have been removed from the node: it is looked for again.
        volume_images=_without_image(memory, operation.image_id),
        volumes_due=0,
        volumes_retry_at=now + retry_after,
    ).with_notes(note)


# --- containers -----------------------------------------------------------------------------------


def _pulled(
    memory: PodMemory, operation: PullImage, result: Result, now: Instant, retry_after: Instant
) -> PodMemory:
    image = operation.image
    for name, container in memory.containers.items():
        if container.operation != PULL or container.image != image:
            continue
        if isinstance(result, ImagePulled):
            held = replace(
                container,
                operation="",
                image_id=result.image_id or image,
                image_user=result.user,
                pull_backoff=None,
            )
            path = memory.field_path(name)
            if result.pulled:
                message = (
                    f'Successfully pulled image "{image}". Image size: {result.size_bytes} bytes.'
                )
                begun = Note("Pulling", f'Pulling image "{image}"', container=path)
                pulled = Note("Pulled", message, container=path)
                return memory.with_container(name, held, begun, pulled)
            note = Note(
                "Pulled", f'Container image "{image}" already present on machine', container=path
            )
            return memory.with_container(name, held, note)
        reason = result.reason if isinstance(result, Failed) and result.reason else "ErrImagePull"
        failed = replace(
            container,
            operation="",
            reason=reason,
            message=_failure_of(result),
            pull_backoff=pull_failed(container.pull_backoff, now),
        )
        failure = Note(
            "Failed",
            f'Failed to pull image "{image}": {_failure_of(result)}',
            "Warning",
            memory.field_path(name),
        )
        error = Note(
            "Failed",
            f"Error: {reason}",
            "Warning",
            memory.field_path(name),
        )
        return memory.with_container(name, failed, failure, error)
    if memory.volume_images.get(image) == PULL:
        return _pulled_for_volume(memory, image, result, now, retry_after)
    return memory


def _pulled_for_volume(
    memory: PodMemory, image: str, result: Result, now: Instant, retry_after: Instant
) -> PodMemory:
    """The image of a volume is on the node, or is pulled again later (KUBELET-110)."""
    if isinstance(result, ImagePulled):
        found = {**memory.volume_images, image: result.image_id or image}
        return replace(memory, volume_images=found)
    note = Note(
        "FailedMount", f'Failed to pull image volume "{image}": {_failure_of(result)}', "Warning"
    )
    return replace(
        memory,
        volume_images=_without_image(memory, image),
        volumes_retry_at=now + retry_after,
    ).with_notes(note)


def _without_image(memory: PodMemory, image: str) -> dict[str, str]:
    """The images of volumes except that of this name or id."""
    return {
        name: found for name, found in memory.volume_images.items() if image not in (name, found)
    }


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
            operation="",
            grace_until=NEVER,
            pre_stop_done=False,
        )
        note = Note(
            "Created",
            "Container created",
            container=memory.field_path(name),
        )
        return memory.with_container(name, container, note)
    reason = (
        result.reason if isinstance(result, Failed) and result.reason else "CreateContainerError"
    )
    container = replace(
        container,
        operation="",
        reason=reason,
        message=_failure_of(result),
        retry_at=now + retry_after,
        image_id="",
    )
    note = Note(
        "Failed",
        f"Error: {_failure_of(result)}",
        "Warning",
        memory.field_path(name),
    )
    return memory.with_container(name, container, note)


def _started(
    memory: PodMemory, operation: StartContainer, result: Result, now: Instant, retry_after: Instant
) -> PodMemory:
    name, container = _by_id(memory, operation.container_id)
    current = container.current if container is not None else None
    if container is None or current is None:
        return memory
    path = memory.field_path(name)
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
            container.after_exit(failed),
            reason=result.reason or "RunContainerError",
            message=result.message,
        )
        note = Note("Failed", f"Error: {result.message}", "Warning", path)
        return memory.with_container(name, container, note)
    status = result.status if isinstance(result, Done) else None
    if status is None:
        status = evolve(current, state=RUNNING, started_at=now)
    container = replace(container, current=status, operation="", image_id="", reason="", message="")
    if status.state == EXITED:
        container = container.after_exit(status)
    note = Note("Started", "Container started", container=path)
    return memory.with_container(name, container, note)


def _updated(
    memory: PodMemory,
    operation: UpdateContainerResources,
    result: Result,
    now: Instant,
    retry_after: Instant,
) -> PodMemory:
    """RESIZE-4: the container has the resources, or the update is tried again later."""
    name, container = _by_id(memory, operation.container_id)
    if container is None or container.updating is None:
        return memory
    given = container.updating
    left = "" if container.operation == UPDATE else container.operation  # it may be stopped already
    if isinstance(result, Failed):
        error = f"failed to resize container {name}: {result.message}"
        is_news = error != container.resize_error
        container = replace(
            container, operation=left, updating=None, resize_error=error, retry_at=now + retry_after
        )
        memory = memory.with_container(name, container)
        note = Note("ResizeError", error, "Warning", memory.field_path(name))
        return memory.with_notes(note) if is_news else memory
    container = replace(container, operation=left, updating=None, applied=given, resize_error="")
    note = Note("ResizeCompleted", f"Container {name} resized", container=memory.field_path(name))
    return memory.with_container(name, container, note)


def _stopped(
    memory: PodMemory, operation: StopContainer, result: Result, now: Instant, retry_after: Instant
) -> PodMemory:
    name, container = _by_id(memory, operation.container_id)
    if container is None or container.current is None or container.current.state == EXITED:
        return memory  # A second stop (with a shorter grace period) gives a second result.
    if isinstance(result, Failed):
        return memory.with_container(
            name, replace(container, operation="", retry_at=now + retry_after)
        )
    status = result.status if isinstance(result, Done) and result.status is not None else None
    if status is None or status.state != EXITED:
        status = lost_status(container.current, now)
    return memory.with_container(name, container.after_exit(status))


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
    if container is None or container.operation not in (PRE_STOP, POST_START):
        return memory
    worked = isinstance(result, Probed) and result.success
    path = memory.field_path(name)
    if container.operation == PRE_STOP:
        memory = memory.with_container(name, replace(container, operation="", pre_stop_done=True))
        note = Note("FailedPreStopHook", "PreStopHook failed", "Warning", path)
        return memory if worked else memory.with_notes(note)
    if worked:
        return memory.with_container(name, replace(container, operation=""))
    # KUBELET-17: a container whose postStart hook failed is stopped and restarted.
    memory = memory.with_container(
        name, replace(container, operation="", stop_reason=HOOK, pre_stop_done=True)
    )
    return memory.with_notes(Note("FailedPostStartHook", "PostStartHook failed", "Warning", path))


def _by_id(memory: PodMemory, id: str) -> tuple[str, ContainerMemory | None]:
    for name, container in memory.containers.items():
        if container.current is not None and container.current.id == id:
            return name, container
    return "", None


def _failure_of(result: Result) -> str:
    return (
        result.message
        if isinstance(result, Failed)
        else f"unexpected result {type(result).__name__}"
    )


_Handler = Callable[[PodMemory, Any, Result, Instant, Instant], PodMemory]

_HANDLERS: dict[type, _Handler] = {
    RunPodSandbox: _ran_sandbox,
    StopPodSandbox: _stopped_sandbox,
    RemovePodSandbox: _removed_sandbox,
    PullImage: _pulled,
    CreateContainer: _created,
    StartContainer: _started,
    StopContainer: _stopped,
    UpdateContainerResources: _updated,
    RemoveContainer: _removed,
    RunHook: _hooked,
    WriteVolume: _wrote_volume,
}
