"""The proxy: computes rules for packets from Services and EndpointSlices. Rules NET-1 to NET-9
NET-21, NET-22 and NET-24 (spec/network.md).

One reconciler computes the rules of a service when the service or one of its slices changes. The
other gives the whole rule set to the adapter, which computes the difference and applies it in one
transaction. Both share one memory: the rules by service. So a change costs the work of one service,
whatever the number of services.

| reached by | rule | targets |
|---|---|---|
| cluster IP | (address, protocol, port) | all, or those of this node with internalTrafficPolicy Local |
| external IP, load balancer address | (address, protocol, port) | all, or those of this node with externalTrafficPolicy Local |
| node port | (any address of the node, protocol, node port) | the same |

Source: Kubernetes documentation, "Virtual IPs and Service Proxies"; KEP-1669 "Proxy terminating
endpoints"; KEP-2086 "Service internal traffic policy"; KEP-1860 "Load balancer IP mode"; KEP-3015
"PreferSameZone and PreferSameNode Traffic Distribution"; Kubernetes documentation, "IPv4/IPv6
dual-stack". Each family of a service has rules of its own (NET-24).
"""

import re
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Network, IPv6Network, collapse_addresses
from typing import Any

from immutables import Map

from refk8s.core.api.core_v1 import Node, Service, ServicePort, ServiceSpec
from refk8s.core.api.discovery_v1 import Endpoint, EndpointSlice
from refk8s.core.api.families import IPV4, canonical, family_of
from refk8s.core.api.resources import ENDPOINT_SLICES, NODES, SERVICES
from refk8s.core.api.user import component_user
from refk8s.core.context import SECOND, Instant
from refk8s.core.loop.loop import Loop
from refk8s.core.loop.plan import NOTHING, Key, Local, Plan
from refk8s.core.loop.reconciler import Interest, Reconciler, own_key
from refk8s.core.loop.view import Index, View, key_of
from refk8s.core.ports import HealthCheck, Rule, RuleSet, Target
from refk8s.core.ports.service_rules import NODE_PORTS
from refk8s.core.value import Value, evolve, field

SERVICE_NAME = "kubernetes.io/service-name"
ZONE = "topology.kubernetes.io/zone"
USER = component_user("kube-proxy")
MEMORY = "rules"
ALL = "all"
PROXY_NAME = "service.kubernetes.io/service-proxy-name"
AFFINITY_SECONDS = 10_800
SOURCE_RANGES = "service.beta.kubernetes.io/load-balancer-source-ranges"
SOURCES_MAX = 1_000  # ranges of one Service that nodes enforce
ADDRESS_OF_IPV4 = re.compile(r"(\d{1,3})(\.\d{1,3}){3}")
# the adapter gets the set again after this time: other programs may have changed the host
REFRESH: Instant = 300 * SECOND

Compiled = Map[Key, tuple[Rule, ...]]
Checks = Map[Key, HealthCheck]


class Memory(Value, frozen=True, eq=False):
    """The rules and health checks by service, and the set that the adapter got last, and when."""

    compiled: Compiled = field(default_factory=Map)
    checks: Checks = field(default_factory=Map)
    handed: tuple[Compiled, Checks] | None = None
    handed_at: Instant = 0


def service_of_slice(slice: EndpointSlice) -> tuple[str, ...]:
    """The key of the service that a slice names; none or one."""
    name = (slice.metadata.labels or {}).get(SERVICE_NAME)
    return (f"{slice.metadata.namespace}/{name}",) if name else ()


def services_of_slice(view: View, old: Any | None, new: Any | None) -> list[Key]:
    """The keys of the services that a changed slice names or named."""
    return list(
        dict.fromkeys(
            key for slice in (old, new) if slice is not None for key in service_of_slice(slice)
        )
    )


def zone_of(node: Node | None) -> str:
    """The zone of a Node; empty without one."""
    return (node.metadata.labels or {}).get(ZONE, "") if node is not None else ""


def _when_the_zone_changes(view: View, old: Node | None, new: Node | None) -> list[Key]:
    """Every Service, if the node gets another zone (NET-23)."""
    return [] if zone_of(old) == zone_of(new) else [key_of(one) for one in view.list(SERVICES)]


