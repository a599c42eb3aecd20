"""Disruption budgets. Rule VAL-31 (spec/validation.md).

Source: Kubernetes documentation, "Specifying a Disruption Budget for your Application".
"""

from refk8s.core.api.policy_v1 import PodDisruptionBudget
from refk8s.core.apiserver.validation.conditions import validate_conditions
from refk8s.core.apiserver.validation.field import (
    Causes,
    invalid,
    not_negative,
    not_supported,
)
from refk8s.core.apiserver.validation.selectors import validate_selector
from refk8s.core.apiserver.validation.workloads import at_most_all, validate_int_or_percent

EVICTION_POLICIES = ("AlwaysAllow", "IfHealthyBudget")


def validate_disruption_budget(budget: PodDisruptionBudget) -> Causes:
    """VAL-31: at most one of minAvailable and maxUnavailable."""
    spec = budget.spec
    causes: Causes = []
    if spec.min_available is not None and spec.max_unavailable is not None:
        causes.append(invalid("spec", spec, "minAvailable and maxUnavailable cannot be both set"))
    for value, name in (
        (spec.min_available, "minAvailable"),
        (spec.max_unavailable, "maxUnavailable"),
    ):
        if value is not None:
            causes += validate_int_or_percent(value, f"spec.{name}") + at_most_all(
                value, f"spec.{name}"
            )
    causes += validate_selector(spec.selector, "spec.selector")
    policy = spec.unhealthy_pod_eviction_policy
    if policy is not None and policy not in EVICTION_POLICIES:
        causes.append(not_supported("spec.unhealthyPodEvictionPolicy", policy, EVICTION_POLICIES))
    return causes


def validate_disruption_budget_update(new: PodDisruptionBudget, old: PodDisruptionBudget) -> Causes:
    return [] if new.spec == old.spec else validate_disruption_budget(new)


def validate_disruption_budget_status(new: PodDisruptionBudget, old: PodDisruptionBudget) -> Causes:
    """VAL-31: counts are not negative, and conditions are complete (POL-5)."""
    status = new.status
    counts = (
        (status.disruptions_allowed, "disruptionsAllowed"), (status.current_healthy, "currentHealthy"),
        (status.desired_healthy, "desiredHealthy"), (status.expected_pods, "expectedPods"),
    )  # fmt: skip
    causes = validate_conditions(status.conditions or (), "status.conditions")
    for count, name in counts:
        causes += not_negative(f"status.{name}", count)
    return causes


# --- roles
