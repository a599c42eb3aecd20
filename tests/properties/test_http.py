"""The front without a network: what is committed, told, kept, compressed and bounded. Rules HTTP-5
... HTTP-19 (spec/http.md)."""

import asyncio
import gc
import gzip
import itertools
import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from hypothesis import given
from hypothesis import strategies as st
from test_api import a_token

from refk8s.components import apiserver, connection, watch_stream
from refk8s.components.apiserver import ApiServer
from refk8s.components.clock import Clock
from refk8s.components.connection import (
    ANONYMOUS_IDLE_SECONDS,
    BODY_SECONDS,
    CLOSED_MAX,
    HEAD_SECONDS,
    IDLE_SECONDS,
    WRITE_SECONDS,
    Connection,
    Server,
)
from refk8s.components.http import Front
from refk8s.components.kept_lists import LISTS_BYTES_MAX, PIECE_BYTES_MAX, KeptLists, joined
from refk8s.components.watch_stream import Fanout, WatchStream
from refk8s.core.api import codec, resources, status
from refk8s.core.api.core_v1 import ConfigMap, Namespace, Pod, PodSpec
from refk8s.core.api.meta_v1 import ObjectMeta, StatusCause, StatusDetails
from refk8s.core.api.request import Request, Response
from refk8s.core.api.user import ADMIN, User
from refk8s.core.apiserver.authenticate import check_token, make_token
from refk8s.core.apiserver.config import DEFAULT_CONFIG, Config, Decision
from refk8s.core.apiserver.health import DEFINITIONS, OBJECTS, SERVICE, health, named_checks
from refk8s.core.apiserver.lifecycle import stamp
from refk8s.core.apiserver.respond import GZIP_BYTES_MIN, Reply, shown_warnings
from refk8s.core.apiserver.route import route
from refk8s.core.context import SECOND, Context, SeededChance
from refk8s.core.memo import TEXT_LENGTH_MAX, remember_within
from refk8s.core.scheduler import needs
from refk8s.core.scheduler.needs import needs_of
from refk8s.core.store import EMPTY, Put, Txn, commit
from refk8s.core.store_port import StoreUnavailable
from refk8s.core.value import evolve
from refk8s.store.local import COMPACT_CHANGES, LocalStore
from refk8s.store.memory import MemoryEngine
from refk8s.store.sqlite import WRITES_MAX, SqliteEngine

CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"
TOKEN, USER = "t" * 32, User("jane")


def in_loop(test: Callable[[], Any]) -> Any:
    return asyncio.run(test())


def config_map(name: str, **data: str) -> ConfigMap:
    return ConfigMap(metadata=ObjectMeta(name=name, namespace="default"), data=data or None)


def create(name: str, **data: str) -> Request:
    return Request(
        "create", resources.CONFIG_MAPS, "default", name, body=config_map(name, **data), user=ADMIN
    )


async def a_server(engine: Any = None, config: Config = DEFAULT_CONFIG) -> ApiServer:
    api = ApiServer(LocalStore(engine or MemoryEngine(stamp)), Clock(), config)
    done = asyncio.Event()
    api.submit(
        Request(
            "create",
            resources.NAMESPACES,
            body=Namespace(metadata=ObjectMeta(name="default")),
            user=ADMIN,
        ),
        lambda _: done.set(),
    )
    await done.wait()
    return api


async def all_answered(api: ApiServer, requests: list[Request]) -> list[int]:
    """The codes of requests that are committed in one batch, in the order of the requests."""
    loop = asyncio.get_running_loop()
    futures = [loop.create_future() for _ in requests]
    for request, future in zip(requests, futures, strict=True):
        api.submit(request, future.set_result)
    return [response.code for response in await asyncio.gather(*futures)]


async def asked(
    front: Front, method: str, path: str, body: bytes = b"", query: bytes = b"", **headers: str
) -> tuple[int, dict[bytes, bytes], bytes]:
    """What the application answers: code, headers and body."""
    sent: list[dict[str, Any]] = []
    named = [
        (key.replace("_", "-").encode(), value.encode())
        for key, value in {"authorization": f"Bearer {TOKEN}", **headers}.items()
    ]
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": query,
        "headers": named,
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await front(scope, receive, send)
    return (
        sent[0]["status"],
        dict(sent[0]["headers"]),
        b"".join(message["body"] for message in sent[1:]),
    )


# --- times and connections


class Silent:
    """An open connection to a server without TLS, whose clock the test turns."""

    def __init__(self, server: Server, client: socket.socket) -> None:
        self.server = server
        self.client = client

    @property
    def connection(self) -> Any:
        return next(iter(self.server.open))

    async def send(self, data: bytes, until: Callable[[Any], Any]) -> None:
        await asyncio.get_running_loop().sock_sendall(self.client, data)
        while not until(self.connection):
            await asyncio.sleep(0)

    async def later(self, seconds: float) -> bytes:
        """What the client gets when so much time has passed."""
        self.connection.check_time(asyncio.get_running_loop().time() + seconds)
        data = await asyncio.get_running_loop().sock_recv(self.client, 4096)
        return data


