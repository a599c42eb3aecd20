"""Another API server behind this one, as a process of its own: APISVC-5 to APISVC-12
(spec/api_services.md)."""

import json
import socket
import ssl
import time
from collections.abc import Iterator
from typing import Any

import pytest
from extension_process import (
    API_SERVICES,
    AUTHENTICATION,
    GROUP,
    HOST,
    NAME,
    NAMESPACE,
    PORT,
    ROOT,
    SERVICE,
    VERSION,
    ExtensionServer,
)
from fake_cluster import FakeCluster, running_cluster, until

FLUNDERS = f"{ROOT}/namespaces/default/flunders"
AGGREGATED = {
    "Accept": "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
}
MERGE = {"Content-Type": "application/merge-patch+json"}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeCluster]:
    with running_cluster(tmp_path_factory.mktemp("aggregation"), nodes=1) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def server(
    cluster: FakeCluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ExtensionServer]:
    running = ExtensionServer(tmp_path_factory.mktemp("extension"), cluster)
    running.serve()
    yield running
    running.stop()


@pytest.fixture
def available(cluster: FakeCluster, server: ExtensionServer) -> Iterator[ExtensionServer]:
    server.behave()
    server.register()
    server.wait("Passed")
    cluster.call("DELETE", FLUNDERS)
    yield server
    server.behave()


def flunder(name: str, **labels: str) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "default", "labels": labels}
    return {"apiVersion": f"{GROUP}/{VERSION}", "kind": "Flunder", "metadata": metadata}


def test_apisvc_12_the_authorities_are_published(cluster: FakeCluster) -> None:
    data = cluster.call("GET", AUTHENTICATION)[1]["data"]
    assert sorted(data) == [
        "client-ca-file", "requestheader-allowed-names", "requestheader-client-ca-file",
        "requestheader-extra-headers-prefix", "requestheader-group-headers",
        "requestheader-username-headers",
    ]  # fmt: skip
    assert json.loads(data["requestheader-allowed-names"]) == ["front-proxy-client"]
    assert json.loads(data["requestheader-username-headers"]) == ["X-Remote-User"]
    assert "BEGIN CERTIFICATE" in data["requestheader-client-ca-file"]
    assert data["client-ca-file"] != data["requestheader-client-ca-file"]


def test_apisvc_9_the_condition_says_why(cluster: FakeCluster, server: ExtensionServer) -> None:
    services = f"/api/v1/namespaces/{NAMESPACE}/services"
    slices = f"/apis/discovery.k8s.io/v1/namespaces/{NAMESPACE}/endpointslices"
    cluster.call("DELETE", f"{slices}/api-1")
    cluster.call("DELETE", f"{services}/{SERVICE}")
    server.behave()
    server.register()
    assert server.wait("ServiceNotFound") == f'service/{SERVICE} in "{NAMESPACE}" is not present'
    assert cluster.call("GET", FLUNDERS) == (503, b"service unavailable\n")
    server.add_service(8443)
    assert f"is not listening on port {PORT}" in server.wait("ServicePortError")
    cluster.call("DELETE", f"{services}/{SERVICE}")
    server.add_service()
    assert "cannot find endpointslices" in server.wait("EndpointsNotFound")
    server.add_endpoints()
    assert server.wait("Passed") == "all checks passed"
    patch = {"endpoints": [{"addresses": ["10.99.0.1"], "conditions": {"ready": False}}]}
    assert cluster.call("PATCH", f"{slices}/api-1", patch, MERGE)[0] == 200
    server.register()
    assert 'no addresses with port name ""' in server.wait("MissingEndpoints")
    cluster.call("DELETE", f"{slices}/api-1")
    server.add_endpoints()
    server.wait("Passed")
    server.behave("broken")
    server.register()
    assert f"bad status from https://{HOST}:{PORT}{ROOT}: 500" in server.wait(
        "FailedDiscoveryCheck"
    )
    assert server.condition()[1] == "FailedDiscoveryCheck"
    gauge = f'aggregator_unavailable_apiservice{{name="{NAME}"}}'
    assert f"{gauge} 1.0".encode() in cluster.call("GET", "/metrics")[1]
    server.behave()
    server.wait("Passed")
    assert f"{gauge} 0.0".encode() in cluster.call("GET", "/metrics")[1]


