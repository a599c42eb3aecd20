"""An unschedulable node gets no pods, except those that tolerate its taint. Rule SCHED-5
(spec/scheduler.md).

Source: Kubernetes documentation, "Nodes" (manual node administration), "Taints and Tolerations".
"""

from refk8s.core.api.core_v1 import Taint
from refk8s.core.pods.tolerations import NO_SCHEDULE, is_tolerated
from refk8s.core.scheduler.needs import Needs
from refk8s.core.scheduler.reasons import Refusal
from refk8s.core.scheduler.snapshot import NodeFacts

CORDONED = Taint(key="node.kubernetes.io/unschedulable", effect=NO_SCHEDULE)
REFUSAL = Refusal("NodeUnschedulable", ("node(s) were unschedulable",), resolvable=False)


def check(needs: Needs, facts: NodeFacts) -> Refusal | None:
    """SCHED-5."""
    return (
        REFUSAL if facts.unschedulable and not is_tolerated(CORDONED, needs.tolerations) else None
    )
