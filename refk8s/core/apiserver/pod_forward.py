"""Port forwarding: which streams belong together, and which port of the pod they are for. Rule RT-15 (spec/runtime.md).

A client opens two streams for each connection, with the same request id: one for errors and one for data. Each has headers `streamtype`,
`port` and `requestid`.
Source: Kubernetes API reference, "connect GET requests to portforward of Pod"; KEP-4006 "Transition from SPDY to WebSockets".
"""

from collections.abc import Mapping

from refk8s.core.value import Value

PROTOCOL = "SPDY/3.1+portforward.k8s.io"
CONNECTIONS_MAX = 1000
"""So many connections one client may have under way."""


class Forward(Value, frozen=True):
    """One connection: its two streams, and the port."""

    error: int
    data: int
    port: int


class Half(Value, frozen=True):
    """The first of the two streams."""

    kind: str
    stream: int
    port: int


class Pairs:
    """The streams whose partner has not come yet."""

    def __init__(self) -> None:
        self._halves: dict[str, Half] = {}

    def opened(self, stream: int, headers: Mapping[str, str]) -> Forward | Half | None:
        """The connection that this stream completes, the half that it is, or None for one that means nothing here."""
        kind, text, id = headers.get("streamtype", ""), headers.get("port", ""), headers.get("requestid", "")
        if kind not in ("error", "data") or not (text.isascii() and text.isdigit() and len(text) < 6) or not 0 < int(text) < 1 << 16:
            return None
        half = Half(kind, stream, int(text))
        other = self._halves.pop(id, None)
        if other is None or other.kind == kind or other.port != half.port:
            if len(self._halves) >= CONNECTIONS_MAX:
                return None
            self._halves[id] = half
            return half
        streams = {kind: stream, other.kind: other.stream}
        return Forward(streams["error"], streams["data"], half.port)


def compute_refusal(port: int, pod: str, words: str) -> bytes:
    """What the error stream says where the port takes no connection."""
    return f"error forwarding port {port} to pod {pod}: {words}".encode()
