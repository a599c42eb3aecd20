"""A machine with everything in transit for it, in numbers, and what one step of it asks for. Rule
EXPLORE-3 (spec/explorer.md)."""

from typing import Any

from refk8s.core.api.request import Request
from refk8s.core.api.resources import EVENTS, EVENTS_V1
from refk8s.core.context import Instant
from refk8s.core.effects import VirtualStep
from refk8s.core.machine import AnyMachine
from refk8s.core.ports import Operation
from refk8s.core.properties.law import Decision
from refk8s.core.value import Value

READS = ("get", "list", "watch")
SILENT = (EVENTS.prefix, EVENTS_V1.prefix)
"""No machine in a model watches these, so what is written there is never delivered
(EXPLORE-11)."""

Flight = tuple[int, bool, int, int]  # id, whether it is a watch, request, answer (-1: not arrived)
Open = tuple[int, int, int, int]  # id, stream, revision, initial events (-1: none)
# id (0: the machine does not wait for it), operation, due, the instance that requested it
Job = tuple[int, int, Instant, int]


class Bundle(Value, frozen=True, eq=False):
    """A machine with all that is in transit for it, in numbers. `orphans`: writes in transit whose
    answer no machine waits for."""

    machine: int
    state: int  # -1: down
    life: int
    wake_at: Instant | None = None
    flying: tuple[Flight, ...] = ()
    orphans: tuple[int, ...] = ()
    watches: tuple[Open, ...] = ()
    jobs: tuple[Job, ...] = ()
    world: int = -1
    rules: int = -1

    @property
    def key(self) -> tuple[Any, ...]:
        return (
            self.machine, self.state, self.life, self.wake_at, self.flying, self.orphans, self.watches, self.jobs, self.world, self.rules,
        )  # fmt: skip


class Turn(Value, frozen=True, eq=False):
    """What one step of a machine came to: its next state, new names for ids (None: gone), and what
    it asked for under the new ids."""

    state: int
    ids: dict[int, int]
    calls: tuple[Flight, ...]
    operations: tuple[tuple[int, int], ...]  # id, operation
    wakes: bool
    wake_at: Instant | None
    rules: int
    decisions: tuple[Decision, ...] = ()


class BundleStep(VirtualStep):
    """Collects what one machine asks for. Nothing is kept of a watch that it closes: only ids that
    the machine still waits for are taken over."""

    __slots__ = ("calls", "jobs")

    def __init__(self, machine: AnyMachine, state: Any, now: Instant) -> None:
        super().__init__(machine, state, now)
        self.calls: list[tuple[int, bool, Request]] = []
        self.jobs: list[tuple[int, Operation]] = []

    def call(self, id: int, request: Request, background: bool) -> None:
        if request.resource.prefix not in SILENT:
            self.calls.append((id, False, request))

    def open_watch(self, id: int, request: Request) -> None:
        self.calls.append((id, True, request))

    def close_watch(self, id: int) -> None:
        pass

    def run(self, id: int, operation: Operation) -> None:
        self.jobs.append((id, operation))
