"""How long something took, counted in the buckets of a histogram. Rule HTTP-25 (spec/http.md)."""

from bisect import bisect_left
from itertools import accumulate
from typing import Final

BUCKETS: Final = (
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0,
    15.0, 20.0, 30.0, 45.0, 60.0,
)  # fmt: skip
"""The upper bounds in seconds of upstream's histograms of requests."""


class Durations:
    """The number of durations up to each bound, and their sum. A duration costs one bisection."""

    __slots__ = ("_counts", "seconds")

    def __init__(self) -> None:
        self._counts = [0] * (len(BUCKETS) + 1)
        self.seconds = 0.0

    def add(self, seconds: float) -> None:
        """Count one duration."""
        self._counts[bisect_left(BUCKETS, seconds)] += 1
        self.seconds += seconds

    @property
    def count(self) -> int:
        """How many there were."""
        return sum(self._counts)

    def buckets(self) -> list[tuple[str, float]]:
        """Each bound as text, and how many durations were at most so long."""
        bounds = [f"{bound:g}" for bound in BUCKETS] + ["+Inf"]
        return list(zip(bounds, map(float, accumulate(self._counts)), strict=True))
