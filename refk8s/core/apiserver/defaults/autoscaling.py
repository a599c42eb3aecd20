"""Defaults of horizontal pod autoscalers. Rule DEF-21 (spec/defaults.md).

Source: Kubernetes documentation, "Horizontal Pod Autoscaling" (default behavior).
"""

from typing import Any

from msgspec.structs import replace

from refk8s.core.api import autoscaling_v1
from refk8s.core.api.autoscaling_v2 import (
    HorizontalPodAutoscaler,
    HorizontalPodAutoscalerBehavior,
    HPAScalingPolicy,
    HPAScalingRules,
    MetricSpec,
    MetricTarget,
    ResourceMetricSource,
)

TARGET_PERCENT = 80
_CPU = (MetricSpec(type="Resource", resource=ResourceMetricSource(
    name="cpu", target=MetricTarget(type="Utilization", average_utilization=TARGET_PERCENT),
)),)  # fmt: skip
_UP = HPAScalingRules(stabilization_window_seconds=0, select_policy="Max", policies=(
    HPAScalingPolicy(type="Pods", value=4, period_seconds=15), HPAScalingPolicy(type="Percent", value=100, period_seconds=15),
))  # fmt: skip
_DOWN = HPAScalingRules(
    select_policy="Max", policies=(HPAScalingPolicy(type="Percent", value=100, period_seconds=15),)
)


def default_autoscaler(autoscaler: HorizontalPodAutoscaler) -> HorizontalPodAutoscaler:
    """DEF-21: at least one replica; 80 percent of the requested CPU; a behavior that is given in
    part is completed."""
    spec = autoscaler.spec
    changed: dict[str, Any] = {}
    if spec.min_replicas is None:
        changed["min_replicas"] = 1
    if not spec.metrics:
        changed["metrics"] = _CPU
    if spec.behavior is not None:
        behavior = HorizontalPodAutoscalerBehavior(
            scale_up=_complete(spec.behavior.scale_up, _UP),
            scale_down=_complete(spec.behavior.scale_down, _DOWN),
        )
        if behavior != spec.behavior:
            changed["behavior"] = behavior
    return replace(autoscaler, spec=replace(spec, **changed)) if changed else autoscaler


def _complete(rules: HPAScalingRules | None, plain: HPAScalingRules) -> HPAScalingRules:
    if rules is None:
        return plain
    choice = plain.select_policy if rules.select_policy is None else rules.select_policy
    window = (
        plain.stabilization_window_seconds
        if rules.stabilization_window_seconds is None
        else rules.stabilization_window_seconds
    )
    return replace(
        rules, policies=rules.policies or plain.policies, select_policy=choice,
        stabilization_window_seconds=window,
    )  # fmt: skip


def default_autoscaler_v1(
    autoscaler: autoscaling_v1.HorizontalPodAutoscaler,
) -> autoscaling_v1.HorizontalPodAutoscaler:
    """DEF-21 for v1, which has only the CPU target. If the annotation has other metrics, no target
    is set."""
    spec = autoscaler.spec
    changed: dict[str, Any] = {}
    if spec.min_replicas is None:
        changed["min_replicas"] = 1
    others = "autoscaling.alpha.kubernetes.io/metrics" in (autoscaler.metadata.annotations or {})
    if spec.target_cpu_utilization_percentage is None and not others:
        changed["target_cpu_utilization_percentage"] = TARGET_PERCENT
    return replace(autoscaler, spec=replace(spec, **changed)) if changed else autoscaler
