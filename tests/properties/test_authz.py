"""Who may do what: rules AUTHZ-1 to AUTHZ-7 and RBAC-6 (spec/authorization.md)."""

from typing import Any

import pytest
from authz_world import RBAC, USER, AuthorizedWorld, config, rule
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from test_http import TOKEN, a_server, asked, in_loop

from refk8s.checking.simulator.simulate import Setup, simulate
from refk8s.components.http import Front
from refk8s.core import components
from refk8s.core.api import resources
from refk8s.core.api.rbac_v1 import Subject
from refk8s.core.api.request import Request
from refk8s.core.api.user import (
    ADMIN,
    ANONYMOUS,
    MASTERS,
    User,
    component_user,
    service_account_user,
)
from refk8s.core.apiserver import handle
from refk8s.core.apiserver.authorize import attributes_of
from refk8s.core.apiserver.authorize.default_policy import (
    corrected,
    default_policy,
    is_to_be_replaced,
)
from refk8s.core.apiserver.authorize.paths import attributes_of_path
from refk8s.core.apiserver.config import ALLOWED, NO_OPINION, Attributes, Decision
from refk8s.core.apiserver.http import user_of
from refk8s.core.apiserver.route import route
from refk8s.core.loop.informer import Informer
from refk8s.core.value import evolve

PODS = "/api/v1/namespaces/default/pods"
REVIEWS = "/apis/authorization.k8s.io/v1"


# --- modes


def test_authz_1_one_mode_that_allows_is_enough_and_masters_need_none():
    # Shows AUTHZ-1.a AUTHZ-1.b AUTHZ-1.c AUTHZ-1.d AUTHZ-1.e.
    world = AuthorizedWorld()
    assert world.ask("GET", PODS)[0] == 403
    assert world.ask("GET", PODS, ADMIN)[0] == 200
    world.bind(USER, "default", "ClusterRole", "view")
    assert world.ask("GET", "/api/v1/namespaces/default/configmaps")[0] == 403, (
        "view is empty until the controller has filled it"
    )
    world.grant(USER, "default", rule("list", "pods"))
    assert world.ask("GET", PODS)[0] == 200
    assert AuthorizedWorld("AlwaysAllow").ask("GET", PODS)[0] == 200
    assert AuthorizedWorld("AlwaysDeny").ask("GET", "/version")[0] == 403
    assert AuthorizedWorld("AlwaysDeny").ask("GET", "/version", ADMIN)[0] == 200


def test_authz_1_the_reasons_of_all_modes_are_told():
    from refk8s.core.apiserver.authorize.modes import InOrder

    def says(decision: Decision) -> Any:
        return lambda asked, store: decision

    asked = Attributes(USER, "get")
    both = InOrder((says(Decision(False, "one")), says(NO_OPINION), says(Decision(False, "two"))))
    assert both(asked, None) == Decision(False, "one\ntwo")
    assert InOrder((says(NO_OPINION), says(ALLOWED)))(asked, None) == ALLOWED


# --- attributes


