"""Requests that are answered without a task are answered as the application answers them. Rule
HTTP-26 (spec/http.md)."""

import asyncio
import gzip
import json
import re
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from test_http import CONFIG_MAPS, TOKEN, a_listener, a_server, all_answered, create
from test_http_writes import read

from refk8s.components.asgi import Receive, Scope, Send
from refk8s.components.http import Front
from refk8s.core.api import resources
from refk8s.core.api.request import Request
from refk8s.core.api.user import AUTHENTICATED, User
from refk8s.core.apiserver.config import ALLOWED, NO_OPINION, Attributes, Config, Decision
from refk8s.core.apiserver.flow_control import default_flow_control
from refk8s.core.apiserver.lifecycle import stamp
from refk8s.core.store import Put, Txn
from refk8s.store.memory import MemoryEngine

JANE = User("jane", groups=(AUTHENTICATED,))

Sent = tuple[str, str, tuple[str, ...], bytes]
"""(method, path and query, further headers, body)"""


def a_body(name: str, **more: Any) -> bytes:
    return json.dumps(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, **more}
    ).encode()


OBJECT = f"{CONFIG_MAPS}/a"
NAMES = st.sampled_from(["a", "b", "c", "none", "other"])
BODIES = st.one_of(
    st.builds(a_body, NAMES),
    st.builds(a_body, NAMES, data=st.fixed_dictionaries({"key": st.sampled_from(["1", "2"])})),
    st.builds(a_body, NAMES, unknown=st.just(1), kind=st.sampled_from(["ConfigMap", "Secret"])),
    st.sampled_from([b"", b"{", b'{"data":{"key":"3"}}', b"kind: ConfigMap\nmetadata: {name: d}"]),
)
QUERIES = st.sampled_from(
    [
        "",
        "?dryRun=All",
        "?fieldValidation=Strict",
        "?limit=1",
        "?dryRun=Some",
        "?pretty=true",
        "?x#y",
    ]
)
HEADERS = st.lists(
    st.sampled_from([
        "accept: application/yaml", "accept: application/json;as=Table;v=v1;g=meta.k8s.io,*/*",
        "accept: text/html", "accept-encoding: gzip", "content-type: application/yaml",
        "content-type: application/merge-patch+json", "authorization: Bearer wrong", "authorization: ",
        "impersonate-user: jim", "user-agent: kubectl/v1 (x)", "expect: 100-continue",
    ]),
    max_size=2,
    unique_by=lambda line: line.partition(":")[0],
)  # fmt: skip
OBJECTS = NAMES.map(lambda name: f"{CONFIG_MAPS}/{name}")
PATHS = st.one_of(
    OBJECTS, OBJECTS, st.just(CONFIG_MAPS), st.just(CONFIG_MAPS),
    st.sampled_from(["/healthz", "/apis", "/api/v1", "/api/v1/none", f"{CONFIG_MAPS}/a#b", "/api/v1/namespaces/%64efault/configmaps/a"]),
)  # fmt: skip
REQUESTS = st.tuples(
    st.sampled_from(["GET", "GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"]),
    st.builds(str.__add__, PATHS, QUERIES),
    HEADERS.map(tuple),
    BODIES,
)


def text_of(sent: Sent) -> bytes:
    method, path, lines, body = sent
    given = {"authorization": f"Bearer {TOKEN}", "content-length": str(len(body))}
    given |= dict(line.split(": ", 1) for line in lines)
    head = "".join(f"{name}: {value}\r\n" for name, value in given.items() if value)
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body


_VARYING = re.compile(
    rb'[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]{22}|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z|\d+s(?=")'
)
"""Identifiers, times and ages, which differ between two servers."""


def comparable(got: bytes) -> bytes:
    head, _, body = got.partition(b"\r\n\r\n")
    if b"content-encoding: gzip" in head and body:
        head, body = re.sub(rb"content-length: \d+", b"", head), gzip.decompress(body)
    return _VARYING.sub(b"?", head + b"\r\n\r\n" + body)


def is_answer(method: str, got: bytes) -> bool:
    head, found, body = got.partition(b"\r\n\r\n")
    if not found:
        return False
    if head.startswith(b"HTTP/1.1 100 "):
        return is_answer(method, body)
    length = re.search(rb"content-length: (\d+)", head)
    return method == "HEAD" or (length is not None and len(body) >= int(length[1]))


