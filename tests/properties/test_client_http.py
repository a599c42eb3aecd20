"""The client against a real API server over a loopback port, with connections that are cut. Rules
CLIENT-3 to CLIENT-7, CLIENT-11, CLIENT-13, CLIENT-14 (spec/client.md)."""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from api_world import KINDS, Step, histories
from client_world import (
    Cut,
    a_steady_server,
    an_answer,
    asked,
    credentials,
    loopback,
    scripted,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from test_client import plain

from refk8s.components.client import http_api, pool
from refk8s.components.client.connection import HEAD_BYTES_MAX, Connection
from refk8s.components.client.http_api import (
    ANSWER_SECONDS,
    LEASE_SECONDS,
    REFUSALS_MAX,
    Call,
    HttpApi,
)
from refk8s.components.client.pool import CONNECTIONS_MAX, INDEPENDENT_MAX, URGENT_MAX
from refk8s.components.clock import Clock
from refk8s.core.api import resources, status
from refk8s.core.api.codec import encode
from refk8s.core.api.coordination_v1 import Lease
from refk8s.core.api.core_v1 import (
    ConfigMap,
    ConfigMapList,
    Container,
    Pod,
    PodSpec,
    PodStatus,
)
from refk8s.core.api.meta_v1 import DeleteOptions, ListMeta, ObjectMeta
from refk8s.core.api.request import Options, Request, WatchEvent
from refk8s.core.api.user import ADMIN
from refk8s.core.client.independent import REQUESTS_MAX
from refk8s.core.client.kubeconfig import Access
from refk8s.core.client.retry import retry_seconds
from refk8s.core.value import evolve

HANDSHAKE_BYTES = 3_000
"""More than the bytes of a TLS handshake in one direction: most cuts are after it."""
cuts = st.one_of(
    st.none(),
    st.builds(Cut, sent=st.integers(0, HANDSHAKE_BYTES)),
    st.builds(Cut, answered=st.integers(0, HANDSHAKE_BYTES)),
    st.builds(Cut, answered=st.integers(0, 1_000), late=st.just(True)),
)
seen: Counter[str] = Counter()


class Requests:
    """The steps of a history as requests, on the state of one API server."""

    def __init__(self, api: object) -> None:
        self.api = api

    def get(self, resource: resources.Resource, name: str, namespace: str) -> object:
        record = self.api.store.get(resource.key(namespace, name))  # type: ignore[attr-defined]
        return None if record is None else record.value

    def request(self, step: Step) -> Request:
        request = plain(step.request(self))  # type: ignore[arg-type]
        if isinstance(request.body, DeleteOptions):
            request = evolve(request, options=evolve(request.options, dry_run=False))
        return request


# --- CLIENT-3


@settings(max_examples=40)
@given(histories(size=10), st.lists(cuts, min_size=10, max_size=10))
def test_client_3_a_cut_request_is_unknown_and_every_other_is_answered_as_in_the_process(
    sequence: list[Step], cut_at: list[Cut | None]
) -> None:
    # Shows CLIENT-3.a, CLIENT-3.c.
    async def test() -> None:
        twin = await a_steady_server()
        async with loopback(await a_steady_server()) as world:
            handled: list[int] = []
            world.api.listeners.append(lambda request, committed: handled.append(1))
            for step, cut in zip(sequence, cut_at, strict=False):
                request = Requests(twin).request(step)
                # the manager of fields is the same on both ways (APPLY-11)
                options = evolve(request.options, field_manager="tester")
                request = evolve(request, options=options)
                if cut is not None:  # of a new connection, so that the place in it is known
                    world.client.pool.retire()
                    world.cutter.cuts = [cut]
                before = world.api.store.revision
                handled.clear()
                answer = await asked(world.client, request)
                took_effect = world.api.store.revision > before
                assert len(handled) <= 1
                if answer is None and not took_effect:
                    seen["unknown, not done"] += 1
                    continue  # the twin does not do it either
                expected = await asked(twin, request)
                assert expected is not None
                if answer is not None:
                    seen["answered"] += 1
                    assert (answer.code, answer.body) == (expected.code, expected.body)
                else:
                    seen["unknown, done"] += 1
                assert world.api.store.revision == twin.store.revision
                world.cutter.cuts = []
        twin.stop()

    asyncio.run(test())


def test_sometimes_a_request_that_is_unknown_was_done_and_sometimes_not() -> None:
    test_client_3_a_cut_request_is_unknown_and_every_other_is_answered_as_in_the_process()
    assert seen["unknown, done"] and seen["unknown, not done"] and seen["answered"], seen


# --- CLIENT-5


class Following:
    """A watch that is opened again after each end, as an informer does (WATCH-2, WATCH-5)."""

    def __init__(self, api: object, request: Request) -> None:
        self.api, self.request = api, request
        self.revision = int(request.options.resource_version)
        self.events: list[WatchEvent] = []
        self.codes: list[int] = []
        self.open()

    def open(self) -> None:
        options = evolve(self.request.options, resource_version=str(self.revision))
        request = evolve(self.request, options=options)
        self.close = self.api.watch(request, self.take, self.end)  # type: ignore[attr-defined]

    def take(self, events: tuple[WatchEvent, ...]) -> None:
        for event in events:
            assert event.revision > self.revision
            self.revision = event.revision
            if event.type != "BOOKMARK":
                self.events.append(evolve(event, record=None))

    def end(self, code: int) -> None:
        self.codes.append(code)
        if code == 0:
            self.open()


@settings(max_examples=40)
@given(
    histories(size=15),
    st.sampled_from(KINDS),
    st.lists(st.integers(0, 2 * HANDSHAKE_BYTES), max_size=6),
)
def test_client_5_a_component_gets_the_events_that_it_would_get_in_the_process(
    sequence: list[Step], kind: resources.Resource, cut_at: list[int]
) -> None:
    # Shows CLIENT-5.a, CLIENT-5.c.
    async def test() -> None:
        async with loopback(await a_steady_server()) as world:
            world.cutter.cuts = [Cut(answered=each) for each in cut_at]
            request = Request(
                "watch",
                kind,
                options=Options(resource_version="1", allow_watch_bookmarks=True),
                user=ADMIN,
            )
            here = Following(world.api, request)
            there = Following(world.client, request)
            for step in sequence:
                await asked(world.api, Requests(world.api).request(step))
                if step.number == 0:
                    await asyncio.sleep(0.002)  # so that events arrive one by one, and together
            for _ in range(1_000):
                if len(there.events) >= len(here.events):
                    break
                await asyncio.sleep(0.005)
            assert there.events == here.events
            assert set(there.codes) <= {0}
            here.close()
            there.close()

    asyncio.run(test())


# --- the rest by hand


def config_map(name: str, size: int = 1) -> ConfigMap:
    return ConfigMap(metadata=ObjectMeta(name=name, namespace="default"), data={"text": "x" * size})


def create(name: str, size: int = 1) -> Request:
    return Request(
        "create", resources.CONFIG_MAPS, "default", name, body=config_map(name, size), user=ADMIN
    )


async def until(question: Callable[[], bool]) -> None:
    """Wait until it is true."""
    async with asyncio.timeout(20):
        while not question():
            await asyncio.sleep(0.005)


def in_loop(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(test())


LIST = Request("list", resources.CONFIG_MAPS, user=ADMIN)
GET = Request("get", resources.CONFIG_MAPS, "default", "a", user=ADMIN)


def test_client_3_no_server_and_no_answer_are_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    # Shows CLIENT-3.a.
    monkeypatch.setattr(http_api, "ANSWER_SECONDS", 0.5)

    async def test() -> None:
        async with scripted(None, an_answer(200)) as (server, client):
            assert await asked(client, GET) is None
            server.close()
            await asyncio.sleep(0)
            client.pool.retire()
            answers = await asyncio.gather(*[asked(client, GET) for _ in range(100)])
            assert answers == [None] * 100

    in_loop(test)


def test_client_3_a_lease_waits_less_than_other_requests() -> None:
    assert LEASE_SECONDS < ANSWER_SECONDS

    async def test() -> None:
        async with scripted() as (_, client):
            lease = Call(client, evolve(GET, resource=resources.LEASES), print, False, "")
            assert (lease.seconds, Call(client, GET, print, False, "").seconds) == (
                LEASE_SECONDS,
                ANSWER_SECONDS,
            )

    in_loop(test)


# --- CLIENT-4


def test_client_4_a_list_is_read_in_pages_of_one_state(monkeypatch: pytest.MonkeyPatch) -> None:
    # Shows CLIENT-4.a, CLIENT-4.b.
    monkeypatch.setattr(http_api, "PAGE_OBJECTS", 3)

    async def test() -> None:
        async with loopback(await a_steady_server()) as world:
            for number in range(8):
                await asked(world.api, create(f"c-{number}"))
            expected = await asked(world.api, LIST)
            pages: list[Request] = []

            def send(
                request: Request, answer: Any, background: bool = False, authorization: str = ""
            ) -> None:
                pages.append(request)
                if len(pages) == 2:  # what is written between two pages is in neither
                    world.api.submit(create("late"), lambda _: None)
                HttpApi.send(world.client, request, answer, background, authorization)

            world.client.send = send  # type: ignore[method-assign]
            answer = await asked(world.client, LIST)
            assert expected is not None and answer is not None
            assert answer.body == expected.body
            assert len(pages) == 3
            limited = evolve(LIST, options=Options(limit=2))
            assert len((await asked(world.client, limited)).body.items) == 2  # type: ignore[union-attr]
            for version in ("0", str(world.api.store.revision)):
                newest = evolve(LIST, options=Options(resource_version=version))
                assert len((await asked(world.client, newest)).body.items) == 9  # type: ignore[union-attr]

    in_loop(test)


def a_page(continue_: str) -> bytes:
    body = ConfigMapList(
        metadata=ListMeta(resource_version="5", continue_=continue_ or None),
        items=(config_map("a"),),
    )
    return an_answer(200, encode(body))


@pytest.mark.parametrize(
    ("second", "code"),
    [(an_answer(410, encode(status.expired("gone"))), 410), ((b"HTTP/1.1 200 OK\r\nCont",), None)],
)
def test_client_4_a_page_that_is_refused_or_lost_ends_the_list(
    second: Any, code: int | None
) -> None:
    # Shows CLIENT-4.c, CLIENT-4.d.
    async def test() -> None:
        async with scripted(a_page("token"), second) as (server, client):
            answer = await asked(client, LIST)
            assert (None if answer is None else answer.code) == code
            assert (
                b"continue=token&" in server.requests[1] or b"continue=token " in server.requests[1]
            )

    in_loop(test)


# --- CLIENT-5


def watched(client: Any, request: Request) -> tuple[list[WatchEvent], asyncio.Future[int]]:
    ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    events: list[WatchEvent] = []
    client.watch(request, events.extend, ended.set_result)
    return events, ended


WATCH = evolve(LIST, verb="watch", options=Options(resource_version="1"))


def test_client_5_an_old_revision_ends_with_410_and_a_stopped_server_with_0() -> None:
    # Shows CLIENT-5.b.
    async def test() -> None:
        async with loopback(await a_steady_server()) as world:
            for number in range(3):
                await asked(world.api, create(f"c-{number}"))
            await world.api.store.compact(world.api.store.revision)
            _, ended = watched(world.client, WATCH)
            assert await asyncio.wait_for(ended, 20) == 410
            now = Options(resource_version=str(world.api.store.revision))
            events, ended = watched(world.client, evolve(WATCH, options=now))
            for _ in range(1_000):
                if events:
                    break
                await asked(world.api, create(f"d-{world.api.store.revision}"))
                await asyncio.sleep(0.01)
            world.api.stop()
            assert await asyncio.wait_for(ended, 20) == 0

    in_loop(test)


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (an_answer(403, encode(status.forbidden(resources.PODS, "", "no"))), 403),
        (an_answer(410, encode(status.expired("gone"))), 410),
        (an_answer(200, b"<html>\n"), 0),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\n<html>\n\r\n", 0),
        (b"SSH-2.0\r\n\r\n", 0),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", 0),
    ],
)
def test_client_5_any_other_answer_ends_a_watch(said: bytes, code: int) -> None:
    # Shows CLIENT-5.b.
    async def test() -> None:
        async with scripted(said) as (server, client):
            events, ended = watched(client, WATCH)
            assert await asyncio.wait_for(ended, 20) == code
            assert not events
            await until(lambda: server.open == 0)

    in_loop(test)


