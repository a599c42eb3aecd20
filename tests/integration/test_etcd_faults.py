"""The store on etcd while members of etcd fail. Rules ETCD-1, ETCD-5, ETCD-8, ETCD-10, ETCD-13
(spec/etcd.md)."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import signal
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from etcd_server import EtcdServer, etcd_cluster, etcd_server

from refk8s.components.certificates import (
    AUTHORITY_NAME,
    make_client,
    make_key,
    make_self_signed,
    make_server,
)
from refk8s.components.clock import Clock
from refk8s.components.options import ServerOptions
from refk8s.components.served_api import ServedApi
from refk8s.core.api.request import Request, Response
from refk8s.core.api.resources import SERVICES
from refk8s.core.api.user import API_SERVER
from refk8s.core.properties.predicates import store as must
from refk8s.core.store import ABSENT, Committed, Compare, Conflict, Delete, Put, Txn
from refk8s.core.store_port import StoreFull, StoreUnavailable, StoreUnknown
from refk8s.store.errors import StoreRefused
from refk8s.store.etcd import store as etcd_store
from refk8s.store.etcd.address import EtcdAddress
from refk8s.store.etcd.store import EtcdStore, open_etcd

Value = dict[str, Any]
KEYS = [f"/core/pods/ns-{number % 2}/pod-{number}" for number in range(6)]
KILLS = 8


async def opened(members: list[EtcdServer]) -> EtcdStore[Value]:
    return await opened_at(*(member.endpoint for member in members))


async def opened_at(*endpoints: str, **files: str) -> EtcdStore[Value]:
    return await open_etcd(
        EtcdAddress(endpoints, **files),
        msgspec.json.encode,
        lambda key, data: msgspec.json.decode(data, type=dict),
        lambda value, revision: {**value, "revision": revision},
    )


async def outcome_of(store: EtcdStore[Value], txn: Txn[Value]) -> Any:
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    store.submit(txn, future.set_result)
    return await future


async def refreshed(store: EtcdStore[Value]) -> Any:
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    store.refresh(future.set_result)
    return await future


def put(key: str, value: Value) -> Txn[Value]:
    return Txn((), (Put(key, value),))


class Writers:
    """Clients that each create, change and delete objects, with a number for every transaction, and
    note the outcomes."""

    def __init__(self, stores: list[EtcdStore[Value]], seed: int) -> None:
        self.stores = stores
        self.chance = random.Random(seed)
        self.number = 0
        self.outcomes: dict[int, tuple[Txn[Value], Any]] = {}
        self.slowest = 0.0
        self.begin = max(store.revision for store in stores)
        self.stopping = False

    async def run(self, count: int, meanwhile: Callable[[], Any]) -> None:
        tasks = [asyncio.create_task(self._write(n)) for n in range(count)]
        try:
            await meanwhile()
        finally:
            self.stopping = True
            await asyncio.gather(*tasks)

    async def _write(self, writer: int) -> None:
        store, loop = self.stores[writer % len(self.stores)], asyncio.get_running_loop()
        while not self.stopping:
            key = self.chance.choice(KEYS)
            record = store.get(key)
            number = self.number = self.number + 1
            mark = Put(f"/core/nodes/writer-{writer}", {"txn": number})
            write: Put[Value] | Delete = Put(key, {"txn": number, "text": "x" * 500})
            if record is not None and self.chance.random() < 0.2:
                write = Delete(key)
            compare = Compare(key, ABSENT if record is None else record.mod_revision)
            txn: Txn[Value] = Txn((compare,), (write, mark))
            begin = loop.time()
            outcome = await outcome_of(store, txn)
            self.slowest = max(self.slowest, loop.time() - begin)
            self.outcomes[number] = (txn, outcome)

    def judge(self, store: EtcdStore[Value]) -> dict[str, int]:
        """Compare the outcomes with the whole history, which must be that of one store."""
        changes = store.changes("/", self.begin)
        assert list(must.store_6_changes_have_one_order(changes)) == []
        state = {record.key: record for record in store.list("/", at=self.begin).records}
        at: dict[int, list[int]] = {}
        by_revision: dict[int, list[Any]] = {}
        for change in changes:
            assert change.previous == state.get(change.key), "the history has a gap"
            if change.record is None:
                del state[change.key]
            else:
                state[change.key] = change.record
            by_revision.setdefault(change.revision, []).append(change)
            if change.key.startswith("/core/nodes/") and change.record is not None:
                at.setdefault(change.record.value["txn"], []).append(change.revision)
        assert state == {record.key: record for record in store.list("/").records}
        counts = {"Committed": 0, "Conflict": 0, "StoreUnavailable": 0, "StoreUnknown": 0}
        for number, (txn, outcome) in self.outcomes.items():
            counts[type(outcome).__name__] += 1
            took_effect = at.pop(number, [])
            if isinstance(outcome, Committed):
                assert took_effect == [outcome.revision], f"{number} was acknowledged"
                assert by_revision[outcome.revision] == list(outcome.changes)
            elif isinstance(outcome, StoreUnknown):
                assert len(took_effect) <= 1
            else:
                assert took_effect == [], f"{number}: {outcome}"
            for revision in took_effect:
                compared = next(c for c in by_revision[revision] if c.key == txn.compares[0].key)
                before = ABSENT if compared.previous is None else compared.previous.mod_revision
                assert before == txn.compares[0].mod_revision, "decided on another state"
        assert at == {}
        return counts


def test_etcd_5_and_10_nothing_acknowledged_is_lost_when_etcd_is_killed_under_writers(
    tmp_path: Path,
) -> None:
    # Shows STORE-14
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")
    chance = random.Random(seed)

    async def act(etcd: EtcdServer) -> None:
        stores = [await opened([etcd]) for _ in range(2)]
        writers = Writers(stores, seed)

        async def kill_again_and_again() -> None:
            for _ in range(KILLS):
                await asyncio.sleep(0.05 + chance.random() * 0.4)
                etcd.kill()
                etcd.start(wait=False)
                await asyncio.to_thread(etcd.wait)

        await writers.run(8, kill_again_and_again)
        for store in stores:
            assert await refreshed(store) is None
            counts = writers.judge(store)
        print(counts)
        assert counts["Committed"] > 50
        assert counts["StoreUnknown"] == counts["StoreUnavailable"] == 0, "a kill costs only time"
        fresh = await opened([etcd])
        assert fresh.list("/").records == stores[0].list("/").records == stores[1].list("/").records
        for store in (*stores, fresh):
            await store.close()

    with etcd_server(tmp_path) as etcd:
        asyncio.run(act(etcd))


def move_leader(members: list[EtcdServer]) -> None:
    """Another member becomes the leader."""
    found = [json.loads(each.ctl("endpoint", "status", "-w", "json"))[0] for each in members]
    ids = [each["Status"]["header"]["member_id"] for each in found]
    leader = ids.index(found[0]["Status"]["leader"])
    members[leader].ctl("move-leader", f"{ids[leader - 1]:x}")


def test_etcd_10_a_killed_member_and_a_killed_or_moved_leader_cost_only_time(
    tmp_path: Path,
) -> None:
    async def act(members: list[EtcdServer]) -> None:
        first, second = await opened(members), await opened(members[1:])
        writers = Writers([first, second], 1)

        async def kill_each() -> None:
            for member in members:  # one of them is the leader
                await asyncio.sleep(0.3)
                member.kill()
                await asyncio.sleep(2.5)
                member.start(wait=False)
                await asyncio.to_thread(member.wait)
            for _ in range(2):
                await asyncio.to_thread(move_leader, members)
                await asyncio.sleep(0.5)

        await writers.run(6, kill_each)
        for store in (first, second):
            assert await refreshed(store) is None
            counts = writers.judge(store)
        print(counts, f"slowest {writers.slowest:.1f} s")
        assert counts["StoreUnknown"] == counts["StoreUnavailable"] == 0
        assert counts["Committed"] > 50
        await first.close()
        await second.close()

    with etcd_cluster(tmp_path) as members:
        asyncio.run(act(members))


def test_etcd_10_without_a_quorum_writes_fail_reads_of_memory_go_on_and_it_recovers_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(etcd_store, "WRITE_SECONDS", 4.0)

    async def act(members: list[EtcdServer]) -> None:
        store = await opened(members)
        assert isinstance(await outcome_of(store, put(KEYS[0], {"n": 1})), Committed)
        for member in members[:2]:
            member.kill()
        outcome, failed = await asyncio.gather(
            outcome_of(store, put(KEYS[0], {"n": 2})), refreshed(store)
        )
        assert isinstance(outcome, (StoreUnavailable, StoreUnknown))
        assert isinstance(failed, StoreUnavailable)
        with pytest.raises(StoreUnavailable):
            await store.probe()
        record = store.get(KEYS[0])
        assert record is not None and record.value["n"] == 1
        members[0].start(wait=False)
        await asyncio.to_thread(members[0].wait)
        monkeypatch.setattr(etcd_store, "WRITE_SECONDS", 15.0)
        assert await refreshed(store) is None
        assert isinstance(await outcome_of(store, put(KEYS[0], {"n": 3})), Committed)
        await store.probe()
        await store.close()

    with etcd_cluster(tmp_path) as members:
        asyncio.run(act(members))


def test_etcd_10_a_full_etcd_takes_no_writes_until_it_has_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(etcd_store, "WRITE_SECONDS", 1.0)

    async def act(etcd: EtcdServer) -> None:
        store = await opened([etcd])
        outcome: Any = None
        at = ABSENT
        for number in range(200):
            write = Put(KEYS[0], {"n": number, "text": "x" * 100_000})
            outcome = await outcome_of(store, Txn((Compare(KEYS[0], at),), (write,)))
            if not isinstance(outcome, Committed):
                break
            at = outcome.revision
        assert isinstance(outcome, StoreUnavailable) and "space exceeded" in str(outcome)
        assert await refreshed(store) is None
        record = store.get(KEYS[0])
        assert record is not None and record.value["n"] == number - 1
        outcome = await outcome_of(
            store, Txn((Compare(KEYS[1], ABSENT),), (Put(KEYS[1], write.value),))
        )
        assert isinstance(outcome, StoreUnavailable) and store.get(KEYS[1]) is None
        # without a comparison nothing shows whether it took effect
        assert isinstance(await outcome_of(store, put(KEYS[0], write.value)), StoreFull)
        etcd.ctl("compact", str(store.revision))
        etcd.ctl("defrag")
        etcd.ctl("alarm", "disarm")
        assert isinstance(await outcome_of(store, put(KEYS[0], {"n": -1})), Committed)
        await store.close()

    with etcd_server(tmp_path, "--quota-backend-bytes", "4000000") as etcd:
        asyncio.run(act(etcd))


def test_etcd_10_a_member_that_hangs_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("refk8s.store.etcd.client.CALL_SECONDS", 1.0)

    async def act(members: list[EtcdServer]) -> None:
        leader = next(n for n, each in enumerate(members) if is_leader(each))
        ordered = members[leader + 1 :] + members[:leader] + [members[leader]]
        store = await opened(ordered)  # it uses a follower
        process = ordered[0].process
        assert process is not None
        process.send_signal(signal.SIGSTOP)
        try:
            outcome = await outcome_of(store, Txn((Compare(KEYS[0], ABSENT),), (Put(KEYS[0], {}),)))
            assert isinstance(outcome, Committed)
        finally:
            process.send_signal(signal.SIGCONT)
        await store.close()

    with etcd_cluster(tmp_path) as members:
        asyncio.run(act(members))


def is_leader(member: EtcdServer) -> bool:
    (status,) = msgspec.json.decode(member.ctl("endpoint", "status", "-w", "json"))
    return bool(status["Status"]["leader"] == status["Status"]["header"]["member_id"])


class Link:
    """A connection to etcd that can be cut."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.open = True
        self.writers: list[asyncio.StreamWriter] = []

    async def serve(self) -> str:
        self.server = await asyncio.start_server(self.connect, "127.0.0.1", 0)
        return f"127.0.0.1:{self.server.sockets[0].getsockname()[1]}"

    async def connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self.open:
            writer.close()
            return
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.writers += [writer, far_writer]
        with suppress(asyncio.CancelledError):
            await asyncio.gather(copy(reader, far_writer), copy(far_reader, writer))

    def cut(self) -> None:
        self.open = False
        for writer in self.writers:
            writer.transport.abort()


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
    except OSError:
        pass
    finally:
        writer.close()


