"""The simulated runtime on a real clock: what `refk8s run --adapter fake` drives. It holds one `World` and moves it.

Operations are answered at once, except what the world says takes time (a slow pull, a container that is slow to stop).
"""

import asyncio
from collections.abc import Callable

from refk8s.adapters.fake.world import World
from refk8s.core.context import SECOND, Chance, Instant
from refk8s.core.ports import Later, Operation, Result


class FakeRuntime:
    """One simulated node. `now` reads the clock; it must be made and used inside a running event loop."""

    def __init__(self, world: World, now: Callable[[], Instant], chance: Chance) -> None:
        self.world = world
        self._now = now
        self._chance = chance
        self._changed: Callable[[tuple[str, ...]], None] = lambda uids: None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at: Instant | None = None
        self._closed = False

    def listen(self, changed: Callable[[tuple[str, ...]], None]) -> None:
        """Call this with pod uids when containers end by themselves."""
        self._changed = changed

    def run(self, operation: Operation, done: Callable[[Result], None]) -> None:
        """Carry out one operation; `done` gets its result, now or when it is there."""
        if self._closed:
            return
        self.world, result = self.world.carry_out(operation, self._now(), self._chance)
        if isinstance(result, Later):
            delay = max(0, result.at - self._now()) / SECOND
            asyncio.get_running_loop().call_later(delay, self.run, operation, done)
        else:
            done(result)
        self._set_timer()

    def close(self) -> None:
        """Nothing more happens."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()

    def _set_timer(self) -> None:
        at = self.world.next_change()
        if at == self._timer_at:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._timer_at = None, at
        if at is not None:
            self._timer = asyncio.get_running_loop().call_later(max(0, at - self._now()) / SECOND, self._let_time_pass)

    def _let_time_pass(self) -> None:
        self._timer, self._timer_at = None, None
        if self._closed:
            return
        self.world, changed = self.world.advance(self._now())
        if changed:
            self._changed(changed)
        self._set_timer()
