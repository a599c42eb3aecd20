"""What a CronJob and the controllers of expired objects write and say, beside a plain reading of
their rules: CRON-1 to CRON-10, TTL-1, TTL-2 (spec/workloads/cron_job.md, spec/workloads/ttl.md)."""

import itertools
import time
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from immutables import Map
from msgspec.structs import replace
from test_cron import (
    CRON,
    FULL,
    HOUR,
    active,
    created,
    cron_job,
    its_job,
    plan,
    reasons,
    statuses,
)
from test_ttl import NODE_TTL, TTL, job, node
from workload_helpers import (
    NOW,
    ago,
    change,
    plan_for,
    reference_to,
    sent,
    view_of,
    without_reasons,
)

from refk8s.core.api.batch_v1 import Job
from refk8s.core.api.core_v1 import ObjectReference
from refk8s.core.api.cron_schedule import (
    ScheduleError,
    count_times,
    format_local,
    last_time,
    load_zone,
    next_time,
    parse_duration,
    parse_schedule,
)
from refk8s.core.api.meta_v1 import (
    DeleteOptions,
    ObjectMeta,
    Preconditions,
    StatusCause,
    StatusDetails,
)
from refk8s.core.api.request import Patch, Request, Response
from refk8s.core.api.resources import CRON_JOBS, JOBS, NODES
from refk8s.core.api.status import failure
from refk8s.core.context import MINUTE, SECOND, timestamp
from refk8s.core.controllers.cron_job import DELETIONS_MAX, SCHEDULED_AT, scheduled_at
from refk8s.core.loop.plan import NOTHING, UNCHANGED, Local, Note

OWNER = cron_job(last_schedule_time=timestamp(FULL - HOUR))


def status_write(owner, **parts):
    body = change(owner, **parts)
    return Request("update", CRON_JOBS, "default", "cj", "status", body=body)


def removal(owner, one):
    name, uid = one.metadata.name, one.metadata.uid
    options = DeleteOptions(propagation_policy="Background", preconditions=Preconditions(uid=uid))
    note = Note(owner, "SuccessfulDelete", f"Deleted job {name}")
    return Request("delete", JOBS, "default", name, body=options, note=note)


def creation(owner, at, text=None):
    name = f"cj-{at // MINUTE}"
    template = owner.spec.job_template
    annotations = {**(template.metadata.annotations or {}), SCHEDULED_AT: text or timestamp(at)}
    metadata = ObjectMeta(
        name=name,
        labels=template.metadata.labels,
        annotations=annotations,
        owner_references=(reference_to(owner),),
    )
    note = Note(owner, "SuccessfulCreate", f"Created job {name}")
    body = Job(metadata=metadata, spec=template.spec)
    return Request("create", JOBS, "default", body=body, note=note)


# --- the plan in full -----------------------------------------------------------------------------


def test_cron_3_cron_5_cron_7_a_plan_in_full():
    """A Job runs and is replaced, and of three that have finished the oldest goes."""
    running = its_job(OWNER, FULL - HOUR)
    done = [its_job(OWNER, FULL - n * HOUR, "Complete") for n in (2, 3, 4)]
    owner = change(
        OWNER,
        active=active(running),
        concurrency_policy="Replace",
        successful_jobs_history_limit=2,
        last_successful_time=done[0].status.completion_time,
    )
    found = plan(owner, running, *done)
    assert without_reasons(found.requests) == [
        status_write(owner),
        removal(owner, running),
        removal(owner, done[2]),
        creation(owner, FULL),
        status_write(owner, last_schedule_time=timestamp(FULL)),
    ]
    assert [len(wave) for wave in found.waves] == [1, 2, 1, 1] and found.notes == ()
    assert found.memory == Map({"default/cj": ("uid-cj", "0 * * * *", None)})
    assert plan(owner, running, *done, memory=found.memory).memory is UNCHANGED


