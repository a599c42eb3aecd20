"""Deletes expired Events in batches. Rule EVENT-6 (spec/loop.md).

core/apiserver/event_ttl.py decides which Events have expired.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from refk8s.components.apiserver import ApiServer
from refk8s.components.periodic import Periodic
from refk8s.core.api.meta_v1 import DeleteOptions, Preconditions
from refk8s.core.api.request import Request, Response
from refk8s.core.api.resources import EVENTS
from refk8s.core.api.user import User
from refk8s.core.apiserver.event_ttl import PREFIX, EventTtl
from refk8s.core.context import SECOND
from refk8s.core.store import Change

INTERVAL_SECONDS = 1.0
PORTION = 50
PAUSE_SECONDS = 0.02
"""Pause between batches, in which requests are served: 40,000 Events are deleted in a minute."""


class EventExpiry(Periodic):
    """Observes every write, and deletes expired Events once a second."""

    subject = "the expiry of Events"
    failure_pause_seconds = INTERVAL_SECONDS

    def __init__(
        self,
        api: ApiServer,
        call: Callable[[Request], Awaitable[Response]],
        user: User,
        ttl_seconds: float,
    ) -> None:
        self._api, self._call, self._user = api, call, user
        self._events = EventTtl(int(ttl_seconds * SECOND))
        api.store.listen(self._changed)

    def start(self) -> None:
        """Read all Events, and start deleting."""
        self._events.load(self._api.store.list(PREFIX).records, self._api.clock.now())
        super().start()

    def _changed(self, changes: Sequence[Change[Any]]) -> None:
        now = self._api.clock.now()
        for change in changes:
            self._events.changed(change, now)

    async def round(self) -> float:
        """Delete one batch."""
        return PAUSE_SECONDS if await self.expire() else INTERVAL_SECONDS

    async def expire(self) -> bool:
        """Delete one batch of expired Events; returns whether there may be more."""
        due = self._events.due(self._api.clock.now(), PORTION)
        answers = await asyncio.gather(*(self._delete(key, str(revision)) for key, revision in due))
        for (key, _), response in zip(due, answers, strict=True):
            # 409: written again meanwhile; 503: the disk is full. Both are retried later.
            if response.code not in (200, 404, 409, 503):
                self._events.postpone(key, self._api.clock.now())
        return len(due) == PORTION and all(response.code != 503 for response in answers)

    async def _delete(self, key: str, resource_version: str) -> Response:
        namespace, _, name = key.removeprefix(PREFIX).partition("/")
        options = DeleteOptions(preconditions=Preconditions(resource_version=resource_version))
        because = "Events expire"
        return await self._call(
            Request(
                "delete", EVENTS, namespace, name, body=options, user=self._user, because=because
            )
        )
