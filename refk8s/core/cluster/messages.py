"""What the API server sends to a component: the start, changes and end of a watch, and refusals.
Rules CLUSTER-2, CLUSTER-5 (spec/cluster.md).

The cluster (step.py) and the explorer (checking/explorer/parts.py) both call these functions.
"""

from typing import Any

from refk8s.core.api import status
from refk8s.core.api.request import Response, WatchEvent
from refk8s.core.apiserver import watch as watching
from refk8s.core.apiserver.outcome import Outcome, Stream
from refk8s.core.cluster.state import Cursor
from refk8s.core.machine import Answered, Event, WatchEnded
from refk8s.core.store import Compacted, History
from refk8s.core.value import evolve

COMPACTED = 410
"""The status code that ends a watch whose next changes are compacted."""


def open_cursor(outcome: Outcome | Response) -> Cursor | int:
    """The watch that the API server has opened, or the status code of its refusal."""
    if isinstance(outcome, Stream):
        return Cursor(outcome, outcome.revision, watching.initial_events(outcome))
    return outcome.code if isinstance(outcome, Response) else 0


def deliver(
    cursor: Cursor, known: History[Any], limit: int
) -> tuple[tuple[WatchEvent, ...], Cursor] | None:
    """The next events of a watch, for at most `limit` changes, and the watch after them.

    The event is a bookmark if no change matches (CLUSTER-2). None if the changes are compacted: the
    watch ends.
    """
    changes: tuple[Any, ...] = ()
    if cursor.revision <= known.revision:
        try:
            changes = known.changes(watching.prefix_of(cursor.stream), cursor.revision, limit)
        except Compacted:
            return None
    events = (*cursor.initial, *watching.events(cursor.stream, changes))
    revision = changes[-1].revision if changes else max(known.revision, cursor.revision)
    if not events and cursor.stream.bookmarks:
        events = (WatchEvent("BOOKMARK", None, revision),)
    return events, evolve(cursor, revision=revision, initial=())


def no_answer(id: int, is_watch: bool) -> Event:
    """What a component receives when its request or the response is lost (CLUSTER-5)."""
    return WatchEnded(id) if is_watch else Answered(id, None)


def refusal(code: int) -> Response:
    """The API server's response when its store does not answer."""
    words = "the store does not answer"
    return Response(
        code, status.unavailable(words) if code == 503 else status.internal_error(words)
    )
