"""ResourceQuotas: `status.used` follows what the namespace uses. Rules QUOTA-7, QUOTA-8
(spec/quota.md).

Admission charges what is created; this controller gives back what is deleted, counts what existed
before the quota, and repairs what a client wrote. It lowers `status.used` only on a view that
shows everything that was charged: a table of the view as new as the quota's own revision, or else
a list. The write is conditional on that revision, so nothing is charged in between.

| the count, beside `status.used` | what the controller does |
|---|---|
| the same | nothing |
| less, and the table is as new as the quota | writes it |
| absent, or less for DOUBT on an older table | lists the resource in the namespace, then writes it |
| more for DOUBT (a charge may be in transit to the view) | writes it |

Source: Kubernetes documentation, "Resource Quotas"; design proposal "Admission control plugin:
ResourceQuota". Left out: a periodic recount of every quota; each change is counted.
"""

from collections.abc import Callable, Iterable
from functools import lru_cache, partial
from typing import Any

from immutables import Map
from msgspec.structs import replace

from refk8s.core.api.core_v1 import ResourceQuota, ResourceQuotaStatus
from refk8s.core.api.custom import resources_of
from refk8s.core.api.quantity import ZERO, Amount, QuantityError, parse
from refk8s.core.api.request import Request, Response
from refk8s.core.api.resources import CUSTOM_RESOURCE_DEFINITIONS, RESOURCE_QUOTAS, Resource
from refk8s.core.context import MILLISECOND, SECOND, Instant
from refk8s.core.loop.custom import newest
from refk8s.core.loop.plan import NOTHING, Key, Local, Plan
from refk8s.core.loop.reconciler import Interest, Reconciler
from refk8s.core.loop.view import Fold, View, key_of, namespace_index, split_key
from refk8s.core.quota.counts import NO_GROUPS, Counts, Groups, add, fold_counts, is_same, selected
from refk8s.core.quota.usage import COUNTED, concerns
from refk8s.core.value import Value, evolve, field

DOUBT: Instant = 200 * MILLISECOND
"""How long a difference must last that may be a change in transit."""
RETRY: Instant = 1 * SECOND
"""When a list is sent again that was not answered."""


class Listed(Value, frozen=True, eq=False):
    """The counts of a listed resource, and the revision of the list."""

    revision: int
    groups: Groups


class Doubt(Value, frozen=True, eq=False):
    """A difference that may be a change in transit: since when, and by prefix the lists that were
    requested and those that were answered."""

    since: Instant
    asked: Map[str, Instant] = field(default_factory=Map)
    listed: Map[str, Listed] = field(default_factory=Map)


# --- which quotas a change concerns


def _concerned(resource: Resource, view: View, old: Any | None, new: Any | None) -> Iterable[Key]:
    """The quotas of the namespace, if the object may use more or less than before."""
    if not view.count(RESOURCE_QUOTAS):
        return ()
    if old is not None and new is not None and is_same(resource, old, new):
        return ()
    namespace = (new if new is not None else old).metadata.namespace or ""  # type: ignore[union-attr]
    return view.indexed_keys(RESOURCE_QUOTAS, "namespace", namespace)


def _concerned_by_quota(view: View, old: Any | None, new: Any | None) -> Iterable[Key]:
    """The quota, and the other quotas of its namespace if it was created or removed."""
    if old is not None and new is not None:
        return (key_of(new),)
    return (key_of(new if new is not None else old), *_concerned(RESOURCE_QUOTAS, view, old, new))


def _concerned_by_custom(view: View, old: Any | None, new: Any | None) -> Iterable[Key]:
    """The quotas of the namespace, if a custom object was created or removed."""
    if old is not None and new is not None:
        return ()
    namespace = (new if new is not None else old).metadata.namespace or ""  # type: ignore[union-attr]
    return view.indexed_keys(RESOURCE_QUOTAS, "namespace", namespace)


def _concerned_by_definition(view: View, old: Any | None, new: Any | None) -> Iterable[Key]:
    """The quotas that count objects of the definition's kind."""
    name = "count/" + key_of(new if new is not None else old)
    return [
        key_of(quota) for quota in view.list(RESOURCE_QUOTAS) if name in (quota.spec.hard or {})
    ]


_KEYS: dict[Resource, Callable[..., Iterable[Key]]] = {
    **{resource: partial(_concerned, resource) for resource in COUNTED},
    RESOURCE_QUOTAS: _concerned_by_quota,
}


# --- the controller


