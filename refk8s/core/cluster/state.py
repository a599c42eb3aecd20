"""The state of the whole cluster, as one value. Rules CLUSTER-1 ... CLUSTER-18 (spec/cluster.md).

`enabled.py` lists the actions that are possible in a state, `step.py` carries one out.

    history      the store
    caches       API servers whose memory is behind the store, and the state that they show
    down         API servers that are stopped, and until when
    components   of every machine: its state, its life (how often it started), whether it is up,
                 its clock and its API server
    flying       requests in transit to the API server, and responses in transit back
    watches      open watches, each a cursor into the history: its lag is a number, without a queue
    operations   operations of container runtimes without a result so far
    webhooks     the servers outside of the cluster that requests ask
    held         the delayed channels, and the end of each delay
    worlds       the container runtime of each node
    rules        what each proxy has programmed
    records      what each name server has been given
    networks     the network of pods that each node has been given
    now          virtual time: only `Elapse` moves it

The state changes only by actions (refk8s/core/actions.py), so a run is a seed and a list of
actions, and can be replayed (CLUSTER-1). Messages between components may arrive late and in another
order, but the changes of one watch keep their order (CLUSTER-2). Faults are actions like any other.
"""

from collections.abc import Mapping
from typing import Any, Protocol

from immutables import Map

from refk8s.core.actions import (
    Channel,
)
from refk8s.core.api.request import Request, Response, WatchEvent
from refk8s.core.apiserver.calls import Ask, Call
from refk8s.core.apiserver.calls import Result as CallResult
from refk8s.core.apiserver.config import DEFAULT_CONFIG, Config
from refk8s.core.apiserver.outcome import Stream
from refk8s.core.context import Chance, Context, Instant, SeededChance
from refk8s.core.machine import AnyMachine, Event
from refk8s.core.ports import Later, NodeNetwork, Operation, Post, Records, Result, RuleSet
from refk8s.core.store import EMPTY, Committed, History
from refk8s.core.value import Value, field


class World(Protocol):
    """A container runtime as a value."""

    def carry_out(
        self, operation: Operation, now: Instant, chance: Chance
    ) -> "tuple[World, Result | Later]":
        """The runtime after the operation, and the result."""

    def advance(self, now: Instant) -> "tuple[World, tuple[str, ...]]":
        """The runtime at this instant, and the uids of pods whose containers have changed."""

    def next_change(self) -> Instant | None:
        """The instant of the next change without an operation."""

    def disturb(self, what: str, which: str, now: Instant) -> "tuple[World, tuple[str, ...]]":
        """The runtime after a fault of this name, and the uids of pods whose containers changed."""


class Webhooks(Protocol):
    """The servers outside of the cluster that requests ask (CLUSTER-18): a function, so that a run
    is repeatable."""

    def answer(self, call: Call, now: Instant) -> tuple[Instant, CallResult]:
        """When the call ends that is made now, and how."""

    def complaints(self, obj: Any) -> tuple[str, ...]:
        """Why these servers would not have let this object be stored as it is; for laws."""


class ExtenderServer(Protocol):
    """The extender of the scheduler (CLUSTER-19): a function, so that a run is repeatable."""

    def post(self, post: Post, now: Instant, chance: Chance) -> tuple[Instant, Result]:
        """When the question that is sent now is answered, and how."""

    def rejects(self, name: str, node: str) -> bool:
        """Whether the pod of this name must not run on the node; for laws."""

    def is_asked_about(self, pod: Any) -> bool:
        """Whether the scheduler must ask about this pod; for laws."""


class Asked(Value, frozen=True, eq=False):
    """What other servers have answered to the calls of a request."""

    ask: Ask
    results: tuple[CallResult, ...]


class Flying(Value, frozen=True, eq=False):
    """A request in transit (answer None), or its response."""

    request: Request
    answer: Response | None = None
    watch: bool = False
    given_up: bool = False
    asked: Asked | None = None


class Cursor(Value, frozen=True, eq=False):
    """An open watch."""

    stream: Stream
    revision: int
    initial: tuple[WatchEvent, ...] = ()


class Component(Value, frozen=True, eq=False):
    """A machine's current state. A stopped one (`back_at`) has none and receives nothing.

    A suspended one (`resumes_at`) keeps its state, and what it receives waits in its inbox.
    """

    state: Any
    life: int
    wake_at: Instant | None = None  # in the cluster's time
    back_at: Instant | None = None
    resumes_at: Instant | None = None
    inbox: tuple[Event, ...] = ()
    skew: Instant = 0
    server: int = 0


