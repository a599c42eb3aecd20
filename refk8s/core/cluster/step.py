"""One action of the cluster: the state after it (spec/cluster.md)."""

from typing import Any

from immutables import Map

from refk8s.core.actions import (
    Action,
    Answer,
    Arrive,
    CatchUp,
    Channel,
    Compact,
    Crash,
    CutOff,
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
    Resume,
    Skew,
    Stale,
    Start,
    StartServer,
    Stop,
    StopServer,
    Submit,
    Suspend,
    Switch,
    Wake,
)
from refk8s.core.api.request import Request, Response
from refk8s.core.apiserver.calls import Ask
from refk8s.core.cluster.component import handle_event, is_alive, own_channel, resume, start
from refk8s.core.cluster.messages import COMPACTED, deliver, no_answer, open_cursor, refusal
from refk8s.core.cluster.servers import call, carry_out, catch_up, decide, submit
from refk8s.core.cluster.state import (
    Cache,
    Cluster,
    Component,
    Flying,
    Pending,
    clock_skew,
    known_to,
    server_of,
)
from refk8s.core.context import Instant
from refk8s.core.machine import (
    Answered,
    Impossible,
    Ran,
    RuntimeChanged,
    Watched,
    WatchEnded,
    Woken,
    server_number,
)
from refk8s.core.ports import Later, Post
from refk8s.core.store import compact
from refk8s.core.value import evolve


def start_all(cluster: Cluster) -> Cluster:
    """Start every component, in the order of their names, and spread them over the API servers.
    Those in the process of one use that one."""
    for index, name in enumerate(sorted(cluster.machines)):
        own = server_number(name)
        server = index % cluster.apiservers if own is None else own
        cluster = start(cluster, name, Component(None, 1, server=server))
    return cluster


def step(cluster: Cluster, action: Action) -> Cluster:
    """The state after the action. Raises Impossible for an action on something that is absent."""
    if cluster.last_commit is not None:
        cluster = evolve(cluster, last_commit=None)
    match action:
        case Arrive(channel):
            return _arrive(cluster, channel)
        case Answer(channel):
            flying = _get(cluster.flying, channel)
            cluster = evolve(cluster, flying=cluster.flying.delete(channel))
            return (
                cluster
                if flying.given_up
                else handle_event(cluster, channel, Answered(channel[2], flying.answer))
            )
        case Notify(channel, limit):
            return _notify(cluster, channel, limit)
        case Operate(channel):
            return _operate(cluster, channel)
        case Wake(name):
            component = cluster.components[name]
            cluster = evolve(
                cluster, components=cluster.components.set(name, evolve(component, wake_at=None))
            )
            return handle_event(cluster, (name, component.life, 0), Woken())
        case Elapse(to):
            return _elapse(cluster, to)
        case Submit(request, server):
            return submit(cluster, request, server)[0]
        case Resume(name):
            return resume(cluster, name)
        case CatchUp(server):
            return catch_up(cluster, server)
        case StartServer(server):
            return evolve(cluster, down=cluster.down.delete(server))
        case Start(name):
            return start(
                cluster,
                name,
                evolve(cluster.components[name], life=cluster.components[name].life + 1),
            )
        case _:
            return _fault(cluster, action)


