"""Components that know several API servers, of which the first is killed or loses its way to etcd.
Rules CLIENT-15 to CLIENT-17 (spec/client.md), PROC-5."""

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from etcd_server import EtcdServer
from fake_cluster import need_kubectl, until
from net_world import Namespace, needs_kernel_rules
from process_world import Process

from refk8s.components.yaml_reader import read_yaml

ADDRESSES = "192.0.2.11", "192.0.2.12"
ETCD = "192.0.2.21", "192.0.2.22"  # one way to etcd for each server
COMPONENTS = {
    "controller-manager": (),
    "scheduler": (),
    "kubelet": ("--adapter", "fake", "--nodes", "2"),
}


class Cluster:
    """Two API servers with an address each on one etcd, and components that start at the first. All
    are in a network namespace of their own."""

    def __init__(self, directory: Path) -> None:
        needs_kernel_rules()
        self.directory = directory
        self.space = Namespace(f"refk8s-{os.getpid() % 100_000}-servers")
        self.inside = ("ip", "netns", "exec", self.space.name)
        self.processes: dict[str, Process] = {}
        self.etcd = EtcdServer(directory / "etcd")
        self.etcd.inside = self.inside

    def start(self) -> None:
        self.space.ip(*(f"address add {address}/32 dev lo" for address in (*ADDRESSES, *ETCD)))
        ways = [f"http://{address}:{self.etcd.port}" for address in ("127.0.0.1", *ETCD)]
        self.etcd.flags = ("--listen-client-urls", ",".join(ways))
        self.etcd.start()
        for number, address in enumerate(ADDRESSES):
            self.begin(
                f"apiserver-{number}",
                *("apiserver", "--store", f"etcd://{ETCD[number]}:{self.etcd.port}"),
                *("--bind", address),
                *("--pki", str(self.directory / "pki")),
                *("--data-dir", str(self.directory / f"data-{number}")),
                *("--kubeconfig", str(self.kubeconfig(number))),
            )
        for process in self.processes.values():
            process.wait_until_ready()
        until(lambda: self.servers() == list(ADDRESSES), "the servers", 60)

    def cut_off(self, number: int) -> None:
        """Drop the packets of this server to etcd and back."""
        self.space.run("nft", "add table ip cut")
        self.space.run("nft", "add chain ip cut out { type filter hook output priority 0; }")
        for way in ("daddr", "saddr"):
            self.space.run("nft", f"add rule ip cut out ip {way} {ETCD[number]} drop")

    def begin(self, name: str, *arguments: str) -> Process:
        process = Process(self.directory, name, *arguments, inside=self.inside)
        self.processes[name] = process
        return process.begin()

    def kubeconfig(self, number: int) -> Path:
        return self.directory / f"{number}.kubeconfig"

    def kubectl(self, *arguments: str) -> str:
        """kubectl at the second server."""
        done = subprocess.run(
            [*self.inside, need_kubectl(), "--kubeconfig", str(self.kubeconfig(1)), *arguments],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def get(self, *what: str) -> Any:
        return json.loads(self.kubectl("get", *what, "-o", "json"))["items"]

    def servers(self) -> list[str]:
        slices = self.get("endpointslices", "-l", "kubernetes.io/service-name=kubernetes")
        endpoints = [endpoint for one in slices for endpoint in one["endpoints"] or ()]
        return sorted(address for endpoint in endpoints for address in endpoint["addresses"])

    def ready(self) -> dict[str, str]:
        """Since when each node is ready."""
        return {
            node["metadata"]["name"]: condition["lastTransitionTime"]
            for node in self.get("nodes")
            for condition in node["status"]["conditions"]
            if condition["type"] == "Ready" and condition["status"] == "True"
        }

    def uids(self) -> set[str]:
        """The pods that are ready."""
        return {
            pod["metadata"]["uid"]
            for pod in self.get("pods")
            for condition in pod["status"].get("conditions", ())
            if condition["type"] == "Ready" and condition["status"] == "True"
        }

    def stop(self) -> None:
        for process in self.processes.values():
            if process.process.poll() is None:
                process.kill()
        self.etcd.kill()
        self.space.close()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


def named_at_both(kubeconfig: Path) -> Path:
    """A copy of this kubeconfig with the second server as a further one."""
    tree = read_yaml(kubeconfig.read_bytes()).tree
    [one] = tree["clusters"]
    assert ADDRESSES[0] in one["cluster"]["server"]
    extension = {"servers": [one["cluster"]["server"].replace(*ADDRESSES)]}
    one["cluster"]["extensions"] = [{"name": "refk8s.io/api-servers", "extension": extension}]
    both = kubeconfig.with_name("both.kubeconfig")
    both.write_text(json.dumps(tree))
    both.chmod(0o600)
    return both


def start_components(cluster: Cluster) -> None:
    """At the first server. The scheduler is not allowed to list the endpoints: its kubeconfig has
    both servers. The others have learnt the second one."""
    both = named_at_both(cluster.directory / "data-0" / "scheduler.kubeconfig")
    for name, arguments in COMPONENTS.items():
        kubeconfig = both if name == "scheduler" else cluster.kubeconfig(0)
        cluster.begin(name, name, *arguments, "--kubeconfig", str(kubeconfig))
    for name in COMPONENTS:
        cluster.processes[name].wait_until_ready()


def test_client_15_and_16_the_components_go_on_at_the_second_server(cluster: Cluster) -> None:
    # Shows CLIENT-15.b CLIENT-15.h CLIENT-16.a PROC-5.b.
    start_components(cluster)
    cluster.kubectl("create", "deployment", "web", "--image=x", "--replicas=3")
    until(lambda: len(cluster.uids()) == 3, "the first pods", 90)
    before, ready = cluster.uids(), cluster.ready()
    assert len(ready) == 2

    cluster.processes["apiserver-0"].kill()
    cluster.kubectl("scale", "deployment", "web", "--replicas=6")
    until(lambda: len(cluster.uids()) == 6, "further pods", 90)
    assert before < cluster.uids(), "no pod was replaced"
    until(lambda: cluster.servers() == [ADDRESSES[1]], "the killed server is listed", 60)
    assert cluster.ready() == ready, "no node was ever not ready"
    for name in COMPONENTS:
        said = cluster.processes[name].said()
        assert f"https://{ADDRESSES[1]}:6443 is used instead" in said, said
        assert cluster.processes[name].stop() == 0 and "Traceback" not in said


def test_client_17_the_components_leave_a_server_that_has_lost_its_way_to_etcd(
    cluster: Cluster,
) -> None:
    # Shows CLIENT-17.b CLIENT-17.f CLIENT-17.g.
    start_components(cluster)
    cluster.kubectl("create", "deployment", "web", "--image=x", "--replicas=3")
    until(lambda: len(cluster.uids()) == 3, "the first pods", 90)
    before, ready = cluster.uids(), cluster.ready()

    cluster.cut_off(0)
    began = time.monotonic()
    cluster.kubectl("scale", "deployment", "web", "--replicas=6")
    until(lambda: len(cluster.uids()) == 6, "further pods", 90)
    took = time.monotonic() - began
    assert before < cluster.uids(), "no pod was replaced"
    assert cluster.ready() == ready, "no node was ever not ready"
    for name in COMPONENTS:
        said = cluster.processes[name].said()
        assert f"is not ready; https://{ADDRESSES[1]}:6443 is used instead" in said, said
        assert cluster.processes[name].stop() == 0 and "Traceback" not in said
    assert took < 60
