"""The recorder: notes become Kubernetes Events, and repeated ones are counted. Rules EVENT-1,
EVENT-2, EVENT-7 (spec/loop.md).

Best effort: an Event is written in the background, and a lost one is not sent again. Source:
Kubernetes documentation, "Event" (events.k8s.io and core), API conventions, "Events".
"""

from functools import lru_cache
from typing import Any

from immutables import Map

from refk8s.core.api.core_v1 import Event, EventSource
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.object_reference import object_reference
from refk8s.core.api.request import Patch, Request
from refk8s.core.api.resources import EVENTS
from refk8s.core.api.user import User
from refk8s.core.context import MINUTE, Instant, micro_timestamp, timestamp
from refk8s.core.loop.plan import Note
from refk8s.core.value import Value, field

BURST_MAX = 25  # Events about one object in a burst
REFILL: Instant = 5 * MINUTE  # one more after each such interval
REMEMBERED_MAX = 4096
NAME_LENGTH_MAX = 253
TEXT_BYTES_MAX = 128  # of the reporting instance, if an Event has an eventTime (VAL-65)
MESSAGE_BYTES_MAX = 1024  # likewise


class _Bucket(Value, frozen=True):
    tokens: int
    since: Instant


class Recorder(Value, frozen=True, eq=False):
    """The recent Events: (object and text) -> (Event name, count), and the limit of each object.

    `number` counts the Events created, so that Events of one instant have names in their order.
    """

    number: int = 0
    seen: Map[tuple[str, ...], tuple[str, int]] = field(default_factory=Map)
    buckets: Map[str, _Bucket] = field(default_factory=Map)


def record(
    recorder: Recorder, note: Note, component: str, host: str, user: User, unique: str, now: Instant
) -> tuple[Recorder, Request | None]:
    """The request that records a note; None if the object is over its limit (EVENT-2). O(1)."""
    metadata = note.regarding.metadata
    # Users look up the Events of a Node by its name, not by its uid. So upstream's kubelet writes
    # the name as uid, and so does this one.
    about = metadata.uid or metadata.name or ""
    key = (note.regarding.kind, about, note.field_path, note.type, note.reason, note.message)
    known = recorder.seen.get(key)
    bucket = recorder.buckets.get(about)
    tokens, since = BURST_MAX, now
    if bucket is not None:
        gained = (now - bucket.since) // REFILL
        tokens = min(BURST_MAX, bucket.tokens + gained)
        if tokens <= 0:
            return recorder, None
        since = now if tokens == BURST_MAX else bucket.since + gained * REFILL
    # A discarded entry only costs a second Event object with its own count.
    if len(recorder.seen) >= REMEMBERED_MAX:
        recorder = Recorder(recorder.number)
    buckets = recorder.buckets.set(about, _Bucket(tokens - 1, since))
    namespace = metadata.namespace or "default"
    if known is not None:  # EVENT-1: a repeated Event is counted in the existing one
        name, count = known
        recorder = Recorder(recorder.number, recorder.seen.set(key, (name, count + 1)), buckets)
        document: dict[str, Any] = {"count": count + 1, "lastTimestamp": timestamp(now)}
        if note.action:  # EVENT-7
            document = {"series": {"count": count + 1, "lastObservedTime": micro_timestamp(now)}}
        patch = Patch("application/merge-patch+json", document)
        return recorder, Request(
            "patch", EVENTS, namespace, name, body=patch, user=user, because="it happened again"
        )
    # EVENT-5: names sort by the time of recording, also within one instant.
    suffix = f".{now * 1000 + recorder.number % 1000:016x}{unique}"
    name = (metadata.name or "")[: NAME_LENGTH_MAX - len(suffix)].rstrip("-.") + suffix
    recorder = Recorder(recorder.number + 1, recorder.seen.set(key, (name, 1)), buckets)
    regarding = object_reference(note.regarding, note.field_path)
    if note.action:  # EVENT-7
        event = Event(
            api_version="v1",
            kind="Event",
            metadata=ObjectMeta(name=name, namespace=namespace),
            involved_object=regarding,
            reason=note.reason,
            type=note.type,
            reporting_component=component,
            message=_cut(note.message, MESSAGE_BYTES_MAX),
            source=EventSource(),
            event_time=micro_timestamp(now),
            action=note.action,
            related=None if note.related is None else object_reference(note.related, ""),
            reporting_instance=_cut(f"{component}-{host}" if host else component, TEXT_BYTES_MAX),
        )
    else:
        at = timestamp(now)
        event = Event(
            api_version="v1",
            kind="Event",
            metadata=ObjectMeta(name=name, namespace=namespace),
            involved_object=regarding,
            reason=note.reason,
            message=note.message,
            type=note.type,
            reporting_component=component,
            source=_source(component, host),
            first_timestamp=at,
            last_timestamp=at,
            count=1,
            reporting_instance=host,
        )
    return recorder, Request(
        "create",
        EVENTS,
        namespace,
        body=event,
        user=user,
        because="so that people can see what happened",
    )


@lru_cache(maxsize=256)
def _source(component: str, host: str) -> EventSource:
    return EventSource(component=component, host=host or None)


def _cut(text: str, bytes_max: int) -> str:
    """The text; if it is longer than that in UTF-8, its beginning and three dots."""
    data = text.encode("utf-8", "replace")
    return (
        text if len(data) <= bytes_max else data[: bytes_max - 3].decode("utf-8", "ignore") + "..."
    )
