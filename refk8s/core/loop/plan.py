"""What a decider decides: requests in waves, operations, rules, and when to look again. Rules
LOOP-5, LOOP-6 (spec/loop.md)."""

from typing import Any

from refk8s.core.api.request import Request, Response
from refk8s.core.context import Instant
from refk8s.core.ports import Operation, RuleSet
from refk8s.core.value import Value

Key = str
"""What is reconciled: "namespace/name", "name" for what has no namespace, or a word of the
reconciler's own."""


class _Unchanged:
    def __repr__(self) -> str:
        return "UNCHANGED"


UNCHANGED: Any = _Unchanged()


class Note(Value, frozen=True):
    """A Kubernetes Event to record about an object: what a person sees in `kubectl describe`. Best
    effort.

    With an `action` it is an Event of the kind that events.k8s.io writes, which may name a second
    object (EVENT-7).
    """

    regarding: Any  # the object, with kind, apiVersion and metadata
    reason: str
    message: str
    type: str = "Normal"
    field_path: str = ""  # "spec.containers{name}"
    action: str = ""  # what the component did about the object: "Binding"
    related: Any = None  # another object, where the action concerns one


class Plan(Value, frozen=True):
    """One decision about one key.

    The waves are sent one after another, the requests of a wave together; a wave that meets an
    error ends the plan and the key backs off (`last` is still sent, once, as the final wave). The
    key is not reconciled again before every request is answered and the view shows what they did.
    `memory` replaces the reconciler's memory, `enqueue` names (reconciler, key) pairs to reconcile
    soon, `failed` asks for a back-off although nothing was sent. `asks` are requests whose answers
    the reconciler itself takes in (`Reconciler.answered`): a fresh read where the view may be
    behind, a token; the key does not rest for them. `problems` are exceptions that a decision about
    many objects met with one of them and went on: they are reported (LOOP-10).
    """

    waves: tuple[tuple[Request, ...], ...] = ()
    last: tuple[Request, ...] = ()
    wake_at: Instant | None = None
    notes: tuple[Note, ...] = ()
    asks: tuple[Request, ...] = ()
    runs: tuple[Operation, ...] = ()
    rules: RuleSet | None = None
    memory: Any = UNCHANGED
    enqueue: tuple[tuple[str, Key], ...] = ()
    failed: bool = False
    problems: tuple[Exception, ...] = ()

    @property
    def requests(self) -> list[Request]:
        """All requests, in the order in which they would be sent."""
        return [request for wave in (*self.waves, self.last) for request in wave]


NOTHING = Plan()


class Local(Value, frozen=True):
    """What this instance alone knows; all of it is forgotten in a crash.

    `memory` is the reconciler's own (see Plan.memory). `failures` counts the plans for this key
    that failed in a row, and `failure` is the last one's answer.
    """

    memory: Any = None
    failures: int = 0
    failure: Response | None = None


def slow_start(requests: tuple[Request, ...], first: int = 1) -> tuple[tuple[Request, ...], ...]:
    """Waves of 1, 2, 4, 8 ...: where the first is refused (a quota, say), the rest is never sent.
    O(len)."""
    waves, size, start = [], first, 0
    while start < len(requests):
        waves.append(requests[start : start + size])
        start += size
        size *= 2
    return tuple(waves)
