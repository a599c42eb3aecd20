"""Rules of nftables for packets of pods to and from other machines. Rules ROUTE-4, ROUTE-6, ROUTE-7
(spec/node_network.md).

Pods and other nodes see the address of the pod; everybody else sees the node's. Docker sets the
policy of forwarded packets to DROP on many machines, so packets between pods of the cluster get a
mark, and one rule in Docker's own chain accepts the mark. Source: nft(8); Docker documentation,
"Packet filtering and firewalls".
"""

from collections.abc import Iterable

from refk8s.core.api.families import Network
from refk8s.core.network.nft_script import remove_script
from refk8s.core.network.node_routes import Route

FORWARD_MARK = "0x2000"
NOT_OUTSIDE = {4: "224.0.0.0/4", 6: "ff00::/8"}  # multicast does not leave the node


def network_script(
    table: str,
    own: Network | None,
    bridge: str,
    tunnel: str,
    routes: Iterable[Route],
    own6: Network | None = None,
) -> str:
    """The transaction that replaces the table, and that of IPv6 if the pods have such addresses.
    `tunnel`: the device of the tunnel."""
    routes = tuple(routes)
    return "".join(
        _table(table, of, bridge, tunnel, [r for r in routes if r.range.version == of.version])
        for of in (own, own6)
        if of is not None
    )


def _table(table: str, own: Network, bridge: str, tunnel: str, routes: list[Route]) -> str:
    version = own.version
    family, type = ("ip6", "ipv6_addr") if version == 6 else ("ip", "ipv4_addr")
    ranges = ", ".join(str(network) for network in sorted({own, *(r.range for r in routes)}))
    of_family = [route for route in routes if route.node.version == version]
    nodes = ", ".join(str(route.node) for route in of_family)
    direct = ", ".join(str(route.node) for route in of_family if not route.tunnel)
    mark = f"meta mark set meta mark | {FORWARD_MARK}"
    source, destination = f"{family} saddr", f"{family} daddr"
    sets = [
        f"set ranges {{ type {type}; flags interval; elements = {{ {ranges} }}; }}",
        f"set nodes {{ type {type}; {_elements(nodes)} }}",
        f"set direct {{ type {type}; {_elements(direct)} }}",
    ]
    forward = [
        "type filter hook forward priority mangle",
        f'oifname "{tunnel}" tcp flags syn tcp option maxseg size set rt mtu',
        f"{source} @ranges {destination} @ranges {mark}",
        f"{source} @nodes {destination} {own} {mark}",
        f"{source} {own} {destination} @nodes {mark}",
        f"ct status dnat {destination} @ranges {mark}",
        f"ct status dnat {source} @ranges {mark}",
    ]
    postrouting = [
        "type nat hook postrouting priority srcnat + 1",
        f'oifname "{bridge}" return',
        f"{source} {own} {destination} @ranges return",
        f"{source} {own} {destination} @direct return",
        f"{source} {own} {destination} != {NOT_OUTSIDE[version]} masquerade",
    ]
    chains = [
        f"chain {name} {{ {'; '.join(lines)}; }}"
        for name, lines in (("forward", forward), ("postrouting", postrouting))
    ]
    body = "".join(f"  {line}\n" for line in (*sets, *chains))
    return remove_script(table, family) + f"table {family} {table} {{\n{body}}}\n"


def _elements(listed: str) -> str:
    return f"elements = {{ {listed} }};" if listed else ""
