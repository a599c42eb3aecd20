"""Defaults of jobs and cron jobs. Rule DEF-18 (spec/defaults.md).

Source: Kubernetes documentation, "Jobs", "CronJob". Left out: the selector and labels that a job
gets on create (admission, ADM-10).
"""

from typing import Any

from msgspec.structs import replace

from refk8s.core.api.batch_v1 import CronJob, Job, JobSpec, PodFailurePolicy
from refk8s.core.apiserver.defaults.pod import default_template

BACKOFF_LIMIT = 6
BACKOFF_LIMIT_UNBOUNDED = 2**31 - 1


def default_job(job: Job) -> Job:
    spec = default_job_spec(job.spec)
    metadata, labels = job.metadata, job.spec.template.metadata.labels
    if labels and not metadata.labels:
        # a job without labels gets those of its template
        metadata = replace(metadata, labels=labels)
    return (
        job
        if spec is job.spec and metadata is job.metadata
        else replace(job, spec=spec, metadata=metadata)
    )


def default_job_spec(spec: JobSpec) -> JobSpec:
    """DEF-18: one completion by one pod, and six retries; with a limit per index the total is
    unlimited."""
    changed: dict[str, Any] = {}
    if spec.completions is None and spec.parallelism is None:
        changed["completions"] = 1
    if spec.parallelism is None:
        changed["parallelism"] = 1
    if spec.backoff_limit is None:
        changed["backoff_limit"] = (
            BACKOFF_LIMIT if spec.backoff_limit_per_index is None else BACKOFF_LIMIT_UNBOUNDED
        )
    if spec.completion_mode is None:
        changed["completion_mode"] = "NonIndexed"
    if spec.suspend is None:
        changed["suspend"] = False
    if spec.manual_selector is None:
        changed["manual_selector"] = False
    if spec.pod_replacement_policy is None:
        changed["pod_replacement_policy"] = (
            "TerminatingOrFailed" if spec.pod_failure_policy is None else "Failed"
        )
    policy = _default_failure_policy(spec.pod_failure_policy)
    if policy is not spec.pod_failure_policy:
        changed["pod_failure_policy"] = policy
    template = default_template(spec.template)
    if template is not spec.template:
        changed["template"] = template
    return replace(spec, **changed) if changed else spec


def _default_failure_policy(policy: PodFailurePolicy | None) -> PodFailurePolicy | None:
    """DEF-18: the condition of a pod that a rule names is to be True."""
    if policy is None or all(
        pattern.status for rule in policy.rules for pattern in rule.on_pod_conditions or ()
    ):
        return policy
    return replace(policy, rules=tuple([
        replace(rule, on_pod_conditions=rule.on_pod_conditions and tuple(
            [replace(pattern, status=pattern.status or "True") for pattern in rule.on_pod_conditions]
        ))
        for rule in policy.rules
    ]))  # fmt: skip


def default_cron_job(cron_job: CronJob) -> CronJob:
    """DEF-18: concurrent runs are allowed; three successful jobs and one failed job are kept. Of
    the job template only its pod template and the conditions of its failure policy are
    defaulted."""
    spec = cron_job.spec
    changed: dict[str, Any] = {}
    if not spec.concurrency_policy:
        changed["concurrency_policy"] = "Allow"
    if spec.suspend is None:
        changed["suspend"] = False
    if spec.successful_jobs_history_limit is None:
        changed["successful_jobs_history_limit"] = 3
    if spec.failed_jobs_history_limit is None:
        changed["failed_jobs_history_limit"] = 1
    job = spec.job_template.spec
    template = default_template(job.template)
    policy = _default_failure_policy(job.pod_failure_policy)
    if template is not job.template or policy is not job.pod_failure_policy:
        job = replace(job, template=template, pod_failure_policy=policy)
        changed["job_template"] = replace(spec.job_template, spec=job)
    return replace(cron_job, spec=replace(spec, **changed)) if changed else cron_job
