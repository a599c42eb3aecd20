"""Laws of DaemonSets. Rules DS-1, DS-5, DS-8, DS-9, DS-12 (spec/workloads/daemon_set.md)."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from refk8s.core.api.resources import DAEMON_SETS, NODES, PODS
from refk8s.core.cluster.state import Cluster
from refk8s.core.context import Instant
from refk8s.core.loop.plan import Plan
from refk8s.core.loop.view import View
from refk8s.core.properties.law import Decision, Law, objects
from refk8s.core.properties.predicates.daemon_set import (
    ds_1_settled,
    ds_5_one_pod_on_a_node,
    ds_8_updates_within_bounds,
    ds_9_two_pods_at_most,
    is_plain,
    of_pods,
)

Judge = Callable[[View, Any, Plan, Instant], Iterable[str]]


def of_set(judge: Judge, *verbs: str) -> Callable[..., Iterable[str] | None]:
    """A law on the decisions that send one of these for pods."""

    def check(decision: Decision, before: Cluster, after: Cluster) -> Iterable[str] | None:
        owner = decision.view.get(DAEMON_SETS, decision.key)
        if owner is None or not any(of_pods(decision.plan, verb) for verb in verbs):
            return None
        return judge(decision.view, owner, decision.plan, after.now)

    return check


def _one_pod_on_a_node(view: View, owner: Any, plan: Plan, now: Instant) -> Iterable[str]:
    return ds_5_one_pod_on_a_node(view, owner, plan)


def _within_bounds(view: View, owner: Any, plan: Plan, now: Instant) -> Iterable[str]:
    """DS-8, for templates whose nodes the law can tell."""
    return ds_8_updates_within_bounds(view, owner, plan, now) if is_plain(owner) else ()


def _two_pods_at_most(view: View, owner: Any, plan: Plan, now: Instant) -> Iterable[str]:
    return ds_9_two_pods_at_most(view, owner, plan)


def _nothing_while_being_deleted(view: View, owner: Any, plan: Plan, now: Instant) -> Iterator[str]:
    """DS-12."""
    if owner.metadata.deletion_timestamp is not None:
        yield f"{owner.metadata.name} is being deleted, and its pods are changed"


def a_pod_on_every_node(cluster: Cluster) -> Iterable[str] | None:
    """DS-1, for every DaemonSet of a settled cluster."""
    owners = [
        owner
        for owner in objects(cluster, DAEMON_SETS.prefix)
        if is_plain(owner) and owner.metadata.deletion_timestamp is None
    ]
    if not owners:
        return None
    nodes, pods = objects(cluster, NODES.prefix), objects(cluster, PODS.prefix)
    return [words for owner in owners for words in ds_1_settled(owner, nodes, pods)]


OF_DECISIONS = (
    Law("DS-5", of_set(_one_pod_on_a_node, "create"), "daemon-set"),
    Law("DS-8", of_set(_within_bounds, "delete"), "daemon-set"),
    Law("DS-9", of_set(_two_pods_at_most, "create"), "daemon-set"),
    Law("DS-12", of_set(_nothing_while_being_deleted, "create", "delete"), "daemon-set"),
)
OF_REST = (Law("DS-1", a_pod_on_every_node),)
