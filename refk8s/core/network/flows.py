"""Which flows are deleted from connection tracking. Rule NET-16 (spec/network.md).

The kernel applies the rules to the first packet of a connection, and connection tracking repeats
the result for the others. TCP connections to a removed endpoint end by themselves. A UDP flow does
not end while its client sends: it would lead to the removed endpoint for ever, or to none if the
client sent before the service had rules. Source: Kubernetes documentation, "Virtual IPs and Service
Proxies"; conntrack(8).
"""

import re
from collections.abc import Container, Iterable, Iterator, Mapping

from refk8s.core.api.families import family_of
from refk8s.core.network.fronts import Front
from refk8s.core.ports import Rule
from refk8s.core.ports.service_rules import NODE_PORTS
from refk8s.core.value import Value

CONNECTIONLESS = "UDP"  # its flows have no end


class Flow(Value, frozen=True, order=True):
    """An entry of connection tracking: packets to (destination, port) are answered by `replier`.
    Flows of several clients may be equal."""

    destination: str
    port: int
    replier: str


_LINE = re.compile(r"src=\S+ dst=(\S+) sport=\d+ dport=(\d+) .*?src=(\S+) ")


def read_flows(listed: str) -> Iterator[Flow]:
    """The flows that `conntrack -L -p udp` lists."""
    for line in listed.splitlines():
        if found := _LINE.search(line):
            yield Flow(found[1], int(found[2]), found[3])


def stale_flows(
    rules: Mapping[Front, Rule],
    changed: Container[Front],
    flows: Iterable[Flow],
    node_addresses: Container[str],
) -> list[Flow]:
    """Of these flows those of a changed front that no current endpoint answers (NET-16)."""
    stale: dict[Flow, None] = {}
    for flow in flows:
        translated = flow.replier != flow.destination
        front = (flow.destination, CONNECTIONLESS, flow.port)
        if front not in changed and (translated or flow.destination in node_addresses):
            address = NODE_PORTS[family_of(flow.destination)]
            front = (address, CONNECTIONLESS, flow.port)
        if front not in changed:
            continue
        rule = rules.get(front)
        if rule is None and not translated:
            continue
        endpoints = (
            {target.address for target in (*rule.targets, *rule.inside)}
            if rule is not None
            else set()
        )
        if flow.replier not in endpoints and (translated or endpoints):
            stale[flow] = None
    return sorted(stale)
