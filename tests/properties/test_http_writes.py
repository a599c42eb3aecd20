"""How an answer is written to its connection. Rule HTTP-24 (spec/http.md)."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_http import CONFIG_MAPS, TOKEN, USER, a_listener, a_server, all_answered, create

from refk8s.components.asgi import Receive, Scope, Send
from refk8s.components.connection import Connection
from refk8s.components.http import Front
from refk8s.components.joined_writes import HELD_BYTES_MAX, JoinedWrites
from refk8s.core.apiserver.config import Config

HEAD = {"type": "http.response.start", "status": 200, "headers": [(b"x-one", b"1")]}


class Below:
    """A transport that keeps what it is given: each write, and whether it was closed or aborted."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.ended = ""

    def write(self, data: bytes) -> None:
        assert not self.ended and data
        self.writes.append(bytes(data))

    def writelines(self, parts: Any) -> None:
        self.write(b"".join(parts))

    def is_closing(self) -> bool:
        return bool(self.ended)

    def close(self) -> None:
        self.ended = self.ended or "closed"

    def abort(self) -> None:
        self.ended = "aborted"


TURN, FLUSH, CLOSE, ABORT = "turn", "flush", "close", "abort"
SIZES = st.one_of(
    st.integers(1, 300), st.sampled_from([HELD_BYTES_MAX - 1, HELD_BYTES_MAX, HELD_BYTES_MAX + 1])
)


@given(
    st.lists(st.one_of(SIZES, st.sampled_from([TURN, FLUSH])), max_size=12),
    st.sampled_from([TURN, CLOSE, ABORT]),
)
def test_http_24_what_is_written_arrives_once_in_order_and_at_most_a_turn_later(
    steps: list[int | str], end: str
) -> None:
    # Shows HTTP-24.a, HTTP-24.b, HTTP-24.d, HTTP-24.e.
    async def test() -> None:
        below = Below()
        joined = JoinedWrites(below)  # type: ignore[arg-type]
        written, sent_at_end, letters = b"", b"", itertools.cycle(b"abcdefg")
        for step in [*steps, end]:
            writes = len(below.writes)
            if isinstance(step, int):
                data = bytes([next(letters)]) * step
                if step % 3:
                    joined.write(data)
                else:
                    joined.write_now(data)
                written += data
            elif step == TURN:
                await asyncio.sleep(0)
            else:
                getattr(joined, step)()
            sent = b"".join(below.writes)
            assert len(below.writes) <= writes + 1, "one write at most"
            assert written.startswith(sent) and len(written) - len(sent) <= HELD_BYTES_MAX
            if step in (TURN, FLUSH, CLOSE) or (isinstance(step, int) and step % 3 == 0):
                assert sent == written
            sent_at_end = sent
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert b"".join(below.writes) == sent_at_end, "nothing follows the end"

    asyncio.run(test())


async def spied(connection: Connection) -> list[bytes]:
    """The writes that reach the transport of a connection from now on."""
    below, writes = connection._joined.below, []
    passed = below.write

    def write(data: bytes) -> None:
        writes.append(data)
        passed(data)

    below.write = write  # type: ignore[method-assign]
    return writes


def served(test: Callable[..., Awaitable[None]], front: Any = None) -> None:
    """Run the test with a connection to a server of this application, or else of an API server."""

    async def run() -> None:
        api = await a_server(config=Config(users={TOKEN: USER}))
        await all_answered(api, [create("a"), create("b")])
        server, connect = await a_listener(front or Front(api))
        one = await connect()
        try:
            async with asyncio.timeout(20):
                await test(one, await spied(one.connection))
        finally:
            await server.close(0)
            one.client.close()

    asyncio.run(run())


def request(path: str, *lines: str) -> bytes:
    head = "\r\n".join([f"GET {path} HTTP/1.1", f"authorization: Bearer {TOKEN}", *lines])
    return f"{head}\r\n\r\n".encode()


async def read(client: Any, until: Callable[[bytes], Any], chunk: int = 1 << 16) -> bytes:
    got = b""
    while not until(got) and (data := await asyncio.get_running_loop().sock_recv(client, chunk)):
        got += data
    return got


