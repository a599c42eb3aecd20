"""Pods on several nodes reach each other by pod address and by service address, and see the
addresses of those that ask."""

import ctypes
import threading
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from docker_host import IMAGE, until
from docker_nodes import DockerNode, DockerNodes

from refk8s.adapters.linux.kernel_rules import KernelRules
from refk8s.adapters.linux.netlink import set_hairpin
from refk8s.core.ports import Rule, RuleSet, Target

CLONE_NEWNET = 0x40000000
SERVICE = "10.96.0.80"
# CGI shows the address of the client
SERVER = "busybox mkdir -p /www/cgi-bin; printf '#!/bin/sh\\necho; echo $(hostname) $REMOTE_ADDR\\n' > /www/cgi-bin/who; busybox chmod +x /www/cgi-bin/who; exec httpd -f -p 8080 -h /www"


def on_node(node: DockerNode, work: Callable[[], object]) -> None:
    """Do it in the namespace of the node, and wait."""
    problems: list[BaseException] = []

    def run() -> None:
        try:
            with open(f"/var/run/netns/{node.namespace}") as file:
                assert ctypes.CDLL(None).setns(file.fileno(), CLONE_NEWNET) == 0
            work()
        except BaseException as error:
            problems.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if problems:
        raise problems[0]


class Pods:
    """A web server on each node, at the second address of the node's range."""

    def __init__(self, nodes: DockerNodes) -> None:
        self.nodes = nodes.nodes
        self.addresses = {node.name: f"10.244.{node.number}.2" for node in self.nodes}
        self.rules = {node.name: self.make_rules(node) for node in self.nodes}

    def make_rules(self, node: DockerNode) -> KernelRules:
        return KernelRules(node.node_ip, f"10.244.{node.number}.0/24", f"bench{node.number}")

    def start(self) -> None:
        for node in self.nodes:
            cidr = f"10.244.{node.number}.0/24"
            node.docker(
                "network", "create", "-d", "bridge", "--subnet", cidr,
                "-o", "com.docker.network.bridge.enable_ip_masquerade=false",
                "-o", "com.docker.network.bridge.name=pods0", "pods",
            )  # fmt: skip
            node.docker(
                "run", "-d", "--network", "pods", "--ip", self.addresses[node.name],
                "--hostname", node.name, "--name", "web", IMAGE, "/bin/sh", "-c", SERVER,
            )  # fmt: skip
            node.ip(*[
                f"route add 10.244.{other.number}.0/24 via {other.node_ip}"
                for other in self.nodes if other is not node
            ])  # fmt: skip
        targets = tuple(sorted(Target(address, 8080) for address in self.addresses.values()))
        rules = RuleSet({"default/web": (Rule(SERVICE, "TCP", 80, targets),)})
        for node in self.nodes:
            on_node(node, lambda node=node: self.rules[node.name].program_now(rules))
            on_node(node, lambda: set_hairpin("pods0"))

    def ask(self, node: DockerNode, address: str) -> tuple[str, str]:
        """(the server that answers the pod of this node, the address of the client that it saw)."""
        answer = node.docker("exec", "web", "wget", "-q", "-O-", f"http://{address}/cgi-bin/who")
        name, _, seen = answer.partition(" ")
        return name, seen.strip("[]").removeprefix("::ffff:")

    def stop(self) -> None:
        for node in self.nodes:
            on_node(node, self.rules[node.name].remove)
            node.docker("rm", "-f", "web")
            node.docker("network", "rm", "pods")
            for other in self.nodes:
                if other is not node:
                    node.ip(f"route del 10.244.{other.number}.0/24")


@pytest.fixture(scope="module")
def pods(docker_nodes: DockerNodes) -> Iterator[Pods]:
    pods = Pods(docker_nodes)
    pods.start()
    yield pods
    pods.stop()


def test_pods_reach_each_other_by_address_and_see_who_asks(pods: Pods) -> None:
    for node in pods.nodes:
        for other in pods.nodes:
            address = f"{pods.addresses[other.name]}:8080"
            until(
                lambda node=node, other=other, address=address: (
                    pods.ask(node, address) == (other.name, pods.addresses[node.name])
                ),
                5,
                f"{node.name} does not reach {other.name}",
            )


def test_pods_reach_a_service_whose_pods_are_on_all_nodes(pods: Pods) -> None:
    for node in pods.nodes:
        answers = [pods.ask(node, SERVICE) for _ in range(24)]
        assert set(Counter(name for name, _ in answers)) == {other.name for other in pods.nodes}
        for name, seen in answers:
            # a pod that is chosen for its own request sees the node (NET-15)
            mine = f"10.244.{node.number}.1" if name == node.name else pods.addresses[node.name]
            assert seen == mine
