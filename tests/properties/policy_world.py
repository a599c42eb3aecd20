"""Random network policies with pods and namespaces that they may select, and the policies of a
node as the machine keeps them."""

from ipaddress import IPv4Network, ip_address, ip_network

from hypothesis import strategies as st
from msgspec.structs import replace
from policy_reference import Flow, PolicyWorld

from refk8s.core.api.core_v1 import (
    Container,
    ContainerPort,
    Namespace,
    Pod,
    PodIP,
    PodSpec,
    PodStatus,
)
from refk8s.core.api.meta_v1 import LabelSelector, LabelSelectorRequirement, ObjectMeta
from refk8s.core.api.networking_v1 import (
    IPBlock,
    NetworkPolicy,
    NetworkPolicyEgressRule,
    NetworkPolicyIngressRule,
    NetworkPolicyPeer,
    NetworkPolicyPort,
    NetworkPolicySpec,
)
from refk8s.core.api.resources import NAMESPACES, NETWORK_POLICIES, PODS
from refk8s.core.loop.view import key_of
from refk8s.core.network.policy_state import PolicyState, apply
from refk8s.core.value import evolve

NODE, OTHER_NODE = "n1", "n2"
POD_RANGE = IPv4Network("10.244.0.0/24")
OUTSIDE = ["203.0.113.7", "198.51.100.20", "192.0.2.11"]
HERE = [f"10.244.0.{number}" for number in (2, 3, 4, 5)]
THERE = ["10.244.1.2", "10.244.1.3"]
PROTOCOLS = ["TCP", "TCP", "UDP", "SCTP"]
PORTS = [53, 80, 81, 8080]

rarely = st.integers(0, 9).map(lambda number: number == 9)
label_maps = st.dictionaries(
    st.sampled_from(["app", "tier"]), st.sampled_from(["web", "db"]), max_size=2
)
requirements = st.builds(
    lambda key, operator, value: LabelSelectorRequirement(
        key=key,
        operator=operator,
        values=(value,) if operator in ("In", "NotIn") else None,
    ),
    st.sampled_from(["app", "tier"]),
    st.sampled_from(["In", "NotIn", "Exists", "DoesNotExist"]),
    st.sampled_from(["web", "db"]),
)
selectors = st.builds(
    lambda labels, more: LabelSelector(
        match_labels=labels or None, match_expressions=tuple(more) or None
    ),
    label_maps,
    st.lists(requirements, max_size=1),
)
namespace_names = st.sampled_from(["a", "b"])
blocks = st.sampled_from(
    [
        IPBlock(cidr="0.0.0.0/0"),
        IPBlock(cidr="0.0.0.0/0", except_=("10.244.0.0/16", "198.51.100.0/24")),
        IPBlock(cidr="10.244.0.0/16", except_=("10.244.0.0/30",)),
        IPBlock(cidr="10.244.0.0/16", except_=("10.244.0.0/24", "10.244.0.2/31")),
        IPBlock(cidr="203.0.113.7/32"),
        IPBlock(cidr="192.0.2.0/24", except_=("192.0.2.11/32",)),
        IPBlock(cidr="198.51.100.0/24"),
        IPBlock(cidr="fd00::/8"),
    ]
)
peers = st.one_of(
    st.builds(lambda pods: NetworkPolicyPeer(pod_selector=pods), selectors),
    st.builds(lambda of: NetworkPolicyPeer(namespace_selector=of), selectors),
    st.builds(
        lambda of, pods: NetworkPolicyPeer(namespace_selector=of, pod_selector=pods),
        selectors,
        selectors,
    ),
    st.builds(lambda block: NetworkPolicyPeer(ip_block=block), blocks),
)
numbers = st.sampled_from(PORTS)
ports = st.one_of(
    st.builds(lambda kind: NetworkPolicyPort(protocol=kind), st.sampled_from([None, *PROTOCOLS])),
    st.builds(
        lambda kind, port, more: NetworkPolicyPort(
            protocol=kind, port=port, end_port=None if more is None else port + more
        ),
        st.sampled_from(PROTOCOLS),
        numbers,
        st.sampled_from([None, None, 0, 1, 30]),
    ),
    st.builds(
        lambda kind, name: NetworkPolicyPort(protocol=kind, port=name),
        st.sampled_from(PROTOCOLS),
        st.sampled_from(["http", "dns"]),
    ),
)
some_peers = st.lists(peers, max_size=3).map(lambda found: tuple(found) or None)
some_ports = st.lists(ports, max_size=3).map(lambda found: tuple(found) or None)


