"""The state in memory, which follows etcd by the events of one watch. Rules ETCD-4, ETCD-8 and
ETCD-9 (spec/etcd.md).

This file decides which changes an event makes, without input or output. Events of one revision may
arrive in several messages; they take effect together. A value that cannot be decoded is not in the
state, and reads that would contain it are refused.
"""

from __future__ import annotations

import builtins
import logging
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeVar

from refk8s.core.api import status
from refk8s.core.api.status import ApiError
from refk8s.core.store import Change, Page, Record, Revision, Stamp
from refk8s.store import window
from refk8s.store.etcd.keys import Keys
from refk8s.store.etcd.messages import DELETED
from refk8s.store.memory import Batch, MemoryEngine
from refk8s.store.reads import Reads

log = logging.getLogger("refk8s")

V = TypeVar("V")

LOGGED_MAX: Final = 10
"""Values that cannot be read at the same time are logged up to this number."""


class UnreadableValue(ApiError):
    """A read whose result would contain a value that cannot be decoded."""

    def __init__(self, key: str) -> None:
        super().__init__(status.internal_error(f"etcd: the value of {key} cannot be read"))


class Mirror(Reads[V]):
    """The records below a prefix in etcd, and their changes since the mirror was filled."""

    def __init__(
        self,
        keys: Keys,
        encode: Callable[[V], bytes],
        decode: Callable[[str, bytes], V],
        stamp: Stamp[V],
        revision: Revision,
    ) -> None:
        self.keys = keys
        self._decode = decode
        self._stamp = stamp
        self.engine: Final[MemoryEngine[V]] = MemoryEngine(stamp, lambda value: len(encode(value)))
        self._reads = self.engine
        self._filling: builtins.list[Record[V]] = []
        self._pending: builtins.list[Any] = []  # events of a revision that may not be complete
        self.unreadable: dict[str, Revision] = {}
        self.start = revision

    # --- Filling

    def fill(self, kvs: Iterable[Any]) -> None:
        """Take one page of the keys and values at the start revision."""
        for kv in kvs:
            if (key := self.keys.from_etcd(kv.key)) is not None:
                record = self._record(key, kv)
                if record is not None:
                    self._filling.append(record)

    def filled(self) -> None:
        """End of the pages: the state at the start revision is complete."""
        self.engine.restore(self._filling, (), self.start, self.start)
        self._filling = []

    # --- Following

    def apply(self, events: Iterable[Any], is_fragment: bool) -> tuple[Change[V], ...]:
        """Let the events of one message take effect, and return the changes.

        If more of this message is to come (`is_fragment`), the last revision waits for it.
        """
        pending = self._pending
        pending.extend(events)
        if not pending:
            return ()
        end = len(pending)
        if is_fragment:
            last = pending[-1].kv.mod_revision
            while end > 0 and pending[end - 1].kv.mod_revision == last:
                end -= 1
        self._pending = pending[end:]
        changes = self._changes(pending[:end])
        if end:
            self._publish(changes, pending[end - 1].kv.mod_revision)
        return changes

    def advance(self, revision: Revision) -> None:
        """Nothing below the prefix has changed up to this revision."""
        if not self._pending:
            self._publish((), revision)

    def _changes(self, events: Iterable[Any]) -> tuple[Change[V], ...]:
        found: dict[tuple[Revision, str], Any] = {}
        for event in events:
            kv = event.kv
            if kv.mod_revision <= self.engine.revision:
                continue  # delivered before a reconnection
            if (key := self.keys.from_etcd(kv.key)) is not None:
                found[kv.mod_revision, key] = event
        changes: builtins.list[Change[V]] = []
        latest: dict[str, Record[V] | None] = {}
        for revision, key in sorted(found):
            event = found[revision, key]
            previous = latest[key] if key in latest else self.engine.get(key)
            record = None
            if event.type == DELETED:
                self.unreadable.pop(key, None)
            else:
                record = self._record(key, event.kv)
                if record is None:
                    continue
            if record is not None or previous is not None:
                changes.append(Change(revision, key, record, previous))
                latest[key] = record
        return tuple(changes)

    def _publish(self, changes: tuple[Change[V], ...], revision: Revision) -> None:
        base = self.engine.revision
        if revision > base:
            self.engine.publish(Batch(base, revision, (), changes))
            self._bound()

    def _bound(self) -> None:
        """Discard the oldest changes if there are too many (ETCD-15)."""
        engine = self.engine
        if engine.surplus(window.HISTORY_CHANGES_MAX, window.HISTORY_BYTES_MAX) is not None:
            kept = window.KEPT_PART
            surplus = engine.surplus(
                int(kept * window.HISTORY_CHANGES_MAX), int(kept * window.HISTORY_BYTES_MAX)
            )
            assert surplus is not None, "less is kept than is allowed"
            engine.compact(surplus)

    def _record(self, key: str, kv: Any) -> Record[V] | None:
        """The record of a key and value, None if the value cannot be read."""
        try:
            value = self._stamp(self._decode(key, kv.value), kv.mod_revision)
        except Exception as error:
            self.unreadable[key] = kv.mod_revision
            if len(self.unreadable) <= LOGGED_MAX:
                log.error("etcd: the value of %s cannot be read: %s", key, _short(error))
            return None
        if self.unreadable:
            self.unreadable.pop(key, None)
        return Record(key, value, kv.create_revision, kv.mod_revision, kv.version)

    # --- After a gap

    def catch_up(self, newer: Mirror[V]) -> tuple[Change[V], ...]:
        """Adopt the state of a mirror that was filled later, and return the changes from the old
        state to it (ETCD-8).

        They have the present record of each key and not those between; the earlier history is
        discarded.
        """
        old = {record.key: record for record in self.engine.list("/").records}
        new = {record.key: record for record in newer.engine.list("/").records}
        revision = newer.engine.revision
        self._pending = []
        self.unreadable = newer.unreadable
        changes = []
        for key, record in new.items():
            previous = old.pop(key, None)
            if previous is not None and record.create_revision != previous.create_revision:
                changes.append(Change(record.create_revision - 1, key, None, previous))
                previous = None
            if previous is None or record.mod_revision != previous.mod_revision:
                changes.append(Change(record.mod_revision, key, record, previous))
        changes += [
            Change(revision, key, None, record)
            for key, record in old.items()
            if key not in newer.unreadable
        ]
        changes.sort(key=lambda change: (change.revision, change.key))
        self._publish(tuple(changes), revision)
        self.engine.compact(revision)
        return tuple(changes)

    # --- Reading

    def get(self, key: str, at: Revision | None = None) -> Record[V] | None:
        """As `MemoryEngine.get`. Raises UnreadableValue."""
        if key in self.unreadable:
            raise UnreadableValue(key)
        return self.engine.get(key, at)

    def list(
        self,
        prefix: str,
        at: Revision | None = None,
        after: str | None = None,
        limit: int | None = None,
    ) -> Page[V]:
        """As `MemoryEngine.list`. Raises UnreadableValue."""
        for key in self.unreadable:
            if key.startswith(prefix):
                raise UnreadableValue(key)
        return self.engine.list(prefix, at, after, limit)


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
