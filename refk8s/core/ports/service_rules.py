"""The rules of Services on a node, as the proxy computes them (spec/network.md)."""

from collections.abc import Mapping

from refk8s.core.value import Value, field


class Target(Value, frozen=True, order=True):
    """Where a packet may go: an endpoint's address and port."""

    address: str
    port: int


class Rule(Value, frozen=True, order=True):
    """Packets to (address, protocol, port) go to one of the targets, each as likely; with none they
    are refused, or dropped if `drop`.

    `address` empty means every local address of the node: a node port. `affinity_seconds` > 0 keeps
    a client at its target for so long after its last connection. `masquerade` makes the node's
    address the source, so that the answer comes back through the node. `local` says that `targets`
    are only those of this node, whose clients keep their addresses: who comes from within, from a
    pod of the node or the node itself, goes to one of `inside` instead.
    """

    address: str
    protocol: str  # TCP, UDP or SCTP
    port: int
    targets: tuple[Target, ...] = ()
    affinity_seconds: int = 0
    masquerade: bool = False
    local: bool = False
    inside: tuple[Target, ...] = ()
    drop: bool = False


class RuleSet(Value, frozen=True):
    """All service rules of a node, by service ("namespace/name"). In one service no (address,
    protocol, port) stands twice."""

    services: Mapping[str, tuple[Rule, ...]] = field(default_factory=dict)

    @property
    def rules(self) -> list[Rule]:
        """Every rule, sorted."""
        return sorted(rule for rules in self.services.values() for rule in rules)