def test_the_steps_of_the_conformance_suite(cluster: FakeCluster, available: ExtensionServer) -> None:  # fmt: skip
    assert cluster.call("GET", FLUNDERS)[1]["items"] == []
    code, made = cluster.call("POST", FLUNDERS, flunder("rest", **{"sample-label": "true"}))
    assert (code, made["metadata"]["name"]) == (201, "rest")
    assert [one["metadata"]["name"] for one in cluster.call("GET", FLUNDERS)[1]["items"]] == ["rest"]  # fmt: skip
    assert cluster.call("DELETE", f"{FLUNDERS}/rest")[0] == 200
    assert cluster.call("GET", FLUNDERS)[1]["items"] == []

    lists = cluster.call("GET", ROOT)[1]
    assert "flunders" in [one["name"] for one in lists["resources"]]
    path = f"{API_SERVICES}/{NAME}"
    code, found = cluster.call("GET", f"{path}/status")
    assert (code, found["spec"]["versionPriority"]) == (200, 200)
    code, patched = cluster.call("PATCH", path, {"spec": {"versionPriority": 400}}, MERGE)
    assert (code, patched["spec"]["versionPriority"]) == (200, 400)
    names = [one["metadata"]["name"] for one in cluster.call("GET", API_SERVICES)[1]["items"]]
    assert NAME in names
    label = {"metadata": {"labels": {"e2e": "patched"}}}
    assert cluster.call("PATCH", path, label, MERGE)[0] == 200
    _, current = cluster.call("GET", path)
    condition = {"type": "StatusUpdated", "status": "True", "reason": "E2E", "message": "set by a test"}  # fmt: skip
    current["status"]["conditions"].append(condition)
    code, updated = cluster.call("PUT", f"{path}/status", current)
    assert code == 200, updated
    updated["metadata"]["labels"] = {"e2e": "updated"}
    assert cluster.call("PUT", path, updated)[0] == 200
    time.sleep(1)
    kinds = [one["type"] for one in cluster.call("GET", path)[1]["status"]["conditions"]]
    assert sorted(kinds) == ["Available", "StatusUpdated"]
    assert cluster.call("DELETE", f"{API_SERVICES}?labelSelector=e2e%3Dupdated")[0] == 200
    assert cluster.call("GET", path)[0] == 404
    assert cluster.call("GET", FLUNDERS)[0] == 404
    builtin = cluster.call("GET", f"{API_SERVICES}/v1.apps")
    assert builtin[0] == 200


def test_apisvc_10_kubectl_finds_the_resources(cluster: FakeCluster, available: ExtensionServer) -> None:  # fmt: skip
    def versions() -> Any:
        groups = cluster.call("GET", "/apis", headers=AGGREGATED)[1]["items"]
        found = [one for one in groups if one["metadata"]["name"] == GROUP]
        return found and found[0]["versions"]

    shown = until(lambda: versions() and versions()[0]["resources"] and versions()[0], "it is known")  # fmt: skip
    assert (shown["version"], shown["freshness"]) == (VERSION, "Current")
    flunders = next(one for one in shown["resources"] if one["resource"] == "flunders")
    assert flunders["subresources"][0]["subresource"] == "status"
    assert GROUP in [one["name"] for one in cluster.call("GET", "/apis")[1]["groups"]]
    group = cluster.call("GET", f"/apis/{GROUP}")[1]
    assert group["preferredVersion"]["version"] == VERSION
    assert ROOT in cluster.call("GET", "/")[1]["paths"]
    index = cluster.call("GET", "/openapi/v3")[1]["paths"]
    url = index[ROOT[1:]]["serverRelativeURL"]
    assert url == f"/openapi/v3{ROOT}?hash=ABC"
    assert cluster.call("GET", url)[1]["openapi"] == "3.0.0"
    assert "flunders" in cluster.kubectl("api-resources", "--api-group", GROUP)
    manifest = json.dumps(flunder("by-kubectl", color="blue"))
    cluster.kubectl("create", "-f", "-", stdin=manifest)
    assert "by-kubectl" in cluster.kubectl("get", "fl", "-o", "name")
    cluster.kubectl("label", "flunder", "by-kubectl", "color=red", "--overwrite")
    assert cluster.kubectl("get", "flunders", "-l", "color=red", "-o", "name")
    assert "Status:" not in cluster.kubectl("describe", "flunder", "by-kubectl")
    cluster.kubectl("delete", "flunders", "--all")
    assert cluster.kubectl("get", "flunders", "-o", "name") == ""

    available.behave("broken")
    until(lambda: versions()[0]["freshness"] == "Stale", "it is stale", 60)
    assert "pods" in cluster.kubectl("api-resources", fine=False)


