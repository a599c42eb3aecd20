"""The status of a job. Rule VAL-80 (spec/validation.md).

A rule about a part of the status holds for a write that changes this part, so a status that was
stored earlier can still be written. Source: KEP-4368 (managedBy), which lists the rules for other
job controllers; API reference, "JobStatus".
"""

from collections.abc import Sequence

from refk8s.core.api.batch_v1 import Job, JobStatus
from refk8s.core.api.index_ranges import contains, parse_ranges
from refk8s.core.api.status import OMITTED
from refk8s.core.apiserver.validation.field import (
    Causes,
    duplicate,
    invalid,
    not_negative,
    required,
)
from refk8s.core.apiserver.validation.job_policies import count_indexes
from refk8s.core.context import parse_timestamp

COMPLETE, FAILED, SUSPENDED = "Complete", "Failed", "Suspended"
CRITERIA_MET, FAILURE_TARGET = "SuccessCriteriaMet", "FailureTarget"
_AT = "status.conditions"


class _Ends:
    """Which conditions of a status are True."""

    def __init__(self, status: JobStatus) -> None:
        found: dict[str, str] = {}  # the first condition of a type counts
        for one in status.conditions or ():
            found.setdefault(one.type, one.status)
        true = {kind for kind, value in found.items() if value == "True"}
        self.complete, self.failed = COMPLETE in true, FAILED in true
        self.met, self.target = CRITERIA_MET in true, FAILURE_TARGET in true
        self.suspended = SUSPENDED in true
        self.finished = self.complete or self.failed


def validate_job_status(new: Job, old: Job) -> Causes:
    """VAL-80."""
    status, before = new.status, old.status
    now, was = _Ends(status), _Ends(before)
    causes = _validate_counts(status)
    causes += _validate_conditions(new, now, was)
    causes += _validate_times(status, before, now, was)
    causes += _validate_finished(new, before, now, was)
    causes += _validate_indexes(new, before)
    ready, active = status.ready, status.active or 0
    if (ready, active) != (before.ready, before.active or 0) and ready is not None and ready > active:  # fmt: skip
        causes.append(invalid("status.ready", ready, "cannot set more ready pods than active"))
    return causes + _validate_change(new, old, now, was)


def _validate_counts(status: JobStatus) -> Causes:
    causes: Causes = []
    for count, name in (
        (status.active, "active"),
        (status.succeeded, "succeeded"),
        (status.failed, "failed"),
        (status.ready, "ready"),
        (status.terminating, "terminating"),
    ):
        causes += not_negative(f"status.{name}", count)
    uncounted = status.uncounted_terminated_pods
    if uncounted is None:
        return causes
    seen: set[str] = set()
    for uids, name in ((uncounted.succeeded, "succeeded"), (uncounted.failed, "failed")):
        causes += _validate_uids(uids or (), f"status.uncountedTerminatedPods.{name}", seen)
    return causes


def _validate_uids(uids: Sequence[str], at: str, seen: set[str]) -> Causes:
    causes: Causes = []
    for position, uid in enumerate(uids):
        if not uid:
            causes.append(invalid(f"{at}[{position}]", uid, "must not be empty"))
        elif uid in seen:
            causes.append(duplicate(f"{at}[{position}]", uid))
        seen.add(uid)
    return causes


def _validate_conditions(new: Job, now: _Ends, was: _Ends) -> Causes:
    """Conditions that exclude or need each other."""
    complete, failed = now.complete != was.complete, now.failed != was.failed
    target, met = now.target != was.target, now.met != was.met
    words: list[str] = []
    if (complete or failed) and now.complete and now.failed:
        words.append("cannot set Complete=True and Failed=true conditions")
    if (complete or target) and now.complete and now.target:
        words.append("cannot set Complete=True and FailureTarget=true conditions")
    if (failed or target) and now.failed and not now.target:
        words.append("cannot set Failed=True condition without the FailureTarget=true condition")
    if (complete or met) and now.complete and not now.met:
        words.append("cannot set Complete=True condition without the SuccessCriteriaMet=true condition")  # fmt: skip
    if now.met and now.failed:
        words.append("cannot set SuccessCriteriaMet=True and Failed=true conditions")
    if now.met and now.target:
        words.append("cannot set SuccessCriteriaMet=True and FailureTarget=true conditions")
    if new.spec.success_policy is not None and now.complete and not now.met:
        words.append("cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True")  # fmt: skip
    return [invalid(_AT, OMITTED, one) for one in words]


def _validate_times(status: JobStatus, before: JobStatus, now: _Ends, was: _Ends) -> Causes:
    causes: Causes = []
    start, end, at = status.start_time, status.completion_time, "status.completionTime"
    if now.complete != was.complete or end != before.completion_time:
        if end is not None and not now.complete:
            words = "cannot set completionTime when there is no Complete=True condition"
            causes.append(invalid(at, end, words))
        if end is None and now.complete:
            causes.append(required(at, "completionTime is required for Complete jobs"))
    if (
        (start, end) != (before.start_time, before.completion_time)
        and start is not None
        and end is not None
        and parse_timestamp(end) < parse_timestamp(start)
    ):
        causes.append(invalid(at, end, "completionTime cannot be set before startTime"))
    return causes


