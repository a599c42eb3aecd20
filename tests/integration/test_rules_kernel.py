"""Service rules in a real kernel: a node, three pods and a client in network namespaces of this
test. Rules NET-10 ... NET-19.

What the properties of tests/properties/test_net.py say of the interpreter, the kernel must do; the
last test compares the two.
"""

import collections
import os
import random
import re
import shutil
import socket
import threading

import pytest
from net_world import (
    CLIENT,
    CLUSTER,
    NODE,
    PODS,
    ask,
    ask_udp,
    kernel_elements,
    program,
    removed_at_the_end,
    times,
)

from refk8s.adapters.linux.kernel_rules import KernelRules, why_no_kernel_rules
from refk8s.adapters.linux.service_rules import choose_rules
from refk8s.core.network import nftables
from refk8s.core.network.nftables import Table, change_table
from refk8s.core.network.packets import Programmed, apply
from refk8s.core.ports import Rule, RuleSet, Target
from refk8s.core.value import evolve

GATEWAY = "10.244.77.1"


@pytest.fixture
def rules(world):
    """Kernel rules of the node."""
    with removed_at_the_end(world, lambda: KernelRules(NODE, PODS, CLUSTER)) as rules:
        yield rules


@pytest.fixture
def pods(world):
    return tuple(Target(address, 8080) for address in world.pods)


def test_net_10_every_request_is_answered_and_all_endpoints_answer(world, rules, pods):
    """20 of 20, by cluster IP and node port, by TCP and UDP, from a pod, the node and outside; also
    at 127.0.0.1."""
    program(
        world,
        rules,
        web=(Rule("10.96.0.1", "TCP", 80, pods), Rule("", "TCP", 30080, pods, masquerade=True)),
        dns=(Rule("10.96.0.2", "UDP", 53, pods), Rule("", "UDP", 30053, pods, masquerade=True)),
    )
    spaces = {"pod": world.pods[pods[0].address], "node": world.node, "client": world.client}
    ways = [
        ("10.96.0.1", 80, ask),
        (NODE, 30080, ask),
        ("127.0.0.1", 30080, ask),
        ("10.96.0.2", 53, ask_udp),
        (NODE, 30053, ask_udp),
    ]
    for who, space in spaces.items():
        for address, port, by in ways:
            if address == "127.0.0.1" and who != "node":
                continue
            answers = collections.Counter()
            for _ in range(5):
                found = times(space, 20, address, port, by)
                assert sum(found.values()) == 20
                answers.update(found)
                if len({pod for pod, _ in answers}) == 3:
                    break
            assert {pod for pod, _ in answers} == set(world.pods), (
                f"{who} at {address}:{port}: {dict(answers)}"
            )


def test_net_12_without_endpoints_it_is_refused_at_once(world, rules, pods):
    program(
        world,
        rules,
        none=(Rule("10.96.0.3", "TCP", 80), Rule("10.96.0.3", "UDP", 53), Rule("", "TCP", 30081)),
    )
    for space in (world.client, world.pods[pods[0].address], world.node):
        assert space.do(lambda: ask("10.96.0.3", 80)) == ("refused", "")
        assert space.do(lambda: ask(NODE, 30081)) == ("refused", "")
    assert world.client.do(lambda: ask_udp("10.96.0.3", 53)) == ("refused", "")
    program(
        world, rules, none=(Rule("10.96.0.3", "TCP", 80, pods), Rule("10.96.0.3", "UDP", 53, pods))
    )
    assert world.client.do(lambda: ask("10.96.0.3", 80))[0] in world.pods
    assert world.client.do(lambda: ask_udp("10.96.0.3", 53))[0] in world.pods
    assert world.client.do(lambda: ask(NODE, 30081)) == ("refused", "")  # nobody listens there


