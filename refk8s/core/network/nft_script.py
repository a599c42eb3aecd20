"""The text of a transaction for `nft -f`: a complete load, or a change. Rules NET-10, NET-11,
NET-13 (spec/network.md).

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
    Change,
    Picker,
    Table,
)

# the mark of packets to masquerade; upstream's proxy has the same
MASQUERADE = "0x4000"
STICKY_MAX = 1 << 20  # affinity entries

_FRONT = "ip daddr . meta l4proto . th dport"
_NODE_FRONT = "meta l4proto . th dport"
_FRONT_TYPE = "ipv4_addr . inet_proto . inet_service"
_NODE_FRONT_TYPE = "inet_proto . inet_service"

# Named types only: nft 1.0.6 misreads its own output of "typeof" and then accepts only TCP.
MAPS = {
    f"{prefix}{name}": f"type {front}{words}"
    for prefix, front in (("", _FRONT_TYPE), ("node_", _NODE_FRONT_TYPE))
    for name, words in (
        ("ports" if prefix else "services", " : verdict"),
        ("endpoints", " . mark : ipv4_addr . inet_service"),
        ("ids", " . mark : mark"),
        ("by_id", " . mark : ipv4_addr . inet_service"),
    )
}
STICKY = {
    f"{prefix}sticky": f"type ipv4_addr . {front} : mark; flags dynamic,timeout; size {STICKY_MAX}"
    for prefix, front in (("", _FRONT_TYPE), ("node_", _NODE_FRONT_TYPE))
}
SETS = {
    "hairpin": "type ipv4_addr . ipv4_addr",
    "restricted": f"type {_FRONT_TYPE}",
    "allowed": f"type {_FRONT_TYPE} . ipv4_addr; flags interval",
}

HOOKS = {
    "guard": "type filter hook prerouting priority raw",
    "prerouting": "type nat hook prerouting priority dstnat",
    "output": "type nat hook output priority -100",
    "tidy-prerouting": "type filter hook prerouting priority -99",
    "tidy-output": "type filter hook output priority -99",
    "postrouting": "type nat hook postrouting priority srcnat",
}
_TIDY = f"ct state new ct mark & {MARK_MASK:#x} == {MARK_FIRST:#x} ct mark set 0"
CHAINS = {
    # A node port is open at 127.0.0.1 too; packets to that address from other hosts are dropped.
    "guard": ['iifname != "lo" ip daddr 127.0.0.0/8 drop'],
    "refuse": ["meta l4proto tcp reject with tcp reset", "reject with icmp type port-unreachable"],
    "dispatch": [
        # before everything else, so that these clients are not even refused (NET-21)
        f"{_FRONT} @restricted {_FRONT} . ip saddr != @allowed drop",
        f"{_FRONT} vmap @services",
        f"fib daddr type local {_NODE_FRONT} vmap @node_ports",
    ],
    "prerouting": ["goto dispatch"],
    "output": ["goto dispatch"],
    "tidy-prerouting": [_TIDY],
    "tidy-output": [_TIDY],
    "postrouting": [
        f"meta mark & {MASQUERADE} == {MASQUERADE} meta mark set meta mark & 0xffffbfff masquerade",
        "ct status dnat ip saddr . ip daddr @hairpin masquerade",
    ],
}


def picker_lines(picker: Picker, pods: str) -> list[str]:
    """The rules of a picker's chain (NET-13, NET-14)."""
    hide = f"meta mark set meta mark | {MASQUERADE}"
    lines = {
        CLUSTER: [f"ip saddr != {pods} {hide}"],
        OUTSIDE: [hide],
        LOCAL: [
            f"ip saddr {pods} goto {picker.within.name}",
            f"fib saddr type local goto {picker.within.name}",
        ]
        if picker.inside
        else [],
        INSIDE: [f"ip saddr != {pods} {hide}"],
    }[picker.kind]
    front, prefix = (_NODE_FRONT, "node_") if picker.node else (_FRONT, "")
    first = MARK_FIRST + (INSIDE_FIRST if picker.kind == INSIDE else 0)
    if not picker.count:
        return [*lines, "drop"]
    choose = f"ct mark set numgen random mod {picker.count} offset {first}"
    if not picker.affinity_seconds:
        # A packet in the old chain that looks up the new endpoints may find none at its index, but
        # there is always a first. If it passed unchanged, connection tracking would keep that
        # result for its retransmissions.
        send = f"dnat to {front} . ct mark map @{prefix}endpoints"
        return [*lines, choose, send, f"ct mark set {first}", send, "drop"]
    client = f"ip saddr . {front}"
    remember = f"update @{prefix}sticky {{ {client} timeout {picker.affinity_seconds}s : ct mark }}"
    send = f"dnat to {front} . ct mark map @{prefix}by_id"
    to_chosen = f"ct mark set {front} . ct mark map @{prefix}ids {remember} {send}"
    return [
        *lines,
        f"ct mark set {client} map @{prefix}sticky",
        f"ct mark != 0 {remember} {send}",
        # A new client, or one whose target was removed. An update would only prolong the old entry.
        f"delete @{prefix}sticky {{ {client} : ct mark }}",
        choose,
        to_chosen,
        f"ct mark set {first}",
        to_chosen,
        "drop",
    ]


