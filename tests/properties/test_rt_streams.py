"""Order, ends, probes and logs. Rules RT-4, RT-10, RT-11, RT-12, RT-13."""

import asyncio
import json
import selectors
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from refk8s.adapters.docker.runtime import lane_of
from refk8s.adapters.docker.streams.connection import Frames
from refk8s.adapters.linux import probe
from refk8s.adapters.linux.lanes import Lanes
from refk8s.adapters.linux.stopping import Stopping
from refk8s.components.pod_sessions import carry
from refk8s.components.wires import WebSocketWire
from refk8s.core.api.core_v1 import (
    Container,
    ContainerState,
    ContainerStateRunning,
    ContainerStateTerminated,
    ContainerStateWaiting,
    Pod,
    PodSpec,
    PodStatus,
)
from refk8s.core.api.core_v1 import ContainerStatus as ApiContainerStatus
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.status import ApiError
from refk8s.core.apiserver.pod_exec import V5, compute_exec_options
from refk8s.core.apiserver.pod_log import choose_container, choose_log, compute_log_options
from refk8s.core.context import SECOND
from refk8s.core.ports import (
    CREATED,
    EXITED,
    RUNNING,
    ContainerConfig,
    ContainerStatus,
    CreateContainer,
    Done,
    ListPods,
    Probe,
    RemoveContainer,
    RemovePodSandbox,
    Result,
    RunPodSandbox,
    SandboxConfig,
    StartContainer,
    StopPodSandbox,
    WriteVolume,
)

# --- order ----------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 3), max_size=30), st.integers(1, 4))
@settings(max_examples=40)
def test_rt_4_what_is_put_into_one_lane_is_done_in_order_and_never_two_at_once(
    lanes_of_work: list[int], threads: int
) -> None:
    # Shows RT-4.a.
    done: dict[int, list[int]] = {}
    busy: set[int] = set()
    told: list[int] = []

    def work(number: int, lane: int) -> int:
        assert lane not in busy, "two of one lane at once"
        busy.add(lane)
        done.setdefault(lane, []).append(number)
        busy.discard(lane)
        return number

    async def run() -> None:
        finished = asyncio.Event()
        lanes = Lanes(threads, "test")

        def then(number: Any) -> None:
            told.append(number)
            if len(told) == len(lanes_of_work):
                finished.set()

        for number, lane in enumerate(lanes_of_work):
            lanes.put(str(lane), lambda n=number, lane=lane: work(n, lane), then)
        if lanes_of_work:
            await asyncio.wait_for(finished.wait(), 20)
        lanes.close()

    asyncio.run(run())
    for lane, numbers in done.items():
        assert numbers == [number for number, its in enumerate(lanes_of_work) if its == lane]
    assert sorted(told) == list(range(len(lanes_of_work)))


def test_rt_4_different_lanes_go_side_by_side() -> None:
    """Two pieces of work that wait for each other both end."""
    both = threading.Barrier(2, timeout=20)

    async def run() -> None:
        lanes = Lanes(2, "test")
        ended = [asyncio.get_running_loop().create_future() for _ in range(2)]
        for number, future in enumerate(ended):
            lanes.put(
                f"pod-{number}", both.wait, lambda result, future=future: future.set_result(result)
            )
        found = await asyncio.wait_for(asyncio.gather(*ended), 20)
        assert all(isinstance(result, int) for result in found)
        lanes.close()

    asyncio.run(run())


def test_rt_4_every_operation_of_a_pod_is_in_that_pods_lane() -> None:
    # Shows RT-4.a.
    about = [
        RunPodSandbox(SandboxConfig("uid", "ns", "pod")), CreateContainer("s", ContainerConfig("uid", "ns", "pod", "c", "image")),
        ListPods(("uid",)), StartContainer("uid", "c"), RemoveContainer("uid", "c"), StopPodSandbox("uid", "s"),
        RemovePodSandbox("uid", "s"), WriteVolume("uid", "v"),
    ]  # fmt: skip
    assert {lane_of(operation) for operation in about} == {"uid"}
    assert lane_of(ListPods()) != "uid"


