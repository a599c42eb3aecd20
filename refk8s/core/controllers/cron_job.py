"""CronJob: Jobs at the times of a schedule. Rules CRON-2 to CRON-10 (spec/workloads/cron_job.md).

The name of a Job contains the minute for which it is scheduled, and the scheduled time is an
annotation. So the status follows from the Jobs in view: a crash after a creation loses nothing, and
the API server refuses a second Job for the same time. Before a creation the unchanged status is
written, which fails if the view of the CronJob is old (as OWN-5 for adoptions).

Source: Kubernetes documentation, "CronJob", "Automatic Cleanup for Finished Jobs"; KEP-19, KEP-3140
(time zones). Left out: nothing.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from immutables import Map
from msgspec.structs import replace

from refk8s.core.api.batch_v1 import CronJob, CronJobStatus, Job
from refk8s.core.api.core_v1 import ObjectReference
from refk8s.core.api.cron_schedule import (
    Schedule,
    ScheduleError,
    count_times,
    format_local,
    last_time,
    load_zone,
    next_time,
    parse_schedule,
)
from refk8s.core.api.meta_v1 import DeleteOptions, ObjectMeta, Preconditions
from refk8s.core.api.object_reference import object_reference
from refk8s.core.api.request import Request, Response
from refk8s.core.api.resources import CRON_JOBS, JOBS
from refk8s.core.context import MINUTE, SECOND, Instant, parse_timestamp, timestamp
from refk8s.core.controllers.job_status import COMPLETE, find_condition, is_finished
from refk8s.core.controllers.owners import controller_reference
from refk8s.core.loop.plan import NOTHING, UNCHANGED, Key, Local, Note, Plan
from refk8s.core.loop.reconciler import Interest, Reconciler, own_key
from refk8s.core.loop.view import View, controller_of, owner_index
from refk8s.core.value import Value

SCHEDULED_AT = "batch.kubernetes.io/cronjob-scheduled-timestamp"
MISSED_MAX = 100
"""More missed times than these are reported (CRON-4)."""
DELETIONS_MAX = 100

Memory = Map[Key, tuple[str, str, str | None]]
"""The uid, schedule and time zone of each CronJob, as last reconciled (CRON-10)."""

_NO_NOTES: tuple[Note, ...] = ()


def _keys_of_job(view: View, old: Job | None, new: Job | None) -> list[Key]:
    """The CronJob that controls the Job, before or after."""
    found: dict[Key, None] = {}
    for job in (old, new):
        reference = controller_of(job) if job is not None else None
        if job is not None and reference is not None and reference.kind == "CronJob":
            found[f"{job.metadata.namespace}/{reference.name}"] = None
    return list(found)


class _Due(Value, frozen=True, eq=False):
    """The scheduled time that is due now, if any, when to look again, and Events about it."""

    at: Instant | None = None
    wake_at: Instant | None = None
    notes: tuple[Note, ...] = ()


class CronJobReconciler(Reconciler):
    """Reconciles one CronJob."""

    name = component = "cronjob-controller"
    interests = (Interest(CRON_JOBS, own_key), Interest(JOBS, _keys_of_job))
    indexes = (owner_index(JOBS),)

    def start_memory(self, now: Instant) -> Memory:
        return Map()

    def reconcile(self, view: View, key: Key, now: Instant, local: Local) -> Plan:
        """Create the Job of the last scheduled time (CRON-3), delete old Jobs (CRON-7), and report
        (CRON-8). O(owned Jobs)."""
        # Observe
        cron_job: CronJob | None = view.get(CRON_JOBS, key)
        if cron_job is None:
            return Plan(memory=local.memory.delete(key)) if key in local.memory else NOTHING
        uid = cron_job.metadata.uid or ""
        jobs = [
            job
            for job in view.indexed(JOBS, "owner", uid)
            if (reference := controller_of(job)) is not None and reference.uid == uid
        ]

        # Decide
        status, notes = compute_status(cron_job, jobs)
        due = _Due()
        if cron_job.metadata.deletion_timestamp is None:
            due = _compute_due(cron_job, status, now)
        name = f"{cron_job.metadata.name}-{(due.at or 0) // MINUTE}"
        starts = (
            due.at is not None
            and status == cron_job.status
            and view.get(JOBS, f"{cron_job.metadata.namespace}/{name}") is None
        )
        timing = (uid, cron_job.spec.schedule, cron_job.spec.time_zone)
        known = local.memory.get(key, timing)
        memory = UNCHANGED if local.memory.get(key) == timing else local.memory.set(key, timing)
        if known[0] == uid and known != timing:
            starts = False  # CRON-10
        if starts or due.at is None:
            notes = (*notes, *due.notes)
        running = [job for job in jobs if _is_listed(status, job)]
        if starts and running and cron_job.spec.concurrency_policy == "Forbid":  # CRON-5
            starts = False
            words = "Not starting job because prior execution is running and concurrency policy is Forbid"
            notes = (*notes, Note(cron_job, "JobAlreadyActive", words))

        # Act
        old = _deletions(
            cron_job, _beyond_history(cron_job, jobs), "it is beyond the history limit"
        )
        waves: tuple[tuple[Request, ...], ...] = (_report(cron_job, status), old)
        if starts and due.at is not None:
            check = _update(cron_job, status, "check that the CronJob has not changed")
            replaced = running if cron_job.spec.concurrency_policy == "Replace" else []
            started = replace(status, last_schedule_time=timestamp(due.at))
            waves = (
                (check,),
                (*_deletions(cron_job, replaced, "it is replaced"), *old),
                (_creation(cron_job, name, due.at),),
                _report(cron_job, started),
            )

        # Report
        notes = (*notes, *_failure_notes(cron_job, local.failure if starts else None))
        requests = tuple(wave for wave in waves if wave)
        return Plan(requests, wake_at=due.wake_at, notes=notes, memory=memory)


# --- the schedule ---------------------------------------------------------------------------------


def _compute_due(cron_job: CronJob, status: CronJobStatus, now: Instant) -> _Due:
    """The last scheduled time since the last run that is not too late (CRON-3, CRON-4)."""
    spec = cron_job.spec
    if spec.suspend:  # CRON-6
        return _Due()
    try:
        zone = load_zone(spec.time_zone)
    except ScheduleError as error:
        words = f'invalid timeZone: "{spec.time_zone}": {error}'
        return _Due(notes=(Note(cron_job, "UnknownTimeZone", words, "Warning"),))
    try:
        schedule = parse_schedule(spec.schedule)
    except ScheduleError as error:
        words = f'unparseable schedule: "{spec.schedule}" : {error}'
        return _Due(notes=(Note(cron_job, "UnparseableSchedule", words, "Warning"),))
    earliest = _earliest(cron_job, status, now)
    wake_at = next_time(schedule, zone, now)
    if wake_at is None:
        words = f"invalid schedule: {spec.schedule} : it is never due"
        return _Due(notes=(Note(cron_job, "InvalidSchedule", words, "Warning"),))
    at = last_time(schedule, zone, earliest, now)
    if at is None:
        return _Due(wake_at=_next_of_every(schedule, earliest) or wake_at)
    missed = count_times(schedule, zone, earliest, now, MISSED_MAX + 1)
    notes = _NO_NOTES
    if missed > MISSED_MAX:
        words = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew"
        notes = (Note(cron_job, "TooManyMissedTimes", words, "Warning"),)
    return _Due(at, _next_of_every(schedule, at) or wake_at, notes)


def _next_of_every(schedule: Schedule, since: Instant) -> Instant | None:
    """The next time of an interval counts from the last one; None for other schedules."""
    return since // SECOND * SECOND + schedule.every if schedule.every else None


def _earliest(cron_job: CronJob, status: CronJobStatus, now: Instant) -> Instant:
    """Scheduled times up to this instant are not run any more (CRON-4)."""
    metadata, spec = cron_job.metadata, cron_job.spec
    since = status.last_schedule_time or metadata.creation_timestamp
    earliest = parse_timestamp(since) if since is not None else now
    if spec.starting_deadline_seconds is not None:
        earliest = max(earliest, now - spec.starting_deadline_seconds * SECOND)
    return max(earliest, 0)


# --- act ------------------------------------------------------------------------------------------


def _creation(cron_job: CronJob, name: str, at: Instant) -> Request:
    """The Job of this scheduled time, from the template (CRON-3)."""
    metadata, template = cron_job.metadata, cron_job.spec.job_template
    scheduled = format_local(at, load_zone(cron_job.spec.time_zone))
    job = Job(
        metadata=ObjectMeta(
            name=name,
            labels=template.metadata.labels,
            annotations={**(template.metadata.annotations or {}), SCHEDULED_AT: scheduled},
            owner_references=(controller_reference(cron_job),),
        ),
        spec=template.spec,
    )
    note = Note(cron_job, "SuccessfulCreate", f"Created job {name}")
    because = f"it is scheduled for {scheduled}"
    return Request("create", JOBS, metadata.namespace or "", body=job, because=because, note=note)


def _deletions(cron_job: CronJob, jobs: Iterable[Job], because: str) -> tuple[Request, ...]:
    """Delete these Jobs with their pods."""
    found: list[Request] = []
    for job in jobs:
        metadata = job.metadata
        if metadata.deletion_timestamp is not None:
            continue
        options = DeleteOptions(
            propagation_policy="Background", preconditions=Preconditions(uid=metadata.uid)
        )
        note = Note(cron_job, "SuccessfulDelete", f"Deleted job {metadata.name}")
        found.append(
            Request(
                "delete",
                JOBS,
                metadata.namespace or "",
                metadata.name or "",
                body=options,
                because=because,
                note=note,
            )
        )
    return tuple(found[:DELETIONS_MAX])


def _beyond_history(cron_job: CronJob, jobs: Sequence[Job]) -> list[Job]:
    """The oldest finished Jobs above the limits, by the time of their start (CRON-7)."""
    found: list[Job] = []
    finished = [job for job in jobs if is_finished(job)]
    for limit, is_complete in (
        (cron_job.spec.successful_jobs_history_limit, True),
        (cron_job.spec.failed_jobs_history_limit, False),
    ):
        if limit is not None:
            some = [job for job in finished if (find_condition(job, COMPLETE) is not None) == is_complete]  # fmt: skip
            some.sort(key=_start_order)
            found += some[: max(len(some) - limit, 0)]
    return found


def _start_order(job: Job) -> tuple[Any, ...]:
    start = job.status.start_time
    return (
        start is None,
        parse_timestamp(start) if start is not None else 0,
        job.metadata.name or "",
    )


# --- report ---------------------------------------------------------------------------------------


def _is_listed(status: CronJobStatus, job: Job) -> bool:
    return any(one.uid == job.metadata.uid for one in status.active or ())


def scheduled_at(job: Job) -> Instant | None:
    """The time for which a CronJob's controller created the Job; None for other Jobs."""
    text = (job.metadata.annotations or {}).get(SCHEDULED_AT)
    try:
        return parse_timestamp(text) if text is not None else None
    except ValueError:
        return None


