"""Warnings about workloads and their pod templates. Rule WARN-4 (spec/validation.md).

An update warns of its template only if it changes the desired state: a change of the status or of a
label does not repeat warnings. Source: Kubernetes documentation, "Object Names and IDs", "Jobs",
"CronJob".
"""

from typing import Any

from refk8s.core.api.apps_v1 import StatefulSet
from refk8s.core.api.batch_v1 import CronJob, Job, JobSpec
from refk8s.core.api.core_v1 import PodTemplate, PodTemplateSpec, ReplicationController
from refk8s.core.apiserver.validation.names import dns_label
from refk8s.core.apiserver.warnings.pods import go_list, of_spec, of_storage

COMPLETIONS_HIGH, PARALLELISM_HIGH = 100_000, 10_000


def of_template(template: PodTemplateSpec, at: str) -> list[str]:
    return of_spec(template.spec, template.metadata, at)


def of_workload(new: Any, old: Any) -> list[str]:
    """A Deployment, ReplicaSet or DaemonSet."""
    return _of_name(new, old) + (
        of_template(new.spec.template, "spec.template") if _is_new(new, old) else []
    )


def _is_new(new: Any, old: Any) -> bool:
    return old is None or new.metadata.generation != old.metadata.generation


def _of_name(new: Any, old: Any) -> list[str]:
    words = dns_label(new.metadata.name or "") if old is None else ()
    if not words:
        return []
    why = (
        "this is used in Pod names and hostnames, which can result in surprising behavior; "
        "a DNS label is recommended"
    )
    return [f"metadata.name: {why}: {go_list(words)}"]


def of_pod_template(new: PodTemplate, old: PodTemplate | None) -> list[str]:
    return of_template(new.template, "template") if _is_new(new, old) else []


def of_replication_controller(
    new: ReplicationController, old: ReplicationController | None
) -> list[str]:
    template = new.spec.template
    return _of_name(new, old) + (
        of_template(template, "spec.template") if template is not None and _is_new(new, old) else []
    )


def of_stateful_set(new: StatefulSet, old: StatefulSet | None) -> list[str]:
    warnings = []
    if _is_new(new, old):
        warnings += of_template(new.spec.template, "spec.template")
        for position, claim in enumerate(new.spec.volume_claim_templates or ()):
            warnings += of_storage(
                claim.spec.resources.requests,
                f"spec.volumeClaimTemplates[{position}].spec.resources.requests",
            )
    if (new.spec.revision_history_limit or 0) < 0:
        warnings.append(
            "spec.revisionHistoryLimit: a negative value retains all historical revisions; "
            "a value >= 0 is recommended"
        )
    return warnings


def of_job(new: Job, old: Job | None) -> list[str]:
    return _of_name(new, old) + (_of_job_spec(new.spec, "spec") if _is_new(new, old) else [])


def _of_job_spec(spec: JobSpec, at: str) -> list[str]:
    warnings = []
    if (
        spec.completion_mode == "Indexed"
        and (spec.completions or 0) > COMPLETIONS_HIGH
        and (spec.parallelism or 0) > PARALLELISM_HIGH
    ):
        words = (
            f"In Indexed Jobs with a number of completions higher than {COMPLETIONS_HIGH} the "
            "parallelism must be less than or equal to"
        )
        warnings.append(f"{at}: {words} {PARALLELISM_HIGH}")
    return warnings + of_template(spec.template, f"{at}.template")


def of_cron_job(new: CronJob, old: CronJob | None) -> list[str]:
    warnings = _of_name(new, old)
    if _is_new(new, old):
        warnings += _of_job_spec(new.spec.job_template.spec, "spec.jobTemplate.spec")
    return warnings