def test_client_5_the_server_is_to_end_a_watch_after_some_minutes_and_else_the_client_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Shows CLIENT-5.d.
    monkeypatch.setattr(http_api, "WATCH_LEEWAY_SECONDS", -299.9)

    async def test() -> None:
        async with scripted(None, None, None) as (server, client):
            monkeypatch.setattr(http_api, "WATCH_SECONDS", (300, 301))
            _, ended = watched(client, WATCH)
            assert await asyncio.wait_for(ended, 20) == 0
            assert b"timeoutSeconds=300" in server.requests[0]

    in_loop(test)


def test_client_5_a_closed_watch_delivers_nothing_more() -> None:
    async def test() -> None:
        async with loopback(await a_steady_server()) as world:
            told: list[object] = []
            for wait in (0.0, 0.05):
                close = world.client.watch(WATCH, told.append, told.append)
                await asyncio.sleep(wait)
                told.clear()
                close()
                await asked(world.api, create(f"c-{wait}"))
                await asyncio.sleep(0.05)
                assert not told

    in_loop(test)


# --- CLIENT-6

TOO_MANY = encode(status.too_many_requests("slow down"))


def test_client_6_after_429_the_same_request_is_sent_again_at_its_time() -> None:
    # Shows CLIENT-6.a.
    async def test() -> None:
        made = encode(config_map("a"))
        script = [an_answer(429, TOO_MANY, f"Retry-After: {each}") for each in ("0", "1", "0")]
        async with scripted(*script, an_answer(201, made)) as (server, client):
            began = asyncio.get_running_loop().time()
            answer = await asked(client, create("a"))
            assert answer is not None and answer.code == 201
            assert len(set(server.requests)) == 1 and len(server.requests) == 4
            assert asyncio.get_running_loop().time() - began >= 1
        async with scripted(*[script[0]] * 20) as (server, client):
            answer = await asked(client, create("a"))
            assert answer is not None and answer.code == 429
            assert len(server.requests) == REFUSALS_MAX + 1
        async with scripted(script[0]) as (server, client):
            _, ended = watched(client, WATCH)
            assert await asyncio.wait_for(ended, 20) == 429

    in_loop(test)


