"""Streams of simulated containers on a clock that jumps. Rules SHELL-1, SHELL-3, SHELL-8, SHELL-9,
SHELL-10 (spec/shell.md)."""

import asyncio
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_fake_runtime import play, run

from refk8s.adapters.fake.runtime import FakeRuntime
from refk8s.adapters.fake.server import serve
from refk8s.adapters.fake.streams import INPUT_BYTES_MAX, SimulatedContainers
from refk8s.core.api.core_v1 import Container, ContainerPort, Pod, PodSpec
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.ports import (
    EXITED,
    ContainerConfig,
    ContainerStatus,
    CreateContainer,
    ListPods,
    LogOptions,
    RunPodSandbox,
    SandboxConfig,
    SandboxStatus,
    StartContainer,
    StopContainer,
    StreamFailed,
)


async def start(runtime: FakeRuntime, *command: str, **more: Any) -> ContainerStatus:
    sandbox = (
        await run(runtime, RunPodSandbox(SandboxConfig("uid", "default", "p", hostname="p")))
    ).status
    config = ContainerConfig("uid", "default", "p", "c", "a", command=command, **more)
    made = (await run(runtime, CreateContainer(sandbox.id, config))).status
    await run(runtime, StartContainer("uid", made.id))
    return (await run(runtime, ListPods(("uid",)))).containers[0]


async def heard(session: Any) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    async for stream, data in session.output():
        found[stream] = found.get(stream, b"") + data
    return found


def test_shell_3_a_command_that_is_not_simulated_is_not_started() -> None:
    async def body(runtime: FakeRuntime, loop: Any) -> None:
        one = await start(runtime, "/app/serve")
        with pytest.raises(
            StreamFailed, match=r'exec: "nosuch": executable file not found in \$PATH'
        ):
            await SimulatedContainers(runtime, "n").execute(one, ("nosuch",), False, False)
        await run(runtime, StopContainer("uid", one.id, 0))
        with pytest.raises(StreamFailed, match="does not run"):
            await SimulatedContainers(runtime, "n").execute(one, ("ls",), False, False)

    play(body)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=2000), max_size=6), st.integers(0, 255))
@example([b"x" * (INPUT_BYTES_MAX + 1), b"y"], 3)
def test_shell_1_what_a_client_says_comes_back_and_the_exit_code_is_the_commands(
    pieces: list[bytes], code: int
) -> None:
    async def body(runtime: FakeRuntime, loop: Any) -> None:
        one = await start(runtime, "/app/serve")
        begun = loop.time()
        session = await SimulatedContainers(runtime, "n").execute(
            one, ("sh", "-c", f"cat; sleep 7; exit {code}"), True, False
        )
        hearing = asyncio.ensure_future(heard(session))
        for piece in pieces:
            await session.write(piece)
        session.end_input()
        said = await hearing
        assert said.get(1, b"") == b"".join(pieces) and await session.exit_code() == code
        assert loop.time() - begun == pytest.approx(7, abs=1)
        session.close()
        await asyncio.sleep(0)
        assert not runtime._ends, "a session that is closed is remembered"

    play(body)


def test_shell_1_a_client_waits_for_a_command_that_does_not_read() -> None:
    """STREAM-3"""

    async def body(runtime: FakeRuntime, loop: Any) -> None:
        one = await start(runtime, "/app/serve")
        session = await SimulatedContainers(runtime, "n").execute(
            one, ("sh", "-c", "sleep 50; cat"), True, False
        )
        hearing = asyncio.ensure_future(heard(session))
        saying = asyncio.ensure_future(session.write(b"x" * (INPUT_BYTES_MAX + 1)))
        await asyncio.sleep(20)
        assert not saying.done()
        await saying
        session.end_input()
        assert len((await hearing)[1]) == INPUT_BYTES_MAX + 1

    play(body)


def test_shell_1_a_command_ends_with_its_container_and_one_without_end_leaves_time_for_others() -> (
    None
):
    async def body(runtime: FakeRuntime, loop: Any) -> None:
        for script in ("sleep 1000", "cat", "while :; do :; done", "yes"):
            one = await start(runtime, "/app/serve")
            session = await SimulatedContainers(runtime, "n").execute(
                one, ("sh", "-c", script), True, False
            )
            size = 0

            async def count(session: Any = session) -> int:
                total = 0
                async for _, data in session.output():
                    total += len(data)
                return total

            counting = asyncio.ensure_future(count())
            await asyncio.sleep(3)
            await run(runtime, StopContainer("uid", one.id, 0))
            size = await counting
            assert await session.exit_code() == 137 and size < 1 << 22
            runtime.world = type(runtime.world)(node=runtime.world.node)

    play(body)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 20), st.integers(-1, 5), st.integers(-1, 40), st.integers(0, 20))
