"""Asks a webhook that answers reviews, and keeps its answers. Rules OIDC-7, OIDC-8 (spec/oidc.md),
AUTHZ-10, AUTHZ-11 (spec/authorization.md).

Questions are not kept, only their hashes. Nothing of this is loaded without such a webhook.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from hashlib import blake2b
from pathlib import Path
from secrets import token_bytes
from typing import Final, Generic, TypeVar
from urllib.parse import urlsplit

from refk8s.components.client.credentials import Credentials
from refk8s.components.client.exchange import ask, dial
from refk8s.components.client.tls import TlsContexts
from refk8s.components.files import CannotRun, read_file
from refk8s.core.client.kubeconfig import Access, BadKubeconfig, read_access

log = logging.getLogger("refk8s")

T = TypeVar("T")

FILE_BYTES_MAX: Final = 1 << 20
ANSWER_BYTES_MAX: Final = 1 << 20
KEPT_MAX: Final = 4096
"""How many answers are kept."""
ASKED_MAX: Final = 256
"""How many questions are asked at the same time. A further one is not asked."""
ATTEMPTS: Final = 5
KEPT_SECONDS_MIN: Final = 1.0
"""How long an answer holds at least: the request that has asked is decided by it."""
DELAY_SECONDS: Final = 0.5
DELAY_FACTOR: Final = 1.5
"""Between attempts, as upstream."""

Post = Callable[[bytes], Awaitable[tuple[int, bytes]]]
"""A question -> (status code, answer). Raises OSError and ValueError."""


class KeptReviews(Generic[T]):
    """The answers of a webhook, each for its time. `what`: what it is asked about, for the log."""

    def __init__(self, what: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._what = what
        self._clock = clock
        self._secret = token_bytes(32)
        self._kept: dict[bytes, tuple[float, T]] = {}
        self._asking: dict[bytes, asyncio.Future[None]] = {}

    def key(self, *parts: str) -> bytes:
        """The key of a question."""
        text = "\0".join(parts).encode("utf-8", "surrogatepass")
        return blake2b(text, key=self._secret, digest_size=32).digest()

    def find(self, key: bytes) -> T | None:
        """The answer that still holds; None if the webhook must be asked."""
        until, found = self._kept.get(key, (0.0, None))
        return found if self._clock() < until else None

    async def review(
        self, key: bytes, ask: Callable[[], Awaitable[tuple[T, float] | None]]
    ) -> T | None:
        """The answer that holds, or the one of `ask`, which says for how many seconds it holds.
        None if there is none; nothing is kept then."""
        if (found := self.find(key)) is not None:
            return found
        asked = self._asking.get(key)
        if asked is None:
            if len(self._asking) >= ASKED_MAX:
                log.warning("the %s webhook is asked too many questions at a time", self._what)
                return None
            asked = self._asking[key] = asyncio.ensure_future(self._ask(key, ask))
            asked.add_done_callback(lambda _: self._asking.pop(key, None))
        await asyncio.wait([asked])  # other requests may wait for it too
        return self.find(key)

    async def _ask(self, key: bytes, ask: Callable[[], Awaitable[tuple[T, float] | None]]) -> None:
        answer = await ask()
        if answer is None:
            return
        self.keep(key, *answer)

    def keep(self, key: bytes, found: T, seconds: float) -> None:
        """Let this answer hold for so many seconds."""
        self._kept.pop(key, None)
        if len(self._kept) >= KEPT_MAX:
            del self._kept[next(iter(self._kept))]
        self._kept[key] = (self._clock() + max(seconds, KEPT_SECONDS_MIN), found)


async def ask_repeatedly(post: Post, question: bytes) -> bytes:
    """The body of an answer. Raises OSError if there is none after several attempts."""
    delay = DELAY_SECONDS
    for attempt in range(1, ATTEMPTS + 1):
        try:
            code, body = await post(question)
        except OSError:
            if attempt == ATTEMPTS:
                raise
        else:
            if 200 <= code < 300:
                return body
            if attempt == ATTEMPTS or (code < 500 and code != 429):
                raise OSError(f"it answers {code}")
        await asyncio.sleep(delay)
        delay *= DELAY_FACTOR
    raise AssertionError("the last attempt returns or raises")


def posting(access: Access) -> Post:
    """Sends questions to the server of a kubeconfig, over TLS, each on a connection of its own. No
    redirection is followed."""
    place = urlsplit(access.server)
    host, port = place.hostname or "", place.port or 443
    path = place.path or "/"
    tls = TlsContexts(access)
    credentials: list[Credentials] = []

    async def post(question: bytes) -> tuple[int, bytes]:
        if not credentials:
            credentials.append(Credentials(access, tls, time.time))
        context = tls.context(time.monotonic())
        streams = await dial(host, port, context, access.server_name or host)
        try:
            value = credentials[0].authorization()
            lines = [
                f"POST {path} HTTP/1.1",
                f"host: {place.netloc}",
                "accept: application/json",
                "content-type: application/json",
                f"content-length: {len(question)}",
                "connection: close",
                *([f"authorization: {value}"] if value else []),
                *[f"{name}: {text}" for name, text in access.impersonation],
            ]
            head = "\r\n".join([*lines, "", ""]).encode("latin-1", "replace")
            answer = await ask(streams, head + question)
            return answer.code, await answer.read(ANSWER_BYTES_MAX)
        finally:
            streams[1].transport.abort()

    return post


def read_webhook_access(path: str, where: str) -> Access:
    """The server of the webhook in this kubeconfig. `where`: the flag, for messages. Raises
    CannotRun, with the reason and none of the credentials."""
    from refk8s.components.yaml_reader import BadYaml, read_yaml

    data = read_file(Path(path).expanduser(), FILE_BYTES_MAX)
    if data is None:
        raise CannotRun(f"{where} {path}: there is no such file")
    try:
        access = read_access(read_yaml(data).tree, directory=str(Path(path).parent))
    except BadYaml:
        raise CannotRun(f"{where} {path}: is no YAML") from None
    except BadKubeconfig as error:
        raise CannotRun(f"{where} {path}: {error}") from None
    if urlsplit(access.server).scheme != "https":
        raise CannotRun(f"{where} {path}: the server must have a URL with https")
    if access.plugin is not None:
        raise CannotRun(f"{where} {path}: exec is not supported")
    return access
