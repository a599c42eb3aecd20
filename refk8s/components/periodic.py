"""Work of the process that is repeated as long as it runs."""

import asyncio
import logging
from abc import ABC, abstractmethod

log = logging.getLogger("refk8s")


class Periodic(ABC):
    """Repeats a round in a task. An exception is logged, and the next round follows after a
    pause."""

    subject = ""  # of the log entry
    failure_pause_seconds = 10.0
    _task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start the first round now."""
        self._task = asyncio.create_task(self._repeat())

    def stop(self) -> None:
        """Stop, also in the middle of a round."""
        if self._task is not None:
            self._task.cancel()

    @abstractmethod
    async def round(self) -> float:
        """One round; returns the seconds until the next."""

    async def _repeat(self) -> None:
        while True:
            pause_seconds = self.failure_pause_seconds
            try:
                pause_seconds = await self.round()
            except Exception:
                log.exception("%s failed with an internal error", self.subject)
            await asyncio.sleep(pause_seconds)
