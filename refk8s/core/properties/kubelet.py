"""What must hold of a kubelet, said of pods as the API shows them and of what a container runtime
holds (spec/kubelet.md, spec/pod.md).

Nothing here looks at how ours works, so the predicates about the API judge a recorded history of
any cluster. Each gives a sentence for everything that is wrong.
"""

from collections.abc import Iterable, Mapping

from refk8s.core.api.core_v1 import ContainerStatus, Pod
from refk8s.core.ports import RUNNING, PodsListed
from refk8s.core.properties.oracle import FINAL

RANK = {"Pending": 0, "Running": 1, "Succeeded": 2, "Failed": 2}


def phase_never_goes_back(before: Pod, after: Pod) -> list[str]:
    """POD-10, of two versions of one pod, the older first. A word that is no phase, which no
    kubelet writes, says nothing."""
    old, new = before.status.phase or "Pending", after.status.phase or "Pending"
    if (
        old == new
        or old not in RANK
        or new not in RANK
        or (RANK[new] > RANK[old] and old not in FINAL)
    ):
        return []
    return [f"POD-10: pod {after.metadata.name} went from {old} to {new}"]


def restart_counts_grow(before: Pod, after: Pod) -> list[str]:
    """KUBELET-16, of two versions of one pod, the older first; what has not been told is no
    count."""
    old = {status.name: status.restart_count for status in _statuses(before)}
    return [
        f"KUBELET-16: container {status.name} of pod {after.metadata.name} went from {old[status.name]} restarts to {status.restart_count}"
        for status in _statuses(after)
        if status.restart_count < old.get(status.name, 0)
    ]


def start_time_stays(before: Pod, after: Pod) -> list[str]:
    """POD-18: the start time of a pod is set once."""
    old, new = before.status.start_time, after.status.start_time
    return (
        [f"POD-18: pod {after.metadata.name} started at {old} and then at {new}"]
        if old and new != old
        else []
    )


def status_fits_itself(pod: Pod) -> list[str]:
    """POD-12, POD-15: phase, container states and conditions of one version of a pod agree with
    each other."""
    wrong = []
    phase = pod.status.phase or "Pending"
    statuses = pod.status.container_statuses or ()
    held = {condition.type: condition.status for condition in pod.status.conditions or ()}
    if phase in FINAL and any(status.state.running is not None for status in _statuses(pod)):
        wrong.append(f"POD-11: pod {pod.metadata.name} is {phase}, and a container of it runs")
    if (
        phase == "Running"
        and statuses
        and all(s.state.waiting is not None and s.last_state.terminated is None for s in statuses)
    ):
        wrong.append(f"POD-12: pod {pod.metadata.name} is Running, and no container of it has run")
    if held.get("Ready") == "True":
        if held.get("ContainersReady") != "True":
            wrong.append(f"POD-15: pod {pod.metadata.name} is Ready, and its containers are not")
        wrong += [
            f"POD-15: pod {pod.metadata.name} is Ready, and container {s.name} is not"
            for s in statuses
            if not s.ready
        ]
    for status in _statuses(pod):
        states = [status.state.running, status.state.waiting, status.state.terminated]
        if len([state for state in states if state is not None]) != 1:
            wrong.append(
                f"POD-13: container {status.name} of pod {pod.metadata.name} is in {states}"
            )
        if status.ready and status in statuses and status.state.running is None:
            wrong.append(
                f"POD-13: container {status.name} of pod {pod.metadata.name} is ready and does not run"
            )
    return wrong


def _statuses(pod: Pod) -> tuple[ContainerStatus, ...]:
    return (*(pod.status.init_container_statuses or ()), *(pod.status.container_statuses or ()))


# --- the runtime ----------------------------------------------------------------------------------


def at_most_one_of_each(runtime: PodsListed) -> list[str]:
    """KUBELET-2, KUBELET-4: one live sandbox a pod, one running attempt a container."""
    wrong = []
    alive: dict[str, int] = {}
    for sandbox in runtime.sandboxes:
        if sandbox.ready:
            alive[sandbox.pod_uid] = alive.get(sandbox.pod_uid, 0) + 1
    wrong += [
        f"KUBELET-2: pod {uid} has {count} live sandboxes"
        for uid, count in sorted(alive.items())
        if count > 1
    ]
    running: dict[tuple[str, str], int] = {}
    for container in runtime.containers:
        if container.state == RUNNING:
            name = (container.pod_uid, container.name)
            running[name] = running.get(name, 0) + 1
    return wrong + [
        f"KUBELET-4: {count} attempts of {name} run"
        for name, count in sorted(running.items())
        if count > 1
    ]


def nothing_is_left(runtime: PodsListed, known: Iterable[str]) -> list[str]:
    """KUBELET-42, once things have settled: the runtime holds pods of the API only (`known`: their
    uids)."""
    there = set(known)
    held = sorted(
        {sandbox.pod_uid for sandbox in runtime.sandboxes}
        | {container.pod_uid for container in runtime.containers}
    )
    return [
        f"KUBELET-42: something of pod {uid} is left, and the API has no such pod"
        for uid in held
        if uid not in there
    ]


def is_told_as_it_is(pod: Pod, runtime: PodsListed) -> list[str]:
    """KUBELET-30, once things have settled: which containers run, and in which attempt, is what the
    status says."""
    running: Mapping[str, int] = {
        c.name: c.attempt
        for c in runtime.containers
        if c.pod_uid == pod.metadata.uid and c.state == RUNNING
    }
    told = {
        status.name: status.restart_count
        for status in _statuses(pod)
        if status.state.running is not None
    }
    return (
        []
        if running == told
        else [
            f"KUBELET-30: of pod {pod.metadata.name} there run {running}, and the status says {told}"
        ]
    )
