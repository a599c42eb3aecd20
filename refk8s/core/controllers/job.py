"""Job: pods that run to completion. Rules JOB-1 to JOB-17 (spec/workloads/job.md).

The loop does not reconcile a Job before the view shows the writes of its last plan (LOOP-4), so a
plan never creates more pods than `spec.parallelism`, and an index never has two pods (JOB-2,
JOB-6). What counts pods is in `job_status.py`, what a single pod means in `job_pods.py`.

Source: Kubernetes documentation, "Jobs"; KEP-2307, KEP-2214 (indexed), KEP-2232 (suspend),
KEP-3329, KEP-3715 (elastic), KEP-3850, KEP-3939, KEP-3998, KEP-4368 (managedBy). Left out: the
gang scheduling of `spec.scheduling`, which is off by default.
"""

from collections.abc import Sequence
from operator import attrgetter
from typing import Any

from msgspec.structs import replace

from refk8s.core.api.batch_v1 import Job, JobCondition, JobStatus
from refk8s.core.api.core_v1 import (
    Container,
    EnvVar,
    EnvVarSource,
    ObjectFieldSelector,
    Pod,
    PodTemplateSpec,
)
from refk8s.core.api.index_ranges import EMPTY, first_missing, union, with_indexes
from refk8s.core.api.meta_v1 import LabelSelector
from refk8s.core.api.request import Patch, Request, Response
from refk8s.core.api.resources import JOBS, PODS
from refk8s.core.context import Instant
from refk8s.core.controllers.deletion_order import active_key
from refk8s.core.controllers.job_pods import (
    COMPLETION_INDEX,
    TRACKING_FINALIZER,
    annotations_of_index,
    backoff_of_index_until,
    backoff_until,
    completion_index,
    is_indexed,
    is_tracked,
    replaces_only_failed,
)
from refk8s.core.controllers.job_status import (
    COMPLETE,
    JOB_FAILED,
    SUSPENDED,
    Tally,
    compute_status,
    compute_tally,
    compute_target,
    deadline_of,
    is_finished,
    is_suspended,
    list_counted,
    target_of,
    uncounted_uids,
)
from refk8s.core.controllers.owners import (
    STRATEGIC_MERGE,
    claim,
    claim_waves,
    controller_reference,
    deletion,
    dependent_keys,
    list_orphans,
    orphan_index,
    selects,
)
from refk8s.core.loop.plan import NOTHING, Key, Local, Note, Plan, slow_start
from refk8s.core.loop.reconciler import Interest, Reconciler
from refk8s.core.loop.view import Index, View, controller_of, key_of, namespace_index, owner_index
from refk8s.core.pods.status import FINAL_PHASES, is_active, split
from refk8s.core.pods.template import pod_from_template
from refk8s.core.value import Value

MANAGER = "kubernetes.io/job-controller"
BURST_MAX = 500
"""The most pods that one plan creates or deletes; the next plan does the rest."""
NAME_PREFIX_MAX = 58
INDEX_VARIABLE = "JOB_COMPLETION_INDEX"
POD = "pod: "  # prefix of the keys of pods that no Job tracks any more (JOB-4)


def _selector(job: Job) -> LabelSelector | None:
    return job.spec.selector


_OF_DEPENDENT = dependent_keys("Job", JOBS, _selector)


def _keys_of_pod(view: View, old: Pod | None, new: Pod | None) -> list[Key]:
    """The Jobs of the pod; the pod itself if it has a finalizer that no Job will remove."""
    found = list(_OF_DEPENDENT(view, old, new))
    if new is not None and is_tracked(new) and not _is_tracked_by_job(view, new):
        found.append(POD + key_of(new))
    return found


def _keys_of_job(view: View, old: Job | None, new: Job | None) -> list[Key]:
    """The Job; its pods with finalizer, if it was deleted or has finished."""
    job = new if new is not None else old
    if job is None:
        return []
    found = [key_of(job)]
    if new is None or is_finished(new):
        pods = view.indexed(PODS, "owner", job.metadata.uid or "")
        found += [POD + key_of(pod) for pod in pods if is_tracked(pod)]
    return found