def _fault(cluster: Cluster, action: Action) -> Cluster:
    match action:
        case LoseRequest(channel) | LoseAnswer(channel):
            flying = _get(cluster.flying, channel)
            cluster = evolve(cluster, flying=cluster.flying.delete(channel))
            return cluster if flying.given_up else _unknown(cluster, channel, flying)
        case GiveUp(channel):
            flying = _get(cluster.flying, channel)
            cluster = evolve(
                cluster, flying=cluster.flying.set(channel, evolve(flying, given_up=True))
            )
            return _unknown(cluster, channel, flying)
        case Duplicate(channel):
            request = _get(cluster.flying, channel).request
            return submit(cluster, request, server_of(cluster, channel))[0]  # CLUSTER-7
        case Refuse(channel, code):
            flying = _get(cluster.flying, channel)
            if flying.watch:
                return handle_event(
                    evolve(cluster, flying=cluster.flying.delete(channel)),
                    channel,
                    WatchEnded(channel[2], code),
                )
            return evolve(
                cluster, flying=cluster.flying.set(channel, evolve(flying, answer=refusal(code)))
            )
        case CutWatch(channel):
            _get(cluster.watches, channel)
            return _cut(cluster, [channel])
        case Delay(what, until) | Partition(what, until):
            return evolve(cluster, held=cluster.held.set(what, until))
        case RestartServer():  # CLUSTER-9
            return _break_connections(cluster, sorted(cluster.flying), sorted(cluster.watches))
        case Switch(name, server):
            component = cluster.components[name]
            cluster = evolve(
                cluster, components=cluster.components.set(name, evolve(component, server=server))
            )
            return _break_connections_of(cluster, {name})
        case StopServer(server, until):  # CLUSTER-16
            cluster = catch_up(evolve(cluster, down=cluster.down.set(server, until)), server)
            connected = [name for name, one in cluster.components.items() if one.server == server]
            for name in connected:
                if server_number(name) == server:  # it runs in the same process
                    cluster = _stop(cluster, name, until)
            return _break_connections_of(cluster, set(connected))
        case Stale(server, until) | CutOff(server, until):
            cache = cluster.caches.get(server) or Cache(cluster.history)
            cache = Cache(cache.history, until, isinstance(action, CutOff))
            return evolve(cluster, caches=cluster.caches.set(server, cache))
        case Crash(name):
            component = cluster.components[name]
            return start(
                _forget_watches(cluster, name), name, evolve(component, life=component.life + 1)
            )
        case Stop(name, until):
            return _stop(cluster, name, until)
        case Suspend(name, until):
            suspended = evolve(cluster.components[name], resumes_at=until)
            return evolve(cluster, components=cluster.components.set(name, suspended))
        case Skew(name, by):
            return evolve(
                cluster,
                components=cluster.components.set(name, evolve(cluster.components[name], skew=by)),
            )
        case Compact(revision):
            return evolve(cluster, history=compact(cluster.history, revision))
        case Disturb(name, what, which):
            world, changed = cluster.worlds[name].disturb(
                what, which, cluster.now + clock_skew(cluster, name)
            )
            cluster = evolve(cluster, worlds=cluster.worlds.set(name, world))
            return (
                handle_event(cluster, own_channel(cluster, name), RuntimeChanged(changed))
                if changed
                else cluster
            )
        case _:
            raise Impossible(f"no such action: {action}")


def _stop(cluster: Cluster, name: str, until: Instant) -> Cluster:
    """The component loses its state; one that is stopped for longer stays so."""
    component = cluster.components[name]
    until = max(until, component.back_at or until)
    stopped = evolve(component, state=None, wake_at=None, back_at=until, resumes_at=None, inbox=())
    return evolve(_forget_watches(cluster, name), components=cluster.components.set(name, stopped))


def _arrive(cluster: Cluster, channel: Channel) -> Cluster:
    flying = _get(cluster.flying, channel)
    if flying.watch:
        return _open_watch(cluster, channel, flying.request)
    server = server_of(cluster, channel)
    decided = carry_out(cluster, flying.request, server, flying.asked)
    if isinstance(decided.outcome, Ask):  # it arrives again with the results of its calls
        asked, until = call(decided.cluster, decided.outcome)
        waiting = evolve(flying, asked=asked)
        cluster = evolve(decided.cluster, flying=decided.cluster.flying.set(channel, waiting))
        return _hold(cluster, channel, until)
    if decided.outcome is not None and not isinstance(decided.outcome, Response):
        words = f"{flying.request.verb} of {flying.request.resource.plural}"
        raise Impossible(f"{words} is a stream")
    cluster = _hold(decided.cluster, channel, decided.at)
    arrived = evolve(flying, answer=decided.outcome)
    return evolve(cluster, flying=cluster.flying.set(channel, arrived))


def _hold(cluster: Cluster, channel: Channel, until: Instant) -> Cluster:
    """Delay what comes next in this channel."""
    if until <= cluster.now:
        return cluster
    return evolve(cluster, held=cluster.held.set(channel, until))


def _open_watch(cluster: Cluster, channel: Channel, request: Request) -> Cluster:
    decided = decide(cluster, request, server_of(cluster, channel))
    if decided.outcome is None:
        return _hold(cluster, channel, decided.at)
    cluster = evolve(decided.cluster, flying=cluster.flying.delete(channel))
    if not is_alive(cluster, channel):
        return cluster
    opened = open_cursor(decided.outcome)
    if isinstance(opened, int):
        return handle_event(cluster, channel, WatchEnded(channel[2], opened))
    return evolve(cluster, watches=cluster.watches.set(channel, opened))


