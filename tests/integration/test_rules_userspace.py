"""Service rules by this process, where the kernel takes none: in the same small world, without nft.
Rules NET-17, NET-19, NET-20."""

import logging
import os
import socket
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest
import uvloop
from net_world import (
    CLIENT,
    CLUSTER,
    NODE,
    NODE6,
    PODS,
    PODS6,
    ask,
    ask_udp,
    skip_or_fail_on_ci,
    times,
)

from refk8s.adapters.linux.loopback import LoopbackAddresses
from refk8s.adapters.linux.userspace_rules import UserspaceRules
from refk8s.core.ports import Rule, RuleSet, Target


class InLoop:
    """User-space rules in an event loop of their own, in a thread of the node's namespace."""

    def __init__(self, world):
        self.world = world
        self.rules = UserspaceRules(f"{NODE},{NODE6}", f"{PODS},{PODS6}", CLUSTER)
        self._thread = world.node.thread()
        self._loop = uvloop.new_event_loop()
        self._running = self._thread.submit(self._loop.run_forever)

    def program(self, **services):
        answered, words = threading.Event(), []

        def done(error):
            words.append(error)
            answered.set()

        rules = RuleSet({f"ns/{name}": found for name, found in services.items()})
        self._loop.call_soon_threadsafe(self.rules.program, rules, done)
        assert answered.wait(10)
        assert words == [""]

    def close(self):
        self.world.node.do(self.rules.remove)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._running.result(10)
        self._loop.close()
        self._thread.shutdown()


@pytest.fixture
def proxy(world):
    proxy = InLoop(world)
    yield proxy
    proxy.close()
    listed = world.node.run("ip", "addr")
    assert "10.96." not in listed and "fd00:96:" not in listed


@pytest.fixture
def pods(world):
    return tuple(Target(address, 8080) for address in world.pods)


def answering(space, count, address, port, by=ask):
    """The pods that answer so many requests, and how often each."""
    return Counter(pod for pod, _ in times(space, count, address, port, by).elements())


def test_net_20_every_request_is_answered_and_all_endpoints_answer(world, proxy, pods):
    """20 of 20, by cluster IP and node port, by TCP and UDP, from a pod, the node and outside."""
    proxy.program(
        web=(Rule("10.96.0.1", "TCP", 80, pods), Rule("", "TCP", 30080, pods, masquerade=True)),
        dns=(Rule("10.96.0.2", "UDP", 53, pods), Rule("", "UDP", 30053, pods, masquerade=True)),
    )
    for space in (world.pods[pods[0].address], world.node, world.client):
        for address, port, by in (
            ("10.96.0.1", 80, ask),
            (NODE, 30080, ask),
            ("10.96.0.2", 53, ask_udp),
            (NODE, 30053, ask_udp),
        ):
            answers = answering(space, 20, address, port, by) + answering(
                space, 20, address, port, by
            )
            assert set(answers) == set(world.pods), dict(answers)
    assert set(answering(world.node, 40, "127.0.0.1", 30080)) == set(world.pods)


def test_net_20_and_24_both_families_are_served_each_by_its_own_endpoints(world, proxy, pods):
    """By cluster IP and node port, by TCP and UDP, from a pod, the node and outside."""
    pods6 = tuple(Target(address, 8080) for address in world.pods6)
    proxy.program(
        web=(
            Rule("fd00:96::1", "TCP", 80, pods6),
            Rule("::", "TCP", 30080, pods6, masquerade=True),
            Rule("10.96.0.1", "TCP", 80, pods),
            Rule("", "TCP", 30080, pods, masquerade=True),
        ),
        dns=(
            Rule("fd00:96::2", "UDP", 53, pods6),
            Rule("::", "UDP", 30053, pods6, masquerade=True),
            Rule("", "UDP", 30053, pods, masquerade=True),
        ),
    )
    for space in (world.pods[pods[0].address], world.node, world.client):
        for address, port, by in (
            ("fd00:96::1", 80, ask),
            (NODE6, 30080, ask),
            ("fd00:96::2", 53, ask_udp),
            (NODE6, 30053, ask_udp),
        ):
            answers = answering(space, 40, address, port, by)
            assert set(answers) == set(world.pods6), (address, port, dict(answers))
        assert set(answering(space, 40, NODE, 30080)) == set(world.pods)
    assert set(answering(world.node, 40, "::1", 30080)) == set(world.pods6)
    proxy.program(web=(Rule("10.96.0.1", "TCP", 80, pods),))
    assert "fd00:96:" not in world.node.run("ip", "addr")
    assert world.client.do(lambda: ask(NODE6, 30080))[0] == "refused"


