"""Addresses and ports of services: each belongs to at most one service. Rules ALLOC-1 to ALLOC-9
(spec/admission.md).

A cluster IP is held by an IPAddress object with its name, a node port by a record under a key with
its number. Both are written with the service, on the condition that they do not exist (ALLOC-1). Of
two concurrent requests the first to commit gets the address; the other is handled again and chooses
another one.

    type            cluster IP                  node ports      health check port
    ClusterIP       one, or None if requested   -               -
    NodePort        one                         one a port      -
    LoadBalancer    one                         one a port *    with externalTrafficPolicy Local
    ExternalName    -                           -               -
                                                * unless allocateLoadBalancerNodePorts is false

Source: Kubernetes documentation, "Service", "Service ClusterIP allocation" (avoiding collisions),
"Virtual IPs and Service Proxies". Left out: IPv6; ServiceCIDRs beyond the first.
"""

from collections.abc import Callable
from ipaddress import IPv4Address
from itertools import chain
from typing import Any

from msgspec.structs import replace

from refk8s.core.api import resources, status
from refk8s.core.api.core_v1 import Service, ServicePort, ServiceSpec
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.networking_v1 import IPAddress, IPAddressSpec, ParentReference
from refk8s.core.api.status import INVALID, ApiError, Cause
from refk8s.core.apiserver.admission.outcome import Admission, AdmissionConfig
from refk8s.core.apiserver.admission.service import (
    NONE,
    may_have_node_ports,
    needs_cluster_ip,
    needs_health_check_port,
    needs_node_ports,
    with_cluster_ips,
    with_families,
    with_kept_values,
    without_type_dependents,
)
from refk8s.core.apiserver.outcome import Reader
from refk8s.core.apiserver.validation.names import parse_ip
from refk8s.core.context import Context, timestamp
from refk8s.core.store import ABSENT, Compare, Delete, Put

NODE_PORT_PREFIX = "/internal/nodeports/"
PROBES_MAX = 16
"""This many random tries find a free number with a probability of 65,535 in 65,536 if at least half
of the numbers are free. Then the free ones are counted."""

Write = Put[Any] | Delete


class Ledger:
    """What one decision allocates and frees: the compares and writes of its transaction."""

    def __init__(
        self,
        service: Service,
        store: Reader,
        context: Context,
        config: AdmissionConfig,
        is_dry_run: bool = False,
    ) -> None:
        self.service, self.store, self.context, self.config = service, store, context, config
        self.is_dry_run = is_dry_run
        self.compares: list[Compare] = []
        self.writes: list[Write] = []

    def is_free(self, key: str) -> bool:
        return self.store.get(key) is None and not any(write.key == key for write in self.writes)

    def allocate_requested(self, key: str, name: str, labels: dict[str, str] | None) -> bool:
        """Allocate a requested address or port; False if another service has it.

        A service of this name keeps what it holds. So a client that creates an existing service
        again gets AlreadyExists, and not an error about the service's own address.
        """
        if self.is_free(key):
            self.allocate(key, name, labels)
            return True
        record = self.store.get(key)
        if record is None or not _holds(self.service, record.value):
            return False
        self.compares.append(Compare(key, record.mod_revision))
        return True

    def allocate(self, key: str, name: str, labels: dict[str, str] | None) -> None:
        """ALLOC-1: allocate it, on the condition that no service has it."""
        metadata = self.service.metadata
        owner = ParentReference(
            group="", resource="services", namespace=metadata.namespace, name=metadata.name or ""
        )
        held = IPAddress(
            metadata=ObjectMeta(
                name=name,
                uid=self.context.uid(),
                creation_timestamp=timestamp(self.context.now),
                labels=labels,
            ),
            spec=IPAddressSpec(parent_ref=owner),
        )
        self.compares.append(Compare(key, ABSENT))
        self.writes.append(Put(key, held))

    def free(self, key: str) -> None:
        """ALLOC-6: free it, but only if this service holds it."""
        record = self.store.get(key)
        if record is not None and _holds(self.service, record.value):
            self.compares.append(Compare(key, record.mod_revision))
            self.writes.append(Delete(key))


def _holds(service: Service, held: IPAddress) -> bool:
    """Whether this record belongs to the service."""
    owner, metadata = held.spec.parent_ref, service.metadata
    return (owner.resource, owner.namespace, owner.name) == (
        "services",
        metadata.namespace,
        metadata.name,
    )


def allocate(
    new: Service,
    old: Service | None,
    store: Reader,
    context: Context,
    config: AdmissionConfig,
    *,
    is_dry_run: bool = False,
) -> Admission:
    """The service with its families, addresses and ports, and the transaction that allocates them.

    Raises ApiError 422 if a requested value is taken or is not an address of this cluster.
    O(ports), if at least half of the numbers are free.
    """
    if old is not None:
        new = without_type_dependents(with_kept_values(new, old), old)
    new = with_cluster_ips(new, old)
    if old is not None and new.spec == old.spec:
        return Admission(new)
    # its name and namespace are set
    ledger = Ledger(new if old is None else old, store, context, config, is_dry_run)
    spec = _allocate_cluster_ip(with_families(new), old, ledger)
    spec = _allocate_node_ports(spec, old, ledger)
    spec = _allocate_health_check_port(spec, old, ledger)
    return Admission(replace(new, spec=spec), tuple(ledger.compares), tuple(ledger.writes))


