"""Preferred pod affinity gives points, in both directions. Rule SCHED-34 (spec/scheduler.md).

Source: Kubernetes documentation, "Assigning Pods to Nodes" (inter-pod affinity and anti-affinity:
preferred terms).
"""

from collections.abc import Hashable, Mapping
from typing import TypeVar

from refk8s.core.scheduler.relations import Relations
from refk8s.core.scheduler.snapshot import NodeFacts

K = TypeVar("K", bound=Hashable)


def points(relations: Relations, nodes: Mapping[K, NodeFacts]) -> dict[K, int]:
    """SCHED-34: 0 for the node with the lowest sum of weights, 100 for the highest, in proportion
    between. O(nodes · domains)."""
    if not relations.preferred:
        return dict.fromkeys(nodes, 0)
    keys = sorted({key for key, _ in relations.preferred})
    raw = {
        name: sum(
            relations.preferred.get((key, facts.labels[key]), 0)
            for key in keys
            if key in facts.labels
        )
        for name, facts in nodes.items()
    }
    least, most = min(raw.values()), max(raw.values())
    return {
        name: 100 * (much - least) // (most - least) if most > least else 0
        for name, much in raw.items()
    }
