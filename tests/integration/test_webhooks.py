"""Webhooks as processes of their own, over TLS: CALL-4, HOOK-7 to HOOK-12 (spec/webhooks.md)."""

import json
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fake_cluster import FakeCluster, running_cluster, until
from webhook_process import Authority, WebhookServer

GROUP = "/apis/admissionregistration.k8s.io/v1"
CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeCluster]:
    with running_cluster(tmp_path_factory.mktemp("webhooks"), nodes=1) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def server(
    cluster: FakeCluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WebhookServer]:
    running = WebhookServer(tmp_path_factory.mktemp("server"), cluster)
    yield running
    running.stop()


@pytest.fixture(autouse=True)
def clean(cluster: FakeCluster) -> Iterator[None]:
    yield
    for plural in ("mutatingwebhookconfigurations", "validatingwebhookconfigurations"):
        cluster.call("DELETE", f"{GROUP}/{plural}")
    cluster.call("DELETE", CONFIG_MAPS)


def webhook(server: WebhookServer, path: str, **fields: Any) -> dict[str, Any]:
    client = {"url": server.url(path), "caBundle": server.authority.bundle}
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}  # fmt: skip
    return {
        "name": "x.example.com", "clientConfig": client, "rules": [rule], "sideEffects": "None",
        "admissionReviewVersions": ["v1"], **fields,
    }  # fmt: skip


def configure(cluster: FakeCluster, kind: str, *webhooks: dict[str, Any], name: str = "c") -> None:
    body = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": f"{kind}WebhookConfiguration",
        "metadata": {"name": name},
        "webhooks": list(webhooks),
    }
    code, answer = cluster.call("POST", f"{GROUP}/{kind.lower()}webhookconfigurations", body)
    assert code == 201, answer


def create(cluster: FakeCluster, name: str = "a") -> tuple[int, Any]:
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}
    return cluster.call("POST", CONFIG_MAPS, body)


