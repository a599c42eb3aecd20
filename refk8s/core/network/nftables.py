"""Service rules as data for nftables: elements of maps, and a few chains. Rules NET-10 to NET-16
NET-21 and NET-24 (spec/network.md).

The time to load is quadratic in chains and linear in elements. So services and endpoints are
elements of maps, and there is one chain (*picker*) for each way of choosing a target: the number of
endpoints, with or without affinity, and whether the source address is replaced.

| map or set | key | value |
|---|---|---|
| services, node_ports | the front: (address, protocol, port) or (protocol, port) | goto a picker, goto refuse, or drop |
| endpoints, node_endpoints | the front and an index | pod address and port |
| ids, node_ids | the front and an index | the id of a target, with affinity |
| by_id, node_by_id | the front and an id | pod address and port |
| sticky, node_sticky | the client's address and the front; removed after the timeout | the id of the client's target; packets add it |
| restricted | the front | none: only clients in `allowed` may use it |
| allowed | the front and a range of addresses | none |
| hairpin | (pod, pod) | none: packets of a pod to itself are masqueraded |

Maps whose names begin with `ip6/`, and chains of such pickers, are in a table of IPv6 with the same
layout (NET-24); both tables change in one transaction. This file computes the elements and chains
of a rule, and the difference of two rule sets. `nft_script.py` writes them as text, `packets.py`
models the kernel. An index or id is passed from one look-up to the next in the connection's mark,
and then removed. The id of a target does not depend on the other targets. So the entries of a
removed endpoint's clients need not be searched: the id leads nowhere, and the next packet of such a
client gets another target (NET-14). Source: the nftables wiki, "Maps", "Concatenations", "Load
balancing"; Kubernetes documentation, "Virtual IPs and Service Proxies".
"""

import zlib
from ipaddress import IPv4Network, IPv6Address, IPv6Network
from typing import TypeAlias

from immutables import Map

from refk8s.core.network.fronts import NO_FRONTS, Front, Fronts, change_fronts
from refk8s.core.ports import Rule, RuleSet, Target
from refk8s.core.ports.service_rules import NODE_PORTS
from refk8s.core.value import Value, field

Element: TypeAlias = tuple[str, str, str]
"""(map, key, value), each as nft writes it; the value is empty in a set."""

INSIDE_FIRST = 65_536  # the index of the first target for clients on the node (NET-7)
# the first twelve bits identify the marks of refk8s
MARK_FIRST = 0x4B8 << 20
MARK_MASK = 0xFFF << 20
IDS = 1 << 20

SIX = "ip6/"  # begins the names of maps of IPv6

CLUSTER, OUTSIDE, LOCAL, INSIDE = "cluster", "outside", "local", "inside"


class Picker(Value, frozen=True):
    """A chain that chooses one of `count` targets of a front.

    CLUSTER replaces the source address unless it is a pod of this node, OUTSIDE always, LOCAL
    never. LOCAL sends packets from the node and its pods to the chain of kind INSIDE, which chooses
    one of `inside` targets. If `count` is 0, LOCAL drops all other packets.
    """

    kind: str
    count: int
    inside: int = 0
    affinity_seconds: int = 0
    node: bool = False
    six: bool = False  # in the table of IPv6

    @property
    def key(self) -> str:
        """The name, different in the tables of both families."""
        return SIX + self.name if self.six else self.name

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
        """The chain to which a LOCAL chain sends packets from the node and its pods."""
        return Picker(INSIDE, self.inside, 0, self.affinity_seconds, self.node, self.six)


COMMON, COMMON6 = (
    tuple(
        Picker(kind, n, node=node, six=six)
        for kind, node in ((CLUSTER, False), (OUTSIDE, True))
        for n in range(1, 9)
    )
    for six in (False, True)
)
"""Chains that every table has. A change that needs no other chain is one transaction, not two."""

_ALWAYS = frozenset(picker.key for picker in (*COMMON, *COMMON6))
IDLE_MAX = 64
"""How many chains without a use are kept. A service that is scaled up and down needs them again, and
to make a chain costs a transaction."""

