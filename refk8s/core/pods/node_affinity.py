"""Which nodes a pod's node selector and required node affinity match. Rule POD-21 (spec/pod.md).

Source: Kubernetes documentation, "Assigning Pods to Nodes"; API reference, NodeSelectorRequirement.
"""

from collections.abc import Iterable, Mapping

from refk8s.core.api.core_v1 import (
    Affinity,
    NodeSelectorRequirement,
    NodeSelectorTerm,
    PodSpec,
    PreferredSchedulingTerm,
)
from refk8s.core.api.integer import int64

NAME_FIELD = "metadata.name"

Terms = tuple[NodeSelectorTerm, ...]


def required_terms(affinity: Affinity | None) -> Terms | None:
    """The required terms, of which a node must match one; None without a requirement."""
    node_affinity = affinity.node_affinity if affinity is not None else None
    required = (
        node_affinity.required_during_scheduling_ignored_during_execution
        if node_affinity is not None
        else None
    )
    return required.node_selector_terms or () if required is not None else None


def preferred_terms(affinity: Affinity | None) -> tuple[PreferredSchedulingTerm, ...]:
    """The preferred terms, with their weights."""
    node_affinity = affinity.node_affinity if affinity is not None else None
    preferred = (
        node_affinity.preferred_during_scheduling_ignored_during_execution
        if node_affinity is not None
        else None
    )
    return preferred or ()


def matches_node(spec: PodSpec, labels: Mapping[str, str], name: str) -> bool:
    """Whether a node with these labels and this name matches the pod (POD-21)."""
    selector = (spec.node_selector or {}).items()
    return matches(selector, required_terms(spec.affinity), labels, name)


def matches(
    selector: Iterable[tuple[str, str]],
    terms: Terms | None,
    labels: Mapping[str, str],
    name: str,
) -> bool:
    """As `matches_node`, from the node selector and the required terms. O(requirements)."""
    for key, value in selector:
        if labels.get(key) != value:
            return False
    return terms is None or any(term_matches(term, labels, name) for term in terms)


def term_matches(term: NodeSelectorTerm, labels: Mapping[str, str], name: str) -> bool:
    """Whether all expressions and fields of the term match; an empty term matches no node."""
    if not term.match_expressions and not term.match_fields:
        return False
    return all(
        _matches(requirement, labels.get(requirement.key))
        for requirement in term.match_expressions or ()
    ) and all(
        _matches(requirement, name if requirement.key == NAME_FIELD else None)
        for requirement in term.match_fields or ()
    )


def _matches(requirement: NodeSelectorRequirement, found: str | None) -> bool:
    """Whether the node's value of the key (None: absent) satisfies the requirement."""
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
