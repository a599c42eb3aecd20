"""Clauses of the runtime's and the streams' rules that no other test shows: RT-1, RT-4, RT-5, RT-6,
RT-10, RT-11, RT-14 to RT-16, RT-32, STREAM-4 to STREAM-6 (spec/runtime.md, spec/streams.md)."""

import asyncio
import json
import os
import tempfile
import threading
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_rt import CLUSTER, IMAGE, UID, make_engine, operations
from test_rt_forward import Client
from test_rt_streams import AtOnce, Talk, run_virtually, status
from test_rt_volumes import write_files
from test_stream import with_engine

from refk8s.adapters.docker.engine import labels
from refk8s.adapters.docker.engine.network import Addresses
from refk8s.adapters.docker.pods.volumes import DATA, Volumes
from refk8s.adapters.docker.runtime import DockerRuntime
from refk8s.adapters.docker.streams.logs import open_log
from refk8s.adapters.linux import mounts, tree
from refk8s.adapters.linux.abilities import Abilities
from refk8s.adapters.linux.stopping import KILLS_MAX, Stopping
from refk8s.adapters.linux.tree import is_inside
from refk8s.adapters.warn_once import WarnOnce
from refk8s.components.pod_forward import Forwarding
from refk8s.components.pod_sessions import carry
from refk8s.components.wires import WebSocketWire
from refk8s.core.api.status import ApiError
from refk8s.core.apiserver.pod_exec import (
    SPDY,
    WEBSOCKET,
    Version,
    choose_spdy,
    first_channel,
    read_message,
)
from refk8s.core.apiserver.pod_forward import CONNECTIONS_MAX
from refk8s.core.context import SECOND
from refk8s.core.ports import (
    EXITED,
    RUNNING,
    ContainerConfig,
    ContainerCreated,
    CreateContainer,
    Done,
    ExecOptions,
    Failed,
    ListPods,
    LogOptions,
    Mount,
    PodsListed,
    Probe,
    PullImage,
    RunPodSandbox,
    SandboxConfig,
    StartContainer,
    StopContainer,
    WriteVolume,
)


def test_rt_1_the_labels_say_whose_a_container_is() -> None:
    # Shows RT-1.a RT-1.b.
    config = ContainerConfig("uid", "ns", "pod", "main", IMAGE, 7, spec_hash="cafe")
    assert {CLUSTER, "uid", "ns", "pod", "main", "7", "box", "cafe"} <= set(
        labels.container_labels(CLUSTER, "box", config).values()
    )
    assert {CLUSTER, "uid", "ns", "pod", "3"} <= set(
        labels.sandbox_labels(CLUSTER, SandboxConfig("uid", "ns", "pod", 3)).values()
    )


class Slow:
    """An engine that ends no container and pulls no image, and lists at once."""

    def __init__(self) -> None:
        self.released = threading.Event()
        self.images = self
        self.fetching = threading.Event()

    def answer(self, operation: Any, work: Any) -> Any:
        return work(operation)

    def look(self, operation: Any) -> None:
        return None

    def fetch(self, operation: Any) -> Failed:
        self.fetching.set()
        self.released.wait(20)
        return Failed("", "late")

    def terminate(self, id: str) -> Any:
        return status(RUNNING)

    kill = status = terminate

    def carry_out(self, operation: Any) -> PodsListed:
        return PodsListed((), ())


