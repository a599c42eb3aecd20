"""The RBAC authorizer: roles and their bindings decide. Rules RBAC-1 to RBAC-5
(spec/authorization.md).

A decision is that of the state of the store (RBAC-4). `Rbac` reads the roles and bindings of a
store once and then their changes only. Bindings are indexed by subject, so a decision costs time
for the rules of its user, however many other bindings there are. What was decided for a user is
remembered until a role or binding changes. Source: Kubernetes documentation, "Using RBAC
Authorization".
"""

from collections.abc import Iterable
from typing import Any, Final

from refk8s.core.api import resources
from refk8s.core.api.rbac_v1 import (
    ClusterRole,
    ClusterRoleBinding,
    PolicyRule,
    Role,
    RoleBinding,
    Subject,
)
from refk8s.core.api.resources import Resource
from refk8s.core.api.user import SERVICE_ACCOUNT_PREFIX, User
from refk8s.core.apiserver.authorize.rules import selects
from refk8s.core.apiserver.config import NO_OPINION, Attributes, Decision, UserRules
from refk8s.core.apiserver.outcome import Reader
from refk8s.core.memo import TEXT_LENGTH_MAX
from refk8s.core.store import Compacted, Record
from refk8s.core.value import Value

RESOURCES: Final = (
    resources.CLUSTER_ROLES,
    resources.ROLES,
    resources.CLUSTER_ROLE_BINDINGS,
    resources.ROLE_BINDINGS,
)
REMEMBERED_MAX: Final = 4096

Place = tuple[str, str]
"""Kind and name of a subject: ("User", name) or ("Group", name). A service account is the user of
its name."""
Binding = RoleBinding | ClusterRoleBinding


class _Grant(Value, frozen=True):
    """A rule, and the binding that gives it in words. `names`: those that it is limited to."""

    words: str
    names: tuple[str, ...]