def test_shell_8_the_part_of_a_log_that_is_asked_for(
    at: int, tail: int, limit: int, since: int
) -> None:
    async def body(runtime: FakeRuntime, loop: Any) -> None:
        one = await start(
            runtime, "sh", "-c", "for i in 0 1 2 3 4 5; do echo line $i; sleep 3; done; exit 1"
        )
        await asyncio.sleep(at)
        options = LogOptions(
            since=one.started_at + since * 10**6 if since else 0, tail_lines=tail, limit_bytes=limit
        )
        lines = [f"line {n}\n".encode() for n in range(6) if 3 * n <= at and 3 * n >= since]
        wanted = b"".join(lines[max(0, len(lines) - tail) :] if tail >= 0 else lines)
        found = b"".join(
            [piece async for piece in await SimulatedContainers(runtime, "n").log(one, options)]
        )
        assert found == (wanted[:limit] if limit >= 0 else wanted)

    play(body)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 20))
def test_shell_8_a_followed_log_has_each_line_when_it_is_due_and_ends_with_the_container(
    at: int,
) -> None:
    async def body(runtime: FakeRuntime, loop: Any) -> None:
        one = await start(runtime, "sh", "-c", "for i in 0 1 2 3 4 5; do echo $i; sleep 3; done")
        begun = loop.time()
        await asyncio.sleep(at)
        found = []
        async for piece in await SimulatedContainers(runtime, "n").log(
            one, LogOptions(follow=True)
        ):
            found.append((piece, loop.time() - begun))
        assert b"".join(piece for piece, _ in found) == b"0\n1\n2\n3\n4\n5\n"
        for piece, when in found:
            assert when == pytest.approx(max(at, 3 * int(piece)), abs=0.1)
        assert loop.time() - begun == pytest.approx(max(at, 18), abs=0.1)

    play(body)


@pytest.mark.parametrize("tty", [False, True])
def test_shell_9_who_attaches_with_input_runs_the_program_and_ends_the_container(tty: bool) -> None:
    async def body(runtime: FakeRuntime, loop: Any) -> None:
        told: list[Any] = []
        runtime.listen(told.append)
        one = await start(runtime, "sh", stdin=True, tty=tty)
        await asyncio.sleep(100)
        session = await SimulatedContainers(runtime, "n").attach(one, True)
        hearing = asyncio.ensure_future(heard(session))
        for line in (
            "",
            "echo hi\n",
            *(["sleep 1000\n", "\x03"] if tty else ["sleep 1\n"]),
            "exit 3\n",
        ):
            await session.write(line.encode())
            await asyncio.sleep(2)
        said = await hearing
        status = runtime.world.containers[one.id].status
        assert status.state == EXITED and status.exit_code == 3 and told == [("uid",)]
        assert said[1] == (
            b"/ # echo hi\r\nhi\r\n/ # sleep 1000\r\n^C\r\n/ # exit 3\r\n" if tty else b"hi\n"
        )

    play(body)


def test_shell_9_who_attaches_sees_what_is_printed_from_then_on() -> None:
    async def body(runtime: FakeRuntime, loop: Any) -> None:
        one = await start(
            runtime, "sh", "-c", "echo a; sleep 5; echo b; echo c >&2; sleep 5; exit 4"
        )
        await asyncio.sleep(2)
        session = await SimulatedContainers(runtime, "n").attach(one, False)
        assert await heard(session) == {1: b"b\n", 2: b"c\n"}
        assert loop.time() >= 10 and await session.exit_code() == 4

    play(body)


@given(st.lists(st.sampled_from([80, 443]), max_size=2, unique=True), st.sampled_from([80, 443, 9]))
@settings(max_examples=12, deadline=None)
def test_shell_10_a_port_that_is_declared_answers_with_the_pods_name(
    declared: list[int], port: int
) -> None:
    ports = tuple([ContainerPort(container_port=number) for number in declared])
    pod = Pod(
        metadata=ObjectMeta(name="web", namespace="ns"),
        spec=PodSpec(containers=(Container(name="c", ports=ports),)),
    )

    async def main() -> bytes:
        containers = SimulatedContainers(None, "node-1")  # type: ignore[arg-type]
        reader, writer = await containers.connect(
            pod, SandboxStatus("s", "uid", "ns", "web", 0, True), port
        )
        writer.write(
            b"POST /x?y=1 HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcGET /z HTTP/1.1\r\nConnection: close\r\n\r\n"
        )
        found = await asyncio.wait_for(reader.read(), 20)
        writer.close()
        return found

    if declared and port not in declared:
        with pytest.raises(ConnectionRefusedError):
            asyncio.run(main())
        return
    text = asyncio.run(main()).decode()
    assert (
        text.count("HTTP/1.1 200 OK") == 2
        and text.count(f"pod: web\nnamespace: ns\nnode: node-1\nport: {port}\n") == 2
    )
    assert "request: POST /x?y=1\n" in text and "request: GET /z\n" in text


@given(st.binary(max_size=60))
@example(b"GET / HTTP/1.1\r\n" + b"x" * 40_000)
@example(b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n")
@settings(max_examples=20, deadline=None)
def test_shell_10_what_is_no_http_ends_the_connection(noise: bytes) -> None:
    async def main() -> None:
        reader, writer = await serve("p", "n", "m", 1)
        writer.write(noise)
        writer.write_eof()
        found = await asyncio.wait_for(reader.read(), 20)
        assert found == b"" or found.startswith(b"HTTP/1.1 200")
        writer.close()

    asyncio.run(main())
