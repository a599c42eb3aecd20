"""Namespaces: the content of a terminating namespace is deleted, then the namespace. Rules NS-1 to
NS-7 (spec/workloads/namespace.md).

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

from refk8s.core.api.aggregated import (
    aggregated_resource,
    is_aggregated,
    is_available,
    is_of_another_server,
)
from refk8s.core.api.conditions import transition_time
from refk8s.core.api.core_v1 import Namespace, NamespaceCondition, NamespaceSpec
from refk8s.core.api.custom import CustomList
from refk8s.core.api.request import Request, Response
from refk8s.core.api.resources import (
    ALL,
    API_SERVICES,
    CUSTOM_RESOURCE_DEFINITIONS,
    LATER,
    NAMESPACES,
    PODS,
    Resource,
)
from refk8s.core.context import MILLISECOND, SECOND, Instant, timestamp
from refk8s.core.loop.custom import custom_resources
from refk8s.core.loop.plan import NOTHING, Key, Local, Plan
from refk8s.core.loop.reconciler import Interest, Reconciler, own_key
from refk8s.core.loop.view import View, key_of
from refk8s.core.value import Value, evolve, field

FINALIZER = "kubernetes"
_HELD = "Some content in the namespace has finalizers remaining"
_INCOMPLETE = "unable to retrieve the complete list of server APIs"
RESOURCES_MAX = 512  # of one group version of another API server
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
    `again_at`. `others`: what other API servers serve, by the name of the APIService; None if one
    cannot be asked (NS-7). `asked`: those whose answer is awaited.
    """

    uid: str
    found: Map[str, Remaining] = field(default_factory=Map)  # by resource prefix
    since: int = 0  # answers with an older revision are ignored
    tries: int = 0
    again_at: Instant | None = None
    list_count: int = len(CONTENT)
    is_listed: bool = True  # whether the lists have been asked for
    others: Map[str, tuple[Resource, ...] | None] = field(default_factory=Map)
    asked: tuple[Key, ...] = ()

    @property
    def complete(self) -> bool:
        return self.is_listed and len(self.found) == self.list_count


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


