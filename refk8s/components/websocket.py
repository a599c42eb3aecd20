"""WebSockets beside HTTP: who asks for one is received like anybody else, and answered in HTTP
where there is to be no stream.

The library is loaded when the first client asks for one: most runs never need it.
"""

import logging
import re
from typing import Any

from refk8s.components.asgi import Send

_SILENT = logging.getLogger("refk8s.websocket")
_SILENT.setLevel(logging.CRITICAL)

# Kubernetes' protocols have names that the library takes for malformed (a slash): it is not shown
# the offer.
OFFERED = b"x-offered-protocol"
_OFFER = re.compile(rb"(\r\n)sec-websocket-protocol:", re.IGNORECASE)

_AS_REFUSAL = {
    "http.response.start": "websocket.http.response.start",
    "http.response.body": "websocket.http.response.body",
}


def websocket_protocol(**arguments: Any) -> Any:
    """uvicorn's protocol for a connection that becomes a WebSocket."""
    from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

    protocol: Any = WebSocketsSansIOProtocol(**arguments)
    take = protocol.data_received

    def take_request(data: bytes) -> None:
        protocol.data_received = take
        take(_OFFER.sub(b"\\1" + OFFERED + b":", data, count=1))

    # What comes first is the whole request, put together by the HTTP protocol before it.
    protocol.data_received = take_request
    # It takes every refusal for a mistake of ours; those we tell ourselves (http.py).
    protocol.logger = _SILENT
    return protocol


def offered_protocols(scope: dict[str, Any]) -> tuple[str, ...]:
    """The protocols that a client offers to speak over its WebSocket."""
    values = [value.decode("latin-1") for name, value in scope["headers"] if name == OFFERED]
    return tuple([protocol.strip() for value in values for protocol in value.split(",")])


def refusing(send: Send) -> Send:
    """Takes an HTTP answer as the refusal of a WebSocket, and the WebSocket's own messages as they
    are."""

    async def either(message: dict[str, Any]) -> None:
        await send({**message, "type": _AS_REFUSAL.get(message["type"], message["type"])})

    return either