@pytest.mark.parametrize("lines", [(), ("connection: close",)], ids=["kept", "closed"])
def test_http_24_an_answer_is_one_write(lines: tuple[str, ...]) -> None:
    # Shows HTTP-24.a, HTTP-24.b.
    async def test(one: Any, writes: list[bytes]) -> None:
        for count, path in enumerate((f"{CONFIG_MAPS}/a", CONFIG_MAPS, "/healthz"), 1):
            await one.send(request(path, *lines), lambda _, count=count: len(writes) == count)
            assert writes[-1].startswith(b"HTTP/1.1 200 OK\r\n") and b"\r\n\r\n" in writes[-1]
            got = await read(one.client, lambda got: got.count(b"\n") > 1 or b"\r\n\r\nok" in got)
            assert got == writes[-1]
            if lines:
                assert await read(one.client, lambda got: False) == b"", "closed after its answer"
                return

    served(test)


def test_http_24_answers_to_requests_sent_ahead_come_in_order() -> None:
    async def test(one: Any, writes: list[bytes]) -> None:
        names = ["a", "b", "none", "b", "a"]
        sent = b"".join(request(f"{CONFIG_MAPS}/{name}") for name in names)
        await one.send(sent, lambda c: len(writes) == len(names))
        assert [b"404" in data[:20] for data in writes] == [name == "none" for name in names]
        for name, data in zip(names, writes, strict=True):
            assert f'"name":"{name}"'.encode() in data

    served(test)


def test_http_24_the_head_of_a_silent_answer_is_sent_in_the_next_turn() -> None:
    """An application that sends its head and then nothing, as `logs -f` of a silent container."""
    # Shows HTTP-24.c.
    seen: list[int] = []
    watched: list[bytes] = []

    async def silent(scope: Scope, receive: Receive, send: Send) -> None:
        await send(HEAD)
        seen.append(len(watched))
        await asyncio.sleep(0)
        seen.append(len(watched))
        await asyncio.Event().wait()

    async def test(one: Any, writes: list[bytes]) -> None:
        nonlocal watched
        watched = writes
        await one.send(request("/"), lambda c: len(seen) == 2)
        assert seen == [0, 1], "held for the turn, then written without anything that follows"
        assert (await read(one.client, lambda got: got)).endswith(b"chunked\r\n\r\n")

    served(test, silent)


def test_http_24_a_complete_answer_waits_for_no_turn() -> None:
    # Shows HTTP-24.b.
    seen: list[int] = []
    watched: list[bytes] = []

    async def prompt(scope: Scope, receive: Receive, send: Send) -> None:
        await send(HEAD)
        for more in (True, False):
            seen.append(len(watched))
            await send({"type": "http.response.body", "body": b"part", "more_body": more})
        seen.append(len(watched))

    async def test(one: Any, writes: list[bytes]) -> None:
        nonlocal watched
        watched = writes
        await one.send(request("/"), lambda c: len(seen) == 3)
        assert seen == [0, 0, 1]

    served(test, prompt)


def test_http_24_the_head_of_a_watch_comes_before_its_first_event() -> None:
    # Shows HTTP-24.c.
    async def test(one: Any, writes: list[bytes]) -> None:
        path = f"{CONFIG_MAPS}?watch=1&fieldSelector=metadata.name%3Dnone"
        await one.send(request(path), lambda c: writes)
        assert (await read(one.client, lambda got: got)).endswith(b"chunked\r\n\r\n")

    served(test)


@pytest.mark.parametrize("part", [1 << 10, HELD_BYTES_MAX // 2, HELD_BYTES_MAX * 2])
def test_http_24_an_answer_that_is_not_read_is_not_written_on(part: int) -> None:
    """An application that never waits: the transport pauses it, whatever is held above."""
    # Shows HTTP-24.d.
    count, total = 0, (32 << 20) // part

    async def hasty(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal count
        await send(HEAD)
        for count in range(1, total + 1):
            body = bytes([count % 251]) * part
            await send({"type": "http.response.body", "body": body, "more_body": count < total})

    async def test(one: Any, writes: list[bytes]) -> None:
        await one.send(request("/"), lambda c: c.flow is not None and c.flow.write_paused)
        stopped = count
        for _ in range(20):
            await asyncio.sleep(0)
        assert count == stopped < total and one.connection._joined._held == []
        waits = one.connection._joined.below.get_write_buffer_size()
        assert waits <= (64 << 10) + HELD_BYTES_MAX + 2 * part, "what may wait, and one write"
        got = await read(one.client, lambda got: got.endswith(b"\r\n0\r\n\r\n"), 1 << 20)
        chunks = got.partition(b"\r\n\r\n")[2].split(b"\r\n")[1::2]
        assert len(chunks) == total + 1 and [chunk[0] for chunk in chunks[:-1]] == [
            number % 251 for number in range(1, total + 1)
        ]

    served(test, hasty)
