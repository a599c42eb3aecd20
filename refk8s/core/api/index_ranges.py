"""Sets of completion indexes in the text form of a Job's status: `1,3-5`. Rule JOB-6
(spec/workloads/job.md).

A set is a sorted tuple of closed intervals that neither overlap nor touch, so its size depends on
the gaps and not on `spec.completions`. Source: API reference, "JobStatus" (completedIndexes).
"""

from bisect import bisect_right
from collections.abc import Iterable

Ranges = tuple[tuple[int, int], ...]

EMPTY: Ranges = ()
DIGITS_MAX = 10


def parse_ranges(text: str, completions: int) -> Ranges:
    """The indexes below `completions` in a text. Parts that are not intervals are left out: the
    text may come from an older version or another writer. O(n log n)."""
    found: list[tuple[int, int]] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        start, end = _number(first), _number(last if dash else first)
        if start is not None and end is not None and start <= end and start < completions:
            found.append((start, min(end, completions - 1)))
    return _joined(found)


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= DIGITS_MAX else None


def _joined(intervals: Iterable[tuple[int, int]]) -> Ranges:
    """The union of intervals in any order."""
    result: list[tuple[int, int]] = []
    for start, end in sorted(intervals):
        if result and start <= result[-1][1] + 1:
            result[-1] = (result[-1][0], max(end, result[-1][1]))
        else:
            result.append((start, end))
    return tuple(result)


def format_ranges(ranges: Ranges) -> str:
    """The text: an interval of two indexes is written as two numbers."""
    return ",".join(
        str(start) if start == end else f"{start},{end}" if end == start + 1 else f"{start}-{end}"
        for start, end in ranges
    )


def with_indexes(ranges: Ranges, indexes: Iterable[int]) -> Ranges:
    """The set with these indexes too. O(n log n)."""
    return _joined([*ranges, *((index, index) for index in indexes)])


def union(left: Ranges, right: Ranges) -> Ranges:
    """The indexes in one of both sets."""
    return _joined([*left, *right])


def intersection_size(left: Ranges, right: Ranges) -> int:
    """The number of indexes in both sets. O(n + m)."""
    total = i = j = 0
    while i < len(left) and j < len(right):
        total += max(0, min(left[i][1], right[j][1]) - max(left[i][0], right[j][0]) + 1)
        if left[i][1] < right[j][1]:
            i += 1
        else:
            j += 1
    return total


def size(ranges: Ranges) -> int:
    """The number of indexes."""
    return sum(end - start + 1 for start, end in ranges)


def contains(ranges: Ranges, index: int) -> bool:
    """Whether the set has this index. O(log n)."""
    position = bisect_right(ranges, index, key=_start)
    return position > 0 and index <= ranges[position - 1][1]


def _start(interval: tuple[int, int]) -> int:
    return interval[0]


def first_missing(ranges: Ranges, count: int, completions: int) -> list[int]:
    """The lowest indexes below `completions` that the set lacks, at most `count`. O(n + count)."""
    found: list[int] = []
    following = 0
    for start, end in (*ranges, (completions, completions)):
        found.extend(range(following, min(start, following + count - len(found), completions)))
        following = end + 1
    return found
