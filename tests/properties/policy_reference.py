"""What network policies mean: a reference for the network policies of a node, for any policies,
pods and namespaces. Rules POLICY-1 to POLICY-10 (spec/network_policy.md).

    inv   POLICY-1   a packet is accepted if and only if the policies allow it
    inv   POLICY-9   incremental changes give the same filter as a complete load

The reference is written from the documentation and computed from the objects alone, without the
functions of `core/network`. It judges a packet by its client, server and the server's port.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from refk8s.core.api.core_v1 import Namespace, Pod
from refk8s.core.api.networking_v1 import (
    IPBlock,
    NetworkPolicy,
    NetworkPolicyPeer,
    NetworkPolicyPort,
)
from refk8s.core.api.selector import from_label_selector
from refk8s.core.network.policy_packets import Filter, Packet, is_accepted
from refk8s.core.network.policy_table import PolicyTable, class_text
from refk8s.core.value import Value


class PolicyWorld(Value, frozen=True):
    """All that decides: the objects, and a node with its pod range."""

    policies: Sequence[NetworkPolicy]
    pods: Sequence[Pod]
    namespaces: Sequence[Namespace]
    node_name: str
    pod_range: IPv4Network
    pod_range6: IPv6Network = IPv6Network("fd00::10.244.0.0/120")
    families: tuple[int, ...] = (4,)

    def is_own(self, address: str) -> bool:
        """Whether it is in the node's pod range of its family."""
        return ip_address(address) in (self.pod_range6 if ":" in address else self.pod_range)


class Flow(Value, frozen=True):
    """A connection from a client to a port of a server, or packets of another protocol."""

    client: str
    server: str
    protocol: str
    port: int


def has_network(pod: Pod) -> bool:
    """Whether the pod sends and receives packets with an address of its own."""
    return not pod.spec.host_network and pod.status.phase not in ("Succeeded", "Failed")


def pods_at(world: PolicyWorld, address: str) -> list[Pod]:
    """The pods with this address, of any node."""
    return [
        pod
        for pod in world.pods
        if has_network(pod) and address in [entry.ip for entry in pod.status.pod_ips or ()]
    ]


def is_allowed(world: PolicyWorld, flow: Flow) -> bool:
    """POLICY-1: whether the node lets the packets of this flow pass, in both directions."""
    if not world.policies:
        return True
    if ip_address(flow.server).is_multicast or flow.server == "255.255.255.255":
        return False
    owners: dict[str, list[Pod]] = {}
    for address in (flow.client, flow.server):
        owners[address] = [
            pod for pod in pods_at(world, address) if pod.spec.node_name == world.node_name
        ]
        if world.is_own(address) and len(owners[address]) != 1:
            return False
    if flow.client == flow.server:
        return True
    return all(
        _directions_allow(world, flow, pod, address == flow.client)
        for address in (flow.client, flow.server)
        for pod in owners[address]
        if len(owners[address]) == 1
    )


def _directions_allow(world: PolicyWorld, flow: Flow, pod: Pod, is_egress: bool) -> bool:
    """POLICY-2, POLICY-3: not isolated in this direction, or at least one rule allows the flow."""
    isolating = [
        policy
        for policy in world.policies
        if policy.metadata.namespace == pod.metadata.namespace
        and from_label_selector(policy.spec.pod_selector).matches(pod.metadata.labels)
        and ("Egress" if is_egress else "Ingress") in types_of(policy)
    ]
    if not isolating:
        return True
    other = flow.server if is_egress else flow.client
    candidates: list[Pod | None] = [*pods_at(world, other)] or [None]
    for policy in isolating:
        namespace = policy.metadata.namespace or ""
        if is_egress:
            rules = [(rule.to, rule.ports) for rule in policy.spec.egress or ()]
        else:
            rules = [(rule.from_, rule.ports) for rule in policy.spec.ingress or ()]
        for peers, ports in rules:
            for candidate in candidates:
                server = candidate if is_egress else pod
                if (
                    not peers
                    or any(_is_peer(world, namespace, peer, other, candidate) for peer in peers)
                ) and (not ports or any(_is_port(flow, port, server) for port in ports)):
                    return True
    return False


