"""The protocols of exec, attach, port-forward and logs, message by message. Rules STREAM-4 ...
STREAM-7."""

import asyncio
import base64
import json
from collections.abc import AsyncGenerator
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from refk8s.components.log_bodies import WEBSOCKET as LOG_PROTOCOLS
from refk8s.components.pod_forward import PIPE_BYTES_MAX, Pipe, forward_channels
from refk8s.components.pod_streams import PodStreams
from refk8s.components.upgrade import EXTENSION
from refk8s.components.websocket import OFFERED
from refk8s.components.wires import SpdyWire
from refk8s.core.api.core_v1 import Container, Pod, PodSpec, PodStatus
from refk8s.core.api.meta_v1 import ObjectMeta, Status
from refk8s.core.api.request import Request
from refk8s.core.api.resources import PODS
from refk8s.core.api.status import ApiError
from refk8s.core.api.user import ADMIN
from refk8s.core.apiserver.http import Connection
from refk8s.core.apiserver.outcome import Connect
from refk8s.core.apiserver.pod_exec import (
    SPDY,
    V5,
    WEBSOCKET,
    Input,
    Version,
    choose_spdy,
    choose_websocket,
    compute_end,
    read_message,
    write_end,
    write_message,
)
from refk8s.core.apiserver.pod_forward import CHANNELS, PORTS_MAX, compute_ports
from refk8s.core.apiserver.spdy import Data, Spdy
from refk8s.core.ports import RUNNING, ContainerStatus, ExecOptions, PodsListed, SandboxStatus

VERSIONS = st.sampled_from(list(WEBSOCKET.values()))
NAMES = st.lists(st.sampled_from([*WEBSOCKET, "x", "v3.channel.k8s.io"]).filter(bool), max_size=4)


@given(NAMES)
def test_stream_4_v5_is_spoken_where_it_is_offered_and_else_the_first_that_is_known(
    offered: list[str],
) -> None:
    # Shows STREAM-4.a STREAM-4.d.
    known = [name for name in offered if name in WEBSOCKET]
    if offered and not known:
        for choose in (
            (choose_websocket, choose_spdy)
            if "v3.channel.k8s.io" not in offered
            else (choose_websocket,)
        ):
            try:
                choose(offered)
            except ApiError as error:
                assert error.status.code == 403 and "unable to negotiate protocol" in (
                    error.status.message or ""
                )
            else:
                raise AssertionError("a protocol that nobody knows was accepted")
        return
    chosen = choose_websocket(offered)
    assert chosen.name == (V5.name if V5.name in offered else (known[0] if known else ""))


@given(VERSIONS, st.binary(max_size=50))
def test_stream_5_what_a_client_says_on_stdin_is_read_in_every_version(
    version: Version, data: bytes
) -> None:
    # Shows STREAM-5.a.
    message = write_message(version, 0, data)
    sent = message.encode() if isinstance(message, str) else message
    assert read_message(version, sent) == Input(data=data)
    assert isinstance(message, str) == version.is_text
    resized = write_message(version, 4, b'{"Width":80,"Height":24}')
    assert read_message(
        version, resized.encode() if isinstance(resized, str) else resized
    ) == Input(size=(80, 24))


@given(VERSIONS, st.binary(max_size=12))
@example(WEBSOCKET["v4.base64.channel.k8s.io"], b"0!!!")
@example(WEBSOCKET["v4.channel.k8s.io"], b"\xff\x00")
@example(V5, b"\x04" + b"[" * 100_000)
def test_stream_5_a_message_that_is_not_understood_changes_nothing(
    version: Version, message: bytes
) -> None:
    # Shows STREAM-5.b.
    told = read_message(version, message)
    assert told.is_end == (version == V5 and message == b"\xff\x00")
    if version.is_text:
        assert not told.data or message[:1] == b"0"
    else:
        assert not told.data or message[:1] == b"\0"


@given(st.sampled_from([*WEBSOCKET.values(), *SPDY.values()]), st.integers(0, 255))
def test_stream_4_the_end_is_a_status_from_v4_on_and_text_before(
    version: Version, code: int
) -> None:
    # Shows STREAM-4.e STREAM-4.f.
    said = write_end(version, compute_end(("ls", "-l"), code))
    if version.ends_with_status:
        assert json.loads(said)["status"] == ("Success" if code == 0 else "Failure")
    else:
        words = (
            "command terminated with non-zero exit code: error executing command [ls -l], "
            f"exit code {code}"
        )
        assert said == (words.encode() if code else b"")