def test_cron_3_the_annotation_has_the_offset_of_the_time_zone():
    template = replace(OWNER.spec.job_template, metadata=ObjectMeta())
    owner = change(OWNER, time_zone="Asia/Kolkata", schedule="30 * * * *", job_template=template)
    text = format_local(FULL, ZoneInfo("Asia/Kolkata"))
    assert text.endswith(":30:00+05:30")
    (found,) = without_reasons(sent(plan(owner), "create", JOBS))
    assert found == creation(owner, FULL, text)


def test_cron_3_nothing_starts_while_the_status_is_not_that_of_the_jobs():
    running = its_job(OWNER, FULL - HOUR, resource_version="7")
    found = plan(OWNER, running)
    reference = ObjectReference(
        api_version="batch/v1",
        kind="Job",
        name=running.metadata.name,
        namespace="default",
        uid=running.metadata.uid,
        resource_version="7",
    )
    assert without_reasons(found.requests) == [status_write(OWNER, active=(reference,))]


def test_cron_3_jobs_of_others_are_not_its_own():
    owner = change(OWNER, concurrency_policy="Forbid")
    other = its_job(cron_job("other"), FULL - HOUR)
    assert created(plan(owner, other)) and not reasons(plan(owner, other))
    elsewhere = change(its_job(owner, FULL), namespace="elsewhere", owner_references=None)
    assert created(plan(owner, elsewhere))


def test_cron_4_missed_times_are_those_of_the_time_zone():
    """05:00 in Tokyo is 20:00 in UTC: 101 times, of which 100 are after 05:00 in UTC."""
    first = at("2026-01-01T19:59")
    owner = cron_job(
        schedule="0 5 * * *", time_zone="Asia/Tokyo", last_schedule_time=timestamp(first)
    )
    now = first + MINUTE + 100 * 24 * HOUR
    assert reasons(plan(owner, now=now)) == ["TooManyMissedTimes"]
    assert reasons(plan(owner, now=now - 1)) == []


def test_cron_2_the_next_interval_begins_at_a_whole_second():
    owner = cron_job(schedule="@every 90s", starting_deadline_seconds=30)
    now = FULL + 5 * SECOND + 7
    for last in (FULL - 80 * SECOND, now - 60 * SECOND, FULL + 300 * SECOND):
        found = plan(change(owner, last_schedule_time=timestamp(last)), now=now)
        begin = max(last, FULL - 25 * SECOND)
        assert found.wake_at == begin // SECOND * SECOND + 90 * SECOND and not created(found)


def test_cron_5_forbid_is_told_in_full():
    running = its_job(OWNER, FULL - HOUR)
    owner = change(OWNER, active=active(running), concurrency_policy="Forbid")
    words = "Not starting job because prior execution is running and concurrency policy is Forbid"
    found = plan(owner, running)
    assert not found.requests and found.wake_at == FULL + HOUR
    assert found.notes == (Note(owner, "JobAlreadyActive", words),)


def test_cron_7_the_oldest_by_start_then_by_name_and_at_most_so_many():
    owner = change(OWNER, suspend=True, successful_jobs_history_limit=1)
    unstarted = change(its_job(owner, FULL, "Complete"), start_time=None, name="x")
    same = [
        change(its_job(owner, FULL - HOUR, "Complete"), name=name, uid=f"uid-{name}")
        for name in "cab"
    ]
    names = [r.name for r in sent(plan(owner, unstarted, *same), "delete", JOBS)]
    assert names == ["a", "b", "c"]
    starts = [change(one, start_time=timestamp(FULL - n * HOUR)) for n, one in enumerate(same)]
    names = [r.name for r in sent(plan(owner, unstarted, *starts), "delete", JOBS)]
    assert names == ["b", "a", "c"]
    going = change(same[1], deletion_timestamp=ago(1))
    names = [r.name for r in sent(plan(owner, unstarted, same[0], going, same[2]), "delete", JOBS)]
    assert names == ["b", "c"]
    many = [its_job(owner, FULL - n * MINUTE, "Complete") for n in range(DELETIONS_MAX + 2)]
    assert len(sent(plan(owner, *many), "delete", JOBS)) == DELETIONS_MAX


