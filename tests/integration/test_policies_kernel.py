"""Network policies in a real kernel: a node with three pods and a client, in network namespaces of
this test. Rules POLICY-1 to POLICY-13.

What the properties of tests/properties/test_policy.py say of the model, the kernel must do; the
last test compares the two.
"""

import random
import socket
from ipaddress import IPv4Network

import pytest
from immutables import Map
from net_world import (
    CLIENT,
    CLUSTER,
    NODE,
    PODS,
    ask,
    ask_udp,
    kernel_elements,
    removed_at_the_end,
)

from refk8s.adapters.linux.kernel_policies import KernelPolicies, read_setting, write_setting
from refk8s.adapters.linux.kernel_rules import KernelRules
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
    Rule,
    RuleSet,
    Target,
)

WEB, DB, OTHER = "10.244.77.2", "10.244.77.3", "10.244.77.4"
TCP_8080 = (PortRange("TCP", 8080, 8080),)


@pytest.fixture
def policies(world):
    """The policies of the node."""
    with removed_at_the_end(world, lambda: KernelPolicies(CLUSTER, lambda: (PODS, ""))) as policies:
        yield policies


def enforce(world, policies, members=None, blocks=None, **local):
    """Enforce rules of the pods web, db and other; those without are not isolated."""
    pods = {
        "web": LocalPod("1", (WEB,)),
        "db": LocalPod("2", (DB,)),
        "other": LocalPod("3", (OTHER,)),
    }
    found = PolicySet(
        True,
        Map(pods | {name: pod for name, pod in local.items() if pod is not None}),
        Map({name: Member((address,), ((name, 0),)) for name, address in (members or {}).items()}),
        Map(blocks or {}),
    )
    assert world.node.do(lambda: policies.program_now(found)) == ""
    return found


def isolated(address, uid="2", ingress=(), egress=None):
    return LocalPod(uid, (address,), ingress, egress)


def reaches(world, source, address, port=8080, by=ask):
    space = {WEB: 0, DB: 1, OTHER: 2}
    pods = list(world.pods.values())
    space = {"node": world.node, "client": world.client}.get(source) or pods[space[source]]
    return space.do(lambda: by(address, port, 0.25))[0] == address


def test_policy_1_ingress_of_pods_of_one_bridge_and_from_outside(world, policies):
    """The isolated pod is reached by the allowed peer, by its node and by itself; not by others."""
    for source in (WEB, OTHER, "node", "client"):
        assert reaches(world, source, DB)
    enforce(world, policies, {"web": WEB}, db=isolated(DB, ingress=(Allowance("web", TCP_8080),)))
    assert reaches(world, WEB, DB) and reaches(world, "node", DB) and reaches(world, DB, DB)
    assert not reaches(world, OTHER, DB) and not reaches(world, "client", DB)
    assert not reaches(world, WEB, DB, by=ask_udp) and not reaches(world, WEB, DB, 9090)
    # its own connections, and those between others, are not isolated
    assert (
        reaches(world, DB, OTHER) and reaches(world, OTHER, WEB) and reaches(world, "client", WEB)
    )


def test_policy_1_egress_and_blocks(world, policies):
    block = Block("192.0.2.0/24", (f"{CLIENT}/32",))
    enforce(
        world,
        policies,
        blocks={"outside": Block(f"{CLIENT}/32"), "not": block},
        db=isolated(DB, ingress=(Allowance("outside"),), egress=(Allowance("not"),)),
    )
    assert reaches(world, "client", DB) and not reaches(world, WEB, DB)
    assert not reaches(world, DB, WEB) and not reaches(world, DB, WEB, by=ask_udp)
    assert reaches(world, "client", DB, by=ask_udp)


def test_policy_7_a_change_ends_established_connections(world, policies):
    """Both directions of a connection that is not allowed any more are dropped at once; it goes on
    when it is allowed again."""
    allowed = isolated(DB, ingress=(Allowance("web"),))
    enforce(world, policies, {"web": WEB}, db=allowed)
    [web, *_] = world.pods.values()
    connection = web.do(lambda: socket.create_connection((DB, 9090), 2))
    try:
        connection.settimeout(0.3)
        connection.sendall(b"one")
        assert connection.recv(10) == b"one"
        enforce(world, policies, {"web": WEB}, db=isolated(DB))
        connection.sendall(b"two")
        with pytest.raises(TimeoutError):
            connection.recv(10)
        enforce(world, policies, {"web": WEB}, db=allowed)
        connection.settimeout(3)
        assert connection.recv(10) == b"two"
    finally:
        connection.close()


def test_policy_8_a_service_is_judged_by_the_pod_that_answers(world, policies):
    rules = world.node.do(lambda: KernelRules(NODE, PODS, CLUSTER))
    front = Rule("10.96.0.1", "TCP", 80, (Target(DB, 8080),))
    node_port = Rule("", "TCP", 30080, (Target(DB, 8080),), masquerade=True)
    world.node.do(lambda: rules.program_now(RuleSet({"ns/db": (front, node_port)})))
    try:
        enforce(
            world, policies, {"web": WEB}, db=isolated(DB, ingress=(Allowance("web", TCP_8080),))
        )
        [web, db, other] = world.pods.values()
        assert web.do(lambda: ask("10.96.0.1", 80, 0.3))[0] == DB
        assert db.do(lambda: ask("10.96.0.1", 80, 0.3))[0] == DB
        assert other.do(lambda: ask("10.96.0.1", 80, 0.3))[0] == "nothing"
        assert world.client.do(lambda: ask(NODE, 30080, 0.3))[0] == "nothing"
        assert world.node.do(lambda: ask("10.96.0.1", 80, 0.3))[0] == DB
    finally:
        world.node.do(rules.remove)


