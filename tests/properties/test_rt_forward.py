"""Port forwarding: frames, pairs of streams, and bytes both ways. Rule RT-15."""

import asyncio
import zlib
from typing import Any

from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from refk8s.components.pod_forward import Forwarding
from refk8s.core.apiserver.pod_forward import Forward, Half, Pairs
from refk8s.core.apiserver.spdy import (
    DATA_BYTES_MAX,
    DICTIONARY,
    Data,
    NotSpdy,
    Opened,
    Pinged,
    Spdy,
)

NAMES = st.text("abcdefghijklmnop-", min_size=1, max_size=12)
HEADERS = st.dictionaries(NAMES, st.text(max_size=20), max_size=4)
FRAMES = st.lists(
    st.tuples(st.integers(1, 99), HEADERS, st.binary(max_size=50), st.booleans()), max_size=5
)


def test_rt_15_the_dictionary_is_the_protocols() -> None:
    assert len(DICTIONARY) == 1423 and zlib.adler32(DICTIONARY) == 0xE3C6A7C2


@given(FRAMES, st.data())
def test_rt_15_frames_are_read_as_they_were_written_however_they_come_in_pieces(
    frames: list[tuple[int, dict[str, str], bytes, bool]], data: st.DataObject
) -> None:
    client, server = Spdy(), Spdy()
    written, wanted = b"", []
    for stream, headers, body, ended in frames:
        written += client.open(stream, headers, ended) + client.send(stream, body, ended)
        wanted += [Opened(stream, headers, ended), Data(stream, body, ended)]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(written)), max_size=6)))
    found: list[Any] = []
    for begin, end in zip([0, *cuts], [*cuts, len(written)], strict=True):
        found += server.take(written[begin:end])
    assert found == wanted


@given(st.integers(0, 3 * DATA_BYTES_MAX), st.booleans())
@example(DATA_BYTES_MAX, True)
@example(2 * DATA_BYTES_MAX + 1, True)
@settings(max_examples=20)
def test_rt_15_many_bytes_go_in_several_frames_and_only_the_last_ends(
    length: int, ended: bool
) -> None:
    body = bytes(range(256)) * (length // 256 + 1)
    found = [
        event
        for event in Spdy().take(Spdy.send(7, body[:length], ended))
        if isinstance(event, Data)
    ]
    assert b"".join(event.data for event in found) == body[:length]
    assert [event.ended for event in found] == [False] * (len(found) - 1) + [ended]


@given(st.integers(0, 2**32 - 1))
def test_rt_15_a_ping_is_given_back(number: int) -> None:
    ping = b"\x80\x03\x00\x06\x00\x00\x00\x04" + number.to_bytes(4, "big")
    assert Spdy().take(ping) == [Pinged(ping)]


@given(st.binary(max_size=200))
@settings(max_examples=200)
def test_rt_15_whatever_comes_is_frames_or_is_refused(noise: bytes) -> None:
    try:
        found = Spdy().take(noise)
    except NotSpdy:
        return
    for event in found:
        if isinstance(event, Pinged):
            assert event.reply[:4] == b"\x80\x03\x00\x06"


KINDS, IDS = (
    st.sampled_from(["error", "data", "error", "data", "other"]),
    st.sampled_from(["1", "2"]),
)
PORTS = st.sampled_from(["80", "80", "80", "81", "0", "x", "99999"])
HALVES = st.lists(st.tuples(KINDS, IDS, PORTS), max_size=12)


@given(HALVES)
def test_rt_15_two_streams_of_one_request_and_port_are_one_connection(
    opened: list[tuple[str, str, str]],
) -> None:
    # Shows RT-15.a.
    pairs = Pairs()
    given_streams: dict[int, tuple[str, str, str]] = {}
    used: set[int] = set()
    for stream, (kind, id, port) in enumerate(opened, 1):
        found = pairs.opened(stream, {"streamtype": kind, "requestid": id, "port": port})
        if kind == "other" or port not in ("80", "81"):
            assert found is None
            continue
        given_streams[stream] = (kind, id, port)
        if isinstance(found, Half):
            assert found.stream == stream
            continue
        assert isinstance(found, Forward)
        assert not used & {found.error, found.data}, "a stream is part of two connections"
        used |= {found.error, found.data}
        assert given_streams[found.error] == ("error", id, port) and given_streams[found.data] == (
            "data",
            id,
            port,
        )


# --- everything together --------------------------------------------------------------------------


class Client:
    """The other side: opens connections, sends, and keeps what it hears by stream."""

    def __init__(self) -> None:
        self.spdy = Spdy()
        self.heard: dict[int, bytes] = {}
        self.ended: set[int] = set()
        self.replies = 0
        self._more = asyncio.Event()
        self._waiting: asyncio.Queue[bytes | None] = asyncio.Queue()

    def say(self, frames: bytes) -> None:
        self._waiting.put_nowait(frames)

    def leave(self) -> None:
        self._waiting.put_nowait(None)

    async def receive(self) -> bytes | None:
        return await self._waiting.get()

    async def send(self, frames: bytes) -> None:
        while frames:  # replies to streams are control frames: they are counted and passed over
            length = int.from_bytes(frames[5:8], "big")
            frame, frames = frames[: 8 + length], frames[8 + length :]
            if frame[0] & 0x80:
                self.replies += frame[3] == 2
                continue
            [event] = self.spdy.take(frame)
            assert isinstance(event, Data)
            self.heard[event.stream] = self.heard.get(event.stream, b"") + event.data
            if event.ended:
                self.ended.add(event.stream)
        self._more.set()

    async def until_ended(self, *streams: int) -> None:
        while not self.ended.issuperset(streams):
            self._more.clear()
            await asyncio.wait_for(self._more.wait(), 3)


BODIES = st.lists(
    st.lists(st.binary(min_size=1, max_size=2000), max_size=4), min_size=1, max_size=4
)


@given(BODIES, st.booleans())
# a failure waits; so it is not made smaller
@settings(max_examples=25, phases=(Phase.explicit, Phase.reuse, Phase.generate))
def test_rt_15_each_connection_gets_its_own_bytes_back_in_order(
    bodies: list[list[bytes]], mixed: bool
) -> None:
    """A server that gives back what it gets, after it has all of it; several connections at once,
    their frames mixed."""
    # Shows RT-15.a RT-15.b RT-15.c.

    async def main() -> None:
        async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"<" + await reader.read() + b">")
            writer.close()

        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        client = Client()
        connect = lambda asked: asyncio.open_connection("127.0.0.1", port)  # noqa: E731
        carrying = asyncio.ensure_future(
            Forwarding("pod", connect, client.send).carry(client.receive)
        )
        said = []
        for number, pieces in enumerate(bodies):
            error, data = 4 * number + 1, 4 * number + 3
            headers = {"port": "80", "requestid": str(number)}
            client.say(client.spdy.open(error, {**headers, "streamtype": "error"}, ended=True))
            client.say(client.spdy.open(data, {**headers, "streamtype": "data"}))
            said.append(
                [Spdy.send(data, piece) for piece in pieces] + [Spdy.send(data, b"", ended=True)]
            )
        client.say(b"")  # kubectl sends a message without bytes
        while any(said):
            for frames in said:
                for frame in [frames.pop(0) for _ in range(1 if mixed else len(frames)) if frames]:
                    client.say(frame)
        streams = [4 * number + 3 for number in range(len(bodies))]
        await client.until_ended(*streams, *[stream - 2 for stream in streams])
        assert {stream: client.heard[stream] for stream in streams} == {
            stream: b"<" + b"".join(pieces) + b">"
            for stream, pieces in zip(streams, bodies, strict=True)
        }
        assert not any(client.heard.get(stream - 2) for stream in streams), "an error was told"
        assert client.replies == 2 * len(bodies)
        client.leave()
        await asyncio.wait_for(carrying, 20)
        server.close()

    asyncio.run(main())


