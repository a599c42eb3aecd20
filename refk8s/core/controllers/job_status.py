"""The status of a Job: pods are counted exactly once, and conditions end it. Rules JOB-3, JOB-5,
JOB-6, JOB-10 to JOB-13 (spec/workloads/job.md).

    pod finished, with finalizer      its uid (or completion index) is written to the status
    status in view has it             the finalizer is removed
    pod in view without finalizer     the uid is replaced by an increment of the count

Each line acts only on what the one before it has made durable, so a crash between any two requests
repeats a line that changes nothing. Source: KEP-2307 (job tracking without lingering pods),
KEP-3939, KEP-3998.
"""

from collections.abc import Container, Iterable, Sequence

from msgspec.structs import replace

from refk8s.core.api.batch_v1 import Job, JobCondition, JobStatus, UncountedTerminatedPods
from refk8s.core.api.core_v1 import Pod
from refk8s.core.api.index_ranges import (
    EMPTY,
    Ranges,
    contains,
    format_ranges,
    parse_ranges,
    size,
    with_indexes,
)
from refk8s.core.context import SECOND, Instant, parse_timestamp, timestamp
from refk8s.core.controllers.job_pods import (
    completion_index,
    fails_its_index,
    has_failed,
    is_indexed,
    is_tracked,
    judge_failure,
    success_rule,
    waiting_for_replacement,
)
from refk8s.core.pods.status import FAILED, PENDING, RUNNING, SUCCEEDED, is_active, is_ready, split
from refk8s.core.value import Value

COMPLETE, JOB_FAILED, SUSPENDED = "Complete", "Failed", "Suspended"
SUCCESS_CRITERIA_MET, FAILURE_TARGET = "SuccessCriteriaMet", "FailureTarget"
UNCOUNTED_MAX = 500
"""The most pods that are counted at a time, so that their uids do not fill the status (JOB-3)."""
BACKOFF_LIMIT = 6
IGNORED, KEPT = "Ignored", "Kept"

_NONE_UNCOUNTED = UncountedTerminatedPods()


def uncounted_uids(job: Job) -> tuple[str, ...]:
    """The uids that the status records and has not counted (JOB-3)."""
    uncounted = job.status.uncounted_terminated_pods or _NONE_UNCOUNTED
    return (*(uncounted.succeeded or ()), *(uncounted.failed or ()))


def find_condition(job: Job, kind: str) -> JobCondition | None:
    """The condition of this type if it is True."""
    for condition in job.status.conditions or ():
        if condition.type == kind:
            return condition if condition.status == "True" else None
    return None


def is_finished(job: Job) -> bool:
    """Whether the Job is Complete or Failed (JOB-11)."""
    return find_condition(job, COMPLETE) is not None or find_condition(job, JOB_FAILED) is not None


def is_suspended(job: Job) -> bool:
    return bool(job.spec.suspend)


def target_of(job: Job) -> JobCondition | None:
    """The condition that decides the end of the Job, once it is stored (JOB-11)."""
    return find_condition(job, SUCCESS_CRITERIA_MET) or find_condition(job, FAILURE_TARGET)


def new_condition(
    kind: str, reason: str, message: str, now: Instant, status: str = "True"
) -> JobCondition:
    at = timestamp(now)
    return JobCondition(
        type=kind,
        status=status,
        last_probe_time=at,
        last_transition_time=at,
        reason=reason or None,
        message=message or None,
    )


# --- what the pods amount to


class Tally(Value, frozen=True, eq=False):
    """What has succeeded and failed as far as the view shows it, whether or not the status has it.

    `failed_indexes` is None without a back-off limit per index, and `waiting` has the pods that
    will be replaced (JOB-8).
    """

    succeeded: int
    failed: int
    completed: Ranges
    failed_indexes: Ranges | None
    waiting: dict[int, Pod]


def compute_tally(job: Job, pods: Sequence[Pod]) -> Tally:
    """Count the pods that the status has and those that it does not have yet. O(pods)."""
    status = job.status
    uncounted = status.uncounted_terminated_pods or _NONE_UNCOUNTED
    known_succeeded, known_failed = uncounted.succeeded or (), uncounted.failed or ()
    recorded = {*known_succeeded, *known_failed}
    succeeded = (status.succeeded or 0) + len(known_succeeded)
    failed = (status.failed or 0) + len(known_failed)
    indexes: list[int] = []
    failed_now: list[int] = []
    indexed, per_index = is_indexed(job), job.spec.backoff_limit_per_index is not None
    for pod in pods:
        if not is_tracked(pod) or pod.metadata.uid in recorded:
            continue
        index = completion_index(job, pod) if indexed else None
        if indexed and index is None:
            continue
        if pod.status.phase == SUCCEEDED:
            succeeded += 1
            if index is not None:
                indexes.append(index)
        elif has_failed(job, pod):
            failed += judge_failure(job, pod).counts
            if index is not None and per_index and fails_its_index(job, pod):
                failed_now.append(index)
    if not indexed:
        return Tally(succeeded, failed, EMPTY, None, {})
    completions = job.spec.completions or 0
    completed = with_indexes(parse_ranges(status.completed_indexes or "", completions), indexes)
    if not per_index:
        return Tally(size(completed), failed, completed, None, {})
    lost = with_indexes(parse_ranges(status.failed_indexes or "", completions), failed_now)
    waiting = waiting_for_replacement(job, pods, completed, lost)
    return Tally(size(completed), failed, completed, lost, waiting)