def test_rt_4_pulls_probes_and_the_end_of_a_container_hold_up_no_operation_of_their_pod() -> None:
    # Shows RT-4.b.
    async def main() -> None:
        asked = asyncio.Event()

        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            asked.set()
            await reader.read()
            writer.close()

        server = await asyncio.start_server(silent, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        engine, early = Slow(), list[Any]()
        runtime = DockerRuntime("c", Path("/nowhere"), "node", "192.0.2.1")
        runtime._made = engine
        runtime.run(StopContainer("uid", "c", 1000), early.append)
        runtime.run(PullImage("uid", "app:1", "IfNotPresent"), early.append)
        runtime.run(Probe("uid", "c", "http", 1000, "127.0.0.1", port, "/"), early.append)
        await asyncio.wait_for(asked.wait(), 20)
        await asyncio.to_thread(engine.fetching.wait, 20)
        listed = asyncio.get_running_loop().create_future()
        runtime.run(ListPods(("uid",)), listed.set_result)
        assert await asyncio.wait_for(listed, 20) == PodsListed((), ()) and not early
        engine.released.set()
        runtime.close()
        server.close()

    asyncio.run(main())


@given(st.sets(st.integers(2, 14), min_size=1, max_size=12))
def test_rt_5_an_agent_that_starts_begins_after_the_highest_address_in_use(held: set[int]) -> None:
    # Shows RT-5.c.
    addresses = Addresses(
        "10.244.0.0/28", {f"10.244.0.{number}": f"old-{number}" for number in held}
    )
    order = [*range(max(held) + 1, 15)] + [n for n in range(2, max(held)) if n not in held]
    assert [addresses.take(f"new-{n}") for n in order] == [f"10.244.0.{n}" for n in order]


@given(
    st.lists(
        st.dictionaries(st.sampled_from("ab"), st.binary(max_size=3), min_size=1),
        min_size=2,
        max_size=4,
    )
)
def test_rt_6_each_version_is_a_directory_of_its_own_and_is_never_changed(
    versions: list[dict[str, bytes]],
) -> None:
    # Shows RT-6.a.
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "volume"
        write_files(place, versions[0], 0o644)
        for old, new in pairwise(versions):
            before = (place / DATA).resolve()
            kept = os.open(before, os.O_RDONLY)
            try:
                changed = write_files(place, new, 0o644)
                after = (place / DATA).resolve()
                assert changed is (after != before) is (old != new)
                assert (
                    after.is_dir()
                    and is_inside(str(after), str(place))
                    and after != place.resolve()
                )
                if changed:
                    assert not set(os.listdir(kept)) - set(old), "the old version got a new file"
            finally:
                os.close(kept)


# --- probes and ends ------------------------------------------------------------------------------


@pytest.mark.parametrize("action", ["http", "tcp", "grpc"])
def test_rt_10_a_pod_without_an_address_has_no_answer(action: str) -> None:
    # Shows RT-10.e.
    async def main() -> Any:
        runtime = DockerRuntime("c", Path("/nowhere"), "node", "192.0.2.1")
        answer = asyncio.get_running_loop().create_future()
        runtime.run(Probe("uid", "c", action, 1, "", 80), answer.set_result)
        found = await asyncio.wait_for(answer, 20)
        runtime.close()
        return found

    found = asyncio.run(main())
    assert found.unknown and not found.success and found.output


ENDS = st.sampled_from(["ends", "has ended", "is gone", "never ends", "refuses"])


def expected_stops(asked: list[tuple[int, int]], joins: bool) -> int:
    """The number of stops, if a request at the instant of SIGKILL joins the stop, or starts one."""
    stops, kill_at = 0, -1
    for at, grace in asked:
        if at < kill_at or (joins and at == kill_at):
            kill_at = min(kill_at, at + grace)
        else:
            stops, kill_at = stops + 1, at + grace
    return stops


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 40)), min_size=1, max_size=4), ENDS)
def test_rt_11_sigterm_comes_once_at_the_first_request_and_all_are_answered(
    asked: list[tuple[int, int]], how: str
) -> None:
    # Shows RT-11.a RT-11.c.
    said: list[Any] = []
    terms: list[float] = []
    kills: list[float] = []
    asked.sort()

    async def main() -> None:
        loop = asyncio.get_running_loop()

        def terminate(id: str) -> Any:
            terms.append(loop.time())
            match how:
                case "is gone":
                    return None
                case "has ended":
                    return status(EXITED, 3)
                case "refuses":
                    return Failed("", "no such signal")
            return status(RUNNING)

        def kill(id: str) -> Any:
            kills.append(loop.time())
            return status(EXITED, 137) if how == "ends" else status(RUNNING)

        stopping = Stopping(AtOnce(), terminate, kill, lambda id: status(RUNNING))  # type: ignore[arg-type]
        for at, grace in asked:
            loop.call_at(at, stopping.stop, "uid", "c", grace, said.append)
        await asyncio.sleep(1000)
        assert "c" not in stopping

    run_virtually(main)
    assert len(said) == len(asked) and abs(terms[0] - asked[0][0]) < 0.001
    if how == "ends":
        fewest, most = expected_stops(asked, joins=True), expected_stops(asked, joins=False)
        assert fewest <= len(terms) <= most, "one SIGTERM until it has ended"
        assert all(result == Done(status(EXITED, 137)) for result in said)
    elif how == "never ends":
        assert len(terms) == 1 and len(kills) == KILLS_MAX
        assert all(isinstance(result, Failed) for result in said)
    else:
        assert not kills and all(
            isinstance(result, Failed) is (how == "refuses") for result in said
        )