def _validate_finished(new: Job, before: JobStatus, now: _Ends, was: _Ends) -> Causes:
    """What a finished job has, and what it does not have any more."""
    causes: Causes = []
    status = new.status
    if not now.finished:
        return causes
    ends = now.finished != was.finished
    if (ends or status.active != before.active) and (status.active or 0) > 0:
        words = "active>0 is invalid for finished job"
        causes.append(invalid("status.active", status.active, words))
    never_starts = bool(new.spec.suspend) and new.spec.completions == 0
    starts = ends or status.start_time != before.start_time
    if starts and status.start_time is None and not never_starts:
        causes.append(required("status.startTime", "startTime is required for finished job"))
    uncounted = status.uncounted_terminated_pods
    has_uncounted = uncounted is not None and bool(uncounted.succeeded or uncounted.failed)
    if (ends or uncounted != before.uncounted_terminated_pods) and has_uncounted:
        words = "uncountedTerminatedPods needs to be empty for finished job"
        causes.append(invalid("status.uncountedTerminatedPods", uncounted, words))
    if (ends or status.terminating != before.terminating) and (status.terminating or 0) > 0:
        words = "terminating>0 is invalid for finished job"
        causes.append(invalid("status.terminating", status.terminating, words))
    return causes


def _validate_indexes(new: Job, before: JobStatus) -> Causes:
    causes: Causes = []
    spec, status = new.spec, new.status
    completed, failed = status.completed_indexes or "", status.failed_indexes
    completed_changes = completed != (before.completed_indexes or "")
    failed_changes = failed != before.failed_indexes
    here, there = "status.completedIndexes", "status.failedIndexes"
    if spec.completions is not None:
        if completed_changes and (wrong := count_indexes(completed, spec.completions)[1]):
            causes.append(invalid(here, completed, f"error parsing completedIndexes: {wrong}"))
        lost = failed if failed_changes and spec.backoff_limit_per_index is not None else None
        if lost is not None and (wrong := count_indexes(lost, spec.completions)[1]):
            causes.append(invalid(there, lost, f"error parsing failedIndexes: {wrong}"))
    if completed_changes and completed and spec.completion_mode != "Indexed":
        words = "cannot set non-empty completedIndexes when non-indexed completion mode"
        causes.append(invalid(here, completed, words))
    if failed_changes and failed is not None and spec.backoff_limit_per_index is None:
        words = "cannot set non-null failedIndexes when backoffLimitPerIndex is null"
        causes.append(invalid(there, failed, words))
    if (completed_changes or failed_changes) and failed is not None and spec.completions is not None:  # fmt: skip
        common = _first_common(completed, failed, spec.completions)
        if common is not None:
            words = f"failedIndexes and completedIndexes overlap at index: {common}"
            causes.append(invalid(there, failed, words))
    return causes


def _first_common(left: str, right: str, completions: int) -> int | None:
    """The lowest index in both texts. O(n log n)."""
    ours, theirs = parse_ranges(left, completions), parse_ranges(right, completions)
    starts = [start for start, _ in theirs if contains(ours, start)]
    starts += [start for start, _ in ours if contains(theirs, start)]
    return min(starts, default=None)


def _validate_change(new: Job, old: Job, now: _Ends, was: _Ends) -> Causes:
    """What a write does not take back."""
    causes: Causes = []
    status, before = new.status, old.status
    for name, is_true, was_true in (
        (FAILED, now.failed, was.failed),
        (COMPLETE, now.complete, was.complete),
        (FAILURE_TARGET, now.target, was.target),
    ):
        if was_true and not is_true:
            words = f"cannot disable the terminal {name}=True condition"
            causes.append(invalid(_AT, OMITTED, words))
    if (status.failed or 0) < (before.failed or 0):
        words = "cannot decrease the failed counter"
        causes.append(invalid("status.failed", status.failed or 0, words))
    spec = new.spec
    # the completions of an elastic job may have fallen
    is_elastic = spec.completion_mode == "Indexed" and spec.completions == spec.parallelism
    if not is_elastic and (status.succeeded or 0) < (before.succeeded or 0):
        words = "cannot decrease the succeeded counter"
        causes.append(invalid("status.succeeded", status.succeeded or 0, words))
    end, ended = status.completion_time, before.completion_time
    if end is not None and ended is not None and end != ended:
        causes.append(invalid("status.completionTime", end, "completionTime cannot be mutated"))
    is_resumed = was.suspended and not now.suspended
    start, started = status.start_time, before.start_time
    if started is not None and start != started and not spec.suspend and not is_resumed:
        words = "field is immutable for unsuspended job once set"
        causes.append(invalid("status.startTime", start, words))
    if was.met and not now.met:
        words = "cannot disable the SuccessCriteriaMet=True condition"
        causes.append(invalid(_AT, OMITTED, words))
    if was.complete and not was.met and now.met:
        words = "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions"
        causes.append(invalid(_AT, OMITTED, words))
    return causes
