"""What a turn of a Deployment asks for: requests about ReplicaSets, and the report. Rules DEP-2,
DEP-4, DEP-5, DEP-16, DEP-17.

(spec/workloads/deployment.md)
"""

from msgspec.structs import replace

from refk8s.core.api.apps_v1 import Deployment, DeploymentStatus, ReplicaSet, ReplicaSetSpec
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.request import Request
from refk8s.core.api.resources import DEPLOYMENTS, REPLICA_SETS
from refk8s.core.controllers import revision as revisions
from refk8s.core.controllers.deployment_picture import Decision, Picture
from refk8s.core.controllers.owners import controller_reference, deletion
from refk8s.core.controllers.rollout import Bounds
from refk8s.core.loop.plan import Note


def synchronized(picture: Picture, new: ReplicaSet) -> ReplicaSet:
    """The new ReplicaSet with the Deployment's annotations, its revision and minReadySeconds
    (DEP-4, DEP-5)."""
    annotations = revisions.compute_annotations(
        picture.deployment, new.metadata.annotations, picture.revision
    )
    min_ready_seconds = picture.deployment.spec.min_ready_seconds
    return replace(
        new,
        metadata=replace(new.metadata, annotations=annotations or None),
        spec=replace(new.spec, min_ready_seconds=min_ready_seconds),
    )


def resized(rs: ReplicaSet, size: int, bounds: Bounds) -> ReplicaSet:
    """The ReplicaSet with this size, and for what it was sized."""
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
    picture: Picture, new: ReplicaSet | None, decision: Decision
) -> tuple[tuple[Request, ...], tuple[Request, ...]]:
    """One update for each ReplicaSet that changes. Those that grow wait for the others, so that the
    sum never exceeds what is allowed."""
    first: list[Request] = []
    growing: list[Request] = []
    for rs in picture.all:
        after = new if new is not None and rs is picture.new else rs
        name, before = rs.metadata.name or "", rs.spec.replicas or 0
        size = decision.sizes.get(name)
        if size is not None:
            after = resized(after, size, picture.bounds)
        if after == rs:
            continue
        note = (
            None
            if size is None or size == before
            else scaling_note(picture.deployment, name, before, size)
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
    """What `kubectl describe` tells of a step (DEP-16)."""
    direction = "up" if size > before else "down"
    return Note(
        deployment,
        "ScalingReplicaSet",
        f"Scaled {direction} replica set {name} from {before} to {size}",
    )


def cleanings(picture: Picture) -> tuple[Request, ...]:
    """Delete the oldest revisions beyond the history limit, if they have no pods and their
    controller knows that they shall have none."""
    limit = picture.deployment.spec.revision_history_limit  # DEP-17
    alive = [rs for rs in picture.old if rs.metadata.deletion_timestamp is None]
    if limit is None or len(alive) <= limit:
        return ()
    return tuple(
        deletion(REPLICA_SETS, rs, f"the history is longer than {limit}")
        for rs in revisions.by_revision(alive)[: len(alive) - limit]
        if not rs.spec.replicas
        and not rs.status.replicas
        and (rs.metadata.generation or 0) <= (rs.status.observed_generation or 0)
    )


def new_replica_set(picture: Picture, size: int) -> ReplicaSet:
    """The ReplicaSet that carries the Deployment's template, labelled with its hash."""
    deployment = picture.deployment
    template = deployment.spec.template
    hash = revisions.template_hash(template, deployment.status.collision_count)
    labels, selector = revisions.new_labels(deployment, hash)
    rs = ReplicaSet(
        metadata=ObjectMeta(
            name=revisions.replica_set_name(deployment.metadata.name or "", hash),
            namespace=deployment.metadata.namespace,
            labels=labels,
            annotations=revisions.compute_annotations(deployment, None, picture.revision),
            owner_references=(controller_reference(deployment),),
        ),
        spec=ReplicaSetSpec(
            min_ready_seconds=deployment.spec.min_ready_seconds,
            selector=selector,
            template=replace(template, metadata=replace(template.metadata, labels=labels)),
        ),
    )
    return resized(rs, size, picture.bounds)


def creation(deployment: Deployment, new: ReplicaSet) -> Request:
    """Create it, and tell so where it has pods from the start."""
    name, size = new.metadata.name or "", new.spec.replicas or 0
    note = scaling_note(deployment, name, 0, size) if size else None
    return Request(
        "create",
        REPLICA_SETS,
        new.metadata.namespace or "",
        body=new,
        because="no ReplicaSet carries this template",
        note=note,
    )


def report(
    deployment: Deployment, status: DeploymentStatus, new: ReplicaSet | None = None
) -> tuple[Request, ...]:
    """Write the status, and the revision of the new ReplicaSet if it is known, where they are not
    what they were (DEP-16)."""
    metadata = deployment.metadata
    revision = (new.metadata.annotations or {}).get(revisions.REVISION) if new is not None else None
    if revision is not None and (metadata.annotations or {}).get(revisions.REVISION) != revision:
        metadata = replace(
            metadata, annotations={**(metadata.annotations or {}), revisions.REVISION: revision}
        )
    if status == deployment.status and metadata is deployment.metadata:
        return ()
    because = f"{status.updated_replicas or 0} of {deployment.spec.replicas} pods are new, {status.available_replicas or 0} available"
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
