"""Roles and bindings decide: rules RBAC-1 to RBAC-6 (spec/authorization.md)."""

import itertools
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refk8s.core.api import resources
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.rbac_v1 import (
    ClusterRole,
    ClusterRoleBinding,
    PolicyRule,
    Role,
    RoleBinding,
    RoleRef,
    Subject,
)
from refk8s.core.api.resources import Resource
from refk8s.core.api.user import User, service_account_user
from refk8s.core.apiserver.authorize.rbac import RESOURCES, Rbac
from refk8s.core.apiserver.authorize.rules import allows
from refk8s.core.apiserver.config import Attributes
from refk8s.core.apiserver.lifecycle import stamp
from refk8s.core.store import EMPTY, Delete, History, Put, Txn, commit
from refk8s.store.memory import MemoryEngine

GROUP = "rbac.authorization.k8s.io"
JANE = User("jane", groups=("team", "system:authenticated"))
ROBOT = service_account_user("a", "robot")
USERS = (JANE, ROBOT, User("eve", groups=("system:authenticated",)))
NAMESPACES, NAMES = ("a", "b"), ("x", "y")


def some(*values: str) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(st.sampled_from(values), min_size=1, max_size=2, unique=True).map(tuple)


RESOURCE_RULES = st.builds(
    PolicyRule,
    verbs=some("get", "list", "create", "*"),
    api_groups=some("", "apps", "*"),
    resources=some("pods", "pods/log", "deployments", "*/scale", "deployments/scale", "*"),
    resource_names=st.none() | some("one", "two"),
)
PATH_RULES = st.builds(
    PolicyRule,
    verbs=some("get", "post", "*"),
    non_resource_urls=some("/healthz", "/healthz/*", "/api*", "*"),
)
SUBJECTS = st.one_of(
    st.builds(Subject, kind=st.just("User"), api_group=st.just(GROUP), name=st.sampled_from(("jane", "eve", "system:serviceaccount:a:robot"))),
    st.builds(Subject, kind=st.just("Group"), api_group=st.just(GROUP), name=st.sampled_from(("team", "system:authenticated", "system:serviceaccounts:a", "jane"))),
    st.builds(Subject, kind=st.just("ServiceAccount"), name=st.just("robot"), namespace=st.sampled_from((None, "a", "b"))),
)  # fmt: skip
ASKED = st.one_of(
    st.builds(
        Attributes,
        user=st.sampled_from(USERS),
        verb=st.sampled_from(("get", "list", "create", "delete")),
        group=st.sampled_from(("", "apps")),
        resource=st.sampled_from(("pods", "deployments")),
        subresource=st.sampled_from(("", "log", "scale")),
        namespace=st.sampled_from(("", *NAMESPACES)),
        name=st.sampled_from(("", "one", "three")),
    ),
    st.builds(
        Attributes,
        user=st.sampled_from(USERS),
        verb=st.sampled_from(("get", "post")),
        path=st.sampled_from(("/healthz", "/healthz/ping", "/api", "/apis", "/version")),
    ),
)


@st.composite
def objects(draw: st.DrawFn) -> tuple[Resource, Any]:
    resource = draw(st.sampled_from(RESOURCES))
    where = draw(st.sampled_from(NAMESPACES)) if resource.namespaced else None
    metadata = ObjectMeta(name=draw(st.sampled_from(NAMES)), namespace=where)
    if resource in (resources.ROLES, resources.CLUSTER_ROLES):
        kinds = RESOURCE_RULES if resource.namespaced else RESOURCE_RULES | PATH_RULES
        rules = tuple(draw(st.lists(kinds, max_size=3)))
        return resource, resource.type(metadata=metadata, rules=rules or None)
    kind = draw(st.sampled_from(("Role", "ClusterRole"))) if resource.namespaced else "ClusterRole"
    role = RoleRef(api_group=GROUP, kind=kind, name=draw(st.sampled_from(NAMES)))
    subjects = tuple(draw(st.lists(SUBJECTS, max_size=3)))
    return resource, resource.type(metadata=metadata, role_ref=role, subjects=subjects or None)


STEPS = st.lists(
    st.one_of(
        objects(),  # written
        objects().map(lambda one: (one[0], one[1].metadata)),  # removed
        ASKED,
        st.just("compact"),
    ),
    max_size=25,
)


# --- the reference: every binding and every rule, with nothing remembered


def applies(subject: Subject, namespace: str, user: User) -> bool:
    if subject.kind == "User":
        return subject.name == user.name
    if subject.kind == "Group":
        return subject.name in user.groups
    where = subject.namespace or namespace
    return bool(where) and user.name == f"system:serviceaccount:{where}:{subject.name}"