def _is_tracked_by_job(view: View, pod: Pod) -> bool:
    """Whether a Job in view tracks this pod, or will adopt it."""
    reference = controller_of(pod)
    namespace = pod.metadata.namespace or ""
    if reference is None:
        labels = pod.metadata.labels or {}
        return pod.metadata.deletion_timestamp is None and any(
            job.metadata.deletion_timestamp is None and selects(_selector(job))(labels)
            for job in view.indexed(JOBS, "namespace", namespace)
        )
    job = view.get(JOBS, f"{namespace}/{reference.name}") if reference.kind == "Job" else None
    return job is not None and job.metadata.uid == reference.uid and not is_finished(job)


def is_managed(job: Job) -> bool:
    """Whether this controller reconciles the Job, and not another program (JOB-15)."""
    return job.spec.managed_by in (None, MANAGER)


def _tracked_uid(pod: Pod) -> tuple[str, ...]:
    return (pod.metadata.uid or "",) if is_tracked(pod) else ()


class _Pods(Value, frozen=True, eq=False):
    """The creations and deletions that a Job needs now, and when it needs further ones."""

    creations: tuple[Request, ...] = ()
    surplus: tuple[Pod, ...] = ()
    wake_at: Instant | None = None


_NO_PODS = _Pods()


class JobReconciler(Reconciler):
    """Reconciles one Job, or one pod that no Job tracks any more."""

    name = component = "job-controller"
    interests = (Interest(JOBS, _keys_of_job), Interest(PODS, _keys_of_pod))
    indexes = (
        namespace_index(JOBS),
        owner_index(PODS),
        orphan_index(PODS),
        Index("tracked", PODS, _tracked_uid, attrgetter("metadata.finalizers", "metadata.uid")),
    )

    def reconcile(self, view: View, key: Key, now: Instant, local: Local) -> Plan:
        """Count finished pods (JOB-3), run the missing ones (JOB-2), and end the Job (JOB-11).
        O(owned pods + orphans with one of the selector's labels)."""
        if key.startswith(POD):
            return _untrack(view, view.get(PODS, key.removeprefix(POD)))
        # Observe
        job: Job | None = view.get(JOBS, key)
        if job is None or not is_managed(job) or is_finished(job):
            return NOTHING
        orphans = list_orphans(view, PODS, job.metadata.namespace or "", job.spec.selector)
        owned = view.indexed(PODS, "owner", job.metadata.uid or "")
        claimed = claim(job, owned, orphans, selects(job.spec.selector))
        if not claimed.is_settled:
            return Plan(claim_waves(job, JOBS, PODS, claimed, TRACKING_FINALIZER, _is_unfinished))
        pods: list[Pod] = claimed.owned

        # Decide
        tally = compute_tally(job, pods)
        target = compute_target(job, pods, tally, now)
        # A pod that lost its owner reference keeps its finalizer for a while.
        elsewhere = [uid for uid in uncounted_uids(job) if view.indexed_keys(PODS, "tracked", uid)]
        status = compute_status(job, pods, tally, target, now, elsewhere)
        needs = _NO_PODS
        if target is None and job.metadata.deletion_timestamp is None:
            needs = _compute_needs(job, pods, tally, now)

        # Act
        counted = tuple(
            [_untracking(pod, "it is counted") for pod in list_counted(job, pods, tally)]
        )
        waves: list[tuple[Request, ...]] = []
        if target_of(job) is not None:  # JOB-11: the decision to end is stored
            running = [pod for pod in pods if is_active(pod)]
            waves.append(_deletions(job, running[:BURST_MAX], "the Job ends"))
        elif needs.surplus:
            untracked = [
                _untracking(pod, "it is surplus") for pod in needs.surplus if is_tracked(pod)
            ]
            waves += [tuple(untracked), _deletions(job, needs.surplus, "it is surplus")]

        # Report
        creations = slow_start(needs.creations)
        expected = len(needs.creations) + (status.active or 0)
        if creations and not local.failures:
            status = replace(status, active=expected or None)
            waves = [counted, *waves, *creations, _report(job, status)]
        else:
            waves = [_report(job, status), counted, *waves, *creations]
        notes = _notes(job, status, local.failure if needs.creations else None)
        wakes = [at for at in (needs.wake_at, deadline_of(job)) if at is not None]
        wake_at = min(wakes, default=None) if target is None else None
        return Plan(tuple(wave for wave in waves if wave), wake_at=wake_at, notes=notes)


def _is_unfinished(pod: Pod) -> bool:
    """Only such a pod is tracked when it is adopted: a finished one may have been counted before
    it was released (JOB-3)."""
    return pod.status.phase not in FINAL_PHASES


