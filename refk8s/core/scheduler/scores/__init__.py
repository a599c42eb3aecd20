"""The scores: which of the nodes that may run a pod is the best, one file each. Rules SCHED-12 to SCHED-15 (spec/scheduler.md).

Each plugin gives every such node 0 to 100 points, and they are added up by weight. Two kinds: *local* scores depend on the node and its
load alone; *relative* ones start from a raw number of the node and are scaled by the largest raw number among the nodes in question.
Source: Kubernetes documentation, "Scheduler Configuration" and the default weights there.
Left out: ImageLocality, so that where an image lies already does not matter (divergence).
"""

from refk8s.core.scheduler.needs import Needs
from refk8s.core.scheduler.scores import balanced_allocation, least_allocated
from refk8s.core.scheduler.snapshot import Load, NodeFacts

POINTS_MAX = 100
TAINTS_WEIGHT, NODE_AFFINITY_WEIGHT = 3, 2


def local_points(needs: Needs, facts: NodeFacts, load: Load) -> int:
    """The weighted sum of the local scores: both have weight 1."""
    return least_allocated.points(needs, facts, load) + balanced_allocation.points(needs, facts, load)


def relative_points(taints: int, taints_max: int, preference: int, preference_max: int) -> int:
    """The weighted sum of the relative scores, from the node's raw numbers and the largest ones."""
    against = POINTS_MAX * taints // taints_max if taints_max else 0
    wanted = POINTS_MAX * preference // preference_max if preference_max else 0
    return TAINTS_WEIGHT * (POINTS_MAX - against) + NODE_AFFINITY_WEIGHT * wanted
