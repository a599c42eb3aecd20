"""Node IPAM: a range of pod addresses of each family for each Node. Rules IPAM-1 to IPAM-7
(spec/node_network.md).

The range of the cluster is divided into subnets of one size, which have numbers. The index
"range" has the numbers that each Node's podCIDRs overlap, so a range is free if and only if no Node
is found under its number: nothing is remembered that a restart could lose. One key allocates for
all Nodes, so two of its requests never have the same range.

Source: Kubernetes documentation, "kube-controller-manager" (--cluster-cidr,
--node-cidr-mask-size); "Cluster Networking"; "IPv4/IPv6 dual-stack".
"""

from collections.abc import Iterator
from ipaddress import ip_network
from operator import attrgetter
from typing import Any

from immutables import Map

from refk8s.core.api.core_v1 import Node
from refk8s.core.api.families import Network
from refk8s.core.api.request import Patch, Request
from refk8s.core.api.resources import NODES
from refk8s.core.api.user import service_account_user
from refk8s.core.context import Instant
from refk8s.core.loop.plan import NOTHING, Key, Local, Note, Plan
from refk8s.core.loop.reconciler import Interest, Reconciler
from refk8s.core.loop.view import Index, View, key_of
from refk8s.core.pods.node import pod_cidrs
from refk8s.core.value import Value, evolve, field

ALLOCATE = "allocate"
NOT_AVAILABLE = "CIDRNotAvailable"
FENCE = "node-ipam.refk8s.io/resource-version"
"""An annotation whose write changes the resourceVersion of a Node (IPAM-3)."""
WAVE_MAX = 64
SIZES_MAX = 16
"""The maximum difference of the prefix lengths, as upstream's: at most 65,536 ranges."""


class PodRanges(Value, frozen=True):
    """The range of the cluster, the prefix length of the range of each Node, and networks that no
    range may overlap, such as those of the Services and of the machines. `second`: the same of the
    other family, if each Node gets a range of both (IPAM-7)."""

    cluster: Network
    node_prefix_length: int = 24
    excluded: tuple[Network, ...] = ()
    second: "PodRanges | None" = None

    @property
    def families(self) -> tuple["PodRanges", ...]:
        """The ranges of each family, the first one first."""
        return (self,) if self.second is None else (self, self.second)

    @property
    def count(self) -> int:
        """How many ranges there are; some may be excluded."""
        return int(1 << (self.node_prefix_length - self.cluster.prefixlen))

    @property
    def _shift(self) -> int:
        return int(self.cluster.max_prefixlen - self.node_prefix_length)

    def at(self, number: int) -> Network:
        """The range of this number."""
        first = int(self.cluster.network_address) + (number << self._shift)
        return type(self.cluster)((first, self.node_prefix_length))

    def overlapped(self, network: Network) -> range:
        """The numbers of the ranges that share an address with this network."""
        if network.version != self.cluster.version:
            return range(0)
        shift = self._shift
        base = int(self.cluster.network_address)
        first = (int(network.network_address) - base) >> shift
        last = (int(network.broadcast_address) - base) >> shift
        return range(max(first, 0), min(last, self.count - 1) + 1)

    def is_excluded(self, number: int) -> bool:
        """Whether the range overlaps an excluded network (IPAM-6)."""
        return any(number in self.overlapped(network) for network in self.excluded)


class Memory(Value, frozen=True):
    """`unfenced`: the resourceVersion of each Node without a range, as first seen (IPAM-3); None
    before the first reconcile. `next`: the numbers at which the next search begins, of each family.
    `noted`: the uids of Nodes for which there was no range."""

    unfenced: Map[Key, str] | None = None
    next: tuple[int, ...] = (0, 0)
    noted: Map[str, None] = field(default_factory=Map)


def networks_of(node: Node) -> Iterator[Network]:
    """The valid podCIDRs of a Node."""
    for text in pod_cidrs(node):
        try:
            yield ip_network(text, strict=False)
        except ValueError:
            continue


def _lacking(node: Node) -> tuple[str, ...]:
    return () if pod_cidrs(node) else ("",)


def _lacks_or_releases(view: View, old: Node | None, new: Node | None) -> tuple[Key, ...]:
    """The key, if a Node needs a range, or one was released."""
    if new is None:
        return (ALLOCATE,)
    return (ALLOCATE,) if not pod_cidrs(new) else ()


