"""Laws of service rules. Rules NET-1, NET-2, NET-3, NET-13 (spec/network.md)."""

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network

from refk8s.core.actions import Action
from refk8s.core.api.resources import ENDPOINT_SLICES, SERVICES
from refk8s.core.cluster.state import Cluster
from refk8s.core.loop.state import LoopState
from refk8s.core.network.nftables import Table, change_table
from refk8s.core.network.packets import Programmed, load
from refk8s.core.properties.law import Law, objects
from refk8s.core.properties.predicates.network import (
    net_1_rules_match_the_services,
    net_2_packets_reach_the_endpoints,
    net_13_source_is_hidden_as_required,
)

PODS = IPv4Network("10.244.0.0/16")
PODS6 = IPv6Network("fd00::10.244.0.0/112")
"""Addresses that count as those of pods of the node."""
TABLE = Table(PODS, pods6=PODS6)


def new_rules_match_the_view(
    before: Cluster, action: Action, after: Cluster
) -> Iterable[str] | None:
    """NET-1, NET-3: a rule set that a proxy gives to its adapter follows from its view of services
    and slices."""
    if before.rules is after.rules:
        return None
    found: list[str] = []
    for name in sorted(after.rules):
        state = after.components[name].state
        if before.rules.get(name) is not after.rules[name] and isinstance(state, LoopState):
            found += net_1_rules_match_the_services(
                after.rules[name], state.view.list(SERVICES), state.view.list(ENDPOINT_SLICES), name
            )
    return found


def rules_match_the_store(cluster: Cluster) -> Iterable[str] | None:
    """NET-1, for every node of a settled cluster."""
    services, slices = objects(cluster, SERVICES.prefix), objects(cluster, ENDPOINT_SLICES.prefix)
    return [
        words
        for name in sorted(cluster.rules)
        for words in net_1_rules_match_the_services(cluster.rules[name], services, slices, name)
    ]


def packets_reach_the_endpoints(cluster: Cluster) -> Iterable[str] | None:
    """NET-2, for packets of every kind of client to every front, on every node of a settled
    cluster."""
    if not cluster.rules:
        return None
    services, slices = objects(cluster, SERVICES.prefix), objects(cluster, ENDPOINT_SLICES.prefix)
    return [
        f"{name}: {words}"
        for name, programmed in _programmed(cluster)
        for words in net_2_packets_reach_the_endpoints(
            services, slices, name.partition("/")[2], programmed
        )
    ]


def sources_are_hidden_as_required(cluster: Cluster) -> Iterable[str] | None:
    """NET-13, as NET-2."""
    if not cluster.rules:
        return None
    services = objects(cluster, SERVICES.prefix)
    return [
        f"{name}: {words}"
        for name, programmed in _programmed(cluster)
        for words in net_13_source_is_hidden_as_required(services, programmed)
    ]


def _programmed(cluster: Cluster) -> list[tuple[str, Programmed]]:
    """The rules of each proxy as the kernel would have them."""
    return [
        (name, load(Programmed(PODS, PODS6), change_table(TABLE, cluster.rules[name])[1]))
        for name in sorted(cluster.rules)
    ]


OF_STEPS = (Law("NET-3", new_rules_match_the_view),)
OF_REST = (
    Law("NET-1", rules_match_the_store),
    Law("NET-2", packets_reach_the_endpoints),
    Law("NET-13", sources_are_hidden_as_required),
)
