"""Network policies in the form in which they are enforced. Rules POLICY-2, POLICY-4 to POLICY-7
(spec/network_policy.md).

`compile_policy` replaces the selectors, blocks and ports of a policy by peers and port ranges.
A *peer* has a name, and a test that says which pods belong to it. Two rules with equal selectors
have the same peer. `policy_state.py` keeps the members of the peers that the pods of a node use.

Source: Kubernetes documentation, "Network Policies".
"""

from collections.abc import Iterable, Mapping
from ipaddress import ip_address, ip_network

from refk8s.core.api.core_v1 import Pod
from refk8s.core.api.families import family_of
from refk8s.core.api.networking_v1 import (
    IPBlock,
    NetworkPolicy,
    NetworkPolicyPeer,
    NetworkPolicyPort,
)
from refk8s.core.api.selector import Selector, from_label_selector
from refk8s.core.pods.addresses import addresses_of, container_ports
from refk8s.core.pods.status import is_finished
from refk8s.core.ports import Allowance, Block, PortRange
from refk8s.core.value import Value, evolve

INGRESS, EGRESS = "Ingress", "Egress"
PORT_LAST = 65_535
PEERS_MAX = 1_000
"""The peers of one policy; one with more allows nothing (POLICY-14)."""


class PodFacts(Value, frozen=True):
    """What policies depend on in a pod that can send and receive packets (POLICY-6)."""

    uid: str
    namespace: str
    labels: Mapping[str, str]
    addresses: tuple[str, ...]
    ports: tuple[tuple[str, str, int], ...]  # (name, protocol, number)
    node_name: str


def facts_of(pod: Pod | None) -> PodFacts | None:
    """The facts of a pod; None if it has finished, or uses the network of its node (POLICY-6)."""
    if pod is None or pod.spec is None or pod.spec.host_network or is_finished(pod):
        return None
    metadata = pod.metadata
    addresses = [address for address in addresses_of(pod) if _is_address(address)]
    named = [
        (port.name, port.protocol or "TCP", port.container_port)
        for port in container_ports(pod.spec)
        if port.name
    ]
    return PodFacts(
        metadata.uid or "",
        metadata.namespace or "",
        metadata.labels or {},
        tuple(addresses),
        tuple(named),
        pod.spec.node_name or "",
    )


def _is_address(text: str) -> bool:
    try:
        return "%" not in text and str(ip_address(text)) == text
    except ValueError:
        return False


class Peer(Value, frozen=True):
    """The other end of connections. Without selectors and block: every address.

    `name`: equal for equal peers only, empty for every address. `namespace`: the peer has only pods
    of this namespace. `port_name`: it has only pods with a port of that name and protocol.
    """

    name: str = ""
    namespace: str = ""
    namespaces: Selector | None = None
    pods: Selector | None = None
    block: Block | None = None
    port_name: str = ""
    port_protocol: str = ""

    @property
    def is_of_pods(self) -> bool:
        """Whether its addresses are those of pods, and not all of a block."""
        return self.pods is not None or bool(self.port_name)

    @property
    def is_wide(self) -> bool:
        """Whether it has all pods of the namespaces that it selects."""
        return self.pods is not None and self.pods.is_everything and not self.port_name

    def numbers(self, pod: PodFacts, namespace_labels: Mapping[str, str]) -> tuple[int, ...]:
        """If the pod belongs to the peer: the numbers of its named ports, or 0 without a name."""
        if self.namespace and pod.namespace != self.namespace:
            return ()
        if self.namespaces is not None and not self.namespaces.matches(namespace_labels):
            return ()
        if self.pods is not None and not self.pods.matches(pod.labels):
            return ()
        if not self.port_name:
            return (0,)
        if self.block is not None and not any(in_block(self.block, a) for a in pod.addresses):
            return ()
        return numbers_of(pod, self.port_protocol, self.port_name)


def _named(peer: Peer) -> Peer:
    """The peer with its name."""
    parts = []
    if peer.pods is not None:
        where = f"{peer.namespace} only" if peer.namespace else str(peer.namespaces)
        parts.append(f"pods {peer.pods} in {where}")
    if peer.block is not None:
        # the family first: a named port in a block is of addresses of that family (POLICY-16)
        words = " except ".join([peer.block.cidr, *peer.block.excluded])
        parts.append(f"{family_of(peer.block.cidr)} {words}")
    if peer.port_name:
        parts.append(f"port {peer.port_protocol} {peer.port_name}")
    return evolve(peer, name="; ".join(parts))


def numbers_of(pod: PodFacts, protocol: str, name: str) -> tuple[int, ...]:
    """The numbers of the pod's ports of this protocol and name, sorted."""
    found = {number for of, kind, number in pod.ports if of == name and kind == protocol}
    return tuple(sorted(found))


