"""The story by real kubectl on simulated nodes: deployed, exposed, scaled, healed, updated, rolled
back, removed; and what it prints."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest
from fake_cluster import FakeCluster, free_port, running_cluster, until


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeCluster]:
    with running_cluster(tmp_path_factory.mktemp("story")) as cluster:
        yield cluster


def test_a_deployment_lives_its_life(cluster: FakeCluster) -> None:
    k = cluster.kubectl
    until(lambda: k("get", "nodes", "--no-headers").count(" Ready ") == 3, "three nodes are ready")
    k("create", "deployment", "web", "--image=nginx", "--replicas=3", "--port=80")
    k("expose", "deployment", "web", "--port=80", "--type=NodePort")
    k("rollout", "status", "deployment/web", "--timeout=60s")
    assert re.search(r"web\s+3/3\s+3\s+3", k("get", "deployments"))
    assert len(set(k("get", "pods", "-o", "jsonpath={.items[*].spec.nodeName}").split())) == 3
    for replicas in (5, 2, 4):
        k("scale", "deployment", "web", f"--replicas={replicas}")
        k("rollout", "status", "deployment/web", "--timeout=60s")
        until(
            lambda replicas=replicas: (
                len(k("get", "pods", "--no-headers").splitlines()) == replicas
            ),
            f"scale to {replicas}",
        )
    victim = k("get", "pods", "-o", "jsonpath={.items[0].metadata.name}")
    k("delete", "pod", victim)
    until(
        lambda: len(k("get", "pods", "--no-headers").splitlines()) == 4,
        "the deleted pod is replaced",
    )
    assert victim not in k("get", "pods")
    k("set", "image", "deployment/web", "nginx=nginx:2")
    k("rollout", "status", "deployment/web", "--timeout=60s")
    assert "nginx:2" in k("get", "pods", "-o", "jsonpath={.items[*].spec.containers[0].image}")
    k("rollout", "undo", "deployment/web")
    k("rollout", "status", "deployment/web", "--timeout=60s")
    until(lambda: len(k("get", "pods", "--no-headers").splitlines()) == 4, "old pods are gone")
    slices = "jsonpath={range .items[*].endpoints[*]}{.addresses[0]} {end}"

    def addresses():
        found = k("get", "endpointslices", "-l", "kubernetes.io/service-name=web", "-o", slices)
        return set(found.split())

    until(
        lambda: (
            addresses() == set(k("get", "pods", "-o", "jsonpath={.items[*].status.podIP}").split())
        ),
        "the slices are the pods",
    )
    one = k("get", "pods", "-o", "jsonpath={.items[0].metadata.name}")
    until(
        lambda: re.search(r"Normal\s+Scheduled", k("describe", "pod", one)),
        "describe shows who scheduled the pod",
    )
    k("delete", "deployment", "web")
    until(
        lambda: not k("get", "pods,replicasets", "--no-headers", "--ignore-not-found"),
        "everything it owned is gone",
    )


def test_apply_explain_and_validation_say_what_is_wrong(cluster: FakeCluster) -> None:
    manifest = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "settings"},
        "data": {"a": "1"},
    }
    assert "created" in cluster.kubectl("apply", "-f", "-", stdin=json.dumps(manifest))
    assert "unchanged" in cluster.kubectl("apply", "-f", "-", stdin=json.dumps(manifest))
    listed = {"apiVersion": "v1", "kind": "List", "items": [{**manifest, "data": {"a": "2"}}]}
    assert "configured" in cluster.kubectl("apply", "-f", "-", stdin=json.dumps(listed))
    assert "replicas" in cluster.kubectl("explain", "deployment.spec")
    wrong = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "c", "imag": "x"}]},
    }
    said = cluster.kubectl("apply", "-f", "-", stdin=json.dumps(wrong), fine=False)
    assert "unknown field" in said and "imag" in said
    said = cluster.kubectl("create", "configmap", "Not_A_Name", fine=False)
    assert "metadata.name" in said


def test_what_cannot_start_says_why_in_one_line(
    cluster: FakeCluster, tmp_path: pytest.TempPathFactory
) -> None:
    def run(*arguments: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "refk8s.cli.main", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        return done.returncode, done.stderr.strip()

    data = str(tmp_path / "data")  # type: ignore[operator]
    for arguments, words in (
        (("run", "--adapter", "fake", "--port", str(cluster.port), "--data-dir", data), "--port"),
        (("run", "--adapter", "fake", "--nodes", "many"), "--nodes"),
        (("run", "--adapter", "paper"), "--adapter"),
        (
            (
                "run",
                "--adapter",
                "fake",
                "--store",
                "paper",
                "--port",
                str(free_port()),
                "--data-dir",
                data,
            ),
            "sqlite:PATH",
        ),
        (
            (
                "run",
                "--adapter",
                "fake",
                "--port",
                str(free_port()),
                "--data-dir",
                str(cluster.directory / "data"),
            ),
            "another",
        ),
        (
            ("run", "--adapter", "fake", "--port", str(free_port()), "--data-dir", "/proc/none"),
            "--data-dir",
        ),
    ):
        code, said = run(*arguments)
        assert code == 2 and len(said.splitlines()) == 1 and words in said, (arguments, said)
    assert not (tmp_path / "data").exists()  # type: ignore[operator]


def test_commands_without_arguments_are_explained_and_help_has_whole_sentences() -> None:
    for arguments in ((), ("kubeconfig",)):
        command = [sys.executable, "-m", "refk8s.cli.main", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert (
            done.returncode == 2
            and done.stderr.startswith("Usage: ")
            and "see refk8s" not in done.stderr
        )
        asked = subprocess.run([*command, "--help"], capture_output=True, text=True, timeout=60)
        assert (
            asked.returncode == 0
            and asked.stdout.partition(" [OPTIONS]")[2] == done.stderr.partition(" [OPTIONS]")[2]
        )
        for line in asked.stdout.partition("Commands:\n")[2].splitlines():
            assert line.endswith(".") and not line.endswith("..."), line
