"""One metric of an autoscaler: from the answer of metrics.k8s.io to a number of replicas and a
status. Rules HPA-3, HPA-4, HPA-7 (spec/workloads/autoscaler.md).

Source: Kubernetes documentation, "Resource metrics pipeline", "Horizontal Pod Autoscaling". Left
out: custom and external metrics, whose API servers cannot be added here (D-19).
"""

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
from refk8s.core.api.quantity import NANO, Amount, QuantityError, parse
from refk8s.core.api.request import Response
from refk8s.core.context import Instant, parse_timestamp
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

UNKNOWN_PATH = "the server could not find the requested resource"


def compute_metric(
    hpa: HorizontalPodAutoscaler,
    spec: MetricSpec,
    answer: Response | None,
    pods: list[Pod],
    current: int,
    now: Instant,
) -> tuple[int, str, MetricStatus]:
    """The replicas for one metric, its name in messages, and its status. Raises Uncomputable."""
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
    raise Uncomputable(_not_served(spec, hpa.metadata.namespace or ""))


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
        words = words_of(response, "the server is currently unable to handle the request")
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
            found[item.metadata.name or ""] = Sample(total, _at(item.timestamp), _span(item.window))
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


def _not_served(spec: MetricSpec, namespace: str) -> str:
    """Why a metric of another API is not there: no server of that API can be added (D-19)."""
    if spec.type == "External" and spec.external is not None:
        name = spec.external.metric.name
        where = f"{namespace}/{name}/nil: unable to fetch metrics from external metrics API"
        return f"failed to get {name} external metric: unable to get external metric {where}: {UNKNOWN_PATH} (get {name}.external.metrics.k8s.io)"  # fmt: skip
    source = spec.pods if spec.type == "Pods" else spec.object
    name = source.metric.name if source is not None else ""
    plural = "pods.custom.metrics.k8s.io *"
    if spec.type == "Object" and spec.object is not None:
        described = spec.object.described_object
        plural = f"{described.kind.lower()}s.custom.metrics.k8s.io {described.name}"
    kind = "pods" if spec.type == "Pods" else "object"
    words = f"unable to fetch metrics from custom metrics API: {UNKNOWN_PATH} (get {plural})"
    return f"failed to get {kind} metric value: unable to get metric {name}: {words}"


def _value_of(proposal: Proposal) -> MetricValueStatus:
    return MetricValueStatus(
        average_utilization=proposal.percent, average_value=_quantity(proposal.average)
    )


def _quantity(milli: int) -> str:
    return str(Amount(milli * (NANO // 1000)))


def _milli(text: str) -> int:
    try:
        return parse(text).milli
    except QuantityError:
        return 0


def _at(text: str) -> Instant:
    try:
        return parse_timestamp(text)
    except ValueError:
        return 0


def _span(text: str) -> Instant:
    try:
        return parse_duration(text)
    except ScheduleError:
        return 0


def _tolerance(rules: HPAScalingRules | None) -> float:
    text = rules.tolerance if rules is not None else None
    return TOLERANCE if text is None else parse(text).nano / NANO
