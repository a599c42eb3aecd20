"""The actions that are possible in a state of the cluster, faults included (spec/cluster.md)."""

from collections.abc import Iterable, Iterator
from operator import itemgetter

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
    Resume,
    Skew,
    Stale,
    Start,
    StartServer,
    Stop,
    StopServer,
    Suspend,
    Switch,
    Wake,
)
from refk8s.core.apiserver import watch as watching
from refk8s.core.cluster.servers import is_able
from refk8s.core.cluster.state import (
    Cluster,
    Component,
    Cursor,
    Pending,
    clock_skew,
    is_up,
    known_to,
    server_of,
)
from refk8s.core.context import Instant
from refk8s.core.machine import server_number
from refk8s.core.ports import Operation


def enabled(cluster: Cluster, behind: Iterable[Channel] | None = None) -> Iterator[Action]:
    """All actions that are possible without a fault, in a fixed order.

    Time passes only when nothing else can happen (CLUSTER-4). `behind` as in `happenings`.
    """
    found = happenings(cluster, behind)
    if not found and (next_instant := upcoming(cluster)) is not None:
        found.append(Elapse(next_instant))
    return iter(found)


def happenings(cluster: Cluster, behind: Iterable[Channel] | None = None) -> list[Action]:
    """The actions that are possible without passing time, in a fixed order.

    `behind`: the watches that have changes to deliver (`is_behind`), in order, if the caller keeps
    track of them.
    """
    now, is_quiet = cluster.now, not (cluster.held or cluster.down)
    found: list[Action] = []
    for channel, flying in sorted(cluster.flying.items(), key=_first):
        if is_quiet or not is_held(cluster, channel):
            found.append(Arrive(channel) if flying.answer is None else Answer(channel))
    if behind is None:
        watches = sorted(cluster.watches.items(), key=_first)
        behind = [channel for channel, cursor in watches if is_behind(cluster, channel, cursor)]
    found += [Notify(channel) for channel in behind if is_quiet or not is_held(cluster, channel)]
    found += [
        Operate(channel) for channel in sorted(cluster.operations) if is_operable(cluster, channel)
    ]
    turns = [
        (name, turn)
        for name, component in cluster.components.items()
        if (turn := next_turn(name, component, now)) is not None
    ]
    found += [turn for _, turn in sorted(turns, key=_first)]
    found += [
        CatchUp(server)
        for server, cache in sorted(cluster.caches.items(), key=_first)
        if is_due(cache.until, now)
    ]
    found += [
        StartServer(server)
        for server, until in sorted(cluster.down.items(), key=_first)
        if is_due(until, now)
    ]
    return found


_first = itemgetter(0)


def is_enabled(cluster: Cluster, action: Action) -> bool:
    """Whether `enabled` names the action (a Notify of any limit), or a fault with an object."""
    match action:
        case Arrive(channel):
            return _is_sent(cluster, channel) and not is_held(cluster, channel)
        case Answer(channel):
            return _is_answered(cluster, channel) and not is_held(cluster, channel)
        case Notify(channel):
            cursor = cluster.watches.get(channel)
            return (
                cursor is not None
                and is_behind(cluster, channel, cursor)
                and not is_held(cluster, channel)
            )
        case Operate(channel):
            return channel in cluster.operations and is_operable(cluster, channel)
        case Wake(name) | Start(name) | Resume(name):
            component = cluster.components.get(name)
            return component is not None and next_turn(name, component, cluster.now) == action
        case CatchUp(server):
            return server in cluster.caches and is_due(cluster.caches[server].until, cluster.now)
        case StartServer(server):
            return server in cluster.down and is_due(cluster.down[server], cluster.now)
        case Elapse(to):
            return to == upcoming(cluster) and not happenings(cluster)
        case LoseRequest(channel) | Refuse(channel):
            return _is_sent(cluster, channel)
        case LoseAnswer(channel):
            return _is_answered(cluster, channel)
        case GiveUp(channel):
            return (
                _is_sent(cluster, channel)
                and not cluster.flying[channel].given_up
                and not cluster.flying[channel].watch
            )
        case Duplicate(channel):
            return _is_sent(cluster, channel) and not cluster.flying[channel].watch
        case CutWatch(channel):
            return channel in cluster.watches
        case Delay(channel, until):
            known = (
                channel in cluster.flying
                or channel in cluster.watches
                or channel in cluster.operations
            )
            return known and until > cluster.now
        case Crash(name):
            return is_up(cluster, name)
        case Stop(name, until) | Partition(name, until):
            return is_up(cluster, name) and until > cluster.now
        case Suspend(name, until):
            return (
                is_up(cluster, name)
                and cluster.components[name].resumes_at is None
                and until > cluster.now
            )
        case Stale(server, until) | CutOff(server, until):
            return is_serving(cluster, server) and is_able(cluster, server) and until > cluster.now
        case StopServer(server, until):
            return is_serving(cluster, server) and until > cluster.now
        case Switch(name, server):
            return (
                is_up(cluster, name)
                and is_serving(cluster, server)
                and cluster.components[name].server != server
                and server_number(name) is None
            )
        case Compact(revision):
            return cluster.history.compacted < revision <= cluster.history.revision
        case Skew(name):
            return name in cluster.components
        case Disturb(name):
            return name in cluster.worlds
        case _:
            return True


