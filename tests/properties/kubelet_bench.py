"""A test bench for one kubelet: the real loop, a simulated runtime, virtual time, and a minimal
API.

The API stores objects with revisions, serves lists, gets and watches, and deletes pods gracefully.
It does not validate requests. Operations, answers and watch events are delivered one at a time, in
an order that a test may choose.
"""

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import msgspec
from msgspec.structs import replace

from refk8s.adapters.fake.world import World, make_world
from refk8s.core.api.core_v1 import Container, Node, Pod, PodSpec, PodStatus
from refk8s.core.api.meta_v1 import ListMeta, ObjectMeta, Status
from refk8s.core.api.request import Patch, Request, Response, WatchEvent
from refk8s.core.api.resources import EVENTS, NODES, PODS, Resource
from refk8s.core.context import SECOND, Instant, SeededChance, parse_timestamp, timestamp
from refk8s.core.effects import EffectHandler, carry_out
from refk8s.core.kubelet.config import KubeletConfig
from refk8s.core.kubelet.kubelet import kubelet
from refk8s.core.kubelet.memory import NodeMemory
from refk8s.core.machine import (
    Answered,
    Effects,
    Event,
    Problem,
    Ran,
    RuntimeChanged,
    Watched,
    Woken,
)
from refk8s.core.ports import (
    EXITED,
    ContainerCreated,
    ContainerStatus,
    Done,
    Later,
    Operation,
    Result,
    RuleSet,
    SandboxStarted,
)

START: Instant = parse_timestamp("2026-01-01T00:00:00Z")


def make_pod(name: str = "p", containers: tuple[Container, ...] | None = None, **spec: Any) -> Pod:
    """A pod bound to the bench's node, as the API would have it."""
    if containers is None:
        containers = (
            Container(name="c", image="example.invalid/app:1", image_pull_policy="IfNotPresent"),
        )
    given = {
        "restart_policy": "Always",
        "termination_grace_period_seconds": 30,
        "node_name": "node",
        "enable_service_links": True,
    }
    return Pod(
        metadata=ObjectMeta(name=name, namespace="default"),
        spec=PodSpec(containers=containers, **{**given, **spec}),
        status=PodStatus(phase="Pending"),
    )