def test_net_5_and_14_a_client_stays_with_its_endpoint_and_leaves_it_when_it_goes(
    world, rules, pods
):
    def sticky(*targets):
        program(
            world,
            rules,
            web=(
                Rule("10.96.0.4", "TCP", 80, targets, 100),
                Rule("", "TCP", 30084, targets, 100, masquerade=True),
            ),
        )

    sticky(*pods)
    for address, port in (("10.96.0.4", 80), (NODE, 30084)):
        sticky(*pods)
        [(first, _)] = times(world.client, 12, address, port)
        others = tuple(target for target in pods if target.address != first)
        sticky(*others)
        [(second, _)] = times(world.client, 12, address, port)
        assert second != first
        sticky(*pods)
        assert {pod for pod, _ in times(world.client, 12, address, port)} == {second}
        sticky(Target(second, 8080))
        assert {pod for pod, _ in times(world.client, 3, address, port)} == {second}


def test_net_5_affinity_ends_with_its_time(world, rules, pods):
    """With a second of affinity, an entry that is not renewed is forgotten; the kernel says how
    long it has."""
    program(world, rules, web=(Rule("10.96.0.4", "TCP", 80, pods, 1),))
    world.client.do(lambda: ask("10.96.0.4", 80))
    listed = world.node.run("nft", "list", "map", "ip", rules.name, "sticky")
    assert "timeout 1s" in listed and CLIENT in listed


def test_net_15_a_pod_that_asks_itself_is_answered_at_once(world, rules, pods):
    program(
        world,
        rules,
        web=(Rule("10.96.0.5", "TCP", 80, pods[:1]), Rule("10.96.0.5", "UDP", 80, pods[:1])),
    )
    pod = world.pods[pods[0].address]
    for by in (ask, ask_udp):
        assert times(pod, 20, "10.96.0.5", 80, by) == {(pods[0].address, GATEWAY): 20}
        # ... while another pod is seen as itself
        assert times(world.pods[pods[1].address], 3, "10.96.0.5", 80, by) == {
            (pods[0].address, pods[1].address): 3
        }


def test_net_7_and_13_clients_keep_their_address_where_the_policy_says_so(world, rules, pods):
    here, everywhere = pods[:1], pods
    program(
        world,
        rules,
        cluster=(Rule("", "TCP", 30080, everywhere, masquerade=True),),
        local=(Rule("", "TCP", 30086, here, local=True, inside=everywhere),),
        away=(Rule("", "TCP", 30087, (), local=True, inside=everywhere, drop=True),),
    )
    assert {seen for _, seen in times(world.client, 10, NODE, 30080)} == {GATEWAY}
    assert times(world.client, 10, NODE, 30086) == {(here[0].address, CLIENT): 10}
    assert world.client.do(lambda: ask(NODE, 30087, 0.3))[0] == "nothing"
    for space in (world.node, world.pods[pods[1].address]):
        for port in (30086, 30087):
            assert all(pod in world.pods for pod, _ in times(space, 5, NODE, port))
    assert {pod for pod, _ in times(world.node, 60, NODE, 30086)} == set(world.pods)


def test_net_11_a_change_of_one_service_leaves_connections_and_the_others_alone(world, rules, pods):
    echo = tuple(Target(target.address, 9090) for target in pods)
    other = (Rule("10.96.0.8", "TCP", 80, pods[1:2]),)
    program(world, rules, web=(Rule("10.96.0.7", "TCP", 80, echo[:1]),), other=other)
    connection = world.client.do(lambda: socket.create_connection(("10.96.0.7", 80), 3))
    with connection:
        connection.settimeout(3)
        connection.sendall(b"one")
        assert connection.recv(10) == b"one"
        program(world, rules, web=(Rule("10.96.0.7", "TCP", 80, echo[1:]),), other=other)
        connection.sendall(b"two")
        assert connection.recv(10) == b"two"
        program(world, rules, web=(), other=other)
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(100).decode() == "." + pods[0].address
    assert times(world.client, 5, "10.96.0.8", 80) == {(pods[1].address, GATEWAY): 5}


