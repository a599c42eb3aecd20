"""The status of a Deployment: counts and conditions. Rules DEP-12 to DEP-15
(spec/workloads/deployment.md).

    Available    True     MinimumReplicasAvailable    at least replicas - maxUnavailable available
                 False    MinimumReplicasUnavailable
    Progressing  True     NewReplicaSetCreated        the new ReplicaSet was created
                 True     FoundNewReplicaSet          the new ReplicaSet already existed, and there
                                                      was no condition Progressing
                 True     ReplicaSetUpdated           progress since the last status
                 True     NewReplicaSetAvailable      the rollout is complete
                 False    ProgressDeadlineExceeded    no progress for progressDeadlineSeconds
                 False    ReplicaSetCreateError       the new ReplicaSet was rejected
                 Unknown  DeploymentPaused, DeploymentResumed
    ReplicaFailure is copied from a ReplicaSet

Source: Kubernetes documentation, "Deployments" ("Deployment status"); API reference,
"DeploymentStatus".
"""

from collections.abc import Sequence

from msgspec.structs import replace

from refk8s.core.api.apps_v1 import Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet
from refk8s.core.api.conditions import get_condition, remove_condition, transition_time
from refk8s.core.context import SECOND, Instant, parse_timestamp, timestamp
from refk8s.core.controllers.rollout import Bounds

AVAILABLE, PROGRESSING, REPLICA_FAILURE = "Available", "Progressing", "ReplicaFailure"

CREATED, FOUND, UPDATED = "NewReplicaSetCreated", "FoundNewReplicaSet", "ReplicaSetUpdated"
COMPLETE, TIMED_OUT, CREATE_ERROR = (
    "NewReplicaSetAvailable",
    "ProgressDeadlineExceeded",
    "ReplicaSetCreateError",
)
PAUSED, RESUMED = "DeploymentPaused", "DeploymentResumed"

NO_DEADLINE = 2**31 - 1  # as progressDeadlineSeconds: progress is not watched

Conditions = tuple[DeploymentCondition, ...]


def set_condition(
    conditions: Conditions, type: str, status: str, reason: str, message: str, now: Instant
) -> Conditions:
    """The conditions with this one. With the same status and reason nothing changes; with the same
    status `lastTransitionTime` is kept."""
    current = get_condition(conditions, type)
    if current is not None and current.status == status and current.reason == reason:
        return conditions
    at = timestamp(now)
    since = transition_time(current, status, at)
    condition = DeploymentCondition(
        type=type,
        status=status,
        reason=reason,
        message=message,
        last_update_time=at,
        last_transition_time=since,
    )
    return (*remove_condition(conditions, type), condition)


def deadline_seconds(deployment: Deployment) -> int | None:
    """progressDeadlineSeconds; None if there is no deadline."""
    seconds = deployment.spec.progress_deadline_seconds
    return None if seconds == NO_DEADLINE else seconds


# --- counts ---------------------------------------------------------------------------------------


def compute_counts(
    deployment: Deployment,
    bounds: Bounds,
    new: ReplicaSet | None,
    replica_sets: Sequence[ReplicaSet],
    conditions: Conditions,
    now: Instant,
) -> DeploymentStatus:
    """The sums over all ReplicaSets (DEP-12), and the condition Available (DEP-13), added to
    `conditions`."""
    available = sum(rs.status.available_replicas or 0 for rs in replica_sets)
    desired = sum(rs.spec.replicas or 0 for rs in replica_sets)
    if available >= bounds.fewest_available:
        conditions = set_condition(
            conditions,
            AVAILABLE,
            "True",
            "MinimumReplicasAvailable",
            "Deployment has minimum availability.",
            now,
        )
    else:
        conditions = set_condition(
            conditions,
            AVAILABLE,
            "False",
            "MinimumReplicasUnavailable",
            "Deployment does not have minimum availability.",
            now,
        )
    return DeploymentStatus(
        observed_generation=deployment.metadata.generation,
        replicas=sum(rs.status.replicas for rs in replica_sets) or None,
        updated_replicas=(new.status.replicas if new is not None else 0) or None,
        ready_replicas=sum(rs.status.ready_replicas or 0 for rs in replica_sets) or None,
        available_replicas=available or None,
        unavailable_replicas=max(desired - available, 0) or None,
        terminating_replicas=_terminating(replica_sets),
        collision_count=deployment.status.collision_count,
        conditions=conditions or None,
    )