@given(st.text() | st.integers().map(str))
def test_client_6_any_header_gives_a_wait_within_bounds(header: str) -> None:
    assert 0 <= retry_seconds(header) <= 60
    assert retry_seconds("2") == 2 and retry_seconds("") == 1 and retry_seconds("100000") == 60


# --- CLIENT-7


def test_client_7_what_is_too_long_ends_the_request_and_the_next_is_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Shows CLIENT-7.a.
    monkeypatch.setattr(http_api, "BODY_BYTES_MAX", 1_000)

    async def test() -> None:
        long_head = an_answer(200, b"{}", "X-Long: " + "x" * HEAD_BYTES_MAX)
        long_body = an_answer(200, encode(config_map("a", 5_000)))
        good = an_answer(200, encode(config_map("a")))
        for bad in (long_head, long_body):
            async with scripted(bad, good) as (_, client):
                assert await asked(client, GET) is None
                answer = await asked(client, GET)
                assert answer is not None and answer.body == config_map("a")

    in_loop(test)


def test_client_7_requests_are_sent_over_a_bounded_number_of_connections() -> None:
    # Shows CLIENT-7.b, CLIENT-7.c.
    async def test() -> None:
        async with loopback(await a_steady_server()) as world:
            order: list[str] = []

            def answered(name: str) -> Callable[[Any], None]:
                return lambda _: order.append(name)

            for number in range(100):
                request = create(f"late-{number}")
                world.client.submit(request, answered("late"), background=True)
            for number in range(200):
                world.client.submit(create(f"c-{number}"), answered("first"))
            async with asyncio.timeout(60):
                while len(order) < 300:
                    await asyncio.sleep(0.01)
            assert 1 < world.cutter.open_max <= CONNECTIONS_MAX
            assert "late" not in order[: 200 - CONNECTIONS_MAX]

    in_loop(test)


