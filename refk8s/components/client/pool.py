"""The connections for requests, and the requests that wait for one. Rules CLIENT-3, CLIENT-7,
CLIENT-11, CLIENT-13, CLIENT-15 (spec/client.md)."""

import asyncio
import logging
import ssl
from collections import deque
from collections.abc import Callable
from typing import Protocol
from urllib.parse import urlsplit

from refk8s.components.client.connection import Connection, Receiver
from refk8s.core.client.servers import order

log = logging.getLogger("refk8s")

REQUESTS_MAX = 32  # in progress
INDEPENDENT_MAX = 128  # in progress, to a server that answers them independently
CONNECTIONS_MAX = 32
URGENT_MAX = 4  # more connections, which only urgent requests may use
BACKGROUND_BESIDE_MAX = 1  # requests in the background, while others are in progress
BACKGROUND_TOGETHER_MAX = 16  # of them, to a server that answers them independently
BACKGROUND_QUIET_SECONDS = 0.05  # without other requests, before those in the background are sent
BACKGROUND_WAIT_SECONDS = 1.0  # after which some of them are sent beside others
SLOW_SECONDS = 0.1  # nothing is sent after a request that waits for longer
CONNECT_SECONDS = 10.0
CONNECT_SECONDS_OF_SEVERAL = 5.0  # of each server, if there are others
IDLE_SECONDS = 60.0


class Sending(Receiver, Protocol):
    """A request that can be sent once or more."""

    seconds: float
    """How long its answer may take."""

    is_urgent: bool
    """Whether it goes before all others, and waits for none of them."""

    def message(self, connection: Connection) -> bytes:
        """The request as bytes for the server of this connection, with the present credentials."""


