"""CustomResourceDefinitions: their names are accepted, and their objects deleted with them. Rules
CRD-15, CRD-19, CRD-29 (spec/custom_resources.md).

| the definition | what the controller does |
|---|---|
| no other one of its group has its names | accepts them; the definition is Established |
| another one of its group has one of its names | NamesAccepted is False, and the names that are free are accepted |
| being deleted, with the cleanup finalizer | deletes its objects, and removes the finalizer when none is left |

The API server runs it, as upstream, so definitions take effect without a controller manager.
Source: Kubernetes documentation, "Extend the Kubernetes API with CustomResourceDefinitions". Left
out: upstream establishes a definition five seconds later if there are several API servers.
"""

from collections.abc import Iterable
from typing import Any, Final

from immutables import Map
from msgspec.structs import replace

from refk8s.core.api.conditions import get_condition, transition_time
from refk8s.core.api.custom import (
    CLEANUP_FINALIZER,
    ESTABLISHED,
    NAMES_ACCEPTED,
    TERMINATING,
    bundle_of,
    has_condition,
    resource_to_list,
)
from refk8s.core.api.pem import problem_of_bundle
from refk8s.core.api.request import Request, Response
from refk8s.core.api.resources import CUSTOM_RESOURCE_DEFINITIONS, Resource
from refk8s.core.api.user import API_SERVER
from refk8s.core.context import SECOND, Instant, timestamp
from refk8s.core.controllers.api_service_availability import ApiServiceAvailability
from refk8s.core.controllers.api_service_registration import ApiServiceRegistration
from refk8s.core.controllers.flow_control import flow_control
from refk8s.core.loop.custom import by_group
from refk8s.core.loop.loop import Loop
from refk8s.core.loop.plan import NOTHING, Key, Local, Plan
from refk8s.core.loop.reconciler import Interest, Reconciler
from refk8s.core.loop.view import View
from refk8s.core.value import Value, field

AGAIN: Instant = 2 * SECOND
"""The next list of the objects of a definition that is being deleted."""

APPROVED: Final = "KubernetesAPIApprovalPolicyConformant"
APPROVAL: Final = "api-approved.kubernetes.io"
Condition = tuple[str, str, str, str]  # type, status, reason, message


class Remaining(Value, frozen=True):
    """The answer to a list of a definition's objects: how many there are, and the namespaces of
    those that are not being deleted yet. `at`: when they are listed again."""

    uid: str
    count: int
    namespaces: tuple[str, ...]
    at: Instant


class Memory(Value, frozen=True, eq=False):
    """The names that this instance has accepted, by definition, because the view may be behind; and
    the objects that remain of each definition that is being deleted."""

    accepted: Map[Key, tuple[str, Any]] = field(default_factory=Map)
    remaining: Map[Key, Remaining] = field(default_factory=Map)


def _concerned(view: View, old: Any | None, new: Any | None) -> list[Key]:
    """The definition, and those of its group that wait for a name."""
    changed: Any = new if new is not None else old
    found = {changed.metadata.name: None}
    for crd in view.indexed(CUSTOM_RESOURCE_DEFINITIONS, "group", changed.spec.group):
        if not has_condition(crd, NAMES_ACCEPTED):
            found[crd.metadata.name] = None
    return list(found)


class DefinitionController(Reconciler):
    """Reconciles one CustomResourceDefinition."""

    name = "customresourcedefinition-controller"
    user = API_SERVER
    interests = (Interest(CUSTOM_RESOURCE_DEFINITIONS, _concerned),)
    indexes = (by_group(),)

    def start_memory(self, now: Instant) -> Memory:
        return Memory()

    def reconcile(self, view: View, key: Key, now: Instant, local: Local) -> Plan:
        """Decide by the table above."""
        # Observe
        memory: Memory = local.memory
        crd = view.get(CUSTOM_RESOURCE_DEFINITIONS, key)
        if crd is None:
            if key in memory.accepted or key in memory.remaining:
                return Plan(memory=_forget(memory, key))
            return NOTHING
        if crd.metadata.deletion_timestamp is not None:
            if CLEANUP_FINALIZER not in (crd.metadata.finalizers or ()):
                return NOTHING
            return _delete_objects(crd, key, memory, now)

        # Decide
        taken = _names_of_others(view, crd, memory)
        names, conditions = _accept(crd, taken)

        # Report
        status = replace(
            crd.status, accepted_names=names, conditions=_conditions(crd, conditions, now)
        )
        if status == crd.status:
            return NOTHING
        accepted = memory.accepted.set(key, (crd.metadata.uid, names))
        return Plan(
            (_write_status(crd, status, "its names are checked"),),
            memory=Memory(accepted, memory.remaining),
        )

    def answered(
        self, memory: Memory, key: Key, request: Request, response: Response | None, now: Instant
    ) -> tuple[Memory, Iterable[Key]]:
        """Keep the objects that remain of a definition."""
        uid = request.options.field_manager
        if response is None or not response.ok:
            gone = response is not None and response.code == 404
            found = Remaining(uid, 0 if gone else -1, (), now + AGAIN)
        else:
            items = response.body.items
            unmarked = [one for one in items if one.metadata.deletion_timestamp is None]
            namespaces = dict.fromkeys(one.metadata.namespace or "" for one in unmarked)
            found = Remaining(uid, len(items), tuple(namespaces), now + AGAIN)
        return Memory(memory.accepted, memory.remaining.set(key, found)), (key,)