def compute_target(
    job: Job, pods: Sequence[Pod], tally: Tally, now: Instant
) -> JobCondition | None:
    """Why the Job ends; None while it goes on. The first reason counts (JOB-12)."""
    decided = target_of(job)
    if decided is not None:
        return decided
    failure = _why_failed(job, pods, tally, now)
    if failure is not None:
        return new_condition(FAILURE_TARGET, *failure, now)
    rule = success_rule(job, tally.completed) if is_indexed(job) else None
    if rule is not None:  # JOB-10
        message = f"Matched rules at index {rule}"
        return new_condition(SUCCESS_CRITERIA_MET, "SuccessPolicy", message, now)
    completions = job.spec.completions
    enough = tally.succeeded > 0 if completions is None else tally.succeeded >= completions
    if enough and not any(map(is_active, pods)):  # JOB-1
        message = "Reached expected number of succeeded pods"
        return new_condition(SUCCESS_CRITERIA_MET, "CompletionsReached", message, now)
    return None


def _why_failed(
    job: Job, pods: Sequence[Pod], tally: Tally, now: Instant
) -> tuple[str, str] | None:
    """The reason and message of a failure (JOB-12)."""
    spec = job.spec
    if spec.pod_failure_policy is not None:
        for pod in pods:
            message = judge_failure(job, pod).message if has_failed(job, pod) else ""
            if message:
                return "PodFailurePolicy", message
    limit = BACKOFF_LIMIT if spec.backoff_limit is None else spec.backoff_limit
    if tally.failed > limit or _restarted_too_often(job, pods, limit):
        return "BackoffLimitExceeded", "Job has reached the specified backoff limit"
    deadline = deadline_of(job)
    if deadline is not None and now >= deadline:
        return "DeadlineExceeded", "Job was active longer than specified deadline"
    lost = size(tally.failed_indexes) if tally.failed_indexes is not None else 0
    if lost:
        if spec.max_failed_indexes is not None and lost > spec.max_failed_indexes:
            words = "Job has exceeded the specified maximal number of failed indexes"
            return "MaxFailedIndexesExceeded", words
        if lost + size(tally.completed) >= (spec.completions or 0):
            return "FailedIndexes", "Job has failed indexes"
    return None


def _restarted_too_often(job: Job, pods: Iterable[Pod], limit: int) -> bool:
    """Whether the containers of pods that are restarted locally have used up the limit (JOB-5)."""
    if job.spec.template.spec.restart_policy != "OnFailure":
        return False
    restarts = 0
    for pod in pods:
        if pod.status.phase in (RUNNING, PENDING):
            for statuses in (pod.status.init_container_statuses, pod.status.container_statuses):
                restarts += sum(status.restart_count for status in statuses or ())
    return restarts >= max(limit, 1)


def deadline_of(job: Job) -> Instant | None:
    """When the Job has been active for `activeDeadlineSeconds`; None if it has none or does not
    run (JOB-12)."""
    seconds, start = job.spec.active_deadline_seconds, job.status.start_time
    if seconds is None or start is None or is_suspended(job):
        return None
    return parse_timestamp(start) + seconds * SECOND


# --- counting


def outcome(job: Job, pod: Pod, target: str, waiting: dict[int, Pod]) -> str:
    """How a pod with finalizer is counted: Succeeded, Failed, Ignored (not counted, and no longer
    tracked) or Kept (not yet). `target`: the type of the condition that ends the Job (JOB-5)."""
    is_deleted = pod.metadata.deletion_timestamp is not None
    index = completion_index(job, pod) if is_indexed(job) else None
    is_valid = index is not None or not is_indexed(job)
    if pod.status.phase == SUCCEEDED:
        return SUCCEEDED if is_valid else IGNORED
    if target == SUCCESS_CRITERIA_MET and is_deleted:
        return IGNORED
    if has_failed(job, pod) or (target == FAILURE_TARGET and is_deleted):
        if index is not None and waiting.get(index) is pod and not target:
            return KEPT
        return FAILED if is_valid and judge_failure(job, pod).counts else IGNORED
    return IGNORED if job.metadata.deletion_timestamp is not None else KEPT