def test_etcd_8_a_server_that_was_cut_off_for_longer_than_the_history_reads_all_again(
    tmp_path: Path,
) -> None:
    async def act(etcd: EtcdServer) -> None:
        link = Link(etcd.port)
        near = await opened([etcd])
        for key in KEYS[:3]:
            await outcome_of(near, put(key, {"n": 0}))
        far = await opened_at(await link.serve())
        heard: list[Any] = []
        far.listen(heard.extend)
        before = far.revision
        link.cut()
        for number in range(1, 4):
            await outcome_of(near, put(KEYS[0], {"n": number}))
        await outcome_of(near, Txn((), (Delete(KEYS[1]), Delete(KEYS[2]))))
        last = await outcome_of(near, put(KEYS[2], {"n": 9}))
        etcd.ctl("compact", str(near.revision))
        link.open = True
        assert await refreshed(far) is None
        assert far.list("/").records == near.list("/").records
        assert far.compacted >= last.revision > before
        assert [(c.key, c.record and c.record.value["n"]) for c in heard] == [
            (KEYS[0], 3),
            (KEYS[2], None),
            (KEYS[2], 9),
            (KEYS[1], None),
        ]
        assert isinstance(await outcome_of(far, put(KEYS[0], {"n": 10})), Committed)
        link.server.close()
        await far.close()
        await near.close()

    with etcd_server(tmp_path) as etcd:
        asyncio.run(act(etcd))


