"""The keys of an affinity term that stand for the pod's own labels become part of the term's selector. Rule ADM-30 (spec/admission.md).

Source: Kubernetes documentation, "Assigning Pods to Nodes" (matchLabelKeys, mismatchLabelKeys).
"""

from typing import Any

from msgspec.structs import replace

from refk8s.core.api.core_v1 import Affinity, Pod, PodAffinity, PodAffinityTerm, PodAntiAffinity
from refk8s.core.api.meta_v1 import LabelSelectorRequirement

Labels = dict[str, str]


def merged(pod: Pod) -> dict[str, Any]:
    """The affinity in which every term says in its selector what its keys mean (ADM-30); nothing where no term has such keys."""
    affinity = pod.spec.affinity
    if affinity is None or (affinity.pod_affinity is None and affinity.pod_anti_affinity is None):
        return {}
    labels = pod.metadata.labels or {}
    near, far = _with_terms(affinity.pod_affinity, labels), _with_terms(affinity.pod_anti_affinity, labels)
    after: Affinity = replace(affinity, pod_affinity=near, pod_anti_affinity=far)
    return {} if after == affinity else {"affinity": after}


def _with_terms(part: PodAffinity | PodAntiAffinity | None, labels: Labels) -> Any:
    if part is None:
        return None
    required = part.required_during_scheduling_ignored_during_execution
    preferred = part.preferred_during_scheduling_ignored_during_execution
    return replace(
        part,
        required_during_scheduling_ignored_during_execution=tuple([_term(term, labels) for term in required]) if required else required,
        preferred_during_scheduling_ignored_during_execution=tuple(
            [replace(one, pod_affinity_term=_term(one.pod_affinity_term, labels)) for one in preferred]
        )
        if preferred
        else preferred,
    )


def _term(term: PodAffinityTerm, labels: Labels) -> PodAffinityTerm:
    if term.label_selector is None:
        return term
    said = ((term.match_label_keys, "In"), (term.mismatch_label_keys, "NotIn"))
    added = tuple(
        [
            LabelSelectorRequirement(key=key, operator=operator, values=(labels[key],))
            for keys, operator in said
            for key in keys or ()
            if key in labels
        ]
    )
    if not added:
        return term
    selector = term.label_selector
    return replace(term, label_selector=replace(selector, match_expressions=(*(selector.match_expressions or ()), *added)))