def compute_status(
    cron_job: CronJob, jobs: Sequence[Job]
) -> tuple[CronJobStatus, tuple[Note, ...]]:
    """The status that follows from the Jobs in view, and Events about changes (CRON-8).

    A running Job of this controller is active. The last scheduled time is that of the last Job,
    if the status does not have it: the controller crashed after the creation.
    """
    known = cron_job.status
    before = {one.uid: one for one in known.active or ()}
    by_uid = {job.metadata.uid: job for job in jobs}
    notes: list[Note] = []
    active: list[ObjectReference] = []
    for uid, reference in before.items():
        job = by_uid.get(uid)
        if job is None:
            words = f"Active job went missing: {reference.name}"
            notes.append(Note(cron_job, "MissingJob", words))
        elif is_finished(job):
            end = COMPLETE if find_condition(job, COMPLETE) is not None else "Failed"
            words = f"Saw completed job: {job.metadata.name}, condition: {end}"
            notes.append(Note(cron_job, "SawCompletedJob", words))
        else:
            active.append(reference)
    last = parse_timestamp(known.last_schedule_time) if known.last_schedule_time else None
    success = parse_timestamp(known.last_successful_time) if known.last_successful_time else None
    for job in jobs:
        at = scheduled_at(job)
        if not is_finished(job) and job.metadata.uid not in before:
            if at is not None:
                active.append(object_reference(job))
            else:
                words = (
                    f"Saw a job that the controller did not create or forgot: {job.metadata.name}"
                )
                notes.append(Note(cron_job, "UnexpectedJob", words, "Warning"))
        if at is not None and (last is None or at > last) and _is_named_for(cron_job, job, at):
            last = at
        ended = job.status.completion_time
        if ended is not None and find_condition(job, COMPLETE) is not None:
            success = max(success or 0, parse_timestamp(ended))
    return replace(
        known,
        active=tuple(active) or None,
        last_schedule_time=timestamp(last) if last is not None else None,
        last_successful_time=timestamp(success) if success is not None else None,
    ), tuple(notes)