class Pool:
    """Connections to one server, or to the next one of several if it cannot be reached."""

    def __init__(
        self, servers: tuple[str, ...], tls: Callable[[], ssl.SSLContext], server_name: str
    ) -> None:
        self.servers = servers  # may be replaced
        self.server = servers[0]  # the one of the last connection
        self._tls = tls
        self._server_name = server_name
        self._loop = asyncio.get_running_loop()
        self._idle: list[Connection] = []
        self._busy: dict[Connection, None] = {}
        self._in_progress = 0  # requests, without urgent ones
        self._in_background = 0  # of these
        self._is_due = False  # whether the next turn of the loop sends what waits
        self._other_at = self._background_at = -BACKGROUND_WAIT_SECONDS
        """When requests that are not in the background, and those that are, were last sent."""
        self._later: asyncio.TimerHandle | None = None
        self._opening: set[asyncio.Task[None]] = set()
        self._urgent: deque[Sending] = deque()
        self._waiting: deque[Sending] = deque()
        self._background: deque[Sending] = deque()
        self._moves = 0  # from servers that were not ready
        self._is_away = False  # the last attempt to connect has failed
        self.is_refk8s = False  # whether the last connection was to a refk8s server
        self._is_closed = False
        self.each_second: Callable[[], None] = lambda: None
        self._timer = self._loop.call_later(1.0, self._check_times)

    @property
    def _requests_max(self) -> int:
        """How many requests may be in progress."""
        return INDEPENDENT_MAX if self.is_refk8s else REQUESTS_MAX

    @property
    def waiting_in_background(self) -> int:
        """How many requests in the background wait."""
        return len(self._background)

    # --- requests

    def submit(self, sending: Sending, background: bool) -> None:
        """Send it when a connection is free."""
        queue = self._urgent if sending.is_urgent else self._waiting
        (self._background if background else queue).append(sending)
        self._pump_soon()

    def _pump_soon(self) -> None:
        """Send what waits in the next turn of the loop: the requests of this turn together."""
        if not self._is_due and not self._is_closed:
            self._is_due = True
            self._loop.call_soon(self._pump)

    def _pump(self) -> None:
        self._is_due = False
        now = self._loop.time()
        while (count := self._sendable(now)) > 0:
            queue = self._urgent or self._waiting or self._background
            connection = self._usable(now, is_urgent=queue is self._urgent)
            if connection is None:
                break
            self._send(connection, queue, count, now)
        self._open_more(now)

    def _sendable(self, now: float) -> int:
        """How many requests of the first queue may be sent now."""
        if self._urgent:
            return len(self._urgent)
        free = self._requests_max - self._in_progress  # what is idle besides is for urgent requests
        if self._waiting:
            return min(free, len(self._waiting))
        return min(free, self._background_max(now) - self._in_background, len(self._background))

    def _background_max(self, now: float) -> int:
        """How many requests in the background may be in progress: few beside others, which the
        server then answers first, and else as many as possible, because it commits together what
        arrives together."""
        if self._in_progress > self._in_background:
            if not self.is_refk8s:
                return BACKGROUND_BESIDE_MAX
            if now - self._background_at > BACKGROUND_WAIT_SECONDS:
                return BACKGROUND_TOGETHER_MAX
        elif now - self._other_at > BACKGROUND_QUIET_SECONDS:
            return self._requests_max
        if self._later is None and self._background:
            self._later = self._loop.call_later(BACKGROUND_QUIET_SECONDS, self._try_later)
        return 0

    def _try_later(self) -> None:
        self._later = None
        self._pump_soon()

    def _usable(self, now: float, *, is_urgent: bool) -> Connection | None:
        """A connection for the next request: one that is idle, or one whose requests do not wait
        for one another. An urgent request waits only for urgent ones."""
        while self._idle:
            connection = self._idle.pop()
            if connection.is_open:
                return connection
        for connection in self._busy:
            if (
                len(connection.receivers) < connection.requests_max
                and connection.is_open
                and not connection.is_retired
                and connection.is_urgent == is_urgent
                and now - connection.began < SLOW_SECONDS
            ):
                return connection
        return None

    def _send(self, connection: Connection, queue: deque[Sending], count: int, now: float) -> None:
        """Send so many requests of the queue, or as many as the connection may have."""
        count = min(count, connection.requests_max - len(connection.receivers))
        sent = [queue.popleft() for _ in range(count)]
        is_urgent, is_background = queue is self._urgent, queue is self._background
        if connection not in self._busy:
            self._busy[connection] = None
            connection.began, connection.is_urgent = now, is_urgent
        if is_background:
            self._in_background += count
            self._background_at = now
        elif not is_urgent:
            self._other_at = now
        if not is_urgent:
            self._in_progress += count
        connection.send(
            [each.message(connection) for each in sent],
            [_Use(self, connection, each, now, is_urgent, is_background) for each in sent],
        )

    def _open_more(self, now: float) -> None:
        """Open connections for the requests that wait: as many at a time as there are already,
        since a handshake costs as much as several requests; only one after a failure."""
        used = len(self._busy) + len(self._opening) + len(self._idle)
        in_background = 0
        if self._background:
            in_background = min(
                len(self._background), self._background_max(now) - self._in_background
            )
        wanted = min(
            len(self._waiting) + in_background - len(self._opening),
            CONNECTIONS_MAX - used,
            self._requests_max - self._in_progress,
            max(1, len(self._busy)) - len(self._opening),
        )
        urgent = min(len(self._urgent), CONNECTIONS_MAX + URGENT_MAX - used)
        wanted = max(wanted, urgent if not self._opening else 0)
        if self._is_away:
            wanted = min(wanted, 1 - len(self._opening))
        for _ in range(wanted if not self._is_closed else 0):
            task = self._loop.create_task(self._open_one())
            self._opening.add(task)
            task.add_done_callback(self._opened)

    async def _open_one(self) -> None:
        self._idle.append(await self.connect())

    def _opened(self, task: asyncio.Task[None]) -> None:
        self._opening.discard(task)
        if self._is_closed or task.cancelled():
            return
        if (error := task.exception()) is not None and not self._busy and not self._opening:
            # No connection is left that could carry what waits: it is unknown at once (CLIENT-3).
            waiting = [*self._urgent, *self._waiting, *self._background]
            self._urgent.clear()
            self._waiting.clear()
            self._background.clear()
            for sending in waiting:
                sending.lost(str(error))
        self._pump()

    def _released(self, connection: Connection, is_urgent: bool, was_background: bool) -> None:
        """A request over the connection has its answer, or is lost."""
        self._in_progress -= not is_urgent
        self._in_background -= was_background
        connection.began = self._loop.time()
        if not connection.receivers and connection in self._busy:
            del self._busy[connection]
            if connection.is_open and connection.is_retired:
                connection.abort("retired")
            elif connection.is_open:
                connection.idle_since = connection.began
                self._idle.append(connection)
        if self._urgent or self._waiting or self._background:
            self._pump_soon()

    # --- connections

    async def connect(self) -> Connection:
        """A new connection, to the first server that can be reached (CLIENT-15). Raises OSError."""
        problems: dict[str, str] = {}
        for server in order(self.servers, self.server):
            moves = self._moves
            try:
                connection = await self.connect_to(server)
            except (OSError, ValueError) as error:
                problems[server] = self._explain(error)
                continue
            if self._moves != moves and server != self.server:
                connection.drop("the server is not ready")
                return await self.connect()
            self._note_reached(server, problems)
            self.is_refk8s = connection.is_refk8s
            return connection
        if not self._is_away and not self._is_closed:
            for server, why in problems.items():
                log.warning("cannot reach the API server %s: %s; it is tried again", server, why)
        self._is_away = True
        raise OSError("; ".join(problems.values()))

    def move(self, server: str) -> None:
        """Use this server instead of the present one, which is not ready (CLIENT-17)."""
        log.warning("the API server %s is not ready; %s is used instead", self.server, server)
        self.server, self._moves = server, self._moves + 1
        for connection in [*self._idle, *self._busy]:
            if connection.server != server:
                connection.abort("the server is not ready")

    async def connect_to(self, server: str) -> Connection:
        """A new connection to this server. Raises OSError, ValueError."""
        url = urlsplit(server)
        is_tls, host = url.scheme == "https", url.hostname or ""
        connection = Connection()
        connection.server, connection.host = server, url.netloc
        is_made = False
        try:
            context = self._tls() if is_tls else None
            async with asyncio.timeout(self._connect_seconds):
                await self._loop.create_connection(
                    lambda: connection,
                    host,
                    url.port or (443 if is_tls else 80),
                    ssl=context,
                    server_hostname=(self._server_name or host) if context is not None else None,
                )
            is_made = True
        finally:
            if not is_made:
                connection.abort("not used")
        return connection

    def _note_reached(self, server: str, problems: dict[str, str]) -> None:
        """Use this server from now on, and say so if it is another one."""
        if server != self.server and not self._is_closed:
            why = problems.get(self.server, "it is no longer one of the cluster's")
            log.warning(
                "cannot reach the API server %s: %s; %s is used instead", self.server, why, server
            )
        elif self._is_away:
            log.warning("the API server %s is reached again", server)
        self.server, self._is_away = server, False

    @property
    def _connect_seconds(self) -> float:
        return CONNECT_SECONDS_OF_SEVERAL if len(self.servers) > 1 else CONNECT_SECONDS

    def _explain(self, error: Exception) -> str:
        if isinstance(error, TimeoutError):
            return f"no connection within {self._connect_seconds:.0f} s"
        if isinstance(error, ssl.SSLCertVerificationError):
            return f"its certificate is not valid: {error.verify_message}"
        return getattr(error, "strerror", None) or str(error) or type(error).__name__

    def retire(self) -> None:
        """Use no connection for another request that is open now: its certificate is the old
        one."""
        for connection in self._idle:
            connection.abort("retired")
        for connection in self._busy:
            connection.is_retired = True

    def _check_times(self) -> None:
        self.each_second()
        now = self._loop.time()
        for connection in [each for each in self._busy if each.deadline() <= now]:
            connection.abort("the answer has not arrived in time")
        for connection in [each for each in self._idle if now - each.idle_since > IDLE_SECONDS]:
            self._idle.remove(connection)
            connection.abort("idle")
        self._timer = self._loop.call_later(1.0, self._check_times)

    def close(self) -> None:
        """Close every connection; no answer is delivered any more."""
        self._is_closed = True
        self._timer.cancel()
        if self._later is not None:
            self._later.cancel()
        for queue in (self._urgent, self._waiting, self._background):
            queue.clear()
        for task in self._opening:
            task.cancel()
        for connection in (*self._idle, *self._busy):
            connection.drop("closed")


class _Use:
    """The use of a connection for one request: when it is over, the connection is free."""

    __slots__ = (
        "connection", "data", "deadline", "head", "is_background", "is_urgent", "pool", "sending"
    )  # fmt: skip

    def __init__(
        self,
        pool: Pool,
        connection: Connection,
        sending: Sending,
        now: float,
        is_urgent: bool,
        is_background: bool,
    ) -> None:
        self.deadline = now + sending.seconds
        self.pool = pool
        self.connection = connection
        self.sending = sending
        self.is_urgent = is_urgent
        self.is_background = is_background
        self.head = sending.head
        self.data = sending.data

    def end(self) -> None:
        self.pool._released(self.connection, self.is_urgent, self.is_background)
        self.sending.end()

    def lost(self, why: str) -> None:
        self.pool._released(self.connection, self.is_urgent, self.is_background)
        self.sending.lost(why)
