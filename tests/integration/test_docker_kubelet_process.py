"""A kubelet of a Docker host as a process of its own. Rule PROC-7 (spec/processes.md)."""

import json
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from docker_host import NODE_IP, Host, container, kubectl_path, make_pod, until
from process_world import Process


class World:
    """A control plane without nodes, and a kubelet of the host."""

    def __init__(self, host: Host, work: Path) -> None:
        self.host = host
        self.kubeconfig = work / "admin.conf"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        access = ("--kubeconfig", str(self.kubeconfig))
        self.server = Process(
            work, "apiserver", "apiserver", "--bind", "0.0.0.0", "--port", port,
            "--data-dir", str(work / "plane"), *access, inside=host.inside,
        )  # fmt: skip
        manager = ("controller-manager", "--leader-elect=false", "--cluster-cidr", "10.244.0.0/16")
        self.others = [
            Process(work, "manager", *manager, *access, inside=host.inside),
            Process(
                work, "scheduler", "scheduler", "--leader-elect=false", *access, inside=host.inside
            ),
        ]
        self.kubelet = Process(
            work, "kubelet", "kubelet", "--adapter", "docker", "--node-name", "worker", "--kubeconfig",
            str(self.kubeconfig), "--data-dir", str(work / "node"), "--pki", str(work / "plane/pki"),
            inside=host.inside, DOCKER_HOST=host.address,
        )  # fmt: skip

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        done = subprocess.run(
            [*self.host.inside, kubectl_path() or "", "--kubeconfig", str(self.kubeconfig), *arguments],
            input=stdin, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def get(self, *arguments: str) -> Any:
        return json.loads(self.kubectl("get", *arguments, "-o", "json"))

    def containers(self) -> list[str]:
        return sorted(self.host.containers("-a", "--filter", "label=refk8s.pod-uid"))


@pytest.fixture
def world(docker_host: Host, tmp_path: Path) -> Iterator[World]:
    made = World(docker_host, tmp_path)
    processes = (made.kubelet, *made.others, made.server)
    try:
        made.server.start()
        for process in (*made.others, made.kubelet):
            process.begin()
        made.kubelet.wait_until_ready()
        yield made
    finally:
        for process in processes:
            if hasattr(process, "process"):
                process.stop()


def test_proc_7_a_kubelet_process_runs_pods_and_adopts_them_after_it_was_killed(
    world: World,
) -> None:
    # Shows PROC-7.a, PROC-7.b, PROC-7.c, PROC-7.d, PROC-7.e, PROC-7.f.
    until(lambda: "worker" in world.kubectl("get", "nodes"), 20, "there is no node")
    addresses = world.get("node", "worker")["status"]["addresses"]
    assert {each["type"]: each["address"] for each in addresses}["InternalIP"] == NODE_IP
    script = "echo begun; echo it works > /www/x; exec httpd -f -p 8080 -h /www"
    pod = make_pod("web", container("main", script, ports=[{"containerPort": 8080}]))
    world.kubectl("create", "-f", "-", stdin=json.dumps(pod))

    def is_ready() -> bool:
        conditions = world.get("pod", "web")["status"].get("conditions", ())
        return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)

    until(is_ready, 30, "the pod is not ready")
    status = world.get("pod", "web")["status"]
    assert status["hostIP"] == NODE_IP
    _streams_reach_the_pod(world)
    before = world.containers()
    assert len(before) == 3  # its sandbox, and one that debugs it
    world.kubelet.kill()
    world.kubelet.start()
    world.kubectl("label", "pod", "web", "again=yes")
    renewed = world.get("node", "worker")["status"]["nodeInfo"]
    assert renewed["containerRuntimeVersion"].startswith("docker://")
    second = make_pod("second", container("main"))
    world.kubectl("create", "-f", "-", stdin=json.dumps(second))
    until(lambda: len(world.containers()) == 5, 30, "the new kubelet does not act")
    assert set(before) < set(world.containers())
    assert world.get("pod", "web")["status"]["containerStatuses"][0]["restartCount"] == 0
    assert world.kubelet.stop() == 0, world.kubelet.said()
    assert world.containers() == [] and "refk8s-" not in world.host.docker("network", "ls")


def _streams_reach_the_pod(world: World) -> None:
    """STREAM-8, STREAM-11, STREAM-14, STREAM-17, KUBELET-101: all through the kubelet's port."""
    assert world.kubectl("logs", "web") == "begun"
    assert world.kubectl("exec", "web", "--", "cat", "/www/x") == "it works"
    assert world.kubectl("exec", "-i", "web", "--", "cat", stdin="from here") == "from here"
    path = "/api/v1/namespaces/default/pods/web/proxy/x"
    assert world.kubectl("get", "--raw", path) == "it works"
    summary = json.loads(world.kubectl("get", "--raw", "/api/v1/nodes/worker/proxy/stats/summary"))
    [measured] = summary["pods"]
    [main] = measured["containers"]
    assert main["cpu"]["usageCoreNanoSeconds"] > 0 and main["memory"]["workingSetBytes"] > 0
    assert world.kubectl("top", "pod", "web", "--no-headers").split()[0] == "web"
    assert world.kubectl("top", "nodes", "--no-headers").split()[0] == "worker"
    image = world.get("pod", "web")["spec"]["containers"][0]["image"]
    command = ("--", "sh", "-c", "busybox ps -o args; exec sleep 1000")
    options = ("--target=main", f"--image={image}", "--image-pull-policy=IfNotPresent")
    world.kubectl("debug", "web", "-c", "debugger", "--profile=general", *options, *command)

    def runs() -> bool:
        found = world.get("pod", "web")["status"].get("ephemeralContainerStatuses", ())
        return any("running" in each["state"] for each in found)

    until(runs, 20, "the ephemeral container does not run")
    until(lambda: "httpd -f" in world.kubectl("logs", "web", "-c", "debugger"), 10, "no process")
