"""The required terms of pod affinity are met, and those of anti-affinity in both directions. Rules
SCHED-30, SCHED-31 (spec/scheduler.md).

Source: Kubernetes documentation, "Assigning Pods to Nodes" (inter-pod affinity and anti-affinity).
"""

from refk8s.core.scheduler.reasons import Refusal
from refk8s.core.scheduler.relations import Relations
from refk8s.core.scheduler.snapshot import NodeFacts

NO_AFFINITY = Refusal(
    "InterPodAffinity", ("node(s) didn't match pod affinity rules",), resolvable=False
)
ANTI_AFFINITY = Refusal(
    "InterPodAffinity", ("node(s) didn't match pod anti-affinity rules",), resolvable=True
)
EXISTING_ANTI_AFFINITY = Refusal(
    "InterPodAffinity",
    ("node(s) didn't satisfy existing pods anti-affinity rules",),
    resolvable=True,
)


def check(relations: Relations, facts: NodeFacts) -> Refusal | None:
    """SCHED-30 (for the first pod of a group every node with the topology keys is suitable), and
    SCHED-31."""
    labels = facts.labels
    for key, _ in relations.affinity:
        if key not in labels:
            return NO_AFFINITY
    if not relations.is_first and any(
        not counts.get(labels[key]) for key, counts in relations.affinity
    ):
        return NO_AFFINITY
    if any(key in labels and counts.get(labels[key]) for key, counts in relations.anti_affinity):
        return ANTI_AFFINITY
    if any(
        key in labels and counts.get(labels[key])
        for key, counts in relations.existing_anti_affinity
    ):
        return EXISTING_ANTI_AFFINITY
    return None
