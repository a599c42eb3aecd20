"""Sends a log to a client: as the body of a response, or as WebSocket messages. Rule STREAM-5.

Source: Kubernetes API reference, "read log of the specified Pod"; ours.
"""

import base64
from collections.abc import Awaitable, Callable, Sequence

from refk8s.components.asgi import Receive, Send
from refk8s.core.apiserver.pod_exec import choose_protocol

SendPiece = Callable[[bytes], Awaitable[None]]
"""Sends one piece of the log; the first call starts the response, and its piece may be empty."""
Finish = Callable[[], Awaitable[None]]

HEADERS = [(b"content-type", b"text/plain"), (b"cache-control", b"no-cache, private")]
WEBSOCKET = ("binary.k8s.io", "base64.binary.k8s.io", "")


def http_log(send: Send) -> tuple[SendPiece, Finish]:
    """Send the log as the body of a response."""
    begun = False

    async def send_piece(data: bytes) -> None:
        nonlocal begun
        if not begun:
            begun = True
            await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
        await send({"type": "http.response.body", "body": data, "more_body": True})

    async def finish() -> None:
        await send({"type": "http.response.body", "body": b""})

    return send_piece, finish


def websocket_log(offered: Sequence[str], receive: Receive, send: Send) -> tuple[SendPiece, Finish]:
    """Send the log as WebSocket messages; the first is empty and signals the open stream.

    Raises ApiError 403 for an unknown protocol.
    """
    protocol = choose_protocol(offered, WEBSOCKET)
    begun = False

    async def send_piece(data: bytes) -> None:
        nonlocal begun
        if not begun:
            begun = True
            await receive()  # The request to connect.
            await send({"type": "websocket.accept", "subprotocol": protocol or None})
        if protocol.startswith("base64."):
            await send({"type": "websocket.send", "text": base64.b64encode(data).decode()})
        else:
            await send({"type": "websocket.send", "bytes": data})

    async def finish() -> None:
        await send({"type": "websocket.close", "code": 1000})

    return send_piece, finish
