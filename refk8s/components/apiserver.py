"""Handles requests, commits them, answers them and sends the watch events. Rules API-9, LIST-14,
HTTP-9, HTTP-10.

Everything runs in the event loop's thread. A request is decided on the reads of the store, and its
transaction is submitted to the store (core/store_port.py). The client is answered when the outcome
is known. If the transaction conflicts with another one, the request is decided again. The watches
get every change that the store announces, including those of other API servers.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from refk8s.components.clock import CHANCE, Clock
from refk8s.components.dispatcher import Dispatcher, Watcher
from refk8s.components.heap import give_memory_back
from refk8s.components.outgoing_calls import OutgoingCalls
from refk8s.core.api import status
from refk8s.core.api.request import Request, Response, WatchEvent
from refk8s.core.api.resources import CUSTOM_RESOURCE_DEFINITIONS
from refk8s.core.api.status import ApiError
from refk8s.core.apiserver import watch as watching
from refk8s.core.apiserver.calls import (
    QUESTIONS_MAX,
    Ask,
    Needed,
    Question,
    Result,
    answered,
    begin,
)
from refk8s.core.apiserver.config import DEFAULT_CONFIG, Config
from refk8s.core.apiserver.custom.definitions import custom_prefix
from refk8s.core.apiserver.exchange import Exchange
from refk8s.core.apiserver.freshness import is_final, reads_latest
from refk8s.core.apiserver.handle import again, handle, resume
from refk8s.core.apiserver.health import named_checks
from refk8s.core.apiserver.outcome import Commit, Measure, Outcome, Stream
from refk8s.core.context import SECOND, Context, Instant
from refk8s.core.store import Change, Committed, Compacted, Conflict, Revision, resource_prefix
from refk8s.core.store_port import Failed, Store, StoreUnavailable, StoreUnknown

if TYPE_CHECKING:
    from refk8s.components.authorization import AuthorizationWebhook

log = logging.getLogger("refk8s")

T = TypeVar("T")

COMPACT_SECONDS = 300.0  # history older than one to two of these intervals is discarded
COMPACT_RETRY_SECONDS = 10.0
TRIM_REVISIONS = 5_000  # after this many discarded revisions, memory is returned to the system
BOOKMARK_SECONDS = 60.0
WAITING_CHANGES_MAX = 10_000  # of a watch, for a webhook that converts them
BACKGROUND_SECONDS = 0.05
BACKGROUND_BATCH = 32
BACKGROUND_MAX = 10_000
BACKGROUND_PASSES = 20  # the most times that a batch waits for other requests: a second
PROBE_SECONDS = 5.0

INTERNAL = Response(500, status.internal_error("the server has logged it"))
UNKNOWN = Response(
    504,
    status.failure(
        504, "Timeout", "the store's answer was lost: it is not known whether this was done"
    ),
)

Answer = Callable[[Response | None], None]
Listener = Callable[[Request, "Committed[Any]"], None]


class ApiServer:
    """Serves requests of components in this process and of the HTTP front."""

    def __init__(self, store: Store[Any], clock: Clock, config: Config = DEFAULT_CONFIG) -> None:
        self.store = store
        self.clock = clock
        self.config = config
        self.listeners: list[Listener] = []  # to the writes of this server, with their requests
        self._loop = asyncio.get_running_loop()
        self._in_flight = 0
        self._background: deque[tuple[Request, Answer]] = deque()
        self._background_timer: asyncio.TimerHandle | None = None
        self._background_passes = 0
        self._dispatcher = Dispatcher()
        self._store_problem = ""
        self._trimmed = store.compacted
        self._probe_after = 0.0
        self._compacting = self._loop.create_task(self._keep_compacting())
        self._bookmark_timer = self._loop.call_later(BOOKMARK_SECONDS, self._bookmark)
        self.stopping = False
        # whether the parts of the start have finished, for the health checks
        self.start_parts: dict[str, Callable[[], bool]] = {}
        self.outgoing = OutgoingCalls()
        self._calling: set[asyncio.Task[None]] = set()
        # answers a request for metrics (STREAM-17)
        self.measure: Callable[[Request, Answer], None] | None = None
        self.webhooks: Mapping[str, AuthorizationWebhook] = {}  # authorizers, by name (AUTHZ-10)
        store.listen(self._changed)

    def context(self, now: Instant | None = None) -> Context:
        """The time and random values for one decision. `now`: the present time, if it is known."""
        return Context(self.clock.now() if now is None else now, CHANCE)

    def exchange(self, request: Request, now: Instant | None = None) -> Exchange:
        """The request with everything that its decision may read."""
        return Exchange(request, self.store, self.context(now), self.config)

    # --- requests ---------------------------------------------------------------------------------

    def submit(self, request: Request, answer: Answer, background: bool = False) -> None:
        """Handle the request; `answer` is called once its result is durable. Background requests
        wait while others are in progress.

        If more than BACKGROUND_MAX are waiting, further ones are refused with 429, as by an
        overloaded server.
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
        if self.store.is_current or not reads_latest(request):
            self._decide(request, answer, self.store.is_current)
        else:
            self._decide_later(request, answer)

    def _decide(
        self,
        request: Request,
        answer: Answer,
        is_current: bool,
        decide: Callable[[], Outcome] | None = None,
    ) -> None:
        """Decide the request on the present reads; `is_current`: they are new enough for any
        outcome (LIST-14). `decide`: with what is known of it already."""
        try:
            outcome = handle(self.exchange(request)) if decide is None else decide()
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
        elif type(outcome) is Ask:
            self._call(outcome, partial(self._decide, request, answer, is_current))
        elif not is_current and not is_final(request, outcome):
            self._decide_later(request, answer, decide)
        elif type(outcome) is Response:
            answer(outcome)
        elif type(outcome) is Measure:
            if self.measure is not None:
                self.measure(request, answer)
            else:
                answer(Response(503, status.unavailable("the nodes have not started yet")))
        else:
            answer(Response(400, status.bad_request(f"{request.verb} is a stream")))

    def _decide_later(
        self, request: Request, answer: Answer, decide: Callable[[], Outcome] | None = None
    ) -> None:
        """Decide the request after a refresh."""

        def refreshed(problem: StoreUnavailable | None) -> None:
            if problem is None:
                self._decide(request, answer, True, decide)
            else:
                self._give(answer, _not_refreshed(problem))

        self.store.refresh(refreshed)

    def _call(self, asked: Ask, then: Callable[[Callable[[], Outcome]], None]) -> None:
        """Make the calls in a task of their own; `then` gets what decides the request with their
        results (CALL-1). Other requests go on meanwhile."""

        async def call() -> None:
            results = await self._results(asked)
            then(partial(self._resume, asked, results))

        task = self._loop.create_task(call())
        self._calling.add(task)
        task.add_done_callback(self._calling.discard)

    async def reviewed(self, decide: Callable[[], T]) -> T:
        """The result of a decision before the request is decided, for which webhooks are asked who
        may do what (AUTHZ-10). Raises ApiError."""
        for _ in range(QUESTIONS_MAX):
            try:
                return decide()
            except Needed as needed:
                assert needed.question is not None, "only an authorizer asks before"
                await self._review(needed.question)
        raise ApiError(INTERNAL.body)

    async def _review(self, question: Question) -> None:
        if (webhook := self.webhooks.get(question.webhook)) is not None:  # else it is gone
            await webhook.review(question.text)

    async def _results(self, asked: Ask) -> list[Result]:
        if asked.question is not None:
            await self._review(asked.question)
            return []
        seconds = (asked.known.until - self.clock.now()) / SECOND
        return await self.outgoing.make(asked.calls, seconds) if asked.calls else []

    def _resume(self, asked: Ask, results: list[Result]) -> Outcome:
        return resume(asked, results, self.store, self.config, self.clock.now())

    async def decided(self, asked: Ask) -> Outcome:
        """The outcome of a request after its calls: none of Ask."""
        outcome: Outcome = asked
        while type(outcome) is Ask:
            asked, results = outcome, await self._results(outcome)
            outcome = self._resume(asked, results)
            if not self.store.is_current and not is_final(asked.request, outcome):
                outcome = await self.refreshed() or self._resume(asked, results)
        return outcome

    async def refreshed(self) -> Response | None:
        """Wait until the reads are as new as the store is now. Returns the answer to the request if
        that is not possible."""
        future: asyncio.Future[StoreUnavailable | None] = self._loop.create_future()
        self.store.refresh(lambda problem: None if future.done() else future.set_result(problem))
        problem = await future
        return None if problem is None else _not_refreshed(problem)

    def enqueue(self, request: Request, outcome: Commit, answer: Answer) -> None:
        """Submit the transaction, then answer."""
        self._in_flight += 1
        self.store.submit(outcome.txn, partial(self._done, request, outcome, answer))

    def _done(
        self,
        request: Request,
        commit: Commit,
        answer: Answer,
        outcome: Committed[Any] | Conflict | Failed,
    ) -> None:
        """Answer a request whose transaction has this outcome, or decide it again."""
        self._in_flight -= 1
        if type(outcome) is Committed:
            self._store_problem = ""
            if commit.rest is None:
                self._respond(answer, commit, outcome)
            else:
                self._loop.call_soon(partial(self.submit, commit.rest, answer))
            for listener in self.listeners:
                try:
                    listener(request, outcome)
                except Exception:
                    log.exception(
                        "a listener failed on %s %s", request.verb, request.resource.plural
                    )
        elif type(outcome) is Conflict:  # API-9: another write came first
            following = commit.again or request
            if commit.calls is None:
                self._loop.call_soon(partial(self.submit, following, answer))
            else:
                self._call(
                    again(following, commit.calls), partial(self._decide, following, answer, True)
                )
        elif isinstance(outcome, StoreUnavailable):
            self._note_problem(str(outcome))
            words = f"the store cannot write: {outcome}"
            self._give(answer, Response(503, status.unavailable(words)))
        elif isinstance(outcome, StoreUnknown):
            self._give(answer, None)  # STORE-26
        else:
            log.error(
                "the store refuses a transaction: %s %s",
                request.verb,
                request.resource.plural,
                exc_info=outcome,  # type: ignore[arg-type]
            )
            self._give(answer, INTERNAL)

    def _note_problem(self, problem: str) -> None:
        """Keep the store's problem for the health checks; it is logged once."""
        if problem != self._store_problem:
            log.error("the store cannot write: %s", problem)
        self._store_problem = problem

    def _respond(self, answer: Answer, commit: Commit, committed: Committed[Any]) -> None:
        """Answer a committed request; a failure to make the answer affects no other request."""
        try:
            response = commit.respond(committed)
        except Exception:
            log.exception("an answer could not be made")
            response = INTERNAL
        self._give(answer, response)

    def _give(self, answer: Answer, response: Response | None) -> None:
        """Pass an answer on; an exception of its receiver affects no other request."""
        try:
            answer(response)
        except Exception:
            log.exception("an answer could not be given")

    # --- changes ----------------------------------------------------------------------------------

    def _changed(self, changes: Sequence[Change[Any]]) -> None:
        """Send the events of these changes. A watcher that raises affects no other (HTTP-10)."""
        changed: dict[str, list[Change[Any]]] = {}
        for change in changes:
            changed.setdefault(resource_prefix(change.key), []).append(change)
        for prefix, of_resource in changed.items():
            # The events for watchers of the same selection are computed once; all get the same
            # tuple (HTTP-12).
            shared: dict[Any, tuple[WatchEvent, ...]] = {}
            for watcher, mine in self._dispatcher.watchers_of(prefix, of_resource):
                if watcher.open:
                    try:
                        self._deliver(watcher, mine, shared if mine is of_resource else {})
                    except Exception:
                        log.exception("a watch of %s failed", watcher.stream.resource.plural)
                        self._end(watcher, 500)

        for change in changed.get(CUSTOM_RESOURCE_DEFINITIONS.prefix, ()):
            if change.record is None:
                self._end_watches(custom_prefix(change.key))

    def _end_watches(self, prefix: str) -> None:
        """End the watches of a custom resource whose definition is gone (CRD-2)."""
        for watcher in self._dispatcher.all_watchers():
            if watcher.stream.resource.prefix == prefix:
                self._end(watcher, 410)

    def _deliver(
        self,
        watcher: Watcher,
        changes: list[Change[Any]],
        shared: dict[Any, tuple[WatchEvent, ...]],
    ) -> None:
        stream = watcher.stream
        if watching.is_converted(stream):
            self._convert_later(watcher, changes)
            return
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

    def _convert_later(self, watcher: Watcher, changes: Sequence[Change[Any]]) -> None:
        """Deliver the events of these changes once a webhook has converted their objects, in their
        order. A watch whose changes come faster than they are converted ends (CRD-27)."""
        if watcher.waiting is not None:
            watcher.waiting.extend(changes)
            if len(watcher.waiting) > WAITING_CHANGES_MAX:
                self._end(watcher, 410)
            return
        watcher.waiting = list(changes)
        task = self._loop.create_task(self._convert(watcher))
        self._calling.add(task)
        task.add_done_callback(self._calling.discard)

    async def _convert(self, watcher: Watcher) -> None:
        try:
            while watcher.open and watcher.waiting:
                changes, watcher.waiting = watcher.waiting, []
                found = await self._converted(watcher.stream, changes)
                events = watching.events(watcher.stream, found)
                if events and watcher.open:
                    watcher.deliver(events)
            watcher.waiting = None
        except ApiError as error:
            log.warning("a watch ends: %s", error.status.message)
            self._end(watcher, error.status.code or 500)
        except Exception:
            log.exception("a watch of %s failed", watcher.stream.resource.plural)
            self._end(watcher, 500)

    async def _converted(
        self, stream: Stream, changes: Sequence[Change[Any]]
    ) -> tuple[Change[Any], ...]:
        calls = begin(self.context())
        while True:
            try:
                return watching.converted(stream, changes, calls, self.store)
            except Needed as needed:
                seconds = (calls.until - self.clock.now()) / SECOND
                results = await self.outgoing.make(needed.calls, seconds)
                calls = answered(calls, needed.calls, results, self.clock.now())

    # --- health -----------------------------------------------------------------------------------

    async def probe(self) -> None:
        """Find out whether the store can write, at most once in PROBE_SECONDS."""
        now = self._loop.time()
        if now >= self._probe_after:
            self._probe_after = now + PROBE_SECONDS
            try:
                await self.store.probe()
                self._store_problem = ""
            except StoreUnavailable as error:
                self._note_problem(str(error))

    def checks(self) -> dict[str, str]:
        """The health checks and their problems (HTTP-14), as of the last probe or write."""
        return named_checks(self._store_problem, self.stopping, self.start_parts)

    # --- background requests ----------------------------------------------------------------------

    def _arm_background(self) -> None:
        if self._background_timer is None and self._background:
            self._background_timer = self._loop.call_later(
                BACKGROUND_SECONDS, self._drain_background
            )

    def _drain_background(self) -> None:
        self._background_timer = None
        if self._in_flight and self._background_passes < BACKGROUND_PASSES:
            self._background_passes += 1
        else:
            self._background_passes = 0
            for _ in range(min(BACKGROUND_BATCH, len(self._background))):
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
        """Open a watch for a component; returns a function that closes it."""
        if not self.store.is_current and reads_latest(request):
            return self._watch_later(request, deliver, ended)
        outcome = handle(self.exchange(request))
        if isinstance(outcome, Stream):
            return self.open(outcome, deliver, ended)
        if not self.store.is_current or isinstance(outcome, Ask):
            return self._watch_later(request, deliver, ended)
        return self._refuse(outcome, ended)

    def _watch_later(
        self,
        request: Request,
        deliver: Callable[[tuple[WatchEvent, ...]], None],
        ended: Callable[[int], None],
    ) -> Callable[[], None]:
        """Open a watch after a refresh (LIST-14), and after the calls that its first objects need
        (CRD-26)."""
        is_wanted, opened = True, _nothing

        def refreshed(problem: StoreUnavailable | None) -> None:
            decide(
                partial(handle, self.exchange(request))
                if problem is None
                else partial(_not_refreshed, problem)
            )

        def decide(outcome_of: Callable[[], Outcome]) -> None:
            nonlocal opened
            if not is_wanted:
                return
            outcome = outcome_of()
            if isinstance(outcome, Stream):
                opened = self.open(outcome, deliver, ended)
            elif isinstance(outcome, Ask):
                self._call(outcome, decide)
            else:
                opened = self._refuse(outcome, ended)

        def close() -> None:
            nonlocal is_wanted
            is_wanted = False
            opened()

        self.store.refresh(refreshed)
        return close

    def _refuse(self, outcome: Outcome, ended: Callable[[int], None]) -> Callable[[], None]:
        """End a watch that has not begun."""
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
        """Start a stream: its initial events, the changes since its revision, and then every later
        change.

        `first` gets the events at the start, which may be many, instead of `deliver`.
        """
        watcher = Watcher(stream, deliver, ended)
        try:
            missed = self.store.changes(watching.prefix_of(stream), stream.revision)
        except Compacted:
            self._loop.call_soon(ended, 410)
            return _nothing
        known = watching.initial_events(stream)
        if not watching.is_converted(stream):
            known = (*known, *watching.events(stream, missed))
        if known:
            (first or deliver)(known)
        self._dispatcher.add(watcher)
        if missed and watching.is_converted(stream):
            self._convert_later(watcher, missed)
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
        event = (WatchEvent("BOOKMARK", None, self.store.revision),)
        for watcher in self._dispatcher.all_watchers():
            if watcher.stream.bookmarks and watcher.waiting is None:
                try:
                    watcher.deliver(event)
                except Exception:
                    log.exception("a watch of %s failed", watcher.stream.resource.plural)
                    self._end(watcher, 500)
        self._bookmark_timer = self._loop.call_later(BOOKMARK_SECONDS, self._bookmark)

    # --- housekeeping -----------------------------------------------------------------------------

    async def _keep_compacting(self) -> None:
        seconds, revision = COMPACT_SECONDS, self.store.revision
        while True:
            await asyncio.sleep(seconds)
            if await self.compact(revision):
                seconds, revision = COMPACT_SECONDS, self.store.revision
            else:
                seconds = COMPACT_RETRY_SECONDS

    async def compact(self, revision: Revision) -> bool:
        """Discard the history before the revision; False if that failed and must be repeated
        (HTTP-10)."""
        try:
            await self.store.compact(revision)
        except StoreUnavailable as error:
            log.error("the store cannot be compacted: %s", error)
            return False
        except Exception:
            log.exception("the store cannot be compacted")
            return False
        if self.store.compacted - self._trimmed >= TRIM_REVISIONS:
            self._trimmed = self.store.compacted
            give_memory_back()
        return True

    def stop(self) -> None:
        """End every watch. Submitted requests are still answered."""
        self.stopping = True
        self._compacting.cancel()
        self._bookmark_timer.cancel()
        for task in self._calling:
            task.cancel()
        self.outgoing.close()
        if self._background_timer is not None:
            self._background_timer.cancel()
        for watcher in self._dispatcher.all_watchers():
            self._end(watcher, 0)


def _not_refreshed(problem: StoreUnavailable) -> Response:
    return Response(503, status.unavailable(f"the store cannot be read: {problem}"))


def _nothing() -> None:
    """Closes a watch that was never opened."""
