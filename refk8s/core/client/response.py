"""The answer of an API server as a component gets it. Rules CLIENT-2, CLIENT-3 (spec/client.md).

Source: Kubernetes documentation, "Kubernetes API Concepts" (Resource representations).
"""

from functools import cache
from typing import Any

import msgspec
from msgspec.structs import replace

from refk8s.core.api import resources, status
from refk8s.core.api.codec import (
    DecodeError,
    MalformedJson,
    custom_object,
    decode_answer,
    decode_tolerant,
    parse,
)
from refk8s.core.api.custom import CustomList
from refk8s.core.api.managed_fields import with_shared_entries
from refk8s.core.api.meta_v1 import ListMeta, Status
from refk8s.core.api.request import Request, Response
from refk8s.core.client.kept_objects import decode_object

MESSAGE_BYTES_MAX = 300
"""How much of an answer that is no Status its message shows."""


class Unreadable(ValueError):
    """The body of an answer that says that the request succeeded cannot be read."""


class _Head(msgspec.Struct, rename="camel"):
    """What says of which type a body is."""

    kind: str = ""
    api_version: str = ""


_read_head = msgspec.json.Decoder(_Head).decode


def to_response(request: Request, code: int, body: bytes) -> Response | None:
    """The response; None if the server does not know whether the request took effect (CLIENT-3).

    Raises Unreadable. O(length of the body).
    """
    if code < 300:
        return Response(code, _object(request, body))
    said = _status(code, body)
    if code in (502, 504) or (code == 500 and not said.reason):
        return None
    return Response(code, said)


def _object(request: Request, body: bytes) -> Any:
    try:
        if request.resource.is_custom:
            return _custom_object(request, body)
        if request.verb == "list":
            found: Any = decode_answer(request.resource.list_type, body)
            return replace(found, items=tuple([with_shared_entries(one) for one in found.items]))
        if body.startswith(_start_of(request.resource.kind, request.resource.api_version)):
            return decode_object(request.resource.type, body)
        head = _read_head(body)
        type_ = resources.type_of_kind(head.api_version, head.kind)
        if head.kind == "Status":
            type_ = Status
        if type_ is None:
            raise Unreadable(f"{head.api_version} {head.kind} is not known")
        return with_shared_entries(decode_answer(type_, body))
    except (DecodeError, MalformedJson, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Unreadable(str(error)) from None


@cache
def _start_of(kind: str, api_version: str) -> bytes:
    """How most answers begin: those with an object of the requested resource."""
    return f'{{"kind":"{kind}","apiVersion":"{api_version}",'.encode()


def _custom_object(request: Request, body: bytes) -> Any:
    """A custom object, a list of them, a Scale or a Status."""
    tree = parse(body)
    if not isinstance(tree, dict):
        raise Unreadable("it is not an object")
    if request.verb in ("list", "deletecollection") and isinstance(tree.get("items"), list):
        metadata = decode_tolerant(ListMeta, tree.get("metadata") or {})[0]
        return CustomList(
            kind=str(tree.get("kind")),
            api_version=str(tree.get("apiVersion")),
            metadata=metadata,
            items=tuple([custom_object(item) for item in tree["items"]]),
        )
    if tree.get("kind") == "Status":
        return decode_answer(Status, body)
    if tree.get("kind") == "Scale":
        return decode_answer(resources.load("autoscaling_v1", "Scale"), body)
    return custom_object(tree)


def _status(code: int, body: bytes) -> Status:
    """The Status of a refusal. One whose code differs from that of the answer gets the latter."""
    try:
        if _read_head(body).kind == "Status":
            said = decode_answer(Status, body)
            return said if said.code == code else msgspec.structs.replace(said, code=code)
    except (DecodeError, msgspec.DecodeError, UnicodeDecodeError):
        pass
    text = body[:MESSAGE_BYTES_MAX].decode("utf-8", "replace")
    if code == 500:
        return status.unexplained(text)
    return Status(
        metadata=ListMeta(),
        status="Failure",
        reason=_REASONS.get(code),
        message=f"the server answered {code}: {text}",
        code=code,
    )


_REASONS = {
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    409: "Conflict",
    410: "Gone",
    413: "RequestEntityTooLarge",
    429: "TooManyRequests",
    503: "ServiceUnavailable",
}
