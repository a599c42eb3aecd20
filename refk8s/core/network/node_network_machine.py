"""The machine that computes a node's network of pods from the Nodes. Rules ROUTE-1, ROUTE-2
(spec/node_network.md).

It gives the ranges and addresses of all nodes to the adapter, which knows the links of the machine
and computes the routes (`node_routes.py`).
"""

from refk8s.core.api.core_v1 import Node
from refk8s.core.api.families import IPV6
from refk8s.core.api.resources import NODES
from refk8s.core.api.user import node_user
from refk8s.core.context import SECOND, Instant
from refk8s.core.loop.loop import Loop
from refk8s.core.loop.plan import NOTHING, Key, Local, Plan
from refk8s.core.loop.reconciler import Interest, Reconciler
from refk8s.core.loop.view import View
from refk8s.core.pods.node import internal_ip, pod_cidr
from refk8s.core.ports.node_network import NodeNetwork, Peer
from refk8s.core.value import Value

ALL = "all"
# the adapter gets the network again after this time: other programs may have changed the host
REFRESH: Instant = 300 * SECOND


class Memory(Value, frozen=True):
    """What the adapter got last, and when."""

    handed: NodeNetwork | None = None
    handed_at: Instant = 0


def _when_it_matters(view: View, old: Node | None, new: Node | None) -> tuple[Key, ...]:
    return (ALL,) if _of(old) != _of(new) else ()


def _of(node: Node | None) -> tuple[str, str, str, str]:
    """The range and the address, of IPv4 and of IPv6."""
    if node is None:
        return "", "", "", ""
    return pod_cidr(node), internal_ip(node), pod_cidr(node, IPV6), internal_ip(node, IPV6)


class ProgramNetwork(Reconciler):
    """Gives the network to the adapter."""

    name = "node-network"
    interests = (Interest(NODES, _when_it_matters),)
    initial_keys = (ALL,)

    def __init__(self, node_name: str) -> None:
        self.node_name = node_name
        self.user = node_user(node_name)

    def start_memory(self, now: Instant) -> Memory:
        return Memory()

    def reconcile(self, view: View, key: Key, now: Instant, local: Local) -> Plan:
        # Observe
        memory: Memory = local.memory

        # Decide
        network = compute_network(view.list(NODES), self.node_name)
        refresh_at = memory.handed_at + REFRESH
        if network == memory.handed and not local.failures and now < refresh_at:
            return Plan(wake_at=refresh_at)
        if not (network.pod_cidr or network.pod_cidr6) and memory.handed is None:
            return NOTHING  # ROUTE-2: what an earlier process has made stays until it is known

        # Report
        return Plan(rules=network, memory=Memory(network, now), wake_at=now + REFRESH)


def compute_network(nodes: list[Node], node_name: str) -> NodeNetwork:
    """The network as this node sees it; other nodes without a range or address are not in it."""
    own = ("", "", "", "")
    peers: list[Peer] = []
    for node in nodes:
        cidr, ip, cidr6, ip6 = found = _of(node)
        if node.metadata.name == node_name:
            own = found
        elif (cidr and ip) or (cidr6 and (ip6 or ip)):
            peers.append(Peer(node.metadata.name or "", *found))
    cidr, ip, cidr6, ip6 = own
    return NodeNetwork(cidr, ip, tuple(sorted(peers)), cidr6, ip6)


def node_network(node_name: str) -> Loop:
    """The machine of one node's network; its name is "network/NODE"."""
    user = node_user(node_name)
    reconcilers = (ProgramNetwork(node_name),)
    return Loop(f"network/{node_name}", reconcilers, "kubelet", host=node_name, user=user)
