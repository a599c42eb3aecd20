"""One metric of an autoscaler: from the answer of metrics.k8s.io to a number of replicas and a
status. Rules HPA-3, HPA-4, HPA-7 (spec/workloads/autoscaler.md). Those of other API servers are in
autoscaler_custom.py.

Source: Kubernetes documentation, "Resource metrics pipeline", "Horizontal Pod Autoscaling".
"""

from refk8s.core.api.autoscaling_v1 import Scale
from refk8s.core.api.autoscaling_v2 import (
    ContainerResourceMetricStatus,
    HorizontalPodAutoscaler,
    HPAScalingRules,
    MetricSpec,
    MetricStatus,
    MetricTarget,
    MetricValueStatus,
    ResourceMetricStatus,
)
from refk8s.core.api.core_v1 import Pod
from refk8s.core.api.cron_schedule import ScheduleError, parse_duration
from refk8s.core.api.quantity import NANO, QuantityError, parse
from refk8s.core.api.request import Request, Response
from refk8s.core.context import Instant
from refk8s.core.controllers.autoscaler_custom import (
    UNABLE,
    Answers,
    compute_custom,
    instant_of,
    quantity_of,
)
from refk8s.core.controllers.autoscaler_replicas import (
    TOLERANCE,
    Proposal,
    Sample,
    Samples,
    Tolerances,
    Uncomputable,
    by_average,
    by_utilization,
)

RESOURCES = "metrics.k8s.io"
"""The key of the answer of metrics.k8s.io."""


def compute_metric(
    hpa: HorizontalPodAutoscaler,
    spec: MetricSpec,
    question: Request | str | None,
    answers: Answers,
    pods: list[Pod],
    scale: Scale,
    now: Instant,
) -> tuple[int, str, MetricStatus]:
    """The replicas for one metric, its name in messages, and its status. `question`: of
    `question_of`, for a metric of another API server. Raises Uncomputable."""
    current = scale.spec.replicas or 0
    answer = answers.get(RESOURCES)
    if spec.type == "Resource" and spec.resource is not None:
        source = spec.resource
        proposal, name = _of_resource(
            hpa, source.name, "", source.target, answer, pods, current, now
        )
        value = ResourceMetricStatus(name=source.name, current=_value_of(proposal))
        return proposal.replicas, name, MetricStatus(type="Resource", resource=value)
    if spec.type == "ContainerResource" and spec.container_resource is not None:
        of = spec.container_resource
        proposal, name = _of_resource(
            hpa, of.name, of.container, of.target, answer, pods, current, now
        )
        found = ContainerResourceMetricStatus(
            name=of.name, container=of.container, current=_value_of(proposal)
        )
        name = name.replace(" resource", " container resource", 1)
        status = MetricStatus(type="ContainerResource", container_resource=found)
        return proposal.replicas, name, status
    assert question is not None
    present, namespace = scale.status.replicas, hpa.metadata.namespace or ""
    tolerances = _tolerances(hpa)
    return compute_custom(
        spec, question, answers, pods, current, present, tolerances, namespace, now
    )


def prefix_of(spec: MetricSpec) -> str:
    """Upstream's words before the reason, where it reports the first of several metrics."""
    if spec.type == "Resource" and spec.resource is not None:
        return f"failed to get {spec.resource.name} resource metric value: "
    if spec.type == "ContainerResource" and spec.container_resource is not None:
        return f"failed to get {spec.container_resource.container} container metric value: "
    if spec.type == "External" and spec.external is not None:
        name = spec.external.metric.name
        return f"failed to get {name} external metric value: failed to get {name} external metric: "
    return f"failed to get {spec.type.lower()} metric value: "


def _of_resource(
    hpa: HorizontalPodAutoscaler,
    resource: str,
    container: str,
    target: MetricTarget,
    answer: Response | None,
    pods: list[Pod],
    current: int,
    now: Instant,
) -> tuple[Proposal, str]:
    """The proposal for the use of a resource, of whole pods or of one container, and the name."""
    kind = "utilization" if target.average_value is None else "usage"
    tolerances = _tolerances(hpa)
    try:
        samples = _samples(answer, resource, container)
        if target.average_value is not None:
            goal = max(_milli(target.average_value), 1)
            found = by_average(pods, samples, current, goal, tolerances, resource, now)
            return found, f"{resource} resource"
        goal = max(target.average_utilization or 0, 1)
        found = by_utilization(pods, samples, current, goal, tolerances, resource, container, now)
    except Uncomputable as error:
        raise Uncomputable(f"failed to get {resource} {kind}: {error}") from None
    return found, f"{resource} resource utilization (percentage of request)"


def _samples(response: Response | None, resource: str, container: str) -> Samples:
    """What the pods use, from the answer of metrics.k8s.io. Raises Uncomputable."""
    where = f"unable to get metrics for resource {resource}"
    if response is None or not response.ok:
        words = words_of(response, UNABLE)
        raise Uncomputable(f"{where}: unable to fetch metrics from resource metrics API: {words}")
    if not response.body.items:
        raise Uncomputable(f"{where}: no metrics returned from resource metrics API")
    found: dict[str, Sample] = {}
    for item in response.body.items:
        total, is_complete, names = 0, True, False
        for one in item.containers:
            if container in ("", one.name):
                names = True
                text = one.usage.get(resource)
                is_complete = is_complete and text is not None
                total += _milli(text) if text is not None else 0
        if is_complete and names:
            found[item.metadata.name or ""] = Sample(
                total, instant_of(item.timestamp), _span(item.window)
            )
        elif container and not names:
            raise Uncomputable(f"{where}: container {container} not present in metrics for pod {item.metadata.namespace}/{item.metadata.name}")  # fmt: skip
    return found


def _tolerances(hpa: HorizontalPodAutoscaler) -> Tolerances:
    behavior = hpa.spec.behavior
    if behavior is None:
        return Tolerances()
    return Tolerances(_tolerance(behavior.scale_down), _tolerance(behavior.scale_up))


def words_of(response: Response | None, default: str) -> str:
    """The message of a failure."""
    return str(getattr(response.body, "message", None) or default) if response else default


def _value_of(proposal: Proposal) -> MetricValueStatus:
    return MetricValueStatus(
        average_utilization=proposal.percent, average_value=quantity_of(proposal.average)
    )


def _milli(text: str) -> int:
    try:
        return parse(text).milli
    except QuantityError:
        return 0


def _span(text: str) -> Instant:
    try:
        return parse_duration(text)
    except ScheduleError:
        return 0


def _tolerance(rules: HPAScalingRules | None) -> float:
    text = rules.tolerance if rules is not None else None
    return TOLERANCE if text is None else parse(text).nano / NANO
