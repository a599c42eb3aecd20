"""The scores: which node that can run a pod is the best, one file each. Rules SCHED-12 to 15, 27,
33 and 34 (spec/scheduler.md).

Each score gives a node 0 to 100 points, and the weighted points are added. *Local* scores depend
only on the node and its load. *Relative* scores start from raw numbers of the node and are scaled
by those of the other nodes that can run the pod. Source: Kubernetes documentation, "Scheduler
Configuration" and the default weights there. Left out: ImageLocality (divergence).
"""

from collections.abc import Mapping
from typing import NamedTuple

from refk8s.core.scheduler.needs import Needs
from refk8s.core.scheduler.relations import Relations
from refk8s.core.scheduler.scores import (
    balanced_allocation,
    least_allocated,
    node_affinity,
    pod_affinity,
    taints,
    topology_spread,
)
from refk8s.core.scheduler.snapshot import Load, NodeFacts

POINTS_MAX = 100
TAINTS_WEIGHT, NODE_AFFINITY_WEIGHT, SPREAD_WEIGHT, POD_AFFINITY_WEIGHT = 3, 2, 2, 2


class Raw(NamedTuple):
    """The input of the relative scores. Nodes with equal numbers get equal points."""

    taints: int
    preference: int
    # pods of the same owner on the node; None: the pod has no owner that is spread
    siblings: int | None
    zone: str
    has_hostname: bool


def raw_of(needs: Needs, facts: NodeFacts) -> tuple[int, int]:
    """The raw numbers that depend only on the node: (taints, preference)."""
    return taints.raw(needs, facts), node_affinity.raw(needs, facts)


def local_points(needs: Needs, facts: NodeFacts, load: Load) -> int:
    """The sum of the local scores, both of weight 1."""
    return least_allocated.points(needs, facts, load) + balanced_allocation.points(
        needs, facts, load
    )


def relative_points(sizes: Mapping[Raw, int], zones: Mapping[str, int]) -> dict[Raw, int]:
    """The weighted sum of the relative scores for each kind of node that can run the pod.

    `sizes`: the number of nodes of each kind; `zones`: the number of pods of the same owner in each
    zone. O(kinds).
    """
    taints_max = max(raw.taints for raw in sizes)
    preference_max = max(raw.preference for raw in sizes)
    spread = topology_spread.points(
        {(raw.siblings, raw.zone, raw.has_hostname): 0 for raw in sizes}, sum(sizes.values()), zones
    )
    points: dict[Raw, int] = {}
    for raw in sizes:
        against = POINTS_MAX * raw.taints // taints_max if taints_max else 0
        wanted = POINTS_MAX * raw.preference // preference_max if preference_max else 0
        apart = spread[raw.siblings, raw.zone, raw.has_hostname]
        points[raw] = (
            TAINTS_WEIGHT * (POINTS_MAX - against)
            + NODE_AFFINITY_WEIGHT * wanted
            + SPREAD_WEIGHT * apart
        )
    return points


def related_points(relations: Relations, nodes: Mapping[str, NodeFacts]) -> dict[str, int]:
    """The weighted sum of the scores from other pods, for the nodes that can run the pod."""
    apart, together = (
        topology_spread.stated_points(relations, nodes),
        pod_affinity.points(relations, nodes),
    )
    return {
        name: SPREAD_WEIGHT * apart[name] + POD_AFFINITY_WEIGHT * together[name] for name in nodes
    }
