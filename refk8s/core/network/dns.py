"""The answer to a DNS question about the cluster. Rules DNS-2 to DNS-10 (spec/dns.md).

`answer` is a function of the records and of the question. A name is looked up by its place in the
cluster's domain:

| name | records |
|---|---|
| SERVICE.NAMESPACE.svc.DOMAIN, and names below | those of the service (`dns_records.py`) |
| ADDRESS-WITH-HYPHENS.NAMESPACE.pod.DOMAIN | that address (DNS-9) |
| DOMAIN, dns-version.DOMAIN, ns.dns.DOMAIN | those of the domain itself (DNS-10) |
| reversed address below in-addr.arpa or ip6.arpa | PTR (DNS-6); if none is known, the name is not the cluster's |
| any other name outside of DOMAIN | none: the name is not the cluster's |

Source: "Kubernetes DNS-Based Service Discovery"; RFC 1034, "Domain Names - Concepts and
Facilities"; RFC 2308, "Negative Caching of DNS Queries"; CoreDNS documentation, "kubernetes".
"""

from ipaddress import IPv6Address

from refk8s.core.network.dns_records import canonical_address
from refk8s.core.ports import Data, Labels, Records
from refk8s.core.value import Value

TTL_SECONDS = 30
VERSION_TTL_SECONDS = 28_800
SCHEMA_VERSION = "1.1.0"
CNAMES_MAX = 8  # in one answer
NOERROR, NXDOMAIN = "NOERROR", "NXDOMAIN"
REVERSED = (("in-addr", "arpa"), ("ip6", "arpa"))
DNS_SERVICE = ("kube-dns", "kube-system", "svc")
_SOA = "hostmaster.{zone} 1 7200 1800 86400 {ttl}"


class RecordSet(Value, frozen=True):
    """The records of one name and type."""

    name: str  # ends with a dot
    type: str
    data: tuple[str, ...]
    ttl: int = TTL_SECONDS


class Answer(Value, frozen=True):
    """The answer to a question. `elsewhere`: the answers end with a CNAME to this name outside of
    the cluster, and what is known about that name completes the answer."""

    code: str = NOERROR
    answers: tuple[RecordSet, ...] = ()
    authority: tuple[RecordSet, ...] = ()
    additional: tuple[RecordSet, ...] = ()
    elsewhere: str = ""


def labels_of(name: str) -> Labels:
    """The labels of a name without escaped characters, such as those of the cluster."""
    return tuple(name.lower().rstrip(".").split("."))


def answer(records: Records, name: Labels, type: str, domain: Labels) -> Answer | None:
    """The answer to a question; None if the name is not the cluster's (DNS-8)."""
    chain: list[RecordSet] = []
    seen = {name}
    while True:
        zone = zone_of(name, domain)
        data = look_up(records, name, domain) if zone else None
        if not zone or (data is None and zone != domain):  # DNS-6, DNS-16
            return Answer(answers=tuple(chain), elsewhere=".".join(name) + ".") if chain else None
        if data is None:
            return Answer(NXDOMAIN, tuple(chain), (start_of_authority(zone),))
        if type in data:
            found = RecordSet(".".join(name) + ".", type, data[type], _ttl_of(type))
            return Answer(
                answers=(*chain, found), additional=_addresses_of_targets(records, found, domain)
            )
        if "CNAME" not in data or len(chain) == CNAMES_MAX:
            return Answer(NOERROR, tuple(chain), (start_of_authority(zone),))
        chain.append(RecordSet(".".join(name) + ".", "CNAME", data["CNAME"]))
        name = labels_of(data["CNAME"][0])
        if name in seen:  # the records of a loop, and nothing behind it
            return Answer(NOERROR, tuple(chain), (start_of_authority(zone),))
        seen.add(name)


def _ttl_of(type: str) -> int:
    return VERSION_TTL_SECONDS if type == "TXT" else TTL_SECONDS


def zone_of(name: Labels, domain: Labels) -> Labels:
    """The zone that has this name; empty if it is none of the cluster's."""
    for zone in (domain, *REVERSED):
        if name[-len(zone) :] == zone:
            return zone
    return ()


def start_of_authority(zone: Labels) -> RecordSet:
    """The SOA record of a zone; negative answers contain it (DNS-8)."""
    text = ".".join(zone) + "."
    return RecordSet(text, "SOA", (f"ns.dns.{text} " + _SOA.format(zone=text, ttl=TTL_SECONDS),))


def look_up(records: Records, name: Labels, domain: Labels) -> Data | None:
    """The records of one name; None if there is no such name (DNS-8)."""
    if name[-len(domain) :] != domain:
        names = records.pointers.get(address_of_reversed(name))
        return {"PTR": names} if names else None
    below = name[: -len(domain)]
    match below:
        case () | ("dns",) | ("ns", "dns") | ("dns-version",):
            return _look_up_own(records, below, domain)
        case ("svc",) | ("pod",):
            return {}
        case (*_, namespace, "svc" | "pod") if namespace not in records.namespaces:
            return None
        case (_, "svc" | "pod"):
            return {}
        case (text, _, "pod"):
            return _address_in(text)
        case (*labels, service, namespace, "svc"):
            found = records.services.get(f"{namespace}/{service}")
            return None if found is None else found.names.get(tuple(labels))
    return None


def _look_up_own(records: Records, below: Labels, domain: Labels) -> Data:
    """The records of the domain itself (DNS-10)."""
    if below == ("dns-version",):
        return {"TXT": (f'"{SCHEMA_VERSION}"',)}
    addresses = look_up(records, (*DNS_SERVICE, *domain), domain) or {}
    addresses = {type: data for type, data in addresses.items() if type in ("A", "AAAA")}
    if below == ("ns", "dns"):
        return addresses
    if below:
        return {}
    text = ".".join(domain) + "."
    own = {"SOA": start_of_authority(domain).data}
    return own | {"NS": (f"ns.dns.{text}",)} if addresses else own


def _address_in(text: str) -> Data | None:
    """The address that a pod's name consists of: with three hyphens IPv4, else IPv6 (DNS-9)."""
    is_ipv4 = text.count("-") == 3 and "--" not in text
    found = canonical_address(text.replace("-", "." if is_ipv4 else ":"))
    return None if found is None else {found[0]: (found[1],)}


def address_of_reversed(name: Labels) -> str:
    """The address of a name below in-addr.arpa or ip6.arpa; empty if it is none (DNS-6)."""
    below, zone = name[:-2], name[-2:]
    if zone == REVERSED[0] and len(below) == 4:
        found = canonical_address(".".join(reversed(below)))
        return "" if found is None else found[1]
    digits = "".join(reversed(below))
    if zone == REVERSED[1] and len(below) == len(digits) == 32 and set(digits) <= HEXADECIMAL:
        return str(IPv6Address(int(digits, 16)))
    return ""


HEXADECIMAL = frozenset("0123456789abcdef")


def _addresses_of_targets(
    records: Records, found: RecordSet, domain: Labels
) -> tuple[RecordSet, ...]:
    """The addresses of the targets of SRV records (DNS-5)."""
    if found.type != "SRV":
        return ()
    targets = dict.fromkeys(data.rpartition(" ")[2] for data in found.data)
    return tuple(
        RecordSet(target, type, data[type])
        for target in targets
        for data in [look_up(records, labels_of(target), domain) or {}]
        for type in ("A", "AAAA")
        if type in data
    )
