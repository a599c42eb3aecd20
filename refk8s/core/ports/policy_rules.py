"""The network policies of a node as data, as its policy machine computes them
(spec/network_policy.md)."""

from immutables import Map

from refk8s.core.value import Value, field

Entry = tuple[str, int]
"""A peer that contains an address, and the number of the named port there; 0 without a name."""


class PortRange(Value, frozen=True, order=True):
    """The ports `first` to `last` of a protocol: TCP, UDP or SCTP."""

    protocol: str
    first: int
    last: int


class Allowance(Value, frozen=True, order=True):
    """Connections with the addresses of a peer are allowed. `peer`: "" means every address.

    Without `ports` all protocols and ports are allowed. `named_protocol`: the port is the number of
    the peer's entry.
    """

    peer: str
    ports: tuple[PortRange, ...] = ()
    named_protocol: str = ""


Allowances = tuple[Allowance, ...]


class LocalPod(Value, frozen=True):
    """A pod of this node. A direction that is None is not isolated."""

    uid: str
    addresses: tuple[str, ...]
    ingress: Allowances | None = None
    egress: Allowances | None = None


class Member(Value, frozen=True):
    """The addresses of a pod, and the peers that select it, sorted.

    `entries`: those that select pods by their labels or ports. `wide`: those that select all pods
    of its namespace.
    """

    addresses: tuple[str, ...]
    entries: tuple[Entry, ...] = ()
    wide: tuple[Entry, ...] = ()


class Block(Value, frozen=True):
    """The addresses of a range, without those of the other ranges."""

    cidr: str
    excluded: tuple[str, ...] = ()


class PolicySet(Value, frozen=True, eq=False):
    """What is enforced on a node. `local` and `members` by pod ("namespace/name"), `blocks` by the
    name of the peer. `active`: the cluster has at least one policy."""

    active: bool = False
    local: Map[str, LocalPod] = field(default_factory=Map)
    members: Map[str, Member] = field(default_factory=Map)
    blocks: Map[str, Block] = field(default_factory=Map)


NO_POLICIES = PolicySet()
