"""The speed of the store, as ratios to the parts that it consists of, measured in one run; seconds
differ between machines.

Usage: python benchmarks/store.py [--directory DIR] [--commits N]. The disk of DIR is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from refk8s.core.store import EMPTY, Compare, Put, Txn, commit
from refk8s.store.memory import MemoryEngine
from refk8s.store.sqlite import SqliteEngine

VALUE_BYTES = 1200
"""About the size of a pod."""

ROUNDS = 3
"""Each figure is the best of so many."""


def seconds(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def keys_of(count: int, salt: str = "") -> list[str]:
    return [
        f"/core/pods/namespace-{number % 20}/web-{salt}{number * 7919 % count}"
        for number in range(count)
    ]


def creations(keys: Sequence[str], value: Any) -> list[Txn[Any]]:
    return [Txn((Compare(key, 0),), (Put(key, value),)) for key in keys]


def raw_inserts(path: Path, keys: Sequence[str], batch: int) -> float:
    """The floor: the same rows with the same synchronisation, without decisions, a state in memory,
    or answers."""
    connection = sqlite3.connect(path, isolation_level=None)
    for statement in (
        "PRAGMA locking_mode = EXCLUSIVE",
        "PRAGMA journal_mode = WAL",
        "PRAGMA synchronous = FULL",
    ):
        connection.execute(statement)
    connection.execute(
        "CREATE TABLE journal (position INTEGER PRIMARY KEY, key, value BLOB, "
        "create_revision INTEGER, version INTEGER)"
    )
    value = b"x" * VALUE_BYTES

    def work() -> None:
        for start in range(0, len(keys), batch):
            rows = [
                ((start + place) << 16, key, value, start, 1)
                for place, key in enumerate(keys[start : start + batch])
            ]
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany("INSERT INTO journal VALUES (?, ?, ?, ?, ?)", rows)
            connection.execute("COMMIT")

    taken = seconds(work)
    connection.close()
    return taken


def engine_commits(path: Path, keys: Sequence[str], batch: int) -> float:
    engine: SqliteEngine[bytes] = SqliteEngine(path, bytes, lambda key, wire: wire)
    txns = creations(keys, b"x" * VALUE_BYTES)
    taken = seconds(
        lambda: [
            engine.commit_batch(txns[start : start + batch]) for start in range(0, len(txns), batch)
        ]
    )
    engine.close()
    return taken


def durable(directory: Path, commits: int) -> None:
    print(
        f"durable commits of one key of {VALUE_BYTES} bytes      commits/s    raw inserts/s   ratio"
    )
    for batch in (1, 16, 64):
        keys = keys_of(commits // 10 if batch == 1 else commits)
        taken, floor = [], []
        for attempt in range(ROUNDS):  # in turns, so that a slow moment of the disk affects both
            taken.append(engine_commits(directory / f"engine-{batch}-{attempt}.db", keys, batch))
            floor.append(raw_inserts(directory / f"raw-{batch}-{attempt}.db", keys, batch))
        print(f"  batches of {batch:<3}                            {len(keys) / min(taken):12,.0f} {len(keys) / min(floor):16,.0f}"
              f"    {min(floor) / min(taken):.2f}")  # fmt: skip


def opening(directory: Path, objects: int) -> None:
    path = directory / "opening.db"

    def open_and_close() -> None:
        SqliteEngine(path, bytes, lambda key, wire: wire).close()

    print(f"open, no file yet                             {seconds(open_and_close) * 1e3:9.1f} ms")
    engine: SqliteEngine[bytes] = SqliteEngine(path, bytes, lambda key, wire: wire)
    txns = creations(keys_of(objects), b"x" * VALUE_BYTES)
    for start in range(0, objects, 64):
        engine.commit_batch(txns[start : start + 64])
    updates = [Txn((), txn.writes) for txn in txns]
    for start in range(0, objects, 64):
        engine.commit_batch(updates[start : start + 64])
    engine.close()
    recovered = seconds(open_and_close)
    engine = SqliteEngine(path, bytes, lambda key, wire: wire)
    compacted = seconds(lambda: engine.compact(engine.revision))
    engine.close()
    print(f"recover {objects:,} objects and {2 * objects:,} changes    {recovered * 1e3:9.1f} ms")
    print(f"compact {2 * objects:,} changes                        {compacted * 1e3:9.1f} ms")


def in_memory(objects: int) -> None:
    keys = keys_of(objects)
    engine: MemoryEngine[int] = MemoryEngine()
    history = EMPTY
    plain: dict[str, int] = {}
    creating = creations(keys, 0)
    updating = [Txn((), txn.writes) for txn in creating]

    def commit_all(txns: Sequence[Txn[int]]) -> None:
        nonlocal history
        for txn in txns:
            history, _ = commit(history, txn)

    def print_line(what: str, engine_seconds: float, history_seconds: float, count: int) -> None:
        print(
            f"  {what:<42} {engine_seconds / count * 1e6:9.2f} {history_seconds / count * 1e6:9.2f}"
        )

    print(f"microseconds each, among {objects:,} objects           engine   history")
    print_line(
        "create",
        seconds(lambda: [engine.commit_batch((txn,)) for txn in creating]),
        seconds(lambda: commit_all(creating)),
        objects,
    )
    print_line(
        "update",
        seconds(lambda: [engine.commit_batch((txn,)) for txn in updating]),
        seconds(lambda: commit_all(updating)),
        objects,
    )
    print_line(
        "get",
        *(
            seconds(lambda store=store: [store.get(key) for key in keys])
            for store in (engine, history)
        ),
        objects,
    )  # type: ignore[misc]
    floor = seconds(lambda: [plain.__setitem__(key, 0) for key in keys]) / objects * 1e6
    print(f"  (to set a key of a dictionary: {floor:.2f})")
    for what, question in (
        ("list a namespace of twenty", lambda store: store.list("/core/pods/namespace-3/")),
        ("list all", lambda store: store.list("/core/pods/")),
        (
            "page of 500, half the changes ago",
            lambda store: store.list("/core/pods/", at=objects, limit=500),
        ),
        ("the last 10 changes", lambda store: store.changes("/core/pods/", store.revision - 10)),
        (
            "prefix revision of a namespace",
            lambda store: store.prefix_revision("/core/pods/namespace-3/"),
        ),
    ):
        times = [
            min(
                seconds(lambda store=store, question=question: question(store))
                for _ in range(ROUNDS)
            )
            for store in (engine, history)
        ]
        print_line(what, *times, 1)


def on_etcd(directory: Path, commits: int) -> None:
    """The store on etcd, and the calls of etcd that it consists of: one transaction for each
    commit, without a watch and a state in memory."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    import uvloop
    from etcd_server import etcd_server

    from refk8s.store.etcd.address import EtcdAddress
    from refk8s.store.etcd.client import EtcdClient
    from refk8s.store.etcd.store import EtcdStore, open_etcd
    from refk8s.store.etcd.transactions import request_of

    value = b"x" * VALUE_BYTES

    async def each(work: Callable[[int], Any], count: int, in_flight: int) -> tuple[float, float]:
        """Commits a second, and microseconds of processor time for one."""
        numbers = iter(range(count))

        async def worker() -> None:
            for number in numbers:
                await work(number)

        started, processor = time.perf_counter(), time.process_time()
        await asyncio.gather(*(worker() for _ in range(in_flight)))
        taken = time.perf_counter() - started
        return count / taken, (time.process_time() - processor) / count * 1e6

    async def measure(endpoint: str) -> None:
        address = EtcdAddress((endpoint,))
        store: EtcdStore[bytes] = await open_etcd(
            address, bytes, lambda key, data: data, lambda value, revision: value
        )
        client = EtcdClient(address)
        loop = asyncio.get_running_loop()
        print(
            "commits of one key on etcd                  commits/s  us each   bare calls/s  us each"
        )
        for in_flight in (1, 16, 64):
            count = commits // 10 if in_flight == 1 else commits // 2
            txns = creations(keys_of(count, f"{in_flight}-"), value)
            requests = [
                request_of(txn, store._keys, bytes)
                for txn in creations(keys_of(count, f"b{in_flight}-"), value)
            ]

            async def commit_one(number: int, txns: Any = txns) -> None:
                future = loop.create_future()
                store.submit(txns[number], future.set_result)
                await future

            async def bare(number: int, requests: Any = requests) -> None:
                await client.txn(requests[number])

            rate, processor = await each(commit_one, count, in_flight)
            bare_rate, bare_processor = await each(bare, count, in_flight)
            print(
                f"  {in_flight:<3} in flight                       {rate:12,.0f} {processor:8.0f} "
                f"{bare_rate:14,.0f} {bare_processor:8.0f}"
            )
        for _ in range(3):
            future = loop.create_future()
            started = time.perf_counter()
            store.refresh(future.set_result)
            await future
            print(
                "  refresh                                "
                f"{(time.perf_counter() - started) * 1e3:9.1f} ms"
            )
        await store.close()
        await client.close()
        started = time.perf_counter()
        store = await open_etcd(
            address, bytes, lambda key, data: data, lambda value, revision: value
        )
        objects = len(store.list("/").records)
        print(
            f"  start with {objects:,} objects              "
            f"{(time.perf_counter() - started) * 1e3:9.1f} ms"
        )
        await store.close()

    with etcd_server(directory / "etcd") as server:
        uvloop.run(measure(server.endpoint))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directory", type=Path, default=None)
    parser.add_argument("--commits", type=int, default=10_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.directory) as directory:
        durable(Path(directory), arguments.commits)
        opening(Path(directory), 10_000)
        if shutil.which("etcd"):
            on_etcd(Path(directory), arguments.commits)
        else:
            print("no etcd here: its figures are left out")
    in_memory(20_000)


if __name__ == "__main__":
    main()
