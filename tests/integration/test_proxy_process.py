"""`refk8s proxy` as a process: rules of a machine whose pods are of another program. Rule PROC-8
(spec/processes.md)."""

import json
import subprocess
import sys
from pathlib import Path

from docker_host import until
from net_world import NODE, World, ask, needs_kernel_rules
from process_world import Process, kubectl

ADDRESS, ADDRESS6, PORT = "10.96.7.7", "fd00:10:96::7", 16443
RANGES = "10.96.0.0/12,fd00:10:96::/112"
OBJECTS = [
    {
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {
            "clusterIP": ADDRESS, "clusterIPs": [ADDRESS, ADDRESS6], "ports": [{"port": 80, "targetPort": 8080}],
            "ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv4", "IPv6"],
        },
    },
    {
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
        "ports": [{"port": 8080, "protocol": "TCP", "name": ""}],
        "endpoints": [{"addresses": ["10.244.77.2"]}, {"addresses": ["10.244.77.3"]}],
    },
    {
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv6",
        "metadata": {"name": "web-2", "labels": {"kubernetes.io/service-name": "web"}},
        "ports": [{"port": 8080, "protocol": "TCP", "name": ""}],
        "endpoints": [{"addresses": ["fd00:244::2"]}, {"addresses": ["fd00:244::3"]}],
    },
]  # fmt: skip
A_NODE = {
    "apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"},
    "spec": {"podCIDR": "10.244.77.0/24", "podCIDRs": ["10.244.77.0/24", "fd00:244::/64"]},
}  # fmt: skip


A_POLICY = {
    "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "one"},
    "spec": {"podSelector": {}},
}  # fmt: skip


class InNode(Process):
    """A command of refk8s in the namespace of the world's node."""

    def __init__(self, world: World, directory: Path, name: str, *arguments: str) -> None:
        super().__init__(directory, name, *arguments)
        self.command = ["nsenter", f"--net=/var/run/netns/{world.node.name}", *self.command]


def test_proc_8_the_rules_follow_services_and_end_with_the_process(
    tmp_path: Path, monkeypatch
) -> None:
    needs_kernel_rules()
    world = World(pods=2)
    processes: list[Process] = []
    try:
        kubeconfig = tmp_path / "kubeconfig"
        flags = ("--store", "memory", "--bind", NODE, "--port", str(PORT))
        flags = (*flags, "--service-cluster-ip-range", RANGES)
        processes.append(
            InNode(
                world, tmp_path, "apiserver", "apiserver", *flags,
                "--data-dir", str(tmp_path / "data"), "--kubeconfig", str(kubeconfig),
            ).start()
        )  # fmt: skip

        def apply(obj: object) -> None:
            file = tmp_path / "object.json"
            file.write_text(json.dumps(obj))
            world.node.do(lambda: kubectl(kubeconfig, "apply", "-f", str(file)))

        def tables() -> str:
            return world.node.run("nft", "list", "tables")

        proxy_flags = ("--kubeconfig", str(kubeconfig), "--node-name", "n1")
        proxy = InNode(world, tmp_path, "proxy", "proxy", *proxy_flags).start()
        processes.append(proxy)
        for obj in OBJECTS:
            apply(obj)
        until(lambda: "n1 has no podCIDR" in proxy.said() or "not return" in proxy.said(), 10, "")
        assert not tables()
        apply(A_NODE)
        client = world.pods["10.244.77.2"]
        until(lambda: client.do(lambda: ask(ADDRESS, 80))[0].startswith("10."), 15, "no rules")
        answers = {client.do(lambda: ask(ADDRESS, 80))[0] for _ in range(30)}
        assert answers == {"10.244.77.2", "10.244.77.3"}
        answers6 = {client.do(lambda: ask(ADDRESS6, 80))[0] for _ in range(30)}
        assert answers6 == {"fd00:244::2", "fd00:244::3"}
        url = proxy.said().partition("health at ")[2].split()[0]
        assert world.node.run("curl", "-s", url) == "ok"
        metrics = world.node.run("curl", "-s", url.replace("/healthz", "/metrics"))
        assert "rest_client_requests_total" in metrics
        direct = ("10.244.77.3", 8080, 0.3)
        direct6 = ("fd00:244::3", 8080, 0.3)
        for one in (direct, direct6):
            assert client.do(lambda one=one: ask(*one))[0] == one[0]
        apply(A_POLICY)  # no pod of the API has the addresses, so they are held (POLICY-10)
        for one in (direct, direct6):
            until(lambda one=one: client.do(lambda: ask(*one))[0] == "nothing", 10, "not enforced")
        world.node.do(lambda: kubectl(kubeconfig, "delete", "networkpolicy", "one"))
        until(lambda: client.do(lambda: ask(*direct))[0] == "10.244.77.3", 10, "enforced")
        # its end removes the rules; one with --keep leaves them, and the next takes them over
        assert proxy.stop() == 0 and not tables()
        keeping = InNode(world, tmp_path, "keeping", "proxy", *proxy_flags, "--keep").start()
        processes.append(keeping)
        until(tables, 15, "no rules")
        assert keeping.stop() == 0 and tables()
        assert client.do(lambda: ask(ADDRESS, 80))[0] in answers
        again = InNode(world, tmp_path, "again", "proxy", *proxy_flags).start()
        processes.append(again)
        assert again.stop() == 0 and not tables()
    finally:
        for process in reversed(processes):
            if process.process.poll() is None:
                process.kill()
        world.close()


def test_proc_8_a_range_that_is_none_is_refused(tmp_path: Path) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(json.dumps({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
    }))  # fmt: skip
    command = [sys.executable, "-m", "refk8s.cli.main", "proxy", "--kubeconfig", str(kubeconfig)]
    done = subprocess.run([*command, "--pod-cidr", "x"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "refk8s: --pod-cidr x: not a range such as 10.244.1.0/24\n"
