"""Which victims of a preemption a disruption budget protects. Rule SCHED-38 (spec/scheduler.md).

Source: Kubernetes documentation, "Pod Priority and Preemption" (PodDisruptionBudget is supported,
but not guaranteed).
"""

from collections.abc import Iterable, Sequence

from refk8s.core.api.policy_v1 import PodDisruptionBudget
from refk8s.core.api.selector import Selector, SelectorError, from_label_selector
from refk8s.core.scheduler.snapshot import PodInfo
from refk8s.core.value import Value


class Budget(Value, frozen=True, eq=False):
    """The fields of a budget that preemption needs."""

    namespace: str
    selector: Selector
    allowed: int  # how many more pods may be disrupted
    disrupted: frozenset[str]  # names of pods that are already being disrupted


Budgets = tuple[Budget, ...]


def budgets_of(objects: Iterable[PodDisruptionBudget]) -> Budgets:
    """These budgets; one with an invalid selector selects nothing (LOOP-12)."""
    found = []
    for one in objects:
        try:
            selector = from_label_selector(one.spec.selector if one.spec is not None else None)
        except SelectorError:
            continue
        status = one.status
        allowed = status.disruptions_allowed or 0 if status is not None else 0
        disrupted = frozenset(status.disrupted_pods or ()) if status is not None else frozenset()
        found.append(Budget(one.metadata.namespace or "", selector, allowed, disrupted))
    return tuple(found)


def find_protected(pods: Sequence[PodInfo], budgets: Budgets) -> frozenset[str]:
    """The uids of the pods that would violate a budget if these pods were deleted in this order.
    O(pods · budgets)."""
    protected = set()
    allowed = [budget.allowed for budget in budgets]
    for pod in pods:
        for number, budget in enumerate(budgets):
            if (
                budget.namespace == pod.namespace
                and pod.name not in budget.disrupted
                and budget.selector.matches(pod.labels)
            ):
                allowed[number] -= 1
                if allowed[number] < 0:
                    protected.add(pod.uid)
    return frozenset(protected)