def test_policy_10_and_11_an_unknown_pod_is_held_until_the_runtime_gives_its_address(
    world, policies
):
    """Whether it is isolated or not; the rules of a known pod without an address wait for it."""
    new = LocalPod("3", ())
    enforce(world, policies, other=new)
    assert not reaches(world, OTHER, WEB) and not reaches(world, WEB, OTHER)
    assert not reaches(world, OTHER, CLIENT) and reaches(world, "node", OTHER)
    world.node.do(lambda: policies.sandbox_started_now("3", (OTHER,)))
    assert reaches(world, OTHER, WEB) and reaches(world, WEB, OTHER)
    enforce(world, policies, other=isolated(OTHER, "3", egress=()))
    assert not reaches(world, OTHER, WEB) and not reaches(world, WEB, OTHER)


def test_policy_13_nothing_is_left_and_no_policies_are_no_table(world, policies):
    enforce(world, policies, db=isolated(DB))
    assert policies.name in world.node.run("nft", "list", "tables")
    world.node.do(lambda: policies.program_now(NO_POLICIES))
    assert world.node.run("nft", "list", "ruleset") == ""
    assert reaches(world, OTHER, DB)
    world.node.do(lambda: write_setting("0"))
    enforce(world, policies, db=isolated(DB))
    assert not reaches(world, OTHER, DB) and world.node.do(read_setting) == "1"
    # an earlier process of this cluster left it
    another = world.node.do(lambda: KernelPolicies(CLUSTER, lambda: (PODS, "")))
    assert world.node.do(lambda: another.program_now(NO_POLICIES)) == ""
    assert world.node.run("nft", "list", "ruleset") == "" and reaches(world, OTHER, DB)
    world.node.do(policies.remove)
    assert world.node.do(read_setting) == "0"
    world.node.do(lambda: write_setting("1"))


def test_policy_9_another_program_removed_the_table(world, policies):
    enforce(world, policies, db=isolated(DB))
    world.node.run("nft", "flush", "ruleset")
    assert reaches(world, OTHER, DB)
    enforce(world, policies, {"web": WEB}, db=isolated(DB, ingress=(Allowance("web"),)))
    assert reaches(world, WEB, DB) and not reaches(world, OTHER, DB)
    # the same set again is a complete load
    same = enforce(world, policies, db=isolated(DB))
    world.node.run("nft", "flush", "ruleset")
    world.node.do(lambda: policies.program_now(same))
    assert not reaches(world, WEB, DB)


def test_policy_9_the_kernel_holds_what_the_model_says(world, policies):
    """After every step of random histories: the same elements in the same sets."""
    chance = random.Random(5)
    names = ["a", "b", "c"]
    ranges = [
        PortRange(kind, first, last)
        for kind in ("TCP", "UDP", "SCTP")
        for first, last in ((80, 80), (80, 90), (85, 100), (443, 443), (0, 65535))
    ]
    cidrs = ["0.0.0.0/0", "10.0.0.0/8", "10.244.77.0/30", "192.0.2.0/24", "192.0.2.9/32"]

    def allowances():
        found = {
            Allowance(
                chance.choice(["", *names, "block-0", "block-1"]),
                tuple(sorted(chance.sample(ranges, chance.randint(0, 3)))),
            )
            for _ in range(chance.randint(0, 3))
        }
        return chance.choice([None, tuple(sorted(found)), tuple(sorted(found))])

    table, model = NO_TABLE, load(IPv4Network(PODS), change_policies(NO_TABLE, NO_POLICIES)[1])
    for _ in range(40):
        found = PolicySet(
            True,
            Map(
                {
                    f"pod-{i}": LocalPod(
                        str(i), (f"10.244.77.{2 + i}",), allowances(), allowances()
                    )
                    for i in range(chance.randint(0, 3))
                }
            ),
            Map(
                {
                    f"member-{i}": Member(
                        (f"10.244.77.{2 + i}",),
                        tuple((name, 0) for name in sorted(chance.sample(names, 2))),
                    )
                    for i in range(chance.randint(0, 5))
                }
            ),
            Map({f"block-{i}": Block(chance.choice(cidrs)) for i in range(chance.randint(0, 2))}),
        )
        assert world.node.do(lambda found=found: policies.program_now(found)) == ""
        table, change = change_policies(table, found)
        model = apply(model, change)
        assert in_numbers(kernel_elements(world, policies.name)) == in_numbers(
            {name: dict(entries) for name, entries in model.elements.items()}
        )


def in_numbers(elements):
    """Ranges as nft writes them: a block that is one prefix."""
    return {
        name: {of_range(key): value for key, value in entries.items()}
        if name == "blocks"
        else entries
        for name, entries in elements.items()
    }


def of_range(key):
    network = IPv4Network(key) if "-" not in key else None
    first, _, last = key.partition("-")
    return (first, last) if network is None else (str(network[0]), str(network[-1]))
