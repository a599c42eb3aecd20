"""Every way in that must be closed: a user who may read ConfigMaps of one namespace tries to get at
a Secret. Rules AUTHZ-1, AUTHZ-6, API-16, HTTP-8, HTTP-19, HTTP-23 (spec/authorization.md)."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest
from authz_world import RBAC, config, rule
from hypothesis import given, settings
from hypothesis import strategies as st
from test_http import TOKEN, a_server, asked, in_loop

from refk8s.components.clock import CHANCE
from refk8s.components.http import Front
from refk8s.core.api import resources, status
from refk8s.core.api.request import Request, Response
from refk8s.core.api.user import ADMIN
from refk8s.core.apiserver.authenticate import make_token
from refk8s.core.apiserver.authorize.default_policy import default_policy
from refk8s.core.context import SECOND, Context
from refk8s.core.value import evolve

ROOT = Path(__file__).parents[2]
HOME = "/api/v1/namespaces/default"
SECRET, MARK = f"{HOME}/secrets/mine", b"aGlkZGVu"
ROBOT = "system:serviceaccount:default:robot"


class Scene:
    """A server with the default roles, a Secret, and a service account that may get and list
    ConfigMaps in `default`."""

    def __init__(self, front: Front, uid: str) -> None:
        self.front, self.uid = front, uid
        self.token = self.make()

    def make(self, **changes: Any) -> str:
        api = self.front.api
        age = changes.pop("age", 0)
        given: dict[str, Any] = {
            "namespace": "default",
            "name": "robot",
            "uid": self.uid,
            "audiences": api.config.audiences,
            "expiration_seconds": 3600,
            "bound": None,
            **changes,
        }
        context = Context(api.clock.now() - age * SECOND, CHANCE)
        return make_token(**given, config=api.config, context=context)

    async def ask(
        self, method: str, path: str, body: Any = None, **headers: str
    ) -> tuple[int, bytes]:
        """The answer to the robot, or with another `authorization`."""
        headers = {"authorization": f"Bearer {self.token}", **headers}
        data = b"" if body is None else json.dumps(body).encode()
        path, _, query = path.partition("?")
        code, _, text = await asked(self.front, method, path, data, query.encode(), **headers)
        return code, text

    async def admin(self, method: str, path: str, body: Any = None) -> Any:
        code, text = await self.ask(method, path, body, authorization=f"Bearer {TOKEN}")
        assert code < 300, text
        return json.loads(text)

    async def grant(self, name: str, *rules: Any) -> None:
        subject = {"kind": "ServiceAccount", "name": "robot", "namespace": "default"}
        ref = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name}
        meta = {"metadata": {"name": name}}
        await self.admin("POST", f"{RBAC}/clusterroles", {**meta, "rules": list(rules)})
        binding = {**meta, "roleRef": ref, "subjects": [subject]}
        await self.admin("POST", f"{RBAC}/namespaces/default/rolebindings", binding)


async def a_scene() -> Scene:
    api = await a_server(config=evolve(config(), users={TOKEN: ADMIN}))
    loop = asyncio.get_running_loop()
    for name in ("kube-system", "kube-public", "other"):
        done = loop.create_future()
        body = resources.NAMESPACES.type(metadata=resources_meta(name))
        api.submit(Request("create", resources.NAMESPACES, body=body, user=ADMIN), done.set_result)
        assert (await done).code == 201
    for obj in default_policy():
        resource = resources.by_kind(obj.api_version, obj.kind)
        assert resource is not None
        where = (resource, obj.metadata.namespace or "", obj.metadata.name)
        api.submit(Request("create", *where, body=obj, user=ADMIN), lambda response: None)
    front = Front(api)
    scene = Scene(front, "none")
    account = await scene.admin("POST", f"{HOME}/serviceaccounts", {"metadata": {"name": "robot"}})
    scene.uid = account["metadata"]["uid"]
    scene.token = scene.make()
    for where in (HOME, HOME.replace("default", "other")):
        secret = {"metadata": {"name": "mine"}, "data": {"k": MARK.decode()}}
        await scene.admin("POST", f"{where}/secrets", secret)
        await scene.admin("POST", f"{where}/configmaps", {"metadata": {"name": "a"}})
    await scene.grant("reads", rule("get list watch", "configmaps"))
    return scene


def resources_meta(name: str) -> Any:
    from refk8s.core.api.meta_v1 import ObjectMeta

    return ObjectMeta(name=name)


def attacked(test: Any) -> Any:
    async def run() -> None:
        scene = await a_scene()
        assert (await scene.ask("GET", f"{HOME}/configmaps/a"))[0] == 200, "sometimes: it may read"
        await test(scene)
        scene.front.api.stop()

    in_loop(run)


PIECES = (
    "api", "v1", "apis", "namespaces", "default", "other", "secrets", "configmaps", "mine", "a",
    "watch", "pods", "log", "proxy", "", ".", "..", "%2e%2e", "%73ecrets", "secrets%2fmine",
    "configmaps%2f..%2fsecrets", "Secrets", "secrets;x", "status", "*",
)  # fmt: skip
QUERIES = (
    "",
    "watch=1",
    "fieldSelector=metadata.name%3Da",
    "limit=1",
    "resourceVersion=0",
    "pretty=1",
)


@given(
    st.lists(
        st.one_of(
            st.just(("api", "v1", "namespaces", "default", "secrets")),
            st.just(("api", "v1", "secrets")),
            st.lists(st.sampled_from(PIECES), min_size=1, max_size=9).map(tuple),
        ),
        min_size=1, max_size=12,
    ),
    st.sampled_from(QUERIES),
    st.sampled_from(("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD")),
)  # fmt: skip
@settings(max_examples=25)
def test_authz_1_no_path_leads_to_an_object_that_the_user_may_not_read(paths, query, method):
    async def test(scene: Scene) -> None:
        for parts in paths:
            code, text = await scene.ask(
                method, "/" + "/".join(parts) + (f"?{query}" if query else "")
            )
            assert MARK not in text, (parts, query)
            assert code >= 300 or "secrets" not in "/".join(parts).lower() or "configmaps" in parts
        found = await scene.admin("GET", SECRET)
        assert found["data"] == {"k": MARK.decode()}, "nobody has changed it"

    attacked(test)


def test_api_16_a_token_of_another_audience_lifetime_or_account_is_nobodys():
    async def test(scene: Scene) -> None:
        path = f"{HOME}/configmaps/a"
        for changes, code in (
            ({}, 200),
            ({"audiences": ("vault",)}, 401),
            ({"audiences": ()}, 401),
            ({"age": 4000}, 401),
            ({"age": -4000}, 401),
            ({"uid": "another"}, 401),
            ({"name": "absent"}, 401),
            ({"namespace": "other"}, 401),
            ({"bound": {"pod": {"name": "p", "uid": "u"}}}, 401),
            ({"bound": {"secret": {"name": "mine", "uid": "u"}}}, 401),
            ({"bound": {"node": {"name": "n", "uid": "u"}}}, 401),
        ):
            token = scene.make(**changes)
            assert (await scene.ask("GET", path, authorization=f"Bearer {token}"))[0] == code, (
                changes
            )
        await scene.admin("DELETE", f"{HOME}/serviceaccounts/robot")
        assert (await scene.ask("GET", path))[0] == 401
        await scene.admin("POST", f"{HOME}/serviceaccounts", {"metadata": {"name": "robot"}})
        assert (await scene.ask("GET", path))[0] == 401, "the account of the same name is another"

    attacked(test)


def test_http_23_nobody_becomes_somebody_else_without_the_right():
    async def test(scene: Scene) -> None:
        names = ("kubernetes-admin", "system:masters", "system:apiserver", "jane", "system:anonymous",
                 "system:kube-controller-manager", "system:node:n", "system:serviceaccount:other:x")  # fmt: skip
        for name in names:
            assert (await scene.ask("GET", SECRET, impersonate_user=name))[0] == 403, name
        subject = {"kind": "ServiceAccount", "name": "robot", "namespace": "default"}
        rules = [rule("impersonate", "users", resourceNames=["bob"])]
        await scene.admin(
            "POST", f"{RBAC}/clusterroles", {"metadata": {"name": "bob"}, "rules": rules}
        )
        ref = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "bob"}
        binding = {"metadata": {"name": "bob"}, "roleRef": ref, "subjects": [subject]}
        await scene.admin("POST", f"{RBAC}/clusterrolebindings", binding)
        code, text = await scene.ask("GET", SECRET, impersonate_user="bob")
        assert code == 403 and b'User \\"bob\\" cannot get' in text, "as bob, who may do nothing"
        for more in ({"impersonate_group": "system:masters"}, {"impersonate_uid": "1"}, {"impersonate_extra_x": "y"}):  # fmt: skip
            code, text = await scene.ask("GET", SECRET, impersonate_user="bob", **more)
            assert code == 403 and b"cannot impersonate" in text

    attacked(test)


def test_http_8_a_kept_list_is_for_those_who_may_list():
    async def test(scene: Scene) -> None:
        for path in (f"{HOME}/secrets", "/api/v1/secrets", "/api/v1/configmaps"):
            for _ in range(3):
                await scene.admin("GET", path)
            code, text = await scene.ask("GET", path)
            assert code == 403 and MARK not in text
        assert scene.front.lists._kept, "sometimes: they are kept"
        assert (await scene.ask("GET", f"{HOME}/configmaps"))[0] == 200

    attacked(test)


@pytest.mark.parametrize("part", ["exec", "attach", "portforward", "log", "proxy"])
def test_http_8_no_stream_begins_without_the_right(part):
    async def test(scene: Scene) -> None:
        begun = []

        async def connect(*arguments: Any) -> Any:
            begun.append(arguments)
            return Response(503, status.unavailable("no node"))

        scene.front.connect = connect
        pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
        await scene.admin("POST", f"{HOME}/pods", pod)
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
            for path in (
                f"{HOME}/pods/p/{part}",
                f"{HOME}/services/s/proxy",
                "/api/v1/nodes/n/proxy",
            ):
                assert (await scene.ask(method, f"{path}?command=id"))[0] in (403, 405), path
        assert not begun
        await scene.grant("streams", rule("get create", f"pods/{part}"))
        await scene.ask("GET" if part in ("log", "proxy") else "POST", f"{HOME}/pods/p/{part}")
        assert begun or part == "proxy", "sometimes: with the right it begins"

    attacked(test)


def test_rbac_7_a_user_does_not_give_itself_more():
    async def test(scene: Scene) -> None:
        group = "rbac.authorization.k8s.io"
        await scene.grant(
            "writes", rule("get create update patch delete", "roles rolebindings", group)
        )
        ways = [
            ("POST", "roles", {"metadata": {"name": "x"}, "rules": [rule("get", "secrets")]}),
            ("POST", "roles", {"metadata": {"name": "x"}, "rules": [rule("*", "*", "*")]}),
            ("POST", "roles", {"metadata": {"name": "x"}, "rules": [rule("escalate bind", "roles", group)]}),
        ]  # fmt: skip
        for name in ("cluster-admin", "admin", "system:kube-controller-manager", "bob"):
            ref = {"apiGroup": group, "kind": "ClusterRole", "name": name}
            subject = {"kind": "ServiceAccount", "name": "robot"}
            ways.append(("POST", "rolebindings", {"metadata": {"name": "x"}, "roleRef": ref, "subjects": [subject]}))  # fmt: skip
        for method, plural, body in ways:
            code, text = await scene.ask(method, f"{RBAC}/namespaces/default/{plural}", body)
            empty = plural == "rolebindings" and body["roleRef"]["name"] == "admin"  # type: ignore[index]
            assert code in ((403, 404) if not empty else (201, 403)), text
        wider = {"rules": [rule("get", "configmaps secrets")]}
        merge = {"content_type": "application/merge-patch+json"}
        assert (await scene.ask("PATCH", f"{RBAC}/clusterroles/reads", wider, **merge))[0] == 403
        assert (await scene.ask("GET", SECRET))[0] == 403

    attacked(test)


def test_authz_5_reviews_about_others_need_a_right():
    async def test(scene: Scene) -> None:
        spec = {"spec": {"user": "x", "resourceAttributes": {"verb": "get"}}}
        path = "/apis/authorization.k8s.io/v1"
        assert (await scene.ask("POST", f"{path}/subjectaccessreviews", spec))[0] == 403
        tokens = "/apis/authentication.k8s.io/v1/tokenreviews"
        assert (await scene.ask("POST", tokens, {"spec": {"token": scene.token}}))[0] == 403
        mine = {"spec": {"resourceAttributes": {"verb": "get", "resource": "secrets"}}}
        code, text = await scene.ask("POST", f"{path}/selfsubjectaccessreviews", mine)
        assert code == 201 and json.loads(text)["status"]["allowed"] is False

    attacked(test)


def test_the_page_of_attacks_names_rules_and_tests_that_exist():
    page = (ROOT / "spec/evidence/attacks.md").read_text()
    rows = [line.split(" | ") for line in page.splitlines() if line.startswith("| ")]
    rows = [row for row in rows if row[0] != "| attack"]
    pages = "".join(path.read_text() for path in (ROOT / "spec").rglob("*.md"))
    rules = set(re.findall(r"^### ([A-Z]+-\d+) ", pages, re.M))
    sources = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    tests = set(re.findall(r"^(?:async )?def (test_\w+)", sources, re.M))
    assert len(rows) > 30
    for _, _, named, shown in rows:
        assert set(named.split(", ")) <= rules, named
        assert set(shown.rstrip(" |").split(", ")) <= tests, shown
