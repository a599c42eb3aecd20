"""Laws of namespaces. Rules ADM-2 (spec/admission.md), DEL-7 (spec/api.md), NS-1, NS-3, NS-4
(spec/workloads/namespace.md)."""

from collections.abc import Iterable
from typing import Any

from refk8s.core.api.resources import NAMESPACES, PODS
from refk8s.core.cluster.state import Cluster
from refk8s.core.properties.law import SERVICE_ACCOUNTS, Arrived, Law, objects, was_removed
from refk8s.core.properties.predicates.namespace import (
    adm_2_the_namespace_is_active,
    del_7_terminating_until_empty,
    ns_1_the_namespace_is_terminating,
    ns_3_pods_are_removed_first,
    ns_4_a_finalizer_holds_it,
)
from refk8s.core.store import Change


def created_in_an_active_namespace(
    change: Change[Any], before: Cluster, after: Cluster
) -> Iterable[str] | None:
    """ADM-2, for an object that is created in a namespace."""
    if (
        change.record is None
        or change.previous is not None
        or not (name := change.record.value.metadata.namespace)
    ):
        return None
    record = before.history.get(f"{NAMESPACES.prefix}{name}")
    return adm_2_the_namespace_is_active(
        change.key, name, record.value if record is not None else None
    )


def terminating_until_empty(
    change: Change[Any], before: Cluster, after: Cluster
) -> Iterable[str] | None:
    """DEL-7, for a change of a namespace that is being deleted."""
    if change.previous is None or change.previous.value.metadata.deletion_timestamp is None:
        return None
    if change.record is not None:
        return del_7_terminating_until_empty(change.previous.value, change.record.value, ())
    return del_7_terminating_until_empty(change.previous.value, None, objects(after, "/"))


def only_terminating_namespaces_are_emptied(
    arrived: Arrived, before: Cluster, after: Cluster
) -> Iterable[str] | None:
    """NS-1, when the deletion of a collection takes effect."""
    request = arrived.request
    if request.verb != "deletecollection" or not arrived.changes:
        return None
    record = before.history.get(f"{NAMESPACES.prefix}{request.namespace}")
    return ns_1_the_namespace_is_terminating(request, record.value if record is not None else None)


def pods_are_removed_first(
    arrived: Arrived, before: Cluster, after: Cluster
) -> Iterable[str] | None:
    """NS-3, when the deletion of a collection of other objects takes effect."""
    request = arrived.request
    if request.verb != "deletecollection" or request.resource is PODS or not arrived.changes:
        return None
    left = before.history.list(f"{PODS.prefix}{request.namespace}/").records
    return ns_3_pods_are_removed_first(request, [record.key for record in left])


def terminating_namespaces_go(cluster: Cluster) -> Iterable[str] | None:
    """NS-4, for a settled cluster in which a namespace is or was being deleted."""
    namespaces = objects(cluster, NAMESPACES.prefix)
    going = [each for each in namespaces if each.metadata.deletion_timestamp is not None]
    if not going and not was_removed(cluster, NAMESPACES.prefix):
        return None
    return ns_4_a_finalizer_holds_it(going, objects(cluster, "/") if going else ())


CONTROLLER = SERVICE_ACCOUNTS + "namespace-controller"

OF_CHANGES = (
    Law("ADM-2", created_in_an_active_namespace),
    Law("DEL-7", terminating_until_empty, NAMESPACES.prefix),
)
OF_REQUESTS = (
    Law("NS-1", only_terminating_namespaces_are_emptied, CONTROLLER),
    Law("NS-3", pods_are_removed_first, CONTROLLER),
)
OF_REST = (Law("NS-4", terminating_namespaces_go),)
