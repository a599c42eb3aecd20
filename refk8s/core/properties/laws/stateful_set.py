"""Laws of StatefulSets. Rules STS-1, STS-2, STS-4, STS-6, STS-12
(spec/workloads/stateful_set.md)."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from refk8s.core.api.resources import PODS, STATEFUL_SETS
from refk8s.core.cluster.state import Cluster
from refk8s.core.context import Instant
from refk8s.core.loop.plan import Plan
from refk8s.core.loop.view import View
from refk8s.core.properties.law import Decision, Law, objects
from refk8s.core.properties.predicates.stateful_set import (
    of_pods,
    sts_1_settled,
    sts_2_one_pod_for_each_ordinal,
    sts_4_one_at_a_time,
    sts_6_updates_within_bounds,
)

Judge = Callable[[View, Any, Plan, Instant], Iterable[str]]


def of_set(judge: Judge, verb: str = "") -> Callable[..., Iterable[str] | None]:
    """A law on the decisions that create or delete pods (or only with this verb)."""

    def check(decision: Decision, before: Cluster, after: Cluster) -> Iterable[str] | None:
        owner = decision.view.get(STATEFUL_SETS, decision.key)
        verbs = (verb,) if verb else ("create", "delete")
        if owner is None or not (
            any(of_pods(decision.plan, one) for one in verbs)
            or (not verb and any(one.verb == "create" for one in decision.plan.requests))
        ):
            return None
        return judge(decision.view, owner, decision.plan, after.now)

    return check


def _one_pod_for_each_ordinal(view: View, owner: Any, plan: Plan, now: Instant) -> Iterable[str]:
    return sts_2_one_pod_for_each_ordinal(view, owner, plan)


def _nothing_while_being_deleted(view: View, owner: Any, plan: Plan, now: Instant) -> Iterator[str]:
    """STS-12."""
    if owner.metadata.deletion_timestamp is not None:
        yield f"{owner.metadata.name} is being deleted, and objects are created or its pods deleted"


def pods_of_ordinals(cluster: Cluster) -> Iterable[str] | None:
    """STS-1, for every StatefulSet of a settled cluster."""
    owners, pods = objects(cluster, STATEFUL_SETS.prefix), objects(cluster, PODS.prefix)
    if not owners:
        return None
    return [words for owner in owners for words in sts_1_settled(owner, pods, cluster.now)]


OF_DECISIONS = (
    Law("STS-2", of_set(_one_pod_for_each_ordinal, "create"), "statefulset"),
    Law("STS-4", of_set(sts_4_one_at_a_time), "statefulset"),
    Law("STS-6", of_set(sts_6_updates_within_bounds, "delete"), "statefulset"),
    Law("STS-12", of_set(_nothing_while_being_deleted), "statefulset"),
)
OF_REST = (Law("STS-1", pods_of_ordinals),)