def test_etcd_4_an_interrupted_watch_goes_on_where_it_was(tmp_path: Path) -> None:
    async def act(etcd: EtcdServer) -> None:
        link = Link(etcd.port)
        near, far = await opened([etcd]), await opened_at(await link.serve())
        heard: list[Any] = []
        far.listen(heard.extend)
        begin = far.revision
        for number in range(6):
            if number % 2:
                link.cut()
            await outcome_of(near, put(KEYS[number % 3], {"n": number}))
            link.open = True
            if number % 2:
                assert await refreshed(far) is None
        assert heard == list(near.changes("/", begin)) and len(heard) == 6
        link.server.close()
        await far.close()
        await near.close()

    with etcd_server(tmp_path) as etcd:
        asyncio.run(act(etcd))


def test_etcd_13_an_etcd_whose_data_was_replaced_is_noticed(tmp_path: Path) -> None:
    async def act(etcd: EtcdServer) -> None:
        store = await opened([etcd])
        for number in range(9):
            await outcome_of(store, put(KEYS[0], {"n": number}))
        etcd.kill()
        shutil.rmtree(etcd.directory / "data")
        etcd.start()
        failed = await refreshed(store)
        assert isinstance(failed, StoreUnavailable) and "restart the API servers" in str(failed)
        outcome = await outcome_of(store, Txn((Compare(KEYS[1], ABSENT),), (Put(KEYS[1], {}),)))
        assert isinstance(outcome, StoreUnknown) and "restart the API servers" in str(outcome)
        assert isinstance(await outcome_of(store, put(KEYS[0], {})), (StoreUnknown, Conflict))
        with pytest.raises(StoreUnavailable, match="restart the API servers"):
            await store.probe()
        await store.close()

    with etcd_server(tmp_path) as etcd:
        asyncio.run(act(etcd))


