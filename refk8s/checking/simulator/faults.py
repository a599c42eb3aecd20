"""The faults of a simulated run, with their rates and budgets. Rule SIM-2 (spec/simulation.md).

A fault has a name, a rate (its probability in a step) and a budget (the most times in a run). It is
a function from a state and random bytes to its actions. It has no actions if it is not possible in
this state.
"""

from collections.abc import Callable, Mapping
from random import Random
from typing import TypeAlias

from refk8s.core.actions import (
    Action,
    Channel,
    Compact,
    Crash,
    CutOff,
    CutWatch,
    Delay,
    Disturb,
    Duplicate,
    GiveUp,
    LoseAnswer,
    LoseRequest,
    Partition,
    Refuse,
    RestartServer,
    Skew,
    Stale,
    Stop,
    StopServer,
    Submit,
    Suspend,
    Switch,
)
from refk8s.core.api.request import Patch, Request
from refk8s.core.api.resources import (
    DEPLOYMENTS,
    ENDPOINT_SLICES,
    NODES,
    PODS,
    REPLICA_SETS,
    SERVICES,
)
from refk8s.core.api.user import AUTHENTICATED, User
from refk8s.core.cluster.servers import is_able
from refk8s.core.cluster.state import Cluster
from refk8s.core.context import MILLISECOND, SECOND, Instant
from refk8s.core.machine import server_number
from refk8s.core.value import Value

Actions: TypeAlias = tuple[Action, ...]
FaultMaker: TypeAlias = Callable[[Cluster, Random], Actions]

LONGEST_SECONDS = 150
STRANGER = User("stranger", groups=(AUTHENTICATED,))
MEDDLED = (PODS, REPLICA_SETS, DEPLOYMENTS, SERVICES, ENDPOINT_SLICES, NODES)


class Rate(Value, frozen=True):
    """How often a fault occurs: its probability in a step, and the most times in a run."""

    chance: float
    budget: int


def _some_time(cluster: Cluster, chance: Random) -> Instant:
    """An instant between a millisecond and some minutes from now, on a logarithmic scale."""
    return cluster.now + int(MILLISECOND * (LONGEST_SECONDS * 1_000) ** chance.random())


def _requests(cluster: Cluster, answered: bool, watches: bool = True) -> list[Channel]:
    flights = [(channel, cluster.flying[channel]) for channel in sorted(cluster.flying)]
    return [
        channel
        for channel, flying in flights
        if (flying.answer is not None) == answered and (watches or not flying.watch)
    ]


def _up(cluster: Cluster) -> list[str]:
    return [name for name in sorted(cluster.components) if cluster.components[name].back_at is None]


def _one(chance: Random, channels: list[Channel], make: Callable[[Channel], Action]) -> Actions:
    return (make(chance.choice(channels)),) if channels else ()


def crash(cluster: Cluster, chance: Random) -> Actions:
    """A component restarts at once."""
    return (Crash(chance.choice(up)),) if (up := _up(cluster)) else ()


def stop(cluster: Cluster, chance: Random) -> Actions:
    """A component is stopped for some time."""
    return (Stop(chance.choice(up), _some_time(cluster, chance)),) if (up := _up(cluster)) else ()


def lose_request(cluster: Cluster, chance: Random) -> Actions:
    return _one(chance, _requests(cluster, False), LoseRequest)


def lose_answer(cluster: Cluster, chance: Random) -> Actions:
    return _one(chance, _requests(cluster, True), LoseAnswer)


def give_up(cluster: Cluster, chance: Random) -> Actions:
    """A component times out on a request that is delayed and takes effect later."""
    waiting = [
        channel
        for channel in _requests(cluster, False, watches=False)
        if not cluster.flying[channel].given_up
    ]
    if not waiting:
        return ()
    channel = chance.choice(waiting)
    return Delay(channel, _some_time(cluster, chance)), GiveUp(channel)


def duplicate(cluster: Cluster, chance: Random) -> Actions:
    return _one(chance, _requests(cluster, False, watches=False), Duplicate)


