"""Rules of nftables for packets of pods to and from other machines. Rules ROUTE-4, ROUTE-6, ROUTE-7
(spec/node_network.md).

Pods and other nodes see the address of the pod; everybody else sees the node's. Docker sets the
policy of forwarded packets to DROP on many machines, so packets between pods of the cluster get a
mark, and one rule in Docker's own chain accepts the mark. Source: nft(8); Docker documentation,
"Packet filtering and firewalls".
"""

from collections.abc import Iterable
from ipaddress import IPv4Network

from refk8s.core.network.node_routes import Route

FORWARD_MARK = "0x2000"
NOT_OUTSIDE = "224.0.0.0/4"  # multicast does not leave the node


def network_script(
    table: str, own: IPv4Network, bridge: str, tunnel: str, routes: Iterable[Route]
) -> str:
    """The transaction that replaces the table. `tunnel`: the device of the tunnel."""
    routes = tuple(routes)
    ranges = ", ".join(str(network) for network in sorted({own, *(r.range for r in routes)}))
    nodes = ", ".join(str(route.node) for route in routes)
    direct = ", ".join(str(route.node) for route in routes if not route.tunnel)
    mark = f"meta mark set meta mark | {FORWARD_MARK}"
    sets = [
        f"set ranges {{ type ipv4_addr; flags interval; elements = {{ {ranges} }}; }}",
        f"set nodes {{ type ipv4_addr; {_elements(nodes)} }}",
        f"set direct {{ type ipv4_addr; {_elements(direct)} }}",
    ]
    forward = [
        "type filter hook forward priority mangle",
        f'oifname "{tunnel}" tcp flags syn tcp option maxseg size set rt mtu',
        f"ip saddr @ranges ip daddr @ranges {mark}",
        f"ip saddr @nodes ip daddr {own} {mark}",
        f"ip saddr {own} ip daddr @nodes {mark}",
        f"ct status dnat ip daddr @ranges {mark}",
        f"ct status dnat ip saddr @ranges {mark}",
    ]
    postrouting = [
        "type nat hook postrouting priority srcnat + 1",
        f'oifname "{bridge}" return',
        f"ip saddr {own} ip daddr @ranges return",
        f"ip saddr {own} ip daddr @direct return",
        f"ip saddr {own} ip daddr != {NOT_OUTSIDE} masquerade",
    ]
    chains = [
        f"chain {name} {{ {'; '.join(lines)}; }}"
        for name, lines in (("forward", forward), ("postrouting", postrouting))
    ]
    body = "".join(f"  {line}\n" for line in (*sets, *chains))
    return f"add table ip {table}\ndelete table ip {table}\ntable ip {table} {{\n{body}}}\n"


def _elements(listed: str) -> str:
    return f"elements = {{ {listed} }};" if listed else ""
