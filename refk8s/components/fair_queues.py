"""Seats and queues of the priority levels. Rules FAIR-2 to FAIR-6 (spec/fair_shares.md).

A request takes seats of its level, waits in a queue for them, or is refused. When seats are given
back, the queues of the level are served in turn. Every ten seconds the levels get other limits.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any, Final

from refk8s.components.header_lines import header_lines
from refk8s.core.api import status
from refk8s.core.api.request import Request
from refk8s.core.api.status import ApiError
from refk8s.core.api.user import User
from refk8s.core.apiserver.admission.configurations import Kept
from refk8s.core.apiserver.authorize import attributes_of
from refk8s.core.apiserver.borrowing import (
    PERIOD_SECONDS,
    Assigned,
    Demand,
    Need,
    assign,
    smooth,
)
from refk8s.core.apiserver.config import Attributes
from refk8s.core.apiserver.fair_shares import (
    KINDS,
    Flow,
    Level,
    Shares,
    compile_shares,
    compute_width,
)
from refk8s.core.apiserver.outcome import Reader
from refk8s.core.durations import Durations

WAIT_SECONDS: Final = 15.0
"""How long a request may wait for a seat: a quarter of the time of a request, as upstream."""

REMEMBERED_MAX: Final = 4096
COUNTED_MAX: Final = 512
"""The most flow schemas whose requests are counted apart."""
_UNKNOWN: Any = object()
REFUSED: Final = "Too many requests, please try again later."

Headers = tuple[tuple[bytes, bytes], tuple[bytes, bytes]]


class _Seats:
    """The seats of one level, and the requests that wait for some. `turn`: the queue that is served
    next."""

    __slots__ = (
        "demand", "level", "limit", "need", "queues", "turn", "used", "waiting",
    )  # fmt: skip

    def __init__(self, level: Level, now: float) -> None:
        self.level = level
        self.limit = level.bounds.nominal
        self.demand = Demand(now)
        self.need = Need()
        self.used = 0
        self.queues: dict[int, deque[_Waiting]] = {}
        self.turn = 0
        self.waiting = 0


class Counts:
    """The requests of one flow schema at its level. `dispatched` counts those that ran, and of them
    `waited` is the time of those that had to wait for seats."""

    __slots__ = ("dispatched", "executing", "refused", "waited")

    def __init__(self) -> None:
        self.dispatched = 0
        self.executing = 0
        self.refused: dict[str, int] = {}  # by their reason
        self.waited = Durations()


_Waiting = tuple["asyncio.Future[None]", int]
"""A request that waits, and its width."""


class Ticket:
    """The flow of one request, the headers that name it, and the seats that it takes."""

    __slots__ = ("_wide", "counts", "flow", "headers", "is_free", "lines", "width")

    def __init__(self, flow: Flow, width: int = 1, counts: Counts | None = None) -> None:
        self.flow = flow
        self.is_free = flow.level.is_exempt
        self.counts = counts if counts is not None else Counts()
        self.width = width
        self.headers: Headers = (
            (b"x-kubernetes-pf-flowschema-uid", flow.schema_uid.encode()),
            (b"x-kubernetes-pf-prioritylevel-uid", flow.level.uid.encode()),
        )
        self.lines = header_lines(self.headers)
        self._wide: dict[int, Ticket] = {}

    def of_width(self, width: int) -> "Ticket":
        """The same flow with this width."""
        if width == self.width:
            return self
        found = self._wide.get(width)
        if found is None:
            found = self._wide[width] = Ticket(self.flow, width, self.counts)
        return found


class FairQueues:
    """The priority levels of one API server."""

    def __init__(
        self, wait_seconds: float = WAIT_SECONDS, now: Callable[[], float] = monotonic
    ) -> None:
        self._now = now
        self._timer: asyncio.TimerHandle | None = None
        self._assigned = Assigned({}, {}, 0.0)
        self._counts: dict[tuple[str, str], Counts] = {}  # by schema and level
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
        if found is _UNKNOWN:
            found = self._remember(key, attributes_of(user, request, method))
        if request.verb != "list" or found is None or found.flow.level.is_exempt:
            return found
        stored = store.list(request.resource.prefix, limit=0).remaining
        is_single = "metadata.name=" in request.options.field_selector
        return found.of_width(compute_width(stored, found.flow.level, is_single))

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
            self._reconfigure(shares)

    def _reconfigure(self, shares: Shares) -> None:
        """Take over the levels."""
        for name, level in shares.levels.items():
            known = self._seats.get(name)
            if known is None:
                self._seats[name] = _Seats(level, self._now())
            else:
                known.level = level
        self.adjust()

    def _remember(self, key: tuple[Any, ...], attributes: Attributes) -> Ticket | None:
        assert self._shares is not None
        flow = self._shares.flow_of(attributes)
        ticket = None if flow is None else Ticket(flow, counts=self._counts_of(flow))
        if len(self._tickets) >= REMEMBERED_MAX:
            self._tickets.clear()
        self._tickets[key] = ticket
        return ticket

    def _counts_of(self, flow: Flow) -> Counts:
        key = (flow.schema_name, flow.level.name)
        if len(self._counts) >= COUNTED_MAX and key not in self._counts:
            key = ("", "")
        return self._counts.setdefault(key, Counts())

    # --- the limits of the levels

    def start(self) -> None:
        """Adjust the limits every ten seconds, until `stop`."""
        self._timer = asyncio.get_running_loop().call_later(PERIOD_SECONDS, self._adjust_again)

    def stop(self) -> None:
        """Adjust them no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _adjust_again(self) -> None:
        self.adjust()
        self.start()

    def adjust(self) -> None:
        """Give the levels their limits by what they needed (FAIR-2). A level that is gone keeps its
        seats until nothing has one."""
        now, bounds, needs = self._now(), {}, {}
        known = {} if self._shares is None else self._shares.levels
        gone = [name for name in self._seats if name not in known]
        for name in gone:
            if not self._seats[name].used and not self._seats[name].waiting:
                del self._seats[name]
        for name, seats in self._seats.items():
            seats.need = smooth(seats.need, seats.demand.observe(now))
            bounds[name], needs[name] = seats.level.bounds, seats.need
        assigned = assign(bounds, needs)
        if assigned is None:
            return
        self._assigned = assigned
        for name, seats in self._seats.items():
            seats.limit = assigned.limits[name]
            self._serve(seats)

    # --- seats

    def enters(self, ticket: Ticket) -> bool:
        """Take the seats if they are free and no request waits for some."""
        seats = self._seats_of(ticket.flow.level)
        if seats.waiting or not self._take(seats, ticket.width):
            return False
        seats.demand.add(ticket.width, self._now())
        ticket.counts.dispatched += 1
        ticket.counts.executing += 1
        return True

    def _seats_of(self, level: Level) -> _Seats:
        seats = self._seats.get(level.name)
        if seats is None:
            seats = self._seats[level.name] = _Seats(level, self._now())
        return seats

    async def enter(self, ticket: Ticket) -> None:
        """Take the seats, waiting for them if the level has queues. Raises ApiError 429
        (FAIR-4)."""
        if self.enters(ticket):
            return
        flow, width = ticket.flow, ticket.width
        seats = self._seats_of(flow.level)
        if not flow.hand:
            raise self._refusal(ticket, "concurrency-limit")
        number = min(flow.hand, key=lambda one: len(seats.queues.get(one, ())))
        queue = seats.queues.setdefault(number, deque())
        if len(queue) >= flow.level.queue_length:
            raise self._refusal(ticket, "queue-full")
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.append((turn, width))
        seats.waiting += 1
        began = self._now()
        seats.demand.add(width, began)
        try:
            await asyncio.wait_for(asyncio.shield(turn), self._wait_seconds)
        except (TimeoutError, asyncio.CancelledError) as error:
            if turn.done():
                ticket.counts.executing += 1
                self.leave(ticket)  # it was given its seats at the same moment
            else:
                turn.cancel()
                queue.remove((turn, width))
                seats.waiting -= 1
                seats.demand.add(-width, self._now())
                self._serve(seats)  # the next one may need fewer seats
            if isinstance(error, asyncio.CancelledError):
                raise
            raise self._refusal(ticket, "time-out") from None
        self._begin(ticket, self._now() - began)

    def leave(self, ticket: Ticket) -> None:
        """Give the seats back, to the next requests that wait (FAIR-5)."""
        seats = self._seats[ticket.flow.level.name]
        ticket.counts.executing -= 1
        seats.used -= ticket.width
        seats.demand.add(-ticket.width, self._now())
        if seats.waiting:
            self._serve(seats)

    def _begin(self, ticket: Ticket, waited: float) -> None:
        """A request that has waited runs."""
        counts = ticket.counts
        counts.dispatched += 1
        counts.executing += 1
        counts.waited.add(waited)

    def _refusal(self, ticket: Ticket, reason: str) -> ApiError:
        refused = ticket.counts.refused
        refused[reason] = refused.get(reason, 0) + 1
        return ApiError(status.too_many_requests(REFUSED))

    def _serve(self, seats: _Seats) -> None:
        """Give free seats to requests that wait, as long as the next one finds enough."""
        while seats.waiting:
            number = self._number(seats)
            turn, width = seats.queues[number][0]
            if not self._take(seats, width):
                return
            self._pop(seats, number)
            turn.set_result(None)

    def _take(self, seats: _Seats, width: int) -> bool:
        """Take seats of the level. A request that is wider than all of them runs alone (FAIR-6)."""
        if seats.used + width > seats.limit and (seats.used or width <= seats.limit):
            return False
        seats.used += width
        return True

    def _number(self, seats: _Seats) -> int:
        """The queue whose turn it is: one after the other (FAIR-3)."""
        numbers = sorted(number for number, queue in seats.queues.items() if queue)
        return next((one for one in numbers if one >= seats.turn), numbers[0])

    def _pop(self, seats: _Seats, number: int) -> None:
        """Remove the first request of a queue."""
        seats.turn = number + 1
        seats.waiting -= 1
        queue = seats.queues[number]
        queue.popleft()
        if not queue:
            del seats.queues[number]

    # --- metrics

    def collect(self, store: Reader) -> Iterator[Any]:
        """The metrics as prometheus_client has them, under upstream's names."""
        from prometheus_client.core import GaugeMetricFamily

        self._refresh(store)
        limited = {n: s for n, s in sorted(self._seats.items()) if not s.level.is_exempt}
        for name, words, value in _GAUGES:
            family = GaugeMetricFamily(
                f"apiserver_flowcontrol_{name}", words, labels=("priority_level",)
            )
            for level, seats in limited.items():
                family.add_metric((level,), value(seats))
            yield family
        targets = GaugeMetricFamily(
            "apiserver_flowcontrol_target_seats",
            "Seats that a level aimed at when they were last assigned.",
            labels=("priority_level",),
        )
        for level in limited:
            targets.add_metric((level,), self._assigned.targets.get(level, 0.0))
        yield targets
        yield GaugeMetricFamily(
            "apiserver_flowcontrol_seat_fair_frac",
            "The part of its target that every level has.",
            value=self._assigned.fair_part,
        )
        yield from self._by_schema()

    def _by_schema(self) -> Iterator[Any]:
        """What happened to the requests of each flow schema. A request that did not wait has waited
        no time."""
        from prometheus_client.core import (
            CounterMetricFamily,
            GaugeMetricFamily,
            HistogramMetricFamily,
        )

        names = ("flow_schema", "priority_level")
        refused = CounterMetricFamily(
            "apiserver_flowcontrol_rejected_requests_total",
            "Requests that found neither seat nor queue.",
            labels=(*names, "reason"),
        )
        dispatched = CounterMetricFamily(
            "apiserver_flowcontrol_dispatched_requests_total", "Requests that ran.", labels=names
        )
        executing = GaugeMetricFamily(
            "apiserver_flowcontrol_current_executing_requests",
            "Requests that have seats.",
            labels=names,
        )
        waited = HistogramMetricFamily(
            "apiserver_flowcontrol_request_wait_duration_seconds",
            "How long requests that ran have waited for seats.",
            labels=(*names, "execute"),
        )
        for key, counts in sorted(self._counts.items()):
            for reason, count in sorted(counts.refused.items()):
                refused.add_metric((*key, reason), count)
            dispatched.add_metric(key, counts.dispatched)
            executing.add_metric(key, counts.executing)
            at_once = counts.dispatched - counts.waited.count
            buckets = [(bound, count + at_once) for bound, count in counts.waited.buckets()]
            waited.add_metric((*key, "true"), buckets, counts.waited.seconds)
        yield from (refused, dispatched, executing, waited)


_GAUGES: Final[tuple[tuple[str, str, Callable[[_Seats], float]], ...]] = (
    ("nominal_limit_seats", "Seats of a level by its shares.", lambda s: s.level.bounds.nominal),
    ("lower_limit_seats", "Seats that a level always has.", lambda s: s.level.bounds.least),
    ("upper_limit_seats", "The most seats of a level.", lambda s: s.level.bounds.most),
    ("current_limit_seats", "Seats that a level has now.", lambda s: s.limit),
    ("current_executing_seats", "Seats that requests have.", lambda s: s.used),
    ("current_inqueue_requests", "Requests that wait.", lambda s: s.waiting),
    ("demand_seats_high_watermark", "The highest demand.", lambda s: s.need.observed.highest),
    ("demand_seats_average", "The mean demand.", lambda s: s.need.observed.average),
    ("demand_seats_stdev", "Its standard deviation.", lambda s: s.need.observed.deviation),
    ("demand_seats_smoothed", "The smoothed demand.", lambda s: s.need.smoothed),
)