def test_cron_8_the_last_success_is_the_latest_of_the_complete_ones():
    done = [its_job(OWNER, FULL - n * HOUR, "Complete") for n in (4, 2, 3)]
    failed = change(its_job(OWNER, FULL - HOUR, "Failed"), completion_time=timestamp(FULL))
    owner = change(OWNER, suspend=True, last_successful_time=timestamp(FULL - 9 * HOUR))
    (status,) = statuses(plan(owner, failed, *done))
    assert status.last_successful_time == done[1].status.completion_time
    kept = change(owner, last_successful_time=timestamp(FULL - MINUTE))
    assert statuses(plan(kept, *done)) == []


def test_cron_8_the_last_scheduled_time_never_goes_back():
    jobs = [its_job(OWNER, FULL - n * HOUR, "Failed") for n in (5, 3, 4)]
    owner = change(OWNER, suspend=True)
    assert statuses(plan(owner, *jobs)) == []
    (status,) = statuses(plan(change(owner, last_schedule_time=None), *jobs))
    assert status.last_schedule_time == timestamp(FULL - 3 * HOUR)


# --- events ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parts", "reason", "words"),
    [
        (
            {"schedule": "x"}, "UnparseableSchedule",
            'unparseable schedule: "x" : expected exactly 5 fields, found 1: [x]',
        ),
        ({"schedule": "0 0 30 2 *"}, "InvalidSchedule", "invalid schedule: 0 0 30 2 * : it is never due"),
        (
            {"time_zone": "No/Where"}, "UnknownTimeZone",
            'invalid timeZone: "No/Where": unknown time zone No/Where',
        ),
    ],
)  # fmt: skip
def test_cron_9_what_cannot_be_scheduled_is_reported_in_full(parts, reason, words):
    owner = cron_job(**parts)
    assert plan(owner).notes == (Note(owner, reason, words, "Warning"),)
    # also while the status is written, and after the controller knows another schedule
    known = Map({"default/cj": ("uid-cj", "* * * * *", None)})
    lost = change(owner, active=active(its_job(owner, FULL)))
    notes = plan(lost, memory=known).notes
    assert [note.reason for note in notes] == ["MissingJob", reason]


def test_cron_9_the_events_of_jobs_in_full():
    done, lost = its_job(OWNER, FULL - HOUR, "Complete"), its_job(OWNER, FULL - 2 * HOUR)
    failed = its_job(OWNER, FULL - 3 * HOUR, "Failed")
    foreign = change(its_job(OWNER, FULL), annotations=None, name="x")
    owner = change(OWNER, suspend=True, active=active(done, lost, failed))
    assert plan(owner, done, failed, foreign).notes == (
        Note(owner, "SawCompletedJob", f"Saw completed job: {done.metadata.name}, condition: Complete"),
        Note(owner, "MissingJob", f"Active job went missing: {lost.metadata.name}"),
        Note(owner, "SawCompletedJob", f"Saw completed job: {failed.metadata.name}, condition: Failed"),
        Note(owner, "UnexpectedJob", "Saw a job that the controller did not create or forgot: x", "Warning"),
    )  # fmt: skip
    assert scheduled_at(foreign) is None and scheduled_at(done) == FULL - HOUR


