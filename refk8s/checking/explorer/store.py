"""The store of the explorer: each resource has its own history and revisions. Rule EXPLORE-4
(spec/explorer.md).

Kubernetes may store resources in several etcd clusters, so no client may compare revisions of
different resources. With separate histories, two orders of writes to different resources lead to
the same state. Each history is a real `History`, without the changes that no machine can request
any more. The real `handle` decides requests, and the real `commit` writes.
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

StoreState = tuple[int, ...]
"""A state of the store: for each resource, in the order of `StoreStates.prefixes`, the number of
its state; 0: it has never been written."""


class ResourceState(Value, frozen=True, eq=False):
    """One resource: its history, and how many objects of each key were deleted, so that no uid is
    used twice."""

    history: History[Any]
    deletions: Map[str, int]


class StoreStates:
    """All states of resources in this exploration, by number."""

    def __init__(self, interner: Interner, seed: bytes, one_revision: bool = False) -> None:
        self.one_revision = one_revision
        self.interner = interner
        self.seed = seed
        self.positions: dict[str, int] = {}  # prefix -> position in a store
        self.prefixes: list[str] = []
        self.resource_states: list[ResourceState] = [ResourceState(EMPTY, Map())]
        self.revisions: list[int] = [EMPTY.revision]
        self.compacted_revisions: list[int] = [EMPTY.compacted]
        self._numbers: dict[Any, int] = {}
        self._cut: dict[tuple[int, int], int] = {}

    def position(self, prefix: str) -> int:
        """The position of a resource in a StoreState."""
        position = self.positions.get(prefix)
        if position is None:
            position = self.positions[prefix] = len(self.prefixes)
            self.prefixes.append(prefix)
        return position

    def resource_state(self, store: StoreState, position: int) -> int:
        return store[position] if position < len(store) else 0

    def with_resource(self, store: StoreState, position: int, resource_state: int) -> StoreState:
        longer = list(store) + [0] * (position + 1 - len(store))
        longer[position] = resource_state
        return tuple(longer)

    def keep(self, prefix: str, resource_state: ResourceState) -> int:
        """The number of a resource state: the same for all that no reader can distinguish."""
        history, number = resource_state.history, self.interner.number
        records = tuple([(number(r.key), number(r.value)) for r in history.list(prefix).records])
        log = tuple([(c.revision, number(c.key), _content(c.record, number), _content(c.previous, number))
                     for c in history.changes(prefix, history.compacted)])  # fmt: skip
        key = (
            prefix,
            history.revision,
            history.compacted,
            records,
            log,
            number(resource_state.deletions),
        )
        found = self._numbers.get(key)
        if found is None:
            found = self._numbers[key] = len(self.resource_states)
            self.resource_states.append(resource_state)
            self.revisions.append(history.revision)
            self.compacted_revisions.append(history.compacted)
        return found

    def cut(self, store: StoreState, position: int, floor: int) -> StoreState:
        """The store without the changes of one resource up to this revision."""
        resource_state = store[position]
        # 0: the resource was never written
        if not resource_state or floor <= self.compacted_revisions[resource_state]:
            return store
        key = (resource_state, floor)
        if key not in self._cut:
            old = self.resource_states[resource_state]
            self._cut[key] = self.keep(
                self.prefixes[position], ResourceState(compact(old.history, floor), old.deletions)
            )
        return self.with_resource(store, position, self._cut[key])

    def compact(self, store: StoreState) -> StoreState:
        """The store without history. Another resource was written before, so that every watch is
        behind the compacted revision."""
        for position in range(len(self.prefixes)):
            old = self.resource_states[self.resource_state(store, position)]
            bare = compact(old.history, old.history.revision)
            later = self.reader(store, position).revision + 1
            store = self.with_resource(
                store,
                position,
                self.keep(
                    self.prefixes[position],
                    ResourceState(History(later, later, bare._by_resource), old.deletions),
                ),
            )
        return store

    def reader(self, store: StoreState, home: int) -> "Reader":
        return Reader(self, store, home)

    def decide(
        self, store: StoreState, request: Request, now: Instant
    ) -> tuple[StoreState, Response | Outcome, Committed[Any] | None]:
        """The store after a request, the answer or stream, and the commit."""
        home = self.position(request.resource.prefix)
        reader = self.reader(store, home)
        outcome = handle(
            Exchange(request, reader, Context(now, SeededChance(self._seed_for(reader, request))))
        )
        if not isinstance(outcome, Commit):
            return store, outcome, None
        txn = outcome.txn
        for compare in txn.compares:
            record = reader.get(compare.key)
            if (record.mod_revision if record is not None else 0) != compare.mod_revision:
                raise Impossible("a request handled on the newest state met a conflict")
        parts: dict[int, list[Put[Any] | Delete]] = {}
        for write in txn.writes:
            parts.setdefault(self.position(resource_prefix(write.key)), []).append(write)
        changes: list[Change[Any]] = []
        for position in sorted(parts):
            old = self.resource_states[self.resource_state(store, position)]
            history, result = commit(
                self._reached(old.history, reader.revision), Txn((), tuple(parts[position])), stamp
            )
            assert isinstance(result, Committed)
            deletions = old.deletions
            for change in result.changes:
                if change.record is None:
                    deletions = deletions.set(change.key, deletions.get(change.key, 0) + 1)
            changes += result.changes
            store = self.with_resource(
                store,
                position,
                self.keep(self.prefixes[position], ResourceState(history, deletions)),
            )
        committed = Committed(self.revisions[self.resource_state(store, home)], tuple(changes))
        if outcome.rest is None:
            return store, outcome.respond(committed), committed
        store, answer, last = self.decide(store, outcome.rest, now)
        changes += last.changes if last is not None else ()
        return store, answer, Committed((last or committed).revision, tuple(changes))

    def _reached(self, history: History[Any], revision: int) -> History[Any]:
        """The history before the next write: with one counter, its revision is that of the
        store."""
        return (
            History(revision, history.compacted, history._by_resource)
            if self.one_revision
            else history
        )

    def _seed_for(self, reader: "Reader", request: Request) -> bytes:
        """The seed of random values for a write. For a create it depends on the name and on how
        often that was used (EXPLORE-4)."""
        name = request.name or getattr(getattr(request.body, "metadata", None), "name", None) or ""
        if request.verb == "create" and name:
            key = request.resource.key(request.namespace, name)
            return chance_of_name(
                self.seed,
                key,
                self.resource_states[self.resource_state(reader.store, reader.home)].deletions.get(
                    key, 0
                ),
            )
        return self.seed + request.resource.prefix.encode() + reader.revision.to_bytes(8, "big")


def chance_of_name(seed: bytes, key: str, used: int) -> bytes:
    """The seed of an object's uid: its key, and how many objects of that key were deleted
    before."""
    return seed + key.encode() + used.to_bytes(4, "big")


def _content(record: Record[Any] | None, number: Any) -> int:
    return -1 if record is None else number(record.value)


class Reader:
    """A store as the API server reads it. `home`: the resource of the request, whose revision is
    that of the store."""

    __slots__ = ("home", "store", "store_states")

    def __init__(self, store_states: StoreStates, store: StoreState, home: int) -> None:
        self.store_states, self.store, self.home = store_states, store, home

    def _history(self, prefix: str) -> History[Any]:
        return self.store_states.resource_states[
            self.store_states.resource_state(
                self.store, self.store_states.position(resource_prefix(prefix))
            )
        ].history

    @property
    def revision(self) -> int:
        revisions = self.store_states.revisions
        if self.store_states.one_revision:
            return max(
                [revisions[resource_state] for resource_state in self.store], default=revisions[0]
            )
        return revisions[self.store_states.resource_state(self.store, self.home)]

    @property
    def compacted(self) -> int:
        return self.store_states.compacted_revisions[
            self.store_states.resource_state(self.store, self.home)
        ]

    def _at(self, history: History[Any], at: int) -> int:
        """A revision of the store as one of this history, which lags behind if one counter is
        shared with other resources."""
        return min(at, history.revision) if self.store_states.one_revision else at

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
            if self.store_states.one_revision and at is None
            else page
        )

    def changes(self, prefix: str, after: int, limit: int | None = None) -> tuple[Change[Any], ...]:
        history = self._history(prefix)
        return history.changes(prefix, self._at(history, after), limit)

    def prefix_revision(self, prefix: str) -> int:
        return self._history(prefix).prefix_revision(prefix)
