"""Laws of changes to pods. Rules SCHED-1, SCHED-25, POD-10, POD-12, POD-18, KUBELET-16."""

from collections.abc import Callable, Iterable
from typing import Any

from refk8s.core.api.core_v1 import Node, Pod
from refk8s.core.api.resources import NODES, PODS
from refk8s.core.cluster.state import Cluster
from refk8s.core.properties.kubelet import (
    phase_never_goes_back,
    restart_counts_grow,
    start_time_stays,
    status_fits_itself,
)
from refk8s.core.properties.law import Law, objects
from refk8s.core.properties.oracle import takes_room
from refk8s.core.properties.scheduler import no_node_over_capacity
from refk8s.core.store import Change


def of_two_versions(
    check: Callable[[Any, Any], Iterable[str]],
) -> Callable[..., Iterable[str] | None]:
    """A law of a change from what says something of an older and a newer state of one object."""

    def law(change: Change[Any], before: Cluster, after: Cluster) -> Iterable[str] | None:
        if change.record is None or change.previous is None:
            return None
        old, new = change.previous.value, change.record.value
        return check(old, new) if old.metadata.uid == new.metadata.uid else None

    return law


def a_pod_is_bound_once(old: Pod, new: Pod) -> Iterable[str]:
    """SCHED-25: a node, once given, stays."""
    if old.spec.node_name and old.spec.node_name != new.spec.node_name:
        yield f"pod {new.metadata.name} went from node {old.spec.node_name} to {new.spec.node_name}"


def a_node_has_room(change: Change[Any], before: Cluster, after: Cluster) -> Iterable[str] | None:
    """SCHED-1, of a change that gave a pod a node."""
    new = None if change.record is None else change.record.value
    if (
        new is None
        or not new.spec.node_name
        or (change.previous is not None and change.previous.value.spec.node_name)
    ):
        return None
    node = after.history.get(f"{NODES.prefix}{new.spec.node_name}")
    if node is None:
        return None
    held: Node = node.value
    there = [
        pod
        for pod in objects(after, PODS.prefix)
        if pod.spec.node_name == held.metadata.name and takes_room(pod)
    ]
    return no_node_over_capacity([held], there)


def a_status_fits_itself(
    change: Change[Any], before: Cluster, after: Cluster
) -> Iterable[str] | None:
    """POD-12, of what was written. Of a pod whose node is gone nobody can say what its containers
    do (PODGC-1), also where another node has come under that name since somebody asked.
    """
    if change.record is None:
        return None
    pod = change.record.value
    wrong = status_fits_itself(pod)
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
        if change.previous is None or words not in status_fits_itself(change.previous.value)
    ]


LAWS = (
    Law("SCHED-25", of_two_versions(a_pod_is_bound_once), PODS.prefix),
    Law("SCHED-1", a_node_has_room, PODS.prefix),
    Law("POD-10", of_two_versions(phase_never_goes_back), PODS.prefix),
    Law("POD-12", a_status_fits_itself, PODS.prefix),
    Law("POD-18", of_two_versions(start_time_stays), PODS.prefix),
    Law("KUBELET-16", of_two_versions(restart_counts_grow), PODS.prefix),
)
