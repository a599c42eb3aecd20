"""Authorizers that are webhooks: what the flags and the configuration file say, and asking. Rules
AUTHZ-10 to AUTHZ-12 (spec/authorization.md).

Nothing of it is loaded without such a flag.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from refk8s.components.files import CannotRun, read_file
from refk8s.components.review_webhook import (
    FILE_BYTES_MAX,
    KeptReviews,
    Post,
    ask_repeatedly,
    posting,
    read_webhook_access,
)
from refk8s.core.apiserver.authorize.configuration import (
    Authorization,
    WebhookEntry,
    read_authorization,
)
from refk8s.core.apiserver.authorize.modes import WEBHOOK
from refk8s.core.apiserver.authorize.webhook import WebhookAuthorizer, read_review
from refk8s.core.apiserver.config import Decision
from refk8s.core.apiserver.configuration_part import BadConfiguration
from refk8s.core.apiserver.review_answer import BadReview
from refk8s.core.value import Value

log = logging.getLogger("refk8s")

CONFIG_FLAG: Final = "--authorization-config"
WEBHOOK_FLAG: Final = "--authorization-webhook-config-file"
ASK_SECONDS_MAX: Final = 30.0
"""How long all attempts to ask take at most."""
PROBLEM_CHARACTERS_MAX: Final = 300


class AuthorizationWebhook:
    """One webhook: asks it, and keeps its answers. `server`: its URL, for messages."""

    def __init__(
        self,
        entry: WebhookEntry,
        post: Post,
        server: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._entry = entry
        self._post = post
        self._server = server
        self._reviews = KeptReviews[Decision]("authorization", clock)

    @property
    def authorizer(self) -> WebhookAuthorizer:
        """What decides by the answers."""
        entry = self._entry
        return WebhookAuthorizer(
            entry.name, entry.version, self, entry.conditions, entry.fails_closed
        )

    def find(self, question: bytes) -> Decision | None:
        """The answer that still holds; None if the webhook must be asked."""
        return self._reviews.find(self._key(question))

    async def review(self, question: bytes) -> None:
        """Ask, unless the answer is known. Afterwards it is."""
        key = self._key(question)
        if await self._reviews.review(key, lambda: self._ask(question)) is None:
            self._reviews.keep(key, *self._failure("too many questions are asked at a time"))

    def _key(self, question: bytes) -> bytes:
        return self._reviews.key(question.decode())

    async def _ask(self, question: bytes) -> tuple[Decision, float]:
        """The answer. A failure is one too: it holds for the shortest time (AUTHZ-11)."""
        entry = self._entry
        try:
            async with asyncio.timeout(ASK_SECONDS_MAX):
                found = read_review(await ask_repeatedly(self._timed, question), entry.version)
        except TimeoutError:
            return self._failed("it has not answered in time")
        except (BadReview, OSError, ValueError) as error:
            return self._failed(str(error))
        return found, entry.authorized_seconds if found.allowed else entry.unauthorized_seconds

    async def _timed(self, question: bytes) -> tuple[int, bytes]:
        """One attempt. Raises OSError also if it takes too long."""
        try:
            async with asyncio.timeout(self._entry.timeout_seconds):
                return await self._post(question)
        except TimeoutError:
            raise OSError("it has not answered in time") from None

    def _failed(self, why: str) -> tuple[Decision, float]:
        log.warning("the authorization webhook %s cannot be asked: %s", self._entry.name, why[:300])
        return self._failure(why)

    def _failure(self, why: str) -> tuple[Decision, float]:
        problem = f'Post "{self._server}": {why}'[:PROBLEM_CHARACTERS_MAX]
        return Decision(False, is_denied=self._entry.fails_closed, problem=problem), 0.0


class Authorizers(Value, frozen=True, eq=False):
    """The modes of an API server in their order, and the webhooks among them by name."""

    modes: tuple[str, ...]
    webhooks: Mapping[str, AuthorizationWebhook]


def read_authorizers(path: str, modes: tuple[str, ...], flags: Mapping[str, Any]) -> Authorizers:
    """The authorizers of the file at `path`, or else of `--authorization-mode` and the flags
    `--authorization-webhook-*`. Raises CannotRun, with the flag and the reason."""
    entry_path = flags.get("config_file") or ""
    if path:
        if entry_path:
            raise CannotRun(f"{CONFIG_FLAG}: cannot be used with {WEBHOOK_FLAG}")
        said, where = _read_file(path), f"{CONFIG_FLAG} {path}: kubeConfigFile"
    else:
        if (WEBHOOK in modes) != bool(entry_path):
            raise CannotRun(
                f"--authorization-mode: Webhook needs {WEBHOOK_FLAG}, and that needs it"
            )
        seconds = flags.get("authorized_seconds", 0.0), flags.get("unauthorized_seconds", 0.0)
        entry = WebhookEntry("default", entry_path, flags.get("version", ""), *seconds)
        said, where = Authorization(modes, (entry,) if entry_path else ()), WEBHOOK_FLAG
    webhooks = {}
    for entry in said.webhooks:
        access = read_webhook_access(entry.kubeconfig, where)
        webhooks[entry.name] = AuthorizationWebhook(entry, posting(access), access.server)
    return Authorizers(said.modes, webhooks)


def _read_file(path: str) -> Authorization:
    from refk8s.components.yaml_reader import BadYaml, read_yaml

    data = read_file(Path(path).expanduser(), FILE_BYTES_MAX)
    if data is None:
        raise CannotRun(f"{CONFIG_FLAG} {path}: there is no such file")
    try:
        return read_authorization(read_yaml(data).tree)
    except (BadYaml, BadConfiguration) as error:
        raise CannotRun(f"{CONFIG_FLAG} {path}: {error}") from None
