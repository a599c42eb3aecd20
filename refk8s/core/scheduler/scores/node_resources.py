"""The points for the use of resources, by the strategy of a profile. Rules SCHED-12, SCHED-13,
SCHED-52 (spec/scheduler.md, spec/scheduler_profiles.md).

Source: Kubernetes documentation, "Resource Bin Packing", "Scheduler Configuration"
(NodeResourcesFit, NodeResourcesBalancedAllocation).
"""

from collections.abc import Callable, Iterable
from functools import partial
from math import floor, sqrt

from refk8s.core.pods.resources import CPU, EPHEMERAL_STORAGE, MEMORY
from refk8s.core.scheduler.arguments import (
    CPU_AND_MEMORY,
    LEAST_ALLOCATED,
    MOST_ALLOCATED,
    Shape,
    Strategy,
    Weighted,
)
from refk8s.core.scheduler.needs import Needs
from refk8s.core.scheduler.scores import balanced_allocation, least_allocated
from refk8s.core.scheduler.snapshot import Load, NodeFacts

Points = Callable[[Needs, NodeFacts, Load], int]
PERCENT = 100
SHAPE_SCORE_MAX = 10  # a point of a shape has 0 to 10, which are 0 to 100 points


def fit_points(strategy: Strategy) -> Points:
    """SCHED-12, SCHED-52: the points of NodeResourcesFit with this strategy."""
    if strategy.type == LEAST_ALLOCATED and strategy.resources == CPU_AND_MEMORY:
        return least_allocated.points
    if strategy.type == LEAST_ALLOCATED:
        return partial(_mean, strategy.resources, _free, False)
    if strategy.type == MOST_ALLOCATED:
        return partial(_mean, strategy.resources, _used, False)
    return partial(_mean, strategy.resources, partial(_on_line, strategy.shape), True)


def balanced_points(resources: tuple[str, ...]) -> Points:
    """SCHED-13, SCHED-52: the points of NodeResourcesBalancedAllocation for these resources."""
    if resources == (CPU, MEMORY):
        return balanced_allocation.points
    return partial(_balance, resources)


def _mean(
    resources: Weighted,
    function: Callable[[int, int], int],
    without_zeros: bool,
    needs: Needs,
    facts: NodeFacts,
    load: Load,
) -> int:
    """The weighted mean of the points of each resource that the node has; `without_zeros`: only of
    those with points, and rounded to the nearest."""
    total = weights = 0
    for name, weight in resources:
        taken, allocatable = _amounts(name, needs, facts, load, scored=True)
        if not allocatable:
            continue
        points = function(taken, allocatable)
        if points or not without_zeros:
            total += weight * points
            weights += weight
    if not weights:
        return 0
    return floor(total / weights + 0.5) if without_zeros else total // weights


def _balance(resources: tuple[str, ...], needs: Needs, facts: NodeFacts, load: Load) -> int:
    """100 less the standard deviation (in percent) of the requested shares."""
    if not any(_request(name, needs, scored=False) for name in resources):
        return 0
    shares = [
        min(taken / allocatable, 1.0)
        for taken, allocatable in _all_amounts(resources, needs, facts, load)
    ]
    if len(shares) == 2:
        return int((1 - abs((shares[0] - shares[1]) / 2)) * PERCENT)
    if len(shares) < 2:
        return PERCENT
    mean = sum(shares) / len(shares)
    deviation = sqrt(sum([(share - mean) * (share - mean) for share in shares]) / len(shares))
    return int((1 - deviation) * PERCENT)


def _all_amounts(
    resources: Iterable[str], needs: Needs, facts: NodeFacts, load: Load
) -> list[tuple[int, int]]:
    found = [_amounts(name, needs, facts, load, scored=False) for name in resources]
    return [(taken, allocatable) for taken, allocatable in found if allocatable]


def _request(name: str, needs: Needs, scored: bool) -> int:
    if name == CPU:
        return needs.scored_cpu if scored else needs.cpu
    if name == MEMORY:
        return needs.scored_memory if scored else needs.memory
    if name == EPHEMERAL_STORAGE:
        return needs.ephemeral_storage
    return needs.extended.get(name, 0)


def _amounts(
    name: str, needs: Needs, facts: NodeFacts, load: Load, scored: bool
) -> tuple[int, int]:
    """(requested with the pod, allocatable); an extended resource that the pod does not request
    counts as one that the node does not have."""
    request = _request(name, needs, scored)
    if name == CPU:
        return (load.scored_cpu if scored else load.cpu) + request, facts.cpu
    if name == MEMORY:
        return (load.scored_memory if scored else load.memory) + request, facts.memory
    if name == EPHEMERAL_STORAGE:
        return load.ephemeral_storage + request, facts.ephemeral_storage
    if not request:
        return 0, 0
    return load.extended.get(name, 0) + request, facts.extended.get(name, 0)


def _free(taken: int, allocatable: int) -> int:
    return (allocatable - taken) * PERCENT // allocatable if taken <= allocatable else 0


def _used(taken: int, allocatable: int) -> int:
    return min(taken, allocatable) * PERCENT // allocatable


def _on_line(shape: Shape, taken: int, allocatable: int) -> int:
    """The height of the line at the requested share; beyond the last point it is that of the point,
    so also beyond the node's capacity."""
    share = taken * PERCENT // allocatable
    before: tuple[int, int] | None = None
    for utilization, score in shape:
        height = score * PERCENT // SHAPE_SCORE_MAX
        if share <= utilization:
            if before is None:
                return height
            # rounded towards zero, also where the line falls
            rise = (height - before[1]) * (share - before[0])
            return before[1] + int(rise / (utilization - before[0]))
        before = (utilization, height)
    return before[1] if before is not None else 0
