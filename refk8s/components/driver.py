"""The driver passes events to a machine and executes its effects.

Only this module connects asyncio and the core. Events of one turn of the event loop are passed
together, so that a burst causes one step. An exception for one key is logged, and the machine
continues (LOOP-10). If the step itself raises, the driver logs the exception, discards the
machine's state and starts it again, as after a crash of the component. An effect that fails is
answered with an error, and the effects after it are executed (LOOP-11).
"""

import asyncio
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from refk8s.components.clock import Clock
from refk8s.core.api import status
from refk8s.core.api.request import Request, Response, WatchEvent
from refk8s.core.context import SECOND, Instant
from refk8s.core.effects import carry_out
from refk8s.core.machine import (
    Answered,
    AnyMachine,
    Call,
    Effect,
    Effects,
    Event,
    Problem,
    Program,
    Programmed,
    Ran,
    Run,
    RuntimeChanged,
    Stopping,
    Watch,
    Watched,
    WatchEnded,
    Woken,
)
from refk8s.core.ports import (
    Api,
    Failed,
    NameServer,
    Network,
    NodeNetwork,
    NodeRules,
    Operation,
    Policies,
    PolicySet,
    Records,
    Result,
    Rules,
    RuleSet,
    Runtime,
)

log = logging.getLogger("refk8s")

RESTART_SECONDS = 1.0


class Driver:
    """Runs one machine."""

    def __init__(
        self,
        machine: AnyMachine,
        api: Api,
        clock: Clock,
        runtime: Runtime | None = None,
        rules: Rules | None = None,
        name_server: NameServer | None = None,
        policies: Policies | None = None,
        network: Network | None = None,
    ) -> None:
        self.machine = machine
        self.api = api
        self.clock = clock
        self.runtime = runtime
        self.rules = rules
        self.name_server = name_server
        self.policies = policies
        self.network = network
        self.state: Any = None
        self.on_run: Callable[[Operation], None] | None = None
        self.on_program: Callable[[RuleSet], None] | None = None
        self._loop = asyncio.get_running_loop()
        self._inbox: list[Event] = []
        self._scheduled = False
        self._life = 0  # answers to an earlier life of the machine are discarded
        self._stopped = False
        self._unanswered: set[int] = set()  # requests that are not in the background
        self._is_quiet: asyncio.Event | None = None
        self._watches: dict[int, Callable[[], None]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at: Instant = 0  # when it fires
        self._wake_at: Instant | None = None  # the instant of the last WakeAt
        if runtime is not None:
            runtime.listen(lambda uids: self._post(self._life, RuntimeChanged(uids)))

    def start(self) -> None:
        """Start the machine."""
        self._begin()

    async def finish(self, seconds: float) -> None:
        """Let the machine finish (`Stopping`), and stop it when it waits for no response.

        It is stopped after so many seconds at the latest. A machine behind a leader election
        releases its Lease in this time (ELECT-8).
        """
        self._is_quiet = asyncio.Event()
        self._post(self._life, Stopping())
        with suppress(TimeoutError):
            await asyncio.wait_for(self._is_quiet.wait(), seconds)
        self.stop()

    def stop(self) -> None:
        """Stop the machine; no further effect is executed."""
        self._stopped = True
        self._forget()

    def _begin(self) -> None:
        if self._stopped:
            return
        self._life += 1
        self.state, effects = self.machine.start(self.clock.now(), os.urandom(16))
        self._carry_out(effects)

    def _forget(self) -> None:
        self._life += 1
        self._inbox.clear()
        self._unanswered.clear()
        for close in self._watches.values():
            close()
        self._watches.clear()
        self._wake_at = None
        self._cancel_timer()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, at: Instant | None) -> None:
        """Wake the machine at this instant.

        A timer that fires earlier is kept, and set again when it fires: a timer that often moves to
        a later instant costs nothing until then.
        """
        self._wake_at = at
        if at is None or (self._timer is not None and self._timer_at <= at):
            return
        self._cancel_timer()
        delay = max(0, at - self.clock.now()) / SECOND
        self._timer, self._timer_at = self._loop.call_later(delay, self._fire, self._life), at

    def _fire(self, life: int) -> None:
        if life != self._life or self._stopped:
            return
        self._timer, at, self._wake_at = None, self._wake_at, None
        if at is not None and at > self._timer_at:
            self._arm(at)
        elif at is not None:
            self._post(life, Woken())

    def _post(self, life: int, event: Event) -> None:
        if life != self._life or self._stopped:
            return
        self._inbox.append(event)
        if isinstance(event, Answered):
            self._unanswered.discard(event.id)
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._scheduled = False
        if not self._inbox or self._stopped:
            return
        events, self._inbox = self._inbox, []
        try:
            self.state, effects = self.machine.step(self.state, events, self.clock.now())
        except Exception:
            log.exception(
                "%s failed with an internal error and is started again in %s s",
                self.machine.name,
                RESTART_SECONDS,
            )
            self._forget()
            self._loop.call_later(RESTART_SECONDS, self._begin)
            return
        self._carry_out(effects)
        if self._is_quiet is not None and not self._unanswered and not self._inbox:
            self._is_quiet.set()

    def _carry_out(self, effects: Effects) -> None:
        """Execute the effects in their order, which the port guarantees (core/ports)."""
        life = self._life
        handler = _Handler(self, life)
        for effect in effects:
            try:
                carry_out(effect, handler)
            except Exception as error:
                log.exception(
                    "%s: an effect was not carried out: %s",
                    self.machine.name,
                    type(effect).__name__,
                )
                if (answer := _failure_of(effect, error)) is not None:
                    self._post(life, answer)


