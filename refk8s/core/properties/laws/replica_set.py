"""Laws of ReplicaSets and ReplicationControllers. Rules RS-1, RS-2, RS-3
(spec/workloads/replica_set.md)."""

from collections.abc import Iterable
from typing import Any

from refk8s.core.api.resources import PODS, REPLICA_SETS, REPLICATION_CONTROLLERS, Resource
from refk8s.core.cluster.state import Cluster
from refk8s.core.loop.view import View, controller_of, key_of
from refk8s.core.properties.law import Decision, Law, objects
from refk8s.core.properties.laws.owners import OWNERS, about, of_owner
from refk8s.core.properties.oracle import is_active
from refk8s.core.properties.predicates.owners import controlled
from refk8s.core.properties.predicates.replica_set import (
    rs_1_settled,
    rs_2_never_below_replicas,
    rs_3_no_pods_change_while_being_deleted,
)


def creates_no_more_than_replicas(
    decision: Decision, before: Cluster, after: Cluster
) -> Iterable[str] | None:
    """RS-2: the active pods in view, earlier creations that are not in view yet, and the creations
    of this decision are together at most spec.replicas."""
    resource, dependents = OWNERS[decision.reconciler]
    owner = decision.view.get(resource, decision.key)
    creations = about(decision, PODS, "create")
    if dependents is not PODS or owner is None or not creations:
        return None
    uid, replicas = owner.metadata.uid, owner.spec.replicas or 0
    active = [pod for pod in controlled(decision.view.list(PODS), uid) if is_active(pod)]
    unseen = unseen_creations(decision, uid, after)
    if len(active) + len(unseen) + len(creations) <= replicas:
        return []
    return [
        f"{len(active)} active pods in view, {len(unseen)} not in view and {len(creations)} "
        f"creations; spec.replicas is {replicas}"
    ]


def unseen_creations(decision: Decision, uid: str, after: Cluster) -> list[str]:
    """The pods that this instance of the controller has requested and that are not in its view: the
    requests in transit, and stored pods if this is the first instance."""
    now = {id(request) for request in decision.requests}
    waiting = [*decision.state.flights.values(), *decision.state.resends.values()]
    names = {
        flight.request.key: None
        for flight in waiting
        if flight.request.verb == "create"
        and flight.request.resource is PODS
        and id(flight.request) not in now
        if (reference := controller_of(flight.request.body)) is not None and reference.uid == uid
    }
    if decision.life == 1:
        stored = [record.value for record in after.history.list(PODS.prefix).records]
        names.update(
            dict.fromkeys(key_of(pod) for pod in controlled(stored, uid) if is_active(pod))
        )
    return sorted(name for name in names if decision.view.get(PODS, name) is None)


def deletes_no_more_than_surplus(
    view: View, owner: Any, dependents: Resource, decision: Decision
) -> Iterable[str] | None:
    """RS-2, when pods are deleted."""
    if dependents is not PODS or not about(decision, PODS, "delete"):
        return None
    return rs_2_never_below_replicas(view, owner, decision.plan)


def does_nothing_while_being_deleted(
    view: View, owner: Any, dependents: Resource, decision: Decision
) -> Iterable[str] | None:
    """RS-3."""
    if dependents is not PODS or owner.metadata.deletion_timestamp is None:
        return None
    return rs_3_no_pods_change_while_being_deleted(owner, decision.plan)


def as_many_pods_as_replicas(cluster: Cluster) -> Iterable[str] | None:
    """RS-1, for every ReplicaSet and ReplicationController of a settled cluster."""
    pods = objects(cluster, PODS.prefix)
    owners = objects(cluster, REPLICA_SETS.prefix) + objects(
        cluster, REPLICATION_CONTROLLERS.prefix
    )
    return [words for owner in owners for words in rs_1_settled(owner, pods)] if owners else None


OF_DECISIONS = (
    Law("RS-2", creates_no_more_than_replicas, "repli"),
    Law("RS-2", of_owner(deletes_no_more_than_surplus), "repli"),
    Law("RS-3", of_owner(does_nothing_while_being_deleted), "repli"),
)
OF_REST = (Law("RS-1", as_many_pods_as_replicas),)
