"""The whole cluster as one transition system: a state, the actions enabled in it, and what each does. Rules CLUSTER-1 ... CLUSTER-6
(spec/cluster.md).

    history      the store
    machines     every component's state, its life (how often it started) and whether it is up
    flying       requests on their way to the API server, and answers on their way back
    watches      open watches, each a cursor into the history: its lag is a number, no queues
    operations   what container runtimes have been asked and not yet answered
    worlds       the container runtime of each node
    now          virtual time: it moves only by `Elapse`

Nothing happens that is not an action, so a run is a seed and a list of actions, and replays (CLUSTER-1). Whatever one component sends
another may arrive late and out of order with others, but changes within one watch keep their order (CLUSTER-2). Faults are actions like
any other.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol, TypeAlias

from immutables import Map

from refk8s.core.api.request import Request, Response, WatchEvent
from refk8s.core.apiserver import watch as watching
from refk8s.core.apiserver.handle import handle
from refk8s.core.apiserver.lifecycle import stamp
from refk8s.core.apiserver.outcome import Commit, Stream
from refk8s.core.context import Chance, Context, Instant, SeededChance
from refk8s.core.machine import (
    Answered,
    AnyMachine,
    Call,
    Effects,
    Event,
    Impossible,
    Program,
    Programmed,
    Ran,
    Run,
    RuntimeChanged,
    Unwatch,
    WakeAt,
    Watch,
    Watched,
    WatchEnded,
    Woken,
)
from refk8s.core.ports import Later, Operation, Result, RuleSet
from refk8s.core.store import EMPTY, Committed, Compacted, History, commit, compact
from refk8s.core.value import Value, evolve, field


class World(Protocol):
    """A container runtime as a value."""

    def carry_out(self, operation: Operation, now: Instant, chance: Chance) -> "tuple[World, Result]":
        """The runtime after the operation, and what it answers."""

    def advance(self, now: Instant) -> "tuple[World, tuple[str, ...]]":
        """The runtime at this instant, and the uids of pods whose containers changed by themselves."""

    def next_change(self) -> Instant | None:
        """When something will change by itself."""


# --- actions -----------------------------------------------------------------------------------------------------------


class Arrive(Value, frozen=True, order=True):
    """A request reaches the API server and takes effect (or is refused); its answer sets out."""

    flying: int


class Answer(Value, frozen=True, order=True):
    """An answer reaches the component that asked."""

    flying: int


class Notify(Value, frozen=True, order=True):
    """A watch delivers its next changes (CLUSTER-2), up to `limit` of them (or a bookmark where there are none that match)."""

    watch: int
    limit: int = 1_000_000


class Operate(Value, frozen=True, order=True):
    """A node's runtime carries out an operation and answers."""

    operation: int


class Wake(Value, frozen=True, order=True):
    """A component's timer goes off."""

    machine: str


class Elapse(Value, frozen=True, order=True):
    """Time passes up to this instant."""

    to: Instant


class Crash(Value, frozen=True, order=True):
    """A component loses its state and starts again; what it had sent is still on its way, what comes back is for nobody (CLUSTER-3)."""

    machine: str


class CutWatch(Value, frozen=True, order=True):
    """A watch stream breaks off."""

    watch: int


class LoseRequest(Value, frozen=True, order=True):
    """A request never arrives; whoever sent it hears nothing (unknown, CLUSTER-5)."""

    flying: int


class LoseAnswer(Value, frozen=True, order=True):
    """An answer never arrives: the request took effect, and whoever sent it does not know."""

    flying: int


class GiveUp(Value, frozen=True, order=True):
    """Whoever sent a request stops waiting for it (unknown), while it is still on its way and may take effect later."""

    flying: int


class Compact(Value, frozen=True, order=True):
    """The store forgets the changes up to this revision."""

    revision: int


class Submit(Value, frozen=True):
    """Somebody outside (a user, a test) sends a request; it takes effect at once."""

    request: Request


class Disturb(Value, frozen=True):
    """A node's world changes by force: a container dies, an image is not to be had. `change` maps the world to the next."""

    machine: str
    change: "Callable[[Any, Instant], tuple[Any, tuple[str, ...]]]"
    words: str = ""


Action: TypeAlias = (
    Arrive | Answer | Notify | Operate | Wake | Elapse | Crash | CutWatch | LoseRequest | LoseAnswer | GiveUp | Compact | Submit | Disturb
)  # fmt: skip


# --- state -------------------------------------------------------------------------------------------------------------