class ServiceRules(Reconciler):
    """Computes the rules of one service."""

    name = "service-rules"
    user = USER
    memory_name = MEMORY
    indexes = (Index("service", ENDPOINT_SLICES, service_of_slice),)

    def __init__(self, node_name: str) -> None:
        self.node_name = node_name
        own = f"metadata.name={node_name}"
        self.interests = (
            Interest(SERVICES, own_key),
            Interest(ENDPOINT_SLICES, services_of_slice),
            Interest(NODES, _when_the_zone_changes, field_selector=own),
        )

    def start_memory(self, now: Instant) -> Memory:
        return Memory()

    def reconcile(self, view: View, key: Key, now: Instant, local: Local) -> Plan:
        # Observe
        memory: Memory = local.memory
        service: Service | None = view.get(SERVICES, key)
        slices: list[EndpointSlice] = view.indexed(ENDPOINT_SLICES, "service", key)

        # Decide
        rules: tuple[Rule, ...] = ()
        check: HealthCheck | None = None
        if service is not None:
            zone = zone_of(view.get(NODES, self.node_name))
            rules = compute_rules(service, slices, self.node_name, zone)
            check = compute_health_check(service, slices, self.node_name)
        if rules == memory.compiled.get(key, ()) and check == memory.checks.get(key):
            return NOTHING

        # Report
        after = evolve(
            memory,
            compiled=_with(memory.compiled, key, rules or None),
            checks=_with(memory.checks, key, check),
        )
        return Plan(memory=after, enqueue=((ProgramRules.name, ALL),))


class ProgramRules(Reconciler):
    """Gives the rule set to the adapter. Changes during that time are in the next set."""

    name = "program-rules"
    user = USER
    memory_name = MEMORY
    initial_keys = (ALL,)

    def __init__(self, node_name: str) -> None:
        self.node_name = node_name

    def reconcile(self, view: View, key: Key, now: Instant, local: Local) -> Plan:
        # Observe
        memory: Memory = local.memory

        # Decide
        compiled, checks = memory.compiled, memory.checks
        problems: tuple[Exception, ...] = ()
        if memory.handed is None:
            # The rules of an earlier process are still in force, so the first set must be complete
            # (NET-8).
            compiled, checks, problems = compute_all(view, self.node_name)
        is_handed = (
            memory.handed is not None
            and memory.handed[0] is compiled
            and memory.handed[1] is checks
        )
        if is_handed and not local.failures and now < memory.handed_at + REFRESH:
            return Plan(wake_at=memory.handed_at + REFRESH)

        # Report
        handed = Memory(compiled=compiled, checks=checks, handed=(compiled, checks), handed_at=now)
        rules = RuleSet(compiled, checks)
        return Plan(rules=rules, memory=handed, wake_at=now + REFRESH, problems=problems)


def proxy(node_name: str) -> Loop:
    """The machine of one node's proxy; its name is "proxy/NODE"."""
    return Loop(
        f"proxy/{node_name}",
        (ServiceRules(node_name), ProgramRules(node_name)),
        component="kube-proxy",
        host=node_name,
        user=USER,
    )


def _with(known: Map[Key, Any], key: Key, value: object) -> Map[Key, Any]:
    """The map with this value at the key, or without the key if it is None; the same map if nothing
    changes."""
    if known.get(key) == value:
        return known
    return known.delete(key) if value is None else known.set(key, value)


def compute_all(view: View, node_name: str) -> tuple[Compiled, Checks, tuple[Exception, ...]]:
    """The rules and health checks of every service, and exceptions; a service with one has none
    (LOOP-10)."""
    compiled = Map[Key, tuple[Rule, ...]]().mutate()
    checks = Map[Key, HealthCheck]().mutate()
    problems: list[Exception] = []
    zone = zone_of(view.get(NODES, node_name))
    for service in view.list(SERVICES):
        key = key_of(service)
        try:
            slices = view.indexed(ENDPOINT_SLICES, "service", key)
            rules = compute_rules(service, slices, node_name, zone)
            check = compute_health_check(service, slices, node_name)
        except Exception as error:
            problems.append(error)
            continue
        if rules:
            compiled[key] = rules
        if check is not None:
            checks[key] = check
    return compiled.finish(), checks.finish(), tuple(problems)


def compute_rules(
    service: Service, slices: Iterable[EndpointSlice], node_name: str, zone: str = ""
) -> tuple[Rule, ...]:
    """The rules of one service on one node in this zone, from the current service and slices
    (NET-1). O(ports x endpoints)."""
    slices = tuple(slices)
    rules: dict[tuple[str, str, int], Rule] = {}
    for cluster_ip in cluster_addresses(service):
        family = family_of(cluster_ip)
        of_family = [each for each in slices if each.address_type == family]
        for rule in _rules_of(service, cluster_ip, family, of_family, node_name, zone):
            rules.setdefault((rule.address, rule.protocol, rule.port), rule)
    return tuple(rules[front] for front in sorted(rules))


