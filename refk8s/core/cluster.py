"""The whole cluster as one transition system: a state, the actions enabled in it, and what each does. Rules CLUSTER-1 ... CLUSTER-13
(spec/cluster.md).

    history      the store
    caches       API servers whose cache has stopped following the store, each with what it last saw
    components   every machine's state, its life (how often it started), whether it is up, its clock and its API server
    flying       requests on their way to the API server, and answers on their way back
    watches      open watches, each a cursor into the history: its lag is a number, no queues
    operations   what container runtimes have been asked and not yet answered
    held         what is held back, and until when
    worlds       the container runtime of each node
    now          virtual time: it moves only by `Elapse`

Nothing happens that is not an action (refk8s/core/actions.py), so a run is a seed and a list of actions, and replays (CLUSTER-1).
Whatever one component sends another may arrive late and out of order with others, but changes within one watch keep their order
(CLUSTER-2). Faults are actions like any other.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from immutables import Map

from refk8s.core.actions import (
    Action,
    Answer,
    Arrive,
    CatchUp,
    Channel,
    Compact,
    Crash,
    CutWatch,
    Delay,
    Disturb,
    Duplicate,
    Elapse,
    GiveUp,
    LoseAnswer,
    LoseRequest,
    Notify,
    Operate,
    Partition,
    Refuse,
    RestartServer,
    Skew,
    Stale,
    Start,
    Stop,
    Submit,
    Switch,
    Wake,
)
from refk8s.core.api import status
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
    Problem,
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

    def carry_out(self, operation: Operation, now: Instant, chance: Chance) -> "tuple[World, Result | Later]":
        """The runtime after the operation, and what it answers."""

    def advance(self, now: Instant) -> "tuple[World, tuple[str, ...]]":
        """The runtime at this instant, and the uids of pods whose containers changed by themselves."""

    def next_change(self) -> Instant | None:
        """When something will change by itself."""

    def disturb(self, what: str, which: str, now: Instant) -> "tuple[World, tuple[str, ...]]":
        """The runtime after a fault of this name, and the uids of pods whose containers changed."""


# --- state -------------------------------------------------------------------------------------------------------------


class Flying(Value, frozen=True, eq=False):
    """A request (answer None) or an answer on its way."""

    request: Request
    answer: Response | None = None
    watch: bool = False
    given_up: bool = False


class Cursor(Value, frozen=True, eq=False):
    """An open watch."""

    stream: Stream
    revision: int
    initial: tuple[WatchEvent, ...] = ()


class Component(Value, frozen=True, eq=False):
    """A machine as it is now. A stopped one (`back_at`) has no state and hears nothing."""

    state: Any
    life: int
    wake_at: Instant | None = None  # in the cluster's time
    back_at: Instant | None = None
    skew: Instant = 0
    server: int = 0


class Pending(Value, frozen=True, eq=False):
    """An operation that a runtime has been asked for."""

    operation: Operation
    due: Instant = 0  # the runtime takes until then


class Cache(Value, frozen=True, eq=False):
    """What a stale API server knows of the store."""

    history: History[Any]
    until: Instant


class Cluster(Value, frozen=True, eq=False):
    """The state of everything. A value: keep one to go back to it (CLUSTER-6)."""

    machines: Mapping[str, AnyMachine]  # what they are; never changes
    seed: bytes
    now: Instant
    history: History[Any] = EMPTY
    caches: Map[int, Cache] = field(default_factory=Map)
    components: Map[str, Component] = field(default_factory=Map)
    flying: Map[Channel, Flying] = field(default_factory=Map)
    watches: Map[Channel, Cursor] = field(default_factory=Map)
    operations: Map[Channel, Pending] = field(default_factory=Map)
    held: Map[Channel | str, Instant] = field(default_factory=Map)  # a channel, or all between a machine and the API server
    worlds: Map[str, Any] = field(default_factory=Map)
    rules: Map[str, RuleSet] = field(default_factory=Map)
    last_commit: "Committed[Any] | None" = None  # of the last step, for whoever checks or tells

    def context(self) -> Context:
        """Time and chance for the next write: a function of the seed and of the revision, so that no other order can show (CLUSTER-12)."""
        return Context(self.now, SeededChance(self.seed + self.history.revision.to_bytes(8, "big")))

    def chance(self, channel: Channel) -> Chance:
        """Chance for what one channel carries, or for one start of a machine (id 0 and its life)."""
        name, life, id = channel
        return SeededChance(self.seed + name.encode() + life.to_bytes(4, "big") + id.to_bytes(8, "big"))


def begin(machines: Mapping[str, AnyMachine], worlds: Mapping[str, Any], seed: bytes, now: Instant) -> Cluster:
    """A cluster whose store is empty and whose components are about to start (see `start_all`)."""
    return Cluster(machines=dict(machines), seed=seed, now=now, worlds=Map(worlds))


def start_all(cluster: Cluster) -> Cluster:
    """Start every component, in the order of their names."""
    for name in sorted(cluster.machines):
        cluster = _start(cluster, name, Component(None, 1))
    return cluster


# --- transitions -------------------------------------------------------------------------------------------------------


def enabled(cluster: Cluster) -> Iterator[Action]:
    """Everything that can happen next without a fault, in a fixed order. Time passes only where nothing else can (CLUSTER-4)."""
    found = False
    for action in happenings(cluster):
        found = True
        yield action
    if not found and (next_instant := upcoming(cluster)) is not None:
        yield Elapse(next_instant)


def happenings(cluster: Cluster) -> Iterator[Action]:
    """What can happen now, time not counted, in a fixed order."""
    held = cluster.held
    for channel in sorted(cluster.flying):
        if not held or not is_held(cluster, channel):
            yield Arrive(channel) if cluster.flying[channel].answer is None else Answer(channel)
    for channel in sorted(cluster.watches):
        if is_behind(cluster, channel, cluster.watches[channel]) and not (held and is_held(cluster, channel)):
            yield Notify(channel)
    for channel in sorted(cluster.operations):
        if is_operable(cluster, channel):
            yield Operate(channel)
    for name in sorted(cluster.components):
        component = cluster.components[name]
        if component.back_at is not None:
            if component.back_at <= cluster.now:
                yield Start(name)
        elif component.wake_at is not None and component.wake_at <= cluster.now:
            yield Wake(name)
    for server in sorted(cluster.caches):
        if cluster.caches[server].until <= cluster.now:
            yield CatchUp(server)


def is_enabled(cluster: Cluster, action: Action) -> bool:
    """Whether an action is one of those that `enabled` names (a Notify of any limit), or a fault that finds what it is about."""
    match action:
        case Arrive(channel):
            return channel in cluster.flying and cluster.flying[channel].answer is None and not is_held(cluster, channel)
        case Answer(channel):
            return channel in cluster.flying and cluster.flying[channel].answer is not None and not is_held(cluster, channel)
        case Notify(channel):
            return channel in cluster.watches and is_behind(cluster, channel, cluster.watches[channel]) and not is_held(cluster, channel)
        case Operate(channel):
            return channel in cluster.operations and is_operable(cluster, channel)
        case Wake(name):
            component = cluster.components.get(name)
            return component is not None and (at := component.wake_at) is not None and component.back_at is None and at <= cluster.now
        case Start(name):
            component = cluster.components.get(name)
            return component is not None and component.back_at is not None and component.back_at <= cluster.now
        case CatchUp(server):
            return server in cluster.caches and cluster.caches[server].until <= cluster.now
        case Elapse(to):
            return to == upcoming(cluster) and next(happenings(cluster), None) is None
        case LoseRequest(channel) | Refuse(channel):
            return channel in cluster.flying and cluster.flying[channel].answer is None
        case LoseAnswer(channel):
            return channel in cluster.flying and cluster.flying[channel].answer is not None
        case GiveUp(channel):
            flying = cluster.flying.get(channel)
            return flying is not None and flying.answer is None and not flying.given_up and not flying.watch
        case Duplicate(channel):
            flying = cluster.flying.get(channel)
            return flying is not None and flying.answer is None and not flying.watch
        case CutWatch(channel):
            return channel in cluster.watches
        case Delay(channel, until):
            known = channel in cluster.flying or channel in cluster.watches or channel in cluster.operations
            return known and until > cluster.now
        case Crash(name):
            return _is_up(cluster, name)
        case Stop(name, until) | Partition(name, until):
            return _is_up(cluster, name) and until > cluster.now
        case Stale(server, until):
            return server not in cluster.caches and until > cluster.now
        case Switch(name, server):
            return _is_up(cluster, name) and cluster.components[name].server != server
        case Compact(revision):
            return cluster.history.compacted < revision <= cluster.history.revision
        case Skew(name):
            return name in cluster.components
        case Disturb(name):
            return name in cluster.worlds
        case _:
            return True


def upcoming(cluster: Cluster) -> Instant | None:
    """The next instant at which something becomes possible by time alone."""
    instants = [at for c in cluster.components.values() if (at := c.wake_at if c.back_at is None else c.back_at) is not None]
    instants += [at - _skew(cluster, name) for name, world in cluster.worlds.items() if (at := world.next_change()) is not None]
    instants += [pending.due for pending in cluster.operations.values() if pending.due > cluster.now]
    instants += [at for at in cluster.held.values() if at > cluster.now]
    instants += [cache.until for cache in cluster.caches.values()]
    return max(min(instants), cluster.now) if instants else None


def step(cluster: Cluster, action: Action) -> Cluster:
    """The state after the action. Raises Impossible for an action about something that is not there."""
    if cluster.last_commit is not None:
        cluster = evolve(cluster, last_commit=None)
    match action:
        case Arrive(channel):
            return _arrive(cluster, channel)
        case Answer(channel):
            flying = _get(cluster.flying, channel)
            cluster = evolve(cluster, flying=cluster.flying.delete(channel))
            return cluster if flying.given_up else _tell(cluster, channel, Answered(channel[2], flying.answer))
        case Notify(channel, limit):
            return _notify(cluster, channel, limit)
        case Operate(channel):
            return _operate(cluster, channel)
        case Wake(name):
            component = cluster.components[name]
            cluster = evolve(cluster, components=cluster.components.set(name, evolve(component, wake_at=None)))
            return _tell(cluster, (name, component.life, 0), Woken())
        case Elapse(to):
            return _elapse(cluster, to)
        case Submit(request):
            return submit(cluster, request)[0]
        case CatchUp(server):
            return evolve(cluster, caches=cluster.caches.delete(server))
        case Start(name):
            return _start(cluster, name, evolve(cluster.components[name], life=cluster.components[name].life + 1))
        case _:
            return _fault(cluster, action)


def submit(cluster: Cluster, request: Request) -> tuple[Cluster, Response]:
    """The API server takes one request: decide, commit, answer. With one store and no time in between there is no conflict."""
    outcome = handle(request, cluster.history, cluster.context())
    if isinstance(outcome, Response):
        return cluster, outcome
    if not isinstance(outcome, Commit):
        raise Impossible(f"{request.verb} of {request.resource.plural} is a stream")
    history, result = commit(cluster.history, outcome.txn, stamp)
    if not isinstance(result, Committed):
        raise Impossible(f"a request handled on the newest state met a conflict: {result}")
    cluster = evolve(cluster, history=history, last_commit=result)
    return submit(cluster, outcome.rest) if outcome.rest is not None else (cluster, outcome.respond(result))


def _fault(cluster: Cluster, action: Action) -> Cluster:
    match action:
        case LoseRequest(channel) | LoseAnswer(channel):
            flying = _get(cluster.flying, channel)
            cluster = evolve(cluster, flying=cluster.flying.delete(channel))
            return cluster if flying.given_up else _unknown(cluster, channel, flying)
        case GiveUp(channel):
            flying = _get(cluster.flying, channel)
            cluster = evolve(cluster, flying=cluster.flying.set(channel, evolve(flying, given_up=True)))
            return _unknown(cluster, channel, flying)
        case Duplicate(channel):
            return submit(cluster, _get(cluster.flying, channel).request)[0]  # CLUSTER-7
        case Refuse(channel, code):
            flying = _get(cluster.flying, channel)
            if flying.watch:
                return _tell(evolve(cluster, flying=cluster.flying.delete(channel)), channel, WatchEnded(channel[2], code))
            refusal = "the store does not answer"
            answer = Response(code, status.unavailable(refusal) if code == 503 else status.internal_error(refusal))
            return evolve(cluster, flying=cluster.flying.set(channel, evolve(flying, answer=answer)))
        case CutWatch(channel):
            _get(cluster.watches, channel)
            return _cut(cluster, [channel])
        case Delay(what, until) | Partition(what, until):
            return evolve(cluster, held=cluster.held.set(what, until))
        case RestartServer():  # CLUSTER-9
            return _break_connections(cluster, sorted(cluster.flying), sorted(cluster.watches))
        case Switch(name, server):
            component = cluster.components[name]
            cluster = evolve(cluster, components=cluster.components.set(name, evolve(component, server=server)))
            own = [channel for channel in sorted(cluster.flying) if channel[0] == name]
            return _break_connections(cluster, own, [channel for channel in sorted(cluster.watches) if channel[0] == name])
        case Stale(server, until):
            return evolve(cluster, caches=cluster.caches.set(server, Cache(cluster.history, until)))
        case Crash(name):
            component = cluster.components[name]
            return _start(_forget_watches(cluster, name), name, evolve(component, life=component.life + 1))
        case Stop(name, until):
            stopped = evolve(cluster.components[name], state=None, wake_at=None, back_at=until)
            return evolve(_forget_watches(cluster, name), components=cluster.components.set(name, stopped))
        case Skew(name, by):
            return evolve(cluster, components=cluster.components.set(name, evolve(cluster.components[name], skew=by)))
        case Compact(revision):
            return evolve(cluster, history=compact(cluster.history, revision))
        case Disturb(name, what, which):
            world, changed = cluster.worlds[name].disturb(what, which, cluster.now + _skew(cluster, name))
            cluster = evolve(cluster, worlds=cluster.worlds.set(name, world))
            return _tell(cluster, _own(cluster, name), RuntimeChanged(changed)) if changed else cluster
        case _:
            raise Impossible(f"no such action: {action}")


# --- requests and watches -----------------------------------------------------------------------------------------------


def _arrive(cluster: Cluster, channel: Channel) -> Cluster:
    flying = _get(cluster.flying, channel)
    if flying.watch:
        return _open_watch(evolve(cluster, flying=cluster.flying.delete(channel)), channel, flying.request)
    if flying.request.verb == "list" and flying.request.options.resource_version == "0":  # CLUSTER-10: whatever the cache has
        response = handle(flying.request, _known_to(cluster, channel[0]), cluster.context())
    else:
        cluster, response = submit(cluster, flying.request)
    return evolve(cluster, flying=cluster.flying.set(channel, evolve(flying, answer=response)))


def _open_watch(cluster: Cluster, channel: Channel, request: Request) -> Cluster:
    if not _is_alive(cluster, channel):
        return cluster
    outcome = handle(request, _known_to(cluster, channel[0]), cluster.context())
    if not isinstance(outcome, Stream):
        code = outcome.code if isinstance(outcome, Response) else 0
        return _tell(cluster, channel, WatchEnded(channel[2], code))
    cursor = Cursor(outcome, outcome.revision, watching.initial_events(outcome))
    return evolve(cluster, watches=cluster.watches.set(channel, cursor))


def _known_to(cluster: Cluster, machine: str) -> History[Any]:
    """What the cache of this machine's API server has seen (CLUSTER-10)."""
    if not cluster.caches:
        return cluster.history
    cache = cluster.caches.get(cluster.components[machine].server)
    return cluster.history if cache is None else cache.history