def test_cron_4_too_many_missed_times_are_told_in_full():
    owner = cron_job(schedule="* * * * *", last_schedule_time=timestamp(FULL - 101 * MINUTE))
    words = (
        "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock "
        "skew"
    )
    assert plan(owner).notes == (Note(owner, "TooManyMissedTimes", words, "Warning"),)
    # only together with the run: not while the status is written first
    assert "TooManyMissedTimes" not in reasons(plan(owner, its_job(owner, FULL - 101 * MINUTE)))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (failure(403, "Forbidden", "no quota", StatusDetails(kind="jobs")), "no quota"),
        (failure(403, "Forbidden", "no quota"), "no quota"),
        (failure(403, "Forbidden", ""), "the API server answered 403"),
        (None, "the API server answered 403"),
        (failure(409, "Conflict", "x", StatusDetails(kind="CronJob")), None),
        (failure(409, "Conflict", "x", StatusDetails(kind="cronjobs")), None),
        (
            failure(
                403,
                "Forbidden",
                "x",
                StatusDetails(kind="jobs", causes=(StatusCause(reason="NamespaceTerminating"),)),
            ),
            None,
        ),
        (
            failure(
                403,
                "Forbidden",
                "no quota",
                StatusDetails(kind="jobs", causes=(StatusCause(reason="Other"),)),
            ),
            "no quota",
        ),
    ],
)
def test_cron_9_a_rejected_creation_is_told_in_full(body, words):
    note = Note(OWNER, "FailedCreate", f"Error creating job: {words}", "Warning")
    assert plan(OWNER, refused=Response(403, body)).notes == ((note,) if words else ())
    assert plan(change(OWNER, suspend=True), refused=Response(403, body)).notes == ()


# --- the schedule ---------------------------------------------------------------------------------


def test_cron_4_the_deadline_and_the_creation_bound_what_is_run():
    before = timestamp(FULL - HOUR)
    for seconds, at, runs_it in ((60, 60, False), (61, 60, True), (0, 0, False), (1, 0, True)):
        owner = change(OWNER, last_schedule_time=before, starting_deadline_seconds=seconds)
        found = plan(owner, now=FULL + at * SECOND)
        assert bool(created(found)) == runs_it and found.wake_at == FULL + HOUR
    fresh = cron_job(creation_timestamp=timestamp(FULL))
    assert not created(plan(fresh)) and plan(fresh).wake_at == FULL + HOUR
    assert not created(plan(change(fresh, creation_timestamp=None)))


def test_cron_2_an_interval_is_due_again_after_whole_intervals():
    owner = cron_job(schedule="@every 90s", last_schedule_time=timestamp(FULL))
    for seconds, at, wake in ((0, None, 90), (89, None, 90), (90, 90, 180), (200, 180, 270)):
        found = plan(owner, now=FULL + seconds * SECOND)
        assert bool(created(found)) == (at is not None)
        if at is not None:
            assert statuses(found)[-1].last_schedule_time == timestamp(FULL + at * SECOND)
        assert found.wake_at == FULL + wake * SECOND


