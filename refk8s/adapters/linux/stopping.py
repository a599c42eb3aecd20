"""Stops containers: SIGTERM, then SIGKILL after the grace period, without a waiting thread.

Rule RT-11. A later request can shorten the remaining grace period, but never lengthens it. All
requests get the result. The engine's events report the end of a container; when the event stream
breaks, the containers are inspected.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from refk8s.adapters.linux.lanes import Lanes
from refk8s.core.ports import EXITED, ContainerStatus, Done, Failed, Result

LOOK_AGAIN_SECONDS = 2.0
KILLS_MAX = 10

Outcome = ContainerStatus | Failed | None


class Stop:
    """One container that is being stopped."""

    __slots__ = ("asked", "at", "kills", "timer")

    def __init__(self) -> None:
        self.at = float("inf")
        self.timer: asyncio.TimerHandle | None = None
        self.asked: list[Callable[[Result], None]] = []
        self.kills = 0


class Stopping:
    """All running stops. Used in the event loop's thread.

    `terminate`, `kill` and `look` are called in worker threads.
    """

    def __init__(
        self,
        lanes: Lanes,
        terminate: Callable[[str], Outcome],
        kill: Callable[[str], Outcome],
        look: Callable[[str], Outcome],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._lanes = lanes
        self._terminate = terminate
        self._kill = kill
        self._look = look
        self._stops: dict[str, Stop] = {}

    def __contains__(self, id: str) -> bool:
        return id in self._stops

    def stop(
        self, lane: str, id: str, grace_seconds: float, done: Callable[[Result], None]
    ) -> None:
        """Stop this container within its grace period (RT-11)."""
        stop = self._stops.get(id)
        first = stop is None
        if stop is None:
            stop = self._stops[id] = Stop()
        stop.asked.append(done)
        self._hurry(id, stop, self._loop.time() + max(0.0, grace_seconds))
        if first:
            self._lanes.put(
                lane, lambda: self._terminate(id), lambda outcome: self._saw(id, outcome)
            )

    def ended(self, id: str) -> None:
        """The engine reports its end: read its exit status."""
        if id in self._stops:
            self._lanes.put_aside(lambda: self._look(id), lambda outcome: self._saw(id, outcome))

    def look_at_all(self) -> None:
        """Inspect all containers, since events may have been missed."""
        for id in list(self._stops):
            self.ended(id)

    def close(self) -> None:
        for stop in self._stops.values():
            if stop.timer is not None:
                stop.timer.cancel()
        self._stops.clear()

    def _hurry(self, id: str, stop: Stop, at: float) -> None:
        if at < stop.at:
            stop.at = at
            if stop.timer is not None:
                stop.timer.cancel()
            stop.timer = self._loop.call_at(at, self._kill_now, id)

    def _kill_now(self, id: str) -> None:
        stop = self._stops.get(id)
        if stop is None:
            return
        stop.kills += 1
        if stop.kills > KILLS_MAX:
            self._finish(
                id, Failed("", f"the container does not end, not even of SIGKILL {KILLS_MAX} times")
            )
            return
        stop.timer = self._loop.call_later(LOOK_AGAIN_SECONDS, self._kill_now, id)
        self._lanes.put_aside(lambda: self._kill(id), lambda outcome: self._saw(id, outcome))

    def _saw(self, id: str, outcome: Any) -> None:
        if outcome is None:
            self._finish(id, Done())
        elif isinstance(outcome, ContainerStatus):
            if outcome.state == EXITED:
                self._finish(id, Done(outcome))
        else:
            self._finish(id, outcome if isinstance(outcome, Failed) else Failed("", str(outcome)))

    def _finish(self, id: str, result: Result) -> None:
        stop = self._stops.pop(id, None)
        if stop is None:
            return
        if stop.timer is not None:
            stop.timer.cancel()
        for done in stop.asked:
            done(result)
