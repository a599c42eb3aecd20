"""Replays an explored history on the reference, as actions of refk8s/core/actions.py.

Rule EXPLORE-6. The explorer renumbers ids in every state (EXPLORE-3); this module finds the real id
by the request, watch or operation. `compare.py` compares the two states.
"""

import re
from collections.abc import Iterator
from typing import Any

from immutables import Map

from refk8s.checking.explorer.bundle import Job
from refk8s.checking.explorer.ids import canonical, live_ids, target_of
from refk8s.checking.explorer.model import Model
from refk8s.checking.explorer.moves import STORE, Compact, Move, State, to_action
from refk8s.checking.explorer.parts import chance_of_operation
from refk8s.checking.explorer.store import chance_of_name
from refk8s.checking.explorer.transitions import Transitions
from refk8s.core.actions import (
    Action,
    Arrive,
    Channel,
    Duplicate,
    Elapse,
    Operate,
    Submit,
)
from refk8s.core.api import codec
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.rbac_v1 import ClusterRole
from refk8s.core.api.request import Request
from refk8s.core.api.resources import CLUSTER_ROLES
from refk8s.core.api.user import ADMIN
from refk8s.core.apiserver.outcome import Reader
from refk8s.core.cluster.enabled import enabled, is_enabled
from refk8s.core.cluster.state import Cluster
from refk8s.core.cluster.step import start_all, step
from refk8s.core.context import Chance, Context, SeededChance
from refk8s.core.machine import Impossible
from refk8s.core.value import evolve, field


class ModelCluster(Cluster, frozen=True, eq=False):
    """A cluster with the explorer's random values (EXPLORE-4).

    A uid is computed from the name, and a container's id from the operation.
    """

    deletions: Map[str, int] = field(default_factory=Map)
    name: bytes = b""  # the seed of the uid of the next created object

    def context(self) -> Context:
        return Context(self.now, SeededChance(self.name)) if self.name else super().context()

    def chance(self, channel: Channel) -> Chance:
        pending = self.operations.get(channel)
        if pending is None:
            return super().chance(channel)
        return SeededChance(
            chance_of_operation(self.seed, pending.operation, self.worlds[channel[0]].started)
        )


def take(cluster: Cluster, action: Action) -> Cluster:
    """`step`, with the explorer's random values. Raises Impossible if the action is not enabled.

    Time may pass although an Event is still in transit (EXPLORE-11), or by the fault `slow`.
    """
    assert isinstance(cluster, ModelCluster)
    if not isinstance(action, Elapse) and not is_enabled(cluster, action):
        raise Impossible(f"{action} is not enabled")
    match action:
        case Submit(request):
            cluster = evolve(cluster, name=_name(cluster, request))
        case Arrive(channel) | Duplicate(channel) if channel in cluster.flying:
            cluster = evolve(cluster, name=_name(cluster, cluster.flying[channel].request))
    cluster = step(cluster, action)
    assert isinstance(cluster, ModelCluster)
    deletions = cluster.deletions
    for change in cluster.last_commit.changes if cluster.last_commit is not None else ():
        if change.record is None:
            deletions = deletions.set(change.key, deletions.get(change.key, 0) + 1)
    return evolve(cluster, deletions=deletions, name=b"")


def _name(cluster: ModelCluster, request: Request) -> bytes:
    name = request.name or getattr(getattr(request.body, "metadata", None), "name", None) or ""
    if request.verb != "create" or not name:
        return b""
    key = request.resource.key(request.namespace, name)
    return chance_of_name(cluster.seed, key, cluster.deletions.get(key, 0))


def begin_model(model: Model, seed: bytes = b"explore") -> Cluster:
    """The model's cluster after the start of its machines."""
    cluster: Cluster = ModelCluster(
        machines=dict(model.machines()), worlds=Map(model.worlds()), seed=seed, now=model.start
    )
    for request in model.setup:
        cluster = take(cluster, Submit(request))
    return start_all(cluster)


def prologue(model: Model, cluster: Cluster) -> Iterator[Action]:
    """The actions until the machines are first at rest, if the model begins there."""
    while model.rests_first:
        action = next(enabled(cluster), None)
        if action is None or isinstance(action, Elapse):
            return
        cluster = take(cluster, action)
        yield action


def history_actions(moves: Transitions, history: list[tuple[State, Move | None]]) -> list[Action]:
    """A whole history as actions, including the prologue.

    Raises Impossible if the reference does not allow one of them.
    """
    cluster = begin_model(moves.model, moves.parts.seed)
    found: list[Action] = []
    for action in prologue(moves.model, cluster):
        found.append(action)
        cluster = take(cluster, action)
    for state, move in history:
        for action in to_actions(moves, state, move, cluster) if move is not None else ():
            found.append(action)
            cluster = take(cluster, action)
    return found


