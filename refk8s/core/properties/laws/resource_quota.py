"""Laws of quotas. Rules QUOTA-1, QUOTA-7, QUOTA-8 (spec/quota.md)."""

from collections.abc import Iterable
from typing import Any

from refk8s.core.api.resources import RESOURCE_QUOTAS, Resource
from refk8s.core.cluster.state import Cluster
from refk8s.core.context import Instant
from refk8s.core.properties.law import Law, objects
from refk8s.core.properties.predicates.resource_quota import (
    quota_1_not_exceeded,
    quota_7_is_counted,
    quota_8_nothing_is_left_out,
    used_of,
)
from refk8s.core.quota.scopes import selects, traits_of
from refk8s.core.quota.usage import COUNTED, concerns, usage_of
from refk8s.core.store import Change, resource_prefix

_BY_PREFIX = {resource.prefix: resource for resource in COUNTED}


def _counted(cluster: Cluster, quota: Any, names: Iterable[str]) -> list[tuple[Resource, Any]]:
    """The stored objects of the quota's namespace that use one of these names."""
    namespace = quota.metadata.namespace
    return [
        (resource, obj)
        for resource in COUNTED
        if any(concerns(resource, name) for name in names)
        for obj in objects(cluster, f"{resource.prefix}{namespace}/")
    ]


def _latest_clock(cluster: Cluster) -> Instant:
    """The time by the clock that is furthest ahead: the controller may have it, and then counts no
    pod whose grace period is over by it."""
    return cluster.now + max([0, *[one.skew for one in cluster.components.values()]])


def no_quota_is_exceeded(
    change: Change[Any], before: Cluster, after: Cluster
) -> Iterable[str] | None:
    """QUOTA-1, for an object that is created in a namespace with quotas."""
    if change.record is None or change.previous is not None:
        return None
    resource = _BY_PREFIX.get(resource_prefix(change.key))
    if resource is None:
        return None
    obj = change.record.value
    found: list[str] | None = None
    for quota in objects(before, f"{RESOURCE_QUOTAS.prefix}{obj.metadata.namespace}/"):
        names = [name for name in quota.status.hard or {} if concerns(resource, name)]
        if not names or not selects(quota, resource, traits_of(resource, obj)):
            continue
        used = used_of(quota, _counted(after, quota, names), _latest_clock(after))
        found = [*(found or []), *quota_1_not_exceeded(quota, usage_of(resource, obj), used)]
    return found


def no_object_is_left_out(
    change: Change[Any], before: Cluster, after: Cluster
) -> Iterable[str] | None:
    """QUOTA-8, for a quota whose status was written."""
    if change.record is None or not change.record.value.status.used:
        return None
    quota = change.record.value
    used = used_of(quota, _counted(after, quota, quota.status.hard or ()), _latest_clock(after))
    return quota_8_nothing_is_left_out(quota, used)


def quotas_are_counted(cluster: Cluster) -> Iterable[str] | None:
    """QUOTA-7, for a settled cluster with quotas."""
    quotas = objects(cluster, RESOURCE_QUOTAS.prefix)
    found: list[str] = []
    for quota in quotas:
        hard = quota.spec.hard or {}
        known = [name for name in hard if any(concerns(resource, name) for resource in COUNTED)]
        used = used_of(quota, _counted(cluster, quota, hard), cluster.now)
        found += quota_7_is_counted(quota, used, known)
    return found if quotas else None


OF_CHANGES = (
    Law("QUOTA-1", no_quota_is_exceeded),
    Law("QUOTA-8", no_object_is_left_out, RESOURCE_QUOTAS.prefix),
)
OF_REST = (Law("QUOTA-7", quotas_are_counted),)