class Pending(Value, frozen=True, eq=False):
    """An operation of a runtime, without a result so far."""

    operation: Operation
    due: Instant = 0  # the end of its duration in the runtime


class Cache(Value, frozen=True, eq=False):
    """The memory of an API server that is behind the store: the state that it shows.

    It may catch up from `until` on. An API server that `is_cut_off` cannot write either.
    """

    history: History[Any]
    until: Instant = 0
    is_cut_off: bool = False


class Cluster(Value, frozen=True, eq=False):
    """The state of everything, as a value: keep one to return to it (CLUSTER-6)."""

    machines: Mapping[str, AnyMachine]  # their definitions; constant
    seed: bytes
    now: Instant
    history: History[Any] = EMPTY
    apiservers: int = 1
    webhooks: Webhooks | None = None  # constant
    config: Config = DEFAULT_CONFIG  # of every API server; constant
    extender: ExtenderServer | None = None  # constant
    caches: Map[int, Cache] = field(default_factory=Map)
    down: Map[int, Instant] = field(default_factory=Map)
    components: Map[str, Component] = field(default_factory=Map)
    flying: Map[Channel, Flying] = field(default_factory=Map)
    watches: Map[Channel, Cursor] = field(default_factory=Map)
    operations: Map[Channel, Pending] = field(default_factory=Map)
    # a channel, or all channels between a machine and the API server
    held: Map[Channel | str, Instant] = field(default_factory=Map)
    worlds: Map[str, Any] = field(default_factory=Map)
    rules: Map[str, RuleSet] = field(default_factory=Map)
    records: Map[str, Records] = field(default_factory=Map)
    networks: Map[str, NodeNetwork] = field(default_factory=Map)
    last_commit: "Committed[Any] | None" = None  # of the last step, for laws and reports

    def context(self) -> Context:
        """Time and random values for the next write (CLUSTER-12).

        A function of the seed and of the revision, so that the order of unrelated actions has no
        effect.
        """
        return Context(self.now, SeededChance(self.seed + self.history.revision.to_bytes(8, "big")))

    def chance(self, channel: Channel) -> Chance:
        """Random values for the messages of one channel."""
        return chance_of(self.seed, channel)


def chance_of(seed: bytes, channel: Channel) -> Chance:
    """Random values for one channel, or for one start of a machine (id 0 and its life)."""
    name, life, id = channel
    return SeededChance(seed + name.encode() + life.to_bytes(4, "big") + id.to_bytes(8, "big"))


def start_seed(seed: bytes, name: str, life: int) -> bytes:
    """The seed for the start of a machine: a function of its name and of its life."""
    return chance_of(seed, (name, life, 0)).draw(16) + name.encode() + life.to_bytes(4, "big")


def begin(
    machines: Mapping[str, AnyMachine],
    worlds: Mapping[str, Any],
    seed: bytes,
    now: Instant,
    apiservers: int = 1,
    webhooks: Webhooks | None = None,
    config: Config = DEFAULT_CONFIG,
) -> Cluster:
    """A cluster with an empty store, before its components start (see `start_all`)."""
    return Cluster(
        machines=dict(machines),
        seed=seed,
        now=now,
        worlds=Map(worlds),
        apiservers=apiservers,
        webhooks=webhooks,
        config=config,
    )


def known_to(cluster: Cluster, machine: str) -> History[Any]:
    """The state that this machine's API server has in memory (CLUSTER-10)."""
    if not cluster.caches:
        return cluster.history
    cache = cluster.caches.get(cluster.components[machine].server)
    return cluster.history if cache is None else cache.history


def server_of(cluster: Cluster, channel: Channel) -> int:
    """The API server to which the machine of this channel is connected."""
    return cluster.components[channel[0]].server


def is_up(cluster: Cluster, name: str) -> bool:
    component = cluster.components.get(name)
    return component is not None and component.back_at is None


def clock_skew(cluster: Cluster, name: str) -> Instant:
    """How far a machine's clock is ahead of the cluster's (CLUSTER-11)."""
    component = cluster.components.get(name)
    return component.skew if component is not None else 0
