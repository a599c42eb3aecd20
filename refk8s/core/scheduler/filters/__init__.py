"""The filters: whether a node can run a pod, one file each. Rules SCHED-5 to SCHED-9, SCHED-30 to
SCHED-32, SCHED-53 (spec/scheduler.md, spec/scheduler_profiles.md).

A filter returns the refusal, or None. They are evaluated in this order, and the first refusal is
the reason for the node. The filters of `by_node` depend only on the Node object, those of `by_load`
also on the pods of the node. The last ones, topology_spread and pod_affinity, depend on the pods of
all nodes. Source: Kubernetes documentation, "Scheduler Configuration" (scheduling plugins enabled
by default), and their order there. The filter of volumes is in `volumes.py`, that of devices in
`../claims.py`. Left out: NodeName (a pod with a node is not scheduled).
"""

from collections.abc import Callable, Collection
from functools import partial

from refk8s.core.scheduler.arguments import Arguments
from refk8s.core.scheduler.filters import (
    node_affinity,
    node_ports,
    node_resources,
    node_unschedulable,
    taints,
)
from refk8s.core.scheduler.needs import Needs
from refk8s.core.scheduler.reasons import Refusal
from refk8s.core.scheduler.snapshot import Load, NodeFacts

NodeCheck = Callable[[Needs, NodeFacts], Refusal | None]
LoadCheck = Callable[[Needs, NodeFacts, Load], Refusal | None]


def by_node(enabled: Collection[str], arguments: Arguments) -> tuple[tuple[str, NodeCheck], ...]:
    """The enabled filters that depend only on the node, with the names of their plugins."""
    checks: list[tuple[str, NodeCheck]] = [
        ("NodeAffinity", node_affinity.check_name),
        ("NodeUnschedulable", node_unschedulable.check),
        ("TaintToleration", taints.check),
    ]
    if arguments.added_terms is not None:
        checks.append(("NodeAffinity", partial(node_affinity.check_added, arguments.added_terms)))
    checks.append(("NodeAffinity", node_affinity.check))
    return tuple([(name, check) for name, check in checks if name in enabled])


def by_load(enabled: Collection[str], arguments: Arguments) -> tuple[tuple[str, LoadCheck], ...]:
    """The enabled filters that depend on the node and its pods."""
    fit: LoadCheck = node_resources.check
    if arguments.ignored_resources or arguments.ignored_groups:
        fit = partial(
            node_resources.check_besides, arguments.ignored_resources, arguments.ignored_groups
        )
    checks: list[tuple[str, LoadCheck]] = [
        ("NodePorts", node_ports.check),
        ("NodeResourcesFit", fit),
    ]
    return tuple([(name, check) for name, check in checks if name in enabled])
