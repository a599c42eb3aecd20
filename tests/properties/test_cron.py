"""CronJobs (spec/workloads/cron_job.md): a Job at each scheduled time, and never two."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
import runs
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from workload_helpers import (
    NOW,
    ago,
    broken_by,
    change,
    choices,
    create,
    get,
    live,
    new_cluster,
    patch,
    plan_for,
    reference_to,
    remove,
    sent,
    stored,
    template,
)

from refk8s.core.actions import Crash, Elapse
from refk8s.core.api.batch_v1 import (
    CronJob,
    CronJobSpec,
    Job,
    JobCondition,
    JobSpec,
    JobTemplateSpec,
)
from refk8s.core.api.core_v1 import ObjectReference
from refk8s.core.api.cron_schedule import (
    ScheduleError,
    count_times,
    format_local,
    last_time,
    load_zone,
    next_time,
    parse_schedule,
)
from refk8s.core.api.meta_v1 import ObjectMeta, StatusDetails
from refk8s.core.api.request import Response
from refk8s.core.api.resources import CRON_JOBS, JOBS
from refk8s.core.api.status import failure
from refk8s.core.cluster.enabled import enabled
from refk8s.core.cluster.step import start_all
from refk8s.core.context import MINUTE, SECOND, parse_timestamp, timestamp
from refk8s.core.controllers.cron_job import SCHEDULED_AT, CronJobReconciler
from refk8s.core.loop.plan import Local
from refk8s.core.properties.laws import cron_job as laws_of_cron_jobs

CRON = CronJobReconciler()
HOUR = 60 * MINUTE
FULL = NOW // HOUR * HOUR
"""A full hour."""


def cron_job(name="cj", schedule="0 * * * *", **parts):
    metadata = ObjectMeta(
        name=name,
        namespace="default",
        uid=f"uid-{name}",
        generation=1,
        creation_timestamp=timestamp(FULL - 30 * 24 * HOUR),
    )
    pods = template()
    pods = replace(pods, spec=replace(pods.spec, restart_policy="Never"))
    spec = CronJobSpec(
        schedule=schedule,
        concurrency_policy="Allow",
        suspend=False,
        successful_jobs_history_limit=3,
        failed_jobs_history_limit=1,
        job_template=JobTemplateSpec(
            metadata=ObjectMeta(labels={"l": "v"}, annotations={"a": "b"}),
            spec=JobSpec(template=pods),
        ),
    )
    return change(CronJob(metadata=metadata, spec=spec), **parts)


def its_job(owner, at, end=None, **parts):
    metadata = ObjectMeta(
        name=f"{owner.metadata.name}-{at // MINUTE}",
        namespace="default",
        uid=f"uid-{at // MINUTE}",
        annotations={SCHEDULED_AT: timestamp(at)},
        owner_references=(reference_to(owner),),
    )
    job = change(Job(metadata=metadata), start_time=timestamp(at), **parts)
    if end is not None:
        condition = JobCondition(type=end, status="True", last_transition_time=timestamp(at))
        job = change(job, conditions=(condition,))
        if end == "Complete":
            job = change(job, completion_time=timestamp(at + 10 * SECOND))
    return job


def active(*jobs):
    return tuple([ObjectReference(api_version="batch/v1", kind="Job", name=j.metadata.name, namespace="default", uid=j.metadata.uid) for j in jobs])  # fmt: skip


def plan(owner, *jobs, now=FULL, memory=None, refused=None):
    local = Local(CRON.start_memory(0) if memory is None else memory, 1 if refused else 0, refused)
    return plan_for(CRON, owner, *jobs, now=now, local=local)


def created(found):
    return [(r.body.metadata.name, r.body.metadata.annotations[SCHEDULED_AT]) for r in sent(found, "create", JOBS)]  # fmt: skip


def statuses(found):
    return [r.body.status for r in sent(found, "update", CRON_JOBS, "status")]


def reasons(found):
    return [note.reason for note in found.notes]


def scheduled(at):
    return f"cj-{at // MINUTE}", timestamp(at)


# --- the syntax -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty spec string"),
        ("a b c", "expected exactly 5 fields, found 3: [a b c]"),
        ("60 * * * *", "end of range (60) above maximum (59): 60"),
        ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
        ("* * * * 7", "end of range (7) above maximum (6): 7"),
        ("5-3 * * * *", "beginning of range (5) beyond end of range (3): 5-3"),
        ("1-2-3 * * * *", "too many hyphens: 1-2-3"),
        ("1/2/3 * * * *", "too many slashes: 1/2/3"),
        ("*/0 * * * *", "step of range should be a positive number: */0"),
        ("x * * * *", 'failed to parse int from x: strconv.Atoi: parsing "x": invalid syntax'),
        ("*/-1 * * * *", "negative number (-1) not allowed: -1"),
        ("99999999999999999999 * * * *", 'failed to parse int from 99999999999999999999: strconv.Atoi: parsing "99999999999999999999": value out of range'),
        (f"{'9' * 5000} * * * *", f'failed to parse int from {"9" * 5000}: strconv.Atoi: parsing "{"9" * 5000}": value out of range'),
        ("@never", "unrecognized descriptor: @never"),
        ("@every", "unrecognized descriptor: @every"),
        ("@every x", 'failed to parse duration @every x: time: invalid duration "x"'),
        ("@every ", 'failed to parse duration @every : time: invalid duration ""'),
        ("@every 5", 'failed to parse duration @every 5: time: missing unit in duration "5"'),
        ("@every 5y", 'failed to parse duration @every 5y: time: unknown unit "y" in duration "5y"'),
        ("@every 99999999h", 'failed to parse duration @every 99999999h: time: invalid duration "99999999h"'),
    ],
)  # fmt: skip
def test_cron_1_an_invalid_schedule_is_refused_in_upstreams_words(text, message):
    with pytest.raises(ScheduleError) as refused:
        parse_schedule(text)
    assert str(refused.value) == message


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1h30m", 5400), ("1.5s", 1), ("500ms", 1), ("-5s", 1), ("0", 1), ("2s900ms", 2), ("+1m", 60), (".5m", 30)],
)  # fmt: skip
def test_cron_1_an_interval_is_a_duration_of_whole_seconds(text, seconds):
    assert parse_schedule(f"@every {text}").every == seconds * SECOND


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("@hourly", "0 * * * *"), ("@daily", "0 0 * * *"), ("@midnight", "0 0 * * *"), ("@weekly", "0 0 * * 0"),
        ("@monthly", "0 0 1 * *"), ("@yearly", "0 0 1 1 *"), ("@annually", "0 0 1 1 *"),
        ("? ? ? ? ?", "* * * * *"), ("*/1 * * JAN-Mar sun", "* * * 1,2,3 0"), ("57/2 * * * *", "57,59 * * * *"),
        ("1,1,0 20-23/2 * * *", "0,1 20,22 * * *"), ("+5 * * * *", "5 * * * *"), ("*/30 * */15 * *", "0,30 * 1,16,31 * *"),
        ("5,* * * * *", "* * * * *"), (",, * * * *", None),
    ],
)  # fmt: skip
def test_cron_1_fields_are_lists_of_numbers(text, fields):
    assert parse_schedule(text).fields == fields


# --- the times ------------------------------------------------------------------------------------

PARTS = (
    st.sampled_from(["*", "*/7", "0", "30", "5,55", "10-20/5"]),
    st.sampled_from(["*", "*/5", "0", "1", "2", "1-3", "23"]),
    st.sampled_from(["*", "1", "*/9", "29", "31", "?"]),
    st.sampled_from(["*", "2", "3", "10,11", "*/2"]),
    st.sampled_from(["*", "0", "1-5", "5", "*/3"]),
)
ZONES = (None, "America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "Asia/Kathmandu")
DAYS = (
    "2026-03-08T00:00:00Z", "2026-11-01T00:00:00Z", "2026-10-25T00:00:00Z", "2026-03-29T00:00:00Z",
    "2026-04-04T12:00:00Z", "2026-10-03T12:00:00Z", "2024-02-28T00:00:00Z", "2026-12-31T00:00:00Z",
)  # fmt: skip


def matches(numbers, local, star_day, star_weekday):
    """Whether a local time matches the fields, by the words of CRON-2."""
    minutes, hours, days, months, weekdays = numbers
    day, weekday = local.day in days, (local.weekday() + 1) % 7 in weekdays
    either = day and weekday if star_day or star_weekday else day or weekday
    return local.minute in minutes and local.hour in hours and local.month in months and either


def expand(fields):
    ranges = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 6))
    return [
        set(range(low, high + 1)) if field == "*" else {int(one) for one in field.split(",")}
        for field, (low, high) in zip(fields.split(), ranges, strict=True)
    ]


@given(st.tuples(*PARTS), st.sampled_from(ZONES), st.sampled_from(DAYS), st.integers(0, 40 * 60 * 60))  # fmt: skip
def test_cron_2_the_times_are_those_at_which_the_clock_matches(parts, name, day, seconds):
    """Every minute of two days around a clock change is looked at."""
    schedule = parse_schedule(" ".join(parts))
    zone = load_zone(name)
    start = parse_timestamp(day)
    tz = ZoneInfo(name or "UTC")
    minutes = [start + n * MINUTE for n in range(48 * 60)]
    fields = schedule.fields.split()
    numbers = expand(schedule.fields)
    times = [
        at
        for at in minutes
        if matches(numbers, datetime.fromtimestamp(at // SECOND, UTC).astimezone(tz), fields[2] == "*", fields[4] == "*")
    ]  # fmt: skip
    now = start + seconds * SECOND
    later = [at for at in times if at > now]
    found = next_time(schedule, zone, now)
    assert found == later[0] if later else found is None or found > minutes[-1]
    earlier = [at for at in times if at <= now]
    assert last_time(schedule, zone, start - SECOND, now) == (earlier[-1] if earlier else None)
    assert count_times(schedule, zone, start - SECOND, now, 30) == min(len(earlier), 30)


@given(st.integers(1, 9000), st.integers(0, 100_000), st.integers(0, 100_000))
def test_cron_2_an_interval_counts_from_the_last_time(every, first, more):
    schedule = parse_schedule(f"@every {every}s")
    earliest, now = FULL + first * SECOND, FULL + (first + more) * SECOND
    count = more // every
    assert last_time(schedule, None, earliest, now) == (earliest + count * every * SECOND if count else None)  # fmt: skip
    assert next_time(schedule, None, earliest) == earliest + every * SECOND
    found = plan(cron_job(schedule=f"@every {every}s", last_schedule_time=timestamp(earliest)), now=now)  # fmt: skip
    assert found.wake_at == earliest + (count + 1) * every * SECOND


def test_cron_2_impossible_days_never_come():
    assert next_time(parse_schedule("0 0 30 2 *"), None, NOW) is None
    assert next_time(parse_schedule(",, * * * *"), None, NOW) is None
    assert last_time(parse_schedule("0 0 30 2 *"), load_zone("Europe/Berlin"), 0, NOW) is None


def test_cron_2_a_schedule_without_a_time_zone_is_in_utc():
    found = plan(cron_job(schedule="0 5 * * *"), now=FULL)
    assert datetime.fromtimestamp(found.wake_at // SECOND, UTC).hour == 5
    zoned = plan(cron_job(schedule="0 5 * * *", time_zone="Asia/Tokyo"), now=FULL)
    assert datetime.fromtimestamp(zoned.wake_at // SECOND, UTC).hour == 20


def test_cron_2_times_are_written_with_the_offset_of_the_zone():
    at = parse_timestamp("2026-07-01T00:00:00Z")
    assert format_local(at, None) == format_local(at, load_zone("UTC")) == "2026-07-01T00:00:00Z"
    assert format_local(at, load_zone("America/New_York")) == "2026-06-30T20:00:00-04:00"
    assert format_local(at, load_zone("Asia/Kathmandu")) == "2026-07-01T05:45:00+05:45"
    with pytest.raises(ScheduleError):
        load_zone("No/Where")


# --- the Job --------------------------------------------------------------------------------------


def test_cron_3_the_job_of_a_scheduled_time_is_made_of_the_template():
    owner = cron_job(last_schedule_time=timestamp(FULL - HOUR))
    found = plan(owner)
    assert created(found) == [scheduled(FULL)]
    [made] = sent(found, "create", JOBS)
    metadata = made.body.metadata
    assert metadata.labels == {"l": "v"} and metadata.annotations["a"] == "b"
    assert metadata.owner_references == (reference_to(owner),)
    assert made.body.spec == owner.spec.job_template.spec
    first, *_, last = statuses(found)
    assert first == owner.status and last.last_schedule_time == timestamp(FULL)
    assert found.wake_at == FULL + HOUR
    verbs = [wave[0].verb for wave in found.waves]
    assert verbs == ["update", "create", "update"]


@pytest.mark.parametrize("seconds", [0, 1, 3599])
def test_cron_3_nothing_is_due_before_the_next_time(seconds):
    now = FULL + seconds * SECOND
    found = plan(cron_job(last_schedule_time=timestamp(FULL)), now=now)
    assert not found.requests and found.wake_at == FULL + HOUR
    assert created(plan(cron_job(last_schedule_time=timestamp(FULL)), now=FULL + HOUR))


def test_cron_3_a_name_that_is_taken_is_not_created_again():
    owner = cron_job(last_schedule_time=timestamp(FULL - HOUR))
    other = change(its_job(owner, FULL), owner_references=None, annotations=None)
    assert not created(plan(owner, other))


def test_cron_3_an_irregular_schedule_runs_its_last_missed_time():
    at = parse_timestamp("2026-11-06T16:00:00Z")  # a Friday
    owner = cron_job(
        schedule="30 6-16/4 * * 1-5", last_schedule_time=timestamp(at - 9 * HOUR - 30 * MINUTE)
    )
    assert created(plan(owner, now=at)) == [scheduled(at - HOUR - 30 * MINUTE)]


def no_law_broken(before, after):
    return broken_by(laws_of_cron_jobs.OF_CHANGES, before, after)


def finish(cluster, which):
    """A Job of the CronJob ends, or is deleted by a user."""
    jobs = [j for j in stored(cluster, JOBS) if j.metadata.deletion_timestamp is None]
    if not jobs:
        return cluster
    one = jobs[which % len(jobs)]
    if which % 3 == 2:
        return remove(cluster, JOBS, one.metadata.name)
    at = timestamp(cluster.now)
    conditions = [
        {"type": kind, "status": "True", "lastTransitionTime": at}
        for kind in ("SuccessCriteriaMet", "Complete")
    ]
    status = {"conditions": conditions, "startTime": at, "completionTime": at, "uncountedTerminatedPods": {}}  # fmt: skip
    if any(c.type == "Complete" for c in one.status.conditions or ()):
        return cluster
    return patch(cluster, JOBS, one.metadata.name, {"status": status}, "status")


@settings(deadline=None)
@given(st.sampled_from(["Allow", "Forbid", "Replace"]), choices, st.booleans())
def test_cron_3_cron_5_no_time_is_run_twice_whatever_is_lost(policy, drawn, crashes):
    """CRON-3, CRON-5: every minute, with lost answers, duplicates and crashes."""
    owner = cron_job(schedule="@every 1m", concurrency_policy=policy, last_schedule_time=ago(600))
    owner = replace(owner, metadata=replace(owner.metadata, creation_timestamp=None))
    cluster = start_all(create(new_cluster(CRON), owner))
    users = [lambda c, w=w: finish(c, w) for w in range(6)]
    faults = ("lose", "twice", "cut", *(("crash",) if crashes else ()))
    cluster = live(cluster, drawn, no_law_broken, (), faults, users)
    cluster = runs.settle(cluster, no_law_broken, seconds_max=130)
    [after] = stored(cluster, CRON_JOBS)
    assert after.status.last_schedule_time is not None
    ours = {j.metadata.uid for j in stored(cluster, JOBS) if not j.status.conditions}
    assert {one.uid for one in after.status.active or ()} == ours


def test_cron_3_a_crash_after_any_step_runs_no_time_twice():
    """The controller crashes after each step of the run in turn."""
    owner = cron_job(schedule="@every 1h", last_schedule_time=timestamp(NOW - 2 * HOUR))
    begun = start_all(create(new_cluster(CRON), owner))
    for count in range(60):
        cluster = begun
        for _ in range(count):
            action = next(iter(enabled(cluster)), None)
            if action is None or isinstance(action, Elapse):
                break
            cluster = runs.checked(cluster, action, no_law_broken)
        cluster = runs.checked(cluster, Crash("controllers"), no_law_broken)
        cluster = runs.settle(cluster, no_law_broken, seconds_max=60)
        [job] = stored(cluster, JOBS)
        [after] = stored(cluster, CRON_JOBS)
        assert after.status.last_schedule_time == job.metadata.annotations[SCHEDULED_AT], count


@given(st.lists(st.tuples(st.integers(-90, 150), st.booleans()), max_size=30))
def test_cron_3_a_clock_that_is_moved_runs_no_time_twice(moves):
    """Forward and back, in steps of seconds; the Jobs end at once, and some are deleted."""
    owner = cron_job(schedule="* * * * *", last_schedule_time=timestamp(FULL))
    now, jobs, times = FULL, [], []
    for seconds, are_deleted in moves:
        now += seconds * SECOND
        found = plan(owner, *jobs, now=now)
        for one in sent(found, "create", JOBS):
            metadata = replace(one.body.metadata, uid=one.body.metadata.name, namespace="default")
            done = JobCondition(type="Complete", status="True", last_transition_time=timestamp(now))
            jobs.append(change(replace(one.body, metadata=metadata), conditions=(done,)))
        times += [at for _, at in created(found)]
        owner = replace(owner, status=[owner.status, *statuses(found)][-1])
        jobs = [] if are_deleted else jobs
    assert len(times) == len(set(times)), f"CRON-3: run twice: {times}"
    assert all(parse_timestamp(at) <= FULL + 30 * 150 * SECOND for at in times)


# --- missed times ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("deadline", "runs_it"), [(None, True), (601, True), (600, False), (1, False)]
)
def test_cron_4_a_time_that_is_too_late_is_not_run(deadline, runs_it):
    owner = cron_job(last_schedule_time=timestamp(FULL - HOUR), starting_deadline_seconds=deadline)
    found = plan(owner, now=FULL + 600 * SECOND)
    assert created(found) == ([scheduled(FULL)] if runs_it else [])
    assert found.wake_at == FULL + HOUR


@given(st.sampled_from([99, 100, 101, 5000]))
def test_cron_4_more_than_a_hundred_missed_times_are_reported_and_the_last_is_run(missed):
    owner = cron_job(schedule="* * * * *", last_schedule_time=timestamp(FULL - missed * MINUTE))
    found = plan(owner)
    assert created(found) == [scheduled(FULL)]
    assert ("TooManyMissedTimes" in reasons(found)) == (missed > 100)


def test_cron_4_times_count_from_the_creation_of_the_cron_job():
    owner = cron_job(creation_timestamp=timestamp(FULL - MINUTE))
    assert created(plan(owner)) and not created(plan(owner, now=FULL - 1))


@pytest.mark.parametrize("last", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"])
@pytest.mark.parametrize("schedule", ["* * * * *", "@every 1s", "0 0 30 2 *"])
def test_cron_4_extreme_times_are_no_trouble(last, schedule):
    for zone in (None, "Europe/Berlin"):
        found = plan(cron_job(schedule=schedule, last_schedule_time=last, time_zone=zone))
        assert len(created(found)) == (last[0] == "0" and schedule != "0 0 30 2 *")


# --- concurrency and suspension -------------------------------------------------------------------


def test_cron_5_what_happens_to_a_job_that_still_runs():
    before = FULL - HOUR
    for policy, makes, deletes in (("Allow", 1, 0), ("Forbid", 0, 0), ("Replace", 1, 1)):
        owner = cron_job(concurrency_policy=policy, last_schedule_time=timestamp(before))
        old = its_job(owner, before)
        owner = change(owner, active=active(old))
        found = plan(owner, old)
        assert len(created(found)) == makes and len(sent(found, "delete", JOBS)) == deletes
        assert ("JobAlreadyActive" in reasons(found)) == (policy == "Forbid")
        if deletes:
            verbs = [wave[0].verb for wave in found.waves]
            assert verbs == ["update", "delete", "create", "update"]
            [gone] = sent(found, "delete", JOBS)
            assert gone.body.propagation_policy == "Background"
            assert gone.body.preconditions.uid == old.metadata.uid
        ended = its_job(owner, before, "Complete")
        done = change(owner, active=None, last_successful_time=ended.status.completion_time)
        assert created(plan(done, ended)) == [scheduled(FULL)]


@pytest.mark.parametrize("parts", [{"suspend": True}, {"deletion_timestamp": ago(1)}])
def test_cron_6_a_suspended_or_deleted_cron_job_starts_nothing(parts):
    owner = cron_job(last_schedule_time=timestamp(FULL - HOUR))
    assert created(plan(owner))
    found = plan(change(owner, **parts))
    assert not found.requests and found.wake_at is None


# --- history and status ---------------------------------------------------------------------------


@given(st.lists(st.sampled_from(["Complete", "Failed", None]), max_size=8), st.sampled_from([None, 0, 1, 3]), st.sampled_from([None, 0, 2]))  # fmt: skip
def test_cron_7_the_oldest_finished_jobs_go(ends, successes, failures):
    owner = cron_job(
        successful_jobs_history_limit=successes, failed_jobs_history_limit=failures, suspend=True
    )
    jobs = [
        its_job(owner, FULL - n * HOUR, end) for n, end in enumerate(ends)
    ]  # the youngest first
    doomed = sorted(r.name for r in sent(plan(owner, *jobs), "delete", JOBS))
    expected = []
    for kind, limit in (("Complete", successes), ("Failed", failures)):
        some = [j.metadata.name for j, end in zip(jobs, ends, strict=True) if end == kind]
        expected += [] if limit is None else some[limit:]
    assert doomed == sorted(expected)


def test_cron_8_a_job_that_was_created_before_a_crash_is_taken_into_the_status():
    owner = cron_job(last_schedule_time=timestamp(FULL - HOUR))
    made = its_job(owner, FULL)
    found = plan(owner, made)
    [status] = statuses(found)
    assert [one.uid for one in status.active] == [made.metadata.uid]
    assert status.last_schedule_time == timestamp(FULL) and not created(found)
    copied = change(made, name="other")
    [status] = statuses(plan(owner, copied))
    assert status.last_schedule_time == timestamp(FULL - HOUR)


def test_cron_8_cron_9_the_status_follows_from_the_jobs():
    owner = cron_job(suspend=True, last_schedule_time=timestamp(FULL))
    done, lost, runs_on = its_job(owner, FULL - HOUR, "Complete"), its_job(owner, FULL - 2 * HOUR), its_job(owner, FULL)  # fmt: skip
    failed = its_job(owner, FULL - 3 * HOUR, "Failed")
    owner = change(owner, active=active(done, lost, runs_on, failed))
    found = plan(owner, done, runs_on, failed)
    [status] = statuses(found)
    assert [one.name for one in status.active] == [runs_on.metadata.name]
    assert status.last_successful_time == done.status.completion_time
    told = {note.message for note in found.notes}
    assert told == {
        f"Saw completed job: {done.metadata.name}, condition: Complete",
        f"Saw completed job: {failed.metadata.name}, condition: Failed",
        f"Active job went missing: {lost.metadata.name}",
    }


def test_cron_9_a_job_of_somebody_else_is_not_active():
    owner = cron_job(suspend=True)
    foreign = change(its_job(owner, FULL), annotations={"cronjob.kubernetes.io/instantiate": "manual"})  # fmt: skip
    found = plan(owner, foreign)
    assert not found.requests and reasons(found) == ["UnexpectedJob"]
    odd = change(its_job(owner, FULL), annotations={SCHEDULED_AT: "never"})
    assert reasons(plan(owner, odd)) == ["UnexpectedJob"]


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ({"schedule": "x"}, "UnparseableSchedule"),
        ({"schedule": "0 0 30 2 *"}, "InvalidSchedule"),
        ({"time_zone": "No/Where"}, "UnknownTimeZone"),
    ],
)
def test_cron_9_what_cannot_be_scheduled_is_reported(parts, reason):
    found = plan(cron_job(**parts))
    assert reasons(found) == [reason] and not found.requests and found.wake_at is None


def test_cron_9_a_rejected_job_is_reported():
    owner = cron_job(last_schedule_time=timestamp(FULL - HOUR))
    for kind, told in (("jobs", True), ("cronjobs", False)):
        body = failure(403, "Forbidden", "no quota", StatusDetails(kind=kind))
        found = plan(owner, refused=Response(403, body))
        assert [n.message for n in found.notes] == (
            ["Error creating job: no quota"] if told else []
        )


def test_cron_10_a_changed_schedule_waits_for_its_next_time():
    owner = cron_job(last_schedule_time=timestamp(FULL))
    memory = plan(owner, now=FULL + 35 * MINUTE).memory
    changed = change(owner, schedule="*/10 * * * *")
    found = plan(changed, now=FULL + 35 * MINUTE, memory=memory)
    assert not found.requests and found.wake_at == FULL + 40 * MINUTE
    later = plan(changed, now=FULL + 36 * MINUTE, memory=found.memory)
    assert created(later) == [scheduled(FULL + 30 * MINUTE)]
    again = change(changed, uid="another")
    assert created(plan(again, now=FULL + 35 * MINUTE, memory=memory))
    gone = CRON.reconcile(plan_view(), "default/cj", NOW, Local(memory))
    assert not gone.memory


def plan_view():
    from workload_helpers import view_of

    return view_of(CRON)


def test_cron_8_a_cluster_runs_a_job_every_minute():
    owner = cron_job(schedule="* * * * *")
    cluster = start_all(create(new_cluster(CRON), owner))
    cluster = runs.settle(cluster, no_law_broken, seconds_max=185)
    names = [j.metadata.name for j in stored(cluster, JOBS)]
    minutes = [int(name.removeprefix("cj-")) for name in names]
    assert minutes == list(range(minutes[0], minutes[0] + 3))
    status = get(cluster, CRON_JOBS, "cj").status
    assert [one.name for one in status.active] == names
    assert parse_timestamp(status.last_schedule_time) == minutes[-1] * MINUTE
    assert timedelta(microseconds=cluster.now - minutes[-1] * MINUTE) < timedelta(minutes=1)
