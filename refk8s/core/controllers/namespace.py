"""Namespaces: the content of a terminating namespace is deleted, then the namespace. Rules NS-1 to
NS-6 (spec/workloads/namespace.md).

The controller lists the remaining objects from the API server. Its view is not enough: the view of
a resource may be older than the deletion of the namespace, and the namespace would be removed while
it still has objects. Nothing can be created in a terminating namespace (ADM-2). So an empty list of
every resource, answered after the deletion, is final.

Source: Kubernetes documentation, "Namespaces"; KEP-5080 "Ordered namespace deletion".
"""

from collections.abc import Iterable
from typing import Any

from immutables import Map
from msgspec.structs import replace

from refk8s.core.api.conditions import transition_time
from refk8s.core.api.core_v1 import Namespace, NamespaceCondition, NamespaceSpec
from refk8s.core.api.request import Request, Response
from refk8s.core.api.resources import (
    ALL,
    CUSTOM_RESOURCE_DEFINITIONS,
    NAMESPACES,
    PODS,
    Resource,
)
from refk8s.core.context import MILLISECOND, SECOND, Instant, timestamp
from refk8s.core.loop.custom import custom_resources
from refk8s.core.loop.plan import NOTHING, Key, Local, Plan
from refk8s.core.loop.reconciler import Interest, Reconciler, own_key
from refk8s.core.loop.view import View
from refk8s.core.value import Value, evolve, field

FINALIZER = "kubernetes"
_HELD = "Some content in the namespace has finalizers remaining"
AGAIN: Instant = 15 * SECOND  # the next round of lists, if no change triggers one earlier
BACKOFF_FIRST: Instant = 5 * MILLISECOND
BACKOFF_MAX: Instant = 30 * SECOND

CONTENT: tuple[Resource, ...] = tuple(
    resource
    for resource in ALL
    if resource.namespaced
    and "deletecollection" in resource.verbs
    and not resource.storage_api_version
)
"""Every namespaced resource, each in its storage version."""


class Remaining(Value, frozen=True):
    """The remaining objects of one resource."""

    count: int
    unmarked: int  # not yet being deleted
    finalizers: tuple[tuple[str, int], ...]  # (name, objects that have it)


class Survey(Value, frozen=True, eq=False):
    """One round of lists of one namespace, and the answers so far.

    `tries` counts the rounds that failed in a row; the round after a failed one starts at
    `again_at`.
    """

    uid: str
    found: Map[str, Remaining] = field(default_factory=Map)  # by resource prefix
    since: int = 0  # answers with an older revision are ignored
    tries: int = 0
    again_at: Instant | None = None
    list_count: int = len(CONTENT)

    @property
    def complete(self) -> bool:
        return len(self.found) == self.list_count


def _of_content(view: View, old: Any | None, new: Any | None) -> tuple[Key, ...]:
    """The namespace of a removed object, if it is terminating."""
    if new is not None or old is None:
        return ()
    namespace = view.get(NAMESPACES, old.metadata.namespace or "")
    return (
        (old.metadata.namespace,)
        if namespace is not None and namespace.metadata.deletion_timestamp is not None
        else ()
    )


def _nothing(view: View, old: Any | None, new: Any | None) -> tuple[Key, ...]:
    """A change of a definition concerns no namespace."""
    return ()


class NamespaceController(Reconciler):
    """Deletes the content of terminating namespaces and removes their finalizer. `content`: the
    resources to delete, if not all."""

    name = "namespace-controller"
    custom_keys = staticmethod(_of_content)

    def __init__(self, content: tuple[Resource, ...] = CONTENT) -> None:
        self.content = content
        self.interests = (
            Interest(NAMESPACES, own_key),
            *[Interest(resource, _of_content) for resource in content],
            Interest(CUSTOM_RESOURCE_DEFINITIONS, _nothing),
        )

    def start_memory(self, now: Instant) -> Map[Key, Survey]:
        return Map()

    def reconcile(self, view: View, key: Key, now: Instant, local: Local) -> Plan:
        """List the remaining objects (NS-2), delete them, and remove the finalizer (NS-4)."""
        # Observe
        namespace: Namespace | None = view.get(NAMESPACES, key)
        surveys: Map[Key, Survey] = local.memory
        if (
            namespace is None
            or namespace.metadata.deletion_timestamp is None
            or not _is_held(namespace)
        ):
            return Plan(memory=surveys.delete(key)) if key in surveys else NOTHING  # NS-1
        survey = surveys.get(key)
        if (
            survey is None
            or survey.uid != namespace.metadata.uid
            or (survey.again_at is not None and survey.again_at <= now)
        ):
            questions = tuple(
                Request("list", resource, key, because=f"namespace {key} is terminating")
                for resource in self._all(view)
            )
            begun = evolve(_new_survey(namespace, survey), list_count=len(questions))
            return Plan(
                queries=questions, memory=surveys.set(key, begun), wake_at=now + 30 * SECOND
            )
        if survey.again_at is not None:
            return Plan(wake_at=survey.again_at)  # NS-6
        if not survey.complete:
            return Plan(wake_at=now + 30 * SECOND)

        # Decide
        remaining = tuple(
            (resource, survey.found[resource.prefix])
            for resource in self._all(view)
            if resource.prefix in survey.found and survey.found[resource.prefix].count
        )
        pods_first = tuple(entry for entry in remaining if entry[0] == PODS) or remaining  # NS-3
        to_delete = tuple(resource for resource, rest in pods_first if rest.unmarked)

        # Act
        deletions = tuple(
            Request("deletecollection", resource, key, because=f"namespace {key} is terminating")
            for resource in to_delete
        )

        # Report
        status = _report(namespace, remaining, now)
        memory = surveys.delete(key)
        if remaining:
            again = now if to_delete else now + AGAIN
            return Plan((deletions,), last=status, memory=memory, wake_at=again)
        spec = NamespaceSpec(
            finalizers=tuple(name for name in namespace.spec.finalizers or () if name != FINALIZER)
            or None
        )
        finalized = replace(namespace, spec=spec)
        removal = Request(
            "update",
            NAMESPACES,
            "",
            key,
            "finalize",
            body=finalized,
            because="nothing is left in it",
        )
        return Plan((status, (_unversioned(removal),)), memory=memory)

    def _all(self, view: View) -> tuple[Resource, ...]:
        """The resources to delete, with the custom ones that are served."""
        return (*self.content, *[one for one in custom_resources(view) if one.namespaced])

    def answered(
        self,
        memory: Map[Key, Survey],
        key: Key,
        request: Request,
        response: Response | None,
        now: Instant,
    ) -> tuple[Map[Key, Survey], Iterable[Key]]:
        """Add the answer to one list of the round."""
        survey = memory.get(key)
        if survey is None or survey.again_at is not None:
            return memory, ()
        if response is None or not response.ok:  # NS-6
            again_at = now + min(BACKOFF_FIRST << min(survey.tries, 20), BACKOFF_MAX)
            return memory.set(key, evolve(survey, tries=survey.tries + 1, again_at=again_at)), (
                key,
            )
        if int(response.body.metadata.resource_version) < survey.since:
            return memory, ()
        survey = evolve(
            survey, found=survey.found.set(request.resource.prefix, _rest(response.body.items))
        )
        return memory.set(key, survey), (key,) if survey.complete else ()


