"""When Events expire: a fixed time after their last write. Rule EVENT-6 (spec/loop.md).

Events expire in the order of their writes, because all have the same lifetime. So a write costs
O(1), and finding the expired ones costs time in proportion to their number.

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
    """The stored Events in the order of their last writes. A listener to every change updates it in
    place."""

    def __init__(self, ttl: Instant) -> None:
        """`ttl`: how long an Event is kept after its last write, in the unit of `Instant`."""
        self.ttl = ttl
        self._written: OrderedDict[str, tuple[Instant, Revision]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._written)

    def load(self, records: Iterable[Record[object]], now: Instant) -> None:
        """Add the Events that an earlier process stored. An Event that was updated since its
        creation counts as written now (EVENT-6)."""
        known = self._written
        found = sorted(
            (_written_at(record, now), record.mod_revision, record.key)
            for record in records
            if record.key not in known
        )
        self._written = OrderedDict((key, (at, revision)) for at, revision, key in found)
        self._written.update(known)

    def changed(self, change: Change[object], now: Instant) -> None:
        """Process a change of any object. O(1)."""
        if not change.key.startswith(PREFIX):
            return
        self._written.pop(change.key, None)
        if change.record is not None:
            self._written[change.key] = (now, change.record.mod_revision)

    def postpone(self, key: str, now: Instant) -> None:
        """The Event could not be deleted: it is due again after another lifetime."""
        if (found := self._written.pop(key, None)) is not None:
            self._written[key] = (now, found[1])

    def due(self, now: Instant, limit: int) -> list[tuple[str, Revision]]:
        """The keys of expired Events, oldest first, at most `limit`, each with the revision that
        expires. O(result)."""
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