@pytest.mark.parametrize(
    ("text", "microseconds"),
    [
        ("0", 0), ("+0", 0), ("-0", 0), ("1.5s", 1_500_000), (".5s", 500_000), ("1.s", 1_000_000),
        ("1h2m3s", 3_723_000_000), ("-1m", -60_000_000), ("+1m", 60_000_000), ("1ms", 1000),
        ("1us", 1), ("1µs", 1), ("1μs", 1), ("999ns", 0), ("1000ns", 1), ("0.0000015s", 1),
        ("9223372036854775807ns", 9223372036854775),
    ],
)  # fmt: skip
def test_cron_1_durations(text, microseconds):
    assert parse_duration(text) == microseconds


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", 'time: invalid duration ""'), ("-", 'time: invalid duration "-"'),
        (".", 'time: invalid duration "."'), ("s", 'time: invalid duration "s"'),
        (".s", 'time: invalid duration ".s"'), ("1", 'time: missing unit in duration "1"'),
        ("1m1", 'time: missing unit in duration "1m1"'),
        ("1x", 'time: unknown unit "x" in duration "1x"'),
        ("9223372036854775808ns", 'time: invalid duration "9223372036854775808ns"'),
        ("1" * 41 + "s", f'time: invalid duration "{"1" * 41}s"'),
        ("0." + "0" * 38 + "s", None), ("0." + "0" * 39 + "s", f'time: invalid duration "0.{"0" * 39}s"'),
    ],
)  # fmt: skip
def test_cron_1_other_durations_are_refused_in_upstreams_words(text, words):
    if words is None:
        assert parse_duration(text) == 0
        return
    with pytest.raises(ScheduleError) as error:
        parse_duration(text)
    assert str(error.value) == words
    with pytest.raises(ScheduleError) as error:
        parse_schedule(f"@every {text}")
    assert str(error.value) == f"failed to parse duration @every {text}: {words}"


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("@yearly", "0 0 1 1 *"), ("@annually", "0 0 1 1 *"), ("@monthly", "0 0 1 * *"),
        ("@weekly", "0 0 * * 0"), ("@daily", "0 0 * * *"), ("@midnight", "0 0 * * *"),
        ("@hourly", "0 * * * *"), ("59 23 31 12 6", "59 23 31 12 6"), ("*/1 ? * * *", "* * * * *"),
        ("0 0 1 JAN-mar SUN", "0 0 1 1,2,3 0"), ("0,,1 0 1 1 0", "0,1 0 1 1 0"),
        ("58/1 0 1 1 0", "58,59 0 1 1 0"), ("1-5/2 0 1 1 0", "1,3,5 0 1 1 0"),
        ("0 0 1 1 */2", "0 0 1 1 0,2,4,6"), ("*/30 0 1 1 0", "0,30 0 1 1 0"), ("5,* 0 1 1 0", "* 0 1 1 0"), (", 0 1 1 0", None),
    ],
)  # fmt: skip
def test_cron_1_more_fields(text, fields):
    assert parse_schedule(text).fields == fields and parse_schedule(text).every == 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("@never", "unrecognized descriptor: @never"),
        ("*/-9223372036854775808 * * * *", "negative number (-9223372036854775808) not allowed: -9223372036854775808"),
        (
            "*/-9223372036854775809 * * * *",
            'failed to parse int from -9223372036854775809: strconv.Atoi: parsing "-9223372036854775809": value out of range',
        ),
        ("60 * * * *", "end of range (60) above maximum (59): 60"),
        ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
        ("5-3 * * * *", "beginning of range (5) beyond end of range (3): 5-3"),
        ("1-2-3 * * * *", "too many hyphens: 1-2-3"), ("1/2/3 * * * *", "too many slashes: 1/2/3"),
        ("*/0 * * * *", "step of range should be a positive number: */0"),
        ("-1 * * * *", 'failed to parse int from : strconv.Atoi: parsing "": invalid syntax'),
        ("*/-1 * * * *", "negative number (-1) not allowed: -1"),
        (
            "9223372036854775808 * * * *",
            'failed to parse int from 9223372036854775808: strconv.Atoi: parsing "9223372036854775808": value out of range',
        ),
        ("9223372036854775807 * * * *", "end of range (9223372036854775807) above maximum (59): 9223372036854775807"),
        (
            f"{'0' * 40}1 * * * *",
            f'failed to parse int from {"0" * 40}1: strconv.Atoi: parsing "{"0" * 40}1": value out of range',
        ),
    ],
)  # fmt: skip
def test_cron_1_more_schedules_are_refused_in_upstreams_words(text, words):
    with pytest.raises(ScheduleError) as error:
        parse_schedule(text)
    assert str(error.value) == words
    assert parse_schedule(f"{'0' * 40} * * * *").fields == "0 * * * *"


def at(text):
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * SECOND


