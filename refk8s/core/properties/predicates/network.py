"""Predicates of a node's service rules, for any services and slices. Rules NET-1 to NET-4, NET-6,
NET-7, NET-9 to NET-13, NET-15, NET-24 (spec/network.md).

    inv   NET-1    the rules of a proxy follow from the services and slices in its view
    inv   NET-2    a packet is sent to an endpoint of its service port: a ready one, else one that
                   is terminating (NET-3), of this node if the policy requires it (NET-6, NET-7);
                   without one it is rejected, or dropped if other nodes have one (NET-12)
    inv   NET-4    services have rules for all their fronts, and other packets none
    inv   NET-10   each number leads to another endpoint, and each endpoint has one
    inv   NET-11   incremental changes give the same rules as a complete load
    inv   NET-13   the source address is replaced only if the answer would bypass the node
    inv   NET-15   a pod that connects to itself does not see its own address

Each predicate yields a sentence for every way in which the rules break it. They route packets
(`core/network/packets.py`), and compute the expected result from the objects alone, without the
proxy's functions.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import ip_address, ip_network
from itertools import product

from refk8s.core.api.core_v1 import Service, ServicePort
from refk8s.core.api.discovery_v1 import Endpoint, EndpointSlice
from refk8s.core.loop.view import key_of
from refk8s.core.network.packets import (
    DROPPED,
    PASSES,
    REFUSED,
    SENT,
    Packet,
    Programmed,
    Verdict,
    route,
)
from refk8s.core.ports import RuleSet, Target
from refk8s.core.value import Value

OUTSIDE_CLIENT = "a client outside"
CLIENTS = {
    "a pod of the node": ("10.244.0.200", False),
    "the node": ("192.0.2.11", True),
    OUTSIDE_CLIENT: ("203.0.113.7", False),
}
CLIENTS6 = {
    "a pod of the node": ("fd00::10.244.0.200", False),
    "the node": ("fd00::192.0.2.11", True),
    OUTSIDE_CLIENT: ("fd00::203.0.113.7", False),
}
NODE_ADDRESSES = ("192.0.2.11", "127.0.0.1")
NODE_ADDRESSES6 = (str(ip_address("fd00::192.0.2.11")),)
"""Node ports are not open at ::1 (NET-24)."""


class Way(Value, frozen=True):
    """A way to a service port: by its cluster IP ("inside") or from "outside"."""

    service: str
    port: ServicePort
    kind: str
    address: str  # "" or "::": a node port
    number: int

    @property
    def is_node_port(self) -> bool:
        return self.address in ("", "::")

    @property
    def is_six(self) -> bool:
        return ":" in self.address


def ways_in(services: Iterable[Service]) -> dict[tuple[str, str, int], Way]:
    """Every address and port of the services. If several services have the same, it is of the first
    by name (NET-9)."""
    found: dict[tuple[str, str, int], Way] = {}
    for service in sorted(services, key=key_of):
        spec = service.spec
        labels = service.metadata.labels or {}
        if (
            spec is None
            or "service.kubernetes.io/service-proxy-name" in labels
            or spec.type == "ExternalName"
        ):
            continue
        cluster_ips = [
            str(ip_address(text))
            for text in spec.cluster_ips or (spec.cluster_ip,)
            if text not in (None, "", "None")
        ]
        outside = list(spec.external_ips or ())
        if (
            spec.type == "LoadBalancer"
            and service.status is not None
            and service.status.load_balancer is not None
        ):
            outside += [
                entry.ip
                for entry in service.status.load_balancer.ingress or ()
                if entry.ip and entry.ip_mode in (None, "VIP")
            ]
        for cluster_ip, port in product(cluster_ips, spec.ports or ()):
            is_six = ":" in cluster_ip
            ways = [("inside", cluster_ip, port.port)] + [
                ("outside", str(ip_address(address)), port.port)
                for address in outside
                if (":" in address) == is_six
            ]
            if spec.type in ("NodePort", "LoadBalancer") and port.node_port:
                ways.append(("outside", "::" if is_six else "", port.node_port))
            for kind, address, number in ways:
                found.setdefault(
                    (address, port.protocol or "TCP", number),
                    Way(key_of(service), port, kind, address, number),
                )
    return found


def endpoints(way: Way, slices: Iterable[EndpointSlice]) -> Iterator[tuple[Endpoint, Target]]:
    """The endpoints of a way's family, in any state."""
    service, port = way.service, way.port
    family = "IPv6" if way.is_six else "IPv4"
    for slice in slices:
        mine = (
            f"{slice.metadata.namespace}/{(slice.metadata.labels or {}).get('kubernetes.io/service-name')}"
            == service
        )
        for of_slice in slice.ports or () if mine and slice.address_type == family else ():
            if (of_slice.name or "", of_slice.protocol or "TCP") == (
                port.name or "",
                port.protocol or "TCP",
            ) and of_slice.port:
                for endpoint in slice.endpoints or ():
                    yield endpoint, Target(str(ip_address(endpoint.addresses[0])), of_slice.port)