class ResourceQuotaController(Reconciler):
    """Reconciles one quota."""

    name = "resourcequota-controller"
    interests = (
        *(Interest(resource, keys) for resource, keys in _KEYS.items()),
        Interest(CUSTOM_RESOURCE_DEFINITIONS, _concerned_by_definition),
    )
    indexes = (namespace_index(RESOURCE_QUOTAS),)
    folds = (Fold("quota counts", COUNTED, Map(), fold_counts, custom=True),)
    custom_keys = staticmethod(_concerned_by_custom)

    def start_memory(self, now: Instant) -> Map[Key, Doubt]:
        """The doubts, by the quota's key."""
        return Map()

    def reconcile(self, view: View, key: Key, now: Instant, local: Local) -> Plan:
        """Decide by the table above."""
        # Observe
        quota: ResourceQuota | None = view.get(RESOURCE_QUOTAS, key)
        doubts: Map[Key, Doubt] = local.memory
        doubt = doubts.get(key)
        rest = doubts.delete(key) if doubt is not None else doubts
        if quota is None:
            return Plan(memory=rest) if doubt is not None else NOTHING
        doubt = doubt or Doubt(now)

        # Decide
        hard = quota.spec.hard or {}
        count = _Count(view, quota, doubt, now)
        count.take(hard)
        status = ResourceQuotaStatus(hard=hard or None, used=count.used or None)
        if not count.differs and (quota.status.hard or {}) == hard:
            return Plan(wake_at=count.wake_at, memory=rest)
        is_new = count.is_new or (quota.status.hard or {}) != hard
        if (count.unproven or count.is_more) and not is_new and now < doubt.since + DOUBT:
            wake_at = doubt.since + DOUBT
            return Plan(wake_at=wake_at, memory=doubts.set(key, doubt))
        if count.unproven:
            return self._list(view, key, doubts, doubt, count.unproven, now)

        # Act
        namespace, name = split_key(key)
        body = replace(quota, status=status)
        request = Request(
            "update",
            RESOURCE_QUOTAS,
            namespace,
            name,
            "status",
            body=body,
            because="its namespace uses something else",
        )

        # Report
        return Plan(((request,),), wake_at=count.wake_at, memory=rest)

    def _list(
        self,
        view: View,
        key: Key,
        doubts: Map[Key, Doubt],
        doubt: Doubt,
        unproven: list[Resource],
        now: Instant,
    ) -> Plan:
        """List the resources whose tables may lack something that was charged (QUOTA-8)."""
        queries: list[Request] = []
        asked = doubt.asked
        for resource in unproven:
            if (at := asked.get(resource.prefix)) is None or at + RETRY <= now:
                asked = asked.set(resource.prefix, now)
                namespace, _ = split_key(key)
                queries.append(Request("list", newest(view, resource), namespace))
        doubt = evolve(doubt, asked=asked)
        return Plan(queries=tuple(queries), wake_at=now + RETRY, memory=doubts.set(key, doubt))

    def answered(
        self,
        memory: Map[Key, Doubt],
        key: Key,
        request: Request,
        response: Response | None,
        now: Instant,
    ) -> tuple[Map[Key, Doubt], Iterable[Key]]:
        """Count a list. A list that failed is sent again after RETRY."""
        doubt = memory.get(key)
        if doubt is None or response is None or not response.ok:
            return memory, ()
        groups = NO_GROUPS
        for obj in response.body.items:
            groups = add(groups, request.resource, obj)
        prefix = request.resource.prefix
        listed = Listed(_number(response.body.metadata.resource_version), groups)
        asked = doubt.asked.delete(prefix) if prefix in doubt.asked else doubt.asked
        doubt = evolve(doubt, asked=asked, listed=doubt.listed.set(prefix, listed))
        return memory.set(key, doubt), (key,)


def _number(revision: str | None) -> int:
    """A resourceVersion as a number; 0 if it is none."""
    return int(revision) if revision and revision.isdecimal() else 0


@lru_cache(maxsize=4096)
def _builtin_of(name: str) -> Resource | None:
    return next((resource for resource in COUNTED if concerns(resource, name)), None)


def resource_of(view: View, name: str) -> Resource | None:
    """The resource that a name of `spec.hard` counts; None if it is not served."""
    if (found := _builtin_of(name)) is not None:
        return found
    if not name.startswith("count/"):
        return None
    crd = view.get(CUSTOM_RESOURCE_DEFINITIONS, name.removeprefix("count/"))
    served = resources_of(crd) if crd is not None else ()
    return served[0] if served and served[0].namespaced else None


class _Count:
    """What the namespace of one quota uses, beside its `status.used`."""

    def __init__(self, view: View, quota: ResourceQuota, doubt: Doubt, now: Instant) -> None:
        self.view, self.quota, self.doubt, self.now = view, quota, doubt, now
        self.revision = _number(quota.metadata.resource_version)
        self.used: dict[str, str] = {}
        self.wake_at: Instant | None = None
        self.unproven: list[Resource] = []
        self.differs = self.is_new = self.is_more = False

    def take(self, hard: dict[str, str]) -> None:
        """Count everything that `hard` limits. O(names and groups of the namespace)."""
        before = self.quota.status.used or {}
        by_resource: dict[Resource, list[str]] = {}
        for name in hard:
            resource = resource_of(self.view, name)
            if resource is not None:
                by_resource.setdefault(resource, []).append(name)
            elif name in before:
                self.used[name] = before[name]
        for resource, names in by_resource.items():
            self._take_resource(resource, names, before)
        if self.used.keys() != before.keys():
            self.differs = True

    def _take_resource(self, resource: Resource, names: list[str], before: dict[str, str]) -> None:
        counts: Counts = self.view.fold("quota counts")
        namespace = self.quota.metadata.namespace or ""
        groups = counts.get((namespace, resource.prefix), NO_GROUPS)
        is_proven = self.view.table(resource).revision >= self.revision
        listed = self.doubt.listed.get(resource.prefix)
        if not is_proven and listed is not None and listed.revision >= self.revision:
            groups, is_proven = listed.groups, True
        total, wake_at = selected(self.quota, resource, groups, self.now)
        if wake_at is not None:  # of pods, the only resource that has one
            self.wake_at = wake_at
        for name in names:
            much = total.get(name, ZERO)
            self.used[name] = str(much)
            was = _amount(before.get(name))
            if was is not None and was.nano == much.nano:
                self.used[name] = before[name]
                continue
            self.differs = True
            self.is_new = self.is_new or was is None
            if was is not None and much.nano > was.nano:
                self.is_more = True
            elif not is_proven and resource not in self.unproven:
                self.unproven.append(resource)


def _amount(text: str | None) -> Amount | None:
    """The quantity; None if it is absent or not a quantity."""
    try:
        return parse(text) if text is not None else None
    except QuantityError:
        return None