class Bench(EffectHandler):
    """One node: its kubelet, its runtime, and an API. `requests`, `operations` and `history` record
    the run."""

    def __init__(
        self, seed: int = 0, config: KubeletConfig | None = None, world: World | None = None
    ) -> None:
        self.loop = kubelet("node", config or KubeletConfig())
        self.chance = SeededChance(str(seed).encode())
        self.world = world or make_world("node")
        self.now = START
        self.revision = 1
        self.objects: dict[str, dict[str, Any]] = {}
        self.log: list[tuple[str, WatchEvent]] = []
        self.state: Any = None
        self.life = 0
        self.inbox: list[Event] = []
        # life, id, prefix, field selector
        self.watches: list[tuple[int, int, str, dict[str, str]]] = []
        self.calls: list[tuple[int, int, Request]] = []  # life, id, request
        # life, id, operation, the end of its duration
        self.runs: list[tuple[int, int, Operation, Instant]] = []
        self.wake_at: Instant | None = None
        self.uids = 0
        self.requests: list[Request] = []
        self.operations: list[tuple[Instant, Operation, Result]] = []
        self.history: dict[str, list[Pod]] = {}  # uid -> every version of a pod
        self.deleted: dict[str, Pod] = {}
        self.every_container: list[ContainerStatus] = []  # as it was created
        # (seconds since the start, operation), as the kubelet requested them
        self.asked: list[tuple[float, Operation]] = []
        self.ends: dict[str, float] = {}
        # sandboxes started by operations of a kubelet that had crashed by then
        self.posthumous: set[str] = set()
        self.refuse: Callable[[Request], Response | None] = lambda request: None
        # a test's own answers
        self.script: Callable[[Operation], Result | Later | None] = lambda operation: None
        self.api_away = False
        self.check: Callable[[], None] = lambda: None

    # --- the kubelet ------------------------------------------------------------------------------

    def start(self) -> "Bench":
        """Start the kubelet, or start it again after a crash: answers in transit are lost."""
        self.life += 1
        self.inbox.clear()
        self.watches.clear()
        self.calls = [call for call in self.calls if call[2].verb not in ("list", "watch")]
        self.wake_at = None
        self.state, effects = self.loop.start(self.now, self.chance.draw(8))
        self._carry_out(effects)
        return self

    def step(self) -> None:
        """Deliver the pending events."""
        events, self.inbox = self.inbox, []
        self.state, effects = self.loop.step(self.state, events, self.now)
        self._carry_out(effects)
        self.check()

    def _carry_out(self, effects: Effects) -> None:
        for effect in effects:
            carry_out(effect, self)

    def choices(self) -> list[tuple[str, int]]:
        """The possible actions: an operation, a call, or the delivery of pending events."""
        found = [("run", i) for i, (_, _, _, at) in enumerate(self.runs) if at <= self.now]
        if not self.api_away:
            found += [("call", i) for i in range(len(self.calls))]
        if self.inbox:
            found.append(("step", 0))
        return found

    def do(self, choice: tuple[str, int]) -> None:
        kind, index = choice
        if kind == "run":
            self._operate(index)
        elif kind == "call":
            self._answer(index)
        else:
            self.step()

    def settle(self) -> "Bench":
        """Everything that can happen without time passing, in order."""
        for _ in range(5_000):
            choices = self.choices()
            if not choices:
                return self
            self.do(choices[0])
        raise AssertionError("the kubelet does not settle")

    def next_instant(self) -> Instant | None:
        instants = [at for at in (self.wake_at, self.world.next_change()) if at is not None]
        instants += [at for _, _, _, at in self.runs if at > self.now]
        return min(instants) if instants else None

    def elapse_to(self, to: Instant) -> None:
        """Time passes to this instant, nothing else."""
        self.now = max(self.now, to)
        self.world, changed = self.world.advance(self.now)
        if changed:
            self.inbox.append(RuntimeChanged(changed))
        if self.wake_at is not None and self.wake_at <= self.now:
            self.wake_at = None
            self.inbox.append(Woken())

    def run_for(self, seconds: float) -> "Bench":
        """Let time pass, doing everything that becomes possible as it does."""
        end = self.now + int(seconds * SECOND)
        self.settle()
        while (at := self.next_instant()) is not None and at <= end:
            self.elapse_to(at)
            self.settle()
        self.elapse_to(end)
        return self.settle()

    def disturb(self, change: Callable[[World, Instant], tuple[World, tuple[str, ...]]]) -> None:
        """Change the runtime by force."""
        self.world, changed = change(self.world, self.now)
        if changed:
            self.inbox.append(RuntimeChanged(changed))

    def _operate(self, index: int) -> None:
        life, id, operation, _ = self.runs.pop(index)
        result: Result | Later | None = self.script(operation)
        if result is None:
            self.world, result = self.world.carry_out(operation, self.now, self.chance)
        if isinstance(result, Later):
            self.runs.append((life, id, operation, result.at))
            return
        self.operations.append((self.now, operation, result))
        if isinstance(result, ContainerCreated):
            self.every_container.append(result.status)
        if isinstance(result, Done) and result.status is not None and result.status.state == EXITED:
            self.ends[result.status.name] = (result.status.finished_at - START) / SECOND
        if life == self.life:
            self.inbox.append(Ran(id, result))
        elif isinstance(result, SandboxStarted):
            self.posthumous.add(result.status.id)

    # --- effects ----------------------------------------------------------------------------------

    def call(self, id: int, request: Request, background: bool) -> None:
        self.calls.append((self.life, id, request))

    def open_watch(self, id: int, request: Request) -> None:
        wanted = request.options.field_selector
        selector = dict([wanted.split("=")]) if wanted else {}
        prefix = request.resource.prefix
        self.watches.append((self.life, id, prefix, selector))
        since = int(request.options.resource_version)
        missed = tuple(
            e
            for p, e in self.log
            if p == prefix and e.revision > since and _matches(e.object, wanted)
        )
        if missed:
            self.inbox.append(Watched(id, missed))

    def close_watch(self, id: int) -> None:
        raise AssertionError("the kubelet closes no watch")

    def set_timer(self, at: Instant | None) -> None:
        self.wake_at = at

    def run(self, id: int, operation: Operation) -> None:
        self.runs.append((self.life, id, operation, 0))
        self.asked.append(((self.now - START) / SECOND, operation))

    def program(self, id: int, rules: RuleSet) -> None:
        raise AssertionError("the kubelet programs no rules")

    def report(self, problem: Problem) -> None:
        raise problem.error

    # --- the API ----------------------------------------------------------------------------------

    def _answer(self, index: int) -> None:
        life, id, request = self.calls.pop(index)
        self.requests.append(request)
        response = self.refuse(request) or self.api(request)
        if life == self.life:
            self.inbox.append(Answered(id, response))

    def table(self, resource: Resource) -> dict[str, Any]:
        return self.objects.setdefault(resource.prefix, {})

    def api(self, request: Request) -> Response:
        """One request, at once."""
        table = self.table(request.resource)
        key = f"{request.namespace}/{request.name}" if request.namespace else request.name
        obj = table.get(key)
        if request.verb == "list":
            items = [
                table[k]
                for k in sorted(table)
                if _matches(table[k], request.options.field_selector)
            ]
            return Response(
                200,
                SimpleNamespace(
                    kind="List",
                    metadata=ListMeta(resource_version=str(self.revision)),
                    items=items,
                ),
            )
        if request.verb == "create" and request.subresource == "token":
            expires = timestamp(self.now + (request.body.spec.expiration_seconds or 3600) * SECOND)
            status = replace(
                request.body.status, token=f"token-{self.revision}", expiration_timestamp=expires
            )
            return Response(201, replace(request.body, status=status))
        if request.verb == "create":
            if obj is not None:
                return Response(409, Status(code=409, reason="AlreadyExists"))
            return Response(201, self.put(request.resource, request.body))
        if obj is None:
            return Response(404, Status(code=404, reason="NotFound"))
        if request.verb == "get":
            return Response(200, obj)
        if request.verb == "update":
            if request.body.metadata.resource_version != obj.metadata.resource_version:
                return Response(409, Status(code=409, reason="Conflict"))
            return Response(
                200, self.put(request.resource, replace(obj, status=request.body.status))
            )
        if request.verb == "patch":
            assert isinstance(request.body, Patch)
            tree = msgspec.to_builtins(obj)
            _merge(tree, request.body.document)
            return Response(200, self.put(request.resource, msgspec.convert(tree, type(obj))))
        assert request.verb == "delete" and request.resource == PODS
        options = request.body
        if options.preconditions is not None and options.preconditions.uid != obj.metadata.uid:
            return Response(409, Status(code=409, reason="Conflict"))
        return Response(
            200, self.delete(request.name, options.grace_period_seconds) or Status(status="Success")
        )

    def put(self, resource: Resource, obj: Any) -> Any:
        """Create or change an object, and notify the watches."""
        self.revision += 1
        metadata = obj.metadata
        if not metadata.uid:
            self.uids += 1
            metadata = replace(
                metadata,
                uid=f"uid-{self.uids}",
                creation_timestamp=timestamp(self.now),
                generation=1,
            )
        obj = replace(obj, metadata=replace(metadata, resource_version=str(self.revision)))
        key = f"{metadata.namespace}/{metadata.name}" if metadata.namespace else metadata.name
        known = key in self.table(resource)
        self.table(resource)[key] = obj
        if resource == PODS:
            self.history.setdefault(obj.metadata.uid, []).append(obj)
        self._notify(resource, WatchEvent("MODIFIED" if known else "ADDED", obj, self.revision))
        return obj

    def pod(self, name: str = "p") -> Pod:
        found = self.table(PODS)[f"default/{name}"]
        assert isinstance(found, Pod)
        return found

    def memory(self) -> NodeMemory:
        """The kubelet's memory, for laws about it."""
        found = self.state.memories["kubelet"]
        assert isinstance(found, NodeMemory)
        return found

    def has_pod(self, name: str = "p") -> bool:
        return f"default/{name}" in self.table(PODS)

    def did(self, *types: type) -> list[tuple[float, Any]]:
        """(seconds since the start, operation) of the operations of these types that were carried
        out."""
        return [
            ((at - START) / SECOND, operation)
            for at, operation, _ in self.operations
            if isinstance(operation, types)
        ]

    def ended_at(self, name: str) -> float:
        """When the container of this name was last seen to have been stopped, in seconds since the
        start."""
        return self.ends[name]

    def reasons(self) -> list[str]:
        """The reasons of the Events that were recorded, each new one once."""
        return [r.body.reason for r in self.requests if r.resource == EVENTS and r.verb == "create"]

    def sent(self, resource: Resource, subresource: str = "") -> list[Request]:
        """The requests that change this resource, in order."""
        reads = ("get", "list", "watch")
        return [
            r
            for r in self.requests
            if r.resource == resource and r.subresource == subresource and r.verb not in reads
        ]

    def node(self) -> Node:
        found = self.table(NODES)["node"]
        assert isinstance(found, Node)
        return found

    def add(self, pod: Pod) -> Pod:
        made = self.put(PODS, pod)
        assert isinstance(made, Pod)
        return made

    def delete(self, name: str = "p", grace: int | None = None) -> Pod | None:
        """Delete a pod as the API does: gracefully, unless the period is 0; a later period can only
        be shorter."""
        if not self.has_pod(name):
            return None
        pod = self.pod(name)
        seconds = pod.spec.termination_grace_period_seconds if grace is None else grace
        if pod.metadata.deletion_timestamp is not None:
            seconds = min(seconds or 0, pod.metadata.deletion_grace_period_seconds or 0)
        if not seconds:
            self.revision += 1
            del self.table(PODS)[f"default/{name}"]
            gone = replace(pod, metadata=replace(pod.metadata, resource_version=str(self.revision)))
            self.deleted[pod.metadata.uid or ""] = pod
            self._notify(PODS, WatchEvent("DELETED", gone, self.revision))
            return None
        at = timestamp(self.now + seconds * SECOND)
        metadata = replace(
            pod.metadata, deletion_timestamp=at, deletion_grace_period_seconds=seconds
        )
        return self.put(PODS, replace(pod, metadata=metadata))  # type: ignore[no-any-return]

    def remove_node(self) -> None:
        """The Node object is deleted."""
        self.revision += 1
        node = self.table(NODES).pop("node")
        self._notify(NODES, WatchEvent("DELETED", node, self.revision))

    def _notify(self, resource: Resource, event: WatchEvent) -> None:
        self.log.append((resource.prefix, event))
        for life, id, prefix, selector in self.watches:
            if (
                prefix == resource.prefix
                and life == self.life
                and all(_matches(event.object, f"{k}={v}") for k, v in selector.items())
            ):
                self.inbox.append(Watched(id, (event,)))


def _matches(obj: Any, selector: str) -> bool:
    if not selector:
        return True
    path, _, value = selector.partition("=")
    for part in path.split("."):
        names = {"nodeName": "node_name", "signerName": "signer_name"}
        obj = getattr(obj, names.get(part, part))
    return bool(obj == value)


def _merge(tree: dict[str, Any], patch: dict[str, Any]) -> None:
    for name, value in json.loads(json.dumps(patch)).items():
        if isinstance(value, dict) and isinstance(tree.get(name), dict):
            _merge(tree[name], value)
        elif value is None:
            tree.pop(name, None)
        else:
            tree[name] = value
