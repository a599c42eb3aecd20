"""Service rules of both families in a real kernel: NET-24, and NET-10, NET-12, NET-14, NET-15,
NET-21 for IPv6.

The kernel must do what the properties of tests/properties/test_net.py say of the interpreter; the
last test compares the two.
"""

import collections
import random

import pytest
from net_world import (
    CLIENT6,
    CLUSTER,
    NODE,
    NODE6,
    PODS,
    PODS6,
    ask,
    ask_udp,
    kernel_elements,
    program,
    removed_at_the_end,
    times,
)

from refk8s.adapters.linux.kernel_rules import KernelRules, why_no_kernel_rules
from refk8s.core.network.nftables import Table, change_table
from refk8s.core.network.packets import Programmed, apply
from refk8s.core.ports import Rule, RuleSet, Target
from refk8s.core.value import evolve

SERVICE6, GATEWAY6 = "fd00:10:96::1", "fd00:244::1"


@pytest.fixture
def rules(world):
    """Kernel rules of both families."""
    both = f"{NODE},{NODE6}", f"{PODS},{PODS6}"
    with removed_at_the_end(world, lambda: KernelRules(*both, CLUSTER)) as rules:
        yield rules


@pytest.fixture
def pods(world):
    return tuple(Target(address, 8080) for address in world.pods6)


def test_net_24_both_families_of_a_service_are_served_to_every_client(world, rules, pods):
    four = tuple(Target(address, 8080) for address in world.pods)
    program(
        world,
        rules,
        web=(
            Rule("10.96.0.1", "TCP", 80, four),
            Rule(SERVICE6, "TCP", 80, pods),
            Rule("", "TCP", 30080, four, masquerade=True),
            Rule("::", "TCP", 30080, pods, masquerade=True),
        ),
        dns=(Rule(SERVICE6, "UDP", 53, pods), Rule("::", "UDP", 30053, pods, masquerade=True)),
    )
    spaces = {"pod": world.pods6[pods[0].address], "node": world.node, "client": world.client}
    ways = [
        ("10.96.0.1", 80, ask, world.pods),
        (SERVICE6, 80, ask, world.pods6),
        (NODE, 30080, ask, world.pods),
        (NODE6, 30080, ask, world.pods6),
        (SERVICE6, 53, ask_udp, world.pods6),
        (NODE6, 30053, ask_udp, world.pods6),
    ]
    for who, space in spaces.items():
        for address, port, by, answering in ways:
            answers = collections.Counter()
            for _ in range(5):
                found = times(space, 20, address, port, by)
                assert sum(found.values()) == 20
                answers.update(found)
                if len({pod for pod, _ in answers}) == 3:
                    break
            assert {pod for pod, _ in answers} == set(answering), (
                f"{who} at {address}:{port}: {dict(answers)}"
            )
    assert world.node.do(lambda: ask("::1", 30080)) == ("refused", "")


def test_net_12_a_service_of_ipv6_without_endpoints_is_refused_at_once(world, rules, pods):
    program(
        world,
        rules,
        none=(Rule(SERVICE6, "TCP", 80), Rule(SERVICE6, "UDP", 53), Rule("::", "TCP", 30081)),
    )
    for space in (world.client, world.pods6[pods[0].address], world.node):
        assert space.do(lambda: ask(SERVICE6, 80)) == ("refused", "")
        assert space.do(lambda: ask(NODE6, 30081)) == ("refused", "")
    assert world.client.do(lambda: ask_udp(SERVICE6, 53)) == ("refused", "")


def test_net_5_and_14_a_client_of_ipv6_stays_with_its_endpoint_until_that_goes(world, rules, pods):
    def sticky(*targets):
        program(
            world,
            rules,
            web=(
                Rule(SERVICE6, "TCP", 80, targets, 100),
                Rule("fd00:10:96::2", "TCP", 80, targets, 100),
                Rule("::", "TCP", 30084, targets, 100, masquerade=True),
            ),
        )

    for address, port in ((SERVICE6, 80), ("fd00:10:96::2", 80), (NODE6, 30084)):
        sticky(*pods)
        [(first, _)] = times(world.client, 12, address, port)
        others = tuple(target for target in pods if target.address != first)
        sticky(*others)
        [(second, _)] = times(world.client, 12, address, port)
        assert second != first
        sticky(*pods)
        assert {pod for pod, _ in times(world.client, 12, address, port)} == {second}


