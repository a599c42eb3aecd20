"""The arguments of the scheduler's plugins, as values with upstream's defaults. Rule SCHED-51
(spec/scheduler_profiles.md).

Source: Kubernetes documentation, "Scheduler Configuration"; kube-scheduler configuration (v1).
"""

from refk8s.core.api.core_v1 import NodeSelectorTerm, TopologySpreadConstraint
from refk8s.core.context import MINUTE, Instant
from refk8s.core.pods.resources import CPU, MEMORY
from refk8s.core.value import Value

LEAST_ALLOCATED, MOST_ALLOCATED = "LeastAllocated", "MostAllocated"
REQUESTED_TO_CAPACITY = "RequestedToCapacityRatio"

Weighted = tuple[tuple[str, int], ...]
"""Names of resources with their weights."""
Shape = tuple[tuple[int, int], ...]
"""Points (utilization in percent, score of 0 to 10) of a broken line, by utilization."""

CPU_AND_MEMORY: Weighted = ((CPU, 1), (MEMORY, 1))


class Strategy(Value, frozen=True):
    """How NodeResourcesFit gives points: the strategy, its resources, and its shape."""

    type: str = LEAST_ALLOCATED
    resources: Weighted = CPU_AND_MEMORY
    shape: Shape = ()


class Arguments(Value, frozen=True):
    """The arguments of all plugins of one profile."""

    # NodeResourcesFit
    strategy: Strategy = Strategy()
    ignored_resources: tuple[str, ...] = ()
    ignored_groups: tuple[str, ...] = ()  # of extended resources: the part before the slash
    # NodeResourcesBalancedAllocation
    balanced: tuple[str, ...] = (CPU, MEMORY)
    # NodeAffinity: addedAffinity
    added_terms: tuple[NodeSelectorTerm, ...] | None = None
    added_preferences: tuple[tuple[int, NodeSelectorTerm], ...] = ()
    # InterPodAffinity
    hard_pod_affinity_weight: int = 1
    ignores_preferences_of_existing: bool = False
    # PodTopologySpread: the constraints of pods without any; None: those of the system (SCHED-27)
    default_constraints: tuple[TopologySpreadConstraint, ...] | None = None
    # VolumeBinding: the time for the volumes of a pod to be bound (SCHED-43)
    bind_timeout: Instant = 10 * MINUTE
    # DynamicResources: the time for the devices of a pod to become ready (DRA-19)
    device_timeout: Instant = 10 * MINUTE
    # DefaultPreemption: the number of nodes that are compared (SCHED-36)
    candidates_percent: int = 10
    candidates_min: int = 100


DEFAULT_ARGUMENTS = Arguments()
