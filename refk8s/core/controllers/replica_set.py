"""ReplicaSet: as many pods as `spec.replicas`. Rules RS-1 to RS-12 (spec/workloads/replica_set.md).

A ReplicationController follows the same rules (`replication_controller.py`). The loop does not
reconcile a key before the view shows every pod that was created or deleted for it (LOOP-4), and it
sends a creation without an answer again with the same name (LOOP-6). So a plan that counts the pods
in the view never creates above `spec.replicas` (RS-2).

Source: Kubernetes documentation, "ReplicaSet"; design proposal "Controller reference"; KEP-3973
(terminating pods). Left out: nothing.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from msgspec.structs import replace

from refk8s.core.api.apps_v1 import ReplicaSetCondition, ReplicaSetStatus
from refk8s.core.api.conditions import remove_condition
from refk8s.core.api.meta_v1 import LabelSelector
from refk8s.core.api.request import Request, Response
from refk8s.core.api.resources import PODS, REPLICA_SETS, Resource
from refk8s.core.context import Instant, timestamp
from refk8s.core.controllers.deletion_order import rank_for_deletion
from refk8s.core.controllers.owners import (
    claim,
    claim_waves,
    controller_reference,
    deletion,
    dependent_keys,
    list_orphans,
    orphan_index,
    selects,
    why_not_created,
)
from refk8s.core.controllers.replicas import (
    REPLICAS,
    Replicas,
    known_replicas,
    read_replicas,
    template_labels,
)
from refk8s.core.loop.plan import NOTHING, Key, Local, Note, Plan, slow_start
from refk8s.core.loop.reconciler import Interest, Reconciler, own_key
from refk8s.core.loop.recorder import BURST_MAX as NOTES_MAX
from refk8s.core.loop.view import View, controller_of, namespace_index, owner_index
from refk8s.core.pods.status import is_active, split
from refk8s.core.pods.template import pod_from_template
from refk8s.core.value import Value

BURST_MAX = 500
"""The most pods that one plan creates or deletes; the next plan does the rest (RS-4)."""

REPLICA_FAILURE = "ReplicaFailure"


class Variant(Value, frozen=True, eq=False):
    """The differences between ReplicaSet and ReplicationController."""

    resource: Resource
    selector_of: Callable[[Any], LabelSelector | None]
    status: type[Any]
    condition: type[Any]
    counts_terminating: bool


REPLICA_SET = Variant(
    REPLICA_SETS,
    lambda obj: obj.spec.selector,
    ReplicaSetStatus,
    ReplicaSetCondition,
    counts_terminating=True,
)


class ReplicaSetReconciler(Reconciler):
    """Reconciles one ReplicaSet."""

    name = component = "replicaset-controller"
    variant = REPLICA_SET

    def __init__(self) -> None:
        own, variant = self.variant.resource, self.variant
        self.interests = (
            Interest(own, own_key),
            Interest(PODS, dependent_keys(own.kind, own, variant.selector_of)),
        )
        self.indexes = (
            namespace_index(own),
            owner_index(own),
            owner_index(PODS),
            orphan_index(PODS),
        )
        self.folds = (REPLICAS,)

    def reconcile(self, view: View, key: Key, now: Instant, local: Local) -> Plan:
        """Create or delete pods until spec.replicas of the owned ones are active (RS-1). O(orphans
        with one of the selector's labels), and O(owned pods) to delete or release one, or with
        minReadySeconds."""
        # Observe
        owner = view.get(self.variant.resource, key)
        if owner is None:
            return NOTHING  # The garbage collector deletes its dependents.
        selector = self.variant.selector_of(owner)
        selected = selects(selector)
        wanted = 1 if owner.spec.replicas is None else owner.spec.replicas
        orphans = [
            pod
            for pod in list_orphans(view, PODS, owner.metadata.namespace, selector)
            if is_active(pod)
        ]
        active: Sequence[Any] = ()
        replicas = known_replicas(view, owner, selected) if not orphans else None
        if replicas is None or replicas.active > wanted:
            running, terminating = split(view.indexed(PODS, "owner", owner.metadata.uid))
            claimed = claim(owner, running, orphans, selected)
            if not claimed.is_settled:
                return Plan(claim_waves(owner, self.variant.resource, PODS, claimed))
            active = claimed.owned
            ending = claim(owner, terminating, (), selected).owned  # RS-10
            replicas = read_replicas(owner, active, ending, now)

        # Decide
        is_terminating = owner.metadata.deletion_timestamp is not None
        # RS-3: an owner that is being deleted creates and deletes nothing
        missing = 0 if is_terminating else wanted - replicas.active
        to_delete = (
            rank_for_deletion(active, relatives(view, self.variant, owner), now)[
                : min(-missing, BURST_MAX)
            ]
            if missing < 0
            else []
        )
        refusal = why_not_created(selected, template_labels(owner)) if missing > 0 else None
        failure = refusal or (pod_failure(local.failure, self.variant) if missing else None)

        # Act
        making = creations(owner, missing, wanted) if missing > 0 and refusal is None else ()
        waves = slow_start(making) if missing > 0 else deletions(owner, to_delete, -missing)

        # Report
        status = compute_status(self.variant, owner, replicas, missing, failure, now)
        notes = () if failure is None else (failure_note(owner, missing, failure),)
        reported = report(self.variant, owner, status, wanted)
        return Plan(waves, reported, replicas.available_at, notes)


# --- act ------------------------------------------------------------------------------------------


def creations(owner: Any, missing: int, wanted: int) -> tuple[Request, ...]:
    """Requests that create the missing pods from the template (RS-4, RS-6). They share one body,
    and the loop gives each pod its name. O(1) objects."""
    template = owner.spec.template
    if template is None:
        return ()
    namespace = owner.metadata.namespace
    pod = pod_from_template(template, controller_reference(owner))
    because = f"{missing} of {wanted} pods are missing"
    note = Note(owner, "SuccessfulCreate", "Created pod: {name}")
    with_event = Request("create", PODS, namespace, body=pod, because=because, note=note)
    without_event = Request("create", PODS, namespace, body=pod, because=because)
    count = min(missing, BURST_MAX)
    # An Event beyond the budget of the owner (EVENT-2) would be dropped.
    return (with_event,) * min(count, NOTES_MAX) + (without_event,) * max(count - NOTES_MAX, 0)


def deletions(
    owner: Any, to_delete: Sequence[Any], surplus: int
) -> tuple[tuple[Request, ...], ...]:
    """Delete these pods, in one wave (RS-4)."""
    if not to_delete:
        return ()
    because = f"{surplus} too many pods"
    note = Note(owner, "SuccessfulDelete", "Deleted pod: {name}")
    return (tuple([deletion(PODS, pod, because, note) for pod in to_delete]),)


def relatives(view: View, variant: Variant, owner: Any) -> Iterable[Any]:
    """The pods of all ReplicaSets with the same owner (those of one Deployment); none for a
    ReplicaSet without an owner."""
    reference = controller_of(owner)
    if reference is not None:
        for sibling in view.indexed(variant.resource, "owner", reference.uid):
            yield from view.indexed(PODS, "owner", sibling.metadata.uid)


# --- report ---------------------------------------------------------------------------------------


def pod_failure(response: Response | None, variant: Variant) -> str | None:
    """The message of a rejected creation or deletion of a pod; None for any other rejection.

    Rejections of the controller's own status write, and because the namespace is being deleted, are
    not reported (RS-11).
    """
    if response is None:
        return None
    details = getattr(response.body, "details", None)
    if details is not None:
        if details.kind in (variant.resource.plural, variant.resource.kind):
            return None
        if any(cause.reason == "NamespaceTerminating" for cause in details.causes or ()):
            return None
    return getattr(response.body, "message", None) or f"the API server answered {response.code}"


def failure_note(owner: Any, missing: int, failure: str) -> Note:
    """The Event for a rejected creation or deletion (RS-11)."""
    if missing > 0:
        return Note(owner, "FailedCreate", f"Error creating: {failure}", "Warning")
    return Note(owner, "FailedDelete", f"Error deleting: {failure}", "Warning")


def compute_status(
    variant: Variant,
    owner: Any,
    replicas: Replicas,
    missing: int,
    failure: str | None,
    now: Instant,
) -> Any:
    """The status (RS-7 to RS-11)."""
    counts = {
        "replicas": replicas.active,
        "fully_labeled_replicas": replicas.fully_labeled or None,
        "ready_replicas": replicas.ready or None,
        "available_replicas": replicas.available or None,
        "observed_generation": owner.metadata.generation,
        "conditions": compute_conditions(variant, owner, missing, failure, now) or None,
    }
    if variant.counts_terminating:
        counts["terminating_replicas"] = replicas.terminating
    return variant.status(**counts)


def compute_conditions(
    variant: Variant, owner: Any, missing: int, failure: str | None, now: Instant
) -> tuple[Any, ...]:
    """ReplicaFailure is kept from the first rejection until the number of pods is right (RS-11).
    Other conditions are kept."""
    conditions: tuple[Any, ...] = owner.status.conditions or ()
    others = remove_condition(conditions, REPLICA_FAILURE)
    if not missing:
        return others
    if failure is None or len(others) < len(conditions):
        return conditions
    reason = "FailedCreate" if missing > 0 else "FailedDelete"
    at = timestamp(now)
    return (
        *others,
        variant.condition(
            type=REPLICA_FAILURE,
            status="True",
            reason=reason,
            message=failure,
            last_transition_time=at,
        ),
    )


def report(variant: Variant, owner: Any, status: Any, wanted: int) -> tuple[Request, ...]:
    """Write the status if it differs (RS-12)."""
    if status == owner.status:
        return ()
    because = (
        f"{status.replicas} of {wanted} pods exist, {status.ready_replicas or 0} ready, "
        f"{status.available_replicas or 0} available"
    )
    metadata = owner.metadata
    body = replace(owner, status=status)
    return (
        Request(
            "update",
            variant.resource,
            metadata.namespace,
            metadata.name,
            "status",
            body=body,
            because=because,
        ),
    )
