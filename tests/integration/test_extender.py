"""A scheduler that asks a real extender over HTTP and HTTPS. Rules SCHED-57 to SCHED-61
(spec/scheduler_profiles.md), EXPLAIN-2 (spec/explain.md)."""

import json
import subprocess
import sys
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest
from extender_server import ExtenderServer
from fake_cluster import FakeCluster, free_port, until
from process_world import Process
from webhook_process import Authority

PODS = "/api/v1/namespaces/default/pods"


def configuration(file: Path, extender: dict[str, Any], **profile: str) -> str:
    tree = {
        "apiVersion": "kubescheduler.config.k8s.io/v1",
        "kind": "KubeSchedulerConfiguration",
        "leaderElection": {"resourceName": "second"},
        "profiles": [{"schedulerName": "default-scheduler", **profile}],
        "extenders": [extender],
    }
    file.write_text(json.dumps(tree))
    return str(file)


def create(cluster: FakeCluster, name: str, **spec: Any) -> None:
    pod = {
        "metadata": {"name": name},
        "spec": {"containers": [{"name": "c", "image": "web:1"}], **spec},
    }
    until(lambda: cluster.call("POST", PODS, pod)[0] in (201, 409), "the pod is created")


def pod_of(cluster: FakeCluster, name: str) -> dict[str, Any]:
    found: dict[str, Any] = cluster.call("GET", f"{PODS}/{name}")[1]
    return found


def node_of(cluster: FakeCluster, name: str) -> str:
    return str(pod_of(cluster, name)["spec"].get("nodeName", ""))


def reason_of(cluster: FakeCluster, name: str) -> str:
    conditions = pod_of(cluster, name)["status"].get("conditions", [])
    found = [one for one in conditions if one["type"] == "PodScheduled"]
    return f"{found[0].get('reason')}: {found[0].get('message')}" if found else ""


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path, Path]:
    """The certificate and key of an extender, and its authority."""
    authority = Authority()
    file = tmp_path / "authority.pem"
    file.write_bytes(b64decode(authority.bundle))
    return *authority.issue(tmp_path, "127.0.0.1"), file


def test_sched_57_to_61_refk8s_run_asks_an_extender_over_https(
    tmp_path: Path, pair: tuple[Path, Path, Path]
) -> None:
    """It filters, gives points and binds; then its answers cannot be used."""
    certificate, key, authority = pair
    cluster = FakeCluster(tmp_path)

    def bind(question: dict[str, Any]) -> dict[str, Any]:
        path = f"{PODS}/{question['PodName']}/binding"
        binding = {
            "metadata": {"name": question["PodName"], "uid": question["PodUID"]},
            "target": {"kind": "Node", "name": question["Node"]},
        }
        code, answer = cluster.call("POST", path, binding)
        return {"Error": "" if code == 201 else str(answer)}

    answers = {
        "filter": lambda question: {
            "NodeNames": [one for one in question["NodeNames"] if one != "node-1"],
            "FailedNodes": {"node-1": "no license"},
        },
        "prioritize": lambda question: [{"Host": "node-3", "Score": 10}],
        "bind": bind,
    }
    with ExtenderServer(answers, (certificate, key)) as server:
        extender = {
            "urlPrefix": server.url, "filterVerb": "filter", "prioritizeVerb": "prioritize", "bindVerb": "bind",
            "weight": 5, "nodeCacheCapable": True, "enableHTTPS": True, "httpTimeout": "2s",
            "tlsConfig": {"caFile": str(authority)},
        }  # fmt: skip
        file = configuration(tmp_path / "scheduler.yaml", extender)
        cluster.arguments = ("--nodes", "3", "--config", file)
        cluster.start()
        try:
            create(cluster, "p")
            until(lambda: node_of(cluster, "p"), "the pod has a node")
            assert node_of(cluster, "p") == "node-3"
            assert [verb for verb, _ in server.asked] == ["filter", "prioritize", "bind"]
            where = ("--kubeconfig", str(cluster.kubeconfig), "--config", file)
            command = [sys.executable, "-m", "refk8s.cli.main", "explain", "pod", "default/p"]
            told = subprocess.run([*command, *where], capture_output=True, text=True, timeout=60)
            assert f"{server.url} is not asked here" in told.stdout, told.stderr
            # answers that cannot be used
            for number, (answer, words) in enumerate(
                (
                    (lambda _: 500, "SchedulerError: failed filter with extender at URL"),
                    (lambda _: b"\0\1\2", "SchedulerError: Post"),
                    (lambda _: b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\n\r\n", "code 302"),
                    (lambda _: {"Error": "out of order"}, "SchedulerError: out of order"),
                    (lambda _: 4, "context deadline exceeded"),
                )
            ):  # fmt: skip
                server.answers["filter"] = answer
                create(cluster, f"q{number}")
                until(lambda n=number, w=words: w in reason_of(cluster, f"q{n}"), words)
            server.answers["filter"] = lambda question: question
            until(lambda: all(node_of(cluster, f"q{at}") for at in range(5)), "all have nodes", 60)
        finally:
            cluster.stop()


def test_sched_58_a_scheduler_process_waits_for_an_extender_that_is_down(tmp_path: Path) -> None:
    """Another profile, whole nodes, and plain HTTP; pods without its resource do not wait."""
    cluster = FakeCluster(tmp_path, nodes=2).start()
    whole = {
        "filter": lambda question: {
            "Nodes": {"items": [one for one in question["Nodes"]["items"] if one["metadata"]["name"] == "node-2"]}
        }
    }  # fmt: skip
    port = free_port()
    extender = {
        "urlPrefix": f"http://127.0.0.1:{port}/scheduler", "filterVerb": "filter",
        "managedResources": [{"name": "example.com/license", "ignoredByScheduler": True}],
    }  # fmt: skip
    file = configuration(tmp_path / "scheduler.yaml", extender, schedulerName="licensed")
    scheduler = Process(
        tmp_path, "scheduler", "scheduler", "--kubeconfig", str(cluster.kubeconfig),
        "--secure-port", "0", "--config", file,
    ).start()  # fmt: skip
    try:
        needs = {"limits": {"example.com/license": "1"}}
        container = {"name": "c", "image": "web:1", "resources": needs}
        create(cluster, "p", schedulerName="licensed", containers=[container])
        create(cluster, "plain", schedulerName="licensed")
        until(lambda: node_of(cluster, "plain"), "the pod that needs no license has a node")
        until(lambda: "connect: connection refused" in reason_of(cluster, "p"), "the reason")
        assert not node_of(cluster, "p")
        with ExtenderServer(whole, port=port):
            until(lambda: node_of(cluster, "p"), "the pod has a node", 30)
        assert node_of(cluster, "p") == "node-2"
    finally:
        assert scheduler.stop() == 0
        cluster.stop()


def test_sched_54_certificates_that_cannot_be_used_end_the_process(tmp_path: Path) -> None:
    broken = tmp_path / "broken.pem"
    broken.write_text("-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n")
    for tls, words in (
        ({"caFile": str(tmp_path / "absent")}, "No such file"),
        ({"caFile": str(broken)}, "cannot be used"),
        ({"certFile": str(broken), "keyFile": str(broken)}, "cannot be used"),
    ):
        extender = {"urlPrefix": "https://127.0.0.1:1", "filterVerb": "f", "tlsConfig": tls}
        file = configuration(tmp_path / "scheduler.yaml", extender)
        command = [sys.executable, "-m", "refk8s.cli.main", "scheduler", "--config", file]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 2 and words in done.stderr, done.stderr
        assert len(done.stderr.splitlines()) == 1