class Flying(Value, frozen=True, eq=False):
    """A request (answer None) or an answer on its way; for a life of a machine, under the id that it chose."""

    machine: str
    life: int
    id: int
    request: Request
    answer: Response | None = None
    watch: bool = False
    given_up: bool = False


class Cursor(Value, frozen=True, eq=False):
    """An open watch."""

    machine: str
    life: int
    id: int
    stream: Stream
    revision: int
    initial: tuple[WatchEvent, ...] = ()


class Component(Value, frozen=True, eq=False):
    """A machine as it is now."""

    state: Any
    life: int
    wake_at: Instant | None = None


class Pending(Value, frozen=True, eq=False):
    """An operation that a runtime has been asked for."""

    machine: str
    life: int
    id: int
    operation: Operation
    due: Instant = 0  # the runtime takes until then


class Cluster(Value, frozen=True, eq=False):
    """The state of everything. A value: keep one to go back to it (CLUSTER-6)."""

    machines: Mapping[str, AnyMachine]  # what they are; never changes
    seed: bytes
    now: Instant
    history: History[Any] = EMPTY
    components: Map[str, Component] = field(default_factory=Map)
    flying: Map[int, Flying] = field(default_factory=Map)
    watches: Map[int, Cursor] = field(default_factory=Map)
    operations: Map[int, Pending] = field(default_factory=Map)
    worlds: Map[str, Any] = field(default_factory=Map)
    rules: Map[str, RuleSet] = field(default_factory=Map)
    counter: int = 0
    last_commit: "Committed[Any] | None" = None  # of the last step, for whoever checks or tells

    def context(self) -> Context:
        """Time and chance for this step: a function of the seed and of how many things have happened."""
        return Context(self.now, SeededChance(self.seed + self.counter.to_bytes(8, "big")))


def begin(machines: Mapping[str, AnyMachine], worlds: Mapping[str, Any], seed: bytes, now: Instant) -> Cluster:
    """A cluster whose store is empty and whose components are about to start (see `start_all`)."""
    return Cluster(machines=dict(machines), seed=seed, now=now, worlds=Map(worlds))


def start_all(cluster: Cluster) -> Cluster:
    """Start every component, in the order of their names."""
    for name in sorted(cluster.machines):
        cluster = _start(cluster, name, life=1)
    return cluster


# --- transitions -------------------------------------------------------------------------------------------------------


def enabled(cluster: Cluster) -> Iterator[Action]:
    """Everything that can happen next without a fault, in a fixed order. Time passes only where nothing else can (CLUSTER-4)."""
    found = False
    for id in sorted(cluster.flying):
        found = True
        yield Arrive(id) if cluster.flying[id].answer is None else Answer(id)
    for id in sorted(cluster.watches):
        if _lag(cluster, cluster.watches[id]):
            found = True
            yield Notify(id)
    for id in sorted(cluster.operations):
        if cluster.operations[id].due <= cluster.now:
            found = True
            yield Operate(id)
    for name in sorted(cluster.components):
        at = cluster.components[name].wake_at
        if at is not None and at <= cluster.now:
            found = True
            yield Wake(name)
    if not found and (next_instant := upcoming(cluster)) is not None:
        yield Elapse(next_instant)


def is_enabled(cluster: Cluster, action: Action) -> bool:
    """Whether an action that was enabled in an earlier state still is."""
    match action:
        case Arrive(id):
            return id in cluster.flying and cluster.flying[id].answer is None
        case Answer(id):
            return id in cluster.flying and cluster.flying[id].answer is not None
        case Notify(id):
            return id in cluster.watches and _lag(cluster, cluster.watches[id])
        case Operate(id):
            return id in cluster.operations and cluster.operations[id].due <= cluster.now
        case Wake(name):
            at = cluster.components[name].wake_at
            return at is not None and at <= cluster.now
        case Elapse(to):
            return not any(not isinstance(other, Elapse) for other in enabled(cluster)) and to == upcoming(cluster)
        case _:
            return False


def upcoming(cluster: Cluster) -> Instant | None:
    """The next instant at which something becomes possible by time alone."""
    instants = [component.wake_at for component in cluster.components.values() if component.wake_at is not None]
    instants += [at for world in cluster.worlds.values() if (at := world.next_change()) is not None]
    instants += [pending.due for pending in cluster.operations.values() if pending.due]
    return max(min(instants), cluster.now) if instants else None


