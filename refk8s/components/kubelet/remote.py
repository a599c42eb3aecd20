"""The kubelet of a node in another process, over HTTPS. Rules STREAM-8, STREAM-9.

Logs are the body of an answer. exec, attach and each forwarded connection are a WebSocket with
`v5.channel.k8s.io`, whatever the protocol of the client is. The kubelet opens the stream before it
accepts the WebSocket, so a failure is the answer to the request.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import msgspec

from refk8s.components.client.exchange import CHUNK_BYTES, Answer, Streams, ask, dial
from refk8s.core.api import codec
from refk8s.core.api.core_v1 import Pod
from refk8s.core.api.meta_v1 import Status
from refk8s.core.api.status import ApiError
from refk8s.core.apiserver.pod_exec import CLOSE, ERROR, RESIZE, STDERR, STDIN, STDOUT, V5
from refk8s.core.client.kubelet import (
    ATTACH,
    CONTAINER,
    EXEC,
    FORWARD,
    LOGS,
    TO_ADDRESS,
    PodPath,
    write_exec_query,
    write_log_query,
    write_path,
)
from refk8s.core.ports import ContainerNotFound, ExecOptions, LogOptions, StreamFailed

ANSWER_SECONDS = 30.0
"""How long the kubelet may take to open a stream."""
REFUSAL_BYTES_MAX = 1 << 16
MESSAGE_BYTES_MAX = 1 << 20
MESSAGES_MAX = 16
"""The messages that wait while the client does not read."""


class RemoteKubelet:
    """The port `Kubelet` over the HTTPS port of a kubelet."""

    def __init__(self, node: str, address: str, port: int, tls: ssl.SSLContext) -> None:
        self.node = node
        self._address = address
        self._port = port
        self._tls = tls
        self.host = f"{node}:{port}"

    async def log(
        self, pod: Pod, container: str, options: LogOptions
    ) -> AsyncGenerator[bytes, None]:
        """The body of the kubelet's answer."""
        target = write_path(_place(LOGS, pod, container))
        query = write_log_query(options, pod.metadata.uid or "")
        try:
            answer = await self.get(f"{target}?{query}")
            if answer.code != 200:
                raise self._refusal(answer.code, await answer.read(REFUSAL_BYTES_MAX))
        except OSError as error:
            raise self._unreachable(error) from None
        return answer.body()

    async def execute(self, pod: Pod, container: str, options: ExecOptions) -> "RemoteSession":
        """A command in the container."""
        return await self._session(EXEC, pod, container, options)

    async def attach(self, pod: Pod, container: str, options: ExecOptions) -> "RemoteSession":
        """The container's main program."""
        return await self._session(ATTACH, pod, container, options)

    async def check(self, pod: Pod) -> None:
        """The first connection tells."""

    async def connect(
        self, pod: Pod, port: int
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to the loopback device of the pod."""
        return await self._connect(pod, f"ports={port}")

    async def dial(self, pod: Pod, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to the address of the pod."""
        return await self._connect(pod, f"ports={port}&{'='.join(TO_ADDRESS)}")

    async def _connect(
        self, pod: Pod, query: str
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        connection = await self._open(f"{write_path(_place(FORWARD, pod, ''))}?{query}")
        refusal = await _first_of_forward(connection)
        if refusal is not None:
            connection.transport.abort()
            raise ConnectionRefusedError(refusal)
        return await _as_streams(connection)

    # --- the connection

    async def dial_port(self) -> Streams:
        """A connection to the port of the kubelet. Raises OSError."""
        return await dial(self._address, self._port, self._tls)

    async def get(self, target: str, headers: str = "") -> Answer:
        """The answer to a GET of this path and query. Raises OSError."""
        streams = await self.dial_port()
        head = f"GET {target} HTTP/1.1\r\nHost: {self.host}\r\n{headers}Connection: close\r\n\r\n"
        return await ask(streams, head.encode("latin-1"), seconds=ANSWER_SECONDS)

    async def _session(
        self, action: str, pod: Pod, container: str, options: ExecOptions
    ) -> "RemoteSession":
        path = write_path(_place(action, pod, container))
        return RemoteSession(await self._open(f"{path}?{write_exec_query(options)}"), self.node)

    async def _open(self, target: str) -> Any:
        """An open WebSocket. Raises ApiError, StreamFailed."""
        from websockets.asyncio.client import ClientConnection
        from websockets.client import ClientProtocol
        from websockets.exceptions import InvalidStatus, WebSocketException
        from websockets.typing import Subprotocol
        from websockets.uri import parse_uri

        protocol = ClientProtocol(
            parse_uri(f"wss://{self.host}{target}"),
            subprotocols=[Subprotocol(V5.name)],
            max_size=MESSAGE_BYTES_MAX,
        )

        def make() -> ClientConnection:
            # A peer whose client does not read does not answer pings: TCP detects a dead one.
            return ClientConnection(protocol, ping_interval=None, max_queue=MESSAGES_MAX)

        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                _, connection = await asyncio.get_running_loop().create_connection(
                    make, self._address, self._port, ssl=self._tls, server_hostname=self._address
                )
                try:
                    await connection.handshake()
                    if protocol.handshake_exc is not None:
                        raise protocol.handshake_exc
                except BaseException:
                    connection.transport.abort()
                    raise
        except InvalidStatus as error:
            body = bytes(error.response.body or b"")[:REFUSAL_BYTES_MAX]
            raise self._refusal(error.response.status_code, body) from None
        except TimeoutError:
            raise StreamFailed(self._words(f"no answer within {ANSWER_SECONDS:.0f} s")) from None
        except (OSError, WebSocketException, EOFError) as error:
            raise self._unreachable(error) from None
        return connection

    # --- failures

    def _words(self, why: str) -> str:
        return (
            f"error dialing backend: the kubelet of node {self.node} at "
            f"{self._address}:{self._port}: {why}"
        )

    def _unreachable(self, error: Exception) -> StreamFailed:
        if isinstance(error, ssl.SSLCertVerificationError):
            return StreamFailed(
                self._words(f"its certificate is not valid: {error.verify_message}")
            )
        return StreamFailed(self._words(getattr(error, "strerror", None) or str(error)))

    def _refusal(self, code: int, body: bytes) -> Exception:
        """The failure that the kubelet has answered with. Its 401 and 403 concern this server, not
        the client."""
        try:
            refused = msgspec.json.decode(body, type=Status)
        except (msgspec.DecodeError, ValueError):
            refused = Status()
        if code in (401, 403) or not refused.message or code < 400:
            words = refused.message or body.decode("utf-8", "replace").strip()[:200]
            return StreamFailed(self._words(f"it answers {code}: {words}"))
        if refused.details is not None and refused.details.kind == CONTAINER:
            return ContainerNotFound(refused.message)
        if code >= 500:
            return StreamFailed(refused.message.removeprefix("Internal error occurred: "))
        return ApiError(refused)


def _place(action: str, pod: Pod, container: str) -> PodPath:
    metadata = pod.metadata
    return PodPath(
        action, metadata.namespace or "", metadata.name or "", metadata.uid or "", container
    )


class RemoteSession:
    """A command in a container of another process (the port `Session`)."""

    def __init__(self, connection: Any, node: str) -> None:
        self._connection = connection
        self._node = node
        self._end: Status | None = None
        self._ending: asyncio.Task[None] | None = None

    async def output(self) -> AsyncIterator[tuple[int, bytes]]:
        """The messages of stdout and stderr until the last Status. Raises StreamFailed if it is a
        failure of the stream."""
        async for channel, data in _messages(self._connection):
            if channel in (STDOUT, STDERR):
                if data:
                    yield channel, data
            elif channel == ERROR and data:
                self._end = codec.decode_answer(Status, data)
        if self._end is None:
            raise StreamFailed(f"the kubelet of node {self._node} has ended the connection")
        if self._end.status != "Success" and self._end.reason != "NonZeroExitCode":
            words = self._end.message or "the stream has failed"
            raise StreamFailed(words.removeprefix("Internal error occurred: "))

    async def write(self, data: bytes) -> None:
        """Send a message for stdin; waits while the kubelet does not read."""
        await _send(self._connection, bytes([STDIN]) + data)

    def end_input(self) -> None:
        """Send the end of stdin."""
        self._ending = asyncio.ensure_future(_send(self._connection, bytes([CLOSE, STDIN])))

    async def resize(self, columns: int, rows: int) -> None:
        """Send the size."""
        size = msgspec.json.encode({"Width": columns, "Height": rows})
        await _send(self._connection, bytes([RESIZE]) + size)

    async def exit_code(self) -> int:
        """The code in the last Status."""
        details = self._end.details if self._end is not None else None
        for cause in (details.causes if details is not None else None) or ():
            if cause.reason == "ExitCode" and (cause.message or "").isdecimal():
                return int(cause.message or "0")
        return 0

    def close(self) -> None:
        """End the connection: the kubelet ends the command's stream."""
        if self._ending is not None:
            self._ending.cancel()
        self._connection.transport.abort()


_bridging: set["asyncio.Task[None]"] = set()


async def _as_streams(
    connection: Any,
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """The data of a forwarded connection as a stream, which TLS can be put on. Its buffers are
    those of a pair of sockets."""
    ours, theirs = socket.socketpair()
    near = await asyncio.open_connection(sock=ours)
    reader, writer = await asyncio.open_connection(sock=theirs)
    task = asyncio.ensure_future(_bridge(connection, reader, writer, near[1]))
    _bridging.add(task)
    task.add_done_callback(_bridging.discard)
    return near


async def _bridge(
    connection: Any,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    near: asyncio.StreamWriter,
) -> None:
    """Copy until the pod ends its output or the near end is closed."""

    async def outward() -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK_BYTES):
                await _send(connection, bytes([0]) + data)
            await _send(connection, bytes([CLOSE, 0]))

    async def inward() -> None:
        async for channel, data in _messages(connection):
            if channel == 0:
                writer.write(data)
                await writer.drain()

    async def closed() -> None:
        with contextlib.suppress(OSError):
            await near.wait_closed()

    tasks = [asyncio.ensure_future(each()) for each in (outward, inward, closed)]
    try:
        # the end of what the client sends is not the end of the connection
        await asyncio.wait(tasks[1:], return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        writer.close()
        connection.transport.abort()


async def _first_of_forward(connection: Any) -> str | None:
    """Wait until the kubelet has connected: None, or why it has not."""
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            async for channel, data in _messages(connection):
                if channel == 1 and data:
                    return data.decode("utf-8", "replace").rpartition(": ")[2]
                if channel == 0 and not data:
                    return None
    except TimeoutError:
        return "no answer of the kubelet"
    return "the kubelet has ended the connection"


async def _messages(connection: Any) -> AsyncIterator[tuple[int, bytes]]:
    """(channel, data) of each message until the end of the connection."""
    from websockets.exceptions import ConnectionClosed

    with contextlib.suppress(ConnectionClosed):
        while True:
            message = await connection.recv(decode=False)
            if message:
                yield message[0], bytes(message[1:])


async def _send(connection: Any, message: bytes) -> None:
    """Send a message; BrokenPipeError after the end of the connection."""
    from websockets.exceptions import ConnectionClosed

    try:
        await connection.send(message)
    except ConnectionClosed:
        raise BrokenPipeError("the kubelet has ended the connection") from None