# --- decide ---------------------------------------------------------------------------------------


def _compute_needs(job: Job, pods: Sequence[Pod], tally: Tally, now: Instant) -> _Pods:
    """The pods to create or to delete: never both in one plan (JOB-2)."""
    active, terminating = split(pods)
    wanted = _wanted(job, len(active), tally)
    surplus = _choose_surplus(job, active, max(len(active) - wanted, 0))
    if surplus or is_suspended(job):
        return _Pods(surplus=tuple(surplus[:BURST_MAX]))
    if not replaces_only_failed(job):
        terminating = []
    missing = min(wanted - len(active) - len(terminating), BURST_MAX)
    if missing <= 0:
        return _NO_PODS
    per_index = job.spec.backoff_limit_per_index is not None
    if not per_index:
        until = backoff_until(job, pods)
        if until > now:  # JOB-16
            return _Pods(wake_at=until)
    if not is_indexed(job):
        return _Pods(_creations(job, missing))
    busy = (completion_index(job, pod) for pod in (*active, *terminating))
    taken = with_indexes(tally.completed, [index for index in busy if index is not None])
    taken = union(taken, tally.failed_indexes or EMPTY)
    indexes = first_missing(taken, missing, job.spec.completions or 0)
    ready: list[int] = []
    waits: list[Instant] = []
    for index in indexes:
        until = backoff_of_index_until(tally.waiting.get(index))
        if until > now:
            waits.append(until)
        else:
            ready.append(index)
    made = tuple([_creation_of_index(job, index, tally, len(ready)) for index in ready])
    return _Pods(made, wake_at=min(waits, default=None))


def _wanted(job: Job, active: int, tally: Tally) -> int:
    """How many pods shall be active (JOB-2)."""
    parallelism = 1 if job.spec.parallelism is None else job.spec.parallelism
    if is_suspended(job):
        return 0
    if job.spec.completions is None:
        return active if tally.succeeded > 0 else parallelism
    return max(min(job.spec.completions - tally.succeeded, parallelism), 0)


def _choose_surplus(job: Job, active: Sequence[Pod], least: int) -> list[Pod]:
    """The active pods to delete: those with a wrong or repeated index, and then as many as are too
    many (JOB-14). O(n log n)."""
    surplus: list[Pod] = []
    rest = list(active)
    if is_indexed(job):
        rest = []
        by_index: dict[int, list[Pod]] = {}
        for pod in active:
            index = completion_index(job, pod)
            if index is None:
                surplus.append(pod)
            else:
                by_index.setdefault(index, []).append(pod)
        for _, same in sorted(by_index.items()):
            *repeated, kept = sorted(same, key=active_key)
            surplus += repeated
            rest.append(kept)
    if len(surplus) < least:
        surplus += sorted(rest, key=active_key)[: least - len(surplus)]
    return surplus


# --- act ------------------------------------------------------------------------------------------


def _creations(job: Job, count: int) -> tuple[Request, ...]:
    """Requests that create pods from the template, with the finalizer. They share one body."""
    return (_creation(job, _pod(job, job.spec.template), count),) * count


def _creation(job: Job, pod: Pod, count: int) -> Request:
    note = Note(job, "SuccessfulCreate", "Created pod: {name}")
    because = f"{count} pods are missing"
    return Request(
        "create", PODS, job.metadata.namespace or "", body=pod, because=because, note=note
    )


def _pod(job: Job, template: PodTemplateSpec) -> Pod:
    pod = pod_from_template(template, controller_reference(job))
    finalizers = pod.metadata.finalizers or ()
    if TRACKING_FINALIZER in finalizers:
        return pod
    return replace(
        pod, metadata=replace(pod.metadata, finalizers=(*finalizers, TRACKING_FINALIZER))
    )


def _creation_of_index(job: Job, index: int, tally: Tally, count: int) -> Request:
    """The pod of an index: its annotation, label, host name, name and variable have it (JOB-6)."""
    name = job.metadata.name or ""
    added = annotations_of_index(job, index, tally.waiting.get(index))
    pod = _pod(job, job.spec.template)
    suffix = f"-{index}-"
    metadata = replace(
        pod.metadata,
        generate_name=name[: NAME_PREFIX_MAX - len(suffix)] + suffix,
        annotations={**(pod.metadata.annotations or {}), **added},
        labels={**(pod.metadata.labels or {}), COMPLETION_INDEX: str(index)},
    )
    spec = pod.spec
    init = spec.init_containers
    spec = replace(
        spec,
        hostname=f"{name}-{index}",
        containers=tuple(map(_with_index, spec.containers)),
        init_containers=tuple(map(_with_index, init)) if init else init,
    )
    return _creation(job, replace(pod, metadata=metadata, spec=spec), count)


