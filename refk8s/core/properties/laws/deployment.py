"""Laws of Deployments. Rules DEP-7, DEP-8, DEP-10, DEP-11, DEP-18, DEP-19
(spec/workloads/deployment.md)."""

from collections.abc import Iterable
from typing import Any

from refk8s.core.api.apps_v1 import Deployment, ReplicaSet
from refk8s.core.api.resources import DEPLOYMENTS, PODS, REPLICA_SETS, Resource
from refk8s.core.cluster.state import Cluster
from refk8s.core.controllers.revision import without_hash
from refk8s.core.loop.view import View, controller_of
from refk8s.core.properties.law import Decision, Law, objects
from refk8s.core.properties.laws.owners import about, of_owner
from refk8s.core.properties.predicates.deployment import (
    dep_7_never_above_surge,
    dep_8_never_below_available,
    dep_10_old_pods_end_first,
    dep_11_paused_starts_no_rollout,
    dep_18_only_status_while_being_deleted,
    dep_19_settled,
    sizes_after,
)


def surge_is_bounded(
    view: View, owner: Any, dependents: Resource, decision: Decision
) -> Iterable[str] | None:
    """DEP-7."""
    if not about(decision, REPLICA_SETS, "create", "update"):
        return None
    return dep_7_never_above_surge(view, owner, decision.plan)


def availability_is_kept(
    view: View, owner: Any, dependents: Resource, decision: Decision
) -> Iterable[str] | None:
    """DEP-8."""
    if owner.spec.strategy.type == "Recreate":
        return None
    sizes, _ = sizes_after(view, owner, decision.plan)
    if all(after >= before for before, after, _ in sizes):
        return None
    return dep_8_never_below_available(view, owner, decision.plan)


def old_pods_end_first(
    view: View, owner: Any, dependents: Resource, decision: Decision
) -> Iterable[str] | None:
    """DEP-10."""
    if owner.spec.strategy.type != "Recreate":
        return None
    return dep_10_old_pods_end_first(view, owner, decision.plan)


def paused_starts_no_rollout(
    view: View, owner: Any, dependents: Resource, decision: Decision
) -> Iterable[str] | None:
    """DEP-11."""
    return dep_11_paused_starts_no_rollout(owner, decision.plan) if owner.spec.paused else None


def only_status_while_being_deleted(
    view: View, owner: Any, dependents: Resource, decision: Decision
) -> Iterable[str] | None:
    """DEP-18."""
    if owner.metadata.deletion_timestamp is None:
        return None
    return dep_18_only_status_while_being_deleted(owner, decision.plan)


def only_the_new_replica_set_has_replicas(cluster: Cluster) -> Iterable[str] | None:
    """DEP-19, for every Deployment of a settled cluster that is not paused and whose pods all have
    a node. (A rollout waits for room; SCHED-26 judges that.)"""
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
        [words for one in deployments for words in dep_19_settled(one, replica_sets, has_template)]
        if deployments
        else None
    )


def has_template(deployment: Deployment, replica_set: ReplicaSet) -> bool:
    """Whether the ReplicaSet has the pod template of the Deployment."""
    return without_hash(replica_set.spec.template) == without_hash(deployment.spec.template)


OF_DECISIONS = (
    Law("DEP-7", of_owner(surge_is_bounded), "deployment-controller"),
    Law("DEP-8", of_owner(availability_is_kept), "deployment-controller"),
    Law("DEP-10", of_owner(old_pods_end_first), "deployment-controller"),
    Law("DEP-11", of_owner(paused_starts_no_rollout), "deployment-controller"),
    Law("DEP-18", of_owner(only_status_while_being_deleted), "deployment-controller"),
)
OF_REST = (Law("DEP-19", only_the_new_replica_set_has_replicas),)
