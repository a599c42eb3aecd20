"""The proxy: what becomes of packets under the rules of any services and slices. Rules NET-1 ...
NET-20 (spec/network.md)."""

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from immutables import Map
from msgspec.structs import replace
from net_loop import ProxyInLoop

from refk8s.adapters.linux.kernel_rules import forget_arguments
from refk8s.core.api.core_v1 import (
    ClientIPConfig,
    LoadBalancerIngress,
    LoadBalancerStatus,
    Node,
    Service,
    ServicePort,
    ServiceSpec,
    ServiceStatus,
    SessionAffinityConfig,
)
from refk8s.core.api.discovery_v1 import (
    Endpoint,
    EndpointConditions,
    EndpointHints,
    EndpointPort,
    EndpointSlice,
    ForNode,
    ForZone,
)
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.resources import ENDPOINT_SLICES, NODES, SERVICES
from refk8s.core.context import SECOND
from refk8s.core.loop.view import key_of
from refk8s.core.network import nftables
from refk8s.core.network import proxy as proxy_module
from refk8s.core.network.balance import HELD_MAX, NONE_HELD, order_of_trying, pick, targets_for
from refk8s.core.network.flows import Flow, read_flows, stale_flows
from refk8s.core.network.fronts import NO_FRONTS, change_fronts
from refk8s.core.network.nft_script import (
    LAYOUT,
    LAYOUT6,
    change_script,
    load_script,
    prepare_script,
    remove_script,
)
from refk8s.core.network.nftables import Picker, Table, change_table, compute_ids
from refk8s.core.network.packets import (
    DROPPED,
    NO_STICKY,
    PASSES,
    REFUSED,
    SENT,
    Packet,
    Programmed,
    apply,
    load,
    route,
)
from refk8s.core.network.proxy import SOURCE_RANGES, SOURCES_MAX, compute_rules, source_ranges
from refk8s.core.ports import HealthCheck, Rule, RuleSet, Target
from refk8s.core.properties.predicates.network import (
    net_2_packets_reach_the_endpoints,
    net_4_other_packets_pass,
    net_11_same_rules,
    net_13_source_is_hidden_as_required,
    net_22_health_checks_count_ready_endpoints,
)
from refk8s.core.value import evolve

NODE, OTHER_NODE = "n1", "n2"
PODS = IPv4Network("10.244.0.0/24")
PODS6 = IPv6Network("fd00::10.244.0.0/120")
EMPTY = Table(PODS, pods6=PODS6)
NOTHING = Programmed(PODS, PODS6)

# --- services and slices --------------------------------------------------------------------------

maybe = st.none() | st.booleans()
READY = EndpointConditions(ready=True, serving=True, terminating=False)
GOING = EndpointConditions(ready=False, serving=True, terminating=True)
conditions = st.sampled_from(
    [None, READY, READY, GOING, GOING, EndpointConditions(ready=False)]
) | st.builds(EndpointConditions, ready=maybe, serving=maybe, terminating=maybe)
pod_addresses = st.sampled_from(
    [f"10.244.0.{i}" for i in (2, 3, 4)] + [f"10.244.1.{i}" for i in (2, 3)] + ["192.0.2.11"]
)
endpoints = st.builds(
    lambda address, node, state: Endpoint(addresses=(address,), node_name=node, conditions=state),
    pod_addresses,
    st.sampled_from([NODE, OTHER_NODE, None]),
    conditions,
)
protocols = st.sampled_from(["TCP", "TCP", "UDP", "SCTP"])
port_names = st.sampled_from(["", "http", "dns"])


# around the clients of predicates/network.py, some overlapping
ranges = st.sampled_from(
    [
        "203.0.113.0/24",
        "203.0.113.7/32",
        "203.0.113.8/29",
        "192.0.2.11/32",
        "10.244.0.0/16",
        "10.244.0.128/25",
        "0.0.0.0/0",
        "fd00::/8",
    ]
)
rarely = st.integers(0, 9).map(lambda number: number == 9)


@st.composite
def slices(draw, services):
    """Slices of these services, mostly with the ports that the service has; few of none or of the
    other family."""
    found = []
    for of in [one for one in services for _ in range(draw(st.integers(0, 3)))]:
        ports = [(port.name or "", port.protocol) for port in of.spec.ports]
        if draw(rarely):
            ports = draw(
                st.lists(st.tuples(port_names, protocols), min_size=1, max_size=2, unique=True)
            )
        numbers = st.sampled_from([8080, 8080, 9090, 9090, None])
        name = "gone" if draw(rarely) else of.metadata.name
        labels = None if draw(rarely) else {"kubernetes.io/service-name": name}
        found.append(
            EndpointSlice(
                metadata=ObjectMeta(name=f"slice-{len(found)}", namespace="ns", labels=labels),
                address_type="IPv6" if draw(rarely) else "IPv4",
                endpoints=tuple(draw(st.lists(endpoints, max_size=4))),
                ports=tuple(
                    EndpointPort(name=name, port=draw(numbers), protocol=protocol)
                    for name, protocol in ports
                ),
            )
        )
    return found


