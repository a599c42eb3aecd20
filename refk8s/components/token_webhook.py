"""Asks a webhook whose token it is. Rules OIDC-7, OIDC-8 (spec/oidc.md).

It is asked when a token is refused otherwise, and the request is then decided again. Tokens are not
kept, only their hashes, and nothing of them is logged. Nothing of this is loaded without
`--authentication-token-webhook-config-file`.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from hashlib import blake2b
from pathlib import Path
from secrets import token_bytes
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from refk8s.components.client.credentials import Credentials
from refk8s.components.client.exchange import ask, dial
from refk8s.components.client.tls import TlsContexts
from refk8s.components.files import CannotRun, read_file
from refk8s.core.api.request import Request
from refk8s.core.api.resources import TOKEN_REVIEWS
from refk8s.core.apiserver.authenticate import TOKEN_BYTES_MAX, check_token
from refk8s.core.apiserver.token_webhook import (
    VERSIONS,
    BadReview,
    Checked,
    read_review,
    write_review,
)
from refk8s.core.client.kubeconfig import Access, BadKubeconfig, read_access

if TYPE_CHECKING:
    from refk8s.components.apiserver import ApiServer

log = logging.getLogger("refk8s")

CONFIG_FLAG: Final = "--authentication-token-webhook-config-file"
FILE_BYTES_MAX: Final = 1 << 20
ANSWER_BYTES_MAX: Final = 1 << 20
KEPT_MAX: Final = 4096
"""How many answers are kept."""
ASKED_MAX: Final = 256
"""How many tokens are asked about at the same time. A further one is refused."""
ASK_SECONDS: Final = 10.0
"""How long the webhook may take, with all attempts."""
ATTEMPTS: Final = 5
KEPT_SECONDS_MIN: Final = 1.0
"""How long an answer holds at least: the request that has asked is decided by it."""
DELAY_SECONDS: Final = 0.5
DELAY_FACTOR: Final = 1.5
"""Between attempts, as upstream."""

Post = Callable[[bytes], Awaitable[tuple[int, bytes]]]
"""A question -> (status code, answer). Raises OSError and ValueError."""


class TokenWebhook:
    """The webhook of one API server. `audiences`: those of the API server. `seconds`: how long an
    answer holds."""

    def __init__(
        self,
        post: Post,
        version: str,
        audiences: tuple[str, ...],
        seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._post = post
        self._version = version
        self._audiences = audiences
        self._seconds = max(seconds, KEPT_SECONDS_MIN)
        self._clock = clock
        self._secret = token_bytes(32)
        self._kept: dict[bytes, tuple[float, Checked]] = {}
        self._asking: dict[bytes, asyncio.Future[None]] = {}

    def find(self, token: str, audiences: tuple[str, ...]) -> Checked | None:
        """The answer that still holds (OIDC-8); None if the webhook must be asked."""
        until, found = self._kept.get(self._key(token, audiences), (0.0, None))
        return found if self._clock() < until else None

    async def review(self, token: str, audiences: tuple[str, ...] = ()) -> bool:
        """Ask about the token, unless the answer is known; whether it has a user."""
        wanted = audiences or self._audiences
        if not token or len(token) > TOKEN_BYTES_MAX:
            return False
        if self.find(token, wanted) is None:
            key = self._key(token, wanted)
            asked = self._asking.get(key)
            if asked is None:
                if len(self._asking) >= ASKED_MAX:
                    log.warning("the token webhook is asked about too many tokens at a time")
                    return False
                asked = self._asking[key] = asyncio.ensure_future(self._ask(key, token, wanted))
                asked.add_done_callback(lambda _: self._asking.pop(key, None))
            await asyncio.wait([asked])  # other requests may wait for it too
        found = self.find(token, wanted)
        return found is not None and found.user is not None

    async def prepare(self, request: Request, api: "ApiServer") -> None:
        """Ask about the token of a TokenReview, which is decided afterwards, if it is not known
        otherwise (OIDC-7)."""
        if request.resource != TOKEN_REVIEWS or request.verb != "create":
            return
        spec = request.body.spec
        audiences = tuple(spec.audiences or ())
        known = check_token(spec.token or "", api.config, api.clock.now(), api.store, audiences)
        if known.user is None:
            await self.review(spec.token or "", audiences)

    def _key(self, token: str, audiences: tuple[str, ...]) -> bytes:
        text = "\0".join((token, *audiences)).encode("utf-8", "surrogatepass")
        return blake2b(text, key=self._secret, digest_size=32).digest()

    async def _ask(self, key: bytes, token: str, wanted: tuple[str, ...]) -> None:
        """Keep the answer. Without an answer nothing is kept, so the next request asks again."""
        try:
            async with asyncio.timeout(ASK_SECONDS):
                answer = await self._answer(write_review(self._version, token, wanted))
            found = read_review(answer, self._version, wanted, self._audiences)
        except TimeoutError:
            log.warning("the token webhook has not answered within %.0f s", ASK_SECONDS)
            return
        except BadReview as error:
            log.warning("the answer of the token webhook cannot be used: %s", error)
            return
        except (OSError, ValueError) as error:
            log.warning("the token webhook cannot be asked: %s", str(error)[:300])
            return
        self._kept.pop(key, None)
        if len(self._kept) >= KEPT_MAX:
            del self._kept[next(iter(self._kept))]
        self._kept[key] = (self._clock() + self._seconds, found)

    async def _answer(self, question: bytes) -> bytes:
        """The body of an answer. Raises OSError if there is none after several attempts."""
        delay = DELAY_SECONDS
        for attempt in range(1, ATTEMPTS + 1):
            try:
                code, body = await self._post(question)
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


def read_token_webhook(
    flags: Mapping[str, Any], audiences: tuple[str, ...]
) -> "TokenWebhook | None":
    """The webhook of the flags `--authentication-token-webhook-*`; None without a file. Raises
    CannotRun, with the flag and the reason and none of the credentials."""
    path = flags.get("config_file") or ""
    if not path:
        return None
    from refk8s.components.yaml_reader import BadYaml, read_yaml

    data = read_file(Path(path).expanduser(), FILE_BYTES_MAX)
    if data is None:
        raise CannotRun(f"{CONFIG_FLAG} {path}: there is no such file")
    try:
        access = read_access(read_yaml(data).tree, directory=str(Path(path).parent))
    except BadYaml:
        raise CannotRun(f"{CONFIG_FLAG} {path}: is no YAML") from None
    except BadKubeconfig as error:
        raise CannotRun(f"{CONFIG_FLAG} {path}: {error}") from None
    if urlsplit(access.server).scheme != "https":
        raise CannotRun(f"{CONFIG_FLAG} {path}: the server must have a URL with https")
    if access.plugin is not None:
        raise CannotRun(f"{CONFIG_FLAG} {path}: exec is not supported")
    version, seconds = flags["version"], flags["cache_seconds"]
    assert version in VERSIONS, "the flag has been checked"
    return TokenWebhook(posting(access), version, audiences, seconds)
