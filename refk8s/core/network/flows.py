"""Which flows connection tracking must forget. Rule NET-16 (spec/network.md).

Rules are asked once for a connection; then connection tracking remembers the answer. TCP
connections to an endpoint that left end by themselves, but UDP has no end: a talkative client would
be held to a dead pod for ever, and one that spoke before the service was there to nobody. Source:
Kubernetes documentation, "Virtual IPs and Service Proxies"; conntrack(8).
"""

import re
from collections.abc import Container, Iterable, Iterator, Mapping

from refk8s.core.network.fronts import Front
from refk8s.core.ports import Rule
from refk8s.core.value import Value

FORGETFUL = "UDP"  # the protocol without an end


class Flow(Value, frozen=True, order=True):
    """What is remembered: who sends to (destination, port) is answered by `replier`. Several
    clients' flows may be the same in this."""

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
    """Of these flows those by a changed front whose answer is no endpoint's any more. What never
    came by a front is left alone."""
    stale: dict[Flow, None] = {}
    for flow in flows:
        translated = flow.replier != flow.destination
        front = (flow.destination, FORGETFUL, flow.port)
        if front not in changed and (translated or flow.destination in node_addresses):
            front = ("", FORGETFUL, flow.port)
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
