"""Streams: only the pod's own containers are reached, whatever a client writes; nothing waits for
ever. Rules STREAM-1 ... STREAM-3."""

import asyncio
import json
import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rt_engine import PretendEngine
from test_rt import CLUSTER, make_engine, operations

from refk8s.adapters.docker.engine.client import Engine, Refused
from refk8s.adapters.docker.engine.labels import container_labels
from refk8s.adapters.docker.streams.commands import run_command
from refk8s.adapters.docker.streams.connection import (
    CHUNK_BYTES,
    Frames,
    StreamRefused,
    Streams,
)
from refk8s.adapters.docker.streams.logs import open_log
from refk8s.adapters.docker.streams.port_forward import connect
from refk8s.adapters.docker.streams.sessions import attach, execute
from refk8s.core.apiserver.pod_log import find_running
from refk8s.core.ports import (
    EXITED,
    RUNNING,
    ContainerConfig,
    ContainerStatus,
    Failed,
    LogOptions,
    RemoveContainer,
    StartContainer,
)

NEARLY = "0" * 64
HOSTILE = [
    "../../images/create",
    "a/../b",
    "x\r\nHost: y",
    NEARLY + "/archive",
    NEARLY + "?x=1",
    "",
    "G" * 64,
    "%2e%2e",
    NEARLY + "0",
]
IDS = st.one_of(
    st.sampled_from(HOSTILE), st.text(max_size=20), st.text("0123456789abcdef", max_size=11)
)


