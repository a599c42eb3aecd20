"""Jobs and cron jobs. Rule VAL-28 (spec/validation.md).

Source: Kubernetes documentation, "Jobs" (pod selector, indexed jobs, suspending), "CronJob"
(schedule syntax, time zones).
"""

from msgspec.structs import replace

from refk8s.core.api.batch_v1 import CronJob, Job, JobSpec
from refk8s.core.api.core_v1 import Affinity, PodSpec, PodTemplateSpec, ResourceRequirements
from refk8s.core.api.cron_schedule import ScheduleError, parse_schedule
from refk8s.core.api.time_zones import TIME_ZONES
from refk8s.core.apiserver.validation.field import (
    Causes,
    invalid,
    malformed,
    not_negative,
    not_supported,
    required,
    too_long,
    unchanged,
)
from refk8s.core.apiserver.validation.job_policies import validate_policies
from refk8s.core.apiserver.validation.names import dns_label, domain_prefixed_path
from refk8s.core.apiserver.validation.pod import validate_template
from refk8s.core.apiserver.validation.selectors import matches, validate_selector
from refk8s.core.apiserver.validation.workloads import LABELS_DIFFER

PARALLELISM_MAX = FAILED_INDEXES_MAX = COMPLETIONS_SOFT_MAX = 100_000
PER_INDEX_MAX = 10_000
MANAGER_BYTES_MAX = 63
COMPLETION_MODES = ("NonIndexed", "Indexed")
CRON_JOB_NAME_MAX = 52
CONCURRENCY = ("Allow", "Forbid", "Replace")


def validate_job(job: Job) -> Causes:
    return (
        _validate_host_name(job) + _validate_generated(job) + _validate_job_spec(job.spec, "spec")
    )


def _validate_host_name(job: Job) -> Causes:
    """VAL-28: the host name of the last pod of an indexed job, the job's name and its index, is
    valid."""
    name, completions = job.metadata.name or "", job.spec.completions or 0
    if job.spec.completion_mode != "Indexed" or completions <= 0:
        return []
    last = f"{name}-{completions - 1}"
    return (
        [
            invalid(
                "metadata.name", name, f"will not able to create pod with invalid DNS label: {last}"
            )
        ]
        if dns_label(last)
        else []
    )


def _validate_generated(job: Job) -> Causes:
    """VAL-28: a job without `manualSelector` has labels with its name and uid."""
    if job.spec.manual_selector or job.spec.selector is None:
        return []
    causes: Causes = []
    labels = job.spec.template.metadata.labels or {}
    marks = (("controller-uid", job.metadata.uid or ""), ("job-name", job.metadata.name or ""))
    for key, value in marks:
        for name in (key, f"batch.kubernetes.io/{key}"):
            where = f"spec.template.metadata.labels[{name}]"
            if name not in labels:
                causes.append(required(where, f"must be '{value}'"))
            elif labels[name] != value:
                causes.append(invalid(where, labels[name], f"must be '{value}'"))
    known = {name: value for key, value in marks for name in (key, f"batch.kubernetes.io/{key}")}
    if not matches(job.spec.selector, known):
        causes.append(invalid("spec.selector", job.spec.selector, "`selector` not auto-generated"))
    return causes


def _validate_job_spec(spec: JobSpec, at: str) -> Causes:
    causes = _validate_template_spec(spec, at)
    if spec.selector is None:
        causes.append(required(f"{at}.selector"))
    else:
        causes += validate_selector(spec.selector, f"{at}.selector")
    if spec.selector is None or not matches(spec.selector, spec.template.metadata.labels):
        causes.append(
            invalid(f"{at}.template.metadata.labels", spec.template.metadata.labels, LABELS_DIFFER)
        )
    return causes


