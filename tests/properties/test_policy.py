"""Network policies: which packets a node lets pass, for any policies, pods and namespaces. Rules
POLICY-1 ... (spec/network_policy.md)."""

from ipaddress import IPv4Network

import pytest
from authz_world import AuthorizedWorld
from hypothesis import given, settings
from hypothesis import strategies as st
from immutables import Map
from msgspec.structs import replace
from net_loop import InLoop
from policy_reference import (
    policy_1_the_filter_accepts_what_is_allowed,
    policy_9_same_filter,
)
from policy_world import (
    NO_WORLD,
    NODE,
    POD_RANGE,
    by_prefix,
    changes_between,
    denying,
    flows,
    follow,
    kinds,
    state_of,
    worlds,
)

from refk8s.core.api.networking_v1 import (
    IPBlock,
    NetworkPolicyIngressRule,
    NetworkPolicyPeer,
    NetworkPolicyPort,
)
from refk8s.core.api.resources import NETWORK_POLICIES, PODS
from refk8s.core.context import SECOND
from refk8s.core.machine import Impossible
from refk8s.core.network import policies, policy_table
from refk8s.core.network.nft_script import remove_script
from refk8s.core.network.policy_machine import NOTES_MAX, REFRESH, USER, network_policy
from refk8s.core.network.policy_packets import apply, load
from refk8s.core.network.policy_script import chains, change_script, load_script
from refk8s.core.network.policy_state import PolicyState
from refk8s.core.network.policy_table import (
    ELEMENTS_MAX,
    NO_TABLE,
    TOO_MANY_BLOCKS,
    Change,
    change_policies,
    compute_segments,
    with_addresses,
)
from refk8s.core.ports import (
    NO_POLICIES,
    Allowance,
    Block,
    LocalPod,
    Member,
    PolicySet,
    PortRange,
)

NETWORKING = "/apis/networking.k8s.io/v1"


def filter_of(policy_set):
    """The filter of a complete load; None if there is no policy."""
    return (
        load(POD_RANGE, change_policies(NO_TABLE, policy_set)[1], NO_WORLD.pod_range6)
        if policy_set.active
        else None
    )


def broken(world, policy_set, some_kinds):
    """The first packet that is judged wrongly; None without one."""
    found = policy_1_the_filter_accepts_what_is_allowed(
        world, filter_of(policy_set), flows(some_kinds, world.families)
    )
    return next(found, None)


@settings(max_examples=3 * settings.default.max_examples)
@given(worlds(), kinds)
def test_policy_1_a_packet_passes_if_and_only_if_the_policies_allow_it(world, some_kinds):
    """With POLICY-2 to POLICY-8 and POLICY-10."""
    assert broken(world, state_of(world).enforced, some_kinds) is None


@given(st.lists(worlds(), min_size=1, max_size=4), st.randoms())
def test_policy_9_incremental_changes_give_the_same_filter(history, chance):
    """For any sequence of worlds, whatever the order in which the objects are received."""
    last, state, table = NO_WORLD, PolicyState(NO_WORLD.node_name), NO_TABLE
    filter = load(POD_RANGE, Change(), NO_WORLD.pod_range6)
    for world in history:
        changes = changes_between(last, world)
        chance.shuffle(changes)
        state = follow(state, changes)
        table, change = change_policies(table, state.enforced)
        filter = apply(filter, change)
        last = world
    whole, change = change_policies(NO_TABLE, state_of(last).enforced)
    assert (
        list(
            policy_9_same_filter(filter, table, load(POD_RANGE, change, NO_WORLD.pod_range6), whole)
        )
        == []
    )
    assert not change_policies(table, state.enforced)[1]


def test_policy_9_two_addresses_change_their_classes_in_one_change():
    """Each class is empty for a moment, and is the class of the other address then."""
    pod = {"a/db": LocalPod("1", ("10.244.0.2",), ingress=(Allowance("x"), Allowance("y")))}
    one, other = (("x", 0),), (("y", 0),)

    def world(first, second):
        found = {"b/1": Member(("10.244.1.1",), first), "b/2": Member(("10.244.1.2",), second)}
        return PolicySet(True, Map(pod), Map(found))

    table, change = change_policies(NO_TABLE, world(one, other))
    filter = load(POD_RANGE, change, NO_WORLD.pod_range6)
    table, change = change_policies(table, world(other, one))
    filter = apply(filter, change)
    whole, fresh = change_policies(NO_TABLE, world(other, one))
    assert list(policy_9_same_filter(filter, table, load(POD_RANGE, fresh), whole)) == []
    assert len(table.classes) == 2 and len(table.by_peer) == 2


@given(worlds())
def test_policy_9_without_objects_no_element_is_left(world):
    state = state_of(world)
    table, change = change_policies(NO_TABLE, state.enforced)
    state = follow(state, changes_between(world, NO_WORLD))
    assert not state.used and not state.referred and not state.enforced.active
    table, back = change_policies(table, state.enforced)
    assert apply(load(POD_RANGE, change, NO_WORLD.pod_range6), back).elements == Map()
    assert not table.classes and not table.by_peer and not table.sizes