def test_client_7_requests_that_are_independent_are_more_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Shows CLIENT-7.c.
    sent: list[tuple[int, int]] = []
    send = Connection.send

    def recorded(self: Connection, messages: list[bytes], receivers: list[Any]) -> None:
        send(self, messages, receivers)
        sent.append((len(self.receivers), sum(map(len, in_use()))))

    def in_use() -> list[Any]:
        return [connection.receivers for connection in client.pool._busy]

    monkeypatch.setattr(Connection, "send", recorded)

    async def test() -> None:
        nonlocal client
        async with loopback(await a_steady_server()) as world:
            client = world.client
            await asked(client, create("first"))
            asking = [asked(client, create(f"c-{number}")) for number in range(400)]
            assert all(answer and answer.code == 201 for answer in await asyncio.gather(*asking))
        assert max(of_one for of_one, _ in sent) == REQUESTS_MAX
        assert CONNECTIONS_MAX < max(of_all for _, of_all in sent) <= INDEPENDENT_MAX

    client: Any = None
    in_loop(test)


class SlowServer:
    """An API server that answers requests for Leases at once, and all others never."""

    def __init__(self) -> None:
        self.held = 0  # requests that wait for an answer

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = [line for line in head.splitlines() if line.startswith("Content-Length")]
                await reader.readexactly(int(length[0].split(":")[1]) if length else 0)
                if "/leases/" in head:
                    lease = Lease(metadata=ObjectMeta(name="l"))
                    writer.write(an_answer(200, encode(lease)))
                else:
                    self.held += 1
                    await asyncio.Event().wait()
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.close()


