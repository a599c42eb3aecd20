"""The API server for many simulated nodes of one process, which share their watches. Rule CLIENT-12
(spec/client.md). `core/client/shared_watch.py` decides."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from msgspec.structs import replace

from refk8s.components.client.http_api import Answer as TakeAnswer
from refk8s.components.client.http_api import Deliver as TakeEvents
from refk8s.components.client.http_api import HttpApi
from refk8s.core.api.request import NO_OPTIONS, Options, Request, Response
from refk8s.core.client.shared_watch import (
    SHARES,
    Answer,
    Close,
    Deliver,
    Effect,
    List,
    Open,
    SharedWatch,
    is_shared_get,
    joined_get,
    shared_value,
)

GET_SECONDS: Final = 0.02
"""The least time between two requests for one object that many pods of a burst wait for."""


class SharedApi:
    """An API server whose lists and watches of some resources are shared (`Api` in core/ports)."""

    def __init__(self, api: HttpApi) -> None:
        self._api = api
        self._shared: dict[str, _Shared] = {}
        self._gets: dict[tuple[str, str], _Gets] = {}

    def submit(self, request: Request, answer: TakeAnswer, background: bool = False) -> None:
        """Send the request, or join it to a shared list or get."""
        value = shared_value(request) if request.verb == "list" else None
        if value is not None:
            self._of(request).join_list(value, answer)
        elif is_shared_get(request) and not background:
            self._join_get(request, answer)
        else:
            self._api.submit(request, answer, background)

    def _join_get(self, request: Request, answer: TakeAnswer) -> None:
        """What is asked while a request is in transit, or within `GET_SECONDS` of its sending, is
        answered by the next one."""
        key = (request.resource.prefix, request.key)
        gets = self._gets.get(key)
        if gets is None:
            gets = self._gets[key] = _Gets()
        gets.waiting.append((request, answer))
        if not gets.asked and gets.next is None:
            self._send_get(key, gets)

    def _send_get(self, key: tuple[str, str], gets: "_Gets") -> None:
        gets.next = None
        if not gets.waiting:
            del self._gets[key]
            return
        request = joined_get([request for request, _ in gets.waiting])
        gets.asked, gets.waiting = [answer for _, answer in gets.waiting], []
        gets.sent_at = asyncio.get_running_loop().time()
        self._api.submit(request, partial(self._got, key, gets))

    def _got(self, key: tuple[str, str], gets: "_Gets", response: Response | None) -> None:
        asked, gets.asked = gets.asked, []
        at = gets.sent_at + GET_SECONDS
        gets.next = asyncio.get_running_loop().call_at(at, self._send_get, key, gets)
        for answer in asked:
            answer(response)

    def watch(
        self, request: Request, deliver: TakeEvents, ended: Callable[[int], None]
    ) -> Callable[[], None]:
        """Open a watch, or join it to a shared one; returns what closes it."""
        value = shared_value(request)
        if value is None:
            return self._api.watch(request, deliver, ended)
        revision = int(request.options.resource_version)
        return self._of(request).watch(value, revision, deliver, ended)

    def _of(self, request: Request) -> "_Shared":
        found = self._shared.get(request.resource.prefix)
        if found is None:
            found = self._shared[request.resource.prefix] = _Shared(self._api, request)
        return found


class _Gets:
    """The requests for one object: those that the one in transit answers, and later ones. `next`:
    the timer that sends these."""

    __slots__ = ("asked", "next", "sent_at", "waiting")

    def __init__(self) -> None:
        self.asked: list[TakeAnswer] = []
        self.waiting: list[tuple[Request, TakeAnswer]] = []
        self.sent_at = 0.0
        self.next: asyncio.TimerHandle | None = None


class _Shared:
    """The shared list and watch of one resource."""

    def __init__(self, api: HttpApi, request: Request) -> None:
        self._api = api
        self._loop = asyncio.get_running_loop()
        self._decisions = SharedWatch(SHARES[request.resource.prefix])
        self._request = replace(request, verb="list", options=NO_OPTIONS)
        self._last_id = 0
        self._answers: dict[int, TakeAnswer] = {}
        self._watchers: dict[int, tuple[TakeEvents, Callable[[int], None]]] = {}
        self._close: Callable[[], None] | None = None
        self._watch_number = 0  # what an earlier watch still delivers is dropped

    def join_list(self, value: str, answer: TakeAnswer) -> None:
        id = self._next_id()
        self._answers[id] = answer
        self._carry_out(self._decisions.join_list(id, value))

    def watch(
        self, value: str, revision: int, deliver: TakeEvents, ended: Callable[[int], None]
    ) -> Callable[[], None]:
        id = self._next_id()
        self._watchers[id] = (deliver, ended)
        # as over a connection, nothing is delivered before the caller knows what closes the watch
        self._loop.call_soon(self._begin_watch, id, value, revision)
        return partial(self._forget, id)

    def _begin_watch(self, id: int, value: str, revision: int) -> None:
        if id in self._watchers:
            self._carry_out(self._decisions.join_watch(id, value, revision))

    def _forget(self, id: int) -> None:
        if self._watchers.pop(id, None) is not None:
            self._carry_out(self._decisions.forget(id))

    def _next_id(self) -> int:
        self._last_id += 1
        return self._last_id

    def _carry_out(self, effects: list[Effect]) -> None:
        for effect in effects:
            if type(effect) is Deliver:
                if (watcher := self._watchers.get(effect.id)) is not None:
                    watcher[0](effect.events)
            elif type(effect) is Answer:
                self._answers.pop(effect.id)(effect.response)
            elif type(effect) is List:
                self._loop.call_soon(self._send_list)
            elif type(effect) is Open:
                self._open(effect.revision)
            elif type(effect) is Close:
                if self._close is not None:
                    self._close()
            elif (watcher := self._watchers.pop(effect.id, None)) is not None:  # type: ignore[union-attr]
                watcher[1](effect.code)  # type: ignore[union-attr]

    def _send_list(self) -> None:
        self._decisions.begin()
        options = Options(field_selector=self._decisions.share.selector)
        self._api.submit(replace(self._request, options=options), self._listed)

    def _listed(self, response: Any) -> None:
        self._carry_out(self._decisions.answered(response))

    def _open(self, revision: int) -> None:
        self._watch_number += 1
        options = Options(
            field_selector=self._decisions.share.selector,
            resource_version=str(revision),
            allow_watch_bookmarks=True,
        )
        self._close = self._api.watch(
            replace(self._request, verb="watch", options=options),
            partial(self._received, self._watch_number),
            partial(self._ended, self._watch_number),
        )

    def _received(self, number: int, events: Any) -> None:
        if number == self._watch_number:
            self._carry_out(self._decisions.received(events))

    def _ended(self, number: int, code: int) -> None:
        if number == self._watch_number:
            self._close = None
            self._carry_out(self._decisions.ended(code))