def step(cluster: Cluster, action: Action) -> Cluster:
    """The state after the action. Raises Impossible for an action that is not enabled."""
    cluster = evolve(cluster, counter=cluster.counter + 1, last_commit=None)
    match action:
        case Arrive(id):
            return _arrive(cluster, id)
        case Answer(id):
            flying = _get(cluster.flying, id)
            cluster = evolve(cluster, flying=cluster.flying.delete(id))
            return cluster if flying.given_up else _tell(cluster, flying.machine, flying.life, Answered(flying.id, flying.answer))
        case LoseRequest(id) | LoseAnswer(id):
            flying = _get(cluster.flying, id)
            cluster = evolve(cluster, flying=cluster.flying.delete(id))
            return cluster if flying.given_up else _unknown(cluster, flying)
        case GiveUp(id):
            flying = _get(cluster.flying, id)
            cluster = evolve(cluster, flying=cluster.flying.set(id, evolve(flying, given_up=True)))
            return _unknown(cluster, flying)
        case Notify(id, limit):
            return _notify(cluster, id, limit)
        case Operate(id):
            return _operate(cluster, id)
        case Wake(name):
            component = cluster.components[name]
            cluster = evolve(cluster, components=cluster.components.set(name, evolve(component, wake_at=None)))
            return _tell(cluster, name, component.life, Woken())
        case Elapse(to):
            return _elapse(cluster, to)
        case Crash(name):
            watches = [id for id in sorted(cluster.watches) if cluster.watches[id].machine == name]
            for id in watches:
                cluster = evolve(cluster, watches=cluster.watches.delete(id))
            return _start(cluster, name, cluster.components[name].life + 1)
        case CutWatch(id):
            cursor = _get(cluster.watches, id)
            cluster = evolve(cluster, watches=cluster.watches.delete(id))
            return _tell(cluster, cursor.machine, cursor.life, WatchEnded(cursor.id))
        case Compact(revision):
            return evolve(cluster, history=compact(cluster.history, revision))
        case Submit(request):
            return submit(cluster, request)[0]
        case Disturb(name, change):
            world, changed = change(cluster.worlds[name], cluster.now)
            cluster = evolve(cluster, worlds=cluster.worlds.set(name, world))
            return _tell(cluster, name, cluster.components[name].life, RuntimeChanged(changed)) if changed else cluster


def submit(cluster: Cluster, request: Request) -> tuple[Cluster, Response]:
    """The API server takes one request: decide, commit, answer. With one server and no time in between there is no conflict."""
    outcome = handle(request, cluster.history, cluster.context())
    if isinstance(outcome, Response):
        return cluster, outcome
    if not isinstance(outcome, Commit):
        raise Impossible(f"{request.verb} of {request.resource.plural} is a stream")
    history, result = commit(cluster.history, outcome.txn, stamp)
    if not isinstance(result, Committed):
        raise Impossible(f"a request handled on the newest state met a conflict: {result}")
    return evolve(cluster, history=history, last_commit=result), outcome.respond(result)


def _arrive(cluster: Cluster, id: int) -> Cluster:
    flying = _get(cluster.flying, id)
    if flying.watch:
        return _open_watch(evolve(cluster, flying=cluster.flying.delete(id)), flying)
    cluster, response = submit(cluster, flying.request)
    return evolve(cluster, flying=cluster.flying.set(id, evolve(flying, answer=response)))


def _open_watch(cluster: Cluster, flying: Flying) -> Cluster:
    if not _is_alive(cluster, flying.machine, flying.life):
        return cluster
    outcome = handle(flying.request, cluster.history, cluster.context())
    if not isinstance(outcome, Stream):
        code = outcome.code if isinstance(outcome, Response) else 0
        return _tell(cluster, flying.machine, flying.life, WatchEnded(flying.id, code))
    cursor = Cursor(flying.machine, flying.life, flying.id, outcome, outcome.revision, watching.initial_events(outcome))
    return evolve(cluster, watches=cluster.watches.set(cluster.counter, cursor))


def _lag(cluster: Cluster, cursor: Cursor) -> bool:
    if cursor.initial or cursor.revision < cluster.history.compacted:
        return True
    return cursor.revision < cluster.history.prefix_revision(watching.prefix_of(cursor.stream))


