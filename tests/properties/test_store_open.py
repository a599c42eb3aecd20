"""Opening a store, rules STORE-18 and STORE-27 (spec/store.md): one file, one cluster, one process,
and a clear refusal for all else."""

from __future__ import annotations

import os
import resource
import signal
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from refk8s.core.api import codec
from refk8s.core.api.core_v1 import ConfigMap
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.resources import CONFIG_MAPS
from refk8s.core.apiserver.lifecycle import stamp
from refk8s.core.apiserver.stored import decode_stored, encode_stored
from refk8s.core.store import Delete, Put, Txn
from refk8s.store.checksums import checksum_of_layout_2, wrapped
from refk8s.store.errors import (
    OtherCluster,
    OtherSchema,
    StoreCorrupt,
    StoreInUse,
    StoreRefused,
    StoreUnwritable,
)
from refk8s.store.memory import MemoryEngine
from refk8s.store.open import open_engine
from refk8s.store.sqlite import SCHEMA_VERSION, SPARE_PAGES, SqliteEngine


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


def test_store_18_a_store_that_another_process_has_open_is_refused_until_that_is_killed(
    path: Path,
) -> None:
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


@pytest.mark.parametrize(
    "content", [b"no database at all, but long enough to look at" * 100, b"short"]
)
def test_store_18_a_file_that_is_no_store_is_refused_and_left_alone(
    path: Path, content: bytes
) -> None:
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
def test_store_18_a_journal_that_lost_or_spoilt_a_row_is_refused(
    revision: int, spoil: bool
) -> None:
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


def filled(path: Path) -> SqliteEngine[int]:
    """A store with a past: changed, deleted and partly compacted."""
    engine = reopened(path, "11111111-1111-1111-1111-111111111111")
    for number in range(12):
        engine.commit_batch(
            [
                Txn(
                    (),
                    (
                        Put(f"/core/nodes/{number % 5}", number),
                        Put(f"/core/pods/default/{number}", number),
                    ),
                )
            ]
        )
    engine.commit_batch([Txn((), (Delete("/core/nodes/0"),))])
    engine.compact(8)
    return engine