@st.composite
def service(draw, name, number, used_node_ports):
    kind = (
        "ExternalName"
        if draw(rarely)
        else draw(st.sampled_from(["NodePort", "ClusterIP", "LoadBalancer"]))
    )
    ports = []
    for port_name, protocol in draw(
        st.lists(st.tuples(port_names, protocols), min_size=1, max_size=3, unique=True)
    ):
        node_port = (
            draw(st.sampled_from([30080, 30081, 30082, 30083, None]))
            if kind in ("NodePort", "LoadBalancer")
            else None
        )
        if (node_port, protocol) in used_node_ports:
            node_port = None
        used_node_ports.add((node_port, protocol))
        ports.append(
            ServicePort(
                name=port_name or None,
                port=draw(st.sampled_from([53, 80, 30080])),
                protocol=protocol,
                node_port=node_port,
            )
        )
    ports = list({(port.port, port.protocol): port for port in ports}.values())
    affinity = draw(st.sampled_from(["None", "ClientIP"]))
    spec = ServiceSpec(
        type=kind,
        cluster_ip=draw(st.sampled_from(["None", None, "fd00::1"]))
        if draw(rarely)
        else f"10.96.0.{number}",
        external_ips=tuple(
            draw(
                st.lists(
                    st.sampled_from(["198.51.100.1", "198.51.100.2", "fd00::2"]),
                    max_size=2,
                    unique=True,
                )
            )
        )
        or None,
        ports=tuple(ports),
        session_affinity=affinity,
        session_affinity_config=SessionAffinityConfig(
            client_ip=ClientIPConfig(timeout_seconds=draw(st.sampled_from([None, 60])))
        )
        if affinity == "ClientIP" and draw(st.booleans())
        else None,
        internal_traffic_policy=draw(st.sampled_from([None, "Cluster", "Local"])),
        external_traffic_policy=draw(st.sampled_from([None, "Cluster", "Local"])),
        load_balancer_source_ranges=draw(st.none() | st.lists(ranges, max_size=4).map(tuple)),
        health_check_node_port=draw(st.sampled_from([None, 32_000 + number])),
    )
    status = ServiceStatus(
        load_balancer=LoadBalancerStatus(
            ingress=tuple(
                draw(
                    st.lists(
                        st.builds(
                            LoadBalancerIngress,
                            ip=st.sampled_from(["198.51.100.1", "198.51.100.9", None]),
                            ip_mode=st.sampled_from([None, "VIP", "Proxy"]),
                        ),
                        max_size=2,
                    )
                )
            )
        )
    )
    labels = {"service.kubernetes.io/service-proxy-name": "mesh"} if draw(rarely) else None
    return Service(
        metadata=ObjectMeta(name=name, namespace="ns", labels=labels), spec=spec, status=status
    )


def six(address):
    """The address of IPv6 that stands for one of IPv4 in a world of IPv6."""
    return address if not address or ":" in address else str(ip_address(f"fd00::{address}"))


def six_range(text):
    if ":" in text:
        return text
    network = ip_network(text)
    return f"{six(str(network.network_address))}/{96 + network.prefixlen}"


def with_families(service, families, turn):
    """The service with addresses of these families, from a service of IPv4."""
    spec, status = service.spec, service.status
    address = spec.cluster_ip
    plain = not address or address == "None" or ":" in address

    def of(texts):
        return tuple(dict.fromkeys(each for text in texts for each in turn(text)))

    ingress = status.load_balancer.ingress if status.load_balancer else ()
    return replace(
        service,
        spec=replace(
            spec,
            cluster_ip=address if plain else turn(address)[0],
            cluster_ips=None if plain else turn(address),
            external_ips=of(spec.external_ips or ()) or None,
            load_balancer_source_ranges=spec.load_balancer_source_ranges
            if families == (4,) or spec.load_balancer_source_ranges is None
            else tuple(map(six_range, spec.load_balancer_source_ranges))
            + (spec.load_balancer_source_ranges if len(families) == 2 else ()),
        ),
        status=ServiceStatus(
            load_balancer=LoadBalancerStatus(
                ingress=tuple(
                    replace(one, ip=each)
                    for one in ingress or ()
                    for each in (turn(one.ip) if one.ip else (None,))
                )
            )
        ),
    )


def turned(world, families):
    """The same world with addresses of these families, in this order (NET-24)."""

    def turn(address):
        return tuple(six(address) if family == 6 else address for family in families)

    services, slices = world
    found = []
    for one in slices:
        for family in families if one.address_type == "IPv4" else (6,):
            endpoints = tuple(
                replace(each, addresses=tuple(map(six, each.addresses))) if family == 6 else each
                for each in one.endpoints
            )
            found.append(
                replace(
                    one,
                    metadata=replace(one.metadata, name=f"{one.metadata.name}-{family}"),
                    address_type=f"IPv{family}",
                    endpoints=endpoints,
                )
            )
    return [with_families(one, families, turn) for one in services], found


stacks = st.sampled_from([(4,), (4,), (6,), (4, 6), (6, 4)])


@st.composite
def worlds(draw):
    """Services with their slices, of one family or of both."""
    return turned(draw(worlds_of_ipv4()), draw(stacks))


@st.composite
def worlds_of_ipv4(draw):
    names = ["a", "b", "c"][: draw(st.integers(0, 3))]
    used: set = set()
    services = [draw(service(name, 1 + ord(name) - ord("a"), used)) for name in names]
    return services, draw(slices(services))


