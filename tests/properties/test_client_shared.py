"""Simulated nodes of one process share their lists and watches. Rule CLIENT-12 (spec/client.md)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from attrs import define, field
from client_world import a_steady_server, asked, loopback
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from refk8s.components.client.shared_api import SharedApi
from refk8s.core.api import resources
from refk8s.core.api.core_v1 import (
    Container,
    Node,
    Pod,
    PodList,
    PodSpec,
    Service,
    ServiceList,
    ServicePort,
    ServiceSpec,
)
from refk8s.core.api.meta_v1 import ListMeta, ObjectMeta
from refk8s.core.api.request import Options, Request, Response, WatchEvent
from refk8s.core.api.user import ADMIN
from refk8s.core.client import shared_watch
from refk8s.core.client.shared_watch import (
    SHARES,
    Answer,
    Close,
    Deliver,
    End,
    List,
    Open,
    SharedWatch,
    shared_value,
)

NODES = ("a", "b", "c")
NAMES = ("p", "q", "r", "s")
ACTIONS = (
    "change", "change", "change", "act", "act", "act", "begin", "answer", "answer", "lose",
    "deliver", "deliver", "deliver", "bookmark", "cut", "compact", "restart",
)  # fmt: skip


@define
class Informer:
    """The list and watch of one node (loop/informer.py)."""

    value: str
    phase: str = "resting"  # listing, watching
    id: int = 0
    revision: int = 0
    objects: dict[str, Any] = field(factory=dict)
    asked_at: int = 0  # the revision of the server when it listed


class World:
    """An API server, one shared watch, and the nodes behind it."""

    def __init__(self, is_pods: bool) -> None:
        self.is_pods = is_pods
        self.shared = SharedWatch(
            SHARES[(resources.PODS if is_pods else resources.SERVICES).prefix]
        )
        self.states: dict[int, dict[str, Any]] = {1: {}}  # by revision
        self.events: list[WatchEvent] = []
        self.revision, self.compacted = 1, 0
        self.stream: int | None = None  # what it has delivered
        self.wants_list, self.listed_at = False, 0
        self.is_in_transit = False
        self.nodes = [Informer(value if is_pods else "") for value in NODES]
        self.last_id = 0
        self.ended_with: list[int] = []

    # --- the server

    def change(self, name: str, node: str) -> None:
        state = dict(self.states[self.revision])
        self.revision += 1
        old = state.pop(name, None)
        metadata = ObjectMeta(name=name, resource_version=str(self.revision))
        where = old.spec.node_name if old is not None and self.is_pods else node
        new: Any = (
            Pod(metadata=metadata, spec=PodSpec(node_name=where, containers=()))
            if self.is_pods
            else Service(metadata=metadata)
        )
        if old is not None and node == NODES[0]:
            kind = "DELETED"
        else:
            kind = "ADDED" if old is None else "MODIFIED"
            state[name] = new
        self.events.append(WatchEvent(kind, new, self.revision))
        self.states[self.revision] = state

    def answer(self, is_lost: bool) -> None:
        if not self.is_in_transit:
            return
        self.is_in_transit = False
        # the server answers with its state when the request has arrived, or with a later one
        items = tuple(self.states[self.revision].values())
        metadata = ListMeta(resource_version=str(self.revision))
        body: Any = (PodList if self.is_pods else ServiceList)(metadata=metadata, items=items)
        self.do(self.shared.answered(None if is_lost else Response(200, body)))

    def deliver(self, count: int) -> None:
        if self.stream is None:
            return
        if self.stream < self.compacted:
            self.stream = None
            self.do(self.shared.ended(410))
            return
        found = [event for event in self.events if event.revision > self.stream][:count]
        if found:
            self.stream = found[-1].revision
            self.do(self.shared.received(tuple(found)))

    # --- the nodes

    def act(self, node: Informer) -> None:
        if node.phase != "resting":
            return
        self.last_id += 1
        node.id = self.last_id
        if node.revision:
            node.phase = "watching"
            self.do(self.shared.join_watch(node.id, node.value, node.revision))
        else:
            node.phase, node.asked_at = "listing", self.revision
            self.do(self.shared.join_list(node.id, node.value))

    def restart(self, node: Informer) -> None:
        if node.phase == "watching":
            self.do(self.shared.forget(node.id))
            node.phase, node.revision, node.objects = "resting", 0, {}

    def do(self, effects: list[Any]) -> None:
        by_id = {node.id: node for node in self.nodes if node.phase != "resting"}
        for effect in effects:
            match effect:
                case List():
                    self.wants_list = True
                case Open(revision):
                    assert self.stream is None, "there is one watch"
                    self.stream = revision
                case Close():
                    self.stream = None
                case Answer(id, response):
                    node = by_id[id]
                    node.phase = "resting"
                    if response is not None:
                        node.revision = int(response.body.metadata.resource_version)
                        assert node.revision >= node.asked_at  # WATCH-4
                        node.objects = {item.metadata.name: item for item in response.body.items}
                case Deliver(id, events):
                    for event in events:
                        self.take(by_id[id], event)
                case End(id, code):
                    self.ended_with.append(code)
                    by_id[id].phase = "resting"
                    if code == 410:
                        by_id[id].revision = 0
        for node in self.nodes:
            self.check(node)

    def take(self, node: Informer, event: WatchEvent) -> None:
        assert event.revision > node.revision or event.type == "BOOKMARK"
        node.revision = max(node.revision, event.revision)
        if event.type == "DELETED":
            del node.objects[event.object.metadata.name]
        elif event.type != "BOOKMARK":
            node.objects[event.object.metadata.name] = event.object

    def own(self, node: Informer, revision: int) -> dict[str, Any]:
        return {
            name: obj
            for name, obj in self.states[revision].items()
            if not self.is_pods or obj.spec.node_name == node.value
        }

    def check(self, node: Informer) -> None:
        """WATCH-1."""
        if node.revision:
            assert node.objects == self.own(node, node.revision)

    def step(self, action: str, number: int) -> None:
        node = self.nodes[number % len(self.nodes)]
        if action == "change":
            self.change(NAMES[number % len(NAMES)], NODES[number // 4 % 3])
        elif action == "act":
            self.act(node)
        elif action == "begin" and self.wants_list:
            self.wants_list, self.is_in_transit = False, True
            self.shared.begin()
        elif action in ("answer", "lose"):
            self.answer(action == "lose")
        elif action == "deliver":
            self.deliver(1 + number % 5)
        elif action == "bookmark" and self.stream is not None and not self.behind():
            self.do(self.shared.received((WatchEvent("BOOKMARK", None, self.revision),)))
        elif action == "cut" and self.stream is not None:
            self.stream = None
            self.do(self.shared.ended(0))
        elif action == "compact":
            self.compacted = self.revision
        elif action == "restart":
            self.restart(node)

    def behind(self) -> bool:
        assert self.stream is not None
        return any(event.revision > self.stream for event in self.events)


STEPS = st.lists(st.tuples(st.sampled_from(ACTIONS), st.integers(0, 23)), min_size=10, max_size=120)


def settle(world: World) -> None:
    for _ in range(4 * (len(world.events) + 4)):
        for action in ("act", "begin", "answer", "deliver"):
            for number in range(len(world.nodes)):
                world.step(action, number)


@given(STEPS, st.booleans(), st.sampled_from((2, 1_000)))
def test_client_12_every_node_has_the_objects_that_it_would_have_with_a_watch_of_its_own(
    steps: list[tuple[str, int]], is_pods: bool, kept: int
) -> None:
    # Shows CLIENT-12.a, CLIENT-12.c, CLIENT-12.d.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shared_watch, "EVENTS_KEPT", kept)
        world = World(is_pods)
        for action, number in steps:
            world.step(action, number)
        settle(world)
        for node in world.nodes:
            assert node.phase == "watching"
            assert node.objects == world.own(node, world.revision)


def test_client_12_a_watch_that_begins_late_gets_what_it_has_missed_or_410() -> None:
    # Shows CLIENT-12.d.
    for kept, code in ((1_000, None), (1, 410)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(shared_watch, "EVENTS_KEPT", kept)
            world = World(True)
            for action, number in (("act", 0), ("act", 1), ("begin", 0), ("answer", 0), ("act", 0)):
                world.step(action, number)
            for name in (5, 6, 7):  # of node b
                world.step("change", name)
            world.deliver(3)
            world.step("act", 1)
            assert world.ended_with == ([] if code is None else [code])
            assert len(world.nodes[1].objects) == (3 if code is None else 0)


def watching(*numbers: int) -> World:
    """These nodes watch since revision 1."""
    world = World(True)
    for action in ("act", "begin", "answer", "act"):
        for number in numbers:
            world.step(action, number)
    return world


def test_client_12_a_node_that_lists_later_gets_no_change_that_its_list_has() -> None:
    for is_behind in (True, False):
        world = watching(0)
        world.step("change", 5)  # of node b
        if not is_behind:
            world.deliver(1)
        for action in ("act", "begin", "answer", "act"):
            world.step(action, 1)
        assert world.nodes[1].phase == "watching" and world.nodes[1].revision == 2
        world.deliver(1)  # `take` refuses a change that the list has
        world.step("change", 6)
        world.deliver(1)
        assert len(world.nodes[1].objects) == 2 and world.nodes[1].revision == 3


def test_client_12_after_a_cut_all_nodes_go_on_from_one_revision() -> None:
    # Shows CLIENT-12.e.
    world = watching(0, 1)
    for number in (5, 6, 7):  # of node b
        world.step("change", number)
    world.deliver(3)
    world.step("cut", 0)
    assert [node.revision for node in world.nodes[:2]] == [4, 4]
    world.step("act", 0)
    assert world.stream == 4
    world.step("act", 1)
    assert world.ended_with == [0, 0]


def test_client_12_a_watch_that_is_opened_earlier_than_the_last_repeats_nothing() -> None:
    world = watching(0)
    for action in ("act", "begin", "answer"):
        world.step(action, 2)
    world.step("change", 8)  # of node c, which has not begun to watch
    world.deliver(1)
    world.step("cut", 0)
    world.step("act", 2)
    assert world.stream == 1
    world.deliver(1)
    assert len(world.nodes[2].objects) == 1


@pytest.mark.parametrize(
    ("request_", "value"),
    [
        (Request("list", resources.SERVICES), ""),
        (Request("list", resources.SERVICES, "default"), None),
        (Request("list", resources.PODS), None),
        (Request("list", resources.PODS, options=Options(field_selector="spec.nodeName=a")), "a"),
        (Request("list", resources.PODS, options=Options(field_selector="spec.nodeName=")), None),
        (Request("list", resources.PODS, options=Options(field_selector="spec.nodeName!=a")), None),
        (Request("list", resources.PODS, options=Options(field_selector="spec.nodeName==a")), None),
        (Request("list", resources.PODS, options=Options(
            field_selector="spec.nodeName=a,status.phase=Running")), None),
        (Request("list", resources.PODS, options=Options(
            field_selector="spec.nodeName=a", label_selector="a=b")), None),
        (Request("list", resources.PODS, options=Options(
            field_selector="spec.nodeName=a", resource_version="0")), None),
        (Request("list", resources.NODES, options=Options(field_selector="metadata.name=a")), "a"),
        (Request("list", resources.SECRETS), None),
        (Request("watch", resources.SERVICES, options=Options(
            resource_version="3", allow_watch_bookmarks=True)), ""),
        (Request("watch", resources.SERVICES, options=Options(allow_watch_bookmarks=True)), None),
        (Request("watch", resources.SERVICES, options=Options(resource_version="3")), None),
    ],
)  # fmt: skip
def test_client_12_only_what_every_node_asks_in_the_same_way_is_shared(
    request_: Request, value: str | None
) -> None:
    # Shows CLIENT-12.b.
    assert shared_value(request_) == value


class Held:
    """An API server that answers the requests in transit when it is told to."""

    def __init__(self) -> None:
        self.requests: list[tuple[Request, int, Any]] = []
        self.sent = 0

    def submit(self, request: Request, answer: Any, background: bool = False) -> None:
        self.sent += 1
        self.requests.append((request, self.sent, answer))

    def answer(self, which: int) -> None:
        if self.requests:
            request, number, answer = self.requests.pop(which % len(self.requests))
            answer(Response(200, (request.name, number, request.options.resource_version)))


revisions = st.sampled_from(["", "0", "7", "12", "101"])


@given(st.lists(st.tuples(st.sampled_from("aab. "), st.integers(0, 5), revisions), max_size=60))
def test_client_12_an_object_is_read_once_for_all_that_wait_and_never_from_before(
    steps: list[tuple[str, int, str]],
) -> None:
    # Shows CLIENT-12.f, CLIENT-12.g.
    async def test() -> None:
        held: Any = Held()
        shared = SharedApi(held)
        got: list[tuple[str, int, str, tuple[str, int, str]]] = []

        def ask(name: str, revision: str) -> None:
            asked_at = held.sent

            def take(response: Response) -> None:
                got.append((name, asked_at, revision, response.body))

            options = Options(resource_version=revision)
            shared.submit(
                Request("get", resources.CONFIG_MAPS, "default", name, options=options), take
            )

        def is_allowed() -> bool:
            return all(sum(one.name == name for one, *_ in held.requests) <= 1 for name in "ab")

        asked = 0
        for name, number, revision in steps:
            if name == ".":
                held.answer(number)
            elif name == " ":
                await asyncio.sleep(0)
                wake_all(shared)
            else:
                ask(name, revision)
                asked += 1
            assert is_allowed()
        while shared._gets:
            held.answer(0)
            wake_all(shared)
            assert is_allowed()
        assert len(got) == asked and not held.requests
        for name, asked_at, revision, (found, number, read) in got:
            assert found == name and number > asked_at
            # current, or not older than what was asked for
            assert read == "" or (revision != "" and int(read) >= int(revision))

    asyncio.run(test())


def wake_all(shared: SharedApi) -> None:
    """As if the time had come for what waits for its time."""
    for key, gets in list(shared._gets.items()):
        if gets.next is not None:
            gets.next.cancel()
            shared._send_get(key, gets)


def test_client_12_a_burst_of_gets_is_few_requests() -> None:
    # Shows CLIENT-12.g.
    async def test() -> None:
        held: Any = Held()
        shared = SharedApi(held)
        got: list[Response | None] = []
        for number in range(100):
            options = Options(resource_version=str(number))
            request = Request("get", resources.SECRETS, "default", "a", options=options)
            shared.submit(request, got.append)
            held.answer(0)
            await asyncio.sleep(0)
        assert held.sent <= 5  # how many, depends on the time that the loop above took
        async with asyncio.timeout(10):
            while len(got) < 100:
                await asyncio.sleep(0.005)
                held.answer(0)

    asyncio.run(test())


@pytest.mark.parametrize(
    ("request_", "is_shared"),
    [
        (Request("get", resources.SECRETS, "default", "a"), True),
        (Request("get", resources.NODES, "", "a"), False),
        (Request("delete", resources.SECRETS, "default", "a"), False),
        (Request("get", resources.CONFIG_MAPS, "d", "a", options=Options(resource_version="7")), True),
        (Request("get", resources.CONFIG_MAPS, "d", "a", options=Options(resource_version="x")), False),
        (Request("get", resources.CONFIG_MAPS, "d", "a", options=Options(dry_run=True)), False),
    ],
)  # fmt: skip
def test_client_12_only_volumes_are_read_together(request_: Request, is_shared: bool) -> None:
    assert shared_watch.is_shared_get(request_) == is_shared


def a_pod(name: str, node: str) -> Pod:
    containers = (Container(name="c", image="i"),)
    return Pod(
        metadata=ObjectMeta(name=name, namespace="default"),
        spec=PodSpec(node_name=node, containers=containers),
    )


def test_client_12_nodes_of_a_process_use_one_connection_for_each_resource() -> None:
    # Shows CLIENT-12.a.
    async def test() -> None:
        async with loopback(await a_steady_server()) as world:

            async def create(resource: resources.Resource, namespace: str, body: Any) -> None:
                request = Request("create", resource, namespace, body.metadata.name, body=body)
                answer = await asked(world.api, replace(request, user=ADMIN))
                assert answer is not None and answer.ok, answer

            names = [f"node-{number}" for number in range(40)]
            for name in names:
                await create(resources.NODES, "", Node(metadata=ObjectMeta(name=name)))
            await create(resources.PODS, "default", a_pod("early", "node-1"))
            shared, got = SharedApi(world.client), {name: [] for name in names}
            lists = []
            for name in names:
                options = Options(field_selector=f"spec.nodeName={name}")
                lists.append(Request("list", resources.PODS, options=options))
                lists.append(Request("list", resources.SERVICES))
            answers = await asyncio.gather(*[asked(shared, each) for each in lists])
            listed = [[pod.metadata.name for pod in one.body.items] for one in answers[::2]]
            assert listed == [["early"] if name == "node-1" else [] for name in names]
            assert all(len(one.body.items) == len(answers[1].body.items) for one in answers[1::2])
            revision = answers[0].body.metadata.resource_version
            closes = []
            for name in names:
                options = Options(
                    field_selector=f"spec.nodeName={name}",
                    resource_version=revision,
                    allow_watch_bookmarks=True,
                )
                request = Request("watch", resources.PODS, options=options)
                closes.append(shared.watch(request, got[name].extend, lambda _: None))
                services = Options(resource_version=revision, allow_watch_bookmarks=True)
                request = Request("watch", resources.SERVICES, options=services)
                closes.append(shared.watch(request, got[name].extend, lambda _: None))
            for number in range(20):
                await create(resources.PODS, "default", a_pod(f"p{number}", names[number]))
            ports = (ServicePort(port=80),)
            service = Service(
                metadata=ObjectMeta(name="web", namespace="default"), spec=ServiceSpec(ports=ports)
            )
            await create(resources.SERVICES, "default", service)
            async with asyncio.timeout(20):
                while sum(len(events) for events in got.values()) < 20 + 40:
                    await asyncio.sleep(0.01)
            for number, name in enumerate(names):
                found = {event.object.metadata.name for event in got[name]}
                assert found == {"web"} | ({f"p{number}"} if number < 20 else set())
            assert world.cutter.open_max <= 8
            for close in closes:
                close()
            assert not world.client._streams

    asyncio.run(test())