def test_net_11_no_request_fails_while_endpoints_come_and_go(world, rules, pods):
    """Nor when another process takes over and loads everything anew: the rules change whole, in one
    moment."""
    sets = [pods, pods[:1], pods[1:], pods[2:], pods[:2]]
    program(
        world,
        rules,
        web=(Rule("", "TCP", 30088, pods, masquerade=True), Rule("10.96.0.9", "TCP", 80, pods, 60)),
    )
    answers: collections.Counter = collections.Counter()
    stop = threading.Event()

    def stream():
        while not stop.is_set():
            for address, port in ((NODE, 30088), ("10.96.0.9", 80)):
                answer = ask(address, port)
                answers["answered" if answer[0] in world.pods else f"{answer} at {address}"] += 1

    streaming = world.client.thread()
    running = streaming.submit(stream)
    try:
        for i in range(40):
            if i % 10 == 5:
                rules = world.node.do(lambda: KernelRules(NODE, PODS, CLUSTER))
            found = sets[i % len(sets)]
            program(
                world,
                rules,
                web=(
                    Rule("", "TCP", 30088, found, masquerade=True),
                    Rule("10.96.0.9", "TCP", 80, found, 60),
                ),
            )
    finally:
        stop.set()
        running.result(10)
        streaming.shutdown()
    assert list(answers) == ["answered"] and answers["answered"] > 100, dict(answers)


def test_net_11_the_kernel_does_not_keep_every_chain_that_was_ever_needed(
    world, rules, pods, monkeypatch
):
    # Shows NET-11.d.
    monkeypatch.setattr(nftables, "IDLE_MAX", 3)
    other = (Rule("", "TCP", 30092, pods, 7, local=True, inside=pods),)

    def chains():
        listing = world.node.run("nft", "list", "table", "ip", rules.name)
        return len(re.findall(r"^\tchain ", listing, re.M))

    program(world, rules, other=other)
    before = chains()
    for seconds in range(100, 112):
        program(world, rules, web=(Rule("10.96.0.13", "TCP", 80, pods, seconds),), other=other)
    assert chains() <= before + 3 + 1
    assert set(times(world.client, 10, "10.96.0.13", 80)) <= {
        (pod.address, GATEWAY) for pod in pods
    }
    local = times(world.client, 10, NODE, 30092)
    assert {pod for pod, _ in local} <= set(world.pods)


def test_net_11_another_process_takes_over_and_clients_stay_where_they_are(world, rules, pods):
    sticky = (
        Rule("10.96.0.10", "TCP", 80, pods, 100),
        Rule("", "TCP", 30090, pods, 100, masquerade=True),
    )
    program(world, rules, web=sticky)
    spaces = [world.client, world.node, *world.pods.values()]

    def answers():
        return [
            space.do(lambda a=a, p=p: ask(a, p))[0]
            for space in spaces
            for a, p in (("10.96.0.10", 80), (NODE, 30090))
        ]

    before = answers()
    program(world, world.node.do(lambda: KernelRules(NODE, PODS, CLUSTER)), web=sticky)
    assert answers() == before and set(before) <= set(world.pods)


@pytest.mark.parametrize("flush", ["flush ruleset", "flush map ip refk8s_c0ffee00 services"])
def test_net_11_what_others_have_taken_away_is_made_again(world, rules, pods, flush):
    """Also the chains: what comes later may need one that was there before."""
    first, rare = (Rule("10.96.0.11", "TCP", 80, pods),), (Rule("10.96.0.12", "TCP", 80, pods, 77),)
    program(world, rules, a=first, b=rare)
    world.node.run("nft", flush)
    program(world, rules, a=first, b=())
    program(world, rules, a=first, b=rare)
    for address in ("10.96.0.11", "10.96.0.12"):
        assert world.client.do(lambda address=address: ask(address, 80))[0] in world.pods
    world.node.run("nft", flush)
    program(world, rules, a=first, b=rare)  # the same again
    for address in ("10.96.0.11", "10.96.0.12"):
        assert world.client.do(lambda address=address: ask(address, 80))[0] in world.pods


def test_net_11_a_table_of_another_shape_is_replaced(world, rules, pods):
    world.node.run(
        "nft",
        f"table ip {rules.name} {{ map services {{ type ipv4_addr : verdict; }}; "
        f"chain dispatch {{ }}; }}",
    )
    program(world, rules, web=(Rule("10.96.0.11", "TCP", 80, pods),))
    assert world.client.do(lambda: ask("10.96.0.11", 80))[0] in world.pods


