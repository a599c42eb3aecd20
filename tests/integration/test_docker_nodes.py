"""Pods on several nodes reach each other by pod address and by service address, and see the
addresses of those that ask."""

import ctypes
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from docker_host import IMAGE, until
from docker_nodes import DockerNode, DockerNodes

from refk8s.adapters.linux.kernel_rules import KernelRules
from refk8s.adapters.linux.netlink import set_hairpin
from refk8s.adapters.linux.node_network import KernelNetwork
from refk8s.core.network.node_routes import AUTO
from refk8s.core.ports import Rule, RuleSet, Target
from refk8s.core.ports.node_network import NodeNetwork, Peer

CLONE_NEWNET = 0x40000000
SERVICE = "10.96.0.80"
# CGI shows the address of the client
SERVER = (
    "busybox mkdir -p /www/cgi-bin; printf '#!/bin/sh\\necho; "
    "echo $(hostname) $REMOTE_ADDR\\n' > /www/cgi-bin/who; busybox chmod +x /www/cgi-bin/who; "
    "exec httpd -f -p 8080 -h /www"
)


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
    """A web server on each node, at the second address of the node's range, and what the node does
    for it: routes and service rules."""

    def __init__(self, nodes: DockerNodes, mode: str = AUTO) -> None:
        self.nodes = nodes.nodes
        self.switch = nodes.switch
        self.addresses = {node.name: f"10.244.{node.number}.2" for node in self.nodes}
        self.rules = {node.name: self.make_rules(node) for node in self.nodes}
        self.networks = {node.name: self.make_network(node, mode) for node in self.nodes}
        self.before = {node.name: self.host_state(node) for node in self.nodes}

    def make_rules(self, node: DockerNode) -> KernelRules:
        return KernelRules(node.node_ip, range_of(node), f"bench{node.number}")

    def make_network(self, node: DockerNode, mode: str = AUTO) -> KernelNetwork:
        return KernelNetwork(f"bench{node.number}", "pods0", node.node_ip, mode)

    def host_state(self, node: DockerNode) -> list[str]:
        """What the node's kernel has, without counters, indexes and states."""
        texts = [node.sh("ip", "route"), node.sh("ip", "-br", "link"), node.sh("iptables-save")]
        lines = [line.split("[")[0] for text in texts for line in text.splitlines()]
        state = [line for line in lines if not line.startswith("#") and "docker0" not in line]
        return sorted([*state, node.sh("nft", "list", "tables")])

    def network_of(self, node: DockerNode, without: str = "") -> NodeNetwork:
        peers = [
            Peer(other.name, range_of(other), other.node_ip)
            for other in self.nodes
            if other is not node and other.name != without
        ]
        return NodeNetwork(range_of(node), node.node_ip, tuple(peers))

    def start(self) -> None:
        with ThreadPoolExecutor(len(self.nodes)) as threads:
            list(threads.map(self.start_pod, self.nodes))
        targets = tuple(sorted(Target(address, 8080) for address in self.addresses.values()))
        rules = RuleSet({"default/web": (Rule(SERVICE, "TCP", 80, targets),)})
        for node in self.nodes:
            on_node(node, lambda node=node: self.rules[node.name].program_now(rules))
            on_node(node, lambda: set_hairpin("pods0"))
            network = self.network_of(node)
            on_node(node, lambda node=node, network=network: self.program(node, network))

    def program(self, node: DockerNode, network: NodeNetwork) -> None:
        self.networks[node.name].program_now(network)

    def start_pod(self, node: DockerNode) -> None:
        node.docker(
            "network", "create", "-d", "bridge", "--subnet", range_of(node),
            "-o", "com.docker.network.bridge.enable_ip_masquerade=false",
            "-o", "com.docker.network.bridge.name=pods0", "pods",
        )  # fmt: skip
        node.docker(
            "run", "-d", "--network", "pods", "--ip", self.addresses[node.name],
            "--hostname", node.name, "--name", "web", IMAGE, "/bin/sh", "-c", SERVER,
        )  # fmt: skip

    def ask(self, node: DockerNode, address: str) -> tuple[str, str]:
        """(the server that answers the pod of this node, the address of the client that it saw)."""
        return self.ask_often(node, address, 1)[0]

    def ask_often(self, node: DockerNode, address: str, times: int) -> list[tuple[str, str]]:
        loop = f"for n in $(busybox seq {times}); do wget -q -O- http://{address}/cgi-bin/who; done"
        answers = node.docker("exec", "web", "/bin/sh", "-c", loop).splitlines()
        assert len(answers) == times
        return [read_answer(answer) for answer in answers]

    def all_reach_all(self) -> None:
        for node in self.nodes:
            for other in self.nodes:
                address = f"{self.addresses[other.name]}:8080"
                expected = (other.name, self.addresses[node.name])
                until(
                    lambda node=node, address=address, expected=expected: (
                        self.ask(node, address) == expected
                    ),
                    5,
                    f"{node.name} does not reach {other.name}",
                )

    def stop(self) -> None:
        for node in self.nodes:
            on_node(node, self.rules[node.name].remove)
            on_node(node, self.networks[node.name].remove)
            node.docker("rm", "-f", "web")
            node.docker("network", "rm", "pods")


def range_of(node: DockerNode) -> str:
    return f"10.244.{node.number}.0/24"