def usable(entries: Iterable[tuple[Endpoint, Target]]) -> set[Target]:
    """NET-3."""
    ready, going = set(), set()
    for endpoint, target in entries:
        state = endpoint.conditions
        is_ready = state is None or state.ready is not False
        serves = is_ready if state is None or state.serving is None else state.serving
        if is_ready:
            ready.add(target)
        if serves and state is not None and state.terminating:
            going.add(target)
    return ready or going


def expected(
    way: Way,
    service: Service,
    slices: Sequence[EndpointSlice],
    node: str,
    within: bool,
    source: str,
) -> tuple[set[Target], str]:
    """The endpoints that may answer this client, and what happens to the packet if there is none
    (NET-3, NET-6, NET-7, NET-12, NET-21)."""
    spec = service.spec
    assert spec is not None
    if not net_21_may_use(way, service, source):
        return set(), DROPPED
    entries = list(endpoints(way, slices))
    all_of_them = usable(entries)
    policy = spec.internal_traffic_policy if way.kind == "inside" else spec.external_traffic_policy
    if policy != "Local" or (way.kind == "outside" and within):
        return all_of_them, REFUSED
    return usable(
        entry for entry in entries if entry[0].node_name == node
    ), DROPPED if all_of_them else REFUSED


def net_21_may_use(way: Way, service: Service, source: str) -> bool:
    """NET-21: whether this client may use the way."""
    spec, status = service.spec, service.status
    ranges = spec.load_balancer_source_ranges if spec is not None else None
    if not ranges or spec is None or spec.type != "LoadBalancer" or way.kind == "inside":
        return True
    balancer = status.load_balancer if status is not None else None
    addresses = [
        each.ip
        for each in (balancer.ingress if balancer is not None else None) or ()
        if each.ip_mode != "Proxy"
    ]
    if way.is_node_port or way.address not in [_canonical(each) for each in addresses if each]:
        return True
    return any(
        ip_address(source) in ip_network(each.strip(), strict=False)
        for each in ranges
        if (":" in each) == way.is_six
    )


def _canonical(address: str) -> str:
    return str(ip_address(address))


def packets(way: Way) -> Iterator[tuple[str, Packet]]:
    own = NODE_ADDRESSES6 if way.is_six else NODE_ADDRESSES
    for client, (source, from_node) in (CLIENTS6 if way.is_six else CLIENTS).items():
        for destination in own if way.is_node_port else (way.address,):
            yield (
                client,
                Packet(
                    _canonical(source),
                    destination,
                    way.port.protocol or "TCP",
                    way.number,
                    from_node,
                    to_node=way.is_node_port,
                ),
            )


def net_1_rules_match_the_services(
    rules: RuleSet, services: Sequence[Service], slices: Sequence[EndpointSlice], name: str
) -> Iterator[str]:
    """NET-1, NET-3, for a rule set of a proxy. `name`: of the proxy, "proxy/NODE"."""
    ways = ways_in(services)
    by_key = {key_of(service): service for service in services}
    held = {
        (rule.address, rule.protocol, rule.port): (service, rule)
        for service, each in rules.services.items()
        for rule in each
    }
    node = name.partition("/")[2]
    for front in sorted({*ways, *held}):
        if front not in held or front not in ways:
            yield f"{name}: {front} " + (
                "has a rule, and no service has it"
                if front in held
                else f"of {ways[front].service} has no rule"
            )
            continue
        way, (service, rule) = ways[front], held[front]
        spec = by_key[way.service].spec
        assert spec is not None
        entries = list(endpoints(way, slices))
        policy = (
            spec.internal_traffic_policy if way.kind == "inside" else spec.external_traffic_policy
        )
        allowed = usable(
            entry for entry in entries if policy != "Local" or entry[0].node_name == node
        )
        if {*rule.targets} != allowed or len(rule.targets) != len(allowed):
            yield (
                f"{name}: {front} of {service} has the targets {list(rule.targets)}, "
                f"not {sorted(allowed)}"
            )
    yield from net_22_health_checks_count_ready_endpoints(rules, services, slices, node)


def net_22_health_checks_count_ready_endpoints(
    rules: RuleSet, services: Iterable[Service], slices: Sequence[EndpointSlice], node: str
) -> Iterator[str]:
    """NET-22, for a rule set of the proxy of this node."""
    asked = {}
    for service in services:
        spec = service.spec
        if (
            spec is not None
            and spec.type == "LoadBalancer"
            and spec.external_traffic_policy == "Local"
            and spec.health_check_node_port
            and any(way.service == key_of(service) for way in ways_in([service]).values())
        ):
            primary = next(iter(spec.cluster_ips or (spec.cluster_ip or "",)))
            asked[key_of(service)] = (
                spec.health_check_node_port,
                {
                    endpoint.addresses[0]
                    for slice in slices
                    if slice.metadata.namespace == service.metadata.namespace
                    and (slice.metadata.labels or {}).get("kubernetes.io/service-name")
                    == service.metadata.name
                    and slice.address_type == ("IPv6" if ":" in primary else "IPv4")
                    for endpoint in slice.endpoints or ()
                    if endpoint.node_name == node
                    and (endpoint.conditions is None or endpoint.conditions.ready is not False)
                },
            )
    for key in sorted({*asked, *rules.health_checks}):
        port, ready = asked.get(key, (0, set()))
        check = rules.health_checks.get(key)
        if check is None or (check.port, check.endpoints) != (port, len(ready)):
            yield (
                f"{key}: the health check is {check}, not at port {port} with "
                f"{len(ready)} endpoints"
            )


