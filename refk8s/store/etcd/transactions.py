"""Transactions of the store as transactions of etcd, and what an answer means. Rule ETCD-5
(spec/etcd.md). No input or output."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from refk8s.core.store import (
    ABSENT,
    Change,
    Committed,
    Compare,
    Put,
    Revision,
    Txn,
    resource_prefix,
)
from refk8s.store.etcd.keys import Keys
from refk8s.store.etcd.messages import EQUAL, MOD, TxnRequest
from refk8s.store.memory import MemoryEngine

V = TypeVar("V")


def request_of(txn: Txn[V], keys: Keys, encode: Callable[[V], bytes]) -> Any:
    """The transaction of etcd. If a compare fails, it reads the compared keys. Raises ValueError
    for a key of no resource."""
    request = TxnRequest()
    for compare in txn.compares:
        key = keys.to_etcd(compare.key)
        request.compare.add(result=EQUAL, target=MOD, key=key, mod_revision=compare.mod_revision)
        read = request.failure.add().request_range
        read.key, read.keys_only = key, True
    for write in txn.writes:
        operation = request.success.add()
        if isinstance(write, Put):
            put = operation.request_put
            put.key, put.value = keys.to_etcd(write.key), encode(write.value)
        else:
            operation.request_delete_range.key = keys.to_etcd(write.key)
    return request


def add_fence(request: Any, fence: bytes, revision: Revision) -> None:
    """Let the transaction fail if the fence is not at this revision (ETCD-5); then it reads it."""
    request.compare.add(result=EQUAL, target=MOD, key=fence, mod_revision=revision)
    read = request.failure.add().request_range
    read.key, read.keys_only = fence, True


def fence_of(answer: Any) -> Revision:
    """The revision of the fence that a failed transaction has read."""
    kvs = answer.responses[-1].response_range.kvs
    return int(kvs[0].mod_revision) if kvs else ABSENT


def has_effect(answer: Any) -> bool:
    """Whether the transaction has changed any key."""
    return bool(answer.succeeded) and any(
        not operation.HasField("response_delete_range") or operation.response_delete_range.deleted
        for operation in answer.responses
    )


def failed_keys(txn: Txn[Any], answer: Any) -> tuple[str, ...]:
    """The keys whose compares failed."""
    failed = []
    # after the compared keys there may be the fence
    for compare, response in zip(txn.compares, answer.responses, strict=False):
        kvs = response.response_range.kvs
        if (kvs[0].mod_revision if kvs else ABSENT) != compare.mod_revision:
            failed.append(compare.key)
    return tuple(failed)


def guard_of(txn: Txn[Any]) -> Compare | None:
    """A compare on a key that the transaction changes for certain, by which the effect of a lost
    transaction is found; None if there is none.

    With the revision of an existing key the transaction takes effect at most once, however often it
    is sent. With ABSENT (a create) a late attempt would succeed again after a deletion.
    """
    for compare in txn.compares:
        for write in txn.writes:
            if write.key == compare.key and (isinstance(write, Put) or compare.mod_revision):
                return compare
    return None


def changes_of(engine: MemoryEngine[V], txn: Txn[V], revision: Revision) -> tuple[Change[V], ...]:
    """The changes at this revision of the keys that the transaction writes."""
    found = (_change(engine, key, revision) for key in sorted(write.key for write in txn.writes))
    return tuple(change for change in found if change is not None)


def _change(engine: MemoryEngine[V], key: str, revision: Revision) -> Change[V] | None:
    for change in engine.changes(resource_prefix(key), revision - 1):
        if change.revision != revision:
            return None
        if change.key == key:
            return change
    return None


def outcome_of_lost(
    engine: MemoryEngine[V],
    txn: Txn[V],
    base: Revision,
    is_value: Callable[[Put[V], V, Revision], bool],
) -> Committed[V] | None:
    """The outcome of a transaction that took effect after `base` and whose answer was lost; None if
    it did not.

    If it did, its guard was the last write of the key before it. `is_value`: whether a value at a
    revision is the one that was put.
    """
    guard = guard_of(txn)
    if guard is None or base < engine.compacted:
        return None
    for change in engine.changes(guard.key, base):
        before = ABSENT if change.previous is None else change.previous.mod_revision
        if change.key == guard.key and before == guard.mod_revision:
            changes = changes_of(engine, txn, change.revision)
            if _is_effect(txn, changes, is_value):
                return Committed(change.revision, changes)
    return None


def _is_effect(
    txn: Txn[V], changes: Sequence[Change[V]], is_value: Callable[[Put[V], V, Revision], bool]
) -> bool:
    """Whether these changes at one revision are what the transaction writes."""
    found = {change.key: change.record for change in changes}
    for write in txn.writes:
        record = found.get(write.key)
        if not isinstance(write, Put):
            if record is not None:
                return False
        elif record is None or not is_value(write, record.value, record.mod_revision):
            return False
    return True
