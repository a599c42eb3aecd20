"""Addresses and ports of services: each belongs to at most one service. Rules ALLOC-1 to ALLOC-12
(spec/admission.md).

A cluster IP is held by an IPAddress object with its name, a node port by a record under a key with
its number. Both are written with the service, on the condition that they do not exist (ALLOC-1). Of
two concurrent requests the first to commit gets the address; the other is handled again and chooses
another one.

    type            cluster IP                  node ports      health check port
    ClusterIP       one a family **             -               -
    NodePort        one a family                one a port      -
    LoadBalancer    one a family                one a port *    with externalTrafficPolicy Local
    ExternalName    -                           -               -
                                 * unless allocateLoadBalancerNodePorts is false
                                 ** or None if requested

Source: Kubernetes documentation, "Service", "Service ClusterIP allocation" (avoiding collisions),
"Virtual IPs and Service Proxies".
"""

from msgspec.structs import replace

from refk8s.core.api import resources, status
from refk8s.core.api.core_v1 import Service, ServicePort, ServiceSpec
from refk8s.core.api.status import INVALID, ApiError, Cause
from refk8s.core.apiserver.admission.cluster_ips import allocate_cluster_ips
from refk8s.core.apiserver.admission.ledger import (
    NODE_PORT_PREFIX,
    Ledger,
    Write,
    choose,
    holds,
    ip_key,
    port_key,
)
from refk8s.core.apiserver.admission.outcome import Admission, AdmissionConfig
from refk8s.core.apiserver.admission.service import (
    NONE,
    may_have_node_ports,
    needs_health_check_port,
    needs_node_ports,
    with_cluster_ips,
    with_kept_values,
    without_type_dependents,
)
from refk8s.core.apiserver.admission.service_families import with_families
from refk8s.core.apiserver.outcome import Reader
from refk8s.core.context import Context
from refk8s.core.store import Compare, Delete


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
    spec = allocate_cluster_ips(with_families(new, old, config.families), old, ledger)
    spec = _allocate_node_ports(spec, old, ledger)
    spec = _allocate_health_check_port(spec, old, ledger)
    return Admission(replace(new, spec=spec), tuple(ledger.compares), tuple(ledger.writes))


def release(service: Service, store: Reader) -> tuple[tuple[Compare, ...], tuple[Write, ...]]:
    """ALLOC-6, ALLOC-9: the compares and writes that free everything of a removed service."""
    compares: list[Compare] = []
    writes: list[Write] = []
    for key in held_keys(service.spec):
        record = store.get(key)
        if record is not None and holds(service, record.value):
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
    band = _band(last - first + 1)
    number = choose(first, last, band, port_key, NODE_PORT_PREFIX, ledger)
    if number is None:
        raise ApiError(status.internal_error("failed to allocate a nodePort: range is full"))
    ledger.allocate(port_key(number), str(number), None)
    return number


def _band(size: int) -> int:
    """ALLOC-5: the number of ports at the start of the range that are chosen last."""
    return min(max(16, size // 32), 128, size)


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
