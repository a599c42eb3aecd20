"""The node must have every label of nodeSelector, and match one term of the required node affinity.
Rule SCHED-7 (spec/scheduler.md).

Source: Kubernetes documentation, "Assigning Pods to Nodes"; API reference, NodeSelectorRequirement.
"""

from refk8s.core.api.core_v1 import NodeSelectorRequirement, NodeSelectorTerm
from refk8s.core.api.integer import int64
from refk8s.core.scheduler.needs import Needs
from refk8s.core.scheduler.reasons import Refusal
from refk8s.core.scheduler.snapshot import NodeFacts

REFUSAL = Refusal(
    "NodeAffinity", ("node(s) didn't match Pod's node affinity/selector",), resolvable=False
)
ELSEWHERE = Refusal(
    "NodeAffinity", ("node(s) didn't satisfy plugin(s) [NodeAffinity]",), resolvable=False
)


def check_name(needs: Needs, facts: NodeFacts) -> Refusal | None:
    """SCHED-7, for pods whose every term names nodes: the others need not even be asked
    (`placement.py` does not)."""
    return (
        ELSEWHERE if needs.node_names is not None and facts.name not in needs.node_names else None
    )


def check(needs: Needs, facts: NodeFacts) -> Refusal | None:
    """SCHED-7."""
    for key, value in needs.node_selector:
        if facts.labels.get(key) != value:
            return REFUSAL
    if needs.required_terms is not None and not any(
        matches(term, facts) for term in needs.required_terms
    ):
        return REFUSAL
    return None


def matches(term: NodeSelectorTerm, facts: NodeFacts) -> bool:
    """All expressions and all fields of the term hold; a term without any matches nothing."""
    if not term.match_expressions and not term.match_fields:
        return False
    return all(
        _holds(each, facts.labels.get(each.key)) for each in term.match_expressions or ()
    ) and all(
        _holds(each, facts.name if each.key == "metadata.name" else None)
        for each in term.match_fields or ()
    )


def _holds(requirement: NodeSelectorRequirement, found: str | None) -> bool:
    """What the node has under the key (None: nothing) against what the requirement wants of it."""
    values = requirement.values or ()
    match requirement.operator:
        case "In":
            return found is not None and found in values
        case "NotIn":
            return found is None or found not in values
        case "Exists":
            return found is not None
        case "DoesNotExist":
            return found is None
        case "Gt" | "Lt":
            left, right = int64(found or ""), int64(values[0] if len(values) == 1 else "")
            if left is None or right is None:
                return False
            return left > right if requirement.operator == "Gt" else left < right
        case _:
            return False
