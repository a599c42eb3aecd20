"""Predicates of Deployments. Rules DEP-6, DEP-7, DEP-8, DEP-10, DEP-11, DEP-18, DEP-19
(spec/workloads/deployment.md).

    plan    DEP-7, DEP-8, DEP-10, DEP-11, DEP-18    one decision: a view, and the plan made from it
    state   DEP-19                                  all ReplicaSets of a settled cluster
"""

from collections.abc import Iterator, Sequence
from typing import Any

from refk8s.core.api.resources import PODS, REPLICA_SETS
from refk8s.core.loop.plan import Plan
from refk8s.core.loop.view import View, key_of
from refk8s.core.properties.oracle import is_finished
from refk8s.core.properties.predicates.owners import controlled


def bounds_of(spec: Any) -> tuple[int, int]:
    """DEP-6: the most pods that may exist, and the fewest that must be available."""
    replicas = 1 if spec.replicas is None else spec.replicas
    if spec.strategy.type == "Recreate":
        return replicas, replicas
    requested = spec.strategy.rolling_update
    surge, unavailable = (
        (requested.max_surge, requested.max_unavailable) if requested is not None else (None, None)
    )
    more = _share("25%" if surge is None else surge, replicas, 99)
    less = _share("25%" if unavailable is None else unavailable, replicas, 0)
    return replicas + more, replicas - min(replicas, less or (0 if more else 1))


def _share(much: Any, of: int, rounding: int) -> int:
    return (int(much.removesuffix("%")) * of + rounding) // 100 if isinstance(much, str) else much


def sizes_after(view: View, deployment: Any, plan: Plan) -> tuple[list[tuple[int, int, int]], int]:
    """For each ReplicaSet of the Deployment (size, size after the plan, available), and the size of
    those that the plan creates."""
    updates = {
        r.key: r.body for r in plan.requests if r.resource is REPLICA_SETS and r.verb == "update"
    }
    sizes = []
    for rs in controlled(view.list(REPLICA_SETS), deployment.metadata.uid):
        after = updates.get(f"{rs.metadata.namespace}/{rs.metadata.name}", rs)
        sizes.append(
            (rs.spec.replicas or 0, after.spec.replicas or 0, rs.status.available_replicas or 0)
        )
    created = sum(
        r.body.spec.replicas or 0
        for r in plan.requests
        if r.resource is REPLICA_SETS and r.verb == "create"
    )
    return sizes, created


def dep_7_never_above_surge(view: View, deployment: Any, plan: Plan) -> Iterator[str]:
    """After a step that makes a ReplicaSet larger, the total is at most replicas + maxSurge."""
    sizes, created = sizes_after(view, deployment, plan)
    grows = created > 0 or any(after > before for before, after, _ in sizes)
    total = created + sum(after for _, after, _ in sizes)
    most, _ = bounds_of(deployment.spec)
    if grows and total > most:
        yield f"scales to {total} pods in all, where at most {most} are allowed"


def dep_8_never_below_available(view: View, deployment: Any, plan: Plan) -> Iterator[str]:
    """A step of a rollout removes available pods only as long as replicas - maxUnavailable stay. (A
    ReplicaSet removes other pods first.)"""
    if deployment.spec.strategy.type == "Recreate":
        return
    sizes, _ = sizes_after(view, deployment, plan)
    before = sum(min(size, available) for size, _, available in sizes)
    after = sum(min(size, available) for _, size, available in sizes)
    _, fewest = bounds_of(deployment.spec)
    if after < before and after < fewest:
        yield f"leaves {after} available pods of {before}, where at least {fewest} are required"


def dep_10_old_pods_end_first(view: View, deployment: Any, plan: Plan) -> list[str] | None:
    """With the strategy Recreate, no ReplicaSet is created or scaled up while another one has pods
    that have not finished. None if the plan scales nothing up."""
    known = {key_of(rs): rs for rs in controlled(view.list(REPLICA_SETS), deployment.metadata.uid)}
    growing = [
        request.key
        for request in plan.requests
        if request.resource is REPLICA_SETS and request.verb in ("create", "update")
        and (request.body.spec.replicas or 0) > (known[request.key].spec.replicas or 0 if request.key in known else 0)
    ]  # fmt: skip
    if not growing or len(growing) == len(known) == 1:
        return None
    others = [rs.metadata.uid for key, rs in sorted(known.items()) if key not in growing]
    there = [pod for uid in others for pod in controlled(view.list(PODS), uid)]
    return [
        f"{', '.join(growing)} is scaled up while {key_of(pod)} exists"
        for pod in there
        if not is_finished(pod)
    ]


def dep_11_paused_starts_no_rollout(deployment: Any, plan: Plan) -> Iterator[str]:
    """A paused Deployment creates no ReplicaSet."""
    if deployment.spec.paused:
        for request in plan.requests:
            if request.resource is REPLICA_SETS and request.verb == "create":
                yield "a paused Deployment creates a ReplicaSet"


def dep_18_only_status_while_being_deleted(deployment: Any, plan: Plan) -> Iterator[str]:
    """A Deployment that is being deleted writes its status and nothing else."""
    if deployment.metadata.deletion_timestamp is not None:
        for request in plan.requests:
            if request.subresource != "status":
                yield (
                    f"a Deployment that is being deleted sends {request.verb} of "
                    f"{request.resource.plural}"
                )


def dep_19_settled(
    deployment: Any, replica_sets: Sequence[Any], has_template: Any
) -> Iterator[str]:
    """In a settled cluster, the ReplicaSet with the template has all replicas and the others have
    none. `has_template(deployment, rs)`: whether it has the template."""
    own = controlled(replica_sets, deployment.metadata.uid)
    new = [rs for rs in own if has_template(deployment, rs)]
    if not new:
        yield f"no ReplicaSet has the template of {deployment.metadata.name}"
    if sum(rs.spec.replicas or 0 for rs in new) != deployment.spec.replicas:
        yield (
            f"the new ReplicaSets have {[rs.spec.replicas for rs in new]} replicas, "
            f"not {deployment.spec.replicas}"
        )
    for rs in own:
        if rs not in new and rs.spec.replicas:
            yield f"the old ReplicaSet {rs.metadata.name} has {rs.spec.replicas} replicas"
    if (deployment.status.updated_replicas or 0) != deployment.spec.replicas:
        yield (
            f"status.updatedReplicas of {deployment.metadata.name} is "
            f"{deployment.status.updated_replicas}"
        )
