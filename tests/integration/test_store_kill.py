"""A real process is killed at any moment, again and again: STORE-14 (acknowledged is durable) and
STORE-15 (no half transaction).

SIGKILL takes the process and leaves the operating system, so this shows that nothing acknowledged
was still in the process. That it has also left the operating system is what SQLite's full
synchronisation is for; that it is on is checked in tests/properties.
"""

import os
import random
import select
import signal
import subprocess
import sys
from pathlib import Path

import msgspec

from refk8s.core.properties.predicates import store as must
from refk8s.core.store import Change
from refk8s.store.errors import StoreRefused
from refk8s.store.sqlite import SqliteEngine

WRITER = Path(__file__).with_name("store_writer.py")
ROOT = Path(__file__).parents[2]
MARK = "/core/pods/ns-0/mark"
KILLS = 30


def kill_a_writer(path: Path, seed: int, chance: random.Random) -> list[dict]:
    """Start a writer, kill it at some moment, and return what it had acknowledged."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    writer = subprocess.Popen(
        [sys.executable, str(WRITER), str(path), str(seed)], stdout=subprocess.PIPE, env=environment
    )
    assert writer.stdout is not None
    said = b""
    try:
        # in the midst of its work: after so many lines and a little more, about the time of one
        # batch
        if chance.random() < 0.8:
            lines = chance.randint(1, 150)
            while said.count(b"\n") < lines:
                piece = os.read(writer.stdout.fileno(), 1 << 16)
                assert piece, "the writer ended by itself"
                said += piece
            select.select([], [], [], chance.random() * 0.002)
        else:  # while it starts, opens and recovers
            select.select([writer.stdout], [], [], chance.random() * 0.2)
            select.select([], [], [], chance.random() * 0.01)
    finally:
        writer.send_signal(signal.SIGKILL)
        rest, _ = writer.communicate()
    whole_lines = (said + rest).split(b"\n")[:-1]
    return [msgspec.json.decode(line) for line in whole_lines if line != b"ready"]


def by_revision(changes: tuple[Change[dict], ...]) -> dict[int, list[Change[dict]]]:
    grouped: dict[int, list[Change[dict]]] = {}
    for change in changes:
        grouped.setdefault(change.revision, []).append(change)
    return grouped


def test_store_14_and_15_a_killed_process_loses_nothing_acknowledged_and_leaves_no_half_transaction(
    tmp_path: Path,
) -> None:
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    path = tmp_path / "store.db"
    last_revision = 1
    acknowledged_before: dict[int, int] = {}
    unanswered = 0
    for _ in range(KILLS):
        acknowledged = {
            line["revision"]: line["txn"]
            for line in kill_a_writer(path, chance.getrandbits(32), chance)
        }
        try:
            engine: SqliteEngine[dict] = SqliteEngine(
                path, msgspec.json.encode, lambda key, wire: msgspec.json.decode(wire)
            )
        except StoreRefused as error:
            raise AssertionError(
                f"a killed process left a store that does not open: {error}"
            ) from error
        revision, compacted = engine.revision, engine.compacted
        assert revision >= max([last_revision, *acknowledged]), "the revision went back"
        assert not acknowledged or min(acknowledged) == last_revision + 1, (
            "the first write of a process follows what the one before left"
        )
        unanswered += revision > max([last_revision, *acknowledged])

        changes = engine.changes("/", compacted)
        acknowledged_before |= acknowledged
        for at, group in by_revision(changes).items():
            mark = next((change.record for change in group if change.key == MARK), None)
            assert mark is not None, f"revision {at} lacks the key that every transaction writes"
            assert [change.key for change in group] == mark.value["keys"], (
                f"revision {at} is half there"
            )
            assert {change.record.value["txn"] for change in group if change.record} == {
                mark.value["txn"]
            }
            assert acknowledged_before.get(at, mark.value["txn"]) == mark.value["txn"], (
                f"revision {at} was acknowledged as another"
            )
        assert (
            list(must.store_11_no_revision_is_missing(max(compacted, 1), changes, revision)) == []
        )
        assert list(must.store_6_changes_have_one_order(changes)) == []
        for prefix in ("/", "/core/pods/ns-1/"):
            before = {record.key: record for record in engine.list(prefix, at=compacted).records}
            present = {record.key: record for record in engine.list(prefix).records}
            assert (
                list(
                    must.store_11_a_watch_is_complete(
                        before, compacted, engine.changes(prefix, compacted), present
                    )
                )
                == []
            )
        engine.close()
        last_revision = revision
    assert len(acknowledged_before) > KILLS, "the writers hardly wrote"
    print(
        f"{KILLS} kills, {len(acknowledged_before)} acknowledged transactions, "
        f"{unanswered} kills between writing and answering"
    )