def test_cron_2_a_repeated_hour_is_due_twice_and_a_left_out_one_never():
    """Berlin, 2026: 02:30 is left out on 29 March and repeated on 25 October."""
    zone, schedule = load_zone("Europe/Berlin"), parse_schedule("30 2 * * *")
    due = [
        at("2026-10-24T00:30"),
        at("2026-10-25T00:30"),
        at("2026-10-25T01:30"),
        at("2026-10-26T01:30"),
    ]
    for earlier, later in itertools.pairwise(due):
        assert next_time(schedule, zone, earlier) == next_time(schedule, zone, later - 1) == later
        assert last_time(schedule, zone, earlier - 1, later - 1) == earlier
        assert last_time(schedule, zone, earlier, later - 1) is None
        assert last_time(schedule, zone, earlier, later) == later
        assert last_time(schedule, zone, earlier - 1, later - MINUTE) == earlier
    assert count_times(schedule, zone, due[0] - 1, due[-1], 9) == 4
    assert count_times(schedule, zone, due[0], due[-1], 2) == 2
    assert last_time(schedule, zone, at("2026-03-28T01:29"), at("2026-03-29T12:00")) == at(
        "2026-03-28T01:30"
    )
    york, early = load_zone("America/New_York"), parse_schedule("0 5 * * *")
    for place, hour, day, begin in ((zone, 2, "2026-10-25", 0), (york, 1, "2026-11-01", 5)):
        twice = parse_schedule(f"15,45 {hour} * * *")
        hours = [at(f"{day}T{begin + n // 2:02}:{15 + n % 2 * 30}") for n in range(4)]
        for earlier, later in itertools.pairwise(hours):
            assert next_time(twice, place, earlier) == next_time(twice, place, later - MINUTE)
            assert next_time(twice, place, earlier) == later
            assert last_time(twice, place, earlier - 1, later - MINUTE) == earlier
            assert last_time(twice, place, earlier, later) == later
        assert count_times(twice, place, hours[0] - 1, hours[-1], 9) == 4
    assert next_time(early, york, at("2026-01-01T09:59")) == at("2026-01-01T10:00")
    assert last_time(early, york, at("2026-01-01T09:59"), at("2026-01-01T10:00")) == at(
        "2026-01-01T10:00"
    )
    tokyo, morning = load_zone("Asia/Tokyo"), parse_schedule("0 5 * * *")
    assert count_times(morning, tokyo, at("2026-01-01T19:59"), at("2026-01-01T20:00"), 9) == 1
    assert next_time(schedule, zone, at("2026-03-28T01:30")) == at("2026-03-30T00:30")
    assert last_time(schedule, zone, at("2026-03-28T01:30"), at("2026-03-30T00:29")) is None


@pytest.mark.parametrize("machine", ["UTC", "Asia/Kolkata", "America/New_York"])
def test_cron_2_the_time_zone_of_the_machine_plays_no_part(machine, monkeypatch):
    monkeypatch.setenv("TZ", machine)
    time.tzset()
    try:
        schedule, moment = parse_schedule("30 2 * * *"), at("2026-10-24T12:00")
        assert next_time(schedule, None, moment) == at("2026-10-25T02:30")
        assert last_time(schedule, None, moment - 24 * HOUR, moment) == at("2026-10-24T02:30")
        zone = load_zone("Europe/Berlin")
        assert next_time(schedule, zone, moment) == at("2026-10-25T00:30")
        assert last_time(schedule, zone, moment - 24 * HOUR, moment) == at("2026-10-24T00:30")
        assert format_local(moment, None) == "2026-10-24T12:00:00Z"
        assert format_local(moment, zone) == "2026-10-24T14:00:00+02:00"
    finally:
        monkeypatch.undo()
        time.tzset()


def test_cron_2_an_interval_is_due_at_whole_seconds():
    schedule, begin = parse_schedule("@every 90s"), at("2026-01-01T00:00")
    for after in (begin, begin + 1, begin + 999_999):
        assert next_time(schedule, None, after) == begin + 90 * SECOND
        assert last_time(schedule, None, after, begin + 90 * SECOND) == begin + 90 * SECOND
        assert last_time(schedule, None, after, begin + 90 * SECOND - 1) is None


