"""An API server over HTTPS, with the interface of the one in this process. Rules CLIENT-1 to
CLIENT-9 (spec/client.md).

    submit ── Call ──> Pool ──> Connection        at most 32 requests at a time
    watch ─── Stream ─────────> Connection        a connection of its own
"""

import asyncio
import logging
import math
from collections import Counter
from collections.abc import Callable
from functools import partial
from urllib.parse import urlsplit

import msgspec

from refk8s.components.client.connection import Connection
from refk8s.components.client.credentials import Credentials
from refk8s.components.client.pool import Pool
from refk8s.components.client.readiness import ReadinessCheck
from refk8s.components.client.tls import TlsContexts
from refk8s.components.clock import CHANCE, Clock
from refk8s.core.api import status
from refk8s.core.api.request import Request, Response, WatchEvent
from refk8s.core.api.resources import LEASES
from refk8s.core.client.kubeconfig import Access
from refk8s.core.client.readiness import UNREADY_CODE
from refk8s.core.client.request import HttpRequest, can_be_brief, to_http
from refk8s.core.client.response import Unreadable, to_response
from refk8s.core.client.retry import retry_seconds
from refk8s.core.client.servers import known_servers, may_learn
from refk8s.core.client.watch_lines import WatchLines
from refk8s.core.context import SECOND
from refk8s.core.value import evolve

log = logging.getLogger("refk8s")

ANSWER_SECONDS = 60.0
LEASE_SECONDS = 10.0
PAGE_OBJECTS = 500
BODY_BYTES_MAX = 256 << 20
BACKGROUND_MAX = 10_000
REFUSALS_MAX = 10  # with 429, of one request
WATCH_SECONDS = (300, 600)
WATCH_LEEWAY_SECONDS = 30.0

Answer = Callable[[Response | None], None]
Deliver = Callable[[tuple[WatchEvent, ...]], None]


class HttpApi:
    """The API server of a kubeconfig (`Api` in core/ports)."""

    def __init__(self, access: Access, agent: str, clock: Clock) -> None:
        """`agent`: the name of the component, for the header User-Agent, from which the API server
        takes the manager of fields."""
        self._named = known_servers((access.server, *access.more_servers), ())
        self._may_learn = may_learn(access.server, access.insecure)
        self._loop = asyncio.get_running_loop()
        self._tls = TlsContexts(access)
        self.credentials = Credentials(access, self._tls, lambda: clock.now() / SECOND)
        self.pool = Pool(
            self._named, lambda: self._tls.context(self._loop.time()), access.server_name
        )
        self.readiness = ReadinessCheck(self.pool, self.message, self._move)
        self._tls.on_change = self._retire
        self.pool.each_second = self._each_second
        self._prefix = urlsplit(access.server).path
        lines = [f"User-Agent: {agent}", "Accept: application/json"]
        lines += [f"{name}: {value}" for name, value in access.impersonation]
        self._headers = "\r\n".join(lines)
        self._streams: set[Stream] = set()
        self.is_closed = False
        # answers by code ("<error>": none) and method, for /metrics
        self.answers: Counter[tuple[str, str]] = Counter()

    @property
    def server(self) -> str:
        """The URL of the API server that is used at present."""
        return self.pool.server

    def learn(self, servers: tuple[str, ...]) -> None:
        """Use these servers, which were learnt, if those of the kubeconfig cannot be reached."""
        if self._may_learn:
            self.pool.servers = known_servers(self._named, servers)

    # --- as the API server in this process

    def submit(
        self, request: Request, answer: Answer, background: bool = False, authorization: str = ""
    ) -> None:
        """Send the request; `answer` gets the response, or None if it is unknown (CLIENT-3).
        `authorization`: of this request, instead of the credentials of the kubeconfig."""
        if background and self.pool.waiting_in_background >= BACKGROUND_MAX:
            words = "too many background requests are waiting"
            answer(Response(429, status.too_many_requests(words)))
        elif request.verb == "list" and not request.options.limit:
            Pages(self, request, answer, authorization).next()
        else:
            self.send(request, answer, background, authorization)

    def watch(
        self, request: Request, deliver: Deliver, ended: Callable[[int], None]
    ) -> Callable[[], None]:
        """Open a watch; returns what closes it (CLIENT-5)."""
        stream = Stream(self, request, deliver, ended)
        self._streams.add(stream)
        return stream.close

    # --- for the processes themselves

    async def call(self, request: Request) -> Response | None:
        """Send the request and wait for its response."""
        answered: asyncio.Future[Response | None] = self._loop.create_future()
        self.submit(
            request, lambda response: None if answered.done() else answered.set_result(response)
        )
        return await answered

    def close(self) -> None:
        """Close every connection; nothing is answered any more."""
        self.is_closed = True
        for stream in list(self._streams):
            stream.close()
        self.credentials.close()
        self.readiness.close()
        self.pool.close()

    # --- parts

    def _retire(self) -> None:
        self.pool.retire()
        self.readiness.retire()

    def _each_second(self) -> None:
        now = self._loop.time()
        self._tls.check(now)
        self.readiness.each_second(now)

    def _move(self, server: str) -> None:
        """Use this server instead of the present one, which is not ready (CLIENT-17)."""
        self.pool.move(server)
        for stream in list(self._streams):
            stream.move(server)

    def send(
        self, request: Request, answer: Answer, background: bool = False, authorization: str = ""
    ) -> None:
        """Send a request that is not read in pages."""
        Call(self, request, answer, background, authorization).start()

    def message(self, http: HttpRequest, host: str, authorization: str = "") -> bytes:
        """A request as bytes, with this authorization or the present credentials."""
        head = (
            f"{http.method} {self._prefix}{http.target} HTTP/1.1\r\n"
            f"Host: {host}\r\n{self._headers}\r\n"
        )
        if authorization := authorization or self.credentials.authorization():
            head += f"Authorization: {authorization}\r\n"
        if http.content_type:
            head += f"Content-Type: {http.content_type}\r\n"
        if http.body or http.method not in ("GET", "DELETE"):
            head += f"Content-Length: {len(http.body)}\r\n"
        return head.encode() + b"\r\n" + http.body

    def forget(self, stream: "Stream") -> None:
        """A stream has ended."""
        self._streams.discard(stream)