def in_block(block: Block, address: str) -> bool:
    """Whether an address is in the block and in none of its exceptions."""
    number = ip_address(address)
    return number in ip_network(block.cidr) and not any(
        number in ip_network(part) for part in block.excluded
    )


class PolicyRule(Value, frozen=True):
    """One rule: each peer with each port. Without peers every address; without ports every port."""

    peers: tuple[Peer, ...]
    ports: tuple[PortRange, ...]
    names: tuple[tuple[str, str], ...]  # (protocol, port name)
    every_port: bool


class CompiledPolicy(Value, frozen=True):
    """A policy. A direction that is None is not isolated by it (POLICY-2)."""

    namespace: str
    pods: Selector
    ingress: tuple[PolicyRule, ...] | None
    egress: tuple[PolicyRule, ...] | None
    is_too_large: bool = False  # its rules were left out


def compile_policy(policy: NetworkPolicy) -> CompiledPolicy:
    """The policy with its peers and ports. Raises SelectorError for an invalid selector."""
    spec, namespace = policy.spec, policy.metadata.namespace or ""
    types = spec.policy_types or ((INGRESS, EGRESS) if spec.egress else (INGRESS,))
    ingress = [_compile_rule(namespace, rule.from_, rule.ports) for rule in spec.ingress or ()]
    egress = [_compile_rule(namespace, rule.to, rule.ports) for rule in spec.egress or ()]
    peers = sum(len(rule.peers) * (1 + len(rule.names)) for rule in (*ingress, *egress))
    is_too_large = peers > PEERS_MAX
    if is_too_large:
        ingress, egress = [], []
    return CompiledPolicy(
        namespace,
        from_label_selector(spec.pod_selector),
        tuple(ingress) if INGRESS in types else None,
        tuple(egress) if EGRESS in types else None,
        is_too_large,
    )


def _compile_rule(
    namespace: str,
    peers: Iterable[NetworkPolicyPeer] | None,
    ports: Iterable[NetworkPolicyPort] | None,
) -> PolicyRule:
    """POLICY-4, POLICY-5."""
    ports = tuple(ports or ())
    found = [_compile_peer(namespace, peer) for peer in peers or ()] if peers else [Peer()]
    ranges, names = [], []
    for port in ports:
        protocol = port.protocol or "TCP"
        if isinstance(port.port, str):
            names.append((protocol, port.port))
        elif port.port is None:
            ranges.append(PortRange(protocol, 0, PORT_LAST))
        else:
            ranges.append(PortRange(protocol, port.port, port.end_port or port.port))
    return PolicyRule(tuple(found), tuple(ranges), tuple(names), not ports)


def _compile_peer(namespace: str, peer: NetworkPolicyPeer) -> Peer:
    """A pod selector alone selects in the namespace of the policy; a namespace selector alone
    selects all pods of these namespaces (POLICY-4)."""
    if peer.ip_block is not None:
        return _named(Peer(block=_compile_block(peer.ip_block)))
    pods = Selector() if peer.pod_selector is None else from_label_selector(peer.pod_selector)
    if peer.namespace_selector is None:
        return _named(Peer(namespace=namespace, pods=pods))
    namespaces = from_label_selector(peer.namespace_selector)
    return _named(Peer(namespaces=namespaces, pods=pods))


def _compile_block(block: IPBlock) -> Block:
    network = ip_network(block.cidr, strict=False)
    excluded = {str(ip_network(part, strict=False)) for part in block.except_ or ()}
    return Block(str(network), tuple(sorted(excluded)))


def allowances(
    rules: Iterable[PolicyRule], pod: PodFacts, is_egress: bool
) -> tuple[dict[str, Peer], tuple[Allowance, ...]]:
    """(the peers by name, the allowances) of a pod's rules in one direction, sorted (POLICY-3).

    The named ports of ingress are the pod's own; those of egress are the peer's (POLICY-5).
    """
    peers: dict[str, Peer] = {}
    found: dict[Allowance, None] = {}
    for rule in rules:
        ranges = list(rule.ports)
        if not is_egress:
            ranges += [
                PortRange(protocol, number, number)
                for protocol, name in rule.names
                for number in numbers_of(pod, protocol, name)
            ]
        for peer in rule.peers:
            if rule.every_port or ranges:
                peers[peer.name] = peer
                found[Allowance(peer.name, tuple(sorted({*ranges})))] = None
            for protocol, name in rule.names if is_egress else ():
                named = _named(evolve(peer, port_name=name, port_protocol=protocol))
                peers[named.name] = named
                found[Allowance(named.name, named_protocol=protocol)] = None
    peers.pop("", None)
    return peers, tuple(sorted(found))
