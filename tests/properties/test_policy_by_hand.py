"""Network policies: the cases of the Kubernetes documentation, each by the filter of a node and by
the reference. Rules POLICY-1 to POLICY-8 (spec/network_policy.md)."""

from typing import Any

import msgspec
import pytest
from policy_reference import Flow, PolicyWorld, is_allowed
from policy_world import NODE, OTHER_NODE, POD_RANGE, state_of

from refk8s.core.api.core_v1 import Namespace, Pod
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.networking_v1 import NetworkPolicy
from refk8s.core.network.policy_packets import Packet, is_accepted, load
from refk8s.core.network.policy_table import NO_TABLE, change_policies

WEB, DB, APP, FAR, AGENT, DONE = (
    "10.244.0.2",
    "10.244.0.3",
    "10.244.0.4",
    "10.244.1.2",
    "192.0.2.12",
    "10.244.0.9",
)
OUTSIDE = "203.0.113.7"
ALL_PORTS = ("TCP", 5432), ("TCP", 80), ("UDP", 53), ("ICMP", 0)


def pod(namespace, name, address, node=NODE, **more):
    ports = [{"name": "sql", "containerPort": 5432}]
    spec = {"containers": [{"name": "c", "image": "i", "ports": ports}], "nodeName": node}
    phase = more.pop("phase", "Running")
    return msgspec.convert(
        {
            "metadata": {"name": name, "namespace": namespace, "labels": {"app": name}},
            "spec": spec | more,
            "status": {"phase": phase, "podIPs": [{"ip": address}]},
        },
        Pod,
    )


PODS = [
    pod("a", "web", WEB),
    pod("a", "db", DB),
    pod("b", "app", APP),
    pod("b", "far", FAR, OTHER_NODE),
    pod("b", "agent", AGENT, OTHER_NODE, hostNetwork=True),
    pod("a", "done", DONE, phase="Succeeded"),
]
NAMESPACES = [
    msgspec.convert({"metadata": {"name": name, "labels": {"team": name}}}, Namespace)
    for name in ("a", "b")
]


def allowed(*specs: dict[str, Any]):
    """Whether a flow passes under policies of namespace a with these specs."""
    policies = [
        msgspec.convert(
            {"metadata": {"name": f"p{number}", "namespace": "a"}, "spec": spec}, NetworkPolicy
        )
        for number, spec in enumerate(specs)
    ]
    world = PolicyWorld(policies, PODS, NAMESPACES, NODE, POD_RANGE)
    filter = load(POD_RANGE, change_policies(NO_TABLE, state_of(world).enforced)[1])

    def passes(client: str, server: str, protocol: str = "TCP", port: int = 5432) -> bool:
        there = is_accepted(filter, Packet(client, server, protocol, port))
        back = is_accepted(filter, Packet(server, client, protocol, port, reply=True))
        expected = is_allowed(world, Flow(client, server, protocol, port))
        assert there == back == expected
        return there

    return passes


def of_db(**more: Any) -> dict[str, Any]:
    return {"podSelector": {"matchLabels": {"app": "db"}}, **more}


def test_policy_2_a_policy_isolates_its_pods_in_the_directions_of_its_types():
    passes = allowed(of_db())
    assert not passes(WEB, DB) and passes(DB, WEB) and passes(WEB, FAR)
    passes = allowed(of_db(policyTypes=["Egress"]))
    assert passes(WEB, DB) and not passes(DB, WEB)
    passes = allowed(of_db(egress=[{"ports": [{"port": 80}]}]))  # both, by default
    assert not passes(WEB, DB) and not passes(DB, WEB) and passes(DB, WEB, port=80)
    passes = allowed({"podSelector": {}, "policyTypes": ["Ingress"]})
    assert not passes(WEB, DB) and not passes(DB, WEB) and passes(WEB, APP)
    passes = allowed(of_db(ingress=[{}], egress=[{}], policyTypes=["Egress"]))
    assert passes(WEB, DB) and passes(DB, WEB)


def test_policy_3_the_rules_of_all_policies_add_up():
    from_web = of_db(ingress=[{"from": [{"podSelector": {"matchLabels": {"app": "web"}}}]}])
    passes = allowed({"podSelector": {}}, from_web, of_db(ingress=[{"ports": [{"port": 80}]}]))
    assert passes(WEB, DB) and passes(APP, DB, port=80) and not passes(APP, DB)
    assert not passes(DB, WEB)


