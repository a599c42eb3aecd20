"""Opens the store that the command line names: "memory" or "sqlite:PATH"."""

from __future__ import annotations

from collections.abc import Callable
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
) -> tuple[Store[V], str | None]:
    """The store that `where` names, and the cluster that it belongs to (None: it does not say).
    Raises as `open_engine`."""
    engine = open_engine(where, encode, decode, stamp, cluster_id)
    return LocalStore(engine), getattr(engine, "cluster_id", None)


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
        return MemoryEngine(stamp)
    if kind == "sqlite" and path:
        # imported here: SQLite takes a tenth of the time of a start that may not need it
        from refk8s.store.sqlite import SqliteEngine

        return SqliteEngine(path, encode, decode, stamp, cluster_id)
    raise StoreRefused(f"no such store: {where!r}; use memory or sqlite:PATH")
