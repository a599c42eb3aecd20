"""Asks a webhook whose token it is. Rules OIDC-7, OIDC-8 (spec/oidc.md).

It is asked when a token is refused otherwise, and the request is then decided again. Nothing of a
token is logged. Nothing of this is loaded without `--authentication-token-webhook-config-file`.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from refk8s.components.review_webhook import (
    KeptReviews,
    Post,
    ask_repeatedly,
    posting,
    read_webhook_access,
)
from refk8s.core.api.request import Request
from refk8s.core.api.resources import TOKEN_REVIEWS
from refk8s.core.apiserver.authenticate import TOKEN_BYTES_MAX, check_token
from refk8s.core.apiserver.review_answer import BadReview
from refk8s.core.apiserver.token_webhook import VERSIONS, Checked, read_review, write_review

if TYPE_CHECKING:
    from refk8s.components.apiserver import ApiServer

log = logging.getLogger("refk8s")

CONFIG_FLAG: Final = "--authentication-token-webhook-config-file"
ASK_SECONDS: Final = 10.0
"""How long the webhook may take, with all attempts."""


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
        self._seconds = seconds
        self._reviews = KeptReviews[Checked]("token", clock)

    def find(self, token: str, audiences: tuple[str, ...]) -> Checked | None:
        """The answer that still holds (OIDC-8); None if the webhook must be asked."""
        return self._reviews.find(self._reviews.key(token, *audiences))

    async def review(self, token: str, audiences: tuple[str, ...] = ()) -> bool:
        """Ask about the token, unless the answer is known; whether it has a user."""
        wanted = audiences or self._audiences
        if not token or len(token) > TOKEN_BYTES_MAX:
            return False
        key = self._reviews.key(token, *wanted)
        found = await self._reviews.review(key, lambda: self._ask(token, wanted))
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

    async def _ask(self, token: str, wanted: tuple[str, ...]) -> tuple[Checked, float] | None:
        """The answer; None if there is none, so the next request asks again."""
        try:
            async with asyncio.timeout(ASK_SECONDS):
                question = write_review(self._version, token, wanted)
                answer = await ask_repeatedly(self._post, question)
            return read_review(answer, self._version, wanted, self._audiences), self._seconds
        except TimeoutError:
            log.warning("the token webhook has not answered within %.0f s", ASK_SECONDS)
        except BadReview as error:
            log.warning("the answer of the token webhook cannot be used: %s", error)
        except (OSError, ValueError) as error:
            log.warning("the token webhook cannot be asked: %s", str(error)[:300])
        return None


def read_token_webhook(
    flags: Mapping[str, Any], audiences: tuple[str, ...]
) -> "TokenWebhook | None":
    """The webhook of the flags `--authentication-token-webhook-*`; None without a file. Raises
    CannotRun, with the flag and the reason and none of the credentials."""
    path = flags.get("config_file") or ""
    if not path:
        return None
    access = read_webhook_access(path, CONFIG_FLAG)
    version, seconds = flags["version"], flags["cache_seconds"]
    assert version in VERSIONS, "the flag has been checked"
    return TokenWebhook(posting(access), version, audiences, seconds)
