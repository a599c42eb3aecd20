"""A machine with everything in transit for it, as numbers, and the effects of one step of it. Rule
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
"""No machine in a model watches these, so requests for them are never delivered (EXPLORE-11)."""

Flight = tuple[int, bool, int, int]  # id, whether it is a watch, request, answer (-1: not arrived)
Open = tuple[int, int, int, int]  # id, stream, revision, initial events (-1: none)
# id (0: the machine does not wait for it), operation, due, the instance that requested it
Job = tuple[int, int, Instant, int]


class Bundle(Value, frozen=True, eq=False):
    """A machine with everything in transit for it, as numbers. `abandoned`: writes in transit whose
    answer no machine waits for."""

    machine: int
    state: int  # -1: down
    life: int
    wake_at: Instant | None = None
    flying: tuple[Flight, ...] = ()
    abandoned: tuple[int, ...] = ()
    watches: tuple[Open, ...] = ()
    jobs: tuple[Job, ...] = ()
    world: int = -1
    rules: int = -1

    @property
    def key(self) -> tuple[Any, ...]:
        return (
            self.machine, self.state, self.life, self.wake_at, self.flying, self.abandoned, self.watches, self.jobs, self.world, self.rules,
        )  # fmt: skip


class Turn(Value, frozen=True, eq=False):
    """The result of one step of a machine: its next state, the new id of each id that it still
    uses, and its effects under the new ids."""

    state: int
    ids: dict[int, int]
    calls: tuple[Flight, ...]
    operations: tuple[tuple[int, int], ...]  # id, operation
    wakes: bool
    wake_at: Instant | None
    rules: int
    decisions: tuple[Decision, ...] = ()


class BundleStep(VirtualStep):
    """Collects the effects of one step. A closed watch needs no entry: only ids that the machine
    still uses are kept."""

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
