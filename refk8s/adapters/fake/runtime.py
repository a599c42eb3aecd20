"""The simulated runtime of `refk8s run --adapter fake`: one `World` on the system clock.

Operations are answered at once, except those to which the world assigns a duration (a slow pull, a
container that stops slowly).
"""

import asyncio
from collections.abc import Callable

from refk8s.adapters.fake.world import World, crash_container
from refk8s.core.context import SECOND, Chance, Instant
from refk8s.core.ports import RUNNING, Later, Operation, Result


class FakeRuntime:
    """One simulated node; `now` reads the clock. Create and use it in a running event loop."""

    def __init__(self, world: World, now: Callable[[], Instant], chance: Chance) -> None:
        self.world = world
        self._now = now
        self._chance = chance
        self._changed: Callable[[tuple[str, ...]], None] = lambda uids: None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at: Instant | None = None
        self._closed = False
        self._ends: dict[str, set[asyncio.Future[None]]] = {}  # by container; done when it ends

    def listen(self, changed: Callable[[tuple[str, ...]], None]) -> None:
        """Call this with pod uids when containers end by themselves."""
        self._changed = changed

    def run(self, operation: Operation, done: Callable[[Result], None]) -> None:
        """Carry out one operation; `done` gets its result, now or later."""
        if self._closed:
            return
        self.world, result = self.world.carry_out(operation, self._now(), self._chance)
        if self._ends:
            self._notice()
        if isinstance(result, Later):
            delay = max(0, result.at - self._now()) / SECOND
            asyncio.get_running_loop().call_later(delay, self.run, operation, done)
        else:
            done(result)
        if self.world.next_change() != self._timer_at:
            self._set_timer()

    def now(self) -> Instant:
        """The instant on this node's clock."""
        return self._now()

    def ended(self, id: str) -> "asyncio.Future[None]":
        """Done when this container no longer runs. Cancel it when no caller waits for it."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._ends.setdefault(id, set()).add(future)
        future.add_done_callback(lambda done: self._forget(id, done))
        self._notice()
        return future

    def _forget(self, id: str, done: "asyncio.Future[None]") -> None:
        waiting = self._ends.get(id, set())
        waiting.discard(done)
        if not waiting:
            self._ends.pop(id, None)

    def _notice(self) -> None:
        for id in tuple(self._ends):
            fake = self.world.containers.get(id)
            if fake is None or fake.status.state != RUNNING:
                for future in self._ends.pop(id):
                    if not future.done():
                        future.set_result(None)

    def end(self, id: str, exit_code: int) -> None:
        """The container's own program has ended."""
        self.world, changed = crash_container(self.world, id, exit_code, self._now())
        self._notice()
        if changed:
            self._changed(changed)

    def close(self) -> None:
        """Stop the node and its timer."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()

    def _set_timer(self) -> None:
        at = self.world.next_change()
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._timer_at = None, at
        if at is not None:
            self._timer = asyncio.get_running_loop().call_later(
                max(0, at - self._now()) / SECOND, self._let_time_pass
            )

    def _let_time_pass(self) -> None:
        self._timer, self._timer_at = None, None
        if self._closed:
            return
        self.world, changed = self.world.advance(self._now())
        self._notice()
        if changed:
            self._changed(changed)
        self._set_timer()
