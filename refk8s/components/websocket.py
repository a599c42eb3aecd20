"""WebSockets: a WebSocket request is authenticated and handled as every other request.

If it is rejected, the answer is an HTTP response. The library is imported with the first WebSocket
request, since most runs have none.
"""

import logging
import re
from typing import Any

from refk8s.components.asgi import Send

_SILENT = logging.getLogger("refk8s.websocket")
_SILENT.setLevel(logging.CRITICAL)

# The library rejects the names of Kubernetes' protocols because of their slash, so it does not get
# the header.
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

    # The first data is the whole request, from the HTTP protocol.
    protocol.data_received = take_request
    # It logs every rejection as an error; http.py logs real errors itself.
    protocol.logger = _SILENT
    return protocol


def offered_protocols(scope: dict[str, Any]) -> tuple[str, ...]:
    """The subprotocols that a client offers for its WebSocket."""
    values = [value.decode("latin-1") for name, value in scope["headers"] if name == OFFERED]
    return tuple([protocol.strip() for value in values for protocol in value.split(",")])


def refusing(send: Send) -> Send:
    """A `send` that turns an HTTP response into the rejection of a WebSocket.

    It passes the messages of the WebSocket unchanged.
    """

    async def either(message: dict[str, Any]) -> None:
        await send({**message, "type": _AS_REFUSAL.get(message["type"], message["type"])})

    return either
