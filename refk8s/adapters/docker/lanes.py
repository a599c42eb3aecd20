"""In which order operations are carried out: those of one pod one after another, those of different pods at the same time. Rule RT-4.

A lane belongs to the event loop's thread; the work is done in a few threads, and the result comes back into the loop's thread.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

log = logging.getLogger("refk8s")

Work = Callable[[], Any]
Then = Callable[[Any], None]


class Lanes:
    """Lanes of work by name, over a pool of threads. Make and use it in the event loop's thread."""

    def __init__(self, threads: int, name: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._lanes: dict[str, deque[tuple[Work, Then]]] = {}
        self._closed = False

    def put(self, lane: str, work: Work, then: Then) -> None:
        """Do the work after all that was put into this lane before; then call `then` with what it returned."""
        waiting = self._lanes.get(lane)
        if waiting is None:
            self._lanes[lane] = deque()
            self._begin(lane, work, then)
        else:
            waiting.append((work, then))

    def put_aside(self, work: Work, then: Then) -> None:
        """Do the work in no order with anything else."""
        if not self._closed:
            self._pool.submit(self._do, None, work, then)

    def _begin(self, lane: str, work: Work, then: Then) -> None:
        if not self._closed:
            self._pool.submit(self._do, lane, work, then)

    def _do(self, lane: str | None, work: Work, then: Then) -> None:
        result, error = None, None
        try:
            result = work()
        except BaseException as problem:
            error = problem
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._done, lane, then, result, error)

    def _done(self, lane: str | None, then: Then, result: Any, error: BaseException | None) -> None:
        if lane is not None:
            waiting = self._lanes[lane]
            if waiting:
                self._begin(lane, *waiting.popleft())
            else:
                del self._lanes[lane]
        if self._closed:
            return
        if error is not None:
            log.error("an operation met a bug of ours", exc_info=error)
            result = error
        then(result)

    def close(self) -> None:
        """Begin nothing more; what is under way ends in its thread, and nobody hears of it."""
        self._closed = True
        self._lanes.clear()
        self._pool.shutdown(wait=False, cancel_futures=True)
