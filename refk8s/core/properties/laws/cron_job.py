"""Laws of CronJobs. Rules CRON-3, CRON-5 (spec/workloads/cron_job.md)."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from refk8s.core.api.resources import CRON_JOBS, JOBS
from refk8s.core.cluster.state import Cluster
from refk8s.core.loop.view import controller_of
from refk8s.core.properties.law import SERVICE_ACCOUNTS, Arrived, Law, earlier_instances, objects
from refk8s.core.properties.predicates.cron_job import (
    cron_3_deletes_what_is_written,
    cron_3_keeps_the_last_time,
    cron_3_runs_each_time_once,
    cron_5_forbids_a_second_job,
    scheduled_at,
)
from refk8s.core.properties.predicates.owners import controlled
from refk8s.core.store import Change

Predicate = Callable[[Any, Any, Iterable[Any], int], Iterator[str]]


def _created(
    change: Change[Any], before: Cluster, after: Cluster, predicate: Predicate
) -> Iterable[str] | None:
    """The predicate of a Job that the controller of a CronJob has created; else None."""
    if change.previous is not None or change.record is None:
        return None
    job = change.record.value
    reference = controller_of(job)
    if reference is None or scheduled_at(job) is None:
        return None
    cron_job = _owner(job, before)
    if cron_job is None:
        return None
    others = controlled(objects(before, JOBS.prefix), reference.uid)
    return list(predicate(job, cron_job, list(others), earlier_instances(after)))


def _owner(job: Any, cluster: Cluster) -> Any | None:
    """The CronJob that controls the Job; None if it is not stored."""
    reference = controller_of(job)
    if reference is None:
        return None
    record = cluster.history.get(CRON_JOBS.key(job.metadata.namespace, reference.name))
    if record is None or record.value.metadata.uid != reference.uid:
        return None
    return record.value


def runs_each_time_once(
    change: Change[Any], before: Cluster, after: Cluster
) -> Iterable[str] | None:
    """CRON-3."""
    return _created(change, before, after, cron_3_runs_each_time_once)


def forbids_a_second_job(
    change: Change[Any], before: Cluster, after: Cluster
) -> Iterable[str] | None:
    """CRON-5, if the policy is Forbid."""
    return _created(change, before, after, cron_5_forbids_a_second_job)


def keeps_the_last_time(arrived: Arrived, before: Cluster, after: Cluster) -> Iterable[str] | None:
    """CRON-3, for a status that the controller writes."""
    change = arrived.target
    if arrived.request.resource is not CRON_JOBS or change is None or change.record is None:
        return None
    if change.previous is None:
        return None
    return cron_3_keeps_the_last_time(change.previous.value, change.record.value)


def deletes_what_is_written(
    arrived: Arrived, before: Cluster, after: Cluster
) -> Iterable[str] | None:
    """CRON-3, for a Job that the controller deletes."""
    change, request = arrived.target, arrived.request
    if request.verb != "delete" or request.resource is not JOBS or change is None:
        return None
    job = change.previous.value if change.previous is not None else None
    cron_job = _owner(job, before) if job is not None else None
    if cron_job is None or scheduled_at(job) is None:
        return None
    return cron_3_deletes_what_is_written(job, cron_job)


CONTROLLER = SERVICE_ACCOUNTS + "cronjob-controller"
OF_REQUESTS = (
    Law("CRON-3", keeps_the_last_time, CONTROLLER),
    Law("CRON-3", deletes_what_is_written, CONTROLLER),
)
OF_CHANGES = (
    Law("CRON-3", runs_each_time_once, JOBS.prefix),
    Law("CRON-5", forbids_a_second_job, JOBS.prefix),
)
