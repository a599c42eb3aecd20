"""Opens the store that the command line names: "memory", "sqlite:PATH" or "etcd://HOST:PORT"."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from refk8s.core.store import Engine, Stamp, unstamped
from refk8s.core.store_port import Store
from refk8s.store.errors import StoreRefused
from refk8s.store.local import LocalStore
from refk8s.store.memory import MemoryEngine

V = TypeVar("V")


async def open_store(
    where: str,
    encode: Callable[[V], bytes],
    decode: Callable[[str, bytes], V],
    stamp: Stamp[V] = unstamped,
    cluster_id: str | None = None,
    ttl_seconds: Mapping[str, float] | None = None,
) -> tuple[Store[V], str | None]:
    """The store that `where` names, and the id of its cluster (None: it has none). Raises as
    `open_engine`.

    `ttl_seconds`: for the prefix of a resource the time to live of its objects. Only etcd deletes
    them by itself (ETCD-12).
    """
    if is_etcd(where):
        # imported here: it takes a twentieth of a second
        from refk8s.store.etcd.address import parse_address
        from refk8s.store.etcd.store import open_etcd

        store = await open_etcd(
            parse_address(where), encode, decode, stamp, cluster_id, ttl_seconds or {}
        )
        return store, store.cluster_id
    engine = open_engine(where, encode, decode, stamp, cluster_id)
    return LocalStore(engine), getattr(engine, "cluster_id", None)


def is_etcd(where: str) -> bool:
    """Whether this names an etcd, which deletes expired objects by itself."""
    return where.startswith("etcd:")


def open_engine(
    where: str,
    encode: Callable[[V], bytes],
    decode: Callable[[str, bytes], V],
    stamp: Stamp[V] = unstamped,
    cluster_id: str | None = None,
) -> Engine[V]:
    """The engine that `where` names. Raises StoreRefused, with one line that has the next step, and
    creates nothing then."""
    kind, _, path = where.partition(":")
    if where == "memory":
        return MemoryEngine(stamp, lambda value: len(encode(value)))
    if kind == "sqlite" and path:
        # imported here: SQLite takes a tenth of the time of a start that may not need it
        from refk8s.store.sqlite import SqliteEngine

        return SqliteEngine(path, encode, decode, stamp, cluster_id)
    raise StoreRefused(f"no such store: {where!r}; use memory, sqlite:PATH or etcd://HOST:PORT")