def _is_sent(cluster: Cluster, channel: Channel) -> bool:
    """Whether a request is in transit to the API server."""
    flying = cluster.flying.get(channel)
    return flying is not None and flying.answer is None


def _is_answered(cluster: Cluster, channel: Channel) -> bool:
    """Whether a response is in transit to the component."""
    flying = cluster.flying.get(channel)
    return flying is not None and flying.answer is not None


def next_turn(name: str, component: Component, now: Instant) -> Action | None:
    """The action that a component's own clock makes possible.

    A stopped component starts; a suspended one goes on; the timer of a running one expires.
    """
    if component.back_at is not None:
        return Start(name) if is_due(component.back_at, now) else None
    if component.resumes_at is not None:
        return Resume(name) if is_due(component.resumes_at, now) else None
    return Wake(name) if is_due(component.wake_at, now) else None


def upcoming(cluster: Cluster) -> Instant | None:
    """The next instant at which the passing of time makes an action possible."""
    instants = [at for c in cluster.components.values() if (at := _next_instant(c)) is not None]
    instants += [
        at - clock_skew(cluster, name)
        for name, world in cluster.worlds.items()
        if (at := world.next_change()) is not None
    ]
    instants += [
        pending.due for pending in cluster.operations.values() if pending.due > cluster.now
    ]
    instants += [at for at in cluster.held.values() if at > cluster.now]
    instants += [cache.until for cache in cluster.caches.values()]
    instants += cluster.down.values()
    return max(min(instants), cluster.now) if instants else None


def _next_instant(component: Component) -> Instant | None:
    """The instant of a component's next turn."""
    if component.back_at is not None:
        return component.back_at
    return component.wake_at if component.resumes_at is None else component.resumes_at


def is_due(at: Instant | None, now: Instant) -> bool:
    """Whether a timer has expired."""
    return at is not None and at <= now


def is_behind(cluster: Cluster, channel: Channel, cursor: Cursor) -> bool:
    """Whether this watch has something to deliver, or ends because its changes are compacted."""
    known = known_to(cluster, channel[0])
    if cursor.initial or cursor.revision < known.compacted:
        return True
    return cursor.revision < known.prefix_revision(watching.prefix_of(cursor.stream))


def is_held(cluster: Cluster, channel: Channel) -> bool:
    """CLUSTER-8, CLUSTER-16: whether the channel is delayed by itself, or with all messages of its
    machine or of its API server."""
    held, down = cluster.held, cluster.down
    if held and (held.get(channel, 0) > cluster.now or held.get(channel[0], 0) > cluster.now):
        return True
    return bool(down) and server_of(cluster, channel) in down


def is_serving(cluster: Cluster, server: int) -> bool:
    """Whether there is such an API server, and it runs."""
    return 0 <= server < cluster.apiservers and server not in cluster.down


def is_operable(cluster: Cluster, channel: Channel) -> bool:
    """Whether a runtime may carry out this operation now."""
    pending, now = cluster.operations[channel], cluster.now
    if not is_due(pending.due, now) or cluster.held.get(channel, 0) > now:
        return False
    if len(cluster.operations) == 1 or channel[1] == 1:
        return True
    name, life, _ = channel
    return is_in_order(
        life,
        pending,
        [(other[1], each) for other, each in cluster.operations.items() if other[0] == name],
    )


def is_in_order(life: int, pending: Pending, all_pending: Iterable[tuple[int, Pending]]) -> bool:
    """CLUSTER-13: whether every operation of an earlier instance on the same pod has begun.

    `all_pending`: the operations of the machine, each with the instance that requested it.
    """
    pod = pod_of(pending.operation)
    return not pod or not any(
        earlier < life and other.due == 0 and pod_of(other.operation) == pod
        for earlier, other in all_pending
    )


def pod_of(operation: Operation) -> str:
    """The uid of the operation's pod; empty for an operation on the node."""
    about = getattr(operation, "config", operation)
    return str(getattr(about, "pod_uid", ""))
