"""The store: every object of the cluster with its whole recent past. Rules STORE-1 ... STORE-16
(spec/store.md).

This file defines what a transaction does to the state, which revision it gets, and what a read at
any revision returns. `History` and `commit` are the specification in code. A history is a value
that is never changed in place, so a fork, a crash and a read of the past need no copy. An `Engine`
gives the same answers and may be durable; the engines are in `refk8s.store`.

    revision    1           2              3              4
                (empty)     put a, put b   put a          delete b
    state       {}          {a2 b2}        {a3 b2}        {a3}
    changes                 a: -> a2       a: a2 -> a3    b: b2 -> gone
                            b: -> b2

A history has the present state and the changes that led to it, each with the record that it
replaced. An older state is the present one with the later changes undone. So a revision costs one
entry in a log and no copy. Compaction discards the changes up to a revision, and with them every
state before it.

Source: etcd documentation, "KV API guarantees" and "Data model"; Kubernetes documentation,
"Kubernetes API Concepts" (resource versions). Left out: leases (time to live) and nested
transactions, which Kubernetes' own resources do not need; ranges that are not prefixes.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from operator import attrgetter
from typing import Any, Final, Generic, Protocol, TypeAlias, TypeVar

from immutables import Map
from msgspec import Struct

V = TypeVar("V")

Revision: TypeAlias = int
"""The number of a state of the whole store. It counts the transactions that change something,
starting after `FIRST_REVISION`."""

FIRST_REVISION: Final = 1
"""The revision of an empty store: the first write has revision 2, as in etcd (STORE-1)."""

ABSENT: Final = 0
"""As the expected `mod_revision` of a `Compare`: the key does not exist (STORE-2)."""


# These are msgspec structs and not attrs classes, because a commit creates several of them and a
# store keeps many. Creating one takes 0.1 instead of 0.9 microseconds, and the garbage collector
# does not track it (`gc=False` is safe, because values have no cycles).


class Record(Struct, Generic[V], eq=False, gc=False):
    """The value of one key at some revision, with its revisions. Only `wire` and `message` may be
    changed.

    `create_revision`: of the write that created the key; `mod_revision`: of the last write;
    `version`: the number of writes since the creation, from 1. `wire`: the encoded value, a cache
    that is filled by the first response or watch that needs it and dropped by the next write. It
    does not count for equality. `message`: the same in protobuf.
    """

    key: str
    value: V
    create_revision: Revision
    mod_revision: Revision
    version: int
    wire: bytes | None = None
    message: bytes | None = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Record) and (
            self.mod_revision == other.mod_revision
            and self.key == other.key
            and self.version == other.version
            and self.create_revision == other.create_revision
            and bool(self.value == other.value)
        )

    __hash__ = None  # type: ignore[assignment]


class Put(Struct, Generic[V], frozen=True, gc=False):
    """Set the value of the key."""

    key: str
    value: V


class Delete(Struct, frozen=True, gc=False):
    """Delete the key. Deleting an absent key changes nothing (STORE-4)."""

    key: str


class Compare(Struct, frozen=True, gc=False):
    """The condition that the key was last written at exactly `mod_revision`; `ABSENT` (0): that it
    does not exist (STORE-2)."""

    key: str
    mod_revision: Revision


class Txn(Struct, Generic[V], frozen=True, gc=False):
    """All writes take effect if all compares hold, else none (STORE-2, STORE-3). A key occurs at
    most once among the writes."""

    compares: tuple[Compare, ...]
    writes: tuple[Put[V] | Delete, ...]


class Change(Struct, Generic[V], frozen=True, gc=False):
    """What a transaction did to one key. `record` is None if the key was deleted, `previous` if it
    was created."""

    revision: Revision
    key: str
    record: Record[V] | None
    previous: Record[V] | None


class Committed(Struct, Generic[V], frozen=True, gc=False):
    """The transaction took effect at `revision`. If it changed nothing (no writes, or only deletes
    of absent keys), that is the present revision."""

    revision: Revision
    changes: tuple[Change[V], ...]


class Conflict(Struct, frozen=True, gc=False):
    """The transaction changed nothing: at `revision` the compares of the keys in `failed` did not
    hold."""

    revision: Revision
    failed: tuple[str, ...]


class Page(Struct, Generic[V], frozen=True, gc=False):
    """A part of a list: records in the order of their keys, at `revision`. `remaining` records
    follow the last one; `more`: whether any do."""

    records: tuple[Record[V], ...]
    revision: Revision
    more: bool
    remaining: int


class Compacted(Exception):
    """The requested revision is compacted; `compact_revision` is the oldest that can be read
    (STORE-8)."""

    def __init__(self, compact_revision: Revision) -> None:
        super().__init__(f"the store has been compacted up to revision {compact_revision}")
        self.compact_revision = compact_revision


class FutureRevision(Exception):
    """The requested revision has not been reached; the present one is `revision` (STORE-9)."""

    def __init__(self, revision: Revision) -> None:
        super().__init__(
            f"the store is at revision {revision} and has not reached the requested one"
        )
        self.revision = revision


Stamp: TypeAlias = Callable[[V, Revision], V]
"""Writes the revision of the commit into a value (STORE-5): `metadata.resourceVersion` of an API
object."""


def unstamped(value: V, revision: Revision) -> V:
    """The stamp for values that do not contain their revision."""
    return value


class Reader(Protocol[V]):
    """The reads of a store: `History`, every engine and `core/store_port.Store` provide them.
    `History` describes the methods."""

    @property
    def revision(self) -> Revision: ...

    @property
    def compacted(self) -> Revision: ...

    def get(self, key: str, at: Revision | None = None) -> Record[V] | None: ...

    def list(
        self,
        prefix: str,
        at: Revision | None = None,
        after: str | None = None,
        limit: int | None = None,
    ) -> Page[V]: ...

    def changes(
        self, prefix: str, after: Revision, limit: int | None = None
    ) -> tuple[Change[V], ...]: ...

    def prefix_revision(self, prefix: str) -> Revision: ...


class Engine(Reader[V], Protocol[V]):
    """A store that runs. Given the same calls in the same order, it returns the same as `History`.
    Only one thread may call it at a time."""

    def commit_batch(self, txns: Sequence[Txn[V]]) -> Sequence[Committed[V] | Conflict]:
        """Commit the transactions one after the other, each as `commit` does, and return when all
        are durable (STORE-14)."""

    def compact(self, revision: Revision, changes_max: int | None = None) -> bool:
        """Discard the history before `revision`, or only its oldest part of about `changes_max`
        changes. Returns whether all of it is discarded."""

    def surplus(self, changes_max: int, bytes_max: int) -> Revision | None:
        """The revision up to which the history has to be discarded so that at most so many changes
        remain, with values of at most so many bytes; None if that is so already (STORE-29)."""

    def probe(self) -> None:
        """Raise StoreUnavailable if the store could not be written now."""

    def shrink(self) -> bool:
        """Return a portion of the space that compaction has freed. Returns whether there is more.
        Raises StoreUnavailable."""

    def close(self) -> None: ...


# --- One transaction


def resource_prefix(key: str) -> str:
    """The part of a key or of a longer prefix that names its resource: "/core/pods/" of
    "/core/pods/default/web-1".

    Raises ValueError if it does not have two segments.
    """
    end = key.find("/", key.find("/", 1) + 1)
    if end <= 1 or key[0] != "/":
        raise ValueError(f"not a key of the form /group/resource/name: {key!r}")
    return key[: end + 1]


def evaluate(
    txn: Txn[V], look_up: Callable[[str], Record[V] | None], revision: Revision, stamp: Stamp[V]
) -> Committed[V] | Conflict:
    """What `txn` does to the state at `revision`, which `look_up` reads. Every transaction is
    decided here (STORE-1 to STORE-5).

    Raises ValueError if a key occurs twice among the writes, because the result would depend on
    their order.
    """
    # STORE-2
    failed: list[str] = []
    compared: dict[str, Record[V] | None] = {}  # most writes are of a key that is compared
    for compare in txn.compares:
        record = compared[compare.key] = look_up(compare.key)
        if (ABSENT if record is None else record.mod_revision) != compare.mod_revision:
            failed.append(compare.key)
    if failed:
        return Conflict(revision, tuple(failed))  # STORE-3: nothing changes
    writes: Sequence[Put[V] | Delete] = txn.writes
    if len(writes) > 1:
        # STORE-6: the order of changes does not depend on the order of the writes
        writes = sorted(writes, key=_key_of)
        for one, other in pairwise(writes):
            if one.key == other.key:
                raise ValueError(
                    f"key {one.key!r} occurs twice among the writes of one transaction"
                )
    coming = revision + 1  # STORE-1: one more, whatever the number of writes
    changes: list[Change[V]] = []
    for write in writes:
        key = write.key
        previous = compared[key] if key in compared else look_up(key)
        if isinstance(write, Put):
            value = stamp(write.value, coming)  # STORE-5
            if previous is None:
                record = Record(key, value, coming, coming, 1)
            else:
                record = Record(key, value, previous.create_revision, coming, previous.version + 1)
            changes.append(Change(coming, key, record, previous))
        elif previous is not None:  # STORE-4: deleting what does not exist is no change
            changes.append(Change(coming, key, None, previous))
    return Committed(coming if changes else revision, tuple(changes))


_key_of = attrgetter("key")
_revision_of = attrgetter("revision")


# --- The state and its past, as a value


class _Log(Generic[V]):
    """An append-only sequence of changes that forks share: the first `length` entries of a list
    that another fork may have extended.

    Appending costs O(1) for the fork that extended the list last. For any other fork it copies the
    list, so no fork sees the changes of another (STORE-13).
    """

    __slots__ = ("_entries", "_length")

    def __init__(self, entries: list[Change[V]], length: int) -> None:
        self._entries = entries
        self._length = length

    def append(self, change: Change[V]) -> _Log[V]:
        entries = self._entries
        if len(entries) != self._length:  # another fork has extended the list
            entries = entries[: self._length]
        entries.append(change)
        return _Log(entries, self._length + 1)

    def after(self, revision: Revision) -> list[Change[V]]:
        """The changes later than `revision`, oldest first. O(log n + result)."""
        start = bisect_right(self._entries, revision, 0, self._length, key=_revision_of)
        return self._entries[start : self._length]

    def last(self, prefix: str) -> Revision:
        """The revision of the last change below `prefix`; 0 without one. O(changes since), so O(1)
        for a whole resource."""
        for position in range(self._length - 1, -1, -1):
            if self._entries[position].key.startswith(prefix):
                return self._entries[position].revision
        return 0


class _ResourceData(Struct, Generic[V], frozen=True, gc=False):
    """The data of one resource: its present records and its changes."""

    records: Map[str, Record[V]]
    log: _Log[V]


class History(Generic[V]):
    """The state of the store at `revision`, and every earlier one down to `compacted`. An immutable
    value: methods read, and `commit` returns the next history (STORE-13)."""

    __slots__ = ("_by_resource", "compacted", "revision")

    def __init__(
        self, revision: Revision, compacted: Revision, by_resource: Map[str, _ResourceData[V]]
    ) -> None:
        self.revision: Final = revision
        self.compacted: Final = compacted
        self._by_resource: Final = by_resource

    def get(self, key: str, at: Revision | None = None) -> Record[V] | None:
        """The record of `key` at revision `at` (None: the present one); None if the key did not
        exist then (STORE-7)."""
        self._check(at)
        data = self._by_resource.get(resource_prefix(key))
        if data is None:
            return None
        if at is not None:
            for change in data.log.after(at):
                if change.key == key:
                    return change.previous
        return data.records.get(key)

    def list(
        self,
        prefix: str,
        at: Revision | None = None,
        after: str | None = None,
        limit: int | None = None,
    ) -> Page[V]:
        """The records whose key begins with `prefix` at revision `at`, in the order of keys
        (STORE-7).

        `after`: only records with a greater key; `limit`: at most so many. The pages of a list are
        read with the last key of the page before, and the same `at` (STORE-10). O(n log n) in the
        size of the resource.
        """
        self._check(at)
        state: dict[str, Record[V]] = {}
        for data in self._below(prefix):
            state.update(data.records)
            if at is not None:
                for change in reversed(data.log.after(at)):  # undone, the latest first
                    if change.previous is None:
                        del state[change.key]
                    else:
                        state[change.key] = change.previous
        keys = sorted(
            key for key in state if key.startswith(prefix) and (after is None or key > after)
        )
        shown = keys if limit is None else keys[:limit]
        remaining = len(keys) - len(shown)
        return Page(
            tuple(state[key] for key in shown),
            self.revision if at is None else at,
            remaining > 0,
            remaining,
        )

    def changes(
        self, prefix: str, after: Revision, limit: int | None = None
    ) -> tuple[Change[V], ...]:
        """The changes below `prefix` after revision `after`, in the order of (revision, key)
        (STORE-6, STORE-11).

        `limit`: return about so many. A revision is never split, so a reader continues after the
        revision of the last change.
        """
        self._check(after)
        found = [
            change
            for data in self._below(prefix)
            for change in data.log.after(after)
            if change.key.startswith(prefix)
        ]
        found.sort(key=order_of_change)
        return tuple(found if limit is None else whole_revisions(found, limit))

    def prefix_revision(self, prefix: str) -> Revision:
        """The revision of the last change below `prefix`, or `compacted` if that is greater. A
        cache filled at this revision or later is current (STORE-12)."""
        last = 0
        for data in self._below(prefix):
            last = max(last, data.log.last(prefix))
        return last or self.compacted

    def _below(self, prefix: str) -> Iterable[_ResourceData[V]]:
        """The resources that can have keys with this prefix: at most one if the prefix names a
        resource."""
        if prefix.count("/") < 3:
            return [
                self._by_resource[name]
                for name in sorted(self._by_resource)
                if name.startswith(prefix)
            ]
        data = self._by_resource.get(prefix) or self._by_resource.get(resource_prefix(prefix))
        return () if data is None else (data,)

    def _check(self, at: Revision | None) -> None:
        if at is not None:
            check_revision(at, self.compacted, self.revision)

    def __eq__(self, other: object) -> bool:
        """Whether every read returns the same from both."""
        return isinstance(other, History) and (
            (self.revision, self.compacted) == (other.revision, other.compacted)
            and self.list("/") == other.list("/")
            and self.changes("/", self.compacted) == other.changes("/", other.compacted)
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<History at revision {self.revision}, compacted up to {self.compacted}>"


EMPTY: Final[History[Any]] = History(FIRST_REVISION, 0, Map())
"""The empty store."""


def commit(
    history: History[V], txn: Txn[V], stamp: Stamp[V] = unstamped
) -> tuple[History[V], Committed[V] | Conflict]:
    """The history after `txn`, and the outcome. O(writes · log n)."""
    outcome = evaluate(txn, history.get, history.revision, stamp)
    if isinstance(outcome, Conflict) or not outcome.changes:
        return history, outcome
    by_resource = history._by_resource
    for change in outcome.changes:
        resource = resource_prefix(change.key)
        data = by_resource.get(resource)
        if data is None:
            data = _ResourceData(Map(), _Log([], 0))
        records = (
            data.records.delete(change.key)
            if change.record is None
            else data.records.set(change.key, change.record)
        )
        by_resource = by_resource.set(resource, _ResourceData(records, data.log.append(change)))
    return History(outcome.revision, history.compacted, by_resource), outcome


def compact(history: History[V], revision: Revision) -> History[V]:
    """Discard the changes up to and including `revision`; states from there on can still be read
    (STORE-8).

    A compaction below the last one does nothing. O(changes kept). Raises FutureRevision for a
    revision that has not been reached.
    """
    if revision > history.revision:
        raise FutureRevision(history.revision)
    if revision <= history.compacted:
        return history
    by_resource: dict[str, _ResourceData[V]] = {}
    for resource in sorted(history._by_resource):
        data = history._by_resource[resource]
        kept = data.log.after(revision)
        if kept or data.records:
            by_resource[resource] = _ResourceData(data.records, _Log(kept, len(kept)))
    return History(history.revision, revision, Map(by_resource))


# --- Shared with the engines


def check_revision(at: Revision, compacted: Revision, revision: Revision) -> None:
    """Raise Compacted below `compacted` (STORE-8) and FutureRevision above `revision` (STORE-9)."""
    if at < compacted:
        raise Compacted(compacted)
    if at > revision:
        raise FutureRevision(revision)


def order_of_change(change: Change[Any]) -> tuple[Revision, str]:
    """The order of changes: by revision, and within one by key (STORE-6)."""
    return change.revision, change.key


def whole_revisions(changes: Sequence[Change[V]], limit: int) -> Sequence[Change[V]]:
    """The first `limit` of `changes`, and the rest of the last revision among them, which is not
    split (STORE-11)."""
    end = max(limit, 1)
    while 0 < end < len(changes) and changes[end].revision == changes[end - 1].revision:
        end += 1
    return changes[:end]
