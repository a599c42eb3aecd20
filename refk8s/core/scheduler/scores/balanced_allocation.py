"""A node with balanced use of CPU and memory has more points. Rule SCHED-13 (spec/scheduler.md).

Source: Kubernetes documentation, "Scheduler Configuration" (NodeResourcesBalancedAllocation).
"""

from refk8s.core.scheduler.needs import Needs
from refk8s.core.scheduler.snapshot import Load, NodeFacts


def points(needs: Needs, facts: NodeFacts, load: Load) -> int:
    """SCHED-13: 100 less the standard deviation (in percent) of the two requested shares; 0 for a
    pod that requests neither."""
    if needs.is_best_effort:
        return 0
    if not facts.cpu or not facts.memory:
        return 100
    # The deviation of two numbers is half their difference. Whole numbers give the same result on
    # every machine.
    cpu, memory = (
        min(load.cpu + needs.cpu, facts.cpu),
        min(load.memory + needs.memory, facts.memory),
    )
    difference, whole = abs(cpu * facts.memory - memory * facts.cpu), 2 * facts.cpu * facts.memory
    return 100 * (whole - difference) // whole
