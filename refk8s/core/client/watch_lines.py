"""The stream of a watch to its events. Rules CLIENT-5, CLIENT-7 (spec/client.md).

Source: Kubernetes documentation, "Kubernetes API Concepts", "Efficient detection of changes".
"""

from typing import Any, Final

import msgspec

from refk8s.core.api.codec import DecodeError, custom_object, parse
from refk8s.core.api.custom import CustomObject
from refk8s.core.api.managed_fields import with_shared_entries
from refk8s.core.api.request import WatchEvent
from refk8s.core.api.resources import Resource
from refk8s.core.client.kept_objects import decode_object

LINE_BYTES_MAX: Final = 16 << 20
"""Of one event. An object has at most 3 MiB, which escapes make longer."""


class WatchOver(Exception):
    """The watch has ended with this code; `words` are for the log if it is the server's mistake."""

    def __init__(self, code: int, words: str = "") -> None:
        super().__init__(words)
        self.code = code
        self.words = words


class _Line(msgspec.Struct):
    type: str
    object: msgspec.Raw


class _Metadata(msgspec.Struct, rename="camel"):
    resource_version: str = ""


class _Bookmark(msgspec.Struct):
    metadata: _Metadata


class _Error(msgspec.Struct):
    code: int = 0


_read_line = msgspec.json.Decoder(_Line).decode
_read_bookmark = msgspec.json.Decoder(_Bookmark).decode
_read_error = msgspec.json.Decoder(_Error).decode


class WatchLines:
    """Reads one stream. The bytes of an incomplete line are kept."""

    def __init__(self, resource: Resource, line_bytes_max: int = LINE_BYTES_MAX) -> None:
        self._type: type[Any] = resource.type
        self._line_bytes_max = line_bytes_max
        self._rest: list[bytes] = []
        self._length = 0

    def feed(self, data: bytes) -> tuple[tuple[WatchEvent, ...], WatchOver | None]:
        """The events that these bytes complete, and the end of the watch if it is over."""
        lines = data.split(b"\n")
        lines[0] = b"".join([*self._rest, lines[0]]) if len(lines) > 1 else lines[0]
        if len(lines) > 1:
            self._rest, self._length = [], 0
        rest = lines.pop()
        events: list[WatchEvent] = []
        try:
            for line in lines:
                if line.strip():
                    events.append(self._event(line))
            if rest:
                self._rest.append(rest)
                self._length += len(rest)
            if self._length > self._line_bytes_max:
                raise WatchOver(0, f"an event has more than {self._line_bytes_max} bytes")
        except WatchOver as over:
            return tuple(events), over
        return tuple(events), None

    def _event(self, text: bytes) -> WatchEvent:
        try:
            line = _read_line(text)
            if line.type == "BOOKMARK":
                revision = int(_read_bookmark(line.object).metadata.resource_version)
                return WatchEvent("BOOKMARK", None, revision)
            if line.type == "ERROR":
                raise WatchOver(_read_error(line.object).code)
            if line.type not in ("ADDED", "MODIFIED", "DELETED"):
                raise WatchOver(0, f"an event has the type {line.type[:100]!r}")
            text_of_object = bytes(line.object)
            obj: Any = (
                with_shared_entries(custom_object(parse(text_of_object)))
                if self._type is CustomObject
                else decode_object(self._type, text_of_object)
            )
            return WatchEvent(line.type, obj, int(obj.metadata.resource_version))
        except (
            DecodeError,
            msgspec.DecodeError,
            UnicodeDecodeError,
            ValueError,
            TypeError,
        ) as error:
            raise WatchOver(0, f"an event cannot be read: {str(error)[:300]}") from None