class _Handler:
    """Executes the effects of one life of the driver's machine."""

    __slots__ = ("driver", "life")

    def __init__(self, driver: Driver, life: int) -> None:
        self.driver = driver
        self.life = life

    def call(self, id: int, request: Request, background: bool) -> None:
        if background:
            self.driver.api.submit(request, _ignore, background)  # EVENT-8
            return
        self.driver._unanswered.add(id)
        self.driver.api.submit(request, _Answer(self.driver, self.life, id))

    def open_watch(self, id: int, request: Request) -> None:
        driver, life = self.driver, self.life
        driver._watches[id] = driver.api.watch(
            request, _Deliver(driver, life, id), _Ended(driver, life, id)
        )

    def close_watch(self, id: int) -> None:
        if close := self.driver._watches.pop(id, None):
            close()

    def set_timer(self, at: Instant | None) -> None:
        self.driver._arm(at)

    def run(self, id: int, operation: Operation) -> None:
        driver = self.driver
        assert driver.runtime is not None, f"{driver.machine.name} has no runtime"
        if driver.on_run is not None:
            _notify(driver.on_run, operation)
        driver.runtime.run(operation, _Done(driver, self.life, id))

    def program(self, id: int, rules: NodeRules) -> None:
        driver = self.driver
        if isinstance(rules, Records):
            assert driver.name_server is not None, f"{driver.machine.name} has no name server"
            driver.name_server.program(rules, _Took(driver, self.life, id))
            return
        if isinstance(rules, PolicySet):
            assert driver.policies is not None, f"{driver.machine.name} has no policies"
            driver.policies.program(rules, _Took(driver, self.life, id))
            return
        if isinstance(rules, NodeNetwork):
            assert driver.network is not None, f"{driver.machine.name} has no network"
            driver.network.program(rules, _Took(driver, self.life, id))
            return
        assert driver.rules is not None, f"{driver.machine.name} has no rules"
        if driver.on_program is not None:
            _notify(driver.on_program, rules)
        driver.rules.program(rules, _Took(driver, self.life, id))

    def report(self, problem: Problem) -> None:
        log.error(
            "%s: %s raised %s about %r, which is a bug; it is tried again later, "
            "and everything else continues",
            self.driver.machine.name,
            problem.reconciler,
            type(problem.error).__name__,
            problem.key,
            exc_info=problem.error,
        )


def _notify(listener: Callable[[Any], None], what: Any) -> None:
    """Call the listener; its exception does not stop the execution of effects."""
    try:
        listener(what)
    except Exception:
        log.exception("a listener raised")


def _failure_of(effect: Effect, error: Exception) -> Event | None:
    """The event that answers an effect that raised; None if the machine expects no answer."""
    words = f"{type(error).__name__}: {error}"
    match effect:
        case Call(id, _, background):
            return None if background else Answered(id, Response(500, status.internal_error(words)))
        case Watch(id):
            return WatchEnded(id, 500)
        case Run(id):
            return Ran(id, Failed("InternalError", words))
        case Program(id):
            return Programmed(id, words)
    return None


def _ignore(response: Response | None) -> None:
    """The answer to a background request."""


class _Back:
    """A callback that posts events for one id to one life of the machine."""

    __slots__ = ("driver", "id", "life")

    def __init__(self, driver: Driver, life: int, id: int) -> None:
        self.driver = driver
        self.life = life
        self.id = id


class _Answer(_Back):
    __slots__ = ()

    def __call__(self, response: Response | None) -> None:
        self.driver._post(self.life, Answered(self.id, response))


class _Deliver(_Back):
    __slots__ = ()

    def __call__(self, events: tuple[WatchEvent, ...]) -> None:
        self.driver._post(self.life, Watched(self.id, events))


class _Ended(_Back):
    __slots__ = ()

    def __call__(self, code: int) -> None:
        self.driver._watches.pop(self.id, None)
        self.driver._post(self.life, WatchEnded(self.id, code))


class _Done(_Back):
    __slots__ = ()

    def __call__(self, result: Result) -> None:
        self.driver._post(self.life, Ran(self.id, result))


class _Took(_Back):
    __slots__ = ()

    def __call__(self, error: str) -> None:
        self.driver._post(self.life, Programmed(self.id, error))