def test_rt_15_a_port_that_takes_no_connection_is_told_on_the_error_stream() -> None:
    # Shows RT-15.d.
    async def main() -> None:
        client = Client()

        async def connect(port: int) -> Any:
            raise ConnectionRefusedError(111, "Connection refused")

        carrying = asyncio.ensure_future(
            Forwarding("web", connect, client.send).carry(client.receive)
        )
        for stream, kind in ((1, "error"), (3, "data")):
            client.say(
                client.spdy.open(stream, {"streamtype": kind, "port": "81", "requestid": "0"})
            )
        await client.until_ended(1, 3)
        assert client.heard[1] == b"error forwarding port 81 to pod web: connection refused"
        client.say(b"\x00\x01")  # half of nothing
        client.leave()
        await asyncio.wait_for(carrying, 20)

    asyncio.run(main())


def test_rt_15_a_client_that_leaves_while_the_pod_speaks_is_no_error() -> None:
    async def main() -> None:
        missed: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(
            lambda loop, context: missed.append(context)
        )
        client, has_left = Client(), asyncio.Event()

        async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await has_left.wait()
            writer.write(b"too late")
            writer.close()

        async def send(frames: bytes) -> None:
            if has_left.is_set():
                raise OSError("the client has left")
            await client.send(frames)

        server = await asyncio.start_server(speak, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        forwarding = Forwarding(
            "web", lambda asked: asyncio.open_connection("127.0.0.1", port), send
        )
        carrying = asyncio.ensure_future(forwarding.carry(client.receive))
        for stream, kind in ((1, "error"), (3, "data")):
            client.say(
                client.spdy.open(stream, {"streamtype": kind, "port": "80", "requestid": "0"})
            )
        while client.replies < 2:
            await asyncio.sleep(0)
        [task] = forwarding._tasks.values()
        has_left.set()
        await asyncio.wait([task], timeout=5)
        assert task.done() and task.exception() is None
        client.leave()
        await asyncio.wait_for(carrying, 20)
        assert not missed
        server.close()

    asyncio.run(main())