async def a_listener(front: Any, connections_max: int = 100) -> tuple[Server, Callable[[], Any]]:
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    config = uvicorn.Config(front, ws="none", lifespan="off", log_config=None, access_log=False)
    config.load()
    server = Server(config, connections_max)
    server.start()
    server.listen(listener)

    async def connect() -> Silent:
        count = len(server.open)
        client = socket.socket()
        client.setblocking(False)
        await asyncio.get_running_loop().sock_connect(client, listener.getsockname())
        while len(server.open) == count and count < connections_max:
            await asyncio.sleep(0)
        return Silent(server, client)

    return server, connect


REQUEST = f"POST {CONFIG_MAPS} HTTP/1.1\r\nauthorization: Bearer {TOKEN}\r\ncontent-length: 9\r\n\r\n".encode()


@pytest.mark.parametrize(
    ("sent", "until", "seconds", "code"),
    [
        (b"", lambda c: True, HEAD_SECONDS, None),
        (b"GET /ap", lambda c: c._head_bytes, HEAD_SECONDS, 408),
        (REQUEST, lambda c: c.authenticated, BODY_SECONDS, 408),
        (
            b"GET /healthz HTTP/1.1\r\n\r\n",
            lambda c: c.cycle and c.cycle.response_complete,
            ANONYMOUS_IDLE_SECONDS,
            None,
        ),
        (
            f"GET {CONFIG_MAPS} HTTP/1.1\r\nauthorization: Bearer {TOKEN}\r\n\r\n".encode(),
            lambda c: c.cycle and c.cycle.response_complete,
            IDLE_SECONDS,
            None,
        ),
    ],
    ids=["nothing", "half a head", "half a body", "nothing more", "nothing more of a user"],
)
def test_http_5_a_part_that_does_not_come_in_its_time_ends_the_connection(
    sent: bytes, until: Any, seconds: float, code: int | None
) -> None:
    async def test() -> None:
        front = Front(await a_server(config=Config(users={TOKEN: USER})))
        server, connect = await a_listener(front)
        one = await connect()
        await one.send(sent, until)
        if sent.startswith(b"GET") and sent.endswith(b"\r\n\r\n"):
            assert b"200 OK" in await asyncio.get_running_loop().sock_recv(one.client, 4096)
        one.connection.check_time(asyncio.get_running_loop().time() + seconds - 1)
        assert not one.connection.transport.is_closing() and not one.connection._refused, (
            "not before its time"
        )
        try:
            answer = await one.later(seconds + 1)
        except ConnectionResetError:
            answer = b""
        assert answer.startswith(f"HTTP/1.1 {code}".encode()) if code else answer == b""
        await server.close(0)

    in_loop(test)


def test_http_5_who_does_not_read_is_closed_unless_patience_is_due() -> None:
    async def test() -> None:
        server, connect = await a_listener(Front(await a_server()))
        one = await connect()
        held = one.connection
        held.deadline, now = None, asyncio.get_running_loop().time()
        held.pause_writing()
        held.patient = True
        held.check_time(now + WRITE_SECONDS + 1)
        assert not held.transport.is_closing()
        held.patient = False
        held.check_time(now + WRITE_SECONDS + 1)
        assert held.transport.is_closing()
        await server.close(0)

    in_loop(test)


def test_http_6_over_the_limit_the_anonymous_go_first_then_the_idle() -> None:
    async def test() -> None:
        server, connect = await a_listener(
            Front(await a_server(config=Config(users={TOKEN: USER}))), connections_max=3
        )
        clients = [await connect() for _ in range(3)]
        first, second, third = list(server.open)
        first.authenticated = True
        clients.append(await connect())
        while second in server.open:
            await asyncio.sleep(0)
        assert first in server.open and third in server.open, "the oldest anonymous one is closed"
        while len(server.open) < 3:
            await asyncio.sleep(0)
        for held in server.open:
            held.authenticated, held.idle_since = True, held.began
        third.idle_since = 0.0
        clients.append(await connect())
        while third in server.open:
            await asyncio.sleep(0)
        assert first in server.open, "the one that has been idle longest is closed"
        assert len(server.open) <= 3 and clients
        await server.close(0)

    in_loop(test)


# --- memory


def test_http_7_closed_connections_are_freed_within_a_second() -> None:
    # Shows HTTP-7.d
    async def test() -> None:
        server, connect = await a_listener(Front(await a_server()))
        for _ in range(CLOSED_MAX + 1):
            one = await connect()
            await one.send(b"GET /healthz HTTP/1.1\r\n\r\n", lambda c: c.is_idle)
            one.client.close()
            while server.open:
                await asyncio.sleep(0)
        assert sum(type(each) is Connection for each in gc.get_objects()) > CLOSED_MAX
        server._check_times()
        assert sum(type(each) is Connection for each in gc.get_objects()) <= CLOSED_MAX
        await server.close(0)

    gc.disable()
    try:
        in_loop(test)
    finally:
        gc.enable()


def test_http_7_long_texts_are_not_remembered() -> None:
    before = route.cache_info().currsize  # type: ignore[attr-defined]
    for number in range(50):
        route("GET", "/api", f"{number}{'x' * TEXT_LENGTH_MAX}")
    assert route.cache_info().currsize == before  # type: ignore[attr-defined]
    route("GET", "/api", "short-and-never-seen")
    assert route.cache_info().currsize == before + 1  # type: ignore[attr-defined]


