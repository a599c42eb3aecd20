"""Laws of autoscalers. Rules HPA-8, HPA-10 (spec/workloads/autoscaler.md)."""

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

from refk8s.core.api.resources import HORIZONTAL_POD_AUTOSCALERS
from refk8s.core.cluster.state import Cluster
from refk8s.core.context import parse_timestamp
from refk8s.core.properties.law import Decision, Law
from refk8s.core.properties.predicates.autoscaler import (
    Scaling,
    hpa_8_does_not_flap,
    hpa_10_scales_within_its_bounds,
)


def _requested(decision: Decision) -> list[Any]:
    """The requests that change the scale of the target."""
    return [one for one in decision.requests if one.subresource == "scale" and one.verb == "update"]


def does_not_flap(decision: Decision, before: Cluster, after: Cluster) -> Iterable[str] | None:
    """HPA-8, when replicas are removed from a target that only this autoscaler has scaled, and
    whose whole history is there. Times are those of the controller's clock."""
    hpa = decision.view.get(HORIZONTAL_POD_AUTOSCALERS, decision.key)
    reports = [one.body.status for one in decision.requests if one.subresource == "status"]
    if hpa is None or not reports or reports[0].last_scale_time is None:
        return None
    for request in _requested(decision):
        target = _versions(before, request.resource.key(request.namespace, request.name))
        scalings = _scalings(_versions(before, HORIZONTAL_POD_AUTOSCALERS.prefix + decision.key))
        replicas = request.body.spec.replicas or 0
        if not target or scalings is None or replicas >= (target[-1].spec.replicas or 0):
            return None
        counts = [version.spec.replicas or 0 for version in target]
        steps = [pair for pair in pairwise(counts) if pair[0] != pair[1]]
        if steps != [(one.before, one.after) for one in scalings]:
            return None
        now = parse_timestamp(reports[0].last_scale_time)
        return list(hpa_8_does_not_flap(hpa, scalings, replicas, now))
    return None


def _versions(cluster: Cluster, key: str) -> list[Any]:
    """Every version of an object since its creation; none if that is not in the history."""
    found: list[Any] = []
    is_whole = False
    for change in cluster.history.changes(key, cluster.history.compacted):
        if change.key == key and change.record is not None:
            if change.previous is None:
                found, is_whole = [], True
            found.append(change.record.value)
    return found if is_whole else []


def _scalings(versions: list[Any]) -> list[Scaling] | None:
    """What an autoscaler has done, by the versions of its status. None if its spec was changed."""
    if not versions or len({version.metadata.generation for version in versions}) > 1:
        return None
    found: list[Scaling] = []
    last = None
    for version in versions:
        status = version.status
        if status.last_scale_time not in (None, last):
            at = parse_timestamp(status.last_scale_time)
            found.append(Scaling(at, status.current_replicas or 0, status.desired_replicas or 0))
            last = status.last_scale_time
    return found


def scales_within_its_bounds(
    decision: Decision, before: Cluster, after: Cluster
) -> Iterable[str] | None:
    """HPA-10, when the scale of a target is changed."""
    changes = _requested(decision)
    hpa = decision.view.get(HORIZONTAL_POD_AUTOSCALERS, decision.key)
    if hpa is None or not changes:
        return None
    return [
        words
        for one in changes
        for words in hpa_10_scales_within_its_bounds(hpa, one.body.spec.replicas or 0)
    ]


OF_DECISIONS = (
    Law("HPA-8", does_not_flap, "horizontal-pod-autoscaler"),
    Law("HPA-10", scales_within_its_bounds, "horizontal-pod-autoscaler"),
)
