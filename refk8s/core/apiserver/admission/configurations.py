"""The configurations of a store, compiled: those of webhooks, and of other kinds that every write
depends on. Rule HOOK-5 (spec/webhooks.md).

They are compiled when one of them has changed. A write of another object only compares revisions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from refk8s.core.api.resources import Resource
from refk8s.core.apiserver.custom.versions import Shown
from refk8s.core.apiserver.outcome import Reader

T = TypeVar("T")


class Kept(Generic[T]):
    """What `compile` makes of all objects of these resources, each in the order of their names.
    Another store may be passed to any call; then everything is read again."""

    def __init__(
        self,
        resources: tuple[Resource, ...],
        compile_all: Callable[[tuple[Sequence[Any], ...]], T],
    ) -> None:
        self._prefixes = tuple([resource.prefix for resource in resources])
        self._compile = compile_all
        self._store: Reader | None = None
        self._revision = -1
        self._seen: tuple[int, ...] = ()
        self._objects: tuple[tuple[Any, ...], ...] = tuple([() for _ in resources])
        self._empty = self._compiled = compile_all(self._objects)

    def of(self, store: Reader) -> T:
        """The compiled objects of this state of the store. O(1) unless one of them has changed."""
        if store is self._store and store.revision == self._revision:
            return self._compiled
        if type(store) is Shown:
            return self.of(store.stored)
        seen = tuple([store.prefix_revision(prefix) for prefix in self._prefixes])
        if not any(seen):  # there has never been one
            self._objects, self._compiled = tuple([() for _ in seen]), self._empty
        elif store is not self._store or seen != self._seen:
            self._read(store)
        self._store, self._revision, self._seen = store, store.revision, seen
        return self._compiled

    def _read(self, store: Reader) -> None:
        objects = tuple(
            [
                tuple([record.value for record in store.list(prefix).records])
                for prefix in self._prefixes
            ]
        )
        same = all(
            len(new) == len(old) and all(a is b for a, b in zip(new, old, strict=True))
            for new, old in zip(objects, self._objects, strict=True)
        )
        if not same:
            self._objects, self._compiled = objects, self._compile(objects)