# --- ends -----------------------------------------------------------------------------------------


class VirtualSelector(selectors.SelectSelector):
    """Waiting lets virtual time pass."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        assert timeout is not None, "nothing will ever happen"
        self.now += max(0.0, timeout)
        return super().select(0)


def run_virtually(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    selector = VirtualSelector()
    loop = asyncio.SelectorEventLoop(selector)
    loop.time = lambda: selector.now  # type: ignore[method-assign]
    try:
        loop.run_until_complete(main())
    finally:
        loop.close()


class AtOnce:
    """Lanes without threads: the work is done at once, what follows is told in the next turn."""

    def put(self, lane: str, work: Callable[[], Any], then: Callable[[Any], None]) -> None:
        self.put_aside(work, then)

    def put_aside(self, work: Callable[[], Any], then: Callable[[Any], None]) -> None:
        asyncio.get_running_loop().call_soon(then, work())


def status(state: str, exit_code: int = 0) -> ContainerStatus:
    return ContainerStatus("c", "s", "uid", "main", 0, state, exit_code=exit_code)


# (seconds until asked, grace period)
REQUESTS = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 40)), min_size=1, max_size=5)


@given(REQUESTS, st.integers(1, 100), st.booleans())
def test_rt_11_sigkill_comes_at_the_earliest_moment_that_anybody_named(
    asked: list[tuple[int, int]], ends_after: int, heard: bool
) -> None:
    """`ends_after` SIGTERM (at the first request) the container ends by itself; `heard`: the
    engine's events work."""
    # Shows RT-11.b RT-11.c.
    said: list[tuple[float, Result]] = []
    kills: list[float] = []
    state = {"now": RUNNING}

    async def main() -> None:
        loop = asyncio.get_running_loop()
        asked.sort()
        first = asked[0][0]

        def kill(id: str) -> ContainerStatus:
            if state["now"] == RUNNING:
                kills.append(loop.time())
                end(137)
            return status(EXITED, 137)

        def end(code: int) -> None:
            state["now"] = EXITED
            if heard:
                stopping.ended("c")

        def look(id: str) -> ContainerStatus:
            return status(state["now"])

        def by_itself() -> None:
            if state["now"] == RUNNING:
                end(0)

        stopping = Stopping(AtOnce(), look, kill, look)  # type: ignore[arg-type]
        for at, grace in asked:
            loop.call_at(
                at,
                lambda grace=grace: stopping.stop(
                    "uid", "c", grace, lambda result: said.append((loop.time(), result))
                ),
            )
        loop.call_at(first + ends_after, by_itself)
        await asyncio.sleep(1000)
        assert "c" not in stopping

    run_virtually(main)
    earliest = min(at + grace for at, grace in asked if at <= min(a + g for a, g in asked))
    alone = asked[0][0] + ends_after
    assert len(said) == len(asked), "everybody is told, once"
    if alone < earliest:
        assert not kills
    elif alone > earliest:
        assert kills and abs(kills[0] - earliest) < 0.001
    assert all(isinstance(result, Done) for _, result in said)


# --- probes ---------------------------------------------------------------------------------------


def serve_once(
    answers: list[bytes], ask: Callable[[int], Coroutine[Any, Any, Any]]
) -> tuple[Any, list[str]]:
    """A server on loopback that gives these answers, one a connection; what `ask` found, and the
    first lines it was asked."""
    heard: list[str] = []

    async def main() -> Any:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            heard.append((await reader.readline()).decode().strip())
            writer.write(answers[min(len(heard), len(answers)) - 1])
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        async with server:
            return await ask(server.sockets[0].getsockname()[1])

    return asyncio.run(main()), heard


