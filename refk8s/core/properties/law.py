"""The type of a law, and what laws need: arrived requests, decisions, and the containers of nodes.
The laws are in `laws/`. They call the predicates in `predicates/`, which check plain values."""

from collections.abc import Callable, Iterable
from typing import Any

from refk8s.core.actions import Action, Arrive, Channel, Duplicate, Submit
from refk8s.core.api.request import Request, Response
from refk8s.core.cluster.state import Cluster, Component
from refk8s.core.loop.elector import ElectorState, inner_starts, inner_state
from refk8s.core.loop.plan import Key, Plan
from refk8s.core.loop.state import Busy, LoopState
from refk8s.core.loop.view import View
from refk8s.core.ports import RUNNING, ListPods, PodsListed
from refk8s.core.store import Change
from refk8s.core.value import Value

SERVICE_ACCOUNTS = "system:serviceaccount:kube-system:"
NODE_USER = "system:node:"
"""The prefix of the users as which components send requests."""


class Law(Value, frozen=True, eq=False):
    """A rule of spec/ and the function that checks it.

    `prefix` selects what is checked, by the beginning of the key (law of changes), of the user who
    sends the request (law of requests), or of the reconciler (law of decisions); empty: all.
    `actions` selects the actions of a law of steps; empty: all.
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
    """The stored objects below this prefix, in the order of keys."""
    return [record.value for record in cluster.history.list(prefix).records]


# --- requests that arrived ------------------------------------------------------------------------


class Arrived(Value, frozen=True, eq=False):
    """A request that reached the API server in this step: its response (None if no component waits
    for it) and what it changed."""

    request: Request
    answer: Response | None
    changes: tuple[Change[Any], ...]
    channel: Channel | None = None

    @property
    def target(self) -> Change[Any] | None:
        """The change of the object that the request names."""
        key = f"{self.request.resource.prefix}{self.request.key}"
        return next((change for change in self.changes if change.key == key), None)


def arrived(before: Cluster, action: Action, after: Cluster) -> Arrived | None:
    """The request that took effect or was rejected in this step; None if there was none, or if it
    waits for its API server."""
    changes = after.last_commit.changes if after.last_commit is not None else ()
    match action:
        case Arrive(channel):
            flying, now = before.flying[channel], after.flying.get(channel)
            return (
                None
                if flying.watch or (now is not None and now.answer is None)
                else Arrived(
                    flying.request, now.answer if now is not None else None, changes, channel
                )
            )
        case Duplicate(channel):
            return Arrived(before.flying[channel].request, None, changes)
        case Submit(request):
            return Arrived(request, None, changes)
    return None


# --- components -----------------------------------------------------------------------------------


def loop_of(component: Component | None) -> LoopState | None:
    """The state of a component's loop; None if it is stopped, does not lead, or has no loop."""
    state = inner_state(component.state) if component is not None else None
    return state if isinstance(state, LoopState) else None


def is_same_instance(old: Component, new: Component) -> bool:
    """Whether the loop has not been started again in between."""
    return old.life == new.life and inner_starts(old.state) == inner_starts(new.state)


def _instance(component: Component) -> int:
    """How often a loop of this kind has been started; with an election, counted by its Lease."""
    state = component.state
    if not isinstance(state, ElectorState) or state.lease is None:
        return component.life
    return component.life + state.starts - 1 + (state.lease.spec.lease_transitions or 0)


def earlier_instances(cluster: Cluster) -> int:
    """How many instances of components have ended. A request of each may be in transit still."""
    return sum(_instance(component) - 1 for component in cluster.components.values())


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
    # the component's state before this step; None if it has just started
    past: LoopState | None = None

    @property
    def requests(self) -> list[Request]:
        return self.plan.requests


def decisions(before: Cluster, after: Cluster) -> list[Decision]:
    """The decisions of this step that have requests. Requests that are sent again, or later by an
    earlier decision, are not counted. O(requests in transit)."""
    found: list[Decision] = []
    for name in sorted(after.components):
        old, new = before.components.get(name), after.components[name]
        state = loop_of(new) if old is not new else None
        if state is None:
            continue
        past = loop_of(old) if old is not None and is_same_instance(old, new) else None
        known = past.counter if past is not None else 0
        if past is not state and state.counter != known:
            found += _decisions_of(name, past, state, known, _instance(new))
    return found


def _decisions_of(
    name: str, past: LoopState | None, state: LoopState, known: int, life: int
) -> list[Decision]:
    sent: dict[tuple[str, Key], list[tuple[int, Request]]] = {}
    for id, flight in state.flights.items():
        if id > known and not (flight.is_retry or flight.query or flight.lookup):
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
    """Whether the request belongs to a later wave of an earlier decision."""
    return any(request is waiting for wave in (*earlier.waves, earlier.last) for waiting in wave)


# --- changes --------------------------------------------------------------------------------------


def of_two_versions(
    check: Callable[[Any, Any], Iterable[str]],
) -> Callable[..., Iterable[str] | None]:
    """A law of changes from a predicate of two versions of one object, the older first."""

    def law(change: Change[Any], before: Cluster, after: Cluster) -> Iterable[str] | None:
        if change.record is None or change.previous is None:
            return None
        old, new = change.previous.value, change.record.value
        return check(old, new) if old.metadata.uid == new.metadata.uid else None

    return law


def was_removed(cluster: Cluster, prefix: str) -> bool:
    """Whether the history contains the removal of an object of this resource."""
    return any(
        change.record is None
        for change in cluster.history.changes(prefix, cluster.history.compacted)
    )


# --- nodes ----------------------------------------------------------------------------------------


def listed(world: Any) -> PodsListed | None:
    """The sandboxes and containers of a runtime; None if it does not answer."""
    found = world.carry_out(ListPods(), 0, None)[1]
    return found if isinstance(found, PodsListed) else None


def running(world: Any, uid: str) -> list[str] | None:
    """The running containers of a pod; None if the runtime does not answer."""
    found = world.carry_out(ListPods((uid,)), 0, None)[1]
    return (
        [c.name for c in found.containers if c.pod_uid == uid and c.state == RUNNING]
        if isinstance(found, PodsListed)
        else None
    )


def runs_still(cluster: Cluster, pod: Any, what: str) -> list[str] | None:
    """A sentence if the pod still runs although it `what`; None if its node does not answer."""
    world = cluster.worlds.get(f"kubelet/{pod.spec.node_name}")
    found = running(world, pod.metadata.uid) if world is not None else None
    if found is None:
        return None
    return (
        [f"pod {pod.metadata.name} {what}, and {', '.join(found)} runs at {pod.spec.node_name}"]
        if found
        else []
    )