class Rbac:
    """The roles and bindings of one store. Another store may be passed to any call; then everything
    is read again."""

    def __init__(self) -> None:
        self._store: Reader | None = None
        self._clear()

    def _clear(self) -> None:
        self._revision = -1
        self._seen: dict[str, int] = {}
        self._rules: dict[tuple[str, str], tuple[PolicyRule, ...]] = {}
        self._bindings: dict[tuple[str, str], Binding] = {}
        self._of_subject: dict[tuple[str, Place], dict[str, Binding]] = {}
        self._forget()

    def _forget(self) -> None:
        self._users: dict[tuple[Any, ...], UserRules] = {}
        self._grants: dict[tuple[Any, ...], tuple[_Grant, ...]] = {}

    # --- decisions

    def __call__(self, attributes: Attributes, store: Reader) -> Decision:
        """Whether a rule of the user allows this (RBAC-1, RBAC-2). O(rules of the user), O(1) for
        what was decided before."""
        self._refresh(store)
        user = attributes.user
        key = (
            user.name, user.groups, attributes.verb, attributes.group, attributes.resource,
            attributes.subresource, attributes.namespace, attributes.path,
        )  # fmt: skip
        grants = self._grants.get(key)
        if grants is None:
            grants = self._grants_for(attributes)
            if _is_short(key):
                _remember(self._grants, key, grants)
        for grant in grants:
            if not grant.names or attributes.name in grant.names:
                return Decision(True, grant.words)
        problems = self.rules_of(user, attributes.namespace, store).problems
        return Decision(False, f"RBAC: {_aggregate(problems)}") if problems else NO_OPINION

    def _grants_for(self, attributes: Attributes) -> tuple[_Grant, ...]:
        found = []
        for binding, subject in self._bindings_of(attributes.user, attributes.namespace):
            for rule in self._rules_of_binding(binding) or ():
                if selects(rule, attributes):
                    names = () if attributes.path else rule.resource_names or ()
                    found.append(_Grant(_words(binding, subject), names))
        return tuple(found)

    def rules_of(self, user: User, namespace: str, store: Reader) -> UserRules:
        """All rules of the user: those of the cluster, then those in the namespace, if one is
        named."""
        self._refresh(store)
        key = (user.name, user.groups, namespace)
        if (known := self._users.get(key)) is not None:
            return known
        rules: list[PolicyRule] = []
        problems: dict[str, None] = {}
        for binding, _ in self._bindings_of(user, namespace):
            given = self._rules_of_binding(binding)
            if given is None:
                role = binding.role_ref
                kind = f"{role.kind.lower()}.{role.api_group}"
                problems[f'{kind} "{role.name}" not found'] = None
            rules += given or ()
        found = UserRules(tuple(rules), tuple(problems))
        if _is_short(key):
            _remember(self._users, key, found)
        return found

    def _rules_of_binding(self, binding: Binding) -> tuple[PolicyRule, ...] | None:
        role = binding.role_ref
        where = "" if role.kind == "ClusterRole" else binding.metadata.namespace or ""
        return self._rules.get((where, role.name))

    def _bindings_of(self, user: User, namespace: str) -> Iterable[tuple[Binding, Subject]]:
        """The bindings that apply to the user, those of the cluster first, each once, by name."""
        places: list[Place] = [("User", user.name), *(("Group", group) for group in user.groups)]
        for where in ("", namespace) if namespace else ("",):
            found: dict[str, Binding] = {}
            for place in places:
                found |= self._of_subject.get((where, place), {})
            for name in sorted(found):
                binding = found[name]
                yield (
                    binding,
                    next(
                        subject
                        for subject in binding.subjects or ()
                        if _place(subject, where) in places
                    ),
                )

    # --- the index

    def _refresh(self, store: Reader) -> None:
        """Read what has changed. O(1) if no object has, O(changed roles and bindings) else."""
        if store is self._store and store.revision == self._revision:
            return
        if store is not self._store:
            self._store = store
            self._clear()
        for resource in RESOURCES:
            newest = store.prefix_revision(resource.prefix)
            seen = self._seen.get(resource.prefix)
            if newest == seen:
                continue
            self._forget()
            try:
                if seen is None:
                    raise Compacted(0)
                for change in store.changes(resource.prefix, seen):
                    self._set(resource, change.key, change.record)
            except Compacted:
                self._read_all(resource, store)
            self._seen[resource.prefix] = newest
        self._revision = store.revision

    def _read_all(self, resource: Resource, store: Reader) -> None:
        is_role = resource in (resources.CLUSTER_ROLES, resources.ROLES)
        known: dict[tuple[str, str], Any] = self._rules if is_role else self._bindings
        for where, name in list(known):
            if bool(where) == resource.namespaced:
                self._set(resource, resource.key(where, name), None)
        for record in store.list(resource.prefix).records:
            self._set(resource, record.key, record)

    def _set(self, resource: Resource, key: str, record: Record[Any] | None) -> None:
        where, _, name = key.removeprefix(resource.prefix).rpartition("/")
        place = (where, name)
        if resource in (resources.CLUSTER_ROLES, resources.ROLES):
            if record is None:
                self._rules.pop(place, None)
            else:
                role: Role | ClusterRole = record.value
                self._rules[place] = role.rules or ()
            return
        old = self._bindings.pop(place, None)
        for subject in (old.subjects or ()) if old is not None else ():
            at = (where, _place(subject, where))
            if (group := self._of_subject.get(at)) is not None:
                group.pop(name, None)
                if not group:
                    del self._of_subject[at]
        if record is not None:
            binding: Binding = record.value
            self._bindings[place] = binding
            for subject in binding.subjects or ():
                self._of_subject.setdefault((where, _place(subject, where)), {})[name] = binding


def _is_short(key: tuple[Any, ...]) -> bool:
    """Whether the texts of a key, which come from clients, are short enough to be kept."""
    name, groups, *others = key
    return sum(map(len, (name, *groups, *others))) <= TEXT_LENGTH_MAX


def _remember(known: dict[Any, Any], key: Any, found: Any) -> None:
    if len(known) >= REMEMBERED_MAX:
        known.clear()
    known[key] = found


def _place(subject: Subject, namespace: str) -> Place:
    """The user or group that the subject is. A service account without a namespace is in that of
    the binding (RBAC-3)."""
    if subject.kind != "ServiceAccount":
        return subject.kind, subject.name
    where = subject.namespace or namespace
    return "User", f"{SERVICE_ACCOUNT_PREFIX}{where}:{subject.name}" if where else ""


def _words(binding: Binding, subject: Subject) -> str:
    """Why something is allowed, in upstream's words."""
    role, namespace = binding.role_ref, binding.metadata.namespace or ""
    name = f"{binding.metadata.name}/{namespace}" if namespace else binding.metadata.name
    whose = (
        f"{subject.name}/{subject.namespace or namespace}"
        if subject.kind == "ServiceAccount"
        else subject.name
    )
    kind = "RoleBinding" if namespace else "ClusterRoleBinding"
    return (
        f'RBAC: allowed by {kind} "{name}" of {role.kind} "{role.name}" to {subject.kind} "{whose}"'
    )


def _aggregate(problems: tuple[str, ...]) -> str:
    return problems[0] if len(problems) == 1 else f"[{', '.join(problems)}]"
