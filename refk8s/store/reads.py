"""The reads of a store that keeps its state in another one."""

from __future__ import annotations

from typing import Generic, TypeVar

from refk8s.core.store import Change, Page, Reader, Record, Revision

V = TypeVar("V")


class Reads(Generic[V]):
    """Answers every read from `_reads`: a reader that is in memory."""

    _reads: Reader[V]

    def _read_from(self, reader: Reader[V]) -> None:
        """Answer from this reader from now on: directly from the one in memory, if it is a store
        that keeps its state there, since every request reads several times."""
        self._reads = reader._reads if isinstance(reader, Reads) else reader
        # the most frequent read costs one call less
        self.get = self._reads.get  # type: ignore[method-assign]

    @property
    def revision(self) -> Revision:
        """The present revision."""
        return self._reads.revision

    @property
    def compacted(self) -> Revision:
        """The oldest revision whose state can still be read."""
        return self._reads.compacted

    def get(self, key: str, at: Revision | None = None) -> Record[V] | None:
        """As `History.get`."""
        return self._reads.get(key, at)

    def list(
        self,
        prefix: str,
        at: Revision | None = None,
        after: str | None = None,
        limit: int | None = None,
    ) -> Page[V]:
        """As `History.list`."""
        return self._reads.list(prefix, at, after, limit)

    def changes(
        self, prefix: str, after: Revision, limit: int | None = None
    ) -> tuple[Change[V], ...]:
        """As `History.changes`."""
        return self._reads.changes(prefix, after, limit)

    def prefix_revision(self, prefix: str) -> Revision:
        """As `History.prefix_revision`."""
        return self._reads.prefix_revision(prefix)


__all__ = ["Reads"]
