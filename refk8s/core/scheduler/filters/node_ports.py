"""No two pods of a node take one host port. Rule SCHED-8 (spec/scheduler.md).

Two ports are one when number and protocol are the same and the addresses are, or either is 0.0.0.0
(also meant by none). Source: API reference, ContainerPort (hostPort, hostIP); Kubernetes
documentation, "Configuration Best Practices" (hostPort).
"""

from refk8s.core.scheduler.needs import ANY_ADDRESS, HostPort, Needs
from refk8s.core.scheduler.reasons import Refusal
from refk8s.core.scheduler.snapshot import Load, NodeFacts

REFUSAL = Refusal(
    "NodePorts", ("node(s) didn't have free ports for the requested pod ports",), resolvable=True
)


def check(needs: Needs, facts: NodeFacts, load: Load) -> Refusal | None:
    """SCHED-8."""
    if not needs.ports or not load.ports:
        return None
    return (
        REFUSAL
        if any(clash(wanted, taken) for wanted in needs.ports for taken in load.ports)
        else None
    )


def clash(one: HostPort, other: HostPort) -> bool:
    if one.port != other.port or one.protocol != other.protocol:
        return False
    return one.address == other.address or ANY_ADDRESS in (one.address, other.address)
