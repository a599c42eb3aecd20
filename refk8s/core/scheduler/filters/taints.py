"""A pod must tolerate every NoSchedule and NoExecute taint of its node. Rule SCHED-6
(spec/scheduler.md).

Source: Kubernetes documentation, "Taints and Tolerations".
"""

from refk8s.core.pods.tolerations import NO_EXECUTE, NO_SCHEDULE, is_tolerated
from refk8s.core.scheduler.needs import Needs
from refk8s.core.scheduler.reasons import Refusal
from refk8s.core.scheduler.snapshot import NodeFacts

REFUSAL = Refusal("TaintToleration", ("node(s) had untolerated taint(s)",), resolvable=False)


def check(needs: Needs, facts: NodeFacts) -> Refusal | None:
    """SCHED-6."""
    for taint in facts.taints:
        if taint.effect in (NO_SCHEDULE, NO_EXECUTE) and not is_tolerated(taint, needs.tolerations):
            return REFUSAL
    return None