@pytest.mark.skipif(
    shutil.which("conntrack") is None and os.environ.get("CI") != "true", reason="needs conntrack"
)
def test_net_16_a_udp_client_is_not_held_to_an_endpoint_that_left(world, rules, pods):
    """Nor to nobody, when it spoke before there was a service; nor by a process that has just taken
    over."""
    for address, port in (("10.96.0.13", 53), (NODE, 30053)):
        front = address if address != NODE else ""
        asking = lambda a=address, p=port: ask_udp(a, p, 0.3, source_port=5353)[0]  # noqa: E731
        world.client.do(asking)
        by = rules
        for target in (pods[0], pods[1], pods[2]):
            program(world, by, dns=(Rule(front, "UDP", port, (target,), masquerade=not front),))
            assert [world.client.do(asking) for _ in range(3)] == [target.address] * 3
            by = world.node.do(lambda: KernelRules(NODE, PODS, CLUSTER))


@pytest.mark.skipif(
    shutil.which("iptables") is None and os.environ.get("CI") != "true", reason="needs iptables"
)
@pytest.mark.parametrize("with_docker", [True, False])
def test_net_18_service_traffic_passes_where_docker_drops_what_it_does_not_know(
    world, pods, with_docker
):
    """And other traffic does not; afterwards the host is as it was."""
    chains = [] if not with_docker else ["-N DOCKER-USER", "-A FORWARD -j DOCKER-USER"]
    for line in [
        "-P FORWARD DROP",
        *chains,
        "-A FORWARD -o br0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        "-A FORWARD -i br0 -j ACCEPT",
    ]:
        world.node.run("iptables", *line.split())
    before, localnet = saved(world), setting(world)
    rules = world.node.do(lambda: KernelRules(NODE, PODS, CLUSTER))
    try:
        assert world.client.do(lambda: ask(pods[0].address, 8080, 0.3))[0] == "nothing"
        program(world, rules, web=(Rule("", "TCP", 30080, pods, masquerade=True),))
        program(world, rules, web=(Rule("", "TCP", 30080, pods, masquerade=True),))
        assert sum(times(world.client, 5, NODE, 30080).values()) == 5
        assert world.client.do(lambda: ask(NODE, 30080))[0] in world.pods
        assert world.client.do(lambda: ask(pods[0].address, 8080, 0.3))[0] == "nothing"
        assert len(saved(world)) == len(before) + 1 and setting(world) == "1"
        # by another process than the one that made it
        world.node.do(lambda: KernelRules(NODE, PODS, CLUSTER).remove())
        assert saved(world) == before and setting(world) == localnet
    finally:
        world.node.do(rules.remove)
        world.node.run("nft", "flush", "ruleset")


def test_net_18_the_node_reaches_cluster_ips_without_a_default_route(world, pods):
    before = world.node.run("ip", "route")
    rules = world.node.do(lambda: KernelRules(NODE, PODS, CLUSTER))
    world.node.ip("route del default")
    try:
        bare = world.node.run("ip", "route")
        program(
            world, rules, web=(Rule("10.96.0.15", "TCP", 80, pods), Rule("10.96.0.16", "TCP", 80))
        )
        program(
            world, rules, web=(Rule("10.96.0.15", "TCP", 80, pods), Rule("10.96.0.16", "TCP", 80))
        )
        assert set(times(world.node, 60, "10.96.0.15", 80)) == {
            (pod.address, GATEWAY) for pod in pods
        }
        assert world.node.do(lambda: ask("10.96.0.16", 80)) == ("refused", "")
        assert world.node.run("ip", "route") != bare
        world.node.do(rules.remove)
        assert world.node.run("ip", "route") == bare
    finally:
        world.node.ip("route add default dev eth0")
    assert world.node.run("ip", "route") == before


