"""Seats and queues of the priority levels. Rules FAIR-2 to FAIR-5 (spec/fair_shares.md).

A request takes a seat of its level, waits in a queue for one, or is refused. When a seat is given
back, the queues of the level are served in turn.
"""

import asyncio
from collections import deque
from typing import Any, Final

from refk8s.components.header_lines import header_lines
from refk8s.core.api import status
from refk8s.core.api.request import Request
from refk8s.core.api.status import ApiError
from refk8s.core.api.user import User
from refk8s.core.apiserver.admission.configurations import Kept
from refk8s.core.apiserver.authorize import attributes_of
from refk8s.core.apiserver.config import Attributes
from refk8s.core.apiserver.fair_shares import KINDS, Flow, Level, Shares, compile_shares
from refk8s.core.apiserver.outcome import Reader

WAIT_SECONDS: Final = 15.0
"""How long a request may wait for a seat: a quarter of the time of a request, as upstream."""

REMEMBERED_MAX: Final = 4096
_UNKNOWN: Any = object()
REFUSED: Final = "Too many requests, please try again later."

Headers = tuple[tuple[bytes, bytes], tuple[bytes, bytes]]


class _Seats:
    """The seats of one level, and the requests that wait for one. `turn`: the queue that is served
    next."""

    __slots__ = ("level", "queues", "turn", "used", "waiting")

    def __init__(self, level: Level) -> None:
        self.level = level
        self.used = 0
        self.queues: dict[int, deque[asyncio.Future[None]]] = {}
        self.turn = 0
        self.waiting = 0


class Ticket:
    """The flow of one request, and the headers that name it."""

    __slots__ = ("flow", "headers", "lines")

    def __init__(self, flow: Flow) -> None:
        self.flow = flow
        self.headers: Headers = (
            (b"x-kubernetes-pf-flowschema-uid", flow.schema_uid.encode()),
            (b"x-kubernetes-pf-prioritylevel-uid", flow.level.uid.encode()),
        )
        self.lines = header_lines(self.headers)


class FairQueues:
    """The priority levels of one API server."""

    def __init__(self, wait_seconds: float = WAIT_SECONDS) -> None:
        self._kept: Kept[Shares] = Kept(KINDS, compile_shares)
        self._shares: Shares | None = None
        self._tickets: dict[tuple[Any, ...], Ticket | None] = {}
        self._seats: dict[str, _Seats] = {}
        self._revision = -1
        self._wait_seconds = wait_seconds

    # --- classification

    def ticket_of(self, request: Request, method: str, store: Reader) -> Ticket | None:
        """The ticket of a request for a resource (FAIR-1). About a microsecond for what was asked
        before."""
        user = request.user
        key = (
            user.name, user.groups, request.verb, request.resource.plural, request.resource.group,
            request.subresource, request.namespace, method if request.verb == "connect" else "",
        )  # fmt: skip
        self._refresh(store)
        found: Ticket | None = self._tickets.get(key, _UNKNOWN)
        return (
            self._remember(key, attributes_of(user, request, method))
            if found is _UNKNOWN
            else found
        )

    def ticket_of_path(self, user: User, method: str, path: str, store: Reader) -> Ticket | None:
        """The ticket of a request for a path that is no resource."""
        self._refresh(store)
        key = (user.name, user.groups, method, path)
        found: Ticket | None = self._tickets.get(key, _UNKNOWN)
        if found is not _UNKNOWN:
            return found
        return self._remember(key, Attributes(user, method.lower(), path=path))

    def _refresh(self, store: Reader) -> None:
        if store.revision == self._revision:
            return
        self._revision = store.revision
        shares = self._kept.of(store)
        if shares is not self._shares:
            self._shares = shares
            self._tickets.clear()
            for _, level in shares.schemas:
                known = self._seats.get(level.name)
                if known is not None:
                    known.level = level

    def _remember(self, key: tuple[Any, ...], attributes: Attributes) -> Ticket | None:
        assert self._shares is not None
        flow = self._shares.flow_of(attributes)
        ticket = None if flow is None else Ticket(flow)
        if len(self._tickets) >= REMEMBERED_MAX:
            self._tickets.clear()
        self._tickets[key] = ticket
        return ticket

    # --- seats

    def enters(self, ticket: Ticket) -> bool:
        """Take a seat if one is free and no request waits for it."""
        seats = self._seats_of(ticket.flow.level)
        return not seats.waiting and self._take(seats)

    def _seats_of(self, level: Level) -> _Seats:
        seats = self._seats.get(level.name)
        if seats is None:
            seats = self._seats[level.name] = _Seats(level)
        return seats

    async def enter(self, ticket: Ticket) -> None:
        """Take a seat, waiting for one if the level has queues. Raises ApiError 429 (FAIR-4)."""
        if self.enters(ticket):
            return
        flow = ticket.flow
        seats = self._seats_of(flow.level)
        if not flow.hand:
            raise ApiError(status.too_many_requests(REFUSED))
        number = min(flow.hand, key=lambda one: len(seats.queues.get(one, ())))
        queue = seats.queues.setdefault(number, deque())
        if len(queue) >= flow.level.queue_length:
            raise ApiError(status.too_many_requests(REFUSED))
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.append(turn)
        seats.waiting += 1
        try:
            await asyncio.wait_for(asyncio.shield(turn), self._wait_seconds)
        except (TimeoutError, asyncio.CancelledError) as error:
            if turn.done():
                self.leave(ticket)  # it was given a seat at the same moment
            else:
                turn.cancel()
                queue.remove(turn)
                seats.waiting -= 1
            if isinstance(error, asyncio.CancelledError):
                raise
            raise ApiError(status.too_many_requests(REFUSED)) from None

    def leave(self, ticket: Ticket) -> None:
        """Give the seat back, to the next request that waits."""
        seats = self._seats[ticket.flow.level.name]
        seats.used -= 1
        for one in (seats, *self._seats.values()):
            while one.waiting and self._take(one):
                self._next(one).set_result(None)

    def _take(self, seats: _Seats) -> bool:
        """Take a seat of the level's own, or one that others lend (FAIR-2)."""
        level = seats.level
        if seats.used >= level.own:
            assert self._shares is not None
            lent = sum(max(0, one.used - one.level.own) for one in self._seats.values())
            if seats.used >= level.most or lent >= self._shares.lent:
                return False
        seats.used += 1
        return True

    def _next(self, seats: _Seats) -> "asyncio.Future[None]":
        """The request whose turn it is: queues in turn, each in its order (FAIR-3)."""
        numbers = sorted(number for number, queue in seats.queues.items() if queue)
        number = next((one for one in numbers if one >= seats.turn), numbers[0])
        seats.turn = number + 1
        seats.waiting -= 1
        queue = seats.queues[number]
        turn = queue.popleft()
        if not queue:
            del seats.queues[number]
        return turn
