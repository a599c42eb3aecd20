"""The store as the explorer has it: each resource a history of its own, with revisions of its own.
Rule EXPLORE-4 (spec/explorer.md).

Kubernetes may keep resources in several etcd clusters, so no client may compare revisions of different
resources; kept apart, two orders of writes to different resources lead to the same state. Each
history is the real `History`, cut off where no machine will ask any more. The decision about a request
is the real `handle`, and each write is the real `commit`.
"""

from typing import Any

from immutables import Map

from refk8s.checking.explorer.interning import Interner
from refk8s.core.api.request import Request, Response
from refk8s.core.apiserver.exchange import Exchange
from refk8s.core.apiserver.handle import handle
from refk8s.core.apiserver.lifecycle import stamp
from refk8s.core.apiserver.outcome import Commit, Outcome
from refk8s.core.context import Context, Instant, SeededChance
from refk8s.core.machine import Impossible
from refk8s.core.store import (
    EMPTY,
    Change,
    Committed,
    Delete,
    History,
    Page,
    Put,
    Record,
    Txn,
    commit,
    compact,
    resource_prefix,
)
from refk8s.core.value import Value

Row = tuple[int, ...]
"""A state of the store: for each resource, in the order of `Book.prefixes`, the number of its
shelf."""


class Shelf(Value, frozen=True, eq=False):
    """One resource: its history, and how often objects of a name have come and gone (so that no uid
    comes twice)."""

    history: History[Any]
    graves: Map[str, int]


class Book:
    """All shelves met so far, by number."""

    def __init__(self, interner: Interner, seed: bytes, one_revision: bool = False) -> None:
        self.one_revision = one_revision
        self.interner = interner
        self.seed = seed
        self.places: dict[str, int] = {}  # prefix -> place in a row
        self.prefixes: list[str] = []
        self.shelves: list[Shelf] = [Shelf(EMPTY, Map())]
        self.tops: list[int] = [EMPTY.revision]
        self.floors: list[int] = [EMPTY.compacted]
        self._numbers: dict[Any, int] = {}
        self._cut: dict[tuple[int, int], int] = {}

    def place(self, prefix: str) -> int:
        """Where a resource stands in a row."""
        place = self.places.get(prefix)
        if place is None:
            place = self.places[prefix] = len(self.prefixes)
            self.prefixes.append(prefix)
        return place

    def shelf(self, row: Row, place: int) -> int:
        return row[place] if place < len(row) else 0

    def with_shelf(self, row: Row, place: int, shelf: int) -> Row:
        longer = list(row) + [0] * (place + 1 - len(row))
        longer[place] = shelf
        return tuple(longer)

    def keep(self, prefix: str, shelf: Shelf) -> int:
        """The number of a shelf: one for all that no reader can tell apart."""
        history, number = shelf.history, self.interner.number
        records = tuple([(number(r.key), number(r.value)) for r in history.list(prefix).records])
        log = tuple([(c.revision, number(c.key), _content(c.record, number), _content(c.previous, number))
                     for c in history.changes(prefix, history.compacted)])  # fmt: skip
        key = (prefix, history.revision, history.compacted, records, log, number(shelf.graves))
        found = self._numbers.get(key)
        if found is None:
            found = self._numbers[key] = len(self.shelves)
            self.shelves.append(shelf)
            self.tops.append(history.revision)
            self.floors.append(history.compacted)
        return found

    def cut(self, row: Row, place: int, floor: int) -> Row:
        """The row with what happened up to this revision of one resource forgotten."""
        shelf = row[place]
        if not shelf or floor <= self.floors[shelf]:  # the empty shelf is every resource's
            return row
        key = (shelf, floor)
        if key not in self._cut:
            old = self.shelves[shelf]
            self._cut[key] = self.keep(
                self.prefixes[place], Shelf(compact(old.history, floor), old.graves)
            )
        return self.with_shelf(row, place, self._cut[key])

    def compact(self, row: Row) -> Row:
        """All history is discarded. Another resource was written before that, so the revision is
        past for every watch."""
        for place in range(len(self.prefixes)):
            old = self.shelves[self.shelf(row, place)]
            bare = compact(old.history, old.history.revision)
            later = self.reader(row, place).revision + 1
            row = self.with_shelf(
                row,
                place,
                self.keep(
                    self.prefixes[place], Shelf(History(later, later, bare._shelves), old.graves)
                ),
            )
        return row

    def reader(self, row: Row, home: int) -> "Reader":
        return Reader(self, row, home)

    def decide(
        self, row: Row, request: Request, now: Instant
    ) -> tuple[Row, Response | Outcome, Committed[Any] | None]:
        """What the API server does with a request: the store after it, the answer (or stream), and
        what was committed."""
        home = self.place(request.resource.prefix)
        reader = self.reader(row, home)
        outcome = handle(
            Exchange(request, reader, Context(now, SeededChance(self._seed_for(reader, request))))
        )
        if not isinstance(outcome, Commit):
            return row, outcome, None
        txn = outcome.txn
        for compare in txn.compares:
            record = reader.get(compare.key)
            if (record.mod_revision if record is not None else 0) != compare.mod_revision:
                raise Impossible("a request handled on the newest state met a conflict")
        parts: dict[int, list[Put[Any] | Delete]] = {}
        for write in txn.writes:
            parts.setdefault(self.place(resource_prefix(write.key)), []).append(write)
        changes: list[Change[Any]] = []
        for place in sorted(parts):
            old = self.shelves[self.shelf(row, place)]
            history, result = commit(
                self._reached(old.history, reader.revision), Txn((), tuple(parts[place])), stamp
            )
            assert isinstance(result, Committed)
            graves = old.graves
            for change in result.changes:
                if change.record is None:
                    graves = graves.set(change.key, graves.get(change.key, 0) + 1)
            changes += result.changes
            row = self.with_shelf(
                row, place, self.keep(self.prefixes[place], Shelf(history, graves))
            )
        committed = Committed(self.tops[self.shelf(row, home)], tuple(changes))
        if outcome.rest is not None:
            raise Impossible("more objects are deleted at once than a scope has")
        return row, outcome.respond(committed), committed

    def _reached(self, history: History[Any], revision: int) -> History[Any]:
        """A history whose next revision is the next of all, where there is one count for all."""
        return (
            History(revision, history.compacted, history._shelves) if self.one_revision else history
        )

    def _seed_for(self, reader: "Reader", request: Request) -> bytes:
        """Chance for a write: of a creation it follows from the name and from how often that has
        been used (EXPLORE-4)."""
        name = request.name or getattr(getattr(request.body, "metadata", None), "name", None) or ""
        if request.verb == "create" and name:
            key = request.resource.key(request.namespace, name)
            return chance_of_name(
                self.seed, key, self.shelves[self.shelf(reader.row, reader.home)].graves.get(key, 0)
            )
        return self.seed + request.resource.prefix.encode() + reader.revision.to_bytes(8, "big")


