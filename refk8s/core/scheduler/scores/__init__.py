"""The scores: which of the nodes that may run a pod is the best, one file each. Rules SCHED-12 to
15, 27, 33 and 34.

Each plugin gives every such node 0 to 100 points, and they are added up by weight. Two kinds:
*local* scores depend on the node and its load alone; *relative* ones start from raw numbers of the
node and are scaled by what the other nodes in question have. Source: Kubernetes documentation,
"Scheduler Configuration" and the default weights there. Left out: ImageLocality: where an image
lies already does not matter here (divergence).
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
    """What the relative scores start from. Nodes with equal numbers get equal points."""

    taints: int
    preference: int
    # pods of the same owner on the node; None: the pod has no owner that is spread
    siblings: int | None
    zone: str
    has_hostname: bool


def raw_of(needs: Needs, facts: NodeFacts) -> tuple[int, int]:
    """The raw numbers that depend on the node's facts alone: (taints, preference)."""
    return taints.raw(needs, facts), node_affinity.raw(needs, facts)


def local_points(needs: Needs, facts: NodeFacts, load: Load) -> int:
    """The weighted sum of the local scores: both have weight 1."""
    return least_allocated.points(needs, facts, load) + balanced_allocation.points(
        needs, facts, load
    )


def relative_points(sizes: Mapping[Raw, int], zones: Mapping[str, int]) -> dict[Raw, int]:
    """The weighted sum of the relative scores for each kind of node that may run the pod.

    `sizes` says how many nodes there are of each kind, `zones` how many pods of the same owner are
    in each zone. O(kinds).
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
    """The weighted sum of the scores that come from other pods, for the nodes that may run the
    pod."""
    apart, together = (
        topology_spread.stated_points(relations, nodes),
        pod_affinity.points(relations, nodes),
    )
    return {
        name: SPREAD_WEIGHT * apart[name] + POD_AFFINITY_WEIGHT * together[name] for name in nodes
    }