REFUSE = "goto refuse"
DROP = "drop"


def picker_of(rule: Rule) -> Picker | None:
    """The chain of this rule; None without targets (NET-12)."""
    node, six = rule.is_node_port, ":" in rule.address
    if rule.local:
        return (
            Picker(LOCAL, len(rule.targets), len(rule.inside), rule.affinity_seconds, node, six)
            if rule.targets or rule.inside
            else None
        )
    if not rule.targets:
        return None
    kind = OUTSIDE if rule.masquerade else CLUSTER
    return Picker(kind, len(rule.targets), 0, rule.affinity_seconds, node, six)


def key_of(front: Front) -> str:
    """A front as the key of a map."""
    address, protocol, port = front
    of_node = address in NODE_PORTS.values()
    return f"{protocol.lower()} . {port}" if of_node else f"{address} . {protocol.lower()} . {port}"


def compute_elements(rule: Rule) -> list[Element]:
    """The elements of one rule (NET-10). O(targets)."""
    key = key_of((rule.address, rule.protocol, rule.port))
    six = SIX if ":" in rule.address else ""
    guards = [(f"{six}restricted", key, "")] if rule.restricted else []
    # nft lists one address without the length of its prefix
    whole = "/128" if six else "/32"
    guards += [
        (f"{six}allowed", f"{key} . {each.removesuffix(whole)}", "") for each in rule.sources
    ]
    services, prefix = ("node_ports", "node_") if rule.is_node_port else ("services", "")
    services, prefix = six + services, six + prefix
    picker = picker_of(rule)
    if picker is None:
        return [*guards, (services, key, DROP if rule.drop else REFUSE)]
    elements = [*guards, (services, key, f"goto {picker.name}")]
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
    """The id of each target at its index: a hash of the target, or the next free id if another
    target of the rule has the same. Never zero.

    With externalTrafficPolicy Local, ids differ for clients on the node, for clients outside, and
    from ids without that policy. So no old entry sends a client to a target that is not for it.
    """
    found: dict[tuple[int, Target], int] = {}
    taken: set[int] = set()
    for first, targets in ((0, rule.targets), (INSIDE_FIRST, rule.inside if rule.local else ())):
        for i, target in enumerate(targets):
            clients = (first or 1) if rule.local else 0
            number = zlib.crc32(f"{clients} {target.address} {target.port}".encode()) % IDS
            while number in taken:
                number = (number + 1) % IDS
            taken.add(number)
            found[first + i, target] = MARK_FIRST + number
    return found


class Table(Value, frozen=True, eq=False):
    """The programmed rules: the rule of every front, and how many fronts have each pod of this node
    as a target."""

    pods: IPv4Network
    fronts: Fronts = NO_FRONTS
    pods6: IPv6Network | None = None  # without it, there are no rules of IPv6
    reached: Map[str, int] = field(default_factory=Map)
    pickers: Map[str, Picker] = field(default_factory=Map)  # existing chains by key
    uses: Map[str, int] = field(default_factory=Map)  # of those that are not in every table, by key


class Change(Value, frozen=True):
    """One transaction: chains are added, then elements removed, then elements added, then chains
    deleted."""

    pickers: tuple[Picker, ...] = ()
    idle: tuple[Picker, ...] = ()  # the chains that are deleted, in this order
    removed: tuple[Element, ...] = ()
    added: tuple[Element, ...] = ()
    fronts: tuple[Front, ...] = ()  # those whose rule changed

    def __bool__(self) -> bool:
        return bool(self.pickers or self.removed or self.added)


