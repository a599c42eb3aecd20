"""Ways to get at objects without the right to them, tried at a running API server. Each is refused.
The list of attacks, with those that other files have, is spec/evidence/attacks.md.

`robot` is a service account that may get and list the ConfigMaps of its namespace, and nothing
else. What it must never see is the content of a Secret, which has a mark.
"""

import base64
import contextlib
import http.client
import json
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fake_cluster import FakeCluster, until
from test_attacks import opened

from refk8s.components import certificates

MARK = "bWFyay1vZi10aGUtc2VjcmV0"
SECRET = {"metadata": {"name": "mine"}, "data": {"k": MARK}}
HOME, OTHER = "/api/v1/namespaces/default", "/api/v1/namespaces/other"
RBAC = "/apis/rbac.authorization.k8s.io/v1"
CUSTOM = "/apis/example.com/v1/namespaces/default/lamps"
REVIEW = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
DEFINITION = {
    "metadata": {"name": "lamps.example.com"},
    "spec": {
        "group": "example.com",
        "names": {"kind": "Lamp", "plural": "lamps"},
        "scope": "Namespaced",
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
                "subresources": {"status": {}},
            }
        ],
    },
}  # fmt: skip


class Attacked(FakeCluster):
    """A cluster with something to get, and a service account that may not get it."""

    def prepare(self) -> None:
        for path, body in (
            ("/api/v1/namespaces", {"metadata": {"name": "other"}}),
            (f"{HOME}/secrets", SECRET),
            (f"{OTHER}/secrets", SECRET),
            (f"{HOME}/configmaps", {"metadata": {"name": "a"}}),
            (f"{HOME}/configmaps", {"metadata": {"name": "b", "labels": {"x": "y"}}}),
            (f"{HOME}/serviceaccounts", {"metadata": {"name": "robot"}}),
            ("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", DEFINITION),
        ):
            self.admin("POST", path, body)
        self.grant("robot", {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list"]})  # fmt: skip
        lamp = {"apiVersion": "example.com/v1", "kind": "Lamp", "metadata": {"name": "l"}, "k": MARK}  # fmt: skip
        until(lambda: self.call("POST", CUSTOM, lamp)[0] in (201, 409), "the definition is served")
        self.robot = self.token_of("robot")

    def admin(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        code, answer = self.call(method, path, body, headers)
        assert code < 300, answer
        return answer

    def grant(self, account: str, *rules: dict[str, Any], name: str = "") -> None:
        """A role of the namespace default with these rules, for this service account."""
        meta = {"metadata": {"name": name or account}}
        self.admin("POST", f"{RBAC}/namespaces/default/roles", {**meta, "rules": list(rules)})
        ref = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name or account}
        subject = {"kind": "ServiceAccount", "name": account, "namespace": "default"}
        binding = {**meta, "roleRef": ref, "subjects": [subject]}
        self.admin("POST", f"{RBAC}/namespaces/default/rolebindings", binding)

    def token_of(self, account: str, **spec: Any) -> str:
        made = self.admin("POST", f"{HOME}/serviceaccounts/{account}/token", {"spec": spec})
        return str(made["status"]["token"])

    def as_token(
        self, token: str, method: str, path: str, body: Any = None, **headers: str
    ) -> tuple[int, Any]:
        named = {key.replace("_", "-"): value for key, value in headers.items()}
        authorization = {"Authorization": f"Bearer {token}"} if token else {"Authorization": ""}
        if not token:
            return self._without_credentials(method, path, body, named)
        return self.call(method, path, body, {**authorization, **named})

    def as_robot(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        return self.as_token(self.robot, method, path, body, **headers)

    def _without_credentials(
        self, method: str, path: str, body: Any, headers: dict[str, str]
    ) -> tuple[int, Any]:
        with contextlib.closing(self.connect()) as connection:
            data = None if body is None else json.dumps(body)
            connection.request(method, path, data, {"Content-Type": "application/json", **headers})
            answer = connection.getresponse()
            text = answer.read()
        return answer.status, json.loads(text) if text[:1] == b"{" else text

    def node(self, name: str) -> tuple[Path, Path]:
        """A client certificate of the kubelet of this node."""
        crt, key = self.directory / f"{name}.crt", self.directory / f"{name}.key"
        if not crt.exists():
            made = certificates.make_key()
            authority = (self.directory / "data/pki/ca.key").read_bytes()
            now = datetime.now(UTC)
            user = (f"system:node:{name}", "system:nodes")
            crt.write_bytes(certificates.make_client(made, authority, *user, now))
            key.write_bytes(made)
        return crt, key

    def as_node(self, name: str, method: str, path: str, body: Any = None, kind: str = "") -> tuple[int, Any]:  # fmt: skip
        context = ssl._create_unverified_context()
        context.load_cert_chain(*self.node(name))
        connection = http.client.HTTPSConnection(
            "127.0.0.1", self.port, context=context, timeout=30
        )
        with contextlib.closing(connection):
            data = None if body is None else json.dumps(body)
            connection.request(method, path, data, {"Content-Type": kind or "application/json"})
            answer = connection.getresponse()
            text = answer.read()
        return answer.status, json.loads(text)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attacked]:
    running = Attacked(tmp_path_factory.mktemp("access"), nodes=2)
    running.start()
    running.prepare()
    assert running.as_robot("GET", f"{HOME}/configmaps/a")[0] == 200, "sometimes: it may read"
    yield running
    running.stop()
    assert "Traceback" not in running.log.read_text()


def is_refused(answer: tuple[int, Any], *codes: int) -> None:
    code, body = answer
    assert code in (codes or (403,)), answer
    assert MARK not in json.dumps(body, default=str)


# --- who is asking


def test_authz_6_without_credentials_little_is_open_and_no_object(cluster: Attacked) -> None:
    for path in ("/healthz", "/livez", "/readyz", "/version"):
        assert cluster.as_token("", "GET", path)[0] == 200
    for path in ("/api", "/apis", "/openapi/v2", "/openapi/v3", "/metrics", "/logs", "/debug/pprof", "/",
                 f"{HOME}/secrets/mine", f"{HOME}/secrets", "/api/v1/nodes", CUSTOM,
                 "/api/v1/namespaces/kube-public/configmaps", "/api/v1/watch/secrets"):  # fmt: skip
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
            is_refused(cluster.as_token("", method, path))


WRONG = ["Bearer", "Bearer ", "Basic cm9ib3Q6eA==", "bearer x", "Bearer x y", "Token x", "Negotiate x"]  # fmt: skip


@pytest.mark.parametrize("value", WRONG)
def test_api_15_odd_credentials_are_not_the_robots(cluster: Attacked, value: str) -> None:
    headers = {"Authorization": value}
    is_refused(cluster.call("GET", f"{HOME}/configmaps/a", headers=headers), 401, 403)


def test_api_15_a_token_is_read_from_its_header_alone(cluster: Attacked) -> None:
    token = cluster.token
    for name in ("token", "access_token", "bearer", "authorization"):
        is_refused(cluster.as_token("", "GET", f"{HOME}/secrets/mine?{name}={token}"))
    for header in ("X-Auth-Token", "Proxy-Authorization", "X-Forwarded-Authorization", "Cookie"):
        answer = cluster._without_credentials(
            "GET", f"{HOME}/secrets/mine", None, {header: f"Bearer {token}"}
        )
        is_refused(answer)


SPOOFED = {
    "X-Remote-User": "kubernetes-admin",
    "X-Remote-Group": "system:masters",
    "X-Remote-Uid": "1",
    "X-Remote-Extra-Scopes": "all",
    "X-Forwarded-User": "kubernetes-admin",
    "X-Forwarded-For": "127.0.0.1",
    "X-Original-Url": "/version",
    "X-Rewrite-Url": "/version",
}


def test_api_15_headers_of_a_front_proxy_are_nobodys_credentials(cluster: Attacked) -> None:
    code, answer = cluster._without_credentials("GET", f"{HOME}/secrets/mine", None, SPOOFED)
    is_refused((code, answer))
    assert "system:anonymous" in answer["message"]
    code, answer = cluster.as_robot("POST", REVIEW, {}, **SPOOFED)
    assert answer["status"]["userInfo"]["username"] == "system:serviceaccount:default:robot"
    assert "system:masters" not in answer["status"]["userInfo"]["groups"]


def test_http_19_a_token_dies_with_what_it_is_bound_to(cluster: Attacked) -> None:
    pod = {
        "metadata": {"name": "bound"},
        "spec": {"serviceAccountName": "robot", "containers": [{"name": "c", "image": "busybox"}]},
    }
    made = {
        "Pod": cluster.admin("POST", f"{HOME}/pods", pod),
        "Secret": cluster.admin("POST", f"{HOME}/secrets", {"metadata": {"name": "bound"}}),
        "Node": cluster.admin("POST", "/api/v1/nodes", {"metadata": {"name": "bound"}}),
    }
    tokens = {}
    for kind, found in made.items():
        ref = {"kind": kind, "apiVersion": "v1", "name": "bound", "uid": found["metadata"]["uid"]}
        tokens[kind] = cluster.token_of("robot", boundObjectRef=ref)
        assert cluster.as_token(tokens[kind], "GET", f"{HOME}/configmaps/a")[0] == 200, kind
    cluster.admin("DELETE", f"{HOME}/pods/bound", {"gracePeriodSeconds": 0})
    cluster.admin("DELETE", f"{HOME}/secrets/bound")
    cluster.admin("DELETE", "/api/v1/nodes/bound")
    for kind, token in tokens.items():
        assert cluster.as_token(token, "GET", f"{HOME}/configmaps/a")[0] == 401, kind
    # one of the same name is another
    cluster.admin("POST", f"{HOME}/secrets", {"metadata": {"name": "bound"}})
    assert cluster.as_token(tokens["Secret"], "GET", f"{HOME}/configmaps/a")[0] == 401


def test_http_19_a_token_dies_with_its_account(cluster: Attacked) -> None:
    cluster.admin("POST", f"{HOME}/serviceaccounts", {"metadata": {"name": "short"}})
    token = cluster.token_of("short")
    assert cluster.as_token(token, "POST", REVIEW, {})[0] == 201
    cluster.admin("DELETE", f"{HOME}/serviceaccounts/short")
    assert cluster.as_token(token, "POST", REVIEW, {})[0] == 401
    cluster.admin("POST", f"{HOME}/serviceaccounts", {"metadata": {"name": "short"}})
    assert cluster.as_token(token, "POST", REVIEW, {})[0] == 401


def _parts(token: str) -> tuple[dict[str, Any], dict[str, Any], str]:
    head, claims, signature = token.split(".")
    read = [json.loads(base64.urlsafe_b64decode(part + "==")) for part in (head, claims)]
    return read[0], read[1], signature


def _joined(head: dict[str, Any], claims: dict[str, Any], signature: str) -> str:
    texts = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in (head, claims)]  # fmt: skip
    return ".".join((*texts, signature))


def test_api_16_a_token_that_was_changed_is_nobodys(cluster: Attacked) -> None:
    head, claims, signature = _parts(cluster.robot)
    admin = {**claims, "sub": "system:serviceaccount:kube-system:generic-garbage-collector"}
    forged = [
        _joined(head, admin, signature),
        _joined({**head, "alg": "none"}, claims, ""),
        _joined({**head, "alg": "none"}, claims, signature),
        _joined({**head, "alg": "HS256"}, claims, signature),
        _joined({**head, "kid": "../../dev/null"}, claims, signature),
        _joined({**head, "jwk": {"kty": "oct", "k": ""}}, claims, signature),
        _joined(head, {**claims, "exp": 2**40}, signature),
        cluster.robot[:-1],
        cluster.robot + "A",
        cluster.robot.rpartition(".")[0],
        cluster.robot.rpartition(".")[0] + ".",
    ]
    for token in forged:
        assert cluster.as_token(token, "GET", f"{HOME}/configmaps/a")[0] == 401, token


def protocol_of(token: str) -> str:
    text = base64.urlsafe_b64encode(token.encode()).decode().rstrip("=")
    return f"base64url.bearer.authorization.k8s.io.{text}"


def test_http_27_a_token_among_the_subprotocols_is_the_users_and_nobody_elses(
    cluster: Attacked,
) -> None:
    import websocket  # comes with the official Python client

    container = {"name": "c", "image": "busybox", "command": ["sleep", "1000"]}
    pod = {"metadata": {"name": "shell"}, "spec": {"containers": [container]}}
    cluster.admin("POST", f"{HOME}/pods", pod)
    cluster.kubectl("wait", "pod/shell", "--for=condition=Ready", "--timeout=30s")
    path = f"{HOME}/pods/shell/exec?command=echo&command=hi&stdout=true"

    def opens(*protocols: str, **more: Any) -> tuple[int, str]:
        """The code of a refusal; or 101, and the protocol that was accepted."""
        try:
            client = websocket.create_connection(
                f"wss://127.0.0.1:{cluster.port}{path}",
                timeout=20,
                sslopt={"cert_reqs": ssl.CERT_NONE},
                subprotocols=list(protocols),
                **more,
            )
        except websocket.WebSocketBadStatusException as refused:
            return refused.status_code, ""
        with contextlib.closing(client):
            assert client.recv()[:1] == b"\x01", "it is the channel of standard output"
        return 101, client.getsubprotocol()

    v5, admin = "v5.channel.k8s.io", protocol_of(cluster.token)
    assert opens(v5, admin) == opens(admin, v5) == (101, v5)
    assert opens(v5, protocol_of(cluster.robot)) == (403, "")
    for wrong in (protocol_of("wrong"), protocol_of(""), f"{admin}=", f"{admin}*", admin.upper()):
        assert opens(v5, wrong)[0] in (401, 403), wrong
    assert opens(v5, protocol_of("wrong"))[0] == 401
    assert opens(admin)[0] == opens(v5, admin, admin)[0] == 401
    header = {"Authorization": f"Bearer {cluster.robot}"}
    assert opens(v5, admin, header=header)[0] == 403, "the header counts"
    # where no WebSocket is asked for it is a header like any other
    named = {"Sec-WebSocket-Protocol": f"{v5}, {admin}"}
    assert cluster._without_credentials("GET", f"{HOME}/secrets/mine", None, named)[0] == 403
    cluster.admin("DELETE", f"{HOME}/pods/shell", {"gracePeriodSeconds": 0})


# --- as somebody else


def test_http_23_no_part_of_another_user_is_taken_without_the_right(cluster: Attacked) -> None:
    ways: list[dict[str, str]] = [
        {"Impersonate-User": "kubernetes-admin"},
        {"Impersonate-User": "system:serviceaccount:kube-system:default"},
        {"Impersonate-User": "system:node:node-1"},
        {"Impersonate-User": "robot", "Impersonate-Group": "system:masters"},
        {"Impersonate-User": "robot", "Impersonate-Uid": "1"},
        {"Impersonate-User": "robot", "Impersonate-Extra-scopes": "all"},
    ]
    for way in ways:
        is_refused(cluster.as_robot("GET", f"{HOME}/secrets/mine", **way))
    # without a user they name nobody
    for alone in ({"Impersonate-Group": "system:masters"}, {"Impersonate-Uid": "1"}):
        is_refused(cluster.as_robot("GET", f"{HOME}/secrets/mine", **alone), 400, 403, 500)


def test_http_23_who_may_impersonate_one_user_gets_none_of_their_groups(cluster: Attacked) -> None:
    cluster.admin("POST", f"{HOME}/serviceaccounts", {"metadata": {"name": "actor"}})
    rules = [{"apiGroups": [""], "resources": ["users"], "verbs": ["impersonate"], "resourceNames": ["bob"]}]  # fmt: skip
    cluster.admin("POST", f"{RBAC}/clusterroles", {"metadata": {"name": "actor"}, "rules": rules})
    ref = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "actor"}
    subject = {"kind": "ServiceAccount", "name": "actor", "namespace": "default"}
    binding = {"metadata": {"name": "actor"}, "roleRef": ref, "subjects": [subject]}
    cluster.admin("POST", f"{RBAC}/clusterrolebindings", binding)
    token = cluster.token_of("actor")
    code, answer = cluster.as_token(token, "GET", f"{HOME}/secrets/mine", Impersonate_User="bob")
    assert code == 403 and 'User "bob"' in answer["message"]
    for more in ({"Impersonate-Group": "system:masters"}, {"Impersonate-Uid": "1"}, {"Impersonate-Extra-x": "y"}):  # fmt: skip
        is_refused(cluster.as_token(token, "GET", f"{HOME}/secrets/mine", Impersonate_User="bob", **more))  # fmt: skip
    is_refused(cluster.as_token(token, "GET", f"{HOME}/secrets/mine", Impersonate_User="BOB"))


