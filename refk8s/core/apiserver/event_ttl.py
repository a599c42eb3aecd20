"""When Events expire: some time after they were last written. Rule EVENT-6 (spec/loop.md).

The order of writes is the order of expiry, because every Event lives for the same time. So a write
costs O(1), and looking for what is due costs as much as is found, however many Events there are.

Source: kube-apiserver reference, `--event-ttl`; upstream gives each write of an Event a lease of
this length in etcd.
"""

from collections import OrderedDict
from collections.abc import Iterable

from refk8s.core.api.resources import EVENTS
from refk8s.core.context import Instant, parse_timestamp
from refk8s.core.store import Change, Record, Revision

PREFIX = EVENTS.prefix


class EventTtl:
    """The Events that there are, in the order of their last writes. Changed in place by a listener
    to every change."""

    def __init__(self, ttl: Instant) -> None:
        """`ttl`: how long an Event is kept after its last write, in the unit of `Instant`."""
        self.ttl = ttl
        self._written: OrderedDict[str, tuple[Instant, Revision]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._written)

    def load(self, records: Iterable[Record[object]], now: Instant) -> None:
        """Learn what an earlier process stored. An Event that was changed since its creation counts
        as written now (EVENT-6)."""
        known = self._written
        found = sorted(
            (_written_at(record, now), record.key, record.mod_revision)
            for record in records
            if record.key not in known
        )
        self._written = OrderedDict((key, (at, revision)) for at, key, revision in found)
        self._written.update(known)

    def changed(self, change: Change[object], now: Instant) -> None:
        """Learn of a change of any object. O(1)."""
        if not change.key.startswith(PREFIX):
            return
        self._written.pop(change.key, None)
        if change.record is not None:
            self._written[change.key] = (now, change.record.mod_revision)

    def postpone(self, key: str, now: Instant) -> None:
        """The Event could not be deleted, for a reason of its own: try again after another such
        time."""
        if (found := self._written.pop(key, None)) is not None:
            self._written[key] = (now, found[1])

    def due(self, now: Instant, limit: int) -> list[tuple[str, Revision]]:
        """The keys of Events that have expired, oldest first, at most so many, each with the
        revision that expires. O(result)."""
        found: list[tuple[str, Revision]] = []
        for key, (at, revision) in self._written.items():
            if len(found) >= limit or at + self.ttl > now:
                break
            found.append((key, revision))
        return found


def _written_at(record: Record[object], now: Instant) -> Instant:
    if record.version != 1:
        return now
    try:
        return min(now, parse_timestamp(record.value.metadata.creation_timestamp))  # type: ignore[attr-defined]
    except (ValueError, TypeError):
        return now