def refuse(cluster: Cluster, chance: Random) -> Actions:
    """The store fails all requests that wait at this moment."""
    return tuple(
        [Refuse(channel, chance.choice((500, 503))) for channel in _requests(cluster, False)]
    )


def slow_store(cluster: Cluster, chance: Random) -> Actions:
    """The store delays all requests that wait at this moment."""
    until = _some_time(cluster, chance)
    return tuple([Delay(channel, until) for channel in _requests(cluster, False)])


def delay(cluster: Cluster, chance: Random) -> Actions:
    """A request, a response or an operation of a runtime is delayed."""
    channels = sorted(cluster.flying) + sorted(cluster.operations)
    return _one(chance, channels, lambda channel: Delay(channel, _some_time(cluster, chance)))


def lag(cluster: Cluster, chance: Random) -> Actions:
    """The delivery of a watch is delayed."""
    return _one(
        chance, sorted(cluster.watches), lambda channel: Delay(channel, _some_time(cluster, chance))
    )


def cut_watch(cluster: Cluster, chance: Random) -> Actions:
    return _one(chance, sorted(cluster.watches), CutWatch)


def compact(cluster: Cluster, chance: Random) -> Actions:
    """The store compacts its history; watches that lag behind must list again."""
    return (
        (Compact(cluster.history.revision),)
        if cluster.history.revision > cluster.history.compacted
        else ()
    )


def skip(cluster: Cluster, chance: Random) -> Actions:
    """A watcher misses changes: its stream breaks, and the store compacts the changes."""
    behind = [
        channel
        for channel in sorted(cluster.watches)
        if cluster.watches[channel].revision < cluster.history.revision
    ]
    return (*_one(chance, behind, CutWatch), *compact(cluster, chance)) if behind else ()


def restart_server(cluster: Cluster, chance: Random) -> Actions:
    return (RestartServer(),)


def partition(cluster: Cluster, chance: Random) -> Actions:
    """A node or a component of the control plane is partitioned from the API server."""
    name = chance.choice(sorted(cluster.components))
    until = _some_time(cluster, chance)
    return tuple([Partition(each, until) for each in _of_one_node(cluster, name)])


def stale(cluster: Cluster, chance: Random) -> Actions:
    """The memory of one API server is not updated for some time."""
    free = [server for server in _serving(cluster) if is_able(cluster, server)]
    return (Stale(chance.choice(free), _some_time(cluster, chance)),) if free else ()


def cut_off(cluster: Cluster, chance: Random) -> Actions:
    """One API server cannot reach the store for some time."""
    free = [server for server in _serving(cluster) if is_able(cluster, server)]
    return (CutOff(chance.choice(free), _some_time(cluster, chance)),) if free else ()


def stop_server(cluster: Cluster, chance: Random) -> Actions:
    """One API server is stopped for some time; half of its components switch to another one."""
    serving = _serving(cluster)
    if not serving:
        return ()
    server = chance.choice(serving)
    others = [other for other in serving if other != server]
    moving = [
        name
        for name in _up(cluster)
        if others
        and cluster.components[name].server == server
        and server_number(name) is None
        and chance.random() < 0.5
    ]
    switches = [Switch(name, chance.choice(others)) for name in moving]
    return (StopServer(server, _some_time(cluster, chance)), *switches)


def switch(cluster: Cluster, chance: Random) -> Actions:
    """A component connects to another API server."""
    up = [name for name in _up(cluster) if server_number(name) is None]
    if not up:
        return ()
    name = chance.choice(up)
    own = cluster.components[name].server
    others = [server for server in _serving(cluster) if server != own]
    return (Switch(name, chance.choice(others)),) if others else ()


def _serving(cluster: Cluster) -> list[int]:
    """The API servers that run."""
    return [server for server in range(cluster.apiservers) if server not in cluster.down]


def skew(cluster: Cluster, chance: Random) -> Actions:
    """A component's clock is set up to five minutes ahead or behind."""
    return (Skew(chance.choice(sorted(cluster.components)), chance.randrange(-300, 301) * SECOND),)


