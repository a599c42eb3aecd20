"""The table of pods, with the column STATUS. Rules TABLE-8, TABLE-9 (spec/table.md).

STATUS is not a field of the pod. It is the phase, unless a container, an init container or a
deletion replaces it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from refk8s.core.api.meta_v1 import TableRowCondition
from refk8s.core.apiserver.table.duration import age
from refk8s.core.apiserver.table.layout import NONE, Cells
from refk8s.core.context import Instant, parse_timestamp
from refk8s.core.pods.containers import sidecars
from refk8s.core.pods.status import FAILED, SUCCEEDED, is_finished, is_ready
from refk8s.core.value import Value

if TYPE_CHECKING:
    from refk8s.core.api.core_v1 import ContainerStateTerminated, ContainerStatus, Pod


class Summary(Value, frozen=True):
    """The cells of a pod's row about its containers. `last_restart`: the time of the latest one, or
    empty."""

    ready: int
    total: int
    reason: str
    restarts: int
    last_restart: str


def pod(one: Pod, now: Instant) -> Cells:
    found = summarize(one)
    restarts = str(found.restarts)
    if found.restarts and found.last_restart:
        restarts = f"{restarts} ({age(found.last_restart, now)} ago)"  # TABLE-9
    status = one.status
    return (
        one.metadata.name or "", f"{found.ready}/{found.total}", found.reason, restarts, age(one.metadata.creation_timestamp, now),
        (status.pod_ips[0].ip if status.pod_ips else "") or NONE, one.spec.node_name or NONE, status.nominated_node_name or NONE,
        _readiness_gates(one),
    )  # fmt: skip


def pod_conditions(one: Pod) -> tuple[TableRowCondition, ...]:
    """The condition of a row of a finished pod, by which a client may leave it out."""
    messages = {SUCCEEDED: "The pod has completed successfully.", FAILED: "The pod failed."}
    phase = one.status.phase or ""
    if phase not in messages:
        return ()
    return (
        TableRowCondition(type="Completed", status="True", reason=phase, message=messages[phase]),
    )


def summarize(one: Pod) -> Summary:
    """Ready and total containers, the status (TABLE-8) and the restarts (TABLE-9)."""
    status = one.status
    # Sidecars run beside the regular containers and count as such.
    lasting = {container.name for container in sidecars(one.spec)}
    total = len(one.spec.containers) + len(lasting)
    # reversed, so that the first of a type is found
    conditions = {condition.type: condition for condition in reversed(status.conditions or ())}
    reason = status.reason or status.phase or ""
    scheduled = conditions.get("PodScheduled")
    if scheduled is not None and scheduled.reason == "SchedulingGated":
        reason = "SchedulingGated"

    ready = 0
    initializing = False
    counted: list[ContainerStatus] = []  # whose restarts count
    running_sidecars: list[ContainerStatus] = []
    for place, container in enumerate(status.init_container_statuses or ()):
        counted.append(container)
        stays = container.name in lasting
        if stays:
            running_sidecars.append(container)
        terminated = container.state.terminated
        if terminated is not None and terminated.exit_code == 0:
            continue
        if stays and container.started:
            ready += container.ready
            continue
        initializing = True
        waiting = container.state.waiting
        if terminated is not None:
            reason = "Init:" + (terminated.reason or _ended(terminated))
        elif waiting is not None and waiting.reason and waiting.reason != "PodInitializing":
            reason = "Init:" + waiting.reason
        else:
            reason = f"Init:{place}/{len(one.spec.init_containers or ())}"
        break

    initialized = conditions.get("Initialized")
    if not initializing or (initialized is not None and initialized.status == "True"):
        counted = running_sidecars
        has_running = False
        # reversed, so that the first container decides
        for container in reversed(status.container_statuses or ()):
            counted.append(container)
            state = container.state
            if state.waiting is not None and state.waiting.reason:
                reason = state.waiting.reason
            elif state.terminated is not None:
                reason = state.terminated.reason or _ended(state.terminated)
            elif container.ready and state.running is not None:
                has_running = True
                ready += 1
        if reason == "Completed" and has_running:  # some completed, others still run
            reason = "Running" if is_ready(one) else "NotReady"

    if one.metadata.deletion_timestamp is not None:
        if status.reason == "NodeLost":
            reason = "Unknown"
        elif not is_finished(one):
            reason = "Terminating"

    ends = [container.last_state.terminated for container in counted]
    finished = [end.finished_at for end in ends if end is not None and end.finished_at is not None]
    restarts = sum(container.restart_count for container in counted)
    return Summary(ready, total, reason, restarts, max(finished, key=parse_timestamp, default=""))


def _ended(end: ContainerStateTerminated) -> str:
    return f"Signal:{end.signal}" if end.signal else f"ExitCode:{end.exit_code}"


def _readiness_gates(one: Pod) -> str:
    gates = one.spec.readiness_gates or ()
    if not gates:
        return NONE
    # for membership only
    true = {
        condition.type for condition in one.status.conditions or () if condition.status == "True"
    }
    return f"{sum(gate.condition_type in true for gate in gates)}/{len(gates)}"
