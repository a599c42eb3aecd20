"""The skew of topology spread constraints is at most `maxSkew`. Rule SCHED-32 (spec/scheduler.md).

Source: Kubernetes documentation, "Pod Topology Spread Constraints".
"""

from refk8s.core.scheduler.reasons import Refusal
from refk8s.core.scheduler.relations import Relations
from refk8s.core.scheduler.snapshot import NodeFacts

_WORDS = "node(s) didn't match pod topology spread constraints"
REFUSAL = Refusal("PodTopologySpread", (_WORDS,), resolvable=True)
NO_LABEL = Refusal("PodTopologySpread", (f"{_WORDS} (missing required label)",), resolvable=False)


def check(relations: Relations, facts: NodeFacts) -> Refusal | None:
    """SCHED-32: with the pod, its domain has at most `max_skew` more pods than the domain with the
    fewest (0 below `min_domains`)."""
    for constraint, own, least, counts in relations.hard:
        domain = facts.labels.get(constraint.topology_key)
        if domain is None:
            return NO_LABEL
        if counts.get(domain, 0) + own - least > constraint.max_skew:
            return REFUSAL
    return None