def suspend(cluster: Cluster, chance: Random) -> Actions:
    """A component does not run for some time, and does not lose its state."""
    up = [name for name in _up(cluster) if cluster.components[name].resumes_at is None]
    return (Suspend(chance.choice(up), _some_time(cluster, chance)),) if up else ()


def conflict(cluster: Cluster, chance: Random) -> Actions:
    """Another client writes an object that components write as well.

    Updates from components that read it before are rejected with 409 Conflict.
    """
    records = [
        (resource, record)
        for resource in MEDDLED
        for record in cluster.history.list(resource.prefix).records
    ]
    if not records:
        return ()
    resource, record = chance.choice(records)
    metadata = record.value.metadata
    tree = {"metadata": {"annotations": {"example.com/touched": str(cluster.history.revision)}}}
    patch = Patch("application/merge-patch+json", tree)
    return (
        Submit(
            Request(
                "patch",
                resource,
                metadata.namespace or "",
                metadata.name,
                body=patch,
                user=STRANGER,
            )
        ),
    )


def container(cluster: Cluster, chance: Random) -> Actions:
    return (
        (
            Disturb(
                chance.choice(sorted(cluster.worlds)), "container dies", str(chance.randrange(100))
            ),
        )
        if cluster.worlds
        else ()
    )


def pause(cluster: Cluster, chance: Random) -> Actions:
    return (
        (
            Disturb(
                chance.choice(sorted(cluster.worlds)),
                "pause container dies",
                str(chance.randrange(100)),
            ),
        )
        if cluster.worlds
        else ()
    )


def node(cluster: Cluster, chance: Random) -> Actions:
    """A node fails with its containers and components, and restarts after some time."""
    return _fail(cluster, chance, _some_time(cluster, chance))


def _fail(cluster: Cluster, chance: Random, until: Instant) -> Actions:
    if not cluster.worlds:
        return ()
    name = chance.choice(sorted(cluster.worlds))
    stops = [
        Stop(each, until)
        for each in _of_one_node(cluster, name)
        if cluster.components[each].back_at is None
    ]
    return (*stops, Disturb(name, "machine restarts"))


def lost(cluster: Cluster, chance: Random) -> Actions:
    """A node fails for so long that its pods are evicted and replaced on other nodes."""
    return _fail(cluster, chance, cluster.now + chance.randrange(360, 900) * SECOND)


def down(cluster: Cluster, chance: Random) -> Actions:
    """A component is stopped for minutes."""
    return (
        (Stop(chance.choice(up), cluster.now + chance.randrange(60, 600) * SECOND),)
        if (up := _up(cluster))
        else ()
    )


def image(cluster: Cluster, chance: Random) -> Actions:
    """Pulls of an image fail on one node."""
    if not cluster.worlds:
        return ()
    name = chance.choice(sorted(cluster.worlds))
    described = [record.value.spec for record in cluster.history.list(PODS.prefix).records]
    described += [
        record.value.spec.template.spec
        for record in cluster.history.list(DEPLOYMENTS.prefix).records
    ]
    images = sorted({container.image for spec in described for container in spec.containers})
    return (Disturb(name, "image is gone", chance.choice(images)),) if images else ()


def slow(cluster: Cluster, chance: Random) -> Actions:
    """On one node, images are pulled slowly or containers start slowly."""
    what = chance.choice(("pulls are slow", "starts are slow"))
    return (
        (Disturb(chance.choice(sorted(cluster.worlds)), what, str(chance.randrange(1, 30))),)
        if cluster.worlds
        else ()
    )


def runtime(cluster: Cluster, chance: Random) -> Actions:
    """A node's container runtime stops answering; the next occurrence repairs it."""
    if not cluster.worlds:
        return ()
    name = chance.choice(sorted(cluster.worlds))
    return (
        Disturb(name, "runtime is back" if cluster.worlds[name].faults.down else "runtime is down"),
    )


def engine(cluster: Cluster, chance: Random) -> Actions:
    """The container engine of a node restarts: its containers are dead, the kubelet goes on."""
    if not cluster.worlds:
        return ()
    return (Disturb(chance.choice(sorted(cluster.worlds)), "machine restarts"),)