@st.composite
def policies(draw, namespace, name):
    ingress = st.builds(
        lambda of, to: NetworkPolicyIngressRule(from_=of, ports=to), some_peers, some_ports
    )
    egress = st.builds(
        lambda of, to: NetworkPolicyEgressRule(to=of, ports=to), some_peers, some_ports
    )
    types = draw(
        st.sampled_from(
            [None, ("Ingress",), ("Egress",), ("Ingress", "Egress"), ("Egress", "Ingress")]
        )
    )
    return NetworkPolicy(
        metadata=ObjectMeta(name=name, namespace=namespace),
        spec=NetworkPolicySpec(
            pod_selector=draw(st.one_of(st.just(LabelSelector()), selectors)),
            ingress=tuple(draw(st.lists(ingress, max_size=2))) or None,
            egress=tuple(draw(st.lists(egress, max_size=2))) or None,
            policy_types=types,
        ),
    )


@st.composite
def pods(draw, namespace, name, address, node):
    named = [
        ContainerPort(name=name, protocol=draw(st.sampled_from(PROTOCOLS)), container_port=number)
        for name, number in draw(
            st.lists(
                st.tuples(st.sampled_from(["http", "dns"]), numbers),
                max_size=2,
                unique_by=lambda pair: pair[0],
            )
        )
    ]
    containers = [Container(name="main", image="i", ports=tuple(named) or None)]
    spec = PodSpec(containers=tuple(containers), node_name=node)
    if named and draw(rarely):
        policy = draw(st.sampled_from(["Always", None]))
        init = Container(name="init", image="i", ports=tuple(named), restart_policy=policy)
        spec = PodSpec(
            containers=(Container(name="main", image="i"),), init_containers=(init,), node_name=node
        )
    if draw(rarely):
        spec = PodSpec(containers=tuple(containers), node_name=node, host_network=True)
        address = "192.0.2.11"
    addresses = () if draw(rarely) else (PodIP(ip=address),)
    phase = draw(st.sampled_from(["Running"] * 8 + ["Succeeded", "Failed", "Pending"]))
    deleted = "2026-01-01T00:00:00Z" if draw(rarely) else None
    return Pod(
        metadata=ObjectMeta(
            name=name,
            namespace=namespace,
            uid=f"{namespace}-{name}",
            labels=draw(label_maps),
            deletion_timestamp=deleted,
        ),
        spec=spec,
        status=PodStatus(phase=phase, pod_ips=addresses or None),
    )


def six(address):
    """The address of IPv6 that stands for one of IPv4."""
    return address if ":" in address else str(ip_address(f"fd00::{address}"))


def six_block(block):
    def of(text):
        if ":" in text:
            return text
        network = ip_network(text)
        return f"{six(str(network.network_address))}/{96 + network.prefixlen}"

    return IPBlock(cidr=of(block.cidr), except_=block.except_ and tuple(map(of, block.except_)))


