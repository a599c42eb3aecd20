"""Laws of autoscalers. Rule HPA-10 (spec/workloads/autoscaler.md)."""

from collections.abc import Iterable

from refk8s.core.api.resources import HORIZONTAL_POD_AUTOSCALERS
from refk8s.core.cluster.state import Cluster
from refk8s.core.properties.law import Decision, Law
from refk8s.core.properties.predicates.autoscaler import hpa_10_scales_within_its_bounds


def scales_within_its_bounds(
    decision: Decision, before: Cluster, after: Cluster
) -> Iterable[str] | None:
    """HPA-10, when the scale of a target is changed."""
    changes = [
        one for one in decision.requests if one.subresource == "scale" and one.verb == "update"
    ]
    hpa = decision.view.get(HORIZONTAL_POD_AUTOSCALERS, decision.key)
    if hpa is None or not changes:
        return None
    return [
        words
        for one in changes
        for words in hpa_10_scales_within_its_bounds(hpa, one.body.spec.replicas or 0)
    ]


OF_DECISIONS = (Law("HPA-10", scales_within_its_bounds, "horizontal-pod-autoscaler"),)
