"""Three Docker hosts with two families of addresses: Services by addresses of IPv6 and by name,
routes and a tunnel, and a network policy. Rules ROUTE-9 (spec/node_network.md), RT-45
(spec/runtime.md), NET-24, POLICY-16, DNS-2, KUBELET-119."""

import json
from collections.abc import Callable, Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
from docker_host import IMAGE, missing_tools, until
from docker_nodes import DockerNodes
from process_world import Process
from test_docker_nodes import SERVER
from test_node_join import Machine, commands, is_ready

LINKS6 = {1: "fd00:192", 2: "fd00:198"}
FLAGS = (
    " --service-cluster-ip-range 10.97.0.0/16,fd00:10:96::/112"
    " --cluster-cidr 10.244.0.0/16,fd00:10:244::/48"
)
NODE_PORT = 30096


def with_ipv6(nodes: DockerNodes) -> None:
    """Addresses of IPv6 for the switch and the nodes."""
    for number, prefix in LINKS6.items():
        nodes.switch.ip(f"addr add {prefix}::1/64 dev link{number} nodad")
    nodes.switch.run("sysctl", "-qw", "net.ipv6.conf.all.forwarding=1")
    for node in nodes.nodes:
        prefix = LINKS6[node.link]
        node.ip(
            f"addr add {prefix}::{10 + node.number:x}/64 dev node0 nodad",
            f"route add default via {prefix}::1",
        )