async def answers(front: Any, requests: list[Sent], pieces: int) -> list[bytes]:
    """What a client gets for requests that it sends one after the other, each in so many pieces."""
    server, connect = await a_listener(front)
    loop, found = asyncio.get_running_loop(), []
    one = await connect()
    try:
        for sent in requests:
            text = text_of(sent)
            size = -(-len(text) // pieces)
            for start in range(0, len(text), size):
                await loop.sock_sendall(one.client, text[start : start + size])
                for _ in range(4):
                    await asyncio.sleep(0)
            got = await read(one.client, lambda got, sent=sent: is_answer(sent[0], got))
            found.append(comparable(got))
            if b"connection: close" in got or not got:
                one.client.close()
                one = await connect()
    finally:
        one.client.close()
        await server.close(0)
    return found


def may(attributes: Attributes, store: Any) -> Decision:
    """Everything, but only as jane."""
    return ALLOWED if attributes.user == JANE else NO_OPINION


async def a_front() -> Front:
    engine: MemoryEngine[Any] = MemoryEngine(stamp)
    for one in default_flow_control():
        kind = resources.by_kind(one.api_version, one.kind)
        assert kind is not None
        engine.commit_batch([Txn((), (Put(kind.key("", one.metadata.name), one),))])
    api = await a_server(engine, Config(users={TOKEN: JANE}, authorizer=may))
    await all_answered(
        api, [create("a"), create("b", key="v" * 3000), create("c", key="v" * 140_000)]
    )
    return Front(api)


def applied(front: Front) -> Any:
    """The application alone: nothing is answered without a task."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await front(scope, receive, send)

    return application


@given(st.lists(REQUESTS, min_size=1, max_size=6), st.sampled_from([1, 1, 2]))
@example(
    [("POST", CONFIG_MAPS, (), a_body("d", unknown=1)), ("GET", f"{CONFIG_MAPS}/d", (), b"")], 1
)
@example([("GET", OBJECT, ("authorization: ",), b""), ("GET", f"{OBJECT}#b", (), b"")], 1)
@example([("GET", OBJECT, ("impersonate-user: jim",), b"")], 1)
@example([("GET", CONFIG_MAPS, ("accept-encoding: gzip",), b"")] * 3, 1)
@example([("GET", CONFIG_MAPS, (), b"")] * 3 + [("DELETE", CONFIG_MAPS, (), b"")], 1)
def test_http_26_an_answer_does_not_depend_on_the_way_in_which_it_is_made(
    requests: list[Sent], pieces: int
) -> None:
    # Shows HTTP-26.b.
    async def test() -> None:
        fast, plain = await a_front(), await a_front()
        got = await answers(fast, requests, pieces)
        assert got == await answers(applied(plain), requests, pieces)
        store, other = fast.api.store, plain.api.store
        assert store.revision == other.revision
        for one, two in zip(store.list("/").records, other.list("/").records, strict=True):
            assert (one.key, one.mod_revision) == (two.key, two.mod_revision)
        assert fast.metrics._in_flight == plain.metrics._in_flight == {"mutating": 0, "readOnly": 0}
        counted = [
            {key: series.codes for key, series in each.metrics._series.items()}
            for each in (fast, plain)
        ]
        assert counted[0] == counted[1]
        assert all(not seats.used for seats in fast.fair._seats.values())

    asyncio.run(test())


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_http_26_a_whole_request_gets_no_task_and_one_in_parts_does(method: str) -> None:
    # Shows HTTP-26.a.
    async def test() -> None:
        front, begun = await a_front(), []

        class Counted:
            at_once = front.at_once

            async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
                begun.append(scope["method"])
                await front(scope, receive, send)

        path = CONFIG_MAPS if method == "POST" else f"{CONFIG_MAPS}/a"
        body = a_body("d") if method == "POST" else b""
        [got] = await answers(Counted(), [(method, path, (), body)], 1)
        assert got.startswith(b"HTTP/1.1 20") and begun == []
        server, connect = await a_listener(Counted())
        one = await connect()
        head, _, _ = text_of((method, path, (), b"{}")).rpartition(b"{}")
        await one.send(head, lambda c: begun)
        assert begun == [method]
        await server.close(0)

    asyncio.run(test())


def test_http_26_requests_sent_ahead_of_a_commit_are_answered_after_it() -> None:
    # Shows HTTP-26.c, HTTP-28.g.
    async def test() -> None:
        front = await a_front()
        server, connect = await a_listener(front)
        one = await connect()
        loop = asyncio.get_running_loop()
        await one.send(text_of(("POST", CONFIG_MAPS, (), a_body("d"))), lambda c: c.cycle)
        assert not one.connection.is_idle, "the commit is due in a later turn"
        for name in ("d", "none"):
            await loop.sock_sendall(one.client, text_of(("GET", f"{CONFIG_MAPS}/{name}", (), b"")))
        got = await read(one.client, lambda got: b"404" in got and b"none" in got)
        assert re.findall(rb"HTTP/1.1 (\d+)", got) == [b"201", b"200", b"404"]
        await server.close(0)

    asyncio.run(test())


def test_http_26_a_request_without_a_free_seat_waits_for_one() -> None:
    # Shows HTTP-26.c, HTTP-28.g.
    async def test() -> None:
        front = await a_front()
        reading = Request("get", resources.CONFIG_MAPS, "default", "a", user=JANE)
        ticket = front.fair.ticket_of(reading, "GET", front.api.store)
        assert ticket is not None
        while front.fair.enters(ticket):
            pass
        asked = asyncio.create_task(answers(front, [("GET", f"{CONFIG_MAPS}/a", (), b"")], 1))
        while not front.fair._seats[ticket.flow.level.name].waiting:
            await asyncio.sleep(0)
        assert not asked.done()
        front.fair.leave(ticket)
        [got] = await asked
        assert got.startswith(b"HTTP/1.1 200")

    asyncio.run(test())


# --- HTTP-28


def parts_of(got: bytes) -> list[bytes]:
    """The answers in what a client has got, each comparable; an incomplete one is left out."""
    found = []
    while True:
        head, complete, rest = got.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head)
        if not complete or length is None or len(rest) < int(length[1]):
            return found
        found.append(comparable(head + complete + rest[: int(length[1])]))
        got = rest[int(length[1]) :]


async def answers_of_independent(
    front: Front, requests: list[Sent], cuts: list[int]
) -> list[bytes]:
    """What a client gets that sends the requests ahead, in pieces that end at these bytes."""
    server, connect = await a_listener(front)
    one = await connect()
    one.connection.is_independent = True  # as by the TLS handshake
    text = b"".join(map(text_of, requests))
    places = [0, *sorted(cut % len(text) for cut in cuts), len(text)]
    try:
        for start, end in pairwise(places):
            await asyncio.get_running_loop().sock_sendall(one.client, text[start:end])
            for _ in range(3):
                await asyncio.sleep(0)
        return parts_of(await read(one.client, lambda got: len(parts_of(got)) == len(requests)))
    finally:
        one.client.close()
        await server.close(0)


INDEPENDENT: list[Sent] = [
    *[("POST", CONFIG_MAPS, (), a_body(f"new-{number}")) for number in range(20)],
    ("PUT", OBJECT, (), a_body("a", data={"key": "2"})),
    ("DELETE", f"{CONFIG_MAPS}/b", (), b""),
    ("GET", f"{CONFIG_MAPS}/c", (), b""),
    ("GET", f"{CONFIG_MAPS}/c", ("accept-encoding: gzip",), b""),
    ("GET", f"{CONFIG_MAPS}/none", (), b""),
    ("GET", f"{CONFIG_MAPS}/c", ("accept: application/yaml",), b""),
    ("POST", CONFIG_MAPS, ("content-type: application/yaml",), b"metadata: {name: d}"),
    ("GET", "/healthz", (), b""),
    ("POST", CONFIG_MAPS, (), b"{"),
]  # fmt: skip
"""Requests none of which changes the answer to another one."""


@given(
    st.lists(st.sampled_from(INDEPENDENT), min_size=1, max_size=24, unique=True),
    st.lists(st.integers(0, 10_000), max_size=3),
)
@example(INDEPENDENT[:20], [])
@example([INDEPENDENT[22], *INDEPENDENT[:3], INDEPENDENT[23], *INDEPENDENT[3:5]], [])
def test_http_28_independent_requests_are_answered_in_their_order(
    requests: list[Sent], cuts: list[int]
) -> None:
    # Shows HTTP-28.c, HTTP-28.d, HTTP-28.e.
    async def test() -> None:
        front, plain = await a_front(), await a_front()
        got = await answers_of_independent(front, requests, cuts)
        expected = await answers(plain, requests, 1)
        assert [without_age(one) for one in got] == [without_age(one) for one in expected]
        assert front.metrics._in_flight == {"mutating": 0, "readOnly": 0}

    asyncio.run(test())


def without_age(got: bytes) -> bytes:
    """Without revisions, which depend on the order of the commits."""
    return re.sub(rb'("?)resourceVersion\1: ?"\d+"', b"?", got)


@pytest.mark.parametrize("place", [0, 1, 63])
def test_http_28_one_request_with_a_task_among_as_many_as_may_wait(place: int) -> None:
    # Shows HTTP-28.b, HTTP-28.c, HTTP-28.d.
    async def test() -> None:
        front = await a_front()
        requests: list[Sent] = [
            ("POST", CONFIG_MAPS, (), a_body(f"new-{number}")) for number in range(63)
        ]
        requests.insert(place, ("GET", "/healthz", (), b""))
        got = await answers_of_independent(front, requests, [])
        codes = [re.match(rb"HTTP/1.1 (\d+)", one)[1] for one in got]  # type: ignore[index]
        assert codes == [b"200" if number == place else b"201" for number in range(64)]

    asyncio.run(test())


def test_http_28_requests_that_arrive_together_are_one_transaction() -> None:
    # Shows HTTP-28.b.
    async def test() -> None:
        front = await a_front()
        batches: list[int] = []
        front.api.store.listen(lambda changes: batches.append(len(changes)))
        await answers_of_independent(front, INDEPENDENT[:10], [])
        assert batches == [10]

    asyncio.run(test())


def test_http_28_what_cannot_be_read_ends_a_connection_with_unanswered_requests() -> None:
    # Shows HTTP-28.f.
    async def test() -> None:
        front = await a_front()
        server, connect = await a_listener(front)
        one = await connect()
        one.connection.is_independent = True
        bad = b"GET /" + b"x" * 40_000 + b" HTTP/1.1\r\n\r\n"
        text = b"".join(map(text_of, INDEPENDENT[:3])) + bad
        await asyncio.get_running_loop().sock_sendall(one.client, text)
        got = await read(one.client, lambda got: False)
        assert b"414" not in got and got.count(b"HTTP/1.1 ") <= 3
        await server.close(0)

    asyncio.run(test())


def test_http_28_a_server_that_stops_answers_what_has_begun() -> None:
    async def test() -> None:
        front = await a_front()
        server, connect = await a_listener(front)
        one = await connect()
        one.connection.is_independent = True
        text = b"".join(map(text_of, INDEPENDENT[:3]))
        await one.send(text, lambda c: len(c.unsent) == 3)
        closing = asyncio.ensure_future(server.close(5))
        got = await read(one.client, lambda got: False)
        assert re.findall(rb"HTTP/1.1 (\d+)", got) == [b"201"] * 3
        await closing

    asyncio.run(test())


def test_http_28_an_answer_that_is_compressed_waits_for_those_before_it() -> None:
    # Shows HTTP-28.e.
    async def test() -> None:
        front = await a_front()
        server, connect = await a_listener(front)
        one = await connect()
        one.connection.is_independent = True
        earlier = one.connection.answer_later()  # as for a request whose commit takes long
        compressed = ("GET", f"{CONFIG_MAPS}/c", ("accept-encoding: gzip",), b"")
        await one.send(text_of(compressed), lambda c: len(c.unsent) == 2)
        assert one.connection.unsent
        await asyncio.sleep(0.2)
        first = b"HTTP/1.1 201 Created\r\ncontent-length: 0\r\n\r\n"
        one.connection.answer(first, earlier)
        got = await read(one.client, lambda got: is_answer("GET", got[len(first) :]))
        assert got.startswith(first) and b"content-encoding: gzip" in got
        await server.close(0)

    asyncio.run(test())
