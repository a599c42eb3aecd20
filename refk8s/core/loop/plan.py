"""What a reconciler returns: requests in waves, operations, rules, and when to reconcile again.
Rules LOOP-5, LOOP-6 (spec/loop.md).
"""

from typing import Any, TypeVar

from refk8s.core.api.request import Request, Response
from refk8s.core.context import Instant
from refk8s.core.ports import NodeRules, Operation
from refk8s.core.value import Value

T = TypeVar("T")

Key = str
"""What is reconciled: "namespace/name", "name" if cluster-scoped, or a string of the reconciler."""


class _Unchanged:
    def __repr__(self) -> str:
        return "UNCHANGED"


UNCHANGED: Any = _Unchanged()


class Note(Value, frozen=True):
    """A Kubernetes Event to record about an object, as `kubectl describe` shows it. Best effort.

    With an `action` it is an Event of events.k8s.io, which may name a second object (EVENT-7).
    """

    regarding: Any  # the object, with kind, apiVersion and metadata
    reason: str
    message: str
    type: str = "Normal"
    field_path: str = ""  # "spec.containers{name}"
    action: str = ""  # what the component did about the object: "Binding"
    related: Any = None  # another object that the action concerns, if any
    component: str = ""  # the source of the Event; empty: that of the reconciler


class Plan(Value, frozen=True):
    """The result of reconciling one key.

    The waves are sent one after another, the requests of a wave together. A refused request ends
    the plan and the key backs off (`last` is still sent, once, as the final wave). The key is not
    reconciled again before every request is answered and the view shows their result.

    `memory` replaces the reconciler's memory. `enqueue` names (reconciler, key) pairs to reconcile
    soon, or at the instant `enqueue_at`. `failed` asks for a back-off although nothing was sent.
    `queries` are requests whose responses the reconciler itself handles (`Reconciler.answered`): a
    read from the API server, because the view may be behind, or a token; the key does not rest for
    them. `problems` are exceptions about single objects in a plan about many: they are reported,
    and the plan covers the other objects (LOOP-10).
    """

    waves: tuple[tuple[Request, ...], ...] = ()
    last: tuple[Request, ...] = ()
    wake_at: Instant | None = None
    notes: tuple[Note, ...] = ()
    queries: tuple[Request, ...] = ()
    runs: tuple[Operation, ...] = ()
    rules: NodeRules | None = None
    memory: Any = UNCHANGED
    enqueue: tuple[tuple[str, Key], ...] = ()
    enqueue_at: Instant | None = None
    failed: bool = False
    problems: tuple[Exception, ...] = ()

    @property
    def requests(self) -> list[Request]:
        """All requests, in the order in which they are sent."""
        return [request for wave in (*self.waves, self.last) for request in wave]


NOTHING = Plan()


class Local(Value, frozen=True):
    """The state of this instance that is stored nowhere else; a crash discards it.

    `memory` is the reconciler's own (see Plan.memory). `failures` counts the consecutive failed
    plans of this key, and `failure` is the response to the last one.
    """

    memory: Any = None
    failures: int = 0
    failure: Response | None = None


def slow_start(requests: tuple[T, ...], first: int = 1) -> tuple[tuple[T, ...], ...]:
    """Waves of 1, 2, 4, 8 ... requests: an early refusal (a quota) stops the rest. O(len)."""
    waves, size, start = [], first, 0
    while start < len(requests):
        waves.append(requests[start : start + size])
        start += size
        size *= 2
    return tuple(waves)
