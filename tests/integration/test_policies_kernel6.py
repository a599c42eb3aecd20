"""Network policies of both families in a real kernel: POLICY-16 (spec/network_policy.md)."""

import random
from ipaddress import IPv4Network, IPv6Network

import pytest
from immutables import Map
from net_world import CLUSTER, PODS, PODS6, ask, kernel_elements, removed_at_the_end

from refk8s.adapters.linux.kernel_policies import KernelPolicies
from refk8s.core.network.policy_packets import apply, load
from refk8s.core.network.policy_table import NO_TABLE, change_policies
from refk8s.core.ports import (
    NO_POLICIES,
    Allowance,
    Block,
    LocalPod,
    Member,
    PolicySet,
    PortRange,
)

WEB, DB, OTHER = "fd00:244::2", "fd00:244::3", "fd00:244::4"
FOUR = {WEB: "10.244.77.2", DB: "10.244.77.3", OTHER: "10.244.77.4"}


@pytest.fixture
def policies(world):
    """The policies of the node, for both families."""
    both = f"{PODS},{PODS6}"
    with removed_at_the_end(world, lambda: KernelPolicies(CLUSTER, lambda: (both, ""))) as policies:
        yield policies


def enforce(world, policies, db, members=None, blocks=None):
    pods = {
        "web": LocalPod("1", (FOUR[WEB], WEB)),
        "db": db,
        "other": LocalPod("3", (FOUR[OTHER], OTHER)),
    }
    found = PolicySet(True, Map(pods), Map(members or {}), Map(blocks or {}))
    assert world.node.do(lambda: policies.program_now(found)) == ""


def reaches(world, source, address):
    pods = world.pods6 | {"node": world.node, "client": world.client}
    return pods[source].do(lambda: ask(address, 8080, 0.7))[0] == address


def test_policy_16_an_isolated_pod_is_isolated_in_both_families(world, policies):
    both = (FOUR[DB], DB)
    enforce(world, policies, LocalPod("2", both))
    assert reaches(world, WEB, DB) and reaches(world, WEB, FOUR[DB])
    # its link-local address is new, and the kernel first looks for another owner
    assert any(reaches(world, "client", DB) for _ in range(10))
    enforce(world, policies, LocalPod("2", both, ingress=()))
    for source in (WEB, OTHER, "client"):
        assert not reaches(world, source, DB) and not reaches(world, source, FOUR[DB])
    assert reaches(world, DB, WEB) and reaches(world, WEB, OTHER)
    web = Member((FOUR[WEB], WEB), (("web", 0),))
    allowed = (Allowance("web", (PortRange("TCP", 8080, 8080),)),)
    enforce(world, policies, LocalPod("2", both, ingress=allowed), {"web": web})
    assert reaches(world, WEB, DB) and reaches(world, WEB, FOUR[DB])
    assert not reaches(world, OTHER, DB) and not reaches(world, OTHER, FOUR[DB])


def test_policy_16_a_block_of_ipv6_contains_its_addresses_without_the_exceptions(world, policies):
    allowed = (Allowance("block", ()),)
    blocks = {"block": Block(PODS6, (f"{OTHER}/128",))}
    enforce(world, policies, LocalPod("2", (FOUR[DB], DB), ingress=allowed), blocks=blocks)
    assert reaches(world, WEB, DB) and not reaches(world, OTHER, DB)
    assert not reaches(world, "client", DB) and not reaches(world, WEB, FOUR[DB])


def test_policy_16_link_local_addresses_do_not_lead_around_policies(world, policies):
    """Neighbours are found, and nothing else passes between these addresses."""
    db = world.pods6[DB]
    [link_local] = [
        words[3].partition("/")[0]
        for line in db.run("ip", "-6", "-o", "addr", "show", "dev", "eth0").splitlines()
        if (words := line.split())[3].startswith("fe80")
    ]
    there = f"{link_local}%eth0"
    enforce(world, policies, LocalPod("2", (FOUR[DB], DB)))
    web = world.pods6[WEB]
    assert web.do(lambda: ask(there, 8080, 0.7))[0] == "nothing"
    world.node.do(lambda: policies.program_now(NO_POLICIES))
    assert web.do(lambda: ask(there, 8080, 0.7))[0] == DB


def test_policy_9_the_kernel_has_the_elements_of_both_tables_of_the_model(world, policies):
    chance = random.Random(5)
    names, ranges = ["one", "two"], [PortRange("TCP", 80, 80), PortRange("UDP", 53, 99)]
    cidrs = ["fd00::/8", "fd00:244::/126", "10.0.0.0/8", "::/0", "fd00:192::9/128"]

    def allowances():
        found = {
            Allowance(
                chance.choice(["", *names, "block-0", "block-1"]),
                tuple(sorted(chance.sample(ranges, chance.randint(0, 2)))),
            )
            for _ in range(chance.randint(0, 3))
        }
        return chance.choice([None, tuple(sorted(found))])

    def addresses(i):
        return (f"10.244.77.{2 + i}", f"fd00:244::{2 + i:x}")[: chance.choice([1, 2, 2])]

    table, empty = NO_TABLE, change_policies(NO_TABLE, NO_POLICIES)[1]
    model = load(IPv4Network(PODS), empty, IPv6Network(PODS6))
    for _ in range(20):
        found = PolicySet(
            True,
            Map(
                {
                    f"pod-{i}": LocalPod(str(i), addresses(i), allowances(), allowances())
                    for i in range(chance.randint(0, 3))
                }
            ),
            Map(
                {
                    f"member-{i}": Member(
                        addresses(i), tuple((name, 0) for name in names[: 1 + i % 2])
                    )
                    for i in range(chance.randint(0, 4))
                }
            ),
            Map({f"block-{i}": Block(chance.choice(cidrs)) for i in range(chance.randint(0, 2))}),
        )
        assert world.node.do(lambda found=found: policies.program_now(found)) == ""
        table, change = change_policies(table, found)
        model = apply(model, change)
        held = kernel_elements(world, policies.name) | {
            f"ip6/{name}": entries
            for name, entries in kernel_elements(world, policies.name, "ip6").items()
        }
        wanted = {name: dict(entries) for name, entries in model.elements.items()}
        assert {n: e for n, e in held.items() if not n.endswith("blocks")} == {
            n: e for n, e in wanted.items() if not n.endswith("blocks")
        }
        for name in ("blocks", "ip6/blocks"):
            assert len(held.get(name, {})) == len(wanted.get(name, {}))