def test_client_11_a_lease_is_renewed_however_many_requests_wait() -> None:
    # Shows CLIENT-11.a, CLIENT-13.g.
    async def test() -> None:
        slow = SlowServer()
        server = await asyncio.start_server(slow.serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        client = HttpApi(Access(f"http://127.0.0.1:{port}"), "tester/v1", Clock())
        try:
            for number in range(500):
                client.submit(create(f"c-{number}"), lambda _: None)
            async with asyncio.timeout(20):
                while slow.held < CONNECTIONS_MAX:
                    await asyncio.sleep(0.01)
                renewal = Request("get", resources.LEASES, "kube-system", "l", user=ADMIN)
                for _ in range(10):
                    answers = await asyncio.gather(*[client.call(renewal) for _ in range(9)])
                    assert all(answer is not None and answer.ok for answer in answers)
            assert slow.held == CONNECTIONS_MAX, "the other requests do not use these connections"
            assert len(client.pool._idle) + len(client.pool._busy) <= CONNECTIONS_MAX + URGENT_MAX
        finally:
            client.close()
            server.close()

    in_loop(test)


@pytest.mark.parametrize(("others", "held"), [(0, 6), (1, 2), (3, 4)])
def test_client_7_one_background_request_is_in_progress_beside_others(
    others: int, held: int
) -> None:
    # Shows CLIENT-7.h, CLIENT-7.i.
    async def test() -> None:
        slow = SlowServer()
        server = await asyncio.start_server(slow.serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        client = HttpApi(Access(f"http://127.0.0.1:{port}"), "tester/v1", Clock())
        try:
            for number in range(others):
                client.submit(create(f"c-{number}"), lambda _: None)
            for number in range(6):
                client.submit(create(f"late-{number}"), lambda _: None, background=True)
            async with asyncio.timeout(20):
                while slow.held < held:
                    opening, used = len(client.pool._opening), len(client.pool._busy)
                    assert opening <= max(1, used), "more than are in use"
                    await asyncio.sleep(0)
            for _ in range(100):  # no further one follows
                await asyncio.sleep(0.001)
            assert slow.held == held
        finally:
            client.close()
            server.close()

    in_loop(test)


def test_client_7_too_many_background_requests_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    # Shows CLIENT-7.d.
    monkeypatch.setattr(http_api, "BACKGROUND_MAX", 3)

    async def test() -> None:
        async with scripted() as (_, client):
            answers: list[Any] = []
            for number in range(5):
                client.submit(create(f"c-{number}"), answers.append, background=True)
            assert [answer.code for answer in answers] == [429, 429]

    in_loop(test)


def test_client_7_an_idle_connection_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    # Shows CLIENT-7.e.
    monkeypatch.setattr(pool, "IDLE_SECONDS", 0.1)

    async def test() -> None:
        good = an_answer(200, encode(config_map("a")))
        async with scripted(good, good, good) as (server, client):
            for _ in range(2):
                await asked(client, GET)
            assert server.connections == 1
            await asyncio.sleep(1.5)
            await asked(client, GET)
            assert server.connections == 2

    in_loop(test)


def test_client_7_an_answer_to_no_request_and_interim_answers() -> None:
    async def test() -> None:
        good = an_answer(200, encode(config_map("a")))
        interim = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
        closing = an_answer(200, encode(config_map("a")), "Connection: close")
        async with scripted(interim + good, good + good, closing, good) as (server, client):
            for _ in range(4):
                answer = await asked(client, GET)
                assert answer is not None and answer.body == config_map("a")
                await asyncio.sleep(0.05)
            assert server.connections == 3

    in_loop(test)


# --- CLIENT-13


@settings(max_examples=8)
@given(st.lists(st.integers(100, 12_000), max_size=3), st.integers(1, 60))
def test_client_13_requests_sent_together_are_answered_or_unknown(
    cuts_at: list[int], count: int
) -> None:
    # Shows CLIENT-13.d, CLIENT-13.f.
    async def test() -> None:
        async with loopback(await a_steady_server()) as world:
            handled: Counter[str] = Counter()
            world.api.listeners.append(
                lambda request, committed: handled.update([request.body.metadata.name])
            )
            world.cutter.cuts = [Cut(answered=at, late=True) for at in cuts_at]
            asking = [asked(world.client, create(f"c-{number}")) for number in range(count)]
            for number, answer in enumerate(await asyncio.gather(*asking)):
                name = f"c-{number}"
                assert handled[name] <= 1
                if answer is not None:
                    assert (answer.code, answer.body.metadata.name) == (201, name)
                    assert handled[name] == 1
            again = [asked(world.client, create(f"c-{number}")) for number in range(count)]
            for number, answer in enumerate(await asyncio.gather(*again)):
                if answer is not None:
                    assert answer.code == (409 if handled[f"c-{number}"] > 1 else answer.code)
                    assert handled[f"c-{number}"] == 1

    in_loop(test)


def test_client_13_requests_of_one_turn_need_few_connections_and_writes() -> None:
    # Shows CLIENT-13.a, CLIENT-13.b, CLIENT-13.c, HTTP-28.a.
    async def test() -> None:
        async with loopback(await a_steady_server()) as world:
            await asked(world.client, create("first"))
            writes: list[int] = []
            [connection] = world.client.pool._idle
            send = connection.send
            connection.send = lambda messages, receivers: (  # type: ignore[method-assign]
                writes.append(len(messages)),
                send(messages, receivers),
            )[1]
            asking = [asked(world.client, create(f"c-{number}")) for number in range(12)]
            assert all(answer and answer.code == 201 for answer in await asyncio.gather(*asking))
            assert writes == [12] and world.cutter.open_max == 1

    in_loop(test)


# --- CLIENT-14


def a_status() -> Request:
    spec = PodSpec(node_name="node-1", containers=(Container(name="c"),))
    body = Pod(metadata=ObjectMeta(name="a"), spec=spec, status=PodStatus(phase="Running"))
    return Request("update", resources.PODS, "default", "a", "status", body)


def test_client_14_only_a_refk8s_server_gets_a_part_of_the_object(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Shows CLIENT-14.b, CLIENT-14.c.
    sent: list[bytes] = []
    send = Connection.send

    def recorded(self: Connection, messages: list[bytes], receivers: list[Any]) -> None:
        sent.extend(messages)
        send(self, messages, receivers)

    monkeypatch.setattr(Connection, "send", recorded)

    async def test() -> None:
        whole = encode(a_status().body)
        async with loopback(await a_steady_server()) as world:
            for _ in range(2):  # the first one is made before the server is known
                answer = await asked(world.client, a_status())
                assert answer is not None and answer.code == 404
                body = sent.pop().partition(b"\r\n\r\n")[2]
                assert b"Running" in body and b"node-1" not in body
            # the next connection is to a server of another kind
            refused = an_answer(404, encode(status.not_found(resources.PODS, "a")))
            async with scripted(refused, refused) as (server, other):
                other.pool.is_refk8s = True
                for _ in range(2):
                    answer = await asked(other, a_status())
                    assert answer is not None and answer.code == 404
                    assert server.requests.pop().endswith(whole)

    in_loop(test)


@pytest.mark.parametrize("offered", [[], ["h2", "http/1.1"], ["http/1.1"]])
def test_http_28_another_client_gets_no_protocol(offered: list[str]) -> None:
    # Shows HTTP-28.g.
    async def test() -> None:
        async with loopback(await a_steady_server()) as world:
            tls = ssl.create_default_context(cafile=str(credentials().authority))
            if offered:
                tls.set_alpn_protocols(offered)
            port = world.cutter.port
            _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
            assert writer.get_extra_info("ssl_object").selected_alpn_protocol() is None
            assert not any(one.is_independent for one in world.front._server.open)  # type: ignore[union-attr]
            writer.close()

    in_loop(test)


class Holding(SlowServer):
    """An API server that answers gets, and nothing else."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = [line for line in head.splitlines() if line.startswith("Content-Length")]
                await reader.readexactly(int(length[0].split(":")[1]) if length else 0)
                if not head.startswith("GET"):
                    self.held += 1
                    await asyncio.Event().wait()
                writer.write(an_answer(200, encode(config_map("a"))))
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.close()


@pytest.mark.parametrize(("resource", "waits"), [(resources.LEASES, 0.0), (None, 0.2)])
def test_client_13_no_request_waits_behind_a_slow_one_and_no_lease_behind_any(
    resource: resources.Resource | None, waits: float
) -> None:
    # Shows CLIENT-13.e.
    async def test() -> None:
        server = await asyncio.start_server(Holding().serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        client = HttpApi(Access(f"http://127.0.0.1:{port}"), "tester/v1", Clock())
        try:
            assert await asked(client, GET) is not None
            [connection] = client.pool._idle
            connection.requests_max = 16  # as if the server had chosen the protocol
            client.submit(create("slow"), lambda _: None)
            await asyncio.sleep(waits + 0.01)
            assert connection in client.pool._busy
            quick = evolve(GET, resource=resource) if resource is not None else GET
            assert await asked(client, quick, 5) is not None
        finally:
            client.close()
            server.close()

    in_loop(test)


class Independent(Connection):
    """A connection of whose server the client believes that it has chosen the protocol."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.is_refk8s, self.requests_max = True, 16


def test_client_7_background_requests_beside_others_begin_together_after_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Shows CLIENT-7.i.
    monkeypatch.setattr(pool, "BACKGROUND_WAIT_SECONDS", 0.5)
    monkeypatch.setattr(pool, "Connection", Independent)

    async def test() -> None:
        server = await asyncio.start_server(Holding().serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        client = HttpApi(Access(f"http://127.0.0.1:{port}"), "tester/v1", Clock())
        answers: list[Any] = []
        try:
            assert await asked(client, GET) is not None
            client.submit(create("slow"), lambda _: None)
            await asyncio.sleep(0.15)  # the others are not sent after it
            for _ in range(40):
                client.submit(GET, answers.append, background=True)
            await asyncio.sleep(0.3)
            first = len(answers)
            assert 1 <= first <= 16, "of those that may begin at once"
            async with asyncio.timeout(20):
                while len(answers) < 40:
                    await asyncio.sleep(0.05)
        finally:
            client.close()
            server.close()

    in_loop(test)