@given(
    st.integers(200, 599).filter(lambda code: code not in (204, 304)),
    st.binary(max_size=30),
    st.sampled_from(["\r\n", "\n"]),
)
@example(399, b"", "\n")
@example(400, b"", "\n")
@settings(max_examples=60)
def test_rt_10_a_code_from_200_to_399_is_success(code: int, body: bytes, end: str) -> None:
    # Shows RT-10.a, RT-10.f.
    answer = f"HTTP/1.1 {code} Word{end}Content-Length: {len(body)}{end}{end}".encode() + body
    found, heard = serve_once(
        [answer],
        lambda port: probe.run_probe(
            Probe("uid", "c", "http", 5, "", port, "/healthz"), "127.0.0.1"
        ),
    )
    assert found.success is (code < 400) and not found.unknown
    assert heard == ["GET /healthz HTTP/1.1"]
    if code >= 400:
        assert found.output == f"HTTP probe failed with statuscode: {code}"


@given(st.binary(max_size=60))
@settings(max_examples=60)
def test_rt_10_whatever_a_server_says_the_probe_has_an_answer(noise: bytes) -> None:
    # Shows RT-10.d.
    found, _ = serve_once(
        [noise],
        lambda port: probe.run_probe(Probe("uid", "c", "http", 5, "", port, "/"), "127.0.0.1"),
    )
    assert found.success is False or noise.startswith(b"HTTP/")
    assert found.success or found.output


