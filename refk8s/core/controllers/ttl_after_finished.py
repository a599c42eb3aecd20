"""Finished Jobs are deleted after their `ttlSecondsAfterFinished`. Rule TTL-1
(spec/workloads/ttl.md).

Source: Kubernetes documentation, "Automatic Cleanup for Finished Jobs". Left out: nothing.
"""

from refk8s.core.api.batch_v1 import Job
from refk8s.core.api.meta_v1 import DeleteOptions, Preconditions
from refk8s.core.api.request import Request
from refk8s.core.api.resources import JOBS
from refk8s.core.context import SECOND, Instant, parse_timestamp
from refk8s.core.controllers.job_status import COMPLETE, JOB_FAILED, find_condition
from refk8s.core.loop.plan import NOTHING, Key, Local, Plan
from refk8s.core.loop.reconciler import Interest, Reconciler
from refk8s.core.loop.view import View, key_of


def _keys(view: View, old: Job | None, new: Job | None) -> tuple[Key, ...]:
    """The Job, if it has a time to live."""
    if new is None or new.spec.ttl_seconds_after_finished is None:
        return ()
    return (key_of(new),)


class TTLAfterFinished(Reconciler):
    """Reconciles one Job."""

    name = component = "ttl-after-finished-controller"
    interests = (Interest(JOBS, _keys),)

    def reconcile(self, view: View, key: Key, now: Instant, local: Local) -> Plan:
        """Delete the Job and its pods when its time has passed (TTL-1)."""
        # Observe
        job: Job | None = view.get(JOBS, key)
        if job is None or job.metadata.deletion_timestamp is not None:
            return NOTHING

        # Decide
        expires_at = compute_expiry(job)
        if expires_at is None:
            return NOTHING
        if expires_at > now:
            return Plan(wake_at=expires_at)

        # Act
        metadata = job.metadata
        # with the version: a user who gives the Job more time just now is not ignored
        options = DeleteOptions(
            propagation_policy="Foreground",
            preconditions=Preconditions(
                uid=metadata.uid, resource_version=metadata.resource_version
            ),
        )
        because = f"it finished {job.spec.ttl_seconds_after_finished} seconds ago"
        return Plan(
            (
                (
                    Request(
                        "delete",
                        JOBS,
                        metadata.namespace or "",
                        metadata.name or "",
                        body=options,
                        because=because,
                    ),
                ),
            )
        )


def compute_expiry(job: Job) -> Instant | None:
    """When the Job is deleted; None if it has not finished or has no time to live."""
    seconds = job.spec.ttl_seconds_after_finished
    end = find_condition(job, COMPLETE) or find_condition(job, JOB_FAILED)
    if seconds is None or end is None or end.last_transition_time is None:
        return None
    return parse_timestamp(end.last_transition_time) + seconds * SECOND
