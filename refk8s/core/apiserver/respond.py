"""Encodes answers: each object is encoded once, and its text is kept beside it. Rules API-21,
API-24 (spec/api.md), HTTP-17 (spec/http.md), WATCHAPI-8 (spec/watch_api.md).

The text of an object is kept in its store record (`Record.wire`). A get returns it. A list joins
the texts of its items, without kind and apiVersion, which follow from the list. A watch writes it
into a line. So an object is encoded once for all clients.

Source: Kubernetes documentation, "Kubernetes API Concepts" (Resource representations).
"""

import re
import zlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import msgspec
from msgspec.structs import replace

from refk8s.core.api import status
from refk8s.core.api.codec import encode
from refk8s.core.api.custom import CustomObject
from refk8s.core.api.meta_v1 import (
    ListMeta,
    PartialObjectMetadata,
    PartialObjectMetadataList,
    Status,
)
from refk8s.core.api.request import Response, WatchEvent
from refk8s.core.api.resources import Resource
from refk8s.core.api.status import ApiError
from refk8s.core.apiserver.accept import (
    PARTIAL,
    PARTIAL_LIST,
    PLAIN_JSON,
    PROTOBUF,
    TABLE,
    WATCH,
    WHOLE,
    YAML,
    Form,
)
from refk8s.core.apiserver.table import to_table
from refk8s.core.context import Instant
from refk8s.core.store import Record
from refk8s.core.value import Value, evolve


class Reply(Value, frozen=True):
    """An HTTP answer without its framing: a status code, the media type, the bytes, and texts for
    Warning headers. A long body is `content` followed by each of `more`: pieces that are sent one
    after another and need not be joined."""

    code: int
    content: bytes
    media_type: str = "application/json"
    warnings: tuple[str, ...] = ()
    more: tuple[bytes, ...] = ()
    encoding: str = ""  # "gzip" if the bytes are compressed
    cache: str = "no-cache, private"
    vary: str = ""  # the request header that the form depends on
    etag: str = ""  # the hash by which a client recognises the document
    location: str = ""  # where the document is, with code 301

    @property
    def length(self) -> int:
        """The length of the whole body in bytes."""
        return len(self.content) + sum(map(len, self.more)) if self.more else len(self.content)

    def whole(self) -> "Reply":
        """The same with its body in one piece."""
        return evolve(self, content=b"".join((self.content, *self.more)), more=())

    def headers(self) -> list[tuple[bytes, bytes]]:
        """The headers, with names in lower case, as servers require."""
        found = [
            (b"content-type", self.media_type.encode()),
            (b"cache-control", self.cache.encode()),
        ]
        if self.encoding:
            found += [(b"content-encoding", self.encoding.encode()), (b"vary", b"accept-encoding")]
        if self.vary:
            found.append((b"vary", self.vary.encode()))
        if self.etag:
            found.append((b"etag", f'"{self.etag}"'.encode()))
        if self.location:
            found.append((b"location", self.location.encode()))
        if self.warnings:
            found += warning_headers(self.warnings)
        if self.code in (429, 504):
            found.append((b"retry-after", b"1"))
        return found


_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
WARNINGS_CHARACTERS_MAX = 4_096
WARNING_CHARACTERS_MAX = 256  # the length of each, if all together are longer than that


def shown_warnings(texts: Sequence[str]) -> list[str]:
    """The warnings that become headers: each once, none with control characters, cut if they are
    too long (HTTP-13)."""
    found = [text for text in dict.fromkeys(texts) if text and not _CONTROL.search(text)]
    if sum(map(len, found)) <= WARNINGS_CHARACTERS_MAX:
        return found
    shown: list[str] = []
    length = 0
    for text in found:
        if length >= WARNINGS_CHARACTERS_MAX:
            break
        shown.append(text[:WARNING_CHARACTERS_MAX])
        length += len(shown[-1])
    return shown


def warning_headers(texts: Sequence[str]) -> list[tuple[bytes, bytes]]:
    """The headers of these warnings."""
    return [(b"warning", b"299 - " + _quoted(text)) for text in shown_warnings(texts)]


def _quoted(text: str) -> bytes:
    return b'"' + text.replace("\\", "\\\\").replace('"', '\\"').encode("utf-8", "replace") + b'"'


GZIP_BYTES_MIN = 128 << 10
_GZIP_LEVEL = 1


def accepts_gzip(headers: Mapping[str, str]) -> bool:
    """Whether the client accepts compressed answers."""
    for part in headers.get("accept-encoding", "").split(","):
        name, _, parameters = part.partition(";")
        if name.strip().lower() == "gzip" and parameters.replace(" ", "") not in (
            "q=0",
            "q=0.0",
            "q=0.00",
            "q=0.000",
        ):
            return True
    return False


def is_to_be_compressed(reply: Reply, headers: Mapping[str, str]) -> bool:
    """Whether a client with these headers gets this reply with gzip (HTTP-16)."""
    if not reply.more and len(reply.content) < GZIP_BYTES_MIN:
        return False  # most replies
    return (
        reply.length >= GZIP_BYTES_MIN
        and not reply.encoding
        and reply.code == 200
        and accepts_gzip(headers)
    )


