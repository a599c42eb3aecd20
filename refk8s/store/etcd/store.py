"""The store on etcd, as an API server uses it. Rules ETCD-3 ... ETCD-10 (spec/etcd.md).

    submit ──> a transaction of etcd ──> the events of the watch ──> mirror ──> listeners ──> done
    refresh ──> the revision of etcd ──> ──────────────────────────> reached ──────────────> done

All reads are answered from the mirror. A transaction of the store is one transaction of etcd, and
its outcome is reported once the mirror shows it. If an answer is lost, the same transaction is sent
again, if it compares the revision of a key that it writes: so it takes effect at most once, and the
changes that the watch delivered show whether it did. A create compares a fence too (`_create`).

Source: etcd documentation, "etcd API" and "etcd API guarantees"; KEP-2340, "Consistent reads from
cache". Left out: authentication by user name and password; encryption of values.
"""

from __future__ import annotations

import asyncio
import builtins
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Final, TypeAlias, TypeVar

from refk8s.core.store import (
    ABSENT,
    Change,
    Committed,
    Compacted,
    Conflict,
    FutureRevision,
    Put,
    Revision,
    Stamp,
    Txn,
    resource_prefix,
)
from refk8s.core.store_port import Failed, StoreFull, StoreUnavailable, StoreUnknown, TxnRefused
from refk8s.store.errors import StoreRefused
from refk8s.store.etcd.address import EtcdAddress
from refk8s.store.etcd.client import EtcdClient, RevisionCompacted
from refk8s.store.etcd.compaction import Compactor
from refk8s.store.etcd.keys import Keys
from refk8s.store.etcd.leases import Leases
from refk8s.store.etcd.load import identify, load
from refk8s.store.etcd.messages import RangeRequest, WatchRequest
from refk8s.store.etcd.mirror import Mirror
from refk8s.store.etcd.transactions import (
    add_fence,
    changes_of,
    failed_keys,
    fence_of,
    guard_of,
    has_effect,
    outcome_of_lost,
    request_of,
)
from refk8s.store.etcd.waiting import Waiting
from refk8s.store.reads import Reads

log = logging.getLogger("refk8s")

V = TypeVar("V")

Done: TypeAlias = Callable[[Committed[V] | Conflict | Failed], None]

START_SECONDS: Final = 20.0
"""The time to reach etcd at the start."""

WRITE_SECONDS: Final = 15.0
"""The time for a transaction, over all attempts and until the reads here show its outcome."""

RETRY_SECONDS: Final = 0.05
RETRY_SECONDS_MAX: Final = 1.0
"""The first pause before a call is repeated, and the longest: each is twice the one before."""

IN_FLIGHT_MAX: Final = 4096
"""The most transactions without an outcome."""

MARK_SECONDS: Final = 0.02
"""If the awaited revision has not arrived after this time, a key is written, so that the watch
delivers an event (ETCD-6)."""

COMPACT_CHANGES: Final = 500
COMPACT_PAUSE_SECONDS: Final = 0.02
"""The changes that are discarded in one portion, and the pause after it."""