def _terminating(replica_sets: Sequence[ReplicaSet]) -> int | None:
    """The sum of terminatingReplicas; None if a ReplicaSet has a status without this count."""
    count = 0
    for rs in replica_sets:
        if rs.status.terminating_replicas is not None:
            count += rs.status.terminating_replicas
        elif rs.status.observed_generation:
            return None
    return count


# --- progress -------------------------------------------------------------------------------------


def compute_pause(deployment: Deployment, now: Instant) -> Conditions:
    """The conditions after a pause or resumption (DEP-11). No deadline runs while the Deployment is
    paused; ProgressDeadlineExceeded is kept."""
    conditions = deployment.status.conditions or ()
    current = get_condition(conditions, PROGRESSING)
    reason = current.reason if current is not None else None
    if deadline_seconds(deployment) is None or reason == TIMED_OUT:
        return conditions
    if deployment.spec.paused and reason != PAUSED:
        return set_condition(
            conditions, PROGRESSING, "Unknown", PAUSED, "Deployment is paused", now
        )
    if not deployment.spec.paused and reason == PAUSED:
        return set_condition(
            conditions, PROGRESSING, "Unknown", RESUMED, "Deployment is resumed", now
        )
    return conditions


def compute_beginning(
    deployment: Deployment,
    conditions: Conditions,
    new: ReplicaSet | None,
    now: Instant,
    created: bool = False,
) -> Conditions:
    """The conditions at the start of a rollout: the new ReplicaSet was created, or found while
    there was no condition Progressing (DEP-14)."""
    if new is None or deadline_seconds(deployment) is None:
        return conditions
    if created:
        return set_condition(
            conditions,
            PROGRESSING,
            "True",
            CREATED,
            f'Created new replica set "{new.metadata.name}"',
            now,
        )
    if get_condition(conditions, PROGRESSING) is None:
        return set_condition(
            conditions,
            PROGRESSING,
            "True",
            FOUND,
            f'Found new replica set "{new.metadata.name}"',
            now,
        )
    return conditions


def compute_refusal(
    deployment: Deployment, conditions: Conditions, message: str, now: Instant
) -> Conditions:
    """The conditions after the creation of the new ReplicaSet was rejected (DEP-20)."""
    if deadline_seconds(deployment) is None:
        return conditions
    return set_condition(conditions, PROGRESSING, "False", CREATE_ERROR, message, now)


def is_complete(deployment: Deployment, status: DeploymentStatus) -> bool:
    """Whether all replicas are updated and available and no other pods exist, by a status of this
    generation (DEP-14)."""
    wanted = 1 if deployment.spec.replicas is None else deployment.spec.replicas
    return (
        (status.replicas or 0) == wanted
        and (status.updated_replicas or 0) == wanted
        and (status.available_replicas or 0) == wanted
        and (status.observed_generation or 0) >= (deployment.metadata.generation or 0)
    )


def is_progress(before: DeploymentStatus, after: DeploymentStatus) -> bool:
    """Whether more pods are new, ready or available, or fewer are old."""

    def old(status: DeploymentStatus) -> int:
        return (status.replicas or 0) - (status.updated_replicas or 0)

    return (
        (after.updated_replicas or 0) > (before.updated_replicas or 0)
        or old(after) < old(before)
        or (after.ready_replicas or 0) > (before.ready_replicas or 0)
        or (after.available_replicas or 0) > (before.available_replicas or 0)
    )


