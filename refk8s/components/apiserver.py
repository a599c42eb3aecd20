"""Handles requests, commits them in batches, then answers them and sends the watch events. Rules
API-9, STORE-12.

Everything runs in the event loop's thread. Writes that arrive within two turns of the loop become
one batch with one synchronisation of the disk. No response, reader or watcher shows any of it
before that. A request whose transaction conflicts with another is handled again.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from refk8s.components.clock import CHANCE, Clock
from refk8s.core.api import status
from refk8s.core.api.request import Request, Response, WatchEvent
from refk8s.core.apiserver import watch as watching
from refk8s.core.apiserver.config import DEFAULT_CONFIG, Config
from refk8s.core.apiserver.exchange import Exchange
from refk8s.core.apiserver.handle import handle
from refk8s.core.apiserver.outcome import Commit, Connect, Stream
from refk8s.core.apiserver.strategy import index_values
from refk8s.core.context import Context
from refk8s.core.store import Change, Committed, Compacted, Conflict, Engine
from refk8s.core.store_port import StoreUnavailable

log = logging.getLogger("refk8s")

COMPACT_SECONDS = 300.0  # what is older than one to two such spans is forgotten
BOOKMARK_SECONDS = 60.0
BACKGROUND_SECONDS = 0.05
BACKGROUND_BATCH = 32
BACKGROUND_MAX = 10_000
COMPACT_CHANGES = 500  # of one portion: some 10 ms
TRIM_REVISIONS = 5_000  # after so many are forgotten, memory is given back to the system
COMPACT_PAUSE_SECONDS = 0.02  # between portions
COMPACT_RETRY_SECONDS = 10.0
PROBE_SECONDS = 5.0

INTERNAL = Response(500, status.internal_error("the server has logged it"))

Answer = Callable[[Response | None], None]
Listener = Callable[[Request, "Committed[Any]"], None]


class Watcher:
    """One open watch, and where its events go."""

    __slots__ = ("deliver", "ended", "index", "open", "stream", "timer")

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


class Dispatcher:
    """Who watches what. A change costs only the watchers that it may concern, however many others
    there are.

    A watch whose field selector wants one value of an indexed field (a kubelet's spec.nodeName, a
    wait's metadata.name) is indexed by that value; any other receives every change of its resource.
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

    def everyone(self) -> list[Watcher]:
        found = [watcher for watchers in self._all.values() for watcher in watchers]
        return found + [
            w for under in self._indexed.values() for watchers in under.values() for w in watchers
        ]

    def concerned(
        self, prefix: str, changes: list[Change[Any]]
    ) -> Iterable[tuple[Watcher, list[Change[Any]]]]:
        """Each watcher that may want to hear, with the changes for it, in order."""
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


class ApiServer:
    """Serves requests of components in this process and of the HTTP front."""

    def __init__(self, engine: Engine[Any], clock: Clock, config: Config = DEFAULT_CONFIG) -> None:
        self.engine = engine
        self.clock = clock
        self.config = config
        self.listeners: list[Listener] = []
        self._loop = asyncio.get_running_loop()
        self._batch: list[tuple[Request, Commit, Answer]] = []
        self._flushing = False
        self._background: deque[tuple[Request, Answer]] = deque()
        self._background_timer: asyncio.TimerHandle | None = None
        self._dispatcher = Dispatcher()
        self._compact_from = engine.revision
        self._forgotten = 0  # revisions, since memory was last given back
        self._store_problem = ""
        self._probe_after = 0.0
        self._timers = [
            self._loop.call_later(COMPACT_SECONDS, self._compact),
            self._loop.call_later(BOOKMARK_SECONDS, self._bookmark),
        ]
        self.stopping = False

    def context(self) -> Context:
        """What one decision may know."""
        return Context(self.clock.now(), CHANCE)

    def exchange(self, request: Request) -> Exchange:
        """The request with all that its decision may read."""
        return Exchange(request, self.engine, self.context(), self.config)

    # --- requests ---------------------------------------------------------------------------------

    def submit(self, request: Request, answer: Answer, background: bool = False) -> None:
        """Handle it; `answer` is called once what it says is durable. Background requests wait
        while others are under way.

        More than BACKGROUND_MAX that wait are refused with 429, as by a server that has too much to
        do.
        """
        if background:
            if len(self._background) >= BACKGROUND_MAX:
                answer(
                    Response(
                        429, status.too_many_requests("too many background requests are waiting")
                    )
                )
                return
            self._background.append((request, answer))
            self._arm_background()
            return
        try:
            outcome = handle(self.exchange(request))
        except Exception:
            log.exception(
                "a request failed with an internal error: %s %s",
                request.verb,
                request.resource.plural,
            )
            answer(INTERNAL)
            return
        if type(outcome) is Commit:
            self.enqueue(request, outcome, answer)
        elif type(outcome) is Response:
            answer(outcome)
        else:
            answer(Response(400, status.bad_request(f"{request.verb} is a stream")))

    def enqueue(self, request: Request, outcome: Commit, answer: Answer) -> None:
        """Let the transaction be part of the next batch."""
        self._batch.append((request, outcome, answer))
        if not self._flushing:
            self._flushing = True
            # a turn later: who is answered at once asks again at once
            self._loop.call_soon(self._loop.call_soon, self._flush)

    def _flush(self) -> None:
        batch, self._batch = self._batch, []
        self._flushing = False
        self._commit(batch)

    def _commit(self, batch: list[tuple[Request, Commit, Answer]]) -> None:
        """Commit, then answer, then send the events. An answer, listener or watcher that raises
        affects no other (HTTP-9, HTTP-10)."""
        try:
            results: Sequence[Committed[Any] | Conflict] = self.engine.commit_batch(
                [commit.txn for _, commit, _ in batch]
            )
        except StoreUnavailable as error:
            log.error("the store cannot write: %s", error)
            self._store_problem = str(error)
            refused = Response(503, status.unavailable(f"the store cannot write: {error}"))
            for _, _, answer in batch:
                self._answer(answer, refused)
            return
        except Exception:
            # HTTP-9: one transaction that the store cannot take does not fail its neighbours.
            if len(batch) == 1:
                log.exception(
                    "the store refuses a transaction: %s %s",
                    batch[0][0].verb,
                    batch[0][0].resource.plural,
                )
                self._answer(batch[0][2], INTERNAL)
            else:
                for one in batch:
                    self._commit([one])
            return
        self._store_problem = ""
        changed: dict[str, list[Change[Any]]] = {}
        for (request, commit, answer), result in zip(batch, results, strict=True):
            if isinstance(result, Committed):
                for change in result.changes:
                    changed.setdefault(
                        change.key[: change.key.index("/", change.key.index("/", 1) + 1) + 1], []
                    ).append(change)
                if commit.rest is None:
                    self._answer(answer, commit, result)
                else:
                    self._loop.call_soon(partial(self.submit, commit.rest, answer))
                for listener in self.listeners:
                    try:
                        listener(request, result)
                    except Exception:
                        log.exception(
                            "a listener failed on %s %s", request.verb, request.resource.plural
                        )
            else:  # API-9: another write came first, so decide again on what it left
                self._loop.call_soon(partial(self.submit, commit.again or request, answer))
        for prefix, changes in changed.items():
            # The events for watchers of the same selection are made once, as the same tuple for all
            # of them (HTTP-12).
            shared: dict[Any, tuple[WatchEvent, ...]] = {}
            for watcher, mine in self._dispatcher.concerned(prefix, changes):
                if watcher.open:
                    try:
                        self._tell(watcher, mine, shared if mine is changes else {})
                    except Exception:
                        log.exception("a watch of %s failed", watcher.stream.resource.plural)
                        self._end(watcher, 500)

    def _tell(
        self,
        watcher: Watcher,
        changes: list[Change[Any]],
        shared: dict[Any, tuple[WatchEvent, ...]],
    ) -> None:
        stream = watcher.stream
        key = (
            stream.prefix,
            stream.resource.api_version,
            stream.matches,
            max(0, stream.floor - changes[0].revision + 1),
        )
        if (events := shared.get(key)) is None:
            events = shared[key] = watching.events(stream, changes)
        if events:
            watcher.deliver(events)

    def _answer(self, answer: Answer, outcome: Commit | Response, result: Any = None) -> None:
        """Give an answer; a failure in making or taking it is logged and affects no other
        request."""
        try:
            response = outcome if isinstance(outcome, Response) else outcome.respond(result)
        except Exception:
            log.exception("an answer could not be made")
            response = INTERNAL
        try:
            answer(response)
        except Exception:
            log.exception("an answer could not be given")

    def checks(self) -> dict[str, str]:
        """What health is made of (HTTP-14). The store is asked to write, at most once in
        PROBE_SECONDS."""
        now = self._loop.time()
        if now >= self._probe_after:
            self._probe_after = now + PROBE_SECONDS
            try:
                self.engine.probe()
                self._store_problem = ""
            except StoreUnavailable as error:
                self._store_problem = str(error)
        return {
            "ping": "",
            "log": "",
            "etcd": self._store_problem,
            "shutdown": "the server is stopping" if self.stopping else "",
        }

    def _arm_background(self) -> None:
        if self._background_timer is None and self._background:
            self._background_timer = self._loop.call_later(
                BACKGROUND_SECONDS, self._drain_background
            )

    def _drain_background(self) -> None:
        self._background_timer = None
        for _ in range(min(BACKGROUND_BATCH, len(self._background)) if not self._batch else 0):
            request, answer = self._background.popleft()
            self.submit(request, answer)
        self._arm_background()

    # --- watches ----------------------------------------------------------------------------------

    def watch(
        self,
        request: Request,
        deliver: Callable[[tuple[WatchEvent, ...]], None],
        ended: Callable[[int], None],
    ) -> Callable[[], None]:
        """Open a watch for a component; returns what closes it."""
        outcome = handle(self.exchange(request))
        if isinstance(outcome, Stream):
            return self.open(outcome, deliver, ended)
        code = outcome.code if isinstance(outcome, Response) else 400
        self._loop.call_soon(ended, code)
        return _nothing

    def open(
        self,
        stream: Stream,
        deliver: Callable[[tuple[WatchEvent, ...]], None],
        ended: Callable[[int], None],
        first: Callable[[tuple[WatchEvent, ...]], None] | None = None,
    ) -> Callable[[], None]:
        """Start a stream: its initial events, what it missed since its revision, and from then on
        every change.

        `first` takes what is known when it starts, which may be much, instead of `deliver`.
        """
        watcher = Watcher(stream, deliver, ended)
        try:
            missed = self.engine.changes(watching.prefix_of(stream), stream.revision)
        except Compacted:
            self._loop.call_soon(ended, 410)
            return _nothing
        known = (*watching.initial_events(stream), *watching.events(stream, missed))
        if known:
            (first or deliver)(known)
        self._dispatcher.add(watcher)
        if stream.timeout_seconds is not None:
            watcher.timer = self._loop.call_later(stream.timeout_seconds, self._end, watcher, 0)
        return partial(self._close, watcher)

    def _close(self, watcher: Watcher) -> None:
        if watcher.open:
            watcher.open = False
            self._dispatcher.remove(watcher)
            if watcher.timer is not None:
                watcher.timer.cancel()

    def _end(self, watcher: Watcher, code: int) -> None:
        if watcher.open:
            self._close(watcher)
            watcher.ended(code)

    def _bookmark(self) -> None:
        event = (WatchEvent("BOOKMARK", None, self.engine.revision),)
        for watcher in self._dispatcher.everyone():
            if watcher.stream.bookmarks:
                try:
                    watcher.deliver(event)
                except Exception:
                    log.exception("a watch of %s failed", watcher.stream.resource.plural)
                    self._end(watcher, 500)
        self._timers[1] = self._loop.call_later(BOOKMARK_SECONDS, self._bookmark)

    # --- housekeeping -----------------------------------------------------------------------------

    def _compact(self) -> None:
        """Forget in portions and then make the file smaller, so that no request waits for long;
        what fails is tried again (HTTP-10)."""
        seconds = COMPACT_SECONDS
        try:
            before = self.engine.compacted
            is_compact = self.engine.compact(self._compact_from, COMPACT_CHANGES)
            self._forgotten += self.engine.compacted - before
            if is_compact and not self.engine.shrink():
                self._compact_from = self.engine.revision
                if self._forgotten >= TRIM_REVISIONS:
                    give_memory_back()
                self._forgotten = 0
            else:
                seconds = COMPACT_PAUSE_SECONDS
        except StoreUnavailable as error:
            log.error("the store cannot be compacted: %s", error)
            seconds = COMPACT_RETRY_SECONDS
        except Exception:
            log.exception("the store cannot be compacted")
            seconds = COMPACT_RETRY_SECONDS
        self._timers[0] = self._loop.call_later(seconds, self._compact)

    def stop(self) -> None:
        """End every watch; write what is still waiting."""
        self.stopping = True
        for timer in self._timers:
            timer.cancel()
        if self._background_timer is not None:
            self._background_timer.cancel()
        for watcher in self._dispatcher.everyone():
            self._end(watcher, 0)
        if self._batch:
            self._flush()


def give_memory_back() -> None:
    """Have the C library return what was freed: by itself it keeps half of a burst. Elsewhere than
    on glibc, nothing."""
    import ctypes  # not needed before there is something to give back

    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError):
        return


def _nothing() -> None:
    """Closes a watch that never opened."""


__all__ = ["ApiServer", "Connect", "Dispatcher", "Watcher"]