def mend(cluster: Cluster) -> Actions:
    """The actions that repair a cluster after the faults; delays end without an action."""
    found: list[Action] = []
    for name in sorted(cluster.worlds):
        world = cluster.worlds[name]
        found += [Disturb(name, "image is back", image) for image in sorted(world.faults.images)]
        if world.faults.down:
            found.append(Disturb(name, "runtime is back"))
        found += [Disturb(name, what, "0") for what in ("pulls are slow", "starts are slow")]
    return tuple(found)


def _of_one_node(cluster: Cluster, name: str) -> list[str]:
    """The components on the node of this one; for one of the control plane, only itself."""
    _, slash, node = name.partition("/")
    return [
        other for other in sorted(cluster.components) if slash and other.endswith(f"/{node}")
    ] or [name]


FAULTS: Mapping[str, tuple[FaultMaker, Rate]] = {
    "crash": (crash, Rate(0.003, 10)),
    "stop": (stop, Rate(0.001, 5)),
    "restart-server": (restart_server, Rate(0.0005, 3)),
    "lose-request": (lose_request, Rate(0.003, 20)),
    "lose-answer": (lose_answer, Rate(0.003, 20)),
    "give-up": (give_up, Rate(0.002, 10)),
    "duplicate": (duplicate, Rate(0.003, 20)),
    "refuse": (refuse, Rate(0.002, 10)),
    "slow-store": (slow_store, Rate(0.001, 5)),
    "delay": (delay, Rate(0.005, 40)),
    "lag": (lag, Rate(0.004, 30)),
    "cut-watch": (cut_watch, Rate(0.003, 20)),
    "compact": (compact, Rate(0.001, 10)),
    "skip": (skip, Rate(0.002, 10)),
    "partition": (partition, Rate(0.001, 5)),
    "stale": (stale, Rate(0.001, 10)),
    "switch": (switch, Rate(0.001, 10)),
    "stop-server": (stop_server, Rate(0.0007, 4)),
    "cut-off": (cut_off, Rate(0.0007, 5)),
    "skew": (skew, Rate(0.0005, 5)),
    "conflict": (conflict, Rate(0.003, 20)),
    "container": (container, Rate(0.002, 10)),
    "pause": (pause, Rate(0.001, 5)),
    "node": (node, Rate(0.0005, 3)),
    "lost": (lost, Rate(0.0003, 1)),
    "down": (down, Rate(0.0003, 1)),
    "image": (image, Rate(0.001, 5)),
    "slow": (slow, Rate(0.001, 5)),
    "runtime": (runtime, Rate(0.0005, 4)),
    "suspend": (suspend, Rate(0.001, 5)),
    "engine": (engine, Rate(0.0005, 3)),
}
"""Every fault by name, with its default rate and budget."""


class BadFaults(ValueError):
    """The specification of faults is invalid; the message is the reason."""


def parse_faults(text: str) -> dict[str, Rate]:
    """Parse `all`, `none`, or names with optional rates and budgets.

    An example is `crash=0.01:5,lose-answer,compact=0.1`. Raises BadFaults.
    """
    if text == "all":
        return {name: rate for name, (_, rate) in FAULTS.items()}
    found: dict[str, Rate] = {}
    for word in [] if text == "none" else text.split(","):
        name, _, numbers = word.strip().partition("=")
        if name not in FAULTS:
            raise BadFaults(
                f"{name!r} is not a fault; faults are {', '.join(FAULTS)}, or all or none"
            )
        usual = FAULTS[name][1]
        chance, _, budget = numbers.partition(":")
        try:
            rate = Rate(
                float(chance) if chance else usual.chance, int(budget) if budget else usual.budget
            )
        except ValueError:
            raise BadFaults(
                f"{word.strip()!r} should read {name}=RATE:BUDGET, "
                f"such as {name}={usual.chance}:{usual.budget}"
            ) from None
        if not 0 <= rate.chance <= 1 or rate.budget < 0:
            raise BadFaults(f"the rate of {name} must be from 0 to 1, and its budget at least 0")
        found[name] = rate
    return found
