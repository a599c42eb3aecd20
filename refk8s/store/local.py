"""A store that only this process writes: an engine, in the event loop. Rules STORE-22 ... STORE-29.

Transactions that are submitted within two turns of the event loop are committed as one batch, with
one synchronisation of the disk. The engine's reads are the reads here, so they are never older than
the store.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias, TypeVar

from refk8s.core.store import Change, Committed, Conflict, Engine, Revision, Txn
from refk8s.core.store_port import Failed, StoreUnavailable, TxnRefused
from refk8s.store import window
from refk8s.store.reads import Reads

log = logging.getLogger("refk8s")

V = TypeVar("V")

Done: TypeAlias = Callable[[Committed[V] | Conflict | Failed], None]

COMPACT_CHANGES: Final = 500
"""The changes of one portion of a compaction: some 10 ms."""

COMPACT_PAUSE_SECONDS: Final = 0.02
"""The time for other requests between two portions."""

DISCARD_RETRY_SECONDS: Final = 10.0
"""The pause after a failure to discard old changes."""


class LocalStore(Reads[V]):
    """The store over one engine, which no other code may write to."""

    is_current: Final = True

    def __init__(self, engine: Engine[V]) -> None:
        self._reads = self._engine = engine
        self._loop = asyncio.get_running_loop()
        self._waiting: list[tuple[Txn[V], Done[V]]] = []
        self._listeners: list[Callable[[Sequence[Change[V]]], None]] = []
        self._discarding: asyncio.Task[None] | None = None

    def refresh(self, done: Callable[[StoreUnavailable | None], None]) -> None:
        """Call `done` in the next turn: the reads here are current (STORE-25)."""
        self._loop.call_soon(done, None)

    # --- Writing

    def submit(self, txn: Txn[V], done: Done[V]) -> None:
        """Add the transaction to the next batch."""
        self._waiting.append((txn, done))
        if len(self._waiting) == 1:
            # A turn later: a client that is answered in this turn sends its next request at once.
            self._loop.call_soon(self._loop.call_soon, self._flush)

    def listen(self, changed: Callable[[Sequence[Change[V]]], None]) -> None:
        """Call `changed` with the changes of each batch."""
        self._listeners.append(changed)

    def _flush(self) -> None:
        batch, self._waiting = self._waiting, []
        if batch:
            self._commit(batch)

    def _commit(self, batch: Sequence[tuple[Txn[V], Done[V]]]) -> None:
        """Commit the batch, announce its changes, then report its outcomes (STORE-23, STORE-24)."""
        outcomes: Sequence[Committed[V] | Conflict | Failed]
        try:
            results = outcomes = self._engine.commit_batch([txn for txn, _ in batch])
        except StoreUnavailable as error:
            outcomes, results = [error] * len(batch), []
        except Exception as error:
            if len(batch) > 1:  # STORE-28
                for one in batch:
                    self._commit([one])
                return
            refused = TxnRefused(f"{type(error).__name__}: {error}")
            refused.__cause__ = error
            outcomes, results = [refused], []
        changes = [
            change for result in results if type(result) is Committed for change in result.changes
        ]
        if changes:
            self._bound()
            for changed in self._listeners:
                try:
                    changed(changes)
                except Exception:
                    log.exception("a listener to the store failed")
        for (_, done), outcome in zip(batch, outcomes, strict=True):
            try:
                done(outcome)
            except Exception:
                log.exception("the outcome of a transaction could not be reported")

    # --- Housekeeping

    def _bound(self) -> None:
        """Begin to discard the oldest changes if there are too many (STORE-29)."""
        too_many = window.HISTORY_CHANGES_MAX, window.HISTORY_BYTES_MAX
        if self._discarding is None and self._engine.surplus(*too_many) is not None:
            self._discarding = self._loop.create_task(self._discard())

    async def _discard(self) -> None:
        kept = window.KEPT_PART
        most = int(kept * window.HISTORY_CHANGES_MAX), int(kept * window.HISTORY_BYTES_MAX)
        try:
            while (surplus := self._engine.surplus(*most)) is not None:
                while not self._engine.compact(surplus, COMPACT_CHANGES):
                    await asyncio.sleep(COMPACT_PAUSE_SECONDS)
                await asyncio.sleep(COMPACT_PAUSE_SECONDS)
        except StoreUnavailable as error:
            log.error("old changes cannot be discarded: %s", error)
            await asyncio.sleep(DISCARD_RETRY_SECONDS)
        finally:
            self._discarding = None

    async def compact(self, revision: Revision) -> None:
        """Discard the history in portions, then make the file smaller in portions (STORE-22)."""
        while not self._engine.compact(revision, COMPACT_CHANGES) or self._engine.shrink():
            await asyncio.sleep(COMPACT_PAUSE_SECONDS)

    async def probe(self) -> None:
        """As `Engine.probe`."""
        self._engine.probe()

    async def close(self) -> None:
        """Commit the submitted transactions, and close the engine."""
        self._flush()
        if self._discarding is not None:
            self._discarding.cancel()
        self._engine.close()
