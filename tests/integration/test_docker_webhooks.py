"""A webhook server in a pod behind a Service, as it is installed in real clusters: CALL-4,
STREAM-14. The container runs this machine's Python in a root of its own."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from docker_host import Cluster, Host, container, make_pod, until
from webhook_process import SERVICE_NAME, Authority

PORT = 8443


@pytest.fixture(scope="module")
def cluster(docker_host: Host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    running = Cluster(docker_host, tmp_path_factory.mktemp("webhooks") / "data")
    running.start()
    until(lambda: running.kubectl("get", "nodes", "-o", "name"), 10, "no node")
    yield running
    running.stop()
    assert "Traceback" not in running.words(), running.words()


@pytest.fixture(scope="module")
def authority(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The server runs and is ready; the authority of its certificate."""
    made = Authority()
    directory = tmp_path_factory.mktemp("certificates")
    files = made.issue(directory, SERVICE_NAME)
    script = Path(__file__).with_name("webhook_server.py")
    command = ["/bin/busybox", "chroot", "/host", os.path.realpath(sys.executable), str(script)]
    probe = {"tcpSocket": {"port": PORT}, "periodSeconds": 1}
    server = container(
        "server",
        command=[*command, *map(str, files), str(PORT)],
        volumeMounts=[{"name": "host", "mountPath": "/host", "readOnly": True}],
        readinessProbe=probe,
        ports=[{"containerPort": PORT}],
    )
    volumes = [{"name": "host", "hostPath": {"path": "/"}}]
    service = {
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "hook"},
        "spec": {"selector": {"app": "hook"}, "ports": [{"port": 443, "targetPort": PORT}]},
    }  # fmt: skip
    cluster.apply(make_pod("hook", server, volumes=volumes), service)
    ready = ("-l", "kubernetes.io/service-name=hook")

    def is_ready() -> bool:
        slices = cluster.get("endpointslices", *ready)["items"]
        ends = [one for found in slices for one in found.get("endpoints") or []]
        return any(one["conditions"].get("ready") for one in ends)

    until(is_ready, 40, "the webhook server is not ready")
    return made


def client(authority: Authority, path: str) -> dict[str, object]:
    service = {"namespace": "default", "name": "hook", "path": path}
    return {"service": service, "caBundle": authority.bundle}


def configure(cluster: Cluster, authority: Authority, kind: str, path: str) -> None:
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}  # fmt: skip
    webhook = {
        "name": "x.example.com",
        "clientConfig": client(authority, path),
        "rules": [rule],
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "objectSelector": {"matchLabels": {"asked": "yes"}},
    }
    cluster.apply({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": f"{kind}WebhookConfiguration",
        "metadata": {"name": kind.lower()},
        "webhooks": [webhook],
    })  # fmt: skip


def config_map(name: str) -> str:
    metadata = {"name": name, "labels": {"asked": "yes"}}
    return json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})


def test_call_4_webhooks_in_a_pod_are_reached_by_their_service(
    cluster: Cluster, authority: Authority
) -> None:
    configure(cluster, authority, "Mutating", "/patch")
    cluster.kubectl("create", "-f", "-", stdin=config_map("a"))
    assert cluster.get("configmap", "a")["metadata"]["labels"] == {"mutated": "yes"}
    cluster.kubectl("delete", "mutatingwebhookconfiguration", "mutating")
    configure(cluster, authority, "Validating", "/deny")
    said = cluster.kubectl("create", "-f", "-", stdin=config_map("b"), fails=True)
    assert 'admission webhook "x.example.com" denied the request: this is denied' in said
    cluster.kubectl("delete", "validatingwebhookconfiguration", "validating")


def test_crd_26_a_server_in_a_pod_converts(cluster: Cluster, authority: Authority) -> None:
    def version(name: str, *fields: str, storage: bool) -> dict[str, object]:
        properties = {field: {"type": "string"} for field in fields}
        schema = {"openAPIV3Schema": {"type": "object", "properties": properties}}
        return {"name": name, "served": True, "storage": storage, "schema": schema}

    webhook = {"conversionReviewVersions": ["v1"], "clientConfig": client(authority, "/convert")}
    cluster.apply({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "gadgets.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"plural": "gadgets", "kind": "Gadget"},
            "conversion": {"strategy": "Webhook", "webhook": webhook},
            "versions": [
                version("v1", "host", storage=True), version("v2", "name", "port", storage=False),
            ],
        },
    })  # fmt: skip
    cluster.kubectl("wait", "--for=condition=Established", "crd/gadgets.example.com")
    body = {"apiVersion": "example.com/v1", "kind": "Gadget", "metadata": {"name": "a"}, "host": "h:1"}  # fmt: skip
    cluster.kubectl("create", "-f", "-", stdin=json.dumps(body))
    found = json.loads(cluster.kubectl("get", "gadgets.v2.example.com", "-o", "json"))["items"]
    assert [(one["apiVersion"], one["name"], one["port"]) for one in found] == [("example.com/v2", "h", "1")]  # fmt: skip
    cluster.kubectl("delete", "crd", "gadgets.example.com")
