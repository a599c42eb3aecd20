"""How fast an autoscaler follows its metrics: windows, policies and bounds. Rules HPA-8 to HPA-10
(spec/workloads/autoscaler.md).

Source: Kubernetes documentation, "Horizontal Pod Autoscaling" (configurable scaling behavior,
stabilization window); KEP-853. Left out: nothing.
"""

from collections.abc import Callable, Iterable
from math import ceil

from refk8s.core.api.autoscaling_v2 import (
    HorizontalPodAutoscalerBehavior,
    HPAScalingPolicy,
    HPAScalingRules,
)
from refk8s.core.context import MINUTE, SECOND, Instant
from refk8s.core.value import Value

DOWN_WINDOW: Instant = 5 * MINUTE
"""The stabilization window of scaling down, unless one is given."""
UP_FACTOR, UP_LEAST = 2, 4
"""Without a behavior, the replicas at most double, or grow to four."""
REPLICAS_MAX = 2**31 - 1
RECORDS_MAX = 1024

Record = tuple[Instant, int]
"""A recommendation, or a change of the number of replicas, and when it was."""


class Limited(Value, frozen=True):
    """The number of replicas after the limits, and why, as reason and message of the conditions."""

    replicas: int
    stabilized: int
    able_reason: str
    able_message: str
    limit_reason: str
    limit_message: str


READY = ("ReadyForNewScale", "recommended size matches current size")
DOWN_STABILIZED = ("ScaleDownStabilized", "recent recommendations were higher than current one, applying the highest recent recommendation")  # fmt: skip
UP_STABILIZED = ("ScaleUpStabilized", "recent recommendations were lower than current one, applying the lowest recent recommendation")  # fmt: skip
WITHIN = ("DesiredWithinRange", "the desired count is within the acceptable range")
TOO_FEW = ("TooFewReplicas", "the desired replica count is less than the minimum replica count")
TOO_MANY = ("TooManyReplicas", "the desired replica count is more than the maximum replica count")
UP_LIMIT = (
    "ScaleUpLimit",
    "the desired replica count is increasing faster than the maximum scale rate",
)
DOWN_LIMIT = (
    "ScaleDownLimit",
    "the desired replica count is decreasing faster than the maximum scale rate",
)


def limit(
    behavior: HorizontalPodAutoscalerBehavior | None,
    current: int,
    desired: int,
    least: int,
    most: int,
    recommendations: Iterable[Record],
    ups: Iterable[Record],
    downs: Iterable[Record],
    now: Instant,
) -> Limited:
    """The desired number within windows, policies and bounds. `recommendations` are earlier ones;
    `ups` and `downs` the earlier changes, as positive numbers."""
    past = tuple(recommendations)
    if behavior is None:
        stabilized = max([desired, *(n for at, n in past if at > now - DOWN_WINDOW)])
        able = READY if stabilized == desired else DOWN_STABILIZED
        replicas, why = _bounded(current, stabilized, least, most)
    else:
        up, down = behavior.scale_up or HPAScalingRules(), behavior.scale_down or HPAScalingRules()
        stabilized = _stabilized(up, down, current, desired, past, now)
        able = READY
        if stabilized != desired:
            able = UP_STABILIZED if desired >= current else DOWN_STABILIZED
        changes = tuple(ups), tuple(downs)
        replicas, why = _at_rate(up, down, current, stabilized, least, most, changes, now)
    return Limited(replicas, stabilized, *able, *why)


def window_of(rules: HPAScalingRules | None, default: Instant) -> Instant:
    seconds = rules.stabilization_window_seconds if rules is not None else None
    return default if seconds is None else seconds * SECOND


def remembered(
    behavior: HorizontalPodAutoscalerBehavior | None, records: Iterable[Record], now: Instant
) -> tuple[Record, ...]:
    """The recommendations that are within a window, the last RECORDS_MAX of them."""
    longest = DOWN_WINDOW
    if behavior is not None:
        up = window_of(behavior.scale_up, 0)
        longest = max(up, window_of(behavior.scale_down, DOWN_WINDOW))
    return tuple([one for one in records if one[0] > now - longest][-RECORDS_MAX:])


def remembered_changes(
    rules: HPAScalingRules | None, records: Iterable[Record], now: Instant
) -> tuple[Record, ...]:
    """The changes that are within the period of a policy."""
    policies = (rules.policies if rules is not None else None) or ()
    longest = max((policy.period_seconds for policy in policies), default=0) * SECOND
    return tuple([one for one in records if one[0] > now - longest][-RECORDS_MAX:])


def _stabilized(
    up: HPAScalingRules,
    down: HPAScalingRules,
    current: int,
    desired: int,
    past: tuple[Record, ...],
    now: Instant,
) -> int:
    """HPA-8: at least the lowest recent recommendation of one window, at most the highest of the
    other; between them, the number stays."""
    up_from, down_from = now - window_of(up, 0), now - window_of(down, DOWN_WINDOW)
    lowest = min([desired, *(n for at, n in past if at > up_from)])
    highest = max([desired, *(n for at, n in past if at > down_from)])
    return min(max(current, lowest), highest)


def _bounded(current: int, desired: int, least: int, most: int) -> tuple[int, tuple[str, str]]:
    """HPA-10, without a behavior."""
    fastest = max(UP_FACTOR * current, UP_LEAST)
    upper, why = (fastest, UP_LIMIT) if most > fastest else (most, TOO_MANY)
    if desired < least:
        return least, TOO_FEW
    return (upper, why) if desired > upper else (desired, WITHIN)


def _at_rate(
    up: HPAScalingRules,
    down: HPAScalingRules,
    current: int,
    desired: int,
    least: int,
    most: int,
    changes: tuple[tuple[Record, ...], tuple[Record, ...]],
    now: Instant,
) -> tuple[int, tuple[str, str]]:
    """HPA-9, HPA-10: within the policies of the direction, and within the bounds."""
    if desired > current:
        fastest = max(_limit_of(up, current, changes, now, _grown, (max, min)), current)
        upper, why = (fastest, UP_LIMIT) if most > fastest else (most, TOO_MANY)
        return (upper, why) if desired > upper else (desired, WITHIN)
    if desired < current:
        slowest = min(_limit_of(down, current, changes, now, _shrunk, (min, max)), current)
        lower, why = (slowest, DOWN_LIMIT) if least < slowest else (least, TOO_FEW)
        return (lower, why) if desired < lower else (desired, WITHIN)
    return desired, WITHIN


def _grown(policy: HPAScalingPolicy, start: int) -> int:
    if policy.type == "Pods":
        return start + policy.value
    return ceil(start * (1.0 + policy.value / 100.0))


def _shrunk(policy: HPAScalingPolicy, start: int) -> int:
    if policy.type == "Pods":
        return start - policy.value
    return int(start * (1.0 - policy.value / 100.0))


Choice = Callable[[Iterable[int]], int]


def _limit_of(
    rules: HPAScalingRules,
    current: int,
    changes: tuple[tuple[Record, ...], tuple[Record, ...]],
    now: Instant,
    change: Callable[[HPAScalingPolicy, int], int],
    choices: tuple[Choice, Choice],
) -> int:
    """How far the policies allow to go; each starts from the replicas at the start of its
    period."""
    policies = rules.policies or ()
    if rules.select_policy == "Disabled" or not policies:
        return current
    found: list[int] = []
    for policy in policies:
        since = now - policy.period_seconds * SECOND
        added, removed = (sum(n for at, n in one if at > since) for one in changes)
        found.append(min(change(policy, current - added + removed), REPLICAS_MAX))
    return choices[1 if rules.select_policy == "Min" else 0](found)