# --- cases of the documentation -------------------------------------------------------------------


def test_policy_9_the_model_is_as_strict_as_the_kernel():
    one = ("in_range", "10.244.0.2 . 0:1 . tcp . 80-90", "")
    filter = load(POD_RANGE, Change(added=(one,)))
    for change in (
        Change(added=(one,)),
        Change(added=(("in_range", "10.244.0.2 . 0:1 . tcp . 85-95", ""),)),
        Change(removed=(("in_port", "10.244.0.2 . 0:1 . tcp . 80", ""),)),
        Change(added=(("pods", "10.244.0.2", ""),)),
    ):
        with pytest.raises(Impossible):
            apply(filter, change)


# --- the machine in the loop ----------------------------------------------------------------------


class PolicyInLoop(InLoop):
    """The policy machine of a node."""

    def __init__(self, errors=None):
        super().__init__(network_policy(NODE), errors)


@given(worlds(), worlds(), kinds)
def test_policy_9_the_first_set_is_complete_and_later_ones_are_current(first, second, some_kinds):
    loop = PolicyInLoop()
    for world, give in ((first, loop.start_with), (second, loop.change_all)):
        give(by_prefix(world))
        assert broken(world, loop.programmed[-1], some_kinds) is None
    loop.settle()
    assert loop.idle


@given(worlds(), worlds())
def test_policy_15_pods_are_watched_only_after_a_policy_exists(first, second):
    """With LOOP-14."""
    loop = PolicyInLoop()
    loop.start_with(by_prefix(first))
    assert (PODS.prefix in loop.listed) == bool(first.policies)
    loop.change_all(by_prefix(second))
    assert (PODS.prefix in loop.listed) == bool(first.policies or second.policies)
    assert len(loop.listed) == len({*loop.listed})


@given(worlds())
def test_loop_14_a_dormant_interest_is_not_waited_for(world):
    loop = PolicyInLoop()
    loop.start_with(by_prefix(world))
    assert loop.programmed
    if not world.policies:
        assert loop.listed == [NETWORK_POLICIES.prefix] and not loop.programmed[0].active


def test_policy_12_a_node_that_cannot_enforce_policies_says_so():
    """One Event about each policy, however often it fails; the set is given again."""
    world = denying(1)
    loop = PolicyInLoop(errors=["nft is not installed"] * 3)
    loop.start_with(by_prefix(world))
    loop.settle(20 * SECOND)
    assert len(loop.programmed) == 4
    [event] = loop.events
    assert (event.reason, event.type) == ("NotEnforced", "Warning")
    assert event.message == "node n1 does not enforce this policy: nft is not installed"
    assert event.involved_object.kind == "NetworkPolicy"
    many = PolicyInLoop(errors=["busy"] * 2)
    many.start_with(by_prefix(denying(NOTES_MAX + 1)))
    many.settle(20 * SECOND)
    assert len(many.events) == NOTES_MAX


def test_policy_9_the_same_set_comes_again_after_a_while():
    loop = PolicyInLoop()
    loop.start_with(by_prefix(denying(1)))
    loop.settle(REFRESH - SECOND)
    assert len(loop.programmed) == 1
    loop.settle(2 * SECOND)
    assert len(loop.programmed) == 2 and loop.programmed[0] is loop.programmed[1]


def test_policy_12_the_machine_may_do_what_it_does_and_no_more():
    """The default roles let it list and watch, and record Events (RBAC-6)."""
    world = AuthorizedWorld()
    for target in ("/api/v1/pods", "/api/v1/namespaces", f"{NETWORKING}/networkpolicies"):
        assert world.ask("GET", target, USER)[0] == 200
    event = {
        "metadata": {"name": "one", "namespace": "default"},
        "involvedObject": {"kind": "NetworkPolicy", "namespace": "default"},
    }
    assert world.ask("POST", "/api/v1/namespaces/default/events", USER, event)[0] == 201
    for target in ("/api/v1/secrets", "/api/v1/nodes", "/api/v1/namespaces/default/pods/web"):
        assert world.ask("GET", target, USER)[0] == 403


# --- addresses that the runtime gives -------------------------------------------------------------


def test_policy_11_the_address_of_the_runtime_counts_before_that_of_the_status():
    pods = {
        "a/new": LocalPod("1", (), ingress=()),
        "a/old": LocalPod("2", ("10.244.0.9",)),
        "a/other": LocalPod("3", ("10.244.0.4",)),
    }
    members = {"a/new": Member((), (("web", 0),)), "a/old": Member(("10.244.0.9",), (("web", 0),))}
    found = with_addresses(
        PolicySet(True, Map(pods), Map(members)),
        {"1": ("10.244.0.2",), "2": ("10.244.0.3",), "9": ("1.1.1.1",)},
    )
    assert [pod.addresses for _, pod in sorted(found.local.items())] == [
        ("10.244.0.2",),
        ("10.244.0.3",),
        ("10.244.0.4",),
    ]
    assert found.local["a/new"].ingress == ()
    assert [member.addresses for _, member in sorted(found.members.items())] == [
        ("10.244.0.2",),
        ("10.244.0.3",),
    ]