def is_behind(cluster: Cluster, channel: Channel, cursor: Cursor) -> bool:
    """Whether this watch has something to tell."""
    known = _known_to(cluster, channel[0])
    if cursor.initial or cursor.revision < known.compacted:
        return True
    return cursor.revision < known.prefix_revision(watching.prefix_of(cursor.stream))


def _notify(cluster: Cluster, channel: Channel, limit: int) -> Cluster:
    cursor = _get(cluster.watches, channel)
    known = _known_to(cluster, channel[0])
    try:
        changes = known.changes(watching.prefix_of(cursor.stream), cursor.revision, limit) if cursor.revision <= known.revision else ()
    except Compacted:
        cluster = evolve(cluster, watches=cluster.watches.delete(channel))
        return _tell(cluster, channel, WatchEnded(channel[2], 410))
    events = (*cursor.initial, *watching.events(cursor.stream, changes))
    revision = changes[-1].revision if changes else max(known.revision, cursor.revision)
    if not events and cursor.stream.bookmarks:
        events = (WatchEvent("BOOKMARK", None, revision),)
    cluster = evolve(cluster, watches=cluster.watches.set(channel, evolve(cursor, revision=revision, initial=())))
    return _tell(cluster, channel, Watched(channel[2], events)) if events else cluster


