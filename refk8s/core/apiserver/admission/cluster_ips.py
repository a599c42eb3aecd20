"""The cluster IPs of services, one of each family of the service. Rules ALLOC-2, ALLOC-5, ALLOC-6,
ALLOC-11, ALLOC-12 (spec/admission.md).

Source: Kubernetes documentation, "Service ClusterIP allocation", "IPv4/IPv6 dual-stack".
"""

from ipaddress import IPv4Address, IPv6Address

from msgspec.structs import replace

from refk8s.core.api import resources, status
from refk8s.core.api.core_v1 import Service, ServiceSpec
from refk8s.core.api.families import IPV4, IPV6
from refk8s.core.api.status import INVALID, ApiError, Cause
from refk8s.core.apiserver.admission.ledger import Ledger, choose, ip_key
from refk8s.core.apiserver.admission.service import NONE, needs_cluster_ip
from refk8s.core.apiserver.admission.service_ranges import Range, ranges_of
from refk8s.core.apiserver.validation.names import parse_ip
from refk8s.core.apiserver.validation.service import is_headless
from refk8s.core.store import ABSENT, Compare

MANAGED_BY = {"ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io"}
IP_LABELS = {
    family: {"ipaddress.kubernetes.io/ip-family": family, **MANAGED_BY} for family in (IPV4, IPV6)
}


def allocate_cluster_ips(spec: ServiceSpec, old: Service | None, ledger: Ledger) -> ServiceSpec:
    """The spec with an address of each of its families, the requested one if it is free. What the
    service held and no longer has is freed.

    Addresses at places where the service has had one are not looked at: validation rejects a change
    of them (VAL-23).
    """
    held = tuple([each for each in (old.spec.cluster_ips or ()) if each != NONE]) if old else ()
    wanted = spec.cluster_ips or ()
    if not needs_cluster_ip(spec) or is_headless(spec):
        for address in held if not needs_cluster_ip(spec) else ():
            ledger.free(ip_key(address))
        return spec
    had = old.spec.cluster_ips or () if old is not None and needs_cluster_ip(old.spec) else ()
    if NONE in had:
        return spec  # it stays headless
    addresses = list(wanted)
    for position, family in enumerate(spec.ip_families or ()):
        if position < min(len(had), len(addresses)):
            continue
        if position < len(addresses):
            _take(addresses[position], wanted, ledger)
        elif position == len(addresses):
            addresses.append(_next(family, ledger))
    for address in held[len(addresses) :]:
        ledger.free(ip_key(address))
    if tuple(addresses) == wanted:
        return spec
    return replace(spec, cluster_ip=addresses[0], cluster_ips=tuple(addresses))


def _take(text: str, wanted: tuple[str, ...], ledger: Ledger) -> None:
    """Allocate the requested address. Raises ApiError 422 if it is in no range or taken."""
    address = parse_ip(text)
    if address is None:
        return  # validation rejects it
    ranges = ranges_of(ledger.store, ledger.config)
    found = next((each for each in ranges if each.contains(address)), None)
    why = ""
    if found is None:
        why = "the provided network does not match the current range"
    elif not ledger.allocate_requested(ip_key(text), str(address), labels_of(address)):
        why = "provided IP is already allocated"
    else:
        _require(found, ledger)
    if why:
        words = f"failed to allocate IP {text}: {why}"
        cause = Cause(INVALID, "spec.clusterIPs", words, list(wanted))
        raise ApiError(
            status.invalid(resources.SERVICES, ledger.service.metadata.name or "", [cause])
        )


def _next(family: str, ledger: Ledger) -> str:
    """Allocate a free address of the first range that has one. Raises ApiError 500 without one."""
    version = 4 if family == IPV4 else 6
    address = IPv4Address if family == IPV4 else IPv6Address
    for each in ranges_of(ledger.store, ledger.config):
        if each.network.version != version:
            continue
        number = choose(
            each.first,
            each.last,
            _band(each.network.num_addresses),
            lambda n: ip_key(str(address(n))),
            resources.IP_ADDRESSES.prefix,
            ledger,
        )
        if number is not None:
            found = address(number)
            ledger.allocate(ip_key(str(found)), str(found), labels_of(found))
            _require(each, ledger)
            return str(found)
    raise ApiError(status.internal_error("failed to allocate a serviceIP: range is full"))


def labels_of(address: IPv4Address | IPv6Address) -> dict[str, str]:
    """The labels of the IPAddress of a service."""
    return IP_LABELS[IPV4 if address.version == 4 else IPV6]


def _require(found: Range, ledger: Ledger) -> None:
    """ALLOC-11: the transaction holds only while the ServiceCIDR is as it was seen, so that no
    address is allocated from one that is being deleted."""
    record = ledger.store.get(found.key)
    compare = Compare(found.key, ABSENT if record is None else record.mod_revision)
    if compare not in ledger.compares:
        ledger.compares.append(compare)


def _band(size: int) -> int:
    """ALLOC-5: the number of addresses at the start of the range that are chosen last, so that
    users who request addresses find some free."""
    return min(max(16, size // 16), 256, max(size - 2, 0))
