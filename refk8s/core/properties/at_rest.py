"""Laws of a cluster at rest: what was wanted is there, what is told is so. Rules RS-1, DEP-19,
KUBELET-30, KUBELET-42, WATCH-1, GC-4, NS-4, SCHED-26, NODE-5, PODGC-1.
"""

from collections.abc import Iterable
from typing import Any

from refk8s.core.api.apps_v1 import Deployment, ReplicaSet
from refk8s.core.api.resources import (
    DEPLOYMENTS,
    NAMESPACES,
    NODES,
    PODS,
    REPLICA_SETS,
    REPLICATION_CONTROLLERS,
    by_kind,
)
from refk8s.core.cluster.state import Cluster
from refk8s.core.controllers.revision import without_hash
from refk8s.core.loop.view import controller_of
from refk8s.core.properties.collecting import NO_EXECUTE, owner_of
from refk8s.core.properties.kubelet import is_told_as_it_is, nothing_is_left
from refk8s.core.properties.law import Law, objects
from refk8s.core.properties.oracle import takes_room
from refk8s.core.properties.running import listed
from refk8s.core.properties.scheduler import why_not, why_not_among
from refk8s.core.properties.watch import views_are_past_states
from refk8s.core.properties.workloads import dep_19_settled, rs_1_settled


def as_many_pods_as_wanted(cluster: Cluster) -> Iterable[str] | None:
    """RS-1, of every ReplicaSet and ReplicationController."""
    pods = objects(cluster, PODS.prefix)
    owners = objects(cluster, REPLICA_SETS.prefix) + objects(
        cluster, REPLICATION_CONTROLLERS.prefix
    )
    return [words for owner in owners for words in rs_1_settled(owner, pods)] if owners else None


def one_template_is_carried(cluster: Cluster) -> Iterable[str] | None:
    """DEP-19, of every Deployment that is not paused and whose pods all have a node: a rollout
    waits for room (SCHED-26 judges that)."""
    replica_sets = objects(cluster, REPLICA_SETS.prefix)
    homeless = {
        owner.uid
        for pod in objects(cluster, PODS.prefix)
        if not pod.spec.node_name and (owner := controller_of(pod)) is not None
    }
    waiting = {
        owner.uid
        for one in replica_sets
        if one.metadata.uid in homeless and (owner := controller_of(one)) is not None
    }
    deployments = [
        d
        for d in objects(cluster, DEPLOYMENTS.prefix)
        if not d.spec.paused and d.metadata.uid not in waiting
    ]
    return (
        [words for one in deployments for words in dep_19_settled(one, replica_sets, carries)]
        if deployments
        else None
    )


def carries(deployment: Deployment, replica_set: ReplicaSet) -> bool:
    """Whether its pods are the ones that the deployment describes."""
    return without_hash(replica_set.spec.template) == without_hash(deployment.spec.template)


def nodes_run_what_is_stored(cluster: Cluster) -> Iterable[str] | None:
    """KUBELET-42: no container outlives its pod."""
    known = [pod.metadata.uid for pod in objects(cluster, PODS.prefix)]
    runtimes = [
        runtime
        for name in sorted(cluster.worlds)
        if (runtime := listed(cluster.worlds[name])) is not None
    ]
    return [words for runtime in runtimes for words in nothing_is_left(runtime, known)]


def what_runs_is_told(cluster: Cluster) -> Iterable[str] | None:
    """KUBELET-30, of every pod on a node that is up."""
    runtimes = {
        cluster.worlds[name].node.hostname: listed(cluster.worlds[name])
        for name in sorted(cluster.worlds)
    }
    pods = [pod for pod in objects(cluster, PODS.prefix) if pod.spec.node_name in runtimes]
    found = [
        (pod, runtime) for pod in pods if (runtime := runtimes[pod.spec.node_name]) is not None
    ]
    return (
        [words for pod, runtime in found for words in is_told_as_it_is(pod, runtime)]
        if found
        else None
    )


def who_has_no_owner_left_is_going(cluster: Cluster) -> Iterable[str] | None:
    """GC-4."""
    owned = [
        r.value for r in cluster.history.list("/").records if r.value.metadata.owner_references
    ]
    if not owned:
        return None
    return [
        f"{obj.kind} {obj.metadata.name} has no owner left, and stays"
        for obj in owned
        if _is_abandoned(cluster, obj)
    ]