def _unknown(cluster: Cluster, channel: Channel, flying: Flying) -> Cluster:
    event: Event = WatchEnded(channel[2]) if flying.watch else Answered(channel[2], None)
    return _tell(cluster, channel, event)


def _cut(cluster: Cluster, channels: list[Channel]) -> Cluster:
    """End these watches, then say so: what a component does about one must not meet another that is about to end."""
    for channel in channels:
        cluster = evolve(cluster, watches=cluster.watches.delete(channel))
    for channel in channels:
        cluster = _tell(cluster, channel, WatchEnded(channel[2]))
    return cluster


def _break_connections(cluster: Cluster, flying: list[Channel], watches: list[Channel]) -> Cluster:
    lost = [(channel, cluster.flying[channel]) for channel in flying]
    for channel, _ in lost:
        cluster = evolve(cluster, flying=cluster.flying.delete(channel))
    cluster = _cut(cluster, watches)
    for channel, one in lost:
        if not one.given_up:
            cluster = _unknown(cluster, channel, one)
    return cluster


def is_operable(cluster: Cluster, channel: Channel) -> bool:
    """Whether a runtime may carry this out now: not before what an earlier life asked about the same pod has been begun (CLUSTER-13)."""
    pending, now = cluster.operations[channel], cluster.now
    if pending.due > now or cluster.held.get(channel, 0) > now:
        return False
    if len(cluster.operations) == 1 or channel[1] == 1:
        return True
    pod = _pod_of(pending.operation)
    earlier = [other for other in cluster.operations if other[0] == channel[0] and other[1] < channel[1]] if pod else []
    return not any(cluster.operations[other].due == 0 and _pod_of(cluster.operations[other].operation) == pod for other in earlier)


