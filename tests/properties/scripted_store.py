"""A shared store whose answers come when a test says so: late, lost, refused, or after the write of
another API server.

`truth` is the store itself, a `History`. `here` is what the API server under test can read: the
same history at an earlier revision.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from refk8s.core.apiserver.lifecycle import stamp
from refk8s.core.store import Change, Committed, Conflict, History, Txn, commit
from refk8s.core.store_port import Failed, StoreUnavailable, StoreUnknown, TxnRefused

Done = Callable[[Committed[Any] | Conflict | Failed], None]


class ScriptedStore:
    """A `Store` (core/store_port.py) in which nothing happens by itself."""

    is_current = False

    def __init__(self, history: History[Any]) -> None:
        self.truth = self.here = history
        self.past = {history.revision: history}
        self.in_flight: list[tuple[Txn[Any], Done]] = []
        self.lost: list[Txn[Any]] = []  # reported as unknown; each may still take effect
        self.failures: Counter[type] = Counter()  # reported, transactions and refreshes
        self._outcomes: list[tuple[Committed[Any] | Conflict, Done]] = []  # not shown here yet
        self._refreshes: list[tuple[int, Callable[[StoreUnavailable | None], None]]] = []
        self._listeners: list[Callable[[Sequence[Change[Any]]], None]] = []

    # --- reading

    @property
    def revision(self) -> int:
        return self.here.revision

    @property
    def compacted(self) -> int:
        return self.here.compacted

    def get(self, key: str, at: int | None = None) -> Any:
        return self.here.get(key, at)

    def list(
        self, prefix: str, at: int | None = None, after: str | None = None, limit: int | None = None
    ) -> Any:
        return self.here.list(prefix, at, after, limit)

    def changes(self, prefix: str, after: int, limit: int | None = None) -> Any:
        return self.here.changes(prefix, after, limit)

    def prefix_revision(self, prefix: str) -> int:
        return self.here.prefix_revision(prefix)

    # --- what the API server asks

    def submit(self, txn: Txn[Any], done: Done) -> None:
        self.in_flight.append((txn, done))

    def listen(self, changed: Callable[[Sequence[Change[Any]]], None]) -> None:
        self._listeners.append(changed)

    def refresh(self, done: Callable[[StoreUnavailable | None], None]) -> None:
        self._refreshes.append((self.truth.revision, done))

    async def compact(self, revision: int) -> None:
        raise NotImplementedError

    async def probe(self) -> None:
        raise NotImplementedError

    async def close(self) -> None:
        raise NotImplementedError

    # --- what the script says

    @property
    def is_settled(self) -> bool:
        """Whether nothing is left to happen."""
        waiting = self.in_flight or self._outcomes or self._refreshes
        return not waiting and self.here is self.truth

    def write(self, txn: Txn[Any]) -> Committed[Any] | Conflict:
        """Commit the transaction, of any API server, to the store itself."""
        self.truth, outcome = commit(self.truth, txn, stamp)
        self.past[self.truth.revision] = self.truth
        return outcome

    def commit(self, number: int) -> None:
        """Commit a transaction in flight; its outcome is reported once it is shown here."""
        if self.in_flight:
            txn, done = self.in_flight.pop(number % len(self.in_flight))
            self._outcomes.append((self.write(txn), done))

    def fail(self, number: int, refuse: bool) -> None:
        """Report a transaction in flight as failed."""
        if self.in_flight:
            _, done = self.in_flight.pop(number % len(self.in_flight))
            failed = TxnRefused("too large") if refuse else StoreUnavailable("full")
            self.failures[type(failed)] += 1
            done(failed)

    def lose(self, number: int) -> None:
        """Report a transaction in flight as unknown."""
        if self.in_flight:
            txn, done = self.in_flight.pop(number % len(self.in_flight))
            self.lost.append(txn)
            done(StoreUnknown("no answer"))

    def find(self, number: int) -> None:
        """Let a transaction that was reported as unknown take effect, if its compares still
        hold."""
        if self.lost:
            self.write(self.lost.pop(number % len(self.lost)))

    def show(self) -> None:
        """Show one more revision here, announce it, and report what it decides."""
        if self.here is not self.truth:
            before = self.here.revision
            self.here = self.past[before + 1]
            for changed in self._listeners:
                changed(self.here.changes("/", before))
        shown = self.here.revision
        reported = [one for one in self._outcomes if one[0].revision <= shown]
        self._outcomes = [one for one in self._outcomes if one[0].revision > shown]
        for outcome, done in reported:
            done(outcome)
        refreshed = [done for revision, done in self._refreshes if revision <= shown]
        self._refreshes = [one for one in self._refreshes if one[0] > shown]
        for done in refreshed:
            done(None)

    def refuse_refreshes(self) -> None:
        """Report all refreshes as failed."""
        failed, self._refreshes = self._refreshes, []
        self.failures[StoreUnavailable] += len(failed)
        for _, done in failed:
            done(StoreUnavailable("no quorum"))
