"""A store that only this process writes: an engine, in the event loop. Rules STORE-22 ... STORE-30.

Transactions that are submitted within two turns of the event loop are committed as one batch, with
one synchronisation of the disk; an engine without a disk commits those of one turn. A thread waits
for the disk, so that other requests are decided meanwhile; their transactions form the next batch
(STORE-30). The engine's reads are the reads here, so they are never older than the store.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, Protocol, TypeAlias, TypeVar, runtime_checkable

from refk8s.core.store import Change, Committed, Conflict, Engine, Revision, Txn
from refk8s.core.store_port import Failed, StoreUnavailable, TxnRefused
from refk8s.store import window
from refk8s.store.memory import Batch
from refk8s.store.reads import Reads
from refk8s.store.writer import Writer

log = logging.getLogger("refk8s")

V = TypeVar("V")

T = TypeVar("T")

Done: TypeAlias = Callable[[Committed[V] | Conflict | Failed], None]
Submitted: TypeAlias = tuple[Txn[V], Done[V]]

COMPACT_CHANGES: Final = 500
"""The changes of one portion of a compaction: some 10 ms."""

COMPACT_PAUSE_SECONDS: Final = 0.02
"""The time for other requests between two portions."""

DISCARD_RETRY_SECONDS: Final = 10.0
"""The pause after a failure to discard old changes."""


@runtime_checkable
class DurableEngine(Protocol[V]):
    """An engine that can make a batch durable in another thread, in three steps. Meanwhile it is
    only read."""

    def stage(self, txns: Sequence[Txn[V]]) -> Batch[V]:
        """Decide the transactions and change nothing."""

    def begin_write(self, batch: Batch[V]) -> None:
        """Prepare the write. If it raises, nothing has changed."""

    def end_write(self) -> None:
        """Make the batch durable; StoreUnavailable if that is not possible. Runs in any thread."""

    def publish(self, batch: Batch[V]) -> None:
        """Make the batch visible to readers."""


class LocalStore(Reads[V]):
    """The store over one engine, which no other code may write to."""

    is_current: Final = True

    def __init__(self, engine: Engine[V]) -> None:
        self._engine = engine
        self._read_from(engine)
        self._loop = asyncio.get_running_loop()
        self._waiting: list[Submitted[V]] = []
        self._listeners: list[Callable[[Sequence[Change[V]]], None]] = []
        self._discarding: asyncio.Task[None] | None = None
        # an engine whose writes end in a thread; the batch that is written; what waits for its end
        self._durable: DurableEngine[V] | None = (
            engine if isinstance(engine, DurableEngine) else None
        )
        self._writer = Writer(self._loop)
        self._writing: tuple[Sequence[Submitted[V]], Batch[V]] | None = None
        self._between: deque[Callable[[], None]] = deque()

    def refresh(self, done: Callable[[StoreUnavailable | None], None]) -> None:
        """Call `done` in the next turn: the reads here are current (STORE-25)."""
        self._loop.call_soon(done, None)

    # --- Writing

    def submit(self, txn: Txn[V], done: Done[V]) -> None:
        """Add the transaction to the next batch."""
        self._waiting.append((txn, done))
        if len(self._waiting) == 1 and self._writing is None:
            if self._durable is None:  # a larger batch saves nothing
                self._loop.call_soon(self._flush)
                return
            # A turn later: a client that is answered in this turn sends its next request at once.
            self._loop.call_soon(self._loop.call_soon, self._flush)

    def listen(self, changed: Callable[[Sequence[Change[V]]], None]) -> None:
        """Call `changed` with the changes of each batch."""
        self._listeners.append(changed)

    def _flush(self) -> None:
        """Begin with the next batch, unless one is being written."""
        if self._writing is None:
            self._commit(self._begin())

    def _begin(self) -> list[Submitted[V]]:
        """Begin to write the transactions that wait in the thread of a durable engine. Returns
        those that are to be committed here: all of another engine, those that change nothing, and
        those of which one is refused."""
        batch, self._waiting = self._waiting, []
        engine = self._durable
        if not batch or engine is None:
            return batch
        try:
            staged = engine.stage([txn for txn, _ in batch])
            if not staged.changes:
                return batch
            engine.begin_write(staged)
        except Exception:
            return batch
        self._writing = (batch, staged)
        self._writer.run(engine.end_write, self._written)
        return []

    def _written(self, problem: Exception | None) -> None:
        """The batch is durable, or has no effect. The next one is begun before its outcomes are
        reported, so that the disk is not idle meanwhile."""
        assert self._writing is not None and self._durable is not None
        (batch, staged), self._writing = self._writing, None
        outcomes: Sequence[Committed[V] | Conflict | Failed] = staged.results
        if problem is None:
            self._durable.publish(staged)
        elif isinstance(problem, StoreUnavailable):
            outcomes = [problem] * len(batch)
        else:
            outcomes = [_refused(problem)] * len(batch)
        while self._between:
            self._between.popleft()()
        rest = self._begin()
        self._report(batch, outcomes)
        self._commit(rest)

    def _commit(self, batch: Sequence[Submitted[V]]) -> None:
        """Commit the batch here, and report its outcomes."""
        if not batch:
            return
        outcomes: Sequence[Committed[V] | Conflict | Failed]
        try:
            outcomes = self._engine.commit_batch([txn for txn, _ in batch])
        except StoreUnavailable as error:
            outcomes = [error] * len(batch)
        except Exception as error:
            if len(batch) > 1:  # STORE-28
                for one in batch:
                    self._commit([one])
                return
            outcomes = [_refused(error)]
        self._report(batch, outcomes)

    def _report(
        self,
        batch: Sequence[Submitted[V]],
        outcomes: Sequence[Committed[V] | Conflict | Failed],
    ) -> None:
        """Announce the changes of a batch, then report its outcomes (STORE-23, STORE-24)."""
        changes = [
            change
            for outcome in outcomes
            if type(outcome) is Committed
            for change in outcome.changes
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

    async def _alone(self, function: Callable[[], T]) -> T:
        """The result of a function that needs the engine for itself: between two writes."""
        if self._writing is None:
            return function()
        result: asyncio.Future[T] = self._loop.create_future()

        def run() -> None:
            if not result.cancelled():
                try:
                    result.set_result(function())
                except Exception as error:
                    result.set_exception(error)

        self._between.append(run)
        return await result

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
                while not await self._alone(
                    partial(self._engine.compact, surplus, COMPACT_CHANGES)
                ):
                    await asyncio.sleep(COMPACT_PAUSE_SECONDS)
                await asyncio.sleep(COMPACT_PAUSE_SECONDS)
        except StoreUnavailable as error:
            log.error("old changes cannot be discarded: %s", error)
            await asyncio.sleep(DISCARD_RETRY_SECONDS)
        finally:
            self._discarding = None

    async def compact(self, revision: Revision) -> None:
        """Discard the history in portions, then make the file smaller in portions (STORE-22)."""
        engine = self._engine
        while await self._alone(
            lambda: not engine.compact(revision, COMPACT_CHANGES) or engine.shrink()
        ):
            await asyncio.sleep(COMPACT_PAUSE_SECONDS)

    async def probe(self) -> None:
        """As `Engine.probe`."""
        await self._alone(self._engine.probe)

    async def close(self) -> None:
        """Commit the submitted transactions, and close the engine."""
        if self._discarding is not None:
            self._discarding.cancel()
        while self._writing is not None or self._waiting:
            self._flush()
            await self._alone(lambda: None)
        self._writer.close()
        self._engine.close()


def _refused(error: Exception) -> TxnRefused:
    refused = TxnRefused(f"{type(error).__name__}: {error}")
    refused.__cause__ = error
    return refused
