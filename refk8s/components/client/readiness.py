"""Leaves an API server that is not ready for one that is. Rule CLIENT-17 (spec/client.md)."""

import asyncio
from collections.abc import Callable

from refk8s.components.client.connection import Connection
from refk8s.components.client.pool import Pool
from refk8s.core.client import readiness
from refk8s.core.client.readiness import Readiness
from refk8s.core.client.request import HttpRequest
from refk8s.core.client.servers import order

ANSWER_SECONDS = 5.0  # with the connection
PATH = "/readyz"


class _Asked:
    """The receiver of one answer; only its code is read."""

    def __init__(self, code: asyncio.Future[int], deadline: float) -> None:
        self.deadline = deadline
        self._code = code
        self._found = 0

    def head(self, code: int, retry_after: str) -> None:
        self._found = code

    def data(self, data: bytes) -> None:
        pass

    def end(self) -> None:
        if not self._code.done():
            self._code.set_result(self._found)

    def lost(self, why: str) -> None:
        if not self._code.done():
            self._code.set_result(0)


class ReadinessCheck:
    """Checks the server in use, and finds another one if it is not ready. Does nothing while only
    one server is known."""

    def __init__(
        self,
        pool: Pool,
        message: Callable[[HttpRequest, str], bytes],
        move: Callable[[str], None],
    ) -> None:
        """`message`: a request as bytes. `move`: use another server."""
        self._pool, self._message, self._move = pool, message, move
        self._server = pool.server
        self._state = Readiness()
        self._connection: Connection | None = None
        self._task: asyncio.Task[None] | None = None

    def note(self, code: int) -> None:
        """A request was answered with this code; 0: not at all."""
        self._state = readiness.after_answer(self._state, code)

    def each_second(self, now: float) -> None:
        """Begin a check if one is due; at most one is in progress."""
        if self._pool.server != self._server:
            self._server, self._state = self._pool.server, Readiness(now)
        is_busy = self._task is not None and not self._task.done()
        if len(self._pool.servers) > 1 and not is_busy and readiness.is_due(self._state, now):
            self._task = asyncio.get_running_loop().create_task(self._check(now))

    def retire(self) -> None:
        """Use the connection for no other check: its certificate is the old one."""
        if self._connection is not None:
            self._connection.drop("retired")
            self._connection = None

    def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
        self.retire()

    async def _check(self, began: float) -> None:
        server = self._server
        is_ready = await self._is_ready(server)
        if self._pool.server != server:
            return  # it could not be reached, and another one is used already
        self._state = readiness.after_check(self._state, began, is_ready)
        if not readiness.is_to_be_left(self._state):
            return
        for other in order(self._pool.servers, server):
            if other != server and await self._is_ready(other):
                if self._pool.server == server:
                    self._move(other)
                return

    async def _is_ready(self, server: str) -> bool:
        """Whether the server answers, and with no code that says that it is not ready."""
        loop = asyncio.get_running_loop()
        code: asyncio.Future[int] = loop.create_future()
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                connection = await self._connect(server)
                request = HttpRequest("GET", PATH)
                asked = _Asked(code, loop.time() + ANSWER_SECONDS)
                connection.send([self._message(request, connection.host)], [asked])
                found = await code
        except (OSError, ValueError, TimeoutError):
            self.retire()
            return False
        return 0 < found < readiness.UNREADY_CODE

    async def _connect(self, server: str) -> Connection:
        """The connection of the last check, or a new one."""
        kept = self._connection
        if kept is None or not kept.is_open or kept.server != server:
            self.retire()
            self._connection = kept = await self._pool.connect_to(server)
        return kept