def test_cron_2_times_with_offsets():
    moment = at("2026-01-01T00:00") + 999_999
    assert (
        format_local(moment, None)
        == format_local(moment, load_zone("UTC"))
        == "2026-01-01T00:00:00Z"
    )
    assert format_local(moment, load_zone("Europe/London")) == "2026-01-01T00:00:00Z"
    assert format_local(moment, load_zone("Europe/Berlin")) == "2026-01-01T01:00:00+01:00"
    assert format_local(moment, load_zone("America/St_Johns")) == "2025-12-31T20:30:00-03:30"
    for name in ("../etc/passwd", "", "x\0y", "Europe"):
        with pytest.raises(ScheduleError) as error:
            load_zone(name)
        assert str(error.value) == f"unknown time zone {name}"


def test_a_cron_job_that_is_gone_and_was_unknown_needs_nothing():
    assert CRON.reconcile(view_of(CRON), "default/cj", NOW, Local(memory=Map())) == NOTHING
    (keys,) = [each.keys for each in CRON.interests if each.resource is JOBS]
    mine, view = its_job(OWNER, FULL), view_of(CRON)
    assert list(keys(view, None, mine)) == list(keys(view, mine, None)) == ["default/cj"]
    released = change(mine, owner_references=None)
    assert list(keys(view, mine, released)) == ["default/cj"]
    assert list(keys(view, None, released)) == []


# --- time to live ---------------------------------------------------------------------------------


def test_ttl_1_the_deletion_in_full():
    options = DeleteOptions(
        propagation_policy="Foreground",
        preconditions=Preconditions(uid="uid-work", resource_version="9"),
    )
    found = plan_for(TTL, change(job(), namespace="default"))
    assert without_reasons(found.requests) == [
        Request("delete", JOBS, "default", "work", body=options)
    ]
    assert TTL.reconcile(view_of(TTL), "default/work", NOW, Local()) == NOTHING


def test_ttl_2_the_annotation_in_full():
    document = {"metadata": {"uid": "uid-n", "annotations": {"node.alpha.kubernetes.io/ttl": "0"}}}
    body = Patch("application/strategic-merge-patch+json", document)
    found = plan_for(NODE_TTL, node())
    assert without_reasons(found.requests) == [Request("patch", NODES, "", "n", body=body)]
    assert NODE_TTL.reconcile(view_of(NODE_TTL), "n", NOW, Local()) == NOTHING
    keys = NODE_TTL.interests[0].keys
    many = [node(f"n{number}") for number in range(101)]
    assert list(keys(view_of(NODE_TTL, *many), None, node(ttl="0"))) == ["n"]
    assert list(keys(view_of(NODE_TTL, *many), None, node(ttl="15"))) == []
    (write,) = NODE_TTL.reconcile(view_of(NODE_TTL, *many), "n7", NOW, Local()).requests
    assert write.body.document["metadata"]["annotations"] == {"node.alpha.kubernetes.io/ttl": "15"}


def test_cron_10_a_cron_job_that_is_gone_is_forgotten():
    known = Map({"default/cj": ("uid-cj", "0 * * * *", None), "default/x": ("uid-x", "", None)})
    found = CRON.reconcile(view_of(CRON), "default/cj", NOW, Local(memory=known))
    assert found.memory == known.delete("default/cj") and not found.requests


def test_cron_3_who_is_only_named_as_an_owner_does_not_control_the_job():
    owner = change(OWNER, concurrency_policy="Forbid")
    running = its_job(owner, FULL - HOUR)
    other = cron_job("other")
    for references in (
        (reference_to(owner, controller=False),),
        (reference_to(owner, controller=False), reference_to(other)),
    ):
        found = plan(owner, change(running, owner_references=references))
        assert created(found) and found.notes == ()
