"""Machines join a cluster and leave it, with the commands of the README. Rules TRUST-5, TRUST-8,
TRUST-9, TRUST-11 to TRUST-15 (spec/trust.md)."""

import json
import os
import re
import shlex
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from docker_host import container, kubectl_path, make_pod, until
from docker_nodes import DockerNode, DockerNodes
from process_world import Process

BIN = Path(sys.executable).parent
README = Path(__file__).parents[2] / "README.md"


def commands() -> list[str]:
    """The commands of the README, without comments."""
    [block] = re.findall(r"test_node_join\.py.*?```sh\n(.*?)```", README.read_text(), re.S)
    return [line.partition("#")[0].strip() for line in block.splitlines()]


class Machine:
    """A host with an engine, its own name and its own home directory."""

    def __init__(self, node: DockerNode, home: Path, name: str) -> None:
        self.node, self.home, self.name = node, home, name
        home.mkdir()
        self.environment = {
            "HOME": str(home), "DOCKER_HOST": node.address, "PATH": f"{BIN}:{os.environ['PATH']}",
            "KUBECONFIG": "",
        }  # fmt: skip
        script = f'hostname {name}; exec "$@"'
        self.inside = [*node.inside, "unshare", "--uts", "sh", "-c", script, "-"]

    def process(self, name: str, line: str) -> Process:
        """A command line of refk8s as a process."""
        program, *arguments = shlex.split(line)
        assert program == "refk8s"
        return Process(self.home, name, *arguments, inside=self.inside, **self.environment)

    def run(self, line: str, code: int | None = 0) -> str:
        """What a command line prints. `code`: its exit status, if that matters."""
        program, *arguments = shlex.split(line)
        command = [sys.executable, "-m", "refk8s.cli.main", *arguments]
        if program == "kubectl":
            command = [
                kubectl_path() or "",
                "--kubeconfig",
                f"{self.home}/.refk8s/kubeconfig",
                *arguments,
            ]
        done = subprocess.run(
            [*self.inside, *command], env={**os.environ, **self.environment},
            capture_output=True, text=True,
        )  # fmt: skip
        assert code is None or done.returncode == code, done.stdout + done.stderr
        return (done.stdout + done.stderr).strip()

    def get(self, *what: str) -> Any:
        return json.loads(self.run(f"kubectl get {' '.join(what)} -o json"))

    def footprint(self) -> dict[str, str]:
        """What a node changes of its machine (TRUST-15)."""
        own = {
            "containers": self.node.docker("ps", "-a", "--no-trunc", "-q"),
            "networks": self.node.docker("network", "ls", "--no-trunc", "-q"),
            "volumes": self.node.docker("volume", "ls", "-q"),
            "links": self.node.sh("ip", "-br", "link"),
            "routes": self.node.sh("ip", "route", "show", "table", "all"),
            "rules": self.node.sh("ip", "rule"),
            "nft": self.node.sh("nft", "list", "ruleset"),
            "iptables": self.node.sh("iptables-save"),
        }
        counters = re.compile(r"packets \d+ bytes \d+|\[\d+:\d+\]|^#.*$", re.M)
        mounts = Path("/proc/mounts").read_text().splitlines()
        own["mounts"] = "\n".join(line for line in mounts if str(self.home) in line)
        return {name: counters.sub("", text) for name, text in own.items()}

    def containers(self) -> list[str]:
        return sorted(self.node.containers("-a", "--filter", "label=refk8s.pod-uid"))


@pytest.fixture
def machines(docker_nodes: DockerNodes, tmp_path: Path) -> Iterator[list[Machine]]:
    yield [
        Machine(node, tmp_path / f"home-{number}", f"host-{number}")
        for number, node in enumerate(docker_nodes.nodes[:2], start=1)
    ]


def is_ready(machine: Machine, name: str) -> bool:
    found = [each for each in machine.get("nodes")["items"] if each["metadata"]["name"] == name]
    conditions = found[0]["status"].get("conditions", ()) if found else ()
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def check_policy(first: Machine, second: Machine) -> None:
    """POLICY-1: the node that has joined judges packets by the labels of a pod of the first."""
    peer = {"podSelector": {"matchLabels": {"app": "client"}}}
    policy = {
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "web"},
        "spec": {"podSelector": {"matchLabels": {"app": "web"}}, "ingress": [{"from": [peer]}]},
    }  # fmt: skip
    (first.home / "policy.json").write_text(json.dumps(policy))
    first.run(f"kubectl create -f {first.home}/policy.json")
    until(lambda: "refk8s_policy_" in second.node.sh("nft", "list", "tables"), 15, "no table")
    connect = "nc -w 1 web 80 < /dev/null 2> /dev/null && echo open; true"
    command = f'kubectl exec client -- sh -c "{connect}"'
    assert first.run(command) == "open"
    first.run("kubectl label pod client app=stranger --overwrite")
    until(lambda: first.run(command) == "", 10, "it is not enforced")
    first.run("kubectl delete networkpolicy web")
    until(lambda: first.run(command) == "open", 10, "it is enforced after its end")


