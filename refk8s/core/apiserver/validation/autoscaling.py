"""Autoscalers. Rule VAL-32 (spec/validation.md).

Source: Kubernetes documentation, "Horizontal Pod Autoscaling" (metrics, scaling policies,
tolerance); API reference, "HorizontalPodAutoscaler". An autoscaler written as autoscaling/v1 is
checked in the stored form, autoscaling/v2 (API-28).
"""

from typing import Any

from refk8s.core.api.autoscaling_v2 import (
    CrossVersionObjectReference,
    HorizontalPodAutoscaler,
    HPAScalingRules,
    MetricIdentifier,
    MetricSpec,
    MetricTarget,
)
from refk8s.core.apiserver.validation.field import (
    Causes,
    forbidden,
    invalid,
    malformed,
    not_negative,
    not_supported,
    required,
)
from refk8s.core.apiserver.validation.names import dns_label, path_segment
from refk8s.core.apiserver.validation.resources import amount, validate_resource_name

METRIC_TYPES = ("ContainerResource", "External", "Object", "Pods", "Resource")
TARGET_TYPES = ("Utilization", "Value", "AverageValue")
POLICY_TYPES = ("Percent", "Pods")
SELECT_POLICIES = ("Disabled", "Max", "Min")
WINDOW_SECONDS_MAX, PERIOD_SECONDS_MAX = 3600, 1800
# The sources of a metric in the order in which they are checked: attribute, name on the wire, type.
_SOURCES = (
    ("object", "object", "Object"), ("external", "external", "External"), ("pods", "pods", "Pods"), ("resource", "resource", "Resource"),
    ("container_resource", "containerResource", "ContainerResource"),
)  # fmt: skip


def validate_autoscaler(autoscaler: HorizontalPodAutoscaler) -> Causes:
    return _validate_spec(autoscaler, needs_group=True)


def validate_autoscaler_update(
    new: HorizontalPodAutoscaler, old: HorizontalPodAutoscaler
) -> Causes:
    """VAL-32: as for a new one, except that a stored target without an API group may stay so."""
    return _validate_spec(new, needs_group=_has_group(old.spec.scale_target_ref))


def validate_autoscaler_status(
    new: HorizontalPodAutoscaler, old: HorizontalPodAutoscaler
) -> Causes:
    causes = not_negative("status.currentReplicas", new.status.current_replicas)
    return causes + not_negative("status.desiredReplicas", new.status.desired_replicas)


def _validate_spec(autoscaler: HorizontalPodAutoscaler, needs_group: bool) -> Causes:
    """VAL-32: bounds in order, a target to scale, and complete metrics."""
    spec = autoscaler.spec
    least, most = spec.min_replicas, spec.max_replicas
    causes: Causes = []
    if least is not None and least < 1:
        causes.append(invalid("spec.minReplicas", least, "must be greater than or equal to 1"))
    if most == 0:
        causes.append(required("spec.maxReplicas", "must be set and greater than 0"))
    elif most < 0:
        causes.append(invalid("spec.maxReplicas", most, "must be greater than 0"))
    if least is not None and most < least:
        causes.append(
            invalid("spec.maxReplicas", most, "must be greater than or equal to `minReplicas`")
        )
    causes += _validate_reference(spec.scale_target_ref, "spec.scaleTargetRef")
    if needs_group and not _has_group(spec.scale_target_ref):
        version = spec.scale_target_ref.api_version or ""
        causes.append(
            invalid("spec.scaleTargetRef.apiVersion", version, "apiVersion must specify API group")
        )
    for position, metric in enumerate(spec.metrics or ()):
        causes += _validate_metric(metric, f"spec.metrics[{position}]")
    if least == 0 and not any(metric.object or metric.external for metric in spec.metrics or ()):
        causes.append(
            forbidden(
                "spec.metrics",
                "must specify at least one Object or External metric to support scaling "
                "to zero replicas",
            )
        )
    if spec.behavior is not None:
        for rules, name in (
            (spec.behavior.scale_up, "scaleUp"),
            (spec.behavior.scale_down, "scaleDown"),
        ):
            if rules is not None:
                causes += _validate_rules(rules, f"spec.behavior.{name}")
    return causes


def _has_group(reference: CrossVersionObjectReference) -> bool:
    group, slash, version = (reference.api_version or "").partition("/")
    return bool(slash and group) and "/" not in version


def _validate_reference(reference: CrossVersionObjectReference, at: str) -> Causes:
    causes: Causes = []
    for part, name in ((reference.kind, "kind"), (reference.name, "name")):
        if not part:
            causes.append(required(f"{at}.{name}"))
        else:
            causes += malformed(f"{at}.{name}", part, path_segment)
    return causes


# --- metrics