def _pod_of(operation: Operation) -> str:
    """The uid of the pod that an operation is about; empty where it is about the node."""
    about = getattr(operation, "config", operation)
    return str(getattr(about, "pod_uid", ""))


def is_held(cluster: Cluster, channel: Channel) -> bool:
    """CLUSTER-8: by itself, or with all that its machine sends and hears."""
    held = cluster.held
    return bool(held) and (held.get(channel, 0) > cluster.now or held.get(channel[0], 0) > cluster.now)


# --- machines and worlds ------------------------------------------------------------------------------------------------


def _operate(cluster: Cluster, channel: Channel) -> Cluster:
    pending = _get(cluster.operations, channel)
    name = channel[0]
    skew = _skew(cluster, name)
    world, result = cluster.worlds[name].carry_out(pending.operation, cluster.now + skew, cluster.chance(channel))
    cluster = evolve(cluster, worlds=cluster.worlds.set(name, world))
    if isinstance(result, Later):
        return evolve(cluster, operations=cluster.operations.set(channel, evolve(pending, due=result.at - skew)))
    cluster = evolve(cluster, operations=cluster.operations.delete(channel))
    return _tell(cluster, channel, Ran(channel[2], result))


def _elapse(cluster: Cluster, to: Instant) -> Cluster:
    if to < cluster.now:
        raise Impossible("time does not go back")
    cluster = evolve(cluster, now=to)
    if cluster.held:
        for what in [what for what, until in sorted(cluster.held.items(), key=str) if until <= to]:
            cluster = evolve(cluster, held=cluster.held.delete(what))
    for name in sorted(cluster.worlds):
        world, changed = cluster.worlds[name].advance(to + _skew(cluster, name))
        if world is not cluster.worlds[name]:
            cluster = evolve(cluster, worlds=cluster.worlds.set(name, world))
        if changed:
            cluster = _tell(cluster, _own(cluster, name), RuntimeChanged(changed))
    return cluster


