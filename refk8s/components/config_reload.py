"""Reads the files of authentication and authorization again when they change. Rules AUTHZ-13
(spec/authorization.md), OIDC-9 (spec/oidc.md).

Nothing of it is loaded without `--authorization-config` and `--authentication-config`.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from refk8s.components.authentication import read_authentication
from refk8s.components.authorization import Authorizers, read_authorizers
from refk8s.components.files import CannotRun, read_file
from refk8s.components.http import Front
from refk8s.components.issuers import Issuers
from refk8s.components.periodic import Periodic
from refk8s.components.review_webhook import FILE_BYTES_MAX
from refk8s.core.apiserver.authorize.modes import WEBHOOK, authorizers
from refk8s.core.apiserver.oidc.issuers import Anonymous
from refk8s.core.value import evolve

log = logging.getLogger("refk8s")

INTERVAL_SECONDS: Final = 5.0


class ConfigReload(Periodic):
    """The files of one API server, each with what takes its content into use."""

    subject = "reading the configuration files again"

    def __init__(self, front: Front) -> None:
        self._front = front
        self._files: dict[str, tuple[str, Callable[[], Awaitable[None]]]] = {}
        self._seen: dict[str, bytes] = {}

    def watch_authorization(self, path: str) -> None:
        """AUTHZ-13: read `--authorization-config` again."""
        modes = self._front.api.config.modes

        async def take() -> None:
            self._take_authorizers(await asyncio.to_thread(read_authorizers, path, (), {}), modes)

        self._watch("--authorization-config", path, take)

    def watch_authentication(self, path: str, anonymous: Anonymous, own_issuer: str) -> None:
        """OIDC-9: read `--authentication-config` again. `anonymous`: what it said at the start."""

        async def take() -> None:
            found, now = await asyncio.to_thread(read_authentication, path, {}, own_issuer)
            if now != anonymous:
                raise CannotRun("anonymous: cannot be changed while the server runs")
            issuers = Issuers(found)
            await issuers.refresh()  # so that no valid token is refused meanwhile
            api = self._front.api
            api.config = evolve(api.config, issuers=issuers.trusted)
            self._front.issuers = issuers

        self._watch("--authentication-config", path, take)

    def _watch(self, flag: str, path: str, take: Callable[[], Awaitable[None]]) -> None:
        self._files[flag] = (path, take)
        self._seen[flag] = _digest_of(path)

    async def round(self) -> float:
        """Take the files that have changed. One that cannot be followed changes nothing."""
        for flag, (path, take) in self._files.items():
            digest = await asyncio.to_thread(_digest_of, path)
            if digest == self._seen[flag]:
                continue
            self._seen[flag] = digest
            try:
                await take()
            except CannotRun as error:
                log.warning("%s %s has changed and cannot be followed: %s", flag, path, error)
            else:
                log.warning("%s %s has changed and is followed", flag, path)
        return INTERVAL_SECONDS

    def _take_authorizers(self, given: Authorizers, modes: tuple[str, ...]) -> None:
        """Let these authorizers decide from now on. Raises CannotRun."""
        for changed in sorted(({*given.modes} ^ {*modes}) - {WEBHOOK}):
            raise CannotRun(f"{changed}: can only be added or removed by a restart")
        api = self._front.api
        webhooks: list[Any] = [one.authorizer for one in given.webhooks.values()]
        authorizer, roles = authorizers(given.modes, webhooks)
        # the answers of the new webhooks are not those of the old ones
        api.webhooks = given.webhooks
        api.config = evolve(api.config, authorizer=authorizer, roles=roles, modes=given.modes)


def _digest_of(path: str) -> bytes:
    """The digest of the file; empty if it cannot be read, which is a change too."""
    try:
        data = read_file(Path(path).expanduser(), FILE_BYTES_MAX)
    except CannotRun:
        return b""
    return b"" if data is None else sha256(data).digest()
