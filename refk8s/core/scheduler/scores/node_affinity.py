"""A node that matches more preferred node affinity has more points. Rule SCHED-15
(spec/scheduler.md).

Source: Kubernetes documentation, "Assigning Pods to Nodes" (node affinity weight).
"""

from refk8s.core.api.core_v1 import NodeSelectorTerm
from refk8s.core.pods.node_affinity import term_matches
from refk8s.core.scheduler.snapshot import NodeFacts


def raw(terms: tuple[tuple[int, NodeSelectorTerm], ...], facts: NodeFacts) -> int:
    """SCHED-15: the sum of the weights of the terms that match."""
    return sum(weight for weight, term in terms if term_matches(term, facts.labels, facts.name))