def test_rt_10_redirections_within_the_host_are_followed_and_others_are_success() -> None:
    # Shows RT-10.a.
    def ask(port: int) -> Coroutine[Any, Any, Any]:
        return probe.run_probe(Probe("uid", "c", "http", 5, "", port, "/a"), "127.0.0.1")

    there = b"HTTP/1.1 302 Found\r\nLocation: /b?x=1\r\nContent-Length: 0\r\n\r\n"
    found, heard = serve_once([there, b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"], ask)
    assert not found.success and heard == ["GET /a HTTP/1.1", "GET /b?x=1 HTTP/1.1"]
    away = b"HTTP/1.1 302 Found\r\nLocation: http://example.invalid/\r\nContent-Length: 0\r\n\r\n"
    found, heard = serve_once([away], ask)
    assert found.success and len(heard) == 1
    found, heard = serve_once([there], ask)
    assert (
        not found.success
        and "redirects" in found.output
        and len(heard) == probe.REDIRECTIONS_MAX + 1
    )


def grpc_answer(state: int, extra: list[bytes], more: bool) -> bytes:
    """What a gRPC server says: settings, headers (which nobody reads), other frames, the message
    with the state, and the trailers."""

    def frame(kind: int, flags: int, body: bytes) -> bytes:
        return (
            len(body).to_bytes(3, "big")
            + bytes([kind, flags])
            + (0 if kind in (4, 6) else 1).to_bytes(4, "big")
            + body
        )

    message = bytes([8, state]) if state else b""
    data = b"\0" + len(message).to_bytes(4, "big") + message
    halves = [data[:3], data[3:]] if more else [data]
    frames = [
        frame(4, 0, b""),
        frame(1, 4, b"\x88"),
        *[frame(6, 0, ping) for ping in extra],
        *[frame(0, 0, half) for half in halves],
    ]
    return b"".join([*frames, frame(1, 5, b"")])


@given(st.integers(0, 5), st.lists(st.binary(min_size=8, max_size=8), max_size=2), st.booleans())
@settings(max_examples=30)
def test_rt_10_a_grpc_service_that_says_serving_is_well_and_no_other(
    state: int, pings: list[bytes], more: bool
) -> None:
    # Shows RT-10.b.
    question = Probe("uid", "c", "grpc", 5, "", 0, "name")
    found, heard = serve_once(
        [grpc_answer(state, pings, more)],
        lambda port: probe.run_probe(replace(question, port=port), "127.0.0.1"),
    )
    assert found.success is (state == 1) and not found.unknown
    assert heard == ["PRI * HTTP/2.0"]


@given(
    st.one_of(
        st.binary(max_size=60),
        st.just(grpc_answer(1, [], False)[:-25]),
        st.just(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
    )
)
@settings(max_examples=30)
def test_rt_10_what_is_no_grpc_is_a_failure_with_words(noise: bytes) -> None:
    # Shows RT-10.d.
    question = Probe("uid", "c", "grpc", 5, "", 0, "")
    found, _ = serve_once(
        [noise], lambda port: probe.run_probe(replace(question, port=port), "127.0.0.1")
    )
    assert not found.success and found.output and not found.unknown


def test_rt_10_a_connection_is_what_a_tcp_probe_wants() -> None:
    # Shows RT-10.b.
    found, _ = serve_once(
        [b""], lambda port: probe.run_probe(Probe("uid", "c", "tcp", 5, "", port), "127.0.0.1")
    )
    assert found.success
    nobody = asyncio.run(probe.run_probe(Probe("uid", "c", "tcp", 5, "", 1), "127.0.0.1"))
    assert (
        not nobody.success and nobody.output == "dial tcp 127.0.0.1:1: connect: connection refused"
    )


# --- commands -------------------------------------------------------------------------------------


class Talk:
    """A session whose program says these things, and ends so; it remembers what it heard."""

    def __init__(self, says: list[tuple[int, bytes]], code: int, waits_for_input: bool) -> None:
        self.says, self.code = says, code
        self.heard: list[bytes] = []
        self.sizes: list[tuple[int, int]] = []
        self.closed = False
        self._input_ended = asyncio.Event()
        if not waits_for_input:
            self._input_ended.set()

    async def output(self) -> AsyncIterator[tuple[int, bytes]]:
        for kind, data in self.says:
            yield kind, data
        await self._input_ended.wait()

    async def write(self, data: bytes) -> None:
        self.heard.append(data)

    def end_input(self) -> None:
        self._input_ended.set()

    async def resize(self, columns: int, rows: int) -> None:
        self.sizes.append((columns, rows))

    async def exit_code(self) -> int:
        return self.code

    def close(self) -> None:
        self.closed = True


SAID = st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(min_size=1, max_size=9)), max_size=6)
MESSAGES = st.lists(
    st.one_of(
        st.binary(max_size=9).map(lambda data: b"\x00" + data), st.binary(max_size=5), st.just(b'\x04{"Width":80,"Height":24}'),
        st.sampled_from([b"\x04{}", b'\x04{"Width":"x","Height":1}', b'\x04{"Width":-1,"Height":99999999}', b"\xff\x01", b""]),
    ), max_size=6,
)  # fmt: skip


@given(SAID, MESSAGES, st.integers(0, 255), st.booleans(), st.booleans())
def test_rt_14_what_a_command_says_comes_in_order_and_its_end_once_and_last(
    says: list[tuple[int, bytes]], messages: list[bytes], code: int, stderr: bool, leaves: bool
) -> None:
    # Shows RT-14.a RT-14.b RT-14.d RT-14.e.
    sent: list[dict[str, Any]] = []
    options = compute_exec_options(
        [("command", "x"), ("stdin", "1"), ("stdout", "1"), ("stderr", str(int(stderr)))], "exec"
    )

    async def main() -> Talk:
        talk = Talk(says, code, waits_for_input=True)
        waiting = [*messages, *([] if leaves else [b"\xff\x00"])]

        async def receive() -> dict[str, Any]:
            if waiting:
                return {"type": "websocket.receive", "bytes": waiting.pop(0)}
            if leaves:
                return {"type": "websocket.disconnect", "code": 1000}
            return await asyncio.get_running_loop().create_future()

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        await asyncio.wait_for(carry(talk, options, WebSocketWire(V5, options, receive, send)), 20)
        return talk

    talk = asyncio.run(main())
    assert talk.closed
    ended_early = b"\xff\x00" in messages
    told = [message["bytes"] for message in sent if message["type"] == "websocket.send"]
    ends = [message for message in told if message[:1] == b"\x03"]
    streams = [(message[0], message[1:]) for message in told if message[:1] != b"\x03"]
    wanted = [(kind, data) for kind, data in says if kind == 1 or stderr]
    if leaves and not ended_early:
        assert not ends and streams == wanted[: len(streams)]
        return
    if leaves and not ends:
        return  # It left before it could be told.
    assert streams == wanted
    assert len(ends) == 1 and told[-1] == ends[0]
    end = json.loads(ends[0][1:])
    assert end["status"] == ("Success" if code == 0 else "Failure")
    if code:
        assert end["reason"] == "NonZeroExitCode" and end["details"]["causes"] == [
            {"reason": "ExitCode", "message": str(code)}
        ]
    if not ended_early:
        assert b"".join(talk.heard) == b"".join(
            message[1:] for message in messages if message[:1] == b"\0"
        )
        assert len(talk.sizes) == sum(
            message == b'\x04{"Width":80,"Height":24}' for message in messages
        )


EXEC_NAMES = st.sampled_from(["command", "container", "stdin", "stdout", "stderr", "tty"])


@given(st.lists(st.tuples(EXEC_NAMES, st.sampled_from(["", "1", "0", "true", "false", "ls"]))))
def test_rt_14_there_must_be_something_to_run_and_something_to_see(
    parameters: list[tuple[str, str]],
) -> None:
    try:
        options = compute_exec_options(parameters, "exec")
    except ApiError as error:
        assert error.status.code == 400
    else:
        assert options.command and (options.stdin or options.stdout or options.stderr)
        assert not (options.tty and options.stderr)
        assert options.command == tuple([value for name, value in parameters if name == "command"])


# --- logs -----------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=20)), max_size=8), st.data())
def test_rt_13_frames_are_taken_apart_however_they_come_in_pieces(
    frames: list[tuple[int, bytes]], data: st.DataObject
) -> None:
    whole = b"".join(
        bytes([kind, 0, 0, 0]) + len(body).to_bytes(4, "big") + body for kind, body in frames
    )
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=6)))
    taker = Frames()
    found = []
    for begin, end in zip([0, *cuts], [*cuts, len(whole)], strict=True):
        found += taker.take(whole[begin:end])
    joined: list[tuple[int, bytes]] = []
    for kind, part in found:
        joined[-1:] = (
            [(kind, joined[-1][1] + part)]
            if joined and joined[-1][0] == kind
            else [*joined[-1:], (kind, part)]
        )
    wanted: list[tuple[int, bytes]] = []
    for kind, body in [frame for frame in frames if frame[1]]:
        wanted[-1:] = (
            [(kind, wanted[-1][1] + body)]
            if wanted and wanted[-1][0] == kind
            else [*wanted[-1:], (kind, body)]
        )
    assert joined == wanted


