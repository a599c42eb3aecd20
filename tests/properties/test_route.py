"""Routes to the pods of other nodes. Rules ROUTE-1 to ROUTE-8 (spec/node_network.md)."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from net_loop import InLoop
from rt_engine import PretendEngine

from refk8s.adapters.docker.engine import network as engine_network
from refk8s.adapters.linux import node_network as node_network_adapter
from refk8s.core.api.core_v1 import Node, NodeAddress, NodeSpec, NodeStatus
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.resources import NODES
from refk8s.core.network.node_network_machine import compute_network, node_network
from refk8s.core.network.node_network_script import network_script
from refk8s.core.network.node_routes import (
    AUTO,
    HOST_GW,
    NONE,
    VXLAN,
    Route,
    change_routes,
    compute_routes,
    hardware_address,
    read_address,
    read_range,
)
from refk8s.core.ports.node_network import NodeNetwork, Peer
from refk8s.core.properties.predicates.node_network import route_1_packets_reach_the_node
from refk8s.core.value import evolve

LINK, OTHER_LINK = IPv4Network("192.0.2.0/24"), IPv4Network("198.51.100.0/24")
LINKS = (LINK, IPv4Network("172.17.0.0/16"))
OWN = "10.244.0.0/24"
MASQUERADE = "com.docker.network.bridge.enable_ip_masquerade"
MTU = "com.docker.network.driver.mtu"
modes = st.sampled_from([AUTO, HOST_GW, VXLAN])
addresses = st.sampled_from([LINK, OTHER_LINK]).flatmap(
    lambda link: st.integers(1, 254).map(lambda number: str(link[number]))
)


@st.composite
def networks(draw):
    """A node and its peers, each with a range and an address of its own."""
    numbers = draw(st.lists(st.integers(1, 255), max_size=6, unique=True))
    places = draw(st.lists(addresses, min_size=len(numbers), max_size=len(numbers), unique=True))
    peers = [
        Peer(f"n{number}", f"10.244.{number}.0/24", place)
        for number, place in zip(numbers, places, strict=True)
    ]
    return NodeNetwork(OWN, "192.0.2.1", tuple(sorted(peers)))


wild_ranges = st.builds(
    lambda base, bits, length: str(IPv4Network((int(IPv4Address(base)) ^ bits, length), False)),
    st.sampled_from(["10.244.0.0", "192.0.2.0", "172.17.0.0", "198.51.100.0", "0.0.0.0"]),
    st.integers(0, 2**12 - 1),
    st.integers(0, 32),
) | st.sampled_from(["", "x", "10.244.1.1/24", "fd00::/64", "127.0.0.0/24", "224.0.0.0/24"])
wild_peers = st.lists(
    st.builds(
        Peer,
        st.sampled_from(["a", "b", "c", "d"]),
        wild_ranges,
        addresses | st.sampled_from(["", "x", "127.0.0.1", "0.0.0.0", "fd00::1"]),
    ),
    max_size=5,
)


@given(networks(), modes)
def test_route_1_every_packet_to_a_pod_reaches_its_node(network, mode):
    found = compute_routes(network, LINKS, mode)
    direct = {peer for peer in network.peers if IPv4Address(peer.address) in LINK}
    reached = direct if mode == HOST_GW else network.peers
    assert list(route_1_packets_reach_the_node(reached, found.routes)) == []
    assert len(found.routes) == len(reached)
    assert len(found.problems) == len(network.peers) - len(reached)
    by_node = {str(route.node): route for route in found.routes}
    for peer in reached:
        assert by_node[peer.address].tunnel == (mode == VXLAN or peer not in direct)
    assert compute_routes(network, LINKS, NONE).routes == ()
    hardware = {hardware_address(route.range) for route in found.routes}
    assert len(hardware) == len(found.routes) and all(a.startswith("02:00:") for a in hardware)


@given(wild_peers, modes)
def test_route_3_no_node_redirects_packets_of_others(peers, mode):
    network = NodeNetwork(OWN, "192.0.2.1", tuple(sorted(peers)))
    found = compute_routes(network, LINKS, mode)
    ranges = [route.range for route in found.routes]
    for number, cidr in enumerate(ranges):
        others = (*ranges[:number], *ranges[number + 1 :], *LINKS, IPv4Network(OWN))
        assert not any(cidr.overlaps(other) for other in others)
    for route in found.routes:
        assert route.node not in route.range and route.range.prefixlen >= 8
    assert len(found.routes) + len(found.problems) == len(peers)
    # the first by name has its route
    first = min(peers, default=None)
    if first is not None and (cidr := read_range(first.pod_cidr)) is not None:
        free = not any(cidr.overlaps(other) for other in (*LINKS, IPv4Network(OWN)))
        address = read_address(first.address)
        if free and address is not None and address not in cidr and mode != HOST_GW:
            assert cidr in ranges


routes = st.builds(
    Route,
    st.integers(1, 4).map(lambda number: IPv4Network(f"10.244.{number}.0/24")),
    st.integers(1, 3).map(lambda number: LINK[number]),
    st.booleans(),
)
tables = st.lists(routes, max_size=4, unique_by=lambda route: route.range)


@given(tables, tables)
def test_route_5_a_change_turns_the_held_routes_into_the_wanted(held, wanted):
    change = change_routes(held, wanted)
    kernel = {route.range: route for route in held}
    for route in change.added:  # a replacement
        assert kernel.get(route.range) != route
        kernel[route.range] = route
    for route in change.removed:
        del kernel[route.range]
    assert kernel == {route.range: route for route in wanted}


def a_node(name, cidr="", address=""):
    addresses = (NodeAddress(type="InternalIP", address=address),) if address else ()
    return Node(
        metadata=ObjectMeta(name=name, uid=f"uid-{name}", resource_version="1"),
        spec=NodeSpec(pod_cidr=cidr or None, pod_cidrs=(cidr,) if cidr else None),
        status=NodeStatus(addresses=(NodeAddress(type="Hostname", address=name), *addresses)),
    )


def test_route_1_the_network_has_all_other_nodes_with_a_range_and_an_address():
    nodes = [
        a_node("a", "10.244.0.0/24", "192.0.2.1"), a_node("c", "10.244.2.0/24", "192.0.2.3"),
        a_node("b", "10.244.1.0/24", "192.0.2.2"), a_node("d", "", "192.0.2.4"), a_node("e", "10.244.5.0/24"),
    ]  # fmt: skip
    peers = (Peer("b", "10.244.1.0/24", "192.0.2.2"), Peer("c", "10.244.2.0/24", "192.0.2.3"))
    assert compute_network(nodes, "a") == NodeNetwork("10.244.0.0/24", "192.0.2.1", peers)


@pytest.mark.parametrize("errors", [[], ["no"]])
def test_route_2_the_network_is_passed_on_when_it_is_known_and_again_after_a_failure(errors):
    loop = InLoop(node_network("a"), errors)
    loop.start_with(
        {NODES.prefix: [a_node("a", "", "192.0.2.1"), a_node("b", "10.244.1.0/24", "192.0.2.2")]}
    )
    loop.settle(10_000_000)
    assert loop.programmed == []
    both = [
        a_node("a", "10.244.0.0/24", "192.0.2.1"), a_node("b", "10.244.1.0/24", "192.0.2.2"),
    ]  # fmt: skip
    loop.change_all({NODES.prefix: both})
    loop.settle(10_000_000)
    expected = compute_network(both, "a")
    assert loop.programmed == [expected] * (1 + len(errors))
    loop.change_all({NODES.prefix: both})  # another field has changed
    assert len(loop.programmed) == 1 + len(errors)
    loop.settle(301 * 1_000_000)
    assert loop.programmed == [expected] * (2 + len(errors))


def test_route_4_route_6_the_rules_name_the_ranges_and_nodes():
    """What packets do under them is shown with a kernel
    (tests/integration/test_docker_nodes.py)."""
    found = compute_routes(
        NodeNetwork(OWN, "192.0.2.1", (Peer("b", "10.244.1.0/24", "192.0.2.2"), Peer("c", "10.244.2.0/24", "198.51.100.3"))),
        LINKS, AUTO,
    )  # fmt: skip
    script = network_script("t", IPv4Network(OWN), "br", "tunnel", found.routes)
    assert "elements = { 10.244.0.0/24, 10.244.1.0/24, 10.244.2.0/24 }" in script
    assert "set nodes { type ipv4_addr; elements = { 192.0.2.2, 198.51.100.3 }; }" in script
    assert "set direct { type ipv4_addr; elements = { 192.0.2.2 }; }" in script
    assert (
        "elements"
        not in network_script("t", IPv4Network(OWN), "br", "tunnel", ()).split("nodes")[1]
    )


@pytest.mark.parametrize(("mode", "options"), [
    (NONE, {}), (AUTO, {MASQUERADE: "false"}), (HOST_GW, {MASQUERADE: "false"}),
    (VXLAN, {MASQUERADE: "false", MTU: "1450"}),
])  # fmt: skip
def test_route_4_route_7_the_engine_does_not_masquerade_and_has_the_mtu(monkeypatch, mode, options):
    monkeypatch.setattr(engine_network, "why_no_kernel_rules", lambda: "")
    monkeypatch.setattr(node_network_adapter, "mtu_of", lambda address: 1500)
    engine = PretendEngine()
    network = engine_network.Network(engine, "12345678", "192.0.2.1", mode)
    assert network.configure(OWN) == ""
    found = engine.networks[network.name]["Options"]
    assert found.pop("com.docker.network.bridge.name") == network.bridge
    assert found == options


def test_route_4_without_rules_of_its_own_the_engine_masquerades(monkeypatch):
    monkeypatch.setattr(engine_network, "why_no_kernel_rules", lambda: "no nft")
    engine = PretendEngine()
    network = engine_network.Network(engine, "12345678", "192.0.2.1", AUTO)
    network.configure(OWN)
    assert MASQUERADE not in engine.networks[network.name]["Options"]


def test_route_7_segments_through_the_tunnel_are_smaller():
    script = network_script("t", IPv4Network(OWN), "br", "tunnel", ())
    assert 'oifname "tunnel" tcp flags syn tcp option maxseg size set rt mtu' in script


# --- two families ---------------------------------------------------------------------------------

LINK6 = IPv6Network("fd00:192::/64")
OWN6 = "fd00:10:244::/64"


@st.composite
def networks_of_both(draw):
    """A node with ranges of both families, and peers that have both, or lack something of IPv6."""
    network = draw(networks())
    peers = []
    for number, peer in enumerate(network.peers):
        place = draw(
            st.sampled_from(["", f"fd00:192::{number + 2:x}", f"fd00:198::{number + 2:x}"])
        )
        cidr = draw(st.sampled_from([f"fd00:10:244:{number + 1:x}::/64"] * 3 + [""]))
        peers.append(evolve(peer, pod_cidr6=cidr, address6=place))
    return evolve(network, peers=tuple(sorted(peers)), pod_cidr6=OWN6, address6="fd00:192::1")


@given(networks_of_both(), modes)
def test_route_9_packets_of_ipv6_reach_their_node_directly_or_through_the_tunnel(network, mode):
    # Shows ROUTE-9.a ROUTE-9.b ROUTE-9.c.
    found = compute_routes(network, (*LINKS, LINK6), mode)
    by_range = {str(route.range): route for route in found.routes}
    plain = NodeNetwork(
        OWN, "192.0.2.1", tuple(Peer(p.name, p.pod_cidr, p.address) for p in network.peers)
    )
    four = [route for route in found.routes if route.range.version == 4]
    assert four == list(compute_routes(plain, LINKS, mode).routes)
    for peer in network.peers:
        is_near = peer.address6.startswith("fd00:192:")
        route = by_range.get(peer.pod_cidr6)
        if not peer.pod_cidr6:
            continue
        if mode == HOST_GW and not is_near:
            assert route is None and any(peer.name in problem for problem in found.problems)
        elif is_near and mode != VXLAN:
            assert (str(route.node), route.tunnel) == (str(ip_address(peer.address6)), False)
        else:
            assert (str(route.node), route.tunnel) == (peer.address, True)
            assert route.gateway == route.range[0]
            assert route.hardware_address == hardware_address(IPv4Network(peer.pod_cidr))
    assert compute_routes(network, (*LINKS, LINK6), NONE).routes == ()


def test_route_9_no_range_of_ipv6_overlaps_another_and_what_is_wrong_has_no_route():
    # Shows ROUTE-9.d.
    def problems_of(**more):
        peer = evolve(Peer("a", "10.244.9.0/24", "192.0.2.9"), **more)
        network = NodeNetwork(OWN, "192.0.2.1", (peer,), OWN6, "fd00:192::1")
        found = compute_routes(network, (*LINKS, LINK6), AUTO)
        return [problem for problem in found.problems if "fd00" in problem or "valid" in problem]

    for cidr in (
        "fd00:10::/32",
        "fd00:10:244::/80",
        "fd00:192::/64",
        "fe80::/64",
        "ff00::/16",
        "x",
        "::/0",
    ):
        assert len(problems_of(pod_cidr6=cidr, address6="fd00:192::9")) == 1, cidr
    assert problems_of(pod_cidr6="fd00:10:244:1::/64", address6="fd00:192::9") == []
    assert len(problems_of(pod_cidr="", address="", pod_cidr6="fd00:10:244:1::/64")) == 1


def test_route_9_the_rules_of_ipv6_are_in_a_table_of_their_own():
    # Shows ROUTE-9.e.
    peer = Peer("b", "10.244.1.0/24", "192.0.2.2", "fd00:10:244:1::/64", "fd00:192::2")
    network = NodeNetwork(OWN, "192.0.2.1", (peer,), OWN6, "fd00:192::1")
    routes = compute_routes(network, (*LINKS, LINK6), AUTO).routes
    script = network_script("t", IPv4Network(OWN), "br", "tunnel", routes, IPv6Network(OWN6))
    four, _, six = script.partition("add table ip6 t")
    assert "fd00" not in four and "ip6" not in four and "10.244" not in six
    assert "elements = { fd00:10:244::/64, fd00:10:244:1::/64 }" in six
    assert "set direct { type ipv6_addr; elements = { fd00:192::2 }; }" in six
    assert f"ip6 saddr {OWN6} ip6 daddr != ff00::/8 masquerade" in six
    assert "ip6" not in network_script("t", IPv4Network(OWN), "br", "tunnel", ())


@given(st.integers(16, 29), st.integers(64, 127), st.integers(0, 2**13))
def test_rt_45_a_pod_has_the_same_place_in_both_ranges_or_they_are_refused(length, length6, place):
    # Shows RT-45.a RT-45.b RT-45.c.
    four = IPv4Network(("10.244.0.0", length))
    six = IPv6Network(("fd00:10:244::", length6))
    is_right = 128 - length6 >= 32 - length
    for cidr in (f"{four},{six}", f"{six},{four}"):
        assert (engine_network.why_not_ranges(cidr) == "") == is_right
        if is_right:
            engine = PretendEngine()
            network = engine_network.Network(engine, "12345678", "192.0.2.1,fd00:192::1", NONE)
            assert network.configure(cidr) == ""
            assert [
                p["Subnet"] for p in engine.networks[network.name]["IPAM"]["Config"]
            ] == cidr.split(",")
            address = network.take("a")
            assert int(IPv6Address(network.second_address(address))) - int(six[0]) == int(
                IPv4Address(address)
            ) - int(four[0])
            first = "192.0.2.1" if cidr.startswith("10") else "fd00:192::1"
            assert network.node_ips[0] == first and len(network.node_ips) == 2
    assert engine_network.why_not_ranges(str(six)) and not engine_network.why_not_ranges(str(four))