@pytest.mark.parametrize(
    ("method", "path", "query", "verb", "subresource", "namespace", "name"),
    [
        ("GET", "/api/v1/pods", "", "list", "", "", ""),
        ("GET", PODS, "watch=1&fieldSelector=metadata.name%3Done", "watch", "", "default", "one"),
        ("GET", PODS, "fieldSelector=metadata.name!%3Done", "list", "", "default", ""),
        ("DELETE", PODS, "fieldSelector=metadata.name%3Done", "deletecollection", "", "default", "one"),
        ("POST", PODS, "", "create", "", "default", ""),
        ("POST", f"{PODS}/a/exec", "", "create", "exec", "default", "a"),
        ("GET", f"{PODS}/a/exec", "", "get", "exec", "default", "a"),
        ("GET", f"{PODS}/a/log", "", "get", "log", "default", "a"),
        ("GET", "/api/v1/namespaces/x", "", "get", "", "x", "x"),
        ("PUT", "/api/v1/namespaces/x/finalize", "", "update", "finalize", "x", "x"),
        ("GET", "/api/v1/namespaces", "", "list", "", "", ""),
    ],
)  # fmt: skip
def test_authz_2_a_request_has_the_attributes_of_upstream(
    method, path, query, verb, subresource, namespace, name
):
    # Shows AUTHZ-2.a AUTHZ-2.b AUTHZ-2.c AUTHZ-2.d AUTHZ-2.e.
    found = attributes_of(USER, route(method, path, query), method)
    assert (found.verb, found.subresource, found.namespace, found.name) == (
        verb, subresource, namespace, name,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("method", "path", "query", "attributes"),
    [
        ("GET", "/apis/g.io/v1/bars", "", ("list", "g.io", "bars", "", "", "")),
        ("GET", "/apis/g.io/v1/bars", "watch=1", ("watch", "g.io", "bars", "", "", "")),
        ("GET", "/apis/g.io/v1/watch/bars", "", ("watch", "g.io", "bars", "", "", "")),
        ("GET", "/apis/g.io/v1/namespaces/n/bars/b", "", ("get", "g.io", "bars", "", "n", "b")),
        ("PUT", "/api/v9/namespaces/n/bars/b/status", "", ("update", "", "bars", "status", "n", "b")),
        ("DELETE", "/api/v1/bars", "", ("deletecollection", "", "bars", "", "", "")),
        ("PATCH", "/api/v9/namespaces/n/status", "", ("patch", "", "namespaces", "status", "n", "n")),
        ("POST", "/apis/g.io/v1/namespaces/n/bars", "", ("create", "g.io", "bars", "", "n", "")),
    ],
)  # fmt: skip
def test_authz_2_a_path_to_nothing_has_the_attributes_that_it_names(
    method, path, query, attributes
):
    found = attributes_of_path(USER, method, path, query)
    named = (
        found.verb,
        found.group,
        found.resource,
        found.subresource,
        found.namespace,
        found.name,
    )
    assert named == attributes and not found.path
    code, answer = AuthorizedWorld().ask(method, f"{path}?{query}")
    assert (code, answer["details"]["kind"]) == (403, attributes[2])


@pytest.mark.parametrize(
    "path", ["/", "/apis", "/apis/g.io", "/apis/g.io/v1", "/api/v1", "/version"]
)
def test_authz_2_a_path_that_is_too_short_is_no_resource(path):
    found = attributes_of_path(USER, "GET", path, "")
    assert (found.verb, found.path, found.resource) == ("get", path, "")


@given(st.sampled_from([one for one in resources.ALL if not one.is_custom]), st.booleans())
def test_authz_2_a_path_that_is_served_has_the_same_attributes_either_way(resource, is_named):
    """So a resource that ceases to be served changes no decision."""
    root = f"/apis/{resource.group}" if resource.group else "/api"
    place = f"{root}/{resource.version}/" + ("namespaces/n/" if resource.namespaced else "")
    path = f"{place}{resource.plural}" + ("/x" if is_named else "")
    method = "GET" if ("get" if is_named else "list") in resource.verbs else "POST"
    if is_named and method == "POST":
        return
    assert attributes_of_path(USER, method, path, "") == attributes_of(
        USER, route(method, path, ""), method
    )


def test_authz_2_a_path_has_its_method_as_the_verb():
    # Shows AUTHZ-2.f.
    world = AuthorizedWorld()
    for method in ("GET", "POST", "OPTIONS"):
        code, said = world.ask(method, "/metrics")
        words = f'forbidden: User "jane" cannot {method.lower()} path "/metrics"'
        assert code == 403 and said["message"] == words