def _is_abandoned(cluster: Cluster, obj: Any) -> bool:
    if obj.metadata.deletion_timestamp is not None:
        return False
    kinds = [
        (reference, by_kind(reference.api_version, reference.kind))
        for reference in obj.metadata.owner_references
    ]
    if any(kind is None or (kind.namespaced and not obj.metadata.namespace) for _, kind in kinds):
        return False  # GC-9
    return all(owner_of(cluster.history, obj, reference) is None for reference, _ in kinds)


def terminating_namespaces_go(cluster: Cluster) -> Iterable[str] | None:
    """NS-4: one that stays has something in it that somebody's finalizer holds."""
    going = [
        namespace
        for namespace in objects(cluster, NAMESPACES.prefix)
        if namespace.metadata.deletion_timestamp is not None
    ]
    held = (
        {
            r.value.metadata.namespace
            for r in cluster.history.list("/").records
            if r.value.metadata.finalizers
        }
        if going
        else set()
    )
    stay = [
        n.metadata.name for n in going if n.metadata.name not in held and not n.metadata.finalizers
    ]
    if not going and not _has_gone(cluster, NAMESPACES.prefix):
        return None
    return [f"namespace {name} is Terminating, and nothing holds it" for name in stay]


def _has_gone(cluster: Cluster, prefix: str) -> bool:
    """Whether anything of this resource has been deleted, as far as the store remembers."""
    return any(
        change.record is None
        for change in cluster.history.changes(prefix, cluster.history.compacted)
    )


def who_can_be_bound_is(cluster: Cluster) -> Iterable[str] | None:
    """SCHED-26: no pod waits that some node would take."""
    nodes, pods = objects(cluster, NODES.prefix), objects(cluster, PODS.prefix)
    waiting = [
        pod
        for pod in pods
        if not pod.spec.node_name
        and pod.metadata.deletion_timestamp is None
        and not pod.spec.scheduling_gates
    ]
    taking = [pod for pod in pods if takes_room(pod)]
    labels = {
        namespace.metadata.name: namespace.metadata.labels or {}
        for namespace in objects(cluster, NAMESPACES.prefix)
    }
    found = []
    for pod in waiting:
        for node in nodes:
            here = [other for other in taking if other.spec.node_name == node.metadata.name]
            if not why_not(pod, node, here) and not why_not_among(pod, node, nodes, taking, labels):
                found.append(
                    f"pod {pod.metadata.name} waits, and node {node.metadata.name} would take it"
                )
    return found if pods else None


def ready_nodes_keep_their_pods(cluster: Cluster) -> Iterable[str] | None:
    """NODE-5."""
    found = []
    for node in objects(cluster, NODES.prefix):
        if any(
            condition.type == "Ready" and condition.status == "True"
            for condition in node.status.conditions or ()
        ):
            left = [
                taint.key
                for taint in node.spec.taints or ()
                if taint.effect == "NoExecute" and taint.key in NO_EXECUTE
            ]
            found += [f"node {node.metadata.name} is ready, and has {key}" for key in left]
    past = cluster.history.changes(NODES.prefix, cluster.history.compacted)
    was = any(
        taint.key in NO_EXECUTE
        for change in past
        if change.previous
        for taint in change.previous.value.spec.taints or ()
    )
    return found if was or found else None


def no_pod_is_on_a_node_that_is_gone(cluster: Cluster) -> Iterable[str] | None:
    """PODGC-1."""
    nodes = {node.metadata.name for node in objects(cluster, NODES.prefix)}
    pods = [pod for pod in objects(cluster, PODS.prefix) if pod.spec.node_name]
    lost = [pod for pod in pods if pod.spec.node_name not in nodes]
    if not lost and not _has_gone(cluster, NODES.prefix):
        return None
    return [
        f"pod {pod.metadata.name} is on node {pod.spec.node_name}, which is gone" for pod in lost
    ]


LAWS = (
    Law("RS-1", as_many_pods_as_wanted),
    Law("DEP-19", one_template_is_carried),
    Law("GC-4", who_has_no_owner_left_is_going),
    Law("NS-4", terminating_namespaces_go),
    Law("SCHED-26", who_can_be_bound_is),
    Law("NODE-5", ready_nodes_keep_their_pods),
    Law("PODGC-1", no_pod_is_on_a_node_that_is_gone),
    Law("KUBELET-42", nodes_run_what_is_stored),
    Law("KUBELET-30", what_runs_is_told),
    Law("WATCH-1", views_are_past_states),
)
