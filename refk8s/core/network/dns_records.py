"""Records of the cluster's DNS from services and slices. Rules DNS-1 to DNS-7 (spec/dns.md).

`compute_names` computes the names of one service, and `change_records` replaces them in the records
of the cluster. The work depends on the size of that service, not of the cluster.

Source: "Kubernetes DNS-Based Service Discovery" (specification, version 1.1.0); Kubernetes
documentation, "DNS for Services and Pods"; CoreDNS documentation, "kubernetes". Left out: endpoints
named after their pods, and slices of the address type FQDN.
"""

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import ip_address

from immutables import Map

from refk8s.core.api.core_v1 import Service, ServiceSpec
from refk8s.core.api.discovery_v1 import EndpointSlice
from refk8s.core.loop.plan import Key
from refk8s.core.network.proxy import is_ready
from refk8s.core.ports import Labels, Records, ServiceNames
from refk8s.core.value import Value, evolve

WEIGHTS = 100
"""The weights of the SRV records of a name add up to this; each is at least 1 (as in CoreDNS)."""

NO_NAMES = ServiceNames()


class Port(Value, frozen=True):
    """A port at which `target`, a full name, is reached; the SRV records are made of these."""

    name: str
    protocol: str
    number: int
    target: str


class Host(Value, frozen=True):
    """An address of a ready endpoint, and the label of the endpoint below the service (DNS-4)."""

    label: str
    type: str
    address: str


def compute_names(service: Service, slices: Iterable[EndpointSlice], domain: str) -> ServiceNames:
    """The names of one service and their records (DNS-1). O(ports x endpoints)."""
    spec = service.spec
    if spec is None:
        return NO_NAMES
    if spec.type == "ExternalName":
        return _external_name(spec)
    full = f"{service.metadata.name}.{service.metadata.namespace}.svc.{domain}."
    names: dict[Labels, dict[str, dict[str, None]]] = {}
    pointers: dict[str, dict[str, None]] = {}

    def add(labels: Labels, type: str, data: str) -> None:
        names.setdefault(labels, {}).setdefault(type, {})[data] = None

    ports: list[Port] = []
    headless = is_headless(spec)
    for slice in slices:
        for host in hosts_of(slice):
            target = f"{host.label}.{full}"
            add((host.label,), host.type, host.address)
            pointers.setdefault(host.address, {})[target] = None  # DNS-6
            if headless:
                add((), host.type, host.address)  # DNS-3
                ports += [
                    Port(port.name or "", port.protocol or "TCP", port.port, target)
                    for port in slice.ports or ()
                    if port.port
                ]
    for type, address in () if headless else cluster_addresses(spec):
        add((), type, address)  # DNS-2
        pointers.setdefault(address, {})[full] = None  # DNS-6
        ports += [
            Port(port.name or "", port.protocol or "TCP", port.port, full)
            for port in spec.ports or ()
        ]
    for labels, of_name in _by_srv_name(ports):
        weight = max(1, WEIGHTS // len(of_name))
        for port in of_name:
            add(labels, "SRV", f"0 {weight} {port.number} {port.target}")  # DNS-5
    for labels in list(names):
        for start in range(1, len(labels) + 1):
            names.setdefault(labels[start:], {})  # DNS-8: it exists, because a longer name does
    return ServiceNames(
        {
            labels: {type: tuple(sorted(data)) for type, data in names[labels].items()}
            for labels in sorted(names)
        },
        {address: tuple(sorted(pointers[address])) for address in sorted(pointers)},
    )


def _external_name(spec: ServiceSpec) -> ServiceNames:
    """DNS-7. An external name that looks like an address has no record."""
    target = (spec.external_name or "").lower().rstrip(".")
    if not target or canonical_address(target) is not None:
        return NO_NAMES
    return ServiceNames({(): {"CNAME": (f"{target}.",)}})


def _by_srv_name(ports: list[Port]) -> Iterator[tuple[Labels, list[Port]]]:
    """The labels of SRV records below the service's name, and the ports of each (DNS-5)."""
    found: dict[Labels, list[Port]] = {}
    for port in ports:
        found.setdefault((), []).append(port)
        if port.name:
            found.setdefault((f"_{port.name}", f"_{port.protocol.lower()}"), []).append(port)
    yield from found.items()


def is_headless(spec: ServiceSpec) -> bool:
    return spec.cluster_ip == "None"


def cluster_addresses(spec: ServiceSpec) -> list[tuple[str, str]]:
    """(record type, address) of each cluster IP."""
    texts = spec.cluster_ips or (spec.cluster_ip or "",)
    return [address for text in texts if (address := canonical_address(text)) is not None]


def hosts_of(slice: EndpointSlice) -> Iterator[Host]:
    """The addresses of the ready endpoints (DNS-3), with their labels: the endpoint's host name,
    else its address with hyphens."""
    for endpoint in slice.endpoints or () if slice.address_type in ("IPv4", "IPv6") else ():
        if not is_ready(endpoint):
            continue
        for text in endpoint.addresses:
            if (found := canonical_address(text)) is not None:
                type, address = found
                label = endpoint.hostname or address.replace(".", "-").replace(":", "-")
                yield Host(label.lower(), type, address)


def canonical_address(text: str) -> tuple[str, str] | None:
    """(record type, the address in its canonical form); None if the text is no address."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return None if "%" in text else ("A" if address.version == 4 else "AAAA", str(address))


def records_of(services: Mapping[Key, ServiceNames]) -> Records:
    """The records of all these services, without namespaces. O(names)."""
    pointers: dict[str, list[str]] = {}
    for names in services.values():
        for address, targets in names.pointers.items():
            pointers.setdefault(address, []).extend(targets)
    return Records(
        Map({key: names for key, names in services.items() if names.names}),
        pointers=Map({address: tuple(sorted(targets)) for address, targets in pointers.items()}),
    )


def change_records(records: Records, key: Key, names: ServiceNames) -> Records:
    """The records after the names of this service have become these (none: it was removed).

    O(names of this service).
    """
    before = records.services.get(key, NO_NAMES)
    services = (
        records.services.set(key, names)
        if names.names
        else records.services.delete(key)
        if key in records.services
        else records.services
    )
    pointers = records.pointers.mutate()
    for address in sorted({*before.pointers, *names.pointers}):
        old, new = before.pointers.get(address, ()), names.pointers.get(address, ())
        if old == new:
            continue
        # the names of an address contain the service, so each belongs to one service
        left = sorted([*(set(pointers.get(address, ())) - set(old)), *new])
        if left:
            pointers[address] = tuple(left)
        else:
            del pointers[address]
    return evolve(records, services=services, pointers=pointers.finish())