def net_2_packets_reach_the_endpoints(
    services: Iterable[Service], slices: Sequence[EndpointSlice], node: str, programmed: Programmed
) -> Iterator[str]:
    """NET-2, NET-3, NET-6, NET-7, NET-10, NET-12, NET-21."""
    by_key = {key_of(service): service for service in services}
    for front, way in ways_in(by_key.values()).items():
        for client, packet in packets(way):
            wanted, otherwise = expected(
                way, by_key[way.service], slices, node, client != OUTSIDE_CLIENT, packet.source
            )
            verdicts = [
                route(programmed, packet, number)[0] for number in range(max(1, 2 * len(wanted)))
            ]
            if not wanted:
                if verdicts[0].kind != otherwise:
                    yield (
                        f"{client} at {front} of {way.service} is {verdicts[0].kind}, "
                        f"not {otherwise}"
                    )
                continue
            reached = [verdict.target for verdict in verdicts]
            if (
                any(verdict.kind != SENT for verdict in verdicts)
                or {target for target in reached if target} != wanted
            ):
                yield f"{client} at {front} of {way.service} reaches {reached}, not {sorted(wanted)}"
            for target in sorted(wanted):
                if reached.count(target) != 2:
                    yield (
                        f"{client} at {front} of {way.service} reaches {target} "
                        f"{reached.count(target)} times in {len(verdicts)}"
                    )


def net_4_other_packets_pass(
    services: Iterable[Service], programmed: Programmed, others: Iterable[Packet]
) -> Iterator[str]:
    """NET-4: a packet to an address that is not of a service passes unchanged."""
    known = ways_in(services)
    for packet in others:
        node_port = ("::" if ":" in packet.destination else "", packet.protocol, packet.port)
        is_node_port = packet.to_node and packet.destination != "::1" and node_port in known
        if (packet.destination, packet.protocol, packet.port) not in known and not is_node_port:
            verdict, _ = route(programmed, packet, 0)
            if verdict.kind != PASSES:
                yield f"{packet} is {verdict.kind}, and no service has its destination"


def net_13_source_is_hidden_as_required(
    services: Iterable[Service], programmed: Programmed
) -> Iterator[str]:
    """NET-13, NET-15."""
    by_key = {key_of(service): service for service in services}
    for front, way in ways_in(by_key.values()).items():
        spec = by_key[way.service].spec
        assert spec is not None
        keeps = way.kind == "outside" and spec.external_traffic_policy == "Local"
        for client, packet in packets(way):
            verdict, _ = route(programmed, packet, 0)
            hidden = {
                "a pod of the node": way.kind == "outside" and not keeps,
                "the node": True,
                OUTSIDE_CLIENT: not keeps,
            }[client]
            if verdict.kind == SENT and verdict.masquerade != hidden:
                is_replaced = "is" if verdict.masquerade else "is not"
                yield f"{client} at {front}: its address {is_replaced} replaced"
            yield from _itself(programmed, packet, verdict)


def _itself(programmed: Programmed, packet: Packet, verdict: Verdict) -> Iterator[str]:
    """The endpoint sends the same packet itself, and is its own endpoint."""
    if verdict.target is None or packet.from_node:
        return
    asker = Packet(
        verdict.target.address,
        packet.destination,
        packet.protocol,
        packet.port,
        False,
        packet.to_node,
    )
    again, _ = route(programmed, asker, 0)
    if (
        again.target is not None
        and again.target.address == asker.source
        and not again.masquerade
        and programmed.is_pod(asker.source)
    ):
        yield (
            f"{asker.source} connects to {packet.destination}:{packet.port}, "
            "is sent to itself and sees its own address"
        )


def net_11_same_rules(one: Programmed, other: Programmed) -> Iterator[str]:
    """NET-11: both have the same elements, and the same chains to which elements refer."""
    for map in sorted({*one.maps, *other.maps}):
        mine, theirs = dict(one.maps.get(map, ())), dict(other.maps.get(map, ()))
        if mine != theirs:
            yield f"{map}: {_difference(mine, theirs)}"
        for key in sorted(mine):
            name = ("ip6/" if map.startswith("ip6/") else "") + mine[key].removeprefix("goto ")
            if one.pickers.get(name) != other.pickers.get(name):
                yield f"the chain {name} is {one.pickers.get(name)} and {other.pickers.get(name)}"


def _difference(mine: Mapping[str, str], theirs: Mapping[str, str]) -> str:
    keys = [key for key in sorted({*mine, *theirs}) if mine.get(key) != theirs.get(key)]
    return ", ".join(f"{key}: {mine.get(key)!r} and {theirs.get(key)!r}" for key in keys)