def test_net_5_and_20_an_ipv6_client_stays_with_its_endpoint(world, proxy):
    pods6 = tuple(Target(address, 8080) for address in world.pods6)
    proxy.program(web=(Rule("::", "TCP", 30088, pods6, 100, masquerade=True),))
    assert len(answering(world.client, 20, NODE6, 30088)) == 1
    # a client within reaches every endpoint, one from outside only those of the node
    proxy.program(web=(Rule("::", "TCP", 30089, pods6[:1], local=True, inside=pods6),))
    assert set(answering(world.client, 10, NODE6, 30089)) == {pods6[0].address}
    for space in (world.node, world.pods[list(world.pods)[1]]):
        assert set(answering(space, 40, NODE6, 30089)) == set(world.pods6)


def test_net_19_a_later_process_takes_away_the_ipv6_addresses_of_an_earlier_one(world, proxy):
    pods6 = tuple(Target(address, 8080) for address in world.pods6)
    earlier = LoopbackAddresses(CLUSTER)
    other = LoopbackAddresses("c0ffee01-0000")
    world.node.do(lambda: earlier.set(["fd00:96::7"]))
    world.node.do(lambda: other.set(["fd00:97::7"]))
    proxy.program(web=(Rule("fd00:96::8", "TCP", 80, pods6),))
    listed = world.node.run("ip", "addr")
    assert "fd00:96::7" not in listed and "fd00:96::8/128" in listed and "fd00:97::7" in listed
    world.node.do(lambda: UserspaceRules(NODE, PODS, CLUSTER).remove())
    assert "fd00:96:" not in world.node.run("ip", "addr")
    world.node.do(other.remove_all)
    assert "fd00:97:" not in world.node.run("ip", "addr")


def test_net_12_and_20_what_has_no_endpoints_is_refused_and_served_when_it_has(world, proxy, pods):
    for found in ((), pods, ()):
        proxy.program(
            web=(
                Rule("10.96.0.3", "TCP", 80, found),
                Rule("", "TCP", 30081, found, masquerade=True),
            )
        )
        for address, port in ((NODE, 30081), ("10.96.0.3", 80)):
            answer, _ = world.client.do(lambda a=address, p=port: ask(a, p))
            assert answer in (world.pods if found else ["refused"])


def test_net_20_an_endpoint_that_does_not_answer_is_passed_over(world, proxy, pods):
    dead = Target(pods[0].address, 9999)
    proxy.program(web=(Rule("", "TCP", 30082, (dead, pods[1]), masquerade=True),))
    assert answering(world.client, 20, NODE, 30082) == {pods[1].address: 20}


def test_net_5_and_20_a_client_stays_with_its_endpoint_and_leaves_it_when_it_goes(
    world, proxy, pods
):
    def sticky(*targets):
        proxy.program(web=(Rule("", "TCP", 30083, targets, 100, masquerade=True),))

    sticky(*pods)
    [first] = answering(world.client, 10, NODE, 30083)
    sticky(*(target for target in pods if target.address != first))
    [second] = answering(world.client, 10, NODE, 30083)
    sticky(*pods)
    assert set(answering(world.client, 10, NODE, 30083)) == {second}


def test_net_7_and_20_who_is_within_goes_anywhere(world, proxy, pods):
    proxy.program(web=(Rule("", "TCP", 30084, pods[:1], local=True, inside=pods),))
    assert set(answering(world.client, 10, NODE, 30084)) == {pods[0].address}
    for space in (world.node, world.pods[pods[1].address]):
        assert set(answering(space, 40, NODE, 30084)) == set(world.pods)


def test_net_16_and_20_a_udp_client_is_not_held_to_an_endpoint_that_left_but_is_to_one_that_stays(
    world, proxy, pods
):
    proxy.program(dns=(Rule("", "UDP", 30054, pods, masquerade=True),))
    by = lambda address, port: ask_udp(address, port, source_port=5454)  # noqa: E731
    [first] = answering(world.client, 10, NODE, 30054, by)
    proxy.program(
        dns=(
            Rule(
                "",
                "UDP",
                30054,
                tuple(target for target in pods if target.address != first),
                masquerade=True,
            ),
        )
    )
    [second] = answering(world.client, 10, NODE, 30054, by)
    assert second != first