def content(engine: SqliteEngine[int]) -> object:
    return (
        engine.revision,
        engine.compacted,
        engine.cluster_id,
        engine.list("/"),
        engine.changes("/", engine.compacted),
    )


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A closed store, and what is in it."""
    path = tmp_path_factory.mktemp("sound") / "store.db"
    engine = filled(path)
    found = content(engine)
    engine.close()
    return path, repr(found)


@given(where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
@example(where=3710.5 / 16384, bit=3)  # a text that is none
@example(where=3715.5 / 16384, bit=0)  # a column that is not there
@settings(max_examples=400, deadline=None)
def test_store_21_an_altered_bit_of_the_file_is_refused_or_changes_nothing(
    sound: tuple[Path, str], where: float, bit: int
) -> None:
    # Shows STORE-21.d.
    data, expected = sound[0].read_bytes(), sound[1]
    place = int(where * len(data))
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "store.db"
        path.write_bytes(data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :])
        try:
            engine = reopened(path)
        except StoreRefused as refused:
            assert "\n" not in str(refused)
            return
        try:
            assert repr(content(engine)) == expected
        finally:
            engine.close()


@given(revision=st.integers(9, 13), where=st.floats(0, 1, exclude_max=True))
@settings(deadline=None)
def test_store_21_an_altered_value_is_refused_by_its_key(
    sound: tuple[Path, str], revision: int, where: float
) -> None:
    # Shows STORE-21.a, STORE-21.c.
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "store.db"
        path.write_bytes(sound[0].read_bytes())
        with sqlite3.connect(path) as connection:
            key, value = connection.execute(
                "SELECT key, value FROM journal WHERE position = ?", (revision << 16,)
            ).fetchone()
            digit = (int(value) + 1) % 10 if len(value) == 1 else int(value) + 1
            connection.execute(
                "UPDATE journal SET value = ? WHERE position = ?",
                (str(digit).encode(), revision << 16),
            )
        connection.close()
        with pytest.raises(
            StoreCorrupt, match=rf"{key} at revision {revision} was altered.*restore the file"
        ):
            reopened(path)


@pytest.mark.parametrize("change", [
    "DELETE FROM journal WHERE key = '/core/pods/default/0'", "UPDATE meta SET value = 0 WHERE name = 'compacted'",
    "UPDATE meta SET value = 'x' WHERE name = 'compacted'", "UPDATE meta SET value = 1 WHERE name = 'sum'",
    "DELETE FROM meta WHERE name = 'sum'",
    "UPDATE meta SET value = '22222222-1111-1111-1111-111111111111' WHERE name = 'cluster_id'",
    "UPDATE journal SET version = 'x' WHERE key = '/core/nodes/1'", "UPDATE journal SET key = 3 WHERE key = '/core/nodes/1'",
])  # fmt: skip
def test_store_21_a_lost_row_and_an_altered_meta_are_refused(
    path: Path, sound: tuple[Path, str], change: str
) -> None:
    # Shows STORE-21.b.
    path.write_bytes(sound[0].read_bytes())
    with sqlite3.connect(path) as connection:
        connection.execute(change)
    connection.close()
    with pytest.raises(StoreCorrupt):
        reopened(path)


def test_store_21_a_store_of_layout_1_gets_checksums_once_and_keeps_everything(
    path: Path, sound: tuple[Path, str]
) -> None:
    # Shows STORE-21.e.
    path.write_bytes(sound[0].read_bytes())
    with sqlite3.connect(path) as connection:
        for statement in (
            "ALTER TABLE journal DROP COLUMN checksum", "DELETE FROM meta WHERE name = 'sum'", "PRAGMA user_version = 1",
            "PRAGMA auto_vacuum = 0",
        ):  # fmt: skip
            connection.execute(statement)
    connection.execute("VACUUM")
    connection.close()
    for _ in range(2):
        engine = reopened(path)
        assert repr(content(engine)) == sound[1]
        engine.commit_batch([])
        engine.close()
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
        assert connection.execute("PRAGMA auto_vacuum").fetchone() == (2,)
        connection.execute("UPDATE journal SET value = x'39' WHERE key = '/core/nodes/1'")
    connection.close()
    with pytest.raises(StoreCorrupt, match="/core/nodes/1"):
        reopened(path)


def test_store_21_a_store_of_layout_2_keeps_its_checksums_and_is_checked(
    path: Path, sound: tuple[Path, str]
) -> None:
    # Shows STORE-21.f.
    path.write_bytes(sound[0].read_bytes())
    with sqlite3.connect(path) as connection:
        columns = "position, key, value, create_revision, version"
        connection.create_function("old", 5, checksum_of_layout_2)
        before = connection.execute("SELECT sum(checksum) FROM journal").fetchone()[0]
        connection.execute(f"UPDATE journal SET checksum = old({columns})")
        after = sum(row[0] for row in connection.execute("SELECT checksum FROM journal"))
        (total,) = connection.execute("SELECT value FROM meta WHERE name = 'sum'").fetchone()
        total = wrapped(total - before + after)
        connection.execute("UPDATE meta SET value = ? WHERE name = 'sum'", (total,))
        connection.execute("PRAGMA user_version = 2")
    connection.close()
    engine = reopened(path)
    assert repr(content(engine)) == sound[1]
    engine.commit_batch([Txn((), (Put("/core/nodes/9", 9),))])
    engine.compact(engine.revision)
    engine.close()
    reopened(path).close()
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
        connection.execute("UPDATE journal SET value = x'39' WHERE key = '/core/nodes/1'")
    connection.close()
    with pytest.raises(StoreCorrupt, match="/core/nodes/1"):
        reopened(path)


def test_store_22_the_file_gives_back_what_compaction_has_freed(path: Path) -> None:
    # Shows STORE-22.a, STORE-22.b.
    engine: SqliteEngine[str] = SqliteEngine(path, str.encode, lambda key, wire: wire.decode())
    keys = [f"/core/pods/default/{number}" for number in range(3_000)]
    for start in range(0, len(keys), 500):
        engine.commit_batch(
            [Txn((), (Put(key, "x" * 4_000),)) for key in keys[start : start + 500]]
        )
    engine.commit_batch([Txn((), tuple(Delete(key) for key in keys))])
    engine.compact(engine.revision)
    (before,) = engine._connection.execute("PRAGMA page_count").fetchone()
    assert before * 4096 > 12_000_000
    portions = 1
    while engine.shrink():
        portions += 1
    assert portions > 5, "one portion is a bounded piece of work"
    assert not engine.shrink()
    assert path.stat().st_size <= (SPARE_PAGES + 16) * 4096
    engine.close()
    assert SqliteEngine(path, str.encode, lambda key, wire: wire.decode()).list("/").records == ()


def test_store_18_a_place_that_cannot_hold_a_store_is_refused_and_left_alone(
    tmp_path: Path,
) -> None:
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
    with pytest.raises(StoreRefused, match="use memory, sqlite:PATH or etcd:"):
        open_engine(where, encode, decode)


def test_store_18_an_engine_is_opened_by_name(path: Path) -> None:
    assert isinstance(open_engine("memory", encode, decode), MemoryEngine)
    assert isinstance(open_engine(f"sqlite:{path}", encode, decode), SqliteEngine)


def test_store_17_the_text_of_a_superseded_record_is_not_kept(tmp_path):
    """The text of most objects is never sent: only a response or a watch keeps it, until the next
    write of the key."""
    engine = SqliteEngine(tmp_path / "store.db", str.encode, lambda _, data: data.decode())
    engine.commit_batch([Txn((), (Put("/core/things/a", "one"),))])
    first = engine.get("/core/things/a")
    assert first.wire is None
    first.wire = b"one"
    engine.commit_batch([Txn((), (Put("/core/things/a", "two"),))])
    assert first.wire is None and engine.get("/core/things/a").value == "two"
    engine.close()


texts = st.text(max_size=12)
maps = st.none() | st.dictionaries(
    st.sampled_from(["resourceVersion", "uid", "a"]), texts, min_size=1, max_size=3
)


@given(
    st.lists(
        st.tuples(st.sampled_from("ab"), maps, maps, st.sampled_from([None, "7", "99"])), max_size=8
    ),
    st.booleans(),
)
def test_store_27_a_stored_object_has_no_revision_and_is_read_with_its_own(
    writes: list[tuple[str, dict[str, str] | None, dict[str, str] | None, str | None]], old: bool
) -> None:
    # Shows STORE-27.a, STORE-27.b, STORE-27.c.
    """`old`: the file is written as refk8s once did, with a revision in the bytes."""

    def encode_old(value: Any) -> bytes:
        metadata = replace(value.metadata, resource_version="5")
        return codec.encode(replace(value, metadata=metadata))

    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "store.db"
        engine = SqliteEngine(place, encode_old if old else encode_stored, decode_stored, stamp)
        for name, annotations, data, revision in writes:
            metadata = ObjectMeta(
                name=name, namespace="default", annotations=annotations, resource_version=revision
            )
            obj = ConfigMap(metadata=metadata, data=data)
            engine.commit_batch([Txn((), (Put(CONFIG_MAPS.key("default", name), obj),))])
        before = (engine.list("/"), engine.changes("/", 0))
        engine.close()
        with closing(sqlite3.connect(place)) as connection:
            for (text,) in connection.execute("SELECT value FROM journal"):
                assert old or "resourceVersion" not in msgspec.json.decode(text)["metadata"]
        engine = SqliteEngine(place, encode_stored, decode_stored, stamp)
        assert (engine.list("/"), engine.changes("/", 0)) == before
        for record in engine.list("/").records:
            assert record.value.metadata.resource_version == str(record.mod_revision)
        engine.close()
