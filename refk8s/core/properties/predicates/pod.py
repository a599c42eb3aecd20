"""Predicates of a pod's status in the API. Rules POD-10, POD-12, POD-18 (spec/pod.md).

They also check the recorded history of any cluster. Each returns a sentence for every way in which
a rule is broken.
"""

from refk8s.core.api.core_v1 import ContainerStatus, Pod
from refk8s.core.properties.oracle import FINAL

RANK = {"Pending": 0, "Running": 1, "Succeeded": 2, "Failed": 2}


def pod_10_phase_never_goes_back(before: Pod, after: Pod) -> list[str]:
    """POD-10, for two versions of one pod, the older first. Other words than the known phases,
    which no kubelet writes, are not compared."""
    old, new = before.status.phase or "Pending", after.status.phase or "Pending"
    if (
        old == new
        or old not in RANK
        or new not in RANK
        or (RANK[new] > RANK[old] and old not in FINAL)
    ):
        return []
    return [f"POD-10: pod {after.metadata.name} went from {old} to {new}"]


def pod_12_status_is_consistent(pod: Pod) -> list[str]:
    """POD-12, POD-15: phase, container states and conditions of one version of a pod are
    consistent."""
    wrong = []
    phase = pod.status.phase or "Pending"
    statuses = pod.status.container_statuses or ()
    held = {condition.type: condition.status for condition in pod.status.conditions or ()}
    if phase in FINAL and any(status.state.running is not None for status in statuses_of(pod)):
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
    for status in statuses_of(pod):
        states = [status.state.running, status.state.waiting, status.state.terminated]
        if len([state for state in states if state is not None]) != 1:
            wrong.append(
                f"POD-13: container {status.name} of pod {pod.metadata.name} is in {states}"
            )
        if status.ready and status in statuses and status.state.running is None:
            wrong.append(
                f"POD-13: container {status.name} of pod {pod.metadata.name} is ready "
                "and does not run"
            )
    return wrong


def pod_18_start_time_is_set_once(before: Pod, after: Pod) -> list[str]:
    """POD-18: the start time of a pod is set once."""
    old, new = before.status.start_time, after.status.start_time
    return (
        [f"POD-18: pod {after.metadata.name} started at {old} and then at {new}"]
        if old and new != old
        else []
    )


def statuses_of(pod: Pod) -> tuple[ContainerStatus, ...]:
    """The statuses of init containers, then of the others."""
    return (*(pod.status.init_container_statuses or ()), *(pod.status.container_statuses or ()))