def _forget(memory: Memory, key: Key) -> Memory:
    accepted, remaining = memory.accepted, memory.remaining
    return Memory(
        accepted.delete(key) if key in accepted else accepted,
        remaining.delete(key) if key in remaining else remaining,
    )


# --- names


def _names_of_others(view: View, crd: Any, memory: Memory) -> tuple[set[str], set[str]]:
    """The accepted names of the other definitions of the group: those of resources, and kinds
    (CRD-19). For membership only."""
    plurals: set[str] = set()
    kinds: set[str] = set()
    for other in view.indexed(CUSTOM_RESOURCE_DEFINITIONS, "group", crd.spec.group):
        name = other.metadata.name
        if name == crd.metadata.name:
            continue
        uid, mine = memory.accepted.get(name, ("", None))
        for names in (other.status.accepted_names, mine if uid == other.metadata.uid else None):
            if names is not None:
                plurals |= {names.plural, names.singular or "", *(names.short_names or ())}
                kinds |= {names.kind, names.list_kind or ""}
    return plurals - {""}, kinds - {""}


def _accept(crd: Any, taken: tuple[set[str], set[str]]) -> tuple[Any, list[Condition]]:
    """The accepted names, and the conditions NamesAccepted and Established (CRD-19)."""
    plurals, kinds = taken
    wanted, known = crd.spec.names, crd.status.accepted_names
    names, problem = known, ("", "")
    for attribute, used, reason in (
        ("plural", plurals, "PluralConflict"),
        ("singular", plurals, "SingularConflict"),
        ("short_names", plurals, "ShortNamesConflict"),
        ("kind", kinds, "KindConflict"),
        ("list_kind", kinds, "ListKindConflict"),
    ):
        value, accepted = getattr(wanted, attribute), getattr(known, attribute)
        fresh = set(_texts(value)) - set(_texts(accepted))
        conflicts = [text for text in _texts(value) if text in fresh and text in used]
        if conflicts:
            texts = [f'"{text}" is already in use' for text in conflicts]
            problem = (reason, texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]")
        else:
            names = replace(names, **{attribute: value})
    names = replace(names, categories=wanted.categories)
    if problem[0]:
        found: list[Condition] = [(NAMES_ACCEPTED, "False", *problem)]
        if not has_condition(crd, ESTABLISHED):
            words = "not all names are accepted"
            found.append((ESTABLISHED, "False", "NotAccepted", words))
    else:
        found = [(NAMES_ACCEPTED, "True", "NoConflicts", "no conflicts found")]
        if not has_condition(crd, ESTABLISHED):
            found.append((ESTABLISHED, *_established(crd)))
    return names, found + _approval(crd)


def _established(crd: Any) -> tuple[str, str, str]:
    """Status, reason and message of the condition, of a definition whose names are accepted."""
    if problem_of_bundle(bundle_of(crd.spec)):  # CRD-29
        return "False", "InvalidCABundle", "The conversion webhook CABundle is invalid"
    return "True", "InitialNamesAccepted", "the initial names have been accepted"


