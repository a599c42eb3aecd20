"""Pods resolve names by the name server of their node. Rules DNS-13 to DNS-19 (spec/dns.md),
KUBELET-51."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from docker_host import Cluster, Host, container, make_pod, until

DNS = "10.96.0.10"


class Upstream:
    """A resolver of the host's, in its namespace: it knows two names, and counts the questions."""

    def __init__(self, host: Host) -> None:
        self.asked: list[str] = []
        self._host = host


def make_service(name: str, **spec: Any) -> dict[str, Any]:
    ports = [{"name": "http", "port": 80, "targetPort": 8080}]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": {"app": name}, "ports": ports, **spec},
    }


@pytest.fixture(scope="module")
def cluster(docker_host: Host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    work: Path = tmp_path_factory.mktemp("dns")
    cluster = Cluster(docker_host, work / "data")
    cluster.start()
    try:
        cluster.apply(make_service("web"), make_pod("web", container("main")))
        cluster.apply(make_pod("client", container("main")))
        for pod in ("web", "client"):
            until(
                lambda pod=pod: cluster.pod(pod)["status"].get("phase") == "Running",
                30,
                "it does not run",
            )
        yield cluster
    finally:
        cluster.stop()


def look_up(cluster: Cluster, *words: str) -> str:
    """What busybox' nslookup says in a pod."""
    id = cluster.ids("client", "main")[0]
    import subprocess

    done = subprocess.run(
        ["docker", "-H", cluster.host.address, "exec", id, "busybox", "nslookup", *words],
        capture_output=True,
        text=True,
    )
    return done.stdout + done.stderr


def test_dns_19_a_pod_resolves_a_service_by_its_short_name(cluster: Cluster) -> None:
    address = cluster.get("service", "web")["spec"]["clusterIP"]
    until(lambda: address in look_up(cluster, "web"), 10, look_up(cluster, "web"))
