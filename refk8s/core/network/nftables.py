"""Service rules as data for nftables: maps hold the services, a handful of chains picks. Rules
NET-10 ... NET-16 (spec/network.md).

Loading is quadratic in chains and linear in map elements. So services and endpoints are elements of maps, and there is one chain for each
*way of picking*: how many endpoints, with affinity or without, and what becomes of the source address.

| map or set | key | value |
|---|---|---|
| services, node_ports | the front: (address, protocol, port) or (protocol, port) | goto a chain that picks, goto refuse, or drop |
| endpoints, node_endpoints | the front and an index | pod address and port |
| ids, node_ids | the front and an index | the id of a target, where there is affinity |
| by_id, node_by_id | the front and an id | pod address and port |
| sticky, node_sticky | the client's address and the front; forgotten after the timeout | the id of the client's target; packets write it |
| hairpin | (pod, pod) | none: a pod that is sent to itself must not see its own address as the source |

This file says which elements and chains a rule needs, and what changes from one rule set to the
next; `nft_script.py` is the words of it, `packets.py` what a packet meets. An index or id goes from
one look-up to the next in the connection's mark, and is taken away at once. The id of a target does
not depend on the others, so an endpoint that leaves takes its clients' entries along without
anybody looking for them: its id leads nowhere, and the packet that finds this out picks anew
(NET-14). Source: the nftables wiki, "Maps", "Concatenations", "Load balancing"; Kubernetes
documentation, "Virtual IPs and Service Proxies".
"""

import zlib
from ipaddress import IPv4Network
from typing import TypeAlias

from immutables import Map

from refk8s.core.network.fronts import NO_FRONTS, Front, Fronts, change_fronts
from refk8s.core.ports import Rule, RuleSet, Target
from refk8s.core.value import Value, field

Element: TypeAlias = tuple[str, str, str]
"""(map, key, value), each as nft writes it; the value is empty in a set."""

INSIDE_FIRST = 65_536  # the index of the first target for those who come from within
# marks of ours can be told from those of others by their first twelve bits
MARK_FIRST = 0x4B8 << 20
MARK_MASK = 0xFFF << 20
IDS = 1 << 20

CLUSTER, OUTSIDE, LOCAL, INSIDE = "cluster", "outside", "local", "inside"


class Picker(Value, frozen=True):
    """A chain that picks among `count` targets of a front.

    CLUSTER hides the source unless it is a pod of this node, OUTSIDE always, LOCAL never. LOCAL
    sends who comes from within to the chain of kind INSIDE, which picks among `inside` others; with
    no target of its own it drops the rest.
    """

    kind: str
    count: int
    inside: int = 0
    affinity_seconds: int = 0
    node: bool = False

    @property
    def name(self) -> str:
        parts = ["node"] * self.node + [self.kind, str(self.count)]
        parts += [str(self.inside)] * (self.kind == LOCAL) + [
            "for",
            str(self.affinity_seconds),
        ] * bool(self.affinity_seconds)
        return "-".join(parts)

    @property
    def within(self) -> "Picker":
        """Where a LOCAL chain sends those who come from within."""
        return Picker(INSIDE, self.inside, 0, self.affinity_seconds, self.node)


COMMON = tuple(
    Picker(kind, n, node=node)
    for kind, node in ((CLUSTER, False), (OUTSIDE, True))
    for n in range(1, 9)
)
"""Chains that every table has: most changes need no other, and then are one transaction and not
two."""

REFUSE = "goto refuse"
DROP = "drop"


def picker_of(rule: Rule) -> Picker | None:
    """The chain that picks for this rule; None where there is nothing to pick from (NET-12)."""
    node = not rule.address
    if rule.local:
        return (
            Picker(LOCAL, len(rule.targets), len(rule.inside), rule.affinity_seconds, node)
            if rule.targets or rule.inside
            else None
        )
    if not rule.targets:
        return None
    return Picker(
        OUTSIDE if rule.masquerade else CLUSTER, len(rule.targets), 0, rule.affinity_seconds, node
    )


def key_of(front: Front) -> str:
    """A front as the key of a map."""
    address, protocol, port = front
    return f"{address} . {protocol.lower()} . {port}" if address else f"{protocol.lower()} . {port}"


def compute_elements(rule: Rule) -> list[Element]:
    """The elements of one rule (NET-10). O(targets)."""
    key = key_of((rule.address, rule.protocol, rule.port))
    services, prefix = ("services", "") if rule.address else ("node_ports", "node_")
    picker = picker_of(rule)
    if picker is None:
        return [(services, key, DROP if rule.drop else REFUSE)]
    elements = [(services, key, f"goto {picker.name}")]
    if not rule.affinity_seconds:
        name = prefix + "endpoints"
        for first, targets in (
            (0, rule.targets),
            (INSIDE_FIRST, rule.inside if rule.local else ()),
        ):
            for i, target in enumerate(targets, MARK_FIRST + first):
                elements.append((name, f"{key} . {i}", f"{target.address} . {target.port}"))
        return elements
    for (index, target), id in compute_ids(rule).items():
        elements.append((prefix + "ids", f"{key} . {MARK_FIRST + index}", str(id)))
        elements.append((prefix + "by_id", f"{key} . {id}", f"{target.address} . {target.port}"))
    return elements


