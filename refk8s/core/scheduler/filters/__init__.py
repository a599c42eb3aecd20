"""The filters: whether a pod may run on a node, one file each. Rules SCHED-5 to SCHED-9, SCHED-30
to SCHED-32 (spec/scheduler.md).

A filter gives the reasons against, none when there are none. They are asked in this order, and the
first that objects speaks for the node. Those of `BY_NODE` look at the node's own facts alone, so
their answer holds as long as the Node object does; those of `BY_LOAD` also at what its pods take.
Last come topology_spread and pod_affinity, which look at the pods of all nodes. Source: Kubernetes
documentation, "Scheduler Configuration" (scheduling plugins enabled by default), and their order
there. Left out: NodeName (a pod that names its node never meets a scheduler); the volume plugins;
dynamic resources.
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