def _is_named_for(cron_job: CronJob, job: Job, at: Instant) -> bool:
    """Whether the Job has the name that the controller gives to it, so a copied annotation does not
    move the schedule."""
    return job.metadata.name == f"{cron_job.metadata.name}-{at // MINUTE}"


def _report(cron_job: CronJob, status: CronJobStatus) -> tuple[Request, ...]:
    """Write the status if it differs."""
    if status == cron_job.status:
        return ()
    return (_update(cron_job, status, f"{len(status.active or ())} jobs are active"),)


def _update(cron_job: CronJob, status: CronJobStatus, because: str) -> Request:
    metadata = cron_job.metadata
    body = replace(cron_job, status=status)
    return Request(
        "update",
        CRON_JOBS,
        metadata.namespace or "",
        metadata.name or "",
        "status",
        body=body,
        because=because,
    )


def _failure_notes(cron_job: CronJob, failure: Response | None) -> tuple[Note, ...]:
    """The Event of a rejected creation (CRON-9)."""
    details = getattr(failure.body, "details", None) if failure is not None else None
    if failure is None or (details is not None and details.kind in (CRON_JOBS.plural, "CronJob")):
        return ()
    if details is not None and any(one.reason == "NamespaceTerminating" for one in details.causes or ()):  # fmt: skip
        return ()
    message = getattr(failure.body, "message", None) or f"the API server answered {failure.code}"
    return (Note(cron_job, "FailedCreate", f"Error creating job: {message}", "Warning"),)
