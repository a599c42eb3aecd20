"""The text of a transaction for `nft -f` that loads or changes the network policies of a node.
Rules POLICY-1, POLICY-7 to POLICY-13, POLICY-16 (spec/network_policy.md).

The number of chains is constant. The class of the other address is looked up and kept in the
packet's priority, because nftables has no other scratch value that no program of a host uses: it
is set by the kernel just before the forward hook, and used just after it. It is zero again when
the packet leaves the chains. Source: nft(8).
"""

from collections.abc import Iterable, Iterator

from refk8s.core.api.families import IPV4, IPV6, of_family
from refk8s.core.network.nft_script import remove_script
from refk8s.core.network.nftables import SIX
from refk8s.core.network.policy_table import EVERY, Change, Element


def _sets(address: str) -> dict[str, str]:
    of_class = f"{address} . classid"
    of_port = f"{of_class} . inet_proto . inet_service"
    return {
        "known": address,
        "self": f"{address} . {address.removeprefix('type ')}",
        "isolated_in": address,
        "isolated_out": address,
    } | {
        f"{prefix}_{name}": words
        for prefix in ("in", "out")
        for name, words in (
            ("any", of_class),
            ("port", of_port),
            ("range", f"{of_port}; flags interval"),
        )
    }


def _maps(address: str) -> dict[str, str]:
    return {
        "pods": f"{address} : classid",
        "namespaces": f"{address} : classid",
        "blocks": f"{address} : classid; flags interval",
    }


MAPS = _maps("type ipv4_addr")
"""The classes of addresses, in the order in which they are looked up."""

DENIED, ALLOWED = "denied", "allowed"
FAMILIES = ("ip", "ip6")  # as nft names them


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


# Packets to several pods at once would reach isolated pods too (POLICY-8).
_FIRST = {
    "ip": [f"ip daddr {{ 224.0.0.0/4, 255.255.255.255 }} goto {DENIED}"],
    "ip6": [
        # without these messages no address of IPv6 is found; then what could bypass policies, since
        # a pod has an address in fe80::/10 too (POLICY-16)
        "meta l4proto ipv6-icmp icmpv6 type { nd-router-solicit, nd-router-advert, "
        "nd-neighbor-solicit, nd-neighbor-advert } accept",
        f"ip6 daddr ff00::/8 goto {DENIED}",
        f"ip6 saddr fe80::/10 goto {DENIED}",
        f"ip6 daddr fe80::/10 goto {DENIED}",
    ],
}


def forward_lines(pods: str, family: str) -> list[str]:
    """The chain of all packets that the node forwards or bridges. `pods`: the node's pod range."""
    source, destination = f"{family} saddr", f"{family} daddr"
    errors = "ipv6-icmp" if family == "ip6" else "icmp"
    return [
        *_FIRST[family],
        # A pod whose rules are not computed yet (POLICY-10).
        f"{source} {pods} {source} != @known goto {DENIED}",
        f"{destination} {pods} {destination} != @known goto {DENIED}",
        f"ct state related meta l4proto {errors} accept",  # errors about allowed connections
        f"{source} . {destination} @self accept",
        "ct direction reply goto reply",
        f"{source} @isolated_out jump out",
        f"{destination} @isolated_in jump in",
    ]


def chains(pods: str, family: str) -> dict[str, list[str]]:
    """All chains. A reply has the fields of its connection's first packet, swapped (POLICY-7)."""
    source, destination = f"{family} saddr", f"{family} daddr"
    return {
        DENIED: ["drop"],
        ALLOWED: ["meta priority set 0", "return"],
        "out": judge_lines("out", source, destination, "th dport"),
        "in": judge_lines("in", destination, source, "th dport"),
        "out-reply": judge_lines("out", destination, source, "th sport"),
        "in-reply": judge_lines("in", source, destination, "th sport"),
        "reply": [
            f"{destination} @isolated_out jump out-reply",
            f"{source} @isolated_in jump in-reply",
        ],
        "forward": forward_lines(pods, family),
    }


HOOK = "type filter hook forward priority filter"


def load_script(name: str, pods: str, change: Change) -> str:
    """The transaction that replaces the tables of this name; `change` is the difference to empty
    ones. A packet in transit is judged by the old tables or by the new ones. `pods`: the node's pod
    range, or one of each family with a comma between them."""
    cidrs = pods.split(",")
    found = [_load(name, of_family(cidrs, IPV4) or NO_PODS, "ip")]
    six = of_family(cidrs, IPV6)
    if six:
        found.append(_load(name, six, "ip6"))
    return "".join([*found, change_script(name, change, has_six=bool(six))])


NO_PODS = "0.0.0.0/32"


def _load(name: str, pods: str, family: str) -> str:
    lines = [f"{kind} {of} {{ {words}; }}" for kind, of, words in _declared(family)]
    for chain, rules in chains(pods, family).items():
        hook = [HOOK] if chain == "forward" else []
        lines.append(f"chain {chain} {{ {'; '.join([*hook, *rules])}; }}")
    block = "".join([f"table {family} {name} {{\n", *(f"  {line}\n" for line in lines), "}\n"])
    return remove_script(name, family) + block


def change_script(name: str, change: Change, has_six: bool = True) -> str:
    """The transaction of this change; without `has_six` there is no table of IPv6."""
    found = []
    for family in FAMILIES if has_six else FAMILIES[:1]:
        blocks = SIX + "blocks" if family == "ip6" else "blocks"
        mine = [each for each in change.removed if each[0].startswith(SIX) == (family == "ip6")]
        removed = [element for element in mine if element[0] != blocks]
        added = [each for each in change.added if each[0].startswith(SIX) == (family == "ip6")]
        if len(removed) < len(mine):
            found.append(f"flush map {family} {name} blocks\n")
        found += _elements("delete", name, removed, family)
        found += _elements("add", name, added, family)
    return "".join(found)


def _declared(family: str) -> Iterator[tuple[str, str, str]]:
    address = "type ipv6_addr" if family == "ip6" else "type ipv4_addr"
    for kind, described in (("set", _sets(address)), ("map", _maps(address))):
        for of, words in described.items():
            yield kind, of, words


def _elements(verb: str, table: str, elements: Iterable[Element], family: str) -> Iterator[str]:
    """One command for each set: nft parses a command for each element ten times slower."""
    of_set: dict[str, list[str]] = {}
    for name, key, value in elements:
        of_set.setdefault(name, []).append(f"{key} : {value}" if value else key)
    for name, entries in of_set.items():
        of = name.removeprefix(SIX)
        yield f"{verb} element {family} {table} {of} {{ {', '.join(entries)} }}\n"
