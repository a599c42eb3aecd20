"""A node with more free CPU and memory has more points. Rule SCHED-12 (spec/scheduler.md).

Containers without requests count as 100m and 200Mi, so that they are spread too. Source: Kubernetes
documentation, "Scheduler Configuration" (NodeResourcesFit, strategy LeastAllocated).
"""

from refk8s.core.scheduler.needs import Needs
from refk8s.core.scheduler.snapshot import Load, NodeFacts


def points(needs: Needs, facts: NodeFacts, load: Load) -> int:
    """SCHED-12: 0 (full) to 100 (empty), the mean of the free shares with the pod on the node. A
    resource that the node does not have is not counted."""
    cpu, memory = load.scored_cpu + needs.scored_cpu, load.scored_memory + needs.scored_memory
    if facts.cpu and facts.memory:
        return (_free(cpu, facts.cpu) + _free(memory, facts.memory)) // 2
    return _free(cpu, facts.cpu) if facts.cpu else _free(memory, facts.memory)


def _free(taken: int, allocatable: int) -> int:
    """In percent; 0 of a resource that the node does not have."""
    return (allocatable - taken) * 100 // allocatable if taken < allocatable else 0
