"""Reads the body of a request. Rules HTTP-1, HTTP-4 (spec/http.md)."""

from collections.abc import Mapping

from refk8s.components.asgi import Receive
from refk8s.core.api import status
from refk8s.core.api.status import ApiError
from refk8s.core.apiserver.decode import BODY_BYTES_MAX


class Disconnected(Exception):
    """The client has disconnected before its request was complete; the request is not executed
    (HTTP-1)."""


async def read_body(receive_part: Receive, headers: Mapping[str, str]) -> bytes:
    """The whole body. Raises Disconnected if the client disconnects before its end, and ApiError
    413 as soon as it is known to be too large."""
    too_large = ApiError(status.too_large(f"limit is {BODY_BYTES_MAX}"))
    announced = headers.get("content-length", "")
    if len(announced) > 15 or (announced.isdigit() and int(announced) > BODY_BYTES_MAX):
        raise too_large
    parts, length, more = [], 0, True
    while more:
        message = await receive_part()
        if message["type"] != "http.request":
            raise Disconnected
        part = message.get("body", b"")
        length += len(part)
        if length > BODY_BYTES_MAX:
            raise too_large
        parts.append(part)
        more = message.get("more_body", False)
    return parts[0] if len(parts) == 1 else b"".join(parts)
