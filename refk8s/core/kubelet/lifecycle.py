"""The end of a pod: its reason, the order of its steps, and the time that it may take. Rules POD-2
... POD-8 (spec/pod.md).

| reason | grace period | afterwards |
|---|---|---|
| deleted | metadata.deletionGracePeriodSeconds; a later, shorter one counts at once | removed from the node, then from the API |
| gone (the API server does not have it) | the one it had, else 1 s | removed from the node |
| deadline passed, phase already terminal | spec.terminationGracePeriodSeconds | stays until it is deleted |
| finished: no container runs or will be started again | sidecars: spec.terminationGracePeriodSeconds | stays until it is deleted |
| rejected by the node | no container ever ran | stays until it is deleted |

Regular containers are stopped together (preStop, SIGTERM, SIGKILL after the grace period), then
sidecars in reverse order, then the sandbox. Source: Kubernetes documentation, "Pod Lifecycle"
(termination), "Sidecar Containers" (termination with sidecars).
"""

from msgspec.structs import replace

from refk8s.core.api.core_v1 import Container, Pod
from refk8s.core.context import SECOND
from refk8s.core.kubelet import probes
from refk8s.core.kubelet.draft import GRACE_SECONDS_MIN, Draft, bounded_grace
from refk8s.core.kubelet.memory import (
    CREATE,
    NEVER,
    POST_START,
    PRE_STOP,
    PULL,
    REMOVE,
    SANDBOX,
    START,
    STOP,
)
from refk8s.core.pods.containers import ephemeral_containers, every_container, is_sidecar, sidecars
from refk8s.core.pods.status import is_finished
from refk8s.core.ports import RUNNING, RemovePodSandbox, StopContainer, StopPodSandbox

GRACE_AFTER_HOOK_SECONDS_MIN = 2
"""The minimum time of a container between SIGTERM and SIGKILL, even after a long preStop hook."""


def why_ending(draft: Draft) -> str:
    """The reason to end the pod, or ""; the next reconcile is at its deadline at the latest.

    A pod that is ending never runs again (POD-2); a deletion replaces every other reason.
    """
    pod, memory = draft.pod, draft.memory
    if pod is None:
        return "gone"  # KUBELET-42: a pod that the API server does not have is ended
    if pod.metadata.deletion_timestamp is not None:
        return "deleted"
    if memory.ending:
        return memory.ending
    if is_finished(pod):
        return "terminal"
    if memory.rejected is not None:
        return "rejected"
    if pod.spec.active_deadline_seconds is not None:  # POD-5
        at = memory.started_at + pod.spec.active_deadline_seconds * SECOND
        if draft.now >= at:
            return "deadline"
        draft.wake(at)
    return ""


def grace_seconds(draft: Draft, why: str) -> int:
    """The current grace period, from one second to SECONDS_MAX (POD-3)."""
    pod = draft.pod or draft.memory.pod
    if pod is None:
        return GRACE_SECONDS_MIN
    seconds = pod.spec.termination_grace_period_seconds
    if pod.metadata.deletion_grace_period_seconds is not None and why in ("deleted", "gone"):
        seconds = pod.metadata.deletion_grace_period_seconds
    return bounded_grace(seconds)


def end(draft: Draft, why: str) -> None:
    """Stop the containers in order, then the sandbox (POD-4).

    After a deletion everything of the pod is removed from the node (POD-6).
    """
    if draft.memory.ending != why:
        draft.remember(ending=why, ending_at=draft.now)
    memory = draft.memory
    if memory.listing:
        return
    pod = draft.pod or memory.pod
    seconds = grace_seconds(draft, why)
    begin = memory.ending_at + draft.facts.config.stop_delay
    if why == "deleted" and draft.now < begin and seconds > GRACE_SECONDS_MIN:  # POD-8
        draft.wake(begin)
        return
    if not end_containers(draft, pod, seconds):
        return
    if memory.sandbox_operation or memory.volume_writes_running:
        return
    if draft.now < memory.end_retry_at:
        draft.wake(memory.end_retry_at)
        return
    if not memory.ended:
        if memory.sandbox is not None:
            draft.operations.append(StopPodSandbox(memory.uid, memory.sandbox.id))
            draft.remember(sandbox_operation=STOP)
            return
        draft.remember(ended=True)
    if why in ("deleted", "gone") and not memory.removed:
        remove_all(draft)


def end_containers(draft: Draft, pod: Pod | None, seconds: int) -> bool:
    """Whether every container has exited; stops those that are next. Sidecars are last (POD-4)."""
    if pod is None:
        return end_unknown(draft, seconds)
    running = [c for c in pod.spec.containers if is_alive(draft, c.name)]
    running += [
        c for c in pod.spec.init_containers or () if not is_sidecar(c) and is_alive(draft, c.name)
    ]
    if not running:
        running = [c for c in sidecars(pod.spec) if is_alive(draft, c.name)][-1:]
    known = {container.name for container in every_container(pod.spec)}
    for container in running:
        stop(draft, container, seconds, "Stopping container " + container.name)
    return end_unknown(draft, seconds, known) and not running