class Peer:
    """The client of a SPDY connection: what it writes is fed to the reader, what it is told is
    taken apart."""

    def __init__(self) -> None:
        self.spdy, self.told = Spdy(), Spdy()
        self.reader = asyncio.StreamReader()
        self.heard: dict[int, bytes] = {}
        self.ended: list[int] = []

    def write(self, frames: bytes) -> None:
        for event in self.told.take(frames):
            if isinstance(event, Data):
                self.heard[event.stream] = self.heard.get(event.stream, b"") + event.data
                self.ended += [event.stream] if event.ended else []
        if len(self.ended) == 3:
            self.reader.feed_eof()

    async def drain(self) -> None:
        pass

    def close(self) -> None:
        pass


SPDY_VERSIONS = st.sampled_from(list(SPDY.values()))
OPENED = st.permutations(["error", "stdin", "stdout", "stderr", "resize"])


@given(SPDY_VERSIONS, OPENED, st.binary(max_size=2000), st.integers(0, 3), st.integers(0, 200))
@settings(max_examples=60)
def test_stream_4_a_session_over_spdy_has_its_streams_in_whatever_order_they_come(
    version: Version, kinds: list[str], said: bytes, cut: int, early: int
) -> None:
    options = ExecOptions("c", ("sh",), stdin=True, stdout=True, stderr=True)

    async def main() -> None:
        peer = Peer()
        streams = {kind: 2 * number + 1 for number, kind in enumerate(kinds)}
        written = b""
        for kind in kinds:
            written += peer.spdy.open(streams[kind], {"streamtype": kind})
            if kind == "stdin":
                written += Spdy.send(streams["stdin"], said[: early // 2]) + Spdy.send(
                    streams["stdin"], said[early // 2 : early]
                )
        written += Spdy.send(streams["stdin"], said[early:], ended=True)
        for at in range(0, len(written), 7 + 300 * cut):
            peer.reader.feed_data(written[at : at + 7 + 300 * cut])
        wire = SpdyWire(version, options, (peer.reader, peer))  # type: ignore[arg-type]
        assert await asyncio.wait_for(wire.open(), 20)
        found = b""
        while not (told := await asyncio.wait_for(wire.receive(), 20)).is_end:  # type: ignore[union-attr]
            found += told.data  # type: ignore[union-attr]
        assert found == said
        await wire.send(1, b"out")
        await wire.send(2, b"err")
        await wire.end(compute_end(("sh",), 3))
        assert peer.heard[streams["stdout"]] == b"out" and peer.heard[streams["stderr"]] == b"err"
        assert peer.heard[streams["error"]] == write_end(version, compute_end(("sh",), 3))
        assert sorted(peer.ended) == sorted(
            [streams["stdout"], streams["stderr"], streams["error"]]
        )

    asyncio.run(main())


def test_stream_4_sizes_over_spdy_come_in_pieces_and_the_newest_counts() -> None:
    async def main() -> None:
        peer = Peer()
        wire = SpdyWire(
            SPDY["v4.channel.k8s.io"],
            ExecOptions("c", ("sh",), stdout=True, tty=True),
            (peer.reader, peer),
        )  # type: ignore[arg-type]
        for number, kind in ((1, "error"), (3, "stdout"), (5, "resize")):
            peer.reader.feed_data(peer.spdy.open(number, {"streamtype": kind}))
        peer.reader.feed_data(
            Spdy.send(5, b'{"Width":1,"Height":2}\n{"Width":3,"Hei') + Spdy.send(5, b'ght":4}\n')
        )
        assert await wire.open()
        assert await wire.receive() == Input(size=(1, 2))
        assert await wire.receive() == Input(size=(3, 4))
        peer.reader.feed_data(b"what is no frame" * 9)
        assert await wire.receive() is None

    asyncio.run(main())


# --- port-forward ---------------------------------------------------------------------------------


@given(
    st.lists(
        st.sampled_from(["80", "80,81", "", "x", "0", "65536", "-1", " 5 ", "1" * 9, "١"]),
        max_size=4,
    )
)
def test_stream_6_ports_are_numbers_and_there_is_one(values: list[str]) -> None:
    texts = [text.strip() for value in values for text in value.split(",")]
    sound = bool(texts) and all(text in ("80", "81", "5") for text in texts)
    try:
        ports = compute_ports([("ports", value) for value in values])
    except ApiError as error:
        assert error.status.code == 400 and not sound
    else:
        assert sound and ports == tuple(map(int, texts))


def test_stream_6_there_are_only_so_many_ports() -> None:
    # Shows STREAM-6.b.
    try:
        compute_ports([("ports", ",".join(["80"] * (PORTS_MAX + 1)))])
    except ApiError as error:
        assert error.status.code == 400
    else:
        raise AssertionError("too many ports were accepted")


@given(
    st.sampled_from(list(CHANNELS.values())),
    st.lists(st.binary(max_size=300), min_size=1, max_size=4),
)
@settings(max_examples=25)
def test_stream_6_each_port_has_two_channels_and_its_own_connection(
    version: Version, bodies: list[bytes]
) -> None:
    """A server that gives back what it gets; the last port takes no connection."""
    # Shows STREAM-6.a.

    async def main() -> None:
        async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(
                await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
            )
            writer.close()

        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        heard: dict[int, bytes] = {}
        messages = [
            write_message(version, 2 * n, len(body).to_bytes(2, "big") + body)
            for n, body in enumerate(bodies)
        ]
        messages += [write_message(version, 77, b"x"), b""]

        async def receive() -> bytes | None:
            if messages:
                message = messages.pop(0)
                return message.encode() if isinstance(message, str) else message
            return await asyncio.get_running_loop().create_future()

        async def send(message: bytes | str) -> None:
            assert isinstance(message, str) == version.is_text
            raw = (
                bytes([ord(message[0]) - 48]) + base64.b64decode(message[1:])
                if isinstance(message, str)
                else message
            )
            heard[raw[0]] = heard.get(raw[0], b"") + raw[1:]

        async def connect(asked: int) -> Any:
            if asked == 9:
                raise ConnectionRefusedError(111, "Connection refused")
            return await asyncio.open_connection("127.0.0.1", port)

        ports = (*range(80, 80 + len(bodies)), 9)
        await asyncio.wait_for(forward_channels(version, ports, "web", connect, receive, send), 20)
        for number, body in enumerate(bodies):
            assert heard[2 * number] == (80 + number).to_bytes(2, "little") + body
            assert heard[2 * number + 1] == (80 + number).to_bytes(2, "little")
        last = 2 * len(bodies) + 1
        assert (
            heard[last]
            == (9).to_bytes(2, "little") + b"error forwarding port 9 to pod web: connection refused"
        )
        server.close()

    asyncio.run(main())


def test_stream_3_a_connection_that_does_not_read_makes_the_client_wait() -> None:
    async def main() -> None:
        pipe = Pipe()
        count = 0
        while not pipe.is_full:
            putting = asyncio.ensure_future(pipe.put(b"x" * 1024, False))
            await asyncio.sleep(0)
            count += 1
        assert not putting.done() and count * 1024 <= PIPE_BYTES_MAX + 1024
        pipe.close()
        await asyncio.wait_for(putting, 5)
        await asyncio.wait_for(pipe.put(b"dropped" * PIPE_BYTES_MAX, False), 5)

    asyncio.run(main())


# --- answers --------------------------------------------------------------------------------------


class Record:
    def __init__(self, value: Any) -> None:
        self.value = value


class OneNode:
    """The nodes of a cluster: one, which has these containers of the pod, and whose log says
    nothing until it is left."""

    def __init__(self, *containers: ContainerStatus) -> None:
        self.listed = PodsListed(
            (SandboxStatus("s", "uid", "default", "web", 0, True),), containers
        )
        self.log_closed = False

    def containers_of(self, node_name: str) -> "OneNode | None":
        return self if node_name == "node-1" else None

    async def list_pod(self, pod_uid: str) -> PodsListed:
        assert pod_uid == "uid"
        return self.listed

    async def log(self, container: ContainerStatus, options: Any) -> AsyncGenerator[bytes, None]:
        async def silent() -> AsyncGenerator[bytes, None]:
            try:
                yield b"one line\n"
                await asyncio.get_running_loop().create_future()
            finally:
                self.log_closed = True

        return silent()


POD = Pod(
    metadata=ObjectMeta(name="web", namespace="default", uid="uid"),
    spec=PodSpec(containers=(Container(name="a"), Container(name="b")), node_name="node-1"),
    status=PodStatus(),
)
HERE = ContainerStatus("c" * 64, "s", "uid", "a", 0, RUNNING)


def ask(
    subresource: str,
    scope: dict[str, Any],
    *parameters: tuple[str, str],
    node: OneNode,
    pod: Pod = POD,
    leaves: bool = True,
) -> Any:
    """(the response, what was sent) of a request for a stream of the pod."""
    sent: list[dict[str, Any]] = []

    class Api:
        class store:
            @staticmethod
            def get(key: str) -> Any:
                return Record(pod) if key.startswith(PODS.prefix) else None

        class clock:
            @staticmethod
            def now() -> int:
                return 10**15

    async def main() -> Any:
        waiting = (
            [{"type": "websocket.connect"}]
            if scope["type"] == "websocket"
            else [{"type": "http.request"}]
        )
        told = asyncio.Event()

        async def receive() -> dict[str, Any]:
            if waiting:
                return waiting.pop(0)
            while not any(
                message.get("body") or message.get("bytes") or message.get("text")
                for message in sent
            ):
                told.clear()
                await told.wait()
            return {"type": f"{scope['type']}.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)
            told.set()

        request = Request(
            "connect",
            PODS,
            "default",
            "web",
            subresource,
            Connection("GET", "", parameters, {}, b""),
            user=ADMIN,
        )
        streams = PodStreams(Api(), node)  # type: ignore[arg-type]
        return await asyncio.wait_for(streams(Connect(request), scope, receive, send), 20)

    return asyncio.run(main()), sent


def http(**headers: str) -> dict[str, Any]:
    upgrade = {EXTENSION: None} if headers else None
    return {
        "type": "http",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "extensions": upgrade,
    }


def websocket(*protocols: str) -> dict[str, Any]:
    return {
        "type": "websocket",
        "headers": [(OFFERED, ", ".join(protocols).encode())] if protocols else [],
    }


EXEC = (("command", "ls"), ("stdout", "1"))
WITH_A, WITH_B = (*EXEC, ("container", "a")), (*EXEC, ("container", "b"))
NOT_FOUND = 'Internal error occurred: unable to upgrade connection: container not found ("b")'


def refused(response: Any) -> tuple[int, str]:
    assert (
        isinstance(response.body, Status)
        and response.body.status == "Failure"
        and response.body.code == response.code
    )
    return response.code, response.body.message or ""


def test_stream_7_what_keeps_a_stream_from_being_opened_is_a_status() -> None:
    # Shows STREAM-7.a STREAM-7.b STREAM-7.c STREAM-7.d.
    node = OneNode(HERE)
    choose = "a container name must be specified for pod web, choose one of: [a b]"
    unscheduled = Pod(
        metadata=POD.metadata, spec=PodSpec(containers=POD.spec.containers), status=POD.status
    )
    elsewhere = Pod(
        metadata=POD.metadata,
        spec=PodSpec(containers=POD.spec.containers, node_name="gone"),
        status=POD.status,
    )
    nothing = (("command", "ls"), ("stdout", "0"), ("container", "a"))
    for scope, parameters, pod, code, words in [
        (http(), WITH_A, POD, 400, "Upgrade request required"),
        (http(upgrade="h2c"), WITH_A, POD, 400, "Upgrade request required"),
        (http(), EXEC, POD, 400, choose),
        (http(), (*EXEC, ("container", "x")), POD, 400, "container x is not valid for pod web"),
        (http(), WITH_A, unscheduled, 400, "pod web does not have a host assigned"),
        (http(), WITH_A, elsewhere, 404, 'nodes "gone" not found'),
        (http(), nothing, POD, 400, "you must specify at least 1 of stdin, stdout, stderr"),
        (http(), (("stdout", "1"), ("container", "a")), POD, 400, "you must specify at least one command for the container"),
        (websocket("x"), WITH_A, POD, 403, "unable to upgrade: unable to negotiate protocol: client supports [x], server accepts [v5"),
        (websocket("v4.channel.k8s.io"), WITH_B, POD, 500, NOT_FOUND),
    ]:  # fmt: skip
        response, sent = ask("exec", scope, *parameters, node=node, pod=pod)
        found = refused(response)
        assert found[0] == code and found[1].startswith(words), found
        assert not sent
    assert refused(ask("portforward", http(), node=node)[0]) == (400, "Upgrade request required")
    assert refused(ask("portforward", websocket("v4.channel.k8s.io"), node=node)[0])[0] == 400
    assert refused(ask("log", http(), ("container", "b"), node=node)[0]) == (
        400,
        'container "b" in pod "web" is not available',
    )


def test_stream_7_over_v5_a_container_that_does_not_run_is_said_on_the_error_channel() -> None:
    # Shows STREAM-7.d.
    response, sent = ask("exec", websocket("v5.channel.k8s.io"), *WITH_B, node=OneNode(HERE))
    assert (
        response is None
        and sent[0]["type"] == "websocket.accept"
        and sent[-1]["type"] == "websocket.close"
    )
    [end] = [
        message["bytes"]
        for message in sent
        if message["type"] == "websocket.send" and message["bytes"][:1] == b"\x03"
    ]
    assert json.loads(end[1:])["message"] == NOT_FOUND


@given(st.sampled_from(["http", *LOG_PROTOCOLS]))
@settings(max_examples=8)
def test_stream_3_a_followed_log_ends_when_its_client_has_left(how: str) -> None:
    """STREAM-5: over a WebSocket the log is messages."""
    # Shows STREAM-3.a STREAM-3.b STREAM-5.d.
    node = OneNode(HERE)
    scope = http() if how == "http" else websocket(*[how] if how else [])
    response, sent = ask("log", scope, ("container", "a"), ("follow", "1"), node=node)
    assert response is None and node.log_closed
    data = [message.get("body") or message.get("bytes") or message.get("text") for message in sent]
    wanted = base64.b64encode(b"one line\n").decode() if how.startswith("base64") else b"one line\n"
    assert [piece for piece in data if piece] == [wanted]
    assert sent[0]["type"] == ("http.response.start" if how == "http" else "websocket.accept")
