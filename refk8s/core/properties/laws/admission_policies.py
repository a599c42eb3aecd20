"""Laws of admission policies. Rule POL-6 (spec/admission_policies.md)."""

from collections.abc import Iterable
from typing import Any

from refk8s.core.api.resources import (
    PODS,
    VALIDATING_ADMISSION_POLICIES,
    VALIDATING_ADMISSION_POLICY_BINDINGS,
)
from refk8s.core.cluster.state import Cluster
from refk8s.core.properties.law import Law
from refk8s.core.properties.predicates.admission_policies import (
    deadline_of,
    pol_6_a_new_pod_was_allowed,
)
from refk8s.core.store import Change


def new_pods_were_allowed(
    change: Change[Any], before: Cluster, after: Cluster
) -> Iterable[str] | None:
    """POL-6, for a new pod with a deadline while policies of a simple form are in effect."""
    if change.record is None or change.previous is not None:
        return None
    pod = change.record.value
    if pod.spec.active_deadline_seconds is None:
        return None
    limits = _limits(before.history)
    return pol_6_a_new_pod_was_allowed(pod, limits) if limits else None


def _limits(history: Any) -> list[int]:
    """The deadlines that the policies in effect allow."""
    denied = {
        record.value.spec.policy_name
        for record in history.list(VALIDATING_ADMISSION_POLICY_BINDINGS.prefix).records
        if "Deny" in record.value.spec.validation_actions
    }
    found = [
        deadline_of(record.value)
        for record in history.list(VALIDATING_ADMISSION_POLICIES.prefix).records
        if record.value.metadata.name in denied
    ]
    return [seconds for seconds in found if seconds is not None]


OF_CHANGES = (Law("POL-6", new_pods_were_allowed, prefix=PODS.prefix),)