def test_kubectl_shows_what_webhooks_say(cluster: FakeCluster, server: WebhookServer) -> None:
    configure(cluster, "Validating", webhook(server, "warn"), webhook(server, "deny", name="y.example.com"))  # fmt: skip
    shown = cluster.kubectl("create", "configmap", "a", fine=False)
    assert "Warning: mind the step" in shown
    refused = 'admission webhook "y.example.com" denied the request: this is denied'
    assert f"error: failed to create configmap: {refused}" in shown
    cluster.call("DELETE", f"{GROUP}/validatingwebhookconfigurations/c")
    rules = [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CONNECT"], "resources": ["pods/attach"]}]  # fmt: skip
    configure(cluster, "Validating", webhook(server, "deny", rules=rules), name="attach")
    cluster.kubectl("run", "web", "--image=nginx")
    until(lambda: "Running" in cluster.kubectl("get", "pod", "web"), "the pod runs")
    shown = cluster.kubectl("attach", "web", "-i", "-c=web", fine=False)
    assert 'admission webhook "x.example.com" denied the request: this is denied' in shown
    cluster.kubectl("delete", "pod", "web", "--now")


def test_a_patch_is_stored(cluster: FakeCluster, server: WebhookServer) -> None:
    configure(cluster, "Mutating", webhook(server, "patch"))
    code, made = create(cluster)
    assert (code, made["metadata"]["labels"]) == (201, {"mutated": "yes"})
    assert cluster.call("GET", f"{CONFIG_MAPS}/a")[1]["metadata"]["labels"] == {"mutated": "yes"}


FAULTS = [
    ("silent", "context deadline exceeded"),
    ("drip", "context deadline exceeded"),
    ("huge", "more than"),
    ("redirect", "status code 307"),
    ("uid", "expected response.uid"),
    ("slow/30", "context deadline exceeded"),
]


@pytest.mark.parametrize(("path", "words"), FAULTS)
def test_call_4_a_wrong_server_costs_its_timeout_at_most(
    cluster: FakeCluster, server: WebhookServer, path: str, words: str
) -> None:
    seconds = 10 if path == "huge" else 1
    configure(cluster, "Validating", webhook(server, path, timeoutSeconds=seconds))
    start = time.monotonic()
    code, answer = create(cluster)
    assert time.monotonic() - start < seconds + 4
    assert code == 500
    assert words in answer["message"]
    assert f'Post "{server.url(path)}?timeout={seconds}s"' in answer["message"] or "uid" in path or "redirect" in path  # fmt: skip


def test_call_1_other_requests_go_on_while_a_webhook_thinks(
    cluster: FakeCluster, server: WebhookServer
) -> None:
    configure(cluster, "Validating", webhook(server, "slow/2"))
    with ThreadPoolExecutor(40) as pool:
        start = time.monotonic()
        waiting = [pool.submit(create, cluster, f"a{number}") for number in range(30)]
        assert cluster.call("GET", CONFIG_MAPS)[0] == 200
        assert time.monotonic() - start < 1.5
        assert [one.result()[0] for one in waiting] == [201] * 30
        assert time.monotonic() - start < 15


def test_call_4_certificates_are_verified(
    cluster: FakeCluster, server: WebhookServer, tmp_path: Path
) -> None:
    def message(**client: Any) -> str:
        wrong = webhook(server, "allow", clientConfig=client)
        configure(cluster, "Validating", wrong)
        code, answer = create(cluster)
        cluster.call("DELETE", f"{GROUP}/validatingwebhookconfigurations/c")
        assert code == 500
        return str(answer["message"])

    bundle = server.authority.bundle
    unknown = "certificate signed by unknown authority"
    assert unknown in message(url=server.url("allow"), caBundle=Authority().bundle)
    assert unknown in message(url=server.url("allow"))
    other_host = server.url("allow").replace("127.0.0.1", "localhost")
    assert "not valid for localhost" in message(url=other_host, caBundle=bundle)
    assert "connection refused" in message(url="https://127.0.0.1:9/", caBundle=bundle)
    assert "root certificates" in message(url=server.url("allow"), caBundle="bm90aGluZw==")
    old = WebhookServer(tmp_path, days=-1)
    try:
        expired = message(url=old.url("allow"), caBundle=old.authority.bundle)
    finally:
        old.stop()
    assert "expired" in expired


def own_address() -> str:
    found = subprocess.run(["hostname", "-I"], capture_output=True, text=True).stdout.split()
    addresses = [one for one in found if "." in one]
    return addresses[0] if addresses else pytest.skip("this machine has no address")


def test_call_4_a_service_is_reached_at_its_endpoints(
    cluster: FakeCluster, server: WebhookServer
) -> None:
    service = {"service": {"namespace": "default", "name": "hook", "path": "/deny", "port": 8443}}
    client = {**service, "caBundle": server.authority.bundle}
    configure(cluster, "Validating", webhook(server, "", clientConfig=client))
    assert 'service "hook" not found' in create(cluster)[1]["message"]
    spec = {"ports": [{"port": 8443, "targetPort": server.port}]}
    body = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "hook"}, "spec": spec}
    assert cluster.call("POST", "/api/v1/namespaces/default/services", body)[0] == 201
    code, answer = create(cluster)
    assert code == 500
    assert 'Post "https://hook.default.svc:8443/deny?timeout=10s"' in answer["message"]
    assert "no endpoints available" in answer["message"]
    slice_body = {
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "hook-1", "labels": {"kubernetes.io/service-name": "hook"}},
        "endpoints": [{"addresses": [own_address()]}], "ports": [{"port": server.port, "name": ""}],
    }  # fmt: skip
    path = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
    assert cluster.call("POST", path, slice_body)[0] == 201
    code, answer = create(cluster)
    assert (code, answer["message"]) == (403, 'admission webhook "x.example.com" denied the request: this is denied')  # fmt: skip


def test_a_webhook_that_is_asked_about_its_own_writes_comes_to_an_end(
    cluster: FakeCluster, server: WebhookServer
) -> None:
    configure(cluster, "Validating", webhook(server, "back", timeoutSeconds=2))
    start = time.monotonic()
    code, _ = create(cluster)
    # The names grow, so the last of the writes is refused: either before the first one's time is
    # up, or after it.
    assert code in (201, 500)
    assert time.monotonic() - start < 10
    assert cluster.call("GET", CONFIG_MAPS)[0] == 200