class _Body:
    """The answer to one attempt: its code, and its body up to a limit (CLIENT-7)."""

    def __init__(self) -> None:
        self.code = 0
        self.retry_after = ""
        self._parts: list[bytes] = []
        self._length = 0

    def head(self, code: int, retry_after: str) -> None:
        self.code, self.retry_after = code, retry_after

    def data(self, data: bytes) -> None:
        self._length += len(data)
        if self._length <= BODY_BYTES_MAX:
            self._parts.append(data)
        else:
            self._parts.clear()

    def take(self) -> bytes | None:
        """The body; None if it was too long."""
        return b"".join(self._parts) if self._length <= BODY_BYTES_MAX else None


class Call:
    """One request until it is answered: sent again only after a refusal (CLIENT-6, CLIENT-9)."""

    def __init__(
        self, api: HttpApi, request: Request, answer: Answer, background: bool, authorization: str
    ) -> None:
        self.api = api
        self.authorization = authorization
        self.request = request
        self.answer = answer
        self.background = background
        self.is_urgent = request.resource == LEASES and request.verb not in ("list", "watch")
        self.seconds = LEASE_SECONDS if self.is_urgent else ANSWER_SECONDS
        self._is_brief = api.pool.is_refk8s and can_be_brief(request)
        self._http = to_http(request, self._is_brief)
        self._refusals = 0
        self._renewed = False
        self._body = _Body()
        self.head, self.data = self._body.head, self._body.data

    def start(self) -> None:
        """Send it, if need be with new credentials."""
        if self.api.is_closed:
            return
        if self.api.credentials.is_ready:
            self._submit("")
        else:
            self.api.credentials.renew(self._submit)

    def _submit(self, problem: str) -> None:
        if problem:
            self.answer(None)  # nothing was sent; the loop tries again
            return
        self._body = _Body()
        self.head, self.data = self._body.head, self._body.data
        self.api.pool.submit(self, self.background)

    def message(self, connection: Connection) -> bytes:
        if connection.is_refk8s != self._is_brief and can_be_brief(self.request):
            # the first request, or another server than that of the last connection
            self._is_brief = connection.is_refk8s
            self._http = to_http(self.request, self._is_brief)
        return self.api.message(self._http, connection.host, self.authorization)

    def lost(self, why: str) -> None:
        """CLIENT-3."""
        self.api.answers["<error>", self._http.method] += 1
        self.api.readiness.note(0)
        self.answer(None)

    def end(self) -> None:
        code, body = self._body.code, self._body.take()
        self.api.answers[str(code), self._http.method] += 1
        if code >= UNREADY_CODE:
            self.api.readiness.note(code)
        if code == 429 and self._refusals < REFUSALS_MAX:
            self._refusals += 1
            self.api._loop.call_later(retry_seconds(self._body.retry_after), self.start)
            return
        credentials = self.api.credentials
        if code == 401 and credentials.can_be_renewed and not self._renewed:
            self._renewed = True
            credentials.reject()
            self.start()
            return
        response: Response | None = None
        if self.background and code < 300:
            response = Response(code, None)  # nothing reads the object
        elif body is None:
            self._tell(f"it has more than {BODY_BYTES_MAX} bytes")
        else:
            try:
                response = to_response(self.request, code, body)
            except Unreadable as error:
                self._tell(str(error))
        self.answer(response)

    def _tell(self, why: str) -> None:
        request = self.request
        log.error("the answer to %s %s cannot be read: %s", request.verb, request.resource, why)


