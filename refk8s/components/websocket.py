"""WebSockets beside HTTP: who asks for one is received like anybody else, and answered in HTTP where there is to be no stream.

The library is loaded when the first client asks for one: most runs never need it.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import Any

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

_SILENT = logging.getLogger("refk8s.websocket")
_SILENT.setLevel(logging.CRITICAL)

_AS_REFUSAL = {
    "http.response.start": "websocket.http.response.start",
    "http.response.body": "websocket.http.response.body",
}


def websocket_protocol(**arguments: Any) -> Any:
    """uvicorn's protocol for a connection that becomes a WebSocket."""
    from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

    protocol = WebSocketsSansIOProtocol(**arguments)
    protocol.logger = _SILENT  # It takes every refusal for a mistake of ours; those we tell ourselves (http.py).
    return protocol


def refusing(send: Send) -> Send:
    """Takes an HTTP answer as the refusal of a WebSocket, and the WebSocket's own messages as they are."""

    async def either(message: dict[str, Any]) -> None:
        await send({**message, "type": _AS_REFUSAL.get(message["type"], message["type"])})

    return either
