"""Port forwarding: pairs the streams of each connection, and reads their ports. Rules RT-15,
STREAM-6.

| protocol | carried by | a connection is |
|---|---|---|
| `portforward.k8s.io` | SPDY/3.1 over the upgraded connection | two streams with one request id, one of them for errors |
| `SPDY/3.1+portforward.k8s.io` | the same frames in the messages of a WebSocket | the same |
| `v4.channel.k8s.io`, `v4.base64.channel.k8s.io` | a WebSocket, whose address names the ports | channels 2n and 2n+1 for the n-th port |

The streams of SPDY have the headers `streamtype`, `port` and `requestid`. The first message of a
channel is its port in two bytes. Source: Kubernetes API reference, "connect GET requests to
portforward of Pod"; KEP-4006 "Transition from SPDY to WebSockets".
"""

import re
from collections.abc import Iterable, Mapping

from refk8s.core.api import status
from refk8s.core.api.status import ApiError
from refk8s.core.apiserver.pod_exec import Version
from refk8s.core.value import Value

SPDY = "portforward.k8s.io"
TUNNEL = "SPDY/3.1+portforward.k8s.io"
CHANNELS = {
    version.name: version
    for version in (
        Version("v4.channel.k8s.io"),
        Version("v4.base64.channel.k8s.io", is_text=True),
        Version(""),
    )
}
"""The versions with a pair of channels for each port. The one without a name is for clients that
offer none."""
WEBSOCKET = (TUNNEL, *CHANNELS)
CONNECTIONS_MAX = 256
"""The most connections of one client at a time."""
PORTS_MAX = 32
"""The most ports in one URL: in base64 a channel is one character."""
_PORT = re.compile(r"[0-9]{1,5}")


def compute_ports(parameters: Iterable[tuple[str, str]]) -> tuple[int, ...]:
    """The ports in the query. Raises ApiError 400 if there is none, or an invalid one."""
    texts = [
        text.strip() for name, value in parameters if name == "ports" for text in value.split(",")
    ]
    if not texts:
        raise ApiError(status.bad_request('query parameter "ports" is required'))
    for text in texts:
        if read_port(text) is None:
            raise ApiError(status.bad_request(f"invalid port {status.show(text)}"))
    if len(texts) > PORTS_MAX:
        raise ApiError(
            status.bad_request(f"at most {PORTS_MAX} ports can be forwarded over one connection")
        )
    return tuple([int(text) for text in texts])


def read_port(text: str) -> int | None:
    """A port number; None for any other text."""
    return int(text) if _PORT.fullmatch(text) and 0 < int(text) < 1 << 16 else None


class Forward(Value, frozen=True):
    """One connection: its two streams, and the port."""

    error: int
    data: int
    port: int


class Half(Value, frozen=True):
    """The first of the two streams of a connection."""

    kind: str
    stream: int
    port: int


class Pairs:
    """The streams whose partner has not been opened yet."""

    def __init__(self) -> None:
        self._halves: dict[str, Half] = {}

    def opened(self, stream: int, headers: Mapping[str, str]) -> Forward | Half | None:
        """The connection that this stream completes; else the `Half` that it is; None if it belongs
        to no connection."""
        kind, id = headers.get("streamtype", ""), headers.get("requestid", "")
        port = read_port(headers.get("port", ""))
        if kind not in ("error", "data") or port is None:
            return None
        half = Half(kind, stream, port)
        other = self._halves.pop(id, None)
        if other is None or other.kind == kind or other.port != half.port:
            if len(self._halves) >= CONNECTIONS_MAX:
                return None
            self._halves[id] = half
            return half
        streams = {kind: stream, other.kind: other.stream}
        return Forward(streams["error"], streams["data"], half.port)


def compute_refusal(port: int, pod: str, words: str) -> bytes:
    """The message on the error stream if the port accepts no connection."""
    return f"error forwarding port {port} to pod {pod}: {words}".encode()
