"""A proxy or the machine of a name server in its loop, without a cluster around it: lists and watches
are answered from plain objects, what it programs is kept."""

from collections.abc import Sequence
from typing import Any

from refk8s.core.api.core_v1 import NamespaceList, ServiceList
from refk8s.core.api.discovery_v1 import EndpointSliceList
from refk8s.core.api.meta_v1 import ListMeta
from refk8s.core.api.request import Response, WatchEvent
from refk8s.core.api.resources import ENDPOINT_SLICES, NAMESPACES, SERVICES
from refk8s.core.loop.view import key_of
from refk8s.core.machine import (
    Answered,
    AnyMachine,
    Call,
    Problem,
    Program,
    Programmed,
    WakeAt,
    Watch,
    Watched,
    Woken,
)
from refk8s.core.network.proxy import proxy
from refk8s.core.ports import RuleSet

LISTS = {
    SERVICES.prefix: ServiceList,
    ENDPOINT_SLICES.prefix: EndpointSliceList,
    NAMESPACES.prefix: NamespaceList,
}


class InLoop:
    """`handed` is everything that the machine handed over; `errors` what the adapter says to each,
    then nothing but success."""

    def __init__(self, machine: AnyMachine, errors: list[str] | None = None) -> None:
        self.handed: list[Any] = []
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
        """Start it on these, and go on until it has nothing to do."""
        self._objects = {
            prefix: {key_of(obj): obj for obj in objects}
            for prefix, objects in _by_prefix(services, slices, namespaces)
        }
        self._state, effects = self._machine.start(self.now, b"seed")
        self._carry_out(effects)
        self.settle()

    def change_to(
        self, services: list[Any], slices: list[Any], namespaces: Sequence[Any] = ()
    ) -> None:
        """Let it see these instead."""
        events = []
        for prefix, objects in _by_prefix(services, slices, namespaces):
            if prefix not in self._watches:
                continue
            before, after = self._objects[prefix], {key_of(obj): obj for obj in objects}
            changes = [("DELETED", before[key]) for key in before if key not in after]
            changes += [
                ("MODIFIED" if key in before else "ADDED", obj) for key, obj in after.items()
            ]
            seen = []
            for kind, obj in changes:
                self._revision += 1
                seen.append(WatchEvent(kind, obj, self._revision))
            self._objects[prefix] = after
            events.append(Watched(self._watches[prefix], tuple(seen)))
        self._waiting += events
        self.settle()

    def settle(self, duration: int = 0) -> None:
        """Answer what it asks until it asks nothing, and let so much time pass."""
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

    def _carry_out(self, effects: tuple[Any, ...]) -> None:
        for effect in effects:
            match effect:
                case Call(id, request) if request.verb == "list":
                    prefix = request.resource.prefix
                    body = LISTS[prefix](
                        metadata=ListMeta(resource_version=str(self._revision)),
                        items=tuple(self._objects[prefix].values()),
                    )
                    self._waiting.append(Answered(id, Response(200, body)))
                case Watch(id, request):
                    self._watches[request.resource.prefix] = id
                case Program(id, rules):
                    self.handed.append(rules)
                    self._waiting.append(
                        Programmed(id, self._errors.pop(0) if self._errors else "")
                    )
                case WakeAt(at):
                    self._wake = at
                case Problem(error=error):
                    raise error


class ProxyInLoop(InLoop):
    """A proxy; it hands over rule sets."""

    handed: list[RuleSet]

    def __init__(self, node: str, errors: list[str] | None = None) -> None:
        super().__init__(proxy(node), errors)


def _by_prefix(
    services: list[Any], slices: list[Any], namespaces: Sequence[Any]
) -> list[tuple[str, list[Any]]]:
    return [
        (SERVICES.prefix, services),
        (ENDPOINT_SLICES.prefix, slices),
        (NAMESPACES.prefix, list(namespaces)),
    ]
