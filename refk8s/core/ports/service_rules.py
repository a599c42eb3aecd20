"""The rules of Services on a node, as the proxy computes them (spec/network.md)."""

from collections.abc import Mapping

from refk8s.core.api.families import IPV4, IPV6
from refk8s.core.value import Value, field

NODE_PORTS = {IPV4: "", IPV6: "::"}
"""The addresses of rules for node ports, by family."""


class Target(Value, frozen=True, order=True):
    """The destination of a packet: the address and port of an endpoint."""

    address: str
    port: int


class Rule(Value, frozen=True, order=True):
    """Packets to (address, protocol, port) are sent to one of the targets, each with the same
    probability. Without targets they are rejected, or dropped if `drop`.

    An empty `address` means every local address of IPv4 of the node, `::` every one of IPv6: a node
    port. All addresses of a rule are of one family. `affinity_seconds` > 0: a
    client stays with its target for so long after its last connection. `masquerade`: the source is
    replaced by the node's address, so that the answer returns through the node. `local`: `targets`
    are only those of this node, and clients from outside keep their addresses. Clients on the node
    (its pods, and the node itself) are sent to one of `inside` instead. `restricted`: packets of
    clients outside the `sources`, disjoint ranges, are dropped.
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
    restricted: bool = False
    sources: tuple[str, ...] = ()

    @property
    def is_node_port(self) -> bool:
        """Whether the rule is for every local address of a family."""
        return self.address in NODE_PORTS.values()


class HealthCheck(Value, frozen=True, order=True):
    """A load balancer asks at this port of the node, by HTTP, whether to send packets to it: the
    answer is the number of ready endpoints of the node."""

    port: int
    endpoints: int


class RuleSet(Value, frozen=True):
    """All service rules of a node, and the health checks it answers, by service ("namespace/name").
    A service has at most one rule for each (address, protocol, port)."""

    services: Mapping[str, tuple[Rule, ...]] = field(default_factory=dict)
    health_checks: Mapping[str, HealthCheck] = field(default_factory=dict)

    @property
    def rules(self) -> list[Rule]:
        """Every rule, sorted."""
        return sorted(rule for rules in self.services.values() for rule in rules)
