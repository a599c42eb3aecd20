"""The filters: whether a node can run a pod, one file each. Rules SCHED-5 to SCHED-9, SCHED-30 to
SCHED-32 (spec/scheduler.md).

A filter returns the refusal, or None. They are evaluated in this order, and the first refusal is
the reason for the node. Filters in `BY_NODE` depend only on the Node object, those in `BY_LOAD`
also on the pods of the node. The last ones, topology_spread and pod_affinity, depend on the pods of
all nodes. Source: Kubernetes documentation, "Scheduler Configuration" (scheduling plugins enabled
by default), and their order there. The volume plugins are in `volumes.py`. Left out: NodeName (a
pod with a node is not scheduled); dynamic resources.
"""

from collections.abc import Callable

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

BY_NODE: tuple[Callable[[Needs, NodeFacts], Refusal | None], ...] = (
    node_affinity.check_name,
    node_unschedulable.check,
    taints.check,
    node_affinity.check,
)
BY_LOAD: tuple[Callable[[Needs, NodeFacts, Load], Refusal | None], ...] = (
    node_ports.check,
    node_resources.check,
)
