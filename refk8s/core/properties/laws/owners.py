"""Laws of controllers that own objects. Rules OWN-1, OWN-2, OWN-4, OWN-6, OWN-8
(spec/workloads/owners.md).

A decision is checked when it is made, against its view, since a watch may be late.

OWN-8 is checked when an object is created. It counts stored objects by their labels or template and
not by their owner reference, so a released object counts too. The bounds are wide, because crashes
and late views sometimes cause surplus objects. Endless creation exceeds every bound.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from typing import Any

from msgspec.structs import replace

from refk8s.core.api.request import Request
from refk8s.core.api.resources import (
    DEPLOYMENTS,
    ENDPOINT_SLICES,
    PODS,
    REPLICA_SETS,
    REPLICATION_CONTROLLERS,
    SERVICES,
    Resource,
)
from refk8s.core.api.selector import from_label_selector
from refk8s.core.cluster.state import Cluster
from refk8s.core.loop.view import View, controller_of
from refk8s.core.properties.law import Decision, Law, objects
from refk8s.core.properties.oracle import is_active
from refk8s.core.properties.predicates.owners import (
    is_adoption,
    own_1_acts_only_on_its_own,
    own_2_adopts_selected_objects_without_controller,
    own_4_adopts_nothing_while_being_deleted,
    own_6_names_the_uid,
)
from refk8s.core.store import Change

OWNERS: Mapping[str, tuple[Resource, Resource]] = {
    "replicaset-controller": (REPLICA_SETS, PODS),
    "replication-controller": (REPLICATION_CONTROLLERS, PODS),
    "deployment-controller": (DEPLOYMENTS, REPLICA_SETS),
}
"""For each reconciler the resource of its owners, and of their dependents."""

Check = Callable[[Decision, Cluster, Cluster], Iterable[str] | None]


class _Selected:
    """The selector of an owner; a ReplicationController has a map of labels."""

    def __init__(self, owner: Any) -> None:
        selector = owner.spec.selector
        self._labels = selector if isinstance(selector, Mapping) else None
        self._selector = from_label_selector(selector) if self._labels is None else None

    def matches(self, labels: Mapping[str, str] | None) -> bool:
        if self._selector is not None:
            return self._selector.matches(labels)
        assert self._labels is not None
        return self._labels.items() <= (labels or {}).items()


def of_owner(check: Callable[[View, Any, Resource, Decision], Iterable[str] | None]) -> Check:
    """A law of decisions of the controllers of `OWNERS`, about an owner that is in view."""

    @wraps(check)
    def law(decision: Decision, before: Cluster, after: Cluster) -> Iterable[str] | None:
        if decision.reconciler not in OWNERS:
            return None
        resource, dependents = OWNERS[decision.reconciler]
        owner = decision.view.get(resource, decision.key)
        if owner is None:
            return [f"{decision.reconciler} acts for {decision.key}, which its view does not show"]
        return check(decision.view, owner, dependents, decision)

    return law


def about(decision: Decision, resource: Resource, *verbs: str) -> list[Request]:
    """The requests of a decision for this resource with one of these verbs."""
    return [
        request
        for request in decision.requests
        if request.resource is resource and request.verb in verbs
    ]


def acts_on_its_own(
    view: View, owner: Any, dependents: Resource, decision: Decision
) -> Iterable[str] | None:
    """OWN-1."""
    if not about(decision, dependents, "create", "update", "patch", "delete"):
        return None
    return own_1_acts_only_on_its_own(view, owner, dependents, decision.plan)


def adopts_what_is_free(
    view: View, owner: Any, dependents: Resource, decision: Decision
) -> Iterable[str] | None:
    """OWN-2."""
    if not any(is_adoption(request) for request in about(decision, dependents, "patch")):
        return None
    return own_2_adopts_selected_objects_without_controller(
        view, owner, dependents, _Selected(owner), decision.plan
    )


def adopts_nothing_while_being_deleted(
    view: View, owner: Any, dependents: Resource, decision: Decision
) -> Iterable[str] | None:
    """OWN-4."""
    return (
        None
        if owner.metadata.deletion_timestamp is None
        else own_4_adopts_nothing_while_being_deleted(owner, decision.plan)
    )


def names_the_uid(
    view: View, owner: Any, dependents: Resource, decision: Decision
) -> Iterable[str] | None:
    """OWN-6."""
    if not about(decision, dependents, "patch", "delete"):
        return None
    return own_6_names_the_uid(view, dependents, decision.plan)


# --- what is created is bounded -------------------------------------------------------------------

TIMES, MORE = 3, 10
REPLICA_SETS_MAX = 6  # of one template of one Deployment
HASH = "pod-template-hash"


def requested_replicas(cluster: Cluster, resource: Resource, namespace: str, name: str) -> int:
    """The most replicas that the owner requested, as far as the history goes back."""
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
    """OWN-8, for a pod that a ReplicaSet or ReplicationController created."""
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
    requested = requested_replicas(after, resource, metadata.namespace, reference.name)
    if len(alike) <= TIMES * max(requested, 0) + MORE:
        return []
    return [
        f"{len(alike)} active pods of {reference.kind} {reference.name}, "
        f"whose spec.replicas is {requested}"
    ]


def replica_sets_are_bounded(
    change: Change[Any], before: Cluster, after: Cluster
) -> Iterable[str] | None:
    """OWN-8, for a ReplicaSet that a Deployment created."""
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
    return [f"{len(alike)} ReplicaSets of one template of Deployment {reference.name}"]


def _without_hash(template: Any) -> Any:
    labels = {
        name: value for name, value in (template.metadata.labels or {}).items() if name != HASH
    }
    return replace(template, metadata=replace(template.metadata, labels=labels or None))


def slices_are_bounded(
    change: Change[Any], before: Cluster, after: Cluster
) -> Iterable[str] | None:
    """OWN-8, for a slice that was created for a Service."""
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
        else [f"{len(alike)} slices of Service {reference.name}, which has {pods} pods"]
    )


OF_CHANGES = (
    Law("OWN-8", pods_are_bounded, PODS.prefix),
    Law("OWN-8", replica_sets_are_bounded, REPLICA_SETS.prefix),
    Law("OWN-8", slices_are_bounded, ENDPOINT_SLICES.prefix),
)
OF_DECISIONS = (
    Law("OWN-1", of_owner(acts_on_its_own)),
    Law("OWN-2", of_owner(adopts_what_is_free)),
    Law("OWN-4", of_owner(adopts_nothing_while_being_deleted)),
    Law("OWN-6", of_owner(names_the_uid)),
)
