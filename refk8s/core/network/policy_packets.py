"""A model of the kernel in Python: what happens to a packet under the policies of a node. Rules
POLICY-1 to POLICY-9 (spec/network_policy.md).

`Filter` is the state of the kernel: elements by set. `apply` is as strict as the kernel: a
transaction fails if it deletes an absent element, or adds one that exists or overlaps another. So
the properties check policies for any pods and namespaces without a kernel;
`tests/integration/test_policies_kernel.py` compares the kernel with this model.
"""

from ipaddress import IPv4Network, IPv6Network, ip_address
from itertools import pairwise
from typing import TypeAlias

from immutables import Map

from refk8s.core.machine import Impossible
from refk8s.core.network.nftables import SIX
from refk8s.core.network.policy_script import MAPS
from refk8s.core.network.policy_table import EVERY, Change, class_text
from refk8s.core.value import Value, evolve, field

Entries: TypeAlias = Map[str, str]
_EMPTY: Entries = Map()


class Packet(Value, frozen=True):
    """A packet that the node forwards, after its destination was translated.

    `port` is the destination port. In a `reply` it is the source port: that of the server.
    """

    source: str
    destination: str
    protocol: str
    port: int
    reply: bool = False


class Filter(Value, frozen=True):
    """The policies in the kernel. `pods`: the pod range of the node."""

    pods: IPv4Network
    pods6: IPv6Network | None = None
    elements: Map[str, Entries] = field(default_factory=Map)

    def entries(self, name: str, address: str) -> Entries:
        """The set of this name in the table of the address's family."""
        return self.elements.get(SIX + name if ":" in address else name, _EMPTY)

    def has(self, name: str, key: str) -> bool:
        """`key` begins with an address."""
        return key in self.entries(name, key.partition(" ")[0])

    def is_pod(self, address: str) -> bool:
        """Whether it is in the node's pod range of its family."""
        pods = self.pods6 if ":" in address else self.pods
        return pods is not None and ip_address(address) in pods


def load(pods: IPv4Network, change: Change, pods6: IPv6Network | None = None) -> Filter:
    """A complete load; `change` is the difference to an empty table."""
    return apply(Filter(pods, pods6), change)


def apply(filter: Filter, change: Change) -> Filter:
    """The transaction. Raises Impossible if the kernel would reject it."""
    elements = filter.elements
    for name, key, value in change.removed:
        entries = elements.get(name, _EMPTY)
        if entries.get(key) != value:
            raise Impossible(f"{name} has {entries.get(key)!r} and not {value!r} at {key}")
        entries = entries.delete(key)
        elements = elements.set(name, entries) if entries else elements.delete(name)
    for name, key, value in change.added:
        entries = elements.get(name, _EMPTY)
        if key in entries:
            raise Impossible(f"{name} has {key} already")
        if (name.removeprefix(SIX) in MAPS) != bool(value):
            raise Impossible(f"{name} does not take {value!r}")
        elements = elements.set(name, entries.set(key, value))
    for name in {name: None for name, _, _ in change.added}:
        if name.endswith("_range") or name.removeprefix(SIX) == "blocks":
            _check_disjoint(name, elements[name])
    return evolve(filter, elements=elements)


def _check_disjoint(name: str, entries: Entries) -> None:
    spans = sorted(_span(key) for key in entries)
    for one, other in pairwise(spans):
        if one[0] == other[0] and one[2] >= other[1]:
            raise Impossible(f"two elements of {name} overlap: {one} and {other}")


def _span(key: str) -> tuple[str, int, int]:
    """(the key without its last part, the first and the last number of that part)."""
    rest, _, last = key.rpartition(" . ")
    first, _, end = last.partition("-")
    return rest, _number(first), _number(end or first)


def _number(text: str) -> int:
    return int(text) if text.isdigit() else int(ip_address(text))


def is_accepted(filter: Filter, packet: Packet) -> bool:
    """The chains of `policy_script.py`, line by line. O(elements)."""
    source, destination = packet.source, packet.destination
    if ip_address(destination).is_multicast or destination == "255.255.255.255":
        return False
    if ":" in source and any(ip_address(each).is_link_local for each in (source, destination)):
        return False
    for address in (source, destination):
        if filter.is_pod(address) and not filter.has("known", address):
            return False
    if filter.has("self", f"{source} . {destination}"):
        return True
    client, server = (destination, source) if packet.reply else (source, destination)
    if filter.has("isolated_out", client) and not _allows(filter, "out", client, server, packet):
        return False
    return not filter.has("isolated_in", server) or _allows(filter, "in", server, client, packet)


def _allows(filter: Filter, prefix: str, pod: str, other: str, packet: Packet) -> bool:
    found = [class_text(EVERY)]
    for name in MAPS:
        entries = filter.entries(name, other)
        number = entries.get(other) if name != "blocks" else _in_blocks(entries, other)
        found += [number] if number is not None else []
    for number in found:
        key = f"{pod} . {number}"
        port = f"{key} . {packet.protocol.lower()} . {packet.port}"
        if filter.has(f"{prefix}_any", key) or filter.has(f"{prefix}_port", port):
            return True
        head = port.rpartition(" . ")[0]
        for entry in filter.entries(f"{prefix}_range", pod):
            of, first, last = _span(entry)
            if of == head and first <= packet.port <= last:
                return True
    return False


def _in_blocks(entries: Entries, address: str) -> str | None:
    number = int(ip_address(address))
    for key, value in entries.items():
        _, first, last = _span(key)
        if first <= number <= last:
            return value
    return None
