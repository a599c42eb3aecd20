"""The flags with ranges of addresses: of Services, of all pods, and of the pods of a node. Rules
HOST-18 (spec/host.md), IPAM-7 (spec/node_network.md).

Source: Kubernetes documentation, "IPv4/IPv6 dual-stack", "kube-apiserver",
"kube-controller-manager".
"""

from typing import TYPE_CHECKING

from refk8s.components.files import CannotRun
from refk8s.core.api.families import Network, read_ranges

if TYPE_CHECKING:
    from collections.abc import Iterable

    from refk8s.core.controllers.node_ipam import PodRanges

SERVICE_FLAG, POD_FLAG = "--service-cluster-ip-range", "--cluster-cidr"
SERVICE_BITS = {4: (8, 30), 6: (64, 126)}
NODE_BITS = {4: (8, 30), 6: (16, 126)}
NODE_BITS_DEFAULT = {4: 24, 6: 64}


def read_flag(flag: str, text: str) -> tuple[Network, ...]:
    """The ranges of a flag, one of each family. Raises CannotRun."""
    try:
        ranges = read_ranges(text)
    except ValueError as error:
        raise CannotRun(f"{flag} {text}: {error}") from None
    for each in ranges:
        if each.is_loopback or each.is_multicast or each.is_link_local or each.is_unspecified:
            raise CannotRun(f"{flag} {text}: {each} has no addresses for a network of pods")
    return ranges


def service_ranges(text: str) -> tuple[Network, ...]:
    """The ranges of `--service-cluster-ip-range`. Raises CannotRun."""
    ranges = read_flag(SERVICE_FLAG, text)
    for each in ranges:
        least, most = SERVICE_BITS[each.version]
        if not least <= each.prefixlen <= most:
            raise CannotRun(
                f"{SERVICE_FLAG} {text}: the prefix of {each} must have {least} to {most} bits"
            )
    return ranges


def pod_ranges(
    text: str | None,
    excluded: "Iterable[Network]",
    bits: int | None = None,
    bits4: int | None = None,
    bits6: int | None = None,
) -> "PodRanges | None":
    """The ranges of `--cluster-cidr` and `--node-cidr-mask-size...`; None without the first.
    `excluded`: networks that no range overlaps. Raises CannotRun."""
    if not text:
        return None
    from refk8s.core.controllers.node_ipam import SIZES_MAX, PodRanges

    clusters = read_flag(POD_FLAG, text)
    if bits is not None and (len(clusters) == 2 or bits4 is not None or bits6 is not None):
        raise CannotRun(
            "--node-cidr-mask-size: with two families, use --node-cidr-mask-size-ipv4 and "
            "--node-cidr-mask-size-ipv6"
        )
    found = None
    for cluster in reversed(clusters):
        of_family = bits4 if cluster.version == 4 else bits6
        flag = f"--node-cidr-mask-size{'' if of_family is None else f'-ipv{cluster.version}'}"
        length = of_family or bits or NODE_BITS_DEFAULT[cluster.version]
        least = max(cluster.prefixlen, NODE_BITS[cluster.version][0])
        most = min(cluster.prefixlen + SIZES_MAX, NODE_BITS[cluster.version][1])
        if not least <= length <= most:
            raise CannotRun(
                f"{flag} {length}: must be between {least} and {most} for {POD_FLAG} {cluster}"
            )
        found = PodRanges(cluster, length, tuple(excluded), found)
    return found