def objects() -> Iterator[dict[str, Any]]:
    labels = {"app": "web"}
    server = {
        "name": "server", "image": IMAGE, "imagePullPolicy": "IfNotPresent",
        "command": ["/bin/sh", "-c", SERVER], "readinessProbe": {"tcpSocket": {"port": 8080}},
    }  # fmt: skip
    yield {
        "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "web"},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"terminationGracePeriodSeconds": 1, "containers": [server]},
            },
        },
    }  # fmt: skip
    for name, more in (
        ("web", {"ipFamilyPolicy": "RequireDualStack", "type": "NodePort"}),
        ("six", {"ipFamilies": ["IPv6"]}),
        ("each", {"ipFamilyPolicy": "RequireDualStack", "clusterIP": "None"}),
    ):
        port: dict[str, Any] = {"port": 80, "targetPort": 8080}
        if name == "web":
            port["nodePort"] = NODE_PORT
        spec = {"selector": labels, "ports": [port], **more}
        yield {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


class Application:
    """The cluster with a web server on each node."""

    def __init__(self, nodes: DockerNodes, directory: Path) -> None:
        self.nodes = nodes
        self.machines = [
            Machine(node, directory / f"home-{number}", f"host-{number}")
            for number, node in enumerate(nodes.nodes, start=1)
        ]
        self.first = self.machines[0]
        self.processes: list[Process] = []
        self.pods: dict[str, Any] = {}  # by the name of the node

    def start(self) -> None:
        run, create_token = commands()
        self.processes.append(self.first.process("run", run + FLAGS).start())
        line = self.first.run(create_token)
        self.processes += [machine.process("join", line).begin() for machine in self.machines[1:]]
        for process in self.processes[1:]:
            process.wait_until_ready()
        for machine in self.machines:
            until(lambda machine=machine: is_ready(self.first, machine.name), 60, machine.name)
        for obj in objects():
            self.apply(obj)
        self.first.run("kubectl rollout status daemonset/web --timeout=90s")
        for pod in self.first.get("pods", "-l", "app=web")["items"]:
            self.pods[pod["spec"]["nodeName"]] = pod

    def apply(self, obj: dict[str, Any]) -> None:
        file = self.first.home / "object.json"
        file.write_text(json.dumps(obj))
        self.first.run(f"kubectl apply -f {file}")

    def in_pod(self, node: str, script: str) -> str:
        """What a shell in the pod of this node prints; empty if it fails."""
        name = self.pods[node]["metadata"]["name"]
        file = self.first.home / "script"
        file.write_text(script)
        return self.first.run(f"kubectl exec {name} -- sh -c '{script}'", code=None)

    def ask(self, node: str, host: str) -> tuple[str, str]:
        """(the pod that answers the pod of this node, the address that it saw)."""
        answer = self.in_pod(node, f"wget -q -O- http://{host}/cgi-bin/who 2> /dev/null; true")
        name, _, seen = answer.partition(" ")
        return name, seen.strip("[]").removeprefix("::ffff:")

    def addresses(self, node: str) -> list[str]:
        return [entry["ip"] for entry in self.pods[node]["status"]["podIPs"]]

    def stop(self) -> None:
        for process in reversed(self.processes):
            process.stop()


def eventually(check: Callable[[], bool], words: str) -> None:
    until(check, 15, words)


@pytest.fixture(scope="module")
def application(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Application]:
    missing = missing_tools()
    if missing:
        pytest.fail(f"the Docker tests need {', '.join(missing)}")
    with DockerNodes((1, 1, 2)) as nodes:
        with_ipv6(nodes)
        application = Application(nodes, tmp_path_factory.mktemp("dual"))
        try:
            application.start()
            yield application
        finally:
            application.stop()


# These tests tell one story, in this order.


def test_rt_45_kubelet_119_nodes_and_pods_have_addresses_of_both_families(
    application: Application,
) -> None:
    for node in application.first.get("nodes")["items"]:
        ranges = [ip_network(text) for text in node["spec"]["podCIDRs"]]
        assert [each.version for each in ranges] == [4, 6]
        own = [e["address"] for e in node["status"]["addresses"] if e["type"] == "InternalIP"]
        assert [ip_address(address).version for address in own] == [4, 6]
        pod = application.pods[node["metadata"]["name"]]
        assert [entry["ip"] for entry in pod["status"]["hostIPs"]] == own
        addresses = application.addresses(node["metadata"]["name"])
        assert [ip_address(a) in of for a, of in zip(addresses, ranges, strict=True)] == [True] * 2
    services = {name: application.first.get("service", name)["spec"] for name in ("web", "six")}
    assert services["web"]["ipFamilies"] == ["IPv4", "IPv6"]
    assert ip_address(services["six"]["clusterIP"]) in ip_network("fd00:10:96::/112")


def test_route_9_pods_reach_each_other_by_ipv6_and_see_who_asks(application: Application) -> None:
    """By routes where nodes share a link, else through the tunnel."""
    for node in application.pods:
        for other, pod in application.pods.items():
            host = f"[{application.addresses(other)[1]}]:8080"
            expected = (pod["metadata"]["name"], application.addresses(node)[1])
            eventually(
                lambda node=node, host=host, expected=expected: (
                    application.ask(node, host) == expected
                ),
                f"{node} does not reach {other} at {host}",
            )
    first, second, far = application.machines
    routes = first.node.sh("ip", "-6", "route")
    assert f"via fd00:192::{10 + second.node.number:x} dev node0" in routes and "dev rfkv" in routes
    assert far.name == "host-3"


def test_net_24_a_service_of_ipv6_is_reached_by_address_by_name_and_by_node_port(
    application: Application,
) -> None:
    names = {pod["metadata"]["name"] for pod in application.pods.values()}
    web = application.first.get("service", "web")["spec"]["clusterIPs"]
    for node in application.pods:
        for host in (web[0], f"[{web[1]}]", "six", "six.default.svc.cluster.local"):
            found = {application.ask(node, host)[0] for _ in range(4)}
            assert found and found <= names, (node, host, found)
    answer = application.in_pod("host-2", "busybox nslookup six.default.svc.cluster.local; true")
    assert application.first.get("service", "six")["spec"]["clusterIP"] in answer
    listed = application.in_pod("host-2", "busybox nslookup each.default.svc.cluster.local; true")
    assert all(ip in listed for node in application.pods for ip in application.addresses(node))
    for machine in application.machines:
        node = machine.node
        url = f"http://[{LINKS6[node.link]}::{10 + node.number:x}]:{NODE_PORT}/cgi-bin/who"
        curl = ["curl", "-sf", "-m", "3", "--retry", "5", "--retry-connrefused", url]
        assert application.nodes.switch.run(*curl).split()[0] in names


def is_refused(application: Application, script: str) -> bool:
    """Whether the script, which the shell may call "Terminated", prints "no"."""
    return application.in_pod("host-1", script).split()[:1] == ["no"]


def test_policy_16_an_isolated_pod_is_not_reached_by_ipv6(application: Application) -> None:
    web = application.first.get("service", "web")["spec"]["clusterIPs"][1]
    application.apply(
        {
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "no"},
            "spec": {"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Ingress"]},
        }
    )  # fmt: skip
    other = f"[{application.addresses('host-3')[1]}]:8080"
    short = f"busybox timeout 2 wget -q -O- http://{other}/cgi-bin/who || echo no"
    eventually(lambda: is_refused(application, short), "it is still reached")
    block = {"ipBlock": {"cidr": "fd00:10:244::/48"}}
    application.apply(
        {
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "yes"},
            "spec": {"podSelector": {"matchLabels": {"app": "web"}}, "ingress": [{"from": [block]}]},
        }
    )  # fmt: skip
    name = application.pods["host-3"]["metadata"]["name"]
    eventually(lambda: application.ask("host-1", other)[0] == name, "the block does not allow it")
    four = f"{application.addresses('host-3')[0]}:8080"
    short = f"busybox timeout 2 wget -q -O- http://{four}/cgi-bin/who || echo no"
    assert is_refused(application, short)
    assert application.ask("host-1", f"[{web}]")[0]
    application.first.run("kubectl delete networkpolicy no yes")
