"""Laws of creations: what controllers make is bounded by what is asked for. Rule OWN-8
(spec/workloads/owners.md).

They count what is in the store when something is created, by what it looks like and not by whom it
refers to: what was released or lost its reference counts too. The bounds are wide, since crashes
and late views make more than is asked for now and then; what is made without end passes any bound.
"""

from collections.abc import Iterable
from typing import Any

from msgspec.structs import replace

from refk8s.core.api.resources import (
    DEPLOYMENTS,
    ENDPOINT_SLICES,
    PODS,
    REPLICA_SETS,
    REPLICATION_CONTROLLERS,
    SERVICES,
    Resource,
)
from refk8s.core.cluster.state import Cluster
from refk8s.core.loop.view import controller_of
from refk8s.core.properties.law import Law, objects
from refk8s.core.properties.oracle import is_active
from refk8s.core.store import Change

TIMES, MORE = 3, 10
REPLICA_SETS_MAX = 6  # of one template of one Deployment
HASH = "pod-template-hash"


def asked_for(cluster: Cluster, resource: Resource, namespace: str, name: str) -> int:
    """The most replicas that the owner has asked for, as far as the history goes back."""
    key = f"{resource.prefix}{namespace}/{name}"
    record = cluster.history.get(key)
    found = [record.value] if record is not None else []
    found += [
        state.value
        for change in cluster.history.changes(key, cluster.history.compacted)
        for state in (change.record, change.previous)
        if change.key == key and state is not None
    ]
    return max((1 if obj.spec.replicas is None else obj.spec.replicas for obj in found), default=0)


def pods_are_bounded(change: Change[Any], before: Cluster, after: Cluster) -> Iterable[str] | None:
    """OWN-8, of a pod that a ReplicaSet or ReplicationController made."""
    if change.record is None or change.previous is not None:
        return None
    pod = change.record.value
    reference = controller_of(pod)
    resource = {"ReplicaSet": REPLICA_SETS, "ReplicationController": REPLICATION_CONTROLLERS}.get(
        reference.kind if reference else ""
    )
    if resource is None or reference is None or not pod.metadata.generate_name:
        return None
    metadata = pod.metadata
    alike = [
        other
        for other in objects(after, f"{PODS.prefix}{metadata.namespace}/")
        if is_active(other)
        and other.metadata.generate_name == metadata.generate_name
        and other.metadata.labels == metadata.labels
    ]
    asked = asked_for(after, resource, metadata.namespace, reference.name)
    if len(alike) <= TIMES * max(asked, 0) + MORE:
        return []
    return [
        f"{len(alike)} active pods were made for {reference.kind} {reference.name}, which asks for {asked}"
    ]


def replica_sets_are_bounded(
    change: Change[Any], before: Cluster, after: Cluster
) -> Iterable[str] | None:
    """OWN-8, of a ReplicaSet that a Deployment made."""
    if change.record is None or change.previous is not None:
        return None
    made = change.record.value
    reference = controller_of(made)
    if reference is None or reference.kind != DEPLOYMENTS.kind:
        return None
    namespace, template = made.metadata.namespace, _without_hash(made.spec.template)
    base = made.metadata.name.rpartition("-")[0]
    named = [
        rs
        for rs in objects(after, f"{REPLICA_SETS.prefix}{namespace}/")
        if rs.metadata.name.rpartition("-")[0] == base
    ]
    alike = [rs for rs in named if _without_hash(rs.spec.template) == template]
    if len(alike) <= REPLICA_SETS_MAX:
        return []
    return [f"{len(alike)} ReplicaSets of one template were made for Deployment {reference.name}"]


def _without_hash(template: Any) -> Any:
    labels = {
        name: value for name, value in (template.metadata.labels or {}).items() if name != HASH
    }
    return replace(template, metadata=replace(template.metadata, labels=labels or None))


def slices_are_bounded(
    change: Change[Any], before: Cluster, after: Cluster
) -> Iterable[str] | None:
    """OWN-8, of a slice that was made for a Service."""
    if change.record is None or change.previous is not None:
        return None
    slice = change.record.value
    reference = controller_of(slice)
    if reference is None or reference.kind != SERVICES.kind or not slice.metadata.generate_name:
        return None
    namespace = slice.metadata.namespace
    alike = [
        other
        for other in objects(after, f"{ENDPOINT_SLICES.prefix}{namespace}/")
        if other.metadata.generate_name == slice.metadata.generate_name
    ]
    pods = len(objects(after, f"{PODS.prefix}{namespace}/"))
    return (
        []
        if len(alike) <= pods + MORE
        else [f"{len(alike)} slices were made for Service {reference.name}, of {pods} pods"]
    )


OF_CHANGES = (
    Law("OWN-8", pods_are_bounded, PODS.prefix),
    Law("OWN-8", replica_sets_are_bounded, REPLICA_SETS.prefix),
    Law("OWN-8", slices_are_bounded, ENDPOINT_SLICES.prefix),
)
