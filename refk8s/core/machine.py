"""A component: a pure state machine that receives events and returns effects.

A driver (real time) or the simulator (virtual time) carries out the effects and passes the results
back as events. The state is a value: a crash discards it and calls `start` again, and a fork copies
nothing. Rules LOOP-1 ... in spec/loop.md.
"""

from collections.abc import Sequence
from typing import Any, Final, Protocol, TypeAlias, TypeVar

from refk8s.core.api.request import Request, Response, WatchEvent
from refk8s.core.context import Instant
from refk8s.core.ports import NodeRules, Operation, Result
from refk8s.core.value import Value


class Impossible(Exception):
    """A state that cannot arise from valid ones: a bug of this project, never a user's mistake."""


# --- effects: what a machine returns --------------------------------------------------------------


class Call(Value, frozen=True):
    """Send this request; the response comes as `Answered` with the same id.

    Background calls (Kubernetes Events) may wait for others. Their responses are not used, so a
    driver may leave them out (EVENT-8).
    """

    id: int
    request: Request
    background: bool = False


class Watch(Value, frozen=True):
    """Open this watch (verb "watch", from options.resource_version).

    `Watched` events follow until `WatchEnded`.
    """

    id: int
    request: Request


class Unwatch(Value, frozen=True):
    """Close that watch; no more events of it follow."""

    id: int


class WakeAt(Value, frozen=True):
    """Send `Woken` at this instant or later; a newer WakeAt replaces an older one, None cancels."""

    at: Instant | None


class Run(Value, frozen=True):
    """Carry out this operation of the container runtime; the result comes as `Ran`."""

    id: int
    operation: Operation


class Program(Value, frozen=True):
    """Make these the node's service rules or policies, or its name server's records, at one moment.

    `Programmed` has the result.
    """

    id: int
    rules: NodeRules


class Problem(Value, frozen=True, eq=False):
    """The reconciler raised an exception about this key, which is an internal error: report it.

    The machine itself continues (LOOP-10).
    """

    reconciler: str
    key: str
    error: Exception


Effect: TypeAlias = Call | Watch | Unwatch | WakeAt | Run | Program | Problem


# --- events: what a machine receives --------------------------------------------------------------


class Answered(Value, frozen=True):
    """The response to a call; None: there was none.

    A request without a response is neither done nor failed, and may still take effect.
    """

    id: int
    response: Response | None


class Watched(Value, frozen=True):
    """Changes received by a watch, in order and complete."""

    id: int
    events: tuple[WatchEvent, ...]


class WatchEnded(Value, frozen=True):
    """The watch has ended.

    `code` 410: the next changes are compacted, so list again. Any other: the stream was cut, so
    watch from the last revision.
    """

    id: int
    code: int = 0


class Woken(Value, frozen=True):
    """The instant of WakeAt has been reached."""


class Ran(Value, frozen=True):
    """The result of an operation."""

    id: int
    result: Result


class Programmed(Value, frozen=True):
    """The rules or records are programmed (error is empty), or nothing has changed."""

    id: int
    error: str = ""


class RuntimeChanged(Value, frozen=True):
    """The container runtime reports that containers of these pods changed.

    Empty: the runtime cannot name the pods.
    """

    pod_uids: tuple[str, ...] = ()


class Stopping(Value, frozen=True):
    """The component will be stopped when it has no request in transit (ELECT-8).

    A machine that has nothing to finish ignores it.
    """


Event: TypeAlias = (
    Answered | Watched | WatchEnded | Woken | Ran | Programmed | RuntimeChanged | Stopping
)

S = TypeVar("S")
Effects: TypeAlias = tuple[Effect, ...]


class Machine(Protocol[S]):
    """A component.

    `step` takes all events since the last step, in order, so that a burst costs one reconcile.
    """

    name: str

    def start(self, now: Instant, seed: bytes) -> tuple[S, Effects]:
        """The state after a start or crash, without any state of earlier instances.

        The seed makes the generated names differ from those of other instances.
        """

    def step(self, state: S, events: Sequence[Event], now: Instant) -> tuple[S, Effects]:
        """The next state, and its effects."""


AnyMachine: TypeAlias = Machine[Any]

_IN_SERVER: Final = "apiserver-"


def server_machine_name(number: int) -> str:
    """The name of the machine that runs in the process of this API server."""
    return f"{_IN_SERVER}{number}"


def server_number(name: str) -> int | None:
    """The number of the API server in whose process this machine runs; None for all others."""
    number = name.removeprefix(_IN_SERVER)
    return int(number) if number != name and number.isdigit() else None
