"""Autoscalers that follow metrics of another API server: HPA-13, HPA-14
(spec/workloads/autoscaler.md)."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from extension_process import API_SERVICES, GROUP, PORT, ROOT, SERVICE, VERSION, ExtensionServer
from extension_process import NAMESPACE as EXTENSION
from fake_cluster import FakeCluster, running_cluster, until

FLUNDERS = f"{ROOT}/namespaces/default/flunders"
HPAS = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers"
SCALE = "/apis/apps/v1/namespaces/default/deployments/web/scale"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeCluster]:
    with running_cluster(tmp_path_factory.mktemp("autoscaler"), nodes=1) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def server(
    cluster: FakeCluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ExtensionServer]:
    running = ExtensionServer(tmp_path_factory.mktemp("extension"), cluster)
    running.serve()
    running.register()
    running.wait("Passed")
    yield running
    running.stop()


def register(cluster: FakeCluster, version: str, group: str) -> None:
    service = {"namespace": EXTENSION, "name": SERVICE, "port": PORT}
    spec = {"group": group, "version": version, "service": service, "insecureSkipTLSVerify": True, "groupPriorityMinimum": 100, "versionPriority": 100}  # fmt: skip
    body = {"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": f"{version}.{group}"}, "spec": spec}  # fmt: skip
    code, answer = cluster.call("POST", API_SERVICES, body)
    assert code == 201, answer


def put(cluster: FakeCluster, name: str, value: str, pods: tuple[str, ...] = ()) -> None:
    """Set a metric."""
    cluster.call("DELETE", f"{FLUNDERS}/{name}")
    metadata = {"name": name, "namespace": "default"}
    body = {"apiVersion": f"{GROUP}/{VERSION}", "kind": "Flunder", "metadata": metadata, "value": value, "pods": list(pods)}  # fmt: skip
    code, answer = cluster.call("POST", FLUNDERS, body)
    assert code == 201, answer


def autoscale(cluster: FakeCluster, metric: dict[str, Any]) -> None:
    cluster.call("DELETE", f"{HPAS}/web")
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
    rules = {"stabilizationWindowSeconds": 0}
    spec = {"scaleTargetRef": target, "minReplicas": 1, "maxReplicas": 4, "metrics": [metric], "behavior": {"scaleDown": rules}}  # fmt: skip
    body = {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "web"}, "spec": spec}  # fmt: skip
    code, answer = cluster.call("POST", HPAS, body)
    assert code == 201, answer


def replicas(cluster: FakeCluster) -> int:
    return int(cluster.call("GET", SCALE)[1]["spec"].get("replicas", 0))


def message(cluster: FakeCluster) -> str:
    status = cluster.call("GET", f"{HPAS}/web")[1].get("status", {})
    found = [one for one in status.get("conditions", ()) if one["type"] == "ScalingActive"]
    return str(found[0]["message"]) if found else ""


def test_hpa_13_a_deployment_follows_a_queue_and_its_pods(cluster: FakeCluster, server: ExtensionServer) -> None:  # fmt: skip
    cluster.kubectl("create", "deployment", "web", "--image=nginx")
    cluster.kubectl("rollout", "status", "deployment/web")
    metric = {"name": "queue"}
    external = {"metric": metric, "target": {"type": "AverageValue", "averageValue": "10"}}
    autoscale(cluster, {"type": "External", "external": external})
    lost = "the server could not find the requested resource (get queue.external.metrics.k8s.io)"
    until(lambda: message(cluster).endswith(lost), "no API for the metric")
    register(cluster, "v1beta1", "external.metrics.k8s.io")
    until(lambda: "could not find the metric queue" in message(cluster), "no metric")
    put(cluster, "queue", "35")
    until(lambda: replicas(cluster) == 4, "the queue is long")
    put(cluster, "queue", "15")
    until(lambda: replicas(cluster) == 2, "the queue is shorter")
    current = cluster.call("GET", f"{HPAS}/web")[1]["status"]["currentMetrics"][0]["external"]
    assert current["metric"] == {"name": "queue"}

    hits = {"metric": {"name": "hits"}, "target": {"type": "AverageValue", "averageValue": "10"}}
    autoscale(cluster, {"type": "Pods", "pods": hits})
    missing = "no custom metrics API (custom.metrics.k8s.io) registered"
    until(lambda: message(cluster).endswith(missing), "no API for the metric")
    register(cluster, "v1beta2", "custom.metrics.k8s.io")
    shown = json.loads(cluster.kubectl("get", "pods", "-l", "app=web", "-o", "json"))
    put(cluster, "hits", "14", tuple(one["metadata"]["name"] for one in shown["items"]))
    until(lambda: replicas(cluster) == 3, "the pods are busy")
    cluster.call("DELETE", f"{HPAS}/web")
