"""A scheduler with a configuration file as a process, and `refk8s explain` against a running
cluster. Rules SCHED-50, SCHED-54, SCHED-56, EXPLAIN-1, EXPLAIN-3, EXPLAIN-4,
EXPLAIN-6 (spec/scheduler_profiles.md, spec/explain.md)."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_cluster import FakeCluster, until
from process_world import Process, kubectl

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
FILE = """
apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
leaderElection: {resourceName: second-scheduler}
profiles:
- schedulerName: packing
  pluginConfig:
  - name: NodeResourcesFit
    args: {scoringStrategy: {type: MostAllocated}}
- schedulerName: teams
  plugins: {multiPoint: {enabled: [{name: Team}]}}
"""


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[FakeCluster]:
    running = FakeCluster(tmp_path, nodes=2).start()
    yield running
    running.stop()


def explain(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "refk8s.cli.main", "explain", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, env={**os.environ, **environment}
    )


def with_plugin(directory: Path, example: str, plugin: str, file: str) -> str:
    """A directory for PYTHONPATH in which the example is installed; and the file there."""
    packages = directory / "packages"
    (packages / "plugin-1.dist-info").mkdir(parents=True)
    shutil.copy(EXAMPLES / f"{example}.py", packages)
    (packages / "plugin-1.dist-info/METADATA").write_text("Name: plugin\nVersion: 1\n")
    (packages / "plugin-1.dist-info/entry_points.txt").write_text(
        f"[refk8s.scheduler_plugins]\n{plugin} = {example}:{plugin}\n"
    )
    (directory / "scheduler.yaml").write_text(file)
    return str(packages)


def test_sched_50_sched_56_a_second_scheduler_has_its_own_profiles_and_plugins(
    cluster: FakeCluster, tmp_path: Path
) -> None:
    packages = with_plugin(tmp_path, "scheduler_plugin", "Team", FILE)
    scheduler = Process(
        tmp_path,
        "scheduler",
        *("scheduler", "--kubeconfig", str(cluster.kubeconfig), "--secure-port", "0"),
        *("--config", str(tmp_path / "scheduler.yaml")),
        PYTHONPATH=packages,
    ).start()
    try:
        kubectl(cluster.kubeconfig, "label", "node", "node-2", "team=a")
        for name, profile in (("p", "packing"), ("t", "teams"), ("n", "nobody")):
            patch = {"spec": {"schedulerName": profile}}
            kubectl(
                cluster.kubeconfig, "run", name, "--image=nginx", "--labels=team=a",
                f"--overrides={json.dumps(patch)}",
            )  # fmt: skip
        template = "jsonpath={.spec.nodeName}"

        def node(name: str) -> str:
            return kubectl(cluster.kubeconfig, "get", "pod", name, "-o", template)

        until(lambda: node("p") and node("t"), "pods of both profiles have nodes")
        assert node("t") == "node-2" and not node("n")
    finally:
        assert scheduler.stop() == 0


GROUPS = """
apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
leaderElection: {resourceName: second-scheduler}
profiles:
- schedulerName: groups
  plugins:
    reserve: {enabled: [{name: Coscheduling}]}
    permit: {enabled: [{name: Coscheduling}]}
