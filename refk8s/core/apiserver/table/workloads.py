"""The tables of workloads: controllers of pods, autoscalers, disruption budgets. Rules TABLE-1,
TABLE-10 (spec/table.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from refk8s.core.apiserver.table.duration import age, human_duration
from refk8s.core.apiserver.table.layout import (
    AGE,
    CONTAINERS,
    IMAGES,
    NAME,
    NONE,
    SELECTOR,
    UNKNOWN,
    UNSET,
    Cells,
    Column,
    Layout,
    container_cells,
    integer,
    labels_text,
    named,
    selector_text,
)
from refk8s.core.context import Instant, parse_timestamp

if TYPE_CHECKING:
    from refk8s.core.api.apps_v1 import (
        ControllerRevision,
        DaemonSet,
        Deployment,
        ReplicaSet,
        StatefulSet,
    )
    from refk8s.core.api.autoscaling_v2 import (
        MetricSpec,
        MetricStatus,
        MetricTarget,
        MetricValueStatus,
    )
    from refk8s.core.api.batch_v1 import CronJob, Job
    from refk8s.core.api.core_v1 import PodTemplate, ReplicationController
    from refk8s.core.api.policy_v1 import PodDisruptionBudget

METRICS_SHOWN_MAX = 2


def deployment(one: Deployment, now: Instant) -> Cells:
    status, replicas = one.status, one.spec.replicas
    ready = f"{status.ready_replicas or 0}/{1 if replicas is None else replicas}"
    counts = ready, status.updated_replicas or 0, status.available_replicas or 0
    return (
        *named(one, now, *counts),
        *container_cells(one.spec.template.spec.containers),
        selector_text(one.spec.selector),
    )


def replica_set(one: ReplicaSet, now: Instant) -> Cells:
    counts = _desired(one.spec.replicas), one.status.replicas, one.status.ready_replicas or 0
    template = one.spec.template
    containers = (
        template.spec.containers if template is not None and template.spec is not None else ()
    )
    return (
        *named(one, now, *counts),
        *container_cells(containers),
        selector_text(one.spec.selector) or NONE,
    )


def replication_controller(one: ReplicationController, now: Instant) -> Cells:
    counts = _desired(one.spec.replicas), one.status.replicas, one.status.ready_replicas or 0
    template = one.spec.template
    containers = (
        template.spec.containers if template is not None and template.spec is not None else ()
    )
    return *named(one, now, *counts), *container_cells(containers), labels_text(one.spec.selector)


def _desired(replicas: int | None) -> int:
    return 1 if replicas is None else replicas


def stateful_set(one: StatefulSet, now: Instant) -> Cells:
    ready = f"{one.status.ready_replicas or 0}/{_desired(one.spec.replicas)}"
    return *named(one, now, ready), *container_cells(one.spec.template.spec.containers)


def daemon_set(one: DaemonSet, now: Instant) -> Cells:
    status, pod = one.status, one.spec.template.spec
    counts = (
        status.desired_number_scheduled, status.current_number_scheduled, status.number_ready, status.updated_number_scheduled or 0,
        status.number_available or 0,
    )  # fmt: skip
    selector = selector_text(one.spec.selector) or NONE
    return (
        *named(one, now, *counts, labels_text(pod.node_selector)),
        *container_cells(pod.containers),
        selector,
    )


def job(one: Job, now: Instant) -> Cells:
    spec, status = one.spec, one.status
    succeeded = status.succeeded or 0
    if spec.completions is not None:
        completions = f"{succeeded}/{spec.completions}"
    else:
        completions = (
            f"{succeeded}/1 of {spec.parallelism}"
            if (spec.parallelism or 0) > 1
            else f"{succeeded}/1"
        )
    return (
        *named(one, now, _job_status(one), completions, _job_duration(one, now)),
        *container_cells(spec.template.spec.containers),
        selector_text(spec.selector) or NONE,
    )


def _job_status(one: Job) -> str:
    """The first of these that holds (TABLE-10)."""
    true = [
        condition.type for condition in one.status.conditions or () if condition.status == "True"
    ]
    for condition, text in (("Complete", "Complete"), ("Failed", "Failed")):
        if condition in true:
            return text
    if one.metadata.deletion_timestamp is not None:
        return "Terminating"
    for text in ("Suspended", "FailureTarget"):
        if text in true:
            return text
    return "Running"


def _job_duration(one: Job, now: Instant) -> str:
    start, end = one.status.start_time, one.status.completion_time
    if start is None:
        return ""
    return human_duration((now if end is None else parse_timestamp(end)) - parse_timestamp(start))


def cron_job(one: CronJob, now: Instant) -> Cells:
    spec, status = one.spec, one.status
    suspend = UNSET if spec.suspend is None else str(spec.suspend)
    last = NONE if status.last_schedule_time is None else age(status.last_schedule_time, now)
    job_spec = spec.job_template.spec
    containers = job_spec.template.spec.containers if job_spec is not None else ()
    return (
        *named(
            one, now, spec.schedule, spec.time_zone or NONE, suspend, len(status.active or ()), last
        ),
        *container_cells(containers),
        (selector_text(job_spec.selector) if job_spec is not None else "") or NONE,
    )


def pod_template(one: PodTemplate, now: Instant) -> Cells:
    spec = one.template.spec
    labels = one.template.metadata.labels if one.template.metadata is not None else None
    return (
        one.metadata.name or "",
        *container_cells(spec.containers if spec is not None else ()),
        labels_text(labels),
    )


def controller_revision(one: ControllerRevision, now: Instant) -> Cells:
    owner = next((owner for owner in one.metadata.owner_references or () if owner.controller), None)
    controller = NONE
    if owner is not None:
        group = owner.api_version.rpartition("/")[0]
        controller = f"{owner.kind}.{group}".rstrip(".").lower() + f"/{owner.name}"
    return named(one, now, controller, one.revision)


def pod_disruption_budget(one: PodDisruptionBudget, now: Instant) -> Cells:
    spec = one.spec
    limits = [
        "N/A" if limit is None else str(limit)
        for limit in (spec.min_available, spec.max_unavailable)
    ]
    return named(one, now, *limits, one.status.disruptions_allowed)


def scale(one: Any, now: Instant) -> Cells:
    return named(one, now, one.spec.replicas or 0, one.status.replicas)


# --- horizontal pod autoscalers


def horizontal_pod_autoscaler(one: Any, now: Instant) -> Cells:
    """Of either version: v1 has only a CPU target, v2 any metrics."""
    spec = one.spec
    target = f"{spec.scale_target_ref.kind}/{spec.scale_target_ref.name}"
    metrics = (
        _metrics_v1(one)
        if one.api_version == "autoscaling/v1"
        else _metrics(spec.metrics or (), one.status.current_metrics or ())
    )
    least = UNSET if spec.min_replicas is None else str(spec.min_replicas)
    return named(
        one, now, target, metrics, least, spec.max_replicas, one.status.current_replicas or 0
    )


def _metrics_v1(one: Any) -> str:
    wanted, current = (
        one.spec.target_cpu_utilization_percentage,
        one.status.current_cpu_utilization_percentage,
    )
    return (
        NONE
        if wanted is None
        else f"cpu: {UNKNOWN if current is None else f'{current}%'}/{wanted}%"
    )


def _metrics(specs: tuple[MetricSpec, ...], statuses: tuple[MetricStatus, ...]) -> str:
    """`cpu: 30%/80%, memory: 10Mi/20Mi + 1 more...`: current over target, status and specification
    in the same order."""
    if not specs:
        return NONE
    texts = [
        _metric(spec, statuses[place] if place < len(statuses) else None)
        for place, spec in enumerate(specs)
    ]
    shown = ", ".join(texts[:METRICS_SHOWN_MAX])
    return (
        shown
        if len(texts) <= METRICS_SHOWN_MAX
        else f"{shown} + {len(texts) - METRICS_SHOWN_MAX} more..."
    )


def _metric(spec: MetricSpec, status: MetricStatus | None) -> str:
    parts = {
        "External": spec.external, "Pods": spec.pods, "Object": spec.object, "Resource": spec.resource,
        "ContainerResource": spec.container_resource,
    }  # fmt: skip
    part: Any = parts.get(spec.type)
    if part is None:
        return "<unknown type>"
    attribute = "container_resource" if spec.type == "ContainerResource" else spec.type.lower()
    told = getattr(status, attribute, None)
    current: MetricValueStatus | None = told.current if told is not None else None
    target: MetricTarget = part.target
    if spec.type == "Pods":
        return f"{_value(current, 'average_value')}/{target.average_value or '0'}"
    if spec.type in ("Resource", "ContainerResource"):
        if target.average_value is not None:
            return f"{part.name}: {_value(current, 'average_value')}/{target.average_value}"
        used = None if current is None else current.average_utilization
        wanted = (
            "<auto>" if target.average_utilization is None else f"{target.average_utilization}%"
        )
        return f"{part.name}: {UNKNOWN if used is None else f'{used}%'}/{wanted}"
    if target.average_value is not None:
        return f"{_value(current, 'average_value')}/{target.average_value} (avg)"
    return f"{_value(current, 'value')}/{target.value or '0'}"


def _value(current: MetricValueStatus | None, attribute: str) -> str:
    found = getattr(current, attribute, None)
    return UNKNOWN if found is None else str(found)


# --- columns

_DESIRED = integer("Desired", "The desired number of pods.")
_CURRENT = integer("Current", "The number of pods.")
_READY = integer("Ready", "The number of ready pods.")
_READY_OF = Column("Ready", "The number of ready and of desired pods.")
_POD_COLUMNS = (CONTAINERS, IMAGES, SELECTOR)

_HPA = Layout(
    (
        NAME, Column("Reference", "The scaled object."), Column("Targets", "Current values and targets of the metrics."),
        Column("MinPods", "The minimum number of pods."), Column("MaxPods", "The maximum number of pods."),
        Column("Replicas", "The number of pods."), AGE,
    ),
    horizontal_pod_autoscaler,
)  # fmt: skip

LAYOUTS: dict[tuple[str, str], Layout] = {
    ("apps", "Deployment"): Layout(
        (
            NAME, _READY_OF, Column("Up-to-date", "The number of pods with the current template."),
            Column("Available", "The number of available pods."), AGE, *_POD_COLUMNS,
        ),
        deployment,
    ),
    ("apps", "ReplicaSet"): Layout((NAME, _DESIRED, _CURRENT, _READY, AGE, *_POD_COLUMNS), replica_set),
    ("", "ReplicationController"): Layout((NAME, _DESIRED, _CURRENT, _READY, AGE, *_POD_COLUMNS), replication_controller),
    ("apps", "StatefulSet"): Layout((NAME, _READY_OF, AGE, CONTAINERS, IMAGES), stateful_set),
    ("apps", "DaemonSet"): Layout(
        (
            NAME, integer("Desired", "The number of nodes that should run the pod."), integer("Current", "The number of nodes that run the pod."), _READY,
            integer("Up-to-date", "The number of nodes with the current template."), integer("Available", "The number of available pods."),
            Column("Node Selector", "The node selector of its pods."), AGE, *_POD_COLUMNS,
        ),
        daemon_set,
    ),
    ("apps", "ControllerRevision"): Layout(
        (NAME, Column("Controller", "The object with this revision."), Column("Revision", "The number of the revision."), AGE), controller_revision,
    ),
    ("batch", "Job"): Layout(
        (
            NAME, Column("Status", "The status of the job."), Column("Completions", "The number of succeeded pods and of desired completions."),
            Column("Duration", "The time from start to completion, or until now."), AGE, *_POD_COLUMNS,
        ),
        job,
    ),
    ("batch", "CronJob"): Layout(
        (
            NAME, Column("Schedule", "When it starts a job, in cron format."), Column("Timezone", "The zone of the schedule."),
            Column("Suspend", "Whether new jobs are suspended.", type="boolean"), integer("Active", "The number of running jobs."),
            Column("Last Schedule", "The time since it last started a job."), AGE, *_POD_COLUMNS,
        ),
        cron_job,
    ),
    ("", "PodTemplate"): Layout(
        (
            NAME, Column("Containers", "The names of the containers."), Column("Images", "The images of the containers."),
            Column("Pod Labels", "The labels of the pods."),
        ),
        pod_template,
    ),
    ("policy", "PodDisruptionBudget"): Layout(
        (
            NAME, Column("Min Available", "The minimum number of available pods."),
            Column("Max Unavailable", "The maximum number of unavailable pods."),
            integer("Allowed Disruptions", "The number of pods that may be evicted now."), AGE,
        ),
        pod_disruption_budget,
    ),
    ("autoscaling", "HorizontalPodAutoscaler"): _HPA,
    ("autoscaling", "Scale"): Layout(
        (Column("Name", NAME.description), _DESIRED, integer("Available", "The number of pods."), AGE), scale,
    ),
}  # fmt: skip
