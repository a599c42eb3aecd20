"""Predicates of Jobs. Rules JOB-1, JOB-2, JOB-3, JOB-6, JOB-11 (spec/workloads/job.md).

change  JOB-3, JOB-11    a Job before and after one write, and the pods at that moment
pods    JOB-2, JOB-6     the active pods of a Job, and those that are to be created
state   JOB-1            a settled Job and its pods
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from refk8s.core.properties.oracle import is_active

FINALIZER = "batch.kubernetes.io/job-tracking"
INDEX = "batch.kubernetes.io/job-completion-index"


def is_tracked(pod: Any) -> bool:
    return FINALIZER in (pod.metadata.finalizers or ())


def uncounted(job: Any) -> list[str]:
    """The uids that the status records and has not counted."""
    recorded = job.status.uncounted_terminated_pods
    return [*(recorded.succeeded or ()), *(recorded.failed or ())] if recorded is not None else []


def ends(job: Any) -> list[str]:
    """The types of the conditions with which the Job has ended."""
    return [
        condition.type
        for condition in job.status.conditions or ()
        if condition.type in ("Complete", "Failed") and condition.status == "True"
    ]


def job_3_counts_each_pod_once(old: Any, new: Any, pods: Iterable[Any]) -> Iterator[str]:
    """A count grows by the uids that the status gives up, and only if those pods have no finalizer.

    Of an Indexed Job only the failures are counted so.
    """
    gone = [uid for uid in uncounted(old) if uid not in uncounted(new)]
    for pod in pods:
        if pod.metadata.uid in gone and is_tracked(pod):
            yield f"{pod.metadata.name} is counted, and has its finalizer"
    is_indexed = new.spec.completion_mode == "Indexed"
    kinds = ("failed",) if is_indexed else ("succeeded", "failed")
    for kind in kinds:
        before, after = (
            list(getattr(job.status.uncounted_terminated_pods, kind, None) or ())
            for job in (old, new)
        )
        given_up = sum(uid not in after for uid in before)
        grown = (getattr(new.status, kind) or 0) - (getattr(old.status, kind) or 0)
        if grown != given_up:
            yield f"status.{kind} grows by {grown}, and {given_up} of its uids are counted"
    if len(set(uncounted(new))) < len(uncounted(new)):
        yield f"{uncounted(new)} has a uid twice"


def job_3_forgets_no_success(pod: Any, job: Any) -> Iterator[str]:
    """A succeeded pod loses its finalizer only if the stored status of its Job has it."""
    if job is None or ends(job) or job.metadata.deletion_timestamp is not None:
        return
    is_known = pod.metadata.uid in uncounted(job)
    if job.spec.completion_mode == "Indexed" and not is_known:
        index = (pod.metadata.annotations or {}).get(INDEX)
        completed = job.status.completed_indexes or ""
        is_known = index is None or int(index) >= job.spec.completions or int(index) in _indexes(completed)  # fmt: skip
    if not is_known:
        yield f"{pod.metadata.name} has succeeded and loses its finalizer, and the status does not have it"  # fmt: skip


def _indexes(text: str) -> list[int]:
    found: list[int] = []
    for part in text.split(",") if text else ():
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


def job_11_an_end_stays(old: Any, new: Any) -> Iterator[str]:
    """A Job ends in one way, and its status does not change afterwards."""
    if len(ends(new)) > 1:
        yield f"{new.metadata.name} has ended as {' and '.join(ends(new))}"
    if ends(old) and (ends(new) != ends(old) or new.status != old.status):
        yield f"{new.metadata.name} has ended as {ends(old)[0]}, and its status changes"


def job_2_never_above_parallelism(job: Any, active: int, creations: int) -> Iterator[str]:
    """Creations do not lead to more active pods than `spec.parallelism`."""
    parallelism = 1 if job.spec.parallelism is None else job.spec.parallelism
    if active + creations > parallelism:
        yield f"{active} active pods and {creations} creations; spec.parallelism is {parallelism}"
    if job.metadata.deletion_timestamp is not None:
        yield f"{job.metadata.name} is being deleted, and pods are created"


def job_6_one_pod_for_each_index(job: Any, pods: Iterable[Any]) -> Iterator[str]:
    """No two of these pods have the same index, and each is below `spec.completions`."""
    if job.spec.completion_mode != "Indexed":
        return
    indexes = [(pod.metadata.annotations or {}).get(INDEX, "") for pod in pods]
    if len(set(indexes)) < len(indexes):
        yield f"pods of {job.metadata.name} have the indexes {', '.join(indexes)}"


def job_1_settled(job: Any, pods: Sequence[Any]) -> Iterator[str]:
    """A settled Job has ended or is suspended, or its active pods are those that it wants; nothing
    is left to count."""
    name = job.metadata.name
    if any(is_tracked(pod) and not is_active(pod) for pod in pods):
        yield f"finished pods of {name} have their finalizer"
    if uncounted(job):
        yield f"{name} has not counted {', '.join(uncounted(job))}"
    active = sum(map(is_active, pods))
    if (job.status.active or 0) != active:
        yield f"status.active of {name} is {job.status.active}, and {active} pods are active"
    if ends(job):
        if active:
            yield f"{name} has ended, and {active} pods are active"
        return
    wanted = 1 if job.spec.parallelism is None else job.spec.parallelism
    if not job.spec.suspend and wanted and not active and not any(pod.status.phase == "Failed" for pod in pods):  # fmt: skip
        yield f"{name} has not ended, and no pod is active"