def check_leaving(first: Machine, second: Machine, data: Path, untouched: dict[str, str]) -> None:
    """TRUST-15: the second machine leaves with a copy of the administrator's kubeconfig."""
    # Shows TRUST-15.b, TRUST-15.c, TRUST-15.d.
    refused = second.run(f"refk8s node leave --kubeconfig {data}/kubeconfig", 2)
    assert "nothing has been removed" in refused and "forbidden" in refused
    assert second.containers() and (data / "kubeconfig").exists()
    admin = second.home / "admin.conf"
    admin.write_text((first.home / ".refk8s/kubeconfig").read_text())
    assert "127.0.0.1" in admin.read_text()  # where the API server is not, for this machine
    said = second.run(f"refk8s node leave --kubeconfig {admin}")
    assert said == "node host-2 has left the cluster"
    assert [each["metadata"]["name"] for each in first.get("nodes")["items"]] == ["host-1"]
    assert not data.exists()
    assert second.footprint() == untouched


def test_trust_11_a_machine_joins_with_the_printed_command_and_leaves(
    machines: list[Machine],
) -> None:
    # Shows TRUST-12.a, TRUST-12.c, TRUST-14.a, TRUST-15.a.
    first, second = machines
    run, create_token = commands()
    cluster = first.process("run", run).start()
    joined = None
    try:
        line = first.run(create_token)
        token = shlex.split(line)[shlex.split(line).index("--token") + 1]
        wrong = line.replace("sha256:", "sha256:0")[:-1]
        assert "is not the one of --ca-hash" in second.run(wrong, 2)
        assert "is not signed with this token" in second.run(
            line.replace(token, f"{token[:-4]}0000"), 2
        )
        assert not (second.home / ".refk8s").exists()
        untouched = second.footprint()

        joined = second.process("join", line).start()
        arguments = Path(f"/proc/{joined.process.pid}/cmdline").read_text()
        assert "--token" in arguments and token not in arguments
        until(lambda: is_ready(first, "host-2"), 30, "the node is not ready")
        addresses = first.get("node host-2")["status"]["addresses"]
        assert {"type": "InternalIP", "address": second.node.node_ip} in addresses
        data = second.home / ".refk8s/node"
        for path in (data / "kubeconfig", *(data / "pki").glob("*.pem")):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path

        script = "echo hello; echo it works > /www/index.html; exec httpd -f -p 8080 -h /www"
        web = make_pod("web", container("main", script), nodeName="host-2")
        client = make_pod("client", container("main"), nodeName="host-1")
        objects = {"apiVersion": "v1", "kind": "List", "items": [web, client]}
        (first.home / "pods.json").write_text(json.dumps(objects))
        first.run(f"kubectl create -f {first.home}/pods.json")
        first.run("kubectl expose pod web --port=80 --target-port=8080")
        for pod in ("web", "client"):
            until(
                lambda pod=pod: first.get(f"pod {pod}")["status"]["phase"] == "Running",
                30,
                "no pod",
            )  # type: ignore[misc]
        before = second.containers()
        until(lambda: (data / "pki/kubelet-server-current.pem").exists(), 20, "no certificate")
        assert first.run("kubectl logs web") == "hello"
        ask = "kubectl exec {} -- wget -q -O- http://{}/"
        until(
            lambda: first.run(ask.format("client", "web"), None) == "it works", 20, "no way to web"
        )
        check_policy(first, second)
        # the node that has joined resolves names too
        assert first.run(ask.format("web", "web.default.svc.cluster.local")) == "it works"

        joined.kill()
        joined = second.process("again", "refk8s node join").start()
        assert "in use by another refk8s" in second.run("refk8s node leave", 2)
        first.run("kubectl label pod web again=yes")
        assert second.containers() == before
        assert first.get("pod web")["status"]["containerStatuses"][0]["restartCount"] == 0

        joined.kill()  # what it leaves behind is removed too
        check_leaving(first, second, data, untouched)
        assert "has not joined a cluster" in second.run("refk8s node join", 2)
    finally:
        if joined is not None:
            joined.stop()
        cluster.stop()