class Pages:
    """A list that is read in pages (CLIENT-4)."""

    def __init__(self, api: HttpApi, request: Request, answer: Answer, authorization: str) -> None:
        self._api = api
        self._authorization = authorization
        self._request = request
        self._answer = answer
        self._pages: list[Response] = []

    def next(self, continue_: str = "") -> None:
        """Ask for the next page. A `resourceVersion` is that of the first page alone."""
        options = evolve(self._request.options, limit=PAGE_OBJECTS)
        if options.resource_version not in ("", "0") and not options.resource_version_match:
            # without a limit this is the meaning of a revision (LIST-12)
            options = evolve(options, resource_version_match="NotOlderThan")
        if continue_:
            options = evolve(
                options, continue_=continue_, resource_version="", resource_version_match=""
            )
        request = evolve(self._request, options=options)
        self._api.send(request, self._take, authorization=self._authorization)

    def _take(self, response: Response | None) -> None:
        if response is None or not response.ok:
            self._answer(response)
            return
        self._pages.append(response)
        if continue_ := response.body.metadata.continue_:
            self.next(continue_)
            return
        if len(self._pages) == 1:
            self._answer(response)
            return
        metadata = self._pages[0].body.metadata
        whole = msgspec.structs.replace(
            response.body,
            metadata=msgspec.structs.replace(metadata, continue_=None, remaining_item_count=None),
            items=tuple([item for page in self._pages for item in page.body.items]),
        )
        self._answer(Response(response.code, whole))


class Stream:
    """One watch (CLIENT-5)."""

    def __init__(
        self, api: HttpApi, request: Request, deliver: Deliver, ended: Callable[[int], None]
    ) -> None:
        self._api = api
        self._deliver = deliver
        self._ended = ended
        least, most = WATCH_SECONDS
        seconds = least + int.from_bytes(CHANCE.draw(2), "big") % (most - least)
        if request.options.timeout_seconds is not None:
            seconds = request.options.timeout_seconds
        else:
            request = evolve(request, options=evolve(request.options, timeout_seconds=seconds))
        self._seconds = seconds + WATCH_LEEWAY_SECONDS
        self.deadline = math.inf  # a timer ends it
        self._http = to_http(request)
        self._lines = WatchLines(request.resource)
        self._what = request.resource
        self._code = 0
        self._retry_after = ""
        self._connection: Connection | None = None
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._is_over = False
        if api.credentials.is_ready:
            self._start("")
        else:
            api.credentials.renew(self._start)

    def close(self) -> None:
        """Close it: nothing is delivered any more."""
        self._is_over = True
        self._api.forget(self)
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
        if self._connection is not None:
            self._connection.drop("closed")

    def move(self, server: str) -> None:
        """End it if its server is another one; the informer watches again at this one."""
        if self._connection is not None and self._connection.server != server:
            self._connection.abort("the server is not ready")

    def _start(self, problem: str) -> None:
        if problem:
            self._finish(0)
        elif not self._is_over:
            self._task = self._api._loop.create_task(self._open())

    async def _open(self) -> None:
        try:
            connection = self._connection = await self._api.pool.connect()
        except OSError:
            self._task = None
            self._finish(0)
            return
        self._task = None
        self._timer = self._api._loop.call_later(
            self._seconds, connection.abort, "the server does not end the watch"
        )
        connection.send([self._api.message(self._http, connection.host)], [self])

    def _finish(self, code: int) -> None:
        if not self._is_over:
            self.close()
            self._ended(code)

    # --- the answer

    def head(self, code: int, retry_after: str) -> None:
        self._code, self._retry_after = code, retry_after

    def data(self, data: bytes) -> None:
        if self._code != 200:
            return
        events, over = self._lines.feed(data)
        if events:
            self._deliver(events)
        if over is not None:
            if over.words:
                log.error("a watch of %s is ended: %s", self._what, over.words)
            self._finish(over.code)

    def end(self) -> None:
        code = self._code if self._code != 200 else 0
        if code >= UNREADY_CODE:
            self._api.readiness.note(code)
        if code == 401:
            self._api.credentials.reject()
        if code == 429 and not self._is_over:  # CLIENT-6
            self._timer = self._api._loop.call_later(
                retry_seconds(self._retry_after), partial(self._finish, code)
            )
            return
        self._finish(code)

    def lost(self, why: str) -> None:
        self._finish(0)
