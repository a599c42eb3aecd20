"""Predicates of ReplicaSets and ReplicationControllers. Rules RS-1, RS-2, RS-3
(spec/workloads/replica_set.md).

    plan    RS-2, RS-3    one decision: a view, and the plan made from it
    state   RS-1          all pods of a settled cluster
"""

from collections.abc import Iterator, Sequence
from typing import Any

from refk8s.core.api.resources import PODS
from refk8s.core.loop.plan import Plan
from refk8s.core.loop.view import View
from refk8s.core.properties.oracle import is_active, is_ready
from refk8s.core.properties.predicates.owners import controlled


def rs_1_settled(owner: Any, pods: Sequence[Any]) -> Iterator[str]:
    """In a settled cluster, the number of active pods, the status and spec.replicas are equal."""
    active = [pod for pod in controlled(pods, owner.metadata.uid) if is_active(pod)]
    wanted = owner.spec.replicas or 0
    if len(active) != wanted:
        yield f"{owner.metadata.name} has {len(active)} active pods, and spec.replicas is {wanted}"
    if owner.status.replicas != len(active):
        yield (
            f"status.replicas of {owner.metadata.name} is {owner.status.replicas}, "
            f"and it has {len(active)} pods"
        )
    ready = sum(1 for pod in active if is_ready(pod))
    if (owner.status.ready_replicas or 0) != ready:
        yield (
            f"status.readyReplicas of {owner.metadata.name} is {owner.status.ready_replicas}, "
            f"and {ready} are ready"
        )
    if owner.status.observed_generation != owner.metadata.generation:
        yield f"status.observedGeneration of {owner.metadata.name} is not its generation"


def rs_2_never_above_replicas(view: View, owner: Any, plan: Plan) -> Iterator[str]:
    """After the plan there are at most spec.replicas active pods, unless there are more already."""
    creations = [
        request
        for request in plan.requests
        if request.verb == "create" and request.resource is PODS
    ]
    active = [pod for pod in controlled(view.list(PODS), owner.metadata.uid) if is_active(pod)]
    if creations and len(active) + len(creations) > (owner.spec.replicas or 0):
        yield (
            f"{len(active)} active pods and {len(creations)} creations; "
            f"spec.replicas is {owner.spec.replicas}"
        )


def rs_2_never_below_replicas(view: View, owner: Any, plan: Plan) -> Iterator[str]:
    """A plan with deletions leaves spec.replicas active pods, and creates none."""
    deletions = [
        request
        for request in plan.requests
        if request.verb == "delete" and request.resource is PODS
    ]
    creations = [
        request
        for request in plan.requests
        if request.verb == "create" and request.resource is PODS
    ]
    active = [pod for pod in controlled(view.list(PODS), owner.metadata.uid) if is_active(pod)]
    if deletions and len(active) - len(deletions) < (owner.spec.replicas or 0):
        yield (
            f"{len(active)} active pods and {len(deletions)} deletions; "
            f"spec.replicas is {owner.spec.replicas}"
        )
    if deletions and creations:
        yield "creates and deletes at once"


def rs_3_no_pods_change_while_being_deleted(owner: Any, plan: Plan) -> Iterator[str]:
    """An owner that is being deleted neither creates nor deletes pods."""
    if owner.metadata.deletion_timestamp is not None:
        for request in plan.requests:
            if request.resource is PODS and request.verb in ("create", "delete"):
                yield f"{owner.metadata.name} is being deleted and sends a {request.verb}"
