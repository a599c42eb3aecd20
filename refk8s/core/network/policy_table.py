"""Network policies as elements of nftables sets and maps. Rules POLICY-3, POLICY-8, POLICY-9
(spec/network_policy.md).

A *class* is a set of peers. An address belongs to at most three classes: the peers that select its
pod, those that select its pod's whole namespace, and the blocks that contain it. Addresses of the
same peers have the same class, so there are few classes. A pod's rules become elements (pod, class,
port). There are no chains for pods or policies: the time to load is quadratic in the number of
chains and linear in that of elements.

| set or map | key | value |
|---|---|---|
| known | the address of a pod of this node | |
| self | (pod, pod): a pod may connect to itself | |
| isolated_in, isolated_out | the address of an isolated pod of this node | |
| pods | the address of a pod | the class of peers that select it |
| namespaces | the address of a pod | the class of peers that select its namespace |
| blocks | a range of addresses | the class of blocks that contain them |
| in_any, out_any | pod, class | everything is allowed |
| in_port, out_port | pod, class, protocol, port | this port is allowed |
| in_range, out_range | pod, class, protocol, range of ports | these ports are allowed |

The names of those with addresses of IPv6 begin with `ip6/`: they are in a table of IPv6 with the
same layout (POLICY-16). The class EVERY of the last six sets means every address. The number of a
class is never used for another one. So a packet that finds its class in the old map and its port in
the new set is not allowed by mistake.
"""

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import Any, TypeAlias

from immutables import Map

from refk8s.core.api.families import Network, family_of, other_family
from refk8s.core.network.nftables import SIX
from refk8s.core.ports import (
    Allowance,
    Allowances,
    Block,
    Entry,
    LocalPod,
    PolicySet,
    PortRange,
)
from refk8s.core.value import Value, evolve, field

Element: TypeAlias = tuple[str, str, str]
"""(set or map, key, value), each as nft writes it; the value is empty in a set."""

Entries: TypeAlias = tuple[Entry, ...]
"""A class: the peers that contain its addresses, sorted."""

EVERY = 1
CLASS_FIRST = 16
ELEMENTS_MAX = 16_384
"""The elements of one pod and direction; with more, nothing is allowed (POLICY-14)."""
SEGMENT_ENTRIES_MAX = 1 << 18
"""The blocks of all ranges, counted once for each range; with more, no block is allowed."""
TOO_MANY_BLOCKS = "ipBlock"


class Class(Value, frozen=True):
    """The number of a class, and how many addresses and ranges have it."""

    number: int
    count: int


class Segment(Value, frozen=True, order=True):
    """Addresses that are in the same blocks."""

    first: int
    last: int
    entries: Entries
    version: int = 4


class PolicyTable(Value, frozen=True, eq=False):
    """What is programmed."""

    policy_set: PolicySet = PolicySet()
    owners: Map[str, tuple[str, ...]] = field(default_factory=Map)  # address -> local pods
    members: Map[str, tuple[str, ...]] = field(default_factory=Map)  # address -> pods in peers
    # (pods or namespaces, address) -> its class
    address_classes: Map[tuple[str, str], Entries] = field(default_factory=Map)
    segments: tuple[Segment, ...] = ()
    classes: Map[Entries, Class] = field(default_factory=Map)
    by_peer: Map[str, Map[Entries, None]] = field(default_factory=Map)  # classes with this peer
    next_number: int = CLASS_FIRST
    # (in or out, address) -> its elements; none are programmed if they are more than ELEMENTS_MAX
    sizes: Map[tuple[str, str], int] = field(default_factory=Map)


NO_TABLE = PolicyTable()


class Change(Value, frozen=True):
    """One transaction: elements are removed, then added. `problems`: the addresses of pods with too
    many elements, or TOO_MANY_BLOCKS (POLICY-14)."""

    removed: tuple[Element, ...] = ()
    added: tuple[Element, ...] = ()
    problems: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.removed or self.added)


def class_text(number: int) -> str:
    """The number of a class as nft writes it."""
    return f"{number >> 16:x}:{number & 0xFFFF:x}"


def change_policies(table: PolicyTable, policy_set: PolicySet) -> tuple[PolicyTable, Change]:
    """The table of this set, and the transaction that changes the other into it (POLICY-9).
    O(pods) comparisons by identity, then O(changed)."""
    draft = _Draft(table, policy_set)
    draft.change_classes()
    draft.change_local()
    return draft.finish()


