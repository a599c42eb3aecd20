"""Every NoSchedule and NoExecute taint of the node must be tolerated. Rule SCHED-6
(spec/scheduler.md).

Source: Kubernetes documentation, "Taints and Tolerations". Left out: the comparing operators Gt and
Lt of tolerations, which are no part of what is generally available.
"""

from collections.abc import Iterable

from refk8s.core.api.core_v1 import Taint, Toleration
from refk8s.core.scheduler.needs import Needs
from refk8s.core.scheduler.reasons import Refusal
from refk8s.core.scheduler.snapshot import NodeFacts

NO_SCHEDULE, NO_EXECUTE, PREFER_NO_SCHEDULE = "NoSchedule", "NoExecute", "PreferNoSchedule"
REFUSAL = Refusal("TaintToleration", ("node(s) had untolerated taint(s)",), resolvable=False)


def check(needs: Needs, facts: NodeFacts) -> Refusal | None:
    """SCHED-6."""
    for taint in facts.taints:
        if taint.effect in (NO_SCHEDULE, NO_EXECUTE) and not is_tolerated(taint, needs.tolerations):
            return REFUSAL
    return None


def is_tolerated(taint: Taint, tolerations: Iterable[Toleration]) -> bool:
    return any(tolerates(toleration, taint) for toleration in tolerations)


def tolerates(toleration: Toleration, taint: Taint) -> bool:
    """Same effect (or any), same key (or any), and for Equal the same value."""
    if toleration.effect and toleration.effect != taint.effect:
        return False
    if toleration.key and toleration.key != taint.key:
        return False
    if toleration.operator == "Exists":
        return True
    return toleration.operator in (None, "", "Equal") and (toleration.value or "") == (
        taint.value or ""
    )
