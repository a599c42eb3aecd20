"""The text of a transaction for `nft -f` that loads or changes the network policies of a node.
Rules POLICY-1, POLICY-7 to POLICY-13 (spec/network_policy.md).

The number of chains is constant. The class of the other address is looked up and kept in the
packet's priority, because nftables has no other scratch value that no program of a host uses: it
is set by the kernel just before the forward hook, and used just after it. It is zero again when
the packet leaves the chains. Source: nft(8).
"""

from collections.abc import Iterable, Iterator

from refk8s.core.network.policy_table import EVERY, Change, Element

_ADDRESS = "type ipv4_addr"
_CLASS = f"{_ADDRESS} . classid"
_PORT = f"{_CLASS} . inet_proto . inet_service"

SETS = {
    "known": _ADDRESS,
    "self": f"{_ADDRESS} . ipv4_addr",
    "isolated_in": _ADDRESS,
    "isolated_out": _ADDRESS,
} | {
    f"{prefix}_{name}": words
    for prefix in ("in", "out")
    for name, words in (
        ("any", _CLASS),
        ("port", _PORT),
        ("range", f"{_PORT}; flags interval"),
    )
}
MAPS = {
    "pods": f"{_ADDRESS} : classid",
    "namespaces": f"{_ADDRESS} : classid",
    "blocks": f"{_ADDRESS} : classid; flags interval",
}
"""The classes of addresses, in the order in which they are looked up."""

DENIED, ALLOWED = "denied", "allowed"


def judge_lines(prefix: str, pod: str, other: str, port: str) -> list[str]:
    """The chain that judges one direction of a pod: whatever no rule allows is dropped.

    `pod`, `other` and `port` are the fields of the packet that have the pod's address, the other
    address, and the port of the server.
    """
    key = f"{pod} . meta priority"
    look_up = [
        f"{key} @{prefix}_any goto {ALLOWED}",
        f"{key} . meta l4proto . {port} @{prefix}_port goto {ALLOWED}",
        f"{key} . meta l4proto . {port} @{prefix}_range goto {ALLOWED}",
    ]
    lines = [f"meta priority set {EVERY}", *look_up]
    for name in MAPS:
        # without an entry the class stays as it was, for which nothing is allowed
        lines += [f"meta priority set {other} map @{name}", *look_up]
    return [*lines, f"goto {DENIED}"]


def forward_lines(pods: str) -> list[str]:
    """The chain of all packets that the node forwards or bridges. `pods`: the node's pod range."""
    return [
        # Packets to several pods at once would reach isolated pods too (POLICY-8).
        f"ip daddr {{ 224.0.0.0/4, 255.255.255.255 }} goto {DENIED}",
        # A pod whose rules are not computed yet (POLICY-10).
        f"ip saddr {pods} ip saddr != @known goto {DENIED}",
        f"ip daddr {pods} ip daddr != @known goto {DENIED}",
        "ct state related meta l4proto icmp accept",  # errors about allowed connections
        "ip saddr . ip daddr @self accept",
        "ct direction reply goto reply",
        "ip saddr @isolated_out jump out",
        "ip daddr @isolated_in jump in",
    ]


def chains(pods: str) -> dict[str, list[str]]:
    """All chains. A reply has the fields of its connection's first packet, swapped (POLICY-7)."""
    return {
        DENIED: ["drop"],
        ALLOWED: ["meta priority set 0", "return"],
        "out": judge_lines("out", "ip saddr", "ip daddr", "th dport"),
        "in": judge_lines("in", "ip daddr", "ip saddr", "th dport"),
        "out-reply": judge_lines("out", "ip daddr", "ip saddr", "th sport"),
        "in-reply": judge_lines("in", "ip saddr", "ip daddr", "th sport"),
        "reply": ["ip daddr @isolated_out jump out-reply", "ip saddr @isolated_in jump in-reply"],
        "forward": forward_lines(pods),
    }


HOOK = "type filter hook forward priority filter"


def load_script(name: str, pods: str, change: Change) -> str:
    """The transaction that replaces the table of this name; `change` is the difference to an empty
    table. A packet in transit is judged by the old table or by the new one."""
    lines = [f"{kind} {of} {{ {words}; }}" for kind, of, words in _declared()]
    for chain, rules in chains(pods).items():
        hook = [HOOK] if chain == "forward" else []
        lines.append(f"chain {chain} {{ {'; '.join([*hook, *rules])}; }}")
    block = "".join([f"table ip {name} {{\n", *(f"  {line}\n" for line in lines), "}\n"])
    return remove_script(name) + block + change_script(name, change)


def change_script(name: str, change: Change) -> str:
    """The transaction of this change."""
    removed = [element for element in change.removed if element[0] != "blocks"]
    flush = f"flush map ip {name} blocks\n" if len(removed) < len(change.removed) else ""
    return "".join(
        [flush, *_elements("delete", name, removed), *_elements("add", name, change.added)]
    )


def remove_script(name: str) -> str:
    """The transaction that deletes the table if it exists."""
    return f"add table ip {name}\ndelete table ip {name}\n"


def _declared() -> Iterator[tuple[str, str, str]]:
    for kind, described in (("set", SETS), ("map", MAPS)):
        for of, words in described.items():
            yield kind, of, words


def _elements(verb: str, table: str, elements: Iterable[Element]) -> Iterator[str]:
    """One command for each set: nft parses a command for each element ten times slower."""
    of_set: dict[str, list[str]] = {}
    for name, key, value in elements:
        of_set.setdefault(name, []).append(f"{key} : {value}" if value else key)
    for name, entries in of_set.items():
        yield f"{verb} element ip {table} {name} {{ {', '.join(entries)} }}\n"
