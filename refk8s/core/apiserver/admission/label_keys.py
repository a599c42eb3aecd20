"""`matchLabelKeys`: selectors to which the labels of a new pod are added. Rule ADM-30
(spec/admission.md).

Source: Kubernetes documentation, "Assigning Pods to Nodes" (matchLabelKeys, mismatchLabelKeys),
"Pod Topology Spread Constraints".
"""

from typing import Any

from msgspec.structs import replace

from refk8s.core.api.core_v1 import (
    Pod,
    PodAffinity,
    PodAffinityTerm,
    PodAntiAffinity,
    TopologySpreadConstraint,
)
from refk8s.core.api.meta_v1 import LabelSelector, LabelSelectorRequirement

Labels = dict[str, str]


def merged(pod: Pod) -> dict[str, Any]:
    """ADM-30: every key that is a label of the pod becomes a requirement of its selector: `In` or
    `NotIn` with the pod's value."""
    spec, labels = pod.spec, pod.metadata.labels or {}
    changed: dict[str, Any] = {}
    affinity = spec.affinity
    if affinity is not None:
        near, far = affinity.pod_affinity, affinity.pod_anti_affinity
        completed = replace(
            affinity,
            pod_affinity=near and _of_affinity(near, labels),
            pod_anti_affinity=far and _of_affinity(far, labels),
        )
        if completed != affinity:
            changed["affinity"] = completed
    constraints = spec.topology_spread_constraints
    if constraints and any(constraint.match_label_keys for constraint in constraints):
        changed["topology_spread_constraints"] = tuple(
            [_of_constraint(constraint, labels) for constraint in constraints]
        )
    return changed


def _of_affinity(affinity: Any, labels: Labels) -> Any:
    """A PodAffinity or PodAntiAffinity."""
    kind: PodAffinity | PodAntiAffinity = affinity
    demands = kind.required_during_scheduling_ignored_during_execution
    wishes = kind.preferred_during_scheduling_ignored_during_execution
    return replace(
        affinity,
        required_during_scheduling_ignored_during_execution=demands
        and tuple([_of_term(term, labels) for term in demands]),
        preferred_during_scheduling_ignored_during_execution=wishes
        and tuple(
            [
                replace(wish, pod_affinity_term=_of_term(wish.pod_affinity_term, labels))
                for wish in wishes
            ]
        ),
    )


def _of_term(term: PodAffinityTerm, labels: Labels) -> PodAffinityTerm:
    if not (term.match_label_keys or term.mismatch_label_keys) or term.label_selector is None:
        return term
    selector = _with(term.label_selector, term.match_label_keys or (), labels, "In")
    return replace(
        term, label_selector=_with(selector, term.mismatch_label_keys or (), labels, "NotIn")
    )


def _of_constraint(
    constraint: TopologySpreadConstraint, labels: Labels
) -> TopologySpreadConstraint:
    if not constraint.match_label_keys or constraint.label_selector is None:
        return constraint
    return replace(
        constraint,
        label_selector=_with(constraint.label_selector, constraint.match_label_keys, labels, "In"),
    )


def _with(
    selector: LabelSelector, keys: tuple[str, ...], labels: Labels, operator: str
) -> LabelSelector:
    added = [
        LabelSelectorRequirement(key=key, operator=operator, values=(labels[key],))
        for key in keys
        if key in labels
    ]
    return (
        replace(selector, match_expressions=(*(selector.match_expressions or ()), *added))
        if added
        else selector
    )
