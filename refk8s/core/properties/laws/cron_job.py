"""Laws of CronJobs. Rules CRON-3, CRON-5 (spec/workloads/cron_job.md)."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from refk8s.core.api.resources import CRON_JOBS, JOBS
from refk8s.core.cluster.state import Cluster
from refk8s.core.loop.view import controller_of
from refk8s.core.properties.law import Law, objects
from refk8s.core.properties.predicates.cron_job import (
    cron_3_runs_each_time_once,
    cron_5_forbids_a_second_job,
    scheduled_at,
)
from refk8s.core.properties.predicates.owners import controlled
from refk8s.core.store import Change

Predicate = Callable[[Any, Any, Iterable[Any]], Iterator[str]]


def _created(change: Change[Any], before: Cluster, predicate: Predicate) -> Iterable[str] | None:
    """The predicate of a Job that the controller of a CronJob has created; else None."""
    if change.previous is not None or change.record is None:
        return None
    job = change.record.value
    reference = controller_of(job)
    if reference is None or scheduled_at(job) is None:
        return None
    record = before.history.get(f"{CRON_JOBS.prefix}{job.metadata.namespace}/{reference.name}")
    if record is None or record.value.metadata.uid != reference.uid:
        return None
    others = controlled(objects(before, JOBS.prefix), reference.uid)
    return list(predicate(job, record.value, list(others)))


def runs_each_time_once(
    change: Change[Any], before: Cluster, after: Cluster
) -> Iterable[str] | None:
    """CRON-3."""
    return _created(change, before, cron_3_runs_each_time_once)


def forbids_a_second_job(
    change: Change[Any], before: Cluster, after: Cluster
) -> Iterable[str] | None:
    """CRON-5, if the policy is Forbid."""
    return _created(change, before, cron_5_forbids_a_second_job)


OF_CHANGES = (
    Law("CRON-3", runs_each_time_once, JOBS.prefix),
    Law("CRON-5", forbids_a_second_job, JOBS.prefix),
)
