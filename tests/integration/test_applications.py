"""The applications of examples/applications on simulated nodes: real kubectl applies each of them,
it becomes ready, one of its workloads is updated, and after its deletion nothing is left. Rules
SHELL-2, SHELL-6, SHELL-7, SHELL-13 (spec/shell.md), IPAM-2 (spec/node_network.md).

All run in one cluster, each in its own namespace, several at a time.
"""

import json
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fake_cluster import FakeCluster, until

FOLDER = Path(__file__).parents[2] / "examples" / "applications"
APPLICATIONS = {  # what is updated, of the application in this file
    "cassandra": "statefulset/cassandra",
    "certificates": "deployment/certs-controller",
    "ci-runner": "deployment/runner",
    "elasticsearch": "statefulset/elasticsearch",
    "game-server": "statefulset/game",
    "guestbook": "deployment/frontend",
    "ingress-controller": "deployment/ingress-controller",
    "kafka": "statefulset/kafka",
    "logging": "daemonset/fluent-bit",
    "minio": "statefulset/minio",
    "monitoring": "daemonset/node-exporter",
    "nats": "statefulset/nats",
    "nextcloud": "deployment/nextcloud",
    "postgres": "statefulset/postgres",
    "rabbitmq": "statefulset/rabbitmq",
    "redis": "statefulset/redis",
    "shop": "deployment/frontend",
    "wordpress": "deployment/wordpress",
    "worker": "deployment/worker",
    "zookeeper": "statefulset/zk",
}
NAMESPACES = {"certificates": "certs", "ingress-controller": "ingress"}  # others: the file's name
AT_A_TIME = 7
SECONDS_MAX = 150  # for each step of an application, with other programs on the machine
CLUSTER_WIDE = (
    "/api/v1/persistentvolumes",
    "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
    "/apis/networking.k8s.io/v1/ingressclasses",
    "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations",
    "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations",
)
LISTS = {  # of a namespace
    "pods": "/api/v1/namespaces/{}/pods",
    "claims": "/api/v1/namespaces/{}/persistentvolumeclaims",
    "services": "/api/v1/namespaces/{}/services",
    "deployments": "/apis/apps/v1/namespaces/{}/deployments",
    "statefulsets": "/apis/apps/v1/namespaces/{}/statefulsets",
    "daemonsets": "/apis/apps/v1/namespaces/{}/daemonsets",
    "jobs": "/apis/batch/v1/namespaces/{}/jobs",
    "cronjobs": "/apis/batch/v1/namespaces/{}/cronjobs",
    "slices": "/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices",
    "budgets": "/apis/policy/v1/namespaces/{}/poddisruptionbudgets",
    "autoscalers": "/apis/autoscaling/v2/namespaces/{}/horizontalpodautoscalers",
}
Objects = dict[str, list[dict[str, Any]]]


class Application:
    """One application in the cluster."""

    def __init__(self, cluster: FakeCluster, name: str) -> None:
        self.cluster = cluster
        self.name = name
        self.namespace = NAMESPACES.get(name, name)
        self.file = str(FOLDER / f"{name}.yaml")

    def kubectl(self, *arguments: str) -> str:
        return self.cluster.kubectl("-n", self.namespace, *arguments)

    def items(self, path: str) -> list[dict[str, Any]]:
        status, body = self.cluster.call("GET", path.format(self.namespace))
        assert status == 200, body
        return list(body["items"])

    def objects(self) -> Objects:
        return {kind: self.items(path) for kind, path in LISTS.items()}

    def apply(self) -> None:
        self.cluster.kubectl("create", "namespace", self.namespace)
        self.kubectl("apply", "-f", self.file)

    def converge(self) -> None:
        """Wait until every workload is ready and every Job complete; then nothing is amiss."""
        for cron_job in self.items(LISTS["cronjobs"]):
            name = cron_job["metadata"]["name"]
            self.kubectl("create", "job", f"{name}-now", f"--from=cronjob/{name}")

        def wrong() -> list[str]:
            return list(faults(self.objects()))

        end = time.monotonic() + SECONDS_MAX
        while found := wrong():
            assert time.monotonic() < end, f"{self.name}: {'; '.join(found)}"
            time.sleep(0.5)
        objects = self.objects()
        for kind in ("deployments", "statefulsets", "daemonsets"):
            for one in objects[kind]:
                if (one["spec"].get("updateStrategy") or {}).get("type") != "OnDelete":
                    what = f"{kind[:-1]}/{one['metadata']['name']}"
                    self.kubectl("rollout", "status", what, "--timeout=10s")
        if objects["jobs"]:
            self.kubectl("wait", "--for=condition=complete", "job", "--all", "--timeout=10s")

    def update(self) -> None:
        """A rolling update of one workload; afterwards no pod has the earlier template."""
        what = APPLICATIONS[self.name]
        selector = json.loads(self.kubectl("get", what, "-o", "json"))["spec"]["selector"]
        labels = ",".join(f"{key}={value}" for key, value in selector["matchLabels"].items())
        self.kubectl("set", "env", what, "RELEASE=next")
        self.kubectl("rollout", "status", what, f"--timeout={SECONDS_MAX}s")
        pods = self.items(f"{LISTS['pods']}?labelSelector={labels}")
        live = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
        assert live
        for pod in live:
            env = {one["name"]: one.get("value") for one in pod["spec"]["containers"][0]["env"]}
            assert env.get("RELEASE") == "next", f"{self.name}: {pod['metadata']['name']} is old"
        history = self.kubectl("rollout", "history", what)
        assert len([line for line in history.splitlines() if line[:1].isdigit()]) == 2, history

    def delete(self) -> None:
        self.kubectl("delete", "-f", self.file, "--wait=false", "--ignore-not-found")
        self.cluster.kubectl("delete", "namespace", self.namespace, f"--timeout={SECONDS_MAX}s")
        for path in LISTS.values():
            assert self.items(path) == [], f"{self.name}: something is left"

    def live(self) -> None:
        self.apply()
        self.converge()
        if self.name in INSIDE:
            INSIDE[self.name](self)
        self.update()
        self.delete()