def rules_of(services, slices) -> RuleSet:
    by_service = {}
    for one in services:
        key = key_of(one)
        mine = [
            slice
            for slice in slices
            if (slice.metadata.labels or {}).get("kubernetes.io/service-name") == one.metadata.name
        ]
        if rules := compute_rules(one, mine, NODE):
            by_service[key] = rules
    return RuleSet(by_service)


def programmed(rule_set: RuleSet) -> Programmed:
    return load(NOTHING, change_table(EMPTY, rule_set)[1])


@given(worlds_of_ipv4())
def test_net_24_rules_of_both_families_are_the_same_but_for_the_addresses(world):
    # Shows NET-24.a NET-24.b.
    services, slices = world
    mine = [one for one in services if ":" not in (one.spec.cluster_ip or "")]
    world = mine, [each for each in slices if each.address_type == "IPv4"]
    four, both = rules_of(*turned(world, (4,))), rules_of(*turned(world, (4, 6)))
    assert four.rules == [rule for rule in both.rules if ":" not in rule.address]
    mirrored = [mirrored_rule(rule) for rule in four.rules]
    # the external address of IPv6 is only of the second world
    found = [rule for rule in both.rules if ":" in rule.address and rule.address != "fd00::2"]
    assert sorted(map(plain, mirrored)) == sorted(map(plain, found))


def plain(rule):
    inside, targets = tuple(sorted(rule.inside)), tuple(sorted(rule.targets))
    return evolve(rule, inside=inside, targets=targets, sources=())


def mirrored_rule(rule):
    inside = tuple(map(replace_target, rule.inside))
    targets = tuple(map(replace_target, rule.targets))
    return evolve(rule, address=six(rule.address) or "::", inside=inside, targets=targets)


def replace_target(target):
    return Target(six(target.address), target.port)


@given(worlds())
def test_net_24_a_node_without_ipv6_has_no_rules_of_it(world):
    # Shows NET-24.c.
    table, change = change_table(Table(PODS), rules_of(*world))
    script = load_script("refk8s_x", table, change)
    assert "ip6" not in script and "fd00" not in script and not any(p.six for p in change.pickers)
    _, back = change_table(table, RuleSet({}))
    assert not any(name.startswith("ip6/") for name, _, _ in (*change.added, *back.removed))


# --- the laws, for any services and slices --------------------------------------------------------


@settings(max_examples=3 * settings.default.max_examples)
@given(worlds())
def test_net_2_packets_reach_the_right_endpoints_evenly_or_are_refused(world):
    """With NET-3, NET-6, NET-7, NET-9, NET-10 and NET-12."""
    assert list(net_2_packets_reach_the_endpoints(*world, NODE, programmed(rules_of(*world)))) == []


@given(worlds())
def test_net_5_every_way_in_keeps_its_clients_as_long_as_the_service_asks(world):
    for one in world[0]:
        config = one.spec.session_affinity_config
        asked = (
            config.client_ip.timeout_seconds
            if config is not None and config.client_ip is not None
            else None
        )
        expected = (asked or 10_800) if one.spec.session_affinity == "ClientIP" else 0
        assert {rule.affinity_seconds for rule in compute_rules(one, world[1], NODE)} <= {expected}


def test_net_8_a_proxy_speaks_in_the_name_of_its_node():
    loop = proxy_module.proxy("n1")
    assert (loop.name, loop.component, loop.host) == ("proxy/n1", "kube-proxy", "n1")
    assert {user.name for user in loop.users.values()} == {"system:kube-proxy"}


small_endpoints = st.lists(
    st.tuples(
        st.sampled_from([NODE, OTHER_NODE]),
        st.sampled_from([READY, GOING, EndpointConditions(ready=False)]),
    ),
    max_size=4,
)
policies = st.sampled_from(["Cluster", "Local"])


@given(small_endpoints, policies, policies)
def test_net_3_each_node_has_its_own_last_resort(drawn, internal, external):
    """With NET-6 and NET-7: whether an endpoint that is going is needed is asked among those that
    may be chosen, not among all."""
    spec = ServiceSpec(
        type="NodePort",
        cluster_ip="10.96.0.1",
        ports=(ServicePort(port=80, protocol="TCP", node_port=30080),),
        internal_traffic_policy=internal,
        external_traffic_policy=external,
    )
    one = Service(metadata=ObjectMeta(name="a", namespace="ns"), spec=spec)
    told = tuple(
        Endpoint(
            addresses=(f"10.244.{int(node == OTHER_NODE)}.{number}",),
            node_name=node,
            conditions=state,
        )
        for number, (node, state) in enumerate(drawn, 2)
    )
    metadata = ObjectMeta(name="a-1", namespace="ns", labels={"kubernetes.io/service-name": "a"})
    ports = (EndpointPort(name="", port=8080, protocol="TCP"),)
    mine = [EndpointSlice(metadata=metadata, address_type="IPv4", endpoints=told, ports=ports)]
    assert (
        list(
            net_2_packets_reach_the_endpoints([one], mine, NODE, programmed(rules_of([one], mine)))
        )
        == []
    )


@given(
    worlds(),
    st.sampled_from(["10.96.0.1", "10.96.0.2", "198.51.100.1", "192.0.2.11", "10.244.0.2"]),
    protocols,
    st.sampled_from([53, 80, 8080, 30080, 30081]),
    st.booleans(),
)
def test_net_4_what_is_no_way_in_is_left_alone(world, address, protocol, port, to_node):
    packets = [
        Packet("203.0.113.7", address, protocol, port, to_node=to_node),
        Packet(six("203.0.113.7"), six(address), protocol, port, to_node=to_node),
        Packet("::1", "::1", protocol, port, from_node=True, to_node=True),
    ]
    assert list(net_4_other_packets_pass(world[0], programmed(rules_of(*world)), packets)) == []