def compute_ids(rule: Rule) -> dict[tuple[int, Target], int]:
    """The id of each target at its index: of the target alone, unless two of one rule would have
    the same. Never zero.

    Where those from within have other targets than those outside, the ids differ too, and from
    those that there would be for all the same: nobody is held by an old entry to a target that is
    not for them.
    """
    found: dict[tuple[int, Target], int] = {}
    taken: set[int] = set()
    for first, targets in ((0, rule.targets), (INSIDE_FIRST, rule.inside if rule.local else ())):
        for i, target in enumerate(targets):
            for_whom = (first or 1) if rule.local else 0
            number = zlib.crc32(f"{for_whom} {target.address} {target.port}".encode()) % IDS
            while number in taken:
                number = (number + 1) % IDS
            taken.add(number)
            found[first + i, target] = MARK_FIRST + number
    return found


class Table(Value, frozen=True, eq=False):
    """What is programmed: the rule of every front, and how many fronts lead to each pod of this
    node."""

    pods: IPv4Network
    fronts: Fronts = NO_FRONTS
    reached: Map[str, int] = field(default_factory=Map)
    # chains that exist; what is not used any more costs nothing and stays
    pickers: Map[str, Picker] = field(default_factory=Map)


class Change(Value, frozen=True):
    """One transaction: chains are made, then elements go, then elements come."""

    pickers: tuple[Picker, ...] = ()
    removed: tuple[Element, ...] = ()
    added: tuple[Element, ...] = ()
    fronts: tuple[Front, ...] = ()  # whose rule is another now

    def __bool__(self) -> bool:
        return bool(self.pickers or self.removed or self.added)


def change_table(table: Table, rule_set: RuleSet) -> tuple[Table, Change]:
    """The table that this set makes of the other, and the transaction that does it (NET-11).
    O(services) to compare, then O(changed)."""
    fronts, differing = change_fronts(table.fronts, rule_set)
    pickers = table.pickers.mutate()
    made = [] if table.pickers else list(COMMON)
    pickers.update({picker.name: picker for picker in made})
    removed: list[Element] = []
    added: list[Element] = []
    reached: dict[str, int] = {}
    for front in differing:
        old, new = table.fronts.rules.get(front), fronts.rules.get(front)
        before = compute_elements(old) if old is not None else []
        after = compute_elements(new) if new is not None else []
        if before and after:
            stay = {*before} & {*after}
            before = [element for element in before if element not in stay]
            after = [element for element in after if element not in stay]
        removed += before
        added += after
        if new is not None and (picker := picker_of(new)) is not None:
            for needed in (picker.within, picker) if picker.kind == LOCAL else (picker,):
                if needed.name not in pickers:
                    pickers[needed.name] = needed
                    made.append(needed)
        _count(reached, old, -1)
        _count(reached, new, 1)
    counts, gone, came = _settle(table, reached)
    removed += [("hairpin", f"{address} . {address}", "") for address in gone]
    added += [("hairpin", f"{address} . {address}", "") for address in came]
    return Table(table.pods, fronts, counts, pickers.finish()), Change(
        tuple(made), tuple(removed), tuple(added), tuple(differing)
    )


def _count(reached: dict[str, int], rule: Rule | None, step: int) -> None:
    """Note that the front of this rule leads to its pods, or does not any more."""
    if rule is not None:
        targets = (*rule.targets, *rule.inside) if rule.inside else rule.targets
        for address in {target.address: None for target in targets}:
            reached[address] = reached.get(address, 0) + step


def _settle(table: Table, difference: dict[str, int]) -> tuple[Map[str, int], list[str], list[str]]:
    """How many fronts lead to each pod of this node; which pods are not reached any more, and which
    newly (NET-15)."""
    first, last = int(table.pods.network_address), int(table.pods.broadcast_address)
    # what all of them have in common
    begins = ".".join(str(table.pods.network_address).split(".")[: table.pods.prefixlen // 8])
    reached = table.reached.mutate()
    gone, came = [], []
    for address, step in difference.items():
        if step and address.startswith(begins) and first <= _number(address) <= last:
            count = reached.get(address, 0)
            if count + step:
                reached[address] = count + step
                if not count:
                    came.append(address)
            else:
                del reached[address]
                gone.append(address)
    return reached.finish(), gone, came


def _number(address: str) -> int:
    a, b, c, d = address.split(".")
    return int(a) << 24 | int(b) << 16 | int(c) << 8 | int(d)