def is_alive(draft: Draft, name: str) -> bool:
    """Whether it runs, or a running operation may start it."""
    memory = draft.memory.container(name)
    return memory.running or memory.operation not in ("", PULL)


def end_unknown(draft: Draft, seconds: int, known: set[str] = frozenset()) -> bool:  # type: ignore[assignment]
    """The same for containers without a known pod."""
    quiet = True
    for name in sorted(draft.memory.containers):
        if name not in known and is_alive(draft, name):
            stop(draft, Container(name=name), seconds)
            quiet = False
    return quiet


def stop(draft: Draft, container: Container, seconds: int, message: str = "") -> None:
    """The next step to stop a container: preStop, SIGTERM, SIGKILL after the grace period (POD-3).

    A period shorter than the current one takes effect at once.
    """
    name = container.name
    memory = draft.memory.container(name)
    current = memory.current
    if current is None or not memory.running or memory.operation in (CREATE, START):
        return  # The result will show whether it runs.
    if draft.now < memory.retry_at:
        draft.wake(memory.retry_at)
        return
    until = min(draft.now + seconds * SECOND, memory.grace_until)
    if memory.grace_until == NEVER and message:
        draft.note("Killing", message, container=container)
    hook = container.lifecycle.pre_stop if container.lifecycle is not None else None
    if (
        memory.operation == ""
        and hook is not None
        and not memory.pre_stop_done
        and memory.grace_until == NEVER
    ):
        draft.operations.append(probes.compute_hook(container, hook, current, seconds))
        draft.set_container(name, replace(memory, operation=PRE_STOP, grace_until=until))
    elif memory.operation in ("", POST_START):
        left = -(-(until - draft.now) // SECOND)
        least = GRACE_AFTER_HOOK_SECONDS_MIN if memory.pre_stop_done else GRACE_SECONDS_MIN
        draft.operations.append(StopContainer(draft.memory.uid, current.id, max(left, least)))
        draft.set_container(name, replace(memory, operation=STOP, grace_until=until))
    elif until < memory.grace_until:  # POD-7
        draft.operations.append(StopContainer(draft.memory.uid, current.id, seconds))
        draft.set_container(name, replace(memory, operation=STOP, grace_until=until))


def take_down_dead_sandbox(draft: Draft, pod: Pod) -> bool:
    """Whether the newest sandbox, if any, is alive.

    Otherwise its running containers are stopped, then the sandbox; the next reconcile creates a new
    one.
    """
    sandbox = draft.memory.sandbox
    if draft.memory.sandbox_operation:
        return draft.memory.sandbox_operation != STOP
    if sandbox is not None and sandbox.ready and _are_all_in(draft, sandbox.id):
        return True
    strays = [
        container
        for container in (
            *(pod.spec.init_containers or ()),
            *pod.spec.containers,
            *ephemeral_containers(pod.spec),
        )
        if is_stray(draft, container.name)
    ]
    for container in strays:
        memory = draft.memory.container(container.name)
        if not memory.stop_reason:
            draft.set_container(container.name, replace(memory, stop_reason=SANDBOX))
        stop(draft, container, grace_seconds(draft, ""))
    if sandbox is None or sandbox.ready:
        return not strays
    if not strays and draft.now >= draft.memory.end_retry_at:
        draft.operations.append(StopPodSandbox(draft.memory.uid, sandbox.id))
        draft.remember(sandbox_operation=STOP)
    elif not strays:
        draft.wake(draft.memory.end_retry_at)
    return False


def _are_all_in(draft: Draft, sandbox_id: str) -> bool:
    """Whether all running containers are in this sandbox, which is the usual case."""
    for memory in draft.memory.containers.values():
        current = memory.current
        if current is not None and current.state == RUNNING and current.sandbox_id != sandbox_id:
            return False
    return True


def is_stray(draft: Draft, name: str) -> bool:
    """Whether it runs in a sandbox that is no longer the pod's."""
    memory, sandbox = draft.memory.container(name), draft.memory.sandbox
    if not memory.running or memory.current is None:
        return False
    return sandbox is None or not sandbox.ready or memory.current.sandbox_id != sandbox.id


def remove_sandbox(draft: Draft, id: str) -> None:
    draft.operations.append(RemovePodSandbox(draft.memory.uid, id))
    draft.remember(sandbox_operation=REMOVE)


def remove_all(draft: Draft) -> None:
    """Remove every sandbox with its containers and, with the last, the volumes (POD-6)."""
    memory = draft.memory
    if memory.dead_sandboxes:
        remove_sandbox(draft, memory.dead_sandboxes[0].id)
    elif memory.volumes:
        remove_sandbox(draft, "")  # There is no sandbox, but there are volumes.
    else:
        draft.remember(removed=True)