# --- nodes


NODE_MERGE = "application/strategic-merge-patch+json"


def test_nauth_4_a_node_writes_no_other_node(cluster: Attacked) -> None:
    status = {"status": {"conditions": [{"type": "Ready", "status": "False"}]}}
    lease = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
    for method, path, body in (
        ("PATCH", "/api/v1/nodes/node-2/status", status),
        ("PATCH", "/api/v1/nodes/node-2", {"metadata": {"annotations": {"x": "y"}}}),
        ("DELETE", "/api/v1/nodes/node-2", None),
        ("POST", "/api/v1/nodes", {"metadata": {"name": "node-9"}}),
        ("PATCH", f"{lease}/node-2", {"spec": {"holderIdentity": "node-1"}}),
        ("DELETE", f"{lease}/node-2", None),
    ):
        is_refused(cluster.as_node("node-1", method, path, body, NODE_MERGE if method == "PATCH" else ""))  # fmt: skip


def test_nauth_4_a_node_gives_itself_no_label_or_taint_that_attracts_pods(
    cluster: Attacked,
) -> None:
    for change in (
        {"metadata": {"labels": {"node-restriction.kubernetes.io/secret": "yes"}}},
        {"metadata": {"labels": {"node-role.kubernetes.io/control-plane": ""}}},
        {"metadata": {"labels": {"kubernetes.io/anything": "x"}}},
        {"spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]}},
    ):
        is_refused(cluster.as_node("node-1", "PATCH", "/api/v1/nodes/node-1", change, NODE_MERGE))
    fine = {"metadata": {"labels": {"kubelet.kubernetes.io/x": "y"}}}
    code, answer = cluster.as_node("node-1", "PATCH", "/api/v1/nodes/node-1", fine, NODE_MERGE)
    assert code == 200, answer


def test_nauth_5_a_node_has_only_the_pods_and_secrets_that_are_bound_to_it(
    cluster: Attacked,
) -> None:
    cluster.admin("POST", f"{HOME}/secrets", {"metadata": {"name": "used"}, "data": {"k": MARK}})
    volume = {"name": "v", "secret": {"secretName": "used"}}
    container = {"name": "c", "image": "busybox", "command": ["sleep", "1000"]}
    pod = {
        "metadata": {"name": "theirs"},
        "spec": {"nodeName": "node-2", "volumes": [volume], "containers": [container]},
    }
    made = cluster.admin("POST", f"{HOME}/pods", pod)
    assert cluster.as_node("node-2", "GET", f"{HOME}/secrets/used")[0] == 200, "sometimes"
    ref = {"kind": "Pod", "apiVersion": "v1", "name": "theirs", "uid": made["metadata"]["uid"]}
    mirror = {"metadata": {"name": "static"}, "spec": {"nodeName": "node-2", "containers": [container]}}  # fmt: skip
    for method, path, body in (
        ("GET", f"{HOME}/secrets/used", None),
        ("GET", f"{HOME}/secrets", None),
        ("GET", f"{HOME}/secrets?watch=1&fieldSelector=metadata.name%3Dused", None),
        ("PATCH", f"{HOME}/pods/theirs/status", {"status": {"phase": "Failed"}}),
        ("DELETE", f"{HOME}/pods/theirs", None),
        ("POST", f"{HOME}/pods", mirror),
        ("POST", f"{HOME}/pods", {"metadata": {"name": "x"}, "spec": {"containers": [container]}}),
        ("POST", f"{HOME}/pods/theirs/binding", {"metadata": {"name": "theirs"}, "target": {"kind": "Node", "name": "node-1"}}),
        ("POST", f"{HOME}/pods/theirs/eviction", {"metadata": {"name": "theirs"}}),
        ("POST", f"{HOME}/serviceaccounts/default/token", {"spec": {"boundObjectRef": ref}}),
        ("POST", f"{HOME}/serviceaccounts/robot/token", {"spec": {}}),
        ("GET", f"{HOME}/pods/theirs/exec?command=id", None),
    ):  # fmt: skip
        is_refused(cluster.as_node("node-1", method, path, body, NODE_MERGE if method == "PATCH" else ""))  # fmt: skip
    cluster.admin("DELETE", f"{HOME}/pods/theirs", {"gracePeriodSeconds": 0})


# --- what is served without asking


def test_list_13_kept_lists_and_watches_are_for_those_who_may_list(cluster: Attacked) -> None:
    asked = ["", "?resourceVersion=0", "?limit=1", "?watch=1&resourceVersion=0",
             "?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true",
             "?fieldSelector=metadata.name%3Dmine", "?labelSelector=nothing", "?watch=0"]  # fmt: skip
    for _ in range(2):  # the second time the lists are kept
        for query in asked[:3]:
            cluster.admin("GET", f"{HOME}/secrets{query}")
    for query in asked:
        for path in (f"{HOME}/secrets", "/api/v1/secrets", "/api/v1/watch/secrets", CUSTOM, "/apis/example.com/v1/lamps"):  # fmt: skip
            is_refused(cluster.as_robot("GET", path + query))
            for kind in ("application/json;as=Table;g=meta.k8s.io;v=v1", "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"):  # fmt: skip
                is_refused(cluster.as_robot("GET", path + query, Accept=kind))


def test_authz_2_selectors_show_nothing_beside_the_names_that_a_role_has(cluster: Attacked) -> None:
    cluster.admin("POST", f"{HOME}/serviceaccounts", {"metadata": {"name": "named"}})
    rule = {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list", "watch", "deletecollection"], "resourceNames": ["a"]}  # fmt: skip
    cluster.grant("named", rule)
    token = cluster.token_of("named")

    def asked(selector: str, method: str = "GET") -> tuple[int, Any]:
        return cluster.as_token(token, method, f"{HOME}/configmaps?{selector}")

    code, answer = asked("fieldSelector=metadata.name%3Da")
    assert code == 200 and [one["metadata"]["name"] for one in answer["items"]] == ["a"]
    for selector in (
        "", "fieldSelector=metadata.name%3Db", "fieldSelector=metadata.name!%3Da", "labelSelector=x",
        "fieldSelector=metadata.namespace%3Ddefault", "fieldSelector=",
    ):  # fmt: skip
        is_refused(asked(selector))
        is_refused(asked(selector, "DELETE"))
    # both names at once: whichever is asked about, no object has two
    code, answer = asked("fieldSelector=metadata.name%3Da,metadata.name%3Db")
    assert code == 403 or answer["items"] == []
    code, answer = asked("fieldSelector=metadata.name%3Da&fieldSelector=metadata.name%3Db")
    names = [one["metadata"]["name"] for one in answer.get("items", [])]
    assert code == 403 or names in ([], ["a"])


def test_authz_7_after_a_role_is_taken_away_nothing_begins_anew(cluster: Attacked) -> None:
    """What has begun goes on until it ends, as at Kubernetes; a kept list is not answered."""
    cluster.admin("POST", f"{HOME}/serviceaccounts", {"metadata": {"name": "former"}})
    cluster.grant("former", {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list", "watch"]})  # fmt: skip
    token = cluster.token_of("former")
    path = f"{HOME}/configmaps"
    for _ in range(3):
        assert cluster.as_token(token, "GET", path)[0] == 200
    with contextlib.closing(cluster.connect()) as watching:
        watching.request("GET", f"{path}?watch=1&timeoutSeconds=20", headers={"Authorization": f"Bearer {token}"})  # fmt: skip
        stream = watching.getresponse()
        assert stream.status == 200 and json.loads(stream.readline())["type"] == "ADDED"
        cluster.admin("DELETE", f"{RBAC}/namespaces/default/rolebindings/former")
        for query in ("", "?watch=1", "?resourceVersion=0", "?limit=1"):
            is_refused(cluster.as_token(token, "GET", path + query))
        cluster.admin("POST", path, {"metadata": {"name": "after"}})
        names = []
        while "after" not in names:
            names.append(json.loads(stream.readline())["object"]["metadata"]["name"])
    cluster.admin("DELETE", f"{path}/after")


# --- parts of objects, and what a write shows


def test_rbac_1_no_subresource_is_reached_by_the_right_to_its_object(cluster: Attacked) -> None:
    cluster.admin("POST", f"{HOME}/serviceaccounts", {"metadata": {"name": "keeper"}})
    cluster.grant(
        "keeper",
        {"apiGroups": ["", "apps", "example.com"], "verbs": ["*"],
         "resources": ["pods", "serviceaccounts", "deployments", "lamps", "services", "nodes"]},
    )  # fmt: skip
    token = cluster.token_of("keeper")
    container = {"name": "c", "image": "busybox", "command": ["sleep", "1000"]}
    cluster.admin("POST", f"{HOME}/pods", {"metadata": {"name": "p"}, "spec": {"containers": [container]}})  # fmt: skip
    for method, path in (
        ("GET", f"{HOME}/pods/p/status"), ("PATCH", f"{HOME}/pods/p/status"), ("GET", f"{HOME}/pods/p/log"),
        ("POST", f"{HOME}/pods/p/exec?command=id"), ("GET", f"{HOME}/pods/p/exec?command=id"),
        ("POST", f"{HOME}/pods/p/attach"), ("POST", f"{HOME}/pods/p/portforward"), ("GET", f"{HOME}/pods/p/proxy"),
        ("GET", f"{HOME}/pods/p/proxy/x"), ("POST", f"{HOME}/pods/p/eviction"), ("POST", f"{HOME}/pods/p/binding"),
        ("PATCH", f"{HOME}/pods/p/ephemeralcontainers"), ("PATCH", f"{HOME}/pods/p/resize"),
        ("POST", f"{HOME}/serviceaccounts/robot/token"), ("GET", f"{HOME}/services/s/proxy"),
        ("GET", "/api/v1/nodes/node-1/proxy"), ("GET", "/api/v1/nodes/node-1/proxy/metrics"),
        ("GET", "/apis/apps/v1/namespaces/default/deployments/d/scale"), ("PATCH", f"{CUSTOM}/l/status"),
        ("GET", f"{CUSTOM}/l/status"), ("POST", f"{HOME}/bindings"),
    ):  # fmt: skip
        is_refused(cluster.as_token(token, method, path))
    cluster.admin("DELETE", f"{HOME}/pods/p", {"gracePeriodSeconds": 0})


def test_http_8_a_dry_run_needs_the_right_of_the_write(cluster: Attacked) -> None:
    merge = {"Content-Type": "application/merge-patch+json"}
    apply = {"Content-Type": "application/apply-patch+yaml"}
    body = {"apiVersion": "v1", "kind": "Secret", **SECRET}
    for method, path, headers in (
        ("POST", f"{HOME}/secrets?dryRun=All", {}),
        ("PUT", f"{HOME}/secrets/mine?dryRun=All", {}),
        ("PATCH", f"{HOME}/secrets/mine?dryRun=All", merge),
        ("PATCH", f"{HOME}/secrets/mine?dryRun=All&fieldManager=x&force=true", apply),
        ("DELETE", f"{HOME}/secrets/mine?dryRun=All", {}),
        ("DELETE", f"{HOME}/secrets?dryRun=All", {}),
        ("POST", f"{HOME}/secrets?dryRun=nothing", {}),
    ):
        given = {**body, "data": {"k": "eA=="}} if method != "DELETE" else None
        is_refused(cluster.as_robot(method, path, given, **headers))
    # apply as create needs both verbs
    cluster.admin("POST", f"{HOME}/serviceaccounts", {"metadata": {"name": "patcher"}})
    cluster.grant("patcher", {"apiGroups": [""], "resources": ["secrets"], "verbs": ["patch"]})
    token = cluster.token_of("patcher")
    path = f"{HOME}/secrets/absent?fieldManager=x&dryRun=All"
    given = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "absent"}}
    is_refused(cluster.as_token(token, "PATCH", path, given, **apply))


def test_rbac_7_a_user_gives_itself_no_right_that_it_does_not_have(cluster: Attacked) -> None:
    cluster.admin("POST", f"{HOME}/serviceaccounts", {"metadata": {"name": "binder"}})
    group = "rbac.authorization.k8s.io"
    cluster.grant("binder", {"apiGroups": [group], "resources": ["roles", "rolebindings"], "verbs": ["get", "create", "update", "patch", "delete"]})  # fmt: skip
    token = cluster.token_of("binder")
    where = f"{RBAC}/namespaces/default"
    own = {"kind": "ServiceAccount", "name": "binder", "namespace": "default"}
    secrets = {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}
    may = {"apiGroups": [group], "resources": ["roles"], "verbs": ["escalate", "bind"]}
    merge = {"Content-Type": "application/merge-patch+json"}
    admin = {"apiGroup": group, "kind": "ClusterRole", "name": "cluster-admin"}
    for method, path, body, headers in (
        ("POST", f"{where}/roles", {"metadata": {"name": "x"}, "rules": [secrets]}, {}),
        ("POST", f"{where}/roles", {"metadata": {"name": "x"}, "rules": [may]}, {}),
        ("POST", f"{where}/roles?dryRun=All", {"metadata": {"name": "x"}, "rules": [secrets]}, {}),
        ("PATCH", f"{where}/roles/binder", {"rules": [secrets]}, merge),
        ("PATCH", f"{where}/roles/robot", {"rules": [secrets]}, merge),
        ("POST", f"{where}/rolebindings", {"metadata": {"name": "x"}, "roleRef": admin, "subjects": [own]}, {}),
        ("PATCH", f"{where}/rolebindings/robot", {"subjects": [own]}, merge),
        ("POST", f"{RBAC}/clusterroles", {"metadata": {"name": "x", "labels": {"rbac.authorization.k8s.io/aggregate-to-view": "true"}}, "rules": [secrets]}, {}),
        ("POST", f"{RBAC}/clusterrolebindings", {"metadata": {"name": "x"}, "roleRef": admin, "subjects": [own]}, {}),
    ):  # fmt: skip
        is_refused(cluster.as_token(token, method, path, body, **headers))
    is_refused(cluster.as_token(token, "GET", f"{HOME}/secrets/mine"))


# --- the form of the request


def raw(cluster: Attacked, line: str, *headers: str) -> tuple[int, Any]:
    """The answer to a request line that no client library would send, as the robot; 400 if the
    connection is closed instead."""
    with opened(cluster) as client:
        sent = [line, "Host: x", f"Authorization: Bearer {cluster.robot}", *headers, "", ""]
        client.sendall("\r\n".join(sent).encode("latin-1"))
        response = http.client.HTTPResponse(client, method=line.split()[0])
        try:
            response.begin()
            return response.status, json.loads(response.read() or b"null")
        except (http.client.HTTPException, ValueError, OSError):
            return 400, None


TARGETS = [
    "//api/v1/namespaces/default/secrets/mine",
    "/api//v1/namespaces/default/secrets/mine",
    "/api/v1/namespaces/default//secrets/mine",
    "/api/v1/namespaces/default/configmaps/../secrets/mine",
    "/api/v1/namespaces/default/configmaps/%2e%2e/secrets/mine",
    "/api/v1/namespaces/default/configmaps/..%2fsecrets%2fmine",
    "/api/v1/namespaces/default/configmaps/a/../../secrets/mine",
    "/api/v1/namespaces/default/configmaps%2f..%2fsecrets/mine",
    "/api/v1/namespaces/default/%73ecrets/mine",
    "/api/v1/namespaces/default/secrets/mine/",
    "/api/v1/namespaces/default/secrets/mine%00",
    "/api/v1/namespaces/default/secrets/./mine",
    "/api/v1/namespaces/default/Secrets/mine",
    "/API/v1/namespaces/default/secrets/mine",
    "/api/v1/namespaces/default/secrets;x=configmaps/mine",
    "/api/v1/namespaces/default/secrets/mine#/configmaps/a",
    "/api/v1/namespaces/default/secrets/mine?/configmaps/a",
    "/version/../api/v1/namespaces/default/secrets/mine",
    "/healthz/../api/v1/namespaces/default/secrets/mine",
    "/healthz/%2e%2e/api/v1/namespaces/default/secrets/mine",
    "/api/v1/namespaces/../namespaces/default/secrets/mine",
    "/api/v1/namespaces/default/configmaps/a\\..\\..\\secrets\\mine",
    "https://127.0.0.1/api/v1/namespaces/default/secrets/mine",
    "http://x@y/api/v1/namespaces/default/secrets/mine",
    "/api/v1/watch/namespaces/default/secrets/mine",
    "/api/v1/proxy/namespaces/default/pods/p",
    "*",
]  # fmt: skip


@pytest.mark.parametrize("target", TARGETS)
def test_authz_2_no_form_of_a_path_leads_to_the_secret(cluster: Attacked, target: str) -> None:
    for method in ("GET", "PUT", "DELETE", "HEAD"):
        code, answer = raw(cluster, f"{method} {target} HTTP/1.1")
        assert code >= 300, (method, answer)
        assert MARK not in json.dumps(answer)
    assert cluster.admin("GET", f"{HOME}/secrets/mine")["data"] == {"k": MARK}


def test_authz_2_the_method_is_that_of_the_request_line(cluster: Attacked) -> None:
    """A header or query names no other method: what is authorized is what is done."""
    names = ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override")
    for name in names:
        code, answer = raw(cluster, f"GET {HOME}/configmaps/a HTTP/1.1", f"{name}: DELETE")
        assert code == 200 and answer["kind"] == "ConfigMap"
    code, answer = raw(cluster, f"GET {HOME}/configmaps/a?_method=DELETE&method=DELETE HTTP/1.1")
    assert code == 200 and answer["kind"] == "ConfigMap"
    for method in ("get", "GETX", "DELETE", "PROPFIND", "CONNECT", "TRACE", "OPTIONS", "LIST", "WATCH"):  # fmt: skip
        code, answer = raw(cluster, f"{method} {HOME}/secrets/mine HTTP/1.1")
        assert code >= 400 and MARK not in json.dumps(answer), method
    assert cluster.admin("GET", f"{HOME}/configmaps/a")["metadata"]["name"] == "a"


@pytest.mark.parametrize(
    "headers",
    [
        ("Content-Length: 6", "Transfer-Encoding: chunked"),
        ("Content-Length: 6", "Content-Length: 60"),
        ("Transfer-Encoding: chunked", "Transfer-Encoding: identity"),
        ("Transfer-Encoding: xchunked",),
        ("Transfer-Encoding : chunked",),
        ("Content-Length: +6",),
        ("Content-Length: 0x6",),
        ("X: y\n Transfer-Encoding: chunked",),
    ],
)
def test_http_1_no_request_is_hidden_in_the_body_of_another(
    cluster: Attacked, headers: tuple[str, ...]
) -> None:
    """A proxy in front that reads the lengths otherwise would let a second request through as
    another user's. Either the request is refused and the connection ends, or one answer comes."""
    hidden = f"DELETE {HOME}/secrets/mine HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {cluster.token}\r\n\r\n"  # fmt: skip
    with opened(cluster) as client:
        begin = [f"POST {HOME}/configmaps?dryRun=All HTTP/1.1", "Host: x", f"Authorization: Bearer {cluster.robot}", "Content-Type: application/json", *headers, "", ""]  # fmt: skip
        client.sendall("\r\n".join(begin).encode() + b"0\r\n\r\n" + hidden.encode())
        client.settimeout(1)
        text = b""
        with contextlib.suppress(OSError):
            while piece := client.recv(65536):
                text += piece
    assert b" 200 OK" not in text
    assert cluster.admin("GET", f"{HOME}/secrets/mine")["data"] == {"k": MARK}


PATHS = ("/metrics", "/logs/", "/debug/pprof/", "/openid/v1/jwks/x", "/configz", "/", "/statusz")


@pytest.mark.parametrize("path", PATHS)
def test_rbac_2_a_path_that_is_no_resource_needs_a_right_too(cluster: Attacked, path: str) -> None:
    for method in ("GET", "POST", "PUT", "DELETE"):
        is_refused(cluster.as_robot(method, path))
