"""Laws of a pod and its status. Rules POD-2, POD-10, POD-11, POD-12, POD-18 (spec/pod.md)."""

from collections.abc import Iterable
from typing import Any

from refk8s.core.actions import Action
from refk8s.core.api.resources import NODES, PODS
from refk8s.core.cluster.state import Cluster
from refk8s.core.loop.state import LoopState
from refk8s.core.ports import StartContainer
from refk8s.core.properties.law import NODE_USER, Arrived, Law, of_two_versions, runs_still
from refk8s.core.properties.oracle import is_finished
from refk8s.core.properties.predicates.pod import (
    pod_10_phase_never_goes_back,
    pod_12_status_is_consistent,
    pod_18_start_time_is_set_once,
)
from refk8s.core.store import Change


def status_is_consistent(
    change: Change[Any], before: Cluster, after: Cluster
) -> Iterable[str] | None:
    """POD-12, for a status that was written. If the node of the pod was removed or recreated, the
    state of the containers is unknown (PODGC-1)."""
    if change.record is None:
        return None
    pod = change.record.value
    wrong = pod_12_status_is_consistent(pod)
    node = (
        before.history.get(f"{NODES.prefix}{pod.spec.node_name}")
        if wrong and pod.spec.node_name
        else None
    )
    if (
        wrong
        and pod.spec.node_name
        and (node is None or node.create_revision > change.record.create_revision)
    ):
        return []
    return [
        words
        for words in wrong
        if change.previous is None
        or words not in pod_12_status_is_consistent(change.previous.value)
    ]


def finished_pods_are_not_started(
    before: Cluster, action: Action, after: Cluster
) -> Iterable[str] | None:
    """POD-2: no kubelet starts a container of a pod that has finished in its view."""
    if before.operations is after.operations:
        return None
    found: list[str] | None = None
    for channel in sorted(after.operations):
        operation = after.operations[channel].operation
        state = after.components[channel[0]].state
        if (
            channel in before.operations
            or not isinstance(operation, StartContainer)
            or not isinstance(state, LoopState)
        ):
            continue
        pods = [
            pod
            for pod in state.view.list(PODS)
            if pod.metadata.uid == operation.pod_uid and is_finished(pod)
        ]
        words = [
            f"{channel[0]} starts a container of pod {pod.metadata.name}, "
            f"which is {pod.status.phase}"
            for pod in pods
        ]
        found = (found or []) + words
    return found


def finished_when_nothing_runs(
    arrived: Arrived, before: Cluster, after: Cluster
) -> Iterable[str] | None:
    """POD-11: when the kubelet reports that a pod has finished, none of its containers runs."""
    change = arrived.target
    if (
        change is None
        or change.previous is None
        or change.record is None
        or not change.key.startswith(PODS.prefix)
    ):
        return None
    was, pod = change.previous.value, change.record.value
    if not is_finished(pod) or is_finished(was):
        return None
    return runs_still(before, pod, f"has {pod.status.phase}")


OF_CHANGES = (
    Law("POD-10", of_two_versions(pod_10_phase_never_goes_back), PODS.prefix),
    Law("POD-12", status_is_consistent, PODS.prefix),
    Law("POD-18", of_two_versions(pod_18_start_time_is_set_once), PODS.prefix),
)
OF_REQUESTS = (Law("POD-11", finished_when_nothing_runs, NODE_USER),)
OF_STEPS = (Law("POD-2", finished_pods_are_not_started),)
