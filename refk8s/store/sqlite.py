"""The durable engine: a journal in SQLite under the engine in memory. Rules STORE-14 (durable),
STORE-15 (whole or not at all), STORE-16.

All reads are from memory. SQLite keeps only a journal: one row for each change, in order. The last
row of a key is its present record, the row before it the record that was replaced. At the start the
engine reads the journal from its beginning. A batch is one SQLite transaction, which is
synchronised to disk before a reader sees any of it: stage, write, publish. Compaction deletes the
rows that no readable state or change needs.

    position       key                   value  create_revision  version
    (2 << 16)      /core/pods/default/a  ...    2                1        revision 2 created a
    (3 << 16)      /core/pods/default/a  ...    2                2        revision 3 changed a
    (3 << 16) + 1  /core/pods/default/b  ...    3                1          and created b
    (4 << 16)      /core/pods/default/a  NULL   2                2        revision 4 deleted a

Each row has a checksum of its columns, and the sum of all checksums is stored too. So an altered or
lost row is detected at the next start (STORE-21), the only time when the file is read. Pages that
compaction has freed are returned to the file system in portions (STORE-22).

Source: SQLite documentation, "Write-Ahead Logging" and "Pragma statements" (synchronous,
locking_mode). Left out: several processes on one file (the second is refused); encryption.
"""

from __future__ import annotations

import builtins
import os
import sqlite3
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from functools import cache
from itertools import chain
from typing import Any, Final, TypeAlias, TypeVar

from refk8s.core.store import (
    FIRST_REVISION,
    Change,
    Committed,
    Conflict,
    FutureRevision,
    Record,
    Revision,
    Stamp,
    Txn,
    unstamped,
)
from refk8s.core.store_port import StoreUnavailable
from refk8s.store.checksums import (
    SUM_BITS,
    checksum,
    checksum_of_cluster,
    checksum_of_compacted,
    is_whole,
    wrapped,
)
from refk8s.store.errors import (
    OtherCluster,
    OtherSchema,
    StoreCorrupt,
    StoreInUse,
    StoreUnwritable,
)
from refk8s.store.memory import Batch, MemoryEngine
from refk8s.store.reads import Reads

V = TypeVar("V")

APPLICATION_ID: Final = 0x72386B38
"""Marks the file as a store of refk8s (the bytes "r8k8")."""

SCHEMA_VERSION: Final = 3
"""The version of the layout below. Layout 1 had no checksums; it is converted when it is opened.
Layout 2 had other checksums, which its rows keep."""