class _Draft:
    """A change in progress."""

    def __init__(self, table: PolicyTable, policy_set: PolicySet) -> None:
        self.old = table
        self.new = policy_set
        self.removed: list[Element] = []
        self.added: list[Element] = []
        self.problems: list[str] = []
        self.classes = table.classes.mutate()
        self.by_peer = table.by_peer
        self.next_number = table.next_number
        self.appeared: dict[Entries, None] = {}
        self.vanished: dict[Entries, int] = {}
        self.address_classes = table.address_classes.mutate()
        self.segments = table.segments
        self.members = table.members
        self.owners = table.owners
        self.sizes = table.sizes.mutate()

    def finish(self) -> tuple[PolicyTable, Change]:
        for entries in self.vanished:
            if self.classes[entries].count == 0:
                del self.classes[entries]
        following = PolicyTable(
            self.new,
            self.owners,
            self.members,
            self.address_classes.finish(),
            self.segments,
            self.classes.finish(),
            self.by_peer,
            self.next_number,
            self.sizes.finish(),
        )
        removed, added = map(_in_tables, self.removed), map(_in_tables, self.added)
        return following, Change(tuple(removed), tuple(added), tuple(self.problems))

    # --- classes of addresses

    def change_classes(self) -> None:
        before, after = self.old.policy_set, self.new
        self.members, touched = _by_address(self.members, before.members, after.members)
        if before.blocks is not after.blocks and before.blocks != after.blocks:
            self._change_segments()
        for address in touched:
            pods = [after.members[pod] for pod in self.members.get(address, ())]
            self._set_class("pods", address, [_of_family(pod.entries, address) for pod in pods])
            self._set_class("namespaces", address, [pod.wide for pod in pods])
        self._index_classes()

    def _set_class(self, map: str, address: str, found: list[Entries]) -> None:
        """The class of an address that has these pods; none without peers."""
        # two pods may claim an address
        new = found[0] if len(found) == 1 else tuple(sorted(set[Entry]().union(*found)))
        old = self.address_classes.get((map, address), ())
        if old == new:
            return
        if old:
            self.removed.append((map, address, class_text(self.classes[old].number)))
            self._leave(old)
            del self.address_classes[map, address]
        if new:
            self.added.append((map, address, class_text(self._enter(new))))
            self.address_classes[map, address] = new

    def _change_segments(self) -> None:
        fresh = compute_segments(self.new.blocks)
        if fresh is None:
            self.problems.append(TOO_MANY_BLOCKS)
            fresh = ()
        for segment in self.old.segments:
            number = self.classes[segment.entries].number
            self.removed.append(("blocks", _range(segment), class_text(number)))
        for segment in fresh:
            self.added.append(("blocks", _range(segment), class_text(self._enter(segment.entries))))
        for segment in self.old.segments:
            self._leave(segment.entries)
        self.segments = fresh

    def _enter(self, entries: Entries) -> int:
        known = self.classes.get(entries)
        if known is None:
            known = Class(self.next_number, 0)
            self.next_number += 1
            self.appeared[entries] = None
        elif known.count == 0:
            del self.vanished[entries]
        self.classes[entries] = Class(known.number, known.count + 1)
        return known.number

    def _leave(self, entries: Entries) -> None:
        known = self.classes[entries]
        self.classes[entries] = Class(known.number, known.count - 1)
        if known.count == 1:
            self.vanished[entries] = known.number

    def _index_classes(self) -> None:
        for entries in [entries for entries in self.appeared if entries in self.vanished]:
            # it came and went in this change: no element refers to it
            del self.appeared[entries], self.vanished[entries], self.classes[entries]
        by_peer = self.by_peer.mutate()
        for entries in self.appeared:
            for peer in {name: None for name, _ in entries}:
                by_peer[peer] = by_peer.get(peer, _NO_CLASSES).set(entries, None)
        for entries in self.vanished:
            for peer in {name: None for name, _ in entries}:
                rest = by_peer[peer].delete(entries)
                if rest:
                    by_peer[peer] = rest
                else:
                    del by_peer[peer]
        self.by_peer = by_peer.finish()

    # --- pods of this node

    def change_local(self) -> None:
        before, after = self.old.policy_set.local, self.new.local
        self.owners, touched = _by_address(self.owners, before, after)
        peers = {name for entries in (*self.appeared, *self.vanished) for name, _ in entries}
        for address in sorted({*self.owners, *touched} if peers else touched):
            old = _owner(self.old.owners, before, address)
            new = _owner(self.owners, after, address)
            if old is not None and new is not None and (old is new or old == new):
                self._change_by_class(address, new, peers)
                continue
            gone = [] if old is None else self._elements(address, old, self.old)
            for prefix in ("in", "out"):
                self.sizes.pop((prefix, address), None)
            came = [] if new is None else self._elements(address, new, None)
            stay = {*gone} & {*came}
            self.removed += [element for element in gone if element not in stay]
            self.added += [element for element in came if element not in stay]

    def _change_by_class(self, address: str, pod: LocalPod, peers: set[str]) -> None:
        """The pod is the same, and classes with these peers appeared or vanished."""
        for allowed, prefix in _directions(pod):
            if not any(allowance.peer in peers for allowance in allowed):
                continue
            gone = self._of_classes(address, allowed, prefix, self.vanished)
            came = self._of_classes(address, allowed, prefix, self.appeared)
            size = self.sizes[prefix, address]
            if size > ELEMENTS_MAX or size - len(gone) + len(came) > ELEMENTS_MAX:
                gone = self._direction(address, allowed, prefix, self.old)
                came = self._direction(address, allowed, prefix, None)
            else:
                self.sizes[prefix, address] = size - len(gone) + len(came)
            self.removed += gone
            self.added += came

    def _elements(self, address: str, pod: LocalPod, table: PolicyTable | None) -> list[Element]:
        """All elements of a pod, in the old table or (None) in the new one."""
        found: list[Element] = [("known", address, ""), ("self", f"{address} . {address}", "")]
        for allowed, prefix in _directions(pod):
            found.append((f"isolated_{prefix}", address, ""))
            found += self._direction(address, allowed, prefix, table)
        return found

    def _direction(
        self, address: str, allowed: Allowances, prefix: str, table: PolicyTable | None
    ) -> list[Element]:
        if table is not None and table.sizes[prefix, address] > ELEMENTS_MAX:
            return []
        by_peer = self.by_peer if table is None else table.by_peer
        classes = {
            entries: None
            for peer in {allowance.peer: None for allowance in allowed}
            for entries in by_peer.get(peer, ())
        }
        found = _class_elements(address, prefix, EVERY, _every(allowed))
        found += self._of_classes(address, allowed, prefix, classes)
        if table is None:
            self.sizes[prefix, address] = len(found)
            if len(found) > ELEMENTS_MAX:
                self.problems.append(address)
                return []
        return found

    def _of_classes(
        self, address: str, allowed: Allowances, prefix: str, classes: Iterable[Entries]
    ) -> list[Element]:
        found: list[Element] = []
        by_peer: dict[str, list[Allowance]] = {}
        for allowance in allowed:
            by_peer.setdefault(allowance.peer, []).append(allowance)
        for entries in classes:
            matching = [
                (allowance, number)
                for name, number in entries
                for allowance in by_peer.get(name, ())
            ]
            if matching:
                number = self._number(entries)
                found += _class_elements(address, prefix, number, matching)
                if len(found) > ELEMENTS_MAX:
                    return found
        return found

    def _number(self, entries: Entries) -> int:
        known = self.classes.get(entries)
        return known.number if known is not None else self.old.classes[entries].number