def test_net_21_only_clients_in_the_ranges_reach_a_restricted_front(world, rules, pods):
    open_rule = Rule("10.96.0.61", "TCP", 80, pods[:1], masquerade=True)
    ranges = {
        "10.96.0.62": (f"{CLIENT}/32",),
        "10.96.0.63": ("10.255.0.0/16", f"{CLIENT}/30"),
        "10.96.0.64": ("198.51.100.0/24",),
        "10.96.0.65": (),
    }
    restricted = {
        f"r{number}": (evolve(open_rule, address=address, restricted=True, sources=sources),)
        for number, (address, sources) in enumerate(ranges.items())
    }
    program(world, rules, open=(open_rule,), **restricted)
    answers = [
        world.client.do(lambda address=address: ask(address, 80))
        for address in ("10.96.0.61", *ranges)
    ]
    kinds = ["nothing" if answer[0] == "nothing" else "pod" for answer in answers]
    assert kinds == ["pod", "pod", "pod", "nothing", "nothing"]
    # the ranges change while the rule stays
    swapped = evolve(restricted["r2"][0], sources=(f"{CLIENT}/24",))
    program(world, rules, open=(open_rule,), **{**restricted, "r2": (swapped,)})
    assert world.client.do(lambda: ask("10.96.0.64", 80))[0] in world.pods


def saved(world):
    return [
        line.partition(" [")[0]
        for line in world.node.run("iptables-save").splitlines()
        if not line.startswith("#")
    ]


def setting(world):
    return world.node.run("cat", "/proc/sys/net/ipv4/conf/br0/route_localnet").strip()


def test_net_19_removal_takes_only_what_is_ours(world, pods):
    """Another table stays, and so do another cluster's rules."""
    first, second = (
        world.node.do(lambda c=c: KernelRules(NODE, PODS, c)) for c in ("11111111", "22222222")
    )
    program(world, first, web=(Rule("10.96.0.20", "TCP", 80, pods),))
    program(world, second, web=(Rule("10.96.0.21", "TCP", 80, pods),))
    world.node.run("nft", "table ip somebodys { chain mine { }; }")
    world.node.do(first.remove)
    assert world.node.run("nft", "list", "tables").split("\n") == [
        "table ip refk8s_22222222",
        "table ip somebodys",
        "",
    ]
    assert world.client.do(lambda: ask("10.96.0.21", 80))[0] in world.pods
    world.node.do(second.remove)
    world.node.run("nft", "flush", "ruleset")


def test_net_11_the_kernel_holds_what_the_interpreter_says(world, rules, pods):
    """After every step of random histories: the same elements in the same maps."""
    chance = random.Random(2)
    table = Table(rules._pods)
    state = Programmed(rules._pods)

    def some():
        return tuple(sorted(chance.sample(pods, chance.randint(0, 3))))

    for _ in range(25):
        services = {}
        for i in range(chance.randint(0, 4)):
            local, seconds = chance.random() < 0.3, chance.choice([0, 0, 60])
            here = some()
            address = chance.choice([f"10.96.1.{i}", ""])
            inside = (here or some()) if local else ()
            rule = Rule(
                address,
                chance.choice(["TCP", "UDP", "SCTP"]),
                30100 + i,
                here,
                seconds,
                bool(here) and not local,
                local,
                inside,
                chance.random() < 0.5,
            )
            if address and chance.random() < 0.5:
                ranges = chance.sample(["10.9.0.0/16", "10.8.0.0/16", "203.0.113.7/32"], 2)
                rule = evolve(rule, restricted=True, sources=tuple(sorted(ranges)[: i % 3]))
            services[f"ns/{i}"] = (rule,)
        world.node.do(lambda services=services: rules.program_now(RuleSet(services)))
        table, change = change_table(table, RuleSet(services))
        state = apply(state, change)
        assert kernel_elements(world, rules.name) == {
            name: dict(entries) for name, entries in state.maps.items()
        }


def test_net_17_asking_whether_the_kernel_takes_rules_changes_nothing(world):
    assert world.node.do(why_no_kernel_rules) == ""
    assert world.node.run("nft", "list", "ruleset") == ""
    assert isinstance(world.node.do(lambda: choose_rules(NODE, PODS, CLUSTER)), KernelRules)