def change_table(table: Table, rule_set: RuleSet) -> tuple[Table, Change]:
    """The table of this rule set, and the transaction that changes the other into it (NET-11).
    O(services) to compare, then O(changed)."""
    fronts, differing = change_fronts(table.fronts, rule_set)
    pickers = table.pickers.mutate()
    made = [] if table.pickers else [*COMMON, *(COMMON6 if table.pods6 is not None else ())]
    pickers.update({picker.key: picker for picker in made})
    removed: list[Element] = []
    added: list[Element] = []
    reached: dict[str, int] = {}
    used: dict[str, int] = {}
    for front in differing:
        if table.pods6 is None and ":" in front[0]:
            continue
        old, new = table.fronts.rules.get(front), fronts.rules.get(front)
        before = compute_elements(old) if old is not None else []
        after = compute_elements(new) if new is not None else []
        if before and after:
            stay = {*before} & {*after}
            before = [element for element in before if element not in stay]
            after = [element for element in after if element not in stay]
        removed += before
        added += after
        for needed in _pickers_of(old):
            used[needed.key] = used.get(needed.key, 0) - 1
        for needed in _pickers_of(new):
            used[needed.key] = used.get(needed.key, 0) + 1
            if needed.key not in pickers:
                pickers[needed.key] = needed
                made.append(needed)
        _count(reached, old, -1)
        _count(reached, new, 1)
    counts, gone, came = _settle(table, reached)
    removed += [_hairpin(address) for address in gone]
    added += [_hairpin(address) for address in came]
    uses = _add_uses(table.uses, used)
    existing = pickers.finish()
    idle = _idle(existing, uses, table.pods6 is not None)
    for picker in idle:
        existing = existing.delete(picker.key)
    return Table(table.pods, fronts, table.pods6, counts, existing, uses), Change(
        tuple(made), idle, tuple(removed), tuple(added), tuple(differing)
    )


def _pickers_of(rule: Rule | None) -> tuple[Picker, ...]:
    """The chains of a rule, in the order in which they are made."""
    picker = picker_of(rule) if rule is not None else None
    if picker is None:
        return ()
    return (picker.within, picker) if picker.kind == LOCAL else (picker,)


def _add_uses(uses: Map[str, int], difference: dict[str, int]) -> Map[str, int]:
    """How many fronts use each chain that is not in every table."""
    changed = uses.mutate()
    for key, step in difference.items():
        if step and key not in _ALWAYS:
            count = uses.get(key, 0) + step
            if count:
                changed[key] = count
            else:
                del changed[key]
    return changed.finish()


def _idle(pickers: Map[str, Picker], uses: Map[str, int], has_six: bool) -> tuple[Picker, ...]:
    """The chains to be deleted: those without a use, once there are too many of them. A chain that
    goes to another one is deleted before it."""
    always = len(COMMON) * (2 if has_six else 1)
    if len(pickers) - always - len(uses) <= IDLE_MAX:
        return ()
    idle = [each for key, each in pickers.items() if key not in uses and key not in _ALWAYS]
    return tuple(sorted(idle, key=lambda each: (each.kind != LOCAL, each.key)))


def _hairpin(address: str) -> Element:
    return (SIX if ":" in address else "") + "hairpin", f"{address} . {address}", ""


def _count(reached: dict[str, int], rule: Rule | None, step: int) -> None:
    """Add `step` to the number of fronts that have each target of this rule."""
    if rule is not None:
        targets = (*rule.targets, *rule.inside) if rule.inside else rule.targets
        for address in {target.address: None for target in targets}:
            reached[address] = reached.get(address, 0) + step


def _settle(table: Table, difference: dict[str, int]) -> tuple[Map[str, int], list[str], list[str]]:
    """How many fronts have each pod of this node as a target, the pods that no front has any more,
    and the pods that are new (NET-15)."""
    first, last = int(table.pods.network_address), int(table.pods.broadcast_address)
    # the text prefix of every pod address
    begins = ".".join(str(table.pods.network_address).split(".")[: table.pods.prefixlen // 8])
    six = table.pods6

    def is_own(address: str) -> bool:
        if ":" in address:
            return six is not None and IPv6Address(address) in six
        return address.startswith(begins) and first <= _number(address) <= last

    reached = table.reached.mutate()
    gone, came = [], []
    for address, step in difference.items():
        if step and is_own(address):
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