def pod(*names: str, **statuses: ApiContainerStatus) -> Pod:
    return Pod(
        metadata=ObjectMeta(name="pod"),
        spec=PodSpec(containers=tuple([Container(name=name) for name in names])),
        status=PodStatus(container_statuses=tuple(statuses.values()) or None),
    )


STATES = {
    "running": (ContainerState(running=ContainerStateRunning()), RUNNING),
    "ended": (ContainerState(terminated=ContainerStateTerminated(exit_code=1)), EXITED),
    "waiting": (ContainerState(waiting=ContainerStateWaiting(reason="CrashLoopBackOff")), ""),
    "new": (ContainerState(waiting=ContainerStateWaiting(reason="ErrImagePull")), CREATED),
    # not told yet
    "started": (ContainerState(waiting=ContainerStateWaiting(reason="CrashLoopBackOff")), RUNNING),
}


@given(st.sampled_from(sorted(STATES)), st.booleans(), st.booleans())
def test_rt_12_the_log_is_that_of_the_attempt_that_people_mean(
    state: str, has_last: bool, previous: bool
) -> None:
    # Shows RT-12.a RT-12.b RT-12.c RT-12.d STREAM-1.b.
    now, newest = STATES[state]
    forged = "docker://" + "f" * 64  # STREAM-1: no id comes from here.
    found = ApiContainerStatus(
        name="main",
        state=now,
        container_id=forged,
        image="",
        image_id="",
        ready=False,
        restart_count=1,
    )
    attempts = [ContainerStatus("last", "s", "uid", "main", 3, EXITED)] if has_last else []
    attempts += [ContainerStatus("now", "s", "uid", "main", 4, newest)] if newest else []
    attempts += [ContainerStatus("other", "s", "uid", "other", 9, RUNNING)]
    try:
        chosen = choose_log(pod("main", "other", main=found), attempts[::-1], "main", previous).id
    except ApiError as error:
        assert error.status.code == 400
        assert (previous and not has_last) or (state in ("waiting", "new") and not has_last)
        words = {"waiting": "CrashLoopBackOff", "new": "image can't be pulled"}.get(state, "")
        assert ("not found" if previous else f"waiting to start: {words}") in (
            error.status.message or ""
        )
    else:
        assert chosen == ("last" if previous or state in ("waiting", "new") else "now")