def _notify(cluster: Cluster, id: int, limit: int) -> Cluster:
    cursor = _get(cluster.watches, id)
    try:
        changes = cluster.history.changes(watching.prefix_of(cursor.stream), cursor.revision, limit)
    except Compacted:
        cluster = evolve(cluster, watches=cluster.watches.delete(id))
        return _tell(cluster, cursor.machine, cursor.life, WatchEnded(cursor.id, 410))
    events = (*cursor.initial, *watching.events(cursor.stream, changes))
    revision = changes[-1].revision if changes else cluster.history.revision
    if not events and cursor.stream.bookmarks:
        events = (WatchEvent("BOOKMARK", None, revision),)
    cluster = evolve(cluster, watches=cluster.watches.set(id, evolve(cursor, revision=revision, initial=())))
    return _tell(cluster, cursor.machine, cursor.life, Watched(cursor.id, events)) if events else cluster


def _operate(cluster: Cluster, id: int) -> Cluster:
    pending = _get(cluster.operations, id)
    world, result = cluster.worlds[pending.machine].carry_out(pending.operation, cluster.now, cluster.context().chance)
    cluster = evolve(cluster, worlds=cluster.worlds.set(pending.machine, world))
    if isinstance(result, Later):
        return evolve(cluster, operations=cluster.operations.set(id, evolve(pending, due=result.at)))
    cluster = evolve(cluster, operations=cluster.operations.delete(id))
    return _tell(cluster, pending.machine, pending.life, Ran(pending.id, result))


def _elapse(cluster: Cluster, to: Instant) -> Cluster:
    if to < cluster.now:
        raise Impossible("time does not go back")
    cluster = evolve(cluster, now=to)
    for name in sorted(cluster.worlds):
        world, changed = cluster.worlds[name].advance(to)
        if world is not cluster.worlds[name]:
            cluster = evolve(cluster, worlds=cluster.worlds.set(name, world))
        if changed:
            cluster = _tell(cluster, name, cluster.components[name].life, RuntimeChanged(changed))
    return cluster


def _start(cluster: Cluster, name: str, life: int) -> Cluster:
    seed = cluster.context().chance.draw(16) + name.encode() + life.to_bytes(4, "big")
    state, effects = cluster.machines[name].start(cluster.now, seed)
    cluster = evolve(cluster, components=cluster.components.set(name, Component(state, life)))
    return _carry_out(cluster, name, life, effects)


def _is_alive(cluster: Cluster, name: str, life: int) -> bool:
    return cluster.components[name].life == life


def _unknown(cluster: Cluster, flying: Flying) -> Cluster:
    event: Event = WatchEnded(flying.id) if flying.watch else Answered(flying.id, None)
    return _tell(cluster, flying.machine, flying.life, event)


def _tell(cluster: Cluster, name: str, life: int, event: Event) -> Cluster:
    """Let a machine take a step; an event for an earlier life goes nowhere (CLUSTER-3)."""
    if not _is_alive(cluster, name, life):
        return cluster
    component = cluster.components[name]
    state, effects = cluster.machines[name].step(component.state, (event,), cluster.now)
    cluster = evolve(cluster, components=cluster.components.set(name, evolve(component, state=state)))
    return _carry_out(cluster, name, life, effects)


def _carry_out(cluster: Cluster, name: str, life: int, effects: Effects) -> Cluster:
    for effect in effects:
        number = cluster.counter + 1
        cluster = evolve(cluster, counter=number)
        match effect:
            case Call(id, request):
                cluster = evolve(cluster, flying=cluster.flying.set(number, Flying(name, life, id, request)))
            case Watch(id, request):
                cluster = evolve(cluster, flying=cluster.flying.set(number, Flying(name, life, id, request, watch=True)))
            case Unwatch(id):
                for at in sorted(cluster.watches):
                    if (cluster.watches[at].machine, cluster.watches[at].life, cluster.watches[at].id) == (name, life, id):
                        cluster = evolve(cluster, watches=cluster.watches.delete(at))
            case WakeAt(at_instant):
                component = evolve(cluster.components[name], wake_at=at_instant)
                cluster = evolve(cluster, components=cluster.components.set(name, component))
            case Run(id, operation):
                cluster = evolve(cluster, operations=cluster.operations.set(number, Pending(name, life, id, operation)))
            case Program(id, rules):
                # Programming takes effect at once: what varies between adapters is only how long it takes, and Wake covers that.
                cluster = evolve(cluster, rules=cluster.rules.set(name, rules))
                cluster = _tell(cluster, name, life, Programmed(id))
    return cluster


def _get(among: Map[int, Any], id: int) -> Any:
    found = among.get(id)
    if found is None:
        raise Impossible(f"nothing is called {id} here")
    return found