_NO_CLASSES: Map[Entries, None] = Map()


def _of_family(entries: Entries, address: str) -> Entries:
    """The entries without those of named ports in blocks of the other family (POLICY-16)."""
    other = f"{other_family(family_of(address))} "
    if not any(name.startswith(other) for name, _ in entries):
        return entries
    return tuple([entry for entry in entries if not entry[0].startswith(other)])


def _in_tables(element: Element) -> Element:
    """The element with the name of its set; its key begins with an address, or a range of them."""
    name, key, value = element
    return (SIX + name, key, value) if ":" in key.partition(" ")[0] else element


def _directions(pod: LocalPod | None) -> list[tuple[Allowances, str]]:
    if pod is None:
        return []
    found = [(pod.ingress, "in"), (pod.egress, "out")]
    return [(allowed, prefix) for allowed, prefix in found if allowed is not None]


def _every(allowed: Allowances) -> list[tuple[Allowance, int]]:
    return [(allowance, 0) for allowance in allowed if not allowance.peer]


def _owner(
    owners: Map[str, tuple[str, ...]], local: Map[str, LocalPod], address: str
) -> LocalPod | None:
    """The pod of an address; None if two pods claim it, so that it is held (POLICY-10)."""
    pods = owners.get(address, ())
    return local[pods[0]] if len(pods) == 1 else None


def _by_address(
    index: Map[str, tuple[str, ...]], before: Map[str, Any], after: Map[str, Any]
) -> tuple[Map[str, tuple[str, ...]], dict[str, None]]:
    """The pods (local ones, or members) by address, and the addresses of those that changed."""
    touched: dict[str, None] = {}
    if before is after:
        return index, touched
    changed = [key for key, pod in after.items() if before.get(key) != pod]
    changed += [key for key in before if key not in after]
    entries = index.mutate()
    for key in sorted(changed):
        old, new = before.get(key), after.get(key)
        for address in old.addresses if old is not None else ():
            touched[address] = None
            rest = tuple(pod for pod in entries[address] if pod != key)
            if rest:
                entries[address] = rest
            else:
                del entries[address]
        for address in new.addresses if new is not None else ():
            touched[address] = None
            entries[address] = tuple(sorted({*entries.get(address, ()), key}))
    return entries.finish(), touched


