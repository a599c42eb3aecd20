"""Predicates of a kubelet: pods in the API, and the containers of its runtime. Rules
KUBELET-2, KUBELET-4, KUBELET-16, KUBELET-30, KUBELET-42 (spec/kubelet.md).

Each returns a sentence for every way in which a rule is broken.
"""

from collections.abc import Iterable, Mapping

from refk8s.core.api.core_v1 import Pod
from refk8s.core.ports import RUNNING, PodsListed
from refk8s.core.properties.predicates.pod import statuses_of


def kubelet_4_one_sandbox_one_attempt(runtime: PodsListed) -> list[str]:
    """KUBELET-2, KUBELET-4: one live sandbox a pod, one running attempt a container."""
    wrong = []
    live: dict[str, int] = {}
    for sandbox in runtime.sandboxes:
        if sandbox.ready:
            live[sandbox.pod_uid] = live.get(sandbox.pod_uid, 0) + 1
    wrong += [
        f"KUBELET-2: pod {uid} has {count} live sandboxes"
        for uid, count in sorted(live.items())
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


def kubelet_16_restart_count_never_decreases(before: Pod, after: Pod) -> list[str]:
    """KUBELET-16, for two versions of one pod, the older first. A count that is not in the status
    is not compared."""
    old = {status.name: status.restart_count for status in statuses_of(before)}
    return [
        f"KUBELET-16: container {status.name} of pod {after.metadata.name} went from "
        f"{old[status.name]} restarts to {status.restart_count}"
        for status in statuses_of(after)
        if status.restart_count < old.get(status.name, 0)
    ]


def kubelet_30_status_reports_what_runs(pod: Pod, runtime: PodsListed) -> list[str]:
    """KUBELET-30, for a settled cluster: the status lists the running containers, with their
    attempts."""
    running: Mapping[str, int] = {
        c.name: c.attempt
        for c in runtime.containers
        if c.pod_uid == pod.metadata.uid and c.state == RUNNING
    }
    reported = {
        status.name: status.restart_count
        for status in statuses_of(pod)
        if status.state.running is not None
    }
    return (
        []
        if running == reported
        else [
            f"KUBELET-30: of pod {pod.metadata.name} {running} run, and its status has {reported}"
        ]
    )


def kubelet_42_only_pods_of_the_api(runtime: PodsListed, known: Iterable[str]) -> list[str]:
    """KUBELET-42, for a settled cluster: the runtime has only these pods of the API (uids)."""
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
