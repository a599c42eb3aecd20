"""Predicates of CronJobs. Rules CRON-3, CRON-5 (spec/workloads/cron_job.md).

change    a Job that is created, its CronJob, and the CronJob's other Jobs at that moment
request   a status that the controller writes; a Job that it deletes, and its CronJob

A Job that the controller has deleted is no longer there to be compared with. But its time was
written before the deletion, times that were written stay, and none of these is run.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from refk8s.core.context import MINUTE, parse_timestamp
from refk8s.core.properties.predicates.job import ends

SCHEDULED_AT = "batch.kubernetes.io/cronjob-scheduled-timestamp"


def scheduled_at(job: Any) -> str | None:
    """The scheduled time of a Job that the controller created; None for others."""
    return (job.metadata.annotations or {}).get(SCHEDULED_AT)


def cron_3_runs_each_time_once(
    job: Any, cron_job: Any, others: Iterable[Any], earlier: int = 0
) -> Iterator[str]:
    """No other Job has this scheduled time, and the status of the CronJob is before it. `earlier`:
    how many instances of the controller have ended, whose creations may arrive late."""
    at = scheduled_at(job)
    if at is None:
        return
    last = cron_job.status.last_schedule_time
    after = parse_timestamp(last) - parse_timestamp(at) if last is not None else -1
    if after == 0 or (after > 0 and not earlier):
        yield f"{job.metadata.name} is created for {at}, and lastScheduleTime is {last}"
    for other in others:
        if scheduled_at(other) == at:
            yield f"{job.metadata.name} and {other.metadata.name} are for {at}"


def cron_3_keeps_the_last_time(old: Any, new: Any) -> Iterator[str]:
    """`lastScheduleTime` is neither removed nor set back."""
    was, now = old.status.last_schedule_time, new.status.last_schedule_time
    if was is not None and (now is None or parse_timestamp(now) < parse_timestamp(was)):
        yield f"lastScheduleTime of {old.metadata.name} becomes {now}, and was {was}"


def cron_3_deletes_what_is_written(job: Any, cron_job: Any) -> Iterator[str]:
    """The scheduled time of a Job that the controller deletes is in the status. Only for Jobs with
    the name that follows from that time: the annotation may be copied."""
    at = parse_timestamp(scheduled_at(job) or "")
    last = cron_job.status.last_schedule_time
    if job.metadata.name == f"{cron_job.metadata.name}-{at // MINUTE}" and (
        last is None or parse_timestamp(last) < at
    ):
        yield f"{job.metadata.name} is deleted, and lastScheduleTime is {last}"


def cron_5_forbids_a_second_job(
    job: Any, cron_job: Any, others: Iterable[Any], earlier: int = 0
) -> Iterator[str]:
    """With Forbid no Job is created while another one runs, except one for each earlier
    instance."""
    running = [one.metadata.name for one in others if not ends(one) and scheduled_at(one)]
    if cron_job.spec.concurrency_policy == "Forbid" and len(running) > earlier:
        yield f"{job.metadata.name} is created while {', '.join(running)} runs"