def _with_index(container: Container) -> Container:
    if any(one.name == INDEX_VARIABLE for one in container.env or ()):
        return container
    path = f"metadata.labels['{COMPLETION_INDEX}']"
    source = EnvVarSource(field_ref=ObjectFieldSelector(field_path=path))
    return replace(
        container, env=(*(container.env or ()), EnvVar(name=INDEX_VARIABLE, value_from=source))
    )


def _deletions(job: Job, pods: Sequence[Pod], because: str) -> tuple[Request, ...]:
    note = Note(job, "SuccessfulDelete", "Deleted pod: {name}")
    return tuple([deletion(PODS, pod, because, note) for pod in pods])


def _untracking(pod: Pod, because: str) -> Request:
    """Remove the finalizer from the pod as the view shows it: the decision depends on its phase, so
    a pod that has changed meanwhile is decided again (JOB-4)."""
    metadata = pod.metadata
    document: dict[str, Any] = {
        "metadata": {
            "uid": metadata.uid,
            "resourceVersion": metadata.resource_version,
            "$deleteFromPrimitiveList/finalizers": [TRACKING_FINALIZER],
        }
    }
    return Request(
        "patch",
        PODS,
        metadata.namespace or "",
        metadata.name or "",
        body=Patch(STRATEGIC_MERGE, document),
        because=because,
    )


def _untrack(view: View, pod: Pod | None) -> Plan:
    """Remove the finalizer of a pod whose Job is gone or has finished (JOB-4)."""
    if pod is None or not is_tracked(pod) or _is_tracked_by_job(view, pod):
        return NOTHING
    return Plan(((_untracking(pod, "no Job tracks it"),),))


# --- report ---------------------------------------------------------------------------------------


def _report(job: Job, status: JobStatus) -> tuple[Request, ...]:
    """Write the status if it differs. An Event tells of the end when the write has succeeded."""
    if status == job.status:
        return ()
    metadata = job.metadata
    because = (
        f"{status.active or 0} active, {status.succeeded or 0} succeeded, "
        f"{status.failed or 0} failed"
    )
    return (
        Request(
            "update",
            JOBS,
            metadata.namespace or "",
            metadata.name or "",
            "status",
            body=replace(job, status=status),
            because=because,
            note=_note_of_change(job, status),
        ),
    )


def _note_of_change(job: Job, status: JobStatus) -> Note | None:
    """The Event of a new condition (JOB-17)."""
    known: tuple[JobCondition, ...] = job.status.conditions or ()
    for condition in status.conditions or ():
        if condition in known:
            continue
        if condition.type == COMPLETE:
            return Note(job, "Completed", "Job completed")
        if condition.type == JOB_FAILED:
            return Note(job, condition.reason or "", condition.message or "", "Warning")
        if condition.type == SUSPENDED:
            is_now = condition.status == "True"
            return Note(job, "Suspended", "Job suspended") if is_now else Note(job, "Resumed", "Job resumed")  # fmt: skip
    return None


def _notes(job: Job, status: JobStatus, failure: Response | None) -> tuple[Note, ...]:
    """The Events of a rejected creation, and of more successes than completions (JOB-17)."""
    notes: list[Note] = []
    completions = job.spec.completions
    ends = any(one.type == COMPLETE for one in status.conditions or ())
    if ends and completions is not None and (status.succeeded or 0) > completions:
        words = "Too many succeeded pods running after completion count reached"
        notes.append(Note(job, "TooManySucceededPods", words, "Warning"))
    details = getattr(failure.body, "details", None) if failure is not None else None
    is_about_pods = details is None or details.kind not in (JOBS.plural, JOBS.kind)
    causes = details.causes or () if details is not None else ()
    if failure is not None and is_about_pods and not any(one.reason == "NamespaceTerminating" for one in causes):  # fmt: skip
        message = (
            getattr(failure.body, "message", None) or f"the API server answered {failure.code}"
        )
        notes.append(Note(job, "FailedCreate", f"Error creating: {message}", "Warning"))
    return tuple(notes)
