"""The condition in the status of a PodDisruptionBudget. Rule PDB-1 (spec/workloads/disruption.md).

The disruption controller computes the status; an eviction lowers `disruptionsAllowed` by one. Both
write the same condition. Source: Kubernetes documentation, "Specifying a Disruption Budget for your
Application"; API reference, "PodDisruptionBudget".
"""

from typing import Final

from msgspec.structs import replace

from refk8s.core.api.conditions import get_condition, remove_condition, transition_time
from refk8s.core.api.meta_v1 import Condition
from refk8s.core.api.policy_v1 import PodDisruptionBudgetStatus

DISRUPTION_ALLOWED: Final = "DisruptionAllowed"
SUFFICIENT_PODS: Final = "SufficientPods"
INSUFFICIENT_PODS: Final = "InsufficientPods"
SYNC_FAILED: Final = "SyncFailed"


def with_allowed(
    status: PodDisruptionBudgetStatus, allowed: int, now: str, failure: str = ""
) -> PodDisruptionBudgetStatus:
    """The status with this number of allowed disruptions, and the condition DisruptionAllowed that
    follows.

    `failure`: why the number could not be computed. The time of the condition changes only with its
    status.
    """
    is_allowed = "True" if allowed > 0 else "False"
    known = get_condition(status.conditions, DISRUPTION_ALLOWED)
    since = transition_time(known, is_allowed, now)
    reason = SYNC_FAILED if failure else SUFFICIENT_PODS if allowed > 0 else INSUFFICIENT_PODS
    condition = Condition(
        type=DISRUPTION_ALLOWED,
        status=is_allowed,
        reason=reason,
        message=failure,
        last_transition_time=since,
        observed_generation=status.observed_generation,
    )
    others = remove_condition(status.conditions, DISRUPTION_ALLOWED)
    return replace(status, disruptions_allowed=allowed, conditions=(*others, condition))