def to_actions(moves: Transitions, state: State, move: Move, cluster: Cluster) -> list[Action]:
    """The reference's actions for this move of this state."""
    action = to_action(move, RealNames(moves, state, cluster))
    if not isinstance(move, Compact):
        return [action]
    elsewhere = ClusterRole(metadata=ObjectMeta(name=f"elsewhere-{cluster.history.revision}"))
    name = elsewhere.metadata.name or ""
    return [Submit(Request("create", CLUSTER_ROLES, "", name, body=elsewhere, user=ADMIN)), action]


class RealNames:
    """The names in the reference of the machines, requests, watches and operations of moves."""

    def __init__(self, moves: Transitions, state: State, cluster: Cluster) -> None:
        self.parts = moves.parts
        self.state = state
        self.cluster = cluster

    def machine(self, machine: int) -> str:
        return self.parts.names[machine]

    def request(self, request: int) -> Request:
        found: Request = self.parts.values[request]
        return found

    def next_revision(self) -> int:
        return self.cluster.history.revision + 1

    def channel(self, machine: int, id: int) -> Channel:
        name = self.machine(machine)
        component = self.cluster.components[name]
        _, ids = canonical(component.state)
        real = next((old for old, new in ids.items() if new == id), None)
        if real is None:
            raise Impossible(
                f"{name} waits for no request, watch or operation {id} of the explorer"
            )
        return name, component.life, real

    def abandoned(self, machine: int, request: int) -> Channel:
        wanted: Request = self.parts.values[request]
        is_current = _is_current(wanted, self.parts.reader(self.state[STORE]))
        return self._abandoned(self.machine(machine), wanted, is_current)

    def _abandoned(self, name: str, wanted: Request, is_current: bool) -> Channel:
        """The first request with the same target, if possible with the same body.

        Of two that differ only in `resourceVersion`, the one that has the same outcome.
        """
        history = self.cluster.history
        life = self.cluster.components[name].life
        target, found = target_of(wanted), None
        for channel, flying in sorted(self.cluster.flying.items(), key=_channel_of):
            is_abandoned = channel[0] == name and (channel[1] != life or flying.given_up)
            if is_abandoned and flying.answer is None and target_of(flying.request) == target:
                is_same = _is_current(flying.request, history) == is_current
                if is_same and describe(flying.request.body) == describe(wanted.body):
                    return channel
                found = found or channel
        if found is None:
            raise Impossible(f"no abandoned request of {name} is in transit: {target}")
        return found

    def first_of(self, action: Action) -> Action:
        """The same action on the first of all equal requests or operations (as `abandoned` and
        `abandoned_job` find them)."""
        match action:
            case Arrive(channel) if not is_awaited(self.cluster, channel):
                request = self.cluster.flying[channel].request
                is_current = _is_current(request, self.cluster.history)
                return Arrive(self._abandoned(channel[0], request, is_current))
            case Operate(channel) if channel[1] != self.cluster.components[channel[0]].life:
                pending = self.cluster.operations[channel]
                return Operate(
                    self._abandoned_job(channel[:2], (describe(pending.operation), pending.due))
                )
        return action

    def abandoned_job(self, machine: int, job: Job) -> Channel:
        about = (describe(self.parts.values[job[1]]), job[2])
        return self._abandoned_job((self.machine(machine), job[3]), about)

    def _abandoned_job(self, instance: tuple[str, int], about: tuple[str, int]) -> Channel:
        for channel, pending in sorted(self.cluster.operations.items(), key=_channel_of):
            if channel[:2] == instance and (describe(pending.operation), pending.due) == about:
                return channel
        raise Impossible(f"no such operation of an earlier life of {instance[0]}")


def _is_current(request: Request, reader: Reader) -> bool:
    """Whether an update has the `resourceVersion` of the stored object."""
    record = reader.get(request.resource.key(request.namespace, request.name))
    metadata = getattr(request.body, "metadata", None)
    if record is None or metadata is None:
        return False
    return bool(record.value.metadata.resource_version == metadata.resource_version)


def _channel_of(entry: tuple[Channel, Any]) -> Channel:
    return entry[0]


def is_awaited(cluster: Cluster, channel: Channel) -> bool:
    """Whether a machine waits for the answer to this request."""
    name, life, id = channel
    component, flying = cluster.components[name], cluster.flying[channel]
    return life == component.life and not flying.given_up and id in live_ids(component.state)


_UID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|[0-9a-f]{64}")
_REVISION = re.compile(r'"resourceVersion":"\d*"|resource_version=\'\d*\'|resourceVersion \d+')


def describe(value: Any) -> str:
    """A value as text, without uids, container ids and revisions: the explorer's differ."""
    text = (
        codec.encode(value).decode()
        if hasattr(value, "metadata") and hasattr(value, "kind")
        else repr(value)
    )
    return _REVISION.sub("", _UID.sub("uid", text))
