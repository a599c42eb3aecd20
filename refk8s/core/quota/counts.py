"""How much the objects of a namespace use, counted with each change. Rules QUOTA-7, QUOTA-8
(spec/quota.md).

Objects with the same traits, and pods whose grace period ends at the same time, are a group. The
sum of each group is kept, so a change costs O(1), and what a quota counts is the sum of the groups
that it selects.
"""

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from immutables import Map
from msgspec.structs import replace

from refk8s.core.api.core_v1 import ResourceQuota
from refk8s.core.api.quantity import Amount
from refk8s.core.api.resources import PERSISTENT_VOLUME_CLAIMS, PODS, SERVICES, Resource
from refk8s.core.context import Instant
from refk8s.core.pods.status import is_finished
from refk8s.core.quota.scopes import Traits, selects, traits_of
from refk8s.core.quota.usage import (
    Usage,
    count_name,
    expires_at,
    is_counted,
    pod_usage,
    usage_of,
)

Group: TypeAlias = tuple[Traits, Instant | None]
"""Traits, and the instant after which a pod that is being deleted is no longer charged."""

Groups: TypeAlias = Map[Group, Usage]
Counts: TypeAlias = Map[tuple[str, str], Groups]
"""By namespace and prefix of the resource."""

NO_GROUPS: Groups = Map()
_VARIABLE = (PODS, SERVICES, PERSISTENT_VOLUME_CLAIMS)
"""Resources whose objects may use something else after an update."""


def is_same(resource: Resource, old: Any, new: Any) -> bool:
    """Whether an update surely leaves the usage as it was. False does not mean that it changes."""
    if resource not in _VARIABLE:
        return True
    if resource != PODS:
        return bool(old.spec == new.spec and old.status == new.status)
    # most changes of a pod are the node that it is bound to, and its status
    return (
        old.metadata.deletion_timestamp == new.metadata.deletion_timestamp
        and old.metadata.deletion_grace_period_seconds == new.metadata.deletion_grace_period_seconds
        and is_finished(old) == is_finished(new)
        and old.status.qos_class == new.status.qos_class
        and (old.spec is new.spec or replace(old.spec, node_name=new.spec.node_name) == new.spec)
        and ((new.metadata.generation or 0) <= 1 or pod_usage(old) == pod_usage(new))  # RESIZE-6
    )


def group_of(resource: Resource, obj: Any) -> Group:
    """The group in which the object is counted."""
    return traits_of(resource, obj), expires_at(obj) if resource == PODS else None


def fold_counts(counts: Counts, resource: Resource, old: Any | None, new: Any | None) -> Counts:
    """The counts after one change."""
    if not is_counted(resource):
        return counts
    if old is not None and new is not None and is_same(resource, old, new):
        return counts
    key = ((new if new is not None else old).metadata.namespace or "", resource.prefix)  # type: ignore[union-attr]
    groups = counts.get(key, NO_GROUPS)
    if old is not None:
        groups = _without(groups, resource, old)
    if new is not None:
        groups = add(groups, resource, new)
    return counts.set(key, groups) if groups else counts.delete(key)


def add(groups: Groups, resource: Resource, obj: Any) -> Groups:
    """The groups with one object more."""
    group = group_of(resource, obj)
    total = dict(groups.get(group, {}))
    for name, much in usage_of(resource, obj).items():
        if much.nano:
            total[name] = total[name] + much if name in total else much
    return groups.set(group, total)


def _without(groups: Groups, resource: Resource, obj: Any) -> Groups:
    group = group_of(resource, obj)
    total = dict(groups[group])
    for name, much in usage_of(resource, obj).items():
        if much.nano:  # a name that is not used is not in the sum
            total[name] = total[name] - much
            if not total[name].nano:
                del total[name]
    # every object counts one, so without this name the group is empty
    return groups.set(group, total) if count_of(resource) in total else groups.delete(group)


def count_of(resource: Resource) -> str:
    """The name that counts the objects of a resource."""
    return count_name(resource.group, resource.plural)


def selected(
    quota: ResourceQuota, resource: Resource, groups: Groups, now: Instant
) -> tuple[Mapping[str, Amount], Instant | None]:
    """What the objects that the quota selects use, and when that changes by time alone.
    O(groups)."""
    total: dict[str, Amount] = {}
    wake_at: Instant | None = None
    for (traits, until), usage in groups.items():
        if not selects(quota, resource, traits):
            continue
        names: Iterable[str] = usage
        if until is not None and until < now:
            names = [name for name in usage if name.startswith("count/")]
        elif until is not None:
            wake_at = until + 1 if wake_at is None else min(wake_at, until + 1)
        for name in names:
            total[name] = total[name] + usage[name] if name in total else usage[name]
    return total, wake_at
