"""Two pods of a node never have the same host port. Rule SCHED-8 (spec/scheduler.md).

Ports are the same if number and protocol are equal, and the addresses are equal or one is 0.0.0.0
(the default). Source: API reference, ContainerPort (hostPort, hostIP); Kubernetes documentation,
"Configuration Best Practices" (hostPort).
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