def read_answer(answer: str) -> tuple[str, str]:
    name, _, seen = answer.partition(" ")
    return name, seen.strip("[]").removeprefix("::ffff:")


@pytest.fixture(scope="module")
def pods(docker_nodes: DockerNodes) -> Iterator[Pods]:
    pods = Pods(docker_nodes)
    pods.start()
    yield pods
    pods.stop()


def test_pods_reach_each_other_by_address_and_see_who_asks(pods: Pods) -> None:
    """ROUTE-1, ROUTE-4: by routes through the nodes, since they share a link."""
    pods.all_reach_all()
    for node in pods.nodes:
        assert "rfkv" not in node.sh("ip", "link")


def test_pods_reach_a_service_whose_pods_are_on_all_nodes(pods: Pods) -> None:
    for node in pods.nodes:
        answers = pods.ask_often(node, SERVICE, 24)
        assert set(Counter(name for name, _ in answers)) == {other.name for other in pods.nodes}
        for name, seen in answers:
            # a pod that is chosen for its own request sees the node (NET-15)
            mine = f"10.244.{node.number}.1" if name == node.name else pods.addresses[node.name]
            assert seen == mine


def test_route_4_a_machine_that_is_no_node_sees_the_address_of_the_node(pods: Pods) -> None:
    node = pods.nodes[0]
    server = pods.switch.popen("busybox", "nc", "-l", "-p", "7070", "-e", "busybox", "netstat", "-tn", stdout=subprocess.PIPE)  # fmt: skip
    try:
        seen = until(
            lambda: node.docker("exec", "web", "/bin/sh", "-c", "echo | nc 192.0.2.1 7070; true"),
            5,
            "no answer",
        )
    finally:
        server.kill()
        server.wait()
    assert f"{node.node_ip}:" in seen and "10.244." not in seen


def test_route_6_only_packets_of_the_cluster_are_forwarded_where_others_are_dropped(
    pods: Pods,
) -> None:
    target = pods.addresses[pods.nodes[1].name]
    pods.switch.ip(f"route add 10.244.0.0/16 via {pods.nodes[1].node_ip}")
    curl = ["curl", "-s", "-m", "1", f"http://{target}:8080/cgi-bin/who"]

    def is_reached() -> bool:
        return subprocess.run([*pods.switch.inside, *curl], capture_output=True).returncode == 0

    for node in pods.nodes:
        node.sh("iptables", "-P", "FORWARD", "DROP")
    try:
        assert not is_reached()
        pods.all_reach_all()
        for node in pods.nodes:
            names = {name for name, _ in pods.ask_often(node, SERVICE, 12)}
            assert names - {node.name}
            # a node reaches the pods of another
            answer = node.curl(f"http://{target}:8080/cgi-bin/who")
            assert read_answer(answer)[0] == pods.nodes[1].name
    finally:
        for node in pods.nodes:
            node.sh("iptables", "-P", "FORWARD", "ACCEPT")
        pods.switch.ip("route del 10.244.0.0/16")


def test_route_5_a_later_process_changes_only_what_differs(pods: Pods) -> None:
    node, gone = pods.nodes[0], pods.nodes[2]
    node.ip("route add 10.99.0.0/24 via 192.0.2.12 proto 97")  # of another program
    later = pods.make_network(node)
    with subprocess.Popen(
        [*node.inside, "ip", "monitor", "route"], stdout=subprocess.PIPE, text=True
    ) as monitor:
        until(lambda: "monitor" in (node.sh("ps", "-C", "ip", "-o", "args") or "monitor"), 1, "")
        on_node(node, lambda: later.program_now(pods.network_of(node)))
        assert f"10.244.{gone.number}.0/24 via {gone.node_ip}" in node.sh("ip", "route")
        on_node(node, lambda: later.program_now(pods.network_of(node, without=gone.name)))
        monitor.terminate()
        assert monitor.stdout is not None
        changes = [line for line in monitor.stdout if "10.244." in line]
    assert len(changes) == 1 and changes[0].startswith(f"Deleted 10.244.{gone.number}.0/24")
    assert "10.99.0.0/24" in node.sh("ip", "route")
    node.ip("route del 10.99.0.0/24")
    on_node(node, lambda: later.program_now(pods.network_of(node)))
    pods.all_reach_all()


def test_route_1_route_7_route_8_nodes_on_different_links_use_a_tunnel() -> None:
    """The third node is on a link of its own, to which the switch forwards packets."""
    with DockerNodes((1, 1, 2)) as nodes:
        pods = Pods(nodes)
        pods.start()
        pods.all_reach_all()
        first, _, far = pods.nodes
        assert f"{range_of(far)} via 10.244.{far.number}.0 dev rfkv" in first.sh("ip", "route")
        # nothing but the tunnel leads there
        assert "10.244." not in pods.switch.run("ip", "route")
        large = "busybox dd if=/dev/zero of=/www/large bs=1000 count=300 2> /dev/null"
        far.docker("exec", "web", "/bin/sh", "-c", large)
        url = f"http://{pods.addresses[far.name]}:8080/large"
        count = first.docker("exec", "web", "/bin/sh", "-c", f"wget -q -O- {url} | busybox wc -c")
        assert count == "300000"
        names = Counter(name for name, _ in pods.ask_often(first, SERVICE, 24))
        assert set(names) == {node.name for node in pods.nodes}
        pods.stop()
        for node in pods.nodes:
            assert pods.host_state(node) == pods.before[node.name]