class NodeIPAM(Reconciler):
    """Allocates the ranges of all Nodes (IPAM-1, IPAM-2)."""

    name = "node-ipam-controller"
    component = "cidrAllocator"
    user = service_account_user("kube-system", "node-controller")
    interests = (Interest(NODES, _lacks_or_releases),)
    initial_keys = (ALLOCATE,)

    def __init__(self, ranges: PodRanges) -> None:
        self.ranges = ranges
        self.indexes = (
            Index("range", NODES, self._numbers, attrgetter("spec")),
            Index("lacks-range", NODES, _lacking, attrgetter("spec")),
        )

    def _numbers(self, node: Node) -> list[str]:
        return [
            f"{of.cluster.version}:{number}"
            for network in networks_of(node)
            for of in self.ranges.families
            for number in of.overlapped(network)
        ]

    def start_memory(self, now: Instant) -> Memory:
        return Memory()

    def reconcile(self, view: View, key: Key, now: Instant, local: Local) -> Plan:
        # Observe
        memory: Memory = local.memory
        nodes = {key_of(node): node for node in view.indexed(NODES, "lacks-range", "")}
        waiting = [
            node for _, node in sorted(nodes.items()) if node.metadata.deletion_timestamp is None
        ]

        # Decide
        first_seen = memory.unfenced
        if first_seen is None:
            first_seen = Map({key_of(node): node.metadata.resource_version for node in waiting})
        unfenced = Map(
            {
                key: version
                for key, version in first_seen.items()
                if key in nodes and nodes[key].metadata.resource_version == version
            }
        )
        memory = evolve(memory, unfenced=unfenced)
        if unfenced:
            fences = [_fence(node) for node in waiting if key_of(node) in unfenced]
            return Plan((tuple(fences[:WAVE_MAX]),), memory=memory)
        if not waiting:
            return NOTHING if memory == local.memory else Plan(memory=memory)
        free = [
            self._free(view, of, begin)
            for of, begin in zip(self.ranges.families, memory.next, strict=False)
        ]
        requests: list[Request] = []
        notes: list[Note] = []
        for node in waiting[:WAVE_MAX]:
            numbers = [next(each, None) for each in free]
            if None in numbers:  # IPAM-7: a range of each family, or none
                left = waiting[len(requests) :]
                notes = [
                    _not_available(node)
                    for node in left
                    if (node.metadata.uid or "") not in memory.noted
                ]
                noted = Map({node.metadata.uid or "": None for node in left})
                memory = evolve(memory, noted=noted)
                break
            found = [
                (of, number)
                for of, number in zip(self.ranges.families, numbers, strict=True)
                if number is not None
            ]
            requests.append(_allocation(node, [str(of.at(number)) for of, number in found]))
            memory = evolve(memory, next=tuple([(number + 1) % of.count for of, number in found]))

        # Act
        return Plan((tuple(requests),) if requests else (), memory=memory, notes=tuple(notes))

    @staticmethod
    def _free(view: View, of: PodRanges, begin: int) -> Iterator[int]:
        """The free numbers of a family, each once, from `begin` on (IPAM-4)."""
        for step in range(of.count):
            number = (begin + step) % of.count
            if not of.is_excluded(number) and not view.indexed_keys(
                NODES, "range", f"{of.cluster.version}:{number}"
            ):
                yield number


def _patch(node: Node, changes: dict[str, Any], because: str) -> Request:
    """A write that fails if the Node has changed since."""
    metadata = {"uid": node.metadata.uid, "resourceVersion": node.metadata.resource_version}
    document = {**changes, "metadata": {**metadata, **changes.get("metadata", {})}}
    body = Patch("application/merge-patch+json", document)
    return Request("patch", NODES, name=node.metadata.name or "", body=body, because=because)


def _fence(node: Node) -> Request:
    annotations = {FENCE: node.metadata.resource_version}
    because = "no earlier allocation may take effect after this"
    return _patch(node, {"metadata": {"annotations": annotations}}, because)


def _allocation(node: Node, cidrs: list[str]) -> Request:
    spec = {"podCIDR": cidrs[0], "podCIDRs": cidrs}
    return _patch(node, {"spec": spec}, "its pods need addresses")


def _not_available(node: Node) -> Note:
    """IPAM-5."""
    name = node.metadata.name
    return Note(node, NOT_AVAILABLE, f"Node {name} status is now: {NOT_AVAILABLE}")
