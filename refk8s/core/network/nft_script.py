"""The text of a transaction for `nft -f`: a complete load, or a change. Rules NET-10, NET-11,
NET-13, NET-24 (spec/network.md).

A transaction that needs new chains is two: the first adds the chains, the second what refers to
them (see `prepare_script`). A complete load replaces a table of this name, whatever process made
it. It keeps the entries of affinity, so a restarted proxy does not change the endpoints of clients.
If the table has another layout (an older release's), `replace=True` deletes it in the same
transaction. Source: nft(8).
"""

from collections.abc import Iterable, Iterator

from refk8s.core.network.nftables import (
    CLUSTER,
    INSIDE,
    INSIDE_FIRST,
    LOCAL,
    MARK_FIRST,
    MARK_MASK,
    OUTSIDE,
    SIX,
    Change,
    Element,
    Picker,
    Table,
)

# the mark of packets to masquerade; upstream's proxy has the same
MASQUERADE = "0x4000"
STICKY_MAX = 1 << 20  # affinity entries

_NODE_FRONT = "meta l4proto . th dport"
_NODE_FRONT_TYPE = "inet_proto . inet_service"


class Layout:
    """The maps, sets and chains of a table, by name. The tables of both families have the same
    names.

    `seed`: of the hashes that stand for a client and a front in the affinity of IPv6. nft 1.0
    aborts at an update of a map whose key has an address of IPv6 and more. Two clients with equal
    hashes (one in 2^30) share their entry.
    """

    def __init__(self, family: str) -> None:
        self.family = family  # "ip" or "ip6", as nft names it
        self.is_six = family == "ip6"
        address = "ipv6_addr" if self.is_six else "ipv4_addr"
        self.front = f"{family} daddr . meta l4proto . th dport"
        front_type = f"{address} . inet_proto . inet_service"
        fronts = (("", front_type), ("node_", _NODE_FRONT_TYPE))
        # Named types only: nft 1.0.6 misreads its own output of "typeof" and then accepts only TCP.
        self.maps = {
            f"{prefix}{name}": f"type {front}{words}"
            for prefix, front in fronts
            for name, words in (
                ("ports" if prefix else "services", " : verdict"),
                ("endpoints", f" . mark : {address} . inet_service"),
                ("ids", " . mark : mark"),
                ("by_id", f" . mark : {address} . inet_service"),
            )
        }
        self.sticky = {
            f"{prefix}sticky": f"type {'mark' if self.is_six else f'{address} . {front}'} : mark; "
            f"flags dynamic,timeout; size {STICKY_MAX}"
            for prefix, front in fronts
        }
        self.sets = {
            "hairpin": f"type {address} . {address}",
            "restricted": f"type {front_type}",
            "allowed": f"type {front_type} . {address}; flags interval",
        }
        loopback = "::1" if self.is_six else "127.0.0.0/8"
        # as upstream's: the kernel does not translate packets from ::1
        not_loopback = "ip6 daddr != ::1 " if self.is_six else ""
        unreachable = "icmpv6" if self.is_six else "icmp"
        guarded = f"{self.front} @restricted {self.front} . {family} saddr != @allowed drop"
        self.chains = {
            # A node port is open at 127.0.0.1 too; packets to that address from other hosts are
            # dropped.
            "guard": [f'iifname != "lo" {family} daddr {loopback} drop'],
            "refuse": [
                "meta l4proto tcp reject with tcp reset",
                f"reject with {unreachable} type port-unreachable",
            ],
            "dispatch": [
                # before everything else, so that these clients are not even refused (NET-21)
                guarded,
                f"{self.front} vmap @services",
                f"{not_loopback}fib daddr type local {_NODE_FRONT} vmap @node_ports",
            ],
            "prerouting": ["goto dispatch"],
            "output": ["goto dispatch"],
            "tidy-prerouting": [_TIDY],
            "tidy-output": [_TIDY],
            "postrouting": [
                f"meta mark & {MASQUERADE} == {MASQUERADE} meta mark set meta mark & "
                "0xffffbfff masquerade",
                f"ct status dnat {family} saddr . {family} daddr @hairpin masquerade",
            ],
        }

    def declare(self) -> Iterator[str]:
        """The declarations of everything, without the rules of chains."""
        for kind, described in (("map", self.maps | self.sticky), ("set", self.sets)):
            for name, words in described.items():
                yield f"{kind} {name} {{ {words}; }}"
        for name in self.chains:
            yield f"chain {name} {{ {HOOKS[name]}; }}" if name in HOOKS else f"chain {name} {{ }}"

    def block(self, name: str, lines: Iterable[str]) -> str:
        """These declarations in the table of this name."""
        return "".join(
            [f"table {self.family} {name} {{\n", *(f"  {line}\n" for line in lines), "}\n"]
        )

    def client(self, front: str) -> str:
        """The key of a client and a front in the map of affinity."""
        client = f"{self.family} saddr . {front}"
        return f"jhash {client} mod {HASHES} seed {HASH_SEED}" if self.is_six else client

    def picker_lines(self, picker: Picker, pods: str) -> list[str]:
        """The rules of a picker's chain (NET-13, NET-14)."""
        hide = f"meta mark set meta mark | {MASQUERADE}"
        source = f"{self.family} saddr"
        lines = {
            CLUSTER: [f"{source} != {pods} {hide}"],
            OUTSIDE: [hide],
            LOCAL: [
                f"{source} {pods} goto {picker.within.name}",
                f"fib saddr type local goto {picker.within.name}",
            ]
            if picker.inside
            else [],
            INSIDE: [f"{source} != {pods} {hide}"],
        }[picker.kind]
        front, prefix = (_NODE_FRONT, "node_") if picker.node else (self.front, "")
        first = MARK_FIRST + (INSIDE_FIRST if picker.kind == INSIDE else 0)
        if not picker.count:
            return [*lines, "drop"]
        choose = f"ct mark set numgen random mod {picker.count} offset {first}"
        if not picker.affinity_seconds:
            # A packet in the old chain that looks up the new endpoints may find none at its index,
            # but there is always a first. If it passed unchanged, connection tracking would keep
            # that result for its retransmissions.
            send = f"dnat to {front} . ct mark map @{prefix}endpoints"
            return [*lines, choose, send, f"ct mark set {first}", send, "drop"]
        client = self.client(front)
        timeout = f"timeout {picker.affinity_seconds}s"
        remember = f"update @{prefix}sticky {{ {client} {timeout} : ct mark }}"
        send = f"dnat to {front} . ct mark map @{prefix}by_id"
        to_chosen = f"ct mark set {front} . ct mark map @{prefix}ids {remember} {send}"
        look_up = (
            [f"ct mark set {client}", f"ct mark set ct mark map @{prefix}sticky"]
            if self.is_six
            else [f"ct mark set {client} map @{prefix}sticky"]
        )
        # the hash of a client is not below HASHES_FIRST, and an id is
        is_known = f"ct mark & {MARK_MASK:#x} == {MARK_FIRST:#x}" if self.is_six else "ct mark != 0"
        return [
            *lines,
            *look_up,
            f"{is_known} {remember} {send}",
            # A new client, or one whose target was removed. An update would only prolong the old
            # entry.
            f"delete @{prefix}sticky {{ {client} : ct mark }}",
            choose,
            to_chosen,
            f"ct mark set {first}",
            to_chosen,
            "drop",
        ]