_SCHEMA: Final = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE journal (
    position INTEGER PRIMARY KEY,  -- the revision shifted left by 16 bits, plus the change's place in its transaction
    key TEXT NOT NULL,
    value BLOB,                    -- NULL: deleted
    create_revision INTEGER NOT NULL,
    version INTEGER NOT NULL,
    checksum INTEGER NOT NULL      -- of the other columns
);
"""

SPARE_PAGES: Final = 256
"""The free pages (of 4 KiB) that the file may keep for the next writes, or a quarter of the file if
that is more (STORE-22)."""

VACUUM_PAGES: Final = 256
"""The pages that are returned at once: about 1 MiB, in a few milliseconds."""

DELETED_AT_ONCE: Final = 100
"""The most rows that one statement deletes: it has three parameters for each."""

_OWN_ERRORS: Final = (sqlite3.ProgrammingError, sqlite3.IntegrityError)
"""Errors of SQLite that are not caused by the disk."""

_PLACE_BITS: Final = 16
WRITES_MAX: Final = 1 << _PLACE_BITS
"""The most changes in one transaction."""

WAL_BYTES_KEPT: Final = 8 << 20
"""The size to which the write-ahead file is truncated after a checkpoint."""


class SqliteEngine(Reads[V]):
    """The store in the SQLite file at `path`. The file is created if it does not exist; its
    directory must exist.

    `encode` converts a value to bytes without its revision, `decode(key, bytes)` back. `cluster_id`
    None accepts the cluster of the file, or generates an id. Only one thread may call the engine at
    a time, except that `end_write` may run in another thread while this one reads.

    Raises StoreUnwritable, StoreInUse, StoreCorrupt, OtherCluster or OtherSchema, and creates
    nothing then.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        encode: Callable[[V], bytes],
        decode: Callable[[str, bytes], V],
        stamp: Stamp[V] = unstamped,
        cluster_id: str | None = None,
    ) -> None:
        self.path: Final = os.fspath(path)
        self._encode = encode
        self._stamp = stamp
        self._sum = 0  # of the checksums of all rows
        self._next_sum = 0  # the same when the present write has ended
        # by id of the value: the sizes of values that are written and not yet published
        self._written: dict[int, int] = {}
        self._memory: MemoryEngine[V] = MemoryEngine(stamp, self._size_of)
        self._read_from(self._memory)
        made = _make_file(self.path)
        try:
            self._connection = _open(self.path)
            try:
                with _explained(self.path):
                    self.cluster_id: Final = _identify(self._connection, self.path, cluster_id)
                    _make_private(self.path)
                    self._recover(decode)
                    self._can_shrink: Final = _allow_shrinking(self._connection)
            except BaseException:
                self._connection.close()
                raise
        except BaseException:
            if made:
                with suppress(OSError):
                    os.unlink(self.path)
            raise

    # --- Writing

    def commit_batch(self, txns: Sequence[Txn[V]]) -> Sequence[Committed[V] | Conflict]:
        """Commit all with one synchronisation of the disk. If it raises StoreUnavailable, none is
        in effect (STORE-15)."""
        batch = self.stage(txns)
        self.write(batch)
        self.publish(batch)
        return batch.results

    def stage(self, txns: Sequence[Txn[V]]) -> Batch[V]:
        """Decide the transactions and change nothing."""
        return self._memory.stage(txns)

    def write(self, batch: Batch[V]) -> None:
        """Make the batch durable: when this returns, it survives a power failure (STORE-14)."""
        if batch.changes:
            self.begin_write(batch)
            self.end_write()

    def begin_write(self, batch: Batch[V]) -> None:
        """Give the batch to SQLite, which keeps it in memory until `end_write`. Nothing else may
        be called in between but reads."""
        rows = self._rows(batch.changes)
        total = wrapped(self._sum + sum([row[5] for row in rows]))
        with self._or_nothing() as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany("INSERT INTO journal VALUES (?, ?, ?, ?, ?, ?)", rows)
            connection.execute("UPDATE meta SET value = ? WHERE name = 'sum'", (total,))
        self._next_sum = total

    def end_write(self) -> None:
        """Make the batch durable. It may run in another thread: it takes a time that depends on the
        disk, and SQLite lets other threads of Python run."""
        with self._or_nothing() as connection:
            connection.execute("COMMIT")
        self._sum = self._next_sum

    def publish(self, batch: Batch[V]) -> None:
        """Make the batch visible to readers (STORE-16)."""
        self._memory.publish(batch)
        self._written = {}

    def _size_of(self, value: V) -> int:
        """The bytes of a value. One that is being written has been encoded already."""
        size = self._written.get(id(value))
        return len(self._encode(value)) if size is None else size

    def _rows(self, changes: Sequence[Change[V]]) -> builtins.list[Row]:
        rows: builtins.list[Row] = []
        revision = place = 0
        self._written = {}
        for change in changes:
            place = place + 1 if change.revision == revision else 0
            revision = change.revision
            if place >= WRITES_MAX:
                raise ValueError(f"a transaction of more than {WRITES_MAX} changes")
            record = change.record if change.record is not None else change.previous
            assert record is not None, "a change without a record before or after"
            value = None if change.record is None else self._encode(record.value)
            if value is not None:
                self._written[id(record.value)] = len(value)
            row = (
                (revision << _PLACE_BITS) + place,
                change.key,
                value,
                record.create_revision,
                record.version,
            )
            rows.append((*row, checksum(*row)))
        return rows

    def compact(self, revision: Revision, changes_max: int | None = None) -> bool:
        """As `MemoryEngine.compact`, on disk first. O(changes deleted). If it raises
        StoreUnavailable, nothing was deleted."""
        if revision > self.revision:
            raise FutureRevision(self.revision)
        if revision <= self.compacted:
            return True
        wanted, revision = revision, self._memory.compaction_step(revision, changes_max)
        rows: builtins.list[tuple[int, int, str]] = []
        for change in self._memory.changes_until(revision):
            if change.previous is not None:
                rows.append(_row_of(change.previous.mod_revision, change.key))
            if change.record is None:
                rows.append(_row_of(change.revision, change.key))
        total = wrapped(
            self._sum - checksum_of_compacted(self.compacted) + checksum_of_compacted(revision)
        )
        with self._transaction() as connection:
            connection.execute("UPDATE meta SET value = ? WHERE name = 'compacted'", (revision,))
            for start in range(0, len(rows), DELETED_AT_ONCE):
                portion = rows[start : start + DELETED_AT_ONCE]
                deleted = connection.execute(_deletion(len(portion)), [*chain(*portion)])
                total = wrapped(total - sum([found for (found,) in deleted.fetchall()]))
            connection.execute("UPDATE meta SET value = ? WHERE name = 'sum'", (total,))
        self._sum = total
        self._memory.compact(revision)
        return revision == wanted

    def surplus(self, changes_max: int, bytes_max: int) -> Revision | None:
        """As `Engine.surplus`."""
        return self._memory.surplus(changes_max, bytes_max)

    def probe(self) -> None:
        """Check that a transaction can be written, else raise StoreUnavailable. One synchronisation
        of the disk."""
        with self._transaction() as connection:
            connection.execute("UPDATE meta SET value = value WHERE name = 'compacted'")

    def shrink(self) -> bool:
        """Return a portion of free pages to the file system; True if there are more (STORE-22).
        Raises StoreUnavailable."""
        with self._unavailable():
            if self._surplus() <= 0:
                return False
            self._connection.execute(
                f"PRAGMA incremental_vacuum({min(self._surplus(), VACUUM_PAGES)})"
            ).fetchall()
            if self._surplus() > 0:
                return True
            # the checkpoint truncates the file
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            return False

    def _surplus(self) -> int:
        """How many free pages should be returned."""
        if not self._can_shrink:
            return 0
        (free,) = self._connection.execute("PRAGMA freelist_count").fetchone()
        (pages,) = self._connection.execute("PRAGMA page_count").fetchone()
        return int(free - max(SPARE_PAGES, pages // 4))

    def close(self) -> None:
        """Close the file. Committed data is on disk even if this is never called."""
        self._connection.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """A transaction: durable at the end, or StoreUnavailable and no effect (STORE-15)."""
        with self._or_nothing() as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")

    @contextmanager
    def _or_nothing(self) -> Iterator[sqlite3.Connection]:
        """A part of a transaction: an error ends the transaction without effect."""
        connection = self._connection
        with self._unavailable():
            try:
                yield connection
            except BaseException:
                # SQLite may have rolled back already
                if connection.in_transaction:
                    with suppress(sqlite3.Error):
                        connection.execute("ROLLBACK")
                raise

    @contextmanager
    def _unavailable(self) -> Iterator[None]:
        """Raise errors that a disk can cause as StoreUnavailable, others unchanged."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            if isinstance(error, _OWN_ERRORS):
                raise
            raise StoreUnavailable(
                f"store {self.path}: {error}; nothing was changed; free the disk or repair it"
            ) from error

    # --- Starting

    def _recover(self, decode: Callable[[str, bytes], V]) -> None:
        """Rebuild the state and its history from the journal. Raises StoreCorrupt if rows are
        missing or cannot be read."""
        compacted: Revision = _meta(self._connection, "compacted")
        if not isinstance(compacted, int) or compacted.bit_length() >= SUM_BITS:
            raise StoreCorrupt(
                f"store {self.path}: how far it is compacted was altered; {_NEXT_STEP}"
            )
        records: dict[str, Record[V]] = {}
        changes: builtins.list[Change[V]] = []
        last = max(compacted, FIRST_REVISION)
        total = checksum_of_compacted(compacted) + checksum_of_cluster(self.cluster_id)
        with closing(self._connection.execute("SELECT * FROM journal ORDER BY position")) as rows:
            for position, key, wire, create_revision, version, found in rows:
                revision = position >> _PLACE_BITS
                if not is_whole(position, key, wire, create_revision, version, found):
                    raise StoreCorrupt(
                        f"store {self.path}: {key} at revision {revision} was altered "
                        f"(checksum); {_NEXT_STEP}"
                    )
                total += found
                if revision > last + 1:
                    raise StoreCorrupt(
                        f"store {self.path}: revision {last + 1} is missing; {_NEXT_STEP}"
                    )
                last = max(last, revision)
                previous = records.get(key)
                if wire is None:
                    records.pop(key, None)
                    record = None
                else:
                    try:
                        value = self._stamp(decode(key, wire), revision)  # STORE-27
                    except Exception as error:
                        words = (
                            f"store {self.path}: {key} at revision {revision} cannot be read: "
                            f"{error}; {_NEXT_STEP}"
                        )
                        raise StoreCorrupt(words) from error
                    record = records[key] = Record(key, value, create_revision, revision, version)
                if revision > compacted:
                    changes.append(Change(revision, key, record, previous))
        self._sum = wrapped(total)
        if self._sum != _meta(self._connection, "sum"):
            raise StoreCorrupt(
                f"store {self.path}: rows of the journal are missing or altered (their sum "
                f"differs); {_NEXT_STEP}"
            )
        self._memory.restore(records.values(), changes, last, compacted)


_NEXT_STEP: Final = "restore the file from a backup, or move it away to begin with an empty store"
Row: TypeAlias = tuple[int, str, bytes | None, Revision, int, int]
"""The columns of a row of the journal."""


@cache
def _deletion(count: int) -> str:
    """The statement that deletes so many rows, given by `_row_of`, and returns their checksums. One
    statement for each row takes up to twice as long."""
    return f"""
        WITH unneeded(first, last, name) AS (VALUES {", ".join(["(?, ?, ?)"] * count)})
        DELETE FROM journal WHERE position IN (
            SELECT position FROM unneeded CROSS JOIN journal
            WHERE position BETWEEN first AND last AND key = name
        ) RETURNING checksum
    """


def _row_of(revision: Revision, key: str) -> tuple[int, int, str]:
    """The range of positions and the key of the row of `key` at `revision`."""
    first = revision << _PLACE_BITS
    return first, first + WRITES_MAX - 1, key


def _make_file(path: str) -> bool:
    """Create the file with access for this user only, whatever the umask (STORE-20); True if it did
    not exist.

    SQLite creates its other files with the same mode.
    """
    directory = os.path.dirname(path) or "."
    if not os.path.isdir(directory):
        raise StoreUnwritable(f"store {path}: there is no directory {directory}; create it")
    if os.path.isdir(path):
        raise StoreUnwritable(f"store {path}: is a directory; name a file in it")
    if not os.access(path if os.path.exists(path) else directory, os.W_OK):
        raise StoreUnwritable(
            f"store {path}: not writable; choose another place or change its permissions"
        )
    try:
        # An existing file is not opened: closing a second descriptor would release the locks of an
        # engine in this process.
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return False
    except OSError as error:
        raise StoreUnwritable(f"store {path}: {error.strerror}; choose another place") from None
    os.fchmod(descriptor, 0o600)
    os.close(descriptor)
    return True


def _make_private(path: str) -> None:
    """Remove the access of other users to the file and its companions (STORE-20). Raises
    StoreUnwritable."""
    for each in (path, f"{path}-wal", f"{path}-shm"):
        try:
            if os.stat(each).st_mode & 0o077:
                os.chmod(each, 0o600)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise StoreUnwritable(
                f"store {each}: open to other users ({error.strerror}); chmod 600 it"
            ) from None


def _open(path: str) -> sqlite3.Connection:
    """A connection to the file, which has not been read yet."""
    with _explained(path):
        # No waiting for the lock, which another engine keeps while it runs. Transactions are begun
        # and ended by statements.
        return sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)


def _identify(connection: sqlite3.Connection, path: str, cluster_id: str | None) -> str:
    """Lock the file, check that it is a store of this cluster (STORE-18), and return its cluster.
    An empty file gets the layout, with `cluster_id`."""
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    if os.path.getsize(path) == 0:
        # It locks the file and writes the first page. Later, the file would have to be rewritten.
        connection.execute(f"PRAGMA auto_vacuum = {_INCREMENTAL}")
    connection.execute("BEGIN IMMEDIATE")  # the lock, before anything else is read or written
    connection.execute("COMMIT")
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    fresh = application_id == 0 and tables == 0
    if not fresh and application_id != APPLICATION_ID:
        raise StoreCorrupt(f"store {path}: a database of another application; name another file")
    if not fresh:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version not in (1, 2, SCHEMA_VERSION):
            raise OtherSchema(
                f"store {path}: has layout {version}, this refk8s reads {SCHEMA_VERSION}; "
                "use the version that wrote it"
            )
        found: str = _meta(connection, "cluster_id")
        if cluster_id not in (None, found):
            raise OtherCluster(
                f"store {path}: belongs to cluster {found}, not {cluster_id}; "
                "name another file or that cluster"
            )
    connection.execute("PRAGMA journal_mode = WAL")
    # each commit reaches the disk before it returns (STORE-14)
    connection.execute("PRAGMA synchronous = FULL")
    # for systems whose plain fsync does not flush the drive's cache
    connection.execute("PRAGMA fullfsync = ON")
    connection.execute(f"PRAGMA journal_size_limit = {WAL_BYTES_KEPT}")
    if not fresh:
        if version == 1:
            _add_checksums(connection)
        elif version != SCHEMA_VERSION:
            # an older refk8s, which does not know the checksums of new rows, refuses the file
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        return found
    made = cluster_id if cluster_id is not None else str(uuid.uuid4())
    empty = wrapped(checksum_of_compacted(0) + checksum_of_cluster(made))
    connection.execute("BEGIN IMMEDIATE")
    for statement in _SCHEMA.split(";\n"):
        connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    connection.executemany(
        "INSERT INTO meta VALUES (?, ?)", [("cluster_id", made), ("compacted", 0), ("sum", empty)]
    )
    connection.execute("COMMIT")
    return made


def _add_checksums(connection: sqlite3.Connection) -> None:
    """Give the rows of layout 1 checksums, in one transaction. O(journal), once for each file."""
    connection.create_function("refk8s_checksum", 5, checksum, deterministic=True)
    compacted = _meta(connection, "compacted")
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute("ALTER TABLE journal ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0")
        connection.execute(
            "UPDATE journal SET checksum = refk8s_checksum(position, key, value, "
            "create_revision, version)"
        )
        total = checksum_of_compacted(compacted) + checksum_of_cluster(
            _meta(connection, "cluster_id")
        )
        total += sum(found for (found,) in connection.execute("SELECT checksum FROM journal"))
        connection.execute("INSERT OR REPLACE INTO meta VALUES ('sum', ?)", (wrapped(total),))
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _allow_shrinking(connection: sqlite3.Connection) -> bool:
    """Whether the file can return pages. A file of layout 1 is rewritten once for that, if the disk
    has room."""
    if connection.execute("PRAGMA auto_vacuum").fetchone() != (_INCREMENTAL,):
        with suppress(sqlite3.OperationalError):
            connection.execute(f"PRAGMA auto_vacuum = {_INCREMENTAL}")
            connection.execute("VACUUM")
    return bool(connection.execute("PRAGMA auto_vacuum").fetchone() == (_INCREMENTAL,))


_INCREMENTAL: Final = 2


def _meta(connection: sqlite3.Connection, name: str) -> Any:
    row = connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
    if row is None:
        raise sqlite3.DatabaseError(f"no {name} in it")
    return row[0]


@contextmanager
def _explained(path: str) -> Iterator[None]:
    """Convert SQLite's errors while opening into messages with a next step."""
    try:
        yield
    except (TypeError, ValueError) as error:
        # an altered row may have values of any type, and invalid texts
        raise StoreCorrupt(
            f"store {path}: was altered ({' '.join(str(error).split())}); {_NEXT_STEP}"
        ) from error
    except sqlite3.Error as error:
        words = " ".join(str(error).split())
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise StoreInUse(
                f"store {path}: another process has it open; stop that one or name another file"
            ) from error
        if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
            raise StoreUnwritable(
                f"store {path}: {words}; check the permissions of the file and its directory"
            ) from error
        if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
            raise StoreUnwritable(f"store {path}: {words}; free or repair the disk") from error
        raise StoreCorrupt(
            f"store {path}: {words}; restore the file from a backup or name another"
        ) from error
