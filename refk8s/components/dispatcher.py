"""Finds the watches that a change may concern. Rule WATCHAPI-9."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from refk8s.core.api.request import WatchEvent
from refk8s.core.apiserver import watch as watching
from refk8s.core.apiserver.outcome import Stream
from refk8s.core.apiserver.strategy import index_values
from refk8s.core.store import Change


class Watcher:
    """One open watch, and the receiver of its events."""

    __slots__ = ("deliver", "ended", "index", "open", "stream", "timer", "waiting")

    def __init__(
        self,
        stream: Stream,
        deliver: Callable[[tuple[WatchEvent, ...]], None],
        ended: Callable[[int], None],
    ) -> None:
        self.stream = stream
        self.deliver = deliver
        self.ended = ended
        self.open = True
        self.index: tuple[str, str] | None = None
        self.timer: asyncio.TimerHandle | None = None
        # changes whose objects a webhook converts; None: nothing waits (CRD-27)
        self.waiting: list[Change[Any]] | None = None


class Dispatcher:
    """The open watches, by resource and indexed field. The cost of a change depends only on the
    watchers that it may concern.

    A watch whose field selector requires one value of an indexed field (a kubelet's spec.nodeName,
    a wait's metadata.name) is indexed by that value; any other receives every change of its
    resource.
    """

    def __init__(self) -> None:
        self._all: dict[str, dict[Watcher, None]] = {}
        self._indexed: dict[str, dict[tuple[str, str], dict[Watcher, None]]] = {}

    def add(self, watcher: Watcher) -> None:
        prefix = watcher.stream.resource.prefix
        watcher.index = watching.index_of(watcher.stream)
        if watcher.index is None:
            self._all.setdefault(prefix, {})[watcher] = None
        else:
            self._indexed.setdefault(prefix, {}).setdefault(watcher.index, {})[watcher] = None

    def remove(self, watcher: Watcher) -> None:
        prefix = watcher.stream.resource.prefix
        if watcher.index is None:
            self._all.get(prefix, {}).pop(watcher, None)
        elif (under := self._indexed.get(prefix, {}).get(watcher.index)) is not None:
            under.pop(watcher, None)
            if not under:
                del self._indexed[prefix][watcher.index]

    def all_watchers(self) -> list[Watcher]:
        found = [watcher for watchers in self._all.values() for watcher in watchers]
        return found + [
            w for under in self._indexed.values() for watchers in under.values() for w in watchers
        ]

    def watchers_of(
        self, prefix: str, changes: list[Change[Any]]
    ) -> Iterable[tuple[Watcher, list[Change[Any]]]]:
        """Each watcher that the changes may concern, with these changes, in order."""
        for watcher in list(self._all.get(prefix, ())):
            yield watcher, changes
        indexed = self._indexed.get(prefix)
        if not indexed:
            return
        found: dict[Watcher, list[Change[Any]]] = {}
        for change in changes:
            for value in index_values(prefix, change):
                for watcher in indexed.get(value, ()):
                    mine = found.setdefault(watcher, [])
                    if not mine or mine[-1] is not change:
                        mine.append(change)
        yield from found.items()
