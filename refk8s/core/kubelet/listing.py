"""The kubelet's memory after a list of the runtime, and with the facts that only the API server
has. Rule KUBELET-40 (spec/kubelet.md).

A list of the runtime is complete: what it does not contain is gone.
"""

from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from refk8s.core.api.core_v1 import Pod
from refk8s.core.context import Instant, parse_timestamp
from refk8s.core.kubelet.memory import (
    LOST_EXIT_CODE,
    LOST_MESSAGE,
    LOST_REASON,
    NO_CONTAINER,
    ContainerMemory,
    Note,
    PodMemory,
    lost_status,
)
from refk8s.core.ports import EXITED, RUNNING, ContainerStatus, SandboxStatus


def after_list(
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
        in_whole_list=False,
        has_waited=False,
    )
    by_name: dict[str, list[ContainerStatus]] = {}
    for status in containers:
        by_name.setdefault(status.name, []).append(status)
    for name in sorted({*by_name, *memory.containers}):
        memory = memory.with_container(
            name, _after_list(memory.containers.get(name, NO_CONTAINER), by_name.get(name, []), now)
        )
    return memory


def is_as_known(
    memory: PodMemory, sandboxes: Sequence[SandboxStatus], containers: Sequence[ContainerStatus]
) -> bool:
    """Whether a list shows exactly what the kubelet knows of a pod. Most lists do, and `after_list`
    changes nothing then but that the list has ended."""
    if len(sandboxes) != 1 or len(containers) != len(memory.containers) or memory.dead_sandboxes:
        return False
    sandbox = sandboxes[0]
    if not sandbox.ready or sandbox != memory.sandbox or sandbox.attempt >= memory.sandbox_attempt:
        return False
    for status in containers:
        held = memory.container(status.name)
        if held.current != status or held.stale or held.removing:
            return False
    return True


def has_news(before: PodMemory, after: PodMemory) -> bool:
    """Whether a list of the runtime has changed what the kubelet knows of a pod."""
    return (
        before.sandbox != after.sandbox
        or before.dead_sandboxes != after.dead_sandboxes
        or before.sandbox_attempt != after.sandbox_attempt
        or before.containers != after.containers
        or before.notes != after.notes
    )


def with_pod_status(memory: PodMemory, pod: Pod, now: Instant) -> PodMemory:
    """The memory with the facts that only the API server has.

    These are the start time of the pod (POD-18), and containers that the runtime has lost (POD-14).
    """
    if pod.status.start_time:
        memory = replace(memory, started_at=_instant(pod.status.start_time))
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
            started_at=_instant(
                ended.started_at
                if ended is not None
                else running.started_at
                if running is not None
                else None
            ),
            finished_at=_instant(ended.finished_at if ended is not None else None) or now,
        )
        memory = memory.with_container(status.name, replace(held, current=current))
    return memory


def _instant(text: str | None) -> Instant:
    """The instant of a wire time; 0 for none."""
    return parse_timestamp(text) if text else 0


def _after_list(
    container: ContainerMemory, statuses: list[ContainerStatus], now: Instant
) -> ContainerMemory:
    """One container after a list of the runtime, with its attempts sorted by age.

    The newest one is current, the one before it is kept, and older ones are removed.
    """
    attempts = sorted(statuses, key=lambda status: (status.attempt, status.created_at, status.id))
    known = {status.id for status in attempts}
    current = attempts[-1] if attempts else None
    remembered = container.current
    if (
        remembered is not None
        and remembered.id not in known
        and (current is None or current.attempt <= remembered.attempt)
    ):
        if remembered.state != EXITED:  # The runtime has lost the newest attempt.
            container = container.after_exit(lost_status(remembered, now))
        return replace(container, stale=tuple(sorted(known)))
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
        return following.after_exit(current)
    return following