class EtcdStore(Reads[V]):
    """The store below a prefix in etcd, made by `open_etcd`. It behaves like `History` (ETCD-7)."""

    is_current: Final = False

    def __init__(
        self,
        client: EtcdClient,
        keys: Keys,
        encode: Callable[[V], bytes],
        decode: Callable[[str, bytes], V],
        stamp: Stamp[V],
        ttl_seconds: Mapping[str, float],
    ) -> None:
        self._client = client
        self.calls: Final = client.calls
        self._keys = keys
        self._encode = encode
        self._decode = decode
        self._stamp = stamp
        self._leases = {prefix: Leases(client, ttl) for prefix, ttl in ttl_seconds.items()}
        self._reads = self._mirror = Mirror(keys, encode, decode, stamp, 0)
        self._waiting = Waiting()
        self._listeners: builtins.list[Callable[[Sequence[Change[V]]], None]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._in_flight = 0
        self._marking = False
        self._fence: Revision = ABSENT  # as last written or read
        self._raising = asyncio.Lock()
        self._refreshing: builtins.list[Callable[[StoreUnavailable | None], None]] | None = None
        self._problem = "the state has not been read"
        self.cluster_id = ""

    # --- Writing

    def submit(self, txn: Txn[V], done: Done[V]) -> None:
        """Send the transaction to etcd. Many are in flight at once."""
        if self._in_flight >= IN_FLIGHT_MAX:
            refused = StoreUnavailable(f"etcd: {IN_FLIGHT_MAX} transactions wait for an answer")
            asyncio.get_running_loop().call_soon(done, refused)
            return
        self._in_flight += 1
        self._spawn(self._submit(txn, done))

    async def _submit(self, txn: Txn[V], done: Done[V]) -> None:
        outcome: Committed[V] | Conflict | Failed
        try:
            outcome = await self._commit(txn)
        except (StoreUnavailable, StoreUnknown, TxnRefused) as error:
            outcome = error
        except Compacted:  # its changes have been discarded here before they were looked at
            outcome = StoreUnknown("etcd: more was written at once than the history here keeps")
        except Exception as error:
            outcome = TxnRefused(f"{type(error).__name__}: {error}")
            outcome.__cause__ = error
        finally:
            self._in_flight -= 1
        _call(done, outcome)

    async def _commit(self, txn: Txn[V]) -> Committed[V] | Conflict:
        """Raises Failed."""
        base = self.revision
        end = asyncio.get_running_loop().time() + WRITE_SECONDS
        guard = guard_of(txn)
        try:
            if guard is not None and guard.mod_revision == ABSENT:
                answer, found = await self._create(txn, base, end)
                if found is not None:
                    return found
                lost = None
            else:
                request = request_of(txn, self._keys, self._encode)
                answer, lost = await self._answer(txn, request, end, guard is not None)
        except StoreFull as error:
            if guard is None:
                raise
            return await self._outcome_when_full(txn, base, end, error)
        revision: Revision = answer.header.revision
        if revision < base:
            raise StoreUnknown(self._fell(base, revision))
        is_effective = has_effect(answer)
        await self._show(revision, end, is_awaited=is_effective)
        engine = self._mirror.engine
        if answer.succeeded:
            return Committed(revision, changes_of(engine, txn, revision) if is_effective else ())
        if lost is not None and (found := outcome_of_lost(engine, txn, base, self._is_value)):
            return found
        return Conflict(revision, failed_keys(txn, answer))

    async def _outcome_when_full(
        self, txn: Txn[V], base: Revision, end: float, error: StoreFull
    ) -> Committed[V] | Conflict:
        """The outcome of a transaction that etcd answered with "no space" (ETCD-5). No attempt is
        on its way, so the state shows it. Raises StoreUnavailable if it took no effect."""
        await self._show(await self._ask(end), end, is_awaited=False)
        engine = self._mirror.engine
        if base < engine.compacted:
            raise error
        if found := outcome_of_lost(engine, txn, base, self._is_value):
            return found
        raise StoreUnavailable(str(error)) from error

    async def _create(
        self, txn: Txn[V], base: Revision, end: float
    ) -> tuple[Any, Committed[V] | None]:
        """etcd's answer to a create, or the outcome if the answer was lost (ETCD-5).

        Each attempt compares the fence. After a loss the fence is written, so that an attempt that
        is still on its way fails. Then the state shows for certain whether the create took effect.
        """
        while True:
            fence = self._fence
            request = request_of(txn, self._keys, self._encode)
            add_fence(request, self._keys.fence, fence)
            try:
                answer, _ = await self._answer(txn, request, end, can_be_repeated=False)
            except StoreFull:
                raise
            except StoreUnknown:
                await self._raise_fence(fence, end)
                await self._show(self._fence, end, is_awaited=True)
                engine = self._mirror.engine
                if base < engine.compacted:
                    raise
                if found := outcome_of_lost(engine, txn, base, self._is_value):
                    return None, found
                continue
            if answer.succeeded or fence_of(answer) == fence:
                return answer, None
            self._fence = max(self._fence, fence_of(answer))  # raised for another create

    async def _raise_fence(self, fence: Revision, end: float) -> None:
        """Write the fence, unless it has been written since `fence`. Raises StoreUnknown."""
        async with self._raising:
            pause = RETRY_SECONDS
            while self._fence == fence:
                try:
                    answer = await self._client.put(self._keys.fence, b"{}")
                    self._fence = answer.header.revision
                except (StoreUnavailable, StoreUnknown, TxnRefused) as error:
                    if asyncio.get_running_loop().time() + pause > end:
                        raise StoreUnknown(str(error)) from error
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, RETRY_SECONDS_MAX)

    def _is_value(self, put: Put[V], value: V, revision: Revision) -> bool:
        """Whether the value at this revision is the one that is put."""
        stored = self._decode(put.key, self._encode(put.value))
        return bool(value == self._stamp(stored, revision))

    async def _answer(
        self, txn: Txn[V], request: Any, end: float, can_be_repeated: bool
    ) -> tuple[Any, StoreUnknown | None]:
        """etcd's answer to the transaction, and the error of an earlier attempt that may have taken
        effect. If it cannot be repeated, the first loss is raised."""
        lost: StoreUnknown | None = None
        pause = RETRY_SECONDS
        while True:
            try:
                await self._bind(txn, request)
                return await self._client.txn(request), lost
            except StoreUnavailable as error:
                failed: StoreUnavailable | StoreUnknown = lost or error
                for leases in self._leases.values():
                    leases.forget()
            except StoreFull as error:
                raise lost or error from None  # a lost attempt may still be on its way
            except StoreUnknown as error:
                failed = lost = error
                if not can_be_repeated:
                    raise
            if asyncio.get_running_loop().time() + pause > end:
                raise failed
            await asyncio.sleep(pause)
            pause = min(2 * pause, RETRY_SECONDS_MAX)

    async def _bind(self, txn: Txn[V], request: Any) -> None:
        """Bind the keys that expire to a lease (ETCD-12). Without one nothing is sent, so a lost
        lease is no lost transaction."""
        for write, operation in zip(txn.writes, request.success, strict=True):
            if isinstance(write, Put) and (leases := self._leases.get(resource_prefix(write.key))):
                try:
                    operation.request_put.lease = await leases.take()
                except StoreUnknown as error:
                    raise StoreUnavailable(str(error)) from error

    # --- Being current

    def listen(self, changed: Callable[[Sequence[Change[V]]], None]) -> None:
        """Call `changed` with the changes of each message of the watch."""
        self._listeners.append(changed)

    def refresh(self, done: Callable[[StoreUnavailable | None], None]) -> None:
        """Read the revision of etcd, and wait until the reads here have reached it. Calls during a
        read share the next read."""
        if self._refreshing is None:
            self._refreshing = [done]
            self._spawn(self._refresh())
        else:
            self._refreshing.append(done)

    async def _refresh(self) -> None:
        while self._refreshing:
            waiting, self._refreshing = self._refreshing, []
            failed: StoreUnavailable | None = None
            try:
                end = asyncio.get_running_loop().time() + WRITE_SECONDS
                revision = await self._ask(end)
                await self._show(revision, end, is_awaited=False)
            except (StoreUnavailable, StoreUnknown) as error:
                failed = StoreUnavailable(str(error))
            for done in waiting:
                _call(done, failed)
        self._refreshing = None

    async def _ask(self, end: float) -> Revision:
        """The revision of etcd, from a linearizable read. Raises StoreUnavailable."""
        pause = RETRY_SECONDS
        while True:
            base = self.revision
            try:
                answer = await self._client.range(RangeRequest(key=self._keys.progress))
                revision: Revision = answer.header.revision
                if revision < base:
                    end = 0.0
                    raise StoreUnavailable(self._fell(base, revision))
                return revision
            except (StoreUnavailable, StoreUnknown) as error:
                if asyncio.get_running_loop().time() + pause > end:
                    raise StoreUnavailable(str(error)) from error
            await asyncio.sleep(pause)
            pause = min(2 * pause, RETRY_SECONDS_MAX)

    async def _show(self, revision: Revision, end: float, is_awaited: bool) -> None:
        """Wait until the reads here show this revision. Raises StoreUnknown at the end of the time.

        `is_awaited`: the revision changed a key below the prefix, so the watch delivers it.
        """
        if self.revision >= revision:
            return
        reached = self._waiting.until(revision)
        if not is_awaited and not self._marking:
            self._marking = True
            self._spawn(self._write_mark(revision))
        loop = asyncio.get_running_loop()
        late = loop.call_at(end, _give_up, reached, f"etcd: revision {revision} has not arrived")
        try:
            await reached
        finally:
            late.cancel()

    def _fell(self, base: Revision, revision: Revision) -> str:
        """ETCD-13."""
        self._problem = (
            f"etcd at {self._client.endpoint} fell back from revision {base} to {revision}, so its "
            "data was replaced; restart the API servers"
        )
        return self._problem

    async def _write_mark(self, revision: Revision) -> None:
        """Write a key below the prefix, if the watch does not deliver this revision by itself
        because another prefix was written (ETCD-6)."""
        try:
            await asyncio.sleep(MARK_SECONDS)
            while self.revision < revision:
                try:
                    answer = await self._client.put(self._keys.progress, b"{}")
                    revision = max(revision, answer.header.revision)
                    end = asyncio.get_running_loop().time() + WRITE_SECONDS
                    await self._show(revision, end, is_awaited=True)
                except (StoreUnavailable, StoreUnknown, TxnRefused):
                    await asyncio.sleep(RETRY_SECONDS_MAX)
        finally:
            self._marking = False

    # --- Following etcd

    async def start(self, cluster_id: str | None) -> None:
        """Read the state, follow it, and return once it is current. Raises StoreRefused."""
        try:
            async with asyncio.timeout(START_SECONDS):
                self.cluster_id = await self._retry(
                    lambda: identify(self._client, self._keys, cluster_id)
                )
                self._reads = self._mirror = await self._retry(self._load)
                self._spawn(self._follow())
                self._spawn(Compactor(self._client).run())
                end = asyncio.get_running_loop().time() + START_SECONDS
                await self._show(await self._ask(end), end, is_awaited=False)
        except (TimeoutError, StoreUnavailable, StoreUnknown, TxnRefused) as error:
            where = ",".join(self._client.address.endpoints)
            words = self._problem or str(error)
            raise StoreRefused(
                f"store etcd://{where}: {words}; check that etcd runs there and has a quorum"
            ) from None

    async def _retry(self, call: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        """The result of the call, repeated until it succeeds."""
        pause = RETRY_SECONDS
        while True:
            try:
                return await call()
            except (StoreUnavailable, StoreUnknown, RevisionCompacted) as error:
                self._problem = str(error)
            await asyncio.sleep(pause)
            pause = min(2 * pause, RETRY_SECONDS_MAX)

    async def _load(self) -> Mirror[V]:
        return await load(self._client, self._keys, self._encode, self._decode, self._stamp)

    async def _follow(self) -> None:
        """Watch from the revision of the reads on; after any interruption again."""
        pause = RETRY_SECONDS
        while True:
            before = self.revision
            try:
                await self._watch_or_catch_up()
            except (StoreUnavailable, StoreUnknown) as error:
                self._problem = str(error)
            except Exception:
                log.exception("following etcd failed with an internal error")
            if self.revision > before:
                pause = RETRY_SECONDS
            await asyncio.sleep(pause)
            pause = min(2 * pause, RETRY_SECONDS_MAX)

    async def _watch_or_catch_up(self) -> None:
        """Watch until an interruption; read all again if etcd has forgotten where to go on
        (ETCD-8)."""
        try:
            await self._watch()
        except RevisionCompacted:
            words = "etcd was compacted beyond revision %d; reading all again"
            log.warning(words, self.revision)
            self._publish(self._mirror.catch_up(await self._retry(self._load)))

    async def _watch(self) -> None:
        request = WatchRequest()
        create = request.create_request
        create.key, create.range_end = self._keys.prefix, self._keys.end
        create.start_revision = self.revision + 1
        create.progress_notify = create.fragment = True
        async for response in self._client.watch(request):
            if response.canceled:
                if response.compact_revision:
                    raise RevisionCompacted
                raise StoreUnavailable(f"etcd has ended the watch: {response.cancel_reason}")
            self._problem = ""
            if response.events:
                self._publish(self._mirror.apply(response.events, response.fragment))
            elif not response.created:  # a notification of progress
                self._mirror.advance(response.header.revision)
                self._publish(())

    def _publish(self, changes: Sequence[Change[V]]) -> None:
        """Announce what the mirror shows now."""
        if changes:
            for changed in self._listeners:
                _call(changed, changes)
        self._waiting.reached(self.revision)

    # --- Housekeeping

    async def compact(self, revision: Revision) -> None:
        """Discard the history here in portions. etcd is compacted separately (ETCD-11)."""
        if revision > self.revision:
            raise FutureRevision(self.revision)
        while not self._mirror.engine.compact(revision, COMPACT_CHANGES):
            await asyncio.sleep(COMPACT_PAUSE_SECONDS)

    async def probe(self) -> None:
        """Return if etcd has a quorum and the watch is connected. Raises StoreUnavailable."""
        if self._problem:
            raise StoreUnavailable(self._problem)
        await self._ask(0.0)

    async def close(self) -> None:
        """Wait for the transactions in flight, and end the connection."""
        end = asyncio.get_running_loop().time() + WRITE_SECONDS
        while self._in_flight and asyncio.get_running_loop().time() < end:
            await asyncio.sleep(0.01)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._client.close()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _give_up(future: asyncio.Future[None], words: str) -> None:
    if not future.done():
        future.set_exception(StoreUnknown(words))


def _call(callback: Callable[[Any], None], value: Any) -> None:
    """Call it; an exception is logged, and affects nothing else."""
    try:
        callback(value)
    except Exception:
        log.exception("a callback of the store failed")


async def open_etcd(
    address: EtcdAddress,
    encode: Callable[[V], bytes],
    decode: Callable[[str, bytes], V],
    stamp: Stamp[V],
    cluster_id: str | None = None,
    ttl_seconds: Mapping[str, float] | None = None,
    keys: Keys | None = None,
    client: EtcdClient | None = None,
) -> EtcdStore[V]:
    """The store in this etcd, with its state read. Raises StoreRefused.

    `ttl_seconds`: for the prefix of each resource that expires the time to live of its objects.
    """
    store = EtcdStore(
        client or EtcdClient(address),
        keys or Keys(address.prefix),
        encode,
        decode,
        stamp,
        ttl_seconds or {},
    )
    try:
        await store.start(cluster_id)
    except BaseException:
        await store.close()
        raise
    return store


__all__ = ["EtcdStore", "open_etcd"]
