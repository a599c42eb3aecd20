"""Laws of lost nodes and their pods. Rules NODE-4, NODE-5, NODE-6, NODE-8, PODGC-1, PODGC-2
(spec/workloads/node.md)."""

from collections.abc import Iterable

from refk8s.core.api.resources import NODES, PODS
from refk8s.core.cluster.state import Cluster
from refk8s.core.properties.law import (
    SERVICE_ACCOUNTS,
    Arrived,
    Decision,
    Law,
    objects,
    was_removed,
)
from refk8s.core.properties.predicates.node import (
    NO_EXECUTE,
    no_execute_taints,
    node_4_the_taint_fits_the_condition,
    node_5_ready_without_taints,
    node_6_some_node_is_ready,
    node_8_evicted_for_a_taint,
    podgc_1_no_pod_is_left,
    podgc_1_the_node_is_gone,
    podgc_2_the_node_is_not_in_view,
)


def taints_fit_the_condition(
    arrived: Arrived, before: Cluster, after: Cluster
) -> Iterable[str] | None:
    """NODE-4, for a change that gave a node a NoExecute taint."""
    change = arrived.target
    if change is None or change.record is None or not change.key.startswith(NODES.prefix):
        return None
    old = change.previous.value if change.previous is not None else None
    if not no_execute_taints(change.record.value) - no_execute_taints(old):
        return None
    return node_4_the_taint_fits_the_condition(old, change.record.value)


def some_node_is_ready(decision: Decision, before: Cluster, after: Cluster) -> Iterable[str] | None:
    """NODE-6."""
    return node_6_some_node_is_ready(decision.view, decision.plan)


def evicted_for_a_taint(
    decision: Decision, before: Cluster, after: Cluster
) -> Iterable[str] | None:
    """NODE-8."""
    now = after.now + after.components[decision.component].skew
    return node_8_evicted_for_a_taint(decision.view, decision.plan, now)


def removed_if_the_node_is_gone(
    arrived: Arrived, before: Cluster, after: Cluster
) -> Iterable[str] | None:
    """PODGC-1, when a delete takes effect."""
    change = arrived.target
    if arrived.request.verb != "delete" or change is None or change.previous is None:
        return None
    pod = change.previous.value
    node = before.history.get(f"{NODES.prefix}{pod.spec.node_name}")
    # A node with this name that was created after the pod is another one.
    is_stored = node is not None and node.create_revision <= change.previous.create_revision
    return podgc_1_the_node_is_gone(pod, is_stored)


def the_node_is_not_in_view(
    decision: Decision, before: Cluster, after: Cluster
) -> Iterable[str] | None:
    """PODGC-2."""
    return podgc_2_the_node_is_not_in_view(decision.view, decision.plan)


def ready_nodes_have_no_taint(cluster: Cluster) -> Iterable[str] | None:
    """NODE-5, for a settled cluster in which a node has or had a NoExecute taint."""
    nodes = objects(cluster, NODES.prefix)
    found = [words for node in nodes for words in node_5_ready_without_taints(node)]
    past = cluster.history.changes(NODES.prefix, cluster.history.compacted)
    was = any(
        taint.key in NO_EXECUTE
        for change in past
        if change.previous
        for taint in change.previous.value.spec.taints or ()
    )
    return found if was or found else None


def no_pod_is_left(cluster: Cluster) -> Iterable[str] | None:
    """PODGC-1, for a settled cluster in which a node was removed."""
    pods, nodes = objects(cluster, PODS.prefix), objects(cluster, NODES.prefix)
    found = list(podgc_1_no_pod_is_left(pods, nodes))
    return found if found or was_removed(cluster, NODES.prefix) else None


OF_REQUESTS = (
    Law("NODE-4", taints_fit_the_condition, SERVICE_ACCOUNTS + "node-controller"),
    Law("PODGC-1", removed_if_the_node_is_gone, SERVICE_ACCOUNTS + "pod-garbage-collector"),
)
OF_DECISIONS = (
    Law("NODE-6", some_node_is_ready, "node-controller"),
    Law("NODE-8", evicted_for_a_taint, "taint-eviction-controller"),
    Law("PODGC-2", the_node_is_not_in_view, "pod-garbage-collector"),
)
OF_REST = (
    Law("NODE-5", ready_nodes_have_no_taint),
    Law("PODGC-1", no_pod_is_left),
)
