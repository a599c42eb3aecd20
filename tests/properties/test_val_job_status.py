"""What the status of a Job may be, and how it may change (spec/validation.md, VAL-80)."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from refk8s.core.api.batch_v1 import (
    Job,
    JobCondition,
    JobSpec,
    JobStatus,
    SuccessPolicy,
    UncountedTerminatedPods,
)
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.status import OMITTED, REQUIRED
from refk8s.core.apiserver.validation.job_status import validate_job_status

EARLY, LATE = "2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z"


def job(*conditions, spec=None, **status):
    found = tuple([JobCondition(type=kind, status="True") for kind in conditions]) or None
    plain = JobSpec(completions=5, parallelism=2, completion_mode="Indexed", backoff_limit_per_index=1)  # fmt: skip
    return Job(
        metadata=ObjectMeta(name="j"),
        spec=replace(plain, **(spec or {})),
        status=JobStatus(conditions=found, **status),
    )


def causes(new, old=None):
    """The field and the words of each cause. A cause shows the value that the field has."""
    found = validate_job_status(new, job() if old is None else old)
    for each in found:
        if each.reason != REQUIRED:
            assert each.value == value_of(new, each.field), each
    return [(each.field, each.detail) for each in found]


def value_of(new, field):
    """What the status has in a field; no value is shown of conditions, which are many."""
    if field == "status.conditions":
        return OMITTED
    value = new.status
    for name, position in re.findall(r"(\w+)(?:\[(\d+)\])?", field.removeprefix("status.")):
        value = getattr(value, re.sub("[A-Z]", lambda letter: f"_{letter[0].lower()}", name))
        value = value[int(position)] if position else value
    return 0 if value is None and field in ("status.succeeded", "status.failed") else value


DONE = {"start_time": EARLY, "completion_time": LATE}
COMPLETE = ("SuccessCriteriaMet", "Complete")
FAILED = ("FailureTarget", "Failed")
AT = "status.conditions"


@pytest.mark.parametrize(
    ("new", "field", "words"),
    [
        (job(active=-1), "status.active", "must be greater than or equal to 0"),
        (job(succeeded=-1), "status.succeeded", "must be greater than or equal to 0"),
        (job(failed=-1), "status.failed", "must be greater than or equal to 0"),
        (job(ready=-1), "status.ready", "must be greater than or equal to 0"),
        (job(terminating=-1), "status.terminating", "must be greater than or equal to 0"),
        (job(uncounted_terminated_pods=UncountedTerminatedPods(succeeded=("",))), "status.uncountedTerminatedPods.succeeded[0]", "must not be empty"),
        (job(uncounted_terminated_pods=UncountedTerminatedPods(succeeded=("a",), failed=("b", "a"))), "status.uncountedTerminatedPods.failed[1]", ""),
        (job("SuccessCriteriaMet", "Complete", "FailureTarget", **DONE), AT, "cannot set Complete=True and FailureTarget=true conditions"),
        (job("Failed", start_time=EARLY), AT, "cannot set Failed=True condition without the FailureTarget=true condition"),
        (job("Complete", **DONE), AT, "cannot set Complete=True condition without the SuccessCriteriaMet=true condition"),
        (job("SuccessCriteriaMet", "FailureTarget"), AT, "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions"),
        (job("Complete", spec={"success_policy": SuccessPolicy()}, **DONE), AT, "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True"),
        (job(completion_time=LATE), "status.completionTime", "cannot set completionTime when there is no Complete=True condition"),
        (job(*COMPLETE, start_time=EARLY), "status.completionTime", "completionTime is required for Complete jobs"),
        (job(*COMPLETE, start_time=LATE, completion_time=EARLY), "status.completionTime", "completionTime cannot be set before startTime"),
        (job(*FAILED), "status.startTime", "startTime is required for finished job"),
        (job(*FAILED, spec={"suspend": True}), "status.startTime", "startTime is required for finished job"),
        (job(*FAILED, spec={"completions": 0}), "status.startTime", "startTime is required for finished job"),
        (job(*COMPLETE, active=1, **DONE), "status.active", "active>0 is invalid for finished job"),
        (job(*COMPLETE, terminating=1, **DONE), "status.terminating", "terminating>0 is invalid for finished job"),
        (job(*COMPLETE, uncounted_terminated_pods=UncountedTerminatedPods(failed=("a",)), **DONE), "status.uncountedTerminatedPods", "uncountedTerminatedPods needs to be empty for finished job"),
        (job(completed_indexes="5"), "status.completedIndexes", 'error parsing completedIndexes: too large index: "5"'),
        (job(failed_indexes="2,1"), "status.failedIndexes", "error parsing failedIndexes: non-increasing order, previous: 2, current: 1"),
        (job(completed_indexes="1", spec={"completion_mode": "NonIndexed"}), "status.completedIndexes", "cannot set non-empty completedIndexes when non-indexed completion mode"),
        (job(failed_indexes="", spec={"backoff_limit_per_index": None}), "status.failedIndexes", "cannot set non-null failedIndexes when backoffLimitPerIndex is null"),
        (job(completed_indexes="0,2-4", failed_indexes="1,3"), "status.failedIndexes", "failedIndexes and completedIndexes overlap at index: 3"),
        (job(ready=1), "status.ready", "cannot set more ready pods than active"),
    ],
)  # fmt: skip
def test_val_80_an_inconsistent_status_is_refused(new, field, words):
    assert (field, words) in causes(new)


def test_val_80_both_ends_at_once_are_refused():
    found = causes(job("SuccessCriteriaMet", "Complete", "Failed", **DONE))
    assert (AT, "cannot set Complete=True and Failed=true conditions") in found
    assert (AT, "cannot set SuccessCriteriaMet=True and Failed=true conditions") in found


@pytest.mark.parametrize(
    "new",
    [
        job(), job(active=2, ready=2, terminating=1, succeeded=1, failed=1), job(*COMPLETE, **DONE), job(*FAILED, start_time=EARLY),
        job(*COMPLETE, start_time=EARLY, completion_time=EARLY), job("SuccessCriteriaMet", active=1), job("FailureTarget", terminating=1), job(completed_indexes="0,2-3", failed_indexes="1"),
        job(uncounted_terminated_pods=UncountedTerminatedPods(succeeded=("a",), failed=("b",))), job("Suspended"),
    ],
)  # fmt: skip
def test_val_80_a_consistent_status_is_accepted(new):
    assert causes(new) == []


@pytest.mark.parametrize(
    ("old", "new", "field", "words"),
    [
        (job(*FAILED, start_time=EARLY), job("FailureTarget", start_time=EARLY), AT, "cannot disable the terminal Failed=True condition"),
        (job(*COMPLETE, **DONE), job("SuccessCriteriaMet", start_time=EARLY), AT, "cannot disable the terminal Complete=True condition"),
        (job("FailureTarget"), job(), AT, "cannot disable the terminal FailureTarget=True condition"),
        (job("SuccessCriteriaMet"), job(), AT, "cannot disable the SuccessCriteriaMet=True condition"),
        (job("Complete", **DONE), job(*COMPLETE, **DONE), AT, "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions"),
        (job(failed=2), job(failed=1), "status.failed", "cannot decrease the failed counter"),
        (job(failed=1), job(), "status.failed", "cannot decrease the failed counter"),
        (job(succeeded=1), job(), "status.succeeded", "cannot decrease the succeeded counter"),
        (job(succeeded=2), job(succeeded=1), "status.succeeded", "cannot decrease the succeeded counter"),
        (job(succeeded=2), job(), "status.succeeded", "cannot decrease the succeeded counter"),
        (job(*COMPLETE, **DONE), job(*COMPLETE, start_time=EARLY, completion_time="2026-01-01T00:02:00Z"), "status.completionTime", "completionTime cannot be mutated"),
        (job(start_time=EARLY), job(start_time=LATE), "status.startTime", "field is immutable for unsuspended job once set"),
        (job(start_time=EARLY), job(), "status.startTime", "field is immutable for unsuspended job once set"),
    ],
)  # fmt: skip
def test_val_80_what_is_decided_is_not_taken_back(old, new, field, words):
    assert causes(new, old) == [(field, words)]


def test_val_80_a_suspended_or_resumed_job_may_start_anew():
    suspended = {"suspend": True}
    assert causes(job(spec=suspended), job(spec=suspended, start_time=EARLY)) == []
    assert causes(job(start_time=LATE), job("Suspended", start_time=EARLY)) == []
    assert causes(job("Suspended", start_time=LATE), job("Suspended", start_time=EARLY))
    never = {"suspend": True, "completions": 0}
    assert causes(job(*COMPLETE, completion_time=LATE, spec=never)) == []
    elastic = {"completions": 2}
    assert causes(job(succeeded=1, spec=elastic), job(succeeded=2, spec=elastic)) == []


KINDS = st.sets(st.sampled_from([*COMPLETE, *FAILED]))


@given(KINDS, KINDS)
def test_val_80_conditions_exclude_and_need_each_other(old, new):
    """Judged when one of the two changes; SuccessCriteriaMet and a failure never go together."""
    pairs = {("Complete", "Failed"), ("Complete", "FailureTarget"), ("SuccessCriteriaMet", "Failed"), ("SuccessCriteriaMet", "FailureTarget")}  # fmt: skip
    needs = {("Failed", "FailureTarget"), ("Complete", "SuccessCriteriaMet")}
    expected = set()
    for one, other in pairs:
        is_judged = one == "SuccessCriteriaMet" or {one, other} & (old ^ new)
        if is_judged and {one, other} <= new:
            expected.add(f"cannot set {one}=True and {other}=true conditions")
    for one, needed in needs:
        if {one, needed} & (old ^ new) and one in new and needed not in new:
            expected.add(f"cannot set {one}=True condition without the {needed}=true condition")
    found = [words for field, words in causes(job(*sorted(new)), job(*sorted(old))) if field == AT]
    found = [words for words in found if "disable" not in words and "already" not in words]
    assert sorted(found) == sorted(expected)


GONE = [
    ({"active": 1}, "status.active", "active>0 is invalid for finished job"),
    ({"terminating": 1}, "status.terminating", "terminating>0 is invalid for finished job"),
    ({"uncounted_terminated_pods": UncountedTerminatedPods(failed=("a",))}, "status.uncountedTerminatedPods", "uncountedTerminatedPods needs to be empty for finished job"),
]  # fmt: skip


@pytest.mark.parametrize(("parts", "field", "words"), GONE)
def test_val_80_a_finished_job_has_no_pods_whether_it_ends_or_they_come(parts, field, words):
    running, ended = job(**DONE), job(*COMPLETE, **DONE)
    wrong = job(*COMPLETE, **DONE, **parts)
    assert causes(wrong, ended) == [(field, words)]
    assert (field, words) in causes(
        wrong, replace(running, status=replace(running.status, **parts))
    )
    assert causes(wrong, wrong) == []


def test_val_80_what_was_stored_is_not_judged_again_unless_it_changes():
    common = {"completed_indexes": "0,2", "failed_indexes": "2"}
    overlap = [("status.failedIndexes", "failedIndexes and completedIndexes overlap at index: 2")]
    assert causes(job(**common), job(**common)) == []
    assert causes(job(**common), job(failed_indexes="2")) == overlap
    assert causes(job(**common), job(completed_indexes="0,2")) == overlap
    assert causes(job(completed_indexes="1", failed_indexes="1", spec={"completions": None})) == []
    assert causes(job(ready=5), job(ready=5)) == []
    assert causes(job(ready=5, active=4), job(ready=5, active=5)) != []


STATUSES = st.builds(
    job,
    start_time=st.sampled_from([None, EARLY, LATE]),
    completion_time=st.sampled_from([None, EARLY, LATE]),
    active=st.sampled_from([None, 1, -1]),
    ready=st.sampled_from([None, 0, 5]),
    completed_indexes=st.sampled_from([None, "0", "9", "x"]),
    failed_indexes=st.sampled_from([None, "", "0", "4-2"]),
) | st.lists(st.sampled_from([*COMPLETE, *FAILED, "Suspended"]), max_size=4).map(lambda c: job(*c))


@given(STATUSES)
def test_val_80_a_stored_status_can_be_written_again(status):
    """Whatever it is: only what never is right is refused, not what does not change."""
    never = ("SuccessCriteriaMet=True and", "SuccessPolicy")
    found = validate_job_status(status, status)
    assert all(c.field == "status.active" or any(one in c.detail for one in never) for c in found)