def test_net_20_much_data_passes_both_ways_whole_and_ends_when_the_client_ends(world, proxy, pods):
    """The slower side sets the pace: 8 MB out and in again, while the reader waits."""
    proxy.program(echo=(Rule("", "TCP", 30085, (Target(pods[0].address, 9090),), masquerade=True),))
    data = os.urandom(1 << 20) * 8

    def exchange():
        with socket.create_connection((NODE, 30085), 10) as connection:
            sending = threading.Thread(
                target=lambda: (connection.sendall(data), connection.shutdown(socket.SHUT_WR))
            )
            sending.start()
            received = bytearray()
            while piece := connection.recv(1 << 16):
                received += piece
            sending.join()
            return bytes(received)

    assert world.client.do(exchange) == data + b"." + pods[0].address.encode()


def test_net_20_established_connections_outlive_a_change(world, proxy, pods):
    echo = tuple(Target(target.address, 9090) for target in pods)
    proxy.program(web=(Rule("", "TCP", 30086, echo[:1], masquerade=True),))
    with world.client.do(lambda: socket.create_connection((NODE, 30086), 3)) as connection:
        connection.settimeout(3)
        for found in (echo[1:], ()):
            connection.sendall(b"still")
            assert connection.recv(10) == b"still"
            proxy.program(web=(Rule("", "TCP", 30086, found, masquerade=True),))
        connection.sendall(b"here")
        assert connection.recv(10) == b"here"


def test_net_20_a_port_that_somebody_has_is_said_once_and_had_when_it_is_free(
    world, proxy, pods, caplog
):
    web = (Rule("", "TCP", 30087, pods, masquerade=True),)
    somebody = world.node.do(lambda: socket.create_server(("0.0.0.0", 30087)))
    with somebody, caplog.at_level(logging.WARNING):
        proxy.program(web=web)
        proxy.program(web=web)
    assert len([record for record in caplog.records if "30087" in record.getMessage()]) == 1
    proxy.program(web=web)
    assert world.client.do(lambda: ask(NODE, 30087))[0] in world.pods


def test_net_19_a_later_process_takes_away_what_an_earlier_one_left(world, proxy, pods):
    world.node.run("ip", "addr", "add", "10.96.7.7/32", "dev", "lo", "label", "lo:rfk-c0ffee00")
    world.node.run("ip", "addr", "add", "10.97.7.7/32", "dev", "lo")
    proxy.program(web=(Rule("10.96.7.8", "TCP", 80, pods),))
    listed = world.node.run("ip", "addr")
    assert "10.96.7.7" not in listed and "10.96.7.8/32" in listed and "10.97.7.7" in listed
    world.node.do(proxy.rules.remove)
    assert "10.96." not in world.node.run("ip", "addr")
    world.node.run("ip", "addr", "del", "10.97.7.7/32", "dev", "lo")


def test_net_19_a_process_that_served_nothing_takes_that_away_too(world):
    world.node.run("ip", "addr", "add", "10.96.7.9/32", "dev", "lo", "label", "lo:rfk-c0ffee00")
    world.node.do(lambda: UserspaceRules(NODE, PODS, CLUSTER).remove())
    assert "10.96." not in world.node.run("ip", "addr")


CHOOSE = """
import logging, os, sys
logging.basicConfig(format="%(message)s", stream=sys.stdout)
from refk8s.adapters.linux.service_rules import choose_rules
os.setuid(65534)
print(type(choose_rules("192.0.2.11", "10.244.77.0/24", "c0ffee00")).__name__)
"""


def test_net_17_who_may_not_program_the_kernel_gets_a_proxy_and_one_line_about_it():
    skip_or_fail_on_ci("root, to become another user" if os.geteuid() != 0 else "")
    root = Path(__file__).resolve().parents[2]
    ran = subprocess.run(
        [sys.executable, "-c", CHOOSE],
        capture_output=True,
        text=True,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    lines = ran.stdout.splitlines()
    assert lines[1:] == ["UserspaceRules"] and lines[0].startswith(
        "services are served by this process"
    ), ran.stdout + ran.stderr


def test_the_world_has_the_addresses_that_the_tests_think(world):
    assert world.client.do(lambda: ask("10.244.77.2", 8080)) == ("10.244.77.2", CLIENT)
