"""Laws of what nodes run. Rules KUBELET-2, KUBELET-4, KUBELET-32, KUBELET-95, POD-2, POD-11
(spec/kubelet.md, spec/pod.md)."""

from collections.abc import Iterable
from typing import Any

from refk8s.core.actions import Action, Operate
from refk8s.core.api.resources import CONFIG_MAPS, PODS
from refk8s.core.cluster.state import Cluster
from refk8s.core.loop.state import LoopState
from refk8s.core.ports import (
    RUNNING,
    CreateContainer,
    ListPods,
    PodsListed,
    RunPodSandbox,
    StartContainer,
)
from refk8s.core.properties.kubelet import at_most_one_of_each
from refk8s.core.properties.law import Arrived, Law
from refk8s.core.properties.oracle import is_finished

NODE_USER = "system:node:"


def listed(world: Any) -> PodsListed | None:
    """All that a runtime has; None where it does not answer."""
    found = world.carry_out(ListPods(), 0, None)[1]
    return found if isinstance(found, PodsListed) else None


def running(world: Any, uid: str) -> list[str] | None:
    """The containers of a pod that run there; None where the runtime does not answer."""
    found = world.carry_out(ListPods((uid,)), 0, None)[1]
    return (
        [c.name for c in found.containers if c.pod_uid == uid and c.state == RUNNING]
        if isinstance(found, PodsListed)
        else None
    )


def one_of_each_runs(before: Cluster, action: Action, after: Cluster) -> Iterable[str] | None:
    """KUBELET-2 and KUBELET-4, of a step in which a runtime did something."""
    assert isinstance(action, Operate)
    found = None if before.worlds is after.worlds else listed(after.worlds[action.operation[0]])
    return at_most_one_of_each(found) if found is not None else None


def a_pod_runs_on_one_node(before: Cluster, action: Action, after: Cluster) -> Iterable[str] | None:
    """SCHED-25: what is started on a node has nothing of it running on another."""
    uid = _started(before, action)
    if uid is None:
        return None
    assert isinstance(action, Operate)
    others = [name for name in sorted(after.worlds) if name != action.operation[0]]
    return [
        f"pod {uid} is started at {action.operation[0]} and runs at {name}"
        for name in others
        if running(after.worlds[name], uid)
    ]


def what_ended_is_not_started(
    before: Cluster, action: Action, after: Cluster
) -> Iterable[str] | None:
    """POD-2: no kubelet asks for a container of a pod that it sees to have ended."""
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
            f"{channel[0]} starts a container of pod {pod.metadata.name}, which has {pod.status.phase}"
            for pod in pods
        ]
        found = (found or []) + words
    return found


def what_a_pod_reads_is_not_older_than_it(
    before: Cluster, action: Action, after: Cluster
) -> Iterable[str] | None:
    """KUBELET-95: a variable from a config map has a value that was there when the pod was made, or
    later."""
    if before.operations is after.operations:
        return None
    found: list[str] | None = None
    for channel in sorted(after.operations):
        operation = after.operations[channel].operation
        if channel in before.operations or not isinstance(operation, CreateContainer):
            continue
        config = operation.config
        record = after.history.get(f"{PODS.prefix}{config.namespace}/{config.pod_name}")
        if record is None or record.value.metadata.uid != config.pod_uid:
            continue  # It has been deleted meanwhile.
        for entry in next(
            (c.env or () for c in record.value.spec.containers if c.name == config.name), ()
        ):
            reference = (
                entry.value_from.config_map_key_ref if entry.value_from is not None else None
            )
            if reference is None or record.create_revision <= after.history.compacted:
                continue
            key = f"{CONFIG_MAPS.prefix}{config.namespace}/{reference.name}"
            since = record.create_revision
            there = [
                after.history.get(key, at=since),
                *[c.record for c in after.history.changes(key, since) if c.key == key],
            ]
            values = [
                (r.value.data or {}).get(reference.key) if r is not None else None for r in there
            ]
            told = dict(config.env).get(entry.name)
            wrong = [
                f"{entry.name} of pod {config.pod_name} is {told}, and was one of {values} since the pod was made"
            ]
            found = (found or []) + ([] if told in values else wrong)
    return found


def _started(before: Cluster, action: Action) -> str | None:
    assert isinstance(action, Operate)
    match before.operations[action.operation].operation:
        case RunPodSandbox(config):
            return config.pod_uid
        case StartContainer(pod_uid):
            return pod_uid
    return None


def gone_when_nothing_runs(
    arrived: Arrived, before: Cluster, after: Cluster
) -> Iterable[str] | None:
    """KUBELET-32: the last deletion comes after the last container."""
    change = arrived.target
    if (
        arrived.request.verb != "delete"
        or change is None
        or change.previous is None
        or change.record is not None
    ):
        return None
    pod = change.previous.value
    return _runs_still(before, pod, "has gone")


def ended_when_nothing_runs(
    arrived: Arrived, before: Cluster, after: Cluster
) -> Iterable[str] | None:
    """POD-11: who says that a pod has ended runs nothing of it."""
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
    return _runs_still(before, pod, f"has {pod.status.phase}")


def _runs_still(cluster: Cluster, pod: Any, what: str) -> list[str] | None:
    world = cluster.worlds.get(f"kubelet/{pod.spec.node_name}")
    found = running(world, pod.metadata.uid) if world is not None else None
    if found is None:
        return None
    return (
        [f"pod {pod.metadata.name} {what}, and {', '.join(found)} runs at {pod.spec.node_name}"]
        if found
        else []
    )


OF_REQUESTS = (
    Law("KUBELET-32", gone_when_nothing_runs, NODE_USER),
    Law("POD-11", ended_when_nothing_runs, NODE_USER),
)
OF_STEPS = (
    Law("KUBELET-4", one_of_each_runs, actions=(Operate,)),
    Law("SCHED-25", a_pod_runs_on_one_node, actions=(Operate,)),
    Law("POD-2", what_ended_is_not_started),
    Law("KUBELET-95", what_a_pod_reads_is_not_older_than_it),
)