def _texts(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else tuple(value)


def _approval(crd: Any) -> list[Condition]:
    """Whether a group of the Kubernetes community is approved, by its annotation."""
    group = crd.spec.group
    if not any(group == one or group.endswith(f".{one}") for one in ("k8s.io", "kubernetes.io")):
        return []
    approval = (crd.metadata.annotations or {}).get(APPROVAL, "")
    if approval.startswith("unapproved"):
        words = f'not approved: "{approval}"'
        return [(APPROVED, "False", "UnapprovedAnnotation", words)]
    if approval:
        return [(APPROVED, "True", "ApprovedAnnotation", f"approved in {approval}")]
    words = f'protected groups must have approval annotation "{APPROVAL}"'
    return [(APPROVED, "False", "MissingAnnotation", words)]


def _conditions(crd: Any, wanted: list[Condition], now: Instant) -> tuple[Any, ...]:
    """The conditions of the definition with these; the time of one changes with its status."""
    from refk8s.core.api.apiextensions_v1 import CustomResourceDefinitionCondition

    conditions: tuple[Any, ...] = crd.status.conditions or ()
    for kind, status, reason, message in wanted:
        known = get_condition(conditions, kind)
        made = CustomResourceDefinitionCondition(
            type=kind,
            status=status,
            reason=reason,
            message=message,
            last_transition_time=transition_time(known, status, timestamp(now)),
        )
        if known is None:
            conditions = (*conditions, made)
        else:
            conditions = tuple([made if one is known else one for one in conditions])
    return conditions


def _write_status(crd: Any, status: Any, because: str) -> tuple[Request, ...]:
    name = crd.metadata.name or ""
    body = replace(crd, status=status)
    return (
        Request(
            "update",
            CUSTOM_RESOURCE_DEFINITIONS,
            "",
            name,
            "status",
            body=body,
            because=because,
        ),
    )


# --- deletion


def _delete_objects(crd: Any, key: Key, memory: Memory, now: Instant) -> Plan:
    """List the objects, delete them, and remove the finalizer when none is left (CRD-15)."""
    served = resource_to_list(crd)
    remaining = memory.remaining.get(key)
    is_known = remaining is not None and remaining.uid == crd.metadata.uid
    # nothing is created any more, so no objects once are none for ever
    if remaining is None or not is_known or (remaining.count and remaining.at <= now):
        if served:
            question = Request(
                "list",
                served,
                options=_uid_option(crd),
                because=f"definition {key} is being deleted",
            )
            kept = Remaining(crd.metadata.uid, -1, (), now + 15 * AGAIN)
            waits = Memory(memory.accepted, memory.remaining.set(key, kept))
            return Plan(queries=(question,), memory=waits, wake_at=kept.at)
        # it was never served, so it has no objects
        remaining = Remaining(crd.metadata.uid, 0, (), now)
    if remaining.count < 0:
        return Plan(wake_at=remaining.at)
    if remaining.count:
        return _deletions(crd, served, remaining, key, memory, now)
    finalizers = [one for one in crd.metadata.finalizers or () if one != CLEANUP_FINALIZER]
    metadata = replace(crd.metadata, finalizers=tuple(finalizers) or None)
    body = replace(crd, metadata=metadata)
    removal = Request(
        "update",
        CUSTOM_RESOURCE_DEFINITIONS,
        "",
        key,
        body=body,
        because="none of its objects is left",
    )
    return Plan(((removal,),), memory=_forget(memory, key))


def _deletions(
    crd: Any,
    resource: Resource | None,
    remaining: Remaining,
    key: Key,
    memory: Memory,
    now: Instant,
) -> Plan:
    words = ("True", "InstanceDeletionInProgress", "CustomResource deletion is in progress")
    status = replace(crd.status, conditions=_conditions(crd, [(TERMINATING, *words)], now))
    first = _write_status(crd, status, "its objects are deleted") if status != crd.status else ()
    if resource is None or not remaining.namespaces:
        # they have finalizers; the next list shows whether they are gone
        return Plan((first,) if first else (), wake_at=remaining.at)
    deletions = tuple(
        Request("deletecollection", resource, namespace, because=f"definition {key} is deleted")
        for namespace in remaining.namespaces
    )
    left = Memory(memory.accepted, memory.remaining.delete(key))
    return Plan((first, deletions) if first else (deletions,), memory=left, wake_at=now)


def _uid_option(crd: Any) -> Any:
    """The uid of the definition travels with the request, for `answered`."""
    from refk8s.core.api.request import Options

    return Options(field_manager=crd.metadata.uid or "")


def apiextensions(fair_shares: Iterable[Any] = (), further: Iterable[Reconciler] = ()) -> Loop:
    """The machine that an API server runs for its definitions, APIServices, flow schemas and
    priority levels. `fair_shares`: those of the latter that every cluster has. `further`: other
    reconcilers."""
    reconcilers: tuple[Reconciler, ...] = (
        DefinitionController(), ApiServiceRegistration(), ApiServiceAvailability(),
        *flow_control(fair_shares), *further,
    )  # fmt: skip
    return Loop("apiextensions", reconcilers, user=API_SERVER)
