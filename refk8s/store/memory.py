"""The engine in memory: for tests and simulation, and for reads of the durable engines.

It gives the same answers as `refk8s.core.store.History` (STORE-17) and is changed in place. One
dictionary has all records; each resource has a sorted list of keys and a log of changes. A batch
takes two steps: `stage` decides and changes nothing, `publish` changes everything at once. A
durable engine writes between the two, so no reader sees a change that may still be lost (STORE-16).

Left out: durability; several callers at the same time.
"""

from __future__ import annotations

import builtins
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from heapq import merge
from itertools import islice
from operator import attrgetter
from typing import Generic, TypeVar

from msgspec import Struct
from sortedcontainers import SortedList  # type: ignore[import-untyped, unused-ignore]

from refk8s.core.store import (
    FIRST_REVISION,
    Change,
    Committed,
    Conflict,
    FutureRevision,
    Page,
    Record,
    Revision,
    Stamp,
    Txn,
    check_revision,
    evaluate,
    order_of_change,
    resource_prefix,
    unstamped,
    whole_revisions,
)

V = TypeVar("V")

_revision_of = attrgetter("revision")


class Batch(Struct, Generic[V], frozen=True):
    """Decided transactions that are not in effect yet: their results and changes, in order."""

    base: Revision
    revision: Revision
    results: tuple[Committed[V] | Conflict, ...]
    changes: tuple[Change[V], ...]


class _ResourceData(Generic[V]):
    """The data of one resource: the keys of its present records in order, and its changes with
    the size of each."""

    __slots__ = ("keys", "log", "sizes")

    def __init__(self) -> None:
        self.keys: SortedList[str] = SortedList()
        self.log: list[Change[V]] = []
        self.sizes: list[int] = []

    def changes_after(self, revision: Revision) -> list[Change[V]]:
        log = self.log
        if not log or log[-1].revision <= revision:
            return []
        return log[bisect_right(log, revision, key=_revision_of) :]