def faults(objects: Objects) -> Iterator[str]:
    """What is not as it is to be."""
    for pod in objects["pods"]:
        yield from pod_faults(pod)
    for kind in ("deployments", "statefulsets"):
        for one in objects[kind]:
            status, wanted = one.get("status", {}), one["spec"]["replicas"]
            if status.get("readyReplicas", 0) != wanted:
                yield (
                    f"{one['metadata']['name']}: {status.get('readyReplicas', 0)} of {wanted} ready"
                )
    for one in objects["daemonsets"]:
        status = one["status"]
        if not status["desiredNumberScheduled"] == status["numberReady"] == 5:
            yield f"{one['metadata']['name']}: {status['numberReady']} ready"
    for one in objects["jobs"]:
        done = {each["type"] for each in one["status"].get("conditions") or ()}
        if "Complete" not in done:
            yield f"job {one['metadata']['name']}: {one['status']}"
    for one in objects["claims"]:
        if one["status"]["phase"] != "Bound":
            yield f"claim {one['metadata']['name']}: {one['status']['phase']}"
    for one in objects["services"]:
        yield from service_faults(one, objects)
    for one in objects["budgets"]:
        status = one["status"]
        if not status["currentHealthy"] == status["expectedPods"] > 0:
            yield f"budget {one['metadata']['name']}: {status}"
    for one in objects["autoscalers"]:
        conditions = {each["type"]: each["status"] for each in one["status"].get("conditions", ())}
        if conditions.get("AbleToScale") != "True":
            yield f"autoscaler {one['metadata']['name']}: {conditions}"


def pod_faults(pod: dict[str, Any]) -> Iterator[str]:
    name, status = pod["metadata"]["name"], pod["status"]
    if status["phase"] == "Succeeded":
        return
    statuses = status.get("containerStatuses", []) + status.get("initContainerStatuses", [])
    for one in statuses:
        if one["restartCount"] or not one["ready"]:
            yield f"{name}/{one['name']}: {one['restartCount']} restarts, {one['state']}"
    if status["phase"] != "Running":
        yield f"{name}: {status['phase']}"


def service_faults(service: dict[str, Any], objects: Objects) -> Iterator[str]:
    """The ready endpoints of a Service are the ready pods that it selects."""
    name, selector = service["metadata"]["name"], service["spec"].get("selector")
    if not selector:
        return
    wanted = {
        pod["metadata"]["name"]
        for pod in objects["pods"]
        if selector.items() <= pod["metadata"].get("labels", {}).items()
        and pod["status"]["phase"] == "Running"
    }
    found = {
        endpoint["targetRef"]["name"]
        for one in objects["slices"]
        if one["metadata"]["labels"]["kubernetes.io/service-name"] == name
        for endpoint in one.get("endpoints") or ()
        if endpoint["conditions"]["ready"]
    }
    if not found or found != wanted:
        yield f"service {name}: endpoints {sorted(found)}, pods {sorted(wanted)}"


# --- what the scripts of an application have done
# ---------------------------------------------------


def zookeeper_inside(application: Application) -> None:
    for ordinal in range(3):
        text = application.kubectl(
            "exec", f"zk-{ordinal}", "--", "cat", "/var/lib/zookeeper/data/myid"
        )
        assert text == str(ordinal + 1)
    conf = application.kubectl("exec", "zk-2", "--", "cat", "/conf/zoo.cfg")
    host = "zk-hs.zookeeper.svc.cluster.local:2888:3888"
    servers = [line for line in conf.splitlines() if line.startswith("server.")]
    assert servers == [f"server.{number}=zk-{number - 1}.{host}" for number in (1, 2, 3)]