def _rules_of(
    service: Service,
    cluster_ip: str,
    family: str,
    slices: list[EndpointSlice],
    node_name: str,
    zone: str,
) -> Iterator[Rule]:
    """The rules of one family, the first of which counts for a front."""
    spec = service.spec
    assert spec is not None
    affinity = affinity_seconds(spec)
    sources = source_ranges(service, family)
    for port in spec.ports or ():
        endpoints = endpoints_of(port, slices)
        everywhere = choose(near(endpoints, node_name, zone))
        here = choose([entry for entry in endpoints if entry[0].node_name == node_name])
        protocol = port.protocol or "TCP"
        found = [_inside_rule(spec, cluster_ip, protocol, port.port, everywhere, here)]
        # Load balancers first: an external IP with the same address does not lift the restriction.
        for address in balancer_addresses(service, family):
            rule = _outside_rule(spec, address, protocol, port.port, everywhere, here)
            found.append(
                rule if sources is None else evolve(rule, restricted=True, sources=sources)
            )
        found += [
            _outside_rule(spec, address, protocol, port.port, everywhere, here)
            for address in external_addresses(service, family)
        ]
        if port.node_port and spec.type in ("NodePort", "LoadBalancer"):
            address = NODE_PORTS[family]
            found.append(_outside_rule(spec, address, protocol, port.node_port, everywhere, here))
        for rule in found:
            yield evolve(rule, affinity_seconds=affinity) if affinity else rule


def compute_health_check(
    service: Service, slices: Iterable[EndpointSlice], node_name: str
) -> HealthCheck | None:
    """The health check of one service on one node; None if it has none (NET-22). O(endpoints)."""
    spec = service.spec
    cluster_ip = next(iter(cluster_addresses(service)), "")
    if spec is None or not cluster_ip or not spec.health_check_node_port:
        return None
    if spec.type != "LoadBalancer" or spec.external_traffic_policy != "Local":
        return None
    ready = {
        endpoint.addresses[0]
        for slice in slices
        if slice.address_type == family_of(cluster_ip)
        for endpoint in slice.endpoints or ()
        if endpoint.addresses and endpoint.node_name == node_name and is_ready(endpoint)
    }
    return HealthCheck(spec.health_check_node_port, len(ready))


def _inside_rule(
    spec: ServiceSpec,
    address: str,
    protocol: str,
    port: int,
    everywhere: tuple[Target, ...],
    here: tuple[Target, ...],
) -> Rule:
    """The rule of the cluster IP. With internalTrafficPolicy Local, packets are dropped if only
    other nodes have endpoints (NET-6)."""
    if spec.internal_traffic_policy != "Local":
        return Rule(address, protocol, port, everywhere)
    return Rule(address, protocol, port, here, drop=bool(everywhere) and not here)


def _outside_rule(
    spec: ServiceSpec,
    address: str,
    protocol: str,
    port: int,
    everywhere: tuple[Target, ...],
    here: tuple[Target, ...],
) -> Rule:
    """The rule of an external address or node port. With externalTrafficPolicy Local, clients from
    outside keep their addresses and reach only endpoints of this node; pods of the node and the
    node itself reach all (NET-7)."""
    if spec.external_traffic_policy != "Local":
        return Rule(address, protocol, port, everywhere, masquerade=True)
    return Rule(
        address,
        protocol,
        port,
        here,
        local=True,
        inside=everywhere,
        drop=bool(everywhere) and not here,
    )


def cluster_addresses(service: Service) -> list[str]:
    """The cluster IPs; none if another proxy handles the service (NET-4)."""
    spec = service.spec
    if spec is None or spec.type == "ExternalName" or PROXY_NAME in (service.metadata.labels or {}):
        return []
    return _addresses(spec.cluster_ips or (spec.cluster_ip or "",))


def _addresses(texts: Iterable[str]) -> list[str]:
    """The addresses among these texts, without "None", those of IPv6 in their canonical form."""
    return [found for text in texts if (found := _address(text))]


def _address(text: str) -> str:
    return text if ADDRESS_OF_IPV4.fullmatch(text) else canonical(text) if ":" in text else ""


