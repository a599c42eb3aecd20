"""Predicates of quotas. Rules QUOTA-1, QUOTA-7, QUOTA-8 (spec/quota.md)."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from refk8s.core.api.quantity import ZERO, Amount, parse
from refk8s.core.api.resources import PODS, Resource
from refk8s.core.context import Instant
from refk8s.core.quota.scopes import selects, traits_of
from refk8s.core.quota.usage import concerns, expires_at, usage_of


def used_of(
    quota: Any, objects: Iterable[tuple[Resource, Any]], now: Instant
) -> Mapping[str, Amount]:
    """What these objects use of the quota, by adding them up. O(objects and names)."""
    names = [*(quota.spec.hard or {}), *(quota.status.hard or {})]
    found: dict[str, Amount] = {}
    for resource, obj in objects:
        if not selects(quota, resource, traits_of(resource, obj)):
            continue
        until = expires_at(obj) if resource == PODS else None
        for name, much in usage_of(resource, obj).items():
            is_over = until is not None and until < now and not name.startswith("count/")
            if name in names and concerns(resource, name) and not is_over:
                found[name] = found[name] + much if name in found else much
    return found


def quota_1_not_exceeded(
    quota: Any, created: Mapping[str, Amount], used: Mapping[str, Amount]
) -> Iterator[str]:
    """QUOTA-1, for an object that was created under the quota: `created` is what it uses, `used`
    what the namespace uses with it."""
    for name, limit in sorted((quota.status.hard or {}).items()):
        much = used.get(name, ZERO)
        if created.get(name, ZERO).nano and much.nano > parse(limit).nano:
            who = f"{quota.metadata.namespace}/{quota.metadata.name}"
            yield f"{name} of quota {who} is {limit}, and {much} are used after a create"


def quota_7_is_counted(
    quota: Any, used: Mapping[str, Amount], known: Iterable[str]
) -> Iterator[str]:
    """QUOTA-7: `used` is what the objects use, `known` the names of served resources."""
    who = f"{quota.metadata.namespace}/{quota.metadata.name}"
    if (quota.status.hard or {}) != (quota.spec.hard or {}):
        yield f"status.hard of quota {who} is not its spec.hard"
    written = quota.status.used or {}
    for name in sorted(known):
        if name not in written or parse(written[name]).nano != used.get(name, ZERO).nano:
            yield (
                f"{name} of quota {who} is {written.get(name)}, and {used.get(name, ZERO)} are used"
            )


def quota_8_nothing_is_left_out(quota: Any, used: Mapping[str, Amount]) -> Iterator[str]:
    """QUOTA-8, for a quota that was written: its count is not less than what the objects use."""
    for name, text in sorted((quota.status.used or {}).items()):
        if name in (quota.status.hard or {}) and parse(text).nano < used.get(name, ZERO).nano:
            who = f"{quota.metadata.namespace}/{quota.metadata.name}"
            yield f"{name} of quota {who} is written as {text}, and {used[name]} are used"
