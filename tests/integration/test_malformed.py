"""A thousand requests that are wrong in form or value: a Status that says what is wrong, never a
5xx, a traceback or a cut connection."""

import json
import random
from pathlib import Path
from typing import Any

from fake_cluster import FakeCluster

JUNK: list[Any] = [
    None, 0, -1, 1.5, "", "x" * 3000, "\u0000", "ü/..", [], {}, [[]], {"a": {"b": []}}, True, "2020-13-45", "-1Gi", [None], 2**70,
]  # fmt: skip
PATHS = {
    "/api/v1/namespaces/default/configmaps": "v1 ConfigMap",
    "/api/v1/namespaces/default/pods": "v1 Pod",
    "/api/v1/namespaces/default/services": "v1 Service",
    "/apis/apps/v1/namespaces/default/deployments": "apps/v1 Deployment",
    "/apis/apps/v1/namespaces/default/replicasets": "apps/v1 ReplicaSet",
    "/api/v1/nodes": "v1 Node",
    "/api/v1/namespaces": "v1 Namespace",
    "/apis/coordination.k8s.io/v1/namespaces/default/leases": "coordination.k8s.io/v1 Lease",
    "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices": "discovery.k8s.io/v1 EndpointSlice",
}
QUERIES = ("limit", "continue", "resourceVersion", "resourceVersionMatch", "labelSelector", "fieldSelector", "watch", "timeoutSeconds",
           "fieldValidation", "dryRun", "propagationPolicy", "gracePeriodSeconds", "sendInitialEvents", "pretty", "force")  # fmt: skip
VALUES = (
    "-1",
    "abc",
    "%00",
    "a%3D%3D%3Db",
    "a%20in%20(",
    "!",
    "9" * 21,
    "true",
    "..",
    "%ff",
    "",
    "{}",
    "None,All",
)
BODIES = (
    b"",
    b"{",
    b"\xff\xfe",
    b"[" * 20_000,
    b'{"a":' * 5_000,
    b"k8s\x00{}",
    b"null",
    b"--- \n- : [",
    b'{"kind":"A","kind":"B"}',
)
PATCHES = (
    "json-patch+json",
    "merge-patch+json",
    "strategic-merge-patch+json",
    "apply-patch+yaml",
    "json",
)


def good(path: str) -> dict[str, Any]:
    version, kind = PATHS[path].split()
    template = {
        "metadata": {"labels": {"app": "x"}},
        "spec": {
            "containers": [
                {
                    "name": "c",
                    "image": "i",
                    "ports": [{"containerPort": 80}],
                    "resources": {"requests": {"cpu": "1"}},
                }
            ]
        },
    }
    spec: dict[str, Any] = {
        "Pod": template["spec"],
        "Service": {"selector": {"app": "x"}, "ports": [{"port": 80, "targetPort": "http"}]},
        "Node": {}, "Namespace": {}, "Lease": {"holderIdentity": "me"},
    }.get(kind, {"replicas": 1, "selector": {"matchLabels": {"app": "x"}}, "template": template})  # fmt: skip
    body: dict[str, Any] = {
        "apiVersion": version,
        "kind": kind,
        "metadata": {"name": "kept", "labels": {"a": "b"}},
    }
    if kind == "ConfigMap":
        return {**body, "data": {"k": "v"}}
    if kind == "EndpointSlice":
        return {
            **body,
            "addressType": "IPv4",
            "endpoints": [{"addresses": ["10.0.0.1"]}],
            "ports": [{"port": 80}],
        }
    return {**body, "spec": spec}


def spoiled(value: Any, chance: random.Random) -> Any:
    """The value with one thing in it replaced by junk."""
    if isinstance(value, dict) and value and chance.random() < 0.85:
        key = chance.choice(list(value))
        return {**value, key: spoiled(value[key], chance)}
    if isinstance(value, list) and value and chance.random() < 0.85:
        place = chance.randrange(len(value))
        return [*value[:place], spoiled(value[place], chance), *value[place + 1 :]]
    return chance.choice(JUNK)


def test_api_14_a_thousand_malformed_requests_get_a_status_each(tmp_path: Path) -> None:
    chance = random.Random(3)
    cluster = FakeCluster(tmp_path, nodes=1).start()
    try:
        for path in PATHS:
            cluster.call("POST", path, good(path))
        for number in range(1_000):
            path = chance.choice(list(PATHS))
            method = chance.choice(
                ["POST", "POST", "PUT", "PATCH", "GET", "DELETE", "OPTIONS", "FOO"]
            )
            body: bytes | None = json.dumps(
                spoiled(good(chance.choice(list(PATHS))), chance)
            ).encode()
            headers = {}
            if method != "POST" and chance.random() < 0.7:
                path += chance.choice(
                    [
                        "/kept",
                        "/kept/status",
                        "/kept/scale",
                        "/%2e%2e",
                        "/none",
                        "/" + "n" * 300,
                        "/UPPER",
                    ]
                )
            if chance.random() < 0.3:
                body = chance.choice(BODIES)
            if method == "PATCH":
                headers["Content-Type"] = "application/" + chance.choice(PATCHES)
            elif chance.random() < 0.2:
                headers["Content-Type"] = chance.choice(
                    ["text/plain", "application/yaml", "application/vnd.kubernetes.protobuf", ";;;"]
                )
            if chance.random() < 0.2:
                headers["Accept"] = chance.choice(
                    [
                        "text/html",
                        "application/json;as=Nothing",
                        ";",
                        "application/vnd.kubernetes.protobuf",
                    ]
                )
            query = "&".join(
                f"{chance.choice(QUERIES)}={chance.choice(VALUES)}"
                for _ in range(chance.randint(0, 2))
            )
            if "watch" in query or "sendInitial" in query:
                query += "&timeoutSeconds=1"
            code, answer = cluster.call(
                method,
                f"{path}?{query}" if query else path,
                None if method == "GET" else body,
                headers,
            )
            said = f"request {number}: {method} {path}?{query} {headers} {(body or b'')[:200]!r} -> {code} {answer!r:.300}"
            assert code < 500, said
            assert code < 400 or (
                isinstance(answer, dict)
                and answer["kind"] == "Status"
                and answer["message"]
                and answer["reason"]
            ), said
        assert cluster.call("GET", "/readyz")[0] == 200
        assert "Traceback" not in cluster.log.read_text()
    finally:
        cluster.stop()