@given(st.lists(st.binary(max_size=40)), st.integers(2, 100))
def test_http_7_a_cache_within_a_number_of_bytes_gives_the_plain_answer_and_keeps_no_more(
    keys: list[bytes], bytes_max: int
) -> None:
    computed: list[bytes] = []

    @remember_within(bytes_max, len)
    def backwards(key: bytes) -> bytes:
        computed.append(key)
        return key[::-1]

    for key in keys:
        assert backwards(key) == key[::-1]
        assert sum(len(kept) for (kept,) in backwards.kept()) <= bytes_max  # type: ignore[attr-defined]
        count = len(computed)
        backwards(key)
        assert len(computed) == count + (len(key) > bytes_max // 2), "the last one is kept"


def test_http_7_the_scheduler_keeps_requirements_within_its_bound() -> None:
    def pod(number: int) -> Pod:
        selector = {"name": f"{number}{'x' * (1 << 20)}"}
        return Pod(metadata=ObjectMeta(), spec=PodSpec(node_selector=selector, containers=()))

    for number in range(12):
        assert needs_of(pod(number)).node_selector[0][1].startswith(str(number))
    kept = needs._parse.kept()  # type: ignore[attr-defined]
    assert len(kept) > 1 and sum(len(key) for (key,) in kept) <= needs.CACHED_BYTES_MAX


def test_http_7_kept_lists_are_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    from refk8s.components import kept_lists
    from refk8s.components.kept_lists import _Kept
    from refk8s.core.apiserver.list_text import ListText

    kept = KeptLists()
    piece = b"x" * (LISTS_BYTES_MAX // 4)
    for number in range(10):
        kept._put((b"%d" % number, b""), _Kept(ListText("/core/pods/", 1, b"", (piece,))))
    assert 0 < sum(one.size for one in kept._kept.values()) <= LISTS_BYTES_MAX
    kept._put((b"huge", b""), _Kept(ListText("/core/pods/", 1, piece, (piece,) * 4)))
    assert (b"huge", b"") not in kept._kept and len(kept._kept) <= kept_lists.LISTS_MAX


@given(
    st.lists(st.sampled_from([0, 1, PIECE_BYTES_MAX // 3, PIECE_BYTES_MAX, PIECE_BYTES_MAX + 1]))
)
def test_list_13_a_list_that_is_sent_again_has_few_pieces_with_the_same_bytes(
    lengths: list[int],
) -> None:
    pieces = tuple(bytes([number]) * length for number, length in enumerate(lengths))
    found = joined(pieces)
    assert b"".join(found) == b"".join(pieces)
    assert all(len(piece) <= PIECE_BYTES_MAX or piece in pieces for piece in found)
    assert all(len(a) + len(b) > PIECE_BYTES_MAX for a, b in itertools.pairwise(found))


def test_list_13_a_list_is_joined_when_it_is_requested_again() -> None:
    async def test() -> None:
        api = await a_server(config=Config(users={TOKEN: USER}))
        front = Front(api)
        await all_answered(api, [create(f"c{number:03}", k="v" * 200) for number in range(300)])
        bodies = [(await asked(front, "GET", CONFIG_MAPS))[2]]
        [kept] = front.lists._kept.values()
        assert len(kept.text.after) > 1, "one that is not requested again is not copied"
        for _ in range(3):
            bodies.append((await asked(front, "GET", CONFIG_MAPS))[2])
            [again] = front.lists._kept.values()
            assert len(again.text.after) == 1 and again.size == kept.size
        assert len(set(bodies)) == 1 and len(json.loads(bodies[0])["items"]) == 300
        await all_answered(api, [create("d")])
        assert len(json.loads((await asked(front, "GET", CONFIG_MAPS))[2])["items"]) == 301

    in_loop(test)


# --- authorization


def test_http_8_a_kept_list_is_not_sent_to_who_may_not_list() -> None:
    """The list is asked for by one user, so that it is kept, and then by another, for whom nothing
    has been decided."""
    # Shows API-13.a.

    async def test() -> None:
        other = "o" * 32
        users = {TOKEN: USER, other: User("eve")}
        api = await a_server(
            config=Config(
                users=users,
                authorizer=lambda asked, store: Decision(asked.user.name != "eve"),
            )
        )
        front = Front(api)
        for _ in range(2):
            assert (await asked(front, "GET", CONFIG_MAPS))[0] == 200
        assert front.lists._kept
        code, _, body = await asked(front, "GET", CONFIG_MAPS, authorization=f"Bearer {other}")
        said = json.loads(body)
        assert code == 403 and said["reason"] == "Forbidden"
        assert said["message"] == (
            'configmaps is forbidden: User "eve" cannot list resource "configmaps" in API group '
            '"" in the namespace "default"'
        )
        for path in ("/api", "/openapi/v2", "/version", "/healthz", "/nothing"):
            assert (await asked(front, "GET", path, authorization=f"Bearer {other}"))[0] == 403, (
                path
            )
        assert (await asked(front, "POST", CONFIG_MAPS, b"{}", authorization=f"Bearer {other}"))[
            0
        ] == 403

    in_loop(test)


# --- the commit turn


def test_http_9_a_transaction_that_is_too_large_leaves_its_neighbours_alone(tmp_path: Path) -> None:
    async def test() -> None:
        engine = SqliteEngine(
            tmp_path / "store.db",
            codec.encode,
            lambda key, data: codec.decode(ConfigMap, data),
            stamp,
        )
        api = await a_server(engine)
        puts = tuple(
            Put(f"/core/configmaps/default/x{number}", config_map(f"x{number}"))
            for number in range(WRITES_MAX + 1)
        )
        answers: list[Response | None] = []
        api.enqueue(
            create("large"),
            apiserver.Commit(Txn((), puts), lambda _: Response(200, None)),
            answers.append,
        )
        assert await all_answered(api, [create(f"c{number}") for number in range(8)]) == [201] * 8
        assert [answer.code for answer in answers if answer] == [500]
        assert len(engine.list("/core/configmaps/").records) == 8
        engine.close()

    in_loop(test)


def test_http_9_an_answer_that_cannot_be_made_or_given_concerns_nobody_else() -> None:
    async def test() -> None:
        api = await a_server()
        answers: list[Any] = []

        def fail(_: Any) -> Any:
            raise ZeroDivisionError

        txn = Txn((), (Put("/core/configmaps/default/odd", config_map("odd")),))
        api.enqueue(create("odd"), apiserver.Commit(txn, fail), answers.append)
        api.submit(create("first"), fail)
        assert await all_answered(api, [create("second"), create("third")]) == [201, 201]
        assert [answer.code for answer in answers] == [500]

    in_loop(test)


def test_http_10_listeners_and_watchers_that_fail_concern_nobody_else() -> None:
    async def test() -> None:
        api = await a_server()
        heard: list[Any] = []
        ended: list[int] = []

        def fail(*_: Any) -> None:
            raise BrokenPipeError

        api.listeners += [fail, lambda request, committed: heard.append(request.name)]
        told: list[Any] = []
        listing = Request("watch", resources.CONFIG_MAPS, "default", user=ADMIN)
        api.watch(listing, fail, ended.append)
        api.watch(listing, told.extend, ended.append)
        assert await all_answered(api, [create("a"), create("b")]) == [201, 201]
        assert [event.object.metadata.name for event in told] == ["a", "b"] and heard == ["a", "b"]
        assert ended == [500]

    in_loop(test)


class Failing(MemoryEngine[Any]):
    """An engine whose disk is full for a while."""

    full = True

    def __init__(self) -> None:
        super().__init__(stamp)
        self.portions: list[int] = []
        """How many revisions each compaction has forgotten."""

    def compact(self, revision: int, changes_max: int | None = None) -> bool:
        if self.full:
            raise StoreUnavailable("full")
        before = self.compacted
        is_done = super().compact(revision, changes_max)
        self.portions.append(self.compacted - before)
        return is_done

    def probe(self) -> None:
        if self.full:
            raise StoreUnavailable("full")


def test_http_10_a_compaction_that_fails_is_tried_again_and_goes_in_portions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Shows STORE-22.c.
    async def test() -> None:
        engine = Failing()
        api = await a_server(engine)
        await all_answered(api, [create(f"c{number}") for number in range(5_000)])
        target = engine.revision
        assert not await api.compact(target), "it is to be tried again"
        engine.full = False
        given: list[bool] = []
        monkeypatch.setattr(apiserver, "give_memory_back", lambda: given.append(True))
        compacting, served = asyncio.ensure_future(api.compact(target)), 0
        while not compacting.done():
            assert await all_answered(api, [create(f"d{served}")]) == [201]
            served += 1
        assert await compacting and engine.compacted == target and given == [True]
        assert served > len(engine.portions) > 2, "requests are served between the portions"
        assert max(engine.portions) <= COMPACT_CHANGES + 1

    in_loop(test)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["/core/pods/a/", "/core/nodes/", "/apps/sets/b/"]), st.integers(0, 3)
        ),
        max_size=40,
    ),
    st.integers(1, 9),
)
def test_http_10_portions_forget_what_one_compaction_forgets(
    writes: list[tuple[str, int]], portion: int
) -> None:
    engine, whole, history = MemoryEngine[Any](), MemoryEngine[Any](), EMPTY
    for prefix, number in writes:
        txn = Txn((), (Put(f"{prefix}{number}", number),))
        engine.commit_batch([txn])
        whole.commit_batch([txn])
        history, _ = commit(history, txn)
    target = engine.revision
    whole.compact(target)
    while not engine.compact(target, portion):
        assert engine.compacted < target
        assert engine.changes("/", engine.compacted) == history.changes("/", engine.compacted)
    for read in (
        lambda one: one.compacted,
        lambda one: one.changes("/", target),
        lambda one: one.list("/"),
    ):
        assert read(engine) == read(whole)


# --- watches


class Client:
    """A connection as a watch sees it: what was written, and whether the client reads."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.aborted = False
        self.flow = self
        self.transport = self
        self.write_paused = False
        self.on_writable: Callable[[], None] | None = None
        self.cycle = None

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def is_closing(self) -> bool:
        return self.aborted

    def abort(self) -> None:
        self.aborted = True

    async def drain(self) -> None:
        await asyncio.Event().wait()


async def a_watch(
    api: ApiServer, fanout: Fanout, client: Client, query: bytes = b""
) -> asyncio.Task[None]:
    """A watch of config maps that has started."""
    from refk8s.core.apiserver.exchange import Exchange
    from refk8s.core.apiserver.handle import handle
    from refk8s.core.apiserver.http import Received, WireRequest, receive

    received = receive(WireRequest("GET", CONFIG_MAPS, f"watch=true&{query.decode()}"), USER)
    assert isinstance(received, Received)
    stream = handle(Exchange(received.request, api.store, api.context(), api.config))

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.body":
            client.write(message["body"])

    async def silent() -> dict[str, Any]:
        await asyncio.Event().wait()
        raise AssertionError

    watch = WatchStream(fanout, stream, received, client)  # type: ignore[arg-type]
    task = asyncio.create_task(watch.run(api, silent, send))
    while not watch._opened and not task.done() and not client.write_paused:
        await asyncio.sleep(0)
    return task


def test_http_11_a_watcher_that_does_not_read_is_closed_at_a_bound() -> None:
    async def test() -> None:
        api = await a_server()
        client = Client()
        task = await a_watch(api, Fanout(api.clock), client)
        client.write_paused = True
        size = 200_000
        for number in range(watch_stream.BACKLOG_BYTES_MAX // size + 2):
            assert not client.aborted or number > watch_stream.BACKLOG_BYTES_MAX // size - 2
            await all_answered(api, [create(f"c{number}", k="x" * size)])
        await task
        assert client.aborted and client.written == []

    in_loop(test)


def test_http_11_the_end_of_its_time_frees_a_watcher_that_does_not_read() -> None:
    async def test() -> None:
        api = await a_server()
        client = Client()
        task = await a_watch(api, Fanout(api.clock), client, b"timeoutSeconds=1")
        client.write_paused = True
        await all_answered(api, [create("a")])
        [watcher] = api._dispatcher.all_watchers()
        api._end(watcher, 0)  # what its timer does
        await task
        assert client.aborted and api._dispatcher.all_watchers() == []

    in_loop(test)


def test_http_11_a_watcher_that_reads_late_gets_everything_in_order() -> None:
    async def test() -> None:
        api = await a_server()
        client = Client()
        await a_watch(api, Fanout(api.clock), client)
        for number in range(20):
            client.write_paused = number % 5 != 0
            if not client.write_paused and client.on_writable is not None:
                client.on_writable()
            await all_answered(api, [create(f"c{number:02}")])
        client.write_paused = False
        assert client.on_writable is not None
        client.on_writable()
        names = [
            json.loads(chunk.split(b"\r\n")[1])["object"]["metadata"]["name"]
            for chunk in client.written
        ]
        assert names == [f"c{number:02}" for number in range(20)]

    in_loop(test)


def test_http_12_watchers_of_one_selection_are_sent_the_same_bytes() -> None:
    async def test() -> None:
        api = await a_server()
        fanout, clients = Fanout(api.clock), [Client() for _ in range(6)]
        for client in clients[:4]:
            await a_watch(api, fanout, client)
        for client in clients[4:]:
            await a_watch(api, fanout, client, b"labelSelector=a%3Db")
        labelled = evolve(
            create("a"),
            body=ConfigMap(metadata=ObjectMeta(name="a", namespace="default", labels={"a": "b"})),
        )
        await all_answered(api, [labelled])
        assert all(client.written[0] is clients[0].written[0] for client in clients[:4])
        assert (
            clients[4].written[0] is clients[5].written[0]
            and clients[4].written == clients[0].written
        )
        await asyncio.sleep(0)
        assert fanout._written == {}, "nothing is kept"

    in_loop(test)


# --- forms


@given(st.lists(st.text(max_size=20).map(lambda text: text * 40), max_size=60))
def test_http_13_warnings_are_bounded_and_none_that_fits_is_lost(texts: list[str]) -> None:
    shown = shown_warnings(texts)
    assert sum(map(len, shown)) <= 4_096 + 256 and len(set(shown)) <= len(shown)
    whole = [
        text
        for text in dict.fromkeys(texts)
        if text and not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in text)
    ]
    if sum(map(len, whole)) <= 4_096:
        assert shown == whole
    else:
        assert all(text[:256] == cut for text, cut in zip(whole, shown, strict=False))
    for _, value in Reply(200, b"", warnings=tuple(texts)).headers():
        assert b"\n" not in value and b"\r" not in value


def test_http_14_a_failing_check_is_named_and_can_be_excluded() -> None:
    def checks() -> dict[str, str]:
        return {"ping": "", "log": "", "etcd": "disk full", "shutdown": ""}

    failed = health("GET", "/readyz", (), checks)
    assert (failed.code, failed.content) == (
        500, b"[+]ping ok\n[+]log ok\n[-]etcd failed: reason withheld\n[+]shutdown ok\nreadyz check failed\n",
    )  # fmt: skip
    assert health("GET", "/livez/etcd", (), checks).code == 500
    assert health("GET", "/livez", (("exclude", "etcd"),), checks).content == b"ok"
    told = health(
        "GET", "/livez", (("exclude", "etcd"), ("exclude", "x"), ("verbose", "")), checks
    ).content
    assert told.decode().splitlines() == [
        "[+]ping ok", "[+]log ok", "[+]etcd excluded: ok", 'warn: some health checks cannot be excluded: no matches for "x"',
        "livez check passed",
    ]  # fmt: skip


@given(st.dictionaries(st.sampled_from([OBJECTS, DEFINITIONS, SERVICE]), st.booleans()))
def test_http_14_each_part_of_the_start_has_its_checks(parts: dict[str, bool]) -> None:
    """A part that has not finished makes the server unready, by each name of its own."""
    named = named_checks("", False, {part: lambda has=has: has for part, has in parts.items()})  # type: ignore[misc]
    assert list(named)[:4] == ["ping", "log", "etcd", "etcd-readiness"]
    assert list(named)[-1] == "shutdown"
    assert ("informer-sync" in named) == (DEFINITIONS in parts)
    assert ("poststarthook/bootstrap-controller" in named) == (SERVICE in parts)
    assert any(named.values()) == (not all(parts.values()))
    assert health("GET", "/readyz", (), lambda: named).code == (200 if all(parts.values()) else 500)
    for name, wrong in named.items():
        asked_for = health("GET", f"/readyz/{name}", (), lambda: named)
        assert asked_for.code == (500 if wrong else 200)
        is_live = name not in ("etcd-readiness", "informer-sync", "shutdown")
        assert (health("GET", f"/livez/{name}", (), lambda: named).code != 404) == is_live
        assert health("GET", f"/readyz/{name}x", (), lambda: named).code == 404


def test_http_14_a_full_disk_makes_the_server_unready() -> None:
    async def test() -> None:
        engine = Failing()
        api = await a_server(engine, Config(users={TOKEN: USER}))
        front = Front(api)

        async def readyz() -> int:
            return (await asked(front, "GET", "/readyz"))[0]

        assert await readyz() == 500
        engine.full = False
        assert await readyz() == 500, "the disk is not asked again at once"
        api._probe_after = 0
        assert await readyz() == 200
        api.stop()
        assert api.checks()["shutdown"]

    in_loop(test)


def test_http_16_large_answers_are_compressed_for_who_asks_kept_or_not() -> None:
    async def test() -> None:
        api = await a_server(config=Config(users={TOKEN: USER}))
        front = Front(api)
        await all_answered(api, [create(f"c{number}", k="value" * 100) for number in range(400)])
        plain = (await asked(front, "GET", CONFIG_MAPS))[2]
        assert len(plain) > GZIP_BYTES_MIN
        # the first keeps the list, the second compresses what is kept, the third has both
        for _ in range(3):
            code, headers, body = await asked(
                front, "GET", CONFIG_MAPS, accept_encoding="deflate, gzip;q=0.5"
            )
            assert (code, headers[b"content-encoding"], headers[b"vary"]) == (
                200,
                b"gzip",
                b"accept-encoding",
            )
            assert gzip.decompress(body) == plain and int(headers[b"content-length"]) == len(body)
        code, headers, body = await asked(
            front, "GET", CONFIG_MAPS, query=b"limit=300", accept_encoding="gzip"
        )
        assert (
            headers[b"content-encoding"] == b"gzip"
            and len(json.loads(gzip.decompress(body))["items"]) == 300
        )
        assert (
            b"content-encoding"
            not in (await asked(front, "GET", f"{CONFIG_MAPS}/c1", accept_encoding="gzip"))[1]
        )
        assert (
            b"content-encoding"
            not in (await asked(front, "GET", CONFIG_MAPS, accept_encoding="gzip;q=0"))[1]
        )

    in_loop(test)


def test_http_17_a_status_has_the_order_of_its_fields_and_every_answer_a_newline() -> None:
    causes = (StatusCause(reason="R", message="m", field="f"),)
    details = StatusDetails(
        retry_after_seconds=1, uid="u", causes=causes, name="n", kind="k", group="g"
    )
    said = status.failure(404, "NotFound", "not here", details)
    assert codec.encode(said).decode() == (
        '{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"not '
        'here","reason":"NotFound",'
        '"details":{"name":"n","group":"g","kind":"k","uid":"u","causes":[{"reason":"R","message":"m","field":"f"}],'
        '"retryAfterSeconds":1},"code":404}'
    )

    async def test() -> None:
        api = await a_server(config=Config(users={TOKEN: USER}))
        front = Front(api)
        await all_answered(api, [create("a")])
        for method, path, headers in (
            ("GET", CONFIG_MAPS, {}), ("GET", f"{CONFIG_MAPS}/a", {}), ("GET", f"{CONFIG_MAPS}/none", {}), ("GET", "/api", {}),
            ("GET", "/apis", {}), ("GET", CONFIG_MAPS, {"accept": "application/json;as=Table;g=meta.k8s.io;v=v1"}), ("DELETE", "/apis", {}),
            ("GET", CONFIG_MAPS, {"accept": "text/html"}), ("GET", CONFIG_MAPS, {"authorization": "Bearer wrong"}),
        ):  # fmt: skip
            body = (await asked(front, method, path, **headers))[2]
            assert body.endswith(b"}\n") and not body.endswith(b"\n\n"), (method, path, headers)

    in_loop(test)


# --- tokens

NOW = 1_800_000_000 * SECOND


def the_objects(**uids: str) -> MemoryEngine[Any]:
    engine = MemoryEngine[Any]()
    if "account" in uids:
        account = resources.SERVICE_ACCOUNTS.type(
            metadata=ObjectMeta(name="robot", namespace="default", uid=uids["account"])
        )
        engine.commit_batch([Txn((), (Put("/core/serviceaccounts/default/robot", account),))])
    if "pod" in uids:
        pod = Pod(metadata=ObjectMeta(name="p", namespace="default", uid=uids["pod"]))
        engine.commit_batch([Txn((), (Put("/core/pods/default/p", pod),))])
    return engine


def a_bound_token(config: Config = DEFAULT_CONFIG, **bound: Any) -> str:
    return make_token(
        "default",
        "robot",
        "sa-uid",
        config.audiences,
        600,
        bound,
        config,
        Context(NOW, SeededChance(b"t")),
    )


POD = {"pod": {"name": "p", "uid": "pod-uid"}, "node": {"name": "n", "uid": "node-uid"}}


@given(
    st.sampled_from([None, "sa-uid", "other"]), st.sampled_from([None, "pod-uid", "other"]), st.booleans(),
    st.sampled_from([-1, 0, 1, 599, 600, 601, 10**9]),
)  # fmt: skip
def test_http_19_a_token_is_good_only_within_its_time_and_while_what_it_names_is_there(
    account: str | None, pod: str | None, is_bound: bool, seconds: int
) -> None:
    # Shows API-16.b.
    objects = the_objects(
        **({"account": account} if account else {}), **({"pod": pod} if pod else {})
    )
    token = a_bound_token(**(POD if is_bound else {}))
    checked = check_token(token, DEFAULT_CONFIG, NOW + seconds * SECOND, objects)
    good = account == "sa-uid" and (pod == "pod-uid" or not is_bound) and 0 <= seconds < 600
    assert (checked.user is not None) == good and bool(checked.problem) != good
    if checked.user is not None:
        extra = dict(checked.user.extra)
        assert extra["authentication.kubernetes.io/credential-id"][0].startswith("JTI=")
        assert (extra.get("authentication.kubernetes.io/pod-uid") == ("pod-uid",)) == is_bound
        assert (extra.get("authentication.kubernetes.io/node-name") == ("n",)) == is_bound


@given(st.integers(0, 10_000), st.characters(codec="ascii"))
def test_http_19_a_token_changed_in_any_character_names_nobody(place: int, character: str) -> None:
    token = a_bound_token()
    place %= len(token)
    changed = token[:place] + character + token[place + 1 :]
    assert (check_token(changed, DEFAULT_CONFIG, NOW).user is not None) == (changed == token)


@given(st.text(max_size=60) | st.binary(max_size=60).map(lambda data: data.decode("latin-1")))
def test_http_19_any_text_is_checked_without_an_exception(text: str) -> None:
    for token in (text, f"{text}.{text}.{text}", a_bound_token() + text + "x", "x" * 100_000):
        assert check_token(token, DEFAULT_CONFIG, NOW).user is None


def test_http_19_an_object_marked_for_deletion_ends_its_tokens_after_a_minute() -> None:
    engine = the_objects(account="sa-uid")
    account = engine.get("/core/serviceaccounts/default/robot").value  # type: ignore[union-attr]
    from msgspec.structs import replace

    from refk8s.core.context import timestamp

    marked = replace(account, metadata=replace(account.metadata, deletion_timestamp=timestamp(NOW)))
    engine.commit_batch([Txn((), (Put("/core/serviceaccounts/default/robot", marked),))])
    token = a_bound_token()
    assert [
        check_token(token, DEFAULT_CONFIG, NOW + s * SECOND, engine).user is not None
        for s in (0, 59, 60)
    ] == [True, True, False]


def test_http_19_the_administrators_token_is_known_to_reviews() -> None:
    token, now = a_token()
    config = Config(users={TOKEN: USER})
    assert check_token(TOKEN, config, now).user == USER
    assert check_token(TOKEN, config, now, audiences=("vault",)).user is None
    assert (
        check_token(token, config, now, audiences=("vault", *config.audiences)).audiences
        == config.audiences
    )
    assert connection.HEADERS_MAX


# --- forms and paths that clients use


REVIEW = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
ASK = b'{"spec":{"nonResourceAttributes":{"path":"/","verb":"get"}}}'


@pytest.mark.parametrize(
    ("path", "shown", "expected"),
    [
        (CONFIG_MAPS, "Table", ("meta.k8s.io/v1beta1", "Table")),
        (
            f"{CONFIG_MAPS}/a",
            "PartialObjectMetadata",
            ("meta.k8s.io/v1beta1", "PartialObjectMetadata"),
        ),
        (
            CONFIG_MAPS,
            "PartialObjectMetadataList",
            ("meta.k8s.io/v1beta1", "PartialObjectMetadataList"),
        ),
    ],
)
def test_api_21_tables_and_metadata_are_served_in_the_older_version_too(
    path: str, shown: str, expected: tuple[str, str]
) -> None:
    # Shows API-21.c.
    async def test() -> None:
        api = await a_server(config=Config(users={TOKEN: USER}))
        await all_answered(api, [create("a")])
        accepted = f"application/json;as={shown};g=meta.k8s.io;v=v1beta1,application/json"
        code, _, body = await asked(Front(api), "GET", path, accept=accepted)
        answer = json.loads(body)
        assert code == 200 and (answer["apiVersion"], answer["kind"]) == expected
        assert all(item["apiVersion"] == "meta.k8s.io/v1beta1" for item in answer.get("items", ()))

    in_loop(test)


def test_api_21_there_is_no_table_of_a_review() -> None:
    # Shows API-21.d.
    async def test() -> None:
        front = Front(await a_server(config=Config(users={TOKEN: USER})))
        table = "application/json;as=Table;g=meta.k8s.io;v=v1"
        code, _, body = await asked(front, "POST", REVIEW, ASK, accept=table)
        assert code == 406 and json.loads(body)["reason"] == "NotAcceptable"
        code, _, body = await asked(front, "POST", REVIEW, ASK, accept=f"{table},application/json")
        assert code == 201 and json.loads(body)["kind"] == "SelfSubjectAccessReview"

    in_loop(test)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_api_10_a_write_to_what_is_not_served_is_not_found(method: str) -> None:
    async def test() -> None:
        front = Front(await a_server(config=Config(users={TOKEN: USER})))
        unserved = (
            "/apis/no.example.com/v1/things",
            "/apis/no.example.com",
            "/apis/apps/v9/things",
            "/nothing",
            "/api/v1/things",
        )
        for path in unserved:
            code, _, body = await asked(front, method, path, b"{}")
            # a group that is not served is answered in plain text
            is_text = path.startswith("/apis/no.example.com")
            assert code == 404 and (
                body == b"404 page not found\n"
                if is_text
                else json.loads(body)["reason"] == "NotFound"
            ), path
        for path in (
            "/",
            "/api",
            "/apis",
            "/apis/apps",
            "/apis/apps/v1",
            "/version",
            "/openapi/v2",
            "/healthz",
        ):
            assert (await asked(front, method, path, b"{}"))[0] == 405, path

    in_loop(test)


def test_api_20_a_token_is_bound_to_a_pod_of_its_account_and_tells_the_pods_node() -> None:
    async def test() -> None:
        engine = MemoryEngine(stamp)
        api = await a_server(engine, Config(users={TOKEN: USER}))
        node = resources.NODES.type(metadata=ObjectMeta(name="n", uid="node-uid"))
        account = resources.SERVICE_ACCOUNTS.type(
            metadata=ObjectMeta(name="robot", namespace="default", uid="sa-uid")
        )
        pods = [
            Pod(metadata=ObjectMeta(name=name, namespace="default", uid=f"{name}-uid"), spec=spec)
            for name in ("robot", "other")
            for spec in (PodSpec(service_account_name=name, node_name="n"),)
        ]
        writes = [Put(f"/core/pods/default/{pod.metadata.name}", pod) for pod in pods]
        writes += [Put("/core/nodes/n", node), Put("/core/serviceaccounts/default/robot", account)]
        engine.commit_batch([Txn((), tuple(writes))])
        front, path = Front(api), "/api/v1/namespaces/default/serviceaccounts/robot/token"
        body = b'{"spec":{"boundObjectRef":{"apiVersion":"v1","kind":"Pod","name":"%s"}}}'
        code, _, answer = await asked(front, "POST", path, body % b"other")
        assert code == 400 and "different serviceaccount name" in json.loads(answer)["message"]
        code, _, answer = await asked(front, "POST", path, body % b"robot")
        review = json.dumps({"spec": {"token": json.loads(answer)["status"]["token"]}}).encode()
        said = json.loads(
            (await asked(front, "POST", "/apis/authentication.k8s.io/v1/tokenreviews", review))[2]
        )["status"]
        assert (
            said["authenticated"]
            and said["user"]["username"] == "system:serviceaccount:default:robot"
        )
        extra = {key.rpartition("/")[2]: value for key, value in said["user"]["extra"].items()}
        assert extra.pop("credential-id")[0].startswith("JTI=")
        assert extra == {
            "node-name": ["n"],
            "node-uid": ["node-uid"],
            "pod-name": ["robot"],
            "pod-uid": ["robot-uid"],
        }
        review = json.dumps({"spec": {"token": TOKEN}}).encode()
        said = json.loads(
            (await asked(front, "POST", "/apis/authentication.k8s.io/v1/tokenreviews", review))[2]
        )["status"]
        assert said["authenticated"] and said["user"]["username"] == "jane"

    in_loop(test)


def test_http_21_reading_long_yaml_blocks_no_other_request() -> None:
    async def test() -> None:
        front = Front(await a_server(config=Config(users={TOKEN: USER})))
        order: list[str] = []

        async def post() -> None:
            body = (
                b"metadata: {name: a}\ndata: {"
                + b",".join(b"k%d: 'v'" % number for number in range(60_000))
                + b"}"
            )
            code, _, _ = await asked(
                front, "POST", CONFIG_MAPS, body, content_type="application/yaml"
            )
            order.append(f"post {code}")

        async def get() -> None:
            assert (await asked(front, "GET", CONFIG_MAPS))[0] == 200
            order.append("get")

        await asyncio.gather(post(), get())
        assert order == ["get", "post 201"]

    in_loop(test)