def _validate_template_spec(spec: JobSpec, at: str) -> Causes:
    causes: Causes = []
    for count, name in (
        (spec.parallelism, "parallelism"), (spec.completions, "completions"), (spec.active_deadline_seconds, "activeDeadlineSeconds"),
        (spec.backoff_limit, "backoffLimit"), (spec.ttl_seconds_after_finished, "ttlSecondsAfterFinished"),
        (spec.backoff_limit_per_index, "backoffLimitPerIndex"), (spec.max_failed_indexes, "maxFailedIndexes"),
    ):  # fmt: skip
        causes += not_negative(f"{at}.{name}", count)
    if spec.max_failed_indexes is not None and spec.backoff_limit_per_index is None:
        causes.append(required(f"{at}.backoffLimitPerIndex", "when maxFailedIndexes is specified"))
    if spec.completion_mode is not None and spec.completion_mode not in COMPLETION_MODES:
        causes.append(not_supported(f"{at}.completionMode", spec.completion_mode, COMPLETION_MODES))
    elif spec.completion_mode == "Indexed":
        causes += _validate_indexes(spec, at)
    else:
        for number, name in (
            (spec.backoff_limit_per_index, "backoffLimitPerIndex"),
            (spec.max_failed_indexes, "maxFailedIndexes"),
        ):
            if number is not None:
                causes.append(invalid(f"{at}.{name}", number, "requires indexed completion mode"))
    causes += validate_policies(spec, at)
    policy = spec.pod_replacement_policy
    if policy is not None:
        allowed = (
            ("Failed", "TerminatingOrFailed") if spec.pod_failure_policy is None else ("Failed",)
        )
        if policy not in allowed:
            causes.append(not_supported(f"{at}.podReplacementPolicy", policy, allowed))
    if spec.managed_by is not None:
        causes += malformed(f"{at}.managedBy", spec.managed_by, domain_prefixed_path)
        if len(spec.managed_by) > MANAGER_BYTES_MAX:
            causes.append(too_long(f"{at}.managedBy", MANAGER_BYTES_MAX))
    causes += validate_template(spec.template, f"{at}.template")
    restart = spec.template.spec.restart_policy
    where = f"{at}.template.spec.restartPolicy"
    if restart in (None, "", "Always"):
        causes.append(required(where, 'valid values: "OnFailure", "Never"'))
    elif restart not in ("OnFailure", "Never"):
        causes.append(not_supported(where, restart, ("OnFailure", "Never")))
    elif spec.pod_failure_policy is not None and restart != "Never":
        causes.append(
            invalid(where, restart, 'only "Never" is supported when podFailurePolicy is specified')
        )
    return causes


def _validate_indexes(spec: JobSpec, at: str) -> Causes:
    """VAL-28: an indexed job has completions, and bounds that limit the size of its status."""
    causes: Causes = []
    completions, parallelism, failed = (
        spec.completions,
        spec.parallelism or 0,
        spec.max_failed_indexes,
    )
    if completions is None:
        causes.append(required(f"{at}.completions", "when completion mode is Indexed"))
    if parallelism > PARALLELISM_MAX:
        words = f"must be less than or equal to {PARALLELISM_MAX} when completion mode is Indexed"
        causes.append(invalid(f"{at}.parallelism", spec.parallelism, words))
    if completions is not None and failed is not None and failed > completions:
        causes.append(
            invalid(f"{at}.maxFailedIndexes", failed, "must be less than or equal to completions")
        )
    if failed is not None and failed > FAILED_INDEXES_MAX:
        words = (
            f"must be less than or equal to {FAILED_INDEXES_MAX} when completion mode is Indexed"
        )
        causes.append(invalid(f"{at}.maxFailedIndexes", failed, words))
    if (completions or 0) > COMPLETIONS_SOFT_MAX and spec.backoff_limit_per_index is not None:
        words = (
            f"must be less than or equal to {PER_INDEX_MAX} when completions are above "
            f"{COMPLETIONS_SOFT_MAX}"
        )
        if failed is None:
            causes.append(
                required(
                    f"{at}.maxFailedIndexes",
                    f"must be specified when completions is above {COMPLETIONS_SOFT_MAX}",
                )
            )
        elif failed > PER_INDEX_MAX:
            causes.append(invalid(f"{at}.maxFailedIndexes", failed, words))
        if parallelism > PER_INDEX_MAX:
            causes.append(invalid(f"{at}.parallelism", spec.parallelism, words))
    return causes


