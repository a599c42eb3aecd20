"""The requests of the deployment controller: ReplicaSets and status. Rules DEP-2, DEP-4, DEP-5,
DEP-16, DEP-17 (spec/workloads/deployment.md).
"""

from msgspec.structs import replace

from refk8s.core.api.apps_v1 import Deployment, DeploymentStatus, ReplicaSet, ReplicaSetSpec
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.request import Request
from refk8s.core.api.resources import DEPLOYMENTS, REPLICA_SETS
from refk8s.core.controllers import revision as revisions
from refk8s.core.controllers.deployment_observed import Decision, Observed
from refk8s.core.controllers.owners import controller_reference, deletion
from refk8s.core.controllers.rollout import Bounds
from refk8s.core.loop.plan import Note


def synchronized(observed: Observed, new: ReplicaSet) -> ReplicaSet:
    """The new ReplicaSet with the Deployment's annotations, its revision and minReadySeconds
    (DEP-4, DEP-5)."""
    annotations = revisions.compute_annotations(
        observed.deployment, new.metadata.annotations, observed.revision
    )
    min_ready_seconds = observed.deployment.spec.min_ready_seconds
    return replace(
        new,
        metadata=replace(new.metadata, annotations=annotations or None),
        spec=replace(new.spec, min_ready_seconds=min_ready_seconds),
    )


def resized(rs: ReplicaSet, size: int, bounds: Bounds) -> ReplicaSet:
    """The ReplicaSet with this size, and with the annotations for which bounds it was scaled."""
    annotations = {
        **(rs.metadata.annotations or {}),
        revisions.DESIRED_REPLICAS: str(bounds.replicas),
        revisions.MAX_REPLICAS: str(bounds.most),
    }
    return replace(
        rs,
        metadata=replace(rs.metadata, annotations=annotations),
        spec=replace(rs.spec, replicas=size),
    )


def resizings(
    observed: Observed, new: ReplicaSet | None, decision: Decision
) -> tuple[tuple[Request, ...], tuple[Request, ...]]:
    """One update for each ReplicaSet that changes. Those that scale up are sent after the others,
    so that the sum never exceeds the bound."""
    first: list[Request] = []
    growing: list[Request] = []
    for rs in observed.all:
        after = new if new is not None and rs is observed.new else rs
        name, before = rs.metadata.name or "", rs.spec.replicas or 0
        size = decision.sizes.get(name)
        if size is not None:
            after = resized(after, size, observed.bounds)
        if after == rs:
            continue
        note = (
            None
            if size is None or size == before
            else scaling_note(observed.deployment, name, before, size)
        )
        because = (
            "its Deployment changed"
            if note is None
            else f"from {before} to {size}: {decision.because}"
        )
        request = Request(
            "update",
            REPLICA_SETS,
            rs.metadata.namespace or "",
            name,
            body=after,
            because=because,
            note=note,
        )
        (growing if size is not None and size > before else first).append(request)
    return tuple(first), tuple(growing)


def scaling_note(deployment: Deployment, name: str, before: int, size: int) -> Note:
    """The Event for a changed size (DEP-16)."""
    direction = "up" if size > before else "down"
    return Note(
        deployment,
        "ScalingReplicaSet",
        f"Scaled {direction} replica set {name} from {before} to {size}",
    )


def cleanings(observed: Observed) -> tuple[Request, ...]:
    """Delete the oldest revisions beyond the history limit that have no pods, and whose controller
    has observed `spec.replicas: 0`."""
    limit = observed.deployment.spec.revision_history_limit  # DEP-17
    kept = [rs for rs in observed.old if rs.metadata.deletion_timestamp is None]
    if limit is None or len(kept) <= limit:
        return ()
    return tuple(
        deletion(REPLICA_SETS, rs, f"the history is longer than {limit}")
        for rs in revisions.by_revision(kept)[: len(kept) - limit]
        if not rs.spec.replicas
        and not rs.status.replicas
        and (rs.metadata.generation or 0) <= (rs.status.observed_generation or 0)
    )


def new_replica_set(observed: Observed, size: int) -> ReplicaSet:
    """A ReplicaSet with the Deployment's template and the label of its hash."""
    deployment = observed.deployment
    template = deployment.spec.template
    hash = revisions.template_hash(template, deployment.status.collision_count)
    labels, selector = revisions.new_labels(deployment, hash)
    rs = ReplicaSet(
        metadata=ObjectMeta(
            name=revisions.replica_set_name(deployment.metadata.name or "", hash),
            namespace=deployment.metadata.namespace,
            labels=labels,
            annotations=revisions.compute_annotations(deployment, None, observed.revision),
            owner_references=(controller_reference(deployment),),
        ),
        spec=ReplicaSetSpec(
            min_ready_seconds=deployment.spec.min_ready_seconds,
            selector=selector,
            template=replace(template, metadata=replace(template.metadata, labels=labels)),
        ),
    )
    return resized(rs, size, observed.bounds)


def creation(deployment: Deployment, new: ReplicaSet) -> Request:
    """Create the ReplicaSet, with an Event if its size is not 0."""
    name, size = new.metadata.name or "", new.spec.replicas or 0
    note = scaling_note(deployment, name, 0, size) if size else None
    return Request(
        "create",
        REPLICA_SETS,
        new.metadata.namespace or "",
        body=new,
        because="no ReplicaSet has this template",
        note=note,
    )


def report(
    deployment: Deployment, status: DeploymentStatus, new: ReplicaSet | None = None
) -> tuple[Request, ...]:
    """Write the status and the revision of the new ReplicaSet, if they differ (DEP-16)."""
    metadata = deployment.metadata
    revision = (new.metadata.annotations or {}).get(revisions.REVISION) if new is not None else None
    if revision is not None and (metadata.annotations or {}).get(revisions.REVISION) != revision:
        metadata = replace(
            metadata, annotations={**(metadata.annotations or {}), revisions.REVISION: revision}
        )
    if status == deployment.status and metadata is deployment.metadata:
        return ()
    because = (
        f"{status.updated_replicas or 0} of {deployment.spec.replicas} pods are new, "
        f"{status.available_replicas or 0} available"
    )
    body = replace(deployment, metadata=metadata, status=status)
    return (
        Request(
            "update",
            DEPLOYMENTS,
            metadata.namespace or "",
            metadata.name or "",
            "status",
            body=body,
            because=because,
        ),
    )