def compute_progress(
    deployment: Deployment,
    status: DeploymentStatus,
    new: ReplicaSet | None,
    replica_sets: Sequence[ReplicaSet],
    now: Instant,
) -> DeploymentStatus:
    """The status with the conditions Progressing (DEP-14, DEP-15) and ReplicaFailure."""
    conditions = status.conditions or ()
    about = (
        f'ReplicaSet "{new.metadata.name}"'
        if new is not None
        else f'Deployment "{deployment.metadata.name}"'
    )
    current = get_condition(conditions, PROGRESSING)
    if deadline_seconds(deployment) is None:
        conditions = remove_condition(conditions, PROGRESSING)
    elif (
        status.replicas == status.updated_replicas
        and current is not None
        and current.reason == COMPLETE
    ):
        pass  # No rollout is in progress; a pod that fails now does not start one.
    elif is_complete(deployment, status):
        conditions = set_condition(
            conditions, PROGRESSING, "True", COMPLETE, f"{about} has successfully progressed.", now
        )
    elif is_progress(deployment.status, status):
        conditions = _progressed(conditions, current, f"{about} is progressing.", now)
    elif current is not None and is_timed_out(deployment, current, now):
        conditions = set_condition(
            conditions, PROGRESSING, "False", TIMED_OUT, f"{about} has timed out progressing.", now
        )
    return replace(status, conditions=_with_failure(conditions, new, replica_sets) or None)


def _progressed(
    conditions: Conditions, current: DeploymentCondition | None, message: str, now: Instant
) -> Conditions:
    """Progressing with reason ReplicaSetUpdated. It is written again with an equal reason, because
    the deadline runs from `lastUpdateTime`."""
    at = timestamp(now)
    since = transition_time(current, "True", at)
    condition = DeploymentCondition(
        type=PROGRESSING,
        status="True",
        reason=UPDATED,
        message=message,
        last_update_time=at,
        last_transition_time=since,
    )
    return (*remove_condition(conditions, PROGRESSING), condition)


def is_timed_out(deployment: Deployment, current: DeploymentCondition, now: Instant) -> bool:
    """Whether the deadline has passed since the last progress. ProgressDeadlineExceeded stays; a
    complete rollout has no deadline."""
    at = deadline(deployment, current)
    return current.reason == TIMED_OUT or (at is not None and at < now)


def deadline(deployment: Deployment, current: DeploymentCondition | None) -> Instant | None:
    """When the deadline passes; None if none runs."""
    seconds = deadline_seconds(deployment)
    if (
        seconds is None
        or current is None
        or current.reason in (COMPLETE, TIMED_OUT)
        or current.last_update_time is None
    ):
        return None
    return parse_timestamp(current.last_update_time) + seconds * SECOND


def compute_wake(deployment: Deployment, status: DeploymentStatus) -> Instant | None:
    """When to check the deadline. Times are written in whole seconds, rounded down, so one second
    is added (DEP-15)."""
    if deployment.spec.paused or is_complete(deployment, status):
        return None
    at = deadline(deployment, get_condition(status.conditions, PROGRESSING))
    return None if at is None else at + SECOND


def _with_failure(
    conditions: Conditions, new: ReplicaSet | None, replica_sets: Sequence[ReplicaSet]
) -> Conditions:
    """ReplicaFailure of the new ReplicaSet, else of another one, else none."""
    for rs in [*([new] if new is not None else []), *replica_sets]:
        for found in rs.status.conditions or ():
            if found.type == REPLICA_FAILURE:
                current = get_condition(conditions, REPLICA_FAILURE)
                if (
                    current is not None
                    and current.status == found.status
                    and current.reason == found.reason
                ):
                    return conditions
                # The time is the ReplicaSet's, unless the Deployment already has this status.
                at = found.last_transition_time
                condition = DeploymentCondition(
                    type=REPLICA_FAILURE,
                    status=found.status,
                    reason=found.reason,
                    message=found.message,
                    last_update_time=at,
                    last_transition_time=transition_time(current, found.status, at),
                )
                return (*remove_condition(conditions, REPLICA_FAILURE), condition)
    return remove_condition(conditions, REPLICA_FAILURE)