def test_apisvc_5_a_watch_is_a_stream(cluster: FakeCluster, available: ExtensionServer) -> None:
    start = cluster.call("GET", FLUNDERS)[1]["metadata"]["resourceVersion"]
    connection = cluster.connect()
    headers = {"Authorization": f"Bearer {cluster.token}"}
    connection.request("GET", f"{FLUNDERS}?watch=true&resourceVersion={start}", headers=headers)
    answer = connection.getresponse()
    for number in range(3):
        assert cluster.call("POST", FLUNDERS, flunder(f"w{number}"))[0] == 201
        event = json.loads(answer.readline())
        assert (event["type"], event["object"]["metadata"]["name"]) == ("ADDED", f"w{number}")
    connection.close()


def test_apisvc_6_the_other_server_knows_the_user_by_this_one_alone(
    cluster: FakeCluster, available: ExtensionServer
) -> None:
    lies = {
        "X-Remote-User": "root", "X-Remote-Group": "system:masters", "X-Remote-Uid": "0",
        "X-Remote-Extra-Scopes": "all", "Connection": "x-remote-user",
    }  # fmt: skip
    code, who = cluster.call("GET", f"{ROOT}/namespaces/default/whoami", headers=lies)
    assert code == 200
    assert who["users"] == ["kubernetes-admin"]
    assert who["authorization"] is None
    assert "scopes" not in who["extra"]
    assert who["host"] == f"{HOST}:{PORT}"
    assert who["forwarded"] == "127.0.0.1"
    user = {
        "Impersonate-User": "jane", "Impersonate-Group": "dev", "Impersonate-Uid": "u-1",
        "Impersonate-Extra-Acme.com%2Fteam": "blue",
    }  # fmt: skip
    path = f"{ROOT}/namespaces/default/whoami"
    assert cluster.call("GET", path, headers=user)[0] == 403  # she may not
    rule = {"apiGroups": [GROUP], "resources": ["whoami"], "verbs": ["list", "get"]}
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "w"}, "rules": [rule]}  # fmt: skip
    roles = "/apis/rbac.authorization.k8s.io/v1/namespaces/default"
    assert cluster.call("POST", f"{roles}/roles", role)[0] == 201
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "w"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "w"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "jane"}],
    }  # fmt: skip
    assert cluster.call("POST", f"{roles}/rolebindings", binding)[0] == 201
    code, who = cluster.call("GET", path, headers=user)
    assert code == 200
    assert (who["users"], who["uid"]) == (["jane"], "u-1")
    assert who["groups"] == ["dev", "system:authenticated"]
    assert who["extra"] == {"acme.com%2fteam": ["blue"]}
    assert who["impersonate"] is None
    # paths that servers resolve in different ways are nobody's
    for odd in (f"{ROOT}/namespaces/default/../whoami", f"{ROOT}//whoami", f"{ROOT}/%2e%2e/x"):
        assert cluster.call("GET", odd)[0] == 404


def test_apisvc_7_the_certificate_is_verified(cluster: FakeCluster, available: ExtensionServer) -> None:  # fmt: skip
    available.register(caBundle=None)
    available.wait("Passed")  # the check does not verify it, as upstream
    code, answer = cluster.call("GET", FLUNDERS)
    assert code == 503
    assert b"error trying to reach service: tls: failed to verify certificate: x509" in answer
    available.register(caBundle=None, insecureSkipTLSVerify=True)
    available.wait("Passed")
    assert cluster.call("GET", FLUNDERS)[0] == 200
    # nobody else can name a user
    context = ssl._create_unverified_context()
    raw = socket.create_connection(("127.0.0.1", available.port))
    with context.wrap_socket(raw) as direct:
        head = f"GET {FLUNDERS} HTTP/1.1\r\nhost: x\r\nx-remote-user: root\r\nconnection: close\r\n\r\n"  # fmt: skip
        direct.sendall(head.encode())
        assert direct.recv(1 << 16).startswith(b"HTTP/1.1 401")