def gzipped(reply: Reply) -> Reply:
    """The reply with a compressed body (HTTP-16). O(bytes), about 10 ms for a megabyte, so it must
    not run in an event loop."""
    return evolve(reply, content=compressed((reply.content, *reply.more)), more=(), encoding="gzip")


def compressed(pieces: Sequence[bytes]) -> bytes:
    """The pieces as one gzip member. Concatenated members are decompressed to their concatenated
    contents."""
    packer = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, 31)
    return b"".join([*map(packer.compress, pieces), packer.flush()])


def wire_of(record: Record[Any]) -> bytes:
    """The JSON of a record's object, encoded at the first use and kept (API-24)."""
    wire = record.wire
    if wire is None:
        wire = record.wire = encode(record.value)
    return wire


def respond(
    response: Response,
    form: Form,
    resource: Resource,
    now: Instant,
    *,
    include_object: str = "",
    pretty: bool = False,
) -> Reply:
    """The reply with this response in this form. Never raises: if the form is not available, the
    reply is a 406."""
    body = response.body
    more: tuple[bytes, ...] = ()
    if form.of_errors != form.media_type and response.code >= 400:
        form = Form(form.of_errors, of_errors=form.of_errors)
    if form.media_type == PROTOBUF and not isinstance(body, str):
        # imported here, because few clients request protobuf
        from refk8s.core.apiserver.respond_protobuf import respond_protobuf

        return respond_protobuf(response, form, resource, now)
    if form.shown == WHOLE or isinstance(body, Status):
        records = response.records
        if not records and not isinstance(body, str):
            content = encode(body) + b"\n"
        elif isinstance(body, str):
            return Reply(response.code, body.encode(), "text/plain; charset=utf-8")
        elif records[0].value is body:
            content = wire_of(records[0]) + b"\n"
        else:
            content, *pieces = _list(body, records)
            more = tuple(pieces)
    else:
        try:
            content = encode(shown(body, form, resource, now, include_object)) + b"\n"
        except ApiError as error:
            return respond(Response(error.status.code or 406, error.status), form, resource, now)
    reply = Reply(response.code, content, warnings=response.warnings, more=more)
    if form.media_type == YAML:
        # imported here: its patterns take 20 ms to compile, and few clients request YAML
        from refk8s.core.api.yaml_text import write_yaml

        return Reply(
            reply.code, write_yaml(msgspec.json.decode(reply.whole().content)), YAML, reply.warnings
        )
    if pretty:
        return Reply(
            reply.code,
            msgspec.json.format(reply.whole().content.rstrip(), indent=2) + b"\n",
            warnings=reply.warnings,
        )
    return reply


# --- lists


@lru_cache(maxsize=1024)
def _head_of(kind: str, api_version: str) -> bytes:
    """The beginning of the text of every object of this kind."""
    return b'{"kind":' + encode(kind) + b',"apiVersion":' + encode(api_version) + b","


ITEMS_A_PIECE = 64


def _list(body: Any, records: Sequence[Record[Any]]) -> list[bytes]:
    """The text of a list, in pieces, from the texts of its items; each without its kind and
    apiVersion (LIST-11).

    It is in pieces, and uses views instead of slices, because allocating a large block of memory
    costs more than copying into it: a list of 500 pods takes a tenth of the time. O(bytes).
    """
    first = records[0].value
    head = _head_of(first.kind, first.api_version)
    # all are of one kind, so all texts begin in the same way
    cut = len(head) if wire_of(records[0]).startswith(head) else 1
    if type(first) is CustomObject:
        cut = 1  # as upstream, items of a custom kind have theirs
    pieces = [
        _head_of(body.kind, body.api_version)
        + b'"metadata":'
        + encode(body.metadata)
        + b',"items":[{'
    ]
    for start in range(0, len(records), ITEMS_A_PIECE):
        items: list[bytes | memoryview] = [
            memoryview(record.wire or wire_of(record))[cut:]
            for record in records[start : start + ITEMS_A_PIECE]
        ]
        if start:
            items.insert(0, b"")  # a comma separates this piece from the one before
        pieces.append(b",{".join(items))
    pieces.append(b"]}\n")
    return pieces


# --- other forms


def shown(body: Any, form: Form, resource: Resource, now: Instant, include_object: str = "") -> Any:
    """The part of an answer that a form shows. Raises ApiError 406 if the answer has no such
    part."""
    return _versioned(_shown(body, form, resource, now, include_object), form)


def _shown(body: Any, form: Form, resource: Resource, now: Instant, include_object: str) -> Any:
    items = getattr(body, "items", None) if body.kind.endswith("List") else None
    if form.shown == TABLE:
        if items is not None:
            return to_table(
                resource, items, now, include_object=include_object, list_metadata=body.metadata
            )
        return to_table(resource, (body,), now, include_object=include_object)
    if form.shown == PARTIAL:
        if items is not None:
            words = (
                "you requested PartialObjectMetadata, but the requested object is a list "
                f"(*{_go_type(body, resource)})"
            )
            raise ApiError(status.not_acceptable(words))
        return partial(body)
    if items is None:
        words = (
            "you requested PartialObjectMetadataList, "
            f"but the requested object is not a list (*{_go_type(body, resource)})"
        )
        raise ApiError(status.not_acceptable(words))
    return PartialObjectMetadataList(
        metadata=body.metadata, items=tuple([partial(item) for item in items])
    )


