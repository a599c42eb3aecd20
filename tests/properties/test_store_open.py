"""Opening a store, rule STORE-18 (spec/store.md): one file, one cluster, one process, and a clear refusal for all else."""

from __future__ import annotations

import os
import resource
import signal
import sqlite3
import tempfile
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refk8s.core.store import Put, Txn
from refk8s.store.errors import OtherCluster, OtherSchema, StoreCorrupt, StoreInUse, StoreRefused, StoreUnwritable
from refk8s.store.memory import MemoryEngine
from refk8s.store.open import open_engine
from refk8s.store.sqlite import SqliteEngine


def encode(value: int) -> bytes:
    return msgspec.json.encode(value)


def decode(key: str, wire: bytes) -> int:
    return msgspec.json.decode(wire, type=int)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


def reopened(path: Path, cluster_id: str | None = None) -> SqliteEngine[int]:
    return SqliteEngine(path, encode, decode, cluster_id=cluster_id)


def untouched(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


def test_store_18_a_store_of_another_cluster_is_refused(path: Path) -> None:
    reopened(path, "ours").close()
    before = untouched(path)
    with pytest.raises(OtherCluster, match="ours, not theirs"):
        reopened(path, "theirs")
    assert untouched(path) == before
    assert reopened(path).cluster_id == "ours"


def test_store_18_a_store_that_is_open_is_refused(path: Path) -> None:
    engine = reopened(path)
    with pytest.raises(StoreInUse):
        reopened(path)
    engine.close()
    reopened(path).close()


def test_store_18_a_store_that_another_process_has_open_is_refused_until_that_is_killed(path: Path) -> None:
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        holder = reopened(path)
        os.write(tell, b"open")
        signal.pause()
        os._exit(holder.revision)
    os.read(told, 4)
    with pytest.raises(StoreInUse, match="another process"):
        reopened(path)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    reopened(path).close()


def test_store_18_another_layout_is_refused(path: Path) -> None:
    reopened(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(OtherSchema, match="99"):
        reopened(path)


@pytest.mark.parametrize("content", [b"no database at all, but long enough to look at" * 100, b"short"])
def test_store_18_a_file_that_is_no_store_is_refused_and_left_alone(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(StoreCorrupt):
        reopened(path)
    assert untouched(path) == content
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_store_18_a_database_of_another_application_is_refused_and_left_alone(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    before = untouched(path)
    with pytest.raises(StoreCorrupt, match="another application"):
        reopened(path)
    assert untouched(path) == before


@given(st.integers(2, 6), st.booleans())
@settings(max_examples=10, deadline=None)
def test_store_18_a_journal_that_lost_or_spoilt_a_row_is_refused(revision: int, spoil: bool) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "store.db"
        engine = reopened(path)
        for number in range(6):
            engine.commit_batch([Txn((), (Put(f"/core/nodes/{number}", number),))])
        engine.close()
        with sqlite3.connect(path) as connection:
            change = "UPDATE journal SET value = x'00'" if spoil else "DELETE FROM journal"
            connection.execute(f"{change} WHERE position = {revision << 16}")
        connection.close()
        with pytest.raises(StoreCorrupt, match=str(revision)):
            reopened(path)


def test_store_18_a_place_that_cannot_hold_a_store_is_refused_and_left_alone(tmp_path: Path) -> None:
    for place in (tmp_path / "nowhere" / "store.db", tmp_path, Path("/proc/store.db")):
        with pytest.raises(StoreUnwritable):
            reopened(place)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))  # a disk that takes no more
    try:
        with pytest.raises(StoreUnwritable, match="disk"):
            reopened(tmp_path / "store.db")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [file for file in tmp_path.iterdir() if file.stat().st_size] == []


@pytest.mark.parametrize("where", ["", "sqlite", "sqlite:", "etcdd:x", "memory:"])
def test_store_18_an_engine_that_does_not_exist_is_refused(where: str) -> None:
    with pytest.raises(StoreRefused, match="use memory or sqlite:PATH"):
        open_engine(where, encode, decode)


def test_store_18_an_engine_is_opened_by_name(path: Path) -> None:
    assert isinstance(open_engine("memory", encode, decode), MemoryEngine)
    assert isinstance(open_engine(f"sqlite:{path}", encode, decode), SqliteEngine)