def _validate_metric(metric: MetricSpec, at: str) -> Causes:
    """VAL-32: one source, that of the type. The first one given is checked, whatever the type."""
    causes: Causes = []
    if not metric.type:
        causes.append(required(f"{at}.type", "must specify a metric source type"))
    if metric.type not in METRIC_TYPES:
        # upstream checks it twice, in code and by declaration
        causes += [not_supported(f"{at}.type", metric.type, METRIC_TYPES)] * 2
    given = [
        (getattr(metric, attribute), name, kind)
        for attribute, name, kind in _SOURCES
        if getattr(metric, attribute) is not None
    ]
    if given:
        source, name, kind = given[0]
        causes += _validate_source(source, kind, f"{at}.{name}")
    expected = next((name for _, name, kind in _SOURCES if kind == metric.type), "")
    names = [name for _, name, _ in given]
    if expected and expected not in names:
        causes.append(
            required(f"{at}.{expected}", "must populate information for the given metric source")
        )
    if len(names) > 1:
        causes += [
            forbidden(f"{at}.{name}", "must populate the given metric source only")
            for name in names
            if name != expected
        ]
    return causes


def _validate_source(source: Any, kind: str, at: str) -> Causes:
    target: MetricTarget = source.target
    causes: Causes = []
    if kind == "Object":
        causes += _validate_reference(source.described_object, f"{at}.describedObject")
    if kind in ("Object", "External", "Pods"):
        causes += _validate_identifier(source.metric, f"{at}.metric")
    else:
        causes += [] if source.name else [required(f"{at}.name", "must specify a resource name")]
        if kind == "ContainerResource":
            causes += validate_resource_name(source.name, f"{at}.name") if source.name else []
            if not source.container:
                causes.append(required(f"{at}.container", "must specify a container"))
            else:
                causes += malformed(f"{at}.container", source.container, dns_label)
    causes += _validate_target(target, f"{at}.target")
    average = f"{at}.target.averageValue"
    if kind == "Pods":
        if not _is_positive(target.average_value):
            causes.append(required(average, "must specify a positive target averageValue"))
    elif kind in ("Object", "External"):
        if target.value is None and target.average_value is None:
            causes.append(
                required(average, "must set either a target value for metric or a per-pod target")
            )
        elif target.value is not None and target.average_value is not None:
            where = average if kind == "Object" else f"{at}.target.value"
            causes.append(
                forbidden(where, "may not set both a target value for metric and a per-pod target")
            )
    elif target.average_utilization is None and target.average_value is None:
        causes.append(
            required(
                f"{at}.target.averageUtilization",
                "must set either a target raw value or a target utilization",
            )
        )
    elif target.average_utilization is not None and target.average_value is not None:
        causes.append(
            forbidden(average, "may not set both a target raw value and a target utilization")
        )
    return causes


def _validate_identifier(identifier: MetricIdentifier, at: str) -> Causes:
    if not identifier.name:
        return [required(f"{at}.name", "must specify a metric name")]
    return malformed(f"{at}.name", identifier.name, path_segment)


def _validate_target(target: MetricTarget, at: str) -> Causes:
    causes: Causes = (
        [] if target.type else [required(f"{at}.type", "must specify a metric target type")]
    )
    if target.type not in TARGET_TYPES:
        causes.append(
            invalid(f"{at}.type", target.type, "must be either Utilization, Value, or AverageValue")
        )
    for text, name in ((target.value, "value"), (target.average_value, "averageValue")):
        if text is not None and not _is_positive(text):
            causes.append(invalid(f"{at}.{name}", text, "must be positive"))
    if target.average_utilization is not None and target.average_utilization < 1:
        causes.append(
            invalid(
                f"{at}.averageUtilization", target.average_utilization, "must be greater than 0"
            )
        )
    return causes


def _is_positive(text: str | None) -> bool:
    number = None if text is None else amount(text)
    return number is not None and number.nano > 0


# --- behaviour


def _validate_rules(rules: HPAScalingRules, at: str) -> Causes:
    """VAL-32: a stabilization window of at most an hour, a known selectPolicy, and policies with
    periods of at most half an hour."""
    causes: Causes = []
    window, choice = rules.stabilization_window_seconds, rules.select_policy
    if window is not None:
        if window < 0:
            causes.append(
                invalid(
                    f"{at}.stabilizationWindowSeconds",
                    window,
                    "must be greater than or equal to zero",
                )
            )
        if window > WINDOW_SECONDS_MAX:
            words = f"must be less than or equal to {WINDOW_SECONDS_MAX}"
            causes.append(invalid(f"{at}.stabilizationWindowSeconds", window, words))
    if choice is not None and choice not in SELECT_POLICIES:
        causes.append(not_supported(f"{at}.selectPolicy", choice, SELECT_POLICIES))
    if not rules.policies:
        causes.append(required(f"{at}.policies", "must specify at least one Policy"))
    for position, policy in enumerate(rules.policies or ()):
        here = f"{at}.policies[{position}]"
        if policy.type not in POLICY_TYPES:
            causes.append(not_supported(f"{here}.type", policy.type, POLICY_TYPES))
        for number, name in ((policy.value, "value"), (policy.period_seconds, "periodSeconds")):
            if number <= 0:
                causes.append(invalid(f"{here}.{name}", number, "must be greater than zero"))
        if policy.period_seconds > PERIOD_SECONDS_MAX:
            causes.append(
                invalid(
                    f"{here}.periodSeconds",
                    policy.period_seconds,
                    f"must be less than or equal to {PERIOD_SECONDS_MAX}",
                )
            )
    tolerance = None if rules.tolerance is None else amount(rules.tolerance)
    if tolerance is not None and tolerance.nano < 0:
        causes.append(
            invalid(f"{at}.tolerance", rules.tolerance, "must be greater or equal to zero")
        )
    return causes