def _of_api_service(view: View, old: Any | None, new: Any | None) -> tuple[Key, ...]:
    """Every terminating namespace, when another API server has changed (NS-7)."""
    if not any(one is not None and is_of_another_server(one) for one in (old, new)):
        return ()
    return tuple(
        [
            key_of(one)
            for one in view.list(NAMESPACES)
            if one.metadata.deletion_timestamp is not None
        ]
    )


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
            Interest(API_SERVICES, _of_api_service),
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
            survey, questions = _ask_others(view, _new_survey(namespace, survey))
            if questions:
                return Plan(
                    queries=questions, memory=surveys.set(key, survey), wake_at=now + 30 * SECOND
                )
        if survey.again_at is not None:
            return Plan(wake_at=survey.again_at)  # NS-6
        if not survey.is_listed and all(one in survey.others for one in survey.asked):
            questions = tuple(
                Request("list", resource, key, because=f"namespace {key} is terminating")
                for resource in self._all(view, survey)
            )
            survey = evolve(survey, list_count=len(questions), is_listed=True)
            return Plan(
                queries=questions, memory=surveys.set(key, survey), wake_at=now + 30 * SECOND
            )
        if not survey.complete:
            return Plan(wake_at=now + 30 * SECOND)

        # Decide
        remaining = tuple(
            (resource, survey.found[resource.prefix])
            for resource in self._all(view, survey)
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
        failing = tuple(sorted(name for name, found in survey.others.items() if found is None))
        status = _report(namespace, remaining, failing, now)
        memory = surveys.delete(key)
        if remaining or failing:
            again = now if to_delete else now + AGAIN
            asks_others = bool(to_delete) and all(map(is_aggregated, to_delete))
            if to_delete and not asks_others and not local.failures:
                status = ()  # NS-5: the next round counts what is left
            if asks_others:
                # another server may not do what it is asked, so it is not asked again at once
                again = now + AGAIN
                memory = surveys.set(key, evolve(survey, again_at=again))
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

    def _all(self, view: View, survey: Survey) -> tuple[Resource, ...]:
        """The resources to delete, with the custom ones that are served, and those of other API
        servers."""
        own = (*self.content, *[one for one in custom_resources(view) if one.namespaced])
        others = {
            one.prefix: one for _, found in sorted(survey.others.items()) for one in found or ()
        }
        for one in own:
            others.pop(one.prefix, None)
        return (*own, *others.values())

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
        if is_aggregated(request.resource):
            survey = _with_answer_of_another(survey, request, response)
            is_due = survey.complete or not survey.is_listed
            return memory.set(key, survey), (key,) if is_due else ()
        if response is not None and response.code == 404 and request.resource in LATER:
            nothing = Remaining(0, 0, ())  # it is not served (LOOP-16)
            survey = evolve(survey, found=survey.found.set(request.resource.prefix, nothing))
            return memory.set(key, survey), (key,) if survey.complete else ()
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


# --- other API servers


def _ask_others(view: View, survey: Survey) -> tuple[Survey, tuple[Request, ...]]:
    """The questions what other API servers serve; those that are not available are not asked."""
    others = [one for one in view.list(API_SERVICES) if is_of_another_server(one)]
    asked, questions = [], []
    for one in others:
        name = one.metadata.name or ""
        if is_available(one):
            asked.append(name)
            root = aggregated_resource(one.spec.group, one.spec.version, "")
            questions.append(Request("get", root, because="what a namespace may have"))
        else:
            survey = evolve(survey, others=survey.others.set(name, None))
    return evolve(survey, asked=tuple(asked), is_listed=False), tuple(questions)


def _with_answer_of_another(survey: Survey, request: Request, response: Response | None) -> Survey:
    """Add what another API server serves, or the answer to one of its lists. A server that fails
    does not keep the other content (NS-7)."""
    resource = request.resource
    name = f"{resource.version}.{resource.group}"
    if not resource.plural:
        found = _resources_of(resource, response)
        return evolve(survey, others=survey.others.set(name, found))
    if response is not None and response.ok and isinstance(response.body, CustomList):
        rest = _rest(response.body.items)
        return evolve(survey, found=survey.found.set(resource.prefix, rest))
    others = survey.others.set(name, None)
    nothing = Remaining(0, 0, ())
    return evolve(survey, others=others, found=survey.found.set(resource.prefix, nothing))


def _resources_of(root: Resource, response: Response | None) -> tuple[Resource, ...] | None:
    """The resources whose objects can be listed and deleted, in a discovery document; None if it is
    none."""
    content = getattr(response.body, "content", None) if response is not None else None
    entries = content.get("resources") if isinstance(content, dict) else None
    if response is None or not response.ok or not isinstance(entries, list):
        return None
    found = []
    for one in entries[:RESOURCES_MAX]:
        name, kind = (one.get("name"), one.get("kind")) if isinstance(one, dict) else (None, None)
        if isinstance(name, str) and isinstance(kind, str) and "/" not in name:
            verbs = one.get("verbs")
            is_deleted = isinstance(verbs, list) and {"list", "deletecollection"} <= {
                verb for verb in verbs if isinstance(verb, str)
            }
            if is_deleted and one.get("namespaced") is True:
                found.append(aggregated_resource(root.group, root.version, name, kind))
    return tuple(found)


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


_NO_PROBLEM = {
    "NamespaceDeletionDiscoveryFailure": (
        "ResourcesDiscovered",
        "All resources successfully discovered",
    ),
    "NamespaceDeletionGroupVersionParsingFailure": (
        "ParsedGroupVersions",
        "All legacy kube types successfully parsed",
    ),
    "NamespaceDeletionContentFailure": (
        "ContentDeleted",
        "All content successfully deleted, may be waiting on finalization",
    ),
    "NamespaceContentRemaining": ("ContentRemoved", "All content successfully removed"),
    "NamespaceFinalizersRemaining": (
        "ContentHasNoFinalizers",
        "All content-preserving finalizers finished",
    ),
}
"""The reason and message of each condition while it is False."""


def _problems(
    remaining: tuple[tuple[Resource, Remaining], ...], failing: tuple[str, ...]
) -> dict[str, tuple[str, str]]:
    """The reason and message of each condition that is True (NS-5, NS-7)."""
    found: dict[str, tuple[str, str]] = {}
    if failing:
        versions = ["/".join(reversed(name.split(".", 1))) for name in failing]
        stale = ", ".join(f"{one}: stale GroupVersion discovery: {one}" for one in versions)
        words = f"Discovery failed for some groups, {len(failing)} failing: {_INCOMPLETE}: {stale}"
        found["NamespaceDeletionDiscoveryFailure"] = ("DiscoveryFailed", words)
    if remaining:
        resources = ", ".join(
            f"{resource.plural}.{resource.group} has {rest.count} resource instances"
            for resource, rest in remaining
        )
        words = f"Some resources are remaining: {resources}"
        found["NamespaceContentRemaining"] = ("SomeResourcesRemain", words)
    held: dict[str, int] = {}
    for _, rest in remaining:
        for name, count in rest.finalizers:
            held[name] = held.get(name, 0) + count
    if held:
        finalizers = ", ".join(
            f"{name} in {count} resource instances" for name, count in sorted(held.items())
        )
        found["NamespaceFinalizersRemaining"] = ("SomeFinalizersRemain", f"{_HELD}: {finalizers}")
    return found


def _report(
    namespace: Namespace,
    remaining: tuple[tuple[Resource, Remaining], ...],
    failing: tuple[str, ...],
    now: Instant,
) -> tuple[Request, ...]:
    """Write the conditions if they differ (NS-5, NS-7)."""
    problems = _problems(remaining, failing)
    status = namespace.status
    assert status is not None, "defaulting gives every namespace a status"
    known = {condition.type: condition for condition in status.conditions or ()}
    conditions = tuple(
        _condition(known.get(type), type, str(type in problems), *problems.get(type, fine), now)
        for type, fine in _NO_PROBLEM.items()
    )
    others = tuple(
        condition for condition in status.conditions or () if condition.type not in _NO_PROBLEM
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
