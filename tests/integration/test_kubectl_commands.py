"""Every command of kubectl on a simulated cluster, and what it prints there, as against Kubernetes
itself: the transcripts in tests/integration/kubectl/ (see transcript.py)."""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from fake_cluster import FakeCluster, need_kubectl, running_cluster
from transcript import matches, play, read

TRANSCRIPTS = sorted((Path(__file__).parent / "kubectl").glob("*.txt"))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeCluster]:
    with running_cluster(tmp_path_factory.mktemp("commands")) as cluster:
        yield cluster


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_kubectl_prints_what_it_prints_at_kubernetes(
    cluster: FakeCluster, path: Path, tmp_path: Path
) -> None:
    """Each transcript has the namespace of its name."""
    kubectl = Path(need_kubectl())
    config = tmp_path / "kubeconfig"
    config.write_bytes(cluster.kubeconfig.read_bytes())
    environment = {
        "KUBECONFIG": str(config),
        "HOME": str(tmp_path),
        "PATH": f"{kubectl.parent}:{os.environ['PATH']}",
        "PKI": str(cluster.directory / "data/pki"),
    }
    cluster.kubectl("create", "namespace", path.stem)
    cluster.kubectl(
        "config", "set-context", "--current", f"--namespace={path.stem}", f"--kubeconfig={config}"
    )
    work = tmp_path / "work"
    work.mkdir()
    wrong = list(play(read(path), work, environment))
    assert not wrong, "\n".join(wrong)


@pytest.fixture(scope="module")
def web(cluster: FakeCluster) -> str:
    """A namespace with a Deployment and its Service, which answer."""
    cluster.kubectl("create", "namespace", "served")
    k = ("-n", "served")
    cluster.kubectl("create", "deployment", "web", "--image=nginx", "--port=80", *k)
    cluster.kubectl("expose", "deployment", "web", "--port=80", *k)
    cluster.kubectl("rollout", "status", "deployment/web", *k)
    return "served"


@contextmanager
def running(cluster: FakeCluster, *arguments: str) -> Iterator[IO[str]]:
    """The lines that a kubectl prints while it runs."""
    command = [need_kubectl(), "--kubeconfig", str(cluster.kubeconfig), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout
        finally:
            process.kill()


@pytest.mark.parametrize("target", ["service/web", "deployment/web"])
def test_a_port_is_forwarded_to_a_pod_behind_it(
    cluster: FakeCluster, web: str, target: str
) -> None:
    arguments = ("port-forward", target, ":80", "-n", web, "--address=127.0.0.1")
    with running(cluster, *arguments) as printed:
        said = printed.readline()
        assert matches(["Forwarding from 127.0.0.1:* -> 80"], said)
        port = said.split()[2].rpartition(":")[2]
        with urlopen(f"http://127.0.0.1:{port}/x", timeout=20) as answer:
            assert b"request: GET /x" in answer.read()
        assert printed.readline() == f"Handling connection for {port}\n"


def test_a_proxy_serves_the_api_and_refuses_what_runs_commands(
    cluster: FakeCluster, web: str
) -> None:
    with running(cluster, "proxy", "--port=0") as printed:
        said = printed.readline()
        assert matches(["Starting to serve on 127.0.0.1:*"], said)
        server = f"http://{said.split()[-1]}"
        with urlopen(f"{server}/api/v1/namespaces/{web}/services/web", timeout=20) as answer:
            assert json.load(answer)["kind"] == "Service"
        path = f"api/v1/namespaces/{web}/services/web/proxy/y"
        with urlopen(f"{server}/{path}", timeout=20) as answer:
            assert b"request: GET /y" in answer.read()
        with pytest.raises(HTTPError, match="403"):
            urlopen(f"{server}/api/v1/namespaces/{web}/pods/any/exec", timeout=20)


def test_a_watch_prints_a_row_for_each_change(cluster: FakeCluster) -> None:
    k = cluster.kubectl
    arguments = ("get", "configmaps", "-n", "kube-public", "--watch", "--output-watch-events")
    with running(cluster, *arguments, "-l", "watched") as printed:
        k("create", "configmap", "one", "-n", "kube-public", "--from-literal=a=b")
        k("label", "configmap", "one", "-n", "kube-public", "watched=yes")
        k("patch", "configmap", "one", "-n", "kube-public", "-p", '{"data":{"c":"d"}}')
        k("delete", "configmap", "one", "-n", "kube-public")
        rows = [printed.readline() for _ in range(4)]
    assert matches(
        ["EVENT NAME DATA AGE", "ADDED one 1 *", "MODIFIED one 2 *", "DELETED one 2 *"],
        "".join(rows),
    )
