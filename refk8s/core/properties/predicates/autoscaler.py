"""Predicates of autoscalers. Rule HPA-10 (spec/workloads/autoscaler.md).

request   the scale that an autoscaler requests for its target
"""

from collections.abc import Iterator
from typing import Any


def hpa_10_scales_within_its_bounds(hpa: Any, replicas: int) -> Iterator[str]:
    """The number that is requested is within minReplicas and maxReplicas."""
    least = 1 if hpa.spec.min_replicas is None else hpa.spec.min_replicas
    if not least <= replicas <= hpa.spec.max_replicas:
        yield (
            f"{hpa.metadata.name} asks for {replicas} replicas; "
            f"its bounds are {least} and {hpa.spec.max_replicas}"
        )
