"""A node with fewer untolerated PreferNoSchedule taints has more points. Rule SCHED-14
(spec/scheduler.md).

Source: Kubernetes documentation, "Taints and Tolerations".
"""

from refk8s.core.pods.tolerations import PREFER_NO_SCHEDULE, is_tolerated
from refk8s.core.scheduler.needs import Needs
from refk8s.core.scheduler.snapshot import NodeFacts


def raw(needs: Needs, facts: NodeFacts) -> int:
    """SCHED-14: the number of such taints."""
    return sum(
        taint.effect == PREFER_NO_SCHEDULE and not is_tolerated(taint, needs.tolerations)
        for taint in facts.taints
    )