FAULTS = [
    ("drop", 503, b"error trying to reach service: "),
    ("garbage", 503, b"error trying to reach service: "),
    ("broken", 500, b"oops"),
    ("redirect", 502, b"the backend attempted to redirect this request, which is not permitted"),
]


@pytest.mark.parametrize(("mode", "code", "words"), FAULTS)
def test_apisvc_8_a_wrong_server_fails_its_own_requests(
    cluster: FakeCluster, available: ExtensionServer, mode: str, code: int, words: bytes
) -> None:
    available.behave(mode)
    found, answer = cluster.call("GET", FLUNDERS)
    assert (found, words in answer) == (code, True), answer
    assert cluster.call("GET", "/api/v1/namespaces/default/pods")[0] == 200
    assert cluster.call("GET", "/apis")[0] == 200


def test_apisvc_8_a_slow_server_delays_nobody_else(cluster: FakeCluster, available: ExtensionServer) -> None:  # fmt: skip
    available.behave("slow")
    connections = [cluster.connect() for _ in range(20)]
    headers = {"Authorization": f"Bearer {cluster.token}"}
    for one in connections:
        one.request("GET", FLUNDERS, headers=headers)
    start = time.monotonic()
    assert cluster.call("GET", "/api/v1/namespaces/default/pods")[0] == 200
    assert cluster.call("GET", "/apis", headers=AGGREGATED)[0] == 200
    assert time.monotonic() - start < 3
    for one in connections:
        one.close()


def test_apisvc_10_a_lying_server_is_not_believed(cluster: FakeCluster, available: ExtensionServer) -> None:  # fmt: skip
    available.behave("liar")
    available.register(versionPriority=77)
    available.wait("Passed")

    def version() -> Any:
        groups = cluster.call("GET", "/apis", headers=AGGREGATED)[1]["items"]
        return next(one for one in groups if one["metadata"]["name"] == GROUP)["versions"][0]

    assert version() == {"version": VERSION, "freshness": "Stale", "resources": []}
    available.behave()
    until(lambda: version()["resources"], "it is asked again")


def test_apisvc_5_a_changed_protocol_is_passed_on(cluster: FakeCluster, available: ExtensionServer) -> None:  # fmt: skip
    context = ssl._create_unverified_context()
    raw = socket.create_connection(("127.0.0.1", cluster.port))
    with context.wrap_socket(raw) as client:
        lines = [
            f"POST {ROOT}/namespaces/default/echo/a HTTP/1.1",
            f"host: 127.0.0.1\r\nauthorization: Bearer {cluster.token}",
            "connection: Upgrade\r\nupgrade: SPDY/3.1",
            "\r\n",
        ]
        client.sendall("\r\n".join(lines).encode())
        head = b""
        while b"\r\n\r\n" not in head:
            head += client.recv(1 << 16)
        assert head.startswith(b"HTTP/1.1 101")
        for text in (b"hello", b"world"):
            client.sendall(text)
            assert client.recv(1 << 16) == text.upper()


def test_apisvc_5_bodies_are_streamed(cluster: FakeCluster, available: ExtensionServer) -> None:
    body = flunder("big")
    body["data"] = "x" * (7 << 19)  # more than this server takes itself
    code, made = cluster.call("POST", FLUNDERS, body)
    assert (code, len(made["data"])) == (201, 7 << 19)
    assert cluster.call("DELETE", f"{FLUNDERS}/big")[0] == 200


def test_apisvc_5_a_new_server_replaces_the_metrics_of_this_one(
    cluster: FakeCluster, available: ExtensionServer
) -> None:
    path = f"{API_SERVICES}/v1beta1.metrics.k8s.io"
    _, before = cluster.call("GET", path)
    service = {"namespace": NAMESPACE, "name": SERVICE, "port": PORT}
    spec = {"service": service, "insecureSkipTLSVerify": True}
    assert cluster.call("PATCH", path, {"spec": spec}, MERGE)[0] == 200
    nodes = "/apis/metrics.k8s.io/v1beta1/nodes"
    # it does not serve this group, and says so itself
    until(lambda: cluster.call("GET", nodes)[0] in (404, 503), "the other server answers")
    assert cluster.call("DELETE", path)[0] == 200
    until(lambda: cluster.call("GET", nodes)[0] == 200, "this server answers again")
    assert before["spec"]["versionPriority"] == 100