def _class_elements(
    address: str, prefix: str, number: int, matching: Iterable[tuple[Allowance, int]]
) -> list[Element]:
    """The elements of one pod for one class: the union of what is allowed (POLICY-3)."""
    ranges: list[PortRange] = []
    key = f"{address} . {class_text(number)}"
    for allowance, port in matching:
        if allowance.named_protocol:
            ranges.append(PortRange(allowance.named_protocol, port, port))
        elif not allowance.ports:
            return [(f"{prefix}_any", key, "")]
        ranges += allowance.ports
    found: list[Element] = []
    for protocol, first, last in merge(ranges):
        start = f"{key} . {protocol.lower()} . {first}"
        if first == last:
            found.append((f"{prefix}_port", start, ""))
        else:
            found.append((f"{prefix}_range", f"{start}-{last}", ""))
    return found


def merge(ranges: Iterable[PortRange]) -> list[tuple[str, int, int]]:
    """The same ports as disjoint ranges that do not touch, sorted; the kernel rejects others."""
    found: list[tuple[str, int, int]] = []
    for one in sorted(ranges):
        if found and found[-1][0] == one.protocol and one.first <= found[-1][2] + 1:
            protocol, first, last = found[-1]
            found[-1] = (protocol, first, max(last, one.last))
        else:
            found.append((one.protocol, one.first, one.last))
    return found


def compute_segments(blocks: Map[str, Block]) -> tuple[Segment, ...] | None:
    """The ranges of addresses that are in the same blocks; those in none are left out.

    None if there are too many (POLICY-14). O(blocks log blocks) and the size of the result.
    """
    events: dict[int, dict[int, list[tuple[str, int]]]] = {4: {}, 6: {}}
    for name, block in blocks.items():
        for cidr, step in [(block.cidr, 1), *((part, -1) for part in _outermost(block.excluded))]:
            network = ip_network(cidr)
            of_version = events[network.version]
            first, last = int(network.network_address), int(network.broadcast_address)
            of_version.setdefault(first, []).append((name, step))
            of_version.setdefault(last + 1, []).append((name, -step))
    found: list[Segment] = []
    size = 0
    for version, of_version in events.items():
        segments, size = _segments(of_version, version, size)
        found += segments
        if size > SEGMENT_ENTRIES_MAX:
            return None
    return tuple(found)


def _segments(
    events: dict[int, list[tuple[str, int]]], version: int, size: int
) -> tuple[list[Segment], int]:
    """The segments of one family, and the size of all so far; it ends when they are too many."""
    found: list[Segment] = []
    depths: dict[str, int] = {}
    points = sorted(events)
    for place, point in enumerate(points[:-1]):
        for name, step in events[point]:
            depths[name] = depths.get(name, 0) + step
            if not depths[name]:
                del depths[name]
        if not depths:
            continue
        size += len(depths)
        if size > SEGMENT_ENTRIES_MAX:
            break
        entries = tuple(sorted((name, 0) for name in depths))
        last = points[place + 1] - 1
        if found and found[-1].last + 1 == point and found[-1].entries == entries:
            found[-1] = Segment(found[-1].first, last, entries, version)
        else:
            found.append(Segment(point, last, entries, version))
    return found, size


def _outermost(networks: tuple[str, ...]) -> list[str]:
    """Those that are in no other one: an exception within an exception excludes nothing more."""
    found: list[Network] = []
    # an exception of the other family than its block is rejected by validation
    for network in sorted(
        map(ip_network, networks), key=lambda each: (each.version, int(each[0]), each.prefixlen)
    ):
        last = found[-1] if found else None
        if last is None or last.version != network.version or network[0] not in last:
            found.append(network)
    return [str(network) for network in found]


def _range(segment: Segment) -> str:
    address = IPv4Address if segment.version == 4 else IPv6Address
    first, last = address(segment.first), address(segment.last)
    return str(first) if first == last else f"{first}-{last}"


def with_addresses(policy_set: PolicySet, addresses: Mapping[str, tuple[str, ...]]) -> PolicySet:
    """The set with the addresses that the runtime gave to pods, by uid (POLICY-11). They count
    before those in the pods' status, which is written later."""
    local, members = policy_set.local.mutate(), policy_set.members.mutate()
    for key, pod in policy_set.local.items():
        given = addresses.get(pod.uid)
        if given is None or pod.addresses == given:
            continue
        local[key] = evolve(pod, addresses=given)
        member = policy_set.members.get(key)
        if member is not None:
            members[key] = evolve(member, addresses=given)
    return evolve(policy_set, local=local.finish(), members=members.finish())
