"""A proxy, or the machine of a name server, in its loop without a cluster: lists and watches are
answered from plain objects, and the rules or records that it programs are collected."""

from collections.abc import Mapping, Sequence
from typing import Any

from refk8s.core.api.core_v1 import NamespaceList, NodeList, PodList, ServiceList
from refk8s.core.api.discovery_v1 import EndpointSliceList
from refk8s.core.api.meta_v1 import ListMeta
from refk8s.core.api.networking_v1 import NetworkPolicyList
from refk8s.core.api.request import Request, Response, WatchEvent
from refk8s.core.api.resources import (
    ENDPOINT_SLICES,
    EVENTS,
    NAMESPACES,
    NETWORK_POLICIES,
    NODES,
    PODS,
    SERVICES,
)
from refk8s.core.effects import EffectHandler, carry_out
from refk8s.core.loop.view import key_of
from refk8s.core.machine import (
    Answered,
    AnyMachine,
    Effects,
    Problem,
    Programmed,
    Watched,
    Woken,
)
from refk8s.core.network.proxy import proxy
from refk8s.core.ports import Operation, RuleSet

LISTS = {
    SERVICES.prefix: ServiceList,
    ENDPOINT_SLICES.prefix: EndpointSliceList,
    NAMESPACES.prefix: NamespaceList,
    NETWORK_POLICIES.prefix: NetworkPolicyList,
    NODES.prefix: NodeList,
    PODS.prefix: PodList,
}


class InLoop(EffectHandler):
    """`programmed` has every set of rules or records that the machine sent. `errors` are the
    adapter's answers to them, in this order; the later ones succeed."""

    def __init__(self, machine: AnyMachine, errors: list[str] | None = None) -> None:
        self.programmed: list[Any] = []
        self.events: list[Any] = []
        self.listed: list[str] = []  # prefixes of the lists, in order
        self.now = 1_700_000_000_000_000
        self._machine = machine
        self._errors = list(errors or [])
        self._objects: dict[str, dict[str, Any]] = {}
        self._watches: dict[str, int] = {}
        self._revision = 1
        self._wake: int | None = None
        self._waiting: list[Any] = []

    @property
    def idle(self) -> bool:
        return not self._waiting

    def start(self, services: list[Any], slices: list[Any], namespaces: Sequence[Any] = ()) -> None:
        """Start it with these objects, and continue until it has nothing to do."""
        self.start_with(_by_prefix(services, slices, namespaces))

    def start_with(self, objects: Mapping[str, Sequence[Any]]) -> None:
        """The same with the objects of each prefix."""
        self._objects = {
            prefix: {key_of(obj): obj for obj in of_prefix} for prefix, of_prefix in objects.items()
        }
        self._state, effects = self._machine.start(self.now, b"seed")
        self._carry_out(effects)
        self.settle()

    def change_to(
        self, services: list[Any], slices: list[Any], namespaces: Sequence[Any] = ()
    ) -> None:
        """Replace the objects by these."""
        self.change_all(_by_prefix(services, slices, namespaces))

    def change_all(self, objects: Mapping[str, Sequence[Any]]) -> None:
        """The same with the objects of each prefix."""
        events = []
        for prefix, of_prefix in objects.items():
            before = self._objects.get(prefix, {})
            after = {key_of(obj): obj for obj in of_prefix}
            self._objects[prefix] = after
            if prefix not in self._watches:
                continue
            changes = [("DELETED", before[key]) for key in before if key not in after]
            changes += [
                ("MODIFIED" if key in before else "ADDED", obj) for key, obj in after.items()
            ]
            seen = []
            for kind, obj in changes:
                self._revision += 1
                seen.append(WatchEvent(kind, obj, self._revision))
            events.append(Watched(self._watches[prefix], tuple(seen)))
        self._waiting += events
        self.settle()

    def settle(self, duration: int = 0) -> None:
        """Answer its requests until it sends none, and let so much time pass (microseconds)."""
        end = self.now + duration
        while True:
            if self._waiting:
                events, self._waiting = self._waiting, []
            elif self._wake is not None and self._wake <= end:
                self.now, self._wake, events = max(self.now, self._wake), None, [Woken()]
            else:
                self.now = end
                return
            self._state, effects = self._machine.step(self._state, events, self.now)
            self._carry_out(effects)

    def _carry_out(self, effects: Effects) -> None:
        for effect in effects:
            carry_out(effect, self)

    # --- effects ----------------------------------------------------------------------------------

    def call(self, id: int, request: Request, background: bool) -> None:
        if request.resource == EVENTS:
            self.events.append(request.body)
            return
        assert request.verb == "list", request
        self.listed.append(request.resource.prefix)
        prefix = request.resource.prefix
        body = LISTS[prefix](
            metadata=ListMeta(resource_version=str(self._revision)),
            items=tuple(self._objects.get(prefix, {}).values()),
        )
        self._waiting.append(Answered(id, Response(200, body)))

    def open_watch(self, id: int, request: Request) -> None:
        self._watches[request.resource.prefix] = id

    def close_watch(self, id: int) -> None:
        raise AssertionError("no watch is closed")

    def set_timer(self, at: int | None) -> None:
        self._wake = at

    def run(self, id: int, operation: Operation) -> None:
        raise AssertionError(operation)

    def program(self, id: int, rules: Any) -> None:
        self.programmed.append(rules)
        self._waiting.append(Programmed(id, self._errors.pop(0) if self._errors else ""))

    def report(self, problem: Problem) -> None:
        raise problem.error


class ProxyInLoop(InLoop):
    """A proxy; it programs rule sets."""

    programmed: list[RuleSet]

    def __init__(self, node: str, errors: list[str] | None = None) -> None:
        super().__init__(proxy(node), errors)


def _by_prefix(
    services: list[Any], slices: list[Any], namespaces: Sequence[Any]
) -> dict[str, Sequence[Any]]:
    return {
        SERVICES.prefix: services,
        ENDPOINT_SLICES.prefix: slices,
        NAMESPACES.prefix: list(namespaces),
    }
