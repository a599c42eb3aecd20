"""The one interpreter of effects: which method of an `EffectHandler` carries out which effect.

There are three handlers. The cluster (core/cluster/component.py) and the explorer
(checking/explorer/parts.py) carry out effects in virtual time, on values; the driver
(components/driver.py) carries them out on asyncio.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, Protocol, assert_never

from refk8s.core.api.request import Request
from refk8s.core.context import Instant
from refk8s.core.machine import (
    AnyMachine,
    Call,
    Effect,
    Problem,
    Program,
    Programmed,
    Run,
    Unwatch,
    WakeAt,
    Watch,
)
from refk8s.core.ports import NodeRules, Operation


class EffectHandler(Protocol):
    """Carries out the effects of one machine.

    The docstrings of the effects (core/machine.py) name the event that answers each.
    """

    def call(self, id: int, request: Request, background: bool) -> None:
        """Send a request."""

    def open_watch(self, id: int, request: Request) -> None:
        """Open a watch."""

    def close_watch(self, id: int) -> None:
        """Close a watch."""

    def set_timer(self, at: Instant | None) -> None:
        """Replace the machine's one timer; None cancels it."""

    def run(self, id: int, operation: Operation) -> None:
        """Start an operation of the container runtime."""

    def program(self, id: int, rules: NodeRules) -> None:
        """Make these the node's service rules or policies, or its name server's records."""

    def report(self, problem: Problem) -> None:
        """A reconciler raised an exception (LOOP-10)."""


def carry_out(effect: Effect, handler: EffectHandler) -> None:
    """Pass one effect to the method that carries it out. Effects are carried out in their order."""
    match effect:  # without patterns for the fields, which would cost as much as the effect
        case Call():
            handler.call(effect.id, effect.request, effect.background)
        case WakeAt():
            handler.set_timer(effect.at)
        case Run():
            handler.run(effect.id, effect.operation)
        case Watch():
            handler.open_watch(effect.id, effect.request)
        case Unwatch():
            handler.close_watch(effect.id)
        case Program():
            handler.program(effect.id, effect.rules)
        case Problem():
            handler.report(effect)
        case _:
            assert_never(effect)


class VirtualStep(ABC):
    """One step of a machine in virtual time.

    It has the machine's `state` after the step, the timer that the machine has set, and the rules
    that it has programmed. Subclasses collect its requests and operations. Rules are programmed at
    once, and the machine handles the confirmation in the same step. Real adapters differ only in
    how long that takes, and a late `Wake` covers that.
    """

    __slots__ = ("is_timer_set", "machine", "now", "rules", "state", "timer")

    def __init__(self, machine: AnyMachine, state: Any, now: Instant) -> None:
        self.machine = machine
        self.state = state
        self.now = now
        self.timer: Instant | None = None
        self.is_timer_set = False
        self.rules: NodeRules | None = None

    def carry_out_all(self, effects: Iterable[Effect]) -> None:
        """Carry out the effects of this step, and those of the steps that follow from them."""
        for effect in effects:
            carry_out(effect, self)

    @abstractmethod
    def call(self, id: int, request: Request, background: bool) -> None: ...

    @abstractmethod
    def open_watch(self, id: int, request: Request) -> None: ...

    @abstractmethod
    def close_watch(self, id: int) -> None: ...

    @abstractmethod
    def run(self, id: int, operation: Operation) -> None: ...

    def set_timer(self, at: Instant | None) -> None:
        self.timer, self.is_timer_set = at, True

    def program(self, id: int, rules: NodeRules) -> None:
        self.rules = rules
        self.state, effects = self.machine.step(self.state, (Programmed(id),), self.now)
        self.carry_out_all(effects)

    def report(self, problem: Problem) -> None:
        """Raise the exception. A driver logs it and continues (LOOP-10); in virtual time it ends
        the step, and is reported as a finding of the run (SIM-8)."""
        raise problem.error