@given(
    st.lists(st.sampled_from(["a", "b", "c"]), unique=True, min_size=1),
    st.sampled_from(["", "a", "d"]),
)
def test_rt_12_without_a_name_the_only_container_is_meant(names: list[str], named: str) -> None:
    # Shows RT-12.e RT-12.f.
    try:
        chosen = choose_container(pod(*names), named)
    except ApiError as error:
        assert error.status.code == 400
        assert (not named and len(names) > 1) or (named and named not in names)
    else:
        assert chosen == (named or names[0]) and chosen in names


NUMBERS = st.one_of(st.none(), st.integers(-5, 5).map(str), st.sampled_from(["x", "1.5", "9" * 30]))


MOMENTS = st.sampled_from(["", "2026-01-01T00:00:00Z", "yesterday"])
KINDS = st.sampled_from(["All", "Stdout", "Stderr", "Stdin"])


@given(NUMBERS, NUMBERS, NUMBERS, MOMENTS, KINDS)
def test_rt_13_numbers_below_their_least_are_refused(
    tail: Any, limit: Any, seconds: Any, since: str, stream: str
) -> None:
    # Shows RT-13.a RT-13.b RT-13.d.
    given_now = {
        "tailLines": tail,
        "limitBytes": limit,
        "sinceSeconds": seconds,
        "sinceTime": since or None,
        "stream": stream,
    }
    parameters = {name: value for name, value in given_now.items() if value is not None}
    now = 10**9 * SECOND
    least = {"tailLines": 0, "limitBytes": 1, "sinceSeconds": 1}
    texts = {name: parameters.get(name, "0" if name == "tailLines" else "1") for name in least}
    whole = (
        all(text.removeprefix("-").isdigit() and len(text) < 20 for text in texts.values())
        and since != "yesterday"
    )
    sound = (
        whole
        and all(int(texts[name]) >= least[name] for name in least)
        and not (since and seconds)
        and stream != "Stdin"
    )
    sound = sound and not (tail and stream != "All")
    try:
        options = compute_log_options(parameters, "pod", now)
    except ApiError as error:
        assert error.status.code == (422 if whole else 400)
        assert not sound
        assert not whole or (error.status.message or "").startswith(
            'PodLogOptions "pod" is invalid: '
        )
    else:
        assert sound
        assert options.tail_lines == (-1 if tail is None else int(tail))
        assert options.limit_bytes == (-1 if limit is None else int(limit))
        assert (
            (options.since == now - int(seconds) * SECOND)
            if seconds
            else (options.since > 0) == bool(since)
        )
        assert (options.stdout, options.stderr) == (stream != "Stderr", stream != "Stdout")
