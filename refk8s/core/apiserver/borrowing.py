"""How many seats each priority level has at the moment. Rule FAIR-2 (spec/fair_shares.md).

Every ten seconds the seats are assigned anew by what the levels needed: `Demand` records it,
`smooth` adds a memory of minutes, and `assign` computes the limits. Source: KEP-1040 "Priority and
Fairness for API Server Requests" (Seat Borrowing).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import floor, sqrt
from typing import Final

from refk8s.core.value import Value

PERIOD_SECONDS: Final = 10.0
SMOOTHING: Final = 0.977
"""The part of a smoothed demand that is left after a period: half of it after five minutes."""

TARGET_MIN: Final = 0.001
SLACK: Final = 1e-7


class Observed(Value, frozen=True):
    """The demand for seats in one period: its mean and standard deviation over time, and its
    highest value."""

    average: float = 0.0
    deviation: float = 0.0
    highest: int = 0
    seconds: float = 0.0


class Demand:
    """The seats that requests of a level have or wait for, as a function of time in seconds."""

    __slots__ = ("_area", "_begin", "_highest", "_last", "_square", "value")

    def __init__(self, now: float) -> None:
        self.value = self._highest = 0
        self._area = self._square = 0.0
        self._begin = self._last = now

    def add(self, seats: int, now: float) -> None:
        """More seats are needed from now on, or fewer."""
        value = self.value
        part = value * (now - self._last)
        self._area += part
        self._square += part * value
        self._last = now
        self.value = value = value + seats
        if value > self._highest:
            self._highest = value

    def observe(self, now: float) -> Observed:
        """The demand since the last call; a new period begins."""
        self.add(0, now)
        seconds, highest = now - self._begin, self._highest
        area, square = self._area, self._square
        self._begin, self._area, self._square, self._highest = now, 0.0, 0.0, self.value
        if seconds <= 0:
            return Observed(highest=highest)
        average = area / seconds
        deviation = sqrt(max(0.0, square / seconds - average * average))
        return Observed(average, deviation, highest, seconds)


class Need(Value, frozen=True):
    """What is remembered of the demand of a level: that of the last period, and the smoothed
    one."""

    observed: Observed = Observed()
    smoothed: float = 0.0


def smooth(before: Need, observed: Observed) -> Need:
    """The need after one more period. A rise counts at once, a fall slowly."""
    if observed.seconds <= 0:
        return Need(Observed(highest=observed.highest), before.smoothed)
    envelope = observed.average + observed.deviation
    slow = SMOOTHING * before.smoothed + (1 - SMOOTHING) * envelope
    return Need(observed, max(envelope, slow))


class Bounds(Value, frozen=True):
    """The seats that a level has by its shares, those that it always has, and the most that it may
    have with those that others lend."""

    nominal: int
    least: int
    most: int


class Assigned(Value, frozen=True):
    """The limit of each level by name, what it aimed at, and the part of these aims that all levels
    have in common."""

    limits: Mapping[str, int]
    targets: Mapping[str, float]
    fair_part: float


def assign(bounds: Mapping[str, Bounds], needs: Mapping[str, Need]) -> Assigned | None:
    """The seats of all levels. None if their bounds cannot be met: then the limits stay as they
    are.

    A level has at least what it needed at most in the last period, up to its nominal seats. The
    others are divided so that each level has the same part of its target. O(levels * log levels).
    """
    items = []
    for name, one in bounds.items():
        need = needs[name]
        lower = max(one.least, min(one.nominal, need.observed.highest))
        items.append((float(lower), float(one.most), max(lower, need.smoothed)))
    divided = divide(sum(one.nominal for one in bounds.values()), items)
    if divided is None:
        return None
    parts, fair_part = divided
    return Assigned(
        {name: floor(part + 0.5) for name, part in zip(bounds, parts, strict=True)},
        {name: target for name, (_, _, target) in zip(bounds, items, strict=True)},
        fair_part,
    )


def divide(
    total: int, items: Sequence[tuple[float, float, float]]
) -> tuple[list[float], float] | None:
    """Parts that sum to the total, one for each (lowest, highest, target), and the factor: a part
    is the factor times the target, within the bounds. None if there are no such parts."""
    raised = [(lower, upper, max(target, TARGET_MIN)) for lower, upper, target in items]
    lowest, highest = sum(one[0] for one in raised), sum(one[1] for one in raised)
    if not raised or lowest - total > SLACK or total - highest > SLACK:
        return None
    # The sum of the parts grows with the factor, and is straight between these places.
    places = sorted({bound / target for lower, upper, target in raised for bound in (lower, upper)})
    factor = places[0]
    for place in places:
        if _sum_of(raised, place) >= total:
            break
        factor = place
    else:
        place = places[-1]
    slope = sum(target for low, up, target in raised if low / target <= factor < up / target)
    if slope and factor < place:
        factor = min(place, factor + (total - _sum_of(raised, factor)) / slope)
    else:
        factor = place
    return [_part(one, factor) for one in raised], factor


def _part(item: tuple[float, float, float], factor: float) -> float:
    lower, upper, target = item
    return max(lower, min(upper, factor * target))


def _sum_of(items: Sequence[tuple[float, float, float]], factor: float) -> float:
    return sum(_part(one, factor) for one in items)