def _notify(cluster: Cluster, channel: Channel, limit: int) -> Cluster:
    delivered = deliver(_get(cluster.watches, channel), known_to(cluster, channel[0]), limit)
    if delivered is None:
        cluster = evolve(cluster, watches=cluster.watches.delete(channel))
        return handle_event(cluster, channel, WatchEnded(channel[2], COMPACTED))
    events, cursor = delivered
    cluster = evolve(cluster, watches=cluster.watches.set(channel, cursor))
    return handle_event(cluster, channel, Watched(channel[2], events)) if events else cluster


def _unknown(cluster: Cluster, channel: Channel, flying: Flying) -> Cluster:
    return handle_event(cluster, channel, no_answer(channel[2], flying.watch))


def _cut(cluster: Cluster, channels: list[Channel]) -> Cluster:
    """End all these watches before any component handles the end of one.

    The effects of handling one must not depend on another that is about to end.
    """
    for channel in channels:
        cluster = evolve(cluster, watches=cluster.watches.delete(channel))
    for channel in channels:
        cluster = handle_event(cluster, channel, WatchEnded(channel[2]))
    return cluster


def _break_connections_of(cluster: Cluster, names: set[str]) -> Cluster:
    """Break every connection of these components."""
    flying = [channel for channel in sorted(cluster.flying) if channel[0] in names]
    watches = [channel for channel in sorted(cluster.watches) if channel[0] in names]
    return _break_connections(cluster, flying, watches)


def _break_connections(cluster: Cluster, flying: list[Channel], watches: list[Channel]) -> Cluster:
    lost = [(channel, cluster.flying[channel]) for channel in flying]
    for channel, _ in lost:
        cluster = evolve(cluster, flying=cluster.flying.delete(channel))
    cluster = _cut(cluster, watches)
    for channel, one in lost:
        if not one.given_up:
            cluster = _unknown(cluster, channel, one)
    return cluster


def _operate(cluster: Cluster, channel: Channel) -> Cluster:
    pending = _get(cluster.operations, channel)
    name = channel[0]
    skew = clock_skew(cluster, name)
    if isinstance(pending.operation, Post) and cluster.extender is not None:
        return _ask_extender(cluster, channel, pending, pending.operation)
    world, result = cluster.worlds[name].carry_out(
        pending.operation, cluster.now + skew, cluster.chance(channel)
    )
    cluster = evolve(cluster, worlds=cluster.worlds.set(name, world))
    if isinstance(result, Later):
        return evolve(
            cluster,
            operations=cluster.operations.set(channel, evolve(pending, due=result.at - skew)),
        )
    cluster = evolve(cluster, operations=cluster.operations.delete(channel))
    return handle_event(cluster, channel, Ran(channel[2], result))


def _ask_extender(cluster: Cluster, channel: Channel, pending: Pending, post: Post) -> Cluster:
    """CLUSTER-19: the answer arrives at the instant that the extender determines."""
    assert cluster.extender is not None
    at, result = cluster.extender.post(post, cluster.now, cluster.chance(channel))
    if not pending.due and at > cluster.now:
        pending = evolve(pending, due=at)
        return evolve(cluster, operations=cluster.operations.set(channel, pending))
    cluster = evolve(cluster, operations=cluster.operations.delete(channel))
    return handle_event(cluster, channel, Ran(channel[2], result))


def _elapse(cluster: Cluster, to: Instant) -> Cluster:
    if to < cluster.now:
        raise Impossible("time does not go back")
    cluster = evolve(cluster, now=to)
    if cluster.held:
        for what in [what for what, until in sorted(cluster.held.items(), key=str) if until <= to]:
            cluster = evolve(cluster, held=cluster.held.delete(what))
    for name in sorted(cluster.worlds):
        world, changed = cluster.worlds[name].advance(to + clock_skew(cluster, name))
        if world is not cluster.worlds[name]:
            cluster = evolve(cluster, worlds=cluster.worlds.set(name, world))
        if changed:
            cluster = handle_event(cluster, own_channel(cluster, name), RuntimeChanged(changed))
    return cluster


def _forget_watches(cluster: Cluster, name: str) -> Cluster:
    for channel in [channel for channel in sorted(cluster.watches) if channel[0] == name]:
        cluster = evolve(cluster, watches=cluster.watches.delete(channel))
    return cluster


def _get(among: Map[Channel, Any], channel: Channel) -> Any:
    found = among.get(channel)
    if found is None:
        raise Impossible(f"nothing is called {channel} here")
    return found