def _is_held(namespace: Namespace) -> bool:
    return namespace.spec is not None and FINALIZER in (namespace.spec.finalizers or ())


def _new_survey(namespace: Namespace, before: Survey | None) -> Survey:
    """The next round. Late answers of an earlier round count if their revision is not before that
    of this namespace."""
    tries = before.tries if before is not None and before.uid == namespace.metadata.uid else 0
    return Survey(
        namespace.metadata.uid or "",
        since=int(namespace.metadata.resource_version or 0),
        tries=tries,
    )


def _unversioned(request: Request) -> Request:
    """Without resourceVersion: the status write of the same plan has changed it, and the removal of
    the finalizer does not depend on it."""
    body = request.body
    return evolve(
        request, body=replace(body, metadata=replace(body.metadata, resource_version=None))
    )


def _rest(items: Iterable[Any]) -> Remaining:
    count = unmarked = 0
    finalizers: dict[str, int] = {}
    for item in items:
        count += 1
        unmarked += item.metadata.deletion_timestamp is None
        for name in item.metadata.finalizers or ():
            finalizers[name] = finalizers.get(name, 0) + 1
    return Remaining(count, unmarked, tuple(sorted(finalizers.items())))


def _report(
    namespace: Namespace, remaining: tuple[tuple[Resource, Remaining], ...], now: Instant
) -> tuple[Request, ...]:
    """Write the conditions if they differ (NS-5)."""
    held: dict[str, int] = {}
    for _, rest in remaining:
        for name, count in rest.finalizers:
            held[name] = held.get(name, 0) + count
    resources = ", ".join(
        f"{resource.plural}.{resource.group} has {rest.count} resource instances"
        for resource, rest in remaining
    )
    finalizers = ", ".join(
        f"{name} in {count} resource instances" for name, count in sorted(held.items())
    )
    wanted = (
        (
            "NamespaceDeletionDiscoveryFailure",
            "False",
            "ResourcesDiscovered",
            "All resources successfully discovered",
        ),
        (
            "NamespaceDeletionGroupVersionParsingFailure",
            "False",
            "ParsedGroupVersions",
            "All legacy kube types successfully parsed",
        ),
        (
            "NamespaceDeletionContentFailure",
            "False",
            "ContentDeleted",
            "All content successfully deleted, may be waiting on finalization",
        ),
        (
            "NamespaceContentRemaining",
            "True",
            "SomeResourcesRemain",
            f"Some resources are remaining: {resources}",
        )
        if remaining
        else (
            "NamespaceContentRemaining",
            "False",
            "ContentRemoved",
            "All content successfully removed",
        ),
        ("NamespaceFinalizersRemaining", "True", "SomeFinalizersRemain", f"{_HELD}: {finalizers}")
        if held
        else (
            "NamespaceFinalizersRemaining",
            "False",
            "ContentHasNoFinalizers",
            "All content-preserving finalizers finished",
        ),
    )
    status = namespace.status
    assert status is not None, "defaulting gives every namespace a status"
    known = {condition.type: condition for condition in status.conditions or ()}
    conditions = tuple(
        _condition(known.get(type), type, value, reason, message, now)
        for type, value, reason, message in wanted
    )
    others = tuple(
        condition
        for condition in status.conditions or ()
        if condition.type not in {entry[0] for entry in wanted}
    )
    if conditions + others == tuple(status.conditions or ()):
        return ()
    body = replace(namespace, status=replace(status, conditions=conditions + others))
    return (
        Request(
            "update",
            NAMESPACES,
            "",
            namespace.metadata.name or "",
            "status",
            body=body,
            because="its deletion is in progress",
        ),
    )


def _condition(
    old: NamespaceCondition | None, type: str, value: str, reason: str, message: str, now: Instant
) -> NamespaceCondition:
    since = transition_time(old, value, timestamp(now))
    return NamespaceCondition(
        type=type, status=value, reason=reason, message=message, last_transition_time=since
    )
