"""Predicates of autoscalers. Rules HPA-8, HPA-10 (spec/workloads/autoscaler.md).

request   the scale that an autoscaler requests for its target
"""

from collections.abc import Iterator, Sequence
from typing import Any

from refk8s.core.context import SECOND, Instant
from refk8s.core.value import Value

DOWN_WINDOW_SECONDS = 300


class Scaling(Value, frozen=True):
    """A change of the target that the status of its autoscaler reports, at a whole second."""

    at: Instant
    before: int
    after: int


def hpa_8_does_not_flap(
    hpa: Any, scalings: Sequence[Scaling], replicas: int, now: Instant
) -> Iterator[str]:
    """Fewer replicas than a scale-up within the window has led to are not requested.

    `now` is a whole second too. `scalings`: all that the autoscaler did with its present spec, and
    nothing else has scaled the target. Without `behavior` replicas may be added because of an
    earlier recommendation, so only those scale-ups count that come a whole window after the change
    before.
    """
    behavior = hpa.spec.behavior
    rules = behavior.scale_down if behavior is not None else None
    seconds = rules.stabilization_window_seconds if rules is not None else None
    window = (DOWN_WINDOW_SECONDS if seconds is None else seconds) * SECOND
    before: Instant | None = None
    for one in scalings:
        is_recommended = behavior is not None or before is None or before + window < one.at
        before = one.at
        floor = min(one.after, hpa.spec.max_replicas)
        if one.after > one.before and is_recommended and one.at > now - window and replicas < floor:
            yield (
                f"{hpa.metadata.name} asks for {replicas} replicas, and {(now - one.at) // SECOND}"
                f" seconds ago it went from {one.before} to {one.after}"
            )


def hpa_10_scales_within_its_bounds(hpa: Any, replicas: int) -> Iterator[str]:
    """The number that is requested is within minReplicas and maxReplicas."""
    least = 1 if hpa.spec.min_replicas is None else hpa.spec.min_replicas
    if not least <= replicas <= hpa.spec.max_replicas:
        yield (
            f"{hpa.metadata.name} asks for {replicas} replicas; "
            f"its bounds are {least} and {hpa.spec.max_replicas}"
        )