def text_schema(*names: str) -> dict[str, Any]:
    properties = {name: {"type": "string"} for name in names}
    return {"openAPIV3Schema": {"type": "object", "properties": properties}}


@pytest.fixture
def gadgets(cluster: FakeCluster, server: WebhookServer) -> Iterator[str]:
    """The path of a custom resource of which v1 is stored and another server makes v2."""
    client = {"url": server.url("convert"), "caBundle": server.authority.bundle}
    conversion = {"conversionReviewVersions": ["v1"], "clientConfig": client}
    body = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "gadgets.example.com"},
        "spec": {
            "group": "example.com",
            "scope": "Namespaced",
            "names": {"plural": "gadgets", "kind": "Gadget"},
            "conversion": {"strategy": "Webhook", "webhook": conversion},
            "versions": [
                {"name": "v1", "served": True, "storage": True, "schema": text_schema("host")},
                {"name": "v2", "served": True, "storage": False, "schema": text_schema("name", "port")},
            ],
        },
    }  # fmt: skip
    definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    assert cluster.call("POST", definitions, body)[0] == 201
    path = "/apis/example.com/{}/namespaces/default/gadgets"
    until(lambda: cluster.call("GET", path.format("v2"))[0] == 200, "it is served")
    yield path
    cluster.call("DELETE", f"{definitions}/gadgets.example.com")
    until(lambda: cluster.call("GET", f"{definitions}/gadgets.example.com")[0] == 404, "it is gone")


def gadget(version: str, gadget_name: str, **fields: str) -> dict[str, Any]:
    return {
        "apiVersion": f"example.com/{version}",
        "kind": "Gadget",
        "metadata": {"name": gadget_name},
        **fields,
    }


def test_crd_27_a_watch_delivers_converted_objects(cluster: FakeCluster, gadgets: str) -> None:
    v1, v2 = gadgets.format("v1"), gadgets.format("v2")
    code, made = cluster.call("POST", v2, gadget("v2", "a", name="x", port="1"))
    assert (code, made.get("name"), made.get("port")) == (201, "x", "1")
    assert cluster.call("GET", f"{v1}/a")[1]["host"] == "x:1"
    connection = cluster.connect()
    headers = {"Authorization": f"Bearer {cluster.token}"}
    start = made["metadata"]["resourceVersion"]
    connection.request("GET", f"{v2}?watch=1&resourceVersion={start}", headers=headers)
    answer = connection.getresponse()
    for number in range(20):
        body = gadget("v1", f"b{number}", host=f"h:{number}")
        assert cluster.call("POST", v1, body)[0] == 201
    assert cluster.call("DELETE", f"{v1}/b3")[0] == 200
    events = [json.loads(answer.readline()) for _ in range(21)]
    connection.close()
    assert [(one["type"], one["object"]["port"]) for one in events] == [
        *[("ADDED", str(number)) for number in range(20)],
        ("DELETED", "3"),
    ]
    code, found = cluster.call("GET", f"{v2}?limit=500")
    assert len(found["items"]) == 20
    assert {one["apiVersion"] for one in found["items"]} == {"example.com/v2"}
    shown = cluster.kubectl("get", "gadgets.v2.example.com", "a", "-o", "jsonpath={.name}")
    assert shown == "x"


def test_crd_28_a_failing_conversion_fails_only_its_requests(
    cluster: FakeCluster, server: WebhookServer, gadgets: str
) -> None:
    v1, v2 = gadgets.format("v1"), gadgets.format("v2")
    assert cluster.call("POST", v1, gadget("v1", "a", host="h:1"))[0] == 201
    client = {"url": server.url("break"), "caBundle": server.authority.bundle}
    patch = {"spec": {"conversion": {"webhook": {"clientConfig": client}}}}
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/gadgets.example.com"
    merge = {"Content-Type": "application/merge-patch+json"}
    assert cluster.call("PATCH", path, patch, merge)[0] == 200
    code, answer = cluster.call("GET", f"{v2}/a")
    assert code == 500
    words = "conversion webhook for example.com/v1, Kind=Gadget failed: no way"
    assert answer["message"] == words
    assert cluster.call("GET", f"{v1}/a")[0] == 200
