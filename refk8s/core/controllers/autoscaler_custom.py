"""Metrics of an autoscaler that other API servers have: types Pods, Object and External. Rules
HPA-3, HPA-13, HPA-14 (spec/workloads/autoscaler.md).

    /apis/custom.metrics.k8s.io/VERSION/namespaces/NS/pods/*/METRIC                    Pods
    /apis/custom.metrics.k8s.io/VERSION/namespaces/NS/RESOURCE.GROUP/NAME/METRIC       Object
    /apis/custom.metrics.k8s.io/VERSION/namespaces/NS/metrics/METRIC                   Object: the namespace
    /apis/external.metrics.k8s.io/v1beta1/namespaces/NS/METRIC                         External

Source: Kubernetes documentation, "Horizontal Pod Autoscaling" (scaling on custom metrics,
algorithm details), "HorizontalPodAutoscaler Walkthrough"; design proposals "Custom Metrics API",
"External Metrics API".
"""

from collections.abc import Mapping
from typing import Any, Final

from refk8s.core.api.aggregated import aggregated_resource
from refk8s.core.api.autoscaling_v2 import (
    CrossVersionObjectReference,
    ExternalMetricStatus,
    MetricSpec,
    MetricStatus,
    MetricTarget,
    MetricValueStatus,
    ObjectMetricStatus,
    PodsMetricStatus,
)
from refk8s.core.api.core_v1 import Pod
from refk8s.core.api.meta_v1 import LabelSelector
from refk8s.core.api.quantity import NANO, Amount, QuantityError, parse
from refk8s.core.api.request import Options, Request, Response
from refk8s.core.api.resources import API_SERVICES, by_kind
from refk8s.core.api.selector import from_label_selector
from refk8s.core.context import MINUTE, SECOND, Instant, parse_timestamp
from refk8s.core.controllers.autoscaler_replicas import (
    Sample,
    Tolerances,
    Uncomputable,
    by_average,
    by_ratio,
    by_sum,
)
from refk8s.core.loop.custom import custom_by_kind
from refk8s.core.loop.view import View

CUSTOM, EXTERNAL = "custom.metrics.k8s.io", "external.metrics.k8s.io"
CUSTOM_VERSIONS: Final = ("v1beta2", "v1beta1")
EXTERNAL_VERSION: Final = "v1beta1"
UNKNOWN_PATH: Final = "the server could not find the requested resource"
UNABLE: Final = "the server is currently unable to handle the request"
WINDOW: Final[Instant] = 1 * MINUTE
"""Over which a pod's value was measured, if the other server does not say."""
MILLI_MAX: Final = (1 << 63) - 1
OF_CUSTOM, OF_EXTERNAL = "custom metrics API", "external metrics API"
OF_OTHERS: Final = frozenset(("Pods", "Object", "External"))

Answers = Mapping[str, Response]
"""The answers of the present round, by the key of the question."""


def question_key(request: Request) -> str:
    """What identifies a question; equal questions have the same answer."""
    resource, options = request.resource, request.options
    where = f"{resource.api_version}/{resource.plural}/{request.name}/{request.subresource}"
    return f"{where}?{options.label_selector}&{options.metric_label_selector}"


def question_of(view: View, spec: MetricSpec, namespace: str, selector: str) -> Request | str:
    """The question for one metric, or why there is none. `selector`: of the target's pods."""
    if spec.type == "External" and spec.external is not None:
        metric = spec.external.metric
        resource = aggregated_resource(EXTERNAL, EXTERNAL_VERSION, metric.name)
        options = Options(label_selector=str(from_label_selector(metric.selector)))
        return Request("get", resource, namespace, options=options, because="its metric")
    version = _custom_version(view)
    if not version:
        return f"no custom metrics API ({CUSTOM}) registered"
    if spec.type == "Pods" and spec.pods is not None:
        metric = spec.pods.metric
        options = Options(
            label_selector=selector, metric_label_selector=str(from_label_selector(metric.selector))
        )
        place = (aggregated_resource(CUSTOM, version, "pods"), namespace, "*", metric.name)
        return Request("get", *place, options=options, because="the metric of its pods")
    assert spec.object is not None
    described, metric = spec.object.described_object, spec.object.metric
    options = Options(metric_label_selector=str(from_label_selector(metric.selector)))
    if (described.kind, described.api_version or "v1") == ("Namespace", "v1"):
        resource = aggregated_resource(CUSTOM, version, "metrics")
        return Request("get", resource, namespace, metric.name, options=options, because="its metric")  # fmt: skip
    plural = _plural(view, described)
    if not plural:
        group = (described.api_version or "").rpartition("/")[0]
        return f'no matches for kind "{described.kind}" in group "{group}"'
    place = (aggregated_resource(CUSTOM, version, plural), namespace, described.name, metric.name)
    return Request("get", *place, options=options, because="its metric")


