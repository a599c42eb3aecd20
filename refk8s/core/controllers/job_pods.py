"""The pods of a Job: which have failed, which completion index they have, which policy concerns
them, and the back-off after failures. Rules JOB-5 to JOB-9, JOB-16 (spec/workloads/job.md).

Source: Kubernetes documentation, "Jobs" (pod failure policy, back-off limit per index, success
policy); KEP-3329, KEP-3850, KEP-3998, KEP-3939.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from refk8s.core.api.batch_v1 import (
    Job,
    PodFailurePolicyOnExitCodesRequirement,
    PodFailurePolicyRule,
)
from refk8s.core.api.core_v1 import ContainerStatus, Pod
from refk8s.core.api.index_ranges import (
    Ranges,
    contains,
    intersection_size,
    parse_ranges,
    size,
)
from refk8s.core.context import MINUTE, SECOND, Instant, parse_timestamp
from refk8s.core.pods.status import FAILED, SUCCEEDED, is_active
from refk8s.core.value import Value

TRACKING_FINALIZER = "batch.kubernetes.io/job-tracking"
COMPLETION_INDEX = "batch.kubernetes.io/job-completion-index"
INDEX_FAILURES = "batch.kubernetes.io/job-index-failure-count"
INDEX_IGNORED_FAILURES = "batch.kubernetes.io/job-index-ignored-failure-count"

BACKOFF_FIRST: Instant = 10 * SECOND
BACKOFF_MAX: Instant = 10 * MINUTE
COUNT_MAX = 2**31 - 1


def is_tracked(pod: Pod) -> bool:
    """Whether the pod has the finalizer of a Job that has not counted it yet (JOB-3)."""
    return TRACKING_FINALIZER in (pod.metadata.finalizers or ())


def is_indexed(job: Job) -> bool:
    return job.spec.completion_mode == "Indexed"


def replaces_only_failed(job: Job) -> bool:
    """Whether a pod is replaced only when it has finished, not when its deletion begins (JOB-9)."""
    return job.spec.pod_replacement_policy == FAILED or job.spec.pod_failure_policy is not None


def has_failed(job: Job, pod: Pod) -> bool:
    """Whether the pod counts as failed. A pod that is being deleted does, unless only failed pods
    are replaced (JOB-9)."""
    if pod.status.phase == FAILED:
        return True
    if replaces_only_failed(job):
        return False
    return pod.metadata.deletion_timestamp is not None and pod.status.phase != SUCCEEDED


def completion_index(job: Job, pod: Pod) -> int | None:
    """The pod's completion index; None if it has none below `spec.completions` (JOB-6)."""
    index = _count(pod, COMPLETION_INDEX, None)
    return index if index is not None and index < (job.spec.completions or 0) else None