def validate_job_update(new: Job, old: Job) -> Causes:
    """VAL-28: selector, template and completions are immutable, except for a suspended job that has
    not started and for an elastic one."""
    before, after = old.spec, new.spec
    if after is before:
        return []
    causes = _validate_job_spec(after, "spec")
    elastic = (
        after.completion_mode == "Indexed"
        and after.completions is not None
        and before.completions is not None
    )
    if elastic:
        # both or none: a value that changes alone could complete the Job or make it impossible
        if after.completions != before.completions and after.completions != after.parallelism:
            words = "can only be modified in tandem with spec.parallelism"
            causes.append(invalid("spec.completions", after.completions, words))
    else:
        causes += unchanged("spec.completions", after.completions, before.completions)
    causes += unchanged("spec.selector", after.selector, before.selector)
    if before.suspend and old.status.start_time is None:
        if _without_directives(after.template) != _without_directives(before.template):
            causes.append(invalid("spec.template.spec", None, "field is immutable"))
    elif after.template != before.template:
        causes.append(invalid("spec.template", None, "field is immutable"))
    causes += unchanged("spec.completionMode", after.completion_mode, before.completion_mode)
    causes += unchanged(
        "spec.podFailurePolicy", after.pod_failure_policy, before.pod_failure_policy
    )
    causes += unchanged(
        "spec.backoffLimitPerIndex", after.backoff_limit_per_index, before.backoff_limit_per_index
    )
    causes += unchanged("spec.managedBy", after.managed_by, before.managed_by)
    return causes + unchanged("spec.successPolicy", after.success_policy, before.success_policy)


def _without_directives(template: PodTemplateSpec) -> PodSpec:
    """The part of the template that is immutable for a job that has not started: all but node
    selector, node affinity, tolerations, gates and resources."""
    spec = replace(template.spec, node_selector=None, tolerations=None, scheduling_gates=None)
    if spec.affinity is not None:
        others = replace(spec.affinity, node_affinity=None)
        spec = replace(spec, affinity=None if others == Affinity() else others)
    bare = tuple(
        [replace(container, resources=ResourceRequirements()) for container in spec.containers]
    )
    first = spec.init_containers and tuple(
        [replace(container, resources=ResourceRequirements()) for container in spec.init_containers]
    )
    return replace(spec, containers=bare, init_containers=first)


def validate_cron_job(cron_job: CronJob) -> Causes:
    causes: Causes = []
    name = cron_job.metadata.name or ""
    if len(name) > CRON_JOB_NAME_MAX:  # the name of its job is eleven characters longer
        causes.append(
            invalid("metadata.name", name, f"must be no more than {CRON_JOB_NAME_MAX} characters")
        )
    return causes + _validate_cron_spec(cron_job)


def validate_cron_job_update(new: CronJob, old: CronJob) -> Causes:
    return [] if new.spec is old.spec else _validate_cron_spec(new)


def _validate_cron_spec(cron_job: CronJob) -> Causes:
    spec = cron_job.spec
    causes: Causes = []
    if not spec.schedule:
        causes.append(required("spec.schedule"))
    elif "TZ" in spec.schedule:
        causes.append(
            invalid(
                "spec.schedule",
                spec.schedule,
                "cannot use TZ or CRON_TZ in schedule, use timeZone field instead",
            )
        )
    else:
        try:
            parse_schedule(spec.schedule)
        except ScheduleError as error:
            causes.append(invalid("spec.schedule", spec.schedule, str(error)))
    causes += not_negative("spec.startingDeadlineSeconds", spec.starting_deadline_seconds)
    if not spec.concurrency_policy:
        causes.append(required("spec.concurrencyPolicy"))
    elif spec.concurrency_policy not in CONCURRENCY:
        causes.append(not_supported("spec.concurrencyPolicy", spec.concurrency_policy, CONCURRENCY))
    zone = spec.time_zone
    if zone is not None and not zone:
        causes.append(invalid("spec.timeZone", zone, "timeZone must be nil or non-empty string"))
    elif zone is not None and zone.lower() == "local":
        words = (
            "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones"
        )
        causes.append(invalid("spec.timeZone", zone, words))
    elif zone is not None and zone not in TIME_ZONES:
        causes.append(invalid("spec.timeZone", zone, f"unknown time zone {zone}"))
    causes += not_negative("spec.successfulJobsHistoryLimit", spec.successful_jobs_history_limit)
    causes += not_negative("spec.failedJobsHistoryLimit", spec.failed_jobs_history_limit)
    job = spec.job_template.spec
    causes += _validate_template_spec(job, "spec.jobTemplate.spec")
    if job.selector is not None:
        causes.append(
            invalid(
                "spec.jobTemplate.spec.selector", job.selector, "`selector` will be auto-generated"
            )
        )
    if job.manual_selector:
        causes.append(not_supported("spec.jobTemplate.spec.manualSelector", True, ("nil", "false")))
    return causes