def test_net_13_and_15_addresses_of_ipv6_are_replaced_only_where_they_must_be(world, rules, pods):
    one = pods[:1]
    program(
        world,
        rules,
        web=(
            Rule(SERVICE6, "TCP", 80, one),
            Rule("::", "TCP", 30080, one, masquerade=True),
            Rule("::", "TCP", 30081, one, local=True, inside=one),
        ),
    )
    itself, other = world.pods6[pods[0].address], world.pods6[pods[1].address]
    assert itself.do(lambda: ask(SERVICE6, 80)) == (pods[0].address, GATEWAY6)
    assert other.do(lambda: ask(SERVICE6, 80)) == (pods[0].address, pods[1].address)
    assert world.client.do(lambda: ask(NODE6, 30080)) == (pods[0].address, GATEWAY6)
    assert world.client.do(lambda: ask(NODE6, 30081)) == (pods[0].address, CLIENT6)


def test_net_21_only_clients_of_ipv6_in_the_ranges_reach_a_restricted_front(world, rules, pods):
    rule = Rule("fd00:10:96::9", "TCP", 80, pods, masquerade=True, restricted=True)
    for sources, admits in (("fd00:192::/64",), True), (("fd00:193::/64",), False), ((), False):
        program(world, rules, web=(evolve(rule, sources=sources),))
        found = world.client.do(lambda: ask("fd00:10:96::9", 80, 0.7))[0]
        assert (found in world.pods6) == admits


def test_net_16_a_udp_client_of_ipv6_is_not_held_to_an_endpoint_that_left(world, rules, pods):
    program(world, rules, dns=(Rule(SERVICE6, "UDP", 53, pods[:1]),))
    first = world.client.do(lambda: ask_udp(SERVICE6, 53, source_port=4242))
    program(world, rules, dns=(Rule(SERVICE6, "UDP", 53, pods[1:2]),))
    second = world.client.do(lambda: ask_udp(SERVICE6, 53, source_port=4242))
    assert (first[0], second[0]) == (pods[0].address, pods[1].address)


def test_net_11_the_kernel_has_both_tables_as_the_interpreter(world, rules, pods):
    chance = random.Random(3)
    table = Table(rules._pods, pods6=rules._pods6)
    state = Programmed(rules._pods, rules._pods6)
    four = tuple(Target(address, 8080) for address in world.pods)
    for _ in range(15):
        services = {}
        for i in range(chance.randint(0, 4)):
            is_six = chance.random() < 0.6
            of = pods if is_six else four
            here = tuple(sorted(chance.sample(of, chance.randint(0, 3))))
            local = chance.random() < 0.3
            address = chance.choice(
                [f"fd00:10:96::{i + 1}", "::"] if is_six else [f"10.96.1.{i}", ""]
            )
            rule = Rule(
                address,
                chance.choice(["TCP", "UDP", "SCTP"]),
                30100 + i,
                here,
                chance.choice([0, 0, 60]),
                bool(here) and not local,
                local,
                (here or of[:1]) if local else (),
                chance.random() < 0.5,
            )
            if is_six and address != "::" and chance.random() < 0.5:
                ranges = ("fd00:8::/32", "fd00:9::1/128")
                rule = evolve(rule, restricted=True, sources=ranges[: i % 3])
            services[f"ns/{i}"] = (rule,)
        world.node.do(lambda services=services: rules.program_now(RuleSet(services)))
        table, change = change_table(table, RuleSet(services))
        state = apply(state, change)
        found = kernel_elements(world, rules.name) | {
            f"ip6/{name}": entries
            for name, entries in kernel_elements(world, rules.name, "ip6").items()
        }
        assert found == {name: dict(entries) for name, entries in state.maps.items()}


def test_net_17_the_kernel_is_asked_for_both_families(world):
    assert world.node.do(lambda: why_no_kernel_rules(with_ipv6=True)) == ""
    assert world.node.run("nft", "list", "ruleset") == ""