@given(worlds())
def test_net_13_the_source_is_hidden_only_where_it_must_be(world):
    """With NET-15."""
    assert list(net_13_source_is_hidden_as_required(world[0], programmed(rules_of(*world)))) == []


@given(st.lists(worlds(), min_size=1, max_size=4))
def test_net_11_what_changed_step_by_step_is_what_is_made_at_once(history):
    """Incremental = from scratch, for any sequence of worlds; and a whole load over whatever was
    there gives the same again."""
    table, state = EMPTY, NOTHING
    for world in history:
        table, change = change_table(table, rules_of(*world))
        state = apply(state, change)
    fresh = programmed(rules_of(*history[-1]))
    assert list(net_11_same_rules(state, fresh)) == []
    assert (
        list(net_11_same_rules(load(state, change_table(EMPTY, rules_of(*history[-1]))[1]), fresh))
        == []
    )
    assert not change_table(table, rules_of(*history[-1]))[1]


@given(st.lists(worlds(), min_size=1, max_size=8), st.integers(0, 3))
def test_net_11_chains_that_no_service_needs_are_kept_up_to_a_number(history, idle_max):
    # Shows NET-11.d.
    table, state = EMPTY, NOTHING
    with patch.object(nftables, "IDLE_MAX", idle_max):
        for world in history:
            table, change = change_table(table, rules_of(*world))
            state = apply(state, change)  # raises if something goes to a deleted chain
            assert state.pickers == table.pickers
            needed = set(change_table(EMPTY, rules_of(*world))[0].pickers)
            assert needed <= set(table.pickers)
            assert len(set(table.pickers) - needed) <= idle_max
            scripts = prepare_script("x", table, change) + change_script("x", change)
            assert scripts.count("delete chain") == len(change.idle)
        _, change = change_table(table, RuleSet({}))
        assert len(change.idle) in (0, len(table.pickers) - len(needed_always(table)))


def needed_always(table):
    return change_table(Table(table.pods, pods6=table.pods6), RuleSet({}))[0].pickers


@given(worlds())
def test_net_11_after_all_services_are_gone_no_element_is_left(world):
    table, change = change_table(EMPTY, rules_of(*world))
    _, back = change_table(table, RuleSet({}))
    assert apply(load(NOTHING, change), back).maps == Map()


@given(worlds(), st.randoms())
def test_net_1_rules_do_not_depend_on_the_order_of_slices_endpoints_or_services(world, chance):
    services, slices = world
    shuffled = [
        replace(slice, endpoints=tuple(chance.sample(slice.endpoints, len(slice.endpoints))))
        for slice in slices
    ]
    chance.shuffle(shuffled)
    assert rules_of(services, slices).services == rules_of(services, shuffled).services
    backwards = change_table(
        EMPTY, RuleSet(dict(reversed(rules_of(services, shuffled).services.items())))
    )[1]
    assert (
        list(net_11_same_rules(load(NOTHING, backwards), programmed(rules_of(services, slices))))
        == []
    )


# --- the reconcilers in the loop ------------------------------------------------------------------


@given(worlds(), worlds())
def test_net_8_the_first_set_handed_over_is_whole_and_later_ones_are_up_to_date(first, second):
    loop = ProxyInLoop(NODE)
    loop.start(*first)
    assert [dict(rule_set.services) for rule_set in loop.programmed] == [rules_of(*first).services]
    assert not [*net_22_health_checks_count_ready_endpoints(loop.programmed[-1], *first, NODE)]
    loop.change_to(*second)
    assert dict(loop.programmed[-1].services) == rules_of(*second).services
    assert not [*net_22_health_checks_count_ready_endpoints(loop.programmed[-1], *second, NODE)]
    loop.settle()
    assert loop.idle


@given(st.lists(small_endpoints, min_size=1, max_size=4), st.booleans())
def test_net_22_the_health_check_follows_the_ready_endpoints_of_the_node(history, is_local):
    spec = ServiceSpec(
        type="LoadBalancer",
        cluster_ip="10.96.0.1",
        ports=(ServicePort(port=80, protocol="TCP"),),
        external_traffic_policy="Local" if is_local else "Cluster",
        health_check_node_port=32_000,
    )
    one = Service(metadata=ObjectMeta(name="a", namespace="ns"), spec=spec)
    metadata = ObjectMeta(name="a-1", namespace="ns", labels={"kubernetes.io/service-name": "a"})
    loop = ProxyInLoop(NODE)
    loop.start([one], [])
    for drawn in history:
        told = tuple(
            Endpoint(addresses=(f"10.244.0.{number}",), node_name=node, conditions=state)
            for number, (node, state) in enumerate(drawn, 2)
        )
        mine = EndpointSlice(metadata=metadata, address_type="IPv4", endpoints=told, ports=())
        loop.change_to([one], [mine])
        ready = [state for node, state in drawn if node == NODE and state is READY]
        expected = {"ns/a": HealthCheck(32_000, len(ready))} if is_local else {}
        assert dict(loop.programmed[-1].health_checks) == expected
        assert not [
            *net_22_health_checks_count_ready_endpoints(loop.programmed[-1], [one], [mine], NODE)
        ]
    loop.change_to([], [])
    assert not loop.programmed[-1].health_checks