HOOKS = {
    "guard": "type filter hook prerouting priority raw",
    "prerouting": "type nat hook prerouting priority dstnat",
    "output": "type nat hook output priority -100",
    "tidy-prerouting": "type filter hook prerouting priority -99",
    "tidy-output": "type filter hook output priority -99",
    "postrouting": "type nat hook postrouting priority srcnat",
}
_TIDY = f"ct state new ct mark & {MARK_MASK:#x} == {MARK_FIRST:#x} ct mark set 0"
HASHES = 1 << 30  # below the marks of refk8s
HASH_SEED = "0x7265666b"
LAYOUT, LAYOUT6 = Layout("ip"), Layout("ip6")


def layouts_of(table: Table) -> tuple[Layout, ...]:
    """The layouts of the tables that this one has in the kernel."""
    return (LAYOUT,) if table.pods6 is None else (LAYOUT, LAYOUT6)


def _chains(chains: Iterable[tuple[str, list[str]]]) -> Iterator[str]:
    for chain, lines in chains:
        yield f"chain {chain} {{ {'; '.join(lines)}; }}"


def _elements(verb: str, table: str, elements: Iterable[Element]) -> Iterator[str]:
    """One command for each map; nft parses a command for each element ten times slower."""
    of_map: dict[str, list[str]] = {}
    for map, key, value in elements:
        of_map.setdefault(map, []).append(f"{key} : {value}" if value else key)
    for map, entries in of_map.items():
        family = LAYOUT6.family if map.startswith(SIX) else LAYOUT.family
        name = map.removeprefix(SIX)
        yield f"{verb} element {family} {table} {name} {{ {', '.join(entries)} }}\n"


def prepare_script(name: str, table: Table, change: Change, whole: bool = False) -> str:
    """The first transaction: the chains that the change needs (or a `whole` load), without the
    elements that refer to them.

    A packet in transit when a transaction takes effect traverses the old chains but looks up the
    new elements. If an element referred to a chain of the same transaction, the packet would find
    the chain empty and pass unchanged. Adding the rules of an existing chain again only repeats
    them after its last one, which ends every packet.
    """
    found = []
    for layout in layouts_of(table):
        pods = str(table.pods6 if layout.is_six else table.pods)
        mine = [each for each in change.pickers if each.six == layout.is_six]
        chains = layout.block(
            name, _chains((each.name, layout.picker_lines(each, pods)) for each in mine)
        )
        if whole:
            found += [layout.block(name, layout.declare()), chains]
        elif mine or not layout.is_six:
            found.append(chains)
    return "".join(found)


def change_script(name: str, change: Change) -> str:
    """The transaction of this change, for a table that has the chains needed."""
    idle = [
        f"delete chain {(LAYOUT6 if each.six else LAYOUT).family} {name} {each.name}\n"
        for each in change.idle
    ]
    return "".join(
        [*_elements("delete", name, change.removed), *_elements("add", name, change.added), *idle]
    )


def load_script(name: str, table: Table, change: Change, replace: bool = False) -> str:
    """The transaction of a complete load; `change` is the difference to an empty table."""
    found = []
    for layout in layouts_of(table):
        family = layout.family
        if replace:
            found += [f"add table {family} {name}\n", f"delete table {family} {name}\n"]
        found += [layout.block(name, layout.declare()), f"flush table {family} {name}\n"]
        found += [
            f"flush {kind} {family} {name} {of}\n"
            for kind, described in (("map", layout.maps), ("set", layout.sets))
            for of in described
        ]
        found.append(layout.block(name, _chains(layout.chains.items())))
    return "".join([*found, prepare_script(name, table, change), change_script(name, change)])


def remove_script(name: str, family: str = "ip") -> str:
    """The transaction that deletes the table if it exists."""
    return f"add table {family} {name}\ndelete table {family} {name}\n"
