"""WebSockets: a WebSocket request is authenticated and handled as every other request.

If it is rejected, the answer is an HTTP response. The library is imported with the first WebSocket
request, since most runs have none.
"""

import base64
import logging
import re
from typing import Any

from refk8s.components.asgi import Send
from refk8s.core.api import status
from refk8s.core.api.status import ApiError

_SILENT = logging.getLogger("refk8s.websocket")
_SILENT.setLevel(logging.CRITICAL)

# The library rejects the names of Kubernetes' protocols because of their slash, so it does not get
# the header.
OFFERED = b"x-offered-protocol"
_OFFER = re.compile(rb"(\r\n)sec-websocket-protocol:", re.IGNORECASE)

_NAMES = (b"sec-websocket-protocol", OFFERED)
_BEARER = "base64url.bearer.authorization.k8s.io."

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


def take_token(scope: dict[str, Any]) -> str | None:
    """Remove the bearer token from the subprotocols that the client offers, and return it; None if
    there is none (HTTP-27).

    Raises ApiError 401 for two tokens, for one that is malformed, and if no other protocol is
    offered, which the server could accept.
    """
    kept, tokens, others = [], [], 0
    for name, value in scope["headers"]:
        if name not in _NAMES:
            kept.append((name, value))
            continue
        offered = [protocol.strip() for protocol in value.decode("latin-1").split(",")]
        rest = [protocol for protocol in offered if not protocol.startswith(_BEARER)]
        tokens += [one.removeprefix(_BEARER) for one in offered if one.startswith(_BEARER)]
        others += len(rest)
        if rest:
            kept.append((name, ", ".join(rest).encode("latin-1")))
    if not tokens:
        return None
    scope["headers"] = kept
    if len(tokens) > 1 or not others or "=" in tokens[0]:
        raise ApiError(status.unauthorized())
    padded = tokens[0] + "=" * (-len(tokens[0]) % 4)
    try:
        token = base64.b64decode(padded, altchars=b"-_", validate=True).decode()
    except ValueError:
        raise ApiError(status.unauthorized()) from None
    if not token:
        raise ApiError(status.unauthorized())
    return token


def refusing(send: Send) -> Send:
    """A `send` that turns an HTTP response into the rejection of a WebSocket.

    It passes the messages of the WebSocket unchanged.
    """

    async def either(message: dict[str, Any]) -> None:
        await send({**message, "type": _AS_REFUSAL.get(message["type"], message["type"])})

    return either
