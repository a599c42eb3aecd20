"""Images of a registry that wants a password, pulled by a real engine. Rules KUBELET-130, RT-41."""

import json
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from docker_host import Cluster, Host, container, make_pod, until

PORT, PASSWORD = 5007, "correct-horse-9"
IMAGE = f"127.0.0.1:{PORT}/team/app:1"


@pytest.fixture(scope="module")
def cluster(docker_host: Host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("secrets")
    layer = folder / "layer.tar"
    subprocess.run(["tar", "-C", docker_host.work / "tree", "-cf", layer, "."], check=True)
    program = Path(__file__).parent / "private_registry.py"
    command = [sys.executable, program, str(PORT), f"robot:{PASSWORD}", str(layer)]
    registry = subprocess.Popen(
        [*docker_host.inside, *command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    cluster = Cluster(docker_host, folder / "data", "--story")
    try:
        assert registry.stdout is not None
        registry.stdout.readline()
        cluster.start()
        until(lambda: cluster.kubectl("get", "nodes", "-o", "name"), 10, "no node")
        yield cluster
    finally:
        cluster.stop()
        registry.kill()
        registry.wait()
    assert "Traceback" not in cluster.words(), cluster.words()
    assert PASSWORD not in cluster.words()


def a_secret(name: str, password: str) -> dict[str, Any]:
    auth = b64encode(f"robot:{password}".encode()).decode()
    config = json.dumps({"auths": {f"127.0.0.1:{PORT}/team": {"auth": auth}}})
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name},
        "type": "kubernetes.io/dockerconfigjson",
        "stringData": {".dockerconfigjson": config},
    }


def test_a_private_image_runs_once_the_service_account_has_its_secret(cluster: Cluster) -> None:
    main = container("main", image=IMAGE)
    cluster.apply(make_pod("without", main, imagePullSecrets=[{"name": "absent"}]))
    until(
        lambda: (
            {"Failed", "FailedToRetrieveImagePullSecret"}
            <= {reason for reason, _ in cluster.events("without")}
        ),
        30,
        "the pull did not fail",
    )
    cluster.apply(a_secret("old", "wrong"), a_secret("new", PASSWORD))
    until(lambda: cluster.kubectl("get", "serviceaccounts", "-o", "name"), 10, "no account")
    secrets = json.dumps({"imagePullSecrets": [{"name": "old"}, {"name": "new"}]})
    cluster.kubectl("patch", "serviceaccount", "default", "-p", secrets)
    cluster.apply(make_pod("with", main))
    until(lambda: cluster.pod("with")["status"].get("phase") == "Running", 30, "it does not run")
    assert PASSWORD not in json.dumps([cluster.events("with"), cluster.events("without")])
    assert PASSWORD not in json.dumps(cluster.pod("with"))
    cluster.kubectl("delete", "pod", "--now", "--all")