def count_pods(
    job: Job, pods: Sequence[Pod], tally: Tally, target: str, elsewhere: Container[str] = ()
) -> JobStatus:
    """The status with the next counts (JOB-3): uids without finalizer become numbers, and finished
    pods with finalizer become uids. `elsewhere`: the uids of pods with finalizer that the Job does
    not own. O(pods)."""
    status = job.status
    uncounted = status.uncounted_terminated_pods or _NONE_UNCOUNTED
    tracked = {pod.metadata.uid or "": pod for pod in pods if is_tracked(pod)}
    succeeded = [uid for uid in uncounted.succeeded or () if uid in tracked or uid in elsewhere]
    failed = [uid for uid in uncounted.failed or () if uid in tracked or uid in elsewhere]
    succeeded_count = (status.succeeded or 0) + len(uncounted.succeeded or ()) - len(succeeded)
    failed_count = (status.failed or 0) + len(uncounted.failed or ()) - len(failed)
    recorded = {*succeeded, *failed}
    completions = job.spec.completions or 0
    completed = parse_ranges(status.completed_indexes or "", completions)
    indexes: list[int] = []
    for uid, pod in tracked.items():
        if len(succeeded) + len(failed) + len(indexes) >= UNCOUNTED_MAX:
            break
        if uid in recorded:
            continue
        found = outcome(job, pod, target, tally.waiting)
        if found == SUCCEEDED:
            index = completion_index(job, pod) if is_indexed(job) else None
            if index is None:
                succeeded.append(uid)
            elif not contains(completed, index):
                indexes.append(index)
        elif found == FAILED:
            failed.append(uid)
    counts = replace(
        status,
        succeeded=succeeded_count or None,
        failed=failed_count or None,
        uncounted_terminated_pods=UncountedTerminatedPods(
            succeeded=tuple(succeeded) or None, failed=tuple(failed) or None
        ),
    )
    if not is_indexed(job):
        return counts
    completed = with_indexes(completed, indexes)
    lost = format_ranges(tally.failed_indexes) if tally.failed_indexes is not None else None
    return replace(
        counts,
        succeeded=size(completed) or None,
        completed_indexes=format_ranges(completed) or None,
        failed_indexes=lost,
    )


def list_counted(job: Job, pods: Iterable[Pod], tally: Tally) -> list[Pod]:
    """The pods whose finalizer may be removed: the status in view has them, or they are not counted
    (JOB-3). O(pods)."""
    decided = target_of(job)
    target = decided.type if decided is not None else ""
    uncounted = job.status.uncounted_terminated_pods or _NONE_UNCOUNTED
    recorded = {*(uncounted.succeeded or ()), *(uncounted.failed or ())}
    completed = parse_ranges(job.status.completed_indexes or "", job.spec.completions or 0)
    found: list[Pod] = []
    for pod in pods:
        if not is_tracked(pod):
            continue
        is_counted = pod.metadata.uid in recorded
        if not is_counted:
            result = outcome(job, pod, target, tally.waiting)
            index = completion_index(job, pod) if result == SUCCEEDED and is_indexed(job) else None
            is_counted = result == IGNORED or (index is not None and contains(completed, index))
        if is_counted:
            found.append(pod)
    return found


# --- the status


def compute_status(
    job: Job,
    pods: Sequence[Pod],
    tally: Tally,
    target: JobCondition | None,
    now: Instant,
    elsewhere: Container[str] = (),
) -> JobStatus:
    """The status of a Job that has not ended (JOB-3, JOB-11, JOB-13). `elsewhere` as in
    count_pods."""
    active, terminating = split(pods)
    status = replace(
        count_pods(job, pods, tally, target.type if target is not None else "", elsewhere),
        active=len(active) or None,
        ready=sum(map(is_ready, active)),
        terminating=len(terminating),
    )
    if status.start_time is None and not is_suspended(job):
        status = replace(status, start_time=timestamp(now))
    if target is None:
        if job.metadata.deletion_timestamp is None:
            status = _with_suspension(job, status, now)
        return status
    conditions = status.conditions or ()
    if target_of(job) is None:
        return replace(status, conditions=(*conditions, target))
    if active or terminating or any(map(is_tracked, pods)) or _has_uncounted(status):
        return status
    if status.start_time is None and job.spec.completions != 0:
        # It was suspended when it was decided that it ends; a finished Job has a start (VAL-80).
        status = replace(status, start_time=timestamp(now))
    is_complete = target.type == SUCCESS_CRITERIA_MET
    kind = COMPLETE if is_complete else JOB_FAILED
    last = new_condition(kind, target.reason or "", target.message or "", now)
    others = tuple([one for one in conditions if one.type != kind])
    status = replace(status, conditions=(*others, last))
    return replace(status, completion_time=timestamp(now)) if is_complete else status


def _has_uncounted(status: JobStatus) -> bool:
    uncounted = status.uncounted_terminated_pods or _NONE_UNCOUNTED
    return bool(uncounted.succeeded or uncounted.failed)


def _with_suspension(job: Job, status: JobStatus, now: Instant) -> JobStatus:
    """The condition Suspended; a resumed Job starts anew (JOB-13)."""
    conditions = status.conditions or ()
    known = next((one for one in conditions if one.type == SUSPENDED), None)
    suspended = is_suspended(job)
    if (known is not None and known.status == "True") == suspended:
        return status
    if suspended:
        changed = new_condition(SUSPENDED, "JobSuspended", "Job suspended", now)
        status = replace(status, start_time=None)
    else:
        changed = new_condition(SUSPENDED, "JobResumed", "Job resumed", now, "False")
        status = replace(status, start_time=timestamp(now))
    others = tuple([changed if one.type == SUSPENDED else one for one in conditions])
    return replace(status, conditions=others if known is not None else (*conditions, changed))