def kafka_inside(application: Application) -> None:
    log = application.kubectl("logs", "kafka-1", "-c", "config")
    assert "node.id=1\n" in log
    assert "advertised.listeners=PLAINTEXT://kafka-1.kafka-headless:9092" in log
    voters = ",".join(f"{number}@kafka-{number}.kafka-headless:9093" for number in range(3))
    assert f"controller.quorum.voters={voters}" in log


def redis_inside(application: Application) -> None:
    def conf(ordinal: int) -> list[str]:
        text = application.kubectl("exec", f"redis-{ordinal}", "-c", "redis", "--", "cat", "/etc/redis/redis.conf")  # fmt: skip
        return text.splitlines()

    assert "replicaof redis-0.redis-headless 6379" in conf(2)
    assert not any("replicaof" in line for line in conf(0))
    assert conf(0)[-1] == "requirepass hunter2"


def ci_runner_inside(application: Application) -> None:
    pods = application.items(f"{LISTS['pods']}?labelSelector=build=42")
    told = {
        one["state"]["terminated"]["message"].strip()
        for pod in pods
        for one in pod["status"]["containerStatuses"]
    }
    assert told == {f"{shard} passed" for shard in ("unit", "integration", "lint", "docs")}


def postgres_inside(application: Application) -> None:
    log = application.kubectl("logs", "job/postgres-backup-now")
    assert log.startswith("wrote /backups/app-"), log


def game_server_inside(application: Application) -> None:
    log = application.kubectl("logs", "game-2")
    assert log.startswith("server 2 listens on 192.168."), log


INSIDE = {
    "zookeeper": zookeeper_inside,
    "kafka": kafka_inside,
    "redis": redis_inside,
    "ci-runner": ci_runner_inside,
    "postgres": postgres_inside,
    "game-server": game_server_inside,
}


@pytest.fixture(scope="module")
def lives(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[None]]]:
    """The cluster, and how the life of each application ends."""
    cluster = FakeCluster(tmp_path_factory.mktemp("applications"), nodes=5).start()
    try:
        setups = sorted(FOLDER.glob("*.crds.yaml"))
        files = [FOLDER / "storage-class.yaml", *setups]
        cluster.kubectl("apply", *[word for file in files for word in ("-f", str(file))])
        cluster.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
        with ThreadPoolExecutor(AT_A_TIME) as pool:
            found = {name: pool.submit(Application(cluster, name).live) for name in APPLICATIONS}
        cluster.kubectl("delete", *[word for file in setups for word in ("-f", str(file))])
        yield {**found, "cluster": cluster}  # type: ignore[dict-item]
    finally:
        cluster.stop()


@pytest.mark.parametrize("name", APPLICATIONS)
def test_shell_13_an_application_runs_is_updated_and_is_deleted(lives, name):
    """SHELL-13: with init scripts and probes as people write them."""
    lives[name].result()


def test_of_the_applications_nothing_is_left(lives):
    cluster = lives["cluster"]

    def left() -> list[str]:
        return [
            one["metadata"]["name"]
            for path in CLUSTER_WIDE
            for one in cluster.call("GET", path)[1]["items"]
        ]

    until(lambda: not left(), "cluster-wide objects are left")
    for path in ("clusterroles", "clusterrolebindings"):
        names = {
            one["metadata"]["name"]
            for one in cluster.call("GET", f"/apis/rbac.authorization.k8s.io/v1/{path}")[1]["items"]
        }
        assert not names & {"monitoring-operator", "ingress", "fluent-bit-read", "certs-controller"}
    pods = cluster.call("GET", "/api/v1/pods")[1]["items"]
    assert [pod for pod in pods if pod["metadata"]["namespace"] != "kube-system"] == []


def test_ipam_2_every_simulated_node_has_a_range_of_its_own(lives):
    """IPAM-2: from the range of all simulated pods."""
    nodes = lives["cluster"].call("GET", "/api/v1/nodes")[1]["items"]
    ranges = [node["spec"]["podCIDRs"] for node in nodes]
    assert len({tuple(found) for found in ranges}) == len(nodes) == 5
    assert all(node["spec"]["podCIDR"].endswith(".0/24") for node in nodes)


def test_every_file_is_an_application():
    files = {path.stem for path in FOLDER.glob("*.yaml")} - {"storage-class"}
    assert {file for file in files if not file.endswith(".crds")} == set(APPLICATIONS)
    assert len(APPLICATIONS) == 20