@pytest.mark.parametrize("count", [2, 3])
def test_rt_16_each_attempt_has_a_file_of_its_own(tmp_path: Path, count: int) -> None:
    # Shows RT-16.c.
    engine = make_engine()
    agent = operations(engine, data=tmp_path)
    agent.carry_out(RunPodSandbox(SandboxConfig(UID, "default", "pod")))
    [sandbox] = engine.containers
    for attempt in range(count):
        config = ContainerConfig(
            UID, "default", "pod", "main", IMAGE, attempt, termination_message_path="/dev/end"
        )
        made = agent.carry_out(CreateContainer(sandbox, config))
        assert isinstance(made, ContainerCreated)
        agent.carry_out(StartContainer(UID, made.status.id))
        [mount] = engine.one(made.status.id)["HostConfig"]["Mounts"]
        assert Path(mount["Source"]).read_bytes() == b"", "an attempt begins with nothing written"
        Path(mount["Source"]).write_bytes(f"attempt {attempt}".encode())
        engine.end(made.status.id, 1)
    told = operations(engine, data=tmp_path).carry_out(ListPods())
    assert isinstance(told, PodsListed)
    assert {(one.attempt, one.message) for one in told.containers} == {
        (n, f"attempt {n}") for n in range(count)
    }


# --- volumes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("files", [{}, {"key": b"1"}])
def test_rt_32_where_the_group_cannot_be_set_the_volume_is_not_made(
    files: dict[str, bytes],
) -> None:
    """In a process of a user who is in no group but its own."""
    # Shows RT-32.c.
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        child = os.fork()
        if child == 0:
            try:
                if os.geteuid() == 0:
                    os.setgroups([])
                    os.setgid(65534)
                    os.setuid(65534)
                volumes = Volumes(Path(folder) / "pods", Abilities(frozenset()))
                asked = WriteVolume("uid", "data", files, fs_group=4242)
                results = [volumes.write(asked) for _ in range(2)]
                refused = all(
                    isinstance(made, Failed) and "fsGroup 4242" in made.message for made in results
                )
                os._exit(
                    0
                    if refused and volumes.write(WriteVolume("uid", "plain", files)) == Done()
                    else 1
                )
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize("inner", ["mounted", "deep/mounted", "deep/deeper/mounted"])
def test_rt_30_a_tree_is_not_removed_below_a_place_where_something_is_mounted(
    tmp_path: Path, inner: str
) -> None:
    """Where this process may mount; elsewhere nothing is mounted, and all of it goes."""
    # Shows RT-30.d.
    place = tmp_path / "volume" / inner
    place.mkdir(parents=True)
    is_mounted = not mounts.mount_tmpfs(str(place), 0o755, -1, 0)
    try:
        (place / "kept").write_text("the host's")
        with tree.opened(tmp_path) as top, suppress(OSError):
            tree.remove("volume", top)
        assert bool(list(tmp_path.rglob("kept"))) is is_mounted, (
            "the directories above it may have been moved"
        )
    finally:
        mounts.unmount_below(str(tmp_path))