def _start(cluster: Cluster, name: str, component: Component) -> Cluster:
    """A new life: the machine remembers nothing; its clock and its API server stay what they were."""
    seed = cluster.chance((name, component.life, 0)).draw(16) + name.encode() + component.life.to_bytes(4, "big")
    state, effects = cluster.machines[name].start(cluster.now + component.skew, seed)
    component = evolve(component, state=state, wake_at=None, back_at=None)
    return _carry_out(evolve(cluster, components=cluster.components.set(name, component)), name, component.life, effects)


def _forget_watches(cluster: Cluster, name: str) -> Cluster:
    for channel in [channel for channel in sorted(cluster.watches) if channel[0] == name]:
        cluster = evolve(cluster, watches=cluster.watches.delete(channel))
    return cluster


def _is_up(cluster: Cluster, name: str) -> bool:
    component = cluster.components.get(name)
    return component is not None and component.back_at is None


def _skew(cluster: Cluster, name: str) -> Instant:
    """How far a machine's clock is ahead (CLUSTER-11)."""
    component = cluster.components.get(name)
    return component.skew if component is not None else 0


def _own(cluster: Cluster, name: str) -> Channel:
    """The channel by which a machine hears of itself, in its present life."""
    return name, cluster.components[name].life, 0


def _is_alive(cluster: Cluster, channel: Channel) -> bool:
    component = cluster.components[channel[0]]
    return component.life == channel[1] and component.back_at is None


