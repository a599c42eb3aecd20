"""Predicates of DNS records, for any services and slices. Rules DNS-1 to DNS-10 (spec/dns.md).

    inv   DNS-1    the answers follow from the current services, slices and namespaces

`zone_file` lists every record of a cluster, section by section of the specification, and `resolve`
answers from such a list as RFC 1034 (4.3.2) describes. Neither uses the functions of
`core/network`.
"""

from collections.abc import Iterable, Iterator, Sequence
from ipaddress import ip_address

from refk8s.core.api.core_v1 import Service
from refk8s.core.api.discovery_v1 import EndpointSlice
from refk8s.core.network.dns import Answer, answer
from refk8s.core.ports import Records

Zone = dict[str, dict[str, set[str]]]
"""The data of each record by name and type."""
NOT_OURS = "not the cluster's"


def zone_file(
    services: Iterable[Service], slices: Sequence[EndpointSlice], namespaces: Sequence[str], domain: str
) -> Zone:  # fmt: skip
    """Every record of a cluster with these objects."""
    zone: Zone = {f"dns-version.{domain}.": {"TXT": {'"1.1.0"'}}}
    for name in ("svc", "pod", *(f"{of}.{kind}" for of in namespaces for kind in ("svc", "pod"))):
        zone[f"{name}.{domain}."] = {}
    for service in services:
        of_service = [
            slice
            for slice in slices
            if slice.metadata.namespace == service.metadata.namespace
            and (slice.metadata.labels or {}).get("kubernetes.io/service-name")
            == service.metadata.name
        ]
        for name, type, data in _records_of(service, of_service, domain):
            if type == "PTR" or service.metadata.namespace in namespaces:
                zone.setdefault(name, {}).setdefault(type, set()).add(data)
    kube_dns = zone.get(f"kube-dns.kube-system.svc.{domain}.", {})
    zone[f"ns.dns.{domain}."] = {
        type: set(data) for type, data in kube_dns.items() if type in ("A", "AAAA")
    }
    for name in list(zone):  # the empty non-terminals
        while name.endswith(f".{domain}."):
            zone.setdefault(name, {})
            name = name.partition(".")[2]
    zone[f"{domain}."] = {"SOA": {_soa(domain)}}
    if zone[f"ns.dns.{domain}."]:
        zone[f"{domain}."]["NS"] = {f"ns.dns.{domain}."}
    return zone


def _soa(domain: str) -> str:
    return f"ns.dns.{domain}. hostmaster.{domain}. 1 7200 1800 86400 30"


def _records_of(
    service: Service, slices: Sequence[EndpointSlice], domain: str
) -> Iterator[tuple[str, str, str]]:
    """(name, type, data) of each record of one service, with the sections of the specification."""
    spec = service.spec
    assert spec is not None
    me = f"{service.metadata.name}.{service.metadata.namespace}.svc.{domain}."
    if spec.type == "ExternalName":  # 2.5
        if not _is_address((spec.external_name or "").rstrip(".")):
            yield me, "CNAME", (spec.external_name or "").lower().rstrip(".") + "."
        return
    ready = [
        (slice, endpoint.hostname or "", str(ip_address(address)))
        for slice in slices
        for endpoint in slice.endpoints or ()
        for address in endpoint.addresses
        if slice.address_type != "FQDN"
        and not (endpoint.conditions is not None and endpoint.conditions.ready is False)
    ]
    at: list[tuple[str, str, int, str]] = []
    for slice, hostname, address in ready:
        host = f"{hostname or address.replace('.', '-').replace(':', '-')}.{me}"
        yield host, _type(address), address  # 2.4.1
        yield ip_address(address).reverse_pointer + ".", "PTR", host  # 2.4.3
        if spec.cluster_ip == "None":
            yield me, _type(address), address  # 2.4.1
            at += [
                (port.name or "", (port.protocol or "TCP").lower(), port.port, host)
                for port in slice.ports or ()
                if port.port is not None
            ]
    if spec.cluster_ip != "None":
        for text in spec.cluster_ips or ([spec.cluster_ip] if spec.cluster_ip else []):
            address = str(ip_address(text))
            yield me, _type(address), address  # 2.3.1
            yield ip_address(address).reverse_pointer + ".", "PTR", me  # 2.3.3
            at += [
                (port.name or "", (port.protocol or "TCP").lower(), port.port, me)
                for port in spec.ports or ()
            ]
    for name, protocol, number, target in at:  # 2.3.2, 2.4.2
        yield me, "SRV", f"0 {max(1, 100 // len(at))} {number} {target}"
        if name:
            alike = [each for each in at if each[:2] == (name, protocol)]
            owner = f"_{name}._{protocol}.{me}"
            yield owner, "SRV", f"0 {max(1, 100 // len(alike))} {number} {target}"


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _type(address: str) -> str:
    return "AAAA" if ":" in address else "A"


