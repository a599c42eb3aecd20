"""A pod goes where the pods it must be near are, and not where those are that it must be far from,
or that must be far from it.

Rules SCHED-30, SCHED-31 (spec/scheduler.md).
Source: Kubernetes documentation, "Assigning Pods to Nodes" (inter-pod affinity and anti-affinity).
"""

from refk8s.core.scheduler.reasons import Refusal
from refk8s.core.scheduler.relations import Relations
from refk8s.core.scheduler.snapshot import NodeFacts

TOO_FAR = Refusal(
    "InterPodAffinity", ("node(s) didn't match pod affinity rules",), resolvable=False
)
TOO_NEAR = Refusal(
    "InterPodAffinity", ("node(s) didn't match pod anti-affinity rules",), resolvable=True
)
KEPT_OFF = Refusal(
    "InterPodAffinity",
    ("node(s) didn't satisfy existing pods anti-affinity rules",),
    resolvable=True,
)


def check(relations: Relations, facts: NodeFacts) -> Refusal | None:
    """SCHED-30 for those to be near (the first of its group may go anywhere with the topology
    keys), SCHED-31 for those to be far."""
    labels = facts.labels
    for key, _ in relations.near:
        if key not in labels:
            return TOO_FAR
    if not relations.is_first and any(
        not counts.get(labels[key], 0) for key, counts in relations.near
    ):
        return TOO_FAR
    if any(key in labels and counts.get(labels[key], 0) for key, counts in relations.far):
        return TOO_NEAR
    if any(key in labels and counts.get(labels[key], 0) for key, counts in relations.guarded):
        return KEPT_OFF
    return None