"""


def test_sched_62_sched_63_explain_6_the_pods_of_a_group_are_bound_together(
    cluster: FakeCluster, tmp_path: Path
) -> None:
    packages = with_plugin(tmp_path, "coscheduling", "Coscheduling", GROUPS)
    file = str(tmp_path / "scheduler.yaml")
    scheduler = Process(
        tmp_path,
        "scheduler",
        *("scheduler", "--kubeconfig", str(cluster.kubeconfig), "--secure-port", "0"),
        *("--config", file),
        PYTHONPATH=packages,
    ).start()
    prefix = "pod-group.scheduling.sigs.k8s.io"
    labels = f"--labels={prefix}/name=web,{prefix}/min-available=3"
    patch = f"--overrides={json.dumps({'spec': {'schedulerName': 'groups'}})}"

    def start(name: str) -> None:
        kubectl(cluster.kubeconfig, "run", name, "--image=nginx", labels, patch)

    def field(name: str, path: str) -> str:
        return kubectl(cluster.kubeconfig, "get", "pod", name, "-o", f"jsonpath={{{path}}}")

    try:
        for name in ("a", "b"):
            start(name)
        nominated = ".status.nominatedNodeName"
        until(lambda: field("a", nominated) and field("b", nominated), "two pods wait")
        where = ("--kubeconfig", str(cluster.kubeconfig), "--config", file)
        text = explain("pod", "a", *where, PYTHONPATH=packages).stdout
        assert "and it waits there for Coscheduling" in text, text
        assert "2 of 3 pods of group web have a node" in text
        assert not field("a", ".spec.nodeName") and not field("b", ".spec.nodeName")
        start("c")
        until(lambda: all(field(name, ".spec.nodeName") for name in "abc"), "all have nodes")
        assert not field("a", nominated)
    finally:
        assert scheduler.stop() == 0


def test_sched_54_a_bad_file_ends_the_process_with_one_line(tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(FILE.replace("MostAllocated", "Foo"))
    command = [sys.executable, "-m", "refk8s.cli.main", "scheduler", "--config", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert "scoringStrategy.type: Unsupported value" in done.stderr


def test_explain_1_explain_3_explain_4_a_running_cluster_says_why(cluster: FakeCluster) -> None:
    # Shows EXPLAIN-3.e.
    where = ("--kubeconfig", str(cluster.kubeconfig))
    big = {
        "spec": {
            "containers": [{"name": "c", "image": "x", "resources": {"requests": {"cpu": "999"}}}]
        }
    }
    ready = "jsonpath={.items[*].status.conditions[?(@.type=='Ready')].status}"
    until(
        lambda: kubectl(cluster.kubeconfig, "get", "nodes", "-o", ready) == "True True", "two nodes"
    )
    kubectl(cluster.kubeconfig, "run", "big", "--image=x", f"--overrides={json.dumps(big)}")
    kubectl(cluster.kubeconfig, "create", "deployment", "web", "--image=nginx")
    condition = "jsonpath={.status.conditions[0].message}"
    until(lambda: kubectl(cluster.kubeconfig, "get", "pod", "big", "-o", condition), "a reason")
    message = kubectl(cluster.kubeconfig, "get", "pod", "big", "-o", condition)
    assert f"Answer:     {message}" in explain("pod", "big", *where).stdout
    tree = json.loads(explain("pod", "default/big", "-o", "json", *where).stdout)
    assert tree["message"] == message and len(tree["nodes"]) == 2
    kubectl(cluster.kubeconfig, "rollout", "status", "deployment/web")
    names = ("get", "pods", "-l", "app=web", "-o", "jsonpath={.items[0].metadata.name}")
    pod = kubectl(cluster.kubeconfig, *names)
    text = explain("object", "po", pod, *where).stdout
    assert "controlled by ReplicaSet" in text and "controlled by Deployment web" in text
    assert "Scheduled" in text and "spec.containers" in text
    found = json.loads(explain("object", "Deployment.apps", "web", "-o", "json", *where).stdout)
    assert found["kind"] == "Deployment" and found["writes"]
    for arguments, words in (
        (("pod", "missing"), 'pods "missing" not found'),
        (("object", "foos", "x"), 'no resource type "foos"'),
        (("object", "pods", "x"), 'pods "x" not found'),
        (
            ("object", "pods", pod, "--data-dir", str(cluster.directory / "data")),
            "while the API server is stopped",
        ),
    ):
        done = explain(*arguments, *where)
        assert done.returncode == 2 and words in done.stderr, done.stderr
        assert len(done.stderr.splitlines()) == 1


CONFIGURATION = """
apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
profiles: [{schedulerName: default-scheduler}, {schedulerName: second}]
"""


def test_sched_50_one_process_runs_the_profiles_of_its_configuration(tmp_path):
    """SCHED-50: `refk8s run --config`."""
    file = tmp_path / "scheduler.yaml"
    file.write_text(CONFIGURATION)
    cluster = FakeCluster(tmp_path, "--nodes", "1", "--config", str(file)).start()
    try:
        spec = {"schedulerName": "second", "containers": [{"name": "c", "image": "web:1"}]}
        pod = {"metadata": {"name": "p"}, "spec": spec}
        path = "/api/v1/namespaces/default/pods"
        until(lambda: cluster.call("POST", path, pod)[0] in (201, 409), "the pod is created")

        def phase() -> str:
            return str(cluster.call("GET", f"{path}/p")[1]["status"]["phase"])

        until(lambda: phase() == "Running", "the pod runs")
    finally:
        cluster.stop()
    file.write_text(CONFIGURATION.replace("schedulerName: second", "schedulerNam: second"))
    with pytest.raises(AssertionError, match=r"--config .*scheduler.yaml: .*schedulerNam"):
        FakeCluster(tmp_path, "--nodes", "1", "--config", str(file)).start()
