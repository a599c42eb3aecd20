"""Laws of Jobs. Rules JOB-1, JOB-2, JOB-3, JOB-6, JOB-11 (spec/workloads/job.md)."""

from collections.abc import Iterable
from typing import Any

from refk8s.core.api.resources import JOBS, PODS
from refk8s.core.cluster.state import Cluster
from refk8s.core.loop.view import controller_of
from refk8s.core.properties.law import Decision, Law, objects
from refk8s.core.properties.laws.owners import about
from refk8s.core.properties.laws.replica_set import unseen_creations
from refk8s.core.properties.oracle import is_active
from refk8s.core.properties.predicates.job import (
    is_tracked,
    job_1_settled,
    job_2_never_above_parallelism,
    job_3_counts_each_pod_once,
    job_3_forgets_no_success,
    job_6_one_pod_for_each_index,
    job_11_an_end_stays,
)
from refk8s.core.properties.predicates.owners import controlled
from refk8s.core.store import Change


def _both(change: Change[Any]) -> tuple[Any, Any] | None:
    if change.record is None or change.previous is None:
        return None
    return change.previous.value, change.record.value


def counts_each_pod_once(
    change: Change[Any], before: Cluster, after: Cluster
) -> Iterable[str] | None:
    """JOB-3, for a write of a Job's status."""
    both = _both(change)
    if both is None or both[0].status == both[1].status or both[1].spec.managed_by is not None:
        return None
    return job_3_counts_each_pod_once(*both, objects(after, PODS.prefix))


def forgets_no_success(
    change: Change[Any], before: Cluster, after: Cluster
) -> Iterable[str] | None:
    """JOB-3, for a succeeded pod that loses its finalizer."""
    old = change.previous.value if change.previous is not None else None
    new = change.record.value if change.record is not None else None
    if old is None or not is_tracked(old) or old.status.phase != "Succeeded":
        return None
    reference = controller_of(old)
    if reference is None or (new is not None and is_tracked(new)):
        return None
    job = before.history.get(f"{JOBS.prefix}{old.metadata.namespace}/{reference.name}")
    if job is None or job.value.metadata.uid != reference.uid:
        return None
    if new is not None and controller_of(new) is None:
        return None  # it is released
    return job_3_forgets_no_success(old, job.value)


def an_end_stays(change: Change[Any], before: Cluster, after: Cluster) -> Iterable[str] | None:
    """JOB-11."""
    both = _both(change)
    return None if both is None else job_11_an_end_stays(*both)


def creates_no_more_than_parallelism(
    decision: Decision, before: Cluster, after: Cluster
) -> Iterable[str] | None:
    """JOB-2: the active pods in view, earlier creations that are not in view yet, and the creations
    of this decision."""
    job = decision.view.get(JOBS, decision.key)
    creations = about(decision, PODS, "create")
    if job is None or not creations:
        return None
    active = _active(decision, job)
    unseen = unseen_creations(decision, job.metadata.uid, after)
    return job_2_never_above_parallelism(job, len(active) + len(unseen), len(creations))


def creates_one_pod_for_each_index(
    decision: Decision, before: Cluster, after: Cluster
) -> Iterable[str] | None:
    """JOB-6: among the active pods in view and the creations of this decision."""
    job = decision.view.get(JOBS, decision.key)
    creations = about(decision, PODS, "create")
    if job is None or not creations:
        return None
    made = [request.body for request in creations]
    return job_6_one_pod_for_each_index(job, [*_active(decision, job), *made])


def _active(decision: Decision, job: Any) -> list[Any]:
    pods = controlled(decision.view.list(PODS), job.metadata.uid)
    return [pod for pod in pods if is_active(pod)]


def ends_or_runs(cluster: Cluster) -> Iterable[str] | None:
    """JOB-1, for every Job of a settled cluster that this controller manages."""
    jobs = [job for job in objects(cluster, JOBS.prefix) if job.spec.managed_by is None]
    if not jobs:
        return None
    pods = objects(cluster, PODS.prefix)
    return [
        words
        for job in jobs
        if job.metadata.deletion_timestamp is None
        for words in job_1_settled(job, list(controlled(pods, job.metadata.uid)))
    ]


OF_CHANGES = (
    Law("JOB-3", counts_each_pod_once, JOBS.prefix),
    Law("JOB-3", forgets_no_success, PODS.prefix),
    Law("JOB-11", an_end_stays, JOBS.prefix),
)
OF_DECISIONS = (
    Law("JOB-2", creates_no_more_than_parallelism, "job-controller"),
    Law("JOB-6", creates_one_pod_for_each_index, "job-controller"),
)
OF_REST = (Law("JOB-1", ends_or_runs),)