# --- bounds ---------------------------------------------------------------------------------------


def test_policy_14_a_pod_with_too_many_elements_allows_nothing(monkeypatch):
    """Also if it has too many only after a change, and it is normal again after another."""
    monkeypatch.setattr(policy_table, "ELEMENTS_MAX", 4)
    assert ELEMENTS_MAX == 16_384
    ports = tuple(PortRange("TCP", number, number) for number in (1, 3, 5))
    rules = (Allowance("", ports), Allowance("web", ports))
    pod = {"a/db": LocalPod("1", ("10.244.0.2",), ingress=rules)}
    many = {
        f"b/{number}": Member((f"10.244.1.{number}",), (("web", 0), *([("x", 0)] * number)))
        for number in range(2)
    }
    table, filter = NO_TABLE, load(POD_RANGE, Change(), NO_WORLD.pod_range6)
    sizes = []
    for members in ({}, {"b/0": many["b/0"]}, many, {}, many, {}):
        table, change = change_policies(table, PolicySet(True, Map(pod), Map(members)))
        filter = apply(filter, change)
        sizes.append(len(filter.elements.get("in_port", ())))
        assert change.problems == (("10.244.0.2",) if not sizes[-1] else ())
        whole, fresh = change_policies(NO_TABLE, PolicySet(True, Map(pod), Map(members)))
        assert list(policy_9_same_filter(filter, table, load(POD_RANGE, fresh), whole)) == []
        assert len(filter.elements["isolated_in"]) == 1
    assert sizes == [3, 0, 0, 3, 0, 3]


def test_policy_14_a_policy_with_too_many_peers_allows_nothing_and_an_event_says_so(monkeypatch):
    assert policies.PEERS_MAX == 1_000
    monkeypatch.setattr(policies, "PEERS_MAX", 2)
    [deny] = denying(1).policies
    peers = [NetworkPolicyPeer(ip_block=IPBlock(cidr=f"10.0.0.{n}/32")) for n in range(3)]

    def world(count, **ports):
        rule = NetworkPolicyIngressRule(from_=tuple(peers[:count]), **ports)
        large = replace(deny, spec=replace(deny.spec, ingress=(rule,), policy_types=("Ingress",)))
        return replace(denying(0), policies=[large])

    loop = PolicyInLoop()
    named = {"ports": (NetworkPolicyPort(port="http"),)}
    for count, ports, is_too_large in (
        (2, {}, False),
        (3, {}, True),
        (2, named, True),
        (1, {}, False),
    ):
        given = world(count, **ports)
        (loop.change_all if loop.listed else loop.start_with)(by_prefix(given))
        [compiled] = state_of(given).policies["a"].values()
        assert compiled.is_too_large is is_too_large
        assert bool(compiled.ingress) is not is_too_large and compiled.ingress is not None
    assert [event.reason for event in loop.events] == ["TooManyPeers"]


def test_policy_14_too_many_blocks_allow_nothing(monkeypatch):
    monkeypatch.setattr(policy_table, "SEGMENT_ENTRIES_MAX", 3)
    blocks = {str(number): Block(f"10.0.0.0/{8 + number}") for number in range(3)}
    assert compute_segments(Map(blocks)) is None
    table, change = change_policies(NO_TABLE, PolicySet(True, blocks=Map(blocks)))
    assert change.problems == (TOO_MANY_BLOCKS,) and not change
    few = Map({"0": blocks["0"], "1": blocks["1"]})
    _, change = change_policies(table, PolicySet(True, blocks=few))
    assert len(change.added) == 2 and not change.problems


# --- the text -------------------------------------------------------------------------------------


@given(st.lists(worlds(), min_size=1, max_size=3))
def test_policy_9_a_change_is_one_transaction_without_new_chains(history):
    state, table, last = PolicyState(NODE), NO_TABLE, NO_WORLD
    for world in history:
        state = follow(state, changes_between(last, world))
        table, change = change_policies(table, state.enforced)
        last = world
        text = change_script("t", change)
        assert "chain" not in text and text.count("\n") <= 60
        for name, key, value in change.added:
            assert (
                f"{key} : {value}" if value else key in text and name.removeprefix("ip6/") in text
            )
    _, change = change_policies(NO_TABLE, state.enforced)
    whole = load_script("t", str(POD_RANGE), change)
    assert whole.startswith(remove_script("t")) and whole.count("chain ") == len(chains("x", "ip"))
    both = load_script("t", f"{POD_RANGE},{NO_WORLD.pod_range6}", change)
    assert remove_script("t", "ip6") in both and both.count("chain ") == 2 * len(chains("x", "ip"))
    assert "ip6" not in whole


def test_policy_13_without_policies_nothing_is_enforced():
    assert not NO_POLICIES.active and not change_policies(NO_TABLE, NO_POLICIES)[1]
    assert IPv4Network("10.244.0.0/24") == POD_RANGE