def release(service: Service, store: Reader) -> tuple[tuple[Compare, ...], tuple[Write, ...]]:
    """ALLOC-6, ALLOC-9: the compares and writes that free everything of a removed service."""
    compares: list[Compare] = []
    writes: list[Write] = []
    for key in held_keys(service.spec):
        record = store.get(key)
        if record is not None and _holds(service, record.value):
            compares.append(Compare(key, record.mod_revision))
            writes.append(Delete(key))
    return tuple(compares), tuple(writes)


def held_keys(spec: ServiceSpec) -> tuple[str, ...]:
    """The keys of everything that a service with this spec holds, each once."""
    keys: dict[str, None] = {}
    for address in spec.cluster_ips or ():
        if address != NONE:
            keys[ip_key(address)] = None
    for number in sorted(_node_ports(spec)):
        keys[port_key(number)] = None
    if spec.health_check_node_port:
        keys[port_key(spec.health_check_node_port)] = None
    return tuple(keys)


def _node_ports(spec: ServiceSpec) -> set[int]:
    """The node ports that a service with this spec holds. A service of type ExternalName holds
    none, whatever its ports."""
    return (
        {port.node_port for port in spec.ports or () if port.node_port}
        if may_have_node_ports(spec)
        else set()
    )


def ip_key(address: str) -> str:
    return resources.IP_ADDRESSES.prefix + address


def port_key(port: int) -> str:
    """The key of a node port. It does not depend on the protocol, because services do not share a
    node port (ALLOC-4)."""
    return f"{NODE_PORT_PREFIX}{port}"


# --- cluster IPs


def _allocate_cluster_ip(spec: ServiceSpec, old: Service | None, ledger: Ledger) -> ServiceSpec:
    """ALLOC-2, ALLOC-5: a free address of the range, or the requested one if it is free."""
    held = (old.spec.cluster_ips or ()) if old is not None else ()
    wanted = spec.cluster_ips or ()
    if not needs_cluster_ip(spec):
        for address in held:
            if address != NONE:
                ledger.free(ip_key(address))
        return spec
    if old is not None and needs_cluster_ip(old.spec) and held:
        return spec  # it keeps its address; validation rejects another one
    if wanted:
        for address in wanted:
            if address != NONE:
                _take_cluster_ip(address, wanted, ledger)
        return spec
    if spec.cluster_ip:
        return spec  # it differs from clusterIPs: validation rejects it
    network = ledger.config.service_cidr
    first, last = int(network.network_address) + 1, int(network.broadcast_address) - 1
    band = _band(network.num_addresses)
    number = _choose(
        first,
        last,
        band,
        lambda n: ip_key(str(IPv4Address(n))),
        resources.IP_ADDRESSES.prefix,
        ledger,
    )
    if number is None:
        raise ApiError(status.internal_error("failed to allocate a serviceIP: range is full"))
    text = str(IPv4Address(number))
    ledger.allocate(ip_key(text), text, IP_LABELS)
    return replace(spec, cluster_ip=text, cluster_ips=(text,))


IP_LABELS = {
    "ipaddress.kubernetes.io/ip-family": "IPv4",
    "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io",
}


def _take_cluster_ip(text: str, wanted: tuple[str, ...], ledger: Ledger) -> None:
    address = parse_ip(text)
    if not isinstance(address, IPv4Address):
        return  # not an address: validation rejects it
    network = ledger.config.service_cidr
    why = ""
    if address not in network or address in (network.network_address, network.broadcast_address):
        why = f"the provided IP ({text}) is not in the valid range. The range of valid IPs is {network}"
    elif not ledger.allocate_requested(ip_key(str(address)), str(address), IP_LABELS):
        why = "provided IP is already allocated"
    if why:
        cause = Cause(
            INVALID, "spec.clusterIPs", f"failed to allocate IP {text}: {why}", list(wanted)
        )
        raise ApiError(
            status.invalid(resources.SERVICES, ledger.service.metadata.name or "", [cause])
        )


