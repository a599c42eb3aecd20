"""The thread in which a store waits for the disk."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread

Job = tuple[Callable[[], None], Callable[[Exception | None], None]]


class Writer:
    """Runs functions in a thread, one after the other. It is started by the first."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._thread: Thread | None = None

    def run(self, function: Callable[[], None], done: Callable[[Exception | None], None]) -> None:
        """Call the function in the thread, and then `done` in the event loop, with its error."""
        if self._thread is None:
            self._thread = Thread(target=self._work, name="store", daemon=True)
            self._thread.start()
        self._jobs.put((function, done))

    def close(self) -> None:
        """End the thread after its last function."""
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            function, done = job
            problem: Exception | None = None
            try:
                function()
            except Exception as error:
                problem = error
            with suppress(RuntimeError):  # the loop is closed, and no request waits
                self._loop.call_soon_threadsafe(done, problem)
