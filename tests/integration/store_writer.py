"""A process that writes to a store as fast as it can and tells on its standard output what has been
acknowledged, until it is killed.

Usage: store_writer.py PATH SEED. One JSON line for each committed transaction: its revision, its
number and its keys. Every value says which transaction wrote it and how many keys that wrote, so
that a half transaction can be told from a whole one.
"""

import os
import random
import sys

import msgspec

from refk8s.core.store import Committed, Delete, Put, Txn
from refk8s.store.sqlite import SqliteEngine

KEYS = [f"/core/pods/ns-{number % 3}/pod-{number}" for number in range(24)]
MARK = "/core/pods/ns-0/mark"
"""Written by every transaction, and so proof of the last one."""


def encode(value: dict) -> bytes:
    return msgspec.json.encode(value)


def decode(key: str, wire: bytes) -> dict:
    return msgspec.json.decode(wire)


def main(path: str, seed: int) -> None:
    chance = random.Random(seed)
    engine = SqliteEngine(path, encode, decode)
    present = {record.key for record in engine.list("/").records}
    os.write(1, b"ready\n")
    while True:
        txns = []
        for _ in range(chance.randint(1, 12)):
            keys = chance.sample(KEYS, chance.randint(0, 6))
            # to delete another would be no change
            deleted = {key for key in keys if key in present and chance.random() < 0.2}
            present = (present | {*keys}) - deleted
            value = {
                "txn": chance.getrandbits(48),
                "keys": sorted([*keys, MARK]),
                "filler": "x" * chance.choice([10, 1000, 20000]),
            }
            txns.append(
                Txn(
                    (),
                    tuple(
                        Delete(key) if key in deleted else Put(key, value) for key in [*keys, MARK]
                    ),
                )
            )
        lines = []
        for outcome in engine.commit_batch(txns):
            assert isinstance(outcome, Committed)
            mark = next(change.record for change in outcome.changes if change.key == MARK)
            lines.append(
                msgspec.json.encode({"revision": outcome.revision, "txn": mark.value["txn"]})
                + b"\n"
            )
        os.write(1, b"".join(lines))
        if chance.random() < 0.05:
            engine.compact(max(1, engine.revision - 40))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
