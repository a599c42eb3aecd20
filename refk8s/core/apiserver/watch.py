"""Watches, on the server's side: which changes a watch delivers, and as which events. Rules
WATCHAPI-1 to WATCHAPI-9 (spec/watch_api.md).

A watch is a cursor into the history of the store. Its holder reads the changes after the cursor and
passes them to `events`:

| matched before | matches now | event |
|---|---|---|
| no, or did not exist | yes | ADDED, the object |
| yes | yes | MODIFIED, the object |
| yes | no, or is removed | DELETED, the last state that matched, with the revision of the change |
| no | no | none |

Source: Kubernetes documentation, "Kubernetes API Concepts", "Efficient detection of changes" and
"Watch bookmarks"; KEP-3157 "Watch-list".
"""

from collections.abc import Iterable, Sequence
from typing import Any

from refk8s.core.api import status
from refk8s.core.api.request import Response, WatchEvent
from refk8s.core.api.status import ApiError
from refk8s.core.apiserver.calls import Calls
from refk8s.core.apiserver.custom.conversion import is_by_webhook
from refk8s.core.apiserver.custom.definitions import current
from refk8s.core.apiserver.custom.versions import shown_changes
from refk8s.core.apiserver.exchange import Exchange
from refk8s.core.apiserver.lifecycle import stamp
from refk8s.core.apiserver.outcome import Reader, Stream
from refk8s.core.apiserver.read import check_reached, check_watch_options, parse_revision
from refk8s.core.apiserver.selection import select
from refk8s.core.apiserver.strategy import indexed_fields
from refk8s.core.apiserver.versions import from_stored
from refk8s.core.store import Change, Record

ADDED, MODIFIED, DELETED, BOOKMARK, ERROR = "ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR"
INITIAL_EVENTS_END = "k8s.io/initial-events-end"
TIMEOUT_SECONDS_MAX = 30 * 86_400
"""The longest timeout of a watch."""


def watch(exchange: Exchange) -> Stream | Response:
    """The start of a watch (WATCHAPI-1). A compacted revision is answered with 410, after which the
    client lists again (WATCHAPI-3)."""
    request, store, options = exchange.request, exchange.store, exchange.request.options
    if options.resource_version_match or options.send_initial_events is not None:
        check_watch_options(options)
    field_selector = options.field_selector
    if request.name:  # /watch/.../NAME
        field_selector = f"metadata.name={request.name}" + (
            f",{field_selector}" if field_selector else ""
        )
    selection = select(request.resource, request.namespace, options.label_selector, field_selector)
    revision = (
        0 if options.resource_version in ("", "0") else parse_revision(options.resource_version)
    )
    wants_initial = (
        options.send_initial_events if options.send_initial_events is not None else revision == 0
    )
    initial: tuple[Record[Any], ...] = ()
    start = revision or store.revision
    if wants_initial:
        check_reached(revision, store)
        start = store.revision
        initial = tuple(
            [
                r
                for r in store.list(selection.prefix).records
                if selection.matches is None or selection.matches(r.value)
            ]
        )
    if start < store.compacted:
        message = f"too old resource version: {start} ({store.compacted})"
        return Response(410, status.expired(message))
    return Stream(
        resource=request.resource,
        namespace=selection.namespace,
        name=selection.name,
        labels=selection.labels,
        fields=selection.fields,
        revision=min(start, store.revision),
        initial=initial,
        initial_events_end=bool(options.send_initial_events) and options.allow_watch_bookmarks,
        bookmarks=options.allow_watch_bookmarks,
        timeout_seconds=min(options.timeout_seconds, TIMEOUT_SECONDS_MAX)
        if options.timeout_seconds
        else None,
        matches=selection.matches,
        prefix=selection.prefix,
        floor=start,
    )


def prefix_of(stream: Stream) -> str:
    """The prefix of the keys of all objects that a watch may deliver."""
    return stream.prefix


def index_of(stream: Stream) -> tuple[str, str] | None:
    """The (indexed field, value) that every object of this watch has; None without one
    (WATCHAPI-9)."""
    for name in indexed_fields(stream.resource.prefix):
        if (value := stream.fields.value_of(name)) is not None:
            return name, value
    return None


def initial_events(stream: Stream) -> tuple[WatchEvent, ...]:
    """The existing objects at the start of the watch, and the bookmark after them if requested
    (WATCHAPI-4)."""
    found = _in_version(
        stream,
        [WatchEvent(ADDED, record.value, record.mod_revision, record) for record in stream.initial],
    )
    if stream.initial_events_end:
        return (
            *found,
            WatchEvent(
                BOOKMARK,
                bookmark(stream, stream.revision, initial_events_end=True),
                stream.revision,
            ),
        )
    return found


def events(stream: Stream, changes: Iterable[Change[Any]]) -> tuple[WatchEvent, ...]:
    """The events of these changes for this watch, in their order (WATCHAPI-5, WATCHAPI-6). Changes
    that a webhook converts are `converted` already."""
    prefix, matches, floor = stream.prefix, stream.matches, stream.floor
    if stream.resource.is_custom and not is_converted(stream):
        changes = shown_changes(
            stream.resource, [one for one in changes if one.key.startswith(prefix)]
        )
    found: list[WatchEvent] = []
    for change in changes:
        if change.revision <= floor or not change.key.startswith(prefix):
            continue
        record, previous = change.record, change.previous
        is_in = record is not None and (matches is None or matches(record.value))
        was_in = previous is not None and (matches is None or matches(previous.value))
        if is_in:
            assert record is not None
            found.append(
                WatchEvent(MODIFIED if was_in else ADDED, record.value, change.revision, record)
            )
        elif was_in:
            assert previous is not None
            # WATCHAPI-7
            found.append(
                WatchEvent(DELETED, stamp(previous.value, change.revision), change.revision)
            )
    return _in_version(stream, found)


def is_converted(stream: Stream) -> bool:
    """Whether the changes of this watch must be `converted` before there are events (CRD-27)."""
    return stream.resource.is_custom and is_by_webhook(stream.resource)


def converted(
    stream: Stream, changes: Sequence[Change[Any]], calls: Calls | None, store: Reader
) -> tuple[Change[Any], ...]:
    """The changes of this watch in its version, as the present definition converts them. Raises
    ApiError; Needed."""
    resource = current(stream.resource, store)
    mine = [one for one in changes if one.key.startswith(stream.prefix)]
    return shown_changes(resource, mine, calls)


def _in_version(stream: Stream, found: list[WatchEvent]) -> tuple[WatchEvent, ...]:
    """The events with their objects in the requested version (API-28)."""
    if not stream.resource.storage_api_version:
        return tuple(found)
    return tuple(
        [
            WatchEvent(event.type, from_stored(stream.resource, event.object), event.revision)
            for event in found
        ]
    )


def bookmark(stream: Stream, revision: int, *, initial_events_end: bool = False) -> dict[str, Any]:
    """The object of a BOOKMARK event: only the revision up to which everything has been delivered
    (WATCHAPI-8)."""
    metadata: dict[str, Any] = {"resourceVersion": str(revision), "creationTimestamp": None}
    if initial_events_end:
        metadata["annotations"] = {INITIAL_EVENTS_END: "true"}
    return {
        "kind": stream.resource.kind,
        "apiVersion": stream.resource.api_version,
        "metadata": metadata,
    }


__all__ = ["ApiError", "bookmark", "events", "index_of", "initial_events", "prefix_of", "watch"]
