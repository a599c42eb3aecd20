"""No two pods of a node take one host port. Rule SCHED-8 (spec/scheduler.md).

Two ports are one when number and protocol are the same and the addresses are, or either is 0.0.0.0
(also meant by none). Source: API reference, ContainerPort (hostPort, hostIP); Kubernetes
documentation, "Configuration Best Practices" (hostPort).
"""

from refk8s.core.pods.host_ports import have_conflict
from refk8s.core.scheduler.needs import Needs
from refk8s.core.scheduler.reasons import Refusal
from refk8s.core.scheduler.snapshot import Load, NodeFacts

REFUSAL = Refusal(
    "NodePorts", ("node(s) didn't have free ports for the requested pod ports",), resolvable=True
)


def check(needs: Needs, facts: NodeFacts, load: Load) -> Refusal | None:
    """SCHED-8."""
    return REFUSAL if needs.ports and have_conflict(needs.ports, load.ports) else None