def _custom_version(view: View) -> str:
    """The version of custom.metrics.k8s.io that its APIServices prefer; empty without one."""
    found = [
        (-one.spec.version_priority, position, version)
        for position, version in enumerate(CUSTOM_VERSIONS)
        if (one := view.get(API_SERVICES, f"{version}.{CUSTOM}")) is not None
    ]
    return min(found)[2] if found else ""


def _plural(view: View, described: CrossVersionObjectReference) -> str:
    """The resource of an object as the other server names it: services, deployments.apps."""
    version = described.api_version or ""
    found = by_kind(version, described.kind) or custom_by_kind(view, version, described.kind)
    if found is None:
        return ""
    return f"{found.plural}.{found.group}" if found.group else found.plural


# --- one metric -----------------------------------------------------------------------------------


def compute_custom(
    spec: MetricSpec,
    question: Request | str,
    answers: Answers,
    pods: list[Pod],
    current: int,
    present: int,
    tolerances: Tolerances,
    namespace: str,
    now: Instant,
) -> tuple[int, str, MetricStatus]:
    """The replicas for one metric, its name in messages, and its status. `current`: the replicas in
    the spec of the scale; `present`: in its status. Raises Uncomputable."""
    if spec.type == "Pods" and spec.pods is not None:
        metric = spec.pods.metric
        values = _values(question, answers, OF_CUSTOM, f"unable to get metric {metric.name}: ")
        goal = _goal(spec.pods.target.average_value)
        found = by_average(pods, _samples(values), current, goal, tolerances, "", now)
        average = MetricValueStatus(average_value=quantity_of(found.average))
        status = MetricStatus(type="Pods", pods=PodsMetricStatus(metric=metric, current=average))
        return found.replicas, f"pods metric {metric.name}", status
    if spec.type == "Object" and spec.object is not None:
        metric, described = spec.object.metric, spec.object.described_object
        where = f"unable to get metric {metric.name}: {described.kind} on {namespace} {described.name}/"  # fmt: skip
        values = _values(question, answers, OF_CUSTOM, where)
        if len(values) != 1:
            words = f"the custom metrics API server returned {len(values)} results when we asked for exactly one"  # fmt: skip
            raise Uncomputable(f"{where}unable to fetch metrics from {OF_CUSTOM}: {words}")
        replicas, value = _of_value(spec.object.target, _milli(values[0]), pods, current, present, tolerances)  # fmt: skip
        shown = ObjectMetricStatus(metric=metric, described_object=described, current=value)
        name = f"{described.kind} metric {metric.name}"
        if value.value is None:
            name = f"external metric {metric.name}({selector_words(metric.selector)})"
        return replicas, name, MetricStatus(type="Object", object=shown)
    assert spec.external is not None
    metric = spec.external.metric
    words = selector_words(metric.selector)
    where = f"unable to get external metric {namespace}/{metric.name}/{words}: "
    values = _values(question, answers, OF_EXTERNAL, where)
    total = _clamped(sum(map(_milli, values)))
    target = spec.external.target
    replicas, value = _of_value(target, total, pods, current, present, tolerances)
    found_status = ExternalMetricStatus(metric=metric, current=value)
    status = MetricStatus(type="External", external=found_status)
    return replicas, f"external metric {metric.name}({words})", status