def matches(rule: PolicyRule, asked: Attributes) -> bool:
    if not {"*", asked.verb} & set(rule.verbs):
        return False
    if asked.path:
        return any(
            url in ("*", asked.path) or (url[-1:] == "*" and asked.path.startswith(url[:-1]))
            for url in rule.non_resource_urls or ()
        )
    whole = f"{asked.resource}/{asked.subresource}" if asked.subresource else asked.resource
    wanted = {"*", whole} | ({f"*/{asked.subresource}"} if asked.subresource else set())
    return bool(
        {"*", asked.group} & set(rule.api_groups or ())
        and wanted & set(rule.resources or ())
        and (not rule.resource_names or asked.name in rule.resource_names)
    )


def reference(asked: Attributes, store: Any) -> bool:
    def all_of(resource: Resource) -> list[Any]:
        return [record.value for record in store.list(resource.prefix).records]

    cluster_roles = {one.metadata.name: one for one in all_of(resources.CLUSTER_ROLES)}
    roles = {(one.metadata.namespace, one.metadata.name): one for one in all_of(resources.ROLES)}
    bindings = [("", one) for one in all_of(resources.CLUSTER_ROLE_BINDINGS)]
    bindings += [(one.metadata.namespace, one) for one in all_of(resources.ROLE_BINDINGS)]
    for namespace, binding in bindings:
        if namespace and namespace != asked.namespace:
            continue
        if not any(applies(one, namespace, asked.user) for one in binding.subjects or ()):
            continue
        ref = binding.role_ref
        role = cluster_roles.get(ref.name) if ref.kind == "ClusterRole" else roles.get((namespace, ref.name))  # fmt: skip
        if role is not None and any(matches(rule, asked) for rule in role.rules or ()):
            return True
    return False


@given(STEPS)
@settings(max_examples=300)
def test_rbac_4_a_decision_is_that_of_all_roles_and_bindings_whatever_was_decided_before(
    steps: list[Any],
) -> None:
    # Shows RBAC-1.a RBAC-1.b RBAC-1.c RBAC-2.a RBAC-2.b RBAC-3.a RBAC-3.b RBAC-4.a AUTHZ-7.c.
    rbac, engine = Rbac(), MemoryEngine(stamp)
    often = [Attributes(user, "get", "", "pods", "", "a", "one") for user in USERS]
    for step in steps:
        for asked in often:  # so that something is remembered when a role changes
            assert rbac(asked, engine).allowed is reference(asked, engine)
        if step == "compact":
            engine.compact(engine.revision)
        elif isinstance(step, Attributes):
            assert rbac(step, engine).allowed is reference(step, engine)
        else:
            resource, value = step
            metadata = value if isinstance(value, ObjectMeta) else value.metadata
            key = resource.key(metadata.namespace or "", metadata.name)
            write = Delete(key) if value is metadata else Put(key, value)
            engine.commit_batch([Txn((), (write,))])
    for user, name in itertools.product(USERS, ("", "one")):
        asked = Attributes(user, "get", "", "pods", "", "a", name)
        assert rbac(asked, engine).allowed is reference(asked, engine)


def test_rbac_4_what_is_taken_away_is_refused_at_once() -> None:
    rbac, engine = Rbac(), MemoryEngine(stamp)
    asked = Attributes(JANE, "get", "", "pods", "", "a")
    role, binding = granting("jane")
    for taken in (role, binding, granting("eve")[1], granting("jane", verbs=("list",))[0]):
        for obj in (role, binding):
            put(engine, obj)
        assert rbac(asked, engine).allowed
        if taken in (role, binding):
            resource = resources.by_kind(taken.api_version, taken.kind)
            assert resource is not None
            engine.commit_batch([Txn((), (Delete(resource.key("a", "reader")),))])
        else:
            put(engine, taken)
        assert not rbac(asked, engine).allowed


def test_rbac_4_another_store_is_another_state() -> None:
    """The same authorizer, asked about two histories with the same revision."""
    rbac, asked = Rbac(), Attributes(JANE, "get", "", "pods", "", "a")
    with_role = written(EMPTY, *granting("jane"))
    without = written(EMPTY, *granting("eve"))
    assert with_role.revision == without.revision
    for _ in range(2):
        assert rbac(asked, with_role).allowed and not rbac(asked, without).allowed


def written(history: History[Any], *objects: Any) -> History[Any]:
    puts = []
    for obj in objects:
        resource = resources.by_kind(obj.api_version, obj.kind)
        assert resource is not None
        puts.append(Put(resource.key(obj.metadata.namespace or "", obj.metadata.name), obj))
    return commit(history, Txn((), tuple(puts)), stamp)[0]


def granting(user: str, **rule: Any) -> tuple[Any, Any]:
    given = {"verbs": ("get",), "api_groups": ("",), "resources": ("pods",), **rule}
    meta = ObjectMeta(name="reader", namespace="a")
    ref = RoleRef(api_group=GROUP, kind="Role", name="reader")
    subject = Subject(kind="User", api_group=GROUP, name=user)
    return (
        Role(metadata=meta, rules=(PolicyRule(**given),)),
        RoleBinding(metadata=meta, role_ref=ref, subjects=(subject,)),
    )