def chance_of_name(seed: bytes, key: str, used: int) -> bytes:
    """What the uid of an object follows from: its name, and how many of that name there have
    been."""
    return seed + key.encode() + used.to_bytes(4, "big")


def _content(record: Record[Any] | None, number: Any) -> int:
    return -1 if record is None else number(record.value)


class Reader:
    """A row as the API server reads it. `home`: the resource that is asked about, whose revision
    counts."""

    __slots__ = ("book", "home", "row")

    def __init__(self, book: Book, row: Row, home: int) -> None:
        self.book, self.row, self.home = book, row, home

    def _history(self, prefix: str) -> History[Any]:
        return self.book.shelves[
            self.book.shelf(self.row, self.book.place(resource_prefix(prefix)))
        ].history

    @property
    def revision(self) -> int:
        tops = self.book.tops
        if self.book.one_revision:
            return max([tops[shelf] for shelf in self.row], default=tops[0])
        return tops[self.book.shelf(self.row, self.home)]

    @property
    def compacted(self) -> int:
        return self.book.floors[self.book.shelf(self.row, self.home)]

    def _at(self, history: History[Any], at: int) -> int:
        """A revision as this resource's history has it: where there is one count for all, others
        have gone on without it."""
        return min(at, history.revision) if self.book.one_revision else at

    def get(self, key: str, at: int | None = None) -> Record[Any] | None:
        history = self._history(key)
        return history.get(key, at if at is None else self._at(history, at))

    def list(
        self, prefix: str, at: int | None = None, after: str | None = None, limit: int | None = None
    ) -> Page[Any]:
        history = self._history(prefix)
        page = history.list(prefix, at if at is None else self._at(history, at), after, limit)
        return (
            Page(page.records, self.revision, page.more, page.remaining)
            if self.book.one_revision and at is None
            else page
        )

    def changes(self, prefix: str, after: int, limit: int | None = None) -> tuple[Change[Any], ...]:
        history = self._history(prefix)
        return history.changes(prefix, self._at(history, after), limit)

    def prefix_revision(self, prefix: str) -> int:
        return self._history(prefix).prefix_revision(prefix)