def _of_value(
    target: MetricTarget,
    value: int,
    pods: list[Pod],
    current: int,
    present: int,
    tolerances: Tolerances,
) -> tuple[int, MetricValueStatus]:
    """The replicas for one value, in thousandths, and the value in the status (HPA-14)."""
    if target.average_value is not None:
        replicas, average = by_sum(value, _goal(target.average_value), present, tolerances)
        return replicas, MetricValueStatus(average_value=quantity_of(average))
    replicas = by_ratio(value, _goal(target.value), pods, current, tolerances)
    return replicas, MetricValueStatus(value=quantity_of(value))


# --- answers --------------------------------------------------------------------------------------


def _values(question: Request | str, answers: Answers, api: str, where: str) -> list[Any]:
    """The items of an answer, which must not be empty. Raises Uncomputable."""
    if isinstance(question, str):
        raise Uncomputable(f"{where}unable to fetch metrics from {api}: {question}")
    response = answers.get(question_key(question))
    if response is None or not response.ok:
        raise Uncomputable(f"{where}unable to fetch metrics from {api}: {_failure(question, response)}")  # fmt: skip
    content = getattr(response.body, "content", None)
    items = content.get("items") if isinstance(content, dict) else None
    if not isinstance(items, list) or not items:
        raise Uncomputable(f"{where}no metrics returned from {api}")
    return [one if isinstance(one, dict) else {} for one in items]


def _failure(question: Request, response: Response | None) -> str:
    """Upstream's words for an answer that is no success: those of the other server if it has some,
    else of the code."""
    resource = question.resource
    asked = f"{resource.plural}.{resource.group}" + (f" {question.name}" if question.name else "")
    words = str(getattr(response.body, "message", None) or "") if response is not None else ""
    if response is not None and response.code == 404 and words in ("", UNKNOWN_PATH):
        return f"{UNKNOWN_PATH} (get {asked})"
    is_silent = not words or words.startswith(("service unavailable", "error trying to reach"))
    if response is None or (response.code == 503 and is_silent):
        return f"{UNABLE} (get {asked})"
    return words


def _samples(values: list[Any]) -> dict[str, Sample]:
    """The values of pods, by the name of the pod."""
    found: dict[str, Sample] = {}
    for one in values:
        described = one.get("describedObject")
        name = described.get("name") if isinstance(described, dict) else None
        if isinstance(name, str):
            seconds = one.get("windowSeconds", one.get("window"))
            is_number = isinstance(seconds, int) and not isinstance(seconds, bool)
            window = seconds * SECOND if is_number and 0 <= seconds <= 86_400 else WINDOW
            found[name] = Sample(_milli(one), instant_of(one.get("timestamp")), window)
    return found


def _milli(item: Any) -> int:
    """The value of an item in thousandths; 0 for one that is no quantity."""
    text = item.get("value")
    try:
        return _clamped(parse(str(text)).milli)
    except QuantityError:
        return 0


def _clamped(number: int) -> int:
    return max(-MILLI_MAX, min(number, MILLI_MAX))


def instant_of(text: Any) -> Instant:
    """The time of a measurement; 0 for what is no time."""
    try:
        return parse_timestamp(text) if isinstance(text, str) else 0
    except ValueError:
        return 0


def _goal(text: str | None) -> int:
    return max(parse(text).milli, 1) if text is not None else 1


def quantity_of(milli: int) -> str:
    """Thousandths as a quantity."""
    return str(Amount(milli * (NANO // 1000)))


def selector_words(selector: LabelSelector | None) -> str:
    """A selector as upstream's messages have it."""
    if selector is None:
        return "nil"
    labels = "".join(f"{key}: {value}," for key, value in sorted((selector.match_labels or {}).items()))  # fmt: skip
    terms = "".join(
        f"LabelSelectorRequirement{{Key:{one.key},Operator:{one.operator},Values:[{' '.join(one.values or ())}],}},"
        for one in selector.match_expressions or ()
    )
    return f"&LabelSelector{{MatchLabels:map[string]string{{{labels}}},MatchExpressions:[]LabelSelectorRequirement{{{terms}}},}}"
