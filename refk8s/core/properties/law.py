"""What a law is (see laws.py, which has them all), and what laws have in common: requests that
arrived, decisions that were made."""

from collections.abc import Callable, Iterable
from typing import Any

from refk8s.core.actions import Action, Arrive, Channel, Duplicate, Submit
from refk8s.core.api.request import Request, Response
from refk8s.core.api.resources import Resource
from refk8s.core.cluster.state import Cluster
from refk8s.core.loop.plan import Key, Plan
from refk8s.core.loop.state import Busy, LoopState
from refk8s.core.loop.view import View
from refk8s.core.store import Change
from refk8s.core.value import Value


class Law(Value, frozen=True, eq=False):
    """A rule of spec/ and the predicate that judges by it.

    `prefix` says what it is asked about: of a law of changes the beginning of keys, of a law of
    requests that of the users who send them, of a law of decisions that of the reconcilers who make
    them; all, where it is empty. `actions`, of a law of steps: which (none: all).
    """

    rule: str
    check: Callable[..., Iterable[str] | None]
    prefix: str = ""
    actions: tuple[type, ...] = ()


class Broken(Value, frozen=True):
    """A rule that did not hold, and how."""

    rule: str
    words: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.words.removeprefix(self.rule + ': ')}"


def objects(cluster: Any, prefix: str) -> list[Any]:
    """What the store holds below this prefix, in the order of keys."""
    return [record.value for record in cluster.history.list(prefix).records]


# --- requests that arrived ------------------------------------------------------------------------


class Arrived(Value, frozen=True, eq=False):
    """A request that reached the API server in this step: how it was answered (None: nobody hears
    it) and what it changed."""

    request: Request
    answer: Response | None
    changes: tuple[Change[Any], ...]
    channel: Channel | None = None

    @property
    def target(self) -> Change[Any] | None:
        """What became of the very object that the request names."""
        key = f"{self.request.resource.prefix}{name_of(self.request)}"
        return next((change for change in self.changes if change.key == key), None)


def arrived(before: Cluster, action: Action, after: Cluster) -> Arrived | None:
    """The request that took effect, or was refused, in this step; None where none did."""
    changes = after.last_commit.changes if after.last_commit is not None else ()
    match action:
        case Arrive(channel):
            flying, now = before.flying[channel], after.flying.get(channel)
            return (
                None
                if flying.watch
                else Arrived(
                    flying.request, now.answer if now is not None else None, changes, channel
                )
            )
        case Duplicate(channel):
            return Arrived(before.flying[channel].request, None, changes)
        case Submit(request):
            return Arrived(request, None, changes)
    return None


def name_of(request: Request) -> str:
    """What the path of a request names: "namespace/name", or the name alone."""
    return f"{request.namespace}/{request.name}" if request.namespace else request.name


# --- decisions ------------------------------------------------------------------------------------


class Decision(Value, frozen=True, eq=False):
    """What a reconciler has just decided about a key: on this view, with these requests, the first
    of which were sent at once."""

    component: str
    reconciler: str
    key: Key
    view: View
    plan: Plan
    state: LoopState
    life: int
    # what the component knew before this step; None where it has just started
    past: LoopState | None = None

    @property
    def requests(self) -> list[Request]:
        return [request for wave in (*self.plan.waves, self.plan.last) for request in wave]


def decisions(before: Cluster, after: Cluster) -> list[Decision]:
    """All that ask for something. What is sent again, or later by an earlier decision, is none.
    O(requests on their way)."""
    found: list[Decision] = []
    for name in sorted(after.components):
        old, new = before.components.get(name), after.components[name]
        state = new.state
        if old is new or not isinstance(state, LoopState):
            continue
        past = (
            old.state
            if old is not None and old.life == new.life and isinstance(old.state, LoopState)
            else None
        )
        known = past.counter if past is not None else 0
        if past is not state and state.counter != known:
            found += _decisions_of(name, past, state, known, new.life)
    return found


def _decisions_of(
    name: str, past: LoopState | None, state: LoopState, known: int, life: int
) -> list[Decision]:
    sent: dict[tuple[str, Key], list[tuple[int, Request]]] = {}
    for id, flight in state.flights.items():
        if id > known and not (flight.doubtful or flight.ask or flight.lookup):
            sent.setdefault(flight.item, []).append((id, flight.request))
    found = []
    for item in sorted(sent):
        requests = tuple([request for _, request in sorted(sent[item], key=lambda entry: entry[0])])
        earlier = past.busy.get(item) if past is not None else None
        busy = state.busy.get(item)
        if earlier is None or not _follows(earlier, requests[0]):
            plan = (
                Plan((requests, *busy.waves), busy.last) if busy is not None else Plan((requests,))
            )
            found.append(Decision(name, item[0], item[1], state.view, plan, state, life, past))
    return found


def _follows(earlier: Busy, request: Request) -> bool:
    """Whether the request belongs to a later wave of what had been decided before."""
    return any(request is waiting for wave in (*earlier.waves, earlier.last) for waiting in wave)


def shown(view: View, resource: Resource, request: Request) -> Any | None:
    """The object that the request names, as the view shows it."""
    return view.get(resource, name_of(request))