def test_rt_31_without_a_place_in_memory_the_files_are_on_disk_and_the_log_says_so_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Shows RT-31.d.
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    taken = mounts.memory_directory(str(tmp_path / "pods"), {})  # by somebody else, as it were
    assert taken is not None
    os.chmod(taken, 0o750)
    try:
        abilities, said = Abilities(frozenset()), list[str]()
        abilities.warn_once = WarnOnce(said.append)
        volumes = Volumes(tmp_path / "pods", abilities)
        volumes._may_mount = False
        for name in ("one", "two"):
            assert volumes.write(WriteVolume("uid", name, {"key": b"1"}, medium="Memory")) == Done()
            place = volumes.source("uid", Mount(name, "/m"))
            assert (place / "key").read_bytes() == b"1" and tmp_path in place.resolve().parents
        assert len(said) == 1 and "on disk" in said[0] and os.listdir(taken) == []
    finally:
        os.rmdir(taken)


LOGS = st.builds(
    LogOptions, follow=st.booleans(), timestamps=st.booleans(), since=st.sampled_from([0, 5 * SECOND, 5 * SECOND + 250_000]),
    tail_lines=st.integers(-1, 3), limit_bytes=st.integers(-1, 12), stdout=st.booleans(), stderr=st.booleans(),
)  # fmt: skip