class Listener:
    """What stands where the engine would: it counts what is asked of it, and says no more than its
    version."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if b"/_ping " not in head:
            self.asked.append(head)
        writer.write(
            b"HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )
        writer.close()


def with_engine(answer: Any, body: Callable[[Streams], Awaitable[Any]]) -> Any:
    """Run against a server at a socket of this machine."""

    async def main() -> Any:
        with tempfile.TemporaryDirectory() as folder:
            server = await asyncio.start_unix_server(answer, f"{folder}/sock")
            async with server:
                return await asyncio.wait_for(
                    body(Streams({"DOCKER_HOST": f"unix://{folder}/sock"})), 20
                )

    return asyncio.run(main())


@given(IDS)
@example("../containers/create?name=x")
@example("0" * 64 + " HTTP/1.1\r\n\r\nPOST /containers/create")
@settings(max_examples=40)
def test_stream_2_an_id_that_is_none_never_reaches_the_engine(id: str) -> None:
    # Shows STREAM-2.b.
    listener = Listener()

    async def body(streams: Streams) -> None:
        for attempt in (
            lambda: open_log(streams, id, LogOptions()), lambda: execute(streams, id, ("ls",), False, False),
            lambda: attach(streams, id, True), lambda: connect(streams, id, "127.0.0.1", 80), lambda: run_command(streams, id, ("ls",)),
            lambda: streams.ask("GET", f"/containers/{id}?\r\n/json"),
        ):  # fmt: skip
            with pytest.raises(StreamRefused):
                await attempt()

    with_engine(listener.answer, body)
    assert not listener.asked


@given(
    st.one_of(
        st.sampled_from(HOSTILE).filter(lambda id: "/" not in id or ".." in id or "?" in id),
        st.text("/.\r\n ?#%", min_size=1),
    )
)
def test_stream_2_a_name_that_changes_the_path_never_reaches_the_engines_library(name: str) -> None:
    # Shows STREAM-2.b.
    class Library:
        def inspect_container(self, id: str) -> None:
            raise AssertionError(f"asked about {id!r}")

    engine = Engine.__new__(Engine)
    engine._api = Library()
    if name not in ("G" * 64, "0" * 65):  # names that an engine may have
        with pytest.raises(Refused):
            engine.call("inspect_container", name)


@given(
    st.booleans(),
    st.booleans(),
    st.sampled_from(["start", "remove", "kill", "terminate", "status"]),
)
def test_stream_1_an_operation_by_id_touches_no_container_of_another_pod_or_cluster(
    same_cluster: bool, runs: bool, what: str
) -> None:
    """A restarted kubelet knows ids from the status of its pods."""
    # Shows STREAM-1.c.
    engine: PretendEngine = make_engine()
    agent = operations(engine)
    other = ContainerConfig("other", "default", "p", "c", "image")
    its = container_labels(CLUSTER if same_cluster else "another", "s", other)
    engine.images["image"] = {"Id": "sha256:1"}
    id = engine.call(
        "create_container_from_config",
        {"Image": "image", "Labels": its, "HostConfig": {}},
        name="victim",
    )["Id"]
    engine.one(id)["State"]["Status"] = "running" if runs else "created"
    before = engine.snapshot()
    if what == "start":
        assert isinstance(agent.carry_out(StartContainer("uid", id)), Failed)
    elif what == "remove":
        agent.carry_out(RemoveContainer("uid", id))
    elif not same_cluster:  # These name no pod.
        assert getattr(agent, what)(id) is None
    assert engine.snapshot() == before


ATTEMPTS = st.lists(st.builds(
    ContainerStatus, st.text("0123456789abcdef", min_size=12, max_size=12), st.just("s"), st.just("uid"), st.sampled_from(["a", "b"]),
    st.integers(0, 3), st.sampled_from([RUNNING, EXITED, "created"]),
), max_size=6)  # fmt: skip


@given(ATTEMPTS)
def test_stream_1_exec_takes_the_newest_running_attempt_that_the_runtime_lists(
    attempts: list[ContainerStatus],
) -> None:
    # Shows STREAM-1.a.
    found = find_running(attempts, "a")
    running = [one for one in attempts if one.name == "a" and one.state == RUNNING]
    assert (found is None) == (not running)
    assert found is None or (
        found in running and all(one.attempt <= found.attempt for one in running)
    )


@given(st.integers(1, 3), st.integers(0, 1 << 20))
def test_stream_3_a_long_frame_is_passed_on_in_parts_and_not_kept(kind: int, length: int) -> None:
    # Shows STREAM-3.c.
    frames = Frames()
    frames.take(bytes([kind, 0, 0, 0]) + (1 << 31).to_bytes(4, "big"))
    assert sum(len(part) for _, part in frames.take(b"x" * length)) == length
    assert not frames._header


def test_stream_3_a_silent_log_begins_at_once_and_its_connection_closes_when_it_is_left() -> None:
    # Shows STREAM-3.a STREAM-3.b.
    closed = asyncio.Event

    async def main_engine(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if b"/logs?" in head:
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            await reader.read()  # until the other side closes
            gone.set()
        else:
            body = json.dumps({"Config": {"Tty": False}}).encode() if b"/json" in head else b""
            writer.write(
                b"HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\nContent-Length: %d\r\n\r\n%s"
                % (len(body), body)
            )
        writer.close()

    gone: Any = None

    async def body(streams: Streams) -> None:
        nonlocal gone
        gone = closed()
        lines: AsyncGenerator[bytes, None] = await open_log(
            streams, "a" * 64, LogOptions(follow=True)
        )
        reading = asyncio.ensure_future(anext(lines))
        await asyncio.sleep(0)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        await lines.aclose()
        await gone.wait()

    with_engine(main_engine, body)


def test_stream_3_an_engine_that_answers_without_end_is_not_kept_in_memory() -> None:
    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if b"/_ping" in head:
            writer.write(b"HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\nContent-Length: 0\r\n\r\n")
        else:
            code = b"500 No" if b"/refused" in head else b"200 OK"
            writer.write(b"HTTP/1.1 " + code + b"\r\nConnection: close\r\n\r\n")
            try:
                while True:
                    writer.write(b"x" * CHUNK_BYTES)
                    await writer.drain()
            except OSError:
                pass
        writer.close()

    async def body(streams: Streams) -> None:
        for path in ("/refused", "/endless"):
            with pytest.raises(StreamRefused):
                await streams.ask("GET", path)

    with_engine(endless, body)