@given(worlds())
def test_net_8_a_set_that_failed_is_handed_over_again_and_a_good_one_after_a_while(world):
    loop = ProxyInLoop(NODE, errors=["no such file", "busy", ""])
    loop.start(*world)
    loop.settle(20 * SECOND)
    assert len(loop.programmed) == 3 and loop.programmed[-1].services == loop.programmed[0].services
    loop.settle(proxy_module.REFRESH + SECOND)
    assert len(loop.programmed) == 4


# --- affinity -------------------------------------------------------------------------------------

targets = st.lists(
    st.builds(
        Target, st.sampled_from([f"10.244.0.{i}" for i in range(2, 9)]), st.sampled_from([80, 8080])
    ),
    max_size=6,
    unique=True,
).map(lambda found: tuple(sorted(found)))
sticky_rules = st.builds(
    lambda outside, inside, local, node: Rule(
        "" if node else "10.96.0.1",
        "TCP",
        30080,
        outside,
        60,
        local=local,
        inside=inside or outside if local else (),
        drop=local and not outside,
    ),
    targets,
    targets,
    st.booleans(),
    st.booleans(),
)
CLIENTS = ["10.244.0.200", "203.0.113.7", "203.0.113.8"]


@given(
    st.lists(
        st.tuples(
            sticky_rules,
            st.lists(st.tuples(st.sampled_from(CLIENTS), st.integers(0, 1000)), max_size=8),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_net_5_and_14_a_client_stays_with_its_endpoint_until_that_leaves(history):
    """In the kernel's maps and in the user-space choice alike; who leaves takes its entries along,
    and only who may answer is asked."""
    table, state, stuck, held = EMPTY, NOTHING, NO_STICKY, NONE_HELD
    had: dict = {}
    for rule, askers in history:
        table, change = change_table(table, RuleSet({"ns/a": (rule,)}))
        state = apply(state, change)
        for client, number in askers:
            within = client.startswith("10.244.")
            packet = Packet(
                client, rule.address or "192.0.2.11", "TCP", 30080, to_node=not rule.address
            )
            fate, stuck = route(state, packet, number, stuck)
            chosen, held = pick(rule, client, within, number, held, 0)
            allowed = targets_for(rule, within)
            way = (client, rule.address)
            for who, answer in (("kernel", fate.target), ("process", chosen)):
                assert (answer is None) == (not allowed)
                if answer is not None:
                    assert answer in allowed
                    # a change of policy may send clients elsewhere
                    before = had.get((who, way, rule.local))
                    assert answer == before or before not in allowed, (
                        f"{client} left {before} for {answer} ({who})"
                    )
                    had[who, way, rule.local] = answer
                    had.pop((who, way, not rule.local), None)


def test_net_5_affinity_ends_with_its_time():
    rule = Rule("10.96.0.1", "TCP", 80, (Target("10.244.0.2", 80), Target("10.244.0.3", 80)), 60)
    first, held = pick(rule, "203.0.113.7", False, 0, NONE_HELD, 0)
    still, held = pick(rule, "203.0.113.7", False, 1, held, 59 * SECOND)
    # each connection begins the time anew
    later, held = pick(rule, "203.0.113.7", False, 1, held, 118 * SECOND)
    after, held = pick(rule, "203.0.113.7", False, 1, held, 178 * SECOND)
    assert first == still == later != after


def test_net_5_the_memory_of_clients_is_bounded():
    rule = Rule("10.96.0.1", "TCP", 80, (Target("10.244.0.2", 80),), 60)
    held = NONE_HELD
    for i in range(HELD_MAX + 10):
        _, held = pick(rule, f"client {i}", False, 0, held, i)
    assert len(held.entries) <= HELD_MAX


@given(sticky_rules)
def test_net_14_ids_tell_the_targets_of_a_rule_apart_and_are_never_nothing(rule):
    ids = list(compute_ids(rule).values())
    assert len(set(ids)) == len(ids) == len(rule.targets) + len(rule.inside) and all(
        0 < id < 1 << 32 for id in ids
    )


@given(sticky_rules, st.booleans(), st.integers(0, 100))
def test_net_20_every_endpoint_is_tried_once_beginning_with_the_one_picked(rule, within, number):
    target, _ = pick(rule, "203.0.113.7", within, number, NONE_HELD, 0)
    if target is None:
        assert not targets_for(rule, within)
        return
    order = list(order_of_trying(rule, within, target))
    assert order[0] == target and sorted(order) == sorted(targets_for(rule, within))


# --- contested fronts -----------------------------------------------------------------------------

FRONT = ("198.51.100.1", "TCP", 80)
claims = st.dictionaries(
    st.sampled_from(["ns/a", "ns/b", "ns/c"]),
    st.sampled_from([1, 2]).map(lambda port: (Rule(*FRONT, (Target("10.244.0.2", port),)),)),
)


@given(st.lists(claims, min_size=1, max_size=6))
def test_net_9_a_front_claimed_twice_is_the_first_ones_in_the_alphabet_whatever_came_before(
    history,
):
    fronts = NO_FRONTS
    for services in history:
        before = fronts
        fronts, differing = change_fronts(fronts, RuleSet(services))
        assert fronts.rules.get(FRONT) == (services[min(services)][0] if services else None)
        assert (FRONT in differing) == (before.rules.get(FRONT) != fronts.rules.get(FRONT))


# --- what connection tracking must forget ---------------------------------------------------------


destinations = st.sampled_from(
    ["10.96.0.1", "10.96.0.2", "192.0.2.11", "192.0.2.11", "203.0.113.7"]
)
repliers = st.sampled_from(["", "", "10.244.0.2", "10.244.0.3", "10.244.1.2"])  # "": not translated
flows = st.lists(
    st.builds(
        lambda is_six, to, port, by: (
            Flow(six(to), port, six(by or to)) if is_six else Flow(to, port, by or to)
        ),
        st.booleans(),
        destinations,
        st.sampled_from([53, 80, 30080, 30081]),
        repliers,
    ),
    max_size=30,
)


@given(worlds(), worlds(), flows)
def test_net_16_udp_flows_to_endpoints_that_left_are_forgotten_and_no_others(
    first, second, remembered
):
    table, _ = change_table(EMPTY, rules_of(*first))
    after, change = change_table(table, rules_of(*second))
    changed = {front for front in change.fronts if front[1] == "UDP"}
    stale = stale_flows(after.fronts.rules, changed, remembered, ("192.0.2.11", six("192.0.2.11")))
    assert set(stale) <= set(remembered)
    for flow in remembered:
        translated = flow.replier != flow.destination
        ways = [(flow.destination, "UDP", flow.port)]
        if translated or flow.destination in ("192.0.2.11", six("192.0.2.11")):
            ways.append(("::" if ":" in flow.destination else "", "UDP", flow.port))
        way = next((way for way in ways if way in changed), None)
        rule = after.fronts.rules.get(way)
        alive = {target.address for target in (*rule.targets, *rule.inside)} if rule else set()
        wrong_now = flow.replier not in alive and (translated or bool(alive))
        assert (flow in stale) == (way is not None and wrong_now)


def test_net_16_the_listing_of_connection_tracking_is_read():
    listed = (
        "udp      17 28 src=192.0.2.9 dst=10.96.0.13 sport=5353 dport=53 src=10.244.77.2 "
        "dst=10.244.77.1 sport=8080 [ASSURED]\n"
        "udp      17 29 src=192.0.2.9 dst=192.0.2.11 sport=5354 dport=30053 [UNREPLIED] "
        "src=192.0.2.11 dst=192.0.2.9 sport=30053 mark=0\n"
        "unknown  2 500 src=10.0.0.1 dst=224.0.0.1 src=224.0.0.1 dst=10.0.0.1\n"
    )
    assert list(read_flows(listed)) == [
        Flow("10.96.0.13", 53, "10.244.77.2"),
        Flow("192.0.2.11", 30053, "192.0.2.11"),
    ]


def test_net_16_only_the_flows_of_that_front_and_endpoint_are_named():
    assert forget_arguments(Flow("10.96.0.1", 53, "10.244.0.2")) == [
        "-D", "-p", "udp", "--orig-dst", "10.96.0.1", "--orig-port-dst", "53", "--reply-src", "10.244.0.2",
    ]  # fmt: skip


# --- the words ------------------------------------------------------------------------------------


@given(worlds())
def test_net_11_the_script_names_only_maps_and_chains_that_it_has_declared(world):
    table, change = change_table(EMPTY, rules_of(*world))
    script = load_script("refk8s_x", table, change)
    known = {*LAYOUT.maps, *LAYOUT.sticky, *LAYOUT.sets}
    assert known == {*LAYOUT6.maps, *LAYOUT6.sticky, *LAYOUT6.sets}
    chains = {*LAYOUT.chains, *(picker.name for picker in change.pickers)}
    assert set(re.findall(r"@(\w+)", script)) <= known
    assert set(re.findall(r"goto ([\w-]+)", script)) <= chains
    assert set(re.findall(r"(?:add|delete) element ip6? refk8s_x (\w+)", script)) <= known
    for family, words in re.findall(r"element (ip6?) refk8s_x \w+ \{(.*)\}", script):
        has_six = re.search(r"[0-9a-f]:[0-9a-f:]", words) is not None
        assert not has_six or family == "ip6"
        assert family == "ip" or re.search(r"\d\.\d", words) is None


def test_net_10_a_change_of_one_service_among_many_names_only_that_one():
    four = tuple(Target(f"10.244.9.{j}", 80) for j in range(1, 5))
    rules = {
        f"ns/s{i}": (Rule(f"10.96.{i // 250}.{i % 250}", "TCP", 80, four),) for i in range(1000)
    }
    table, _ = change_table(EMPTY, RuleSet(rules))
    changed = {
        **rules,
        "ns/s7": (
            Rule("10.96.0.7", "TCP", 80, (Target("10.244.9.1", 80), Target("10.244.9.9", 80))),
        ),
    }
    _, change = change_table(table, RuleSet(changed))
    assert not change.pickers
    assert len(change.removed) + len(change.added) == 6
    assert "10.96.0.8" not in change_script("refk8s_x", change)


def test_net_19_removal_names_the_table_and_nothing_else():
    assert remove_script("refk8s_x").split("\n") == [
        "add table ip refk8s_x",
        "delete table ip refk8s_x",
        "",
    ]


# --- sometimes: the interesting cases are reached -------------------------------------------------


@pytest.mark.parametrize("kind", [SENT, REFUSED, DROPPED, PASSES])
def test_net_12_every_fate_is_met(kind):
    one = Target("10.244.0.2", 80)
    rules = (
        Rule("10.96.0.1", "TCP", 80, (one,)),
        Rule("10.96.0.2", "TCP", 80),
        Rule("", "TCP", 30080, (), local=True, inside=(one,), drop=True),
    )
    state = programmed(RuleSet({"ns/a": rules}))
    met = {
        SENT: Packet("10.244.0.2", "10.96.0.1", "TCP", 80),
        REFUSED: Packet("10.244.0.2", "10.96.0.2", "TCP", 80),
        DROPPED: Packet("203.0.113.7", "192.0.2.11", "TCP", 30080, to_node=True),
        PASSES: Packet("10.244.0.2", "10.96.0.3", "TCP", 80),
    }[kind]
    fate, _ = route(state, met, 0)
    assert fate.kind == kind and fate.masquerade == (kind == SENT)


def test_net_3_an_endpoint_that_is_going_answers_only_while_none_is_ready():
    def state(**of):
        return EndpointSlice(
            metadata=ObjectMeta(
                name="s", namespace="ns", labels={"kubernetes.io/service-name": "a"}
            ),
            address_type="IPv4",
            ports=(EndpointPort(name="", port=80, protocol="TCP"),),
            endpoints=tuple(
                Endpoint(addresses=(f"10.244.0.{i}",), conditions=EndpointConditions(**of_one))
                for i, of_one in of.items()
            ),
        )

    a = Service(
        metadata=ObjectMeta(name="a", namespace="ns"),
        spec=ServiceSpec(cluster_ip="10.96.0.1", ports=(ServicePort(port=80),)),
    )
    ready, going = (
        {"ready": True, "serving": True, "terminating": False},
        {"ready": False, "serving": True, "terminating": True},
    )
    silent = {"ready": False, "serving": False, "terminating": True}
    assert [
        t.address for t in compute_rules(a, [state(**{"2": ready, "3": going})], NODE)[0].targets
    ] == ["10.244.0.2"]
    assert [
        t.address for t in compute_rules(a, [state(**{"2": silent, "3": going})], NODE)[0].targets
    ] == ["10.244.0.3"]
    assert compute_rules(a, [state(**{"2": silent})], NODE)[0].targets == ()


def hinted(number: int, zones: tuple[str, ...], nodes: tuple[str, ...], ready: bool) -> Endpoint:
    hints = EndpointHints(
        for_zones=tuple([ForZone(name=name) for name in zones]) or None,
        for_nodes=tuple([ForNode(name=name) for name in nodes]) or None,
    )
    return Endpoint(
        addresses=(f"10.244.0.{number}",),
        conditions=EndpointConditions(ready=ready, serving=True, terminating=not ready),
        hints=hints if zones or nodes else None,
    )


places = st.lists(st.sampled_from(["a", "b", "c"]), max_size=2, unique=True).map(tuple)


@given(st.lists(st.tuples(places, places, st.booleans()), max_size=5), st.sampled_from("abc"), st.sampled_from(["a", "b", "c", ""]))  # fmt: skip
def test_net_23_hints_of_all_ready_endpoints_choose_those_for_the_node_or_its_zone(drawn, node, zone):  # fmt: skip
    endpoints = [hinted(number, *one) for number, one in enumerate(drawn)]
    ready = [number for number, (_, _, is_ready) in enumerate(drawn) if is_ready]
    expected = ready or range(len(drawn))
    zonal = [number for number in ready if zone in drawn[number][0]]
    own = [number for number in ready if node in drawn[number][1]]
    if zonal and all(drawn[number][0] for number in ready):
        expected = zonal
    if own and all(drawn[number][1] for number in ready):
        expected = own
    service = Service(
        metadata=ObjectMeta(name="a", namespace="ns"),
        spec=ServiceSpec(cluster_ip="10.96.0.1", ports=(ServicePort(port=80),)),
    )
    slice = EndpointSlice(
        metadata=ObjectMeta(name="s", namespace="ns"),
        address_type="IPv4",
        ports=(EndpointPort(name="", port=80),),
        endpoints=tuple(endpoints),
    )
    [rule] = compute_rules(service, [slice], node, zone)
    assert {t.address for t in rule.targets} == {f"10.244.0.{number}" for number in expected}


def test_net_23_rules_follow_the_zone_of_the_node():
    service = Service(
        metadata=ObjectMeta(name="a", namespace="ns", uid="u"),
        spec=ServiceSpec(cluster_ip="10.96.0.1", ports=(ServicePort(port=80),)),
    )
    slice = EndpointSlice(
        metadata=ObjectMeta(name="s", namespace="ns", labels={"kubernetes.io/service-name": "a"}),
        address_type="IPv4",
        ports=(EndpointPort(name="", port=80),),
        endpoints=(hinted(1, ("a",), (), True), hinted(2, ("b",), (), True)),
    )

    def objects(zone: str) -> dict[str, list[Any]]:
        labels = {"topology.kubernetes.io/zone": zone} if zone else None
        node = Node(metadata=ObjectMeta(name=NODE, labels=labels))
        return {SERVICES.prefix: [service], ENDPOINT_SLICES.prefix: [slice], NODES.prefix: [node]}

    loop = ProxyInLoop(NODE)
    loop.start_with(objects("a"))
    for zone, last in (("a", [1]), ("b", [2]), ("", [1, 2]), ("c", [1, 2]), ("a", [1])):
        loop.change_all(objects(zone))
        loop.settle()
        [[rule]] = loop.programmed[-1].services.values()
        assert [t.address for t in rule.targets] == [f"10.244.0.{n}" for n in last]


def test_net_2_two_ports_of_a_service_lead_to_their_own_numbers_of_every_slice():
    ports = (
        ServicePort(name="http", port=80, protocol="TCP"),
        ServicePort(name="admin", port=81, protocol="TCP"),
    )
    a = Service(
        metadata=ObjectMeta(name="a", namespace="ns"),
        spec=ServiceSpec(cluster_ip="10.96.0.1", ports=ports),
    )
    slices = [
        EndpointSlice(
            metadata=ObjectMeta(
                name=f"s{i}", namespace="ns", labels={"kubernetes.io/service-name": "a"}
            ),
            address_type="IPv4",
            ports=(
                EndpointPort(name="http", port=http, protocol="TCP"),
                EndpointPort(name="admin", port=9000, protocol="TCP"),
            ),
            endpoints=(Endpoint(addresses=(f"10.244.0.{i}",)),),
        )
        for i, http in ((2, 8080), (3, 8081))
    ]
    found = {
        rule.port: {(target.address, target.port) for target in rule.targets}
        for rule in compute_rules(a, slices, NODE)
    }
    assert found == {
        80: {("10.244.0.2", 8080), ("10.244.0.3", 8081)},
        81: {("10.244.0.2", 9000), ("10.244.0.3", 9000)},
    }


def test_net_16_who_spoke_before_there_was_a_service_is_not_left_to_nobody():
    rule = Rule("10.96.0.1", "UDP", 53, (Target("10.244.0.2", 5353),))
    flow = Flow("10.96.0.1", 53, "10.96.0.1")
    front = ("10.96.0.1", "UDP", 53)
    assert stale_flows({front: rule}, {front}, [flow], ()) == [flow]
    assert stale_flows({}, {front}, [flow], ()) == []


def test_net_13_the_names_of_chains_tell_them_apart():
    pickers = [
        Picker(kind, count, inside, seconds, node)
        for kind in ("cluster", "outside", "local", "inside")
        for count in (0, 1, 11)
        for inside in ((0, 1, 11) if kind == "local" else (0,))
        for seconds in (0, 1, 60)
        for node in (False, True)
    ]
    assert len({picker.name for picker in pickers}) == len(pickers)


@pytest.mark.parametrize(
    ("fields", "annotation", "expected"),
    [
        ({}, None, None),
        ({}, " ", None),
        ({}, "192.0.2.0/24, 10.0.0.1/8", ("10.0.0.0/8", "192.0.2.0/24")),
        ({}, "nonsense", ()),
        ({"load_balancer_source_ranges": ("fd00::/8",)}, None, ()),
        ({"load_balancer_source_ranges": ("10.0.0.0/8",)}, "192.0.2.0/24", ("10.0.0.0/8",)),
        ({"load_balancer_source_ranges": ("10.0.0.0/9", "10.128.0.0/9")}, None, ("10.0.0.0/8",)),
        ({"load_balancer_source_ranges": ("10.0.0.1/32",) * (SOURCES_MAX + 1)}, None, ()),
    ],
)
def test_net_21_ranges_are_disjoint_and_what_cannot_be_read_allows_nobody(
    fields, annotation, expected
):
    annotations = {SOURCE_RANGES: annotation} if annotation is not None else None
    for kind, ranges in (("LoadBalancer", expected), ("NodePort", None)):
        one = Service(
            metadata=ObjectMeta(name="a", namespace="ns", annotations=annotations),
            spec=ServiceSpec(type=kind, cluster_ip="10.96.0.1", **fields),
        )
        assert source_ranges(one, "IPv4") == ranges


@given(worlds(), st.lists(ranges, min_size=1, max_size=4))
def test_net_21_only_clients_in_the_ranges_reach_a_load_balancer(world, drawn):
    """NET-2 for the same services as load balancers with these ranges."""
    services, slices = world
    balancer = LoadBalancerStatus(ingress=(LoadBalancerIngress(ip="198.51.100.9"),))
    restricted = [
        replace(
            one,
            spec=replace(one.spec, type="LoadBalancer", load_balancer_source_ranges=tuple(drawn)),
            status=ServiceStatus(load_balancer=balancer),
        )
        for one in services
    ]
    state = programmed(rules_of(restricted, slices))
    assert list(net_2_packets_reach_the_endpoints(restricted, slices, NODE, state)) == []


@given(st.lists(ranges, max_size=4), st.sampled_from(["203.0.113.7", "192.0.2.11", "10.244.0.2"]))
def test_net_21_the_user_space_proxy_admits_the_same_clients(drawn, client):
    allowed = tuple(text for text in drawn if ":" not in text)
    rule = Rule("198.51.100.1", "TCP", 80, (Target("10.244.0.9", 80),), restricted=True)
    target, _ = pick(evolve(rule, sources=allowed), client, False, 0, NONE_HELD, 0)
    assert (target is not None) == any(IPv4Address(client) in IPv4Network(text) for text in allowed)