@given(
    LOGS,
    st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=5)), max_size=4),
    st.booleans(),
)
@settings(max_examples=25)
def test_rt_13_the_engine_is_asked_for_the_part_and_no_more_bytes_are_passed_on(
    options: LogOptions, said: list[tuple[int, bytes]], terminal: bool
) -> None:
    # Shows RT-13.a RT-13.b RT-13.c.
    heads: list[bytes] = []
    frames = [bytes([kind, 0, 0, 0]) + len(data).to_bytes(4, "big") + data for kind, data in said]
    log = b"".join(data for _, data in said) if terminal else b"".join(frames)

    async def engine(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        is_log = b"/logs?" in heads[-1]
        body = (
            log
            if is_log
            else json.dumps({"Config": {"Tty": terminal}}).encode()
            if b"/json" in heads[-1]
            else b""
        )
        writer.write(
            b"HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s"
            % (len(body), body)
        )
        writer.close()

    async def body(streams: Any) -> bytes:
        return b"".join([piece async for piece in await open_log(streams, "a" * 64, options)])

    whole = b"".join(data for _, data in said)
    assert with_engine(engine, body) == (
        whole if options.limit_bytes < 0 else whole[: options.limit_bytes]
    )
    [head] = [head for head in heads if b"/logs?" in head]
    query = dict(parse_qsl(head.split()[1].decode().partition("?")[2]))
    flags = {
        "follow": options.follow,
        "timestamps": options.timestamps,
        "stdout": options.stdout,
        "stderr": options.stderr,
    }
    assert {name: query[name] for name in flags} == {
        name: str(int(value)) for name, value in flags.items()
    }
    assert query["tail"] == ("all" if options.tail_lines < 0 else str(options.tail_lines))
    assert float(query.get("since", "0")) == options.since / SECOND


# --- streams --------------------------------------------------------------------------------------


@given(st.integers(0, 255), st.sampled_from(list(WEBSOCKET.values())), st.booleans())
def test_rt_14_stream_5_the_end_of_what_was_attached_to_is_always_success(
    code: int, version: Version, is_attached: bool
) -> None:
    # Shows RT-14.c RT-14.e STREAM-5.c.
    sent: list[dict[str, Any]] = []
    options = ExecOptions("c", () if is_attached else ("sh",), stdin=True, stdout=True)

    async def main() -> Talk:
        talk = Talk([(1, b"out")], code, waits_for_input=version.name == "v5.channel.k8s.io")
        waiting = [
            {"type": "websocket.connect"},
            {"type": "websocket.receive", "bytes": b"\xff\x00"},
        ]

        async def receive() -> dict[str, Any]:
            return waiting.pop(0) if waiting else await asyncio.get_running_loop().create_future()

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        wire = WebSocketWire(version, options, receive, send)
        await wire.open()
        await asyncio.wait_for(carry(talk, options, wire), 20)
        return talk

    talk = asyncio.run(main())
    assert (
        talk.closed
        and sent[0]["type"] == "websocket.accept"
        and sent[-1]["type"] == "websocket.close"
    )
    told = [
        message.get("bytes") or message["text"]
        for message in sent
        if message["type"] == "websocket.send"
    ]
    assert len(told[0]) == 1 and told[0][0] in (
        first_channel(options),
        str(first_channel(options)),
    ), "it has no data"
    ends = [message for message in told[1:] if message[:1] in (b"\x03", "3")]
    if is_attached or not code:
        assert not ends or (
            version.ends_with_status and read_end(version, ends[0])["status"] == "Success"
        )
    else:
        assert len(ends) == 1


def read_end(version: Version, message: Any) -> Any:
    """The Status on the error channel."""
    from base64 import b64decode

    return json.loads(b64decode(message[1:]) if isinstance(message, str) else message[1:])


@given(st.lists(st.sampled_from([*SPDY, "v5.channel.k8s.io", "x"]), max_size=5))
def test_stream_4_over_spdy_the_first_known_protocol_is_spoken(offered: list[str]) -> None:
    # Shows STREAM-4.c STREAM-4.d.
    known = [name for name in offered if name in SPDY]
    assert set(SPDY) == {
        "v4.channel.k8s.io",
        "v3.channel.k8s.io",
        "v2.channel.k8s.io",
        "channel.k8s.io",
    }
    try:
        chosen = choose_spdy(offered)
    except ApiError as error:
        assert error.status.code == 403 and offered and not known
    else:
        assert chosen.name == (known[0] if known else "channel.k8s.io") and (known or not offered)


@given(
    st.sampled_from([one for one in WEBSOCKET.values() if one.is_text]),
    st.text("0129ab!=é", min_size=1, max_size=6),
)
def test_stream_5_text_that_is_no_base64_is_passed_over(version: Version, text: str) -> None:
    # Shows STREAM-5.a STREAM-5.b.
    assert read_message(version, b"0aGk=").data == b"hi"
    found = read_message(version, f"0!{text}".encode())
    assert not found.data and found.size is None and not found.is_end


def test_stream_6_a_client_has_so_many_connections_and_no_more() -> None:
    # Shows STREAM-6.b.
    async def main() -> None:
        client, connected = Client(), list[int]()

        async def connect(port: int) -> Any:
            connected.append(port)
            await asyncio.get_running_loop().create_future()

        carrying = asyncio.ensure_future(
            Forwarding("pod", connect, client.send).carry(client.receive)
        )
        for number in range(CONNECTIONS_MAX + 20):
            for stream, kind in ((4 * number + 1, "error"), (4 * number + 3, "data")):
                headers = {"streamtype": kind, "port": "80", "requestid": str(number)}
                client.say(client.spdy.open(stream, headers))
        client.leave()
        await asyncio.wait_for(carrying, 20)
        assert CONNECTIONS_MAX == 256 and client.replies == 2 * CONNECTIONS_MAX

    asyncio.run(main())


@given(st.binary(min_size=1, max_size=30))
def test_rt_15_frames_that_are_none_end_the_whole(noise: bytes) -> None:
    # Shows RT-15.e.
    async def main() -> None:
        client, cancelled = Client(), asyncio.Event()

        async def connect(port: int) -> Any:
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                cancelled.set()

        carrying = asyncio.ensure_future(
            Forwarding("pod", connect, client.send).carry(client.receive)
        )
        for stream, kind in ((1, "error"), (3, "data")):
            client.say(
                client.spdy.open(stream, {"streamtype": kind, "port": "80", "requestid": "0"})
            )
        client.say(b"\x80\x09\x00\x01\x00\x00\x00\x00" + noise)  # a version that is none
        assert await asyncio.wait_for(carrying, 20) is False

    asyncio.run(main())