def turned(world, families):
    """The same world with addresses and blocks of these families, in this order (POLICY-16)."""

    def peers_of(peers):
        found = []
        for peer in peers or ():
            for family in families if peer.ip_block is not None else (0,):
                found.append(
                    replace(peer, ip_block=six_block(peer.ip_block)) if family == 6 else peer
                )
        return tuple(found) or None

    policies = []
    for policy in world.policies:
        spec = policy.spec
        ingress = [replace(rule, from_=peers_of(rule.from_)) for rule in spec.ingress or ()]
        egress = [replace(rule, to=peers_of(rule.to)) for rule in spec.egress or ()]
        spec = replace(spec, ingress=tuple(ingress) or None, egress=tuple(egress) or None)
        policies.append(replace(policy, spec=spec))
    pods = []
    for pod in world.pods:
        ips = tuple(
            PodIP(ip=six(entry.ip) if family == 6 else entry.ip)
            for family in families
            for entry in pod.status.pod_ips or ()
        )
        pods.append(replace(pod, status=replace(pod.status, pod_ips=ips or None)))
    return evolve(world, policies=policies, pods=pods, families=families)


stacks = st.sampled_from([(4,), (4,), (6,), (4, 6), (6, 4)])


@st.composite
def worlds(draw):
    """Policies, pods and namespaces with addresses of one family or of both."""
    return turned(draw(worlds_of_ipv4()), draw(stacks))


@st.composite
def worlds_of_ipv4(draw):
    """Policies, pods of two nodes, and namespaces, of which one may be unknown."""
    found = []
    for node, addresses in ((NODE, HERE), (OTHER_NODE, THERE)):
        for number in range(draw(st.integers(0, len(addresses)))):
            address = draw(st.sampled_from(addresses)) if draw(rarely) else addresses[number]
            found.append(draw(pods(draw(namespace_names), f"{node}-{number}", address, node)))
    rules = [
        draw(policies(draw(namespace_names), f"policy-{number}"))
        for number in range(draw(st.integers(0, 3)))
    ]
    namespaces = [
        Namespace(metadata=ObjectMeta(name=name, labels=draw(label_maps)))
        for name in ("a", "b")
        if not draw(rarely)
    ]
    return PolicyWorld(rules, found, namespaces, NODE, POD_RANGE)


kinds = st.lists(st.tuples(st.sampled_from([*PROTOCOLS, "ICMP"]), numbers), min_size=1, max_size=3)


def flows(some_kinds, families=(4,)):
    """Flows between all addresses of each family, of these (protocol, port)."""
    found = []
    for family in families:
        ends = [*HERE, *THERE, *OUTSIDE]
        if family == 6:
            ends = [six(address) for address in ends]
        found += [
            Flow(client, server, protocol, port)
            for protocol, port in some_kinds
            for client in ends
            for server in [*ends, "ff02::fb" if family == 6 else "224.0.0.251"]
        ]
    return found


def changes_between(old, new):
    """The changes of objects from one world to another, as (resource, old, new)."""
    found = []
    for resource, before, after in (
        (PODS, old.pods, new.pods),
        (NAMESPACES, old.namespaces, new.namespaces),
        (NETWORK_POLICIES, old.policies, new.policies),
    ):
        a = {key_of(obj): obj for obj in before}
        b = {key_of(obj): obj for obj in after}
        found += [(resource, a.get(key), b.get(key)) for key in sorted({*a, *b})]
    return [change for change in found if change[1] != change[2]]


NO_WORLD = PolicyWorld([], [], [], NODE, POD_RANGE)


def follow(state, changes):
    """The state after these changes."""
    for change in changes:
        state = apply(state, *change)
    return state


def state_of(world, order=lambda changes: changes):
    """The state of a node that has received these objects."""
    return follow(PolicyState(world.node_name), order(changes_between(NO_WORLD, world)))


def by_prefix(world):
    """The objects of a world, as an API server lists them."""
    return {
        PODS.prefix: world.pods,
        NAMESPACES.prefix: world.namespaces,
        NETWORK_POLICIES.prefix: world.policies,
    }


def denying(count):
    """A world with so many policies that deny every connection to the pods of namespace a."""
    found = [
        NetworkPolicy(metadata=ObjectMeta(name=f"deny-{number}", namespace="a"))
        for number in range(count)
    ]
    return PolicyWorld(found, [], [], NODE, POD_RANGE)
