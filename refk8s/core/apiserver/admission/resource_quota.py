"""A request is charged to the quotas of its namespace. Rules QUOTA-1, QUOTA-2, QUOTA-5, QUOTA-6,
QUOTA-9 (spec/quota.md).

The new `status.used` of each quota is written in the transaction of the request, on the condition
that the quota has not changed. So of two requests that together exceed a quota at most one is
committed, whichever API servers handle them.

Source: Kubernetes documentation, "Resource Quotas", "Admission Control in Kubernetes"
(ResourceQuota).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from refk8s.core.api import resources, status
from refk8s.core.api.core_v1 import Pod, ResourceQuota
from refk8s.core.api.quantity import ZERO, Amount, QuantityError
from refk8s.core.api.request import Request
from refk8s.core.api.status import ApiError
from refk8s.core.apiserver.admission.outcome import LimitedResource
from refk8s.core.apiserver.outcome import Reader
from refk8s.core.pods.containers import every_container
from refk8s.core.quota.scopes import is_in_scope, requirements_of, selects, traits_of
from refk8s.core.quota.usage import amounts, concerns, is_counted, named, usage_of
from refk8s.core.store import Compare, Put

PREFIX = resources.RESOURCE_QUOTAS.prefix
_CHANGED = {
    (resources.SERVICES, ""),
    (resources.PERSISTENT_VOLUME_CLAIMS, ""),
    (resources.PERSISTENT_VOLUME_CLAIMS, "status"),
    (resources.PODS, "resize"),
}
"""The updates that are charged; every other one uses what the object used before (QUOTA-6)."""
_MUST_BE_SPECIFIED = frozenset(
    ["cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"]
)

Charge = tuple[tuple[Compare, ...], tuple[Put[Any], ...]]
NOTHING: Charge = ((), ())


def charge(
    request: Request, new: Any, old: Any, store: Reader, limited: Sequence[LimitedResource] = ()
) -> Charge:
    """The compares and writes that charge the request to the quotas of its namespace. `limited`:
    what may be used only under a quota.

    Raises ApiError 403 if a quota does not allow it. O(quotas of the namespace), and one look-up if
    there is none.
    """
    resource = request.resource
    if resource == resources.RESOURCE_QUOTAS and _limits_else(new, old):
        compares, writes = _announced(request, store)
    elif old is not None:
        if (resource, request.subresource) not in _CHANGED:
            return NOTHING
        compares, writes = _announced(request, store)[0], []
    else:
        compares, writes = [], []
    if not resource.namespaced or not is_counted(resource):
        return tuple(compares), tuple(writes)
    if store.prefix_revision(PREFIX) == 0 and not limited:
        return tuple(compares), tuple(writes)
    quotas = store.list(f"{PREFIX}{request.namespace}/").records
    if limited:
        for record in quotas:
            _check_countable(record.value, request, new)
        _check_covered(limited, request, new, old, [record.value for record in quotas])
    for record in quotas:
        charged = _charged(record.value, request, new, old)
        if charged is not None:
            compares.append(Compare(record.key, record.mod_revision))
            writes.append(Put(record.key, charged))
    return tuple(compares), tuple(writes)


def _limits_else(new: ResourceQuota, old: ResourceQuota | None) -> bool:
    """Whether the quota may count what it did not count before."""
    return old is None or (old.spec is not new.spec and old.spec != new.spec)


def _announced(request: Request, store: Reader) -> tuple[list[Compare], list[Put[Any]]]:
    """The condition that the namespace has not changed, and a write that leaves it as it is.

    Every create is conditional on the namespace (ADM-2). So a create that was decided without a
    new quota, perhaps on another API server, conflicts and is decided again (QUOTA-2).
    """
    record = store.get(resources.NAMESPACES.key("", request.namespace))
    if record is None:
        return [], []
    return [Compare(record.key, record.mod_revision)], [Put(record.key, record.value)]


def _charged(quota: ResourceQuota, request: Request, new: Any, old: Any) -> ResourceQuota | None:
    """The quota after the request; None if it is not written.

    What the quota limits in its spec and not yet in its status is not charged. The quota is then
    written as it is, so that a count that was made before this request conflicts (QUOTA-8).
    """
    resource, hard = request.resource, quota.status.hard or {}
    names = [name for name in hard if concerns(resource, name)]
    waits = any(name not in hard and concerns(resource, name) for name in quota.spec.hard or ())
    if not (names or waits) or not selects(quota, resource, traits_of(resource, new)):
        return None
    unchanged = quota if waits else None
    if not names:
        return unchanged
    _check_countable(quota, request, new)
    used = quota.status.used or {}
    try:
        more = _growth(quota, request, new, old)
        asked = {name: more[name] for name in names if name in more and more[name].nano}
        if not asked:
            return unchanged
        before, limits = amounts(used), amounts(hard)
    except QuantityError:
        return unchanged  # of a status that a client has written; validation rejects it in a spec
    after = {name: before[name] + much for name, much in asked.items()}
    exceeded = sorted(name for name in asked if after[name].nano > limits[name].nano)
    if exceeded and request.subresource != "status":
        why = (
            f"exceeded quota: {quota.metadata.name}, requested: {_shown(exceeded, asked)}, "
            f"used: {_shown(exceeded, before)}, limited: {_shown(exceeded, limits)}"
        )
        raise _forbidden(request, new, why)
    used = {**used, **{name: str(much) for name, much in after.items()}}
    return replace(quota, status=replace(quota.status, used=used))


def _check_countable(quota: ResourceQuota, request: Request, new: Any) -> None:
    """Raise ApiError 403 if the quota selects the object, and what it uses cannot be counted."""
    resource = request.resource
    names = [name for name in quota.status.hard or () if concerns(resource, name)]
    if not names or not selects(quota, resource, traits_of(resource, new)):
        return
    if resource == resources.PODS:
        _check_specified(new, names, quota, request)
    used = quota.status.used or {}
    if any(name not in used for name in names):
        why = (
            f"status unknown for quota: {quota.metadata.name}, resources: {','.join(sorted(names))}"
        )
        raise _forbidden(request, new, why)


def _growth(quota: ResourceQuota | None, request: Request, new: Any, old: Any) -> dict[str, Amount]:
    """What the request uses in addition: of an update only what grows (QUOTA-6)."""
    resource = request.resource
    now = dict(usage_of(resource, new))
    if old is None or (quota and not selects(quota, resource, traits_of(resource, old))):
        return now
    before = usage_of(resource, old)
    return {
        name: much - before[name] if name in before else much
        for name, much in now.items()
        if much.nano > before.get(name, ZERO).nano
    }


def _check_covered(
    limited: Sequence[LimitedResource],
    request: Request,
    new: Any,
    old: Any,
    quotas: Sequence[ResourceQuota],
) -> None:
    """QUOTA-9: raise ApiError 403 if the request uses what is limited, and no quota limits it."""
    resource, traits = request.resource, traits_of(request.resource, new)
    used = [name for name, much in usage_of(resource, new).items() if much.nano > 0]
    mine = [
        one for one in limited if (one.group, one.resource) == (resource.group, resource.plural)
    ]
    needed = {name for name in used for one in mine if any(part in name for part in one.contains)}
    scopes = [
        scope for one in limited for scope in one.scopes if is_in_scope(scope, resource, traits)
    ]
    selecting = [quota for quota in quotas if selects(quota, resource, traits)]
    if not needed and not scopes:
        return
    counting: list[ResourceQuota | None] = [*selecting] or [None]
    if old is not None and not any(_grows(quota, request, new, old) for quota in counting):
        return
    limits = {name for quota in selecting for name in quota.status.hard or ()}
    if missing := sorted(needed - {name for name in limits if concerns(resource, name)}):
        raise _forbidden(request, new, f"insufficient quota to consume: {','.join(missing)}")
    covered = {
        one.scope_name
        for quota in quotas
        for one in requirements_of(quota)
        if is_in_scope(one, resource, traits)
    }
    if uncovered := [one for one in scopes if one.scope_name not in covered]:
        words = " ".join(
            f"{{{one.scope_name} {one.operator} [{' '.join(one.values or ())}]}}"
            for one in uncovered
        )
        raise _forbidden(request, new, f"insufficient quota to match these scopes: [{words}]")


def _grows(quota: ResourceQuota | None, request: Request, new: Any, old: Any) -> bool:
    """Whether the update uses more than before, as the quota counts it; as any does without one."""
    return any(much.nano for much in _growth(quota, request, new, old).values())


def _check_specified(
    pod: Pod, names: Iterable[str], quota: ResourceQuota, request: Request
) -> None:
    """QUOTA-5: raise ApiError 403 if a container has no value for what the quota limits."""
    required = _MUST_BE_SPECIFIED.intersection(names)
    if not required or pod.spec.resources is not None:
        return
    missing: dict[str, set[str]] = {}
    for container in every_container(pod.spec):
        mine = container.resources
        for name in required - named(amounts(mine.requests), amounts(mine.limits)).keys():
            missing.setdefault(name, set()).add(container.name)
    if missing:
        words = "; ".join(
            f"{name} for: {','.join(sorted(missing[name]))}" for name in sorted(missing)
        )
        why = f"failed quota: {quota.metadata.name}: must specify {words}"
        raise _forbidden(request, pod, why)


def _shown(names: Iterable[str], of: Mapping[str, Amount]) -> str:
    return ",".join(f"{name}={of[name]}" for name in names)


def _forbidden(request: Request, obj: Any, why: str) -> ApiError:
    return ApiError(status.forbidden(request.resource, obj.metadata.name or "", why))
