"""The ranges from which Services get their addresses. Rule ALLOC-11 (spec/admission.md).

Source: KEP-1880 "Multiple Service CIDRs"; Kubernetes documentation, "Extend Service IP Ranges".
"""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import Any, Final

from refk8s.core.api import resources
from refk8s.core.api.conditions import get_condition
from refk8s.core.api.families import Network
from refk8s.core.api.networking_v1 import ServiceCIDR
from refk8s.core.apiserver.admission.configurations import Kept
from refk8s.core.apiserver.admission.outcome import AdmissionConfig
from refk8s.core.apiserver.outcome import Reader
from refk8s.core.value import Value

READY = "Ready"
DEFAULT_NAME = "kubernetes"
IPV6_PREFIX_MIN = 64
"""A larger range of IPv6 is not used, as upstream has it."""


class Range(Value, frozen=True):
    """A range of addresses, and the key of its ServiceCIDR."""

    network: Network
    key: str

    @property
    def first(self) -> int:
        """The first address that a Service may have; the one before is that of the network."""
        return int(self.network.network_address) + 1

    @property
    def last(self) -> int:
        """The last address that a Service may have; the one after it is IPv4's for broadcasts."""
        return int(self.network.broadcast_address) - (self.network.version == 4)

    def contains(self, address: IPv4Address | IPv6Address) -> bool:
        """Whether a Service may have this address."""
        return self.network.version == address.version and self.first <= int(address) <= self.last


def is_ready(service_cidr: ServiceCIDR) -> bool:
    """Whether Services may get addresses of it. One without the condition counts as ready, so that
    a cluster without controllers has addresses too."""
    if service_cidr.metadata.deletion_timestamp is not None:
        return False
    condition = get_condition(service_cidr.status.conditions or (), READY)
    return condition is None or condition.status == "True"


def _compile(kept: tuple[Sequence[Any], ...]) -> tuple[tuple[Range, ...], bool]:
    """The ranges of the ready ServiceCIDRs, and whether that of the flags exists."""
    [service_cidrs] = kept
    return tuple([
        Range(network, resources.SERVICE_CIDRS.prefix + (one.metadata.name or ""))
        for one in service_cidrs if is_ready(one)
        for network in map(ip_network, one.spec.cidrs or ())
        if network.version == 4 or network.prefixlen >= IPV6_PREFIX_MIN
    ]), any(one.metadata.name == DEFAULT_NAME for one in service_cidrs)  # fmt: skip


_RANGES: Final[Kept[tuple[tuple[Range, ...], bool]]] = Kept((resources.SERVICE_CIDRS,), _compile)


def ranges_of(store: Reader, config: AdmissionConfig) -> tuple[Range, ...]:
    """ALLOC-11: those of the ready ServiceCIDRs, first those of the flags. These count also while
    their ServiceCIDR does not exist, because it is created again (HOST-18)."""
    of_flags = config.service_cidrs
    found, has_default = _RANGES.of(store)
    if not has_default:
        key = resources.SERVICE_CIDRS.prefix + DEFAULT_NAME
        found = (*[Range(network, key) for network in of_flags], *found)
    return tuple(sorted(found, key=lambda each: each.network not in of_flags))