def _count(pod: Pod, annotation: str, default: Any) -> Any:
    text = (pod.metadata.annotations or {}).get(annotation, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 10 else default


# --- pod failure policy


class Verdict(Value, frozen=True):
    """What the pod failure policy says of a failed pod: whether the failure counts, the action of
    the first rule that matches, and the message if the Job fails (JOB-7)."""

    counts: bool = True
    action: str = ""
    message: str = ""


_COUNTS = Verdict()


def judge_failure(job: Job, pod: Pod) -> Verdict:
    """The verdict of the first rule that matches; without one the failure counts (JOB-7).
    O(rules x containers)."""
    policy = job.spec.pod_failure_policy
    for position, rule in enumerate(policy.rules if policy is not None else ()):
        found = _matched(rule, pod)
        if found:
            message = f"{found} matching {rule.action} rule at index {position}"
            is_fatal = rule.action == "FailJob"
            return Verdict(rule.action != "Ignore", rule.action, message if is_fatal else "")
    return _COUNTS


def _matched(rule: PodFailurePolicyRule, pod: Pod) -> str:
    """What of the pod the rule matches, as a sentence; empty if it does not match."""
    name = f"{pod.metadata.namespace}/{pod.metadata.name}"
    if rule.on_exit_codes is not None:
        statuses = (*(pod.status.container_statuses or ()), *(pod.status.init_container_statuses or ()))  # fmt: skip
        found = _exit_code(rule.on_exit_codes, statuses)
        return (
            f"Container {found[0]} for pod {name} failed with exit code {found[1]}" if found else ""
        )
    for pattern in rule.on_pod_conditions or ():
        for condition in pod.status.conditions or ():
            if condition.type == pattern.type and condition.status == (pattern.status or "True"):
                return f"Pod {name} has condition {condition.type}"
    return ""


def _exit_code(
    required: PodFailurePolicyOnExitCodesRequirement, statuses: Iterable[ContainerStatus]
) -> tuple[str, int] | None:
    """The name and exit code of the first container that failed with a code that is required."""
    for status in statuses:
        ended = status.state.terminated
        if (
            ended is not None
            and ended.exit_code != 0
            and required.container_name in (None, status.name)
            and (ended.exit_code in required.values) == (required.operator == "In")
        ):
            return status.name, ended.exit_code
    return None


# --- indexes


def failures_of_index(pod: Pod) -> int:
    """How many counted failures of its index came before this pod (JOB-8)."""
    return int(_count(pod, INDEX_FAILURES, 0))


def _all_failures_of_index(pod: Pod) -> int:
    return failures_of_index(pod) + int(_count(pod, INDEX_IGNORED_FAILURES, 0))


def fails_its_index(job: Job, pod: Pod) -> bool:
    """Whether the index of this failed pod has failed for good (JOB-8)."""
    verdict = judge_failure(job, pod)
    return verdict.action == "FailIndex" or (
        verdict.counts and failures_of_index(pod) >= (job.spec.backoff_limit_per_index or 0)
    )


def annotations_of_index(job: Job, index: int, replaced: Pod | None) -> dict[str, str]:
    """The annotations of the next pod of this index (JOB-6, JOB-8). `replaced`: the last pod of
    the index, which failed."""
    annotations = {COMPLETION_INDEX: str(index)}
    if job.spec.backoff_limit_per_index is not None:
        counted = ignored = 0
        if replaced is not None:
            counts = judge_failure(job, replaced).counts
            counted = min(failures_of_index(replaced) + counts, COUNT_MAX)
            ignored = min(
                int(_count(replaced, INDEX_IGNORED_FAILURES, 0)) + (not counts), COUNT_MAX
            )
        annotations[INDEX_FAILURES] = str(counted)
        if ignored:
            annotations[INDEX_IGNORED_FAILURES] = str(ignored)
    return annotations


def waiting_for_replacement(
    job: Job, pods: Sequence[Pod], succeeded: Ranges, failed: Ranges
) -> dict[int, Pod]:
    """The last failed pod of each index that will be tried again. It keeps its finalizer until the
    next pod of the index has taken over its counts (JOB-8). O(pods)."""
    active = {completion_index(job, pod) for pod in pods if is_active(pod)}
    found: dict[int, Pod] = {}
    for pod in pods:
        index = completion_index(job, pod)
        if (
            index is None
            or not is_tracked(pod)
            or not has_failed(job, pod)
            or index in active
            or contains(succeeded, index)
            or contains(failed, index)
        ):
            continue
        other = found.get(index)
        if other is None or (_all_failures_of_index(pod), finished_at(pod)) >= (_all_failures_of_index(other), finished_at(other)):  # fmt: skip
            found[index] = pod
    return found


def success_rule(job: Job, succeeded: Ranges) -> int | None:
    """The first rule of the success policy that these indexes fulfil (JOB-10); None: no rule."""
    policy = job.spec.success_policy
    for position, rule in enumerate(policy.rules if policy is not None else ()):
        done = needed = size(succeeded)
        if rule.succeeded_indexes is not None:
            wanted = parse_ranges(rule.succeeded_indexes, job.spec.completions or 0)
            done, needed = intersection_size(wanted, succeeded), size(wanted)
        if done >= (needed if rule.succeeded_count is None else rule.succeeded_count):
            return position
    return None


# --- back-off


def finished_at(pod: Pod) -> Instant:
    """When the pod finished: the end of its last container, else when it became unready, else when
    its deletion began, else its creation (JOB-16)."""
    states = [status.state.terminated for status in pod.status.container_statuses or ()]
    ends = [ended.finished_at for ended in states if ended is not None and ended.finished_at]
    if ends and len(ends) == len(states):
        return max(parse_timestamp(end) for end in ends)
    for condition in pod.status.conditions or ():
        if condition.type == "Ready" and condition.status == "False" and condition.last_transition_time:  # fmt: skip
            return parse_timestamp(condition.last_transition_time)
    metadata = pod.metadata
    if metadata.deletion_timestamp is not None:
        grace = (metadata.deletion_grace_period_seconds or 0) * SECOND
        return parse_timestamp(metadata.deletion_timestamp) - grace
    return parse_timestamp(metadata.creation_timestamp) if metadata.creation_timestamp else 0


def backoff_until(job: Job, pods: Iterable[Pod]) -> Instant:
    """When the next pod may be created: after the failures since the last success (JOB-16).
    O(pods)."""
    last_success: Instant = -1
    failures: list[Instant] = []
    for pod in pods:
        if pod.status.phase == SUCCEEDED:
            last_success = max(last_success, finished_at(pod))
        elif has_failed(job, pod) and (is_tracked(pod) or pod.metadata.deletion_timestamp is None):
            # a surplus pod lost its finalizer before its deletion, and has not failed (JOB-4)
            failures.append(finished_at(pod))
    recent = [at for at in failures if at > last_success]
    return _after(len(recent), max(recent, default=0))


def backoff_of_index_until(replaced: Pod | None) -> Instant:
    """When the next pod of an index may be created, after its last one failed (JOB-16)."""
    if replaced is None:
        return 0
    return _after(_all_failures_of_index(replaced) + 1, finished_at(replaced))


def _after(failures: int, last: Instant) -> Instant:
    """10 seconds after the first failure, doubled with each further one, at most 10 minutes."""
    if not failures:
        return 0
    return last + min(BACKOFF_FIRST << min(failures - 1, 30), BACKOFF_MAX)
