"""Executes the operations of one pod in order, and those of different pods concurrently. Rule RT-4.

A lane is used in the event loop's thread. A few worker threads do the work, and the result is
passed to the loop's thread. The workers are daemon threads, so an engine that never answers does
not prevent the end of this process.
"""

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

log = logging.getLogger("refk8s")

Work = Callable[[], Any]
Then = Callable[[Any], None]
Job = Callable[[], None]


class Workers:
    """A pool of threads; a thread is started when all others are busy."""

    def __init__(self, threads: int, name: str) -> None:
        self._threads_max = threads
        self._name = name
        self._jobs: SimpleQueue[Job] = SimpleQueue()
        self._changed = threading.Condition()
        self._threads = 0
        self._waiting = 0  # jobs that no thread has started
        self._busy = 0

    def submit(self, job: Job) -> None:
        """Execute this as soon as a thread is free."""
        with self._changed:
            self._waiting += 1
            if self._busy + self._waiting > self._threads and self._threads < self._threads_max:
                self._threads += 1
                threading.Thread(
                    target=self._work, name=f"{self._name}-{self._threads}", daemon=True
                ).start()
        self._jobs.put(job)

    def _work(self) -> None:
        while True:
            job = self._jobs.get()
            with self._changed:
                self._waiting, self._busy = self._waiting - 1, self._busy + 1
            try:
                job()
            finally:
                with self._changed:
                    self._busy -= 1
                    self._changed.notify_all()

    def wait(self, seconds: float) -> bool:
        """Wait until all jobs are done; False after the timeout. Called in another thread."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting and not self._busy, seconds)


class Lanes:
    """Named lanes over a few threads. Create and use it in the event loop's thread."""

    def __init__(self, threads: int, name: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._workers = Workers(threads, name)
        self._lanes: dict[str, deque[tuple[Work, Then]]] = {}
        self._closed = False

    def put(self, lane: str, work: Work, then: Then) -> None:
        """Do the work after the earlier work of this lane, then call `then` with its result."""
        waiting = self._lanes.get(lane)
        if waiting is None:
            self._lanes[lane] = deque()
            self._begin(lane, work, then)
        else:
            waiting.append((work, then))

    def put_aside(self, work: Work, then: Then) -> None:
        """Do the work outside the lanes, in any order."""
        self._begin(None, work, then)

    def _begin(self, lane: str | None, work: Work, then: Then) -> None:
        if not self._closed:
            self._workers.submit(lambda: self._do(lane, work, then))

    def _do(self, lane: str | None, work: Work, then: Then) -> None:
        if self._closed:
            return
        result, error = None, None
        try:
            result = work()
        except BaseException as problem:
            error = problem
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._done, lane, then, result, error)

    def _done(self, lane: str | None, then: Then, result: Any, error: BaseException | None) -> None:
        if self._closed:
            return
        if lane is not None:
            waiting = self._lanes[lane]
            if waiting:
                self._begin(lane, *waiting.popleft())
            else:
                del self._lanes[lane]
        if error is not None:
            log.error("an operation failed with an internal error", exc_info=error)
            result = error
        then(result)

    def close(self) -> None:
        """Start no further work; the results of running work are discarded."""
        self._closed = True
        self._lanes.clear()

    def wait(self, seconds: float) -> bool:
        """Wait for the work that was running at `close`; False after the timeout.

        Called in another thread.
        """
        return self._workers.wait(seconds)
