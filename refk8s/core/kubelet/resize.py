"""The kubelet's part of an in-place resize. Rules RESIZE-3 to RESIZE-5 (spec/resize.md).

| the desired requests of the pod | what the kubelet does |
|---|---|
| fit beside the other pods of the node | allocates them, then updates or restarts the containers |
| fit only on an empty node | PodResizePending, Deferred; decides again when a pod has ended |
| do not even fit there | PodResizePending, Infeasible |

Containers get what is allocated. The allocation is not stored: a kubelet that has restarted takes
what the status reports, and decides again.

Source: Kubernetes documentation, "Resize CPU and Memory Resources assigned to Containers";
KEP-1287.
"""

from collections.abc import Mapping

from msgspec.structs import replace

from refk8s.core.api.core_v1 import Container, Pod, PodCondition
from refk8s.core.context import Instant, timestamp
from refk8s.core.kubelet.admission import requests_of
from refk8s.core.kubelet.container import runtime_resources
from refk8s.core.kubelet.draft import Draft
from refk8s.core.kubelet.memory import RESIZED, UPDATE, ContainerMemory, Note, PodMemory
from refk8s.core.pods import resize
from refk8s.core.ports import UpdateContainerResources

_CONDITIONS = (resize.PENDING_CONDITION, resize.IN_PROGRESS)


def begin(memory: PodMemory, pod: Pod) -> PodMemory:
    """What an admitted pod has: what its status reports, else its spec."""
    allocated = resize.reported(pod)
    status = pod.status
    told = {
        one.name: one.resources
        for one in (
            *(status.init_container_statuses or ()),
            *(status.ephemeral_container_statuses or ()),
        )
    }
    for name, container in memory.containers.items():
        if container.applied is None and container.current is not None:
            known = allocated.get(name, told.get(name))
            memory = memory.with_container(name, replace(container, applied=known))
    return replace(memory, allocated=allocated)


def allocate(
    memory: PodMemory, pod: Pod, used: Mapping[str, int], capacity: Mapping[str, int]
) -> PodMemory:
    """Decide about resources that the spec desires and that are not allocated, beside what `used`
    counts (RESIZE-3).

    The answer has other `uses` if they are allocated. O(containers).
    """
    wants = requests_of(pod)
    pending = ("", "")
    for name in resize.RESIZED:
        want, has = wants.get(name, 0), memory.uses.get(name, 0)
        others, there = used.get(name, 0) - has, capacity.get(name, 0)
        if want > there:
            words = (
                f"Node didn't have enough capacity: {name}, requested: {want}, capacity: {there}"
            )
            pending = (resize.INFEASIBLE, words)
            break
        if want > has and others + want > there and not pending[0]:
            words = f"requested: {want}, used: {others}, capacity: {there}"
            pending = (resize.DEFERRED, f"Node didn't have enough resource: {name}, {words}")
    if pending[0]:
        if pending != memory.resize_pending:
            note = Note(f"Resize{pending[0]}", f"Pod resize {pending[0]}: {pending[1]}", "Warning")
            memory = memory.with_notes(note)
        return replace(memory, resize_pending=pending)
    note = Note("ResizeStarted", "Pod resize started")
    memory = replace(
        memory, allocated=resize.desired(pod.spec), uses=wants, resize_pending=("", "")
    )
    return memory.with_notes(note)


def allocated_pod(memory: PodMemory, pod: Pod) -> Pod:
    """The pod with its allocated resources."""
    if resize.is_desired(pod.spec, memory.allocated):
        return pod
    return replace(pod, spec=resize.with_allocated(pod.spec, memory.allocated))


def apply(draft: Draft, pod: Pod, container: Container, memory: ContainerMemory) -> ContainerMemory:
    """Update a running container that has other resources than allocated, or mark it for a restart
    if its resize policy says so (RESIZE-4)."""
    current, applied = memory.current, memory.applied
    if current is None or applied is None or memory.operation or memory.stop_reason:
        return memory
    names = resize.changed(container.resources, applied)
    if not names:
        return memory
    if resize.restarts(container, names):
        message = f"Container {container.name} resize requires restart"
        draft.note("Killing", message, container=container)
        memory = replace(memory, stop_reason=RESIZED)
    elif draft.now < memory.retry_at:
        draft.wake(memory.retry_at)
        return memory
    else:
        wanted = runtime_resources(pod.spec, container.resources)
        draft.operations.append(UpdateContainerResources(draft.memory.uid, current.id, wanted))
        memory = replace(memory, operation=UPDATE, updating=container.resources)
    draft.set_container(container.name, memory)
    return memory


# --- status


def is_in_progress(memory: PodMemory) -> bool:
    """Whether a running container has other resources than allocated."""
    for name, allocated in memory.allocated.items():
        held = memory.container(name)
        if held.applied is None or held.applied is allocated or not held.running:
            continue
        if resize.changed(allocated, held.applied):
            return True
    return False


def conditions(
    pod: Pod, memory: PodMemory, others: tuple[PodCondition, ...], now: Instant
) -> tuple[PodCondition, ...]:
    """The conditions of a pod with those of its resize (RESIZE-5). They exist only while they are
    True."""
    is_going = is_in_progress(memory)
    old = {}
    for one in pod.status.conditions or ():
        if one.type in _CONDITIONS:
            old[one.type] = one
    if not old and not is_going and not memory.resize_pending[0]:
        return others
    kept = tuple([one for one in others if one.type not in _CONDITIONS])
    reason, message = memory.resize_pending
    error = next((one.resize_error for one in memory.containers.values() if one.resize_error), "")
    found: list[PodCondition] = []
    for kind, holds, why, words in (
        (resize.PENDING_CONDITION, bool(reason), reason, message),
        (resize.IN_PROGRESS, is_going, "Error" if error else "", error),
    ):
        if holds:
            since = old[kind].last_transition_time if kind in old else timestamp(now)
            found.append(
                PodCondition(
                    type=kind,
                    status="True",
                    reason=why or None,
                    message=words or None,
                    last_transition_time=since,
                    observed_generation=pod.metadata.generation,
                )
            )
    return (*found, *kept)