def _versioned(shown: Any, form: Form) -> Any:
    """A Table or metadata in the requested version of meta.k8s.io; v1beta1 differs only in its name
    (API-21)."""
    if form.version == "v1":
        return shown
    version = f"meta.k8s.io/{form.version}"
    if isinstance(shown, dict):
        return {**shown, "apiVersion": version}
    if isinstance(shown, PartialObjectMetadataList):
        return replace(
            shown,
            api_version=version,
            items=tuple([replace(item, api_version=version) for item in shown.items]),
        )
    return replace(shown, api_version=version)


def _go_type(body: Any, resource: Resource) -> str:
    return f"{resource.group.partition('.')[0] or 'core'}.{body.kind}"


def partial(obj: Any) -> PartialObjectMetadata:
    """Only the metadata of an object."""
    return PartialObjectMetadata(metadata=obj.metadata)


# --- watches


def write_events(
    events: Sequence[WatchEvent],
    form: Form,
    resource: Resource,
    now: Instant,
    *,
    include_object: str = "",
    columns: bool = False,
) -> bytes:
    """The events as lines. `columns`: these are the first events; the first event of a table has
    the columns (TABLE-5)."""
    if form.media_type == PROTOBUF:
        from refk8s.core.apiserver.respond_protobuf import write_protobuf_events

        return write_protobuf_events(events, form, resource, now)
    if form.shown == WHOLE:
        return b"".join([_line(event, resource) for event in events])
    lines: list[bytes] = []
    for event in events:
        part = shown_event(event, form, resource, now, include_object, columns and not lines)
        lines.append(encode({"type": event.type, "object": part}) + b"\n")
    return b"".join(lines)


def _line(event: WatchEvent, resource: Resource) -> bytes:
    if event.record is not None:
        text = wire_of(event.record)
    else:
        text = encode(event.object if event.object is not None else bookmark_of(event, resource))
    return b'{"type":"' + event.type.encode() + b'","object":' + text + b"}\n"


def bookmark_of(event: WatchEvent, resource: Resource) -> dict[str, Any]:
    """The object of a bookmark that has only its revision."""
    metadata = {"resourceVersion": str(event.revision), "creationTimestamp": None}
    return {"kind": resource.kind, "apiVersion": resource.api_version, "metadata": metadata}


def shown_event(
    event: WatchEvent,
    form: Form,
    resource: Resource,
    now: Instant,
    include_object: str = "",
    columns: bool = False,
) -> Any:
    """The part of the object of an event that a form shows."""
    return _versioned(_shown_event(event, form, resource, now, include_object, columns), form)


def _shown_event(
    event: WatchEvent,
    form: Form,
    resource: Resource,
    now: Instant,
    include_object: str,
    columns: bool,
) -> Any:
    if event.type == "BOOKMARK":
        tree = event.object or bookmark_of(event, resource)
        kind = "Table" if form.shown == TABLE else "PartialObjectMetadata"
        rows: dict[str, Any] = (
            {"columnDefinitions": None, "rows": []} if form.shown == TABLE else {}
        )
        return {**tree, "kind": kind, "apiVersion": "meta.k8s.io/v1", **rows}
    if form.shown == TABLE:
        return to_table(
            resource, (event.object,), now, include_object=include_object, columns=columns
        )
    return partial(event.object)


def write_error(failure: Status, form: Form = PLAIN_JSON) -> bytes:
    """The ERROR event that ends a watch (WATCHAPI-3)."""
    if form.media_type == PROTOBUF:
        from refk8s.core.apiserver.respond_protobuf import write_protobuf_error

        return write_protobuf_error(failure)
    return b'{"type":"ERROR","object":' + encode(failure) + b"}\n"


def stream_type(form: Form) -> str:
    """The media type of a watch."""
    return PROTOBUF + WATCH if form.media_type == PROTOBUF else "application/json"


def no_watch_form() -> ApiError:
    """406 for a client that accepts no form of a watch."""
    listed = f"application/json{WATCH}, {PROTOBUF}{WATCH}"
    words = f"only the following media types are accepted: {listed}"
    return ApiError(status.not_acceptable(words))


def check_watch_form(form: Form) -> None:
    """Raise ApiError 406 for a form that a watch does not have: it sends single objects, and not as
    YAML."""
    if form.media_type == YAML:
        raise no_watch_form()
    if form.shown == PARTIAL_LIST:
        raise ApiError(
            status.not_acceptable(
                "you requested PartialObjectMetadataList, but a watch sends single objects"
            )
        )


__all__ = [
    "ListMeta",
    "Reply",
    "check_watch_form",
    "is_to_be_compressed",
    "no_watch_form",
    "partial",
    "respond",
    "stream_type",
    "wire_of",
    "write_error",
    "write_events",
]