def _tell(cluster: Cluster, channel: Channel, event: Event) -> Cluster:
    """Let a machine take a step; an event for an earlier life, or for a stopped machine, goes nowhere (CLUSTER-3)."""
    if not _is_alive(cluster, channel):
        return cluster
    name, life, _ = channel
    component = cluster.components[name]
    state, effects = cluster.machines[name].step(component.state, (event,), cluster.now + component.skew)
    cluster = evolve(cluster, components=cluster.components.set(name, evolve(component, state=state)))
    return _carry_out(cluster, name, life, effects)


def _carry_out(cluster: Cluster, name: str, life: int, effects: Effects) -> Cluster:
    for effect in effects:
        match effect:
            case Call(id, request):
                cluster = evolve(cluster, flying=cluster.flying.set((name, life, id), Flying(request)))
            case Watch(id, request):
                cluster = evolve(cluster, flying=cluster.flying.set((name, life, id), Flying(request, watch=True)))
            case Unwatch(id):
                if (name, life, id) in cluster.watches:
                    cluster = evolve(cluster, watches=cluster.watches.delete((name, life, id)))
            case WakeAt(at):
                component = cluster.components[name]
                component = evolve(component, wake_at=None if at is None else at - component.skew)
                cluster = evolve(cluster, components=cluster.components.set(name, component))
            case Run(id, operation):
                cluster = evolve(cluster, operations=cluster.operations.set((name, life, id), Pending(operation)))
            case Program(id, rules):
                # Programming takes effect at once: what varies between adapters is only how long it takes, and Wake covers that.
                cluster = evolve(cluster, rules=cluster.rules.set(name, rules))
                cluster = _tell(cluster, (name, life, id), Programmed(id))
            case Problem(error=error):
                raise error  # A driver reports it and goes on (LOOP-10); here it is what the run has found (SIM-8).
    return cluster


def _get(among: Map[Channel, Any], channel: Channel) -> Any:
    found = among.get(channel)
    if found is None:
        raise Impossible(f"nothing is called {channel} here")
    return found
