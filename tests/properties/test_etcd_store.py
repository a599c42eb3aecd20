"""Properties of the store on etcd, with a real etcd on loopback. Rules ETCD-3 ... ETCD-14
(spec/etcd.md), STORE-17. Members that fail: tests/integration/test_etcd_faults.py."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from etcd_server import EtcdServer, etcd_server, free_ports
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from immutables import Map
from test_store import KEYS, PREFIXES, Attempt, Value, attempts, decode, encode, keys, stamp

from refk8s.core.store import (
    ABSENT,
    Change,
    Committed,
    Compacted,
    Compare,
    Conflict,
    Delete,
    FutureRevision,
    History,
    Put,
    Txn,
    commit,
    compact,
)
from refk8s.core.store_port import StoreFull, StoreUnavailable, StoreUnknown, TxnRefused
from refk8s.store.errors import OtherCluster, StoreRefused
from refk8s.store.etcd.address import EtcdAddress
from refk8s.store.etcd.client import EtcdClient, RevisionCompacted
from refk8s.store.etcd.compaction import Compactor, oldest_revision
from refk8s.store.etcd.keys import Keys
from refk8s.store.etcd.leases import KEYS_MAX, Leases
from refk8s.store.etcd.messages import RangeRequest
from refk8s.store.etcd.mirror import UnreadableValue
from refk8s.store.etcd.store import EtcdStore, open_etcd

PLACES = {
    "/core/pods/": "pods/",
    "/core/pods-x/": "pods-x/",
    "/core/nodes/": "minions/",
    "/core/events/": "events/",
}


class Etcd:
    """One etcd for all tests of this file, and the event loop that its clients run in."""

    def __init__(self, server: EtcdServer) -> None:
        self.server = server
        self.runner = asyncio.Runner()
        self.prefixes = 0

    def run(self, work: Any) -> Any:
        return self.runner.run(work)

    def new_prefix(self) -> str:
        self.prefixes += 1
        return f"/test-{self.prefixes}"

    async def open(
        self, prefix: str, client: EtcdClient | None = None, **rest: Any
    ) -> EtcdStore[Value]:
        address = EtcdAddress((self.server.endpoint,), prefix)
        return await open_etcd(
            address, encode, decode, stamp, keys=Keys(prefix, PLACES), client=client, **rest
        )


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    with etcd_server(tmp_path_factory.mktemp("etcd")) as server:
        world = Etcd(server)
        STARTED.append(world)
        yield world
        STARTED.clear()
        world.runner.close()


STARTED: list[Etcd] = []


async def outcome_of(store: EtcdStore[Value], txn: Txn[Value]) -> Any:
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    store.submit(txn, future.set_result)
    assert not future.done(), "an outcome is never reported inside the call"
    return await future


async def refreshed(store: EtcdStore[Value]) -> Any:
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    store.refresh(future.set_result)
    return await future


# --- In lockstep with the model

reached: Counter[str] = Counter()


class Noting(EtcdClient):
    """A client that notes the revisions of what it puts: marks (ETCD-6), which are no changes."""

    def __init__(self, server: EtcdServer, prefix: str, noted: set[int]) -> None:
        super().__init__(EtcdAddress((server.endpoint,), prefix))
        self.noted = noted

    async def put(self, key: bytes, value: bytes) -> Any:
        answer = await super().put(key, value)
        self.noted.add(answer.header.revision)
        return answer


class Lockstep(RuleBasedStateMachine):
    """Two API servers on one etcd, and the model. Whatever can be asked has the same answer."""

    @initialize(past=st.lists(attempts, max_size=5))
    def start(self, past: list[Attempt]) -> None:
        self.etcd = STARTED[0]
        self.prefix = self.etcd.new_prefix()
        self.marks: set[int] = set()
        self.stores = [self.open_store() for _ in range(2)]
        self.etcd.run(self.settle())
        revision = self.stores[0].revision
        self.history: History[Value] = History(revision, revision, Map())
        self.heard: list[list[Change[Value]]] = [[], []]
        for store, heard in zip(self.stores, self.heard, strict=True):
            store.listen(heard.extend)
        self.all_changes: list[Change[Value]] = []
        for attempt in past:
            self.commit(0, attempt)

    def open_store(self) -> EtcdStore[Value]:
        """A store without history, which it has if another test has compacted etcd (ETCD-14)."""

        async def start() -> EtcdStore[Value]:
            client = Noting(self.etcd.server, self.prefix, self.marks)
            return await self.etcd.open(self.prefix, client)

        store = self.etcd.run(start())
        self.etcd.run(store.compact(store.revision))
        return store

    @rule(which=st.integers(0, 1), attempt=attempts)
    def commit(self, which: int, attempt: Attempt) -> None:
        txn = attempt.against(self.history.get)
        outcome = self.etcd.run(outcome_of(self.stores[which], txn))
        self.etcd.run(self.settle())
        self.expect(txn, outcome)
        reached["a change by each"] += 1

    def expect(self, txn: Txn[Value], outcome: Any) -> None:
        has_changes = isinstance(outcome, Committed) and bool(outcome.changes)
        self.pass_marks(outcome.revision - has_changes)
        self.history, expected = commit(self.history, txn, stamp)
        assert outcome == expected
        if isinstance(expected, Committed):
            self.all_changes += expected.changes

    @rule(batch=st.lists(st.tuples(st.integers(0, 1), attempts), min_size=2, max_size=6))
    def commit_at_once(self, batch: list[tuple[int, Attempt]]) -> None:
        """ETCD-7: many in flight are committed one after the other, in the order of revisions."""
        txns = [(which, attempt.against(self.history.get)) for which, attempt in batch]

        async def all_outcomes() -> list[Any]:
            visible = []

            async def one(store: EtcdStore[Value], txn: Txn[Value]) -> Any:
                outcome = await outcome_of(store, txn)
                visible.append(store.revision >= outcome.revision)
                return outcome

            found = await asyncio.gather(*(one(self.stores[n], txn) for n, txn in txns))
            assert all(visible), "an outcome is reported once the reads show it"
            return found

        outcomes = self.etcd.run(all_outcomes())
        self.etcd.run(self.settle())
        in_order = sorted(
            zip(outcomes, (txn for _, txn in txns), strict=True),
            key=lambda each: (
                each[0].revision,
                not (isinstance(each[0], Committed) and each[0].changes),
            ),
        )
        for outcome, txn in in_order:
            self.expect(txn, outcome)
        reached["conflict among several"] += any(isinstance(o, Conflict) for o in outcomes)

    @rule(which=st.integers(0, 1))
    def write_elsewhere(self, which: int) -> None:
        """ETCD-6: the revision rises, and no event tells it."""
        self.etcd.run(self.stores[which]._client.put(b"/elsewhere", b""))

        async def at_once() -> list[Any]:
            return await asyncio.gather(*(refreshed(store) for store in self.stores for _ in "ab"))

        assert self.etcd.run(at_once()) == [None] * 4
        before = self.history.revision
        self.all_refreshed()
        assert self.history.revision > before

    async def settle(self) -> None:
        """Wait until every store shows the same and none will write a mark."""
        while True:
            for store in self.stores:
                assert await refreshed(store) is None
            if not any(store._marking for store in self.stores):
                return
            await asyncio.sleep(0.002)

    def pass_marks(self, revision: int) -> None:
        """Let the model reach this revision, if all between are marks."""
        assert self.marks.issuperset(range(self.history.revision + 1, revision + 1))
        if revision > self.history.revision:
            self.history = History(revision, self.history.compacted, self.history._by_resource)

    @rule(back=st.sampled_from([2, 6, 0]))
    def compact(self, back: int) -> None:
        revision = max(self.history.compacted, self.history.revision - back)
        self.all_refreshed()
        self.history = compact(self.history, revision)
        for store in self.stores:
            self.etcd.run(store.compact(revision))

    @rule(which=st.integers(0, 1))
    def reopen(self, which: int) -> None:
        self.etcd.run(self.stores[which].close())
        self.stores[which] = self.open_store()
        self.heard[which] = list(self.all_changes)
        self.stores[which].listen(self.heard[which].extend)
        other = self.stores[1 - which]
        self.all_refreshed()
        self.history = compact(self.history, self.history.revision)
        self.etcd.run(other.compact(self.history.revision))

    @rule(
        prefix=st.sampled_from(PREFIXES),
        key=keys,
        after=st.none() | keys,
        limit=st.none() | st.integers(0, 5),
    )
    def read(self, prefix: str, key: str, after: str | None, limit: int | None) -> None:
        self.all_refreshed()
        self.ask(lambda store: store.prefix_revision(prefix))
        for at in (None, *range(self.history.compacted - 1, self.history.revision + 2)):
            self.ask(lambda store, at=at: store.get(key, at))
            self.ask(
                lambda store, at=at: store.changes(
                    prefix, store.revision if at is None else at, limit
                )
            )
            answer = self.ask(lambda store, at=at: store.list(prefix, at, after, limit))
            reached[answer[0].__name__ if isinstance(answer, tuple) else type(answer).__name__] += 1

    def ask(self, question: Callable[[Any], Any]) -> Any:
        answers = []
        for store in (self.history, *self.stores):
            try:
                answers.append(question(store))
            except (Compacted, FutureRevision) as error:
                answers.append((type(error), vars(error)))
        assert answers[1:] == answers[:1] * 2
        return answers[0]

    def all_refreshed(self) -> None:
        self.etcd.run(self.settle())
        self.pass_marks(max(self.marks | {self.history.revision}))

    @invariant()
    def compare_everything(self) -> None:
        self.all_refreshed()
        self.ask(lambda store: (store.revision, store.compacted))
        self.ask(lambda store: store.list("/"))
        self.ask(lambda store: store.changes("/", store.compacted))
        assert self.heard == [self.all_changes] * 2, "each change once, in order, whoever made it"

    def teardown(self) -> None:
        for store in getattr(self, "stores", ()):
            self.etcd.run(store.close())


def test_store_17_and_etcd_7_two_servers_on_etcd_cannot_be_told_apart_from_the_history(
    etcd: Etcd,
) -> None:
    # Shows ETCD-4.c, ETCD-6.c
    reached.clear()
    run_state_machine_as_test(
        Lockstep,
        settings=settings(
            max_examples=15,
            stateful_step_count=12,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    premises = ["conflict among several", "Page", "Compacted", "FutureRevision"]
    assert [premise for premise in premises if not reached[premise]] == []


# --- Lost answers

FATES = ("answered", "lost before", "lost after", "late", "refused", "full", "full after")


class Lossy(EtcdClient):
    """A client whose transactions meet the fates of a script, and are answered after its end."""

    def __init__(self, server: EtcdServer, prefix: str, fates: list[str]) -> None:
        super().__init__(EtcdAddress((server.endpoint,), prefix))
        self.fates = fates
        self.started = False
        self.late: list[asyncio.Task[Any]] = []
        self.arrival: asyncio.Event | None = None  # when a late request arrives; None: soon

    async def txn(self, request: Any) -> Any:
        fate = self.fates.pop(0) if self.fates and self.started else "answered"
        reached[fate] += 1
        match fate:
            case "refused":
                raise StoreUnavailable("refused")
            case "lost before":
                raise StoreUnknown("lost before")
            case "lost after":
                await super().txn(request)
                raise StoreUnknown("lost after")
            case "full":
                raise StoreFull("full")
            case "full after":  # the transaction that passes the quota
                await super().txn(request)
                raise StoreFull("full after")
            case "late":
                self.late.append(asyncio.create_task(self.after_a_while(request)))
                raise StoreUnknown("late")
        return await super().txn(request)

    async def after_a_while(self, request: Any) -> None:
        if self.arrival is not None:
            await self.arrival.wait()
        else:
            await asyncio.sleep(0.07)  # about when it is sent again
        await super().txn(request)


@settings(max_examples=25)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(KEYS[:3]),
            st.booleans(),
            st.booleans(),
            st.lists(st.sampled_from(FATES), max_size=3),
        ),
        min_size=1,
        max_size=5,
    )
)
@example([(KEYS[0], True, False, list(FATES[1:])), (KEYS[0], True, True, ["late"])])
@example([(KEYS[0], True, False, ["full after"]), (KEYS[0], True, False, ["full after"])])
@example([(KEYS[0], False, False, ["lost after"]), (KEYS[1], True, False, ["refused", "late"])])
def answers_are_lost(etcd: Etcd, script: list[tuple[str, bool, bool, list[str]]]) -> None:
    """One transaction after the other on its own client, while the late ones of others arrive. Each
    writes a number of its own."""

    async def act() -> None:
        prefix = etcd.new_prefix()
        watching = await etcd.open(prefix)
        begin = watching.revision
        outcomes: list[tuple[int, bool, Any]] = []
        clients = [Lossy(etcd.server, prefix, list(fates)) for *_, fates in script]
        stores = [await etcd.open(prefix, client) for client in clients]

        async def one(number: int) -> None:
            key, is_guarded, is_delete, _ = script[number]
            store = stores[number]
            await refreshed(store)
            record = store.get(key)
            compare = Compare(key, ABSENT if record is None else record.mod_revision)
            other = "/core/nodes/a"
            writes: list[Put[Value] | Delete] = [Put(other, (number, 0))]
            writes.append(Delete(key) if is_delete and record else Put(key, (number, 0)))
            clients[number].started = True
            outcome = await outcome_of(store, Txn((compare,) if is_guarded else (), tuple(writes)))
            outcomes.append((number, is_guarded, outcome))

        for number in range(len(script)):
            if number % 2:
                await asyncio.gather(one(number), one(number - 1))
        if len(script) % 2:
            await one(len(script) - 1)
        await asyncio.gather(*(task for client in clients for task in client.late))
        assert await refreshed(watching) is None
        by_number: dict[int, list[int]] = {}
        for change in watching.changes("/core/nodes/", begin):
            assert change.record is not None
            by_number.setdefault(change.record.value[0], []).append(change.revision)
        for number, is_guarded, outcome in outcomes:
            took_effect = by_number.get(number, [])
            reached[type(outcome).__name__] += 1
            match outcome:
                case Committed():
                    assert outcome.revision in took_effect
                    key, _, is_delete, _ = script[number]
                    keys = {change.key for change in outcome.changes}
                    # A delete without a compare changes nothing if the other transaction was first.
                    is_gone = is_delete and not is_guarded and keys == {"/core/nodes/a"}
                    assert keys == {"/core/nodes/a", key} or is_gone
                case Conflict() | StoreUnavailable():
                    assert took_effect == []
                case StoreUnknown():
                    # a lost attempt may still be on its way when etcd is full
                    assert not is_guarded or {"full", "full after"} & {*script[number][3]}
                case _:
                    raise AssertionError(outcome)
            if is_guarded:
                assert len(took_effect) <= 1
        for store in [watching, *stores]:
            await store.close()

    etcd.run(act())


def test_etcd_5_a_lost_transaction_is_a_conflict_if_another_changed_the_key_first(
    etcd: Etcd,
) -> None:
    async def act() -> None:
        prefix = etcd.new_prefix()
        other = await etcd.open(prefix)
        client = Lossy(etcd.server, prefix, ["lost before"])
        store = await etcd.open(prefix, client)
        client.started = True
        key = KEYS[0]
        is_there = asyncio.Event()
        put = client.put

        async def put_later(key: bytes, value: bytes) -> Any:
            await is_there.wait()
            return await put(key, value)

        client.put = put_later  # type: ignore[method-assign]
        txn: Txn[Value] = Txn((Compare(key, ABSENT),), (Put(key, (1, 0)),))
        outcome = asyncio.create_task(outcome_of(store, txn))
        theirs = await outcome_of(other, Txn((), (Put(key, (2, 0)),)))
        is_there.set()
        conflict = await outcome
        assert conflict == Conflict(conflict.revision, (key,))
        assert conflict.revision > theirs.revision
        await store.close()
        await other.close()

    etcd.run(act())


def test_etcd_5_a_late_create_does_not_create_again_after_a_deletion(etcd: Etcd) -> None:
    async def act() -> None:
        prefix = etcd.new_prefix()
        other = await etcd.open(prefix)
        client = Lossy(etcd.server, prefix, ["late"])
        store = await etcd.open(prefix, client)
        client.started, client.arrival = True, asyncio.Event()
        key = KEYS[0]
        txn: Txn[Value] = Txn((Compare(key, ABSENT),), (Put(key, (1, 0)),))
        created = await outcome_of(store, txn)
        assert isinstance(created, Committed)
        deletion: Txn[Value] = Txn((Compare(key, created.revision),), (Delete(key),))
        assert isinstance(await outcome_of(other, deletion), Committed)
        assert not client.late[0].done(), "the first attempt is still on its way"
        client.arrival.set()
        await client.late[0]
        assert await refreshed(other) is None and other.get(key) is None
        again = await outcome_of(store, txn)  # with the fence as it is now
        assert isinstance(again, Committed) and again.revision > created.revision
        await store.close()
        await other.close()

    etcd.run(act())


def test_etcd_5_a_transaction_takes_effect_at_most_once_however_its_answers_are_lost(
    etcd: Etcd,
) -> None:
    reached.clear()
    answers_are_lost(etcd)
    premises = (*FATES, "Committed", "Conflict", "StoreUnknown")
    assert [premise for premise in premises if not reached[premise]] == []


# --- Values, time to live, compaction


def test_etcd_9_bytes_in_etcd_that_are_no_value_end_no_server_and_are_not_overwritten(
    etcd: Etcd,
) -> None:
    async def act() -> None:
        prefix = etcd.new_prefix()
        store = await etcd.open(prefix)
        key, bad = KEYS[0], b'{"metadata'
        raw = f"{prefix}/pods/default/a".encode()
        await store._client.put(raw, encode((1, 0)))
        await store._client.put(f"{prefix}/unknown/things".encode(), bad)
        await store._client.put(prefix.encode() + b"/pods/\xff\xfe/a", bad)
        assert await refreshed(store) is None
        record = store.get(key)
        assert record is not None
        await store._client.put(raw, bad)
        assert await refreshed(store) is None
        for each in (store, await etcd.open(prefix)):  # one that has run, and one that starts
            for refused in (
                lambda each=each: each.get(key),
                lambda each=each: each.list("/core/pods/"),
            ):
                with pytest.raises(UnreadableValue):
                    refused()
            assert each.list("/core/nodes/").records == ()
            for expected in (ABSENT, record.mod_revision):
                txn: Txn[Value] = Txn((Compare(key, expected),), (Put(key, (2, 0)),))
                assert isinstance(await outcome_of(each, txn), Conflict)
        committed = await outcome_of(store, Txn((), (Delete(key),)))
        assert isinstance(committed, Committed) and store.get(key) is None
        assert committed.changes[0].previous == record
        await store.close()
        await each.close()

    etcd.run(act())


def test_etcd_12_a_key_with_a_time_to_live_is_deleted_by_etcd(etcd: Etcd) -> None:
    async def act() -> None:
        store = await etcd.open(etcd.new_prefix(), ttl_seconds={"/core/events/": 1.0})
        key, kept = "/core/events/default/a", KEYS[0]
        gone = asyncio.get_running_loop().create_future()
        assert isinstance(
            await outcome_of(store, Txn((), (Put(key, (1, 0)), Put(kept, (1, 0))))), Committed
        )
        store.listen(lambda changes: gone.set_result(changes))
        (change,) = await asyncio.wait_for(gone, 30)
        assert (change.key, change.record) == (key, None)
        assert store.get(kept) is not None
        await store.close()

    etcd.run(act())


def test_etcd_12_a_lease_that_is_gone_is_replaced(etcd: Etcd) -> None:
    async def act() -> None:
        store = await etcd.open(etcd.new_prefix(), ttl_seconds={"/core/events/": 3600.0})
        for number in range(2):
            txn: Txn[Value] = Txn((), (Put(f"/core/events/default/{number}", (1, 0)),))
            assert isinstance(await outcome_of(store, txn), Committed)
            for line in etcd.server.ctl("lease", "list").split(b"\n")[1:]:
                if line.strip():
                    etcd.server.ctl("lease", "revoke", line.decode().strip())
        await store.close()

    etcd.run(act())


def test_etcd_12_one_lease_serves_many_keys_for_a_while(etcd: Etcd) -> None:
    async def act() -> None:
        client = EtcdClient(EtcdAddress((etcd.server.endpoint,)))
        granted = []
        grant = client.grant

        async def counted(seconds: int) -> int:
            granted.append(seconds)
            return await grant(seconds)

        client.grant = counted  # type: ignore[method-assign]
        leases = Leases(client, 3600)
        taken = await asyncio.gather(*(leases.take() for _ in range(KEYS_MAX)))
        assert len(set(taken)) == 1 and granted == [3660]
        assert await leases.take() != taken[0] and granted == [3660] * 2
        await client.close()

    etcd.run(act())


def test_etcd_11_one_server_of_several_compacts_in_a_round(etcd: Etcd) -> None:
    async def act() -> None:
        client = EtcdClient(EtcdAddress((etcd.server.endpoint,)))
        revisions = []
        compactors = [Compactor(client) for _ in range(3)]
        for number in range(4):
            answer = await client.put(b"/other", b"")
            revisions.append(answer.header.revision)
            compactors = compactors[1:] + compactors[:1]  # each wins in its turn
            won = [await each.compact_once() for each in compactors]
            assert won == [number > 0, False, False]
        kept = await oldest_revision(client)
        assert revisions[-2] < kept < revisions[-1], "one to two rounds stay readable"
        await client.range(RangeRequest(key=b"/other", revision=kept))
        with pytest.raises(RevisionCompacted):
            await client.range(RangeRequest(key=b"/other", revision=kept - 1))
        (kv,) = (await client.range(RangeRequest(key=b"compact_rev_key"))).kvs
        assert kv.version == 4, "each round was won once"
        await client.close()

    etcd.run(act())


def test_etcd_14_a_server_starts_with_the_history_since_the_last_compaction(etcd: Etcd) -> None:
    async def act() -> None:
        prefix = etcd.new_prefix()
        store = await etcd.open(prefix)
        compactor = Compactor(store._client)
        for number in range(3):
            await outcome_of(store, Txn((), (Put(KEYS[number], (number, 0)),)))
            await compactor.compact_once()
        await outcome_of(store, Txn((), (Delete(KEYS[0]),)))
        kept = await oldest_revision(store._client)
        fresh = await etcd.open(prefix)
        assert (fresh.revision, fresh.compacted) == (store.revision, kept)
        assert fresh.changes("/", kept) == store.changes("/", kept) != ()
        assert fresh.list("/", at=kept).records == store.list("/", at=kept).records
        await store.close()
        await fresh.close()

    etcd.run(act())


def test_etcd_14_a_compaction_while_the_state_is_read_only_delays_the_start(
    etcd: Etcd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("refk8s.store.etcd.load.PAGE_KEYS", 2)

    async def act() -> None:
        prefix = etcd.new_prefix()
        store = await etcd.open(prefix)
        for key in KEYS[:6]:
            await outcome_of(store, Txn((), (Put(key, (1, 0)),)))
        client = EtcdClient(EtcdAddress((etcd.server.endpoint,), prefix))
        await client.compact(store.revision)  # the revision of another test's round is gone
        read, compactions = client.range, 0

        async def range_and_compact(request: Any) -> Any:
            nonlocal compactions
            page = await read(request)
            if request.revision and page.more and compactions < 3:
                compactions += 1
                last = await outcome_of(store, Txn((), (Put(KEYS[0], (compactions, 0)),)))
                await client.compact(last.revision)
            return page

        client.range = range_and_compact  # type: ignore[method-assign]
        fresh = await etcd.open(prefix, client)
        assert compactions == 3
        assert fresh.list("/").records == store.list("/").records
        await store.close()
        await fresh.close()

    etcd.run(act())


def test_etcd_13_a_store_of_another_cluster_is_refused(etcd: Etcd) -> None:
    async def act() -> None:
        prefix = etcd.new_prefix()
        for asked in ("ours", None, "ours"):
            store = await etcd.open(prefix, cluster_id=asked)
            assert store.cluster_id == "ours"
            await store.close()
        made = [await etcd.open(etcd.new_prefix()) for _ in range(2)]
        assert len({store.cluster_id for store in made} | {""}) == 3
        for store in made:
            await store.close()
        with pytest.raises(OtherCluster, match="belongs to cluster ours, not theirs"):
            await etcd.open(prefix, cluster_id="theirs")

    etcd.run(act())


def test_etcd_5_a_transaction_that_etcd_never_takes_is_refused_alone(etcd: Etcd) -> None:
    async def act() -> None:
        store = await etcd.open(etcd.new_prefix())
        many = tuple(Put(f"/core/pods/default/{number}", (1, 0)) for number in range(129))
        outcomes = await asyncio.gather(
            outcome_of(store, Txn((), many)),
            outcome_of(store, Txn((), many[:1])),
            outcome_of(store, Txn((), (Put("/core/things/a", (1, 0)),))),
            outcome_of(store, Txn((), (*many[1:3], Put(many[1].key, (2, 0))))),
            outcome_of(store, Txn((), (Put("/core/pods/a/\ud800", (1, 0)),))),
        )
        assert [type(each) for each in outcomes] == [TxnRefused, Committed] + [TxnRefused] * 3
        assert len(store.list("/").records) == 1
        await store.close()

    etcd.run(act())


def test_etcd_10_a_start_without_etcd_is_refused_with_the_next_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("refk8s.store.etcd.store.START_SECONDS", 1.0)
    (port,) = free_ports(1)

    async def act() -> None:
        await open_etcd(EtcdAddress((f"127.0.0.1:{port}",)), encode, decode, stamp)

    with pytest.raises(StoreRefused, match=r"check that etcd runs there") as refused:
        asyncio.run(act())
    assert "\n" not in str(refused.value)