@pytest.mark.parametrize("part", ["exec", "attach", "portforward"])
def test_authz_3_a_stream_needs_create_by_whatever_method(part):
    # Shows AUTHZ-3.a.
    world = AuthorizedWorld()
    body = {"metadata": {"name": "a"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    assert world.ask("POST", PODS, ADMIN, body)[0] == 201
    world.grant(USER, "default", rule("get", f"pods/{part}"), name="reads")
    code, said = world.ask("GET", f"{PODS}/a/{part}")
    assert code == 403 and f'cannot create resource "pods/{part}"' in said["message"]
    world.grant(USER, "default", rule("create", f"pods/{part}"), name="creates")
    assert world.ask("GET", f"{PODS}/a/{part}")[0] == 101
    assert world.ask("POST", f"{PODS}/a/{part}")[0] == 101


@pytest.mark.parametrize(
    ("method", "path", "message"),
    [
        ("GET", "/api/v1/pods", 'pods is forbidden: User "jane" cannot list resource "pods" in API group "" at the cluster scope'),
        ("GET", f"{PODS}/a", 'pods "a" is forbidden: User "jane" cannot get resource "pods" in API group "" in the namespace "default"'),
        ("PATCH", "/apis/apps/v1/namespaces/default/deployments/web/scale", 'deployments.apps "web" is forbidden: User "jane" cannot patch resource "deployments/scale" in API group "apps" in the namespace "default"'),
        ("GET", "/logs/x", 'forbidden: User "jane" cannot get path "/logs/x"'),
    ],
)  # fmt: skip
def test_authz_4_a_refusal_has_upstreams_words(method, path, message):
    # Shows AUTHZ-4.a AUTHZ-4.b.
    code, said = AuthorizedWorld().ask(method, path)
    assert (code, said["reason"], said["message"]) == (403, "Forbidden", message)


def test_authz_4_the_reason_of_a_mode_follows():
    # Shows AUTHZ-4.c.
    world = AuthorizedWorld()
    world.bind(USER, "default", "Role", "missing")
    message = world.ask("GET", PODS)[1]["message"]
    assert message.endswith(
        'in the namespace "default": RBAC: role.rbac.authorization.k8s.io "missing" not found'
    )


# --- reviews


def review(world: AuthorizedWorld, kind: str, spec: Any, user: User = ADMIN) -> tuple[int, Any]:
    return world.ask("POST", f"{REVIEWS}/{kind}", user, {"spec": spec})


def test_authz_5_a_review_is_answered_as_the_request_would_be():
    # Shows AUTHZ-5.a.
    world = AuthorizedWorld()
    world.grant(USER, "default", rule("get", "pods", resourceNames=["mine"]))
    for name, allowed in (("mine", True), ("other", False), ("", False)):
        asked = {"namespace": "default", "verb": "get", "resource": "pods", "name": name}
        spec = {"resourceAttributes": asked, "user": "jane", "groups": ["system:authenticated"]}
        code, said = review(world, "subjectaccessreviews", spec)
        assert code == 201 and said["status"]["allowed"] is allowed
        if allowed:
            assert said["status"]["reason"] == (
                'RBAC: allowed by RoleBinding "jane-own/default" of Role "own" to User "jane"'
            )
        mine = {"resourceAttributes": asked}
        assert (
            review(world, "selfsubjectaccessreviews", mine, USER)[1]["status"]["allowed"] is allowed
        )
        if name:
            assert (world.ask("GET", f"{PODS}/{name}")[0] == 404) is allowed
    spec = {"nonResourceAttributes": {"path": "/version", "verb": "get"}, "user": "x", "groups": ["system:unauthenticated"]}  # fmt: skip
    assert review(world, "subjectaccessreviews", spec)[1]["status"]["allowed"] is True
    spec["nonResourceAttributes"]["path"] = "/metrics"
    assert review(world, "subjectaccessreviews", spec)[1]["status"]["allowed"] is False


def test_authz_5_the_rules_of_a_user_are_listed():
    # Shows AUTHZ-5.b AUTHZ-5.c.
    world = AuthorizedWorld()
    world.grant(USER, "default", rule("get", "pods", resourceNames=["mine"]))
    code, said = review(world, "selfsubjectrulesreviews", {"namespace": "default"}, USER)
    assert code == 201 and said["status"]["incomplete"] is False
    assert {"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "resourceNames": ["mine"]} in said["status"]["resourceRules"]  # fmt: skip
    assert any("/healthz" in one["nonResourceURLs"] for one in said["status"]["nonResourceRules"])
    assert review(world, "selfsubjectrulesreviews", {"namespace": "other"}, USER)[1]["status"]["resourceRules"] != said["status"]["resourceRules"]  # fmt: skip
    assert review(world, "selfsubjectrulesreviews", {}, USER)[0] == 400
    node = User("system:node:n", groups=("system:nodes", "system:authenticated"))
    said = review(world, "selfsubjectrulesreviews", {"namespace": "default"}, node)[1]
    assert said["status"]["incomplete"] is True and said["status"]["evaluationError"]


@pytest.mark.parametrize(
    ("kind", "spec", "field"),
    [
        ("subjectaccessreviews", {"resourceAttributes": {"verb": "get"}}, "spec.user"),
        ("subjectaccessreviews", {"user": "x"}, "spec.resourceAttributes"),
        ("selfsubjectaccessreviews", {"resourceAttributes": {}, "nonResourceAttributes": {}}, "spec.nonResourceAttributes"),
        ("selfsubjectaccessreviews", {"resourceAttributes": {"fieldSelector": {"rawSelector": "a=b", "requirements": [{"key": "a", "operator": "In", "values": ["b"]}]}}}, "spec.resourceAttributes.fieldSelector.rawSelector"),
        ("selfsubjectaccessreviews", {"resourceAttributes": {"labelSelector": {}}}, "spec.resourceAttributes.labelSelector.requirements"),
    ],
)  # fmt: skip
def test_authz_5_an_incomplete_question_is_refused(kind, spec, field):
    # Shows AUTHZ-5.d.
    code, said = review(AuthorizedWorld(), kind, spec)
    assert code == 422 and field in [cause["field"] for cause in said["details"]["causes"]]
    body = {"metadata": {"name": "n"}, "spec": {"resourceAttributes": {"verb": "get"}}}
    code, said = AuthorizedWorld().ask("POST", f"{REVIEWS}/selfsubjectaccessreviews", ADMIN, body)
    assert code == 422 and said["details"]["causes"][0]["field"] == "metadata"


# --- anonymous users


def test_authz_6_a_request_without_credentials_is_one_of_an_anonymous_user():
    # Shows AUTHZ-6.a AUTHZ-6.b.
    world = AuthorizedWorld()
    for path in ("/healthz", "/livez", "/readyz", "/version"):
        assert world.ask("GET", path, None)[0] == 200, path
    for path in ("/api", "/apis", "/openapi/v2", "/", "/metrics", "/livez/ping", PODS):
        code, said = world.ask("GET", path, None)
        assert code == 403 and 'User "system:anonymous" cannot' in said["message"], path
    info = {"metadata": {"name": "cluster-info"}}
    public = "/api/v1/namespaces/kube-public/configmaps"
    for name in ("cluster-info", "other"):
        assert world.ask("POST", public, ADMIN, {**info, "metadata": {"name": name}})[0] == 201
    assert world.ask("GET", f"{public}/cluster-info", None)[0] == 200
    assert world.ask("GET", f"{public}/other", None)[0] == 403
    assert world.ask("GET", public, None)[0] == 403


def test_authz_6_wrong_credentials_are_never_those_of_an_anonymous_user():
    # Shows AUTHZ-6.d.
    async def test() -> None:
        api = await a_server(config=evolve(config(), users={TOKEN: ADMIN}))
        front = Front(api)
        for path in ("/healthz", "/version", PODS):
            for header in ("Bearer wrong", "Basic eDp5", "Bearer"):
                assert (await asked(front, "GET", path, authorization=header))[0] == 401
        code = (await asked(front, "POST", PODS, b"x" * 100, authorization=""))[0]
        assert code == 403
        assert (await asked(front, "GET", PODS, impersonate_user="jane"))[0] == 403
        assert (await asked(front, "GET", PODS, authorization="", impersonate_user="x"))[0] == 403

    in_loop(test)


def test_authz_6_the_body_of_an_anonymous_user_is_read_only_if_it_is_allowed():
    # Shows AUTHZ-6.c.
    async def test() -> None:
        api = await a_server(config=evolve(config(), users={TOKEN: ADMIN}))
        front, read = Front(api), []

        async def receive() -> Any:
            read.append(1)
            return {"type": "http.request", "body": b"{}", "more_body": False}

        sent: list[Any] = []

        async def send(part: Any) -> None:
            sent.append(part)

        def scope(path: str) -> Any:
            return {
                "type": "http", "method": "POST", "path": path, "raw_path": path.encode(),
                "query_string": b"", "headers": [],
            }  # fmt: skip

        await front(scope(PODS), receive, send)
        assert sent[0]["status"] == 403 and not read
        subject = Subject(kind="Group", name="system:unauthenticated", api_group="rbac.authorization.k8s.io")  # fmt: skip
        role = {"metadata": {"name": "a"}, "rules": [rule("create", "pods")]}
        binding = {
            "metadata": {"name": "a"},
            "roleRef": {"kind": "ClusterRole", "name": "a"},
            "subjects": [{"kind": subject.kind, "name": subject.name}],
        }
        import json

        for plural, body in (("clusterroles", role), ("clusterrolebindings", binding)):
            code, _, said = await asked(
                front, "POST", f"{RBAC}/{plural}", json.dumps(body).encode()
            )
            assert code == 201, said
        await front(scope(PODS), receive, send)
        assert read, "a user who may create is answered by the stages after"

    in_loop(test)


def test_authz_6_with_always_allow_nobody_is_anonymous():
    # Shows AUTHZ-6.e.
    world = AuthorizedWorld("AlwaysAllow")
    assert world.ask("GET", PODS, None)[0] == 401
    assert world.ask("GET", "/version", None)[0] == 200


def test_authz_7_a_watch_goes_on_and_does_not_begin_again():
    # Shows AUTHZ-7.a AUTHZ-7.b AUTHZ-7.c.
    import asyncio

    async def test() -> None:
        from refk8s.core.api.request import Request

        api = await a_server(config=evolve(config(), users={TOKEN: USER}))

        async def call(verb: str, resource: Any, where: str, name: str, body: Any = None) -> int:
            done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            request = Request(verb, resource, where, name, body=body, user=ADMIN)
            api.submit(request, done.set_result)
            return int((await done).code)

        role, binding = granted()
        assert await call("create", resources.ROLES, "default", "own", role) == 201
        assert await call("create", resources.ROLE_BINDINGS, "default", "own", binding) == 201
        events: list[Any] = []
        watch = Request("watch", resources.CONFIG_MAPS, "default", user=USER)
        ended: list[int] = []
        api.watch(watch, lambda seen: events.extend(seen), ended.append)
        assert await call("delete", resources.ROLE_BINDINGS, "default", "own") == 200
        body = resources.CONFIG_MAPS.type(metadata=role.metadata)
        assert await call("create", resources.CONFIG_MAPS, "default", "own", body) == 201
        assert [event.type for event in events] == ["ADDED"] and not ended
        again: list[int] = []
        api.watch(watch, lambda seen: None, again.append)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert again == [400] or again == [403], again
        code, _, _ = await asked(Front(api), "GET", "/api/v1/namespaces/default/configmaps")
        assert code == 403

    in_loop(test)


def granted() -> tuple[Any, Any]:
    from test_authz_rbac import granting

    role, binding = granting("jane", verbs=("watch", "list"), resources=("configmaps",))
    metadata = replace(role.metadata, name="own", namespace="default")
    ref = replace(binding.role_ref, name="own")
    return replace(role, metadata=metadata), replace(binding, metadata=metadata, role_ref=ref)


# --- default roles


@pytest.mark.parametrize("obj", default_policy(), ids=lambda one: f"{one.kind}-{one.metadata.name}")
def test_rbac_6_a_default_object_that_lacks_something_gets_it_back(obj):
    # Shows RBAC-6.a RBAC-6.b RBAC-6.c RBAC-6.d RBAC-6.e.
    assert corrected(obj, obj) is None and not is_to_be_replaced(obj, obj)
    if not obj.metadata.annotations:  # of kubeadm, which does not correct its own
        return
    bare = replace(obj, metadata=replace(obj.metadata, labels={"own": "x"}))
    fresh = corrected(bare, obj)
    assert fresh.metadata.labels == {"own": "x", **obj.metadata.labels}
    alone = {"rbac.authorization.kubernetes.io/autoupdate": "false"}
    kept = replace(bare, metadata=replace(bare.metadata, annotations=alone))
    assert corrected(kept, obj) is None
    if obj.kind.endswith("Role") and obj.rules:
        more = (rule_of_an_administrator(),)
        fresh = corrected(replace(obj, rules=more), obj)
        assert fresh.rules[0] is more[0] and corrected(fresh, obj) is None
        assert corrected(replace(obj, rules=obj.rules + more), obj) is None
    if obj.kind.endswith("Binding"):
        mine = Subject(kind="User", api_group="rbac.authorization.k8s.io", name="me")
        fresh = corrected(replace(obj, subjects=(mine,)), obj)
        if obj.subjects:
            assert fresh.subjects == (mine, *obj.subjects)
        other = replace(obj, role_ref=replace(obj.role_ref, name="other"))
        assert is_to_be_replaced(other, obj)
        assert not is_to_be_replaced(replace(other, metadata=kept.metadata), obj)


def rule_of_an_administrator() -> Any:
    from refk8s.core.api.rbac_v1 import PolicyRule

    return PolicyRule(verbs=("get",), api_groups=("example.com",), resources=("things",))


def test_rbac_6_every_default_object_is_valid_and_every_binding_has_a_role():
    world = AuthorizedWorld()
    for binding in default_policy():
        if binding.kind.endswith("Binding"):
            role = binding.role_ref
            namespace = binding.metadata.namespace or "" if role.kind == "Role" else ""
            plural = resources.ROLES if role.kind == "Role" else resources.CLUSTER_ROLES
            assert world.get(plural, role.name, namespace) is not None, role.name


# --- the components


def test_rbac_6_every_controller_acts_as_a_user_with_a_default_role():
    bound = {
        f"system:serviceaccount:{one.namespace}:{one.name}"
        if one.kind == "ServiceAccount"
        else one.name
        for binding in default_policy()
        for one in getattr(binding, "subjects", None) or ()
    }
    for controller in components.controllers():
        user = controller.user or service_account_user("kube-system", controller.name)
        assert user.name in bound, f"{controller.name}: name upstream's service account as its user"


def look_up_of_list(request: Request) -> Request:
    """The look-up of an object by the component that sends this list."""
    informer = Informer(
        request.resource, request.options.field_selector, request.options.label_selector
    )
    namespace = "default" if request.resource.namespaced else ""
    written = Request("update", request.resource, namespace, "one,name=other")
    return informer.look_up_request(written, request.user)


@pytest.mark.parametrize("seed", range(3))
def test_loop_13_loop_7_the_default_roles_allow_every_request_of_a_component(seed, monkeypatch):
    """A simulated cluster: each request is decided by the default roles and the Node authorizer."""
    world = AuthorizedWorld()
    roles, denied, users = world.history, set(), set()
    node, rbac = world.config.authorizer.authorizers

    def check(user: User, request: Any, store: Any, config: Any) -> None:
        if MASTERS in user.groups or user.name == "stranger":  # a user of the simulator
            return
        asked = attributes_of(user, request)
        users.add(user.name)
        every = [asked]
        if request.verb == "list" and not request.options.limit:  # LOOP-7
            every.append(attributes_of(user, look_up_of_list(request)))
        for one in every:
            if not (rbac(one, roles).allowed or node(one, store).allowed):
                denied.add((user.name, *(getattr(one, f) for f in ("verb", "group", "resource", "subresource", "namespace", "name", "fields"))))  # fmt: skip

    monkeypatch.setattr(handle, "authorize", check)
    simulate(Setup(seed=20_260_101_000 + seed, steps=1_500))
    assert not denied
    assert component_user("kube-scheduler").name in users and "system:node:node-1" in users
    assert len(users) >= 9


def test_loop_13_a_component_may_do_no_more_than_its_roles():
    world = AuthorizedWorld()
    for user, method, path in (
        (component_user("kube-scheduler"), "GET", "/api/v1/secrets"),
        (component_user("kube-proxy"), "GET", "/api/v1/secrets"),
        (User("system:serviceaccount:kube-system:replicaset-controller", groups=("system:serviceaccounts", "system:authenticated")), "GET", "/api/v1/secrets"),
        (User("system:serviceaccount:default:default", groups=("system:serviceaccounts", "system:authenticated")), "GET", PODS),
    ):  # fmt: skip
        assert world.ask(method, path, user)[0] == 403, user.name
    assert user_of is not None and ANONYMOUS.name == "system:anonymous"


def test_d_10_these_roles_are_ours():
    ours = {
        (one.kind, one.metadata.name)
        for one in default_policy()
        if one.metadata.name.startswith("refk8s:")
    }
    assert ours == {
        ("ClusterRole", "refk8s:network-policy"),
        ("ClusterRoleBinding", "refk8s:network-policy"),
        ("ClusterRole", "refk8s:nodes"),
        ("ClusterRoleBinding", "refk8s:kubelet-serving-approver"),
        ("ClusterRoleBinding", "refk8s:nodes"),
        ("Role", "refk8s:name-server"),
        ("RoleBinding", "refk8s:name-server"),
    }


# --- custom kinds


def test_rbac_1_a_rule_covers_kinds_that_came_later():
    """A custom kind, without and with a role for it, and a wildcard that was there before."""
    from authz_world import RBAC
    from custom_world import GROUP, CustomWorld, a_definition

    world = CustomWorld()
    world.config = config()
    gadgets = f"/apis/{GROUP}/v1/namespaces/default/gadgets"
    subjects = {"jane": ["gadgets"], "all": ["*"]}
    for name, plurals in subjects.items():
        body = {"metadata": {"name": name}, "rules": [rule("*", " ".join(plurals), GROUP)]}
        ref = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name}
        binding = {
            "metadata": {"name": name},
            "roleRef": ref,
            "subjects": [{"kind": "User", "name": name}],
        }
        where = f"{RBAC}/namespaces/default"
        assert world.http("POST", f"{where}/roles", body).code == 201
        assert world.http("POST", f"{where}/rolebindings", binding).code == 201
    assert world.http("GET", gadgets, user=USER).code == 404, "allowed, but not served"
    world.define(a_definition())
    for name, code in (("jane", 200), ("all", 200), ("eve", 403)):
        user = User(name, groups=("system:authenticated",))
        assert world.http("GET", gadgets, user=user).code == code, name
        gadget = {"apiVersion": f"{GROUP}/v1", "kind": "Gadget", "metadata": {"name": name}}
        assert world.http("POST", gadgets, gadget, user=user).code == (201 if code == 200 else 403)
    outside = f"/apis/{GROUP}/v1/gadgets"
    assert world.http("GET", outside, user=USER).code == 403