def _block(name: str, lines: Iterable[str]) -> str:
    return "".join([f"table ip {name} {{\n", *(f"  {line}\n" for line in lines), "}\n"])


def _chains(chains: Iterable[tuple[str, list[str]]]) -> Iterator[str]:
    for chain, lines in chains:
        yield f"chain {chain} {{ {'; '.join(lines)}; }}"


def _declare() -> Iterator[str]:
    for kind, described in (("map", MAPS | STICKY), ("set", SETS)):
        for name, words in described.items():
            yield f"{kind} {name} {{ {words}; }}"
    for name in CHAINS:
        yield f"chain {name} {{ {HOOKS[name]}; }}" if name in HOOKS else f"chain {name} {{ }}"


def _elements(verb: str, table: str, elements: Iterable[tuple[str, str, str]]) -> Iterator[str]:
    """One command for each map; nft parses a command for each element ten times slower."""
    of_map: dict[str, list[str]] = {}
    for map, key, value in elements:
        of_map.setdefault(map, []).append(f"{key} : {value}" if value else key)
    for map, entries in of_map.items():
        yield f"{verb} element ip {table} {map} {{ {', '.join(entries)} }}\n"


def prepare_script(name: str, table: Table, change: Change, whole: bool = False) -> str:
    """The first transaction: the chains that the change needs (or a `whole` load), without the
    elements that refer to them.

    A packet in transit when a transaction takes effect traverses the old chains but looks up the
    new elements. If an element referred to a chain of the same transaction, the packet would find
    the chain empty and pass unchanged. Adding the rules of an existing chain again only repeats
    them after its last one, which ends every packet.
    """
    chains = _block(
        name,
        _chains((picker.name, picker_lines(picker, str(table.pods))) for picker in change.pickers),
    )
    return _block(name, _declare()) + chains if whole else chains


def change_script(name: str, change: Change) -> str:
    """The transaction of this change, for a table that has the chains needed."""
    return "".join(
        [*_elements("delete", name, change.removed), *_elements("add", name, change.added)]
    )


def load_script(name: str, table: Table, change: Change, replace: bool = False) -> str:
    """The transaction of a complete load; `change` is the difference to an empty table."""
    away = [f"add table ip {name}\n", f"delete table ip {name}\n"] if replace else []
    flushed = [f"flush table ip {name}\n"]
    flushed += [
        f"flush {kind} ip {name} {of}\n"
        for kind, described in (("map", MAPS), ("set", SETS))
        for of in described
    ]
    chains = [_block(name, _chains(CHAINS.items())), prepare_script(name, table, change)]
    return "".join(
        [*away, _block(name, _declare()), *flushed, *chains, change_script(name, change)]
    )


def remove_script(name: str) -> str:
    """The transaction that deletes the table if it exists."""
    return f"add table ip {name}\ndelete table ip {name}\n"
