"""One component of the cluster takes a step, and its effects become part of the cluster's state.
Rules CLUSTER-3, CLUSTER-11 (spec/cluster.md).
"""

from refk8s.core.actions import Channel
from refk8s.core.api.request import Request
from refk8s.core.cluster.state import Cluster, Component, Flying, Pending, start_seed
from refk8s.core.effects import VirtualStep
from refk8s.core.machine import Effects, Event
from refk8s.core.ports import NodeNetwork, Operation, Records, RuleSet
from refk8s.core.value import evolve


def start(cluster: Cluster, name: str, component: Component) -> Cluster:
    """A new instance without the state of the last; its clock and its API server do not change."""
    seed = start_seed(cluster.seed, name, component.life)
    state, effects = cluster.machines[name].start(cluster.now + component.skew, seed)
    component = evolve(
        component, state=state, wake_at=None, back_at=None, resumes_at=None, inbox=()
    )
    return _after(cluster, name, component, effects)


def handle_event(cluster: Cluster, channel: Channel, event: Event) -> Cluster:
    """The machine handles one event.

    An event for an earlier instance, or for a stopped machine, is dropped (CLUSTER-3). One for a
    suspended machine waits (CLUSTER-14).
    """
    if not is_alive(cluster, channel):
        return cluster
    name = channel[0]
    component = cluster.components[name]
    if component.resumes_at is not None:
        component = evolve(component, inbox=(*component.inbox, event))
        return evolve(cluster, components=cluster.components.set(name, component))
    return _handle(cluster, name, component, (event,))


def resume(cluster: Cluster, name: str) -> Cluster:
    """A suspended machine handles all events that have waited, in one step (CLUSTER-14)."""
    component = cluster.components[name]
    events = component.inbox
    component = evolve(component, resumes_at=None, inbox=())
    if not events:
        return evolve(cluster, components=cluster.components.set(name, component))
    return _handle(cluster, name, component, events)


def _handle(
    cluster: Cluster, name: str, component: Component, events: tuple[Event, ...]
) -> Cluster:
    state, effects = cluster.machines[name].step(
        component.state, events, cluster.now + component.skew
    )
    return _after(cluster, name, evolve(component, state=state), effects)


def is_alive(cluster: Cluster, channel: Channel) -> bool:
    """Whether the instance that opened this channel still runs."""
    component = cluster.components[channel[0]]
    return component.life == channel[1] and component.back_at is None


def own_channel(cluster: Cluster, name: str) -> Channel:
    """The channel of events about a machine's own node, for its current instance."""
    return name, cluster.components[name].life, 0


def _after(cluster: Cluster, name: str, component: Component, effects: Effects) -> Cluster:
    """The cluster with the component's new state, and with its effects carried out."""
    if not effects:
        return evolve(cluster, components=cluster.components.set(name, component))
    step = _ComponentStep(cluster, name, component)
    step.carry_out_all(effects)
    if step.state is not component.state:
        component = evolve(component, state=step.state)
    if step.is_timer_set:
        at = None if step.timer is None else step.timer - component.skew
        component = evolve(component, wake_at=at)
    cluster = evolve(
        cluster,
        components=cluster.components.set(name, component),
        flying=step.flying,
        watches=step.watches,
        operations=step.operations,
    )
    match step.rules:
        case RuleSet():
            return evolve(cluster, rules=cluster.rules.set(name, step.rules))
        case Records():
            return evolve(cluster, records=cluster.records.set(name, step.rules))
        case NodeNetwork():
            return evolve(cluster, networks=cluster.networks.set(name, step.rules))
    return cluster


class _ComponentStep(VirtualStep):
    """Collects the effects of one component."""

    __slots__ = ("flying", "life", "name", "operations", "watches")

    def __init__(self, cluster: Cluster, name: str, component: Component) -> None:
        super().__init__(cluster.machines[name], component.state, cluster.now + component.skew)
        self.name = name
        self.life = component.life
        self.flying = cluster.flying
        self.watches = cluster.watches
        self.operations = cluster.operations

    def call(self, id: int, request: Request, background: bool) -> None:
        self.flying = self.flying.set((self.name, self.life, id), Flying(request))

    def open_watch(self, id: int, request: Request) -> None:
        self.flying = self.flying.set((self.name, self.life, id), Flying(request, watch=True))

    def close_watch(self, id: int) -> None:
        channel = (self.name, self.life, id)
        if channel in self.watches:
            self.watches = self.watches.delete(channel)

    def run(self, id: int, operation: Operation) -> None:
        self.operations = self.operations.set((self.name, self.life, id), Pending(operation))
