"""A scheduler with a configuration file as a process, and `refk8s explain` against a running
cluster. Rules SCHED-50, SCHED-54, SCHED-56, EXPLAIN-1, EXPLAIN-3, EXPLAIN-4
(spec/scheduler_profiles.md, spec/explain.md)."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_cluster import FakeCluster, until
from process_world import Process, kubectl

EXAMPLE = Path(__file__).resolve().parents[2] / "examples/scheduler_plugin.py"
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


def explain(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "refk8s.cli.main", "explain", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def with_plugin(directory: Path) -> str:
    """A directory for PYTHONPATH in which the example is installed; and the file there."""
    packages = directory / "packages"
    (packages / "team-1.dist-info").mkdir(parents=True)
    shutil.copy(EXAMPLE, packages / "scheduler_plugin.py")
    (packages / "team-1.dist-info/METADATA").write_text("Name: team\nVersion: 1\n")
    (packages / "team-1.dist-info/entry_points.txt").write_text(
        "[refk8s.scheduler_plugins]\nTeam = scheduler_plugin:Team\n"
    )
    (directory / "scheduler.yaml").write_text(FILE)
    return str(packages)


def test_sched_50_sched_56_a_second_scheduler_has_its_own_profiles_and_plugins(
    cluster: FakeCluster, tmp_path: Path
) -> None:
    packages = with_plugin(tmp_path)
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
