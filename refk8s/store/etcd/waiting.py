"""Callers that wait until the reads here have reached a revision. Rule ETCD-6 (spec/etcd.md)."""

from __future__ import annotations

import asyncio
from heapq import heappop, heappush
from itertools import count

from refk8s.core.store import Revision


class Waiting:
    """Futures, each for a revision. They are completed in the order of revisions."""

    def __init__(self) -> None:
        self._heap: list[tuple[Revision, int, asyncio.Future[None]]] = []
        self._numbers = count()

    def until(self, revision: Revision) -> asyncio.Future[None]:
        """A future that is done once `reached` has had this revision or a later one."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heappush(self._heap, (revision, next(self._numbers), future))
        return future

    def reached(self, revision: Revision) -> None:
        """Complete the futures up to this revision."""
        heap = self._heap
        while heap and heap[0][0] <= revision:
            future = heappop(heap)[2]
            if not future.done():
                future.set_result(None)