def endpoints_of(port: ServicePort, slices: Iterable[EndpointSlice]) -> list[tuple[Endpoint, int]]:
    """The endpoints of a service port, each with the number of the slice's port of the same name
    (NET-2)."""
    found: list[tuple[Endpoint, int]] = []
    for slice in slices:
        for of_slice in slice.ports or ():
            named = (of_slice.name or "") == (port.name or "") and (of_slice.protocol or "TCP") == (
                port.protocol or "TCP"
            )
            if named and of_slice.port:
                found += [
                    (endpoint, of_slice.port)
                    for endpoint in slice.endpoints or ()
                    if endpoint.addresses and canonical(endpoint.addresses[0])
                ]
    return found


def near(
    endpoints: list[tuple[Endpoint, int]], node_name: str, zone: str
) -> list[tuple[Endpoint, int]]:
    """NET-23: of the ready endpoints those with a hint for this node, else those with one for its
    zone; all endpoints if there are none, or if a ready one has no such hint."""
    ready = [entry for entry in endpoints if is_ready(entry[0])]
    if not ready or ready[0][0].hints is None:
        return endpoints
    hints = [entry[0].hints for entry in ready]
    of_nodes = [{one.name for one in (hint.for_nodes if hint else None) or ()} for hint in hints]
    of_zones = [{one.name for one in (hint.for_zones if hint else None) or ()} for hint in hints]
    for place, names in ((node_name, of_nodes), (zone, of_zones)):
        found = [entry for entry, of in zip(ready, names, strict=True) if place in of]
        if found and all(names):
            return found
    return endpoints


def choose(endpoints: Iterable[tuple[Endpoint, int]]) -> tuple[Target, ...]:
    """The targets: ready endpoints, else terminating ones that serve (NET-3). Each once, sorted."""
    endpoints = tuple(endpoints)
    chosen = [entry for entry in endpoints if is_ready(entry[0])] or [
        entry for entry in endpoints if is_serving_terminating(entry[0])
    ]
    return tuple(
        sorted({Target(canonical(endpoint.addresses[0]), number) for endpoint, number in chosen})
    )


def is_ready(endpoint: Endpoint) -> bool:
    """An endpoint without the condition `ready` counts as ready."""
    ready = endpoint.conditions.ready if endpoint.conditions is not None else None
    return ready is None or ready


def is_serving_terminating(endpoint: Endpoint) -> bool:
    """Whether it is terminating and serving."""
    conditions = endpoint.conditions
    if conditions is None or not conditions.terminating:
        return False
    return bool(is_ready(endpoint) if conditions.serving is None else conditions.serving)


def affinity_seconds(spec: ServiceSpec) -> int:
    """The timeout of ClientIP affinity; 0 without affinity (NET-5)."""
    if spec.session_affinity != "ClientIP":
        return 0
    config = spec.session_affinity_config
    seconds = (
        config.client_ip.timeout_seconds
        if config is not None and config.client_ip is not None
        else None
    )
    return seconds or AFFINITY_SECONDS


def external_addresses(service: Service, family: str) -> list[str]:
    """The external IPs of this family (NET-4)."""
    assert service.spec is not None
    return [
        each for each in _addresses(service.spec.external_ips or ()) if family_of(each) == family
    ]


def source_ranges(service: Service, family: str) -> tuple[str, ...] | None:
    """The ranges of this family from which clients may use the addresses of the load balancer,
    disjoint and sorted; None without a restriction (NET-21). More than SOURCES_MAX, or a range that
    cannot be read, allow no client."""
    spec = service.spec
    assert spec is not None
    annotation = (service.metadata.annotations or {}).get(SOURCE_RANGES, "").strip()
    texts = spec.load_balancer_source_ranges or (annotation.split(",") if annotation else ())
    if not texts or spec.type != "LoadBalancer":
        return None
    if len(texts) > SOURCES_MAX:
        return ()
    try:
        fours = [IPv4Network(text.strip(), False) for text in texts if ":" not in text]
        sixes = [IPv6Network(text.strip(), False) for text in texts if ":" in text]
    except ValueError:
        return ()
    ranges = collapse_addresses(fours) if family == IPV4 else collapse_addresses(sixes)
    return tuple([str(each) for each in ranges])


def balancer_addresses(service: Service, family: str) -> list[str]:
    """The load balancer's addresses of this family whose ipMode is not Proxy (NET-4)."""
    assert service.spec is not None
    status = service.status
    if status is None or status.load_balancer is None or service.spec.type != "LoadBalancer":
        return []
    texts = [
        ingress.ip
        for ingress in status.load_balancer.ingress or ()
        if ingress.ip and ingress.ip_mode != "Proxy"
    ]
    return [each for each in _addresses(texts) if family_of(each) == family]