class MemoryEngine(Generic[V]):
    """The store in memory. `stamp` writes the revision into each value that is committed;
    `size_of` gives the bytes of a value, for the bound of the history (STORE-29)."""

    def __init__(
        self, stamp: Stamp[V] = unstamped, size_of: Callable[[V], int] = lambda value: 0
    ) -> None:
        self._stamp = stamp
        self._size_of = size_of
        self._change_count = self._change_bytes = 0
        # attributes and no properties, because every request reads them several times
        self.revision: Revision = FIRST_REVISION
        """The present revision."""
        self.compacted: Revision = 0
        """The oldest revision whose state can still be read."""
        self._records: dict[str, Record[V]] = {}
        self._by_resource: dict[str, _ResourceData[V]] = {}
        # of each resource's and each namespace's prefix
        self._last_changes: dict[str, Revision] = {}

    # --- Reading

    def get(self, key: str, at: Revision | None = None) -> Record[V] | None:
        """As `History.get`. O(1) for the present and for records not changed since `at`."""
        record = self._records.get(key)
        if at is None and record is not None:
            return record
        data = self._by_resource.get(resource_prefix(key))  # ValueError for an invalid key
        if at is None:
            return None
        check_revision(at, self.compacted, self.revision)
        if data is None:
            return None
        if record is not None and record.mod_revision <= at:
            return record
        for change in data.changes_after(at):
            if change.key == key:
                return change.previous
        return record

    def list(
        self,
        prefix: str,
        at: Revision | None = None,
        after: str | None = None,
        limit: int | None = None,
    ) -> Page[V]:
        """As `History.list`. O(result + log n), and at an older revision O(changes since) more."""
        if at is not None:
            check_revision(at, self.compacted, self.revision)
        whole = prefix.count("/") <= 3 and prefix.endswith("/")  # all records of each resource
        records: builtins.list[Record[V]] = []
        total = 0
        for data in self._below(prefix):
            room = None if limit is None else max(0, limit - len(records))
            start = 0 if whole else data.keys.bisect_left(prefix)
            if after is not None:
                start = max(start, data.keys.bisect_right(after))
            end = len(data.keys) if whole else max(start, data.keys.bisect_left(_end_of(prefix)))
            undone = {} if at is None else _undone(data.changes_after(at), prefix, after)
            if undone:
                total += (
                    end
                    - start
                    + sum(
                        (record is not None) - (key in self._records)
                        for key, record in undone.items()
                    )
                )
                records.extend(islice(_with(undone, self._records, data, start, end), room))
            else:
                total += end - start
                present = self._records
                records.extend(
                    [
                        present[key]
                        for key in data.keys[
                            start : end if room is None else min(end, start + room)
                        ]
                    ]
                )
        remaining = total - len(records)
        return Page(tuple(records), self.revision if at is None else at, remaining > 0, remaining)

    def changes(
        self, prefix: str, after: Revision, limit: int | None = None
    ) -> tuple[Change[V], ...]:
        """As `History.changes`. O(log n + changes of the resource since)."""
        check_revision(after, self.compacted, self.revision)
        found: builtins.list[Change[V]] = []
        for data in self._below(prefix):
            found.extend(
                [change for change in data.changes_after(after) if change.key.startswith(prefix)]
            )
        found.sort(key=order_of_change)
        return tuple(found if limit is None else whole_revisions(found, limit))

    def prefix_revision(self, prefix: str) -> Revision:
        """As `History.prefix_revision`. O(1) for the prefix of a resource or a namespace."""
        if prefix.count("/") < 3:
            last = max(
                (data.log[-1].revision for data in self._below(prefix) if data.log), default=0
            )
        elif prefix.endswith("/"):
            last = self._last_changes.get(prefix, 0)
        else:
            last = max(
                (change.revision for change in self.changes(prefix, self.compacted)), default=0
            )
        return max(last, self.compacted)

    def _below(self, prefix: str) -> Iterator[_ResourceData[V]]:
        if prefix.count("/") >= 3:
            data = self._by_resource.get(resource_prefix(prefix))
            if data is not None:
                yield data
            return
        for resource in sorted(self._by_resource):
            if resource.startswith(prefix):
                yield self._by_resource[resource]

    # --- Writing

    def commit_batch(self, txns: Sequence[Txn[V]]) -> Sequence[Committed[V] | Conflict]:
        """Commit the transactions, one after the other."""
        batch = self.stage(txns)
        self.publish(batch)
        return batch.results

    def stage(self, txns: Iterable[Txn[V]]) -> Batch[V]:
        """Decide the transactions, each on the state after those before it, and change nothing."""
        pending: dict[str, Record[V] | None] = {}
        present = self._records

        def look_up(key: str) -> Record[V] | None:
            if key in pending:
                return pending[key]
            found = present.get(key)
            if found is None:
                resource_prefix(key)  # ValueError for an invalid key
            return found

        revision = self.revision
        results: builtins.list[Committed[V] | Conflict] = []
        changes: builtins.list[Change[V]] = []
        for txn in txns:
            result = evaluate(txn, look_up, revision, self._stamp)
            results.append(result)
            if isinstance(result, Committed):
                revision = result.revision
                for change in result.changes:
                    pending[change.key] = change.record
                    changes.append(change)
        return Batch(self.revision, revision, tuple(results), tuple(changes))

    def publish(self, batch: Batch[V]) -> None:
        """Put a staged batch into effect. Raises ValueError if another batch was published since
        it was staged."""
        if batch.base != self.revision:
            raise ValueError(
                f"batch staged at revision {batch.base}, but the store is at {self.revision}"
            )
        for change in batch.changes:
            self._apply(change)
        self.revision = batch.revision

    def _apply(self, change: Change[V]) -> None:
        key = change.key
        resource = resource_prefix(key)
        data = self._data_of(resource)
        if change.record is None:
            del self._records[key]
            data.keys.remove(key)
        else:
            if change.previous is None:
                data.keys.add(key)
            else:
                # rarely read again; it is encoded again then
                change.previous.wire = change.previous.message = None
            self._records[key] = change.record
        self._remember(resource, data, change)

    def _remember(self, resource: str, data: _ResourceData[V], change: Change[V]) -> None:
        record = change.record or change.previous
        size = 0 if record is None else self._size_of(record.value)
        data.log.append(change)
        data.sizes.append(size)
        self._change_count += 1
        self._change_bytes += size
        self._last_changes[resource] = change.revision
        position = change.key.find("/", len(resource))
        while position >= 0:
            self._last_changes[change.key[: position + 1]] = change.revision
            position = change.key.find("/", position + 1)

    def _data_of(self, resource: str) -> _ResourceData[V]:
        data = self._by_resource.get(resource)
        if data is None:
            data = self._by_resource[resource] = _ResourceData()
        return data

    def compact(self, revision: Revision, changes_max: int | None = None) -> bool:
        """As `compact`; with `changes_max` only up to the revision of that many changes. O(changes
        kept)."""
        if revision > self.revision:
            raise FutureRevision(self.revision)
        if revision <= self.compacted:
            return True
        wanted, revision = revision, self.compaction_step(revision, changes_max)
        self.compacted = revision
        for resource in list(self._by_resource):
            data = self._by_resource[resource]
            count = bisect_right(data.log, revision, key=_revision_of)
            self._change_count -= count
            self._change_bytes -= sum(data.sizes[:count])
            del data.log[:count], data.sizes[:count]
            if not data.log and not data.keys:
                del self._by_resource[resource]
        self._last_changes = {
            prefix: last for prefix, last in self._last_changes.items() if last > revision
        }
        return revision == wanted

    def compaction_step(self, revision: Revision, changes_max: int | None) -> Revision:
        """The revision, at most `revision`, before which there are about `changes_max` changes.
        O(changes_max x resources)."""
        if changes_max is None:
            return revision
        oldest = sorted(
            change.revision
            for data in self._by_resource.values()
            for change in data.log[: changes_max + 1]
        )
        return min(revision, oldest[changes_max - 1]) if len(oldest) > changes_max else revision

    def changes_until(self, revision: Revision) -> builtins.list[Change[V]]:
        """The changes in the history up to this revision, resource by resource. O(result)."""
        logs = [data.log for data in self._by_resource.values()]
        return [
            change
            for log in logs
            for change in log[: bisect_right(log, revision, key=_revision_of)]
        ]

    @property
    def change_count(self) -> int:
        """The number of changes in the history. O(1)."""
        return self._change_count

    def surplus(self, changes_max: int, bytes_max: int) -> Revision | None:
        """As `Engine.surplus`. O(1) if there is no surplus, else O(surplus x log resources)."""
        changes, size = self._change_count - changes_max, self._change_bytes - bytes_max
        if changes <= 0 and size <= 0:
            return None
        revision = self.compacted
        logs = [
            zip(map(_revision_of, data.log), data.sizes, strict=True)
            for data in self._by_resource.values()
        ]
        for at, each in merge(*logs):
            revision, changes, size = at, changes - 1, size - each
            if changes <= 0 and size <= 0:
                break
        return revision

    def probe(self) -> None:
        """Do nothing: memory can always be written."""

    def restore(
        self,
        records: Iterable[Record[V]],
        changes: Iterable[Change[V]],
        revision: Revision,
        compacted: Revision,
    ) -> None:
        """Fill an empty engine with the present records of another and its changes since
        `compacted`, in order."""
        if self._by_resource or self.revision != FIRST_REVISION:
            raise ValueError("only an empty engine can be restored into")
        self._records = {record.key: record for record in records}
        keys: dict[str, builtins.list[str]] = {}
        for key in self._records:
            keys.setdefault(resource_prefix(key), []).append(key)
        for resource, found in keys.items():
            self._data_of(resource).keys.update(found)
        for change in changes:
            resource = resource_prefix(change.key)
            self._remember(resource, self._data_of(resource), change)
        self.revision = revision
        self.compacted = compacted

    def shrink(self) -> bool:
        """Do nothing: there is no file."""
        return False

    def close(self) -> None:
        """Do nothing."""


def _undone(
    later: Iterable[Change[V]], prefix: str, after: str | None
) -> dict[str, Record[V] | None]:
    """For each changed key its record before the first change."""
    undone: dict[str, Record[V] | None] = {}
    for change in later:
        key = change.key
        if key not in undone and key.startswith(prefix) and (after is None or key > after):
            undone[key] = change.previous
    return undone


def _with(
    undone: dict[str, Record[V] | None],
    records: dict[str, Record[V]],
    data: _ResourceData[V],
    start: int,
    end: int,
) -> Iterator[Record[V]]:
    """The records of one resource from position `start` to `end` before the changes in `undone`, in
    the order of keys."""
    revived = sorted(
        key for key, record in undone.items() if record is not None and key not in records
    )
    for key in merge(data.keys.islice(start, end), revived):
        record = undone[key] if key in undone else records[key]
        if record is not None:
            yield record


def _end_of(prefix: str) -> str:
    """The first string after all that begin with `prefix`."""
    return prefix[:-1] + chr(ord(prefix[-1]) + 1)