def test_etcd_1_with_client_certificates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(etcd_store, "START_SECONDS", 2.0)
    now = datetime.now(UTC)
    authority, foreign = make_key(), make_key()
    files = {
        "ca.crt": make_self_signed(authority, AUTHORITY_NAME, now),
        "server.key": (server_key := make_key()),
        "server.crt": make_server(server_key, authority, ["127.0.0.1"], now),
        "client.key": (client_key := make_key()),
        "client.crt": make_client(client_key, authority, "refk8s", "", now),
        "foreign.crt": make_client(client_key, foreign, "refk8s", "", now),
        "foreign-ca.crt": make_self_signed(foreign, AUTHORITY_NAME, now),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    ca, cert, foreign_cert, key = (
        str(tmp_path / name) for name in ("ca.crt", "client.crt", "foreign.crt", "client.key")
    )
    server = EtcdServer(
        tmp_path / "etcd",
        *("--cert-file", str(tmp_path / "server.crt"), "--key-file", str(tmp_path / "server.key")),
        *("--trusted-ca-file", ca, "--client-cert-auth"),
    )
    server.ctl_flags = ("--cacert", ca, "--cert", cert, "--key", key)

    async def act() -> None:
        store = await opened_at(server.endpoint, cacert=ca, cert=cert, key=key)
        assert isinstance(await outcome_of(store, put(KEYS[0], {"n": 1})), Committed)
        await store.close()
        for files in (
            {},
            {"cacert": ca},
            {"cacert": ca, "cert": foreign_cert, "key": key},
            {"cacert": str(tmp_path / "foreign-ca.crt"), "cert": cert, "key": key},
            {"cacert": str(tmp_path / "missing"), "cert": cert, "key": key},
        ):
            with pytest.raises(StoreRefused):
                await opened_at(server.endpoint, **files)

    try:
        server.start()
        asyncio.run(act())
    finally:
        server.kill()


def test_host_22_a_server_starts_although_etcd_does_not_answer_its_first_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """etcd stops once it has been opened, and goes on after the third answer of 503 or 504."""
    monkeypatch.setattr(etcd_store, "WRITE_SECONDS", 1.0)
    monkeypatch.setattr("refk8s.store.etcd.client.CALL_SECONDS", 0.5)
    kubeconfig, data = str(tmp_path / "kubeconfig"), str(tmp_path / "data")
    codes: Counter[int] = Counter()
    stopped: list[EtcdServer] = []

    class Served(ServedApi):
        async def call(self, request: Request) -> Response:
            response = await super().call(request)
            codes[response.code] += 1
            if codes[503] + codes[504] == 3:
                process = stopped[0].process
                assert process is not None
                process.send_signal(signal.SIGCONT)
            return response

    async def main(etcd: EtcdServer) -> None:
        process = etcd.process
        assert process is not None
        options = ServerOptions(
            store=f"etcd://{etcd.endpoint}", port=0, data_dir=data, kubeconfig=kubeconfig
        )
        served = Served(options, Clock())
        try:
            await served.open()
            process.send_signal(signal.SIGSTOP)
            stopped.append(etcd)
            await served.serve()
            request = Request("get", SERVICES, "default", "kubernetes", user=API_SERVER)
            assert (await served.call(request)).ok
        finally:
            process.send_signal(signal.SIGCONT)
            await served.close()

    with etcd_server(tmp_path / "etcd") as etcd:
        asyncio.run(main(etcd))
    assert codes[503] + codes[504] >= 3 and "nodes cannot join" not in caplog.text