TEAM_B = {"namespaceSelector": {"matchLabels": {"team": "b"}}}
LABEL_WEB, LABEL_APP = ({"podSelector": {"matchLabels": {"app": name}}} for name in ("web", "app"))


@pytest.mark.parametrize(
    ("peers", "clients"),
    [
        ([], {WEB, APP, FAR, AGENT, OUTSIDE}),
        ([LABEL_WEB], {WEB}),
        ([LABEL_APP], set()),  # it is in another namespace
        ([{"podSelector": {}}], {WEB}),
        ([TEAM_B], {APP, FAR}),
        ([{"namespaceSelector": {}}], {WEB, APP, FAR}),
        ([TEAM_B | LABEL_APP], {APP}),
        ([TEAM_B, LABEL_WEB], {APP, FAR, WEB}),
        ([{"ipBlock": {"cidr": "0.0.0.0/0"}}], {WEB, APP, FAR, AGENT, OUTSIDE}),
        ([{"ipBlock": {"cidr": "10.244.0.0/16", "except": ["10.244.0.0/30"]}}], {APP, FAR}),
        (
            [{"ipBlock": {"cidr": "10.244.0.0/16", "except": ["10.244.0.0/24", "10.244.0.4/31"]}}],
            {FAR},
        ),
        ([{"ipBlock": {"cidr": "192.0.2.12/32"}}], {AGENT}),
        ([{"ipBlock": {"cidr": "fd00::/8"}}], set()),
    ],
)
def test_policy_4_each_peer_selects_its_own_addresses(peers, clients):
    passes = allowed(of_db(ingress=[{"from": peers or None}]))
    everybody = (WEB, APP, FAR, AGENT, OUTSIDE)
    assert {client for client in everybody if passes(client, DB)} == clients
    passes = allowed(of_db(egress=[{"to": peers or None}], policyTypes=["Egress"]))
    assert {server for server in everybody if passes(DB, server)} == clients


@pytest.mark.parametrize(
    ("ports", "found"),
    [
        ([], {*ALL_PORTS}),
        ([{}], {("TCP", 5432), ("TCP", 80)}),
        ([{"protocol": "UDP"}], {("UDP", 53)}),
        ([{"port": 80}], {("TCP", 80)}),
        ([{"port": 80, "endPort": 6000}], {("TCP", 80), ("TCP", 5432)}),
        ([{"port": 81, "endPort": 6000}], {("TCP", 5432)}),
        ([{"port": "sql"}], {("TCP", 5432)}),
        ([{"port": "sql", "protocol": "UDP"}, {"port": 53, "protocol": "UDP"}], {("UDP", 53)}),
        ([{"port": "none"}], set()),
    ],
)
def test_policy_5_ports_ranges_and_names(ports, found):
    passes = allowed(of_db(ingress=[{"ports": ports or None}]))
    assert {one for one in ALL_PORTS if passes(WEB, DB, *one)} == found
    passes = allowed(of_db(egress=[{"ports": ports or None}], policyTypes=["Egress"]))
    assert {one for one in ALL_PORTS if passes(DB, FAR, *one)} == found
    named = {one for one in found if any("sql" in each.values() for each in ports)}
    assert {one for one in ALL_PORTS if passes(DB, OUTSIDE, *one)} == found - named | (
        {("UDP", 53)} & found
    )


def test_policy_6_pods_without_an_address_of_their_own_are_not_selected():
    everything = {"podSelector": {}, "ingress": [{"from": [{"namespaceSelector": {}}]}]}
    passes = allowed(everything)
    assert not passes(AGENT, DB) and passes(FAR, DB)
    # what has finished has no address: it is held, as any address that no pod has
    assert not passes(DONE, DB) and not passes(WEB, DONE)
    deny = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    assert allowed(deny)(AGENT, FAR)


def test_policy_8_a_pod_reaches_itself_and_multicast_reaches_nobody():
    passes = allowed({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]})
    assert passes(DB, DB) and not passes(WEB, DB)
    policy = NetworkPolicy(metadata=ObjectMeta(name="p", namespace="other"))
    world = PolicyWorld([policy], PODS, NAMESPACES, NODE, POD_RANGE)
    filter = load(POD_RANGE, change_policies(NO_TABLE, state_of(world).enforced)[1])
    for group in ("224.0.0.251", "255.255.255.255", "10.244.0.255"):
        assert not is_accepted(filter, Packet(APP, group, "UDP", 5353))
