"""Instances behind a leader election for tests: a component that writes without end, one elector
that is driven by hand, and a cluster of several."""

from collections.abc import Sequence
from typing import Any

from refk8s.core.actions import Submit
from refk8s.core.api.coordination_v1 import Lease, LeaseSpec
from refk8s.core.api.core_v1 import ConfigMap, Namespace
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.request import Request, Response
from refk8s.core.api.resources import CONFIG_MAPS, EVENTS, LEASES, NAMESPACES
from refk8s.core.api.user import ADMIN, component_user
from refk8s.core.cluster.state import Cluster, begin
from refk8s.core.cluster.step import start_all, step
from refk8s.core.context import MILLISECOND, SECOND, Instant, micro_timestamp
from refk8s.core.loop.elector import Elector, ElectorState
from refk8s.core.loop.lease_lock import ElectionConfig
from refk8s.core.machine import Answered, Call, Effect, Event, WakeAt, Watch, Woken
from refk8s.core.value import Value

START: Instant = 1_700_000_000 * SECOND
WRITER = "writer"
PERIOD = 700 * MILLISECOND
CONFIG = ElectionConfig(WRITER)
USER = component_user(WRITER)
LEASE_KEY = f"{LEASES.prefix}kube-system/{WRITER}"


class Writing(Value, frozen=True):
    """What a writer knows: its seed, and how often it has written."""

    seed: bytes
    count: int = 0
    events: tuple[Event, ...] = ()


class Writer:
    """A machine that watches, and creates a ConfigMap at its start and every 0.7 s."""

    name = WRITER

    def start(self, now: Instant, seed: bytes) -> tuple[Writing, tuple[Effect, ...]]:
        watch = Watch(1, Request("watch", CONFIG_MAPS, user=USER, because="it watches"))
        return Writing(seed, 1), (watch, _write(2), WakeAt(now + PERIOD))

    def step(
        self, state: Writing, events: Sequence[Event], now: Instant
    ) -> tuple[Writing, tuple[Effect, ...]]:
        kept = (*state.events, *events)[-20:]
        if not any(isinstance(event, Woken) for event in events):
            return Writing(state.seed, state.count, kept), ()
        count = state.count + 1
        return Writing(state.seed, count, kept), (_write(count + 1), WakeAt(now + PERIOD))


def _write(id: int) -> Call:
    body = ConfigMap(metadata=ObjectMeta(generate_name="tick-", namespace="default"))
    return Call(id, Request("create", CONFIG_MAPS, "default", body=body, user=USER, because="tick"))


def elector(host: str = "host-a", config: ElectionConfig = CONFIG) -> Elector:
    return Elector(Writer(), config, host, USER, WRITER, name=host)


def new_cluster(instances: int = 2) -> Cluster:
    """A cluster of one component with so many instances, which have just started."""
    machines = {f"host-{n}": elector(f"host-{n}") for n in range(1, instances + 1)}
    cluster = begin(machines, {}, b"seed", START)
    for name in ("default", "kube-system"):
        body = Namespace(metadata=ObjectMeta(name=name))
        cluster = step(cluster, Submit(Request("create", NAMESPACES, body=body, user=ADMIN)))
    return start_all(cluster)


def stored_lease(cluster: Cluster) -> Lease | None:
    record = cluster.history.get(LEASE_KEY)
    return record.value if record is not None else None


def lease(
    holder: str, renewed: Instant = START, transitions: int = 0, version: int = 7, seconds: int = 15
) -> Lease:
    """The Lease as a holder wrote it."""
    return Lease(
        metadata=ObjectMeta(name=WRITER, namespace="kube-system", resource_version=str(version)),
        spec=LeaseSpec(
            holder_identity=holder,
            lease_duration_seconds=seconds,
            acquire_time=micro_timestamp(START),
            renew_time=micro_timestamp(renewed),
            lease_transitions=transitions,
        ),
    )


class Hand:
    """One elector, whose events are the test's own choice."""

    def __init__(self, config: ElectionConfig = CONFIG, seed: bytes = b"a", now: Instant = START):
        self.elector = elector(config=config)
        self.now = now
        self.effects: tuple[Effect, ...] = ()
        self.state: ElectorState
        self.state, self.effects = self.elector.start(now, seed)

    @property
    def is_leading(self) -> bool:
        return self.state.leading is not None

    @property
    def wake_at(self) -> Instant | None:
        return self.state.asked

    def step(self, *events: Event, at: Instant | None = None) -> "Hand":
        self.now = self.now if at is None else at
        self.state, self.effects = self.elector.step(self.state, events, self.now)
        return self

    def wake(self) -> "Hand":
        """Let time pass until it wanted to be woken."""
        assert self.wake_at is not None
        return self.step(Woken(), at=max(self.now, self.wake_at))

    def calls(self) -> list[Call]:
        """The requests of the last step, without Events."""
        return [
            effect
            for effect in self.effects
            if isinstance(effect, Call) and effect.request.resource != EVENTS
        ]

    def asked(self) -> Call:
        """The elector's own request of the last step."""
        [call] = [call for call in self.calls() if call.request.resource == LEASES]
        return call

    def written(self) -> list[Call]:
        """The requests of the component in the last step."""
        return [call for call in self.calls() if call.request.resource != LEASES]

    def noted(self) -> list[str]:
        """The messages of the Events of the last step."""
        return [
            effect.request.body.message
            for effect in self.effects
            if isinstance(effect, Call) and effect.request.resource == EVENTS
        ]

    def answer(self, code: int, body: Any = None, after: Instant = 0) -> "Hand":
        """Answer the elector's request, so long after now."""
        assert self.state.sent is not None
        return self.step(Answered(self.state.sent.id, Response(code, body)), at=self.now + after)

    def lose(self) -> "Hand":
        assert self.state.sent is not None
        return self.step(Answered(self.state.sent.id, None))

    def accept(self, after: Instant = 0, version: int = 8) -> "Hand":
        """Answer a write of the Lease with success."""
        body = self.asked().request.body
        return self.answer(200, with_version(body, version), after)

    def lead(self) -> "Hand":
        """Acquire an absent Lease."""
        return self.answer(404).accept()


def with_version(body: Lease, version: int) -> Lease:
    return lease_of(body, resource_version=str(version))


def lease_of(body: Lease, **metadata: Any) -> Lease:
    from msgspec.structs import replace

    return replace(body, metadata=replace(body.metadata, **metadata))