def types_of(policy: NetworkPolicy) -> tuple[str, ...]:
    """POLICY-2: the directions that a policy isolates."""
    if policy.spec.policy_types:
        return policy.spec.policy_types
    return ("Ingress", "Egress") if policy.spec.egress else ("Ingress",)


def _is_peer(
    world: PolicyWorld, namespace: str, peer: NetworkPolicyPeer, address: str, pod: Pod | None
) -> bool:
    """POLICY-4, for an address that this pod has, or no pod."""
    if peer.ip_block is not None:
        return _is_in(peer.ip_block, address)
    return pod is not None and _selects(world, namespace, peer, pod)


def _selects(world: PolicyWorld, namespace: str, peer: NetworkPolicyPeer, pod: Pod) -> bool:
    if peer.namespace_selector is None:
        if pod.metadata.namespace != namespace:
            return False
    else:
        labels: Mapping[str, str] = {}
        for each in world.namespaces:
            if each.metadata.name == pod.metadata.namespace:
                labels = each.metadata.labels or {}
        if not from_label_selector(peer.namespace_selector).matches(labels):
            return False
    return peer.pod_selector is None or from_label_selector(peer.pod_selector).matches(
        pod.metadata.labels
    )


def _is_in(block: IPBlock, address: str) -> bool:
    one = ip_address(address)
    within = [
        one in ip_network(text, strict=False) for text in (block.cidr, *(block.except_ or ()))
    ]
    return within[0] and not any(within[1:])


def _is_port(flow: Flow, port: NetworkPolicyPort, server: Pod | None) -> bool:
    """POLICY-5. A name is looked up among the ports of the server's pod."""
    if (port.protocol or "TCP") != flow.protocol:
        return False
    if port.port is None:
        return True
    if isinstance(port.port, int):
        return port.port <= flow.port <= (port.end_port or port.port)
    if server is None:
        return False
    sidecars = [one for one in server.spec.init_containers or () if one.restart_policy == "Always"]
    return any(
        named.name == port.port
        and (named.protocol or "TCP") == flow.protocol
        and named.container_port == flow.port
        for container in [*server.spec.containers, *sidecars]
        for named in container.ports or ()
    )


def has_replies(flow: Flow) -> bool:
    """Whether the server's address can be the source of a packet."""
    return not ip_address(flow.server).is_multicast


def policy_1_the_filter_accepts_what_is_allowed(
    world: PolicyWorld, filter: Filter | None, flows: Iterable[Flow]
) -> Iterator[str]:
    """POLICY-1 to POLICY-8, POLICY-10. `filter`: None without a table."""
    for flow in flows:
        allowed = is_allowed(world, flow)
        there = Packet(flow.client, flow.server, flow.protocol, flow.port)
        back = Packet(flow.server, flow.client, flow.protocol, flow.port, reply=True)
        for packet in (there, back) if has_replies(flow) else (there,):
            accepted = filter is None or is_accepted(filter, packet)
            if accepted != allowed:
                words = "accepted" if accepted else "dropped"
                yield f"{packet} is {words}, and the policies {'allow' if allowed else 'deny'} it"


def policy_9_same_filter(
    one: Filter, of: PolicyTable, other: Filter, table: PolicyTable
) -> Iterator[str]:
    """POLICY-9: equal elements, apart from the numbers of the classes."""
    mine, theirs = _described(one, of), _described(other, table)
    for name in sorted({*mine, *theirs}):
        if mine.get(name) != theirs.get(name):
            yield f"{name}: {mine.get(name)} and {theirs.get(name)}"


def _described(filter: Filter, table: PolicyTable) -> dict[str, list[str]]:
    """The elements, with the peers of each class in the place of its number."""
    classes = {class_text(known.number): str(of) for of, known in table.classes.items()}
    found: dict[str, list[str]] = {}
    for name, entries in filter.elements.items():
        found[name] = sorted(
            " . ".join(classes.get(part, part) for part in [*key.split(" . "), value])
            for key, value in entries.items()
        )
    return found