def resolve(zone: Zone, name: str, type: str, domain: str) -> tuple[str, list[tuple[str, str, frozenset[str]]]]:  # fmt: skip
    """(code, answers) of a question, as RFC 1034 has it: answers are (name, type, data).

    The code is NOT_OURS if the name, or the last one of a chain, is not the cluster's.
    """
    found: list[tuple[str, str, frozenset[str]]] = []
    names: list[str] = []
    while name not in names:
        names.append(name)
        data = zone.get(name)
        labels = name.removesuffix(f".{domain}.").split(".")
        if (
            data is None
            and len(labels) == 3
            and labels[2] == "pod"
            and name.endswith(f".{domain}.")
        ):
            data = _of_pod(labels[0]) if f"{labels[1]}.pod.{domain}." in zone else None  # 2.6
        if data is None:
            ours = name.endswith(f".{domain}.")
            return ("NXDOMAIN" if ours else NOT_OURS), found
        if type in data:
            return "NOERROR", [*found, (name, type, frozenset(data[type]))]
        if "CNAME" not in data or len(found) == 8:
            return "NOERROR", found
        found.append((name, "CNAME", frozenset(data["CNAME"])))
        (name,) = data["CNAME"]
    return "NOERROR", found


def _of_pod(text: str) -> dict[str, set[str]] | None:
    for address in (text.replace("-", "."), text.replace("-", ":")):
        if _is_address(address) and "%" not in address:
            return {_type(address): {str(ip_address(address))}}
    return None


def dns_1_answers_follow_from_the_objects(
    records: Records, services: Sequence[Service], slices: Sequence[EndpointSlice], namespaces: Sequence[str], domain: str,
    more: Iterable[tuple[str, str]] = (),
) -> Iterator[str]:  # fmt: skip
    """DNS-1: every name and type is answered as the objects require, and so are `more`
    questions."""
    zone = zone_file(services, slices, namespaces, domain)
    questions = [(name, type) for name in sorted(zone) for type in ("A", "AAAA", "SRV", "PTR", "CNAME", "TXT")]  # fmt: skip
    questions += [(f"nothing.{name}", "A") for name in sorted(zone)]
    for name, type in [*questions, *more]:
        got = answer(records, tuple(name.rstrip(".").split(".")), type, tuple(domain.split(".")))
        yield from _compare(name, type, got, *resolve(zone, name, type, domain))
    for key in sorted(records.services):
        namespace, _, service = key.partition("/")
        for labels in sorted(records.services[key].names):
            name = ".".join([*labels, service, namespace, "svc", f"{domain}."])
            if namespace in namespaces and name not in zone:
                yield f"{name} is a name of nothing"
    wanted = {name for name, data in zone.items() if "PTR" in data}
    found = {ip_address(address).reverse_pointer + "." for address in records.pointers}
    for name in sorted(wanted ^ found):
        yield f"{name} {'has no record' if name in wanted else 'is a record of nothing'}"


def _compare(
    name: str, type: str, got: Answer | None, code: str, answers: list[tuple[str, str, frozenset[str]]]
) -> Iterator[str]:  # fmt: skip
    if got is None:
        if code != NOT_OURS or answers:
            yield f"{name} {type} is not the cluster's, where {code} {answers} was expected"
        return
    of_answer = [(each.name, each.type, frozenset(each.data)) for each in got.answers]
    if of_answer != answers or any(len(each.data) != len(set(each.data)) for each in got.answers):
        yield f"{name} {type} is {of_answer}, not {answers}"
    if bool(got.elsewhere) != (code == NOT_OURS) or (code != NOT_OURS and got.code != code):
        yield f"{name} {type} is {got.code} {got.elsewhere}, not {code}"
    is_negative = not got.elsewhere and (not answers or answers[-1][1] != type)
    if is_negative != [each.type for each in got.authority].__contains__("SOA"):
        yield f"{name} {type} has the authority {got.authority}"
