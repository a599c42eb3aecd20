"""The node must have every label of nodeSelector, and match one term of the required node affinity.
Rule SCHED-7 (spec/scheduler.md).

Source: Kubernetes documentation, "Assigning Pods to Nodes".
"""

from refk8s.core.pods.node_affinity import Terms, matches, term_matches
from refk8s.core.scheduler.needs import Needs
from refk8s.core.scheduler.reasons import Refusal
from refk8s.core.scheduler.snapshot import NodeFacts

REFUSAL = Refusal(
    "NodeAffinity", ("node(s) didn't match Pod's node affinity/selector",), resolvable=False
)
NOT_NAMED = Refusal(
    "NodeAffinity", ("node(s) didn't satisfy plugin(s) [NodeAffinity]",), resolvable=False
)


def check_name(needs: Needs, facts: NodeFacts) -> Refusal | None:
    """SCHED-7 for pods whose terms name nodes: `placement.py` evaluates only those nodes."""
    return (
        NOT_NAMED if needs.node_names is not None and facts.name not in needs.node_names else None
    )


ENFORCED = Refusal(
    "NodeAffinity", ("node(s) didn't match scheduler-enforced node affinity",), resolvable=False
)


def check_added(terms: Terms, needs: Needs, facts: NodeFacts) -> Refusal | None:
    """SCHED-53: the terms that the profile adds."""
    is_match = any(term_matches(term, facts.labels, facts.name) for term in terms)
    return None if is_match else ENFORCED


def check(needs: Needs, facts: NodeFacts) -> Refusal | None:
    """SCHED-7."""
    if not needs.node_selector and needs.required_terms is None:
        return None
    is_match = matches(needs.node_selector, needs.required_terms, facts.labels, facts.name)
    return None if is_match else REFUSAL
