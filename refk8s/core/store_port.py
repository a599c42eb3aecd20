"""The port of the store: the interface through which the API server uses it. Rules STORE-23 ...
STORE-28 (spec/store.md).

It is the same for one process on SQLite and for several API servers on etcd. Reads are answered
from memory immediately. A transaction is submitted, and its outcome is known later. Other processes
may write to the same store, so the reads here may be older than the store itself. `refresh` waits
until they are current, and a transaction on an older state is a conflict.

    submit ──> the store (a disk, other machines) ──> the reads here ──> listeners ──> done
                        ^
    another API server ─┘

All calls are made in the event loop's thread, and all callbacks run there, never inside the call
that they belong to. A callback that raises is logged, and affects no other callback.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias, TypeVar

from refk8s.core.store import Change, Committed, Conflict, Reader, Revision, Txn

V = TypeVar("V")


class StoreUnavailable(Exception):
    """The store could not carry out the operation now (disk full, input/output error, no quorum),
    and no part of it is in effect (STORE-15). The caller may try again later.

    If the process dies before the store has taken a later transaction, the outcome becomes unknown:
    the next process may find the transaction done.
    """


class StoreUnknown(Exception):
    """The answer of the store was lost, so it is unknown whether the transaction took effect or
    will (STORE-26). If it does, the reads and the listeners show it."""


class StoreFull(StoreUnknown):
    """The store has no room for more. The transaction with which the limit was passed may have
    taken effect."""


class TxnRefused(Exception):
    """The store can never commit this transaction (for example, it is too large). No part of it is
    in effect, and other transactions are not affected."""


Failed: TypeAlias = StoreUnavailable | StoreUnknown | TxnRefused
"""Why a transaction is neither committed nor a conflict: a value that is passed and not raised."""


class Store(Reader[V], Protocol[V]):
    """The store as an API server uses it. Its reads show the state at `revision`, which may be
    older than the store."""

    @property
    def is_current(self) -> bool:
        """Whether the reads here are never older than the store, because no other process writes to
        it. Then `refresh` need not wait."""

    def submit(self, txn: Txn[V], done: Callable[[Committed[V] | Conflict | Failed], None]) -> None:
        """Commit the transaction. `done` is called once, in a later turn of the event loop
        (STORE-23):

        - Committed: the changes are durable, and the reads here show them;
        - Conflict: the reads here show a state on which a compare fails;
        - Failed: see above.

        Many transactions may be in flight. Those of one turn may be committed together; they take
        effect in any order.
        """

    def listen(self, changed: Callable[[Sequence[Change[V]]], None]) -> None:
        """Call `changed` with every later change of any writer: each once, in the order of STORE-6,
        in whole revisions, after the reads here show them and before `done` of their transaction is
        called (STORE-24)."""

    def refresh(self, done: Callable[[StoreUnavailable | None], None]) -> None:
        """Call `done` with None once the reads here are at least as new as the store was at this
        call, or with the reason why that cannot be determined (STORE-25)."""

    async def compact(self, revision: Revision) -> None:
        """Discard the history before `revision` and free its space, in portions between which the
        store serves requests (STORE-22). A store with other users may keep more, or have discarded
        more. Raises StoreUnavailable; what is discarded by then stays discarded."""

    async def probe(self) -> None:
        """Return if the store could commit a transaction now. Raises StoreUnavailable."""

    async def close(self) -> None:
        """Wait for the submitted transactions, call their `done`, and close."""