@pytest.mark.parametrize(
    ("resources_of_rule", "subresource", "allowed"),
    [
        (("deployments",), "", True),
        (("deployments",), "scale", False),
        (("deployments/scale",), "scale", True),
        (("deployments/scale",), "", False),
        (("*/scale",), "scale", True),
        (("*/scale",), "", False),
        (("*/scale",), "status", False),
        (("*",), "status", True),
    ],
)
def test_rbac_1_a_resource_does_not_include_its_subresources(
    resources_of_rule, subresource, allowed
):
    # Shows RBAC-1.b.
    rule = PolicyRule(verbs=("get",), api_groups=("apps",), resources=resources_of_rule)
    asked = Attributes(JANE, "get", "apps", "deployments", subresource, "a", "web")
    assert allows(rule, asked) is allowed


def test_rbac_1_a_rule_with_names_allows_no_create_and_no_list_without_the_name():
    # Shows RBAC-1.c.
    store = written(EMPTY, *granting("jane", verbs=("*",), resource_names=("mine",)))
    rbac = Rbac()
    for verb, name, allowed in (
        ("get", "mine", True),
        ("get", "other", False),
        ("list", "mine", True),
        ("list", "", False),
        ("create", "", False),
    ):
        assert rbac(Attributes(JANE, verb, "", "pods", "", "a", name), store).allowed is allowed


def test_rbac_3_a_binding_says_why_and_a_missing_role_is_named():
    # Shows RBAC-3.c RBAC-3.d.
    role, binding = granting("jane")
    rbac, asked = Rbac(), Attributes(JANE, "get", "", "pods", "", "a")
    decision = rbac(asked, written(EMPTY, role, binding))
    assert decision.reason == (
        'RBAC: allowed by RoleBinding "reader/a" of Role "reader" to User "jane"'
    )
    decision = rbac(asked, written(EMPTY, binding))
    assert not decision.allowed
    assert decision.reason == 'RBAC: role.rbac.authorization.k8s.io "reader" not found'
    account = Subject(kind="ServiceAccount", name="robot")
    here = RoleBinding(metadata=binding.metadata, role_ref=binding.role_ref, subjects=(account,))
    robot = Attributes(ROBOT, "get", "", "pods", "", "a")
    assert rbac(robot, written(EMPTY, role, here)).allowed, "its namespace is the binding's"
    elsewhere = ClusterRoleBinding(
        metadata=ObjectMeta(name="x"),
        role_ref=RoleRef(api_group=GROUP, kind="ClusterRole", name="reader"),
        subjects=(account,),
    )
    everywhere = ClusterRole(metadata=ObjectMeta(name="reader"), rules=role.rules)
    assert not rbac(robot, written(EMPTY, everywhere, elsewhere)).allowed


class Counting:
    """A store that counts what is read of it."""

    def __init__(self, store: Any) -> None:
        self.store, self.read = store, 0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.store, name)
        if name in ("list", "changes", "get"):

            def counted(*arguments: Any, **named: Any) -> Any:
                result = found(*arguments, **named)
                self.read += len(getattr(result, "records", result) or ())
                return result

            return counted
        return found


def test_rbac_5_the_bindings_of_others_cost_a_decision_nothing():
    # Shows RBAC-5.a RBAC-5.b.
    others = [
        RoleBinding(
            metadata=ObjectMeta(name=f"b{number}", namespace="a"),
            role_ref=RoleRef(api_group=GROUP, kind="Role", name="reader"),
            subjects=(Subject(kind="User", api_group=GROUP, name=f"user-{number}"),),
        )
        for number in range(500)
    ]
    engine = MemoryEngine(stamp)
    for obj in (*granting("jane"), *others):
        put(engine, obj)
    store, rbac = Counting(engine), Rbac()
    asked = Attributes(JANE, "get", "", "pods", "", "a")
    assert rbac(asked, store).allowed
    store.read = 0
    for _ in range(10):
        put(engine, ObjectOf("one"))
        assert rbac(asked, store).allowed
    assert store.read == 0, "what is not a role or binding is not read"
    put(engine, others[0])
    assert rbac(asked, store).allowed
    assert store.read == 1, "one changed binding is read"


def ObjectOf(name: str) -> Any:
    return resources.CONFIG_MAPS.type(metadata=ObjectMeta(name=name, namespace="a"))


def put(engine: Any, obj: Any) -> None:
    resource = resources.by_kind(obj.api_version, obj.kind)
    assert resource is not None
    key = resource.key(obj.metadata.namespace or "", obj.metadata.name)
    engine.commit_batch([Txn((), (Put(key, obj),))])


def test_rbac_5_long_names_of_clients_are_not_kept():
    rbac = Rbac()
    for number in range(200):
        asked = Attributes(JANE, "get", "", "pods", "", f"{number}" * 1000)
        rbac(asked, EMPTY)
        rbac(Attributes(JANE, "get", path=f"/{number}" * 1000), EMPTY)
    kept: Iterable[Any] = (*rbac._grants, *rbac._users)
    assert sum(len(str(key)) for key in kept) < 100_000
