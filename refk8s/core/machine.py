"""What a component is: a pure state machine that is fed events and hands back effects.

A driver (real time) or the simulator (virtual time) carries the effects out and feeds the results
back as events. The state is a value, so a crash is "forget it and call `start` again", and a fork
costs nothing. Rules LOOP-1 ... in spec/loop.md.
"""

from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias, TypeVar

from refk8s.core.api.request import Request, Response, WatchEvent
from refk8s.core.context import Instant
from refk8s.core.ports import Operation, Result, RuleSet
from refk8s.core.value import Value


class Impossible(Exception):
    """A state that cannot arise from valid ones: our mistake, never a user's."""


# --- effects: what a machine asks for -------------------------------------------------------------


class Call(Value, frozen=True):
    """Send this request; the answer comes as `Answered` with the same id. Background calls
    (Kubernetes Events) may wait for others."""

    id: int
    request: Request
    background: bool = False


class Watch(Value, frozen=True):
    """Open this watch (verb "watch", from options.resource_version); it yields `Watched` until
    `WatchEnded`."""

    id: int
    request: Request


class Unwatch(Value, frozen=True):
    """Close that watch; nothing more comes of it."""

    id: int


class WakeAt(Value, frozen=True):
    """Send `Woken` at this instant or later; a newer WakeAt replaces an older one, None cancels."""

    at: Instant | None


class Run(Value, frozen=True):
    """Carry out this operation of the container runtime; the result comes as `Ran`."""

    id: int
    operation: Operation


class Program(Value, frozen=True):
    """Make these the node's service rules, in one transaction; `Programmed` says whether it
    took."""

    id: int
    rules: RuleSet


class Problem(Value, frozen=True, eq=False):
    """The decider raised an exception about this key, which is our bug: report it. The machine
    itself goes on (LOOP-10)."""

    reconciler: str
    key: str
    error: Exception


Effect: TypeAlias = Call | Watch | Unwatch | WakeAt | Run | Program | Problem


# --- events: what a machine hears -----------------------------------------------------------------


class Answered(Value, frozen=True):
    """The answer of a call. None: no answer came; the request is neither done nor failed, and may
    still take effect."""

    id: int
    response: Response | None


class Watched(Value, frozen=True):
    """Changes seen by a watch, in order, none left out."""

    id: int
    events: tuple[WatchEvent, ...]


class WatchEnded(Value, frozen=True):
    """The watch is over. `code` 410: what follows is compacted, list again; any other: the stream
    was cut, watch on."""

    id: int
    code: int = 0


class Woken(Value, frozen=True):
    """The instant asked for by WakeAt has come."""


class Ran(Value, frozen=True):
    """The result of an operation."""

    id: int
    result: Result


class Programmed(Value, frozen=True):
    """The rules took (error is empty) or did not (nothing changed)."""

    id: int
    error: str = ""


class RuntimeChanged(Value, frozen=True):
    """The container runtime says by itself that containers changed; empty: it does not know which
    pods."""

    pod_uids: tuple[str, ...] = ()


Event: TypeAlias = Answered | Watched | WatchEnded | Woken | Ran | Programmed | RuntimeChanged

S = TypeVar("S")
Effects: TypeAlias = tuple[Effect, ...]


class Machine(Protocol[S]):
    """A component. `step` takes the events that came since the last step, in order, so that a burst
    costs one decision."""

    name: str

    def start(self, now: Instant, seed: bytes) -> tuple[S, Effects]:
        """The state after a start or crash: nothing is remembered. The seed makes this instance's
        generated names its own."""

    def step(self, state: S, events: Sequence[Event], now: Instant) -> tuple[S, Effects]:
        """The next state, and what to do."""


AnyMachine: TypeAlias = Machine[Any]