def _band(size: int) -> int:
    """ALLOC-5: the number of addresses at the start of the range that are chosen last, so that
    users who request addresses find some free."""
    return min(max(16, size // 16), 256, max(size - 2, 0))


# --- node ports


def _allocate_node_ports(spec: ServiceSpec, old: Service | None, ledger: Ledger) -> ServiceSpec:
    """ALLOC-4: each port has a node port."""
    held = set() if old is None else _node_ports(old.spec)
    ports = spec.ports or ()
    if may_have_node_ports(spec) and ports:
        ports = (
            _first_node_ports(spec, ports, ledger)
            if old is None
            else _more_node_ports(spec, ports, held, ledger)
        )
        if ports != spec.ports:
            spec = replace(spec, ports=ports)
    for number in sorted(held - _node_ports(spec)):
        ledger.free(port_key(number))
    return spec


def _first_node_ports(
    spec: ServiceSpec, ports: tuple[ServicePort, ...], ledger: Ledger
) -> tuple[ServicePort, ...]:
    """ALLOC-4: the ports of a new service that have the same number share a node port, whatever
    their protocols."""
    by_port: dict[int, int] = {}
    filled: list[ServicePort] = []
    for position, port in enumerate(ports):
        wanted = port.node_port
        shared = by_port.get(port.port)
        if not wanted and not needs_node_ports(spec):
            filled.append(port)
            continue
        if shared is None:
            wanted = next(
                (other.node_port for other in ports if other.port == port.port and other.node_port),
                None,
            )
            shared = by_port[port.port] = (
                _take_node_port(wanted, position, ledger) if wanted else _choose_node_port(ledger)
            )
        elif wanted and wanted != shared:
            shared = _take_node_port(wanted, position, ledger)
        filled.append(replace(port, node_port=shared))
    return tuple(filled)


def _more_node_ports(
    spec: ServiceSpec, ports: tuple[ServicePort, ...], held: set[int], ledger: Ledger
) -> tuple[ServicePort, ...]:
    """ALLOC-4: a changed service keeps its node ports, and each new port gets a node port of its
    own."""
    mine = set(held)
    for position, port in enumerate(ports):
        if port.node_port and port.node_port not in mine:
            mine.add(_take_node_port(port.node_port, position, ledger))
    if not needs_node_ports(spec):
        return ports
    return tuple(
        [
            port if port.node_port else replace(port, node_port=_choose_node_port(ledger))
            for port in ports
        ]
    )


def _take_node_port(number: int, position: int, ledger: Ledger) -> int:
    """Allocate the requested node port. Raises ApiError 422 if it is out of range or taken, even by
    another port of this service."""
    if why := _why_not(number, ledger):
        cause = Cause(INVALID, f"spec.ports[{position}].nodePort", why, number)
        raise ApiError(
            status.invalid(resources.SERVICES, ledger.service.metadata.name or "", [cause])
        )
    return number


def _why_not(number: int, ledger: Ledger) -> str:
    """Allocate the requested port; the reason if it is not possible. As upstream, a dry run does
    not look at the range (ALLOC-4)."""
    first, last = ledger.config.node_port_first, ledger.config.node_port_last
    if not ledger.is_dry_run and not first <= number <= last:
        words = "provided port is not in the valid range. The range of valid ports is"
        return f"{words} {first}-{last}"
    if not ledger.allocate_requested(port_key(number), str(number), None):
        return "provided port is already allocated"
    return ""


def _choose_node_port(ledger: Ledger) -> int:
    """Allocate a free node port. Raises ApiError 500 if there is none (API-14)."""
    first, last = ledger.config.node_port_first, ledger.config.node_port_last
    size = last - first + 1
    number = _choose(
        first, last, min(max(16, size // 32), 128, size), port_key, NODE_PORT_PREFIX, ledger
    )
    if number is None:
        raise ApiError(status.internal_error("failed to allocate a nodePort: range is full"))
    ledger.allocate(port_key(number), str(number), None)
    return number


def _allocate_health_check_port(
    spec: ServiceSpec, old: Service | None, ledger: Ledger
) -> ServiceSpec:
    """ALLOC-4: the port at which a load balancer checks whether this node has endpoints."""
    held = old.spec.health_check_node_port if old is not None else None
    wanted = spec.health_check_node_port
    if needs_health_check_port(spec):
        if not wanted:
            wanted = _choose_node_port(ledger)
        elif wanted != held and (why := _why_not(wanted, ledger)):
            cause = Cause(INVALID, "spec.healthCheckNodePort", why, wanted)
            raise ApiError(
                status.invalid(resources.SERVICES, ledger.service.metadata.name or "", [cause])
            )
        spec = replace(spec, health_check_node_port=wanted)
    if held and held != wanted:
        ledger.free(port_key(held))
    return spec


# --- random choice


def _choose(
    first: int, last: int, band: int, key: Callable[[int], str], prefix: str, ledger: Ledger
) -> int | None:
    """ALLOC-5: a random free number above the band, else one within it; None if all are taken.
    O(taken) if few are free."""
    bounds = ((first + band, last), (first, min(first + band - 1, last)))
    for low, high in bounds:
        if low > high:
            continue
        for _ in range(PROBES_MAX):
            number = low + ledger.context.below(high - low + 1)
            if ledger.is_free(key(number)):
                return number
        taken = {record.key for record in ledger.store.list(prefix).records} | {
            write.key for write in ledger.writes
        }
        if len(taken) > high - low and all(key(number) in taken for number in range(low, high + 1)):
            continue
        start = low + ledger.context.below(high - low + 1)
        for number in chain(range(start, high + 1), range(low, start)):
            if key(number) not in taken:
                return number
    return None
